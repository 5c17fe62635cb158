/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gate/slab.h - memory of windows in a few fixed sizes, with a maximum from birth. Owned by the
 * throttle. Any thread; each size has a lock of its own that is held for a few instructions.
 *
 * Chunks of 64 KiB belong to one size while any of their objects is in use and then go back, so
 * what a burst took serves another size later. malloc was rejected: 16 bytes of header on a 32-byte
 * ring, and no maximum.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct slab;

/* Rings of 8, 16, 32, 64 and 128 stamps (or a bucket: 64 bytes), and a histogram. */
enum slab_size { SLAB_32, SLAB_64, SLAB_128, SLAB_256, SLAB_512, SLAB_320, SLAB_SIZES };

/* NULL: no memory. `bytes_max` bounds the chunks. */
struct slab *slab_new(uint64_t bytes_max);
/* Frees everything, objects in use too. Accepts NULL. */
void slab_free(struct slab *s);
/* An object with undefined contents; NULL: the maximum is reached or the system has no memory. */
void *slab_take(struct slab *s, enum slab_size size);
/* Gives it back. Accepts NULL. */
void slab_give(struct slab *s, enum slab_size size, void *object);
/* Bytes of the chunks in use. */
uint64_t slab_bytes(struct slab *s);
