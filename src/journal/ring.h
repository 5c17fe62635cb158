/* SPDX-License-Identifier: Apache-2.0 */
/*
 * journal/ring.h - the newest batches in memory, just as they are in the files. The writer builds
 * batches here and writes them from here; readers at the tip take them from here without a copy.
 *
 * The ring is a list of slabs. A slab is filled front to back; its bytes below `committed` never
 * change. A reader holds a reference to the one slab it reads, so a slow reader pins one slab and
 * not the ring. Writer's functions: writer's thread only. Readers' functions: any thread.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct slab {
    struct slab *next; /* newer; the ring's lock */
    uint64_t first_offset;
    uint64_t segment_base; /* the file these bytes are in, and where they begin there */
    uint64_t file_position;
    uint32_t refs; /* the ring's lock */
    size_t cap;
    size_t used;                 /* writer */
    _Atomic size_t committed;    /* readers go up to here */
    _Atomic uint64_t end_offset; /* one past the last committed record */
    char data[];
};

struct ring {
    pthread_mutex_t lock;
    struct slab *oldest, *newest, *spare; /* spare: freed slabs of the common size, to use again */
    unsigned spare_count;
    size_t bytes, bytes_max, slab_bytes;
};

void ring_init(struct ring *r, size_t bytes_max);
/* No reader may hold a slab any more. */
void ring_fini(struct ring *r);

/* Writer: room for `need` bytes that will lie at `position` of segment `base`, beginning with
 * record `offset`. A new slab when the newest is full, or its bytes do not lie just before these in
 * the same file. NULL: no memory. */
struct slab *ring_reserve(struct ring *r, size_t need, uint64_t offset, uint64_t base,
                          uint64_t position);
/* Writer: forgets what is not committed, after a failure. */
void ring_rollback(struct ring *r);

/* Reader: the slab that holds record `offset`, with a reference; NULL: not in memory. */
struct slab *ring_find(struct ring *r, uint64_t offset);
void ring_unref(struct ring *r, struct slab *s);
