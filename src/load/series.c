/* SPDX-License-Identifier: Apache-2.0 */
#include "load/series.h"

static uint64_t larger(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static void merge(struct series_point *to, const struct series_point *more)
{
    to->answers += more->answers;
    to->refused += more->refused;
    to->errors += more->errors;
    to->p50 = larger(to->p50, more->p50);
    to->p99 = larger(to->p99, more->p99);
    to->p999 = larger(to->p999, more->p999);
    to->max = larger(to->max, more->max);
}

void series_add(struct series *s, const struct series_point *second)
{
    if (s->step_s == 0)
        s->step_s = 1;
    merge(&s->gathered, second);
    if (++s->gathered_s < s->step_s)
        return;
    if (s->count == SERIES_MAX) {
        for (unsigned i = 0; i < SERIES_MAX / 2; i++) {
            s->points[i] = s->points[2 * i];
            merge(&s->points[i], &s->points[2 * i + 1]);
        }
        s->count = SERIES_MAX / 2;
        s->step_s *= 2;
        return; /* what is gathered is the first half of the next */
    }
    s->points[s->count++] = s->gathered;
    s->gathered = (struct series_point){0};
    s->gathered_s = 0;
}
