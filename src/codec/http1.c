/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One pass from the first byte, never looking further than the byte it decides on:
 *  1. A verdict (done, or bad with status and sentence) depends only on the bytes up to it. So the
 *     first verdict is the same however the input was cut, and an incomplete head can only be
 *     "more" or what the whole would get too.
 *  2. Bytes beyond limits->head_bytes are never looked at: running out of bytes there is a refusal.
 *  3. Nothing is kept between calls but *scanned. Growing input is parsed again from its start,
 * except (beyond REPARSE_FREE bytes) while it only lengthens a field value: there no verdict can
 * fall. What is looked at again byte by byte is so bounded by the target, one name and one pass per
 * line.
 *
 * Deliberately not accepted though the RFC lets a server: bare LF as line end, obs-fold, lists of
 * equal Content-Lengths, leading zeros in Content-Length (octal to somebody), an empty Host, a Host
 * that differs from an absolute-form target, repeated singleton fields.
 */
#include "codec/http1.h"

#include "codec/http1_chars.h"

#define METHOD_MAX 64u
#define NAME_MAX   256u
#define REPARSE_FREE                                                                               \
    1024u /* below this a whole pass costs less than the system call that read it */

struct head {
    const char *p, *end;
    struct http1_request *r;
    const struct http1_limits *limits;
    struct slice authority; /* of an absolute-form target */
    bool in_target, has_length, has_close, has_keep;
    unsigned status;
    const char *why;
};

static enum http1_outcome bad(struct head *h, unsigned status, const char *why)
{
    h->status = status;
    h->why = why;
    return HTTP1_BAD;
}

/* Whether `p` is, but for case, the lower-case `name` of `len` bytes. Exact only for tokens: there
 * only letters can reach a letter or '-' by setting bit 5. */
static inline bool name_is(const char *p, const char *name, size_t len)
{
    unsigned diff = 0;
    for (size_t i = 0; i < len; i++)
        diff |= (unsigned)((uint8_t)p[i] | 0x20) ^ (uint8_t)name[i];
    return diff == 0;
}
#define NAME_IS(s, literal) name_is((s).ptr, (literal), sizeof(literal) - 1)

/* The first byte that may not stand in a field value, or `end`. Eight at a time: most of a head is
 * values. The word test may also stop at a tab; the table then decides. */
static const char *value_end(const char *p, const char *end)
{
    const uint64_t ones = 0x0101010101010101ull, tops = 0x8080808080808080ull;
    for (;;) {
        while (end - p >= 8) {
            uint64_t w;
            memcpy(&w, p, 8);
            uint64_t del = w ^ (ones * 0x7f);
            if ((((w - ones * 0x20) & ~w) | ((del - ones) & ~del)) & tops)
                break;
            p += 8;
        }
        const char *stop = end - p >= 8 ? p + 8 : end;
        while (p < stop && http1_is(*p, CHAR_VALUE))
            p++;
        if (p == end || p < stop)
            return p;
    }
}

static enum http1_method method_of(struct slice m)
{
    switch (m.len) {
    case 3:
        return memcmp(m.ptr, "GET", 3) == 0   ? HTTP1_GET
               : memcmp(m.ptr, "PUT", 3) == 0 ? HTTP1_PUT
                                              : HTTP1_OTHER;
    case 4:
        return memcmp(m.ptr, "POST", 4) == 0   ? HTTP1_POST
               : memcmp(m.ptr, "HEAD", 4) == 0 ? HTTP1_HEAD
                                               : HTTP1_OTHER;
    case 5:
        return memcmp(m.ptr, "PATCH", 5) == 0 ? HTTP1_PATCH : HTTP1_OTHER;
    case 6:
        return memcmp(m.ptr, "DELETE", 6) == 0 ? HTTP1_DELETE : HTTP1_OTHER;
    case 7:
        return memcmp(m.ptr, "OPTIONS", 7) == 0 ? HTTP1_OPTIONS : HTTP1_OTHER;
    default:
        return HTTP1_OTHER;
    }
}

/* uri-host [":" port] (RFC 9110 section 7.2), not empty. */
static bool host_valid(struct slice s)
{
    const char *p = s.ptr, *end = s.ptr + s.len;
    if (s.len == 0)
        return false;
    if (*p == '[') {
        for (p++; p < end && *p != ']'; p++)
            if (!http1_is(*p, CHAR_HOST) && *p != ':')
                return false;
        if (p == end || p - s.ptr < 3)
            return false;
        p++;
    } else {
        while (p < end && http1_is(*p, CHAR_HOST))
            p++;
        if (p == s.ptr)
            return false;
    }
    if (p == end)
        return true;
    if (*p++ != ':' || end - p > 5)
        return false;
    unsigned port = 0;
    for (; p < end; p++) {
        if (*p < '0' || *p > '9')
            return false;
        port = port * 10 + (unsigned)(*p - '0');
    }
    return port <= 65535;
}

/* RFC 9112 section 3.2. Splits the target into path and query. */
static enum http1_outcome target_form(struct head *h, struct slice t)
{
    struct http1_request *r = h->r;
    if (t.len == 0)
        return bad(h, 400, "two blanks in the request line");
    if (slice_eq(r->method_text, SLICE("CONNECT")))
        return bad(h, 400, "CONNECT is not for this server");
    if (t.ptr[0] == '*' && t.len == 1) {
        if (r->method != HTTP1_OPTIONS)
            return bad(h, 400, "the target \"*\" is for OPTIONS only");
        r->path = t;
        r->query = slice_of(t.ptr + 1, 0);
        return HTTP1_DONE;
    }
    if (t.ptr[0] != '/') {
        size_t scheme = t.len > 7 && name_is(t.ptr, "http://", 7)    ? 7
                        : t.len > 8 && name_is(t.ptr, "https://", 8) ? 8
                                                                     : 0;
        if (!scheme)
            return bad(h, 400, "the request target begins with neither / nor http://");
        t = slice_from(t, scheme);
        size_t n = 0;
        while (n < t.len && t.ptr[n] != '/' && t.ptr[n] != '?')
            n++;
        h->authority = slice_of(t.ptr, n);
        if (!host_valid(h->authority))
            return bad(h, 400, "the request target names no valid host");
        t = slice_from(t, n);
    }
    const char *mark = t.len ? memchr(t.ptr, '?', t.len) : NULL;
    r->path = mark ? slice_of(t.ptr, (size_t)(mark - t.ptr)) : t;
    r->query = mark ? slice_from(t, r->path.len + 1) : slice_of(t.ptr + t.len, 0);
    if (r->path.len == 0)
        r->path = SLICE("/"); /* absolute-form without a path (RFC 9110 section 4.2.3) */
    return HTTP1_DONE;
}

/* CR LF at h->p, and nothing else. */
static enum http1_outcome line_end(struct head *h, const char *why)
{
    if (h->p == h->end)
        return HTTP1_MORE;
    if (*h->p != '\r')
        return bad(h, 400, why);
    if (h->end - h->p < 2)
        return HTTP1_MORE;
    if (h->p[1] != '\n')
        return bad(h, 400, "a CR without LF");
    h->p += 2;
    return HTTP1_DONE;
}

static enum http1_outcome version(struct head *h)
{
    if (h->end - h->p >= 10 && memcmp(h->p, "HTTP/1.1\r\n", 10) == 0) {
        h->r->minor = 1;
        h->p += 10;
        return HTTP1_DONE;
    }
    static const char form[] = "HTTP/0.0"; /* '0' stands for a digit */
    char major = 0;
    for (unsigned i = 0; i < sizeof form - 1; i++, h->p++) {
        if (h->p == h->end)
            return HTTP1_MORE;
        char c = *h->p;
        if (form[i] == '0' ? c < '0' || c > '9' : c != form[i])
            return bad(h, 400, "the request line does not end with an HTTP version");
        major = i == 5 ? c : major;
    }
    if (major != '1')
        return bad(h, 505, "this HTTP version is not served");
    h->r->minor = (uint8_t)(h->p[-1] - '0');
    return line_end(h, "something stands after the HTTP version");
}

static enum http1_outcome request_line(struct head *h)
{
    struct http1_request *r = h->r;
    if (h->p < h->end && *h->p == '\r') { /* one empty line before it: RFC 9112 section 2.2 */
        enum http1_outcome o = line_end(h, "");
        if (o != HTTP1_DONE)
            return o;
    }
    const char *from = h->p;
    while (h->p < h->end && http1_is(*h->p, CHAR_TOKEN))
        h->p++;
    if ((size_t)(h->p - from) > METHOD_MAX)
        return bad(h, 400, "a method longer than any");
    if (h->p == h->end)
        return HTTP1_MORE;
    if (h->p == from || *h->p != ' ')
        return bad(h, 400, "the request line does not begin with a method and a blank");
    r->method_text = slice_of(from, (size_t)(h->p - from));
    r->method = method_of(r->method_text);

    from = ++h->p;
    h->in_target = true;
    while (h->p < h->end && http1_is(*h->p, CHAR_TARGET))
        h->p++;
    if ((size_t)(h->p - from) > h->limits->target_bytes)
        return bad(h, 414, "the request target is longer than the limit");
    if (h->p == h->end)
        return HTTP1_MORE;
    if (*h->p != ' ')
        return bad(h, 400, "a byte in the request target that may not stand there, or no version");
    h->in_target = false;
    enum http1_outcome o = target_form(h, slice_of(from, (size_t)(h->p - from)));
    if (o != HTTP1_DONE)
        return o;
    h->p++;
    return version(h);
}

static enum http1_outcome content_length(struct head *h, struct slice v)
{
    if (h->has_length)
        return bad(h, 400, "several Content-Length fields");
    h->has_length = true;
    if (v.len == 0 || v.len > 19 || (v.len > 1 && v.ptr[0] == '0'))
        return bad(h, 400, "a Content-Length that is no plain decimal number");
    uint64_t n = 0; /* 19 digits fit 64 bits */
    for (size_t i = 0; i < v.len; i++) {
        if (v.ptr[i] < '0' || v.ptr[i] > '9')
            return bad(h, 400, "a Content-Length that is no plain decimal number");
        n = n * 10 + (uint64_t)(v.ptr[i] - '0');
    }
    if (h->r->chunked)
        return bad(h, 400, "Content-Length together with Transfer-Encoding");
    if (n > h->limits->body_bytes)
        return bad(h, 413, "the body is larger than the limit");
    h->r->content_length = n;
    return HTTP1_DONE;
}

static enum http1_outcome transfer_encoding(struct head *h, struct slice v)
{
    struct http1_request *r = h->r;
    if (r->chunked)
        return bad(h, 400, "several Transfer-Encoding fields");
    if (h->has_length)
        return bad(h, 400, "Content-Length together with Transfer-Encoding");
    if (r->minor == 0)
        return bad(h, 400, "Transfer-Encoding with HTTP/1.0");
    if (!slice_eq_nocase(v, SLICE("chunked"))) {
        bool token = v.len > 0;
        for (size_t i = 0; i < v.len; i++)
            token &= http1_is(v.ptr[i], CHAR_TOKEN);
        return token ? bad(h, 501, "a transfer coding other than chunked")
                     : bad(h, 400, "a Transfer-Encoding that is not exactly \"chunked\"");
    }
    r->chunked = true;
    return HTTP1_DONE;
}

static void connection(struct head *h, struct slice v)
{
    while (v.len) {
        const char *comma = memchr(v.ptr, ',', v.len);
        struct slice one = slice_trim(slice_of(v.ptr, comma ? (size_t)(comma - v.ptr) : v.len));
        v = comma ? slice_from(v, (size_t)(comma - v.ptr) + 1) : slice_from(v, v.len);
        h->has_close |= slice_eq_nocase(one, SLICE("close"));
        h->has_keep |= slice_eq_nocase(one, SLICE("keep-alive"));
    }
}

static enum http1_outcome once(struct head *h, struct slice *where, struct slice v, const char *why)
{
    if (where->ptr)
        return bad(h, 400, why);
    *where = v;
    return HTTP1_DONE;
}

/* What the connection itself needs of the fields; told apart by length first. */
static enum http1_outcome on_field(struct head *h, struct slice name, struct slice v)
{
    struct http1_request *r = h->r;
    switch (name.len) {
    case 4:
        if (!NAME_IS(name, "host"))
            break;
        if (r->host.ptr)
            return bad(h, 400, "several Host fields");
        if (!host_valid(v))
            return bad(h, 400, "a Host that is no valid host");
        r->host = v;
        break;
    case 6:
        if (!NAME_IS(name, "expect"))
            break;
        if (!slice_eq_nocase(v, SLICE("100-continue")))
            return bad(h, 417, "an Expect other than 100-continue");
        r->expect_continue = r->minor > 0; /* RFC 9110 section 10.1.1: ignored in HTTP/1.0 */
        break;
    case 10:
        if (NAME_IS(name, "connection"))
            connection(h, v);
        break;
    case 12:
        if (NAME_IS(name, "content-type"))
            return once(h, &r->content_type, v, "several Content-Type fields");
        break;
    case 13:
        if (NAME_IS(name, "authorization"))
            return once(h, &r->authorization, v, "several Authorization fields");
        break;
    case 14:
        if (NAME_IS(name, "content-length"))
            return content_length(h, v);
        break;
    case 16:
        if (NAME_IS(name, "content-encoding"))
            return once(h, &r->content_encoding, v, "several Content-Encoding fields");
        break;
    case 17:
        if (NAME_IS(name, "transfer-encoding"))
            return transfer_encoding(h, v);
        break;
    default:
        break;
    }
    return HTTP1_DONE;
}

/* Why what stands at h->p is no field name with its colon. */
static const char *name_fault(const struct head *h, const char *from)
{
    bool blank = *h->p == ' ' || *h->p == '\t';
    if (h->p == from)
        return blank           ? "a folded field (obs-fold)"
               : *h->p == ':'  ? "a field without a name"
               : *h->p == '\n' ? "a line that ends with LF alone"
                               : "a byte that may not stand in a field name";
    return blank ? "a blank before the colon of a field"
                 : "a byte that may not stand in a field name, or a line without a colon";
}

static enum http1_outcome field_line(struct head *h)
{
    struct http1_request *r = h->r;
    const char *from = h->p;
    if (r->fields_count >= h->limits->fields || r->fields_count >= HTTP1_HEADERS_MAX)
        return bad(h, 431, "more fields than the limit");
    while (h->p < h->end && http1_is(*h->p, CHAR_TOKEN))
        h->p++;
    if ((size_t)(h->p - from) > NAME_MAX)
        return bad(h, 431, "a field name longer than the limit");
    if (h->p == h->end)
        return HTTP1_MORE;
    if (h->p == from || *h->p != ':')
        return bad(h, 400, name_fault(h, from));
    struct slice name = slice_of(from, (size_t)(h->p - from));
    do
        h->p++;
    while (h->p < h->end && (*h->p == ' ' || *h->p == '\t'));
    from = h->p;
    h->p = value_end(h->p, h->end);
    const char *to = h->p;
    enum http1_outcome o = line_end(h, "a control byte in a field value, or a line that ends with "
                                       "LF alone");
    if (o != HTTP1_DONE)
        return o;
    while (to > from && (to[-1] == ' ' || to[-1] == '\t'))
        to--;
    struct slice value = slice_of(from, (size_t)(to - from));
    r->fields[r->fields_count++] = (struct http1_field){.name = name, .value = value};
    return on_field(h, name, value);
}

/* What only the whole head can tell. */
static enum http1_outcome head_end(struct head *h)
{
    struct http1_request *r = h->r;
    if (r->minor > 0 && !r->host.ptr)
        return bad(h, 400, "no Host field");
    if (h->authority.ptr) {
        if (r->host.ptr && !slice_eq_nocase(r->host, h->authority))
            return bad(h, 400, "the request target and Host name different hosts");
        r->host = h->authority;
    }
    r->has_body = r->chunked || r->content_length > 0;
    r->expect_continue &= r->has_body;
    r->keep_alive = !h->has_close && (r->minor > 0 || h->has_keep);
    return HTTP1_DONE;
}

static enum http1_outcome parse_head(struct head *h)
{
    enum http1_outcome o = request_line(h);
    while (o == HTTP1_DONE) {
        if (h->p == h->end)
            return HTTP1_MORE;
        if (*h->p == '\r') {
            o = line_end(h, "");
            return o == HTTP1_DONE ? head_end(h) : o;
        }
        o = field_line(h);
    }
    return o;
}

/* Whether the bytes that came since the last look only lengthen a field value; see 3 above. The
 * last look said "more", so what stands before the colon of the line is a name. */
static bool still_more(struct slice in, const struct http1_limits *limits, size_t scanned)
{
    if (scanned < REPARSE_FREE || in.len < scanned || in.len >= limits->head_bytes ||
        in.ptr[scanned - 1] == '\r')
        return false;
    const char *from = memrchr(in.ptr, '\n', scanned);
    if (!from || from < in.ptr + 2) /* the request line */
        return false;
    const char *at = in.ptr + scanned, *end = in.ptr + in.len;
    return memchr(from, ':', (size_t)(at - from)) && value_end(at, end) == end;
}

enum http1_outcome http1_parse(struct slice in, const struct http1_limits *limits, size_t *scanned,
                               struct http1_request *ret, unsigned *ret_status,
                               const char **ret_why)
{
    if (in.len == 0)
        return HTTP1_MORE;
    if (still_more(in, limits, *scanned)) {
        *scanned = in.len;
        return HTTP1_MORE;
    }
    size_t len = in.len < limits->head_bytes ? in.len : limits->head_bytes;
    struct head h = {.p = in.ptr, .end = in.ptr + len, .r = ret, .limits = limits};
    /* Not the whole struct: its 100 fields would cost more to clear than a head to parse. */
    ret->fields_count = 0;
    ret->chunked = ret->expect_continue = false;
    ret->content_length = 0;
    ret->host = ret->content_type = ret->content_encoding = ret->authorization = (struct slice){0};

    enum http1_outcome o = parse_head(&h);
    if (o == HTTP1_MORE && len == limits->head_bytes)
        o = h.in_target ? bad(&h, 414, "the request target is longer than the limit")
                        : bad(&h, 431, "the request head is longer than the limit");
    if (o == HTTP1_BAD) {
        *ret_status = h.status;
        *ret_why = h.why;
    } else if (o == HTTP1_DONE) {
        ret->head_len = (size_t)(h.p - in.ptr);
        *scanned = 0;
    } else {
        *scanned = in.len;
    }
    return o;
}

struct slice http1_field(const struct http1_request *r, struct slice name)
{
    for (unsigned i = 0; i < r->fields_count; i++)
        if (slice_eq_nocase(r->fields[i].name, name))
            return r->fields[i].value;
    return (struct slice){0};
}
