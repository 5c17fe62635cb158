/* SPDX-License-Identifier: Apache-2.0 */
#include "catalog/pool.h"

#include <stdlib.h>

#include "base/check.h"

#define CHUNK_ITEMS 256u

void pool_init(struct pool *p, size_t item_bytes)
{
    *p = (struct pool){.item_bytes = item_bytes, .chunk_used = CHUNK_ITEMS};
}

void pool_fini(struct pool *p)
{
    for (size_t i = 0; i < p->chunks_count; i++)
        free(p->chunks[i]);
    free(p->chunks);
    free(p->spare);
    pool_init(p, p->item_bytes);
}

/* Both arrays double: `count` is a power of two when they are full. */
static void **grown(void **array, size_t cap)
{
    void **bigger = realloc(array, cap * sizeof *array);
    CHECK(bigger);
    return bigger;
}

void *pool_take(struct pool *p)
{
    if (p->spare_count)
        return p->spare[--p->spare_count];
    if (p->chunk_used == CHUNK_ITEMS) {
        if ((p->chunks_count & (p->chunks_count - 1)) == 0)
            p->chunks = grown(p->chunks, p->chunks_count ? p->chunks_count * 2 : 1);
        void *chunk = calloc(CHUNK_ITEMS, p->item_bytes);
        CHECK(chunk);
        p->chunks[p->chunks_count++] = chunk;
        p->chunk_used = 0;
    }
    return (char *)p->chunks[p->chunks_count - 1] + p->item_bytes * p->chunk_used++;
}

void pool_put(struct pool *p, void *item)
{
    if (p->spare_count == p->spare_cap) {
        p->spare_cap = p->spare_cap ? p->spare_cap * 2 : 16;
        p->spare = grown(p->spare, p->spare_cap);
    }
    p->spare[p->spare_count++] = item;
}
