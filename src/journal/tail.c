/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The open end of the log: how a segment comes into use, and the checkpoints.
 *
 * 1. A file gets a segment's name only after its header is durable, and gets its first batch only
 *    after the name is durable. So every *.slg file has had a whole header, always.
 * 2. A checkpoint is written only when everything below its `durable` is on disk. Both files are
 *    written in turn, so a power cut in one leaves the other.
 * 3. After a failed sync a file is never synced again: it is left as it is, and a new segment says
 *    from which offset on the old one does not count (`supersede`).
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/log.h"
#include "journal/internal.h"

static const char *const checkpoint_names[2] = {"ckpt.a", "ckpt.b"};

/* The file of the run before: writing it in place needs no room on a full disk. */
static bool checkpoint_reopen(struct journal *j, const char *path, struct disk_file **ret)
{
    uint64_t size;
    if (j->disk->open(j->disk, path, O_RDWR, ret) != 0) {
        *ret = NULL;
        return false;
    }
    if (j->disk->size(j->disk, *ret, &size) == 0 && size == CHECKPOINT_BYTES)
        return true;
    j->disk->close(j->disk, *ret);
    *ret = NULL;
    return false;
}

static int checkpoint_put(struct journal *j, unsigned i, const char *raw)
{
    struct checkpoints *c = &j->checkpoints;
    int rc;
    if (c->file[i]) {
        char copy[CHECKPOINT_BYTES];
        memcpy(copy, raw, sizeof copy);
        struct iovec v = {.iov_base = copy, .iov_len = sizeof copy};
        rc = disk_write_full(j->disk, c->file[i], &v, 1, 0);
        if (!rc)
            rc = j->disk->fdatasync(j->disk, c->file[i]);
        if (rc) { /* next time a new file takes its place */
            j->disk->close(j->disk, c->file[i]);
            c->file[i] = NULL;
            c->failed[i] = true;
        }
        return rc;
    }
    char path[PATH_BYTES];
    rc = path_format(path, j, checkpoint_names[i]);
    if (rc)
        return rc;
    if (!c->failed[i] && checkpoint_reopen(j, path, &c->file[i]))
        return checkpoint_put(j, i, raw);
    rc = disk_replace(j->disk, path, raw, CHECKPOINT_BYTES);
    if (!rc && j->disk->open(j->disk, path, O_RDWR, &c->file[i]) != 0)
        c->file[i] = NULL; /* written; the next one replaces it again */
    return rc;
}

int checkpoint_write(struct journal *j, bool clean)
{
    int failures = 0, result = 0;
    if (!j->tail.file && atomic_load(&j->disk_bytes))
        return 0; /* between two segments: the checkpoint before still holds */
    for (unsigned i = 0; i < 2; i++) {
        struct checkpoint c = {
            .version = FORMAT_VERSION,
            .seq = ++j->checkpoints.seq,
            .durable = j->tail.offset,
            .segment_base = j->tail.file ? j->tail.segment_base : OFFSET_NONE,
            .position = j->tail.file ? j->tail.position : 0,
            .chain = j->tail.chain,
            .clean = clean,
            .boot_epoch = j->boot_epoch,
        };
        memcpy(c.log_id, j->log_id, sizeof c.log_id);
        char raw[CHECKPOINT_BYTES];
        checkpoint_encode(raw, &c);
        int rc = checkpoint_put(j, i, raw);
        if (!rc) {
            pthread_mutex_lock(&j->segments_lock);
            j->checkpoints.segment_base[i] = c.segment_base == OFFSET_NONE ? 0 : c.segment_base;
            pthread_mutex_unlock(&j->segments_lock);
            continue;
        }
        failures++;
        result = rc;
        if (!j->checkpoints.log_once) {
            j->checkpoints.log_once = true;
            log_line(LOG_WARN, "journal.checkpoint_failed", "file=%s error=%d", checkpoint_names[i],
                     -rc);
        }
    }
    j->tail.since_checkpoint = 0;
    return failures == 2 ? result : 0;
}

void checkpoint_close(struct journal *j)
{
    for (unsigned i = 0; i < 2; i++) {
        if (j->checkpoints.file[i])
            j->disk->close(j->disk, j->checkpoints.file[i]);
        j->checkpoints.file[i] = NULL;
    }
}

static void header_make(struct journal *j, uint64_t bytes, struct segment_header *ret)
{
    *ret = (struct segment_header){
        .version = FORMAT_VERSION,
        .base_offset = j->tail.offset,
        .salt = salt_new(j),
        .supersedes_from = j->tail.supersede ? j->tail.offset : OFFSET_NONE,
        .gap_from = j->tail.gap_from,
        .created_us = clock_wall_us(),
        .bytes = bytes,
        .body_at = SEGMENT_HEADER_BYTES,
        .chain = j->tail.chain,
        .boot_epoch = j->boot_epoch,
    };
    memcpy(ret->log_id, j->log_id, sizeof ret->log_id);
}

/* Gives the zeroed file its header and its name. */
static int install(struct journal *j, struct disk_file *file, const char *from,
                   const struct segment_header *h)
{
    char raw[SEGMENT_HEADER_BYTES], from_path[PATH_BYTES], to_path[PATH_BYTES];
    char name[SEGMENT_NAME_BYTES];
    segment_header_encode(raw, h);
    segment_name_format(name, h->base_offset);
    struct iovec v = {.iov_base = raw, .iov_len = sizeof raw};
    int rc = path_format(from_path, j, from);
    if (!rc)
        rc = path_format(to_path, j, name);
    if (!rc)
        rc = disk_write_full(j->disk, file, &v, 1, 0);
    if (!rc)
        rc = j->disk->fdatasync(j->disk, file);
    if (!rc)
        rc = j->disk->rename(j->disk, from_path, to_path);
    if (!rc)
        rc = j->disk->sync_dir(j->disk, j->dir);
    return rc;
}

static int roll_once(struct journal *j, uint64_t bytes)
{
    struct segment_header h;
    struct disk_file *file;
    const char *from;
    int rc = keeper_take_spare(j, bytes, &file, &from);
    if (rc)
        return rc;
    header_make(j, bytes, &h);
    rc = install(j, file, from, &h);
    keeper_spare_installed(j, from, rc == 0);
    struct segment s = {.base = h.base_offset,
                        .bytes = bytes,
                        .created_us = h.created_us,
                        .supersedes_from = h.supersedes_from,
                        .gap_from = h.gap_from,
                        .chain = h.chain};
    if (!rc)
        rc = segments_add(j, &s);
    /* Even when it failed the new name may be there, and from that offset on it would count: so the
     * old segment takes no more batches, and the next try takes the same name again. */
    if (j->tail.file)
        j->disk->close(j->disk, j->tail.file);
    j->tail.file = NULL;
    if (rc) {
        j->disk->close(j->disk, file);
        return rc;
    }
    j->tail.file = file;
    j->tail.segment_base = h.base_offset;
    j->tail.segment_bytes = bytes;
    j->tail.salt = h.salt;
    j->tail.position = h.body_at;
    j->tail.superseding = j->tail.supersede;
    j->tail.supersede = false;
    j->tail.gap_here = h.gap_from;
    j->tail.gap_from = OFFSET_NONE;
    return 0;
}

int tail_roll(struct journal *j, uint64_t need)
{
    uint64_t bytes = j->opts.segment_bytes;
    if (bytes < SEGMENT_HEADER_BYTES + need)
        bytes = (SEGMENT_HEADER_BYTES + need + 4095) & ~4095ull;
    if (keeper_retain(j, bytes))
        return -EDQUOT;
    /* What takes the place of a file without a durable batch says the same of the gap before it. */
    if (j->tail.offset == j->tail.segment_base)
        j->tail.gap_from = j->tail.gap_here;
    int rc = roll_once(j, bytes);
    if (rc && rc != -ENOSPC && rc != -EDQUOT)
        rc = roll_once(j, bytes); /* with another file: one bad block is no reason to stop */
    if (rc)
        return rc;
    checkpoint_write(j, false);
    keeper_wake(j);
    return 0;
}
