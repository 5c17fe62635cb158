/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gzip bodies by zlib. The output is what is bounded: 1 KB may stand for 1 MB, so nothing is
 * believed about the size before it is there (the size field at the end is the sender's claim).
 */
#include "codec/text.h"

#include <limits.h>
#include <zlib.h>

#define STEP_MAX (64u * 1024u) /* room made at once */

/* Room for output: at most STEP_MAX, at least 1; 0 when `out` is full. */
static size_t make_room(struct buf *out, size_t want)
{
    size_t left = out->max - out->len;
    size_t n = want < STEP_MAX ? want : STEP_MAX;
    n = n < 512 ? 512 : n;
    n = n < left ? n : left;
    return n && buf_reserve(out, n) ? n : 0;
}

enum gunzip_outcome gunzip(struct slice in, struct buf *out)
{
    enum gunzip_outcome outcome = GUNZIP_BAD;
    z_stream z = {0};
    if (in.len > UINT_MAX || inflateInit2(&z, 16 + MAX_WBITS) != Z_OK)
        return in.len > UINT_MAX ? GUNZIP_TOO_LARGE : GUNZIP_BAD;
    z.next_in = (Bytef *)(uintptr_t)in.ptr; /* zlib's type lacks the const */
    z.avail_in = (uInt)in.len;
    for (;;) {
        Bytef extra; /* where a full `out` shows whether there is more */
        size_t room = make_room(out, in.len * 4);
        z.next_out = room ? (Bytef *)out->ptr + out->len : &extra;
        z.avail_out = room ? (uInt)room : 1;
        uInt before = z.avail_out;
        int status = inflate(&z, Z_NO_FLUSH);
        uInt made = before - z.avail_out;
        if (made && !room) {
            outcome = GUNZIP_TOO_LARGE;
            break;
        }
        out->len += made;
        if (status == Z_STREAM_END) {
            outcome = z.avail_in == 0 ? GUNZIP_OK : GUNZIP_BAD;
            break;
        }
        if (status != Z_OK || (made == 0 && z.avail_in == 0)) /* damaged, or cut off */
            break;
    }
    inflateEnd(&z);
    return outcome;
}
