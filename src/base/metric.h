/* SPDX-License-Identifier: Apache-2.0 */
/*
 * base/metric.h - counters, gauges and latency histograms, listed in metrics.def. Any thread.
 *
 * Each thread counts into a block of its own, so counting costs one plain add; a scrape sums the
 * blocks. Blocks live until the process ends. Gauges are global, the last setter wins.
 */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

#include "base/buf.h"

enum metric_counter {
#define COUNTER(name, help) METRIC_##name,
#include "base/metrics.def"
    METRIC_COUNTERS
};

enum metric_gauge {
#define GAUGE(name, help) METRIC_##name,
#include "base/metrics.def"
    METRIC_GAUGES
};

enum metric_histogram {
#define HISTOGRAM(name, help) METRIC_##name,
#include "base/metrics.def"
    METRIC_HISTOGRAMS
};

/* Adds to the calling thread's share. */
void metric_add(enum metric_counter id, uint64_t n);
/* The sum over all threads. */
uint64_t metric_sum(enum metric_counter id);
void metric_set(enum metric_gauge id, uint64_t value);
void metric_move(enum metric_gauge id, int64_t by);
uint64_t metric_gauge(enum metric_gauge id);
/* Records one latency in nanoseconds; buckets are 1/8 of a power of two wide (12 % at most). */
void metric_observe(enum metric_histogram id, uint64_t ns);
/* The latency below which the share `q` (0 to 1) of all observations lies; 0 without any. */
uint64_t metric_quantile(enum metric_histogram id, double q);
/* Where a histogram was at some time; all zero: at its beginning. */
#define METRIC_BUCKETS 512u
struct metric_mark {
    uint64_t counts[METRIC_BUCKETS];
};
/* The same of what was observed since the mark, which moves to now. */
uint64_t metric_quantile_since(enum metric_histogram id, double q, struct metric_mark *mark);
/* Prometheus text exposition format 0.0.4 of everything. */
void metric_format(struct buf *out);
