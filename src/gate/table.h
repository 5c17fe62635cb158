/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gate/table.h - finds a subject's head. 512 shards, each an index under its own spinlock; the
 * heads lie densely in 2 MiB regions and never move. Owned by the throttle; any thread.
 *
 * Subjects whose windows are all empty are removed: a few are looked at now and then by whoever
 * passes by, more when the table is full. One that still counts is never removed.
 */
#pragma once

#include "base/thread.h"
#include "gate/subject.h"
#include "gate/throttle.h"

#define SHARDS 512u

struct table;

struct table *table_new(uint64_t subjects_max, uint64_t memory_max);
void table_free(struct table *t);

/* A keyed hash; its top bits choose the shard. */
uint64_t table_hash(const struct table *t, struct throttle_subject key);

static inline unsigned table_shard(uint64_t hash)
{
    return (unsigned)(hash >> 55);
}

void table_lock(struct table *t, unsigned shard);
void table_unlock(struct table *t, unsigned shard);

/* ---- all of these under the shard's lock --------------------------------------------------- */
/* NULL: nothing is counted of it. The head stays until the lock is released, and longer while its
 * windows are not empty. */
struct subject *table_find(struct table *t, uint64_t hash, struct throttle_subject key);
/* The head of a subject that table_find did not find, empty, with last_ns = 0. NULL: full. */
struct subject *table_insert(struct table *t, uint64_t hash, struct throttle_subject key);
void table_remove(struct table *t, uint64_t hash, struct throttle_subject key);
/* Once in a while (or when the table is full) removes idle subjects of the shard and shrinks rings
 * that stand empty. Heads found before are invalid after it. */
void table_tend(struct table *t, unsigned shard, uint64_t now_ns);

/* Asks for the cache line where the search begins. No lock. */
void table_prefetch(struct table *t, uint64_t hash);
/* Asks for the subject's head. Under the lock. */
void table_prefetch_head(struct table *t, uint64_t hash);

struct slab *table_slab(struct table *t);
/* After table_insert said full: looks for an idle subject in some other shards. True: one made
 * room. The caller may hold locks: it only tries the others'. */
bool table_reclaim(struct table *t, uint64_t now_ns);
struct throttle_stats table_stats(struct table *t);
