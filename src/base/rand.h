/* SPDX-License-Identifier: Apache-2.0 */
/*
 * base/rand.h - randomness: from the kernel for secrets, seeded and repeatable for tests and
 * jitter. Any thread; a `struct rand` has one user at a time.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* Fills `out` from getrandom(2); aborts if the kernel has none. */
void rand_secret(void *out, size_t len);

struct rand {
    uint64_t state;
};

/* splitmix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014). */
uint64_t rand_next(struct rand *r);
/* Uniform below `limit` (at least 1). */
uint64_t rand_below(struct rand *r, uint64_t limit);
