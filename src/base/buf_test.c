/* SPDX-License-Identifier: Apache-2.0 */
#include "base/buf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

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
    buf_fini(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keeps_its_maximum),
        cmocka_unit_test(writes_numbers_and_json),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
