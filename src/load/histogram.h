/* SPDX-License-Identifier: Apache-2.0 */
/*
 * load/histogram.h - latencies counted exactly to three decimal digits, in fixed memory. Caller's
 * storage, one thread.
 *
 * The layout is that of HdrHistogram (Gil Tene, hdrhistogram.org): values below 2048 have a cell
 * each; every further power of two is cut into 1024 cells, so a cell is at most 1/1024 of its value
 * wide. (The server's own histograms in base/metric.h are 12 % wide: too coarse to compare by.)
 */
#pragma once

#include <stdint.h>

#define HISTOGRAM_VALUE_MAX                                                                        \
    ((1ull << 42) - 1) /* 73 minutes in nanoseconds; larger counts as this */
#define HISTOGRAM_CELLS (2048 + 31 * 1024)

struct histogram {
    uint64_t total;
    uint64_t sum;
    uint64_t min, max; /* exact */
    uint64_t cells[HISTOGRAM_CELLS];
};

void histogram_clear(struct histogram *h);
void histogram_add(struct histogram *h, uint64_t value);
/* The smallest value that at least the share `q` (0 to 1) of all values does not exceed, as the
 * upper end of its cell but never above the largest value seen. 0 without any values. */
uint64_t histogram_quantile(const struct histogram *h, double q);
/* 0 without any values. */
double histogram_mean(const struct histogram *h);
