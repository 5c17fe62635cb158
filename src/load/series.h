/* SPDX-License-Identifier: Apache-2.0 */
/*
 * load/series.h - how a run went, second by second. Bounded: when it is full, neighbours become one
 * and each point stands for twice as long. Owned by the run; one thread.
 */
#pragma once

#include <stdint.h>

#define SERIES_MAX 1200

struct series_point {
    uint64_t answers, refused;    /* refused ones are answers too */
    uint64_t errors;              /* connections that failed, time-outs, bad answers */
    uint64_t p50, p99, p999, max; /* nanoseconds; of several seconds the worst */
};

struct series {
    struct series_point points[SERIES_MAX];
    unsigned count;
    unsigned step_s;              /* that each stands for; 0: as yet one */
    struct series_point gathered; /* of the next one, from so many seconds: */
    unsigned gathered_s;
};

/* Another second. */
void series_add(struct series *s, const struct series_point *second);
