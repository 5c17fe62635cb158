/* SPDX-License-Identifier: Apache-2.0 */
#include "sink/group_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "journal/format.h"

#define MARK "SLUGROU2"
#define MARK_FIRST                                                                                 \
    "SLUGROU1" /* each entry has a crc of its own there: what is to be written anew */
#define MARK_BYTES 8u
#define LOG_BYTES  16u
#define BEGIN      (MARK_BYTES + LOG_BYTES)
#define HEAD       8u /* crc, length */
#define LENGTH     4u /* of an entry */

struct group_file {
    struct disk *disk;
    char *path;
    struct disk_file *file; /* NULL: it is to be written anew */
    uint64_t end;
    uint8_t log_id[LOG_BYTES];
};

/* What the write at *at added; moves behind it. False: there is none, or it is not whole. */
static bool write_at(struct slice file, size_t *at, struct slice *ret)
{
    if (file.len - *at < HEAD)
        return false;
    const char *p = file.ptr + *at;
    uint32_t len = le32_get(p + 4);
    if (len > file.len - *at - HEAD || le32_get(p) != crc32c(0, p + 4, len + 4))
        return false;
    *ret = slice_of(p + HEAD, len);
    *at += HEAD + len;
    return true;
}

struct taker {
    bool (*each)(void *arg, struct slice entry);
    void *arg;
    bool first; /* MARK_FIRST */
};

/* Gives the entries of a write out. False: they are none. */
static bool take(const struct taker *t, struct slice added)
{
    if (t->first)
        return t->each(t->arg, added);
    while (added.len) {
        uint32_t len = added.len < LENGTH ? UINT32_MAX : le32_get(added.ptr);
        added = slice_from(added, LENGTH);
        if (len > added.len || !t->each(t->arg, slice_of(added.ptr, len)))
            return false;
        added = slice_from(added, len);
    }
    return true;
}

/* Gives the entries out. *ret_end: where they end. -EBADMSG when a whole write lies behind what is
 * none: that was synced before, so it is no torn end. */
static int look_through(struct slice file, const struct taker *t, size_t *ret_end)
{
    struct slice added;
    size_t at = BEGIN;
    while (write_at(file, &at, &added))
        if (!take(t, added))
            return -EBADMSG;
    *ret_end = at;
    for (size_t k = at + 1; k + HEAD < file.len; k++) {
        size_t there = k;
        if (write_at(file, &there, &added) && added.len)
            return -EBADMSG;
    }
    return 0;
}

static int open_again(struct group_file *f, uint64_t end)
{
    int rc = f->disk->open(f->disk, f->path, O_RDWR, &f->file);
    if (rc)
        f->file = NULL;
    f->end = rc ? 0 : end;
    return rc;
}

static int read_all(struct group_file *f, struct buf *image,
                    bool (*each)(void *arg, struct slice entry), void *arg)
{
    struct taker t = {.each = each, .arg = arg};
    size_t end = 0;
    int rc = disk_read_file(f->disk, f->path, image);
    if (rc == -ENOENT)
        return 0; /* made when the first group comes */
    if (rc)
        return rc;
    t.first = image->len >= BEGIN && memcmp(image->ptr, MARK_FIRST, MARK_BYTES) == 0;
    if (image->len < BEGIN || (!t.first && memcmp(image->ptr, MARK, MARK_BYTES) != 0))
        return -EBADMSG;
    if (memcmp(image->ptr + MARK_BYTES, f->log_id, LOG_BYTES) != 0)
        return -ESTALE;
    rc = look_through(buf_slice(image), &t, &end);
    /* One with a torn end is written anew before anything is added. */
    return rc || t.first || end < image->len ? rc : open_again(f, end);
}

int group_file_open(struct disk *disk, const char *path, const uint8_t log_id[16],
                    bool (*each)(void *arg, struct slice entry), void *arg, struct group_file **ret,
                    struct error *err)
{
    struct group_file *f = calloc(1, sizeof *f);
    CHECK(f);
    f->disk = disk;
    f->path = strdup(path);
    CHECK(f->path);
    memcpy(f->log_id, log_id, LOG_BYTES);
    struct buf image;
    buf_init(&image, SIZE_MAX / 2);
    int rc = read_all(f, &image, each, arg);
    buf_fini(&image);
    if (rc) {
        error_set(err, rc, "consumer groups %s: %s", path,
                  rc == -EBADMSG  ? "the file is damaged; move it away to go on without groups"
                  : rc == -ESTALE ? "the groups are of another journal; move the file away to go on"
                                  : disk_strerror(rc));
        group_file_close(f);
        return rc;
    }
    *ret = f;
    return 0;
}

void group_file_close(struct group_file *f)
{
    if (!f)
        return;
    if (f->file)
        f->disk->close(f->disk, f->file);
    free(f->path);
    free(f);
}

void group_file_put(struct buf *out, struct slice entry)
{
    buf_put_u32(out, (uint32_t)entry.len);
    buf_put_slice(out, entry);
}

static void put_head(char out[HEAD], struct slice entries)
{
    le32_put(out + 4, (uint32_t)entries.len);
    le32_put(out, crc32c(crc32c(0, out + 4, 4), entries.ptr, entries.len));
}

uint64_t group_file_bytes(const struct group_file *f)
{
    return f->end;
}

static void give_up(struct group_file *f)
{
    if (f->file)
        f->disk->close(f->disk, f->file);
    f->file = NULL;
    f->end = 0;
}

int group_file_append(struct group_file *f, struct slice entries)
{
    if (!f->file)
        return -EBADF;
    char head[HEAD];
    put_head(head, entries);
    struct iovec v[] = {{head, sizeof head}, {(void *)entries.ptr, entries.len}};
    int rc = disk_write_full(f->disk, f->file, v, 2, f->end);
    if (!rc)
        rc = f->disk->fdatasync(f->disk, f->file);
    if (rc)
        give_up(f);
    else
        f->end += HEAD + entries.len;
    return rc;
}

int group_file_replace(struct group_file *f, struct slice entries)
{
    struct buf image;
    char head[HEAD];
    buf_init(&image, SIZE_MAX / 2);
    buf_put(&image, MARK, MARK_BYTES);
    buf_put(&image, f->log_id, LOG_BYTES);
    put_head(head, entries);
    buf_put(&image, head, entries.len ? sizeof head : 0);
    buf_put_slice(&image, entries);
    give_up(f);
    int rc = image.failed ? -ENOMEM : disk_replace(f->disk, f->path, image.ptr, image.len);
    if (!rc)
        rc = open_again(f, image.len);
    buf_fini(&image);
    return rc;
}
