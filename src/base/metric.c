/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A histogram's bucket for v: the position of its top bit, then the next three bits. 64 x 8 buckets
 * cover every 64-bit value. The exposition shows only the powers of two between 1 us and 32 s.
 */
#include "base/metric.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/clock.h"

#define SUB_BITS 3u
#define SUBS     (1u << SUB_BITS)
#define BUCKETS  (64u * SUBS)

_Static_assert(BUCKETS == METRIC_BUCKETS, "a mark has room for a histogram");

struct block {
    struct block *next;
    _Atomic uint64_t counters[METRIC_COUNTERS];
    _Atomic uint64_t sums[METRIC_HISTOGRAMS];
    _Atomic uint64_t buckets[METRIC_HISTOGRAMS][BUCKETS];
};

static pthread_mutex_t blocks_lock = PTHREAD_MUTEX_INITIALIZER;
static struct block *_Atomic blocks;
static _Atomic uint64_t gauges[METRIC_GAUGES];
static _Thread_local struct block *mine;

static struct block *my_block(void)
{
    if (__builtin_expect(!mine, 0)) {
        struct block *b = calloc(1, sizeof *b);
        CHECK(b);
        pthread_mutex_lock(&blocks_lock);
        b->next = blocks;
        blocks = b;
        pthread_mutex_unlock(&blocks_lock);
        mine = b;
    }
    return mine;
}

/* The calling thread is the only writer, so no read-modify-write instruction is needed. */
static void bump(_Atomic uint64_t *at, uint64_t n)
{
    uint64_t was = atomic_load_explicit(at, memory_order_relaxed);
    atomic_store_explicit(at, was + n, memory_order_relaxed);
}

void metric_add(enum metric_counter id, uint64_t n)
{
    bump(&my_block()->counters[id], n);
}

uint64_t metric_sum(enum metric_counter id)
{
    uint64_t sum = 0;
    for (struct block *b = blocks; b; b = b->next)
        sum += atomic_load_explicit(&b->counters[id], memory_order_relaxed);
    return sum;
}

void metric_set(enum metric_gauge id, uint64_t value)
{
    atomic_store_explicit(&gauges[id], value, memory_order_relaxed);
}

void metric_move(enum metric_gauge id, int64_t by)
{
    atomic_fetch_add_explicit(&gauges[id], (uint64_t)by, memory_order_relaxed);
}

uint64_t metric_gauge(enum metric_gauge id)
{
    return atomic_load_explicit(&gauges[id], memory_order_relaxed);
}

static unsigned bucket_of(uint64_t v)
{
    if (v < SUBS)
        return (unsigned)v;
    unsigned top = 63u - (unsigned)__builtin_clzll(v);
    return (top - SUB_BITS + 1) * SUBS + (unsigned)(v >> (top - SUB_BITS)) % SUBS;
}

/* The largest value that falls into the bucket. */
static uint64_t bucket_end(unsigned bucket)
{
    if (bucket < SUBS)
        return bucket;
    unsigned shift = bucket / SUBS - 1;
    return ((uint64_t)(SUBS + bucket % SUBS + 1) << shift) - 1;
}

void metric_observe(enum metric_histogram id, uint64_t ns)
{
    struct block *b = my_block();
    bump(&b->sums[id], ns);
    bump(&b->buckets[id][bucket_of(ns)], 1);
}

static uint64_t sum_buckets(enum metric_histogram id, uint64_t *counts)
{
    uint64_t total = 0;
    for (unsigned i = 0; i < BUCKETS; i++)
        counts[i] = 0;
    for (struct block *b = blocks; b; b = b->next) {
        for (unsigned i = 0; i < BUCKETS; i++) {
            uint64_t n = atomic_load_explicit(&b->buckets[id][i], memory_order_relaxed);
            counts[i] += n;
            total += n;
        }
    }
    return total;
}

static uint64_t quantile_of(const uint64_t *counts, uint64_t total, double q)
{
    if (!total)
        return 0;
    uint64_t rank = (uint64_t)(q * (double)(total - 1));
    uint64_t seen = 0;
    for (unsigned i = 0; i < BUCKETS; i++) {
        seen += counts[i];
        if (seen > rank)
            return bucket_end(i);
    }
    return bucket_end(BUCKETS - 1);
}

uint64_t metric_quantile(enum metric_histogram id, double q)
{
    uint64_t counts[BUCKETS];
    uint64_t total = sum_buckets(id, counts);
    return quantile_of(counts, total, q);
}

uint64_t metric_quantile_since(enum metric_histogram id, double q, struct metric_mark *mark)
{
    uint64_t counts[BUCKETS], total = 0;
    sum_buckets(id, counts);
    for (unsigned i = 0; i < BUCKETS; i++) {
        uint64_t now = counts[i];
        counts[i] -= mark->counts[i];
        mark->counts[i] = now;
        total += counts[i];
    }
    return quantile_of(counts, total, q);
}

static void format_histogram(struct buf *out, enum metric_histogram id, const char *name,
                             const char *help)
{
    uint64_t counts[BUCKETS], sum = 0, seen = 0;
    uint64_t total = sum_buckets(id, counts);
    for (struct block *b = blocks; b; b = b->next)
        sum += atomic_load_explicit(&b->sums[id], memory_order_relaxed);
    buf_printf(out, "# HELP sluice_%s_seconds %s\n# TYPE sluice_%s_seconds histogram\n", name, help,
               name);
    unsigned next = 0;
    for (unsigned power = 10; power <= 35; power++) {
        for (; next < BUCKETS && bucket_end(next) < 1ull << power; next++)
            seen += counts[next];
        buf_printf(out, "sluice_%s_seconds_bucket{le=\"%.9g\"} %llu\n", name,
                   (double)(1ull << power) / (double)NS_PER_S, (unsigned long long)seen);
    }
    buf_printf(out, "sluice_%s_seconds_bucket{le=\"+Inf\"} %llu\n", name,
               (unsigned long long)total);
    buf_printf(out, "sluice_%s_seconds_sum %.9f\nsluice_%s_seconds_count %llu\n", name,
               (double)sum / (double)NS_PER_S, name, (unsigned long long)total);
}

void metric_format(struct buf *out)
{
#define COUNTER(name, help)                                                                        \
    buf_printf(out,                                                                                \
               "# HELP sluice_" #name "_total " help "\n# TYPE sluice_" #name                      \
               "_total counter\nsluice_" #name "_total %llu\n",                                    \
               (unsigned long long)metric_sum(METRIC_##name));
#define GAUGE(name, help)                                                                          \
    buf_printf(out,                                                                                \
               "# HELP sluice_" #name " " help "\n# TYPE sluice_" #name " gauge\nsluice_" #name    \
               " %llu\n",                                                                          \
               (unsigned long long)metric_gauge(METRIC_##name));
#define HISTOGRAM(name, help) format_histogram(out, METRIC_##name, #name, help);
#include "base/metrics.def"
}
