/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz.h"

#include <stdio.h>
#include <stdlib.h>
#include <xxhash.h>

#include "base/buf.h"
#include "base/check.h"
#include "codec/http1.h"

static const struct http1_limits limits = {
    .head_bytes = 3000, .target_bytes = 300, .fields = 30, .body_bytes = 5000};

struct verdict {
    enum http1_outcome outcome;
    unsigned status;
    const char *why;
    struct http1_request r;
};

static void parse(struct slice in, size_t *scanned, struct verdict *v)
{
    v->status = 0;
    v->why = NULL;
    v->outcome = http1_parse(in, &limits, scanned, &v->r, &v->status, &v->why);
    if (v->outcome == HTTP1_BAD)
        CHECK(v->status >= 400 && v->status <= 505 && v->why);
}

static void check_equal(const struct http1_request *a, const struct http1_request *b)
{
    CHECK(a->method == b->method && slice_eq(a->method_text, b->method_text));
    CHECK(slice_eq(a->path, b->path) && slice_eq(a->query, b->query));
    CHECK(a->has_body == b->has_body && a->chunked == b->chunked);
    CHECK(a->content_length == b->content_length && a->keep_alive == b->keep_alive);
    CHECK(a->expect_continue == b->expect_continue && a->fields_count == b->fields_count);
    for (unsigned i = 0; i < a->fields_count; i++)
        CHECK(slice_eq(a->fields[i].name, b->fields[i].name) &&
              slice_eq(a->fields[i].value, b->fields[i].value));
    CHECK(slice_eq_nocase(a->host, b->host) && slice_eq(a->content_type, b->content_type));
}

static void check_same(const struct verdict *a, const struct verdict *b)
{
    CHECK(a->outcome == b->outcome && a->status == b->status && a->why == b->why);
    if (a->outcome == HTTP1_DONE) {
        CHECK(a->r.head_len == b->r.head_len);
        check_equal(&a->r, &b->r);
    }
}

static void check_within(struct slice part, struct slice whole)
{
    CHECK(part.len == 0 || (part.ptr >= whole.ptr && part.ptr + part.len <= whole.ptr + whole.len));
}

/* What was accepted, in its plainest spelling, is accepted again and means the same. */
static void check_round_trip(const struct http1_request *r)
{
    static struct verdict again;
    struct buf out;
    buf_init(&out, 1 << 16);
    buf_printf(&out, "%.*s %.*s%s%.*s HTTP/1.%u\r\n", SLICE_ARG(r->method_text), SLICE_ARG(r->path),
               r->query.len ? "?" : "", SLICE_ARG(r->query), r->minor);
    for (unsigned i = 0; i < r->fields_count; i++)
        buf_printf(&out, "%.*s:%.*s\r\n", SLICE_ARG(r->fields[i].name),
                   SLICE_ARG(r->fields[i].value));
    buf_put_str(&out, "\r\n");
    size_t scanned = 0;
    bool had_host = http1_field(r, SLICE("host")).ptr != NULL;
    parse(buf_slice(&out), &scanned, &again);
    CHECK(!out.failed && again.outcome == HTTP1_DONE && again.r.head_len == out.len);
    if (!had_host)
        again.r.host = r->host; /* absolute-form without a Host, HTTP/1.0 */
    check_equal(r, &again.r);
    buf_fini(&out);
}

struct decoded {
    enum http1_outcome outcome;
    unsigned status;
    const char *why;
    size_t used, len;
    char *body;
};

/* `piece` bytes at a time, each piece a block of its own. */
static struct decoded dechunk(struct slice in, size_t first, size_t piece)
{
    struct decoded d = {.outcome = HTTP1_MORE, .body = malloc(in.len + 1)};
    struct http1_chunked c = {0};
    CHECK(d.body);
    while (d.outcome == HTTP1_MORE && d.used < in.len) {
        size_t n = d.used == 0 && first ? first : piece, used, body;
        n = n < in.len - d.used ? n : in.len - d.used;
        char *copy = malloc(n);
        CHECK(copy);
        memcpy(copy, in.ptr + d.used, n);
        d.outcome = http1_dechunk(&c, copy, n, limits.body_bytes, &used, &body, &d.status, &d.why);
        CHECK(body <= used && used <= n && (d.outcome != HTTP1_MORE || used == n));
        memcpy(d.body + d.len, copy, body);
        d.len += body;
        d.used += used;
        free(copy);
    }
    CHECK(d.len <= limits.body_bytes && c.total == d.len);
    return d;
}

static void check_chunked(struct slice in, size_t cut)
{
    struct decoded whole = dechunk(in, 0, in.len ? in.len : 1);
    for (int way = 0; way < 2; way++) {
        struct decoded d = way ? dechunk(in, 0, 1) : dechunk(in, cut, in.len);
        CHECK(d.outcome == whole.outcome && d.status == whole.status && d.why == whole.why);
        CHECK(d.used == whole.used && d.len == whole.len);
        CHECK(memcmp(d.body, whole.body, d.len) == 0);
        free(d.body);
    }
    free(whole.body);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct verdict whole, part;
    struct slice in = slice_of(data, size);
    size_t scanned = 0,
           cuts[] = {XXH3_64bits(data, size) % (size + 1), size / 2, size ? size - 1 : 0};
    parse(in, &scanned, &whole);
    for (unsigned i = 0; i < 3; i++) {
        char *prefix = malloc(cuts[i] + 1); /* a block of its own: reads beyond the cut are seen */
        CHECK(prefix);
        memcpy(prefix, data, cuts[i]);
        scanned = 0;
        parse(slice_of(prefix, cuts[i]), &scanned, &part);
        if (part.outcome == HTTP1_DONE) {
            scanned = 0;
            parse(in, &scanned, &part);
        } else if (part.outcome == HTTP1_MORE) {
            parse(in, &scanned, &part);
        }
        free(prefix);
        check_same(&part, &whole);
    }
    struct slice body = in;
    if (whole.outcome == HTTP1_DONE) {
        for (unsigned i = 0; i < whole.r.fields_count; i++) {
            check_within(whole.r.fields[i].name, in);
            check_within(whole.r.fields[i].value, in);
        }
        CHECK(whole.r.head_len <= size && whole.r.head_len <= limits.head_bytes);
        CHECK(!whole.r.chunked || whole.r.content_length == 0);
        check_round_trip(&whole.r);
        body = slice_from(in, whole.r.head_len);
    }
    check_chunked(body, cuts[0] < body.len ? cuts[0] : body.len / 2);
    return 0;
}
