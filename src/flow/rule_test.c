/* SPDX-License-Identifier: Apache-2.0 */
#include "flow/rule.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "base/rand.h"
#include "flow/limits.h"

static const struct rule whole = {.id = 7,
                                  .account = 3,
                                  .feed = 1ull << 40,
                                  .when = RULE_SILENCE,
                                  .limit = -1.5,
                                  .clear = 1e300,
                                  .silence_ms = 600000,
                                  .every_ms = 1000,
                                  .to_feed = 12,
                                  .webhook = 2,
                                  .value = {"on", 2},
                                  .created_us = 1700000000000000};

static void what_is_encoded_is_decoded(void **state)
{
    struct buf out;
    struct rule_record got, added = {.event = RULE_ADDED, .rule = whole};
    buf_init(&out, 4096);
    rule_record_encode(&out, &added);
    assert_true(rule_record_decode(buf_slice(&out), &got));
    assert_int_equal(got.event, RULE_ADDED);
    assert_true(slice_eq(got.rule.value, whole.value));
    got.rule.value = whole.value;
    assert_memory_equal(&got.rule, &whole, sizeof whole);

    added.rule.value = (struct slice){0};
    buf_clear(&out);
    rule_record_encode(&out, &added);
    assert_true(rule_record_decode(buf_slice(&out), &got));
    assert_null(got.rule.value.ptr);

    const struct rule_record tried = {.event = RULE_TRIED, .rule.id = 9, .value = SLICE("31.5")};
    buf_clear(&out);
    rule_record_encode(&out, &tried);
    assert_true(rule_record_decode(buf_slice(&out), &got));
    assert_int_equal(got.rule.id, 9);
    assert_true(slice_eq(got.value, tried.value));

    const struct rule_record removed = {.event = RULE_REMOVED, .rule.id = 9};
    buf_clear(&out);
    rule_record_encode(&out, &removed);
    assert_true(rule_record_decode(buf_slice(&out), &got));
    assert_int_equal(got.event, RULE_REMOVED);
    buf_put_u8(&out, 0);
    assert_false(rule_record_decode(buf_slice(&out), &got));
    buf_fini(&out);
}

/* Each cut and each flipped bit is refused or is another record within the bounds. */
static void what_is_damaged_is_within_bounds(void **state)
{
    struct buf out;
    struct rule_record got, added = {.event = RULE_ADDED, .rule = whole};
    buf_init(&out, 4096);
    rule_record_encode(&out, &added);
    size_t fixed = out.len - whole.value.len;
    for (size_t len = 0; len < fixed; len++)
        assert_false(rule_record_decode(slice_of(out.ptr, len), &got));
    for (size_t bit = 0; bit < out.len * 8; bit++) {
        out.ptr[bit / 8] ^= (char)(1 << bit % 8);
        if (rule_record_decode(buf_slice(&out), &got) && got.event == RULE_ADDED) {
            assert_true(got.rule.when >= RULE_ABOVE && got.rule.when <= RULE_SILENCE);
            assert_true(got.rule.every_ms <= RULE_MS_MAX && got.rule.silence_ms <= RULE_MS_MAX);
            assert_true(got.rule.value.len <= RULE_VALUE_MAX);
            assert_true(got.rule.id && got.rule.account && got.rule.feed);
        }
        out.ptr[bit / 8] ^= (char)(1 << bit % 8);
    }
    buf_fini(&out);
}

static void marks(void **state)
{
    char text[RULE_MARK_MAX];
    struct rule_mark got, m = {UINT64_MAX, UINT64_MAX, UINT32_MAX, UINT64_MAX};
    size_t len = rule_mark_format(text, &m);
    assert_true(len < sizeof text);
    assert_true(rule_mark_parse(slice_of(text, len), &got));
    assert_true(got.rule == m.rule && got.offset == m.offset && got.depth == m.depth &&
                got.webhook == m.webhook);
    m = (struct rule_mark){12, 8812, 1, 0};
    len = rule_mark_format(text, &m);
    assert_true(slice_eq(slice_of(text, len), SLICE("rule:12:8812:1:0")));

    static const char *const none[] = {"",
                                       "rule:",
                                       "rule:1:2:3",
                                       "rule:1:2:3:",
                                       "rule:1:2:3:4:",
                                       "rule:1:2:3:4 ",
                                       "rule:1:2:x:4",
                                       "rule:-1:2:3:4",
                                       "rule:1:2:4294967296:4",
                                       "rule:18446744073709551616:2:3:4",
                                       "Rule:1:2:3:4",
                                       "order-1"};
    for (size_t i = 0; i < sizeof none / sizeof *none; i++)
        assert_false(rule_mark_parse(slice_str(none[i]), &got));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_encoded_is_decoded),
        cmocka_unit_test(what_is_damaged_is_within_bounds),
        cmocka_unit_test(marks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
