/* SPDX-License-Identifier: Apache-2.0 */
#include "backup/files.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/clock.h"

#define PIECE (256u << 10)
/* Synced so often, because one long write-out would make the journal's fdatasync wait behind it. */
#define SYNC_EVERY (1u << 20)

int path_join(char *out, const char *dir, const char *name, struct error *err)
{
    return snprintf(out, PATH_MAX, "%s/%s", dir, name) < PATH_MAX
               ? 0
               : error_set(err, -ENAMETOOLONG, "%.100s...: the name is too long", dir);
}

/* ---- copying --------------------------------------------------------------------------------- */

static void keep_pace(struct pace *p, size_t bytes)
{
    if (!p || !p->bytes_per_s)
        return;
    uint64_t now = clock_mono_ns();
    if (!p->begun_ns)
        p->begun_ns = now;
    p->bytes += bytes;
    uint64_t due = p->begun_ns + (uint64_t)((double)p->bytes * 1e9 / (double)p->bytes_per_s);
    if (due > now)
        clock_sleep_ns(due - now);
    else if (now - due > NS_PER_S) /* what was missed is not made up for at once */
        p->begun_ns += now - due;
}

struct copying {
    struct disk *disk;
    struct disk_file *from, *to; /* either may be NULL: to only look, or to only write */
    EVP_MD_CTX *sum;
    uint64_t at, unsynced;
};

static int write_piece(struct copying *c, char *piece, size_t len)
{
    struct iovec v = {.iov_base = piece, .iov_len = len};
    int rc = disk_write_full(c->disk, c->to, &v, 1, c->at);
    c->unsynced += len;
    if (rc == 0 && c->unsynced >= SYNC_EVERY) {
        c->unsynced = 0;
        rc = c->disk->fdatasync(c->disk, c->to);
    }
    return rc;
}

/* 0 or a negative errno; *ret_reading: which side failed. */
static int copy_bytes(struct copying *c, uint64_t bytes, struct pace *pace, bool *ret_reading)
{
    char *piece = malloc(PIECE);
    int rc = piece ? 0 : -ENOMEM;
    while (rc == 0 && c->at < bytes) {
        size_t len = bytes - c->at < PIECE ? (size_t)(bytes - c->at) : PIECE;
        *ret_reading = true;
        rc = disk_read_full(c->disk, c->from, piece, len, c->at);
        if (rc)
            break;
        CHECK(EVP_DigestUpdate(c->sum, piece, len) == 1);
        *ret_reading = false;
        rc = c->to ? write_piece(c, piece, len) : 0;
        c->at += len;
        if (rc == 0)
            keep_pace(pace, len);
    }
    if (rc == 0 && c->to)
        rc = c->disk->fdatasync(c->disk, c->to);
    free(piece);
    return rc;
}

static EVP_MD_CTX *sum_begin(void)
{
    EVP_MD_CTX *sum = EVP_MD_CTX_new();
    CHECK(sum && EVP_DigestInit_ex(sum, EVP_sha256(), NULL) == 1);
    return sum;
}

static void sum_end(EVP_MD_CTX *sum, struct file_digest *ret)
{
    unsigned n = sizeof ret->sha256;
    CHECK(EVP_DigestFinal_ex(sum, ret->sha256, &n) == 1);
    EVP_MD_CTX_free(sum);
}

/* `to` NULL: only looks. */
static int run(struct disk *d, const char *from, const char *to, uint64_t bytes, struct pace *pace,
               struct file_digest *ret, struct error *err)
{
    struct copying c = {.disk = d};
    uint64_t size = 0;
    bool reading = true;
    int rc = d->open(d, from, O_RDONLY, &c.from);
    if (rc)
        return error_set(err, rc, "%s: %s", from, disk_strerror(rc));
    rc = d->size(d, c.from, &size);
    if (rc == 0 && bytes == FILE_WHOLE)
        bytes = size;
    if (rc == 0 && size < bytes)
        rc = -EIO;
    if (rc == 0 && to) {
        reading = false;
        rc = d->open(d, to, O_RDWR | O_CREAT | O_EXCL, &c.to);
    }
    c.sum = sum_begin();
    if (rc == 0)
        rc = copy_bytes(&c, bytes, pace, &reading);
    sum_end(c.sum, ret);
    ret->bytes = bytes;
    d->close(d, c.from);
    int closed = c.to ? d->close(d, c.to) : 0;
    if (rc == 0 && closed) {
        reading = false;
        rc = closed;
    }
    return rc ? error_set(err, rc, "%s: %s", reading ? from : to, disk_strerror(rc)) : 0;
}

int file_copy(struct disk *d, const char *from, const char *to, uint64_t bytes, struct pace *pace,
              struct file_digest *ret, struct error *err)
{
    return run(d, from, to, bytes, pace, ret, err);
}

int file_digest(struct disk *d, const char *path, struct file_digest *ret, struct error *err)
{
    return run(d, path, NULL, FILE_WHOLE, NULL, ret, err);
}

int file_write(struct disk *d, const char *to, struct slice bytes, struct file_digest *ret,
               struct error *err)
{
    struct copying c = {.disk = d, .sum = sum_begin()};
    void *base;
    memcpy(&base, &bytes.ptr, sizeof base); /* pwritev only reads */
    int rc = d->open(d, to, O_RDWR | O_CREAT | O_EXCL, &c.to);
    if (rc == 0)
        rc = write_piece(&c, base, bytes.len);
    if (rc == 0)
        rc = d->fdatasync(d, c.to);
    int closed = c.to ? d->close(d, c.to) : 0;
    CHECK(EVP_DigestUpdate(c.sum, bytes.ptr, bytes.len) == 1);
    sum_end(c.sum, ret);
    ret->bytes = bytes.len;
    rc = rc ? rc : closed;
    return rc ? error_set(err, rc, "%s: %s", to, disk_strerror(rc)) : 0;
}

bool file_digest_eq(const struct file_digest *a, const struct file_digest *b)
{
    return a->bytes == b->bytes && memcmp(a->sha256, b->sha256, sizeof a->sha256) == 0;
}

/* ---- names ----------------------------------------------------------------------------------- */

static int on_name(void *arg, const char *name)
{
    struct names *n = arg;
    if (n->count == n->cap) {
        size_t cap = n->cap ? n->cap * 2 : 64;
        char **grown = realloc(n->at, cap * sizeof *grown);
        if (!grown)
            return -ENOMEM;
        n->at = grown;
        n->cap = cap;
    }
    n->at[n->count] = strdup(name);
    return n->at[n->count++] ? 0 : -ENOMEM;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

int names_list(struct disk *d, const char *dir, struct names *ret, struct error *err)
{
    *ret = (struct names){0};
    int rc = d->list(d, dir, on_name, ret);
    if (rc == 0 && ret->count)
        qsort(ret->at, ret->count, sizeof *ret->at, by_name);
    if (rc) {
        names_fini(ret);
        error_set(err, rc, "%s: %s", dir, disk_strerror(rc));
    }
    return rc;
}

void names_fini(struct names *n)
{
    for (size_t i = 0; i < n->count; i++)
        free(n->at[i]);
    free(n->at);
    *n = (struct names){0};
}
