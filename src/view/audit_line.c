/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lines of the audit log: written, read, chained. The form is strict, one order of members and no
 * blanks, so reading is comparing, and whatever differs by a byte is no line.
 */
#include <errno.h>
#include <openssl/evp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "view/audit_own.h"

#define OPEN  "{\"hash\":\""
#define CLOSE "\","

const struct audit_hash audit_zero = {
    "0000000000000000000000000000000000000000000000000000000000000000"};

void audit_hash(const struct audit_hash *prev, struct slice rest, struct audit_hash *ret)
{
    static const char digits[] = "0123456789abcdef";
    unsigned char bytes[AUDIT_HASH_TEXT / 2];
    unsigned n = sizeof bytes;
    EVP_MD_CTX *c = EVP_MD_CTX_new();
    CHECK(c && EVP_DigestInit_ex(c, EVP_sha256(), NULL) == 1 &&
          EVP_DigestUpdate(c, prev->text, AUDIT_HASH_TEXT) == 1 &&
          EVP_DigestUpdate(c, rest.ptr, rest.len) == 1 && EVP_DigestFinal_ex(c, bytes, &n) == 1);
    EVP_MD_CTX_free(c);
    for (unsigned i = 0; i < sizeof bytes; i++) {
        ret->text[2 * i] = digits[bytes[i] >> 4];
        ret->text[2 * i + 1] = digits[bytes[i] & 15];
    }
    ret->text[AUDIT_HASH_TEXT] = 0;
}

/* ---- writing --------------------------------------------------------------------------------- */

/* Begins a line, its hash still to be known. Where it begins. */
static size_t begin(struct buf *out)
{
    size_t at = out->len;
    buf_put_str(out, OPEN);
    buf_put(out, audit_zero.text, AUDIT_HASH_TEXT);
    buf_put_str(out, CLOSE);
    return at;
}

static void end(struct buf *out, size_t at, const struct audit_hash *prev,
                struct audit_hash *ret_hash)
{
    buf_put_str(out, "}");
    if (out->failed)
        return;
    size_t hash_at = at + strlen(OPEN), rest_at = hash_at + AUDIT_HASH_TEXT + strlen(CLOSE);
    audit_hash(prev, slice_from(buf_slice(out), rest_at), ret_hash);
    memcpy(out->ptr + hash_at, ret_hash->text, AUDIT_HASH_TEXT);
    buf_put_u8(out, '\n');
}

static void put_begin(struct buf *out, const uint64_t log_id[2])
{
    const unsigned char *id = (const void *)log_id;
    buf_printf(out, "\"audit\":%d,\"log\":\"", AUDIT_FORMAT);
    for (unsigned i = 0; i < 16; i++)
        buf_printf(out, "%02x", id[i]);
    buf_put_u8(out, '"');
}

void audit_put_head(struct buf *out, const struct audit_head *h, struct audit_hash *ret_hash)
{
    size_t at = begin(out);
    put_begin(out, h->log_id);
    buf_printf(out, ",\"n\":%llu,\"prev\":\"%s\",\"until\":%lld,\"change\":%llu",
               (unsigned long long)h->first, h->prev.text, (long long)h->until_us,
               (unsigned long long)h->change);
    end(out, at, &h->prev, ret_hash);
}

void audit_put_entry(struct buf *out, const struct audit_line *l, const struct audit_hash *prev,
                     struct audit_hash *ret_hash)
{
    const struct audit_entry *e = &l->entry;
    size_t at = begin(out);
    buf_printf(out, "\"n\":%llu,\"offset\":%llu,\"us\":%lld,\"change\":%llu,\"account\":%llu,",
               (unsigned long long)e->number, (unsigned long long)e->offset, (long long)e->at_us,
               (unsigned long long)e->change, (unsigned long long)e->account);
    buf_printf(out, "\"key\":%u,%s", l->key_id, l->key_id ? "\"sealed\":\"" : "\"entry\":");
    buf_put_slice(out, l->stored);
    buf_put_str(out, l->key_id ? "\"" : "");
    end(out, at, prev, ret_hash);
}

void audit_put_bound(struct buf *out, const struct audit_entry *e)
{
    buf_put_u64(out, e->number);
    buf_put_u64(out, e->offset);
    buf_put_u64(out, e->change);
    buf_put_u64(out, e->account);
}

void audit_put_state(struct buf *out, const struct audit_state *s)
{
    struct audit_hash unused;
    size_t at = begin(out);
    put_begin(out, s->log_id);
    buf_printf(out,
               ",\"cursor\":%llu,\"oldest\":%llu,\"anchor\":\"%s\",\"next\":%llu,\"last\":\"%s\","
               "\"until\":%lld,\"change\":%llu",
               (unsigned long long)s->cursor, (unsigned long long)s->oldest, s->anchor.text,
               (unsigned long long)s->next, s->last.text, (long long)s->until_us,
               (unsigned long long)s->change);
    end(out, at, &audit_zero, &unused);
}

/* ---- reading --------------------------------------------------------------------------------- */

static bool take(struct slice *s, const char *text)
{
    struct slice t = slice_str(text);
    if (!slice_starts(*s, t))
        return false;
    *s = slice_from(*s, t.len);
    return true;
}

/* Behind the text `before`, a number as this file writes it: no sign, no zero in front. */
static bool take_number(struct slice *s, const char *before, uint64_t *ret)
{
    uint64_t v = 0;
    size_t n = 0;
    if (!take(s, before))
        return false;
    for (; n < s->len && s->ptr[n] >= '0' && s->ptr[n] <= '9'; n++)
        if (__builtin_mul_overflow(v, 10, &v) ||
            __builtin_add_overflow(v, (uint64_t)(s->ptr[n] - '0'), &v))
            return false;
    if (n == 0 || (n > 1 && s->ptr[0] == '0'))
        return false;
    *s = slice_from(*s, n);
    *ret = v;
    return true;
}

static bool take_time(struct slice *s, const char *before, int64_t *ret)
{
    uint64_t v;
    if (!take(s, before))
        return false;
    bool negative = take(s, "-");
    if (!take_number(s, "", &v) || v > INT64_MAX)
        return false;
    *ret = negative ? -(int64_t)v : (int64_t)v;
    return true;
}

static int digit_of(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool take_hash(struct slice *s, const char *before, struct audit_hash *ret)
{
    if (!take(s, before) || s->len < AUDIT_HASH_TEXT)
        return false;
    for (unsigned i = 0; i < AUDIT_HASH_TEXT; i++)
        if (digit_of(s->ptr[i]) < 0)
            return false;
    memcpy(ret->text, s->ptr, AUDIT_HASH_TEXT);
    ret->text[AUDIT_HASH_TEXT] = 0;
    *s = slice_from(*s, AUDIT_HASH_TEXT);
    return true;
}

/* Format and log. 1, 0: there are none, -ENOTSUP. */
static int take_begin(struct slice *s, uint64_t ret_log[2])
{
    uint64_t format;
    unsigned char *id = (void *)ret_log;
    if (!take_number(s, "\"audit\":", &format) || format == 0)
        return 0;
    if (format > AUDIT_FORMAT)
        return -ENOTSUP;
    if (!take(s, ",\"log\":\"") || s->len < 32)
        return 0;
    for (unsigned i = 0; i < 16; i++) {
        int high = digit_of(s->ptr[2 * i]), low = digit_of(s->ptr[2 * i + 1]);
        if (high < 0 || low < 0)
            return 0;
        id[i] = (unsigned char)(high << 4 | low);
    }
    *s = slice_from(*s, 32);
    return take(s, "\"");
}

bool audit_split(struct slice line, struct audit_hash *ret_hash, struct slice *ret_rest)
{
    if (!take_hash(&line, OPEN, ret_hash) || !take(&line, CLOSE))
        return false;
    *ret_rest = line;
    return line.len && line.ptr[line.len - 1] == '}';
}

int audit_parse_head(struct slice rest, struct audit_head *ret)
{
    int code = take_begin(&rest, ret->log_id);
    if (code <= 0)
        return code;
    return take_number(&rest, ",\"n\":", &ret->first) &&
           take_hash(&rest, ",\"prev\":\"", &ret->prev) &&
           take_time(&rest, "\",\"until\":", &ret->until_us) &&
           take_number(&rest, ",\"change\":", &ret->change) && slice_eq(rest, SLICE("}"));
}

bool audit_parse_entry(struct slice rest, struct audit_line *ret)
{
    struct audit_entry *e = &ret->entry;
    uint64_t key;
    *ret = (struct audit_line){0};
    if (!take_number(&rest, "\"n\":", &e->number) ||
        !take_number(&rest, ",\"offset\":", &e->offset) ||
        !take_time(&rest, ",\"us\":", &e->at_us) ||
        !take_number(&rest, ",\"change\":", &e->change) ||
        !take_number(&rest, ",\"account\":", &e->account) ||
        !take_number(&rest, ",\"key\":", &key) || key > UINT32_MAX ||
        !take(&rest, key ? ",\"sealed\":\"" : ",\"entry\":"))
        return false;
    struct slice tail = key ? SLICE("\"}") : SLICE("}");
    if (rest.len < tail.len || !slice_eq(slice_from(rest, rest.len - tail.len), tail))
        return false;
    ret->key_id = (uint32_t)key;
    ret->stored = slice_of(rest.ptr, rest.len - tail.len);
    return true;
}

static int parse_state(struct slice rest, struct audit_state *ret)
{
    int code = take_begin(&rest, ret->log_id);
    if (code <= 0)
        return code;
    return take_number(&rest, ",\"cursor\":", &ret->cursor) &&
           take_number(&rest, ",\"oldest\":", &ret->oldest) &&
           take_hash(&rest, ",\"anchor\":\"", &ret->anchor) &&
           take_number(&rest, "\",\"next\":", &ret->next) &&
           take_hash(&rest, ",\"last\":\"", &ret->last) &&
           take_time(&rest, "\",\"until\":", &ret->until_us) &&
           take_number(&rest, ",\"change\":", &ret->change) && slice_eq(rest, SLICE("}")) &&
           ret->oldest && ret->next >= ret->oldest;
}

int audit_load_state(struct disk *disk, const char *dir, struct audit_state *ret, struct error *err)
{
    struct buf b;
    struct audit_hash hash, right;
    struct slice rest = {0};
    char *path = audit_path(dir, AUDIT_STATE);
    buf_init(&b, AUDIT_HEAD_MAX);
    int code = disk_read_file(disk, path, &b);
    struct slice line = buf_slice(&b);
    bool whole = code == 0 && line.len && line.ptr[line.len - 1] == '\n';
    if (whole)
        line.len--;
    if (code == 0 && whole && audit_split(line, &hash, &rest)) {
        audit_hash(&audit_zero, rest, &right);
        bool good = !strcmp(hash.text, right.text);
        code = good ? parse_state(rest, ret) : 0;
        code = code > 0 ? 0 : code == 0 ? -EBADMSG : code;
    } else if (code == 0 || code == -EFBIG) {
        code = -EBADMSG;
    }
    if (code == -ENOTSUP)
        error_set(err, code, "audit log: %s has a newer format than this version reads (%d)", path,
                  AUDIT_FORMAT);
    else if (code == -EBADMSG)
        error_set(err, code, "audit log: %s is damaged: it is not what was written", path);
    else if (code < 0)
        error_set(err, code, "audit log: %s: %s", path, disk_strerror(code));
    buf_fini(&b);
    free(path);
    return code;
}

/* ---- files ----------------------------------------------------------------------------------- */

void audit_name(char out[AUDIT_NAME_BYTES], uint64_t first)
{
    snprintf(out, AUDIT_NAME_BYTES, "%020llu.jsonl", (unsigned long long)first);
}

char *audit_path(const char *dir, const char *name)
{
    size_t n = strlen(dir) + strlen(name) + 2;
    char *path = malloc(n);
    CHECK(path);
    snprintf(path, n, "%s/%s", dir, name);
    return path;
}

static int on_name(void *arg, const char *name)
{
    struct audit_names *l = arg;
    char again[AUDIT_NAME_BYTES];
    unsigned long long first;
    if (sscanf(name, "%20llu.jsonl", &first) != 1)
        return 0;
    audit_name(again, first);
    if (strcmp(again, name) != 0)
        return 0;
    uint64_t *more = realloc(l->first, (l->count + 1) * sizeof *more);
    CHECK(more);
    l->first = more;
    l->first[l->count++] = first;
    return 0;
}

static int by_first(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

int audit_find_files(struct disk *disk, const char *dir, struct audit_names *ret)
{
    struct audit_names found = {0};
    int code = disk->list(disk, dir, on_name, &found);
    if (code < 0) {
        free(found.first);
        return code;
    }
    if (found.count)
        qsort(found.first, found.count, sizeof *found.first, by_first);
    *ret = found;
    return 0;
}

int audit_load(struct disk *disk, const char *dir, uint64_t first, struct buf *out)
{
    char name[AUDIT_NAME_BYTES];
    audit_name(name, first);
    char *path = audit_path(dir, name);
    int code = disk_read_file(disk, path, out);
    free(path);
    return code;
}

/* ---- walking --------------------------------------------------------------------------------- */

static enum audit_step wrong(struct audit_walk *w, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
static enum audit_step wrong(struct audit_walk *w, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(w->what, sizeof w->what, format, args);
    va_end(args);
    return AUDIT_WRONG;
}

/* An entry's number against the one it must have. */
static bool check_number(struct audit_walk *w, uint64_t n)
{
    uint64_t due = w->next;
    w->next = n < due ? due : n + 1;
    if (n == due)
        return true;
    if (n < due)
        wrong(w, "entry %llu stands where entry %llu must be", (unsigned long long)n,
              (unsigned long long)due);
    else if (n == due + 1)
        wrong(w, "entry %llu is missing before it", (unsigned long long)due);
    else
        wrong(w, "entries %llu to %llu are missing before it", (unsigned long long)due,
              (unsigned long long)n - 1);
    return false;
}

/* What the line says, its hash being checked by the caller. */
static enum audit_step take_line(struct audit_walk *w, struct slice rest, bool chained,
                                 const struct audit_hash *before)
{
    if (w->line_number == 1) {
        int code = audit_parse_head(rest, &w->head);
        if (code <= 0)
            return wrong(w, code ? "it has a newer format than this version reads"
                                 : "it is not the first line of an audit log's file");
        bool good = check_number(w, w->head.first);
        w->next -= w->next > w->head.first; /* the entry is still to come */
        if (!good)
            return AUDIT_WRONG;
    } else if (!audit_parse_entry(rest, &w->line)) {
        return wrong(w, "it is no entry of an audit log");
    } else if (!check_number(w, w->line.entry.number)) {
        return AUDIT_WRONG;
    }
    if (w->line_number == 1 && before && strcmp(w->head.prev.text, before->text) != 0)
        return wrong(w, "it goes on from another line than the last one before it");
    if (w->line_number == 1 && !before) { /* then by what it says itself */
        struct audit_hash right;
        audit_hash(&w->head.prev, rest, &right);
        chained = !strcmp(w->prev.text, right.text);
    }
    if (!chained)
        return wrong(w, "it was changed, or the line before it: its hash does not follow");
    return w->line_number == 1 ? AUDIT_HEAD : AUDIT_ENTRY;
}

enum audit_step audit_step(struct audit_walk *w)
{
    struct slice left = slice_from(w->bytes, w->at), rest;
    struct audit_hash hash, right;
    if (!left.len)
        return AUDIT_END;
    const char *newline = memchr(left.ptr, '\n', left.len);
    w->line_at = w->at;
    w->line_number++;
    if (!newline) {
        w->at = w->bytes.len;
        wrong(w, "the file ends within it");
        return AUDIT_TORN;
    }
    w->at += (size_t)(newline - left.ptr) + 1;
    if (!audit_split(slice_of(left.ptr, (size_t)(newline - left.ptr)), &hash, &rest)) {
        w->damaged_before = true;
        w->next += w->line_number > 1;
        return wrong(w, "it is no line of an audit log");
    }
    audit_hash(&w->prev, rest, &right);
    bool known = !w->damaged_before, chained = !known || !strcmp(hash.text, right.text);
    struct audit_hash before = w->prev;
    w->prev = hash;
    w->damaged_before = false;
    return take_line(w, rest, chained, known ? &before : NULL);
}
