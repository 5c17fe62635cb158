/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An index entry is 8 bytes: the low half of the hash and the number of a head (0 = empty), linear
 * probing, at most 3/4 full, removal by moving later entries back. A million subjects have an index
 * of 16 MB at most, which the last-level cache may hold, so a cold decision costs two misses: head
 * and ring. Heads directly in an open-addressed table were tried on paper: a miss less in theory,
 * but a third of the memory empty, and growing a shard would move megabytes under its lock.
 *
 * Locks: any number of shards in ascending order; then the heads' lock or one of the slab's.
 * tend_next, which comes while shards are held, only tries.
 */
#include "gate/subjects.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/metric.h"
#include "base/rand.h"
#include "gate/region.h"
#include "gate/ring.h"
#include "gate/window.h"

#define HEADS_PER_REGION (REGION_BYTES / sizeof(struct subject))
#define TEND_EVERY_NS    (100 * NS_PER_MS) /* a million subjects are gone through in a minute */
#define TEND_ENTRIES     8u
#define TEND_GROWN       2u /* smaller rings are not worth the cache miss */
#define RECLAIM_SHARDS   16u
#define RECLAIM_ENTRIES  32u

struct entry {
    uint32_t hash;
    uint32_t head; /* 0 = empty */
};

/* The index arrays of all shards that have `size` entries each, in one mapping, so that huge pages
 * can back it. A shard that grows moves to the next generation by itself; the one it leaves is
 * unmapped with the last shard. Guarded by generations_lock. */
struct generation {
    struct entry *entries;
    uint32_t size;   /* entries of one shard */
    uint32_t shards; /* that use it */
    struct generation *newer;
};

struct shard {
    _Alignas(64) struct spin lock;
    uint32_t used;
    uint32_t tend_at; /* next entry to look at */
    uint64_t tend_ns;
    struct entry *_Atomic entries; /* read without the lock only to prefetch */
    _Atomic uint32_t mask;         /* number of entries - 1 */
    struct generation *generation;
};

struct subjects {
    struct shard shards[SHARDS];
    uint64_t seed;
    uint64_t subjects_max;
    struct slab *slab;
    struct subject **regions;
    uint32_t regions_max;
    uint64_t failing_max;
    _Alignas(64) _Atomic uint64_t subjects; /* written with each insertion: a line of its own */
    _Atomic uint64_t index_bytes;
    _Atomic uint32_t next_shard; /* to be looked at by whoever passes by another */
    _Alignas(64) struct spin heads_lock;
    uint32_t heads_made; /* numbers 1.. */
    uint32_t free_head;  /* 0 = none */
    uint64_t failing;    /* heads of failing credentials */
    struct spin generations_lock;
    struct generation *oldest;
};

static size_t generation_bytes(const struct generation *g)
{
    return (size_t)g->size * SHARDS * sizeof(struct entry);
}

struct subjects *subjects_new(uint64_t subjects_max, uint64_t memory_max)
{
    CHECK(subjects_max > 0 && subjects_max < UINT32_MAX - HEADS_PER_REGION);
    struct subjects *t = aligned_alloc(64, sizeof *t);
    if (!t)
        return NULL;
    memset(t, 0, sizeof *t);
    rand_secret(&t->seed, sizeof t->seed);
    t->subjects_max = subjects_max;
    t->failing_max = subjects_max / SUBJECTS_FAILING_PART + 1;
    t->regions_max = (uint32_t)(subjects_max / HEADS_PER_REGION + 1);
    t->regions = calloc(t->regions_max, sizeof *t->regions);
    t->slab = slab_new(memory_max);
    if (!t->regions || !t->slab) {
        subjects_free(t);
        return NULL;
    }
    return t;
}

void subjects_free(struct subjects *t)
{
    if (!t)
        return;
    metric_move(METRIC_throttle_subjects, -(int64_t)t->subjects);
    for (struct generation *g = t->oldest, *newer; g; g = newer) {
        newer = g->newer;
        region_unmap(g->entries, generation_bytes(g));
        free(g);
    }
    for (uint32_t i = 0; t->regions && i < t->regions_max; i++)
        region_unmap(t->regions[i], REGION_BYTES);
    free(t->regions);
    slab_free(t->slab);
    free(t);
}

uint64_t subjects_hash(const struct subjects *t, struct throttle_subject key)
{
    uint64_t bytes[2] = {key.id, (uint64_t)key.kind};
    return XXH3_64bits_withSeed(bytes, sizeof bytes, t->seed);
}

void subjects_lock(struct subjects *t, unsigned shard)
{
    spin_lock(&t->shards[shard].lock);
}

void subjects_unlock(struct subjects *t, unsigned shard)
{
    spin_unlock(&t->shards[shard].lock);
}

struct slab *subjects_slab(struct subjects *t)
{
    return t->slab;
}

/* ---- heads --------------------------------------------------------------------------------- */

static struct subject *head_at(const struct subjects *t, uint32_t number)
{
    uint32_t i = number - 1;
    return &t->regions[i / HEADS_PER_REGION][i % HEADS_PER_REGION];
}

static bool is_failing(uint8_t kind)
{
    return kind == THROTTLE_FAILURE_CREDENTIAL || kind == THROTTLE_FAILURE_PAIR ||
           kind == THROTTLE_FAILURE_FIRST;
}

/* Number of a free head, or 0: the maximum is reached or there is no memory. */
static uint32_t take_head(struct subjects *t, uint8_t kind)
{
    uint32_t number = 0;
    spin_lock(&t->heads_lock);
    if (is_failing(kind) && t->failing >= t->failing_max) {
        /* none */
    } else if (t->free_head) {
        number = t->free_head;
        t->free_head = (uint32_t)head_at(t, number)->id;
    } else if (t->heads_made < t->subjects_max) {
        struct subject **region = &t->regions[t->heads_made / HEADS_PER_REGION];
        if (!*region)
            *region = region_map(REGION_BYTES);
        if (*region)
            number = ++t->heads_made;
    }
    t->failing += number && is_failing(kind);
    spin_unlock(&t->heads_lock);
    if (number) {
        t->subjects++;
        metric_move(METRIC_throttle_subjects, 1);
    }
    return number;
}

static void give_head(struct subjects *t, uint32_t number)
{
    struct subject *s = head_at(t, number);
    window_clear_all(s, t->slab);
    spin_lock(&t->heads_lock);
    t->failing -= is_failing(s->kind);
    s->kind = 0;
    s->id = t->free_head;
    t->free_head = number;
    spin_unlock(&t->heads_lock);
    t->subjects--;
    metric_move(METRIC_throttle_subjects, -1);
}

/* ---- the index of a shard ------------------------------------------------------------------- */

static struct entry *entries_of(struct shard *sh)
{
    return atomic_load_explicit(&sh->entries, memory_order_relaxed);
}

static uint32_t mask_of(struct shard *sh)
{
    return atomic_load_explicit(&sh->mask, memory_order_relaxed);
}

static void put_entry(struct entry *entries, uint32_t mask, struct entry e)
{
    uint32_t i = e.hash & mask;
    while (entries[i].head)
        i = (i + 1) & mask;
    entries[i] = e;
}

/* The generation with `size` entries, made if it is missing and already counting the caller's
 * shard. NULL: no memory. */
static struct generation *join_generation(struct subjects *t, uint32_t size)
{
    spin_lock(&t->generations_lock);
    struct generation **at = &t->oldest;
    while (*at && (*at)->size < size)
        at = &(*at)->newer;
    struct generation *g = *at;
    if (!g || g->size != size) {
        g = calloc(1, sizeof *g);
        if (g) {
            *g = (struct generation){.size = size, .newer = *at};
            g->entries = region_map(generation_bytes(g));
        }
        if (g && g->entries) {
            t->index_bytes += generation_bytes(g);
            *at = g;
        } else {
            free(g);
            g = NULL;
        }
    }
    if (g)
        g->shards++;
    spin_unlock(&t->generations_lock);
    return g;
}

static void leave_generation(struct subjects *t, struct generation *g)
{
    spin_lock(&t->generations_lock);
    bool empty = --g->shards == 0;
    if (empty) {
        struct generation **at = &t->oldest;
        while (*at != g)
            at = &(*at)->newer;
        *at = g->newer;
        t->index_bytes -= generation_bytes(g);
    }
    spin_unlock(&t->generations_lock);
    if (empty) {
        region_unmap(g->entries, generation_bytes(g));
        free(g);
    }
}

static bool grow(struct subjects *t, struct shard *sh)
{
    struct generation *was = sh->generation;
    uint32_t size = was ? was->size : 0;
    struct generation *now = join_generation(t, size ? size * 2 : 8);
    if (!now)
        return false;
    struct entry *from = entries_of(sh);
    struct entry *entries = now->entries + (size_t)(sh - t->shards) * now->size;
    for (uint32_t i = 0; i < size; i++) {
        if (from[i].head)
            put_entry(entries, now->size - 1, from[i]);
    }
    atomic_store_explicit(&sh->entries, entries, memory_order_relaxed);
    atomic_store_explicit(&sh->mask, now->size - 1, memory_order_relaxed);
    sh->generation = now;
    if (was)
        leave_generation(t, was);
    return true;
}

/* The place of the subject's entry, or -1. */
static int64_t place_of(struct subjects *t, struct shard *sh, uint64_t hash,
                        struct throttle_subject key)
{
    struct entry *entries = entries_of(sh);
    uint32_t mask = mask_of(sh);
    if (!entries)
        return -1;
    for (uint32_t i = (uint32_t)hash & mask; entries[i].head; i = (i + 1) & mask) {
        if (entries[i].hash != (uint32_t)hash)
            continue;
        const struct subject *s = head_at(t, entries[i].head);
        if (s->id == key.id && s->kind == (uint8_t)key.kind)
            return i;
    }
    return -1;
}

/* Removes the entry and its head. Later entries of the run move back, so none becomes unfindable.
 */
static void remove_place(struct subjects *t, struct shard *sh, uint32_t hole)
{
    struct entry *entries = entries_of(sh);
    uint32_t mask = mask_of(sh);
    give_head(t, entries[hole].head);
    sh->used--;
    for (uint32_t i = (hole + 1) & mask; entries[i].head; i = (i + 1) & mask) {
        uint32_t home = entries[i].hash & mask;
        if (((i - home) & mask) < ((i - hole) & mask))
            continue; /* it stands between its home and the hole: stays */
        entries[hole] = entries[i];
        hole = i;
    }
    entries[hole] = (struct entry){0};
}

struct subject *subjects_find(struct subjects *t, uint64_t hash, struct throttle_subject key)
{
    struct shard *sh = &t->shards[subjects_shard(hash)];
    int64_t place = place_of(t, sh, hash, key);
    return place < 0 ? NULL : head_at(t, entries_of(sh)[place].head);
}

struct subject *subjects_insert(struct subjects *t, uint64_t hash, struct throttle_subject key)
{
    struct shard *sh = &t->shards[subjects_shard(hash)];
    bool crowded = !entries_of(sh) || (sh->used + 1) * 4ull > (mask_of(sh) + 1ull) * 3;
    if (crowded && !grow(t, sh))
        return NULL;
    uint32_t number = take_head(t, (uint8_t)key.kind);
    if (!number)
        return NULL;
    struct subject *s = head_at(t, number);
    *s = (struct subject){.id = key.id, .kind = (uint8_t)key.kind};
    put_entry(entries_of(sh), mask_of(sh), (struct entry){(uint32_t)hash, number});
    sh->used++;
    return s;
}

void subjects_remove(struct subjects *t, uint64_t hash, struct throttle_subject key)
{
    struct shard *sh = &t->shards[subjects_shard(hash)];
    int64_t place = place_of(t, sh, hash, key);
    if (place >= 0)
        remove_place(t, sh, (uint32_t)place);
}

/* ---- tending -------------------------------------------------------------------------------- */

/* Looks at the next `count` entries. Returns how many subjects it removed. */
static unsigned tend(struct subjects *t, struct shard *sh, unsigned count, uint64_t now_ns)
{
    unsigned removed = 0;
    uint32_t mask = mask_of(sh);
    if (!sh->used)
        return 0;
    struct entry *entries = entries_of(sh);
    for (unsigned i = 0; i < count; i++) {
        uint32_t number = entries[(sh->tend_at + i) & mask].head;
        if (number)
            __builtin_prefetch(head_at(t, number));
    }
    for (; count > 0; count--) {
        uint32_t i = sh->tend_at & mask;
        struct subject *s = entries[i].head ? head_at(t, entries[i].head) : NULL;
        if (s && s->idle_at_ns <= now_ns) {
            remove_place(t, sh, i); /* another entry may stand here now: look again */
            removed++;
            continue;
        }
        if (s && s->grown >= TEND_GROWN)
            ring_shrink(s, t->slab, s->idle_at_ns - s->last_ns, now_ns);
        sh->tend_at = (i + 1) & mask;
    }
    return removed;
}

/* Removes a failing credential that is idle or failed less than `few` times, if one of the next
 * `count` entries is of such. */
static unsigned displace(struct subjects *t, struct shard *sh, unsigned count, uint32_t few,
                         uint64_t now_ns)
{
    struct entry *entries = entries_of(sh);
    uint32_t mask = mask_of(sh);
    for (; sh->used && count > 0; count--) {
        uint32_t i = sh->tend_at & mask;
        const struct subject *s = entries[i].head ? head_at(t, entries[i].head) : NULL;
        if (s && is_failing(s->kind) && (s->idle_at_ns <= now_ns || (s->len < few && !s->meters))) {
            remove_place(t, sh, i);
            return 1;
        }
        sh->tend_at = (i + 1) & mask;
    }
    return 0;
}

/* The next shard whose turn it is, unless it is locked: by someone else, or by the caller. With
 * `few` a failing credential makes room, else whoever is idle. */
static unsigned tend_next(struct subjects *t, unsigned count, uint32_t few, uint64_t now_ns)
{
    struct shard *sh = &t->shards[t->next_shard++ % SHARDS];
    if (atomic_flag_test_and_set_explicit(&sh->lock.held, memory_order_acquire))
        return 0;
    unsigned removed = few ? displace(t, sh, count, few, now_ns) : tend(t, sh, count, now_ns);
    spin_unlock(&sh->lock);
    return removed;
}

void subjects_tend(struct subjects *t, unsigned shard, uint64_t now_ns)
{
    struct shard *sh = &t->shards[shard];
    if (__builtin_expect(now_ns >= sh->tend_ns, 0)) {
        sh->tend_ns = now_ns + TEND_EVERY_NS;
        tend(t, sh, TEND_ENTRIES, now_ns);
        tend_next(t, TEND_ENTRIES, 0, now_ns);
    } else if (__builtin_expect(t->subjects >= t->subjects_max, 0)) {
        tend(t, sh, 2, now_ns);
    }
}

bool subjects_reclaim(struct subjects *t, struct throttle_subject key, uint32_t few,
                      uint64_t now_ns)
{
    bool failing = is_failing((uint8_t)key.kind);
    for (unsigned i = 0; i < RECLAIM_SHARDS; i++) {
        if (tend_next(t, RECLAIM_ENTRIES, failing ? few : 0, now_ns))
            return true;
    }
    return false;
}

/* ---- the rest ------------------------------------------------------------------------------- */

void subjects_prefetch(struct subjects *t, uint64_t hash)
{
    struct shard *sh = &t->shards[subjects_shard(hash)];
    struct entry *entries = entries_of(sh);
    if (entries)
        __builtin_prefetch(&entries[(uint32_t)hash & mask_of(sh)]);
}

void subjects_prefetch_head(struct subjects *t, uint64_t hash)
{
    struct shard *sh = &t->shards[subjects_shard(hash)];
    struct entry *entries = entries_of(sh);
    uint32_t mask = mask_of(sh);
    if (!entries)
        return;
    for (uint32_t i = (uint32_t)hash & mask; entries[i].head; i = (i + 1) & mask) {
        if (entries[i].hash == (uint32_t)hash) {
            __builtin_prefetch(head_at(t, entries[i].head), 1);
            return;
        }
    }
}

struct throttle_stats subjects_stats(struct subjects *t)
{
    uint64_t subjects = t->subjects;
    return (struct throttle_stats){
        .subjects = subjects,
        .bytes = subjects * sizeof(struct subject) + t->index_bytes + slab_bytes(t->slab),
    };
}
