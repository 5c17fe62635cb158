/* SPDX-License-Identifier: Apache-2.0 */
/*
 * view/rollup.h - the tuple that stands for many points: how many, their sum, least, greatest,
 * first and last. Tuples of disjoint sets of points merge, in any order, to the tuple of the union.
 * Pure functions over the caller's storage; any thread.
 *
 * Numbers. A value counts as a number when it is one in decimal notation, with blanks around it, a
 * plus, leading zeros or a bare point allowed ("  3.14", "+7", ".5"); NaN, inf and hexadecimal are
 * texts, and so is what overflows a double. Texts are counted and otherwise ignored. -0 is 0.
 * Plain decimals (at most 18 digits, 9 of them behind the point: every sensor) are summed exactly,
 * so 0.1 + 0.2 is 0.3 and no order of merging matters. Other numbers are summed as doubles with
 * compensation (A. Neumaier, Rundungsfehleranalyse einiger Verfahren zur Summation endlicher
 * Summen, 1974): sum and average are within 2^-52 of the sum of the magnitudes.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"
#include "view/row.h"

__extension__ typedef __int128 rollup_int;

#define ROLLUP_EXACT_SCALE 9 /* `exact` counts units of 10^-9 */

struct rollup {
    rollup_int exact;             /* the sum of plain decimals */
    long double rest, rest_low;   /* of other numbers: sum and its compensation */
    uint64_t count, numbers;      /* points; those of them that are numbers */
    double min, max, first, last; /* of the numbers, if there is one */
    struct row_key first_at, last_at;
};

struct rollup_slice {
    int64_t start_us;
    struct rollup r;
};

/* Adds a point. */
void rollup_add(struct rollup *r, struct row_key at, struct slice value);
void rollup_merge(struct rollup *to, const struct rollup *from);
/* Of the numbers; 0 if there is none. The sum may be beyond a double. */
long double rollup_sum(const struct rollup *r);
double rollup_average(const struct rollup *r);

/* ---- the tuples of a row --------------------------------------------------------------------- */

/* A span of time: [n * us, (n + 1) * us) for some n, negative ones too. */
int64_t rollup_slot(int64_t at_us, int64_t slot_us);

/*
 * Appends the tuples of `n` points (sorted upwards, bound), of one length of slot: the shortest of
 * 1, 5 and 30 minutes, 2 and 8 hours and 1 day with ROLLUP_POINTS_MIN points or more per tuple
 * on average. If there is none, or `bare`, only where the points end is written: then the points
 * themselves are as quick to read.
 */
enum { ROLLUP_POINTS_MIN = 16 };
void rollup_encode(struct buf *out, const struct history_point *p, size_t n, bool bare);

struct rollup_row {
    int64_t last_us; /* of the last point */
    int64_t slot_us; /* 0: no tuples */
    uint64_t left;   /* tuples not yet read */
    /* Private: */
    const uint8_t *at, *end;
    bool wide;
    unsigned scale, unit;
    int64_t slot;
    int64_t last; /* of the tuple before, scaled */
    uint64_t last_offset;
};
/* Begins to read what rollup_encode wrote for points beginning at `first`. False: damaged. */
bool rollup_open(struct rollup_row *ret, struct slice row, struct row_key first);
/* The next tuple and its slot; only while `left`. False: damaged. */
bool rollup_next(struct rollup_row *row, int64_t *ret_slot, struct rollup *ret);
