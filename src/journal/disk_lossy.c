/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Real files, but what was written since the last fdatasync lives in this process only, by 512-byte
 * sectors: kill -9 is then a power cut. Reads see these sectors over the file. With the seed some
 * of them reach the file early, in any order, as write-back would do it.
 *
 * Not simulated: names. create, rename, unlink and truncate are immediate, so a lost directory sync
 * does not show here (disk_sim.c does that). An orderly exit loses what was not synced, too.
 *
 * TEST ONLY, and simple rather than fast: one lock around everything.
 */
#include "journal/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/rand.h"

#define SECTOR      512u
#define PAGE        4096u
#define PER_PAGE    (PAGE / SECTOR)
#define EARLY_PAGES 8 /* looked at after a write, for sectors to send early */

struct page {
    uint8_t dirty; /* one bit per sector */
    char data[PAGE];
};

/* The unsynced state of one file, shared by all its handles. Lives while a handle does, or while
 * something is unsynced. */
struct overlay {
    struct overlay *next;
    dev_t dev;
    ino_t ino;
    unsigned handles;
    uint64_t size; /* as the process sees it */
    struct page **pages;
    size_t pages_count, dirty_pages;
};

struct disk_file {
    int fd;
    struct overlay *overlay;
};

struct lossy {
    struct disk disk;
    pthread_mutex_t lock;
    struct rand rand;
    struct overlay *overlays;
};

static struct lossy *of(struct disk *d)
{
    return (struct lossy *)d; /* first member */
}

static void overlay_drop(struct lossy *l, struct overlay *o)
{
    struct overlay **at = &l->overlays;
    while (*at != o)
        at = &(*at)->next;
    *at = o->next;
    for (size_t i = 0; i < o->pages_count; i++)
        free(o->pages[i]);
    free(o->pages);
    free(o);
}

static struct overlay *overlay_of(struct lossy *l, int fd)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return NULL;
    for (struct overlay *o = l->overlays; o; o = o->next)
        if (o->dev == st.st_dev && o->ino == st.st_ino)
            return o;
    struct overlay *o = calloc(1, sizeof *o);
    if (!o)
        return NULL;
    o->dev = st.st_dev;
    o->ino = st.st_ino;
    o->size = (uint64_t)st.st_size;
    o->next = l->overlays;
    l->overlays = o;
    return o;
}

static int lossy_open(struct disk *d, const char *path, int flags, struct disk_file **ret)
{
    struct lossy *l = of(d);
    struct disk_file *f = malloc(sizeof *f);
    if (!f)
        return -ENOMEM;
    /* Sectors are completed by reading the file, so a handle that writes must read, too. */
    if ((flags & O_ACCMODE) == O_WRONLY)
        flags = (flags & ~O_ACCMODE) | O_RDWR;
    pthread_mutex_lock(&l->lock);
    f->fd = disk_open_fd(path, flags);
    int rc = f->fd < 0 ? f->fd : 0;
    f->overlay = rc ? NULL : overlay_of(l, f->fd);
    if (f->overlay) {
        f->overlay->handles++;
        if (flags & O_TRUNC) {
            for (size_t i = 0; i < f->overlay->pages_count; i++) {
                free(f->overlay->pages[i]);
                f->overlay->pages[i] = NULL;
            }
            f->overlay->dirty_pages = 0;
            f->overlay->size = 0;
        }
        *ret = f;
    } else {
        if (!rc)
            rc = -ENOMEM;
        if (f->fd >= 0)
            close(f->fd);
        free(f);
    }
    pthread_mutex_unlock(&l->lock);
    return rc;
}

static int lossy_close(struct disk *d, struct disk_file *f)
{
    struct lossy *l = of(d);
    pthread_mutex_lock(&l->lock);
    struct stat st;
    bool gone = fstat(f->fd, &st) == 0 && st.st_nlink == 0;
    if (--f->overlay->handles == 0 && (gone || f->overlay->dirty_pages == 0))
        overlay_drop(l, f->overlay);
    close(f->fd);
    free(f);
    pthread_mutex_unlock(&l->lock);
    return 0;
}

/* Bytes of the file itself; behind its end there are zeros. */
static int read_file(int fd, char *to, size_t len, uint64_t at)
{
    while (len) {
        ssize_t n = pread(fd, to, len, (off_t)at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0) {
            memset(to, 0, len);
            return 0;
        }
        to += n;
        at += (uint64_t)n;
        len -= (size_t)n;
    }
    return 0;
}

static int write_file(int fd, const char *from, size_t len, uint64_t at)
{
    while (len) {
        ssize_t n = pwrite(fd, from, len, (off_t)at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        from += n;
        at += (uint64_t)n;
        len -= (size_t)n;
    }
    return 0;
}

static ssize_t lossy_pread(struct disk *d, struct disk_file *f, void *to, size_t len, uint64_t at)
{
    struct lossy *l = of(d);
    struct overlay *o = f->overlay;
    pthread_mutex_lock(&l->lock);
    if (at >= o->size)
        len = 0;
    else if (len > o->size - at)
        len = (size_t)(o->size - at);
    int rc = read_file(f->fd, to, len, at);
    for (uint64_t pos = at; !rc && pos < at + len;) {
        size_t in = pos % SECTOR, part = SECTOR - in;
        if (part > at + len - pos)
            part = (size_t)(at + len - pos);
        struct page *p = pos / PAGE < o->pages_count ? o->pages[pos / PAGE] : NULL;
        if (p && p->dirty & 1u << (pos % PAGE / SECTOR))
            memcpy((char *)to + (pos - at), p->data + pos % PAGE, part);
        pos += part;
    }
    pthread_mutex_unlock(&l->lock);
    return rc ? rc : (ssize_t)len;
}

static struct page *page_at(struct overlay *o, uint64_t index)
{
    if (index >= o->pages_count) {
        size_t count = o->pages_count ? o->pages_count : 64;
        while (count <= index)
            count *= 2;
        struct page **grown = realloc(o->pages, count * sizeof *grown);
        if (!grown)
            return NULL;
        memset(grown + o->pages_count, 0, (count - o->pages_count) * sizeof *grown);
        o->pages = grown;
        o->pages_count = count;
    }
    if (!o->pages[index]) {
        o->pages[index] = calloc(1, sizeof **o->pages);
        o->dirty_pages += o->pages[index] != NULL;
    }
    return o->pages[index];
}

static int put_sector(struct disk_file *f, const char *from, size_t len, uint64_t at)
{
    struct page *p = page_at(f->overlay, at / PAGE);
    if (!p)
        return -ENOMEM;
    unsigned sector = (unsigned)(at % PAGE / SECTOR);
    if (!(p->dirty & 1u << sector) && len < SECTOR) {
        int rc = read_file(f->fd, p->data + sector * SECTOR, SECTOR, at / SECTOR * SECTOR);
        if (rc)
            return rc;
    }
    p->dirty |= (uint8_t)(1u << sector);
    memcpy(p->data + at % PAGE, from, len);
    if (at + len > f->overlay->size)
        f->overlay->size = at + len;
    return 0;
}

/* Sends the page's dirty sectors to the file; each by a coin if `r` is given. */
static int flush_page(struct disk_file *f, uint64_t index, struct rand *r)
{
    struct overlay *o = f->overlay;
    struct page *p = index < o->pages_count ? o->pages[index] : NULL;
    for (unsigned s = 0; p && s < PER_PAGE; s++) {
        uint64_t at = index * PAGE + s * SECTOR;
        if (!(p->dirty & 1u << s) || at >= o->size || (r && rand_below(r, 2)))
            continue;
        size_t len = o->size - at < SECTOR ? (size_t)(o->size - at) : SECTOR;
        int rc = write_file(f->fd, p->data + s * SECTOR, len, at);
        if (rc)
            return rc;
        p->dirty &= (uint8_t) ~(1u << s);
    }
    if (p && !p->dirty) {
        free(p);
        o->pages[index] = NULL;
        o->dirty_pages--;
    }
    return 0;
}

static ssize_t lossy_pwritev(struct disk *d, struct disk_file *f, const struct iovec *v, int n,
                             uint64_t at)
{
    struct lossy *l = of(d);
    ssize_t done = 0;
    int rc = 0;
    pthread_mutex_lock(&l->lock);
    for (int i = 0; !rc && i < n; i++) {
        const char *from = v[i].iov_base;
        for (size_t left = v[i].iov_len; !rc && left;) {
            size_t part = SECTOR - (size_t)((at + (uint64_t)done) % SECTOR);
            part = part < left ? part : left;
            rc = put_sector(f, from, part, at + (uint64_t)done);
            if (!rc) {
                from += part;
                left -= part;
                done += (ssize_t)part;
            }
        }
    }
    if (!rc && done && rand_below(&l->rand, 4) == 0)
        for (int i = 0; !rc && i < EARLY_PAGES; i++)
            rc = flush_page(f, (at + rand_below(&l->rand, (uint64_t)done)) / PAGE, &l->rand);
    pthread_mutex_unlock(&l->lock);
    return rc ? rc : done;
}

static int lossy_fdatasync(struct disk *d, struct disk_file *f)
{
    struct lossy *l = of(d);
    struct overlay *o = f->overlay;
    pthread_mutex_lock(&l->lock);
    int rc = 0;
    for (size_t i = 0; !rc && o->dirty_pages && i < o->pages_count; i++)
        if (o->pages[i])
            rc = flush_page(f, i, NULL);
    /* The file itself needs no real sync: a killed process leaves the page cache alone. */
    pthread_mutex_unlock(&l->lock);
    return rc;
}

static int lossy_truncate(struct disk *d, struct disk_file *f, uint64_t size)
{
    struct lossy *l = of(d);
    pthread_mutex_lock(&l->lock);
    struct overlay *o = f->overlay;
    int rc = 0;
    for (size_t i = 0; !rc && i < o->pages_count; i++)
        rc = flush_page(f, i, NULL);
    if (!rc && ftruncate(f->fd, (off_t)size) < 0)
        rc = -errno;
    if (!rc)
        o->size = size;
    pthread_mutex_unlock(&l->lock);
    return rc;
}

static int lossy_size(struct disk *d, struct disk_file *f, uint64_t *ret)
{
    struct lossy *l = of(d);
    pthread_mutex_lock(&l->lock);
    *ret = f->overlay->size;
    pthread_mutex_unlock(&l->lock);
    return 0;
}

/* The names are the machine's. */
static int lossy_lock(struct disk *d, struct disk_file *f)
{
    return flock(f->fd, LOCK_EX | LOCK_NB) < 0 ? -errno : 0;
}

static int lossy_rename(struct disk *d, const char *from, const char *to)
{
    return disk_posix()->rename(disk_posix(), from, to);
}

static int lossy_unlink(struct disk *d, const char *path)
{
    return disk_posix()->unlink(disk_posix(), path);
}

static int lossy_link(struct disk *d, const char *from, const char *to)
{
    return disk_posix()->link(disk_posix(), from, to);
}

static int lossy_mkdir(struct disk *d, const char *path)
{
    return disk_posix()->mkdir(disk_posix(), path);
}

static int lossy_sync_dir(struct disk *d, const char *path)
{
    return 0;
}

static int lossy_list(struct disk *d, const char *path, int (*each)(void *arg, const char *name),
                      void *arg)
{
    return disk_posix()->list(disk_posix(), path, each, arg);
}

static int lossy_space(struct disk *d, const char *path, uint64_t *ret_total, uint64_t *ret_free)
{
    return disk_posix()->space(disk_posix(), path, ret_total, ret_free);
}

struct disk *disk_lossy(uint64_t seed)
{
    static struct lossy l = {
        .disk = {.open = lossy_open,
                 .close = lossy_close,
                 .pread = lossy_pread,
                 .pwritev = lossy_pwritev,
                 .fdatasync = lossy_fdatasync,
                 .truncate = lossy_truncate,
                 .size = lossy_size,
                 .lock = lossy_lock,
                 .rename = lossy_rename,
                 .unlink = lossy_unlink,
                 .link = lossy_link,
                 .mkdir = lossy_mkdir,
                 .sync_dir = lossy_sync_dir,
                 .list = lossy_list,
                 .space = lossy_space},
        .lock = PTHREAD_MUTEX_INITIALIZER,
    };
    l.rand.state = seed;
    return &l.disk;
}
