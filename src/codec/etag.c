/* SPDX-License-Identifier: Apache-2.0 */
#include "codec/etag.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

void etag_format(char out[ETAG_LEN + 1], uint64_t version)
{
    static const char digits[] = "0123456789abcdef";
    out[0] = '"';
    for (unsigned i = 0; i < 16; i++)
        out[1 + i] = digits[version >> (60 - 4 * i) & 15];
    out[17] = '"';
    out[18] = 0;
}

/* Tags are compared weakly: W/ in front does not matter. */
bool etag_named(struct slice list, uint64_t version)
{
    char own[ETAG_LEN + 1];
    etag_format(own, version);
    list = slice_trim(list);
    if (slice_eq(list, SLICE("*")))
        return true;
    while (list.len) {
        if (slice_starts(list, SLICE("W/")))
            list = slice_from(list, 2);
        const char *end =
            list.len > 1 && list.ptr[0] == '"' ? memchr(list.ptr + 1, '"', list.len - 1) : NULL;
        if (!end)
            return false;
        size_t len = (size_t)(end - list.ptr) + 1;
        if (slice_eq(slice_of(list.ptr, len), slice_of(own, ETAG_LEN)))
            return true;
        list = slice_trim(slice_from(list, len));
        if (list.len && list.ptr[0] != ',')
            return false;
        list = slice_trim(slice_from(list, 1));
    }
    return false;
}

uint64_t etag_version(struct slice body, bool typed)
{
    return XXH3_64bits_withSeed(body.ptr, body.len, typed) | 1; /* 0 is none */
}
