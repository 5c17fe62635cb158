/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Taking the files up at start. What `state` names must be there, to the byte; of what lies beyond
 * it the good part is taken and the rest cut (audit.c, invariants 1 and 2). Of files that are not
 * the last one only the heads are looked at: audit_verify reads all.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/log.h"
#include "view/audit_own.h"

static int damaged(const struct audit *a, struct error *err, uint64_t first, uint64_t line,
                   const char *what)
{
    char name[AUDIT_NAME_BYTES], place[32] = "";
    audit_name(name, first);
    if (line)
        snprintf(place, sizeof place, ":%llu", (unsigned long long)line);
    return error_set(err, -EBADMSG,
                     "audit log: %s/%s%s: %s. It is not made anew by itself: move the directory "
                     "away to begin another one with what the journal still holds",
                     a->dir, name, place, what);
}

static int failed(const struct audit *a, struct error *err, int code)
{
    return error_set(err, code, "audit log %s: %s", a->dir, disk_strerror(code));
}

/* ---- files before the last ------------------------------------------------------------------- */

static int read_head(struct audit *a, uint64_t first, struct error *err)
{
    char bytes[AUDIT_HEAD_MAX];
    struct disk *d = a->opts.disk;
    struct disk_file *f;
    uint64_t size = 0;
    int code = audit_open_file(a, first, O_RDONLY, &f);
    if (code < 0)
        return failed(a, err, code);
    code = d->size(d, f, &size);
    size_t n = size < sizeof bytes ? (size_t)size : sizeof bytes;
    if (code == 0)
        code = disk_read_full(d, f, bytes, n, 0);
    d->close(d, f);
    if (code < 0)
        return failed(a, err, code);
    const char *newline = n ? memchr(bytes, '\n', n) : NULL;
    struct audit_walk w = {.bytes = slice_of(bytes, newline ? (size_t)(newline - bytes) + 1 : n),
                           .damaged_before = true, /* the chain is not looked at here */
                           .next = first};
    if (audit_step(&w) != AUDIT_HEAD)
        return damaged(a, err, first, 1, w.what[0] ? w.what : "it is empty");
    audit_add_file(a, &w.head, size);
    return 0;
}

/* ---- the last, and what lies beyond the state ------------------------------------------------ */

/* Takes the lines of a file from *w on, up to the first that is none. Returns where it is to be
 * cut, or a negative errno: something durable is damaged. */
static int64_t take_lines(struct audit *a, struct audit_walk *w, uint64_t first, struct error *err)
{
    enum audit_step step;
    while ((step = audit_step(w)) == AUDIT_ENTRY || step == AUDIT_HEAD) {
        a->at.last = w->prev;
        if (step == AUDIT_HEAD) {
            if (memcmp(w->head.log_id, a->at.log_id, sizeof w->head.log_id) != 0)
                return damaged(a, err, first, 1, "it belongs to another journal");
            audit_add_file(a, &w->head, 0);
            a->at.next = first;
            a->at.change = w->head.change;
            a->at.until_us = w->head.until_us;
            continue;
        }
        const struct audit_entry *e = &w->line.entry;
        if (w->line_number == 2)
            a->month = audit_month(e->at_us);
        if (e->number + 1 == a->saved.next && strcmp(w->prev.text, a->saved.last.text) != 0)
            return damaged(a, err, first, w->line_number,
                           "it is not the line that was the last one: its hash is another");
        a->at.next = e->number + 1;
        a->at.change = e->change;
        a->at.until_us = e->at_us > a->at.until_us ? e->at_us : a->at.until_us;
        a->applied = e->offset + 1 > a->applied ? e->offset + 1 : a->applied;
    }
    if (a->at.next >= a->saved.next)
        return (int64_t)(step == AUDIT_END ? w->at : w->line_at);
    if (step != AUDIT_END)
        return damaged(a, err, first, w->line_number, w->what);
    char what[100];
    snprintf(what, sizeof what, "entries %llu to %llu are missing at its end",
             (unsigned long long)a->at.next, (unsigned long long)a->saved.next - 1);
    return damaged(a, err, first, 0, what);
}

/* Ends the file at `size`; it is durable then, as it may not have been before. */
static int take_file(struct audit *a, uint64_t first, uint64_t size, uint64_t was,
                     struct error *err)
{
    struct disk *d = a->opts.disk;
    int code = audit_open_file(a, first, O_RDWR, &a->open);
    if (code == 0 && size < was) {
        log_line(LOG_WARN, "audit.torn", "dir=%s file=%llu bytes=%llu cut=%llu", a->dir,
                 (unsigned long long)first, (unsigned long long)size,
                 (unsigned long long)(was - size));
        code = d->truncate(d, a->open, size);
    }
    if (code == 0)
        code = d->fdatasync(d, a->open);
    if (code == 0)
        code = d->sync_dir(d, a->dir);
    if (code < 0)
        return failed(a, err, code);
    a->current = true;
    a->written = size;
    a->files[a->files_count - 1].bytes = size;
    return 0;
}

/* One file from the last that `state` knows on. *ret_more: the next one may go on from it. */
static int take_up(struct audit *a, uint64_t first, bool *ret_more, struct error *err)
{
    struct buf b;
    buf_init(&b, AUDIT_FILE_MAX);
    int code = audit_load(a->opts.disk, a->dir, first, &b);
    struct audit_walk w = {.bytes = buf_slice(&b), .next = first, .prev = a->at.last};
    /* Of a file whose file before was not read the chain begins with what its head says. */
    w.damaged_before = a->files_count > 0 && !a->open && a->at.next == 0;
    uint64_t files = a->files_count, was = b.len;
    struct audit_state before = a->at;
    int64_t cut = code < 0 ? failed(a, err, code) : take_lines(a, &w, first, err);
    buf_fini(&b);
    if (cut < 0)
        return (int)cut;
    *ret_more = (uint64_t)cut == was;
    if (a->at.next > first) {
        if (a->open)
            a->opts.disk->close(a->opts.disk, a->open);
        a->open = NULL;
        return take_file(a, first, (uint64_t)cut, was, err);
    }
    /* A head without an entry: as if it had never been. */
    log_line(LOG_WARN, "audit.torn", "dir=%s file=%llu bytes=0 cut=%llu", a->dir,
             (unsigned long long)first, (unsigned long long)was);
    a->files_count = files;
    a->at = before;
    *ret_more = false;
    code = audit_remove_file(a, first);
    return code < 0 ? failed(a, err, code) : 0;
}

static int take_all(struct audit *a, const struct audit_names *names, struct error *err)
{
    size_t i = 0, last;
    int code = 0;
    bool more = true;
    for (; i < names->count && names->first[i] < a->saved.oldest && code == 0; i++)
        code = audit_remove_file(a, names->first[i]); /* a removal that was not finished */
    if (code < 0)
        return failed(a, err, code);
    bool empty = a->saved.next == a->saved.oldest;
    if (!empty && (i == names->count || names->first[i] != a->saved.oldest))
        return damaged(a, err, a->saved.oldest, 0, "it is missing");
    for (last = i; last + 1 < names->count && names->first[last + 1] < a->saved.next;)
        last++;
    for (; i < last && code == 0; i++)
        code = read_head(a, names->first[i], err);
    if (code == 0 && a->files_count && strcmp(a->files[0].prev.text, a->saved.anchor.text) != 0)
        return damaged(a, err, a->saved.oldest, 1, "it goes on from another line than it must");
    a->at.last = a->files_count ? audit_zero : a->saved.anchor;
    a->at.next = a->files_count ? 0 : a->saved.oldest;
    for (; i < names->count && code == 0; i++) {
        if (more && (a->at.next == 0 || names->first[i] == a->at.next))
            code = take_up(a, names->first[i], &more, err);
        else
            code = audit_remove_file(a, names->first[i]);
    }
    return code;
}

/* ---- opening --------------------------------------------------------------------------------- */

struct audit *audit_new(const struct audit_opts *opts)
{
    struct audit *a = calloc(1, sizeof *a);
    CHECK(a);
    a->opts = *opts;
    a->dir = strdup(opts->dir);
    CHECK(a->dir);
    a->sealer = opts->keyring ? sealer_new(opts->keyring) : NULL;
    a->keep_ms = opts->keep_ms;
    buf_init(&a->pending, AUDIT_PENDING_MAX);
    buf_init(&a->sealed, AUDIT_LINE_MAX * 2);
    a->at = (struct audit_state){.log_id = {opts->log_id[0], opts->log_id[1]},
                                 .oldest = 1,
                                 .anchor = audit_zero,
                                 .next = 1,
                                 .last = audit_zero};
    return a;
}

static int begin_new(struct audit *a, const struct audit_names *names, struct error *err)
{
    if (names->count)
        return damaged(a, err, names->first[0], 0, "it is there, and the file \"state\" is not");
    int code = audit_save(a);
    return code < 0 ? failed(a, err, code) : 0;
}

static int go_on(struct audit *a, const struct audit_names *names, struct error *err)
{
    if (memcmp(a->saved.log_id, a->opts.log_id, sizeof a->saved.log_id) != 0)
        return error_set(err, -ESTALE, "audit log %s belongs to another journal", a->dir);
    a->at = a->saved;
    a->applied = a->saved.cursor;
    int code = take_all(a, names, err);
    if (code < 0)
        return code;
    if (!a->files_count) { /* there was nothing, or only what was torn */
        uint64_t applied = a->applied;
        a->at = a->saved;
        a->applied = applied;
    }
    if (a->at.change < a->saved.change) /* what no entry told of */
        a->at.change = a->saved.change;
    code = a->at.next == a->saved.next ? 0 : audit_save(a);
    return code < 0 ? failed(a, err, code) : 0;
}

int audit_open(const struct audit_opts *opts, struct audit **ret, uint64_t *ret_cursor,
               struct error *err)
{
    struct audit *a = audit_new(opts);
    struct audit_names names = {0};
    int code = opts->disk->mkdir(opts->disk, a->dir);
    if (code == 0)
        code = audit_find_files(opts->disk, a->dir, &names);
    if (code < 0)
        failed(a, err, code);
    else if ((code = audit_load_state(opts->disk, a->dir, &a->saved, err)) == -ENOENT)
        code = begin_new(a, &names, err);
    else if (code == 0)
        code = go_on(a, &names, err);
    free(names.first);
    if (code < 0) {
        audit_close(a);
        return code;
    }
    audit_count(a);
    *ret = a;
    *ret_cursor = a->applied;
    return 0;
}

bool audit_beyond(struct disk *disk, const char *dir, const uint8_t log_id[16], uint64_t end,
                  uint64_t *ret)
{
    struct audit_state s;
    if (audit_load_state(disk, dir, &s, NULL) != 0 || memcmp(s.log_id, log_id, 16) != 0 ||
        s.cursor <= end)
        return false;
    *ret = s.cursor;
    return true;
}

uint64_t audit_told(struct disk *disk, const char *dir)
{
    struct audit_state s;
    return audit_load_state(disk, dir, &s, NULL) == 0 ? s.change : 0;
}

void audit_close(struct audit *a)
{
    if (!a)
        return;
    if (a->open)
        a->opts.disk->close(a->opts.disk, a->open);
    sealer_free(a->sealer);
    buf_fini(&a->pending);
    buf_fini(&a->sealed);
    free(a->files);
    free(a->dir);
    free(a);
}
