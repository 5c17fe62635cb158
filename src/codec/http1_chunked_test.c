/* SPDX-License-Identifier: Apache-2.0 */
#include "codec/http1.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#define MAX 100u

struct verdict {
    enum http1_outcome outcome;
    unsigned status;
    const char *why;
    size_t used, body_len;
    char body[8192];
};

/* Decodes `in` in pieces of `piece` bytes, the first of `first`. */
static struct verdict decode(struct slice in, size_t first, size_t piece)
{
    static struct verdict v;
    v = (struct verdict){.outcome = HTTP1_MORE};
    struct http1_chunked c = {0};
    char copy[8192];
    for (size_t at = 0; v.outcome == HTTP1_MORE && at < in.len;) {
        size_t n = at == 0 && first ? first : piece, used, body;
        n = n < in.len - at ? n : in.len - at;
        memcpy(copy, in.ptr + at, n);
        v.outcome = http1_dechunk(&c, copy, n, MAX, &used, &body, &v.status, &v.why);
        assert_true(used <= n && body <= used);
        if (v.outcome == HTTP1_MORE)
            assert_int_equal(used, n);
        memcpy(v.body + v.body_len, copy, body);
        v.body_len += body;
        v.used += used;
        at += used;
    }
    return v;
}

static void check_splits(struct slice in)
{
    struct verdict whole = decode(in, 0, in.len);
    for (size_t first = 0; first <= in.len; first++) {
        struct verdict v = decode(in, first, first ? in.len : 1);
        assert_int_equal(v.outcome, whole.outcome);
        if (v.outcome == HTTP1_BAD) {
            assert_int_equal(v.status, whole.status);
            assert_ptr_equal(v.why, whole.why);
        }
        assert_int_equal(v.used, whole.used);
        assert_int_equal(v.body_len, whole.body_len);
        assert_memory_equal(v.body, whole.body, v.body_len);
    }
}

static void decodes_the_good(void **state)
{
    static const struct {
        struct slice in;
        const char *body;
        size_t rest;
    } all[] = {
        {SLICE("0\r\n\r\n"), "", 0},
        {SLICE("5\r\nhello\r\n0\r\n\r\n"), "hello", 0},
        {SLICE("5\r\nhello\r\n1\r\n \r\n05\r\nworld\r\n000\r\n\r\nGET / HTTP"), "hello world", 10},
        {SLICE("A\r\n0123456789\r\na;x=y;z\r\n0123456789\r\n0;end\r\n\r\n"), "01234567890123456789",
         0},
        {SLICE("0000000000000003\r\n\r\n\r\r\n0\r\n\r\n"), "\r\n\r", 0},
        {SLICE("1\r\na\r\n0\r\nX-Sum: 1 2\t\xff\r\nY:\r\nHost-Name: x\r\nHos: t\r\n\r\n"), "a", 0},
        {SLICE("1\r\na\r\n0\r\nContent-Length-X: 1\r\n\r\n"), "a", 0},
    };
    for (unsigned i = 0; i < sizeof all / sizeof *all; i++) {
        struct verdict v = decode(all[i].in, 0, all[i].in.len);
        assert_int_equal(v.outcome, HTTP1_DONE);
        assert_true(slice_eq(slice_of(v.body, v.body_len), slice_str(all[i].body)));
        assert_int_equal(v.used, all[i].in.len - all[i].rest);
        check_splits(all[i].in);
        for (size_t cut = 0; cut < v.used; cut++)
            if (cut)
                assert_int_equal(decode(slice_of(all[i].in.ptr, cut), 0, cut).outcome, HTTP1_MORE);
    }
}

#define CASE(status, text)                                                                         \
    {                                                                                              \
        status, SLICE(text)                                                                        \
    }

static void refuses_the_bad(void **state)
{
    static const struct {
        unsigned status;
        struct slice in;
    } all[] = {
        CASE(400, "\r\n"),
        CASE(400, "\n"),
        CASE(400, ";x\r\n"),
        CASE(400, "g\r\n"),
        CASE(400, "-1\r\n"),
        CASE(400, "+1\r\n"),
        CASE(400, " 1\r\n"),
        CASE(400, "0x5\r\nhello\r\n"),
        CASE(400, "5_0\r\n"),
        CASE(400, "5 \r\nhello\r\n"),
        CASE(400, "5\t\r\nhello\r\n"),
        CASE(400, "5 ;x\r\nhello\r\n"),
        CASE(400, "5; x\r\nhello\r\n"),
        CASE(400, "5;\r\nhello\r\n"),
        CASE(400, "5;;\r\nhello\r\n"),
        CASE(400, "5;=y\r\nhello\r\n"),
        CASE(400, "5;x=\r\nhello\r\n"),
        CASE(400, "5;x==y\r\nhello\r\n"),
        CASE(400, "5;x=\"y\"\r\nhello\r\n"),
        CASE(400, "5;ext=\nhello\r\n"),
        CASE(400, "5;ext\nhello\r\n"),
        CASE(400, "5;e\x00t\r\nhello\r\n"),
        CASE(400, "5;ext\rX\nhello\r\n"),
        CASE(400, "5\nhello\r\n0\r\n\r\n"),
        CASE(400, "5\rhello\r\n0\r\n\r\n"),
        CASE(400, "5\r\r\nhello\r\n0\r\n\r\n"),
        CASE(400, "5\r\nhello0\r\n\r\n"),
        CASE(400, "5\r\nhello\n0\r\n\r\n"),
        CASE(400, "5\r\nhello\r0\r\n\r\n"),
        CASE(400, "5\r\nhello!\r\n0\r\n\r\n"),
        CASE(400, "5\r\nhello\r\n\r\n0\r\n\r\n"),
        CASE(400, "00000000000000005\r\nhello\r\n"),
        CASE(400, "10000000000000005\r\nhello\r\n"),
        CASE(413, "ffffffffffffffff\r\nhello\r\n"),
        CASE(413, "65\r\n"),
        CASE(413, "5\r\nhello\r\n60\r\n"),
        CASE(413, "5\r\nhello\r\nFFFFFFFFFFFFFFFC\r\n"),
        CASE(400, "0\r\n\n"),
        CASE(400, "0\r\n\rX"),
        CASE(400, "0\r\n: x\r\n\r\n"),
        CASE(400, "0\r\n x: y\r\n\r\n"),
        CASE(400, "0\r\nx : y\r\n\r\n"),
        CASE(400, "0\r\nx\r\n\r\n"),
        CASE(400, "0\r\nx: y\n\r\n"),
        CASE(400, "0\r\nx: y\r\r\n"),
        CASE(400, "0\r\nx: y\r\n z\r\n\r\n"),
        CASE(400, "0\r\nx: \x00\r\n\r\n"),
        CASE(400, "0\r\nContent-Length: 5\r\n\r\n"),
        CASE(400, "0\r\nx: y\r\ncontent-LENGTH: 5\r\n\r\n"),
        CASE(400, "0\r\nTransfer-Encoding: chunked\r\n\r\n"),
        CASE(400, "0\r\nHOST: x\r\n\r\n"),
        CASE(400, "0\r\nAuthorization: x\r\n\r\n"),
        CASE(400, "0\r\nTrailer: x\r\n\r\n"),
        CASE(400, "0\r\nContent-Type:x\r\n\r\n"),
        CASE(400, "GET / HTTP/1.1\r\n"),
    };
    for (unsigned i = 0; i < sizeof all / sizeof *all; i++) {
        struct verdict v = decode(all[i].in, 0, all[i].in.len);
        if (v.outcome != HTTP1_BAD || v.status != all[i].status)
            fail_msg("line %u: outcome %d, %u %s", i, v.outcome, v.status, v.why);
        check_splits(all[i].in);
    }
}

static void keeps_its_limits(void **state)
{
    char text[6200];
    int n = snprintf(text, sizeof text, "1;%0300d\r\na\r\n0\r\n\r\n", 0);
    assert_int_equal(decode(slice_of(text, (size_t)n), 0, (size_t)n).status, 400);
    n = snprintf(text, sizeof text, "1;%0240d\r\na\r\n0\r\n\r\n", 0);
    assert_int_equal(decode(slice_of(text, (size_t)n), 0, (size_t)n).outcome, HTTP1_DONE);
    n = snprintf(text, sizeof text, "0\r\nx: %05000d\r\n\r\n", 0);
    assert_int_equal(decode(slice_of(text, (size_t)n), 0, (size_t)n).status, 431);
    n = snprintf(text, sizeof text, "0\r\n");
    for (int i = 0; i < 1500; i++)
        n += snprintf(text + n, sizeof text - (size_t)n, "a:\r\n");
    assert_int_equal(decode(slice_of(text, (size_t)n), 0, (size_t)n).status, 431);
    /* exactly the maximum, in two chunks */
    n = snprintf(text, sizeof text, "32\r\n%050d\r\n32\r\n%050d\r\n0\r\n\r\n", 0, 0);
    struct verdict v = decode(slice_of(text, (size_t)n), 0, (size_t)n);
    assert_int_equal(v.outcome, HTTP1_DONE);
    assert_int_equal(v.body_len, 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decodes_the_good),
        cmocka_unit_test(refuses_the_bad),
        cmocka_unit_test(keeps_its_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
