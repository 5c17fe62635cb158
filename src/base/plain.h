/* SPDX-License-Identifier: Apache-2.0 */
/*
 * base/plain.h - which bytes stand for themselves in a JSON string, eight at a time: all but
 * control bytes, '"' and '\\' (RFC 8259 section 7). Pure functions over the caller's bytes; any
 * thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/slice.h"

static inline bool plain_byte(unsigned char c)
{
    return c >= 0x20 && c != '"' && c != '\\';
}

/* Whether each of the eight bytes does. (w - 0x01..) & ~w has the top bit of a byte set if that is
 * zero, or if a lower one is. */
static inline bool plain_word(uint64_t w)
{
    const uint64_t ones = 0x0101010101010101, tops = ones << 7;
    uint64_t quote = w ^ (ones * '"'), backslash = w ^ (ones * '\\');
    return ((((w - ones * 0x20) & ~w) | ((quote - ones) & ~quote) |
             ((backslash - ones) & ~backslash)) &
            tops) == 0;
}

/* Copies the string to `to` if all of its bytes do; else there is something of it. No byte beyond
 * either is touched. */
static inline bool plain_copy(char *to, struct slice s)
{
    uint64_t w;
    uint32_t first, last;
    bool plain = true;
    size_t n = 0;
    if (s.len >= sizeof w) {
        for (; n + sizeof w < s.len && plain; n += sizeof w) {
            memcpy(&w, s.ptr + n, sizeof w);
            memcpy(to + n, &w, sizeof w);
            plain = plain_word(w);
        }
        memcpy(&w, s.ptr + s.len - sizeof w, sizeof w); /* some of these for the second time */
        memcpy(to + s.len - sizeof w, &w, sizeof w);
        return plain && plain_word(w);
    }
    if (s.len >= sizeof first) {
        memcpy(&first, s.ptr, sizeof first);
        memcpy(&last, s.ptr + s.len - sizeof last, sizeof last);
        memcpy(to, &first, sizeof first);
        memcpy(to + s.len - sizeof last, &last, sizeof last);
        return plain_word(first | (uint64_t)last << 32);
    }
    for (; n < s.len; n++) {
        to[n] = s.ptr[n];
        plain = plain && plain_byte((unsigned char)s.ptr[n]);
    }
    return plain;
}
