/* SPDX-License-Identifier: Apache-2.0 */
#include "base/buf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "base/rand.h"

static void keeps_its_maximum(void **state)
{
    struct buf b;
    buf_init(&b, 300);
    for (int i = 0; i < 300; i++)
        buf_put_u8(&b, 'x');
    assert_false(b.failed);
    assert_int_equal(b.len, 300);
    buf_put_u8(&b, 'y');
    assert_true(b.failed);
    assert_int_equal(b.len, 300);
    buf_put(&b, "", 0);
    buf_clear(&b);
    assert_false(b.failed);
    buf_fini(&b);
}

static void writes_numbers_and_json(void **state)
{
    struct buf b;
    buf_init(&b, 4096);
    buf_put_dec(&b, 0);
    buf_put_dec(&b, UINT64_MAX);
    buf_put_json(&b, slice_of("a\"b\\\n\x01z", 7));
    buf_printf(&b, "%s-%d", "k", 7);
    assert_false(b.failed);
    assert_true(
        slice_eq(buf_slice(&b), SLICE("018446744073709551615\"a\\\"b\\\\\\n\\u0001z\"k-7")));
    buf_consume(&b, 1);
    assert_true(b.ptr[0] == '1');
    uint64_t ten = 1;
    for (int digits = 1; digits <= 20; digits++, ten *= 10) { /* where a number gets longer */
        char want[64];
        for (uint64_t v = ten - 1; v != ten + 2; v++) {
            buf_clear(&b);
            buf_put_dec(&b, v);
            sprintf(want, "%llu", (unsigned long long)v);
            assert_true(slice_eq(buf_slice(&b), slice_str(want)));
        }
    }
    buf_fini(&b);
}

/* Against the definitions, a byte and a digit at a time. */
static void writes_what_is_meant(void **state)
{
    static const char some[] = "abcdefgh0123 \xc3\xa4\x7f\x80\xff\"\\\n\r\t\x01\x1f";
    struct rand r = {.state = 11};
    struct buf b;
    buf_init(&b, 4096);
    for (int i = 0; i < 100000; i++) {
        char text[64], want[64 * 6 + 64], *at = want;
        size_t len = rand_below(&r, sizeof text);
        uint64_t v = rand_next(&r) >> rand_below(&r, 64);
        /* In most texts there is little to escape, as in life. */
        size_t kinds = rand_below(&r, 3) ? 16 : sizeof some - 1;
        *at++ = '"';
        for (size_t k = 0; k < len; k++) {
            unsigned char c = (unsigned char)some[rand_below(&r, kinds)];
            text[k] = (char)c;
            if (c == '"' || c == '\\')
                at += sprintf(at, "\\%c", c);
            else if (c == '\n')
                at += sprintf(at, "\\n");
            else if (c < 0x20)
                at += sprintf(at, "\\u%04x", c);
            else
                *at++ = (char)c;
        }
        *at++ = '"';
        at += sprintf(at, "%llu", (unsigned long long)v);
        buf_clear(&b);
        buf_put_json(&b, slice_of(text, len));
        buf_put_dec(&b, v);
        if (!slice_eq(buf_slice(&b), slice_of(want, (size_t)(at - want))))
            fail_msg("%.*s, not %.*s", SLICE_ARG(buf_slice(&b)), (int)(at - want), want);
    }
    buf_fini(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keeps_its_maximum),
        cmocka_unit_test(writes_numbers_and_json),
        cmocka_unit_test(writes_what_is_meant),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
