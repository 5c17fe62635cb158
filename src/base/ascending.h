/* SPDX-License-Identifier: Apache-2.0 */
/*
 * base/ascending.h - a set of numbers, of which most come at its end and go at its front: there
 * each costs the same however many there are, in between as much as the shorter side is long. It is
 * found in logarithmic time. Plain data of its owner, who bounds it; one thread at a time.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* All zero: empty. */
struct ascending {
    uint64_t *list;              /* a ring */
    uint32_t first, count, room; /* room: a power of two, or 0 */
};

void ascending_fini(struct ascending *a);
/* The i-th; i < count. */
static inline uint64_t ascending_at(const struct ascending *a, uint32_t i)
{
    return a->list[(a->first + i) & (a->room - 1)];
}
/* Which is the first that is not below; `count`: none is. */
uint32_t ascending_find(const struct ascending *a, uint64_t number);
/* Adds it. False: it is there. */
bool ascending_put(struct ascending *a, uint64_t number);
/* Adds `n`, which ascend, those that are there aside: all in one pass, wherever they belong. */
void ascending_put_all(struct ascending *a, const uint64_t *numbers, uint32_t n);
/* Removes it. False: it is not there. */
bool ascending_take(struct ascending *a, uint64_t number);
/* Removes the first `n`; n <= count. */
void ascending_cut(struct ascending *a, uint32_t n);
/* Writes all `count` of them. */
void ascending_copy(const struct ascending *a, uint64_t *ret);
/* Bytes on the heap, and how many more one more number may take. */
static inline size_t ascending_bytes(const struct ascending *a)
{
    return a->room * sizeof *a->list;
}
size_t ascending_growth(const struct ascending *a);
