/* SPDX-License-Identifier: Apache-2.0 */
#include "codec/utf8.h"

/* Table 3-7 of the Unicode standard: only the second byte's range depends on the first. */
size_t utf8_sequence(const char *p, const char *end)
{
    const uint8_t *u = (const uint8_t *)p;
    size_t room = (size_t)(end - p);
    if (room == 0)
        return 0;
    if (u[0] < 0x80)
        return 1;
    size_t n = u[0] >= 0xc2 && u[0] <= 0xdf   ? 2
               : u[0] >= 0xe0 && u[0] <= 0xef ? 3
               : u[0] >= 0xf0 && u[0] <= 0xf4 ? 4
                                              : 0;
    if (n == 0 || room < n)
        return 0;
    uint8_t low = u[0] == 0xe0 ? 0xa0 : u[0] == 0xf0 ? 0x90 : 0x80;
    uint8_t high = u[0] == 0xed ? 0x9f : u[0] == 0xf4 ? 0x8f : 0xbf;
    if (u[1] < low || u[1] > high)
        return 0;
    for (size_t i = 2; i < n; i++)
        if ((u[i] & 0xc0) != 0x80)
            return 0;
    return n;
}

/* Eight bytes of ASCII without NUL: no high bit set, and none comes up when 1 is taken off each. */
static bool plain_word(const char *p)
{
    uint64_t w;
    memcpy(&w, p, sizeof w);
    return ((w | (w - 0x0101010101010101ull)) & 0x8080808080808080ull) == 0;
}

bool utf8_text(struct slice s)
{
    if (s.len == 0)
        return true; /* its pointer may be NULL */
    const char *p = s.ptr, *end = s.ptr + s.len;
    while (end - p >= 8 && plain_word(p)) /* most text is that to its end */
        p += 8;
    if (end - p < 8 && s.len >= 8 && plain_word(end - 8)) /* what is left and some of before */
        return true;
    while (p < end) {
        if (end - p >= 8 && plain_word(p)) {
            p += 8;
            continue;
        }
        size_t n = *p ? utf8_sequence(p, end) : 0;
        if (!n)
            return false;
        p += n;
    }
    return true;
}

size_t utf8_put(char out[4], uint32_t c)
{
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    size_t n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = n - 1; i > 0; i--, c >>= 6)
        out[i] = (char)(0x80 | (c & 0x3f));
    out[0] = (char)((n == 2 ? 0xc0 : n == 3 ? 0xe0 : 0xf0) | c);
    return n;
}
