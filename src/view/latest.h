/* SPDX-License-Identifier: Apache-2.0 */
/*
 * view/latest.h - the newest datum of every feed, in memory, with a snapshot on disk. The greatest
 * (event time, offset) wins. latest_apply belongs to the projector thread; the rest is for any
 * thread and never blocks on a disk.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/error.h"
#include "flow/record.h"
#include "journal/disk.h"
#include "seal/seal.h"

struct latest;

struct latest_opts {
    struct disk *disk;
    const char *path;        /* of the snapshot file */
    struct keyring *keyring; /* seals what came sealed; NULL: there is nothing of that kind */
    uint64_t log_id[2]; /* the journal this view belongs to: another log's snapshot is refused */
};

/* Loads the snapshot if there is one. *ret_cursor: everything below it is in. A damaged snapshot is
 * an error (-EBADMSG) that names the file, never silently ignored. */
int latest_open(const struct latest_opts *opts, struct latest **ret, uint64_t *ret_cursor,
                struct error *err);
void latest_close(struct latest *l);

/* Fetches into the cache what latest_apply of this feed will touch. Projector thread. */
void latest_prefetch(struct latest *l, uint64_t feed);
/* When that has come: fetches what it leads to. */
void latest_prefetch_end(struct latest *l, uint64_t feed);
/* Applies one record. */
void latest_apply(struct latest *l, const struct record *r, uint64_t offset);
/* Writes the snapshot: everything below `cursor`. Projector thread. 0 or negative errno. */
int latest_snapshot(struct latest *l, uint64_t cursor);
/* Ends a journal batch of so many bytes: everything below `next_offset` was applied. Writes the
 * snapshot now and then (view/pace.h). Returns the cursor of the newest snapshot. Projector thread.
 */
uint64_t latest_tick(struct latest *l, uint64_t next_offset, uint64_t bytes, uint64_t now_ns);

enum latest_found {
    LATEST_NONE, /* the feed never had data, or its data were deleted */
    LATEST_VALUE,
    LATEST_ASK_HISTORY, /* the newest was deleted: history knows what is newest now */
};

/* A copy; `value` is kept in `storage` (cleared first), which can hold VALUE_BIG_MAX + 32. */
struct latest_value {
    struct datum datum;
    int64_t event_us;
    uint64_t offset; /* of the datum as first stored: with event_us it makes the id */
};
enum latest_found latest_get(struct latest *l, uint64_t feed, struct buf *storage,
                             struct latest_value *ret);

/* Stands for all the data of the feed, old ones too: one past the offset of the last record about
 * them. 0: there never were any. */
uint64_t latest_version(struct latest *l, uint64_t feed);

struct latest_stats {
    uint64_t feeds, bytes;
};
struct latest_stats latest_stats(struct latest *l);
