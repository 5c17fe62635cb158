/* SPDX-License-Identifier: Apache-2.0 */
#include "codec/http1.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "base/rand.h"

static const struct http1_limits limits = {
    .head_bytes = 4096, .target_bytes = 512, .fields = 20, .body_bytes = 1000000};

struct verdict {
    enum http1_outcome outcome;
    unsigned status;
    const char *why;
    struct http1_request r;
};

static struct verdict parse_with(struct slice in, const struct http1_limits *l, size_t *scanned)
{
    struct verdict v = {.status = 0};
    v.outcome = http1_parse(in, l, scanned, &v.r, &v.status, &v.why);
    return v;
}

static struct verdict parse(struct slice in)
{
    size_t scanned = 0;
    return parse_with(in, &limits, &scanned);
}

static void assert_same(const struct verdict *a, const struct verdict *b)
{
    assert_int_equal(a->outcome, b->outcome);
    if (a->outcome == HTTP1_BAD) {
        assert_int_equal(a->status, b->status);
        assert_ptr_equal(a->why, b->why);
    }
    if (a->outcome != HTTP1_DONE)
        return;
    const struct http1_request *x = &a->r, *y = &b->r;
    assert_int_equal(x->method, y->method);
    assert_true(slice_eq(x->method_text, y->method_text));
    assert_true(slice_eq(x->path, y->path) && slice_eq(x->query, y->query));
    assert_int_equal(x->minor, y->minor);
    assert_int_equal(x->head_len, y->head_len);
    assert_true(x->has_body == y->has_body && x->chunked == y->chunked);
    assert_true(x->keep_alive == y->keep_alive && x->expect_continue == y->expect_continue);
    assert_true(x->content_length == y->content_length);
    assert_int_equal(x->fields_count, y->fields_count);
    assert_memory_equal(x->fields, y->fields, x->fields_count * sizeof *x->fields);
    assert_true(slice_eq(x->host, y->host) && slice_eq(x->authorization, y->authorization));
    assert_true(slice_eq(x->content_type, y->content_type));
    assert_true(slice_eq(x->content_encoding, y->content_encoding));
}

/* Cut at every place, and fed byte by byte: the same verdict, and nothing but "more" before it. */
static void check_splits(struct slice in, const struct http1_limits *l)
{
    size_t scanned = 0;
    struct verdict whole = parse_with(in, l, &scanned);
    for (size_t cut = 0; cut <= in.len; cut++) {
        scanned = 0;
        struct verdict v = parse_with(slice_of(in.ptr, cut), l, &scanned);
        if (v.outcome == HTTP1_MORE)
            v = parse_with(in, l, &scanned);
        assert_same(&v, &whole);
    }
    struct verdict v = {.outcome = HTTP1_MORE};
    scanned = 0;
    for (size_t n = 1; n <= in.len && v.outcome == HTTP1_MORE; n++)
        v = parse_with(slice_of(in.ptr, n), l, &scanned);
    if (in.len)
        assert_same(&v, &whole);
}

#define HOST "Host: a.example\r\n"

static const struct good {
    struct slice in;
    enum http1_method method;
    const char *path, *query;
    bool keep_alive, chunked;
    uint64_t content_length;
} good[] = {
    {SLICE("GET / HTTP/1.1\r\n" HOST "\r\n"), HTTP1_GET, "/", "", true, false, 0},
    {SLICE("\r\nGET / HTTP/1.1\r\n" HOST "\r\n"), HTTP1_GET, "/", "", true, false, 0},
    {SLICE("HEAD /a?b HTTP/1.1\r\n" HOST "\r\n"), HTTP1_HEAD, "/a", "b", true, false, 0},
    {SLICE("PUT /a?b?c=/ HTTP/1.1\r\n" HOST "\r\n"), HTTP1_PUT, "/a", "b?c=/", true, false, 0},
    {SLICE("PATCH /%zz? HTTP/1.1\r\n" HOST "\r\n"), HTTP1_PATCH, "/%zz", "", true, false, 0},
    {SLICE("DELETE //x/../y HTTP/1.1\r\n" HOST "\r\n"), HTTP1_DELETE, "//x/../y", "", true, false,
     0},
    {SLICE("OPTIONS * HTTP/1.1\r\n" HOST "\r\n"), HTTP1_OPTIONS, "*", "", true, false, 0},
    {SLICE("OPTIONS /x HTTP/1.1\r\n" HOST "\r\n"), HTTP1_OPTIONS, "/x", "", true, false, 0},
    {SLICE("get / HTTP/1.1\r\n" HOST "\r\n"), HTTP1_OTHER, "/", "", true, false, 0},
    {SLICE("M-SEARCH /?q=[a]|{b}^` HTTP/1.1\r\n" HOST "\r\n"), HTTP1_OTHER, "/", "q=[a]|{b}^`",
     true, false, 0},
    {SLICE("GET / HTTP/1.0\r\n\r\n"), HTTP1_GET, "/", "", false, false, 0},
    {SLICE("GET / HTTP/1.0\r\nConnection: foo, Keep-Alive\r\n\r\n"), HTTP1_GET, "/", "", true,
     false, 0},
    {SLICE("GET / HTTP/1.0\r\nConnection: keep-alive\r\nConnection: close\r\n\r\n"), HTTP1_GET, "/",
     "", false, false, 0},
    {SLICE("GET / HTTP/1.1\r\n" HOST "Connection: ,Upgrade ,\tCLOSE\r\nUpgrade: h2c\r\n\r\n"),
     HTTP1_GET, "/", "", false, false, 0},
    {SLICE("GET / HTTP/1.9\r\n" HOST "\r\n"), HTTP1_GET, "/", "", true, false, 0},
    {SLICE("POST / HTTP/1.1\r\n" HOST "Content-Length: 0\r\n\r\n"), HTTP1_POST, "/", "", true,
     false, 0},
    {SLICE("POST / HTTP/1.1\r\n" HOST "cOnTeNt-LeNgTh:\t 1000000 \t\r\n\r\nbody"), HTTP1_POST, "/",
     "", true, false, 1000000},
    {SLICE("GET / HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\n12345"), HTTP1_GET, "/", "", true,
     false, 5},
    {SLICE("POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), HTTP1_POST,
     "/", "", true, true, 0},
    {SLICE("POST / HTTP/1.1\r\n" HOST "Transfer-Encoding:Chunked\t \r\n\r\n"), HTTP1_POST, "/", "",
     true, true, 0},
    {SLICE("POST / HTTP/1.1\r\n" HOST "Upgrade: websocket\r\nConnection: Upgrade\r\n"
           "Content-Length: 3\r\n\r\nabc"),
     HTTP1_POST, "/", "", true, false, 3},
    {SLICE("GET http://a.example/x?y HTTP/1.1\r\n" HOST "\r\n"), HTTP1_GET, "/x", "y", true, false,
     0},
    {SLICE("GET HTTPS://A.EXAMPLE?y HTTP/1.1\r\n" HOST "\r\n"), HTTP1_GET, "/", "y", true, false,
     0},
    {SLICE("GET http://a.example HTTP/1.0\r\n\r\n"), HTTP1_GET, "/", "", false, false, 0},
    {SLICE("GET / HTTP/1.1\r\nHost: [2001:db8::1]:65535\r\n\r\n"), HTTP1_GET, "/", "", true, false,
     0},
    {SLICE("GET / HTTP/1.1\r\nHost: under_score.example:\r\n\r\n"), HTTP1_GET, "/", "", true, false,
     0},
    {SLICE("GET / HTTP/1.1\r\n" HOST "X-Empty:\r\nX-Blank:  \t \r\nX-Obs: \xff\x80 a\tb\r\n\r\n"),
     HTTP1_GET, "/", "", true, false, 0},
    {SLICE("GET / HTTP/1.1\r\n" HOST "Expect: 100-Continue\r\n\r\n"), HTTP1_GET, "/", "", true,
     false, 0},
};

static void accepts_the_good(void **state)
{
    for (unsigned i = 0; i < sizeof good / sizeof *good; i++) {
        const struct good *g = &good[i];
        struct verdict v = parse(g->in);
        if (v.outcome != HTTP1_DONE)
            fail_msg("line %u: outcome %d, %u %s", i, v.outcome, v.status, v.why);
        assert_int_equal(v.r.method, g->method);
        assert_true(slice_eq(v.r.path, slice_str(g->path)));
        assert_true(slice_eq(v.r.query, slice_str(g->query)));
        assert_true(v.r.keep_alive == g->keep_alive && v.r.chunked == g->chunked);
        assert_true(v.r.content_length == g->content_length);
        assert_true(v.r.has_body == (g->chunked || g->content_length));
        const char *end = memmem(g->in.ptr + 2, g->in.len - 2, "\r\n\r\n", 4);
        assert_int_equal(v.r.head_len, (size_t)(end - g->in.ptr) + 4);
        check_splits(g->in, &limits);
    }
}

#define R  "POST / HTTP/1.1\r\n"
#define RH R HOST
#define CASE(status, text)                                                                         \
    {                                                                                              \
        status, SLICE(text)                                                                        \
    }

static const struct refused {
    unsigned status;
    struct slice in;
} refused[] = {
    /* the request line */
    CASE(400, "\r\n\r\nGET / HTTP/1.1\r\n" HOST "\r\n"),
    CASE(400, "\nGET / HTTP/1.1\r\n" HOST "\r\n"),
    CASE(400, "\rGET / HTTP/1.1\r\n" HOST "\r\n"),
    CASE(400, " GET / HTTP/1.1\r\n" HOST "\r\n"),
    CASE(400, "GET  / HTTP/1.1\r\n" HOST "\r\n"),
    CASE(400, "GET / \tHTTP/1.1\r\n" HOST "\r\n"),
    CASE(400, "GET /  HTTP/1.1\r\n" HOST "\r\n"),
    CASE(400, "GET\t/ HTTP/1.1\r\n" HOST "\r\n"),
    CASE(400, "GET\x0b/ HTTP/1.1\r\n" HOST "\r\n"),
    CASE(400, "GET /\x0cHTTP/1.1\r\n" HOST "\r\n"),
    CASE(400, "GET / HTTP/1.1 \r\n" HOST "\r\n"),
    CASE(400, "GET / HTTP/1.1\t\r\n" HOST "\r\n"),
    CASE(400, "GET / HTTP/1.1\n" HOST "\r\n"),
    CASE(400, "GET / HTTP/1.1\r" HOST "\r\n"),
    CASE(400, "GET / HTTP/1.1\r\r\n" HOST "\r\n"),
    CASE(400, "GET /a b HTTP/1.1\r\n" HOST "\r\n"),
    CASE(400, "GET /a#b HTTP/1.1\r\n" HOST "\r\n"),
    CASE(400, "GET /a\\b HTTP/1.1\r\n" HOST "\r\n"),
    CASE(400, "GET /\"<> HTTP/1.1\r\n" HOST "\r\n"),
    CASE(400, "GET /\xc3\xa4 HTTP/1.1\r\n" HOST "\r\n"),
    CASE(400, "GET /\x7f HTTP/1.1\r\n" HOST "\r\n"),
    CASE(400, "GET /\x00 HTTP/1.1\r\n" HOST "\r\n"),
    CASE(400, "GET a HTTP/1.1\r\n" HOST "\r\n"),
    CASE(400, "GET ?a HTTP/1.1\r\n" HOST "\r\n"),
    CASE(400, "GET a.example:80 HTTP/1.1\r\n" HOST "\r\n"),
    CASE(400, "GET * HTTP/1.1\r\n" HOST "\r\n"),
    CASE(400, "OPTIONS *x HTTP/1.1\r\n" HOST "\r\n"),
    CASE(400, "CONNECT a.example:443 HTTP/1.1\r\n" HOST "\r\n"),
    CASE(400, "CONNECT / HTTP/1.1\r\n" HOST "\r\n"),
    CASE(400, "GET ftp://a.example/ HTTP/1.1\r\n" HOST "\r\n"),
    CASE(400, "GET http:///x HTTP/1.1\r\n" HOST "\r\n"),
    CASE(400, "GET http://u@a.example/ HTTP/1.1\r\n" HOST "\r\n"),
    CASE(400, "GET http://a.example:99999/ HTTP/1.1\r\n" HOST "\r\n"),
    CASE(400, "GET http://b.example/ HTTP/1.1\r\n" HOST "\r\n"),
    CASE(400, "GET http://a.example:80/ HTTP/1.1\r\n" HOST "\r\n"),
    CASE(400, "GET http://a.example/ HTTP/1.1\r\n\r\n"),
    CASE(400, "GET(/ HTTP/1.1\r\n" HOST "\r\n"),
    CASE(400, "G\xc3T / HTTP/1.1\r\n" HOST "\r\n"),
    CASE(400, "GET / http/1.1\r\n" HOST "\r\n"),
    CASE(400, "GET / HTTP/1\r\n" HOST "\r\n"),
    CASE(400, "GET / HTTP/1.\r\n" HOST "\r\n"),
    CASE(400, "GET / HTTP/11.1\r\n" HOST "\r\n"),
    CASE(400, "GET / HTTP/1.10\r\n" HOST "\r\n"),
    CASE(400, "GET / HTTP/+1.1\r\n" HOST "\r\n"),
    CASE(400, "GET / HTTP/1,1\r\n" HOST "\r\n"),
    CASE(400, "GET / HTTPS/1.1\r\n" HOST "\r\n"),
    CASE(400, "GET /\r\n"),
    CASE(400, "GET / \r\n"),
    CASE(400, "GET\r\n"),
    CASE(505, "GET / HTTP/2.0\r\n" HOST "\r\n"),
    CASE(505, "GET / HTTP/0.9\r\n\r\n"),
    CASE(505, "GET / HTTP/9.9\r\n\r\n"),
    CASE(400, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    CASE(400, "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
    CASE(400, "{\"value\":1}"),
    /* Host */
    CASE(400, "GET / HTTP/1.1\r\n\r\n"),
    CASE(400, "GET / HTTP/1.1\r\n" HOST HOST "\r\n"),
    CASE(400, "GET / HTTP/1.0\r\n" HOST "host: b.example\r\n\r\n"),
    CASE(400, "GET / HTTP/1.1\r\nHost:\r\n\r\n"),
    CASE(400, "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n"),
    CASE(400, "GET / HTTP/1.1\r\nHost: a b\r\n\r\n"),
    CASE(400, "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n"),
    CASE(400, "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"),
    CASE(400, "GET / HTTP/1.1\r\nHost: http://a\r\n\r\n"),
    CASE(400, "GET / HTTP/1.1\r\nHost: a:b\r\n\r\n"),
    CASE(400, "GET / HTTP/1.1\r\nHost: a:65536\r\n\r\n"),
    CASE(400, "GET / HTTP/1.1\r\nHost: a:000080\r\n\r\n"),
    CASE(400, "GET / HTTP/1.1\r\nHost: :80\r\n\r\n"),
    CASE(400, "GET / HTTP/1.1\r\nHost: [::1\r\n\r\n"),
    CASE(400, "GET / HTTP/1.1\r\nHost: []\r\n\r\n"),
    CASE(400, "GET / HTTP/1.1\r\nHost: [::1]x\r\n\r\n"),
    CASE(400, "GET / HTTP/1.1\r\nHost: \xff\r\n\r\n"),
    /* Content-Length */
    CASE(400, RH "Content-Length: 5\r\nContent-Length: 5\r\n\r\n"),
    CASE(400, RH "Content-Length: 5\r\nContent-Length: 6\r\n\r\n"),
    CASE(400, RH "Content-Length: 0\r\ncontent-length: 0\r\n\r\n"),
    CASE(400, RH "Content-Length: 5, 5\r\n\r\n"),
    CASE(400, RH "Content-Length: 5,\r\n\r\n"),
    CASE(400, RH "Content-Length: +5\r\n\r\n"),
    CASE(400, RH "Content-Length: -5\r\n\r\n"),
    CASE(400, RH "Content-Length: 0x5\r\n\r\n"),
    CASE(400, RH "Content-Length: 5 5\r\n\r\n"),
    CASE(400, RH "Content-Length: 5\v\r\n\r\n"),
    CASE(400, RH "Content-Length: 5\x00\r\n\r\n"),
    CASE(400, RH "Content-Length: 5_0\r\n\r\n"),
    CASE(400, RH "Content-Length: 5e1\r\n\r\n"),
    CASE(400, RH "Content-Length: 5.0\r\n\r\n"),
    CASE(400, RH "Content-Length: 5;\r\n\r\n"),
    CASE(400, RH "Content-Length: \"5\"\r\n\r\n"),
    CASE(400, RH "Content-Length: 05\r\n\r\n"),
    CASE(400, RH "Content-Length: \xd9\xa5\r\n\r\n"),
    CASE(400, RH "Content-Length:\r\n\r\n"),
    CASE(400, RH "Content-Length: \t \r\n\r\n"),
    CASE(400, RH "Content-Length: 18446744073709551621\r\n\r\n"),
    CASE(400, RH "Content-Length: 99999999999999999999999999\r\n\r\n"),
    CASE(413, RH "Content-Length: 9999999999999999999\r\n\r\n"),
    CASE(413, RH "Content-Length: 1000001\r\n\r\n"),
    /* Transfer-Encoding */
    CASE(400, RH "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"),
    CASE(400, RH "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n"),
    CASE(400, RH "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n"),
    CASE(400, RH "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n"),
    CASE(400, RH "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"),
    CASE(400, RH "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n"),
    CASE(400, RH "Transfer-Encoding: chunked, identity\r\n\r\n"),
    CASE(400, RH "Transfer-Encoding: identity, chunked\r\n\r\n"),
    CASE(400, RH "Transfer-Encoding: gzip, chunked\r\n\r\n"),
    CASE(400, RH "Transfer-Encoding: chunked,\r\n\r\n"),
    CASE(400, RH "Transfer-Encoding: ,chunked\r\n\r\n"),
    CASE(400, RH "Transfer-Encoding: chunked;q=1\r\n\r\n"),
    CASE(400, RH "Transfer-Encoding: \"chunked\"\r\n\r\n"),
    CASE(400, RH "Transfer-Encoding:\r\n\r\n"),
    CASE(400, RH "Transfer-Encoding: \xffhunked\r\n\r\n"),
    CASE(400, RH "Transfer-Encoding: \x0b"
                 "chunked\r\n\r\n"),
    CASE(400, RH "Transfer-Encoding: \x0c"
                 "chunked\r\n\r\n"),
    CASE(400, RH "Transfer-Encoding: chunked\x00\r\n\r\n"),
    CASE(400, RH "Transfer-Encoding: \x00"
                 "chunked\r\n\r\n"),
    CASE(400, RH "Transfer-Encoding : chunked\r\n\r\n"),
    CASE(400, RH "Transfer-Encoding\t: chunked\r\n\r\n"),
    CASE(400, RH "Transfer-Encoding\x00: chunked\r\n\r\n"),
    CASE(400, RH "Transfer-Encoding\r\n: chunked\r\n\r\n"),
    CASE(400, RH " Transfer-Encoding: chunked\r\n\r\n"),
    CASE(400, RH "\x00Transfer-Encoding: chunked\r\n\r\n"),
    CASE(400, RH "X: y\nTransfer-Encoding: chunked\r\n\r\n"),
    CASE(400, RH "X: y\rTransfer-Encoding: chunked\r\n\r\n"),
    CASE(400, RH "Transfer-Encoding:\r\n chunked\r\n\r\n"),
    CASE(501, RH "Transfer-Encoding: xchunked\r\n\r\n"),
    CASE(501, RH "Transfer-Encoding: identity\r\n\r\n"),
    CASE(501, RH "Transfer-Encoding: gzip\r\n\r\n"),
    CASE(400, "POST / HTTP/1.0\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n"),
    CASE(400, "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n"),
    /* fields at large */
    CASE(400, RH "X: a\r\n folded\r\n\r\n"),
    CASE(400, RH "X: a\r\n\tfolded\r\n\r\n"),
    CASE(400, R " folded\r\n" HOST "\r\n"),
    CASE(400, RH ": no name\r\n\r\n"),
    CASE(400, RH ":\r\n\r\n"),
    CASE(400, RH "no colon\r\n\r\n"),
    CASE(400, RH "nocolon\r\n\r\n"),
    CASE(400, RH "a b: c\r\n\r\n"),
    CASE(400, RH "a: b\n\r\n"),
    CASE(400, RH "a: b\r\n\n"),
    CASE(400, RH "a: b\r\n\rx"),
    CASE(400, RH "a: b\r\r\n\r\n"),
    CASE(400, RH "a: b\rc\r\n\r\n"),
    CASE(400, RH "a: \x00\r\n\r\n"),
    CASE(400, RH "a: \x01\r\n\r\n"),
    CASE(400, RH "a: \x1f\r\n\r\n"),
    CASE(400, RH "a: \x7f\r\n\r\n"),
    CASE(400, RH "a: 1234567\x7f"
                 "1234567890\r\n\r\n"),
    CASE(400, RH "a\x80: b\r\n\r\n"),
    CASE(400, RH "a(b): c\r\n\r\n"),
    CASE(400, RH "\"a\": c\r\n\r\n"),
    CASE(400, RH "Content-Type: a\r\nContent-type: b\r\n\r\n"),
    CASE(400, RH "Content-Encoding: gzip\r\nContent-Encoding: gzip\r\n\r\n"),
    CASE(400, RH "Authorization: a\r\nAuthorization: a\r\n\r\n"),
    CASE(417, RH "Expect: 100-continue, x\r\n\r\n"),
    CASE(417, RH "Expect:\r\n\r\n"),
    CASE(417, RH "Expect: 200-ok\r\n\r\n"),
    CASE(417, "GET / HTTP/1.0\r\nExpect: y\r\n\r\n"),
};

static void refuses_the_bad(void **state)
{
    for (unsigned i = 0; i < sizeof refused / sizeof *refused; i++) {
        struct verdict v = parse(refused[i].in);
        if (v.outcome != HTTP1_BAD || v.status != refused[i].status)
            fail_msg("line %u: outcome %d, %u %s", i, v.outcome, v.status, v.why);
        assert_true(v.why && *v.why);
        check_splits(refused[i].in, &limits);
    }
}

/* No control byte, wherever in a head it is put, makes it pass; nor does a byte left out of its
 * line ends. */
static void refuses_every_control_byte(void **state)
{
    static const char head[] = "GET /abc?d HTTP/1.1\r\nHost: a.example\r\nX-Some: thing\r\n\r\n";
    char copy[sizeof head];
    for (size_t at = 0; at < sizeof head - 1; at++) {
        for (int c = 0; c < 0x20; c++) {
            memcpy(copy, head, sizeof head);
            if (copy[at] == c)
                continue;
            copy[at] = (char)c;
            if (c == '\t' && at > 20 && head[at] != '\r' && head[at] != '\n' &&
                head[at - 1] != '\n' && memchr(head + 21, ':', at - 21) != NULL)
                continue; /* a tab within a value */
            if (parse(slice_of(copy, sizeof copy - 1)).outcome == HTTP1_DONE &&
                !(c == '\t' && head[at] == ' '))
                fail_msg("byte %02x at %zu passes", c, at);
        }
    }
}

static void keeps_its_limits(void **state)
{
    struct http1_limits l = {.head_bytes = 100, .target_bytes = 10, .fields = 2, .body_bytes = 0};
    const struct {
        struct slice in;
        enum http1_outcome outcome;
        unsigned status;
    } all[] = {
        {SLICE("GET /234567890 HTTP/1.1\r\nHost: a\r\n\r\n"), HTTP1_DONE, 0},
        {SLICE("GET /2345678901 HTTP/1.1\r\nHost: a\r\n\r\n"), HTTP1_BAD, 414},
        {SLICE("GET /2345678901"), HTTP1_BAD, 414},
        {SLICE("GET /234567890"), HTTP1_MORE, 0},
        {SLICE("GET / HTTP/1.1\r\nHost: a\r\nb: c\r\n\r\n"), HTTP1_DONE, 0},
        {SLICE("GET / HTTP/1.1\r\nHost: a\r\nb: c\r\nd"), HTTP1_BAD, 431},
        {SLICE("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n"), HTTP1_BAD, 413},
        {SLICE("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"), HTTP1_DONE, 0},
    };
    for (unsigned i = 0; i < sizeof all / sizeof *all; i++) {
        size_t scanned = 0;
        struct verdict v = parse_with(all[i].in, &l, &scanned);
        assert_int_equal(v.outcome, all[i].outcome);
        assert_int_equal(v.status, all[i].status);
        check_splits(all[i].in, &l);
    }
    /* A head of exactly the limit passes, one byte more does not, whatever comes behind it. */
    char text[300];
    for (int extra = 0; extra < 3; extra++) {
        int n = snprintf(text, sizeof text, "GET / HTTP/1.1\r\nHost: a\r\nb: %0*d\r\n\r\n",
                         68 + extra, 0);
        size_t scanned = 0;
        struct verdict v = parse_with(slice_of(text, (size_t)n), &l, &scanned);
        assert_int_equal(n, 100 + extra);
        scanned = 0; /* no room for a single byte more: said at once */
        if (extra)
            assert_int_equal(parse_with(slice_of(text, 100), &l, &scanned).status, 431);
        assert_int_equal(v.outcome, extra ? HTTP1_BAD : HTTP1_DONE);
        assert_int_equal(v.status, extra ? 431 : 0);
        check_splits(slice_of(text, (size_t)n), &l);
    }
    l.head_bytes = 2000;
    for (int extra = 0; extra < 2; extra++) {
        char name[600];
        int n = snprintf(name, sizeof name, "GET / HTTP/1.1\r\nHost: a\r\n%0*d: x\r\n\r\n",
                         256 + extra, 0);
        size_t scanned = 0;
        struct verdict v = parse_with(slice_of(name, (size_t)n), &l, &scanned);
        assert_int_equal(v.outcome, extra ? HTTP1_BAD : HTTP1_DONE);
        assert_int_equal(v.status, extra ? 431 : 0);
        check_splits(slice_of(name, (size_t)n), &l);
        n = snprintf(name, sizeof name, "%0*d / HTTP/1.1\r\nHost: a\r\n\r\n", 64 + extra, 0);
        scanned = 0;
        v = parse_with(slice_of(name, (size_t)n), &l, &scanned);
        assert_int_equal(v.outcome, extra ? HTTP1_BAD : HTTP1_DONE);
        check_splits(slice_of(name, (size_t)n), &l);
    }
    l.fields = 1000; /* the array's own bound holds */
    l.head_bytes = 100000;
    char *many = malloc(l.head_bytes);
    int at = sprintf(many, "GET / HTTP/1.1\r\nHost: a\r\n");
    for (int i = 1; i < 102; i++)
        at += sprintf(many + at, "x%d: y\r\n", i);
    size_t scanned = 0;
    struct verdict v = parse_with(slice_of(many, (size_t)at), &l, &scanned);
    assert_true(v.outcome == HTTP1_BAD && v.status == 431);
    free(many);
}

/* Heads beyond the size below which everything is looked at again. */
static void large_heads_in_any_pieces(void **state)
{
    struct http1_limits l = {
        .head_bytes = 6000, .target_bytes = 2500, .fields = 50, .body_bytes = 100};
    struct rand rand = {.state = 3};
    char *text = malloc(8000);
    const char *ends[] = {"\r\n\r\n", "\n\r\n", "\x01\r\n\r\n", "\r\n b\r\n\r\n", "\rxyz"};
    for (int round = 0; round < 60; round++) {
        int at = sprintf(text, "GET /%0*d HTTP/1.1\r\nHost: a\r\n",
                         1 + (int)rand_below(&rand, round % 3 ? 200 : 2600), 0);
        while (at < 900 + round * 100)
            at += sprintf(text + at, "f%d: %0*d\r\n", at, 1 + (int)rand_below(&rand, 700), 0);
        at += sprintf(text + at, round % 7 ? "last: z%s" : "la st: z%s", ends[round % 5]);
        struct slice in = slice_of(text, (size_t)at);
        size_t scanned = 0;
        struct verdict whole = parse_with(in, &l, &scanned), v = {.outcome = HTTP1_MORE};
        scanned = 0;
        for (size_t n = 0; n < in.len && v.outcome == HTTP1_MORE;) {
            n += 1 + rand_below(&rand, round % 2 ? 3 : 900);
            n = n < in.len ? n : in.len;
            v = parse_with(slice_of(text, n), &l, &scanned);
            size_t fresh = 0;
            struct verdict at_once = parse_with(slice_of(text, n), &l, &fresh);
            assert_same(&v, &at_once);
        }
        assert_same(&v, &whole);
    }
    free(text);
}

static void finds_fields(void **state)
{
    struct verdict v = parse(SLICE("POST /x HTTP/1.1\r\nHost: h:1\r\nX-AIO-Key: first\r\n"
                                   "content-type: application/json\r\nAUTHORIZATION: Basic x\r\n"
                                   "Content-Encoding: gzip\r\nx-aio-KEY: second\r\n"
                                   "expect: 100-continue\r\nContent-Length: 3\r\n\r\nabcGET /"));
    assert_int_equal(v.outcome, HTTP1_DONE);
    assert_true(slice_eq(http1_field(&v.r, SLICE("x-aio-key")), SLICE("first")));
    assert_null(http1_field(&v.r, SLICE("x-aio-ke")).ptr);
    assert_true(slice_eq(v.r.host, SLICE("h:1")));
    assert_true(slice_eq(v.r.content_type, SLICE("application/json")));
    assert_true(slice_eq(v.r.authorization, SLICE("Basic x")));
    assert_true(slice_eq(v.r.content_encoding, SLICE("gzip")));
    assert_true(v.r.expect_continue && v.r.has_body);
    v = parse(SLICE("GET / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n\r\n"));
    assert_false(v.r.expect_continue); /* nothing to go on with */
    v = parse(SLICE("PUT / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n"));
    assert_false(v.r.expect_continue);
    v = parse(SLICE("GET http://Abs.example:8080/p HTTP/1.1\r\nHost: abs.EXAMPLE:8080\r\n\r\n"));
    assert_true(slice_eq(v.r.host, SLICE("Abs.example:8080")));
}

/* Random damage to good heads: never a verdict that depends on the cut. */
static void any_damage_any_cut(void **state)
{
    struct rand rand = {.state = 11};
    static const char bytes[] = "\r\n\t :,;0\x00\x7f\xff/ahTc?#";
    char copy[512];
    for (int round = 0; round < 20000; round++) {
        struct slice from = round & 1
                                ? good[rand_below(&rand, sizeof good / sizeof *good)].in
                                : refused[rand_below(&rand, sizeof refused / sizeof *refused)].in;
        memcpy(copy, from.ptr, from.len);
        for (uint64_t n = 1 + rand_below(&rand, 3); n; n--)
            copy[rand_below(&rand, from.len)] = bytes[rand_below(&rand, sizeof bytes - 1)];
        struct slice in = slice_of(copy, from.len);
        struct verdict whole = parse(in);
        size_t scanned = 0, cut = rand_below(&rand, from.len + 1);
        struct verdict v = parse_with(slice_of(copy, cut), &limits, &scanned);
        if (v.outcome == HTTP1_MORE)
            v = parse_with(in, &limits, &scanned);
        assert_same(&v, &whole);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(accepts_the_good),           cmocka_unit_test(refuses_the_bad),
        cmocka_unit_test(refuses_every_control_byte), cmocka_unit_test(keeps_its_limits),
        cmocka_unit_test(large_heads_in_any_pieces),  cmocka_unit_test(finds_fields),
        cmocka_unit_test(any_damage_any_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
