/* SPDX-License-Identifier: Apache-2.0 */
/*
 * backup/stage.h - the state of a data directory at one moment, kept still beside it: in its folder
 * backup.tmp lie links of the journal's segments, of the newest values' snapshot and of the audit
 * log, a checkpoint of the history and a copy of the catalog. The server goes on; who copies takes
 * their time.
 *
 * Why the parts fit (docs/decisions/0016-backups.md): segments are linked first, so nothing that a
 * view still needs is gone; then the views, which know only what is in the journal by then; then
 * the catalog, and in the same moment the journal's end is read; then the segments up to that end.
 *
 * Whoever has this made holds a lock on the file backup.lock, so that there is one at a time, and
 * what a dead one left can be told from what is in use.
 */
#pragma once

#include "base/error.h"
#include "catalog/catalog.h"
#include "journal/journal.h"
#include "view/history.h"

#define BACKUP_FOLDER     "backup.tmp"
#define BACKUP_LOCK       "backup.lock"
#define BACKUP_TOKEN_SIZE 33 /* 32 digits and a NUL */

/* What is staged: all open, and it outlives the call. */
struct backup_source {
    struct disk *disk;
    const char *data; /* the data directory */
    struct journal *journal;
    struct catalog *catalog;
    struct history *history;
};

struct backup_staged {
    uint8_t log_id[16];
    uint64_t position;             /* of the journal: it ends below */
    bool sealed;                   /* there is a keyring; it is no part of this */
    char token[BACKUP_TOKEN_SIZE]; /* names this staging */
};

/* Makes the folder, in place of one that is there. Waits for disk and catalog; one at a time. 0 or
 * a negative errno with a sentence: then nothing is left. */
int backup_stage(const struct backup_source *source, struct backup_staged *ret, struct error *err);
/* Removes it, if it is there. 0 or a negative errno with a sentence. */
int backup_unstage(struct disk *disk, const char *data, struct error *err);
/* Whether the folder is there and is the one with that token. */
bool backup_is_staged(struct disk *disk, const char *data, const char *token);

/* Locks backup.lock for this process. 0; -EWOULDBLOCK: a backup is being made; or another negative
 * errno, with a sentence. The lock ends with the file's closing. */
int backup_lock(const char *data, struct disk_file **ret, struct error *err);
