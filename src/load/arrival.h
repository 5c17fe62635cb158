/* SPDX-License-Identifier: Apache-2.0 */
/*
 * load/arrival.h - when the messages of the open loop are due: a rate that changes with time, as
 * straight lines between points. Message k is due when the area under the rate reaches k, so the
 * schedule is exact and no random number is in it. Owned by the run; one thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

#define ARRIVAL_POINTS_MAX 32
#define ARRIVAL_RATE_MAX   1e7

struct arrival_point {
    double at_s;
    double rate; /* messages a second */
};

struct arrival {
    struct arrival_point points[ARRIVAL_POINTS_MAX]; /* the first at 0, times never falling */
    unsigned count;                                  /* behind the last its rate stays */
    unsigned segment;                                /* where the last message asked for lies, */
    double before;                                   /* and how many are due before it begins */
};

/* `text`: "steady", "ramp" (from nothing to `rate` at the end), "spike" (for one second in the
 * middle of the run 20 times `rate`; "spike:N" N times), or points TIME:RATE,... in seconds from
 * the start, two at one time being a jump. False: it is none of these. */
bool arrival_parse(const char *text, double rate, double run_s, struct arrival *ret);
/* The same rate for ever. */
void arrival_steady(struct arrival *a, double rate);
double arrival_highest(const struct arrival *a);

/* When message k, counted from 0, is due, in nanoseconds from the start; UINT64_MAX: never. `k` may
 * not fall from call to call. */
uint64_t arrival_due_ns(struct arrival *a, uint64_t k);
/* How many are due before `ns`. */
uint64_t arrival_due_before(const struct arrival *a, uint64_t ns);
