/* SPDX-License-Identifier: Apache-2.0 */
/*
 * view/history_own.h - what the files of history share; nobody else includes it.
 *
 * history.c        the writer: apply, flush, tick
 * history_merge.c  the merging pass
 * history_read.c   queries for points
 * rollup_build.c   the tuples of rows: with every merged row, and those that are missing
 * rollup_read.c    queries for slices of time
 * history_seal.c   sealed values
 * history_db.c     RocksDB: options, keys, errors
 */
#pragma once

#include <rocksdb/c.h>
#include <stdatomic.h>

#include "seal/seal.h"
#include "view/history.h"
#include "view/open.h"
#include "view/rollup.h"
#include "view/row.h"

/* Keys of the one column family: a letter, then big-endian numbers, so that they sort. Behind a
 * feed's fresh rows stands how many points its merged ones hold, once there are such. Whoever looks
 * for fresh rows stops there, and not only behind what was deleted of all the feeds that follow. */
enum {
    KEY_CURSOR = 'c', /* u64: everything of the journal below it is in this database */
    KEY_META = 'm',   /* u32 format, 16 bytes log id */
    KEY_FRESH = 'f',  /* feed, time, offset -> a row as flushed; they may overlap */
    KEY_ROW = 'r',    /* feed, time, offset -> a merged row; those of a feed do not overlap */
    KEY_OP = 'o',     /* feed, ms, offset of the datum, 0 change | 1 deletion -> the new datum */
    KEY_ROLLUP = 's', /* as the merged row -> its tuples; see rollup_row.c */
    KEY_ROLLED = 't', /* u64: all merged rows of feeds below it have their tuples */
};

enum { ROW_KEY_BYTES = 25, OP_KEY_BYTES = 26 };
/* The count: this byte, so that it is not taken for something sealed, and a u64. */
enum { COUNT_FORMAT = 1, COUNT_BYTES = 9 };

struct history_db {
    rocksdb_t *db;
    rocksdb_options_t *options;
    rocksdb_cache_t *cache;
    rocksdb_readoptions_t *read, *read_no_io, *read_durable, *read_once;
    rocksdb_writeoptions_t *write;
    rocksdb_flushoptions_t *flush;
};

/* Opens the values of one iterator. */
struct unsealing {
    struct sealer *sealer; /* NULL: none are sealed */
    struct buf plain;      /* the value opened last */
    uint32_t key_id;       /* of the last one that was sealed; the user sets it back */
};

/* Why all tuples are to be made anew. */
enum roll_again { ROLL_NOT, ROLL_ASKED, ROLL_DAMAGED };

struct history {
    struct history_opts opts;
    char *path;
    struct history_db db;
    struct open_table *open;
    _Atomic uint64_t version; /* odd while a flush is being written; see history.c */
    _Atomic bool has_ops;     /* the database may hold point records */

    /* The history thread's: */
    uint64_t applied;    /* next offset to apply */
    uint64_t written;    /* cursor of the last batch written, perhaps not yet flushed */
    bool unflushed;      /* written is beyond what is durable */
    uint64_t base_bytes; /* what memory held just after the last flush */
    uint64_t bytes_since, points_since; /* of the journal, since the last flush */
    uint64_t flushed_ns, retry_ns;
    bool clock_known, failing;
    uint64_t records_since; /* for the metric */
    struct merge_queue {
        uint64_t *feeds;
        size_t first, count, cap;
    } queue;
    unsigned queue_flushes; /* since the queue was empty */
    uint64_t busy_ns;       /* when records came last; 0: none did */
    uint64_t merge_ns;      /* the next piece, while records are coming in */
    struct row_key roll_at; /* in the feed `rolled`: where the missing tuples begin */
    bool roll_failed;
    uint64_t roll_ns;      /* when a piece was made last */
    struct sealer *sealer; /* NULL: rows stay plain */
    struct buf sealed;
    struct point_list points; /* for encoding; text is not used */
    struct buf text, row;
    rocksdb_writebatch_t *batch; /* of the next flush; NULL: to be made */
    size_t batch_bytes;          /* the most it has held */

    _Atomic uint64_t rolled; /* as KEY_ROLLED */
    _Atomic int roll_again;  /* enum roll_again */
    _Atomic uint64_t durable, rows_written, points_written, merges;
};

/* ---- history_db.c ---------------------------------------------------------------------------- */
int history_db_open(const struct history_opts *opts, struct history_db *ret, uint64_t *ret_cursor,
                    struct error *err);
void history_db_close(struct history_db *d);
/* Makes durable all that was written, of which the last cursor is `cursor`. 0 or a negative errno;
 * -EAGAIN: RocksDB says that it is done, and it is not, as 7.8 does now and then when it comes back
 * from a full disk. */
int history_db_flush(struct history_db *d, uint64_t cursor);
/* Frees what a RocksDB call left. 0, -EBADMSG (damaged), -EAGAIN (would have to read the disk),
 * -ENOSPC, -EIO. */
int history_db_error(char *text);
/* Of an iterator that is not valid: 0 is the end. */
int history_db_ended(const rocksdb_iterator_t *it);

void history_key(char out[ROW_KEY_BYTES], char kind, uint64_t feed, struct row_key at);
void history_op_key(char out[OP_KEY_BYTES], uint64_t feed, int64_t ms, uint64_t offset,
                    bool deleted);
void history_count_key(char out[OP_KEY_BYTES], uint64_t feed);
/* What the iterator points to, if it is of that kind and feed and not erased; opened, if it is
 * sealed. */
bool history_row_at(struct unsealing *u, const rocksdb_iterator_t *it, char kind, uint64_t feed,
                    struct row_key *ret_key, struct slice *ret_row);
bool history_any_row_at(struct unsealing *u, rocksdb_iterator_t *it, char kind, uint64_t *ret_feed,
                        struct row_key *ret_key, struct slice *ret_row);
/* The same of how many points the merged rows hold; its value. */
bool history_count_at(struct unsealing *u, const rocksdb_iterator_t *it, uint64_t feed,
                      struct slice *ret_value);
bool history_op_at(struct unsealing *u, const rocksdb_iterator_t *it, uint64_t feed,
                   struct op *ret);
void history_seek(rocksdb_iterator_t *it, char kind, uint64_t feed, struct row_key at);
void history_seek_back(rocksdb_iterator_t *it, char kind, uint64_t feed, struct row_key at);

/* ---- history_seal.c ----------------------------------------------------------------------------
 */
/* Puts a value, sealed by the key unless that is 0. */
void history_put(struct history *h, rocksdb_writebatch_t *b, struct slice key, uint32_t key_id,
                 struct slice value);
void unsealing_init(struct unsealing *u, struct history *h);
void unsealing_fini(struct unsealing *u);
/* Opens the value of that key, if it is sealed. False: it is erased. One that does not open stays
 * as it is and reads as damaged. */
bool unsealing_open(struct unsealing *u, struct slice key, struct slice *value);

/* ---- ops.c: changes and deletions as readers and the merging pass apply them ------------------
 */
struct op_list {
    struct op *at; /* payloads are places in `text` until op_list_ready */
    size_t count, cap;
    struct buf text;
    bool no_memory;
};
void op_list_init(struct op_list *l);
void op_list_fini(struct op_list *l);
/* Later ones win over earlier ones, but a deletion over all. Copies. */
void op_list_add(struct op_list *l, struct op op);
/* Those of the feed in the database about data with from_us <= event time <= to_us. Leaves the
 * iterator anywhere. 0 or a negative errno. */
int op_list_load(struct op_list *l, struct unsealing *u, rocksdb_iterator_t *it, uint64_t feed,
                 int64_t from_us, int64_t to_us);
/* Sorts; 0 or -ENOMEM. */
int op_list_ready(struct op_list *l);
/* Applies the ops to the unbound points from `start` on, drops the deleted ones. False: no memory.
 */
bool op_list_apply(const struct op_list *l, struct point_list *points, size_t start);
/* Whether the op is about this point. */
bool op_matches(const struct op *op, const struct history_point *p);

/* ---- history_read.c: one query, as rollup_read.c shares it ------------------------------------
 */
struct source {
    struct row_key first;
    int64_t last_us;
    uint32_t count;
    struct slice row; /* in `rows` (ptr is a place there), or of a sealed row */
    bool placed;
};

struct reading {
    struct history *h;
    uint64_t feed;
    int64_t from_us, to_us;
    bool has_below; /* only points below this one in the order */
    struct row_key below;
    bool has_above; /* only points above this one */
    struct row_key above;
    bool one; /* only the point with `offset` */
    uint64_t offset;

    struct open_copy copy;
    bool torn; /* a flush was going on: points may be in the copy and in the database */
    rocksdb_iterator_t *it;
    struct unsealing unsealing; /* of what it points to */
    struct op_list ops;
    struct buf rows;
    struct source *sources; /* sorted by last_us, newest first */
    size_t sources_count, sources_cap;
    struct point_list found; /* newest first, nearly */
};

void reading_init(struct reading *r, struct history *h, uint64_t feed, struct buf *text);
void reading_fini(struct reading *r);
/* Memory and database at one moment. 0 or a negative errno. */
int reading_begin(struct reading *r, unsigned flags);
/* Changes and deletions about data with from_us <= event time <= to_us. */
int reading_ops(struct reading *r, int64_t from_us, int64_t to_us);
/* Sealed and fresh rows that touch the range. */
int reading_sources(struct reading *r);
/* Adds the points of a row that are wanted to those found, of its newest `most`. 0 or a negative
 * errno. */
int reading_take_row(struct reading *r, struct slice row, struct row_key first, size_t most);
/* Adds those of the open chunk, the first ones. False: no memory. */
bool reading_take_chunk(struct reading *r);
/* Moves what was found to the query: at most `limit` points, newest first. enum history_found or a
 * negative errno. */
int reading_answer(struct reading *r, struct history_query *q, size_t limit);
/* How many points the merged rows of the feed hold. Moves the iterator. 0: the mark said so; 1:
 * there is none that can be read, and they were counted, all of them; or a negative errno. */
int history_merged_points(struct unsealing *u, rocksdb_iterator_t *it, uint64_t feed,
                          uint64_t *ret);
/* What the query returns for a code from above. */
int reading_outcome(int code);
/* The points from `start` on were added upwards: keeps those that are wanted, as they are now,
 * newest first. False: no memory. */
bool reading_take(struct reading *r, size_t start);

/* ---- rollup_build.c: the tuples of merged rows ------------------------------------------------
 */
/* Everything about the row that begins with p[0]; `text` is scratch. */
void history_rollup_put(struct history *h, rocksdb_writebatch_t *b, uint64_t feed, uint32_t key_id,
                        const struct history_point *p, size_t n, struct buf *text);
void history_rollup_delete(rocksdb_writebatch_t *b, const char row_key[ROW_KEY_BYTES]);
/* Reads how far the database has them. 0 or a negative errno. */
int history_rollup_open(struct history *h);
/* Says that only the feeds below have them. */
void history_rollup_begin(rocksdb_writebatch_t *b, uint64_t feed);
/* Whether some are missing that can be made. */
bool history_rollup_wanted(struct history *h);
/* A bounded piece of making them, and less often when records are coming in. 0 or a negative errno:
 * nothing was changed. */
int history_rollup_some(struct history *h, bool busy, uint64_t now_ns);

/* ---- history_merge.c ------------------------------------------------------------------------- */
/* Puts the feed into the queue, if it is worth it. */
void history_merge_want(struct history *h, struct open_feed *f);
/* A bounded piece of merging, and less often when records are coming in, unless what is queued
 * waits for long. 0 or a negative errno: nothing was changed. */
int history_merge_some(struct history *h, bool busy, uint64_t now_ns);
