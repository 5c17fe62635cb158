/* SPDX-License-Identifier: Apache-2.0 */
/*
 * view/audit_own.h - the form of the audit log's files, for audit*.c. Pure but for what takes a
 * disk.
 *
 * A line of any kind is {"hash":"HASH",REST} where HASH is SHA-256, in lower-case hexadecimal
 * digits, over the hash of the line before (its 64 characters; zeros before the first of all) and
 * REST with its closing brace. Kinds of REST, members always in this order:
 *
 *   head   "audit":1,"log":"...","n":N,"prev":"HASH","until":US,"change":C
 *          the first line of a file: the number of its first entry, the hash it goes on from, the
 *          newest time and the last change before it
 *   entry  "n":N,"offset":O,"us":US,"change":C,"account":A,"key":0,"entry":{...}
 *          or, sealed with the account's key, "key":K,"sealed":"BASE64"
 *   state  "audit":1,"log":"...","cursor":O,"oldest":N,"anchor":"HASH","next":N,"last":"HASH",
 *          "until":US,"change":C
 *          alone in the file `state`, on from no line: what is durable, and where what is kept
 *          begins and goes on from
 */
#pragma once

#include <stdatomic.h>

#include "view/audit.h"

enum {
    AUDIT_FORMAT = 1,
    AUDIT_PAYLOAD_MAX = 131072,    /* of a record; the catalog's outbox writes no longer ones */
    AUDIT_LINE_MAX = 200 * 1024,   /* above such a payload sealed and in base64 */
    AUDIT_HEAD_MAX = 512,          /* of a head or a state */
    AUDIT_FILE_MAX = 256u << 20,   /* what is read as one; far above file_bytes */
    AUDIT_PENDING_MAX = 128u << 20 /* lines of one journal batch, and those that wait */
};

#define AUDIT_STATE "state"

struct audit_hash {
    char text[AUDIT_HASH_TEXT + 1];
};

extern const struct audit_hash audit_zero;

struct audit_head {
    uint64_t log_id[2];
    uint64_t first;
    struct audit_hash prev;
    int64_t until_us;
    uint64_t change;
};

struct audit_state {
    uint64_t log_id[2];
    uint64_t cursor;          /* everything of the journal below is in */
    uint64_t oldest;          /* number of the first entry kept, or of the next */
    struct audit_hash anchor; /* what that one's file goes on from */
    uint64_t next;            /* number of the next entry */
    struct audit_hash last;   /* of the last line, or the anchor */
    int64_t until_us;         /* the newest time of all entries */
    uint64_t change;          /* the last one told, of an entry or of what a number means */
};

/* An entry as it stands in its line. */
struct audit_line {
    struct audit_entry entry; /* without text */
    uint32_t key_id;
    struct slice stored; /* the JSON, or base64 without its quotes */
};

/* Hashes `rest` behind `prev`. */
void audit_hash(const struct audit_hash *prev, struct slice rest, struct audit_hash *ret);

/* Append a line with its newline; *ret_hash is its hash. */
void audit_put_head(struct buf *out, const struct audit_head *h, struct audit_hash *ret_hash);
void audit_put_entry(struct buf *out, const struct audit_line *l, const struct audit_hash *prev,
                     struct audit_hash *ret_hash);
void audit_put_state(struct buf *out, const struct audit_state *s);

/* A line, without its newline, into hash and rest. False: it is none. */
bool audit_split(struct slice line, struct audit_hash *ret_hash, struct slice *ret_rest);
/* The rest of a line. 1, 0: it is none, -ENOTSUP: a newer format. */
int audit_parse_head(struct slice rest, struct audit_head *ret);
bool audit_parse_entry(struct slice rest, struct audit_line *ret);

/* What sealing binds an entry's text to. */
void audit_put_bound(struct buf *out, const struct audit_entry *e);

/* The file "state". 0; -ENOENT: there is none; another negative errno with a sentence. */
int audit_load_state(struct disk *disk, const char *dir, struct audit_state *ret,
                     struct error *err);

/* Names of files. */
void audit_name(char out[AUDIT_NAME_BYTES], uint64_t first);
char *audit_path(const char *dir, const char *name); /* the caller's to free */

struct audit_names {
    uint64_t *first; /* ascending */
    size_t count;
};
/* The files there are. 0 or negative errno. */
int audit_find_files(struct disk *disk, const char *dir, struct audit_names *ret);
/* Reads a whole file. 0 or negative errno. */
int audit_load(struct disk *disk, const char *dir, uint64_t first, struct buf *out);

/* ---- walking a file -------------------------------------------------------------------------- */

/* Where a walk over lines is: set up by the caller before the first file. */
struct audit_walk {
    struct slice bytes; /* of the file */
    size_t at;          /* behind the last line */
    uint64_t line_number;
    struct audit_hash prev; /* of the last line */
    uint64_t next;          /* number the next entry must have */
    bool damaged_before;    /* the last line was wrong: what follows is measured anew */
    char what[160];         /* of AUDIT_WRONG, what is wrong */
    size_t line_at;         /* where that line begins */
    struct audit_head head;
    struct audit_line line;
};

enum audit_step {
    AUDIT_END,
    AUDIT_HEAD,
    AUDIT_ENTRY,
    AUDIT_WRONG, /* the walk may go on behind it */
    AUDIT_TORN,  /* the file ends within a line */
};

/* Takes the next line of the file. */
enum audit_step audit_step(struct audit_walk *w);

/* ---- the writer: audit.c, and audit_open.c, which sets it up --------------------------------- */

struct audit_file {
    uint64_t first;
    struct audit_hash prev; /* what it goes on from */
    int64_t before_us;      /* newest time before it */
    uint64_t change;        /* last change before it */
    uint64_t bytes;
};

struct audit {
    struct audit_opts opts;
    char *dir;
    struct sealer *sealer;
    struct audit_state at;    /* with the lines that are pending */
    struct audit_state saved; /* as the file says */
    struct audit_file *files;
    size_t files_count;
    struct disk_file *open; /* the last of them; NULL: not yet, or the next line begins a new one */
    bool current;           /* the next line goes to the last of them */
    bool unnamed;           /* its name is not durable yet */
    int month;              /* of its first entry */
    uint64_t written;       /* its bytes that are synced */
    uint64_t applied;       /* all audit records below are lines */
    struct buf pending, sealed;
    uint64_t written_ns, saved_ns, trimmed_ns;
    bool clock_known, failing, repeating;
    _Atomic uint64_t keep_ms;
    _Atomic uint64_t entries, files_now, bytes, told;
};

struct audit *audit_new(const struct audit_opts *opts);
/* Replaces the file "state" by `at`, with all below `applied` in. 0 or negative errno. */
int audit_save(struct audit *a);
/* Sets what audit_stats tells. */
void audit_count(struct audit *a);
/* A file behind the others, as its head says. */
void audit_add_file(struct audit *a, const struct audit_head *head, uint64_t bytes);
int audit_open_file(struct audit *a, uint64_t first, int flags, struct disk_file **ret);
int audit_remove_file(struct audit *a, uint64_t first);
/* Months since some month. */
int audit_month(int64_t us);
