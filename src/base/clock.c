/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"

#include <errno.h>
#include <stddef.h>
#include <time.h>

static struct clock_fake *_Atomic fake_clock;

static uint64_t read_clock(clockid_t id)
{
    struct timespec t;
    clock_gettime(id, &t);
    return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

uint64_t clock_mono_ns(void)
{
    struct clock_fake *fake = fake_clock;
    return fake ? fake->mono_ns : read_clock(CLOCK_MONOTONIC);
}

int64_t clock_wall_us(void)
{
    struct clock_fake *fake = fake_clock;
    return fake ? fake->wall_us : (int64_t)(read_clock(CLOCK_REALTIME) / NS_PER_US);
}

void clock_sleep_ns(uint64_t ns)
{
    struct clock_fake *fake = fake_clock;
    if (fake) {
        fake->mono_ns += ns;
        fake->wall_us += (int64_t)(ns / NS_PER_US);
        return;
    }
    struct timespec t = {.tv_sec = (time_t)(ns / NS_PER_S), .tv_nsec = (long)(ns % NS_PER_S)};
    while (nanosleep(&t, &t) < 0 && errno == EINTR) /* the profiler's signal */
        ;
}

void clock_set_fake(struct clock_fake *fake)
{
    fake_clock = fake;
}
