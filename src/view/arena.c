/* SPDX-License-Identifier: Apache-2.0 */
#include "view/arena.h"

#include <stdlib.h>

#include "base/check.h"

struct arena_slab {
    struct arena_slab *next;
    size_t size; /* of bytes */
    char bytes[];
};

_Static_assert(sizeof(struct arena_slab) % 16 == 0, "pieces are aligned");

void arena_init(struct arena *a)
{
    *a = (struct arena){0};
}

static void slab_free(struct arena *a, struct arena_slab *s)
{
    a->bytes -= sizeof *s + s->size;
    free(s);
}

void arena_fini(struct arena *a)
{
    for (struct arena_slab *s; (s = a->used);) {
        a->used = s->next;
        slab_free(a, s);
    }
    for (struct arena_slab *s; (s = a->spare);) {
        a->spare = s->next;
        slab_free(a, s);
    }
}

static void add_slab(struct arena *a, size_t least)
{
    struct arena_slab *s = least <= ARENA_SLAB_BYTES ? a->spare : NULL;
    if (s) {
        a->spare = s->next;
        a->spare_count--;
    } else {
        size_t size = least <= ARENA_SLAB_BYTES ? ARENA_SLAB_BYTES : least;
        s = malloc(sizeof *s + size);
        CHECK(s);
        s->size = size;
        a->bytes += sizeof *s + size;
    }
    s->next = a->used;
    a->used = s;
    a->used_count++;
    a->at = 0;
}

void *arena_take(struct arena *a, size_t bytes)
{
    bytes = (bytes + 15) & ~(size_t)15;
    if (!a->used || bytes > a->used->size - a->at)
        add_slab(a, bytes);
    void *piece = a->used->bytes + a->at;
    a->at += bytes;
    return piece;
}

void arena_reset(struct arena *a)
{
    size_t keep = a->used_count;
    struct arena_slab *all[] = {a->used, a->spare}; /* what is in the cache is used first */
    a->used = a->spare = NULL;
    a->used_count = a->spare_count = 0;
    a->at = 0;
    for (unsigned i = 0; i < 2; i++) {
        for (struct arena_slab *s = all[i], *next; s; s = next) {
            next = s->next;
            if (s->size != ARENA_SLAB_BYTES || a->spare_count == keep) {
                slab_free(a, s);
                continue;
            }
            s->next = a->spare;
            a->spare = s;
            a->spare_count++;
        }
    }
}
