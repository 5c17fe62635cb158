/* SPDX-License-Identifier: Apache-2.0 */
/*
 * catalog/pool.h - memory for what all versions of a record share ("live"). Whoever still holds an
 * old version may look at its live at any time, so an item's memory stays valid until pool_fini;
 * an item that was given back may be handed out again while such a holder still writes to it. The
 * pool therefore keeps its list of free items outside them. One thread.
 */
#pragma once

#include <stddef.h>

struct pool {
    size_t item_bytes;
    void **chunks;
    size_t chunks_count, chunk_used; /* items taken from the last chunk */
    void **spare;
    size_t spare_count, spare_cap;
};

void pool_init(struct pool *p, size_t item_bytes);
void pool_fini(struct pool *p);
/* An item; zeroed when it is new, as it was left when it was given back. Aborts without memory. */
void *pool_take(struct pool *p);
void pool_put(struct pool *p, void *item);
