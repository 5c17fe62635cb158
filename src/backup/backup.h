/* SPDX-License-Identifier: Apache-2.0 */
/*
 * backup/backup.h - a backup is a directory: journal/, history/, audit/, catalog.db, snapshots
 * and the list of them (backup/manifest.h). It never holds a key: the files keyring and
 * keyring.erased are saved apart, so that what is erased is erased from all backups. Commands only,
 * one thread each.
 */
#pragma once

#include "backup/manifest.h"
#include "backup/stage.h"

struct backup_write_opts {
    struct disk *disk;
    const char *data; /* where it is staged */
    const char *to;   /* the backup's directory: new, or empty */
    const char *version;
    const struct backup_staged *staged;
    uint64_t bytes_per_s; /* 0: as fast as it goes */
};

/* Copies what is staged, and writes the list last: a directory without it is no backup. On failure
 * what was written is removed again. 0 or a negative errno with a sentence. The caller has the list
 * in *ret. */
int backup_write(const struct backup_write_opts *opts, struct manifest *ret, struct error *err);

/* Reads the list of the backup in `dir`. 0 or a negative errno with a sentence. */
int backup_read_manifest(struct disk *disk, const char *dir, struct manifest *ret,
                         struct error *err);
/* Reads every file of the backup and compares it with the list, then the batches of its log. What
 * is wrong is a line each, with the file's name, in `out`. 0; -EBADMSG: something is wrong; or
 * another negative errno with a sentence. The list is in *ret, if it could be read. */
int backup_verify(struct disk *disk, const char *dir, struct manifest *ret, struct buf *out,
                  struct error *err);

#define RESTORE_MARK                                                                               \
    "restore.partial" /* in a data directory: its restore has not come to its end */

struct backup_restore_opts {
    struct disk *disk;
    const char *from;
    const char *to;         /* the data directory: locked, and nothing in it but keyring and
                               keyring.erased, or what an interrupted restore left */
    uint32_t nth;           /* which restore of this backup it is, from 1; 0: the backup counts */
    bool without_keys;      /* go on although the data are sealed and there is no keyring */
    uint64_t segment_bytes; /* of the journal's segments, as the settings have it */
    uint64_t bytes_per_s;
};

struct backup_restored {
    uint32_t nth;
    uint64_t position; /* where the restored journal goes on */
};

/*
 * Copies the backup into the data directory, comparing each file with the list, and has journal and
 * catalog go on at numbers that were never used: so the nth restore of a backup must be known to be
 * that. While it is under way, and after it failed, the directory holds RESTORE_MARK, and no server
 * starts in it; it may be called again. 0 or a negative errno with a sentence.
 */
int backup_restore(const struct backup_restore_opts *opts, struct backup_restored *ret,
                   struct error *err);
/* Refuses a data directory whose restore has not come to its end: -ENOTRECOVERABLE with a sentence,
 * else 0. */
int backup_check_restored(struct disk *disk, const char *data, struct error *err);
