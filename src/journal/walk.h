/* SPDX-License-Identifier: Apache-2.0 */
/*
 * journal/walk.h - goes through the batches of one segment file, checking each. Recovery, readers
 * and the tools all read through it. Owned by its caller, one thread.
 */
#pragma once

#include "base/error.h"
#include "base/slice.h"
#include "journal/disk.h"
#include "journal/format.h"

struct walk {
    struct disk *disk;
    struct disk_file *file;
    struct segment_header head;
    uint64_t size;     /* of the file */
    uint64_t position; /* where the next batch begins */
    uint64_t buf_at;   /* what is read ahead: [buf_at, buf_at + buf_len) of the file */
    size_t buf_len, buf_cap;
    char *buf;
    const char *why; /* after WALK_BAD: what is wrong, in words */
};

enum walk_result {
    WALK_BATCH = 1,
    WALK_END,   /* zeros, a footer, or the end of the file: no batch here */
    WALK_BAD,   /* something, but not a whole batch; `why` says what */
    WALK_NEWER, /* a batch of a later format */
};

/* Reads the header of segment `path`. 0; -EBADMSG (header damaged), -EPROTONOSUPPORT (a newer
 * format), or another negative errno. On failure nothing is held. */
int walk_open(struct walk *w, struct disk *disk, const char *path, struct error *err);
/* Accepts a zeroed struct. */
void walk_close(struct walk *w);

/*
 * The batch at `position`; moves behind it. Bodies of batches that end at or below `from` are not
 * read. *ret_body is valid until the next call and empty for skipped ones. One of enum walk_result
 * or a negative errno; only WALK_BATCH moves, *ret is also set when only the body is bad
 * (`why` is "body").
 */
int walk_next(struct walk *w, uint64_t from, struct batch_header *ret, struct slice *ret_body);

/*
 * The next whole batch header at or behind `at` whose durable_before is above `durable_above` or
 * whose base_offset is at or above `base_from` (OFFSET_NONE turns either off). 1 and its place, 0
 * when there is none, or a negative errno. *ret_used: one past the last byte that is not zero.
 */
int walk_search(struct walk *w, uint64_t at, uint64_t durable_above, uint64_t base_from,
                uint64_t *ret_position, uint64_t *ret_used);

extern const char walk_bad_body[];
