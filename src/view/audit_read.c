/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading the files beside the one who writes them. `state` comes first: what it names is there,
 * and what lies beyond is not looked at. A file that is gone when its turn comes was removed by
 * retention meanwhile, if a second look at `state` says so.
 */
#include <errno.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "view/audit_own.h"

struct reading {
    const struct audit_place *place;
    struct audit_state state;
    struct audit_names names;
    struct sealer *sealer;
    struct buf file, coded, opened;
    struct error *err;
};

static int begin(struct reading *r, const struct audit_place *p, struct error *err)
{
    *r = (struct reading){.place = p, .err = err};
    buf_init(&r->file, AUDIT_FILE_MAX);
    buf_init(&r->coded, AUDIT_LINE_MAX);
    buf_init(&r->opened, AUDIT_LINE_MAX);
    int code = audit_load_state(p->disk, p->dir, &r->state, err);
    if (code < 0)
        return code;
    code = audit_find_files(p->disk, p->dir, &r->names);
    if (code < 0)
        return error_set(err, code, "audit log %s: %s", p->dir, strerror(-code));
    r->sealer = p->keyring ? sealer_new(p->keyring) : NULL;
    return 0;
}

static void end(struct reading *r)
{
    sealer_free(r->sealer);
    buf_fini(&r->file);
    buf_fini(&r->coded);
    buf_fini(&r->opened);
    free(r->names.first);
}

/* The i-th file's bytes. 0, 1: it is none of this log (any more), or a negative errno. */
static int load(struct reading *r, size_t i)
{
    uint64_t first = r->names.first[i];
    struct audit_state now;
    char name[AUDIT_NAME_BYTES];
    if (first < r->state.oldest || first >= r->state.next)
        return 1;
    buf_clear(&r->file);
    int code = audit_load(r->place->disk, r->place->dir, first, &r->file);
    if (code == -ENOENT && audit_load_state(r->place->disk, r->place->dir, &now, r->err) == 0 &&
        first < now.oldest)
        return 1;
    audit_name(name, first);
    return code < 0 ? error_set(r->err, code, "audit log: %s/%s: %s", r->place->dir, name,
                                strerror(-code))
                    : 0;
}

/* ---- entries --------------------------------------------------------------------------------- */

/* Where the lines of a file begin, and which are not what was written. */
struct lines {
    struct line_place {
        size_t at;
        uint64_t number; /* line of the file */
        bool damaged;
    } * at;
    size_t count, cap;
};

static void add(struct lines *l, struct line_place p)
{
    if (l->count == l->cap) {
        l->cap = l->cap ? l->cap * 2 : 1024;
        l->at = realloc(l->at, l->cap * sizeof *l->at);
        CHECK(l->at);
    }
    l->at[l->count++] = p;
}

/* Returns the newest time in all files before this one. */
static int64_t find_lines(struct slice file, uint64_t first, struct lines *ret)
{
    int64_t until_us = INT64_MAX; /* nobody knows */
    struct audit_walk w = {.bytes = file, .next = first, .damaged_before = true};
    enum audit_step step;
    ret->count = 0;
    while ((step = audit_step(&w)) != AUDIT_END) {
        if (step == AUDIT_HEAD)
            until_us = w.head.until_us;
        else
            add(ret, (struct line_place){w.line_at, w.line_number, step != AUDIT_ENTRY});
    }
    return until_us;
}

/* The bytes of a base64 text, padded, as the writer makes it. False: it is none. */
static bool decode(struct slice text, struct buf *ret)
{
    buf_clear(ret);
    char *to = buf_reserve(ret, text.len);
    if (!text.len)
        return true;
    if (!to || text.len % 4)
        return false;
    int n = EVP_DecodeBlock((unsigned char *)to, (const unsigned char *)text.ptr, (int)text.len);
    if (n < 0)
        return false;
    ret->len = (size_t)n - (text.ptr[text.len - 1] == '=') - (text.ptr[text.len - 2] == '=');
    return true;
}

/* Opens what is sealed; `e` says how that went. */
static void open_entry(struct reading *r, const struct audit_line *l, struct audit_entry *e)
{
    struct buf bound;
    buf_init(&bound, AUDIT_HEAD_MAX);
    buf_clear(&r->opened);
    audit_put_bound(&bound, e);
    if (!r->sealer)
        e->sealed = SEAL_UNKNOWN;
    else if (!decode(l->stored, &r->coded))
        e->sealed = SEAL_BROKEN;
    else
        e->sealed =
            unseal_bytes(r->sealer, l->key_id, buf_slice(&bound), buf_slice(&r->coded), &r->opened);
    if (e->sealed == SEAL_DONE)
        e->text = buf_slice(&r->opened);
    buf_fini(&bound);
}

/* The entry on that line, into *ret. */
static void take_entry(struct reading *r, struct line_place p, struct audit_entry *ret)
{
    struct slice line = slice_from(buf_slice(&r->file), p.at), rest;
    const char *newline = memchr(line.ptr, '\n', line.len);
    struct audit_hash unused;
    struct audit_line l = {0};
    line.len = newline ? (size_t)(newline - line.ptr) : line.len;
    bool good = audit_split(line, &unused, &rest) && audit_parse_entry(rest, &l);
    *ret = good ? l.entry : (struct audit_entry){0};
    ret->damaged = p.damaged || !good;
    ret->line = p.number;
    ret->sealed = SEAL_PLAIN;
    if (good && l.key_id)
        open_entry(r, &l, ret);
    else if (good)
        ret->text = l.stored;
}

int audit_read(const struct audit_place *p, uint64_t before, int64_t since_us,
               bool (*each)(void *arg, const struct audit_entry *e), void *arg, struct error *err)
{
    struct reading r;
    struct lines lines = {0};
    int64_t until_us = INT64_MAX;
    bool more = true;
    int code = begin(&r, p, err);
    if (code == 0 && (!before || before > r.state.next))
        before = r.state.next;
    for (size_t i = r.names.count; code == 0 && more && until_us >= since_us && i-- > 0;) {
        if (r.names.first[i] >= before)
            continue;
        code = load(&r, i);
        if (code == 0)
            until_us = find_lines(buf_slice(&r.file), r.names.first[i], &lines);
        for (size_t k = code == 0 ? lines.count : 0; more && k-- > 0;) {
            struct audit_entry e;
            take_entry(&r, lines.at[k], &e);
            audit_name(e.file, r.names.first[i]);
            if (e.number < before)
                more = each(arg, &e);
        }
        code = code > 0 ? 0 : code;
    }
    free(lines.at);
    end(&r);
    return code;
}

/* ---- verifying ------------------------------------------------------------------------------- */

struct verifying {
    struct reading r;
    void (*damage)(void *arg, const char *file, uint64_t line, const char *what);
    void *arg;
    struct audit_verified *ret;
};

static void tell(struct verifying *v, uint64_t first, uint64_t line, const char *what)
{
    char name[AUDIT_NAME_BYTES] = AUDIT_STATE;
    if (first)
        audit_name(name, first);
    v->ret->damaged++;
    v->damage(v->arg, name, line, what);
}

/* The lines of one file, as far as `state` names them. */
static void verify_file(struct verifying *v, uint64_t first, struct audit_walk *w)
{
    enum audit_step step;
    w->bytes = buf_slice(&v->r.file);
    w->at = 0;
    w->line_number = 0;
    v->ret->files++;
    while (w->next < v->r.state.next && (step = audit_step(w)) != AUDIT_END) {
        if (step == AUDIT_HEAD &&
            memcmp(w->head.log_id, v->r.state.log_id, sizeof w->head.log_id) != 0)
            tell(v, first, 1, "it belongs to another journal");
        v->ret->entries += step == AUDIT_ENTRY;
        if (step == AUDIT_WRONG || step == AUDIT_TORN)
            tell(v, first, w->line_number, w->what);
    }
}

/* What `state` says of the end against what was found. */
static void verify_end(struct verifying *v, uint64_t last_file, const struct audit_walk *w)
{
    const struct audit_state *s = &v->r.state;
    char what[100];
    if (w->next < s->next) {
        snprintf(what, sizeof what, "entries %llu to %llu are missing at the end of the log",
                 (unsigned long long)w->next, (unsigned long long)s->next - 1);
        tell(v, last_file, 0, what);
    } else if (strcmp(w->prev.text, s->last.text) != 0) {
        tell(v, last_file, w->line_number,
             "it is not the line that was the last one: its hash is another");
    }
}

int audit_verify(const struct audit_place *p,
                 void (*damage)(void *arg, const char *file, uint64_t line, const char *what),
                 void *arg, struct audit_verified *ret, struct error *err)
{
    struct verifying v = {.damage = damage, .arg = arg, .ret = ret};
    uint64_t last_file = 0;
    *ret = (struct audit_verified){0};
    int code = begin(&v.r, p, err);
    const struct audit_state *s = &v.r.state;
    struct audit_walk w = {.prev = s->anchor, .next = s->oldest};
    for (size_t i = 0; i < v.r.names.count && code == 0; i++) {
        code = load(&v.r, i);
        if (code == 0) {
            last_file = v.r.names.first[i];
            verify_file(&v, last_file, &w);
        } else if (code == 1) { /* removed meanwhile: the next one is measured by itself */
            code = 0;
            if (v.r.names.first[i] >= s->oldest && i + 1 < v.r.names.count) {
                w.damaged_before = true;
                w.next = v.r.names.first[i + 1];
            }
        }
    }
    if (code == 0) {
        verify_end(&v, last_file, &w);
        ret->first = s->next > s->oldest ? s->oldest : 0;
        ret->last = s->next > s->oldest ? s->next - 1 : 0;
        snprintf(ret->hash, sizeof ret->hash, "%s", s->last.text);
    }
    end(&v.r);
    return code;
}
