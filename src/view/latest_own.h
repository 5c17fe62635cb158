/* SPDX-License-Identifier: Apache-2.0 */
/*
 * view/latest_own.h - what latest.c (the table) and latest_file.c (the snapshot) share.
 */
#pragma once

#include <stdatomic.h>

#include "base/thread.h"
#include "flow/limits.h"
#include "view/latest.h"
#include "view/pace.h"

enum {
    LATEST_SHARDS = 256, /* by the hash's first byte */
    INLINE_BYTES = 24,
    LATEST_PAYLOAD_MAX = VALUE_BIG_MAX + 25, /* with flags and place */
};

struct latest_entry {
    uint64_t feed; /* 0: a free place */
    int64_t event_us;
    uint64_t offset;
    uint64_t version; /* one past the last record about the feed's data */
    uint32_t key_id;  /* what the payload was sealed by, and is again in the snapshot; 0: nothing */
    uint32_t len : 31;
    uint32_t gone : 1;
    char bytes[INLINE_BYTES]; /* the record's payload, or, if longer, a pointer to it */
};

_Static_assert(sizeof(struct latest_entry) == 64, "one cache line");

struct latest_shard {
    struct spin lock;
    uint32_t places, count;
    struct latest_entry *at;
} __attribute__((aligned(64)));

struct latest {
    struct latest_shard shards[LATEST_SHARDS];
    struct latest_opts opts;
    char *path;
    struct sealer *sealer; /* of the snapshot; NULL: nothing is sealed */
    struct buf opened;
    uint64_t applied; /* next offset to apply */
    uint64_t saved;   /* cursor of the snapshot file */
    struct pace pace;
    _Atomic uint64_t feeds, bytes;
};

struct latest *latest_new(const struct latest_opts *opts);
/* Sets the feed's entry: the fields of `e` but for its bytes, and a copy of the payload. */
void latest_put(struct latest *l, const struct latest_entry *e, struct slice payload);
const char *latest_payload(const struct latest_entry *e);
