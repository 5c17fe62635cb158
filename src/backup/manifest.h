/* SPDX-License-Identifier: Apache-2.0 */
/*
 * backup/manifest.h - the list of what a backup holds, as text in its file "manifest":
 *
 *   sluice-backup 1
 *   version 0.1.0
 *   made 2026-01-02T03:04:05Z
 *   log 00112233445566778899aabbccddeeff
 *   oldest 0
 *   position 12345
 *   sealed no
 *   file 4194304 <SHA-256 in hex> journal/00000000000000000000.slg
 *   ...
 *   end <SHA-256 of all lines before this one>
 *
 * It is written last: a directory without it is no backup. Pure functions over memory; the struct
 * is its holder's.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/error.h"

#define MANIFEST_NAME      "manifest"
#define MANIFEST_BYTES_MAX ((size_t)64 << 20) /* some 500,000 files */
#define MANIFEST_PATH_MAX  100

struct file_digest {
    uint64_t bytes;
    uint8_t sha256[32];
};

struct manifest_file {
    char path[MANIFEST_PATH_MAX + 1]; /* from the backup's directory */
    struct file_digest digest;
};

struct manifest {
    char version[32]; /* of the program that made it */
    char made[40];    /* when, as RFC 3339 */
    uint8_t log_id[16];
    uint64_t oldest, position; /* of the journal's records: the first, and one past the last */
    bool sealed;               /* there was a keyring: nothing can be read without it */
    struct manifest_file *files;
    size_t count, cap;
};

/* The folders of a backup and the files beside them, as they are called in a data directory too;
 * the last is NULL. Of the files only catalog.db must be there: the others are snapshots of views,
 * which begin without one. */
extern const char *const backup_folders[], *const backup_files[];
/* Whether the list has the name. */
bool backup_has(const char *const list[], struct slice name);

/* Accepts a zeroed struct. */
void manifest_fini(struct manifest *m);
/* False: no memory, or a path that no backup has. */
bool manifest_add(struct manifest *m, const char *path, const struct file_digest *digest);
/* NULL: it is not listed. */
const struct manifest_file *manifest_find(const struct manifest *m, const char *path);
/* Whether a backup may hold a file of that name: only what a restore is to write, and never a key.
 */
bool manifest_path_ok(struct slice path);
/* Appends the text. */
void manifest_format(const struct manifest *m, struct buf *out);
/* Fills a zeroed struct. 0; -EPROTONOSUPPORT: of a newer format; -EBADMSG: damaged, with a sentence
 * that says what and where but not which file; -ENOMEM. On failure *ret is empty. */
int manifest_parse(struct slice text, struct manifest *ret, struct error *err);
