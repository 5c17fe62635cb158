/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gate/subjects.h - finds a subject's head. 512 shards, each an index under its own spinlock; the
 * heads lie densely in 2 MiB regions and never move. Owned by the throttle; any thread.
 *
 * Subjects whose windows are all empty are removed: a few of the shard and of another one are
 * looked at now and then by whoever passes by, more when the table is full. So shards that nobody
 * asks for give back their memory too. One that still counts is never removed.
 */
#pragma once

#include "base/thread.h"
#include "gate/subject.h"
#include "gate/throttle.h"

#define SHARDS 512u

struct subjects;

struct subjects *subjects_new(uint64_t subjects_max, uint64_t memory_max);
void subjects_free(struct subjects *t);

/* A keyed hash; its top bits choose the shard. */
uint64_t subjects_hash(const struct subjects *t, struct throttle_subject key);

static inline unsigned subjects_shard(uint64_t hash)
{
    return (unsigned)(hash >> 55);
}

void subjects_lock(struct subjects *t, unsigned shard);
void subjects_unlock(struct subjects *t, unsigned shard);

/* ---- all of these under the shard's lock --------------------------------------------------- */
/* NULL: nothing is counted of it. The head stays until the lock is released, and longer while its
 * windows are not empty. */
struct subject *subjects_find(struct subjects *t, uint64_t hash, struct throttle_subject key);
/* The head of a subject that subjects_find did not find, empty, with last_ns = 0. NULL: full. */
struct subject *subjects_insert(struct subjects *t, uint64_t hash, struct throttle_subject key);
void subjects_remove(struct subjects *t, uint64_t hash, struct throttle_subject key);
/* Once in a while (or when the table is full) removes idle subjects of the shard and of another one
 * that nobody holds, and shrinks rings that stand empty. Heads found before are invalid after it.
 */
void subjects_tend(struct subjects *t, unsigned shard, uint64_t now_ns);

/* Asks for the cache line where the search begins. No lock. */
void subjects_prefetch(struct subjects *t, uint64_t hash);
/* Asks for the subject's head. Under the lock. */
void subjects_prefetch_head(struct subjects *t, uint64_t hash);

struct slab *subjects_slab(struct subjects *t);
/* After subjects_insert said full: looks for an idle subject in some other shards. True: one made
 * room. The caller may hold locks: it only tries the others'. */
bool subjects_reclaim(struct subjects *t, uint64_t now_ns);
struct throttle_stats subjects_stats(struct subjects *t);
