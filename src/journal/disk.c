/* SPDX-License-Identifier: Apache-2.0 */
#include "journal/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#define STALLS_MAX 1000 /* calls in a row that moved nothing before it counts as an error */
#define IOV_PART   64   /* vectors given to one call */

int disk_read_full(struct disk *d, struct disk_file *f, void *to, size_t len, uint64_t at)
{
    char *p = to;
    for (unsigned stalls = 0; len;) {
        ssize_t n = d->pread(d, f, p, len, at);
        if (n == -EINTR || n == -EAGAIN) {
            if (++stalls > STALLS_MAX)
                return (int)n;
            continue;
        }
        if (n <= 0)
            return n ? (int)n : -EIO;
        p += n;
        at += (uint64_t)n;
        len -= (size_t)n;
        stalls = 0;
    }
    return 0;
}

/* Copies what is left of the vectors, beginning `skip` bytes into the first. */
static int take_part(struct iovec part[IOV_PART], const struct iovec *v, int n, size_t skip)
{
    int count = 0;
    for (int i = 0; i < n && count < IOV_PART; i++) {
        part[count].iov_base = (char *)v[i].iov_base + skip;
        part[count].iov_len = v[i].iov_len - skip;
        skip = 0;
        if (part[count].iov_len)
            count++;
    }
    return count;
}

int disk_write_full(struct disk *d, struct disk_file *f, const struct iovec *v, int n, uint64_t at)
{
    size_t skip = 0;
    unsigned stalls = 0;
    for (;;) {
        while (n && skip >= v->iov_len) {
            skip -= v->iov_len;
            v++, n--;
        }
        if (!n)
            return 0;
        struct iovec part[IOV_PART];
        ssize_t done = d->pwritev(d, f, part, take_part(part, v, n, skip), at);
        if (done == -EINTR || done == -EAGAIN || done == 0) {
            if (++stalls > STALLS_MAX)
                return done ? (int)done : -EIO;
            continue;
        }
        if (done < 0)
            return (int)done;
        at += (uint64_t)done;
        skip += (size_t)done;
        stalls = 0;
    }
}

int disk_sync_parent(struct disk *d, const char *path)
{
    char dir[PATH_MAX];
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/')
        n--;
    while (n && path[n - 1] != '/')
        n--;
    while (n > 1 && path[n - 1] == '/')
        n--;
    if (n >= sizeof dir)
        return -ENAMETOOLONG;
    snprintf(dir, sizeof dir, "%.*s", n ? (int)n : 1, n ? path : ".");
    return d->sync_dir(d, dir);
}

int disk_read_file(struct disk *d, const char *path, struct buf *out)
{
    struct disk_file *f;
    uint64_t size = 0;
    int rc = d->open(d, path, O_RDONLY, &f);
    if (rc < 0)
        return rc;
    rc = d->size(d, f, &size);
    char *to = rc == 0 && size ? buf_reserve(out, (size_t)size) : NULL;
    if (rc == 0 && size)
        rc = to ? disk_read_full(d, f, to, (size_t)size, 0) : -EFBIG;
    if (rc == 0)
        out->len += (size_t)size;
    d->close(d, f);
    return rc;
}

int disk_replace(struct disk *d, const char *path, const void *ptr, size_t len)
{
    char tmp[PATH_MAX];
    if (snprintf(tmp, sizeof tmp, "%s.tmp", path) >= (int)sizeof tmp)
        return -ENAMETOOLONG;
    struct disk_file *f;
    int rc = d->open(d, tmp, O_RDWR | O_CREAT | O_TRUNC, &f);
    if (rc)
        return rc;
    void *base;
    memcpy(&base, &ptr, sizeof base); /* iovec has no const form; pwritev only reads */
    struct iovec v = {.iov_base = base, .iov_len = len};
    rc = disk_write_full(d, f, &v, 1, 0);
    if (!rc)
        rc = d->fdatasync(d, f);
    int closed = d->close(d, f);
    if (!rc)
        rc = closed;
    if (!rc)
        rc = d->rename(d, tmp, path);
    if (rc) {
        d->unlink(d, tmp);
        return rc;
    }
    return disk_sync_parent(d, path);
}

int disk_remove(struct disk *d, const char *path)
{
    int rc = d->unlink(d, path);
    return rc ? rc : disk_sync_parent(d, path);
}

struct tree {
    struct disk *disk;
    const char *path;
    unsigned depth;
};

static int remove_in(const struct tree *t);

static int on_entry(void *arg, const char *name)
{
    const struct tree *t = arg;
    char path[PATH_MAX];
    if (snprintf(path, sizeof path, "%s/%s", t->path, name) >= (int)sizeof path)
        return -ENAMETOOLONG;
    int rc = remove_in(&(struct tree){t->disk, path, t->depth + 1});
    return rc == -ENOENT ? 0 : rc;
}

/* Names that are removed while the directory is read are no trouble: POSIX has the others come once
 * each. */
static int remove_in(const struct tree *t)
{
    int rc = t->disk->unlink(t->disk, t->path);
    if (rc != -ENOTEMPTY && rc != -EEXIST)
        return rc;
    if (t->depth == DISK_TREE_DEPTH)
        return -ELOOP;
    rc = t->disk->list(t->disk, t->path, on_entry, (void *)(uintptr_t)t);
    return rc ? rc : t->disk->unlink(t->disk, t->path);
}

int disk_remove_tree(struct disk *d, const char *path)
{
    int rc = remove_in(&(struct tree){d, path, 0});
    return rc == -ENOENT ? 0 : rc;
}
