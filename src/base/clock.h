/* SPDX-License-Identifier: Apache-2.0 */
/*
 * base/clock.h - the only place that asks the machine for the time. Any thread.
 *
 * Intervals, timers and windows use the monotonic clock; what is stored or shown uses the wall
 * clock. Tests put a clock of their own underneath.
 */
#pragma once

#include <stdint.h>

#define NS_PER_S  1000000000ull
#define NS_PER_MS 1000000ull
#define NS_PER_US 1000ull
#define US_PER_S  1000000ll

/* Nanoseconds since some point in the past; never goes back. */
uint64_t clock_mono_ns(void);
/* Microseconds since 1970-01-01T00:00:00Z; may jump either way. */
int64_t clock_wall_us(void);
/* Sleeps at least `ns`. Under a fake clock it advances that clock instead. */
void clock_sleep_ns(uint64_t ns);

struct clock_fake {
    _Atomic uint64_t mono_ns;
    _Atomic int64_t wall_us;
};

/* Tests only: all later calls read `fake`; NULL restores the machine's clocks. */
void clock_set_fake(struct clock_fake *fake);
