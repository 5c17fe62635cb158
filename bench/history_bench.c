/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What history and latest cost: CPU time (all threads of the process, so with RocksDB's own) per
 * datum applied, bytes per point on disk, and the time of one range of 1,000 points and of charts
 * from the cache.
 *
 *   history_bench DIRECTORY [MILLIONS]      DIRECTORY is made, and must not exist
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/rand.h"
#include "view/history.h"
#include "view/latest.h"
#include "view/rollup.h"

enum {
    BATCH = 500,        /* records of one journal batch */
    RECORD_BYTES = 150, /* of one record in the journal, about */
    STEP_US = 10000000, /* each feed sends every 10 s */
    JITTER_US = 2000,   /* and its messages arrive this unevenly */
};

struct feed {
    int64_t us;
    int32_t tenths;
};

static double cpu_s(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static struct history *open_fresh(const char *root, const char *name, char *path, size_t size)
{
    snprintf(path, size, "%s/%s", root, name);
    struct history_opts opts = {.path = path,
                                .log_id = {1, 2},
                                .open_bytes_max = 256 << 20,
                                .flush_bytes = 256 << 20,
                                .flush_ns = 3600 * NS_PER_S,
                                .cache_bytes = 128 << 20,
                                .merge_points = 256};
    struct history *h;
    uint64_t cursor;
    struct error err;
    if (history_open(&opts, &h, &cursor, &err) < 0) {
        fprintf(stderr, "%s\n", err.text);
        exit(1);
    }
    return h;
}

/* The next datum of a random or the next feed: a temperature that wanders. */
static void next_datum(struct feed *feeds, uint64_t n, uint64_t i, bool random, struct rand *r,
                       struct record *rec, char *payload)
{
    uint64_t f = random ? rand_below(r, n) : i % n;
    struct feed *feed = &feeds[f];
    feed->tenths += (int32_t)rand_below(r, 3) - 1;
    int64_t us = feed->us + (random ? 0 : (int64_t)rand_below(r, JITTER_US));
    if (random) /* a Poisson stream: time goes on for all */
        us = 1700000000000000 + (int64_t)(i * (STEP_US / n)) + (int64_t)rand_below(r, JITTER_US);
    feed->us += STEP_US;
    payload[0] = 0;
    int len = 1 + sprintf(payload + 1, "%d.%d", feed->tenths / 10, abs(feed->tenths % 10));
    *rec = (struct record){.kind = RECORD_DATUM,
                           .feed = f + 1,
                           .event_us = us,
                           .receive_us = us,
                           .payload = slice_of(payload, (size_t)len)};
}

static void report(const char *name, struct history *h, uint64_t points, double cpu, double apply)
{
    struct history_stats s = history_stats(h);
    printf("%-28s %6.0f ns CPU/datum (%.0f ns in apply), %.2f B/point, %llu rows, %llu merges\n",
           name, cpu * 1e9 / (double)points, apply * 1e9 / (double)points,
           (double)s.disk_bytes / (double)points, (unsigned long long)s.rows_written,
           (unsigned long long)s.merges);
    fflush(stdout);
}

static double thread_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void ranges(struct history *h, uint64_t n, const char *name)
{
    struct buf storage;
    buf_init(&storage, 64 << 20);
    struct rand r = {.state = 3};
    enum { TURNS = 3000, WARM = 1000 };
    uint64_t points = 0, incomplete = 0;
    double begin = 0;
    for (unsigned i = 0; i < TURNS + WARM; i++) {
        if (i == WARM) {
            begin = thread_s();
            points = 0;
        }
        struct history_query q = {.feed = 1 + rand_below(&r, n < 100 ? n : 100),
                                  .to_us = INT64_MAX,
                                  .limit = 1000,
                                  .flags = i < WARM ? 0 : HISTORY_NO_IO,
                                  .storage = &storage};
        int code = history_range(h, &q);
        CHECK(code >= 0);
        incomplete += code == HISTORY_INCOMPLETE;
        points += q.count;
    }
    printf("%-28s %6.1f us per range, %.0f points each, %llu not in the cache\n", name,
           (thread_s() - begin) * 1e6 / TURNS, (double)points / TURNS,
           (unsigned long long)incomplete);
    buf_fini(&storage);
}

/* Charts of one feed in as many slices as a chart may have, up to its newest point. */
static void charts(struct history *h, int64_t until_us, const char *name)
{
    static const int64_t minutes[] = {1, 10, 60, 480, 1440, 4320};
    struct buf storage;
    buf_init(&storage, 64 << 20);
    for (unsigned i = 0; i < sizeof minutes / sizeof *minutes; i++) {
        struct history_slices q = {
            .feed = 1, .to_us = until_us, .slice_us = minutes[i] * 60000000, .storage = &storage};
        q.from_us = until_us - 999 * q.slice_us;
        double least = 1e9;
        for (unsigned turn = 0; turn < 5; turn++) {
            double begin = thread_s();
            CHECK(history_rollup(h, &q) == HISTORY_DONE);
            double took = thread_s() - begin;
            least = took < least ? took : least;
        }
        uint64_t points = 0;
        for (uint32_t k = 0; k < q.count; k++)
            points += q.slices[k].r.count;
        printf("%-28s %8.1f us per chart of %u slices of %lld min, %llu points\n", name,
               least * 1e6, q.count, (long long)minutes[i], (unsigned long long)points);
    }
    buf_fini(&storage);
}

static void run(const char *root, const char *name, uint64_t n, uint64_t points, bool random)
{
    char path[512], payload[64];
    struct history *h = open_fresh(root, name, path, sizeof path);
    struct feed *feeds = calloc(n, sizeof *feeds);
    struct rand r = {.state = 1};
    for (uint64_t i = 0; i < n; i++)
        feeds[i] = (struct feed){.us = 1700000000000000 + (int64_t)(i * (STEP_US / n)),
                                 .tenths = 200 + (int32_t)rand_below(&r, 50)};
    struct record *batch = calloc(BATCH, sizeof *batch);
    char *texts = malloc(BATCH * sizeof payload);
    double cpu = 0, apply = 0;
    uint64_t offset = 0, now = 0;
    while (offset < points) {
        for (unsigned k = 0; k < BATCH; k++)
            next_datum(feeds, n, offset + k, random, &r, &batch[k], texts + k * sizeof payload);
        double c0 = cpu_s(), t0 = thread_s();
        for (unsigned k = 0; k < BATCH; k++)
            history_apply(h, &batch[k], offset + k);
        apply += thread_s() - t0;
        offset += BATCH;
        history_tick(h, offset, (uint64_t)BATCH * RECORD_BYTES, now += NS_PER_MS);
        cpu += cpu_s() - c0;
    }
    double c0 = cpu_s();
    history_flush(h);
    cpu += cpu_s() - c0;
    report(name, h, points, cpu, apply);
    ranges(h, n, name);
    charts(h, feeds[0].us, name);
    for (unsigned i = 0; i < 100000; i++) /* what merging was still to do */
        history_tick(h, offset, 0, now += NS_PER_MS);
    history_close(h);
    h = open_fresh(root, name, path, sizeof path);
    report("  when merged", h, points, cpu, apply);
    ranges(h, n, "  when merged");
    charts(h, feeds[0].us, "  when merged");
    history_close(h);
    free(feeds);
    free(batch);
    free(texts);
}

/* latest needs no file here. */
static int no_open(struct disk *d, const char *path, int flags, struct disk_file **ret)
{
    return -ENOENT;
}

static void run_latest(uint64_t n, uint64_t points)
{
    struct disk none = {.open = no_open};
    struct latest *l;
    uint64_t cursor;
    struct latest_opts opts = {.disk = &none, .path = "none"};
    CHECK(latest_open(&opts, &l, &cursor, NULL) == 0);
    struct feed *feeds = calloc(n, sizeof *feeds);
    struct rand r = {.state = 1};
    char payload[BATCH][64];
    static struct record batch[BATCH];
    double apply = 0;
    for (uint64_t i = 0; i < points; i += BATCH) {
        for (unsigned k = 0; k < BATCH; k++)
            next_datum(feeds, n, i + k, i > n * 2, &r, &batch[k], payload[k]);
        double t0 = thread_s();
        for (unsigned k = 0; k < BATCH; k++)
            latest_apply(l, &batch[k], i + k);
        apply += thread_s() - t0;
    }
    struct latest_stats s = latest_stats(l);
    printf("latest, %8llu feeds      %6.0f ns CPU/datum, %.0f B/feed\n", (unsigned long long)n,
           apply * 1e9 / (double)points, (double)s.bytes / (double)s.feeds);
    latest_close(l);
    free(feeds);
}

int main(int argc, char **argv)
{
    if (argc < 2 || mkdir(argv[1], 0700) != 0) {
        fprintf(stderr, "usage: history_bench NEW_DIRECTORY [MILLIONS]\n");
        return 2;
    }
    uint64_t points = (argc > 2 ? strtoull(argv[2], NULL, 10) : 10) * 1000000;
    run_latest(100000, 5000000);
    run_latest(1000000, 5000000);
    run(argv[1], "1 feed", 1, points, false);
    run(argv[1], "100 feeds in turn", 100, points, false);
    run(argv[1], "100,000 feeds in turn", 100000, points, false);
    run(argv[1], "100,000 feeds at random", 100000, points, true);
    return 0;
}
