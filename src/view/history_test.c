/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random journals against an oracle that keeps a plain vector of points, with crashes in between:
 * every life of the database is a process of its own that ends by _exit at a random moment, or by a
 * proper close. Then single properties, threads, and a full disk.
 */
#include "view/history_own.h"

#include <errno.h>
#include <fcntl.h>
#include <rocksdb/c.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/rand.h"
#include "base/thread.h"
#include "seal/keyring.h"

#define SEEDS     250
#define RECORDS   500
#define FEEDS     4
#define FLUSH_AGE NS_PER_S

static uint32_t merge_points = 8; /* so that a short journal makes many rows */
static char root[64];

static const char *fresh_path(char *out)
{
    static unsigned n;
    sprintf(out, "%s/db%u", root, n++);
    return out;
}

static void remove_tree(const char *path)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", path);
    assert_int_equal(system(command), 0);
}

static struct history *open_at(const char *path, uint64_t *ret_cursor)
{
    struct history_opts opts = {.path = path,
                                .log_id = {7, 9},
                                .open_bytes_max = 64 << 20,
                                .flush_bytes = 4000,
                                .flush_ns = FLUSH_AGE,
                                .cache_bytes = 8 << 20,
                                .merge_points = merge_points};
    struct history *h = NULL;
    struct error err = {0};
    int code = history_open(&opts, &h, ret_cursor, &err);
    if (code < 0)
        fprintf(stderr, "open: %s\n", err.text);
    assert_int_equal(code, 0);
    return h;
}

/* ---- a random journal ------------------------------------------------------------------------ */

struct entry {
    struct record r;
    struct datum d;
    struct datum_target id;
    struct buf payload;
    char value[1100];
};

static size_t random_value(struct rand *r, char *out, unsigned style)
{
    static const char *odd[] = {"",     "-0",   "1e5",  "21.50", "ü€😀", "007",
                                "true", "-1.0", "0.10", ".5",    "5.",  "999999999999999999"};
    if (style == 1)
        return (size_t)sprintf(out, "%.1f", (double)rand_below(r, 400) / 10);
    if (style == 2)
        return (size_t)sprintf(out, "%g", (double)rand_below(r, 100) / 4);
    if (rand_below(r, 20) == 0) {
        memset(out, 'a' + (int)rand_below(r, 26), 1024);
        return 1024;
    }
    const char *text = odd[rand_below(r, sizeof odd / sizeof *odd)];
    memcpy(out, text, strlen(text));
    return strlen(text);
}

static void random_datum(struct rand *r, struct entry *e, unsigned style)
{
    size_t len = random_value(r, e->value, style);
    e->d = (struct datum){.value = slice_of(e->value, len)};
    if (style == 3 && rand_below(r, 3) == 0) {
        e->d.has_place = true;
        e->d.has_ele = rand_below(r, 2);
        e->d.lat = rand_below(r, 2) ? 52.5200066 : (double)rand_next(r) / 3;
        e->d.lon = -0.0;
        e->d.ele = e->d.has_ele ? 34.25 : 0;
    }
    datum_encode(&e->payload, &e->d);
}

static int64_t random_time(struct rand *r, uint64_t offset)
{
    int64_t now = 1700000000000000 + (int64_t)offset * 10000;
    switch (rand_below(r, 8)) {
    case 0:
        return now - (int64_t)rand_below(r, 5000000); /* late */
    case 1:
        return 1700000000000000; /* all alike */
    case 2:
        return (int64_t)rand_below(r, 2000) - 1000; /* around 1970 */
    default:
        return now + (int64_t)rand_below(r, 3);
    }
}

static void make_journal(struct entry *all, struct rand *r)
{
    unsigned deletes = (unsigned)rand_below(r, 3), drops = rand_below(r, 4) == 0;
    for (uint64_t i = 0; i < RECORDS; i++) {
        struct entry *e = &all[i];
        uint64_t feed = 1 + rand_below(r, FEEDS);
        *e = (struct entry){.r = {.kind = RECORD_DATUM, .feed = feed}};
        buf_init(&e->payload, 4096);
        uint64_t dice = rand_below(r, 100);
        struct entry *old = i ? &all[rand_below(r, i)] : NULL;
        e->r.event_us = random_time(r, i);
        if (old && dice < 6 * deletes) { /* often about a datum, sometimes about nothing */
            e->r.feed = old->r.feed;
            e->id = (struct datum_target){.event_ms = old->r.event_us / 1000,
                                          .offset = (uint64_t)(old - all)};
            if (rand_below(r, 2))
                e->id.event_ms = (int64_t)((uint64_t)e->id.event_ms & 0xffffffffffff);
            datum_target_encode(&e->payload, e->id);
            e->r.kind = dice % 2 ? RECORD_CHANGED : RECORD_DELETED;
            if (e->r.kind == RECORD_CHANGED)
                random_datum(r, e, feed % 4);
        } else if (dice == 99 && drops) {
            e->r.kind = RECORD_DELETED;
        } else if (dice == 98) {
            e->r.kind = RECORD_AUDIT;
        } else {
            e->r.flags = dice == 97 ? RECORD_F_NO_HISTORY : 0;
            random_datum(r, e, (unsigned)feed % 4);
        }
        e->r.payload = buf_slice(&e->payload);
    }
}

static void free_journal(struct entry *all)
{
    for (unsigned i = 0; i < RECORDS; i++)
        buf_fini(&all[i].payload);
}

/* ---- the oracle ------------------------------------------------------------------------------ */

struct oracle_point {
    int64_t us;
    uint64_t offset;
    const struct datum *d;
};

static int newest_first(const void *a, const void *b)
{
    const struct oracle_point *x = a, *y = b;
    if (x->us != y->us)
        return x->us > y->us ? -1 : 1;
    return x->offset > y->offset ? -1 : x->offset < y->offset;
}

/* The feed's points after the first `n` records. Returns how many. */
static size_t oracle(const struct entry *all, uint64_t n, uint64_t feed, struct oracle_point *out,
                     unsigned *ret_deletes)
{
    size_t count = 0;
    *ret_deletes = 0;
    for (uint64_t i = 0; i < n; i++) {
        const struct entry *e = &all[i];
        if (e->r.feed != feed)
            continue;
        if (e->r.kind == RECORD_DATUM && !e->r.flags)
            out[count++] = (struct oracle_point){e->r.event_us, i, &e->d};
        if (e->r.kind == RECORD_DELETED && !e->payload.len)
            count = 0;
        if ((e->r.kind != RECORD_DELETED && e->r.kind != RECORD_CHANGED) || !e->payload.len)
            continue;
        *ret_deletes += e->r.kind == RECORD_DELETED;
        for (size_t k = 0; k < count; k++) {
            if (out[k].offset != e->id.offset)
                continue;
            if (e->r.kind == RECORD_CHANGED)
                out[k].d = &e->d;
            else
                out[k] = out[--count];
            break;
        }
    }
    qsort(out, count, sizeof *out, newest_first);
    return count;
}

static void assert_same(const struct oracle_point *want, const struct history_point *got)
{
    assert_int_equal(want->us, got->event_us);
    assert_int_equal(want->offset, got->offset);
    assert_int_equal(want->d->value.len, got->datum.value.len);
    assert_memory_equal(want->d->value.ptr, got->datum.value.ptr, got->datum.value.len);
    assert_int_equal(want->d->has_place, got->datum.has_place);
    assert_int_equal(want->d->has_ele, got->datum.has_ele);
    assert_memory_equal(&want->d->lat, &got->datum.lat, sizeof(double));
    assert_memory_equal(&want->d->lon, &got->datum.lon, sizeof(double));
    assert_memory_equal(&want->d->ele, &got->datum.ele, sizeof(double));
}

static void check_range(struct history *h, const struct oracle_point *p, size_t n,
                        struct history_query *q)
{
    assert_int_equal(history_range(h, q), HISTORY_DONE);
    size_t got = 0;
    bool more = false;
    for (size_t i = 0; i < n; i++) {
        if (p[i].us < q->from_us || p[i].us > q->to_us)
            continue;
        if (q->has_before && (p[i].us > q->before_us ||
                              (p[i].us == q->before_us && p[i].offset >= q->before_offset)))
            continue;
        if (got == q->limit) {
            more = true;
            break;
        }
        assert_true(got < q->count);
        assert_same(&p[i], &q->points[got++]);
    }
    assert_int_equal(got, q->count);
    assert_int_equal(more, q->more);
}

/* Walks up from the oldest point as a reader of a queue does; p is newest first. */
static void check_oldest(struct history *h, const struct oracle_point *p, size_t n, struct rand *r,
                         struct history_query *q)
{
    q->from_us = rand_below(r, 2) ? INT64_MIN : random_time(r, rand_below(r, RECORDS));
    q->to_us = rand_below(r, 2) ? INT64_MAX : random_time(r, rand_below(r, RECORDS));
    q->has_after = n && rand_below(r, 2);
    if (q->has_after) {
        size_t at = rand_below(r, n);
        q->after_us = p[at].us;
        q->after_offset = p[at].offset;
    }
    for (unsigned steps = 0; steps < 5; steps++) {
        const struct oracle_point *want = NULL;
        for (size_t i = 0; i < n; i++) {
            bool above = !q->has_after || p[i].us > q->after_us ||
                         (p[i].us == q->after_us && p[i].offset > q->after_offset);
            if (above && p[i].us >= q->from_us && p[i].us <= q->to_us)
                want = &p[i];
        }
        assert_int_equal(history_oldest(h, q), HISTORY_DONE);
        assert_int_equal(q->count, want != NULL);
        if (!want)
            return;
        assert_same(want, q->points);
        q->has_after = true;
        q->after_us = want->us;
        q->after_offset = want->offset;
    }
}

static void check_feed(struct history *h, const struct entry *all, uint64_t applied, uint64_t feed,
                       struct rand *r, struct buf *storage)
{
    static struct oracle_point p[RECORDS];
    unsigned deletes;
    size_t n = oracle(all, applied, feed, p, &deletes);
    struct history_query q = {
        .feed = feed, .from_us = INT64_MIN, .to_us = INT64_MAX, .limit = 1000, .storage = storage};
    q.counts = true;
    check_range(h, p, n, &q);
    for (unsigned i = 0; i < 4; i++) {
        q.limit = (uint32_t)rand_below(r, 30);
        q.from_us = random_time(r, rand_below(r, RECORDS));
        q.to_us = rand_below(r, 3) ? random_time(r, rand_below(r, RECORDS)) : INT64_MAX;
        if (n && (q.has_before = rand_below(r, 2))) {
            size_t at = rand_below(r, n);
            q.before_us = p[at].us;
            q.before_offset = p[at].offset;
        }
        check_range(h, p, n, &q);
    }
    for (unsigned i = 0; i < 3; i++)
        check_oldest(h, p, n, r, &q);
    uint64_t id = rand_below(r, applied + 1), count;
    if (id < applied) {
        const struct oracle_point *want = NULL;
        for (size_t i = 0; i < n; i++)
            want = p[i].offset == id ? &p[i] : want;
        struct datum_target t = {.event_ms = all[id].r.event_us / 1000, .offset = id};
        assert_int_equal(history_get(h, &q, t), HISTORY_DONE);
        assert_int_equal(q.count, want != NULL);
        if (want)
            assert_same(want, q.points);
        t.event_ms++;
        assert_int_equal(history_get(h, &q, t), HISTORY_DONE);
        assert_int_equal(q.count, 0);
    }
    assert_int_equal(history_count(h, feed, 0, &count), HISTORY_DONE);
    assert_true(count <= n && count + deletes >= n);
    assert_int_equal(count, q.held);
}

/* ---- lives ----------------------------------------------------------------------------------- */

/* One life of the database: from its cursor to some record. */
static void live(const char *path, const struct entry *all, struct rand *r, uint64_t until,
                 bool crash)
{
    uint64_t cursor;
    struct buf storage;
    buf_init(&storage, 16 << 20);
    struct history *h = open_at(path, &cursor);
    assert_true(cursor <= until);
    uint64_t at = cursor - rand_below(r, cursor + 1 < 20 ? cursor + 1 : 20), now = 0;
    for (; at < until; at++) {
        history_apply(h, &all[at].r, at);
        if (rand_below(r, 3) == 0) {
            now += rand_below(r, NS_PER_S / 8);
            uint64_t durable = history_tick(h, at + 1, rand_below(r, 400), now);
            assert_true(durable >= cursor && (durable <= at + 1 || at < cursor));
        }
        if (rand_below(r, 60) == 0)
            assert_int_equal(history_flush(h), 0);
        if (rand_below(r, 40) == 0 && at >= cursor)
            check_feed(h, all, at + 1, 1 + rand_below(r, FEEDS), r, &storage);
    }
    history_tick(h, until, 1, now);
    for (uint64_t feed = 1; feed <= FEEDS; feed++)
        check_feed(h, all, until, feed, r, &storage);
    buf_fini(&storage);
    if (crash)
        _exit(0);
    history_close(h);
}

/* What is on disk after the last close is everything. */
static void check_all(const char *path, const struct entry *all, struct rand *r)
{
    uint64_t cursor;
    struct buf storage;
    buf_init(&storage, 16 << 20);
    struct history *h = open_at(path, &cursor);
    assert_int_equal(cursor, RECORDS);
    assert_int_equal(history_stats(h).open_feeds, 0);
    for (uint64_t feed = 1; feed <= FEEDS; feed++)
        check_feed(h, all, RECORDS, feed, r, &storage);
    buf_fini(&storage);
    history_close(h);
}

static void one_seed(uint64_t seed)
{
    static struct entry all[RECORDS];
    struct rand r = {.state = seed};
    char path[96];
    make_journal(all, &r);
    fresh_path(path);
    uint64_t until = 0;
    while (until < RECORDS) {
        until += 1 + RECORDS / 5 + rand_below(&r, RECORDS);
        if (until > RECORDS)
            until = RECORDS;
        bool crash = until < RECORDS && rand_below(&r, 4);
        struct rand child = {.state = rand_next(&r)};
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
            setenv("CMOCKA_TEST_ABORT", "1", 1); /* a failure ends this process */
            live(path, all, &child, until, crash);
            if (until == RECORDS)
                check_all(path, all, &child);
            _exit(0);
        }
        int status;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        if (status != 0) {
            print_message("seed %llu, life until %llu\n", (unsigned long long)seed,
                          (unsigned long long)until);
            fail();
        }
    }
    free_journal(all);
    remove_tree(path);
}

/* Runs first: no thread may exist when it forks. */
static void random_histories(void **state)
{
    const char *only = getenv("SEED");
    uint64_t from = only ? strtoull(only, NULL, 10) : 1;
    for (uint64_t seed = from; seed < (only ? from + 1 : from + SEEDS); seed++)
        one_seed(seed);
}

/* ---- single properties ----------------------------------------------------------------------- */

static void put(struct history *h, uint64_t feed, int64_t us, uint64_t offset, const char *value)
{
    struct buf b;
    buf_init(&b, 4096);
    datum_encode(&b, &(struct datum){.value = slice_str(value)});
    history_apply(h,
                  &(struct record){
                      .kind = RECORD_DATUM, .feed = feed, .event_us = us, .payload = buf_slice(&b)},
                  offset);
    buf_fini(&b);
}

static void pages_of_equal_times(void **state)
{
    enum { POINTS = 5000, PAGE = 333 };
    char path[96];
    uint64_t cursor, now = 0, seen = 0;
    struct history *h = open_at(fresh_path(path), &cursor);
    for (uint64_t i = 0; i < POINTS; i++) {
        put(h, 5, 1000, i, "1");
        if (i % 17 == 0)
            history_tick(h, i + 1, 1000, now += NS_PER_MS);
    }
    for (unsigned i = 0; i < 500; i++)
        history_tick(h, POINTS, 0, now += NS_PER_MS);
    assert_true(history_stats(h).merges > 0);
    struct buf storage;
    buf_init(&storage, 16 << 20);
    struct history_query q = {
        .feed = 5, .from_us = 0, .to_us = 5000, .limit = PAGE, .storage = &storage};
    do {
        assert_int_equal(history_range(h, &q), HISTORY_DONE);
        for (uint32_t i = 0; i < q.count; i++)
            assert_int_equal(q.points[i].offset, POINTS - 1 - seen++);
        q.has_before = true;
        q.before_us = q.points[q.count - 1].event_us;
        q.before_offset = q.points[q.count - 1].offset;
    } while (q.more);
    assert_int_equal(seen, POINTS);
    uint64_t count;
    assert_int_equal(history_count(h, 5, 0, &count), HISTORY_DONE);
    assert_int_equal(count, POINTS);
    buf_fini(&storage);
    history_close(h);
}

static void no_io_says_incomplete(void **state)
{
    char path[96];
    uint64_t cursor;
    struct history *h = open_at(fresh_path(path), &cursor);
    struct buf storage;
    buf_init(&storage, 1 << 20);
    struct history_query q = {.feed = 3, .to_us = 5000, .limit = 10, .storage = &storage};
    assert_int_equal(history_range(h, &q), HISTORY_DONE); /* reads the block with the head */
    q.flags = HISTORY_NO_IO;
    char value[901] = {0}; /* enough for many blocks: opening reads the first one */
    memset(value, 'x', sizeof value - 1);
    for (uint64_t i = 0; i < 100; i++)
        put(h, 3, (int64_t)i, i, value);
    assert_int_equal(history_range(h, &q), HISTORY_DONE); /* in memory */
    assert_int_equal(q.count, 10);
    history_close(h);
    h = open_at(path, &cursor);
    uint64_t count;
    assert_int_equal(history_range(h, &q), HISTORY_INCOMPLETE);
    assert_int_equal(history_count(h, 3, HISTORY_NO_IO, &count), HISTORY_INCOMPLETE);
    assert_int_equal(history_get(h, &q, (struct datum_target){.offset = 7}), HISTORY_INCOMPLETE);
    q.flags = 0;
    assert_int_equal(history_range(h, &q), HISTORY_DONE);
    assert_int_equal(q.count, 10);
    q.flags = HISTORY_NO_IO;
    assert_int_equal(history_range(h, &q), HISTORY_DONE); /* cached now */
    assert_int_equal(q.count, 10);
    assert_int_equal(q.points[0].offset, 99);
    buf_fini(&storage);
    buf_init(&storage, 100);
    assert_int_equal(history_range(h, &q), -ENOMEM);
    buf_fini(&storage);
    history_close(h);
}

static int try_open(const char *path, uint64_t log_id, struct error *err)
{
    struct history_opts opts = {
        .path = path, .log_id = {log_id, 9}, .open_bytes_max = 1 << 20, .cache_bytes = 1 << 20};
    struct history *h = NULL;
    uint64_t cursor;
    int code = history_open(&opts, &h, &cursor, err);
    history_close(h);
    return code;
}

static void refuses_what_is_not_its_own(void **state)
{
    char path[96], command[300];
    uint64_t cursor;
    struct error err = {0};
    struct history *h = open_at(fresh_path(path), &cursor);
    put(h, 3, 1, 0, "7");
    history_close(h);
    assert_int_equal(try_open(path, 8, &err), -ESTALE);
    assert_non_null(strstr(err.text, path));
    assert_int_equal(try_open(path, 7, &err), 0);
    /* A table file with a byte changed is found when it is read, one cut at once. */
    snprintf(command, sizeof command, "truncate -s 100 %s/*.sst", path);
    assert_int_equal(system(command), 0);
    assert_int_equal(try_open(path, 7, &err), -EBADMSG);
    assert_non_null(strstr(err.text, path));
    snprintf(command, sizeof command, "rm %s/CURRENT", path);
    assert_int_equal(system(command), 0);
    assert_int_equal(try_open(path, 7, &err), -EBADMSG);
    assert_non_null(strstr(err.text, "CURRENT"));
}

/* ---- when a flush is due ---- */

static void long_rows_are_flushed_early(void **state)
{
    (void)state;
    char path[96];
    uint64_t cursor, at = 0;
    struct history *h = open_at(fresh_path(path), &cursor);
    for (; at < 24; at++)
        put(h, 1, (int64_t)at, at, "21.5");
    assert_int_equal(history_tick(h, at, 999, 1), 0); /* less than a quarter of 4,000 bytes */
    assert_int_equal(history_tick(h, at, 1, 2), 24);
    for (; at < 24 + 47; at++)
        put(h, 1 + at % 2, (int64_t)at, at, "21.5");
    assert_int_equal(history_tick(h, at, 3999, 3),
                     24); /* two rows, and fewer than 24 points in each */
    put(h, 1, (int64_t)at, at, "21.5");
    assert_int_equal(history_tick(h, at + 1, 0, 4), at + 1);
    put(h, 1, (int64_t)at + 1, at + 1, "21.5");
    assert_int_equal(history_tick(h, at + 2, 4000, 5), at + 2);
    history_close(h);
}

/* ---- formats ---- */

static struct history *open_sealed(const char *path, struct keyring *ring)
{
    uint64_t cursor;
    struct history_opts opts = {.path = path,
                                .log_id = {7, 9},
                                .open_bytes_max = 64 << 20,
                                .flush_bytes = 4000,
                                .flush_ns = FLUSH_AGE,
                                .cache_bytes = 8 << 20,
                                .merge_points = merge_points,
                                .keyring = ring};
    struct history *h = NULL;
    struct error err = {0};
    assert_int_equal(history_open(&opts, &h, &cursor, &err), 0);
    return h;
}

/* The format in the head of the database, which is closed; `now`: is put there if it is not 0. */
static uint32_t format_of(const char *path, uint32_t now)
{
    char *text = NULL;
    size_t len = 0;
    rocksdb_options_t *o = rocksdb_options_create();
    rocksdb_readoptions_t *read = rocksdb_readoptions_create();
    rocksdb_writeoptions_t *write = rocksdb_writeoptions_create();
    rocksdb_t *db = rocksdb_open(o, path, &text);
    assert_null(text);
    char *meta = rocksdb_get(db, read, "m", 1, &len, &text);
    uint32_t format = 0;
    assert_true(meta && len == 20);
    memcpy(&format, meta, 4);
    if (now) {
        memcpy(meta, &now, 4);
        rocksdb_put(db, write, "m", 1, meta, len, &text);
        assert_null(text);
    }
    rocksdb_free(meta);
    rocksdb_close(db);
    rocksdb_options_destroy(o);
    rocksdb_readoptions_destroy(read);
    rocksdb_writeoptions_destroy(write);
    return format;
}

static void put_sealed(struct history *h, uint64_t feed, uint64_t offset, uint32_t key_id)
{
    struct buf b;
    char value[20];
    buf_init(&b, 4096);
    snprintf(value, sizeof value, "v%llu", (unsigned long long)offset);
    datum_encode(&b, &(struct datum){.value = slice_str(value)});
    history_apply(h,
                  &(struct record){.kind = RECORD_DATUM,
                                   .feed = feed,
                                   .event_us = (int64_t)offset * 1000,
                                   .payload = buf_slice(&b),
                                   .key_id = key_id},
                  offset);
    buf_fini(&b);
}

/* Points 0 to n - 1 of feed 1 are there with their values. */
static void assert_whole(struct history *h, unsigned n)
{
    struct buf storage;
    buf_init(&storage, 1 << 20);
    struct history_query q = {
        .feed = 1, .from_us = INT64_MIN, .to_us = INT64_MAX, .limit = 1000, .storage = &storage};
    assert_int_equal(history_range(h, &q), HISTORY_DONE);
    assert_int_equal(q.count, n);
    for (unsigned i = 0; i < n; i++) {
        char value[20];
        snprintf(value, sizeof value, "v%u", n - 1 - i);
        assert_true(slice_eq(q.points[i].datum.value, slice_str(value)));
    }
    buf_fini(&storage);
}

/* Versions that know nothing of sealed rows read up to format 2, those that know none of the second
 * format of rows up to 3; both would take such rows for damaged. What may hold them says so before
 * the first one. */
static void rows_of_today_are_a_format_of_their_own(void **state)
{
    (void)state;
    char path[96], ring_path[120], command[300];
    uint64_t cursor;
    struct master_key key;
    struct keyring *ring = NULL;
    struct error err = {0};
    struct history *h = open_at(fresh_path(path), &cursor);
    for (unsigned i = 0; i < 40; i++)
        put_sealed(h, 1, i, 0);
    history_close(h);
    assert_int_equal(format_of(path, 2), 4);

    snprintf(ring_path, sizeof ring_path, "%s.ring", path);
    assert_true(master_key_make(SLICE("0123456789abcdef0123456789abcdef"), &key));
    assert_int_equal(keyring_open(disk_posix(), ring_path, &key, &ring, &err), 0);
    assert_int_equal(keyring_make(ring, 5), 0);
    /* It is on the disk as soon as the database is open. */
    h = open_sealed(path, ring);
    snprintf(command, sizeof command, "cp -r %s %s.killed", path, path);
    assert_int_equal(system(command), 0);
    snprintf(command, sizeof command, "%s.killed", path);
    assert_int_equal(format_of(command, 0), 4);
    assert_whole(h, 40);
    for (unsigned i = 40; i < 80; i++)
        put_sealed(h, 1, i, keyring_key_of(ring, 5));
    assert_int_equal(history_flush(h), 0);
    assert_whole(h, 80);
    history_close(h);

    /* As the versions between left it: sealed rows under format 2. */
    assert_int_equal(format_of(path, 2), 4);
    h = open_sealed(path, ring);
    assert_whole(h, 80);
    assert_true(history_stats(h).rolled == UINT64_MAX); /* its tuples are good */
    history_close(h);
    assert_int_equal(format_of(path, 0), 4);
    /* It stays so without a keyring: the rows are there. */
    h = open_at(path, &cursor);
    history_close(h);
    assert_int_equal(format_of(path, 5), 4);
    /* And a newer one is refused and left as it is. */
    assert_int_equal(try_open(path, 7, &err), -ENOTSUP);
    assert_non_null(strstr(err.text, "has format 5; this version reads 4"));
    assert_int_equal(format_of(path, 0), 5);
    keyring_close(ring);
}

/* ---- threads --------------------------------------------------------------------------------- */

/* The writer gives feed 1 a point per record; when record n was applied it deletes n - 200. So at
 * any moment the feed holds an unbroken run of offsets that ends at the newest. */
enum { RUN = 200, RACE_RECORDS = 20000, RACE_READS = 6000 };

struct race {
    struct history *h;
    _Atomic uint64_t applied;
    _Atomic bool stop;
    _Atomic uint64_t reads, longest;
};

static void read_race(void *arg)
{
    struct race *c = arg;
    struct buf storage;
    buf_init(&storage, 16 << 20);
    while (!atomic_load(&c->stop)) {
        uint64_t before = atomic_load(&c->applied);
        struct history_query q = {
            .feed = 1, .to_us = INT64_MAX, .limit = 1000, .storage = &storage};
        assert_int_equal(history_range(c->h, &q), HISTORY_DONE);
        for (uint32_t i = 1; i < q.count; i++)
            assert_int_equal(q.points[i].offset + 2, q.points[i - 1].offset);
        if (before > 4 * RUN) { /* one datum and one deletion per turn: 2 offsets */
            assert_true(q.points[0].offset + 2 >= before);
            assert_true(q.count == RUN || q.count == RUN + 1);
        }
        atomic_fetch_add(&c->reads, 1);
    }
    buf_fini(&storage);
}

static void readers_see_one_moment(void **state)
{
    char path[96];
    uint64_t cursor, now = 0;
    merge_points = 256;
    struct race c = {.h = open_at(fresh_path(path), &cursor)};
    pthread_t reader[2];
    for (unsigned i = 0; i < 2; i++)
        reader[i] = thread_start("reader", read_race, &c);
    struct buf target;
    buf_init(&target, 64);
    for (uint64_t i = 0; i < RACE_RECORDS || c.reads < RACE_READS; i += 2) {
        put(c.h, 1, (int64_t)i * 1000, i, "21.5");
        if (i >= 2 * RUN) {
            buf_clear(&target);
            uint64_t old = i - 2 * RUN;
            datum_target_encode(&target, (struct datum_target){(int64_t)old, old});
            history_apply(
                c.h,
                &(struct record){.kind = RECORD_DELETED, .feed = 1, .payload = buf_slice(&target)},
                i + 1);
        }
        atomic_store(&c.applied, i);
        if (i % 20 == 0)
            history_tick(c.h, i + 2, 2000, now += NS_PER_MS); /* flush, merge, flush, ... */
    }
    atomic_store(&c.stop, true);
    for (unsigned i = 0; i < 2; i++)
        pthread_join(reader[i], NULL);
    merge_points = 8;
    assert_true(history_stats(c.h).merges > 0);
    buf_fini(&target);
    history_close(c.h);
}

/* ---- how many points ---- */

static uint64_t count_of(struct history *h, uint64_t feed)
{
    uint64_t count;
    assert_int_equal(history_count(h, feed, 0, &count), HISTORY_DONE);
    return count;
}

/* A row for each, so that they are merged again and again; counted each time. */
static uint64_t put_rows_of_one(struct history *h, uint64_t from, uint64_t points)
{
    for (uint64_t i = from; i < from + points; i++) {
        put(h, 1, (int64_t)(i * 7919 % 1000), i, "21.5"); /* late ones among them */
        assert_int_equal(history_flush(h), 0);
        for (unsigned turn = 0; turn < 4; turn++)
            history_tick(h, i + 1, 0, 1);
        assert_int_equal(count_of(h, 1), i + 1);
    }
    return from + points;
}

static bool forget_count(const char *path, uint64_t feed)
{
    char key[OP_KEY_BYTES], *text = NULL;
    size_t len;
    rocksdb_options_t *o = rocksdb_options_create();
    rocksdb_readoptions_t *read = rocksdb_readoptions_create();
    rocksdb_writeoptions_t *write = rocksdb_writeoptions_create();
    rocksdb_t *db = rocksdb_open(o, path, &text);
    assert_null(text);
    history_count_key(key, feed);
    char *value = rocksdb_get(db, read, key, sizeof key, &len, &text);
    rocksdb_delete(db, write, key, sizeof key, &text);
    assert_null(text);
    bool found = value != NULL;
    rocksdb_free(value);
    rocksdb_close(db);
    rocksdb_writeoptions_destroy(write);
    rocksdb_readoptions_destroy(read);
    rocksdb_options_destroy(o);
    return found;
}

static void points_are_counted(void **state)
{
    (void)state;
    char path[96];
    uint64_t cursor;
    struct history *h = open_at(fresh_path(path), &cursor);
    uint64_t n = put_rows_of_one(h, 0, 150);
    assert_true(history_stats(h).merges > 3);
    history_close(h);
    assert_true(forget_count(path, 1)); /* as in a database that was begun without */
    h = open_at(path, &cursor);
    assert_int_equal(count_of(h, 1), n);
    n = put_rows_of_one(h, n, 100);
    history_apply(h, &(struct record){.kind = RECORD_DELETED, .feed = 1}, n);
    assert_int_equal(count_of(h, 1), 0);
    assert_int_equal(history_flush(h), 0);
    assert_int_equal(count_of(h, 1), 0);
    history_close(h);
    assert_false(forget_count(path, 1));
    remove_tree(path);
}

/* ---- when rows are merged ---- */

static void merging_waits_while_records_come_in(void **state)
{
    (void)state;
    enum { MANY = 8, ROWS = 33 };
    char path[96];
    uint64_t cursor, at = 0, now = NS_PER_S;
    struct history *h = open_at(fresh_path(path), &cursor);
    for (unsigned row = 0; row < ROWS; row++) {
        for (uint64_t feed = 1; feed <= MANY; feed++, at++)
            put(h, feed, (int64_t)at, at, "21.5");
        assert_int_equal(history_flush(h), 0);
        history_tick(h, at, row == ROWS - 1, now);
    }
    assert_int_equal(history_stats(h).merges, 1);
    for (unsigned i = 0; i < 100; i++) /* the clock stands still, and records come */
        history_tick(h, at, 1, now);
    assert_int_equal(history_stats(h).merges, 1);
    history_tick(h, at, 1, now += 60 * NS_PER_S); /* the pause is over */
    assert_int_equal(history_stats(h).merges, 2);
    history_tick(h, at, 0, now); /* a moment without a record is no end of them */
    assert_int_equal(history_stats(h).merges, 2);
    for (unsigned i = 2; i < 16; i++) { /* two flushes are past: for 16, not longer */
        history_tick(h, at, 1, now);
        assert_int_equal(history_stats(h).merges, 2);
        put(h, MANY + 1, (int64_t)at, at, "21.5");
        at++;
        assert_int_equal(history_flush(h), 0);
    }
    while (history_restless(h))
        history_tick(h, at, 1, now);
    assert_in_range(history_stats(h).merges, MANY, MANY * 4);
    history_close(h);
    remove_tree(path);
}

/* Rows that were merged and deleted, of many feeds behind the one that is read. */
static void others_deleted_rows_are_not_walked(void **state)
{
    (void)state;
    enum { MANY = 60, ROWS = 33, DISABLE = 1, COUNT = 2 };
    char path[96];
    uint64_t cursor, at = 0;
    struct history *h = open_at(fresh_path(path), &cursor);
    for (unsigned row = 0; row < ROWS; row++) {
        for (uint64_t feed = 1; feed <= MANY; feed++, at++)
            put(h, feed, (int64_t)at, at, "21.5");
        assert_int_equal(history_flush(h), 0);
    }
    while (history_restless(h))
        history_tick(h, at, 0, 1);
    assert_in_range(history_stats(h).merges, MANY, MANY * 4);
    struct buf storage;
    buf_init(&storage, 1 << 20);
    struct history_query q = {
        .feed = 1, .from_us = INT64_MIN, .to_us = INT64_MAX, .limit = 10, .storage = &storage};
    rocksdb_set_perf_level(COUNT);
    rocksdb_perfcontext_t *perf = rocksdb_perfcontext_create();
    rocksdb_perfcontext_reset(perf);
    assert_int_equal(history_range(h, &q), HISTORY_DONE);
    assert_int_equal(q.count, 10);
    assert_int_equal(count_of(h, 1), ROWS);
    assert_in_range(rocksdb_perfcontext_metric(perf, rocksdb_internal_delete_skipped_count), 0,
                    3 * ROWS);
    rocksdb_perfcontext_destroy(perf);
    rocksdb_set_perf_level(DISABLE);
    buf_fini(&storage);
    history_close(h);
    remove_tree(path);
}

/* ---- a full disk ----------------------------------------------------------------------------- */

static void full_disk_loses_nothing(void **state)
{
    enum { POINTS = 3000 };
    char mount_at[80], path[96], filler[96];
    sprintf(mount_at, "%s/small", root);
    sprintf(path, "%s/db", mount_at);
    sprintf(filler, "%s/filler", mount_at);
    mkdir(mount_at, 0700);
    if (mount("tmpfs", mount_at, "tmpfs", 0, "size=120m") != 0)
        skip();

    uint64_t cursor, now = 0;
    struct history *h = open_at(path, &cursor);
    int fd = open(filler, O_CREAT | O_WRONLY, 0600);
    static char block[1 << 16];
    while (write(fd, block, sizeof block) > 0)
        ;
    char value[1001];
    memset(value, 'x', 1000);
    value[1000] = 0;
    struct rand r = {.state = 3};
    for (uint64_t i = 0; i < POINTS; i++) {
        for (unsigned k = 0; k < 1000; k++)
            value[k] = (char)('0' + rand_below(&r, 64));
        put(h, 1 + i % 3, (int64_t)i, i, value);
        if (i % 100 == 0)
            history_tick(h, i + 1, 100000, now += NS_PER_S);
    }
    assert_true(history_stats(h).durable_cursor < POINTS);
    uint64_t stuck_at = history_stats(h).durable_cursor;
    assert_int_equal(ftruncate(fd, 0), 0);
    close(fd);
    for (unsigned i = 0; i < 300 && history_stats(h).durable_cursor < POINTS; i++) {
        history_tick(h, POINTS, 0, now += NS_PER_S);
        usleep(100000);
    }
    assert_int_equal(history_stats(h).durable_cursor, POINTS);
    assert_true(stuck_at < POINTS);
    history_close(h);
    log_set_level(LOG_INFO);
    h = open_at(path, &cursor);
    assert_int_equal(cursor, POINTS);
    uint64_t sum = 0;
    for (uint64_t feed = 1; feed <= 3; feed++) {
        uint64_t count;
        assert_int_equal(history_count(h, feed, 0, &count), HISTORY_DONE);
        sum += count;
    }
    assert_int_equal(sum, POINTS);
    history_close(h);
    umount(mount_at);
}

static int make_root(void **state)
{
    sprintf(root, "%s/sluice-history-XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    return mkdtemp(root) ? 0 : -1;
}

static int remove_root(void **state)
{
    remove_tree(root);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_histories),
        cmocka_unit_test(pages_of_equal_times),
        cmocka_unit_test(rows_of_today_are_a_format_of_their_own),
        cmocka_unit_test(no_io_says_incomplete),
        cmocka_unit_test(refuses_what_is_not_its_own),
        cmocka_unit_test(readers_see_one_moment),
        cmocka_unit_test(long_rows_are_flushed_early),
        cmocka_unit_test(merging_waits_while_records_come_in),
        cmocka_unit_test(points_are_counted),
        cmocka_unit_test(others_deleted_rows_are_not_walked),
        cmocka_unit_test(full_disk_loses_nothing),
    };
    if (getenv("TEST")) /* one of them, for a sanitizer that cannot fork */
        cmocka_set_test_filter(getenv("TEST"));
    return cmocka_run_group_tests_name("history", tests, make_root, remove_root);
}
