/* SPDX-License-Identifier: Apache-2.0 */
/*
 * base/thread.h - named threads, waiting for a time, and the one kind of short lock that hot paths
 * use. Any thread.
 */
#pragma once

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* Starts a thread with all signals blocked but the profiler's (SIGPROF, prof/prof.h), named `name`
 * (at most 15 bytes are shown). Aborts when the system has no more threads: it only happens at
 * start-up. */
pthread_t thread_start(const char *name, void (*run)(void *arg), void *arg);
/* Gives the calling thread only the CPU time that nobody else wants: SCHED_IDLE, else nice 19, and
 * long slices, so that those who are woken meanwhile run at once (decision 0042). */
void thread_be_idle(void);
/* Makes the calling thread stand back behind others without starving: nice `n`, 1 to 19, and long
 * slices. It cannot be undone without privileges. */
void thread_be_nice(int n);
/* Lets the calling thread, which others wait for and which needs little, run as soon as it is
 * woken: it asks for shorter slices than others have (Linux 6.12 and later). Its share stays the
 * same. */
void thread_be_prompt(void);
/* How nice the calling thread is. */
int thread_nice(void);
/* Whether a thread of this process that has become nicer may be as before: needs RLIMIT_NICE or
 * privileges. Where it may not, the calling thread is 1 nicer from now on. */
bool thread_nice_ends(void);
/* Makes all threads of this process nice `n` whose names begin with one of `names` (NULL ends
 * them), with long slices or the usual ones; threads that they start later are like them. Reads
 * /proc. 0 or a negative errno: perhaps not all. */
int threads_set_nice(const char *const names[], int n, bool long_slices);
/* Cores that the calling thread may run on; at least 1. */
unsigned thread_cores(void);

/* Makes a condition for cond_wait_until. */
void cond_init(pthread_cond_t *c);
/* pthread_cond_wait, until `end_ns` of clock_mono_ns() at the latest; UINT64_MAX: without end.
 * False: that is over. */
bool cond_wait_until(pthread_cond_t *c, pthread_mutex_t *m, uint64_t end_ns);

/* A spinlock for a few dozen instructions. It yields after some turns, so a preempted holder cannot
 * burn a core; a thread that called thread_be_idle never takes one that others take. */
struct spin {
    atomic_flag held;
};

static inline void spin_lock(struct spin *s)
{
    unsigned turns = 0;
    while (atomic_flag_test_and_set_explicit(&s->held, memory_order_acquire)) {
        if (++turns % 64 == 0)
            sched_yield();
        else
            __asm__ volatile("" ::: "memory");
    }
}

static inline void spin_unlock(struct spin *s)
{
    atomic_flag_clear_explicit(&s->held, memory_order_release);
}
