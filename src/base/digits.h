/* SPDX-License-Identifier: Apache-2.0 */
/*
 * base/digits.h - decimal digits, two at a time. Pure functions over the caller's bytes; any
 * thread.
 */
#pragma once

#include <stdint.h>
#include <string.h>

enum { DIGITS_MAX = 20 }; /* of a 64-bit number */

/* "00" to "99", one after the other. */
extern const char digits_pairs[201];

/* Two digits of v < 100. Returns the end. */
static inline char *digits_put_two(char *to, unsigned v)
{
    memcpy(to, digits_pairs + (size_t)v * 2, 2);
    return to + 2;
}

/* As many as there are, up to DIGITS_MAX. Returns the end. */
char *digits_put(char *to, uint64_t v);
