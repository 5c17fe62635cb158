/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Basic credentials. The base64 decoder takes only the one form each text has (RFC 4648 section
 * 3.5: padding there, unused bits zero, no line breaks), so that equal secrets are equal bytes on
 * the wire too. OpenSSL's EVP_DecodeBlock skips blanks and leaves padding to the caller.
 */
#include "codec/text.h"

static int value_of(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

bool base64_decode(struct slice in, struct buf *out)
{
    if (in.len % 4 != 0)
        return false;
    for (size_t i = 0; i < in.len; i += 4) {
        const char *p = in.ptr + i;
        bool last = i + 4 == in.len;
        unsigned pads = last && p[3] == '=' ? 1u + (p[2] == '=') : 0;
        uint32_t bits = 0;
        for (unsigned j = 0; j < 4 - pads; j++) {
            int v = value_of(p[j]);
            if (v < 0)
                return false;
            bits |= (uint32_t)v << (18 - 6 * j);
        }
        uint8_t three[3] = {(uint8_t)(bits >> 16), (uint8_t)(bits >> 8), (uint8_t)bits};
        for (unsigned j = 3 - pads; j < 3; j++)
            if (three[j])
                return false;
        buf_put(out, three, 3 - pads);
    }
    return true;
}

bool basic_decode(struct slice authorization, struct buf *out, struct slice *ret_user,
                  struct slice *ret_password)
{
    struct slice scheme = SLICE("Basic ");
    size_t before = out->len;
    if (authorization.len < scheme.len ||
        !slice_eq_nocase(slice_of(authorization.ptr, scheme.len), scheme))
        return false;
    struct slice coded = slice_trim(slice_from(authorization, scheme.len));
    if (!base64_decode(coded, out) || out->failed || out->len == before)
        return false;
    struct slice text = slice_of(out->ptr + before, out->len - before);
    for (size_t i = 0; i < text.len; i++) /* RFC 7617 section 2: no control characters */
        if ((uint8_t)text.ptr[i] < 0x20 || text.ptr[i] == 0x7f)
            return false;
    const char *colon = memchr(text.ptr, ':', text.len);
    if (!colon)
        return false;
    *ret_user = slice_of(text.ptr, (size_t)(colon - text.ptr));
    *ret_password = slice_from(text, ret_user->len + 1);
    return true;
}
