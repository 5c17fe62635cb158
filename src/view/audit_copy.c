/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lines are only appended, so a second name of a file is a copy of all that `state` names, with a
 * tail that grows. An open would take the good lines of it, of which the journal of a backup knows
 * nothing: a copy ends where the state does. What a state names is there as long as it is the
 * state: retention changes it before it removes a file. So links that were made between two looks
 * at the same state fit it.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "base/clock.h"
#include "view/audit_own.h"

#define TRIES    100 /* while lines come the state changes ten times a second */
#define PAUSE_NS (5 * NS_PER_MS)

struct linking {
    struct disk *disk;
    const char *from, *to;
};

static int link_files(const struct linking *l)
{
    struct audit_names names;
    char name[AUDIT_NAME_BYTES];
    int code = audit_find_files(l->disk, l->from, &names);
    for (size_t i = 0; code == 0 && i < names.count; i++) {
        audit_name(name, names.first[i]);
        char *from = audit_path(l->from, name), *to = audit_path(l->to, name);
        code = l->disk->link(l->disk, from, to);
        if (code == -ENOENT) /* removed meanwhile: the state has changed */
            code = 0;
        free(from);
        free(to);
    }
    free(names.first);
    return code;
}

static int read_state(const struct linking *l, struct buf *out)
{
    char *path = audit_path(l->from, AUDIT_STATE);
    buf_clear(out);
    int code = disk_read_file(l->disk, path, out);
    free(path);
    return code;
}

/* 1: the state has changed, what was linked may not fit it. */
static int link_once(const struct linking *l, struct buf *before, struct buf *after)
{
    int code = disk_remove_tree(l->disk, l->to);
    if (code == 0)
        code = l->disk->mkdir(l->disk, l->to);
    if (code == 0)
        code = read_state(l, before);
    if (code == -ENOENT)
        return 0; /* nothing is noted yet: the journal has it all */
    if (code == 0)
        code = link_files(l);
    if (code == 0)
        code = read_state(l, after);
    if (code)
        return code;
    if (!slice_eq(buf_slice(before), buf_slice(after)))
        return 1;
    char *path = audit_path(l->to, AUDIT_STATE);
    code = disk_replace(l->disk, path, after->ptr, after->len);
    free(path);
    return code;
}

int audit_link(struct disk *disk, const char *dir, const char *to, struct error *err)
{
    const struct linking l = {disk, dir, to};
    struct buf before, after;
    int code = 1;
    buf_init(&before, AUDIT_HEAD_MAX);
    buf_init(&after, AUDIT_HEAD_MAX);
    for (unsigned tries = 0; code == 1 && tries < TRIES; tries++) {
        if (tries)
            clock_sleep_ns(PAUSE_NS);
        code = link_once(&l, &before, &after);
    }
    buf_fini(&before);
    buf_fini(&after);
    if (code == 1)
        return error_set(err, -EAGAIN, "%s changes too fast to be copied", dir);
    return code ? error_set(err, code, "%s cannot be linked: %s", dir, strerror(-code)) : 0;
}

/* Behind the entry before `next`. */
static int find_end(struct disk *disk, const char *dir, uint64_t first, uint64_t next,
                    uint64_t *ret_bytes, struct error *err)
{
    struct buf b;
    buf_init(&b, AUDIT_FILE_MAX);
    int code = audit_load(disk, dir, first, &b);
    struct audit_walk w = {.bytes = buf_slice(&b), .next = first, .damaged_before = true};
    enum audit_step step = AUDIT_HEAD;
    if (code < 0)
        error_set(err, code, "audit log %s: %s", dir, strerror(-code));
    while (code == 0 && (step == AUDIT_HEAD || step == AUDIT_ENTRY)) {
        step = audit_step(&w);
        if (step == AUDIT_ENTRY && w.line.entry.number + 1 == next)
            break;
    }
    if (code == 0 && step != AUDIT_ENTRY)
        code = error_set(err, -EBADMSG, "audit log %s: entry %llu is missing or damaged", dir,
                         (unsigned long long)next - 1);
    *ret_bytes = w.at;
    buf_fini(&b);
    return code;
}

int audit_find_cut(struct disk *disk, const char *dir, struct audit_cut *ret, struct error *err)
{
    struct audit_state state;
    struct audit_names names = {0};
    *ret = (struct audit_cut){""};
    int code = audit_load_state(disk, dir, &state, err);
    if (code == -ENOENT)
        return 0;
    if (code == 0 && (code = audit_find_files(disk, dir, &names)) != 0)
        error_set(err, code, "audit log %s: %s", dir, strerror(-code));
    size_t count = names.count;
    while (code == 0 && count && names.first[count - 1] >= state.next)
        count--;
    if (code == 0 && count && state.next > state.oldest) {
        audit_name(ret->file, names.first[count - 1]);
        code = find_end(disk, dir, names.first[count - 1], state.next, &ret->bytes, err);
    }
    free(names.first);
    return code;
}

bool audit_cut_has(const struct audit_cut *cut, const char *name, uint64_t *ret_bytes)
{
    int order = strcmp(name, AUDIT_STATE) == 0 ? -1 : strcmp(name, cut->file); /* as the numbers */
    *ret_bytes = order == 0 ? cut->bytes : UINT64_MAX;
    return order <= 0;
}
