/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sink/dead.h - a sink's dead letters: messages that its target refuses for what they are, with
 * their bytes as they lie in the journal (sealed ones stay sealed), why, and when. One file, kept
 * in memory too, both of a size that is bounded: a queue that is full takes no more, and the sink
 * waits.
 *
 * Owned by its sink. Any thread; its own lock, held over file calls: not for workers.
 *
 * The file: an 8-byte mark, then letters: u32 crc32c of what follows, u32 length of what follows
 * that, u64 offset, i64 when (us), u32 length of why, why, record. A torn end is cut at opening. A
 * letter that could not be written, or not synced, is not there; the file is then written anew.
 */
#pragma once

#include "base/error.h"
#include "base/slice.h"
#include "journal/disk.h"

struct dead_letters;

struct dead_letter {
    uint64_t offset; /* in the journal */
    int64_t at_us;   /* when it was put here */
    struct slice why;
    struct slice record; /* encoded: journal/record.h */
};

/* 0; -EBADMSG: not such a file, or damaged before its end; or another negative errno. */
int dead_open(struct disk *disk, const char *path, uint64_t bytes_max, struct dead_letters **ret,
              struct error *err);
/* Accepts NULL. */
void dead_close(struct dead_letters *d);

enum dead_put { DEAD_STORED = 1, DEAD_FULL };
/* Durable when it returns DEAD_STORED; so it is when there is a letter of that offset already.
 * DEAD_FULL, or a negative errno: nothing was stored. */
int dead_put(struct dead_letters *d, const struct dead_letter *letter);
/* Copies the first letter from `offset` on; its slices point into `storage`. False: none. */
bool dead_next(struct dead_letters *d, uint64_t offset, struct buf *storage,
               struct dead_letter *ret);
/* A schedule that letters are tried again by: pauses, one behind the other, since it was put here.
 */
struct dead_schedule {
    const uint32_t *pauses_s; /* ascending or not; none is 0 */
    unsigned count;
};
/* How long ago a letter may have become due for the last time before it is due again: its longest
 * pause. */
int64_t dead_reach_us(const struct dead_schedule *schedule);
/* As dead_next, of those that become due, by the schedule, after `after_us` and not after
 * `until_us`. Up to a fifth is added to each pause, by offset: what failed together does not come
 * back together.
 */
bool dead_due(struct dead_letters *d, uint64_t offset, const struct dead_schedule *schedule,
              int64_t after_us, int64_t until_us, struct buf *storage, struct dead_letter *ret);
/* The letters of these offsets, ascending, are gone. 0, also where there was none, or a negative
 * errno: they are there. Writes the whole file: for many at a time. */
int dead_remove(struct dead_letters *d, const uint64_t *offsets, unsigned count);
/* One past the highest offset that a letter has, or had since it was opened. */
uint64_t dead_end(struct dead_letters *d);
/* How many, and their bytes. */
void dead_count(struct dead_letters *d, uint64_t *ret_count, uint64_t *ret_bytes);
