/* SPDX-License-Identifier: Apache-2.0 */
/*
 * base/varint.h - numbers of varying length: LEB128 (7 bits a byte, the lowest first, the high bit
 * says that more follow), and zigzag, which makes small negative numbers short too; a text is its
 * length as such a number and its bytes. Pure; any thread.
 */
#pragma once

#include <endian.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

#define VARINT_MAX 10 /* bytes of the longest */

static inline uint64_t zigzag(uint64_t v)
{
    return v << 1 ^ (0 - (v >> 63));
}

static inline uint64_t unzigzag(uint64_t v)
{
    return v >> 1 ^ (0 - (v & 1));
}

/* Returns behind the last byte. */
static inline uint8_t *varint_put(uint8_t *to, uint64_t v)
{
    for (; v >= 0x80; v >>= 7)
        *to++ = (uint8_t)(v | 0x80);
    *to++ = (uint8_t)v;
    return to;
}

/* How many bytes that takes. */
static inline unsigned varint_bytes(uint64_t v)
{
    return (70 - (unsigned)__builtin_clzll(v | 1)) / 7;
}

static inline void buf_put_varint(struct buf *out, uint64_t v)
{
    uint8_t bytes[VARINT_MAX];
    buf_put(out, bytes, (size_t)(varint_put(bytes, v) - bytes));
}

static inline void buf_put_text(struct buf *out, struct slice text)
{
    buf_put_varint(out, text.len);
    buf_put_slice(out, text);
}

/* The 7 low bits of each of the 8 bytes, one after the other. */
static inline uint64_t varint_squeeze(uint64_t w)
{
    w = (w & 0x007f007f007f007full) | (w & 0x7f007f007f007f00ull) >> 1;
    w = (w & 0x00003fff00003fffull) | (w & 0x3fff00003fff0000ull) >> 2;
    return (w & 0x000000000fffffffull) | (w & 0x0fffffff00000000ull) >> 4;
}

/* Returns behind the last byte, or NULL when the number does not end before `end` or has more than
 * 64 bits. */
static inline const uint8_t *varint_get(const uint8_t *at, const uint8_t *end, uint64_t *ret)
{
    uint64_t v = 0;
    if (at < end && *at < 0x80) { /* most are that short */
        *ret = *at;
        return at + 1;
    }
    if (end - at >= 8) { /* and nearly all no longer than 8 bytes: without a loop, whose end is hard
                            to foretell */
        uint64_t w, ends;
        memcpy(&w, at, sizeof w);
        w = le64toh(w);
        ends = ~w & 0x8080808080808080ull;
        if (ends) {
            *ret = varint_squeeze(w & (ends ^ (ends - 1)) & 0x7f7f7f7f7f7f7f7full);
            return at + (__builtin_ctzll(ends) + 1) / 8;
        }
    }
    for (unsigned shift = 0; shift < 70 && at < end; shift += 7) {
        uint8_t byte = *at++;
        if (shift == 63 && byte > 1)
            return NULL;
        v |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) {
            *ret = v;
            return at;
        }
    }
    return NULL;
}

/* Takes a number of at most `max` off the front. False: there is none, or it is greater. */
static inline bool varint_take(struct slice *in, uint64_t max, uint64_t *ret)
{
    const uint8_t *at = (const uint8_t *)in->ptr;
    const uint8_t *behind = in->len ? varint_get(at, at + in->len, ret) : NULL;
    if (!behind || *ret > max)
        return false;
    *in = slice_from(*in, (size_t)(behind - at));
    return true;
}
