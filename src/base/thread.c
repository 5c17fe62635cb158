/* SPDX-License-Identifier: Apache-2.0 */
#include "base/thread.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"

#define SLICE_NS       (100 * NS_PER_MS) /* the longest that may be asked for */
#define SHORT_SLICE_NS (NS_PER_MS / 2)   /* the kernel's own are 3 ms and longer */

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

/* How nice, and how long its slices are; 0: the usual ones. 0 or a negative errno. */
static int set_nice(long id, int n, uint64_t slice_ns)
{
    if (sched_getscheduler((pid_t)id) != SCHED_OTHER)
        return 0; /* whoever chose another policy for the process knows why */
    struct scheduling s = {
        .size = sizeof s, .policy = SCHED_OTHER, .nice = n, .runtime_ns = slice_ns};
    return syscall(SYS_sched_setattr, id, &s, 0u) == 0 ? 0 : -errno;
}

/* Whoever wakes up with a shorter slice has the core at once (Linux 6.12 and later). Without that,
 * others wait for this thread until the next tick of the kernel's clock: those of its own group
 * because it is nice, and all outside even if it is idle, since the group as a whole is not. An
 * older kernel takes no notice. */
static void ask_long_slices(void)
{
    (void)set_nice(0, thread_nice(), SLICE_NS);
}

int thread_nice(void)
{
    return getpriority(PRIO_PROCESS, 0); /* on Linux 0 is the calling thread */
}

void thread_be_idle(void)
{
    struct sched_param none = {0};
    ask_long_slices(); /* before: SCHED_IDLE takes no wish, but keeps an earlier one */
    if (pthread_setschedparam(pthread_self(), SCHED_IDLE, &none) != 0)
        setpriority(PRIO_PROCESS, 0, 19);
}

void thread_be_prompt(void)
{
    (void)set_nice(0, thread_nice(), SHORT_SLICE_NS);
}

void thread_be_nice(int n)
{
    setpriority(PRIO_PROCESS, 0, n);
    ask_long_slices();
}

bool thread_nice_ends(void)
{
    int before = thread_nice();
    return setpriority(PRIO_PROCESS, 0, before + 1) == 0 &&
           setpriority(PRIO_PROCESS, 0, before) == 0;
}

static bool is_named(const char *id, const char *const names[])
{
    char path[64], name[16] = {0};
    snprintf(path, sizeof path, "/proc/self/task/%.20s/comm", id);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false; /* it has ended */
    ssize_t len = read(fd, name, sizeof name - 1);
    close(fd);
    for (; len > 0 && *names; names++)
        if (strncmp(name, *names, strlen(*names)) == 0)
            return true;
    return false;
}

int threads_set_nice(const char *const names[], int n, bool long_slices)
{
    DIR *dir = opendir("/proc/self/task");
    if (!dir)
        return -errno;
    int outcome = 0;
    for (struct dirent *e; (e = readdir(dir));) {
        if (e->d_name[0] == '.' || !is_named(e->d_name, names))
            continue;
        int code = set_nice(strtol(e->d_name, NULL, 10), n, long_slices ? SLICE_NS : 0);
        if (code < 0 && code != -ESRCH)
            outcome = code;
    }
    closedir(dir);
    return outcome;
}

void cond_init(pthread_cond_t *c)
{
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(c, &attr);
    pthread_condattr_destroy(&attr);
}

bool cond_wait_until(pthread_cond_t *c, pthread_mutex_t *m, uint64_t end_ns)
{
    const struct timespec end = {.tv_sec = (time_t)(end_ns / NS_PER_S),
                                 .tv_nsec = (long)(end_ns % NS_PER_S)};
    return end_ns == UINT64_MAX ? pthread_cond_wait(c, m) == 0
                                : pthread_cond_timedwait(c, m, &end) == 0;
}

unsigned thread_cores(void)
{
    cpu_set_t set;
    int n = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    return n > 0 ? (unsigned)n : 1;
}
