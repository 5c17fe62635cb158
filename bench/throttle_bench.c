/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Cost of the throttle with a million loaded accounts: bytes of each, and nanoseconds of a decision
 * in random order, one at a time and in batches. Usage: throttle_bench [accounts [load [batch]]]
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/rand.h"
#include "gate/throttle.h"

#define DECISIONS 4000000u

static const struct limit_set limits = {.windows = {{60, 60000}}, .windows_count = 1};
static const struct limit_set two[2] = {
    {.windows = {{60, 60000}}, .windows_count = 1},
    {.windows = {{600, 60000}}, .windows_count = 1},
};
static uint64_t accounts = 1000000;
static uint64_t step_ns; /* between decisions: keeps the windows as full as they were loaded */
static volatile uint64_t sink;

static double cpu_ns(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1e9 +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1e3;
}

static uint64_t resident_bytes(void)
{
    unsigned long pages = 0, resident = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (!f || fscanf(f, "%lu %lu", &pages, &resident) != 2)
        abort();
    fclose(f);
    return resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* Every account sends `stamps` times over 50 s, as devices that report regularly do. */
static uint64_t load(struct throttle *t, unsigned stamps)
{
    uint64_t now = 1000 * NS_PER_S;
    for (unsigned k = 0; k < stamps; k++) {
        now = 1000 * NS_PER_S + k * (50 * NS_PER_S / stamps);
        for (uint64_t i = 0; i < accounts; i++) {
            struct throttle_ask ask = {{THROTTLE_ACCOUNT, i}, &limits};
            throttle_charge(t, &ask, 1, now);
        }
    }
    return now;
}

/* `asks` subjects a decision: the account, and a smaller number of second ones (addresses). */
static uint64_t run(struct throttle *t, unsigned batch, unsigned asks, uint64_t now)
{
    struct rand r = {batch};
    struct throttle_job jobs[64];
    struct throttle_ask room[64][2];
    uint64_t allowed = 0;
    double cpu = cpu_ns();
    uint64_t wall = clock_mono_ns();
    for (unsigned done = 0; done < DECISIONS; done += batch) {
        for (unsigned i = 0; i < batch; i++) {
            room[i][0] =
                (struct throttle_ask){{THROTTLE_ACCOUNT, rand_below(&r, accounts)}, &two[0]};
            room[i][1] = (struct throttle_ask){{THROTTLE_ADDRESS, rand_below(&r, 50000)}, &two[1]};
            jobs[i] = (struct throttle_job){.asks = room[i], .count = asks, .cost = 1};
        }
        now += step_ns * batch;
        if (batch == 1)
            throttle_decide(t, jobs[0].asks, asks, 1, now, &jobs[0].verdict);
        else
            throttle_decide_batch(t, jobs, batch, now);
        for (unsigned i = 0; i < batch; i++)
            allowed += jobs[i].verdict.allow;
    }
    wall = clock_mono_ns() - wall;
    cpu = cpu_ns() - cpu;
    sink = allowed;
    printf("  batch %2u, %u subject%s: %6.1f ns a decision, %6.1f ns CPU (%2u %% allowed)\n", batch,
           asks, asks > 1 ? "s" : " ", (double)wall / DECISIONS, cpu / DECISIONS,
           (unsigned)(allowed * 100 / DECISIONS));
    return now;
}

int main(int argc, char **argv)
{
    if (argc > 1)
        accounts = strtoull(argv[1], NULL, 10);
    unsigned only_load = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 10) : 0;
    unsigned only_batch = argc > 3 ? (unsigned)strtoul(argv[3], NULL, 10) : 0;
    static const unsigned loads[] = {1, 6, 60};
    for (unsigned i = 0; i < sizeof loads / sizeof *loads; i++) {
        if (only_load && only_load != loads[i])
            continue;
        uint64_t before = resident_bytes();
        struct throttle *t = throttle_new(
            &(struct throttle_opts){.subjects_max = 4000000, .memory_max = 1ull << 30});
        if (!t)
            return 1;
        uint64_t now = load(t, loads[i]);
        step_ns = 60 * NS_PER_S / loads[i] / accounts;
        struct throttle_stats s = throttle_stats(t);
        printf("%" PRIu64 " accounts, %u of 60 in 60 s used: %.1f bytes each, of which 64 are the "
               "head (resident: %.1f)\n",
               s.subjects, loads[i], (double)s.bytes / (double)s.subjects,
               (double)(resident_bytes() - before) / (double)s.subjects);
        static const unsigned batches[] = {1, 16, 64};
        for (unsigned asks = 1; asks <= 2; asks++) {
            for (unsigned b = 0; b < 3; b++)
                if (!only_batch || (only_batch == batches[b] && asks == 1))
                    now = run(t, batches[b], asks, now);
        }
        throttle_free(t);
    }
    return 0;
}
