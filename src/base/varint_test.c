/* SPDX-License-Identifier: Apache-2.0 */
#include "base/varint.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

/* Written, read back with nothing behind it and with anything behind it, and cut at every byte. */
static void check_number(uint64_t v)
{
    for (unsigned more = 0; more < 12; more++) {
        for (unsigned fill = 0; fill <= 0xff; fill += 0x33) {
            uint8_t bytes[VARINT_MAX + 12];
            memset(bytes, (int)fill, sizeof bytes);
            const uint8_t *behind = varint_put(bytes, v);
            uint64_t read = ~v;
            assert_ptr_equal(varint_get(bytes, behind + more, &read), behind);
            assert_int_equal(read, v);
            for (const uint8_t *end = bytes; end < behind; end++)
                assert_null(varint_get(bytes, end, &read));
        }
    }
}

static void test_numbers_of_every_length_come_back(void **state)
{
    (void)state;
    check_number(0);
    for (unsigned bit = 0; bit < 64; bit++) {
        uint64_t v = 1ull << bit;
        check_number(v);
        check_number(v - 1);
        check_number(v | 0x5555555555555555ull % v);
        check_number(zigzag(v));
        assert_int_equal(unzigzag(zigzag(v)), v);
        assert_int_equal(unzigzag(zigzag(0 - v)), 0 - v);
    }
    check_number(UINT64_MAX);
}

/* Longer than it need be is read; more than 64 bits are not. */
static void test_what_writers_do_not_write(void **state)
{
    (void)state;
    uint8_t zeroes[16] = {0x81, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00};
    uint64_t v = 0;
    assert_ptr_equal(varint_get(zeroes, zeroes + sizeof zeroes, &v), zeroes + 10);
    assert_int_equal(v, 1);
    zeroes[9] = 1;
    assert_ptr_equal(varint_get(zeroes, zeroes + sizeof zeroes, &v), zeroes + 10);
    assert_int_equal(v, 1ull << 63 | 1);
    zeroes[9] = 2;
    assert_null(varint_get(zeroes, zeroes + sizeof zeroes, &v));
    memset(zeroes, 0x80, sizeof zeroes);
    assert_null(varint_get(zeroes, zeroes + sizeof zeroes, &v));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_numbers_of_every_length_come_back),
        cmocka_unit_test(test_what_writers_do_not_write),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
