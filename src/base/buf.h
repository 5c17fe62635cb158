/* SPDX-License-Identifier: Apache-2.0 */
/*
 * base/buf.h - a growing buffer of bytes that has a maximum from birth. Owned by whoever holds the
 * struct; one thread at a time.
 *
 * Writers do not check each put: an overflow (the maximum, or no memory) is remembered in
 * `failed`, further puts are ignored, and the owner asks once at the end.
 */
#pragma once

#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/check.h"
#include "base/slice.h"

struct buf {
    char *ptr;
    size_t len;
    size_t cap;
    size_t max; /* bytes it may ever hold */
    bool failed;
};

/* An empty buffer; allocates nothing. */
void buf_init(struct buf *b, size_t max);
/* Frees the memory; the buffer is as after buf_init. Accepts an empty buffer. */
void buf_fini(struct buf *b);
/* Forgets the contents and the failure, keeps the memory. */
void buf_clear(struct buf *b);
/* The same, but gives memory of more than `keep` bytes back. */
void buf_reuse(struct buf *b, size_t keep);
/* buf_reserve of more than there is room for. */
char *buf_grow(struct buf *b, size_t n);
/* Room for `n` more bytes: where to write them, or NULL (then `failed` is set). Does not move
 * `len`. Here, since mostly there is room. */
static inline char *buf_reserve(struct buf *b, size_t n)
{
    bool fits = !b->failed && n <= b->max - b->len && n <= b->cap - b->len;
    return fits ? b->ptr + b->len : buf_grow(b, n);
}
/* Counts what was written up to `end` in the `room` bytes that buf_reserve gave. */
static inline void buf_wrote(struct buf *b, const char *end, size_t room)
{
    size_t n = (size_t)(end - (b->ptr + b->len));
    CHECK(n <= room);
    b->len += n;
}
/* Has the `len` bytes at `ptr` from now on, which were allocated by malloc as `cap`, and frees what
 * it had. */
void buf_adopt(struct buf *b, void *ptr, size_t len, size_t cap);
void buf_put(struct buf *b, const void *ptr, size_t n);
void buf_put_slice(struct buf *b, struct slice s);
void buf_put_str(struct buf *b, const char *text);
static inline void buf_put_u8(struct buf *b, uint8_t v)
{
    char *to = buf_reserve(b, 1);
    if (!to)
        return;
    *to = (char)v;
    b->len++;
}
/* Little endian. */
void buf_put_u32(struct buf *b, uint32_t v);
void buf_put_u64(struct buf *b, uint64_t v);
/* Decimal digits. */
void buf_put_dec(struct buf *b, uint64_t v);
void buf_printf(struct buf *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* A JSON string with its quotes; control bytes, '"' and '\' escaped (RFC 8259 section 7). The input
 * must be UTF-8 already; other bytes are passed through. */
void buf_put_json(struct buf *b, struct slice s);
/* Drops the first `n` bytes and moves the rest to the front. */
void buf_consume(struct buf *b, size_t n);

static inline struct slice buf_slice(const struct buf *b)
{
    return slice_of(b->ptr, b->len);
}
