/* SPDX-License-Identifier: Apache-2.0 */
#include "catalog/names.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "catalog/catalog.h"
#include "flow/limits.h"

static char long_text[400];

static void usernames_and_ids(void **state)
{
    assert_true(name_is_username(SLICE("A-b_9")));
    assert_false(name_is_username(SLICE("")));
    assert_false(name_is_username(SLICE("a.b")));
    assert_false(name_is_username(SLICE("a\0b")));
    assert_true(name_is_username(slice_of(long_text, 64)));
    assert_false(name_is_username(slice_of(long_text, 65)));
    assert_true(name_is_reserved(SLICE("time")) && name_is_reserved(SLICE("User")));
    assert_false(name_is_reserved(SLICE("timer")));
    assert_true(name_is_device_id(SLICE("urn/x=#\"~")));
    assert_false(name_is_device_id(SLICE("a:b")));
    assert_false(name_is_device_id(SLICE("a b")));
    assert_false(name_is_device_id(SLICE("\xc3\xa9")));
    assert_false(name_is_device_id(SLICE("a\x7f")));
    assert_false(name_is_device_id(SLICE("")));
    assert_true(name_is_device_id(slice_of(long_text, 128)));
    assert_false(name_is_device_id(slice_of(long_text, 129)));
    assert_true(name_is_verifier(slice_of(long_text, VERIFIER_MAX - 1)));
    assert_false(name_is_verifier(slice_of(long_text, VERIFIER_MAX)));
}

static void texts(void **state)
{
    assert_true(name_is_label(SLICE("My \xc3\xa9 key")));
    assert_false(name_is_label(SLICE("")));
    assert_false(name_is_label(SLICE("a\tb")));
    assert_false(name_is_label(SLICE("\xc3")));
    assert_true(name_is_text(SLICE(""), 0));
    assert_true(name_is_text((struct slice){0}, 5));
    assert_true(name_is_text(SLICE("a\nb"), 5));
    assert_false(name_is_text(SLICE("abc"), 2));
    assert_false(name_is_text(SLICE("a\0b"), 5));
    assert_false(name_is_text(SLICE("\xed\xa0\x80"), 5)); /* a surrogate */
}

static void feed_keys(void **state)
{
    static const struct {
        const char *key, *group, *feed, *whole;
    } good[] = {
        {"temp", "default", "temp", "temp"},
        {"g.temp-2", "g", "temp-2", "g.temp-2"},
        {"default.temp", "default", "temp", "temp"},
        {"0", "default", "0", "0"},
    };
    struct slice group, feed, key;
    for (unsigned i = 0; i < sizeof good / sizeof good[0]; i++) {
        assert_true(name_split_key(slice_str(good[i].key), &group, &feed, &key));
        assert_true(slice_eq(group, slice_str(good[i].group)));
        assert_true(slice_eq(feed, slice_str(good[i].feed)));
        assert_true(slice_eq(key, slice_str(good[i].whole)));
    }
    static const char *const bad[] = {"",  ".",   "a.",  ".a",  "a.b.c",
                                      "A", "a b", "a_b", "a/b", "\xc3\xa9"};
    for (unsigned i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(name_split_key(slice_str(bad[i]), &group, &feed, &key));
    char whole[300];
    memset(whole, 'x', sizeof whole);
    whole[128] = '.';
    assert_true(name_split_key(slice_of(whole, 257), &group, &feed, &key));
    assert_false(name_split_key(slice_of(whole, 258), &group, &feed, &key));
    assert_false(name_split_key(slice_of(whole + 129, 129), &group, &feed, &key));
}

static void keys_from_names(void **state)
{
    static const struct {
        const char *name, *key;
    } good[] = {
        {"DemoFeed", "demofeed"},
        {"test.temperature", "test-dot-temperature"},
        {"In Door_1", "in-door-1"},
        {"a-b", "a-b"},
    };
    struct buf b;
    buf_init(&b, 4096);
    for (unsigned i = 0; i < sizeof good / sizeof good[0]; i++) {
        buf_clear(&b);
        assert_true(catalog_key_from_name(slice_str(good[i].name), &b));
        assert_true(slice_eq(buf_slice(&b), slice_str(good[i].key)));
    }
    static const char *const bad[] = {"", " ", "-_.", "a/b", "a\n", "\xc3\xa9", "a+b", "#"};
    buf_clear(&b);
    buf_put_str(&b, "kept");
    for (unsigned i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(catalog_key_from_name(slice_str(bad[i]), &b));
    assert_false(catalog_key_from_name(SLICE("a\0b"), &b));
    assert_true(catalog_key_from_name(slice_of(long_text, 128), &b));
    b.len = 4;
    assert_false(catalog_key_from_name(slice_of(long_text, 129), &b));
    char dots[128];
    memset(dots, '.', sizeof dots);
    dots[0] = 'a';
    assert_false(catalog_key_from_name(slice_of(dots, sizeof dots), &b)); /* too long a key */
    assert_true(slice_eq(buf_slice(&b), SLICE("kept")));
    buf_fini(&b);
}

static void patterns(void **state)
{
    struct buf b;
    buf_init(&b, 4096);
    assert_true(name_parse_patterns(SLICE(" a , b.c*,*"), &b));
    assert_true(slice_eq(buf_slice(&b), SLICE("a,b.c*,*")));
    buf_clear(&b);
    assert_true(name_parse_patterns(SLICE(" "), &b));
    assert_int_equal(b.len, 0);
    assert_true(name_parse_patterns((struct slice){0}, &b));
    assert_true(name_parse_patterns(SLICE("1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16"), &b));
    static const char *const bad[] = {
        "a,,b", "A", "a*b", "**", "a b", ".x", "1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17"};
    for (unsigned i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        buf_clear(&b);
        assert_false(name_parse_patterns(slice_str(bad[i]), &b));
    }
    buf_fini(&b);
}

int main(void)
{
    memset(long_text, 'x', sizeof long_text);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(usernames_and_ids), cmocka_unit_test(texts),
        cmocka_unit_test(feed_keys),         cmocka_unit_test(keys_from_names),
        cmocka_unit_test(patterns),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
