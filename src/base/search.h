/* SPDX-License-Identifier: Apache-2.0 */
/*
 * base/search.h - binary search of plain arrays whose elements ascend by a number that each has in
 * the same place. Pure functions. (A set that grows and shrinks is base/ascending.h.)
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline uint64_t search_number(const void *array, size_t i, size_t size, size_t at)
{
    uint64_t number;
    memcpy(&number, (const char *)array + i * size + at, sizeof number);
    return number;
}

/* Of `count` elements of `size` bytes, with a uint64_t at byte `at`: the first where that is not
 * below `number`; `count`: none. */
static inline size_t search_from(const void *array, size_t count, size_t size, size_t at,
                                 uint64_t number)
{
    size_t low = 0, high = count;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (search_number(array, mid, size, at) < number)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

/* The same of an array of structs, by one of their members, a uint64_t. */
#define SEARCH_FROM(array, count, member, number)                                                  \
    search_from(array, count, sizeof *(array), offsetof(__typeof__(*(array)), member), number)

/* Whether it is one of `count`, which ascend. */
static inline bool search_has(const uint64_t *numbers, size_t count, uint64_t number)
{
    size_t i = search_from(numbers, count, sizeof *numbers, 0, number);
    return i < count && numbers[i] == number;
}
