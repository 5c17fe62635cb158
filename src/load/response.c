/* SPDX-License-Identifier: Apache-2.0 */
#include "load/response.h"

struct head {
    unsigned status;
    bool close;
    bool chunked;
    bool has_length;
    uint64_t length;
    uint64_t retry_s;
    size_t len;
};

/* Decimal digits, nothing else. */
static bool parse_length(struct slice s, uint64_t *ret)
{
    uint64_t n = 0;
    if (s.len == 0 || s.len > 18)
        return false;
    for (size_t i = 0; i < s.len; i++) {
        unsigned digit = (unsigned)(unsigned char)s.ptr[i] - '0';
        if (digit > 9)
            return false;
        n = n * 10 + digit;
    }
    *ret = n;
    return true;
}

/* One field line. False: it frames the body in a way we cannot follow. */
static bool take_field(struct slice line, struct head *h)
{
    const char *colon = memchr(line.ptr, ':', line.len);
    if (!colon)
        return false;
    struct slice name = slice_of(line.ptr, (size_t)(colon - line.ptr));
    struct slice value = slice_trim(slice_from(line, name.len + 1));
    switch (name.len) { /* the length decides for nearly every field, without comparing */
    case sizeof "connection" - 1:
        if (slice_eq_nocase(name, SLICE("connection")))
            h->close = slice_eq_nocase(value, SLICE("close"));
        return true;
    case sizeof "retry-after" - 1:
        if (slice_eq_nocase(name, SLICE("retry-after")) && !parse_length(value, &h->retry_s))
            h->retry_s = 0;
        return true;
    case sizeof "content-length" - 1:
        if (slice_eq_nocase(name, SLICE("content-length"))) {
            h->has_length = true;
            return parse_length(value, &h->length);
        }
        return true;
    case sizeof "transfer-encoding" - 1:
        if (slice_eq_nocase(name, SLICE("transfer-encoding"))) {
            h->chunked = slice_eq_nocase(value, SLICE("chunked"));
            return h->chunked;
        }
        return true;
    default:
        return true;
    }
}

static bool take_status_line(struct slice line, struct head *h)
{
    /* HTTP/1.x 204 No Content */
    if (line.len < 12 || memcmp(line.ptr, "HTTP/1.", 7) != 0 || line.ptr[8] != ' ')
        return false;
    if (line.ptr[7] == '0')
        h->close = true;
    for (size_t i = 9; i < 12; i++) {
        unsigned digit = (unsigned)(unsigned char)line.ptr[i] - '0';
        if (digit > 9)
            return false;
        h->status = h->status * 10 + digit;
    }
    return h->status >= 100 && h->status <= 599 && (line.len == 12 || line.ptr[12] == ' ');
}

static enum response_outcome parse_head(struct slice in, struct head *ret)
{
    struct head h = {0};
    size_t at = 0;
    for (;;) {
        const char *end = memchr(in.ptr + at, '\n', in.len - at);
        if (!end)
            return in.len > RESPONSE_BYTES_MAX ? RESPONSE_BAD : RESPONSE_MORE;
        size_t stop = (size_t)(end - in.ptr);
        struct slice line = slice_of(in.ptr + at, stop - at);
        if (line.len && line.ptr[line.len - 1] == '\r')
            line.len--;
        bool first = at == 0;
        at = stop + 1;
        if (first ? !take_status_line(line, &h) : line.len && !take_field(line, &h))
            return RESPONSE_BAD;
        if (!first && line.len == 0)
            break;
    }
    h.len = at;
    *ret = h;
    return RESPONSE_DONE;
}

/* Bytes of a chunked body with all its lines (RFC 9112 section 7.1); trailers are skipped. */
static enum response_outcome chunked_len(struct slice in, size_t *ret)
{
    size_t at = 0;
    bool last = false;
    for (;;) {
        const char *end = at < in.len ? memchr(in.ptr + at, '\n', in.len - at) : NULL;
        if (!end)
            return RESPONSE_MORE;
        size_t stop = (size_t)(end - in.ptr);
        if (last) {
            bool empty = stop == at || (stop == at + 1 && in.ptr[at] == '\r');
            at = stop + 1;
            if (!empty)
                continue;
            *ret = at;
            return RESPONSE_DONE;
        }
        uint64_t size = 0;
        size_t digits = 0;
        for (; digits <= 8; digits++) {
            char c = in.ptr[at + digits];
            int v = c >= '0' && c <= '9'                 ? c - '0'
                    : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10
                                                         : -1;
            if (v < 0)
                break;
            size = size * 16 + (unsigned)v;
        }
        if (digits == 0 || digits > 8 || size > RESPONSE_BYTES_MAX)
            return RESPONSE_BAD;
        at = stop + 1;
        last = size == 0;
        if (!last)
            at += size + 2; /* with the CRLF behind it */
    }
}

static enum response_outcome body_len(const struct head *h, struct slice rest, bool to_head,
                                      size_t *ret)
{
    *ret = 0;
    if (to_head || h->status < 200 || h->status == 204 || h->status == 304)
        return RESPONSE_DONE;
    if (h->chunked)
        return chunked_len(rest, ret);
    if (!h->has_length || h->length > RESPONSE_BYTES_MAX)
        return RESPONSE_BAD;
    *ret = (size_t)h->length;
    return rest.len >= *ret ? RESPONSE_DONE : RESPONSE_MORE;
}

enum response_outcome response_parse(struct slice in, bool to_head, struct response *ret)
{
    size_t at = 0;
    for (;;) {
        struct slice rest = slice_of(in.ptr + at, in.len - at);
        struct head h;
        size_t body;
        enum response_outcome outcome = rest.len ? parse_head(rest, &h) : RESPONSE_MORE;
        if (outcome == RESPONSE_DONE)
            outcome = body_len(&h, slice_from(rest, h.len), to_head, &body);
        if (outcome == RESPONSE_MORE && in.len > RESPONSE_BYTES_MAX)
            return RESPONSE_BAD;
        if (outcome != RESPONSE_DONE)
            return outcome;
        at += h.len + body;
        if (h.status < 200)
            continue;
        *ret = (struct response){
            .status = h.status,
            .close = h.close,
            .retry_s = h.retry_s,
            .head = slice_of(rest.ptr, h.len),
            .body = slice_of(rest.ptr + h.len, body),
            .len = at,
        };
        return RESPONSE_DONE;
    }
}

struct slice response_field(const struct response *r, struct slice name)
{
    struct slice rest = r->head;
    while (rest.len) {
        const char *end = memchr(rest.ptr, '\n', rest.len);
        struct slice line = slice_of(rest.ptr, end ? (size_t)(end - rest.ptr) : rest.len);
        rest = slice_from(rest, line.len + 1);
        if (line.len && line.ptr[line.len - 1] == '\r')
            line.len--;
        if (line.len > name.len && line.ptr[name.len] == ':' &&
            slice_eq_nocase(slice_of(line.ptr, name.len), name))
            return slice_trim(slice_from(line, name.len + 1));
    }
    return (struct slice){0};
}
