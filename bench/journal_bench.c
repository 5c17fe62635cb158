/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the journal costs.
 *   journal_bench commit DIR [SECONDS]  messages/s and CPU with 1 to 4096 senders
 *   journal_bench null DIR [SECONDS]    the same, with a sync that does nothing: our own share
 *   journal_bench fill DIR MESSAGES     writes them, then kills itself (kill -9)
 *   journal_bench reopen DIR            time from open to the first durable accept after that
 * Messages are data of 200 bytes. CPU is that of all threads of the process, kernel included.
 */
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "flow/limits.h"
#include "journal/journal.h"
#include "journal/sleeper.h"
#include "used.h"

#define APPENDS_MAX 4096

struct round {
    struct sleeper news;
    _Atomic unsigned left;
    _Atomic unsigned failed;
};

static char payload[180];

static void on_done(struct journal_append *a)
{
    struct round *r = a->owner;
    buf_clear(&a->body);
    a->count = 0;
    if (a->reason != REASON_ok)
        r->failed++;
    if (atomic_fetch_sub(&r->left, 1) == 1)
        sleeper_signal(&r->news);
}

static void put(struct journal_append *a, uint64_t n)
{
    struct record r = {.kind = RECORD_DATUM,
                       .account = n % 10000,
                       .feed = n % 100000,
                       .credential = n % 10000,
                       .receive_us = 1700000000000000 + (int64_t)n,
                       .event_us = 1700000000000000 + (int64_t)n,
                       .payload = slice_of(payload, sizeof payload)};
    journal_put(a, &r);
}

static struct journal *open_or_die(struct disk *disk, const char *dir)
{
    struct journal_opts o = {.disk = disk,
                             .dir = dir,
                             .segment_bytes = 64 << 20,
                             .ring_bytes = 64 << 20,
                             .pending_bytes = 64 << 20,
                             .refuse_percent = 99};
    struct error err;
    struct journal *j;
    if (journal_open(&o, &j, &err) != 0) {
        fprintf(stderr, "%s\n", err.text);
        exit(1);
    }
    return j;
}

static void run(struct journal *j, unsigned batch, double seconds)
{
    static struct journal_append appends[APPENDS_MAX];
    struct round r = {0};
    for (unsigned i = 0; i < batch; i++) {
        appends[i] = (struct journal_append){.done = on_done, .owner = &r};
        buf_init(&appends[i].body, BATCH_BYTES_MAX);
    }
    struct journal_stats before = journal_stats(j);
    uint64_t n = 0;
    struct used began = used_now(), end;
    while ((double)(clock_mono_ns() - began.wall_ns) < seconds * 1e9) {
        atomic_store(&r.left, batch);
        for (unsigned i = 0; i < batch; i++) {
            put(&appends[i], n++);
            if (journal_submit(j, &appends[i]) != REASON_ok)
                abort();
        }
        for (;;) {
            uint32_t key = sleeper_key(&r.news);
            if (atomic_load(&r.left) == 0)
                break;
            sleeper_wait(&r.news, key, SLEEPER_FOREVER);
        }
    }
    end = used_now();
    double wall = (double)(end.wall_ns - began.wall_ns), used = (double)(end.cpu_ns - began.cpu_ns);
    uint64_t commits = journal_stats(j).commits - before.commits;
    printf("in flight %4u: %9.0f messages/s, %6.1f a commit, CPU %7.0f ns a message, %7.0f ns a "
           "commit, %6.1f us a round%s\n",
           batch, (double)n / wall * 1e9, (double)n / (double)commits, used / (double)n,
           used / (double)commits, wall / (double)n * batch / 1e3, r.failed ? ", FAILED" : "");
    for (unsigned i = 0; i < batch; i++)
        buf_fini(&appends[i].body);
}

static int no_sync(struct disk *d, struct disk_file *f)
{
    (void)d, (void)f;
    return 0;
}

static void measure(const char *dir, double seconds, bool null_sync)
{
    struct disk disk = *disk_posix();
    if (null_sync)
        disk.fdatasync = no_sync;
    struct journal *j = open_or_die(&disk, dir);
    clock_sleep_ns(NS_PER_S); /* let the spare be made */
    static const unsigned senders[] = {1, 16, 256, APPENDS_MAX};
    for (unsigned i = 0; i < sizeof senders / sizeof *senders; i++)
        run(j, senders[i], seconds);
    journal_close(j);
}

static void fill(const char *dir, uint64_t messages)
{
    struct journal *j = open_or_die(disk_posix(), dir);
    struct round r = {0};
    struct journal_append a[2];
    for (unsigned i = 0; i < 2; i++) {
        a[i] = (struct journal_append){.done = on_done, .owner = &r};
        buf_init(&a[i].body, BATCH_BYTES_MAX);
    }
    uint64_t began = clock_mono_ns();
    for (uint64_t n = 0; n < messages;) {
        atomic_store(&r.left, 2);
        for (unsigned i = 0; i < 2; i++) {
            for (unsigned k = 0; k < 5000; k++)
                put(&a[i], n++);
            if (journal_submit(j, &a[i]) != REASON_ok)
                abort();
        }
        while (atomic_load(&r.left)) {
            uint32_t key = sleeper_key(&r.news);
            if (atomic_load(&r.left))
                sleeper_wait(&r.news, key, SLEEPER_FOREVER);
        }
    }
    printf("%llu messages in %.2f s\n", (unsigned long long)journal_durable(j),
           (double)(clock_mono_ns() - began) / 1e9);
    fflush(stdout);
    kill(getpid(), SIGKILL);
}

static void reopen(const char *dir)
{
    uint64_t began = clock_mono_ns();
    struct journal *j = open_or_die(disk_posix(), dir);
    uint64_t opened = clock_mono_ns();
    struct round r = {.left = 1};
    struct journal_append a = {.done = on_done, .owner = &r};
    buf_init(&a.body, BATCH_BYTES_MAX);
    put(&a, 0);
    if (journal_submit(j, &a) != REASON_ok)
        abort();
    while (atomic_load(&r.left)) {
        uint32_t key = sleeper_key(&r.news);
        if (atomic_load(&r.left))
            sleeper_wait(&r.news, key, SLEEPER_FOREVER);
    }
    printf("%llu messages: open %.1f ms, first durable accept %.1f ms\n",
           (unsigned long long)journal_durable(j), (double)(opened - began) / 1e6,
           (double)(clock_mono_ns() - began) / 1e6);
    journal_close(j);
    buf_fini(&a.body);
}

int main(int argc, char **argv)
{
    double seconds = argc > 3 ? strtod(argv[3], NULL) : 2;
    log_set_level(LOG_WARN);
    if (argc >= 3 && strcmp(argv[1], "commit") == 0)
        measure(argv[2], seconds, false);
    else if (argc >= 3 && strcmp(argv[1], "null") == 0)
        measure(argv[2], seconds, true);
    else if (argc == 4 && strcmp(argv[1], "fill") == 0)
        fill(argv[2], strtoull(argv[3], NULL, 10));
    else if (argc == 3 && strcmp(argv[1], "reopen") == 0)
        reopen(argv[2]);
    else
        return fprintf(stderr, "usage: journal_bench commit|null|fill|reopen DIR [NUMBER]\n"), 2;
    return 0;
}
