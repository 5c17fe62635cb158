/* SPDX-License-Identifier: Apache-2.0 */
/*
 * view/bits.h - streams of bits and Rice codes (R. F. Rice, "Some practical universal noiseless
 * coding techniques", JPL 79-22, 1979): the integers of a row's columns. Least significant bit
 * first. Any thread; storage is the caller's.
 *
 * A number v is coded with a parameter k as v >> k ones, a zero, and the k low bits. A quotient of
 * RICE_ESCAPE or more is RICE_ESCAPE ones and the 64 bits of v, so one outlier costs 11 bytes.
 */
#pragma once

#include <stdint.h>
#include <string.h>

#include "base/varint.h"

enum {
    RICE_ESCAPE = 24,
    RICE_K_MAX = 31,
    RICE_BYTES_MAX = 12, /* of one code */
    BITS_SLACK = 16,     /* writable bytes a writer needs behind its end */
    BITS_PEEKED = 57,    /* so many bits are there at once at least */
};

struct bits_out {
    uint8_t *at;
    uint64_t acc;
    unsigned used; /* bits of acc, below 8 between calls */
};

/* Appends the `n` <= 56 low bits of `v`; the others must be zero. */
static inline void bits_put(struct bits_out *b, uint64_t v, unsigned n)
{
    b->acc |= v << b->used;
    b->used += n;
    memcpy(b->at, &b->acc, 8); /* little endian, as all machines Sluice runs on */
    b->at += b->used >> 3;
    b->acc >>= b->used & ~7u;
    b->used &= 7;
}

/* Fills the last byte with zeros. Returns the first byte behind the stream. */
static inline uint8_t *bits_end(struct bits_out *b)
{
    if (b->used)
        bits_put(b, 0, 8 - b->used);
    return b->at;
}

static inline void rice_put(struct bits_out *b, uint64_t v, unsigned k)
{
    uint64_t q = v >> k;
    if (q >= RICE_ESCAPE) {
        bits_put(b, (1u << RICE_ESCAPE) - 1, RICE_ESCAPE);
        bits_put(b, v & UINT32_MAX, 32);
        bits_put(b, v >> 32, 32);
        return;
    }
    uint64_t low = v & ((1ull << k) - 1);
    bits_put(b, ((1ull << q) - 1) | low << (q + 1), (unsigned)q + 1 + k);
}

struct bits_in {
    const uint8_t *ptr;
    size_t len;
    uint64_t at; /* in bits; beyond len * 8: the stream was too short and zeros were read */
};

/* At least BITS_PEEKED of the next bits; zeros behind the end. */
static inline uint64_t bits_peek(const struct bits_in *b)
{
    size_t byte = (size_t)(b->at >> 3);
    uint64_t w = 0;
    if (byte + 8 <= b->len)
        memcpy(&w, b->ptr + byte, 8);
    else if (byte < b->len)
        memcpy(&w, b->ptr + byte, b->len - byte);
    return w >> (b->at & 7);
}

/* n <= 56. */
static inline uint64_t bits_get(struct bits_in *b, unsigned n)
{
    uint64_t v = bits_peek(b) & ((1ull << n) - 1);
    b->at += n;
    return v;
}

/* The ones at the front. */
static inline unsigned rice_ones(uint64_t w)
{
    return (unsigned)__builtin_ctzll(~w | 1ull << 63);
}

static inline uint64_t rice_get(struct bits_in *b, unsigned k)
{
    uint64_t w = bits_peek(b);
    unsigned q = rice_ones(w);
    if (q >= RICE_ESCAPE) {
        b->at += RICE_ESCAPE;
        uint64_t low = bits_get(b, 32);
        return low | bits_get(b, 32) << 32;
    }
    b->at += q + 1 + k; /* at most 55 bits: all of them are in the word */
    return (uint64_t)q << k | (w >> (q + 1) & ((1ull << k) - 1));
}

/* `n` codes of one parameter. Each begins where the one before ends, so what takes the time is to
 * find that end: as many as there are in a word are taken from it, and no memory is asked. */
static inline void rice_get_column(struct bits_in *b, unsigned k, uint64_t *out, size_t n)
{
    struct bits_in in = *b;
    uint64_t w = 0, low = (1ull << k) - 1;
    unsigned left = 0; /* bits of w that were read; zeros follow */
    for (size_t i = 0; i < n; i++) {
        unsigned q = rice_ones(w);
        if (q + 1 + k > left) {
            w = bits_peek(&in);
            q = rice_ones(w);
            left = BITS_PEEKED;
        }
        if (q >= RICE_ESCAPE) {
            out[i] = rice_get(&in, k);
            left = 0;
            continue;
        }
        out[i] = (uint64_t)q << k | (w >> (q + 1) & low);
        w >>= q + 1 + k;
        left -= q + 1 + k;
        in.at += q + 1 + k;
    }
    *b = in;
}
