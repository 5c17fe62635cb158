/* SPDX-License-Identifier: Apache-2.0 */
#include "base/thread.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <sys/syscall.h>
#include <unistd.h>

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_stands_back_has_long_slices),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
