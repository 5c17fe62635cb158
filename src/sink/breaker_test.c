/* SPDX-License-Identifier: Apache-2.0 */
#include "sink/breaker.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/clock.h"

static const struct breaker_opts opts = {.volume_min = 4,
                                         .fail_percent = 50,
                                         .window_ns = 60 * NS_PER_S,
                                         .open_ns = 5 * NS_PER_S,
                                         .open_max_ns = 20 * NS_PER_S};

static void few_failures_say_nothing(void **state)
{
    struct breaker b;
    breaker_init(&b, &opts);
    for (unsigned i = 0; i < 3; i++) {
        breaker_note(&b, true, i);
        assert_int_equal(breaker_wait_ns(&b, i), 0);
    }
    breaker_note(&b, true, 3);
    assert_int_equal(b.state, BREAKER_OPEN);
    assert_int_equal(breaker_wait_ns(&b, 3), 5 * NS_PER_S);
}

static void most_must_fail_and_lately(void **state)
{
    struct breaker b;
    breaker_init(&b, &opts);
    for (unsigned i = 0; i < 30; i++)
        breaker_note(&b, i % 4 == 3, i);
    assert_int_equal(b.state, BREAKER_CLOSED);
    breaker_init(&b, &opts);
    for (unsigned i = 0; i < 200; i++) /* one failure each 30 s: never four in a window */
        breaker_note(&b, true, i * 30 * NS_PER_S);
    assert_int_equal(b.state, BREAKER_CLOSED);
}

/* One attempt after each pause, and each pause is longer, up to a maximum; one that succeeds ends
 * that. */
static void pauses_grow_until_one_succeeds(void **state)
{
    static const uint64_t pauses[] = {5, 10, 20, 20};
    struct breaker b;
    uint64_t now = 0;
    breaker_init(&b, &opts);
    for (unsigned i = 0; i < 4; i++)
        breaker_note(&b, true, now);
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(breaker_wait_ns(&b, now), pauses[i] * NS_PER_S);
        now += pauses[i] * NS_PER_S;
        assert_int_equal(breaker_wait_ns(&b, now), 0);
        assert_int_equal(b.state, BREAKER_HALF_OPEN);
        breaker_note(&b, true, now);
    }
    assert_int_equal(b.opened, 5);
    now += 20 * NS_PER_S;
    assert_int_equal(breaker_wait_ns(&b, now), 0);
    breaker_note(&b, false, now);
    assert_int_equal(b.state, BREAKER_CLOSED);
    for (unsigned i = 0; i < 4; i++)
        breaker_note(&b, true, now); /* four of five, since what was before is forgotten */
    assert_int_equal(breaker_wait_ns(&b, now), 5 * NS_PER_S);
}

static void jitter_is_full_and_capped(void **state)
{
    struct rand r = {1};
    uint64_t low = UINT64_MAX, high = 0;
    for (unsigned i = 0; i < 2000; i++) {
        uint64_t first = breaker_pause_ns(1, 100, 3000, &r),
                 n = breaker_pause_ns(90, 100, 3000, &r);
        assert_true(first <= 100 && n <= 3000);
        low = n < low ? n : low;
        high = n > high ? n : high;
        assert_true(breaker_pause_ns(3, 100, 3000, &r) <= 400);
    }
    assert_true(low < 60 && high > 2940);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(few_failures_say_nothing),
        cmocka_unit_test(most_must_fail_and_lately),
        cmocka_unit_test(pauses_grow_until_one_succeeds),
        cmocka_unit_test(jitter_is_full_and_capped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
