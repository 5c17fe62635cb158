/* SPDX-License-Identifier: Apache-2.0 */
#include "view/yield.c"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define RATE 100000ull /* records that become durable between two looks */

struct load {
    struct yielding rule;
    uint64_t durable, applied, now_ns;
};

/* Looks `looks` times, while the view applies `applies` records between two. Returns in how many of
 * them it was nice. */
static unsigned run_for(struct load *l, unsigned looks, uint64_t applies)
{
    unsigned nice = 0;
    for (unsigned i = 0; i < looks; i++) {
        l->now_ns += LOOK_NS;
        l->durable += RATE;
        l->applied += applies;
        if (l->applied > l->durable)
            l->applied = l->durable;
        nice += yielding_look(&l->rule, l->applied, l->durable, l->now_ns);
    }
    return nice;
}

static void stands_back_once_it_has_kept_up(void **state)
{
    struct load l = {.now_ns = NS_PER_S};
    assert_int_equal(run_for(&l, WINDOW - 1, RATE), 0);
    assert_int_equal(run_for(&l, 1000, RATE), 1000);
}

static void a_burst_may_take_a_while(void **state)
{
    struct load l = {.now_ns = NS_PER_S};
    run_for(&l, WINDOW, RATE);
    for (unsigned i = 0; i < 100; i++) {
        assert_int_equal(run_for(&l, 9, 0), 9); /* 1.8 s without a record */
        assert_int_equal(run_for(&l, 2, 10 * RATE), 2);
    }
}

/* What was durable two seconds ago and is not applied ends it, whether the view stands still or
 * only loses ground. */
static void not_while_it_is_late(void **state)
{
    for (uint64_t applies = 0; applies < RATE; applies += RATE / 4) {
        struct load l = {.now_ns = NS_PER_S};
        run_for(&l, WINDOW, RATE);
        assert_true(l.rule.on);
        unsigned looks = 0;
        while (run_for(&l, 1, applies) && looks < 1000)
            looks++;
        assert_in_range(looks, LATE_NS / LOOK_NS - 1, 100);
        assert_true(l.durable - l.applied <= 100 * RATE);
        assert_int_equal(run_for(&l, 1000, applies), 0);
        /* It catches up, and when that has lasted a window: */
        run_for(&l, 1000, 10 * RATE);
        assert_true(l.rule.on);
    }
}

/* Whoever is as nice as before falls behind at this load, and at its own rank does not. */
static void a_full_core_does_not_make_it_late_without_limit(void **state)
{
    struct load l = {.now_ns = NS_PER_S};
    uint64_t most = 0;
    bool on = false;
    for (unsigned i = 0; i < 100000; i++) {
        on = run_for(&l, 1, on ? RATE / 8 : RATE + RATE / 8);
        if (l.durable - l.applied > most)
            most = l.durable - l.applied;
    }
    assert_true(most < 5 * LATE_NS / LOOK_NS * RATE);
}

/* ---- the thread ---- */

static atomic_bool end;
static _Atomic int nice_now;

static void be_looked_at(void *arg)
{
    (void)arg;
    while (!end) {
        nice_now = thread_nice();
        clock_sleep_ns(NS_PER_MS);
    }
}

static void the_threads_follow(void **state)
{
    static const char *const names[] = {"looked", NULL};
    if (!thread_nice_ends())
        skip();
    int before = thread_nice();
    pthread_t id = thread_start("looked-at", be_looked_at, NULL);
    assert_int_equal(threads_set_nice(names, before + NICE, true), 0);
    for (unsigned i = 0; i < 5000 && nice_now != before + NICE; i++)
        clock_sleep_ns(NS_PER_MS);
    assert_int_equal(nice_now, before + NICE);
    assert_int_equal(thread_nice(), before); /* nobody else is nice */
    assert_int_equal(threads_set_nice(names, before, false), 0);
    for (unsigned i = 0; i < 5000 && nice_now != before; i++)
        clock_sleep_ns(NS_PER_MS);
    assert_int_equal(nice_now, before);
    end = true;
    pthread_join(id, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stands_back_once_it_has_kept_up),
        cmocka_unit_test(a_burst_may_take_a_while),
        cmocka_unit_test(not_while_it_is_late),
        cmocka_unit_test(a_full_core_does_not_make_it_late_without_limit),
        cmocka_unit_test(the_threads_follow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
