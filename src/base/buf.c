/* SPDX-License-Identifier: Apache-2.0 */
#include "base/buf.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/digits.h"
#include "base/plain.h"

#define BUF_FIRST 256u

void buf_init(struct buf *b, size_t max)
{
    *b = (struct buf){.max = max};
}

void buf_fini(struct buf *b)
{
    free(b->ptr);
    *b = (struct buf){.max = b->max};
}

void buf_clear(struct buf *b)
{
    b->len = 0;
    b->failed = false;
}

void buf_reuse(struct buf *b, size_t keep)
{
    if (b->cap > keep)
        buf_fini(b);
    buf_clear(b);
}

char *buf_grow(struct buf *b, size_t n)
{
    if (b->failed || n > b->max - b->len) {
        b->failed = true;
        return NULL;
    }
    if (n > b->cap - b->len) {
        size_t cap = b->cap ? b->cap : BUF_FIRST;
        while (cap < b->len + n)
            cap *= 2;
        if (cap > b->max)
            cap = b->max;
        char *ptr = realloc(b->ptr, cap);
        if (!ptr) {
            b->failed = true;
            return NULL;
        }
        b->ptr = ptr;
        b->cap = cap;
    }
    return b->ptr + b->len;
}

void buf_adopt(struct buf *b, void *ptr, size_t len, size_t cap)
{
    CHECK(len <= cap && len <= b->max);
    free(b->ptr);
    b->ptr = ptr;
    b->len = len;
    b->cap = cap;
}

void buf_put(struct buf *b, const void *ptr, size_t n)
{
    if (n == 0)
        return;
    char *to = buf_reserve(b, n);
    if (!to)
        return;
    memcpy(to, ptr, n);
    b->len += n;
}

void buf_put_slice(struct buf *b, struct slice s)
{
    buf_put(b, s.ptr, s.len);
}

void buf_put_str(struct buf *b, const char *text)
{
    buf_put(b, text, strlen(text));
}

void buf_put_u32(struct buf *b, uint32_t v)
{
    uint8_t raw[4];
    for (unsigned i = 0; i < sizeof raw; i++)
        raw[i] = (uint8_t)(v >> (8 * i));
    buf_put(b, raw, sizeof raw);
}

void buf_put_u64(struct buf *b, uint64_t v)
{
    uint8_t raw[8];
    for (unsigned i = 0; i < sizeof raw; i++)
        raw[i] = (uint8_t)(v >> (8 * i));
    buf_put(b, raw, sizeof raw);
}

void buf_put_dec(struct buf *b, uint64_t v)
{
    char digits[DIGITS_MAX];
    buf_put(b, digits, (size_t)(digits_put(digits, v) - digits));
}

void buf_printf(struct buf *b, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    size_t room = b->failed ? 0 : b->cap - b->len; /* mostly it fits, and one pass is enough */
    int need = vsnprintf(room ? b->ptr + b->len : NULL, room, format, args);
    va_end(args);
    CHECK(need >= 0);
    bool fits = (size_t)need < room;
    char *to = fits ? NULL : buf_reserve(b, (size_t)need + 1);
    if (to)
        vsnprintf(to, (size_t)need + 1, format, again);
    if (to || fits)
        b->len += (size_t)need;
    va_end(again);
}

/* The last eight bytes, or all of four to seven, some of them twice. */
static uint64_t last_bytes(struct slice s)
{
    uint64_t w;
    uint32_t first, last;
    if (s.len >= sizeof w) {
        memcpy(&w, s.ptr + s.len - sizeof w, sizeof w);
        return w;
    }
    memcpy(&first, s.ptr, sizeof first);
    memcpy(&last, s.ptr + s.len - sizeof last, sizeof last);
    return first | (uint64_t)last << 32;
}

/* How many bytes at the front stand for themselves in a JSON string. */
static size_t plain_bytes(struct slice s)
{
    size_t n = 0;
    for (uint64_t w; n + sizeof w <= s.len; n += sizeof w) {
        memcpy(&w, s.ptr + n, sizeof w);
        if (!plain_word(w))
            break;
    }
    if (n < s.len && s.len >= sizeof(uint32_t) && s.len - n < sizeof(uint64_t) &&
        plain_word(last_bytes(s)))
        return s.len;
    while (n < s.len && plain_byte((unsigned char)s.ptr[n]))
        n++;
    return n;
}

static void put_escaped(struct buf *b, unsigned char c)
{
    if (c == '"' || c == '\\')
        buf_put(b, (char[]){'\\', (char)c}, 2);
    else if (c == '\n')
        buf_put(b, "\\n", 2);
    else
        buf_printf(b, "\\u%04x", c);
}

void buf_put_json(struct buf *b, struct slice s)
{
    size_t n = plain_bytes(s);
    char *to = buf_reserve(b, n + 2);
    if (!to)
        return;
    *to++ = '"';
    if (n)
        memcpy(to, s.ptr, n);
    to[n] = '"';
    b->len += n + 1 + (n == s.len);
    while (n < s.len) {
        put_escaped(b, (unsigned char)s.ptr[n]);
        s = slice_from(s, n + 1);
        n = plain_bytes(s);
        buf_put(b, s.ptr, n);
        if (n == s.len)
            buf_put_u8(b, '"');
    }
}

void buf_consume(struct buf *b, size_t n)
{
    CHECK(n <= b->len);
    if (n && n < b->len)
        memmove(b->ptr, b->ptr + n, b->len - n);
    b->len -= n;
}
