/* SPDX-License-Identifier: Apache-2.0 */
#include "base/thread.h"

#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "base/check.h"

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
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_t id;
    CHECK(pthread_create(&id, NULL, trampoline, s) == 0);
    pthread_sigmask(SIG_SETMASK, &before, NULL);

    char shown[16] = {0};
    strncpy(shown, name, sizeof shown - 1);
    pthread_setname_np(id, shown);
    return id;
}

void thread_be_idle(void)
{
    struct sched_param none = {0};
    if (pthread_setschedparam(pthread_self(), SCHED_IDLE, &none) != 0)
        setpriority(PRIO_PROCESS, 0, 19);
}

void thread_be_nice(int n)
{
    setpriority(PRIO_PROCESS, 0, n); /* on Linux 0 is the calling thread */
}

unsigned thread_cores(void)
{
    cpu_set_t set;
    int n = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    return n > 0 ? (unsigned)n : 1;
}
