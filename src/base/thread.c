/* SPDX-License-Identifier: Apache-2.0 */
#include "base/thread.h"

#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"

#define SLICE_NS (100 * NS_PER_MS) /* the longest that may be asked for */

struct start {
    void (*run)(void *arg);
    void *arg;
};

static void *trampoline(void *arg)
{
    struct start s = *(struct start *)arg;
    free(arg);
    s.run(s.arg);
    return NULL;
}

pthread_t thread_start(const char *name, void (*run)(void *arg), void *arg)
{
    struct start *s = malloc(sizeof *s);
    CHECK(s);
    *s = (struct start){.run = run, .arg = arg};

    sigset_t all, before;
    sigfillset(&all);
    sigdelset(&all, SIGPROF);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_t id;
    CHECK(pthread_create(&id, NULL, trampoline, s) == 0);
    pthread_sigmask(SIG_SETMASK, &before, NULL);

    char shown[16] = {0};
    strncpy(shown, name, sizeof shown - 1);
    pthread_setname_np(id, shown);
    return id;
}

/* As linux/sched/types.h has it (sched_setattr(2)); glibc has none before 2.41. */
struct scheduling {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime_ns, deadline_ns, period_ns;
};

/* Whoever wakes up with a shorter slice has the core at once (Linux 6.12 and later). Without that,
 * others wait for this thread until the next tick of the kernel's clock: those of its own group
 * because it is nice, and all outside even if it is idle, since the group as a whole is not. An
 * older kernel takes no notice. */
static void ask_long_slices(void)
{
    struct scheduling s = {
        .size = sizeof s,
        .policy = SCHED_OTHER,
        .nice = getpriority(PRIO_PROCESS, 0), /* on Linux 0 is the calling thread */
        .runtime_ns = SLICE_NS,
    };
    (void)syscall(SYS_sched_setattr, 0, &s, 0u);
}

void thread_be_idle(void)
{
    struct sched_param none = {0};
    ask_long_slices(); /* before: SCHED_IDLE takes no wish, but keeps an earlier one */
    if (pthread_setschedparam(pthread_self(), SCHED_IDLE, &none) != 0)
        setpriority(PRIO_PROCESS, 0, 19);
}

void thread_be_nice(int n)
{
    setpriority(PRIO_PROCESS, 0, n);
    ask_long_slices();
}

unsigned thread_cores(void)
{
    cpu_set_t set;
    int n = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    return n > 0 ? (unsigned)n : 1;
}
