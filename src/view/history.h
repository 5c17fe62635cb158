/* SPDX-License-Identifier: Apache-2.0 */
/*
 * view/history.h - every datum of every feed with history, in RocksDB (design section 8). Open
 * chunks collect points in memory; a flush writes them as rows together with the journal cursor,
 * atomically; a background pass merges neighbouring rows to 256 points and more. The journal is the
 * write-ahead log: what was not flushed is replayed from the durable cursor.
 *
 * history_apply, history_tick: the history thread only. Reads: any thread; with HISTORY_NO_IO they
 * never wait for a disk.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/error.h"
#include "flow/record.h"

struct history;

struct keyring;

struct history_opts {
    const char *path;        /* the database's directory */
    uint64_t log_id[2];      /* the journal it follows: another log's database is refused */
    uint64_t open_bytes_max; /* points in memory; the coldest are written first (256 MiB) */
    uint64_t flush_bytes;    /* journal bytes applied between flushes at the most: bounds replay. A
                                quarter is enough when few feeds share them, so that rows are long */
    uint64_t flush_ns;       /* and at most this long */
    uint64_t cache_bytes;    /* block cache */
    uint32_t merge_points;   /* rows are merged up to this many points (256) */
    struct keyring *keyring; /* seals the rows of records that were sealed; NULL: there are none */
};

/* Opens the database. *ret_cursor: the durable cursor, where the journal must be replayed from. */
int history_open(const struct history_opts *opts, struct history **ret, uint64_t *ret_cursor,
                 struct error *err);
/* Whether the database in `path`, which nobody has open, belongs to that journal and is durable
 * beyond `end`; *ret: up to where. Nothing is changed; what is damaged says nothing. */
bool history_beyond(const char *path, const uint8_t log_id[16], uint64_t end, uint64_t *ret);
/* Flushes and closes. Accepts NULL. */
void history_close(struct history *h);

/* Fetches into the cache what history_apply of this feed will touch, and when that has come, what
 * it leads to. History thread. */
void history_prefetch(struct history *h, uint64_t feed);
void history_prefetch_end(struct history *h, uint64_t feed);
/* Applies one record; a no-op for records it has already applied. Never fails: what cannot be
 * written now (disk full) is kept and tried again. */
void history_apply(struct history *h, const struct record *r, uint64_t offset);
/* Ends a journal batch: everything below `next_offset` was applied, `bytes` long. May flush or do a
 * bounded piece of merging. Returns the durable cursor. */
uint64_t history_tick(struct history *h, uint64_t next_offset, uint64_t bytes, uint64_t now_ns);
/* Writes the files anew that hold what was of these feeds and is deleted and flushed, so that no
 * byte of it is left; without feeds, all files. May take minutes. Any thread. */
void history_scrub(struct history *h, const uint64_t *feeds, unsigned count);
/* Makes a copy of the database in the new directory `dir`, on the same file system: its large files
 * are second names of the database's. The copy is as of some moment of this call, and durable for
 * itself as the database is: what its cursor has passed is in it. Any thread. 0 or a negative errno
 * with a sentence. */
int history_checkpoint(struct history *h, const char *dir, struct error *err);
/* Flushes everything now. 0 or negative errno. History thread. */
int history_flush(struct history *h);
/* Writes fail and memory is full: apply nothing more, call history_tick again a little later.
 * History thread. */
bool history_stuck(struct history *h);
/* There is something to merge, or tuples to make: call history_tick soon. History thread. */
bool history_restless(struct history *h);

/* One point as readers see it; `value` borrows from the query's storage. */
struct history_point {
    struct datum datum;
    int64_t event_us;
    uint64_t offset; /* of the datum as first stored: with event_us it makes the id */
};

enum { HISTORY_NO_IO = 1 }; /* answer HISTORY_INCOMPLETE rather than touch the disk */

enum history_found { HISTORY_DONE, HISTORY_INCOMPLETE };

/* Newest first: points of `feed` with from_us <= event time <= to_us, that come after
 * (before_us, before_offset) in that order when `has_before`; at most `limit`. */
struct history_query {
    uint64_t feed;
    int64_t from_us, to_us;
    bool has_before;
    int64_t before_us;
    uint64_t before_offset;
    bool has_after; /* history_oldest */
    int64_t after_us;
    uint64_t after_offset;
    uint32_t limit;
    bool counts; /* history_range: asks for `held` */
    unsigned flags;
    /* Results: */
    struct buf *storage; /* the caller's; cleared first. Values and the array live here */
    struct history_point *points;
    uint32_t count;
    bool more;     /* there are older ones in the range */
    uint64_t held; /* how many the feed holds, as history_count, at the same moment */
};
/* enum history_found, or a negative errno (-EBADMSG: damaged; -ENOMEM: storage too small). */
int history_range(struct history *h, struct history_query *q);
/* The oldest point of the range, of those above (after_us, after_offset) when `has_after`: q->count
 * is 0 or 1. */
int history_oldest(struct history *h, struct history_query *q);
/* The datum of that identity (event_ms, offset): q->count is 0 or 1. Uses feed, flags, storage. */
int history_get(struct history *h, struct history_query *q, struct datum_target id);
/* How many points the feed holds; changes and deletions of single ones that are not merged yet are
 * counted as if each were about one that is there, and while a flush is being written some may be
 * counted twice. As fast for a million points as for a thousand. Uses feed and flags. */
int history_count(struct history *h, uint64_t feed, unsigned flags, uint64_t *ret);

/*
 * The tuples (view/rollup.h) of slices of time: [n * slice_us, (n + 1) * slice_us), of the feed's
 * points with from_us <= event time <= to_us. Made from tuples kept with merged rows where these
 * fit, else from the points.
 */
enum { HISTORY_SLICES_MAX = 1024 };
struct history_slices {
    uint64_t feed;
    int64_t from_us, to_us, slice_us;
    unsigned flags;
    /* Results: */
    struct buf *storage;         /* the caller's; cleared first. The array lives here */
    struct rollup_slice *slices; /* those with a point in them, oldest first */
    uint32_t count;
    uint64_t cost; /* points decoded, about */
};
/* enum history_found, or a negative errno: -EBADMSG, -ENOMEM; -EINVAL: more than
 * HISTORY_SLICES_MAX; -E2BIG: it takes more points than one query may decode. With HISTORY_NO_IO,
 * what takes long is incomplete too. */
int history_rollup(struct history *h, struct history_slices *q);
/* Has all tuples made anew, in the background; answers are right meanwhile, only slower. Any
 * thread.
 */
void history_rollup_rebuild(struct history *h);

struct history_stats {
    uint64_t durable_cursor, open_bytes, open_feeds, rows_written, points_written, merges,
        disk_bytes;
    uint64_t rolled; /* feeds below this number have all their tuples; UINT64_MAX: all feeds */
};
struct history_stats history_stats(struct history *h);
