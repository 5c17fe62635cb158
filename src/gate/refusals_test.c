/* SPDX-License-Identifier: Apache-2.0 */
#include "gate/refusals.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

static struct refused_tries found[REFUSALS_MAX];

static void counts_together_what_is_equal(void **state)
{
    struct refusals *r = refusals_new();
    struct refused_try one = {1, 10, REFUSED_BY_ACCOUNT, {60, 60000, 0}}, other = one, shadow = one;
    other.credential = 11;
    shadow.limit.kind = LIMIT_SHADOW;
    for (unsigned i = 0; i < 5; i++)
        refusals_note(r, &one);
    refusals_note(r, &other);
    refusals_note(r, &shadow);
    assert_int_equal(refusals_list(r, 1, 0, found, REFUSALS_MAX), 3);
    assert_int_equal(refusals_list(r, 2, 0, found, REFUSALS_MAX), 0);
    assert_int_equal(refusals_list(r, 1, 0, found, 2), 2);
    assert_int_equal(refusals_list(r, 1, 11, found, REFUSALS_MAX), 1);
    assert_true(found[0].count == 1 && found[0].last_us >= found[0].first_us);
    assert_int_equal(refusals_list(r, 1, 10, found, REFUSALS_MAX), 2);
    assert_int_equal(found[0].count + found[1].count, 6);
    refusals_free(r);
}

static void many_are_bounded_and_the_newest_is_there(void **state)
{
    struct refusals *r = refusals_new();
    for (uint64_t i = 1; i <= 100000; i++) {
        struct refused_try t = {1, i, REFUSED_BY_SHARE, {0}};
        refusals_note(r, &t);
        if (i % 1000 == 0) {
            assert_int_equal(refusals_list(r, 1, i, found, REFUSALS_MAX), 1);
            assert_int_equal(found[0].count, 1);
        }
    }
    assert_true(refusals_list(r, 1, 0, found, REFUSALS_MAX) <= REFUSALS_MAX);
    refusals_free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts_together_what_is_equal),
        cmocka_unit_test(many_are_bounded_and_the_newest_is_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
