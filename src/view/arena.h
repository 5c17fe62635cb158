/* SPDX-License-Identifier: Apache-2.0 */
/*
 * view/arena.h - memory that is given out in pieces and taken back all at once: what comes together
 * until a flush. Pieces never move. Owned by one thread.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define ARENA_SLAB_BYTES (256u << 10) /* a larger piece gets a slab of its own */

struct arena_slab;

struct arena {
    struct arena_slab *used, *spare; /* the newest first */
    size_t at;                       /* in the newest */
    size_t used_count, spare_count;
    uint64_t bytes; /* held */
};

void arena_init(struct arena *a);
/* Gives everything back. */
void arena_fini(struct arena *a);
/* `bytes` of memory, aligned to 16; aborts when there is none. */
void *arena_take(struct arena *a, size_t bytes);
/* Forgets all pieces. Keeps as much memory as they took, so that the next round need not ask for
 * it, and gives back what it kept before beyond that. */
void arena_reset(struct arena *a);
