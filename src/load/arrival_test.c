/* SPDX-License-Identifier: Apache-2.0 */
#include "load/arrival.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/clock.h"

/* Seconds, to a microsecond. */
static double due(struct arrival *a, uint64_t k)
{
    return (double)(arrival_due_ns(a, k) / NS_PER_US) / 1e6;
}

static void steady_is_equal_steps(void **state)
{
    struct arrival a;
    assert_true(arrival_parse("steady", 4000, 10, &a));
    for (uint64_t k = 0; k < 100000; k += 7)
        assert_int_equal(arrival_due_ns(&a, k), k * 250000);
    assert_int_equal(arrival_due_before(&a, NS_PER_S), 4000);
    assert_int_equal(arrival_due_before(&a, 0), 0);
}

static void a_ramp_grows_with_the_square(void **state)
{
    struct arrival a;
    assert_true(arrival_parse("ramp", 1000, 10, &a));
    assert_true(due(&a, 0) == 0);
    assert_float_equal(due(&a, 50), 1, 1e-5); /* 100/s after one second: 50 until then */
    assert_float_equal(due(&a, 1250), 5, 1e-5);
    assert_float_equal(due(&a, 5000), 10, 1e-5);
    assert_float_equal(due(&a, 5500), 10.5, 1e-5); /* stays */
    assert_int_equal(arrival_due_before(&a, 10 * NS_PER_S), 5000);
    assert_true(arrival_highest(&a) == 1000);
}

static void a_spike_is_in_the_middle(void **state)
{
    struct arrival a;
    assert_true(arrival_parse("spike", 100, 10, &a));
    assert_float_equal(due(&a, 499), 4.99, 1e-5);
    assert_float_equal(due(&a, 500), 5, 1e-5);
    assert_float_equal(due(&a, 520), 5.01, 1e-5);
    assert_float_equal(due(&a, 2500), 6, 1e-5);
    assert_float_equal(due(&a, 2600), 7, 1e-5);
    assert_int_equal(arrival_due_before(&a, 10 * NS_PER_S), 500 + 2000 + 400);
    assert_true(arrival_parse("spike:3", 100, 10, &a));
    assert_true(arrival_highest(&a) == 300);
}

static void points_may_fall_to_nothing(void **state)
{
    struct arrival a;
    assert_true(arrival_parse("0:100,1:0,3:0,3:50,4:50,4:0", 0, 0, &a));
    assert_true(due(&a, 0) == 0);
    assert_float_equal(due(&a, 49), 0.858579, 1e-4); /* 1 - sqrt(1 - 0.98) */
    assert_float_equal(due(&a, 50), 3, 1e-4);
    assert_float_equal(due(&a, 75), 3.5, 1e-4);
    assert_true(arrival_due_ns(&a, 100) == UINT64_MAX);
    assert_int_equal(arrival_due_before(&a, 2 * NS_PER_S), 50);
    assert_int_equal(arrival_due_before(&a, 9 * NS_PER_S), 100);
}

static void times_never_fall(void **state)
{
    struct arrival a;
    uint64_t last = 0;
    assert_true(arrival_parse("0:10,2:3000,2:1,4:1,5:7000", 0, 0, &a));
    for (uint64_t k = 0; k < 20000; k++) {
        uint64_t ns = arrival_due_ns(&a, k);
        assert_true(ns >= last);
        last = ns;
    }
}

static void nonsense_is_refused(void **state)
{
    static const char *const bad[] = {"",      "stead", "spike:", "spike:x",     "spike:0.5",
                                      "1:5",   "0:5,",  "0:5,2",  "0:5,2:1,1:1", "0:-1",
                                      "0:nan", "0:0",   "0:1 ,",  "0:1e9"};
    struct arrival a;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(arrival_parse(bad[i], 10, 10, &a));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(steady_is_equal_steps),    cmocka_unit_test(a_ramp_grows_with_the_square),
        cmocka_unit_test(a_spike_is_in_the_middle), cmocka_unit_test(points_may_fall_to_nothing),
        cmocka_unit_test(times_never_fall),         cmocka_unit_test(nonsense_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
