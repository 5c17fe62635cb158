/* SPDX-License-Identifier: Apache-2.0 */
#include "load/histogram.c"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "base/rand.h"

static struct histogram h;

static void every_value_lies_in_its_cell(void **state)
{
    /* All small values, then both sides of every power of two and of some cell borders. */
    unsigned last = 0;
    for (uint64_t v = 0; v < 1 << 16; v++) {
        unsigned cell = cell_of(v);
        assert_true(cell == last || cell == last + 1);
        last = cell;
        assert_true(cell_top(cell) >= v);
        assert_true(cell == 0 || cell_top(cell - 1) < v);
    }
    for (unsigned bit = 12; bit < 42; bit++) {
        for (int64_t by = -2; by <= 2; by++) {
            uint64_t v = (1ull << bit) + (uint64_t)by;
            unsigned cell = cell_of(v);
            assert_true(cell < HISTOGRAM_CELLS);
            assert_true(cell_top(cell) >= v && cell_top(cell - 1) < v);
        }
    }
    assert_int_equal(cell_of(HISTOGRAM_VALUE_MAX), HISTOGRAM_CELLS - 1);
    assert_int_equal(cell_top(HISTOGRAM_CELLS - 1), HISTOGRAM_VALUE_MAX);
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static void agrees_with_sorting_to_three_digits(void **state)
{
    enum { N = 100000 };
    static uint64_t values[N];
    struct rand r = {.state = 7};
    histogram_clear(&h);
    for (int i = 0; i < N; i++) {
        values[i] = rand_next(&r) >> (22 + rand_below(&r, 40));
        histogram_add(&h, values[i]);
    }
    qsort(values, N, sizeof values[0], by_value);
    static const double shares[] = {0, 0.001, 0.5, 0.9, 0.99, 0.999, 1};
    for (size_t i = 0; i < sizeof shares / sizeof shares[0]; i++) {
        uint64_t rank = (uint64_t)(shares[i] * N + 0.5);
        uint64_t exact = values[rank ? rank - 1 : 0];
        uint64_t got = histogram_quantile(&h, shares[i]);
        assert_true(got >= exact);
        assert_true((double)got <= (double)exact * 1.001);
    }
    assert_int_equal(h.total, N);
    assert_int_equal(h.min, values[0]);
    assert_int_equal(h.max, values[N - 1]);
}

static void few_values_are_exact(void **state)
{
    histogram_clear(&h);
    assert_int_equal(histogram_quantile(&h, 0.5), 0);
    assert_true(histogram_mean(&h) == 0);
    for (uint64_t v = 1; v <= 1000; v++)
        histogram_add(&h, v);
    assert_int_equal(histogram_quantile(&h, 0.5), 500);
    assert_int_equal(histogram_quantile(&h, 0.99), 990);
    assert_int_equal(histogram_quantile(&h, 0.999), 999);
    assert_int_equal(histogram_quantile(&h, 1), 1000);
    assert_true(histogram_mean(&h) == 500.5);
    histogram_add(&h, UINT64_MAX);
    assert_int_equal(h.max, HISTOGRAM_VALUE_MAX);
    assert_int_equal(histogram_quantile(&h, 1), HISTOGRAM_VALUE_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_value_lies_in_its_cell),
        cmocka_unit_test(agrees_with_sorting_to_three_digits),
        cmocka_unit_test(few_values_are_exact),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
