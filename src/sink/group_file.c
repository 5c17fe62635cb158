/* SPDX-License-Identifier: Apache-2.0 */
#include "sink/group_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "journal/format.h"

#define MARK       "SLUGROU1"
#define MARK_BYTES 8u
#define LOG_BYTES  16u
#define BEGIN      (MARK_BYTES + LOG_BYTES)
#define HEAD       8u /* crc, length */

struct group_file {
    struct disk *disk;
    char *path;
    struct disk_file *file; /* NULL: it is to be written anew */
    uint64_t end;
    uint8_t log_id[LOG_BYTES];
};

/* The entry at *at; moves behind it. False: there is none, or it is not whole. */
static bool entry_at(struct slice file, size_t *at, struct slice *ret)
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

/* Gives the entries out. *ret_end: where they end. -EBADMSG when whole ones lie behind what is
 * none. */
static int look_through(struct slice file, bool (*each)(void *arg, struct slice entry), void *arg,
                        size_t *ret_end)
{
    struct slice entry;
    size_t at = BEGIN;
    while (entry_at(file, &at, &entry))
        if (!each(arg, entry))
            return -EBADMSG;
    *ret_end = at;
    for (size_t k = at + 1; k + HEAD < file.len; k++) {
        size_t there = k;
        if (entry_at(file, &there, &entry) && entry.len)
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
    size_t end = 0;
    int rc = disk_read_file(f->disk, f->path, image);
    if (rc == -ENOENT)
        return 0; /* made when the first group comes */
    if (rc)
        return rc;
    if (image->len < BEGIN || memcmp(image->ptr, MARK, MARK_BYTES) != 0)
        return -EBADMSG;
    if (memcmp(image->ptr + MARK_BYTES, f->log_id, LOG_BYTES) != 0)
        return -ESTALE;
    rc = look_through(buf_slice(image), each, arg, &end);
    /* One with a torn end is written anew before anything is added. */
    return rc || end < image->len ? rc : open_again(f, end);
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
    size_t at = out->len;
    buf_put_u32(out, 0);
    buf_put_u32(out, (uint32_t)entry.len);
    buf_put_slice(out, entry);
    if (!out->failed)
        le32_put(out->ptr + at, crc32c(0, out->ptr + at + 4, entry.len + 4));
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
    struct iovec v = {.iov_base = (void *)entries.ptr, .iov_len = entries.len};
    int rc = disk_write_full(f->disk, f->file, &v, 1, f->end);
    if (!rc)
        rc = f->disk->fdatasync(f->disk, f->file);
    if (rc)
        give_up(f);
    else
        f->end += entries.len;
    return rc;
}

int group_file_replace(struct group_file *f, struct slice entries)
{
    struct buf image;
    buf_init(&image, SIZE_MAX / 2);
    buf_put(&image, MARK, MARK_BYTES);
    buf_put(&image, f->log_id, LOG_BYTES);
    buf_put_slice(&image, entries);
    give_up(f);
    int rc = image.failed ? -ENOMEM : disk_replace(f->disk, f->path, image.ptr, image.len);
    if (!rc)
        rc = open_again(f, image.len);
    buf_fini(&image);
    return rc;
}
