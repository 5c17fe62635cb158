/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random journals with late, changed and deleted data against an oracle that adds up a plain vector
 * of points, at every resolution, with crashes in between; then single properties.
 */
#include "view/rollup.h"

#include <errno.h>
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/rand.h"
#include "base/thread.h"
#include "view/history_own.h"

#define SEEDS     25
#define SEEDS_ALL 1000 /* SLUICE_FULL=1 */
#define RECORDS   3000
#define FEEDS     3
#define MINUTE_US 60000000ll
#define BEGIN_US  1700000000000000ll

static char root[64];
static uint32_t merge_points = 64;
static const int64_t resolutions[] = {1, 5, 10, 30, 60, 120, 240, 480, 960, 1440, 4320};
enum { RESOLUTIONS = sizeof resolutions / sizeof *resolutions };

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
                                .flush_bytes = 1000,
                                .flush_ns = NS_PER_S,
                                .cache_bytes = 8 << 20,
                                .merge_points = merge_points};
    struct history *h = NULL;
    struct error err = {0};
    if (history_open(&opts, &h, ret_cursor, &err) < 0)
        fail_msg("open: %s", err.text);
    return h;
}

/* ---- values whose number is known without the parser under test -------------------------------
 */

struct value {
    char text[48];
    bool number, plain; /* plain: nano is it exactly */
    __extension__ __int128 nano;
    double v;
};

static const struct value odd[] = {
    {"", false, false, 0, 0},
    {"on", false, false, 0, 0},
    {"NaN", false, false, 0, 0},
    {"-inf", false, false, 0, 0},
    {"0x10", false, false, 0, 0},
    {"1e999", false, false, 0, 0},
    {"1,5", false, false, 0, 0},
    {"- 1", false, false, 0, 0},
    {"--1", false, false, 0, 0},
    {".", false, false, 0, 0},
    {"e5", false, false, 0, 0},
    {"1e", false, false, 0, 0},
    {"5 5", false, false, 0, 0},
    {"-0", true, false, 0, 0},
    {"-0.00", true, false, 0, 0},
    {"  3.25", true, false, 0, 3.25},
    {"3.25\r\n", true, false, 0, 3.25},
    {"+7", true, false, 0, 7},
    {"007", true, false, 0, 7},
    {".5", true, false, 0, .5},
    {"-5.", true, false, 0, -5},
    {"1e3", true, false, 0, 1000},
    {"-2.5E-3", true, false, 0, -2.5e-3},
    {"1.7976931348623157e308", true, false, 0, DBL_MAX},
    {"-1.7976931348623157e308", true, false, 0, -DBL_MAX},
    {"5e-324", true, false, 0, 5e-324},
    {"0.1234567890123", true, false, 0, 0.1234567890123},
    {"999999999999999999", true, true, 0, 999999999999999999.0},
};
enum { ODD = sizeof odd / sizeof *odd };

static void random_value(struct rand *r, unsigned style, struct value *ret)
{
    static const int64_t power[] = {1, 10, 100, 1000};
    if (style == 2 && rand_below(r, 3) == 0) {
        *ret = odd[rand_below(r, ODD)];
        if (ret->plain)
            ret->nano = (__int128)999999999999999999 * 1000000000;
        return;
    }
    unsigned scale = style ? (unsigned)rand_below(r, 4) : 1;
    int64_t m = (int64_t)rand_below(r, style == 1 ? 100000000 : 900) - 300;
    *ret = (struct value){.number = true, .plain = m != 0 || scale == 0};
    ret->v = (double)m / (double)power[scale];
    ret->nano = (__int128)m * (1000000000 / power[scale]);
    sprintf(ret->text, "%.*f", (int)scale, ret->v);
    ret->plain &= strcmp(ret->text, "-0") != 0;
}

/* ---- a random journal -------------------------------------------------------------------------
 */

struct entry {
    struct record r;
    struct datum_target id;
    struct value value;
    char payload[128];
    bool whole_feed;
};

static int64_t random_time(struct rand *r, uint64_t offset, int64_t step)
{
    int64_t now = BEGIN_US + (int64_t)offset * step;
    switch (rand_below(r, 30)) {
    case 0:
        return now - (int64_t)rand_below(r, (uint64_t)step * 2000); /* late */
    case 1:
        return BEGIN_US; /* all alike */
    case 2:
        return now - now % MINUTE_US - (int64_t)rand_below(r, 2); /* at an edge */
    default:
        return now + (int64_t)rand_below(r, 1000) * (step % 7);
    }
}

static void make_entry(struct entry *all, uint64_t i, struct rand *r, int64_t step, unsigned ops)
{
    struct entry *e = &all[i];
    struct entry *old = i ? &all[i - 1 - rand_below(r, i < 1000 ? i : 1000)] : NULL;
    uint64_t feed = 1 + rand_below(r, FEEDS), dice = rand_below(r, 1000);
    struct buf b;
    buf_init(&b, sizeof e->payload);
    *e = (struct entry){.r = {.kind = RECORD_DATUM, .feed = feed}};
    e->r.event_us = random_time(r, i, step);
    random_value(r, (unsigned)feed - 1, &e->value);
    if (old && dice < ops) {
        e->r.feed = old->r.feed;
        e->r.kind = dice % 2 ? RECORD_CHANGED : RECORD_DELETED;
        e->id = (struct datum_target){.event_ms = old->r.event_us / 1000,
                                      .offset = (uint64_t)(old - all)};
        datum_target_encode(&b, e->id);
    } else if (ops && dice > 997) {
        e->r.kind = RECORD_DELETED;
        e->whole_feed = true;
    } else if (dice == 997) {
        e->r.flags = RECORD_F_NO_HISTORY;
    }
    if (e->r.kind != RECORD_DELETED)
        datum_encode(&b, &(struct datum){.value = slice_str(e->value.text)});
    assert_false(b.failed);
    memcpy(e->payload, b.ptr ? b.ptr : "", b.len);
    e->r.payload = slice_of(e->payload, b.len);
    buf_fini(&b);
}

/* ---- the oracle -------------------------------------------------------------------------------
 */

struct point {
    int64_t us;
    uint64_t offset;
    const struct value *v;
};

static size_t points_of(const struct entry *all, uint64_t n, uint64_t feed, struct point *out)
{
    size_t count = 0;
    for (uint64_t i = 0; i < n; i++) {
        const struct entry *e = &all[i];
        if (e->r.feed != feed)
            continue;
        if (e->whole_feed)
            count = 0;
        else if (e->r.kind == RECORD_DATUM && !e->r.flags)
            out[count++] = (struct point){e->r.event_us, i, &e->value};
        for (size_t k = 0; e->r.kind != RECORD_DATUM && k < count; k++) {
            if (out[k].offset != e->id.offset)
                continue;
            if (e->r.kind == RECORD_CHANGED)
                out[k].v = &e->value;
            else
                out[k] = out[--count];
            break;
        }
    }
    return count;
}

struct sum {
    uint64_t count, numbers;
    bool plain;
    __extension__ __int128 nano;
    long double sum, magnitude;
    double min, max;
    const struct point *first, *last;
};

static bool below(const struct point *a, const struct point *b)
{
    return a->us != b->us ? a->us < b->us : a->offset < b->offset;
}

static struct sum add_up(const struct point *p, size_t n, int64_t from, int64_t to)
{
    struct sum s = {.plain = true, .min = INFINITY, .max = -INFINITY};
    for (size_t i = 0; i < n; i++) {
        if (p[i].us < from || p[i].us > to)
            continue;
        s.count++;
        const struct value *v = p[i].v;
        if (!v->number)
            continue;
        s.numbers++;
        s.plain &= v->plain;
        s.nano += v->nano;
        s.sum += v->v;
        s.magnitude += fabs(v->v);
        s.min = fmin(s.min, v->v);
        s.max = fmax(s.max, v->v);
        s.first = !s.first || below(&p[i], s.first) ? &p[i] : s.first;
        s.last = !s.last || below(s.last, &p[i]) ? &p[i] : s.last;
    }
    return s;
}

static void assert_equal(const struct sum *want, const struct rollup *got)
{
    assert_int_equal(want->count, got->count);
    assert_int_equal(want->numbers, got->numbers);
    if (want->numbers == 0)
        return;
    assert_true(want->min == got->min);
    assert_true(want->max == got->max);
    assert_true(want->first->v->v == got->first);
    assert_true(want->last->v->v == got->last);
    assert_int_equal(want->first->us, got->first_at.us);
    assert_int_equal(want->last->offset, got->last_at.offset);
    long double sum = rollup_sum(got);
    if (want->plain)
        assert_true((double)sum == (double)((long double)want->nano / 1e9L));
    assert_true(fabsl(sum - want->sum) <= want->magnitude * 0x1p-52L);
    long double n = (long double)want->numbers, rounding = want->magnitude / n * 0x1p-51L;
    assert_true(fabsl(rollup_average(got) - want->sum / n) <= rounding + DBL_TRUE_MIN);
}

static void check_slices(struct history *h, const struct point *p, size_t n,
                         struct history_slices *q)
{
    assert_int_equal(history_rollup(h, q), HISTORY_DONE);
    uint32_t at = 0;
    for (int64_t slot = rollup_slot(q->from_us, q->slice_us);
         slot <= rollup_slot(q->to_us, q->slice_us); slot++) {
        int64_t begin = slot * q->slice_us, end = begin + q->slice_us - 1;
        struct sum want =
            add_up(p, n, begin > q->from_us ? begin : q->from_us, end < q->to_us ? end : q->to_us);
        if (want.count == 0)
            continue;
        assert_true(at < q->count);
        assert_int_equal(q->slices[at].start_us, begin);
        assert_equal(&want, &q->slices[at++].r);
    }
    assert_int_equal(at, q->count);
}

static void check_feed(struct history *h, const struct entry *all, uint64_t applied, int64_t step,
                       uint64_t feed, struct rand *r, struct buf *storage)
{
    static struct point p[RECORDS];
    size_t n = points_of(all, applied, feed, p);
    struct history_slices q = {.feed = feed, .storage = storage};
    for (unsigned i = 0; i < 3; i++) {
        q.slice_us = resolutions[rand_below(r, RESOLUTIONS)] * MINUTE_US;
        int64_t most = q.slice_us * (HISTORY_SLICES_MAX - 1);
        q.from_us = random_time(r, rand_below(r, RECORDS), step);
        q.to_us = q.from_us + (int64_t)rand_below(r, (uint64_t)step * RECORDS);
        if (rand_below(r, 3) == 0) {
            q.from_us = BEGIN_US - step * 2000;
            q.to_us = INT64_MAX;
        }
        if (q.to_us - q.from_us > most)
            q.to_us = q.from_us + most - q.slice_us;
        check_slices(h, p, n, &q);
    }
}

/* ---- lives ------------------------------------------------------------------------------------
 */

static void live(const char *path, const struct entry *all, int64_t step, struct rand *r,
                 uint64_t until, bool crash)
{
    uint64_t cursor, now = 0;
    struct buf storage;
    buf_init(&storage, 16 << 20);
    struct history *h = open_at(path, &cursor);
    assert_true(cursor <= until);
    uint64_t at = cursor - rand_below(r, cursor + 1 < 50 ? cursor + 1 : 50);
    for (; at < until; at++) {
        history_apply(h, &all[at].r, at);
        if (rand_below(r, 3) == 0)
            history_tick(h, at + 1, rand_below(r, 300), now += NS_PER_MS);
        if (rand_below(r, 100) == 0 && at >= cursor)
            check_feed(h, all, at + 1, step, 1 + rand_below(r, FEEDS), r, &storage);
    }
    for (unsigned i = (unsigned)rand_below(r, 100); i > 0; i--)
        history_tick(h, until, 1, now += NS_PER_MS);
    for (uint64_t feed = 1; feed <= FEEDS; feed++)
        check_feed(h, all, until, step, feed, r, &storage);
    buf_fini(&storage);
    if (crash)
        _exit(0);
    history_close(h);
}

static void one_seed(uint64_t seed)
{
    static const int64_t steps[] = {500000, 3000000, 20000000, 300000000, 7200000000};
    static struct entry all[RECORDS];
    struct rand r = {.state = seed};
    int64_t step = steps[rand_below(&r, 5)];
    unsigned ops = rand_below(&r, 3) ? (unsigned)rand_below(&r, 40) : 0;
    char path[96];
    merge_points = rand_below(&r, 2) ? 64 : 24;
    for (uint64_t i = 0; i < RECORDS; i++)
        make_entry(all, i, &r, step, ops);
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
            live(path, all, step, &child, until, crash);
            if (until == RECORDS)
                live(path, all, step, &child, until, false); /* what is on disk is everything */
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
    remove_tree(path);
}

/* Runs first: no thread may exist when it forks. */
static void random_journals(void **state)
{
    const char *only = getenv("SEED");
    uint64_t from = only ? strtoull(only, NULL, 10) : 1;
    uint64_t n = only ? 1 : getenv("SLUICE_FULL") ? SEEDS_ALL : SEEDS;
    for (uint64_t seed = from; seed < from + n; seed++)
        one_seed(seed);
}

/* ---- tuples -----------------------------------------------------------------------------------
 */

static void numbers_are_what_people_send(void **state)
{
    for (unsigned i = 0; i < ODD; i++) {
        struct rollup r = {0};
        rollup_add(&r, (struct row_key){.us = 1}, slice_str(odd[i].text));
        if (r.numbers != odd[i].number || r.first != odd[i].v ||
            signbit(r.first) != signbit(odd[i].v))
            fail_msg("\"%s\" reads as %d %g", odd[i].text, (int)r.numbers, r.first);
        assert_int_equal(r.count, 1);
    }
}

static void sums_are_exact(void **state)
{
    struct rollup r = {0}, other = {0};
    rollup_add(&r, (struct row_key){0}, SLICE("0.1"));
    rollup_add(&other, (struct row_key){.us = 1}, SLICE("0.2"));
    rollup_merge(&r, &other);
    assert_true((double)rollup_sum(&r) == 0.3);
    assert_true(rollup_average(&r) == 0.15);
    r = (struct rollup){0};
    for (unsigned i = 0; i < 1000; i++) { /* 1e16 swallows 0.1 in a plain sum of doubles */
        rollup_add(&r, (struct row_key){.us = i}, SLICE("10000000000000000"));
        rollup_add(&r, (struct row_key){.us = i}, SLICE("0.1"));
        rollup_add(&r, (struct row_key){.us = i}, SLICE("-10000000000000000"));
    }
    assert_true((double)rollup_sum(&r) == 100);
    r = (struct rollup){0};
    for (unsigned i = 0; i < 3; i++)
        rollup_add(&r, (struct row_key){.us = i}, SLICE("1.7e308"));
    assert_true(rollup_average(&r) == 1.7e308);
    assert_true(rollup_sum(&r) > DBL_MAX);
    r = (struct rollup){0};
    rollup_add(&r, (struct row_key){0}, SLICE("1e100"));
    rollup_add(&r, (struct row_key){0}, SLICE("1e0"));
    rollup_add(&r, (struct row_key){0}, SLICE("-1e100"));
    assert_true(rollup_sum(&r) == 1);
}

/* Rows of any kind come back, and what is cut or changed never reads beyond its end. */
static void rows_come_back(void **state)
{
    enum { N = 200 };
    struct rand r = {.state = 5};
    for (unsigned turn = 0; turn < 3000; turn++) {
        struct history_point p[N];
        struct value v[N];
        int64_t us = turn % 50 == 0 ? INT64_MIN : turn % 50 == 1 ? INT64_MAX - 2000000000 : -500000;
        unsigned style = (unsigned)rand_below(&r, 3);
        uint64_t step = 1ull << rand_below(&r, turn % 50 == 1 ? 20 : 34);
        for (unsigned i = 0; i < N; i++) {
            random_value(&r, style, &v[i]);
            us += (int64_t)rand_below(&r, step);
            p[i] = (struct history_point){
                .event_us = us, .offset = rand_next(&r), .datum.value = slice_str(v[i].text)};
        }
        struct buf out;
        buf_init(&out, 1 << 20);
        rollup_encode(&out, p, N, turn % 20 == 0);
        struct rollup_row row;
        assert_true(rollup_open(&row, buf_slice(&out), row_key_of(p)));
        assert_int_equal(row.last_us, us);
        assert_true(turn % 20 || row.slot_us == 0);
        assert_true(row.left <= N / ROLLUP_POINTS_MIN);
        size_t at = 0;
        while (row.left) {
            struct rollup got, want = {0};
            int64_t slot;
            assert_true(rollup_next(&row, &slot, &got));
            for (; at < N && rollup_slot(p[at].event_us, row.slot_us) == slot; at++)
                rollup_add(&want, row_key_of(&p[at]), p[at].datum.value);
            assert_int_equal(want.count, got.count);
            assert_int_equal(want.numbers, got.numbers);
            assert_true(want.exact == got.exact);
            assert_true(fabsl(want.rest + want.rest_low - (got.rest + got.rest_low)) <=
                        (fabsl(want.rest) + fabsl(want.rest_low)) * 0x1p-61L);
            assert_memory_equal(&want.min, &got.min, 4 * sizeof(double));
            assert_memory_equal(&want.first_at, &got.first_at, 2 * sizeof(struct row_key));
        }
        assert_true(at == (row.slot_us ? N : 0));
        char *damaged = malloc(out.len);
        size_t len = rand_below(&r, out.len + 1);
        memcpy(damaged, out.ptr, len);
        if (len && rand_below(&r, 2))
            damaged[rand_below(&r, len)] ^= (char)(1 << rand_below(&r, 8));
        damaged = realloc(damaged, len ? len : 1); /* a sanitizer sees a step beyond */
        int64_t slot;
        struct rollup got;
        bool sound = rollup_open(&row, slice_of(damaged, len), row_key_of(p));
        while (sound && row.left)
            sound = rollup_next(&row, &slot, &got);
        free(damaged);
        buf_fini(&out);
    }
}

/* ---- single properties ------------------------------------------------------------------------
 */

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

static void settle(struct history *h, uint64_t applied)
{
    static uint64_t now;
    assert_int_equal(history_flush(h), 0);
    for (unsigned i = 0; i < 1000; i++)
        history_tick(h, applied, 0, now += NS_PER_MS);
    assert_int_equal(history_flush(h), 0);
}

enum { DAY_POINTS = 8640 };

/* A day of a point every 10 s, value = its hour, all merged; returns the next offset. */
static uint64_t fill_day(struct history *h, uint64_t feed, uint64_t offset)
{
    char value[8];
    for (unsigned i = 0; i < DAY_POINTS; i++) {
        sprintf(value, "%u.5", i / 360);
        put(h, feed, (int64_t)i * 10000000, offset++, value);
        if (i % 50 == 0)
            settle(h, offset);
    }
    for (unsigned i = 0; i < 40; i++) { /* late ones, so that everything is merged again */
        put(h, feed, 5 + i, offset++, "x");
        settle(h, offset);
    }
    return offset;
}

/* Asks for the day by slices that divide an hour and checks it. Returns what it cost. */
static uint64_t check_day_by(struct history *h, uint64_t feed, unsigned flags, unsigned minutes)
{
    struct buf storage;
    unsigned of_hour = 60 / minutes;
    buf_init(&storage, 1 << 20);
    struct history_slices q = {.feed = feed,
                               .to_us = 86399999999,
                               .slice_us = minutes * MINUTE_US,
                               .flags = flags,
                               .storage = &storage};
    int code = history_rollup(h, &q);
    /* RocksDB exchanges files in the background: what was read of the old ones comes again. */
    for (unsigned i = 0; i < 100 && flags && code != HISTORY_DONE; i++) {
        q.flags = 0;
        assert_int_equal(history_rollup(h, &q), HISTORY_DONE);
        q.flags = flags;
        code = history_rollup(h, &q);
    }
    assert_int_equal(code, HISTORY_DONE);
    assert_int_equal(q.count, 24 * of_hour);
    for (unsigned i = 0; i < q.count; i++) {
        assert_int_equal(q.slices[i].r.count, 360 / of_hour + (i ? 0 : 40));
        assert_int_equal(q.slices[i].r.numbers, 360 / of_hour);
        assert_true(rollup_average(&q.slices[i].r) == i / of_hour + .5);
    }
    buf_fini(&storage);
    return q.cost;
}

static uint64_t check_day(struct history *h, uint64_t feed, unsigned flags)
{
    return check_day_by(h, feed, flags, 60);
}

static void tuples_save_reading_points(void **state)
{
    char path[96];
    uint64_t cursor;
    merge_points = 256;
    struct history *h = open_at(fresh_path(path), &cursor);
    uint64_t next = fill_day(h, 1, 0);
    assert_true(check_day(h, 1, 0) < DAY_POINTS / 4);
    assert_true(check_day_by(h, 1, 0, 5) < DAY_POINTS / 4);
    assert_true(check_day_by(h, 1, 0, 2) > DAY_POINTS); /* 6 points a minute are no tuple */
    check_day(h, 1, HISTORY_NO_IO);
    struct buf target; /* a pending deletion makes one row be read by its points */
    buf_init(&target, 64);
    datum_target_encode(&target, (struct datum_target){0, 1u << 30});
    uint64_t before = check_day(h, 1, 0);
    history_apply(
        h, &(struct record){.kind = RECORD_DELETED, .feed = 1, .payload = buf_slice(&target)},
        next);
    uint64_t after = check_day(h, 1, 0);
    assert_true(after > before && after < before + 2 * 512);
    buf_fini(&target);
    history_close(h);
}

static void asks_within_bounds(void **state)
{
    char path[96];
    uint64_t cursor;
    struct history *h = open_at(fresh_path(path), &cursor);
    struct buf storage;
    buf_init(&storage, 1 << 20);
    put(h, 1, INT64_MIN, 0, "1");
    put(h, 1, INT64_MAX, 1, "2");
    struct history_slices q = {.feed = 1, .from_us = 5, .to_us = 4, .slice_us = MINUTE_US};
    q.storage = &storage;
    assert_int_equal(history_rollup(h, &q), -EINVAL);
    q.to_us = MINUTE_US * HISTORY_SLICES_MAX;
    assert_int_equal(history_rollup(h, &q), -EINVAL);
    q.to_us--;
    assert_int_equal(history_rollup(h, &q), HISTORY_DONE);
    assert_int_equal(q.count, 0);
    q.from_us = INT64_MIN;
    q.to_us = INT64_MIN + 1;
    assert_int_equal(history_rollup(h, &q), HISTORY_DONE);
    assert_int_equal(q.count, 1);
    q.from_us = INT64_MAX - 1;
    q.to_us = INT64_MAX;
    assert_int_equal(history_rollup(h, &q), HISTORY_DONE);
    assert_int_equal(q.count, 1);
    assert_true(q.slices[0].r.max == 2);
    for (uint64_t i = 0; i < 20000; i++) /* too much for a thread that must not wait */
        put(h, 2, (int64_t)i, 2 + i, "1");
    q.feed = 2;
    q.from_us = 0;
    q.to_us = MINUTE_US;
    q.flags = HISTORY_NO_IO;
    assert_int_equal(history_rollup(h, &q), HISTORY_INCOMPLETE);
    q.flags = 0;
    assert_int_equal(history_rollup(h, &q), HISTORY_DONE);
    assert_int_equal(q.slices[0].r.count, 20000);
    buf_fini(&storage);
    history_close(h);
}

/* ---- databases without tuples, or with wrong ones -----------------------------------------------
 */

/* Opens the database itself and lets `change` write. */
static void tamper(const char *path, void (*change)(rocksdb_t *db, rocksdb_writeoptions_t *w))
{
    char *text = NULL;
    rocksdb_options_t *o = rocksdb_options_create();
    rocksdb_t *db = rocksdb_open(o, path, &text);
    assert_null(text);
    rocksdb_writeoptions_t *w = rocksdb_writeoptions_create();
    change(db, w);
    rocksdb_writeoptions_destroy(w);
    rocksdb_close(db);
    rocksdb_options_destroy(o);
}

static void make_old(rocksdb_t *db, rocksdb_writeoptions_t *w)
{
    char *text = NULL, meta[20] = {1};
    const uint64_t log_id[2] = {7, 9};
    memcpy(meta + 4, log_id, sizeof log_id);
    rocksdb_writebatch_t *b = rocksdb_writebatch_create();
    rocksdb_writebatch_delete_range(b, "s", 1, "u", 1); /* tuples, and how far they are */
    rocksdb_writebatch_put(b, "m", 1, meta, sizeof meta);
    rocksdb_write(db, w, b, &text);
    rocksdb_writebatch_destroy(b);
    assert_null(text);
}

static void make_damaged(rocksdb_t *db, rocksdb_writeoptions_t *w)
{
    char *text = NULL, key[ROW_KEY_BYTES];
    size_t len;
    rocksdb_readoptions_t *read = rocksdb_readoptions_create();
    rocksdb_iterator_t *it = rocksdb_create_iterator(db, read);
    rocksdb_iter_seek(it, "s", 1);
    for (unsigned i = 0; i < 5; i++)
        rocksdb_iter_next(it);
    memcpy(key, rocksdb_iter_key(it, &len), ROW_KEY_BYTES);
    assert_int_equal(key[0], 's');
    rocksdb_iter_destroy(it);
    rocksdb_readoptions_destroy(read);
    rocksdb_put(db, w, key, sizeof key, "\2\x7f", 2, &text);
    assert_null(text);
}

static void make_orphan(rocksdb_t *db, rocksdb_writeoptions_t *w)
{
    char *text = NULL, key[ROW_KEY_BYTES];
    history_key(key, KEY_ROLLUP, 1, (struct row_key){.us = 77777});
    rocksdb_put(db, w, key, sizeof key, "\2\0\1", 3, &text);
    assert_null(text);
}

static void rebuilds_after(void (*change)(rocksdb_t *db, rocksdb_writeoptions_t *w), bool at_open)
{
    char path[96];
    uint64_t cursor;
    merge_points = 256;
    log_set_level(LOG_ERROR + 1);
    struct history *h = open_at(fresh_path(path), &cursor);
    uint64_t next = fill_day(h, 1, 0);
    next = fill_day(h, 3, next);
    uint64_t good = check_day(h, 1, 0);
    history_close(h);
    tamper(path, change);
    h = open_at(path, &cursor);
    assert_true((history_stats(h).rolled == 0) == at_open);
    assert_true(check_day(h, 1, 0) > DAY_POINTS); /* right at once, by the points */
    assert_true(check_day(h, 3, 0) >= DAY_POINTS || !at_open);
    history_tick(h, next, 0, 0); /* a part of it; then a restart */
    assert_true(history_stats(h).rolled != UINT64_MAX);
    check_day(h, 1, 0);
    check_day(h, 3, 0);
    history_close(h);
    h = open_at(path, &cursor);
    assert_true(history_stats(h).rolled != UINT64_MAX);
    for (unsigned i = 0; i < 100 && history_stats(h).rolled != UINT64_MAX; i++) {
        history_tick(h, next, 0, i);
        check_day(h, 1, 0);
        check_day(h, 3, 0);
    }
    history_close(h);
    h = open_at(path, &cursor);
    assert_true(history_stats(h).rolled == UINT64_MAX);
    assert_true(check_day(h, 1, 0) <= good);
    assert_true(check_day(h, 3, 0) <= good);
    history_close(h);
    log_set_level(LOG_INFO);
}

static void old_database_gets_tuples(void **state)
{
    rebuilds_after(make_old, true);
}

static void damaged_tuples_are_made_again(void **state)
{
    rebuilds_after(make_damaged, false);
    rebuilds_after(make_orphan, false);
}

/* ---- threads ------------------------------------------------------------------------------------
 */

/*
 * A turn is four records: a point for feed 1, the deletion of its point RUN turns before, a point
 * for feed 2 whose value is the number of its life, and now and then the deletion of feed 2. So at
 * any moment feed 1 has RUN points or one more, in memory, in fresh rows or in merged ones, and
 * feed 2 points of one life. In between all tuples are thrown away and made again.
 */
enum { TURN = 4, RUN = 400, RACE_TURNS = 10000, LIFE_TURNS = 900, RACE_READS = 800 };

struct race {
    struct history *h;
    _Atomic uint64_t turn, reads;
    _Atomic bool stop;
};

static int64_t race_time(uint64_t turn)
{
    return (int64_t)(turn * 1400000 % (uint64_t)(900 * MINUTE_US)); /* 43 a minute */
}

static void read_race(void *arg)
{
    struct race *c = arg;
    struct buf storage;
    buf_init(&storage, 16 << 20);
    while (!atomic_load(&c->stop)) {
        bool full = atomic_load(&c->turn) > 2 * RUN;
        struct history_slices q = {
            .feed = 1, .to_us = 900 * MINUTE_US, .slice_us = MINUTE_US, .storage = &storage};
        assert_int_equal(history_rollup(c->h, &q), HISTORY_DONE);
        uint64_t count = 0;
        for (uint32_t i = 0; i < q.count; i++)
            count += q.slices[i].r.count;
        if (full && count != RUN && count != RUN + 1)
            fail_msg("%llu points", (unsigned long long)count);
        q.feed = 2;
        assert_int_equal(history_rollup(c->h, &q), HISTORY_DONE);
        for (uint32_t i = 0; i < q.count; i++)
            if (q.slices[i].r.min != q.slices[0].r.max || q.slices[i].r.max != q.slices[0].r.max)
                fail_msg("lives %g and %g", q.slices[i].r.min, q.slices[0].r.max);
        atomic_fetch_add(&c->reads, 1);
    }
    buf_fini(&storage);
}

static void race_turn(struct history *h, uint64_t turn)
{
    struct buf target;
    struct record r = {.kind = RECORD_DELETED, .feed = 1};
    char life[24];
    uint64_t offset = turn * TURN;
    put(h, 1, race_time(turn), offset, "21.5");
    if (turn >= RUN) {
        buf_init(&target, 64);
        datum_target_encode(
            &target, (struct datum_target){race_time(turn - RUN) / 1000, (turn - RUN) * TURN});
        r.payload = buf_slice(&target);
        history_apply(h, &r, offset + 1);
        buf_fini(&target);
    }
    sprintf(life, "%u", (unsigned)(turn / LIFE_TURNS));
    put(h, 2, race_time(turn), offset + 2, life);
    if (turn % LIFE_TURNS == LIFE_TURNS - 1)
        history_apply(h, &(struct record){.kind = RECORD_DELETED, .feed = 2}, offset + 3);
}

static void readers_see_one_moment(void **state)
{
    char path[96];
    uint64_t cursor, now = 0;
    merge_points = 32;
    log_set_level(LOG_ERROR + 1);
    struct race c = {.h = open_at(fresh_path(path), &cursor)};
    pthread_t reader[2];
    for (unsigned i = 0; i < 2; i++)
        reader[i] = thread_start("reader", read_race, &c);
    for (uint64_t turn = 0; turn < RACE_TURNS || c.reads < RACE_READS; turn++) {
        race_turn(c.h, turn);
        atomic_store(&c.turn, turn);
        if (turn % 700 == 699)
            history_rollup_rebuild(c.h);
        if (turn % 10 == 0)
            history_tick(c.h, turn * TURN + TURN, 600, now += NS_PER_MS); /* flush, merge, flush */
    }
    atomic_store(&c.stop, true);
    for (unsigned i = 0; i < 2; i++)
        pthread_join(reader[i], NULL);
    assert_true(history_stats(c.h).merges > 0);
    history_close(c.h);
    log_set_level(LOG_INFO);
}

static int make_root(void **state)
{
    sprintf(root, "%s/sluice-rollup-XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
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
        cmocka_unit_test(random_journals),
        cmocka_unit_test(numbers_are_what_people_send),
        cmocka_unit_test(sums_are_exact),
        cmocka_unit_test(rows_come_back),
        cmocka_unit_test(tuples_save_reading_points),
        cmocka_unit_test(asks_within_bounds),
        cmocka_unit_test(old_database_gets_tuples),
        cmocka_unit_test(damaged_tuples_are_made_again),
        cmocka_unit_test(readers_see_one_moment),
    };
    if (getenv("TEST")) /* one of them */
        cmocka_set_test_filter(getenv("TEST"));
    return cmocka_run_group_tests_name("rollup", tests, make_root, remove_root);
}
