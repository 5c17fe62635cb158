/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gate/subjects.h - finds a subject's head. 512 shards, each an index under its own spinlock; the
 * heads lie densely in 2 MiB regions and never move. Owned by the throttle; any thread.
 *
 * Subjects whose windows are all empty are removed: a few of the shard and of another one are
 * looked at now and then by whoever passes by, more when the table is full. So shards that nobody
 * asks for give back their memory too. One that still counts is never removed, but for failing
 * credentials: a stranger makes up as many as he likes, so they have a part of the table only,
 * where a new one takes the place of one that is not kept out yet.
 */
#pragma once

#include "base/thread.h"
#include "gate/subject.h"
#include "gate/throttle.h"

#define SHARDS                512u
#define SUBJECTS_FAILING_PART 8u /* of subjects_max: failing credentials */

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
/* The head of a subject that subjects_find did not find, empty, with last_ns = 0. NULL: full, or
 * the part of its kind is. */
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
/* After subjects_insert said full: looks in some other shards for an idle subject; for a failing
 * credential, for another one, idle or with less than `few` failures, which is at least 1. True:
 * one made room. The caller may hold locks: it only tries the others'. */
bool subjects_reclaim(struct subjects *t, struct throttle_subject key, uint32_t few,
                      uint64_t now_ns);
struct throttle_stats subjects_stats(struct subjects *t);
