/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A chunk is 64 KiB, aligned to its size, and begins with its header; an object finds its chunk by
 * masking its address. Invariants:
 *  1. a chunk with a free object is in its size's `partial` list; a full one is in no list;
 *  2. a chunk without objects in use belongs to the arena, except the last partial one of a size,
 *     which is kept so that take and give in turn do not move chunks about;
 *  3. locks: a size's lock, then the arena's; never two sizes.
 */
#include "gate/slab.h"

#include <stdbool.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/thread.h"
#include "gate/region.h"

#define CHUNK_BYTES ((size_t)64 << 10)
#define CHUNKS      (REGION_BYTES / CHUNK_BYTES)
#define CHUNK_MAGIC 0x51ab51abu

struct free_object {
    struct free_object *next;
};

struct chunk {
    uint32_t magic;
    uint32_t used;
    struct free_object *free; /* objects given back */
    char *fresh;              /* objects never handed out begin here */
    struct chunk *next, *prev;
    uint8_t unused[24];
};
_Static_assert(sizeof(struct chunk) == 64, "objects stay aligned to cache lines");

struct pool {
    _Alignas(64) struct spin lock;
    struct chunk *partial;
};

struct region {
    struct region *next;
    void *memory;
};

struct slab {
    struct pool pools[SLAB_SIZES];
    _Alignas(64) struct spin lock; /* the arena's */
    struct chunk *chunks;          /* free ones */
    struct region *regions;
    uint64_t regions_bytes, bytes_max;
    _Atomic uint64_t bytes;
};

static const size_t sizes[SLAB_SIZES] = {32, 64, 128, 256, 512, 320};

struct slab *slab_new(uint64_t bytes_max)
{
    struct slab *s = aligned_alloc(64, sizeof *s);
    if (!s)
        return NULL;
    *s = (struct slab){.bytes_max = bytes_max};
    return s;
}

void slab_free(struct slab *s)
{
    if (!s)
        return;
    for (struct region *r = s->regions, *next; r; r = next) {
        next = r->next;
        region_unmap(r->memory, REGION_BYTES);
        free(r);
    }
    free(s);
}

static void add_region(struct slab *s)
{
    struct region *r = malloc(sizeof *r);
    if (!r)
        return;
    *r = (struct region){.next = s->regions, .memory = region_map(REGION_BYTES)};
    if (!r->memory) {
        free(r);
        return;
    }
    s->regions = r;
    s->regions_bytes += REGION_BYTES;
    for (size_t i = CHUNKS; i-- > 0;) {
        struct chunk *c = (struct chunk *)(void *)((char *)r->memory + i * CHUNK_BYTES);
        c->next = s->chunks;
        s->chunks = c;
    }
}

static struct chunk *take_chunk(struct slab *s)
{
    struct chunk *c = NULL;
    spin_lock(&s->lock);
    if (s->bytes + CHUNK_BYTES <= s->bytes_max) {
        if (!s->chunks)
            add_region(s);
        c = s->chunks;
        if (c) {
            s->chunks = c->next;
            s->bytes += CHUNK_BYTES;
        }
    }
    spin_unlock(&s->lock);
    if (c)
        *c = (struct chunk){.magic = CHUNK_MAGIC, .fresh = (char *)(c + 1)};
    return c;
}

static void give_chunk(struct slab *s, struct chunk *c)
{
    spin_lock(&s->lock);
    c->magic = 0;
    c->next = s->chunks;
    s->chunks = c;
    s->bytes -= CHUNK_BYTES;
    spin_unlock(&s->lock);
}

static void link_chunk(struct pool *p, struct chunk *c)
{
    c->prev = NULL;
    c->next = p->partial;
    if (p->partial)
        p->partial->prev = c;
    p->partial = c;
}

static void unlink_chunk(struct pool *p, struct chunk *c)
{
    if (c->prev)
        c->prev->next = c->next;
    else
        p->partial = c->next;
    if (c->next)
        c->next->prev = c->prev;
}

static bool chunk_full(const struct chunk *c, size_t size)
{
    return !c->free && c->fresh + size > (const char *)c + CHUNK_BYTES;
}

void *slab_take(struct slab *s, enum slab_size size)
{
    struct pool *p = &s->pools[size];
    void *object = NULL;
    spin_lock(&p->lock);
    if (!p->partial) {
        struct chunk *c = take_chunk(s);
        if (c)
            link_chunk(p, c);
    }
    struct chunk *c = p->partial;
    if (c) {
        if (c->free) {
            object = c->free;
            c->free = c->free->next;
        } else {
            object = c->fresh;
            c->fresh += sizes[size];
        }
        c->used++;
        if (chunk_full(c, sizes[size]))
            unlink_chunk(p, c);
    }
    spin_unlock(&p->lock);
    return object;
}

void slab_give(struct slab *s, enum slab_size size, void *object)
{
    if (!object)
        return;
    struct chunk *c = (struct chunk *)((uintptr_t)object & ~(uintptr_t)(CHUNK_BYTES - 1));
    CHECK(c->magic == CHUNK_MAGIC);
    struct pool *p = &s->pools[size];
    spin_lock(&p->lock);
    if (chunk_full(c, sizes[size]))
        link_chunk(p, c);
    struct free_object *o = object;
    o->next = c->free;
    c->free = o;
    CHECK(c->used > 0);
    if (--c->used == 0 && (c->next || c->prev)) {
        unlink_chunk(p, c);
        give_chunk(s, c);
    }
    spin_unlock(&p->lock);
}

uint64_t slab_bytes(struct slab *s)
{
    return s->bytes;
}
