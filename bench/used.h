/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench/used.h - what the C benchmarks use: time, and processor time of all threads of the process.
 */
#pragma once

#include <stdint.h>
#include <stdio.h>
#include <time.h>

#include "base/clock.h"

struct used {
    uint64_t wall_ns, cpu_ns;
};

/* Up to now, from some beginning on. */
static inline struct used used_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (struct used){clock_mono_ns(), (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec};
}

/* Prints a line: at what rate `count` things (`unit`: "messages") were done since `begun`, and what
 * each took. */
static inline void used_report(const char *what, uint64_t count, const char *unit,
                               struct used begun)
{
    struct used end = used_now();
    printf("%s %.0f %s/s, %.2f us CPU each\n", what,
           (double)count * 1e9 / (double)(end.wall_ns - begun.wall_ns), unit,
           (double)(end.cpu_ns - begun.cpu_ns) / 1e3 / (double)count);
    fflush(stdout);
}
