/* SPDX-License-Identifier: Apache-2.0 */
#include "load/response.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

/* The outcome at every length of the input: MORE up to the end, then DONE with that length; and
 * bytes behind the response change nothing. Copies are exact so that ASan sees an overrun. */
static struct response ends_exactly(struct slice in, bool to_head)
{
    struct response r;
    for (size_t n = 0; n < in.len; n++) {
        char *copy = malloc(n ? n : 1);
        if (n)
            memcpy(copy, in.ptr, n);
        assert_int_equal(response_parse(slice_of(copy, n), to_head, &r), RESPONSE_MORE);
        free(copy);
    }
    char *more = malloc(in.len + 5);
    memcpy(more, in.ptr, in.len);
    memcpy(more + in.len, "HTTP/", 5);
    assert_int_equal(response_parse(slice_of(more, in.len + 5), to_head, &r), RESPONSE_DONE);
    assert_int_equal(r.len, in.len);
    free(more);
    assert_int_equal(response_parse(in, to_head, &r), RESPONSE_DONE);
    assert_int_equal(r.len, in.len);
    return r;
}

static void finds_the_end(void **state)
{
    struct response r = ends_exactly(SLICE("HTTP/1.1 202 Accepted\r\nContent-Type: text/plain\r\n"
                                           "content-length:  5 \r\n\r\nhello"),
                                     false);
    assert_int_equal(r.status, 202);
    assert_false(r.close);
    assert_true(slice_eq(r.body, SLICE("hello")));

    r = ends_exactly(SLICE("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"), false);
    assert_int_equal(r.status, 204);
    assert_true(r.close);
    assert_int_equal(r.body.len, 0);

    r = ends_exactly(SLICE("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n"), false);
    assert_true(r.close);

    r = ends_exactly(SLICE("HTTP/1.1 200\r\nContent-Length: 1000\r\n\r\n"), true);
    assert_int_equal(r.body.len, 0);
}

static void skips_interim_responses(void **state)
{
    struct response r =
        ends_exactly(SLICE("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n"
                           "Link: <a>\r\n\r\nHTTP/1.1 429 Slow\r\n"
                           "Content-Length: 2\r\n\r\n{}"),
                     false);
    assert_int_equal(r.status, 429);
    assert_true(slice_eq(r.body, SLICE("{}")));
}

static void follows_chunks(void **state)
{
    struct response r =
        ends_exactly(SLICE("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                           "5\r\nhello\r\nA;x=y\r\n0123456789\r\n0\r\nT: v\r\n\r\n"),
                     false);
    assert_int_equal(r.status, 200);
}

static void refuses_what_it_cannot_follow(void **state)
{
    static const char *const bad[] = {
        "SSH-2.0-x\r\n",
        "HTTP/2 200 OK\r\n\r\n",
        "HTTP/1.1 99 x\r\n\r\n",
        "HTTP/1.1 2000\r\n\r\n",
        "HTTP/1.1 600 x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        "HTTP/1.1 200 OK\r\n\r\nuntil the end",
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n123456789\r\n",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct response r;
        assert_int_equal(response_parse(slice_str(bad[i]), false, &r), RESPONSE_BAD);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_the_end),
        cmocka_unit_test(skips_interim_responses),
        cmocka_unit_test(follows_chunks),
        cmocka_unit_test(refuses_what_it_cannot_follow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
