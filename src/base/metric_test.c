/* SPDX-License-Identifier: Apache-2.0 */
#include "base/metric.c" /* the module itself, so its statics are in reach */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

static void buckets_are_ordered_and_narrow(void **state)
{
    uint64_t v = 0;
    for (unsigned step = 0; step < 4000 && v < UINT64_MAX / 2; step++) {
        unsigned b = bucket_of(v);
        assert_true(b < BUCKETS);
        assert_true(bucket_end(b) >= v);
        assert_true(bucket_end(b) - v <= v / 8);
        assert_true(b == 0 || bucket_end(b - 1) < v);
        v = v < 64 ? v + 1 : v + v / 61;
    }
}

static void quantiles_and_text(void **state)
{
    for (uint64_t i = 1; i <= 1000; i++)
        metric_observe(METRIC_hash_latency, i * 1000);
    uint64_t p50 = metric_quantile(METRIC_hash_latency, 0.5);
    assert_true(p50 >= 500000 && p50 <= 500000 * 9 / 8 + 1000);
    metric_add(METRIC_hashes_run, 3);
    assert_int_equal(metric_sum(METRIC_hashes_run), 3);
    struct buf out;
    buf_init(&out, 1 << 20);
    metric_format(&out);
    buf_put_u8(&out, 0);
    assert_false(out.failed);
    assert_non_null(strstr(out.ptr, "\nsluice_hashes_run_total 3\n"));
    assert_non_null(strstr(out.ptr, "sluice_hash_latency_seconds_count 1000\n"));
    buf_fini(&out);
}

static void quantiles_of_what_came_since(void **state)
{
    static struct metric_mark mark;
    for (uint64_t i = 0; i < 100; i++)
        metric_observe(METRIC_hash_wait, 1000);
    assert_in_range(metric_quantile_since(METRIC_hash_wait, 0.99, &mark), 1000, 1200);
    assert_int_equal(metric_quantile_since(METRIC_hash_wait, 0.99, &mark), 0);
    for (uint64_t i = 0; i < 10; i++)
        metric_observe(METRIC_hash_wait, 9000000);
    assert_in_range(metric_quantile_since(METRIC_hash_wait, 0.5, &mark), 9000000, 10200000);
    assert_in_range(metric_quantile(METRIC_hash_wait, 0.5), 1000, 1200);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(buckets_are_ordered_and_narrow),
        cmocka_unit_test(quantiles_and_text),
        cmocka_unit_test(quantiles_of_what_came_since),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
