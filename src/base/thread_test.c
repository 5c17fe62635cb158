/* SPDX-License-Identifier: Apache-2.0 */
#include "base/thread.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <signal.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/clock.h"

#define LONGEST_NS 100000000ull

/* sched_getattr(2) */
struct attributes {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime_ns, deadline_ns, period_ns;
};

static struct attributes mine(void)
{
    struct attributes a = {.size = sizeof a};
    assert_int_equal(syscall(SYS_sched_getattr, 0, &a, sizeof a, 0u), 0);
    return a;
}

static void be_idle(void *arg)
{
    struct attributes *a = arg;
    a[0] = mine();
    thread_be_idle();
    a[1] = mine();
}

static void be_nice(void *arg)
{
    struct attributes *a = arg;
    a[0] = mine();
    thread_be_nice(5);
    a[1] = mine();
}

/* Kernels before 6.12 have no slices of a thread's own, and show none. */
static void check_slices(const struct attributes a[2])
{
    if (a[0].runtime_ns)
        assert_int_equal(a[1].runtime_ns, LONGEST_NS);
}

static void who_stands_back_has_long_slices(void **state)
{
    struct attributes a[2];
    pthread_join(thread_start("idle", be_idle, a), NULL);
    assert_true(a[1].policy == SCHED_IDLE || a[1].nice == 19);
    check_slices(a);
    pthread_join(thread_start("nice", be_nice, a), NULL);
    assert_int_equal(a[1].policy, SCHED_OTHER);
    assert_true(a[1].nice == 5 || a[0].nice > 5);
    check_slices(a);
}

static void be_prompt(void *arg)
{
    struct attributes *a = arg;
    a[0] = mine();
    thread_be_prompt();
    a[1] = mine();
}

static void who_is_prompt_has_short_slices(void **state)
{
    struct attributes a[2];
    pthread_join(thread_start("prompt", be_prompt, a), NULL);
    assert_int_equal(a[1].policy, SCHED_OTHER);
    assert_int_equal(a[1].nice, a[0].nice);
    if (a[0].runtime_ns)
        assert_true(a[1].runtime_ns < a[0].runtime_ns);
}

static void on_signal(int number)
{
    (void)number;
}

static void sleep_under_signals(void *arg)
{
    uint64_t begin_ns = clock_mono_ns();
    clock_sleep_ns(100 * NS_PER_MS);
    *(uint64_t *)arg = clock_mono_ns() - begin_ns;
}

/* SIGPROF is the one that threads take: a profile must not make anybody early. */
static void a_sleep_outlasts_signals(void **state)
{
    uint64_t slept_ns = 0;
    struct sigaction act = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    assert_int_equal(sigaction(SIGPROF, &act, NULL), 0);
    pthread_t id = thread_start("sleeper", sleep_under_signals, &slept_ns);
    for (unsigned i = 0; i < 10; i++) {
        usleep(5000);
        pthread_kill(id, SIGPROF);
    }
    pthread_join(id, NULL);
    assert_true(slept_ns >= 100 * NS_PER_MS);
    assert_true(slept_ns < 60 * NS_PER_S);
}

struct waiting {
    pthread_cond_t cond;
    pthread_mutex_t lock;
    bool told;
};

static void tell(void *arg)
{
    struct waiting *w = arg;
    pthread_mutex_lock(&w->lock);
    w->told = true;
    pthread_cond_signal(&w->cond);
    pthread_mutex_unlock(&w->lock);
}

/* By the time that is not set, and without end. */
static void a_wait_ends_by_time_or_when_told(void **state)
{
    struct waiting w = {.lock = PTHREAD_MUTEX_INITIALIZER};
    (void)state;
    cond_init(&w.cond);
    pthread_mutex_lock(&w.lock);
    uint64_t end = clock_mono_ns() + 20 * NS_PER_MS;
    while (cond_wait_until(&w.cond, &w.lock, end))
        ;
    assert_true(clock_mono_ns() >= end);
    pthread_t teller = thread_start("teller", tell, &w);
    while (!w.told)
        assert_true(cond_wait_until(&w.cond, &w.lock, UINT64_MAX));
    pthread_mutex_unlock(&w.lock);
    pthread_join(teller, NULL);
    pthread_cond_destroy(&w.cond);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_stands_back_has_long_slices),
        cmocka_unit_test(who_is_prompt_has_short_slices),
        cmocka_unit_test(a_sleep_outlasts_signals),
        cmocka_unit_test(a_wait_ends_by_time_or_when_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
