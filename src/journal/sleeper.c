/* SPDX-License-Identifier: Apache-2.0 */
#include "journal/sleeper.h"

#include <limits.h>
#include <linux/futex.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"

void sleeper_wait(struct sleeper *s, uint32_t key, uint64_t ns)
{
    struct timespec t = {.tv_sec = (time_t)(ns / NS_PER_S), .tv_nsec = (long)(ns % NS_PER_S)};
    atomic_fetch_add(&s->waiting, 1);
    if (atomic_load(&s->events) == key)
        syscall(SYS_futex, &s->events, FUTEX_WAIT_PRIVATE, key, ns == SLEEPER_FOREVER ? NULL : &t,
                NULL, 0);
    atomic_fetch_sub(&s->waiting, 1);
}

void sleeper_signal(struct sleeper *s)
{
    atomic_fetch_add(&s->events, 1);
    if (atomic_load(&s->waiting))
        syscall(SYS_futex, &s->events, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}
