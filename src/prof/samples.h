/* SPDX-License-Identifier: Apache-2.0 */
/*
 * prof/samples.h - reads gperftools' binary CPU profile: words of 64 bits in this machine's order,
 * a head, records of {count, depth, addresses}, a trailer, then text. Source: "CPU Profiler binary
 * data file format" (cpuprofile-fileformat.html of gperftools). Pure; nothing is copied.
 */
#pragma once

#include "base/slice.h"

#include <stdint.h>

struct samples {
    const uint64_t *at, *end;
    uint64_t period_us; /* of CPU time, from one sample to the next */
};

struct sample {
    uint64_t count; /* it was met so often */
    /* Innermost first: where it was, then where each caller is returned to. */
    const uint64_t *stack;
    uint64_t depth; /* 1 or more */
};

/* False: this is no such profile. `profile` must be aligned to 8 bytes. */
bool samples_begin(struct samples *s, struct slice profile);
/* False: there is none left. */
bool samples_next(struct samples *s, struct sample *ret);
