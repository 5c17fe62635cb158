/* SPDX-License-Identifier: Apache-2.0 */
/*
 * journal/sleeper.h - waiting for an event that usually has come already: an event count over
 * futex(2). Signalling costs one atomic addition, and a system call only if somebody sleeps.
 *
 *   waiter:   key = sleeper_key(s); if (nothing to do) sleeper_wait(s, key, ns);
 *   signaller: make something to do; sleeper_signal(s);
 *
 * Whatever was made before the signal is seen by a waiter that took its key before looking. Any
 * thread.
 */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

#define SLEEPER_FOREVER UINT64_MAX

struct sleeper {
    _Atomic uint32_t events;
    _Atomic uint32_t waiting;
};

static inline uint32_t sleeper_key(struct sleeper *s)
{
    return atomic_load(&s->events);
}

/* Returns at once when there was a signal since the key was taken; otherwise sleeps until one,
 * until `ns` passed, or for no reason. */
void sleeper_wait(struct sleeper *s, uint32_t key, uint64_t ns);
/* Wakes all. */
void sleeper_signal(struct sleeper *s);
