/* SPDX-License-Identifier: Apache-2.0 */
/* Percent coding (RFC 3986 section 2.1) and application/x-www-form-urlencoded pairs. */
#include "codec/text.h"

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

bool percent_decode(struct slice in, bool plus, struct buf *out)
{
    size_t plain = 0;
    if (in.len == 0)
        return true;
    for (size_t i = 0; i < in.len; i++) {
        char c = in.ptr[i];
        if (!c)
            return false;
        if (c != '%' && !(c == '+' && plus))
            continue;
        buf_put(out, in.ptr + plain, i - plain);
        if (c == '+') {
            c = ' ';
        } else {
            int high = in.len - i > 2 ? hex_value(in.ptr[i + 1]) : -1;
            int low = high >= 0 ? hex_value(in.ptr[i + 2]) : -1;
            if (low < 0 || (high | low) == 0)
                return false;
            c = (char)(high << 4 | low);
            i += 2;
        }
        buf_put(out, &c, 1);
        plain = i + 1;
    }
    buf_put(out, in.ptr + plain, in.len - plain);
    return true;
}

static bool unreserved(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '.' || c == '_' || c == '~';
}

void percent_encode(struct slice in, struct buf *out)
{
    static const char hex[] = "0123456789ABCDEF";
    size_t plain = 0;
    if (in.len == 0)
        return;
    for (size_t i = 0; i < in.len; i++) {
        uint8_t c = (uint8_t)in.ptr[i];
        if (unreserved((char)c))
            continue;
        char three[3] = {'%', hex[c >> 4], hex[c & 15]};
        buf_put(out, in.ptr + plain, i - plain);
        buf_put(out, three, sizeof three);
        plain = i + 1;
    }
    buf_put(out, in.ptr + plain, in.len - plain);
}

bool query_next(struct slice *rest, struct slice *name, struct slice *value)
{
    while (rest->len && rest->ptr[0] == '&')
        *rest = slice_from(*rest, 1);
    if (!rest->len)
        return false;
    const char *end = memchr(rest->ptr, '&', rest->len);
    struct slice pair = slice_of(rest->ptr, end ? (size_t)(end - rest->ptr) : rest->len);
    *rest = slice_from(*rest, pair.len);
    const char *eq = memchr(pair.ptr, '=', pair.len);
    *name = slice_of(pair.ptr, eq ? (size_t)(eq - pair.ptr) : pair.len);
    *value = eq ? slice_from(pair, name->len + 1) : slice_from(pair, pair.len);
    return true;
}
