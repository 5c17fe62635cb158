/* SPDX-License-Identifier: Apache-2.0 */
/*
 * view/audit.h - the audit log: every change of the catalog, as the journal told it, kept in files
 * of lines beyond what the journal keeps, each line chained to the one before by its hash. Decision
 * 0020 says what the files look like and what the chain proves.
 *
 * What writes (struct audit) belongs to the view's thread. What reads takes the files as they are,
 * beside a running server or without one, on any thread, and changes nothing.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/error.h"
#include "flow/record.h"
#include "journal/disk.h"
#include "seal/seal.h"

enum {
    AUDIT_HASH_TEXT = 64,  /* characters of a hash: SHA-256 in hexadecimal digits */
    AUDIT_NAME_BYTES = 32, /* of a file's name: the number of its first entry, ".jsonl" */
};

struct audit;

struct audit_opts {
    struct disk *disk;
    const char *dir;         /* of the files; made if missing */
    struct keyring *keyring; /* seals what came sealed; NULL: there is nothing of that kind */
    uint64_t log_id[2];      /* the journal this log belongs to: another's files are refused */
    uint64_t keep_ms;        /* files whose entries are all older are removed; 0: never */
    uint64_t file_bytes;     /* a file longer than this is followed by a new one */
};

/* Takes the files up where they end; a torn tail is cut, for the journal has those records still.
 * *ret_cursor: everything below it is in. Damage below what was durable is an error (-EBADMSG) that
 * names file and line; nothing is made anew in its place. */
int audit_open(const struct audit_opts *opts, struct audit **ret, uint64_t *ret_cursor,
               struct error *err);
/* Whether the audit log in `dir` belongs to that journal and is beyond `end`; *ret: up to where.
 * What is damaged says nothing. */
bool audit_beyond(struct disk *disk, const char *dir, const uint8_t log_id[16], uint64_t end,
                  uint64_t *ret);
/* Writes nothing: audit_flush does. Accepts NULL. */
void audit_close(struct audit *a);
/* The highest number of a change of the catalog that the journal told, as the log in `dir` has
 * noted it; 0: none is known. It may lag behind the journal after a crash. */
uint64_t audit_told(struct disk *disk, const char *dir);

/* Takes one record: an audit record that is new becomes a line; of what tells only what a number
 * means its change is noted. */
void audit_apply(struct audit *a, const struct record *r, uint64_t offset);
/* One that cannot be opened: becomes a line that says so, for there was a change. */
void audit_apply_shut(struct audit *a, const struct record *r, uint64_t offset);
/* Writes lines that wait, removes files that are too old, notes now and then how far it has got.
 * Returns the durable cursor. */
uint64_t audit_tick(struct audit *a, uint64_t next_offset, uint64_t now_ns);
/* Whether too much waits for a disk that refuses it. */
bool audit_stuck(const struct audit *a);
/* Makes everything below `next_offset` durable. 0 or negative errno. */
int audit_flush(struct audit *a, uint64_t next_offset);

/* In force with the next tick. Any thread. */
void audit_set_keep(struct audit *a, uint64_t keep_ms);

struct audit_stats {
    uint64_t entries; /* that the files hold */
    uint64_t files, bytes;
    uint64_t told; /* as audit_told */
};
/* Any thread; of about now. */
struct audit_stats audit_stats(const struct audit *a);

/* Makes a copy of the log in `dir` in the new directory `to`, on the same file system, while it is
 * written: its files are second names. An open of the copy takes up where the log's durable state
 * of some moment of this call was. Any thread. 0, also without a log, or a negative errno with a
 * sentence. */
int audit_link(struct disk *disk, const char *dir, const char *to, struct error *err);
/* Where the files in `dir` end that audit_link made, as its state says: they grow on with those
 * that they are links of. */
struct audit_cut {
    char file[AUDIT_NAME_BYTES]; /* the last one; "": there is none yet */
    uint64_t bytes;              /* of that file */
};
/* 0 or a negative errno with a sentence. Any thread. */
int audit_find_cut(struct disk *disk, const char *dir, struct audit_cut *ret, struct error *err);
/* Whether the file `name` in that directory is to be copied, and how much of it: UINT64_MAX is all
 * of it. */
bool audit_cut_has(const struct audit_cut *cut, const char *name, uint64_t *ret_bytes);

/* ---- reading --------------------------------------------------------------------------------- */

/* Where the files are. */
struct audit_place {
    struct disk *disk;
    const char *dir;
    struct keyring *keyring; /* NULL: entries that are sealed stay so */
};

struct audit_entry {
    uint64_t number; /* from 1 on, without gaps */
    uint64_t offset; /* of the record in the journal */
    int64_t at_us;   /* when it was changed */
    uint64_t change; /* of the catalog */
    uint64_t account;
    enum seal_outcome sealed; /* SEAL_PLAIN, SEAL_DONE: `text` is there; else why it is not */
    struct slice text;        /* the record: a JSON object */
    bool damaged;             /* its line is not what was written; all of this may be wrong */
    char file[AUDIT_NAME_BYTES];
    uint64_t line; /* of that file */
};

/* Calls `each` with the entries below number `before` (0: all), the newest first, until it returns
 * false. The entry is gone when it returns. Files with nothing newer than `since_us` are left out.
 * 0; -ENOENT: there is no log yet; or another negative errno; with a sentence that names the place.
 */
int audit_read(const struct audit_place *p, uint64_t before, int64_t since_us,
               bool (*each)(void *arg, const struct audit_entry *e), void *arg, struct error *err);

struct audit_verified {
    uint64_t files, entries;        /* that were looked at */
    uint64_t first, last;           /* their numbers; 0: there are none */
    char hash[AUDIT_HASH_TEXT + 1]; /* of the last line: who noted it finds it again */
    uint64_t damaged;               /* places told to `damage` */
};

/* Checks every line against the one before, and the whole against what the log says of itself.
 * `damage` is told every place: a file's name, a line (0: all of it), a sentence. 0, also when
 * there was damage, or a negative errno with a sentence: it could not be checked. */
int audit_verify(const struct audit_place *p,
                 void (*damage)(void *arg, const char *file, uint64_t line, const char *what),
                 void *arg, struct audit_verified *ret, struct error *err);
