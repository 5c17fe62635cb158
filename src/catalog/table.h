/* SPDX-License-Identifier: Apache-2.0 */
/*
 * catalog/table.h - a sharded hash table of counted records. One writer thread (the catalog's), any
 * number of readers. It borrows the records: the writer takes a record out of every table before it
 * gives the catalog's reference back, so a reader that found one under the shard's lock may count
 * itself in.
 *
 * Open addressing with linear probing; a slot holds the whole 64-bit hash, so that a probe reads
 * only records that match, and growing reads none. A shard grows beside the readers: the writer
 * fills the new array unlocked (nobody else writes) and swaps it in under the lock.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/thread.h"

/* What all records of flow/principal.h begin with; memory.c asserts it. */
struct counted {
    _Atomic uint32_t refs;
    uint64_t number;
};

struct table_slot {
    uint64_t hash;
    struct counted *record; /* NULL: free */
};

#define TABLE_SHARDS 64u /* a power of two; the hash's top bits choose */

struct table_shard {
    _Alignas(64) struct spin lock;
    uint32_t count;
    uint64_t mask; /* slots - 1 */
    struct table_slot *slots;
};

struct table {
    struct table_shard shards[TABLE_SHARDS];
};

/* Any thread: asks for the cache line of the place where `hash` is looked for, or (when that is
 * here) for the first `bytes` of the record that stands there and for the line at `text`. */
void table_fetch(struct table *t, uint64_t hash, size_t bytes, size_t text, bool place_is_here);

typedef bool (*table_match)(const struct counted *record, const void *key);

void table_init(struct table *t);
/* Frees the slots, not the records. */
void table_fini(struct table *t);

/* Writer only: the record itself, no new reference; NULL if there is none. */
struct counted *table_find(const struct table *t, uint64_t hash, table_match match,
                           const void *key);
/* Writer only: enters `record`, in the place of `old` when that is not NULL. Aborts without memory:
 * what is durable and cannot be shown would be a lie. */
void table_put(struct table *t, uint64_t hash, const struct counted *old, struct counted *record);
/* Writer only: takes out a record that is in it. */
void table_remove(struct table *t, uint64_t hash, const struct counted *record);

/* Any thread: a new reference, or NULL. */
static inline struct counted *table_take(struct table *t, uint64_t hash, table_match match,
                                         const void *key)
{
    struct table_shard *s = &t->shards[hash / (UINT64_MAX / TABLE_SHARDS + 1)];
    struct counted *found = NULL;
    spin_lock(&s->lock);
    for (uint64_t i = hash & s->mask; s->slots[i].record; i = (i + 1) & s->mask) {
        if (s->slots[i].hash == hash && match(s->slots[i].record, key)) {
            found = s->slots[i].record;
            atomic_fetch_add_explicit(&found->refs, 1, memory_order_relaxed);
            break;
        }
    }
    spin_unlock(&s->lock);
    return found;
}
