/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Cost of the catalog: adding devices in batches, opening with all of them, bytes per device, and
 * look-ups in random order by one and by two threads.
 *
 *   build/bench/catalog-bench [devices, default 200000]
 */
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/rand.h"
#include "catalog/catalog.h"

#define IN_FLIGHT 512u /* asks at a time: so many share a transaction */
#define LOOKUPS   500000u
#define ROUNDS    8u     /* the best one counts */
#define NAMES     10000u /* devices that are looked up: what stays in the caches */

static const char hash[] = "$2b$10$abcdefghijklmnopqrstuuXOMr3o9B8bqC7XJm2d0t1v2w3x4y5z6";
static _Atomic unsigned answered;
static struct catalog *catalog;
static unsigned devices = 200000;

static void on_done(struct catalog_ask *a)
{
    CHECK(a->reason == REASON_ok);
    credential_unref(a->ret_credential);
    feed_unref(a->ret_feed);
    answered++;
}

static int on_emit(void *arg, const struct record *records, unsigned count)
{
    return 0;
}

static void make(bool feeds)
{
    struct catalog_ask *asks = calloc(IN_FLIGHT, sizeof *asks);
    char(*names)[32] = calloc(IN_FLIGHT, sizeof *names);
    CHECK(asks && names);
    uint64_t begin = clock_mono_ns(), transactions = catalog_stats(catalog).transactions;
    for (unsigned made = 0; made < devices; made += IN_FLIGHT) {
        unsigned n = devices - made < IN_FLIGHT ? devices - made : IN_FLIGHT;
        answered = 0;
        for (unsigned i = 0; i < n; i++) {
            snprintf(names[i], sizeof names[i], "vehicle-%08u", made + i);
            asks[i] = (struct catalog_ask){.op = feeds ? CATALOG_FEED_ADD : CATALOG_DEVICE_ADD,
                                           .actor = SLICE("bench"),
                                           .account = SLICE("fleet"),
                                           .name = slice_str(names[i]),
                                           .key = slice_str(names[i]),
                                           .verifier = SLICE(hash),
                                           .done = on_done};
            CHECK(catalog_submit(catalog, &asks[i]) == REASON_ok);
        }
        while (answered < n)
            clock_sleep_ns(20 * NS_PER_US);
    }
    double s = (double)(clock_mono_ns() - begin) / (double)NS_PER_S;
    transactions = catalog_stats(catalog).transactions - transactions;
    printf("add %-8s %8.0f/s   %llu transactions\n", feeds ? "feeds" : "devices", devices / s,
           (unsigned long long)transactions);
    free(asks);
    free(names);
}

static size_t heap_bytes(void)
{
    struct mallinfo2 m = mallinfo2();
    return m.uordblks + m.hblkhd;
}

enum what { BY_DEVICE, BY_NUMBER, BY_FEED };

struct look {
    enum what what;
    uint64_t account, seed;
    double ns;
};

static void look_up(const struct look *l, struct slice name, uint64_t number)
{
    if (l->what == BY_DEVICE) {
        struct credential *c = catalog_device(catalog, name);
        CHECK(c);
        credential_unref(c);
    } else if (l->what == BY_NUMBER) {
        struct credential *c = catalog_credential(catalog, number);
        CHECK(c);
        credential_unref(c);
    } else {
        struct feed *f = catalog_feed(catalog, l->account, name);
        CHECK(f);
        feed_unref(f);
    }
}

static void look(void *arg)
{
    struct look *l = arg;
    struct rand r = {.state = l->seed};
    char(*names)[20] = calloc(NAMES, sizeof *names);
    uint64_t numbers[64] = {0};
    CHECK(names);
    for (unsigned i = 0; i < NAMES; i++)
        snprintf(names[i], sizeof names[i], "vehicle-%08u", (unsigned)rand_below(&r, devices));
    for (unsigned i = 0; i < 64; i++)
        numbers[i] = 1 + rand_below(&r, devices);
    l->ns = 0;
    for (unsigned round = 0; round <= ROUNDS; round++) { /* the first one warms the caches */
        uint64_t begin = clock_mono_ns();
        for (unsigned i = 0; i < LOOKUPS; i++)
            look_up(l, slice_of(names[i % NAMES], 16), numbers[i % 64]);
        double ns = (double)(clock_mono_ns() - begin) / LOOKUPS;
        if (round && (l->ns == 0 || ns < l->ns))
            l->ns = ns;
    }
    free(names);
}

static void measure(const char *title, enum what what, uint64_t account)
{
    struct look one = {what, account, 1, 0}, a = {what, account, 2, 0}, b = {what, account, 3, 0};
    look(&one);
    pthread_t ta = thread_start("a", look, &a), tb = thread_start("b", look, &b);
    pthread_join(ta, NULL);
    pthread_join(tb, NULL);
    printf("%-28s %6.1f ns alone, %6.1f / %6.1f ns beside another thread\n", title, one.ns, a.ns,
           b.ns);
}

int main(int argc, char **argv)
{
    char dir[] = "/tmp/catalog-bench-XXXXXX", path[64], journal[80];
    struct error err;
    if (argc > 1)
        devices = (unsigned)strtoul(argv[1], NULL, 10);
    CHECK(mkdtemp(dir) && devices);
    log_set_level(LOG_ERROR);
    snprintf(path, sizeof path, "%s/catalog.db", dir);
    snprintf(journal, sizeof journal, "%s-journal", path);
    struct catalog_opts opts = {.path = path, .queue_max = 10000, .emit = on_emit};
    CHECK(catalog_open(&opts, &catalog, &err) == 0);
    struct catalog_ask add = {.op = CATALOG_ACCOUNT_ADD, .account = SLICE("fleet")};
    CHECK(catalog_call(catalog, &add) == REASON_ok);
    uint64_t account = add.ret_account->number;
    account_unref(add.ret_account);
    make(false);
    for (unsigned round = 0; round < 2; round++) {
        catalog_close(catalog);
        malloc_trim(0);
        size_t before = heap_bytes();
        uint64_t begin = clock_mono_ns();
        CHECK(catalog_open(&opts, &catalog, &err) == 0);
        double s = (double)(clock_mono_ns() - begin) / (double)NS_PER_S;
        printf("open with %u %s: %.3f s, %.0f bytes of heap each\n", devices,
               round ? "devices and as many feeds" : "devices", s,
               (double)(heap_bytes() - before) / devices);
        if (round == 0)
            make(true);
    }
    measure("device by id, 10,000 of all", BY_DEVICE, account);
    measure("credential by number, 64", BY_NUMBER, account);
    measure("feed by account and key", BY_FEED, account);
    catalog_close(catalog);
    unlink(path);
    unlink(journal);
    rmdir(dir);
    return 0;
}
