/* SPDX-License-Identifier: Apache-2.0 */
/* The ladder under a clock that the test turns: each level in and out, and nothing in between. */
#include "gate/overload.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/metric.h"

static const struct overload_opts opts = {
    .limit_min = 1000, .limit_max = 10000, .disk_percent = 92, .refuse_percent = 95};

static uint64_t now_ns;

/* `ms` of this sample, tick by tick. */
static enum overload_level run(struct overload *o, struct overload_sample s, unsigned ms)
{
    for (unsigned i = 0; i < ms; i += 100) {
        now_ns += OVERLOAD_TICK_NS;
        s.now_ns = now_ns;
        overload_tick(o, &s);
    }
    return overload_level(overload_now(o));
}

static struct overload_sample bytes(unsigned permille)
{
    return (struct overload_sample){.bytes_permille = permille};
}

static void fresh(struct overload *o)
{
    now_ns = 0;
    overload_init(o, &opts);
}

static void each_level_has_its_own_way_in_and_out(void **state)
{
    static const struct {
        unsigned up, down;
    } rungs[] = {{500, 350}, {700, 500}, {850, 600}, {1000, 750}};
    static struct overload o;
    fresh(&o);
    for (unsigned n = 0; n < 4; n++) {
        assert_int_equal(run(&o, bytes(rungs[n].up - 1), 5000), n);
        assert_int_equal(run(&o, bytes(rungs[n].up), 200), n); /* not at once */
        assert_int_equal(run(&o, bytes(rungs[n].up), 100), n + 1);
        assert_int_equal(run(&o, bytes(rungs[n].up), 5000), n + 1);
    }
    for (unsigned n = 4; n-- > 0;) {
        assert_int_equal(run(&o, bytes(rungs[n].down), 5000), n + 1);
        assert_int_equal(run(&o, bytes(rungs[n].down - 1), 1000), n + 1);
        assert_int_equal(run(&o, bytes(rungs[n].down - 1), 100), n);
    }
}

static void one_step_at_a_time(void **state)
{
    static struct overload o;
    fresh(&o);
    enum overload_level last = OVERLOAD_NONE;
    for (unsigned i = 0; i < 30; i++) {
        enum overload_level now = run(&o, bytes(5000), 100);
        assert_true(now == last || now == last + 1);
        last = now;
    }
    assert_int_equal(last, OVERLOAD_APPEND_ONLY);
    for (unsigned i = 0; i < 60; i++) {
        enum overload_level now = run(&o, bytes(0), 100);
        assert_true(now == last || now + 1 == last);
        last = now;
    }
    assert_int_equal(last, OVERLOAD_NONE);
}

/* What swings between the ways in and out of a level changes nothing, however long. */
static void a_swing_does_not_flap(void **state)
{
    static struct overload o;
    fresh(&o);
    assert_int_equal(run(&o, bytes(700), 2000), OVERLOAD_STALE_READS);
    uint64_t changes = metric_sum(METRIC_overload_changes);
    for (unsigned i = 0; i < 500; i++) {
        run(&o, bytes(501), 300);
        run(&o, bytes(849), 300);
        run(&o, bytes(900), 100); /* a moment above the way into L3, or below the way out */
        run(&o, bytes(400), 500);
    }
    assert_int_equal(metric_sum(METRIC_overload_changes), changes);
    assert_int_equal(overload_level(overload_now(&o)), OVERLOAD_STALE_READS);
}

static void gauges_show_every_level_in_force(void **state)
{
    static struct overload o;
    fresh(&o);
    run(&o, bytes(850), 2000);
    assert_int_equal(metric_gauge(METRIC_overload_level), 3);
    assert_int_equal(metric_gauge(METRIC_overload_trim), 1);
    assert_int_equal(metric_gauge(METRIC_overload_stale_reads), 1);
    assert_int_equal(metric_gauge(METRIC_overload_no_first_logins), 1);
    assert_int_equal(metric_gauge(METRIC_overload_append_only), 0);
    assert_int_equal(metric_gauge(METRIC_overload_disk), 0);
}

/* ---- the limit ---- */

static struct overload_sample commits(uint64_t waiting, double ms)
{
    return (struct overload_sample){.waiting = waiting, .commit_ns = (uint64_t)(ms * 1e6)};
}

static void usual_commits_leave_the_limit_alone(void **state)
{
    static struct overload o;
    fresh(&o);
    for (unsigned i = 0; i < 1000; i++) /* five-fold swings, all fast */
        run(&o, commits(256, i % 2 ? 0.4 : 2.0), 100);
    assert_int_equal(atomic_load(&o.limit_now), opts.limit_max);
    assert_int_equal(overload_level(overload_now(&o)), OVERLOAD_NONE);
}

static void a_stalling_disk_shrinks_it_and_a_quick_one_lets_it_grow(void **state)
{
    static struct overload o;
    fresh(&o);
    run(&o, commits(500, 2), 60000);
    assert_int_equal(run(&o, commits(950, 400), 3000), OVERLOAD_NO_FIRST_LOGINS);
    assert_int_equal(atomic_load(&o.limit_now), opts.limit_min);
    assert_int_equal(run(&o, commits(1500, 400), 1000), OVERLOAD_APPEND_ONLY);
    assert_int_equal(run(&o, commits(50, 2), 20000), OVERLOAD_NONE);
    assert_int_equal(atomic_load(&o.limit_now), opts.limit_max);
}

/* A disk that stays slow is the usual one after some minutes: the brown-out must end. */
static void slow_for_good_becomes_usual(void **state)
{
    static struct overload o;
    fresh(&o);
    run(&o, commits(500, 2), 60000);
    assert_true(run(&o, commits(1500, 100), 5000) == OVERLOAD_APPEND_ONLY);
    assert_true(run(&o, commits(1500, 100), 300000) == OVERLOAD_NONE);
}

static void nothing_committed_is_no_sample(void **state)
{
    static struct overload o;
    fresh(&o);
    run(&o, commits(0, 0), 10000);
    assert_int_equal(atomic_load(&o.limit_now), opts.limit_max);
}

/* ---- the disk ---- */

static struct overload_sample filled(unsigned permille)
{
    return (struct overload_sample){.fill_permille = permille};
}

static unsigned shed_of(const struct overload *o, uint64_t accounts)
{
    unsigned n = 0;
    for (uint64_t a = 1; a <= accounts; a++)
        n += overload_sheds(overload_now(o), a);
    return n;
}

static void the_disk_sheds_the_same_accounts_and_ever_more(void **state)
{
    static struct overload o;
    fresh(&o);
    assert_int_equal(run(&o, filled(919), 5000), OVERLOAD_NONE);
    assert_int_equal(run(&o, filled(920), 100), OVERLOAD_DISK); /* at once */
    assert_int_equal(shed_of(&o, 10000), 0);                    /* first only reads and logins */
    bool was[1001] = {false};
    unsigned before = 0;
    for (unsigned fill = 931; fill <= 950; fill++) {
        run(&o, filled(fill), 100);
        for (uint64_t a = 1; a <= 1000; a++) {
            bool sheds = overload_sheds(overload_now(&o), a);
            assert_true(!was[a] || sheds);
            was[a] = sheds;
        }
        unsigned n = shed_of(&o, 10000);
        assert_true(n >= before);
        before = n;
    }
    assert_int_equal(before, 10000);
    run(&o, filled(940), 100);
    assert_in_range(shed_of(&o, 10000), 4000, 5500); /* half way up: about as many */
    assert_int_equal(run(&o, filled(900), 5000), OVERLOAD_DISK);
    assert_int_equal(run(&o, filled(899), 1000), OVERLOAD_DISK);
    assert_int_equal(run(&o, filled(899), 100), OVERLOAD_APPEND_ONLY);
    assert_int_equal(shed_of(&o, 10000), 0);
    assert_int_equal(run(&o, filled(899), 6000), OVERLOAD_NONE);
}

static void only_addresses_with_a_good_history_may_hash(void **state)
{
    static struct overload o;
    uint64_t at = 100 * 60 * NS_PER_S, hour = 3600 * NS_PER_S;
    fresh(&o);
    overload_note_good(&o, 77, at);
    for (uint32_t level = 0; level < OVERLOAD_LEVELS; level++) {
        assert_int_equal(overload_allows_hash(&o, level, 77, at), level <= 3);
        assert_int_equal(overload_allows_hash(&o, level, 78, at), level < 3);
    }
    assert_true(overload_allows_hash(&o, 3, 77, at + hour));
    assert_false(overload_allows_hash(&o, 3, 77, at + hour + hour / 30));
}

static void one_of_all_ticks(void **state)
{
    static struct overload o;
    fresh(&o);
    unsigned turns = 0;
    for (uint64_t at = 0; at < 10 * OVERLOAD_TICK_NS; at += OVERLOAD_TICK_NS / 10)
        turns += overload_due(&o, at) + overload_due(&o, at);
    assert_int_equal(turns, 10);
}

static void retries_are_spread(void **state)
{
    for (uint32_t level = 4; level <= 5; level++) {
        uint64_t low = UINT64_MAX, high = 0, unit = level == 5 ? 15 * NS_PER_S : NS_PER_S;
        for (uint64_t i = 0; i < 1000; i++) {
            uint64_t r = overload_retry_ns(level, i);
            low = r < low ? r : low;
            high = r > high ? r : high;
        }
        assert_true(low >= unit && high < 4 * unit && high - low > 2 * unit);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_level_has_its_own_way_in_and_out),
        cmocka_unit_test(one_step_at_a_time),
        cmocka_unit_test(a_swing_does_not_flap),
        cmocka_unit_test(gauges_show_every_level_in_force),
        cmocka_unit_test(usual_commits_leave_the_limit_alone),
        cmocka_unit_test(a_stalling_disk_shrinks_it_and_a_quick_one_lets_it_grow),
        cmocka_unit_test(slow_for_good_becomes_usual),
        cmocka_unit_test(nothing_committed_is_no_sample),
        cmocka_unit_test(the_disk_sheds_the_same_accounts_and_ever_more),
        cmocka_unit_test(only_addresses_with_a_good_history_may_hash),
        cmocka_unit_test(one_of_all_ticks),
        cmocka_unit_test(retries_are_spread),
    };
    log_set_level(LOG_ERROR + 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
