/* SPDX-License-Identifier: Apache-2.0 */
#include "backup/manifest.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdlib.h>

#include "base/check.h"

#define FORMAT     1
#define HEX_SHA256 64

const char *const backup_folders[] = {"journal", "history", "audit", NULL};
const char *const backup_files[] = {"catalog.db", "latest.snap",   "session.snap",
                                    "rules.snap", "webhooks.snap", NULL};

bool backup_has(const char *const list[], struct slice name)
{
    for (unsigned i = 0; list[i]; i++)
        if (slice_eq(slice_str(list[i]), name))
            return true;
    return false;
}

void manifest_fini(struct manifest *m)
{
    free(m->files);
    *m = (struct manifest){0};
}

/* ---- names ----------------------------------------------------------------------------------- */

/* Of one file, without folders: not hidden, nothing that a shell or a terminal minds. */
static bool is_plain_name(struct slice name)
{
    if (!name.len || name.ptr[0] == '.')
        return false;
    for (size_t i = 0; i < name.len; i++) {
        char c = name.ptr[i];
        bool good = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                    c == '-' || c == '_' || c == '.';
        if (!good)
            return false;
    }
    return true;
}

bool manifest_path_ok(struct slice path)
{
    const char *slash = path.len ? memchr(path.ptr, '/', path.len) : NULL;
    if (path.len > MANIFEST_PATH_MAX)
        return false;
    if (!slash)
        return backup_has(backup_files, path);
    struct slice folder = slice_of(path.ptr, (size_t)(slash - path.ptr));
    return backup_has(backup_folders, folder) && is_plain_name(slice_from(path, folder.len + 1));
}

bool manifest_add(struct manifest *m, const char *path, const struct file_digest *digest)
{
    struct slice name = slice_str(path);
    if (!manifest_path_ok(name))
        return false;
    if (m->count == m->cap) {
        size_t cap = m->cap ? m->cap * 2 : 64;
        struct manifest_file *grown = realloc(m->files, cap * sizeof *grown);
        if (!grown)
            return false;
        m->files = grown;
        m->cap = cap;
    }
    struct manifest_file *f = &m->files[m->count++];
    *f = (struct manifest_file){.digest = *digest};
    memcpy(f->path, name.ptr, name.len);
    return true;
}

const struct manifest_file *manifest_find(const struct manifest *m, const char *path)
{
    for (size_t i = 0; i < m->count; i++)
        if (strcmp(m->files[i].path, path) == 0)
            return &m->files[i];
    return NULL;
}

/* ---- writing --------------------------------------------------------------------------------- */

static void sha256(struct slice bytes, uint8_t ret[32])
{
    unsigned n = 32;
    CHECK(EVP_Digest(bytes.len ? bytes.ptr : "", bytes.len, ret, &n, EVP_sha256(), NULL) == 1);
}

static void put_hex(struct buf *out, const uint8_t *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++)
        buf_printf(out, "%02x", bytes[i]);
}

/* The last line, about all from `begin` on. */
static void put_end(struct buf *out, size_t begin)
{
    uint8_t sum[32];
    if (out->failed)
        return;
    sha256(slice_of(out->ptr + begin, out->len - begin), sum);
    buf_put_str(out, "end ");
    put_hex(out, sum, sizeof sum);
    buf_put_str(out, "\n");
}

void manifest_format(const struct manifest *m, struct buf *out)
{
    size_t begin = out->len;
    buf_printf(out, "sluice-backup %d\nversion %s\nmade %s\nlog ", FORMAT, m->version, m->made);
    put_hex(out, m->log_id, sizeof m->log_id);
    buf_printf(out, "\noldest %llu\nposition %llu\nsealed %s\n", (unsigned long long)m->oldest,
               (unsigned long long)m->position, m->sealed ? "yes" : "no");
    for (size_t i = 0; i < m->count; i++) {
        buf_printf(out, "file %llu ", (unsigned long long)m->files[i].digest.bytes);
        put_hex(out, m->files[i].digest.sha256, sizeof m->files[i].digest.sha256);
        buf_printf(out, " %s\n", m->files[i].path);
    }
    put_end(out, begin);
}

/* ---- reading --------------------------------------------------------------------------------- */

struct reading {
    struct slice rest;
    unsigned line;
    struct error *err;
};

static int damaged(const struct reading *r, const char *what)
{
    return error_set(r->err, -EBADMSG, "line %u: %s", r->line, what);
}

/* What follows `word` and a blank in the next line. False: the line is another one. */
static bool take_line(struct reading *r, struct slice word, struct slice *ret)
{
    const char *end = r->rest.len ? memchr(r->rest.ptr, '\n', r->rest.len) : NULL;
    r->line++;
    if (!end)
        return false;
    struct slice line = slice_of(r->rest.ptr, (size_t)(end - r->rest.ptr));
    if (line.len <= word.len || !slice_starts(line, word) || line.ptr[word.len] != ' ')
        return false;
    *ret = slice_from(line, word.len + 1);
    r->rest = slice_from(r->rest, line.len + 1);
    return true;
}

static bool take_number(struct slice *s, uint64_t *ret)
{
    uint64_t v = 0;
    size_t i = 0;
    for (; i < s->len && i < 20 && s->ptr[i] >= '0' && s->ptr[i] <= '9'; i++) {
        if (__builtin_mul_overflow(v, 10u, &v) ||
            __builtin_add_overflow(v, (uint64_t)(s->ptr[i] - '0'), &v))
            return false;
    }
    *s = slice_from(*s, i);
    *ret = v;
    return i > 0;
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool take_hex(struct slice *s, uint8_t *ret, size_t n)
{
    if (s->len < 2 * n)
        return false;
    for (size_t i = 0; i < n; i++) {
        int high = hex_digit(s->ptr[2 * i]), low = hex_digit(s->ptr[2 * i + 1]);
        if (high < 0 || low < 0)
            return false;
        ret[i] = (uint8_t)(high << 4 | low);
    }
    *s = slice_from(*s, 2 * n);
    return true;
}

static bool take_blank(struct slice *s)
{
    if (!s->len || s->ptr[0] != ' ')
        return false;
    *s = slice_from(*s, 1);
    return true;
}

static bool copy_text(char *to, size_t cap, struct slice from)
{
    if (!from.len || from.len >= cap || memchr(from.ptr, 0, from.len))
        return false;
    memcpy(to, from.ptr, from.len);
    to[from.len] = 0;
    return true;
}

static int parse_head(struct reading *r, struct manifest *m)
{
    struct slice v;
    if (!take_line(r, SLICE("version"), &v) || !copy_text(m->version, sizeof m->version, v))
        return damaged(r, "there should be the version");
    if (!take_line(r, SLICE("made"), &v) || !copy_text(m->made, sizeof m->made, v))
        return damaged(r, "there should be the time");
    if (!take_line(r, SLICE("log"), &v) || !take_hex(&v, m->log_id, sizeof m->log_id) || v.len)
        return damaged(r, "there should be the log's id");
    if (!take_line(r, SLICE("oldest"), &v) || !take_number(&v, &m->oldest) || v.len)
        return damaged(r, "there should be the oldest record");
    if (!take_line(r, SLICE("position"), &v) || !take_number(&v, &m->position) || v.len ||
        m->position < m->oldest)
        return damaged(r, "there should be the position");
    if (!take_line(r, SLICE("sealed"), &v) ||
        (!slice_eq(v, SLICE("yes")) && !slice_eq(v, SLICE("no"))))
        return damaged(r, "there should be whether it is sealed");
    m->sealed = v.len == 3;
    return 0;
}

static int parse_files(struct reading *r, struct manifest *m)
{
    struct slice v;
    while (take_line(r, SLICE("file"), &v)) {
        struct file_digest d;
        char path[MANIFEST_PATH_MAX + 1];
        if (!take_number(&v, &d.bytes) || !take_blank(&v) ||
            !take_hex(&v, d.sha256, sizeof d.sha256) || !take_blank(&v) ||
            !copy_text(path, sizeof path, v) || !manifest_path_ok(v))
            return damaged(r, "there should be a file");
        if (!manifest_add(m, path, &d))
            return error_set(r->err, -ENOMEM, "no memory");
    }
    r->line--; /* it is another one */
    return 0;
}

/* Whether the last line is right, which it is about all before it. */
static bool is_whole(struct slice text)
{
    uint8_t said[32], sum[32];
    const size_t last = SLICE("end ").len + HEX_SHA256 + 1;
    if (text.len < last || text.ptr[text.len - 1] != '\n')
        return false;
    struct slice end = slice_from(text, text.len - last);
    if (!slice_starts(end, SLICE("end ")))
        return false;
    end = slice_from(end, 4);
    sha256(slice_of(text.ptr, text.len - last), sum);
    return take_hex(&end, said, sizeof said) && memcmp(said, sum, sizeof sum) == 0;
}

int manifest_parse(struct slice text, struct manifest *ret, struct error *err)
{
    struct reading r = {.rest = text, .err = err};
    struct slice v;
    uint64_t format;
    if (!take_line(&r, SLICE("sluice-backup"), &v) || !take_number(&v, &format) || v.len)
        return damaged(&r, "it does not begin like one");
    if (format > FORMAT)
        return error_set(err, -EPROTONOSUPPORT, "format %llu is newer than this program's %d",
                         (unsigned long long)format, FORMAT);
    if (format != FORMAT || !is_whole(text))
        return error_set(err, -EBADMSG, "it does not fit its own checksum");
    int rc = parse_head(&r, ret);
    if (rc == 0)
        rc = parse_files(&r, ret);
    if (rc == 0 && (!take_line(&r, SLICE("end"), &v) || r.rest.len))
        rc = damaged(&r, "there should be a file or the end");
    if (rc)
        manifest_fini(ret);
    return rc;
}
