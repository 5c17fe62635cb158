/* SPDX-License-Identifier: Apache-2.0 */
#include "load/ledger.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#define FIRST (LEDGER_SEQUENCES - 3) /* the fourth sequence is 0 */
#define COUNT 1000u
#define FEEDS 7u

/* COUNT messages, the i-th to feed i % FEEDS: each third refused, each fifth of the others unknown;
 * all stored as they should be, but the i-th so often and there as `found` says. */
static struct ledger_verdict after(uint64_t odd, unsigned found, uint32_t feed)
{
    struct ledger l;
    struct ledger_verdict v;
    assert_int_equal(ledger_init(&l, FIRST, FEEDS, NULL), 0);
    for (uint64_t i = 0; i < COUNT; i++) {
        ledger_sent(&l, FIRST + i);
        if (i % 3 == 0)
            ledger_settle(&l, FIRST + i, (uint32_t)(i % FEEDS), LEDGER_REFUSED);
        else if (i % 5)
            ledger_settle(&l, FIRST + i, (uint32_t)(i % FEEDS), LEDGER_ACKED);
    }
    for (uint64_t i = COUNT; i-- > 0;) {
        unsigned times = i == odd ? found : i % 3 && i % 5;
        while (times--)
            ledger_found(&l, (FIRST + i) % LEDGER_SEQUENCES,
                         i == odd ? feed : (uint32_t)(i % FEEDS));
    }
    ledger_found(&l, 5000, 0); /* of another run */
    ledger_found(&l, FIRST - 1, 0);
    ledger_judge(&l, &v);
    assert_int_equal(v.acked + v.refused + v.unknown, COUNT);
    assert_int_equal(v.refused, 334);
    assert_int_equal(v.unknown, 133);
    ledger_fini(&l);
    return v;
}

static void what_is_as_was_said_is_sound(void **state)
{
    struct ledger_verdict v = after(COUNT, 0, 0);
    assert_true(ledger_sound(&v));
    assert_int_equal(v.stored, v.acked);
    assert_int_equal(v.named_count, 0);
    v = after(5, 1, 5); /* an unknown one may be there */
    assert_true(ledger_sound(&v));
    assert_int_equal(v.unknown_stored, 1);
}

static void each_fault_is_found(void **state)
{
    struct ledger_verdict v = after(7, 0, 0);
    assert_true(!ledger_sound(&v) && v.lost == 1 && v.feeds_wrong == 1 && v.doubled == 0);
    assert_int_equal(v.named_count, 1);
    assert_int_equal(v.named[0], 4); /* FIRST + 7, around the end */
    v = after(7, 2, 0);
    assert_true(!ledger_sound(&v) && v.doubled == 1 && v.lost == 0 && v.feeds_wrong == 0);
    v = after(7, 9, 0);
    assert_true(!ledger_sound(&v) && v.doubled == 1);
    v = after(9, 1, 2);
    assert_true(!ledger_sound(&v) && v.refused_stored == 1 && v.lost == 0);
    v = after(5, 2, 5); /* unknown, but twice */
    assert_true(!ledger_sound(&v) && v.doubled == 1);
    v = after(7, 1, 1); /* in another feed than it was sent to */
    assert_true(!ledger_sound(&v) && v.lost == 0 && v.feeds_wrong == 2 && v.stored == v.acked);
}

static void what_was_never_sent_is_a_stranger(void **state)
{
    struct ledger l;
    struct ledger_verdict v;
    assert_int_equal(ledger_init(&l, 10, 1, NULL), 0);
    ledger_sent(&l, 10);
    ledger_sent(&l, 12);
    ledger_found(&l, 11, 0);
    ledger_found(&l, 13, 0);
    ledger_judge(&l, &v);
    assert_true(!ledger_sound(&v) && v.strangers == 1 && v.unknown == 2);
    ledger_fini(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_as_was_said_is_sound),
        cmocka_unit_test(each_fault_is_found),
        cmocka_unit_test(what_was_never_sent_is_a_stranger),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
