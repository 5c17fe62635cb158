/* SPDX-License-Identifier: Apache-2.0 */
/*
 * view/open.h - what history holds in memory until its next flush: per feed the points received
 * since the last one, changes and deletions by id, and a deletion of the whole feed.
 *
 * One writer, the history thread; it alone calls everything here but open_copy, which any thread
 * may call. The table has OPEN_SHARDS shards with a spinlock each; the writer holds it while it
 * changes something, readers while they copy one feed's state: at most OPEN_SEAL_BYTES, since a
 * larger chunk is turned into an immutable, reference-counted row. The writer reads without a lock.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "flow/record.h"
#include "view/row.h"

enum {
    OPEN_SHARDS = 256,
    OPEN_SEAL_BYTES = 16384, /* and as many points at the most as make a handy row: */
    OPEN_SEAL_POINTS = 1024,
};

/* A run of points that no longer changes; see row.h. */
struct sealed {
    struct sealed *next;
    atomic_uint refs;
    uint32_t count, len;
    struct row_key first;
    char row[];
};

/* What few feeds have. */
struct open_more {
    uint64_t floor; /* data of this feed with a smaller offset are deleted; 0: none */
    struct sealed *sealed, *sealed_last;
    uint32_t sealed_count;
    struct buf ops; /* op_put, in the order of the journal */
};

/* A piece of a chunk: whole points, each steps of (time, offset), length, record payload. */
struct open_block {
    struct open_block *next;
    uint32_t len, cap;
    uint8_t bytes[];
};

struct open_feed {
    uint64_t feed;                   /* 0: a free place in the table */
    struct open_block *first, *last; /* the chunk */
    uint32_t len, count;             /* of all its blocks: bytes, points */
    uint8_t fresh_rows; /* in the database since the feed was last merged, at most 255 */
    bool queued;        /* for merging */
    bool active;        /* got something since the last flush */
    uint32_t key_id;    /* what the rows are to be sealed by; 0: nothing. The user's */
    int64_t last_us;
    uint64_t last_offset;
    struct open_more *more;
};

_Static_assert(sizeof(struct open_feed) == 64, "one cache line");

struct open_table;

/* Aborts when there is no memory, as all calls of the writer do: a lost point would be silent, a
 * restart replays it. */
struct open_table *open_new(void);
void open_free(struct open_table *t);

/* Adds a datum; `payload` is copied. */
void open_put(struct open_table *t, uint64_t feed, struct row_key key, struct slice payload);
/* Adds a change (`payload` is the new datum) or a deletion (no payload pointer). */
void open_op(struct open_table *t, uint64_t feed, struct datum_target id, struct slice payload);
/* Forgets the feed's points; those in the database below `floor` count as deleted. */
void open_drop(struct open_table *t, uint64_t feed, uint64_t floor);
/* Fetches the feed's place into the cache; and when that has come, where its next point goes. */
void open_prefetch(struct open_table *t, uint64_t feed);
void open_prefetch_end(struct open_table *t, uint64_t feed);
/* Fetches the chunk's beginning. */
void open_prefetch_chunk(const struct open_feed *f);
/* The feed's entry, or NULL. It stays where it is until the next put, op, drop or clear. */
struct open_feed *open_find(struct open_table *t, uint64_t feed);
/* All entries that are active, by feed number; *ret is the caller's to free. */
size_t open_active(struct open_table *t, struct open_feed ***ret);
/* Appends the points of the entry's chunk, bound to the chunk. */
void open_points(const struct open_feed *f, struct point_list *ret);
/* All that is active is in the database now: forgets it. Entries that are needed for nothing are
 * removed, and those that wait for merging only when there are more than `entries_max`. */
void open_clear(struct open_table *t, size_t entries_max);

/* Bytes held, and feeds with something in it. Any thread. */
uint64_t open_bytes(const struct open_table *t);
uint64_t open_feeds(const struct open_table *t);

/* One feed's state at one moment. */
struct open_copy {
    uint64_t floor;
    uint32_t count;
    struct buf chunk, ops;
    struct sealed **sealed; /* referenced */
    uint32_t sealed_count;
};
/* Any thread. 0 or -ENOMEM; open_copy_fini in any case. */
int open_copy(struct open_table *t, uint64_t feed, struct open_copy *ret);
void open_copy_fini(struct open_copy *c);
/* Appends the points of the copied chunk. False: no memory. */
bool open_copy_points(const struct open_copy *c, struct point_list *ret);

/* ---- changes and deletions ------------------------------------------------------------------- */
struct op {
    uint64_t offset; /* of the datum it is about */
    int64_t event_ms;
    bool deleted;
    struct slice payload; /* the new datum */
};
void op_put(struct buf *out, struct op op);
/* Walks what op_put wrote; *at begins at 0. False at the end. */
bool op_next(struct slice ops, size_t *at, struct op *ret);
/* The time of an id has 48 bits: with its sign, as it was before they were cut. */
int64_t op_event_ms(int64_t id_ms);
