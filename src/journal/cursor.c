/* SPDX-License-Identifier: Apache-2.0 */
#include "journal/cursor.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "journal/format.h"

#define FILE_MAGIC 0x31574c53u /* "SLW1" */
#define SLOT_MAGIC 0x31564c53u /* "SLV1" */

static void seal(char *out, size_t len, uint32_t magic)
{
    le32_put(out, magic);
    le32_put(out + 4, crc32c(0, out + 8, len - 8));
}

static bool whole(const char *in, size_t len, uint32_t magic)
{
    return le32_get(in) == magic && le32_get(in + 4) == crc32c(0, in + 8, len - 8);
}

static void head_encode(char out[CURSOR_HEAD_BYTES], const struct cursors *c)
{
    memset(out, 0, CURSOR_HEAD_BYTES);
    le16_put(out + 8, FORMAT_VERSION);
    memcpy(out + 16, c->log_id, sizeof c->log_id);
    seal(out, CURSOR_HEAD_BYTES, FILE_MAGIC);
}

static void slot_encode(char out[CURSOR_SECTOR], const struct cursor *s)
{
    memset(out, 0, CURSOR_SECTOR);
    le64_put(out + 8, s->seq);
    le64_put(out + 16, s->offset);
    le64_put(out + 24, (uint64_t)clock_wall_us()); /* heartbeat, for people */
    memcpy(out + 64, s->name, sizeof s->name);
    seal(out, CURSOR_SECTOR, SLOT_MAGIC);
}

/* The newer of the slot's two sectors. False: damaged (neither is whole, yet something is there).
 */
static bool slot_decode(const char *in, struct cursor *ret)
{
    bool dirty = false;
    for (unsigned i = 0; i < 2; i++) {
        const char *p = in + i * CURSOR_SECTOR;
        if (!whole(p, CURSOR_SECTOR, SLOT_MAGIC)) {
            dirty = dirty || le64_get(p) != 0 || p[64] != 0;
            continue;
        }
        if (ret->used && le64_get(p + 8) < ret->seq)
            continue;
        ret->used = true;
        ret->seq = le64_get(p + 8);
        ret->offset = le64_get(p + 16);
        memcpy(ret->name, p + 64, sizeof ret->name);
        ret->name[CURSOR_NAME_MAX] = 0;
    }
    return ret->used || !dirty;
}

static uint64_t sector_at(int slot, uint64_t seq)
{
    return CURSOR_HEAD_BYTES + ((unsigned)slot * 2 + (seq & 1)) * CURSOR_SECTOR;
}

/* Under the lock. After a failed sync the old file is never trusted again: a new one takes its
 * place. */
static int write_all(struct cursors *c)
{
    char *image = calloc(1, CURSOR_FILE_BYTES);
    if (!image)
        return -ENOMEM;
    head_encode(image, c);
    for (int i = 0; i < CURSORS_MAX; i++)
        if (c->slots[i].used)
            slot_encode(image + sector_at(i, c->slots[i].seq), &c->slots[i]);
    int rc = disk_replace(c->disk, c->path, image, CURSOR_FILE_BYTES);
    free(image);
    if (rc)
        return rc;
    rc = c->disk->open(c->disk, c->path, O_RDWR, &c->file);
    if (rc)
        c->file = NULL;
    return rc;
}

static int write_slot(struct cursors *c, int slot)
{
    if (!c->file)
        return write_all(c);
    char raw[CURSOR_SECTOR];
    slot_encode(raw, &c->slots[slot]);
    struct iovec v = {.iov_base = raw, .iov_len = sizeof raw};
    int rc = disk_write_full(c->disk, c->file, &v, 1, sector_at(slot, c->slots[slot].seq));
    if (!rc)
        rc = c->disk->fdatasync(c->disk, c->file);
    if (rc) {
        c->disk->close(c->disk, c->file);
        c->file = NULL;
    }
    return rc;
}

static int read_image(struct disk *disk, const char *path, int flags, struct disk_file **ret_file,
                      char *image, struct error *err)
{
    uint64_t size = 0;
    int rc = disk->open(disk, path, flags, ret_file);
    if (rc == -ENOENT)
        return rc;
    if (rc)
        return error_set(err, rc, "%s: %s", path, disk_strerror(rc));
    rc = disk->size(disk, *ret_file, &size);
    if (!rc && size > CURSOR_FILE_BYTES)
        size = CURSOR_FILE_BYTES;
    if (!rc)
        rc = disk_read_full(disk, *ret_file, image, (size_t)size, 0);
    if (!rc && whole(image, CURSOR_HEAD_BYTES, FILE_MAGIC) && le16_get(image + 8) > FORMAT_VERSION)
        rc = -EPROTONOSUPPORT;
    if (rc) {
        disk->close(disk, *ret_file);
        return error_set(err, rc, "%s: %s", path,
                         rc == -EPROTONOSUPPORT ? "its format is newer than this program's"
                                                : disk_strerror(rc));
    }
    return 0;
}

int cursors_check(struct disk *disk, const char *path, struct error *err)
{
    struct disk_file *file;
    char *image = calloc(1, CURSOR_FILE_BYTES);
    if (!image)
        return -ENOMEM;
    int rc = read_image(disk, path, O_RDONLY, &file, image, err);
    if (!rc)
        disk->close(disk, file);
    free(image);
    return rc == -ENOENT ? 0 : rc;
}

/* 0; 1: damaged; negative errno. */
static int read_slots(struct cursors *c, const char *image, struct error *err)
{
    if (!whole(image, CURSOR_HEAD_BYTES, FILE_MAGIC))
        return 1;
    if (memcmp(image + 16, c->log_id, sizeof c->log_id) != 0)
        return error_set(err, -EINVAL, "%s: these cursors belong to another log", c->path);
    int damaged = 0;
    for (int i = 0; i < CURSORS_MAX; i++)
        if (!slot_decode(image + sector_at(i, 0), &c->slots[i]))
            damaged = 1;
    return damaged;
}

int cursors_open(struct cursors *c, struct disk *disk, const char *path, const uint8_t log_id[16],
                 bool *ret_damaged, struct error *err)
{
    *c = (struct cursors){.disk = disk, .path = strdup(path)};
    pthread_mutex_init(&c->lock, NULL);
    memcpy(c->log_id, log_id, sizeof c->log_id);
    char *image = calloc(1, CURSOR_FILE_BYTES);
    int rc = c->path && image ? read_image(disk, path, O_RDWR, &c->file, image, err) : -ENOMEM;
    if (rc == -ENOENT) {
        c->file = NULL;
        rc = 0; /* made when the first reader comes */
    } else if (rc) {
        c->file = NULL;
    } else {
        rc = read_slots(c, image, err);
        *ret_damaged = rc == 1;
        if (rc == 1) {
            disk->close(disk, c->file);
            c->file = NULL;
            rc = write_all(c);
        }
    }
    free(image);
    if (rc)
        cursors_close(c);
    return rc;
}

int cursors_read(struct disk *disk, const char *path, const uint8_t log_id[16], struct cursor *ret,
                 struct error *err)
{
    struct disk_file *file;
    struct cursors c = {.path = (char *)(uintptr_t)path};
    memcpy(c.log_id, log_id, sizeof c.log_id);
    memset(ret, 0, CURSORS_MAX * sizeof *ret);
    char *image = calloc(1, CURSOR_FILE_BYTES);
    int rc = image ? read_image(disk, path, O_RDONLY, &file, image, err) : -ENOMEM;
    if (!rc) {
        disk->close(disk, file);
        rc = read_slots(&c, image, err);
        memcpy(ret, c.slots, sizeof c.slots);
    }
    free(image);
    return rc == 1 || rc == -ENOENT ? 0 : rc;
}

void cursors_close(struct cursors *c)
{
    if (!c->disk)
        return;
    if (c->file)
        c->disk->close(c->disk, c->file);
    free(c->path);
    pthread_mutex_destroy(&c->lock);
    *c = (struct cursors){0};
}

int cursors_slot(struct cursors *c, const char *name, uint64_t offset, uint64_t *ret_offset)
{
    size_t len = strlen(name);
    if (len == 0 || len > CURSOR_NAME_MAX)
        return -EINVAL;
    pthread_mutex_lock(&c->lock);
    int slot = -ENOSPC;
    for (int i = CURSORS_MAX - 1; i >= 0; i--)
        if (!c->slots[i].used)
            slot = i;
    for (int i = 0; i < CURSORS_MAX; i++)
        if (c->slots[i].used && strcmp(c->slots[i].name, name) == 0)
            slot = i;
    if (slot >= 0 && !c->slots[slot].used) {
        struct cursor *s = &c->slots[slot];
        *s = (struct cursor){.used = true, .offset = offset, .seq = 2};
        memcpy(s->name, name, len);
        int rc = write_slot(c, slot);
        if (rc) {
            *s = (struct cursor){0};
            slot = rc;
        }
    }
    if (slot >= 0)
        *ret_offset = c->slots[slot].offset;
    pthread_mutex_unlock(&c->lock);
    return slot;
}

int cursors_commit(struct cursors *c, int slot, uint64_t offset)
{
    int rc = 0;
    pthread_mutex_lock(&c->lock);
    struct cursor *s = &c->slots[slot];
    if (c->put_back) {
        rc = -ESTALE;
    } else if (offset > s->offset) {
        struct cursor before = *s;
        s->offset = offset;
        s->seq++;
        rc = write_slot(c, slot);
        if (rc) {
            /* Whether it reached the disk is unknown: retention keeps the older one, and the next
             * write must not reuse the sector's number. */
            s->offset = before.offset;
        }
    }
    pthread_mutex_unlock(&c->lock);
    return rc;
}

int cursors_put_back(struct cursors *c, uint64_t most)
{
    int rc = 0;
    pthread_mutex_lock(&c->lock);
    /* Asked again: what is right here may not have been written. */
    bool unwritten = c->put_back && !c->file;
    c->put_back = true;
    for (int i = 0; i < CURSORS_MAX; i++) {
        struct cursor *s = &c->slots[i];
        if (!s->used || s->offset <= most)
            continue;
        s->offset = most;
        s->seq++;
        int written = write_slot(c, i);
        rc = rc ? rc : written;
    }
    if (unwritten && !rc && !c->file)
        rc = write_all(c);
    pthread_mutex_unlock(&c->lock);
    return rc;
}

int cursors_forget(struct cursors *c, const char *name)
{
    int rc = 0;
    pthread_mutex_lock(&c->lock);
    for (int i = 0; i < CURSORS_MAX && !rc; i++) {
        struct cursor before = c->slots[i];
        if (!before.used || strcmp(before.name, name) != 0)
            continue;
        /* The whole file anew: of a slot's two sectors the older one might stay behind. */
        if (c->file)
            c->disk->close(c->disk, c->file);
        c->file = NULL;
        c->slots[i] = (struct cursor){0};
        rc = write_all(c);
        if (rc)
            c->slots[i] = before;
    }
    pthread_mutex_unlock(&c->lock);
    return rc;
}

uint64_t cursors_min(struct cursors *c)
{
    uint64_t min = UINT64_MAX;
    pthread_mutex_lock(&c->lock);
    for (int i = 0; i < CURSORS_MAX; i++)
        if (c->slots[i].used && c->slots[i].offset < min)
            min = c->slots[i].offset;
    pthread_mutex_unlock(&c->lock);
    return min;
}
