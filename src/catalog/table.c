/* SPDX-License-Identifier: Apache-2.0 */
#include "catalog/table.h"

#include <stdlib.h>

#include "base/check.h"

#define SLOTS_FIRST 8u

static struct table_shard *shard_of(struct table *t, uint64_t hash)
{
    return &t->shards[hash / (UINT64_MAX / TABLE_SHARDS + 1)];
}

static struct table_slot *slots_new(uint64_t n)
{
    struct table_slot *slots = calloc(n, sizeof *slots);
    CHECK(slots);
    return slots;
}

void table_init(struct table *t)
{
    for (unsigned i = 0; i < TABLE_SHARDS; i++) {
        struct table_shard *s = &t->shards[i];
        *s = (struct table_shard){.mask = SLOTS_FIRST - 1, .slots = slots_new(SLOTS_FIRST)};
    }
}

void table_fini(struct table *t)
{
    for (unsigned i = 0; i < TABLE_SHARDS; i++) {
        free(t->shards[i].slots);
        t->shards[i].slots = NULL;
    }
}

struct counted *table_find(const struct table *t, uint64_t hash, table_match match, const void *key)
{
    const struct table_shard *s = &t->shards[hash / (UINT64_MAX / TABLE_SHARDS + 1)];
    for (uint64_t i = hash & s->mask; s->slots[i].record; i = (i + 1) & s->mask) {
        if (s->slots[i].hash == hash && match(s->slots[i].record, key))
            return s->slots[i].record;
    }
    return NULL;
}

void table_fetch(struct table *t, uint64_t hash, size_t bytes, size_t text, bool place_is_here)
{
    struct table_shard *s = shard_of(t, hash);
    spin_lock(&s->lock);
    uint64_t i = hash & s->mask;
    if (place_is_here) {
        while (s->slots[i].record && s->slots[i].hash != hash)
            i = (i + 1) & s->mask;
        const char *record = (const char *)s->slots[i].record;
        for (size_t at = 0; record && at < bytes; at += 64)
            __builtin_prefetch(record + at);
        if (record)
            __builtin_prefetch(record + text);
    } else {
        __builtin_prefetch(&s->slots[i]);
    }
    spin_unlock(&s->lock);
}

static uint64_t free_slot(const struct table_slot *slots, uint64_t mask, uint64_t hash)
{
    uint64_t i = hash & mask;
    while (slots[i].record)
        i = (i + 1) & mask;
    return i;
}

static void grow(struct table_shard *s)
{
    uint64_t n = (s->mask + 1) * 2;
    struct table_slot *slots = slots_new(n), *old = s->slots;
    for (uint64_t i = 0; i <= s->mask; i++) {
        if (old[i].record)
            slots[free_slot(slots, n - 1, old[i].hash)] = old[i];
    }
    spin_lock(&s->lock);
    s->slots = slots;
    s->mask = n - 1;
    spin_unlock(&s->lock);
    free(old);
}

/* Where the record is; it must be there. */
static uint64_t slot_of(const struct table_shard *s, uint64_t hash, const struct counted *record)
{
    uint64_t i = hash & s->mask;
    while (s->slots[i].record != record) {
        CHECK(s->slots[i].record);
        i = (i + 1) & s->mask;
    }
    return i;
}

void table_put(struct table *t, uint64_t hash, const struct counted *old, struct counted *record)
{
    struct table_shard *s = shard_of(t, hash);
    if (!old && (s->count + 1ull) * 4 > (s->mask + 1) * 3)
        grow(s);
    uint64_t i = old ? slot_of(s, hash, old) : free_slot(s->slots, s->mask, hash);
    spin_lock(&s->lock);
    s->slots[i] = (struct table_slot){.hash = hash, .record = record};
    spin_unlock(&s->lock);
    if (!old)
        s->count++;
}

void table_remove(struct table *t, uint64_t hash, const struct counted *record)
{
    struct table_shard *s = shard_of(t, hash);
    uint64_t hole = slot_of(s, hash, record);
    spin_lock(&s->lock);
    /* Knuth's algorithm R (TAOCP 6.4): what probed past the hole moves back into it, so that no
     * probe ends early and no tombstones pile up. */
    for (uint64_t i = (hole + 1) & s->mask; s->slots[i].record; i = (i + 1) & s->mask) {
        uint64_t home = s->slots[i].hash & s->mask;
        if (((i - home) & s->mask) >= ((i - hole) & s->mask)) {
            s->slots[hole] = s->slots[i];
            hole = i;
        }
    }
    s->slots[hole] = (struct table_slot){0};
    spin_unlock(&s->lock);
    s->count--;
}
