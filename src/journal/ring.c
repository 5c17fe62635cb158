/* SPDX-License-Identifier: Apache-2.0 */
#include "journal/ring.h"

#include <stdlib.h>

#include "base/check.h"

#define SLAB_BYTES_MAX (1u << 20)
#define SLAB_BYTES_MIN (64u << 10)
#define SPARES_MAX     4

void ring_init(struct ring *r, size_t bytes_max)
{
    size_t slab = bytes_max / 8;
    if (slab > SLAB_BYTES_MAX)
        slab = SLAB_BYTES_MAX;
    if (slab < SLAB_BYTES_MIN)
        slab = SLAB_BYTES_MIN;
    *r = (struct ring){.bytes_max = bytes_max, .slab_bytes = slab};
    pthread_mutex_init(&r->lock, NULL);
}

void ring_fini(struct ring *r)
{
    struct slab *lists[] = {r->oldest, r->spare};
    for (unsigned i = 0; i < 2; i++) {
        for (struct slab *s = lists[i], *next; s; s = next) {
            next = s->next;
            CHECK(i == 1 || s->refs == 1);
            free(s);
        }
    }
    pthread_mutex_destroy(&r->lock);
    *r = (struct ring){0};
}

/* Under the lock. */
static void drop_ref(struct ring *r, struct slab *s)
{
    CHECK(s->refs > 0);
    if (--s->refs)
        return;
    if (s->cap != r->slab_bytes || r->spare_count == SPARES_MAX) {
        free(s);
        return;
    }
    s->next = r->spare;
    r->spare = s;
    r->spare_count++;
}

/* Under the lock: oldest slabs go while there is too much. Never the newest, never one that is not
 * all committed: the writer still needs those. */
static void evict(struct ring *r)
{
    while (r->bytes > r->bytes_max && r->oldest != r->newest &&
           r->oldest->used == atomic_load_explicit(&r->oldest->committed, memory_order_relaxed)) {
        struct slab *s = r->oldest;
        r->oldest = s->next;
        s->next = NULL;
        r->bytes -= s->cap;
        drop_ref(r, s);
    }
}

static struct slab *slab_take(struct ring *r, size_t need)
{
    if (need <= r->slab_bytes && r->spare) {
        struct slab *s = r->spare;
        r->spare = s->next;
        r->spare_count--;
        return s;
    }
    size_t cap = need > r->slab_bytes ? need : r->slab_bytes;
    struct slab *s = malloc(sizeof *s + cap);
    if (s)
        s->cap = cap;
    return s;
}

struct slab *ring_reserve(struct ring *r, size_t need, uint64_t offset, uint64_t base,
                          uint64_t position)
{
    struct slab *s = r->newest;
    if (s && need <= s->cap - s->used && s->segment_base == base &&
        s->file_position + s->used == position)
        return s;
    pthread_mutex_lock(&r->lock);
    s = slab_take(r, need);
    if (s) {
        size_t cap = s->cap;
        *s = (struct slab){.first_offset = offset,
                           .segment_base = base,
                           .refs = 1,
                           .cap = cap,
                           .file_position = position};
        atomic_store_explicit(&s->end_offset, offset, memory_order_relaxed);
        if (r->newest)
            r->newest->next = s;
        else
            r->oldest = s;
        r->newest = s;
        r->bytes += cap;
        evict(r);
    }
    pthread_mutex_unlock(&r->lock);
    return s;
}

void ring_rollback(struct ring *r)
{
    pthread_mutex_lock(&r->lock);
    for (struct slab *s = r->oldest; s; s = s->next)
        s->used = atomic_load_explicit(&s->committed, memory_order_relaxed);
    pthread_mutex_unlock(&r->lock);
}

struct slab *ring_find(struct ring *r, uint64_t offset)
{
    pthread_mutex_lock(&r->lock);
    struct slab *s = r->oldest;
    while (s && (offset < s->first_offset ||
                 offset >= atomic_load_explicit(&s->end_offset, memory_order_acquire)))
        s = s->next;
    if (s)
        s->refs++;
    pthread_mutex_unlock(&r->lock);
    return s;
}

void ring_unref(struct ring *r, struct slab *s)
{
    if (!s)
        return;
    pthread_mutex_lock(&r->lock);
    drop_ref(r, s);
    pthread_mutex_unlock(&r->lock);
}
