/* SPDX-License-Identifier: Apache-2.0 */
#include "api/rule_when.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

/* Reads the text and writes it again. */
static void reads(const char *text, const char *as, struct rule *ret)
{
    struct error err = {""};
    struct buf out;
    *ret = (struct rule){.id = 7};
    assert_int_equal(rule_when_parse(slice_str(text), ret, &err), 0);
    assert_int_equal(ret->id, 7);
    buf_init(&out, 200);
    rule_when_format(&out, ret);
    assert_true(slice_eq(buf_slice(&out), slice_str(as)));
    buf_fini(&out);
}

static void what_may_be_said(void **state)
{
    struct rule r;
    reads("above 30", "above 30", &r);
    assert_int_equal(r.when, RULE_ABOVE);
    assert_true(r.limit == 30 && r.clear == 30 && !r.silence_ms);
    reads("  above  30.50 clear -2e1 ", "above 30.5 clear -20", &r);
    assert_true(r.limit == 30.5 && r.clear == -20);
    reads("below 5 clear 6", "below 5 clear 6", &r);
    assert_int_equal(r.when, RULE_BELOW);
    assert_true(r.limit == 5 && r.clear == 6);
    reads("change", "change", &r);
    assert_int_equal(r.when, RULE_CHANGE);
    assert_true(r.limit == 0);
    reads("change 0.5", "change 0.5", &r);
    assert_true(r.limit == 0.5);
    reads("silence 10m", "silence 10m", &r);
    assert_int_equal(r.when, RULE_SILENCE);
    assert_int_equal(r.silence_ms, 600000);
    reads("silence 1500ms", "silence 1500ms", &r);
    reads("silence 48h", "silence 2d", &r);
}

static void what_may_not(void **state)
{
    static const char *const none[] = {"",
                                       " ",
                                       "above",
                                       "above x",
                                       "above 1e999",
                                       "above 30 28",
                                       "above 30 clear",
                                       "above 30 clear x",
                                       "above 30 clear 31",
                                       "above 30 until 28",
                                       "above 30 clear 28 now",
                                       "below 5 clear 4",
                                       "change 0",
                                       "change -1",
                                       "change by 1",
                                       "change 1 2",
                                       "silence",
                                       "silence 0s",
                                       "silence 999ms",
                                       "silence 367d",
                                       "silence 10",
                                       "silence 1m 2s",
                                       "Above 30",
                                       "is 3"};
    for (size_t i = 0; i < sizeof none / sizeof *none; i++) {
        struct rule r = {.limit = 9};
        struct error err = {""};
        assert_int_equal(rule_when_parse(slice_str(none[i]), &r, &err), -EINVAL);
        assert_non_null(strstr(err.text, "\"silence 10m\""));
        assert_true(r.limit == 9 && !r.when);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_may_be_said),
        cmocka_unit_test(what_may_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
