/* SPDX-License-Identifier: Apache-2.0 */
#include "journal/format.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

static void crc_is_castagnoli(void **state)
{
    assert_int_equal(crc32c(0, "123456789", 9),
                     0xe3069283); /* RFC 3720's polynomial, check value */
    assert_int_equal(crc32c(crc32c(0, "1234", 4), "56789", 5), 0xe3069283);
    assert_int_equal(crc32c(0, "", 0), 0);
}

static void every_flipped_bit_is_seen(void **state)
{
    char raw[BATCH_HEADER_BYTES];
    struct batch_header h = {.base_offset = 1000,
                             .body_len = 77,
                             .count = 3,
                             .body_crc = 9,
                             .version = FORMAT_VERSION,
                             .durable_before = 990,
                             .boot_epoch = 2},
                        back;
    batch_header_encode(raw, &h, 0x1234567890abcdef);
    assert_int_equal(batch_header_decode(raw, 0x1234567890abcdef, &back), FORMAT_OK);
    assert_true(back.base_offset == 1000 && back.body_len == 77 && back.durable_before == 990);
    assert_int_equal(batch_header_decode(raw, 0x1234567890abcdee, &back), FORMAT_BAD);
    for (unsigned bit = 0; bit < sizeof raw * 8; bit++) {
        raw[bit / 8] ^= (char)(1 << bit % 8);
        assert_int_equal(batch_header_decode(raw, 0x1234567890abcdef, &back), FORMAT_BAD);
        raw[bit / 8] ^= (char)(1 << bit % 8);
    }
}

static void newer_versions_are_told_from_damage(void **state)
{
    char raw[SEGMENT_HEADER_BYTES] = {0};
    struct segment_header h = {.version = FORMAT_VERSION, .bytes = 65536, .body_at = 4096}, back;
    struct checkpoint c = {.version = FORMAT_VERSION, .segment_base = OFFSET_NONE, .seq = 9},
                      c_back;
    assert_int_equal(segment_header_decode(raw, &back), FORMAT_EMPTY);
    segment_header_encode(raw, &h);
    assert_int_equal(segment_header_decode(raw, &back), FORMAT_OK);
    raw[100] ^= 1;
    assert_int_equal(segment_header_decode(raw, &back), FORMAT_BAD);
    h.version++;
    segment_header_encode(raw, &h);
    assert_int_equal(segment_header_decode(raw, &back), FORMAT_NEWER);
    checkpoint_encode(raw, &c);
    assert_int_equal(checkpoint_decode(raw, &c_back), FORMAT_OK);
    assert_true(c_back.seq == 9 && !c_back.clean);
    c.version++;
    checkpoint_encode(raw, &c);
    assert_int_equal(checkpoint_decode(raw, &c_back), FORMAT_NEWER);
}

static void impossible_numbers_are_refused(void **state)
{
    char raw[BATCH_HEADER_BYTES];
    struct batch_header good = {.base_offset = 10, .version = FORMAT_VERSION}, h = good, back;
    h.body_len = BATCH_BYTES_MAX + 1;
    batch_header_encode(raw, &h, 1);
    assert_int_equal(batch_header_decode(raw, 1, &back), FORMAT_BAD);
    h = good;
    h.count = BATCH_RECORDS_MAX + 1;
    batch_header_encode(raw, &h, 1);
    assert_int_equal(batch_header_decode(raw, 1, &back), FORMAT_BAD);
    h = good;
    h.durable_before = 11;
    batch_header_encode(raw, &h, 1);
    assert_int_equal(batch_header_decode(raw, 1, &back), FORMAT_BAD);
    h = good;
    h.base_offset = OFFSET_NONE - 1;
    h.count = 1;
    batch_header_encode(raw, &h, 1);
    assert_int_equal(batch_header_decode(raw, 1, &back), FORMAT_BAD);
}

static void names(void **state)
{
    char name[SEGMENT_NAME_BYTES];
    uint64_t base;
    segment_name_format(name, 18446744073709551614ull);
    assert_true(segment_name_parse(name, &base) && base == 18446744073709551614ull);
    assert_false(segment_name_parse("99999999999999999999.slg", &base));
    assert_false(segment_name_parse("0000000000000000001.slg", &base));
    assert_false(segment_name_parse("00000000000000000001.slg.broken", &base));
    assert_false(segment_name_parse("", &base));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(crc_is_castagnoli),
        cmocka_unit_test(every_flipped_bit_is_seen),
        cmocka_unit_test(newer_versions_are_told_from_damage),
        cmocka_unit_test(impossible_numbers_are_refused),
        cmocka_unit_test(names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
