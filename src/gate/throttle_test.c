/* SPDX-License-Identifier: Apache-2.0 */
#include "gate/throttle.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/clock.h"
#include "base/metric.h"
#include "base/rand.h"
#include "base/thread.h"

#define START (1000 * NS_PER_S)

static struct throttle *make(uint64_t subjects)
{
    struct throttle *t =
        throttle_new(&(struct throttle_opts){.subjects_max = subjects, .memory_max = 64 << 20});
    assert_non_null(t);
    return t;
}

static struct throttle_ask ask_of(uint64_t id, const struct limit_set *l)
{
    return (struct throttle_ask){{THROTTLE_ACCOUNT, id}, l};
}

static struct throttle_verdict decide(struct throttle *t, uint64_t id, const struct limit_set *l,
                                      uint32_t cost, uint64_t now)
{
    struct throttle_ask ask = ask_of(id, l);
    struct throttle_verdict v;
    throttle_decide(t, &ask, 1, cost, now, &v);
    return v;
}

/* ---- the brute force: every counted stamp, looked through from the newest ------------------- */

#define LOG_MAX (1u << 22)

struct log {
    uint64_t *at;
    uint32_t len;
};

static struct log log_new(void)
{
    struct log l = {malloc(LOG_MAX * sizeof(uint64_t)), 0};
    assert_non_null(l.at);
    return l;
}

static uint32_t log_used(const struct log *l, uint64_t window_ns, uint64_t now)
{
    uint32_t n = 0;
    while (n < l->len && now - l->at[l->len - 1 - n] < window_ns)
        n++;
    return n;
}

static void log_add(struct log *l, uint32_t count, uint64_t now)
{
    assert_true(l->len + count <= LOG_MAX);
    while (count-- > 0)
        l->at[l->len++] = now;
}

static bool log_allows(const struct log *l, const struct limit_set *s, uint32_t cost, uint64_t now)
{
    if (s->min_distance_ms && l->len && now - l->at[l->len - 1] < s->min_distance_ms * NS_PER_MS)
        return false;
    for (unsigned i = 0; i < s->windows_count; i++) {
        if (log_used(l, s->windows[i].window_ms * NS_PER_MS, now) + cost > s->windows[i].count)
            return false;
    }
    return true;
}

/* Twice the rate that the first window admits, with steps that hit what matters: the same moment,
 * exactly one window later, one microsecond beside, a pause that frees who counts attempts. */
static uint64_t step(struct rand *r, const struct limit_set *s)
{
    uint64_t w = s->windows[rand_below(r, s->windows_count)].window_ms * NS_PER_MS;
    uint32_t count = s->windows[0].count;
    if (rand_below(r, 2 * count) == 0) {
        const uint64_t steps[] = {2 * w, w, w - NS_PER_US, w + NS_PER_US, w / 2};
        return steps[rand_below(r, 5)];
    }
    if (rand_below(r, 4) == 0)
        return rand_below(r, 2) * NS_PER_US;
    return rand_below(r, s->windows[0].window_ms * 1000 / count + 1) * NS_PER_US;
}

static void equals_brute_force_with(const struct limit_set *s, unsigned operations, uint64_t seed)
{
    struct throttle *t = make(1000);
    struct log log = log_new();
    struct rand r = {seed};
    uint64_t now = START;
    unsigned allowed = 0;
    for (unsigned k = 0; k < operations; k++) {
        now += step(&r, s);
        uint32_t cost = rand_below(&r, 8) ? 1 : (uint32_t)(1 + rand_below(&r, 4));
        bool expect = log_allows(&log, s, cost, now);
        struct throttle_verdict v = decide(t, 7, s, cost, now);
        if (v.allow != expect)
            fail_msg("operation %u: %d instead of %d", k, v.allow, expect);
        if (expect || !s->count_accepted)
            log_add(&log, cost, now);
        allowed += expect;
        struct throttle_ask ask = ask_of(7, s);
        for (unsigned i = 0; i < s->windows_count; i++) {
            struct window w = s->windows[i];
            uint32_t used = log_used(&log, w.window_ms * NS_PER_MS, now);
            assert_int_equal(throttle_used(t, &ask, i, now), used < w.count ? used : w.count);
        }
    }
    assert_true(allowed > operations / 500 && allowed < operations);
    free(log.at);
    throttle_free(t);
}

static void equals_brute_force(void **state)
{
    static const struct limit_set sets[] = {
        {.windows = {{60, 60000}}, .windows_count = 1, .count_accepted = true},
        {.windows = {{60, 60000}}, .windows_count = 1},
        {.windows = {{5, 1000}}, .windows_count = 1},
        {.windows = {{4, 7}}, .windows_count = 1, .count_accepted = true},
        {.windows = {{128, 10000}}, .windows_count = 1, .count_accepted = true},
        {.windows = {{60, 60000}, {10, 1000}, {100, 600000}},
         .windows_count = 3,
         .count_accepted = true},
        {.windows = {{20, 2000}, {6, 100}, {4, 10}, {17, 1500}}, .windows_count = 4},
        {.windows = {{30, 3000}},
         .windows_count = 1,
         .count_accepted = true,
         .min_distance_ms = 50},
        {.windows = {{30, 3000}}, .windows_count = 1, .min_distance_ms = 20},
        {.windows = {{9, 3600000}, {3, 60000}}, .windows_count = 2, .count_accepted = true},
    };
    for (unsigned i = 0; i < sizeof sets / sizeof *sets; i++)
        equals_brute_force_with(&sets[i], 100000, i + 1);
}

/* Long windows keep coarser stamps: never more than N, and at most W / 2^32 late. */
static void long_windows(void **state)
{
    struct throttle *t = make(1000);
    struct limit_set day = {
        .windows = {{10, 86400000}}, .windows_count = 1, .count_accepted = true};
    uint64_t w = 86400 * NS_PER_S, now = START + 123456789;
    for (unsigned i = 0; i < 10; i++)
        assert_true(decide(t, 1, &day, 1, now + i * NS_PER_S * 3600 + i).allow);
    assert_false(decide(t, 1, &day, 1, now + w - 1).allow);
    assert_true(decide(t, 1, &day, 1, now + w + 40 * NS_PER_US).allow);
    assert_false(decide(t, 1, &day, 1, now + w + 60 * NS_PER_US).allow);
    /* Back to a short window and to a long one again: stamps stay in order. */
    struct limit_set minute = {
        .windows = {{10, 60000}}, .windows_count = 1, .count_accepted = true};
    assert_true(decide(t, 1, &minute, 1, now + w + NS_PER_S).allow);
    struct limit_set two = {.windows = {{2, 86400000}}, .windows_count = 1, .count_accepted = true};
    assert_false(decide(t, 1, &two, 1, now + w + 2 * NS_PER_S).allow);
    assert_true(decide(t, 1, &two, 1, now + 2 * w + 3 * NS_PER_S).allow);
    throttle_free(t);
}

/* Sends whenever it may, at the worst moments, in whole nanoseconds; looks through the log. */
static void never_more_than(const struct limit_set *s, uint64_t seed)
{
    struct throttle *t = make(1000);
    struct log log = log_new();
    struct rand r = {seed};
    struct window w = s->windows[0];
    uint64_t now = START, w_ns = w.window_ms * NS_PER_MS;
    for (unsigned round = 0; round < 3000; round++) {
        now += rand_below(&r, 3) ? rand_below(&r, w_ns / 8) : w_ns - rand_below(&r, 3000);
        for (unsigned burst = 0; burst < w.count; burst++) {
            struct throttle_verdict v = decide(t, 3, s, 1, now);
            if (!v.allow)
                break;
            assert_true(log_used(&log, w_ns, now) < w.count);
            log_add(&log, 1, now);
            now += rand_below(&r, 4) ? 0 : rand_below(&r, w_ns / w.count);
        }
    }
    assert_true(log.len > w.count * 20);
    free(log.at);
    throttle_free(t);
}

static void edge_bursts(void **state)
{
    never_more_than(
        &(struct limit_set){.windows = {{60, 60000}}, .windows_count = 1, .count_accepted = true},
        1);
    never_more_than(
        &(struct limit_set){.windows = {{128, 100}}, .windows_count = 1, .count_accepted = true},
        2);
    never_more_than(
        &(struct limit_set){.windows = {{129, 1000}}, .windows_count = 1, .count_accepted = true},
        3);
    never_more_than(
        &(struct limit_set){.windows = {{1000, 60000}}, .windows_count = 1, .count_accepted = true},
        4);
}

/* A lone sender that waits as told is let in, whatever the limits; not a moment earlier for rings.
 */
static void retry_is_true(void **state)
{
    static const struct limit_set sets[] = {
        {.windows = {{6, 1000}, {20, 10000}}, .windows_count = 2},
        {.windows = {{6, 1000}, {20, 10000}}, .windows_count = 2, .count_accepted = true},
        {.windows = {{6, 1000}}, .windows_count = 1, .min_distance_ms = 100},
        {.windows = {{200, 1000}, {900, 10000}}, .windows_count = 2},
        {.windows = {{200, 1000}, {900, 10000}}, .windows_count = 2, .count_accepted = true},
        {.windows = {{50, 1000}, {900, 60000}}, .windows_count = 2, .min_distance_ms = 5},
    };
    for (unsigned i = 0; i < sizeof sets / sizeof *sets; i++) {
        struct throttle *t = make(1000);
        struct rand r = {i};
        struct throttle_ask asks[2] = {ask_of(1, &sets[i]), ask_of(2, &sets[(i + 1) % 6])};
        uint64_t now = START;
        unsigned refused = 0;
        for (unsigned k = 0; k < 20000; k++) {
            uint32_t cost = (uint32_t)(1 + rand_below(&r, 5));
            struct throttle_verdict v;
            now += rand_below(&r, 20 * NS_PER_MS);
            throttle_decide(t, asks, 2, cost, now, &v);
            if (v.allow)
                continue;
            refused++;
            assert_true(v.retry_ns > 0 && !v.never);
            struct throttle_verdict early;
            now += v.retry_ns - 1;
            bool both = true;
            for (unsigned a = 0; a < 2; a++) {
                throttle_peek(t, &asks[a], cost, now, &early);
                both &= early.allow;
            }
            assert_false(both);
            now++;
            throttle_decide(t, asks, 2, cost, now, &v);
            assert_true(v.allow);
        }
        assert_true(refused > 100);
        throttle_free(t);
    }
}

static void counted_client_at_a_higher_rate(void **state)
{
    struct limit_set s = {.windows = {{60, 60000}}, .windows_count = 1};
    struct throttle *t = make(1000);
    uint64_t now = START;
    unsigned late = 0;
    for (unsigned i = 0; i < 6000; i++, now += NS_PER_S * 60 / 72) {
        bool allow = decide(t, 1, &s, 1, now).allow;
        late += allow && i >= 60;
    }
    assert_int_equal(late, 0);
    now += 60 * NS_PER_S;
    assert_true(decide(t, 1, &s, 1, now).allow);
    throttle_free(t);
}

static void verdict_tells(void **state)
{
    struct limit_set s = {
        .windows = {{3, 1000}, {5, 60000}}, .windows_count = 2, .count_accepted = true};
    struct throttle *t = make(1000);
    struct throttle_verdict v = decide(t, 1, &s, 1, START);
    assert_true(v.allow);
    assert_int_equal(v.window, 0);
    assert_int_equal(v.limit, 3);
    assert_int_equal(v.remaining, 2);
    struct throttle_ask ask = {{THROTTLE_ACCOUNT, 1}, &s};
    struct throttle_verdict peeked;
    throttle_peek(t, &ask, 1, START, &peeked);
    assert_int_equal(peeked.remaining, 2);
    assert_int_equal(peeked.retry_ns, NS_PER_S);
    v = decide(t, 1, &s, 2, START + NS_PER_MS);
    assert_int_equal(v.remaining, 0);
    v = decide(t, 1, &s, 1, START + 2 * NS_PER_MS);
    assert_false(v.allow);
    assert_int_equal(v.window, 0);
    assert_int_equal(v.retry_ns, 998 * NS_PER_MS);
    v = decide(t, 1, &s, 2, START + 2 * NS_PER_S);
    assert_true(v.allow);
    assert_int_equal(v.window, 1);
    v = decide(t, 1, &s, 1, START + 4 * NS_PER_S);
    assert_false(v.allow);
    assert_int_equal(v.window, 1);
    assert_int_equal(v.window_ms, 60000);
    v = decide(t, 1, &s, 4, START + 400 * NS_PER_S);
    assert_true(!v.allow && v.never);
    assert_int_equal(v.remaining, 3);
    struct limit_set none = {0};
    v = decide(t, 1, &none, 1000, START);
    assert_true(v.allow && v.limit == 0);
    throttle_free(t);
}

/* A refusal by one ask must not use up the others where only accepted tries count. */
static void all_or_none(void **state)
{
    struct limit_set one = {.windows = {{1, 1000}}, .windows_count = 1, .count_accepted = true};
    struct limit_set many = {.windows = {{100, 1000}}, .windows_count = 1, .count_accepted = true};
    struct throttle *t = make(1000);
    struct throttle_ask asks[3] = {ask_of(1, &many), ask_of(2, &one), ask_of(1, &many)};
    struct throttle_verdict v;
    throttle_decide(t, asks, 2, 1, START, &v);
    assert_true(v.allow);
    assert_int_equal(v.ask, 1);
    for (unsigned i = 0; i < 50; i++) {
        throttle_decide(t, asks, 2, 1, START, &v);
        assert_true(!v.allow && v.ask == 1);
    }
    assert_int_equal(throttle_used(t, &asks[0], 0, START), 1);
    throttle_peek(t, &asks[0], 1, START, &v);
    assert_int_equal(v.remaining, 99);
    throttle_charge(t, &asks[0], 5, START);
    assert_int_equal(throttle_used(t, &asks[0], 0, START), 6);
    throttle_clear(t, asks[1].subject);
    throttle_decide(t, asks, 3, 1, START, &v); /* the same subject twice */
    assert_true(v.allow);
    assert_int_equal(throttle_used(t, &asks[0], 0, START), 8);
    throttle_free(t);
}

static void plan_changes(void **state)
{
    struct throttle *t = make(1000);
    struct rand r = {99};
    uint64_t now = START;
    for (unsigned k = 0; k < 300000; k++) {
        struct limit_set s = {.windows_count = (uint8_t)rand_below(&r, WINDOWS_MAX + 1),
                              .count_accepted = rand_below(&r, 2),
                              .min_distance_ms = rand_below(&r, 3) ? 0 : 5};
        for (unsigned i = 0; i < s.windows_count; i++)
            s.windows[i] = (struct window){(uint32_t)(1 + rand_below(&r, 300)),
                                           (uint32_t)(10u << rand_below(&r, 28))};
        now += rand_below(&r, 4) ? rand_below(&r, NS_PER_S) : 0;
        if (rand_below(&r, 5000) == 0)
            now += 4000 * NS_PER_S;
        decide(t, rand_below(&r, 4), &s, (uint32_t)(1 + rand_below(&r, 400)), now);
    }
    /* More than before: what was counted still counts. */
    struct limit_set small = {.windows = {{10, 60000}}, .windows_count = 1, .count_accepted = true};
    struct limit_set large = {.windows = {{60, 60000}}, .windows_count = 1, .count_accepted = true};
    for (unsigned i = 0; i < 10; i++)
        assert_true(decide(t, 50, &small, 1, now).allow);
    assert_false(decide(t, 50, &small, 1, now).allow);
    assert_int_equal(decide(t, 50, &large, 1, now).remaining, 49);
    assert_false(decide(t, 50, &small, 1, now).allow);
    throttle_free(t);
}

static void full_table_keeps_who_blocks(void **state)
{
    struct limit_set s = {.windows = {{1, 1000}}, .windows_count = 1};
    struct throttle *t = make(2000);
    for (uint64_t i = 0; i < 2000; i++)
        assert_true(decide(t, i, &s, 1, START).allow);
    assert_int_equal(throttle_stats(t).subjects, 2000);
    uint64_t before = metric_sum(METRIC_throttle_table_full);
    for (uint64_t i = 0; i < 5000; i++)
        assert_true(decide(t, 10000 + i, &s, 1, START + NS_PER_MS).allow);
    assert_int_equal(metric_sum(METRIC_throttle_table_full) - before, 5000);
    for (uint64_t i = 0; i < 2000; i++)
        assert_false(decide(t, i, &s, 1, START + 2 * NS_PER_MS).allow);
    /* When their windows are empty they make room. */
    uint64_t later = START + 5 * NS_PER_S;
    for (uint64_t i = 0; i < 2000; i++)
        decide(t, 20000 + i, &s, 1, later);
    unsigned blocked = 0;
    for (uint64_t i = 0; i < 2000; i++)
        blocked += !decide(t, 20000 + i, &s, 1, later).allow;
    assert_true(blocked > 1900);
    assert_true(throttle_stats(t).subjects <= 2000);
    throttle_free(t);
}

static void fails(struct throttle *t, uint64_t id, unsigned times, uint64_t now)
{
    static const struct limit_set s = {.windows = {{10, 60000}}, .windows_count = 1};
    const struct throttle_ask ask = {{THROTTLE_FAILURE_CREDENTIAL, id}, &s};
    struct throttle_verdict v;
    for (unsigned i = 0; i < times; i++)
        throttle_charge(t, &ask, 1, now);
    throttle_peek(t, &ask, 1, now, &v);
    assert_int_equal(v.allow, times < 10);
}

/* Who makes up credentials takes nobody's place but those of others like them. */
static void failing_credentials_have_a_part(void **state)
{
    struct throttle *t = make(80000);
    const uint64_t part = 80000 / 8 + 1;
    fails(t, 1, 10, START);
    for (uint64_t i = 0; i < 40000; i++)
        fails(t, 100 + i, 1, START + i * NS_PER_US);
    assert_int_equal(throttle_stats(t).subjects, part);
    fails(t, 1, 10, START + NS_PER_S); /* who is kept out stays so */
    /* Each new one was counted: the newest, which nobody had to make room for yet, still are. */
    const struct limit_set s = {.windows = {{10, 60000}}, .windows_count = 1};
    unsigned counted = 0;
    for (uint64_t i = 39000; i < 40000; i++) {
        struct throttle_ask ask = {{THROTTLE_FAILURE_CREDENTIAL, 100 + i}, &s};
        counted += throttle_used(t, &ask, 0, START + NS_PER_S);
    }
    assert_true(counted > 900);
    /* All others still have their windows. */
    uint64_t before = metric_sum(METRIC_throttle_table_full);
    for (uint64_t i = 0; i < 80000 - part; i++)
        assert_true(decide(t, i, &s, 1, START + NS_PER_S).allow);
    assert_int_equal(metric_sum(METRIC_throttle_table_full), before);
    assert_int_equal(throttle_stats(t).subjects, 80000);
    /* With all of them kept out, a new one is not counted. */
    throttle_free(t);
    t = make(800);
    for (uint64_t i = 0; i < 101; i++)
        fails(t, i, 10, START);
    const struct throttle_ask ask = {{THROTTLE_FAILURE_CREDENTIAL, 500}, &s};
    throttle_charge(t, &ask, 1, START);
    assert_int_equal(throttle_used(t, &ask, 0, START), 0);
    for (uint64_t i = 0; i < 101; i++)
        fails(t, i, 10, START);
    /* When their windows are empty they make room: for most, since only a few places are looked at.
     */
    unsigned now_counted = 0;
    for (uint64_t i = 0; i < 50; i++) {
        struct throttle_ask another = {{THROTTLE_FAILURE_CREDENTIAL, 1000 + i}, &s};
        throttle_charge(t, &another, 1, START + 120 * NS_PER_S);
        now_counted += throttle_used(t, &another, 0, START + 120 * NS_PER_S);
    }
    assert_true(now_counted >= 25);
    throttle_free(t);
}

static void memory_is_bounded_and_given_back(void **state)
{
    struct throttle *t =
        throttle_new(&(struct throttle_opts){.subjects_max = 100000, .memory_max = 1 << 20});
    struct limit_set s = {
        .windows = {{100, 1000}, {500, 2000}}, .windows_count = 2, .count_accepted = true};
    uint64_t before = metric_sum(METRIC_throttle_table_full);
    for (unsigned k = 0; k < 100; k++) {
        for (uint64_t i = 0; i < 2000; i++)
            decide(t, i, &s, 1, START + k);
    }
    assert_true(metric_sum(METRIC_throttle_table_full) > before);
    /* The index has 8 bytes per entry and 512 shards of at most 32 entries (three sizes while
     * shards move from one to the next): 2000 subjects put 25 into one shard once in 10^9 runs. */
    const uint64_t index = 512 * 8 * (8 + 16 + 32), head = 64, chunk = 64 << 10;
    assert_true(throttle_stats(t).bytes <= (1 << 20) + 2000 * head + index);
    /* One other that goes on sending does the cleaning up. Every 100 ms it looks at 8 entries of
     * another shard, which has 32 at most, and again at the place of each that it removes: seven
     * rounds. What remains are the sender and the chunk that each of six sizes keeps. */
    uint64_t now = START + 10 * NS_PER_S;
    struct limit_set one = {.windows = {{4, 1000}}, .windows_count = 1};
    for (unsigned k = 0; k < 8 * 512; k++)
        decide(t, 100000, &one, 1, now += 100 * NS_PER_MS);
    assert_int_equal(throttle_stats(t).subjects, 1);
    assert_true(throttle_stats(t).bytes <= head + index + 6 * chunk);
    throttle_free(t);
}

static void clock_behind_the_table(void **state)
{
    struct limit_set s = {.windows = {{2, 1000}}, .windows_count = 1, .count_accepted = true};
    struct throttle *t = make(1000);
    assert_true(decide(t, 1, &s, 1, START + NS_PER_MS).allow);
    assert_true(decide(t, 1, &s, 1, START).allow);
    struct throttle_verdict v = decide(t, 1, &s, 1, START);
    assert_false(v.allow);
    assert_int_equal(v.retry_ns, 1001 * NS_PER_MS);
    assert_true(decide(t, 1, &s, 1, START + v.retry_ns).allow);
    throttle_free(t);
}

/* ---- other limits ---------------------------------------------------------------------------- */

/* Sends at worst moments what may be sent, singly and in batches; looks through the log. */
static void bucket_bounds(struct window w, uint64_t seed)
{
    const struct limit_set s = {.windows = {w}, .windows_count = 1};
    struct throttle *t = make(1000);
    struct log log = log_new();
    struct rand r = {seed};
    uint64_t now = START, w_ns = w.window_ms * NS_PER_MS, paid = 0, refused = 0;
    uint32_t most = 0;
    for (unsigned k = 0; k < 20000; k++) {
        uint32_t cost = rand_below(&r, 4) ? 1 : (uint32_t)(1 + rand_below(&r, w.count));
        struct throttle_verdict v = decide(t, 3, &s, cost, now);
        if (v.allow) { /* not before all that came is paid for */
            assert_true(w.kind & LIMIT_TOKEN || now >= paid);
        } else { /* then at once */
            refused++;
            assert_true(!v.never && v.retry_ns > 0);
            assert_false(decide(t, 3, &s, cost, now + v.retry_ns - 1).allow);
            now += v.retry_ns;
            assert_true(decide(t, 3, &s, cost, now).allow);
        }
        paid = now + cost * w_ns / w.count;
        log_add(&log, cost, now);
        uint32_t used = log_used(&log, w_ns, now);
        most = used > most ? used : most;
        assert_true(used <= 2 * w.count);
        now +=
            rand_below(&r, 3) ? 0 : rand_below(&r, rand_below(&r, 50) ? w_ns / w.count : 3 * w_ns);
    }
    if (refused <= 1000 || most <= w.count)
        fail_msg("kind %u: %lu refused, %u in a window", w.kind, refused, most);
    assert_true(decide(t, 4, &s, w.count + 1, now).never);
    free(log.at);
    throttle_free(t);
}

static void buckets_keep_twice_the_count(void **state)
{
    for (uint64_t seed = 0; seed < 3; seed++) {
        bucket_bounds((struct window){60, 7000, LIMIT_TOKEN}, seed);
        bucket_bounds((struct window){3, 1000, LIMIT_TOKEN}, seed);
        bucket_bounds((struct window){60, 7000, LIMIT_LEAKY}, seed);
        bucket_bounds((struct window){1000, 10, LIMIT_LEAKY}, seed);
    }
}

static void a_token_bucket_bursts_and_a_leaky_one_paces(void **state)
{
    struct throttle *t = make(1000);
    struct limit_set token = {.windows = {{7, 3000, LIMIT_TOKEN}}, .windows_count = 1};
    struct limit_set leaky = {.windows = {{7, 3000, LIMIT_LEAKY}}, .windows_count = 1};
    unsigned burst = 0, paced;
    while (decide(t, 1, &token, 1, START).allow)
        burst++;
    assert_int_equal(burst, 7);
    /* Refused tries cost nothing: a hammering sender gets the bucket's rate. */
    paced = 0;
    for (uint64_t now = START; now < START + 30 * NS_PER_S; now += NS_PER_MS)
        paced += decide(t, 1, &token, 1, now).allow;
    assert_in_range(paced, 69, 71);
    paced = 0;
    for (uint64_t now = START; now < START + 30 * NS_PER_S; now += NS_PER_MS)
        paced += decide(t, 2, &leaky, 1, now).allow;
    assert_in_range(paced, 69, 71); /* 70 in ten windows, a millisecond late each at most */
    throttle_free(t);
}

static struct throttle_verdict decide_bytes(struct throttle *t, const struct limit_set *l,
                                            uint32_t bytes, uint64_t now)
{
    struct throttle_ask ask = {{THROTTLE_ACCOUNT, 9}, l, bytes};
    struct throttle_verdict v;
    throttle_decide(t, &ask, 1, 1, now, &v);
    return v;
}

static void bytes_are_counted(void **state)
{
    const uint8_t kinds[] = {LIMIT_ROLLING, LIMIT_TOKEN, LIMIT_LEAKY};
    for (unsigned k = 0; k < 3; k++) {
        struct throttle *t = make(1000);
        struct limit_set l = {
            .windows = {{100, 60000}, {4000000000u, 1000, LIMIT_BYTES | kinds[k]}},
            .windows_count = 2,
            .count_accepted = true};
        assert_true(decide_bytes(t, &l, 4000000000u, START).allow);
        struct throttle_verdict v = decide_bytes(t, &l, 4000000000u, START);
        assert_true(!v.allow && v.bytes && v.window == 1 && v.limit == 4000000000u);
        assert_true(decide_bytes(t, &l, 0, START).allow); /* no bytes: only the other asks */
        assert_false(decide_bytes(t, &l, 1, START + v.retry_ns / 3).allow !=
                     (kinds[k] == LIMIT_TOKEN));
        assert_true(decide_bytes(t, &l, 4000000000u, START + 2 * NS_PER_S).allow);
        assert_true(decide_bytes(t, &l, 4000000001u, START + 9 * NS_PER_S).never);
        struct throttle_ask ask = {{THROTTLE_ACCOUNT, 9}, &l, 0};
        assert_int_equal(throttle_used(t, &ask, 1, START + 2 * NS_PER_S), 4000000000u);
        throttle_free(t);
    }
}

/* Decisions with a limit in shadow are those without it, and it would have refused what the same
 * limit refuses where it is in force. */
static void a_shadow_refuses_nothing(void **state)
{
    const uint8_t kinds[] = {LIMIT_ROLLING, LIMIT_TOKEN, LIMIT_LEAKY};
    for (unsigned k = 0; k < 6; k++) {
        struct throttle *t = make(1000);
        struct rand r = {k};
        uint8_t kind = kinds[k % 3];
        struct limit_set with = {.windows = {{200, 1000}, {150, 1000, kind | LIMIT_SHADOW}},
                                 .windows_count = 2,
                                 .count_accepted = k < 3};
        struct limit_set without = {
            .windows = {{200, 1000}}, .windows_count = 1, .count_accepted = k < 3};
        struct limit_set alone = {
            .windows = {{150, 1000, kind}}, .windows_count = 1, .count_accepted = k < 3};
        unsigned shadowed = 0;
        uint64_t before = metric_sum(METRIC_throttle_shadow_refused), now = START;
        for (unsigned i = 0; i < 20000; i++) {
            now += rand_below(&r, k < 3 ? 14 : 23) * NS_PER_MS / 2;
            struct throttle_verdict v = decide(t, 1, &with, 1, now);
            struct throttle_verdict other = decide(t, 2, &without, 1, now);
            assert_int_equal(v.allow, other.allow);
            assert_int_equal(v.remaining, other.remaining);
            assert_int_equal(v.limit, 200);
            if (other.allow)
                assert_int_equal(v.shadow == 2, !decide(t, 3, &alone, 1, now).allow);
            else if (!with.count_accepted && kind == LIMIT_ROLLING)
                decide(t, 3, &alone, 1, now);
            shadowed += v.shadow != 0;
        }
        assert_true(shadowed > 100);
        assert_int_equal(metric_sum(METRIC_throttle_shadow_refused) - before, shadowed);
        throttle_free(t);
    }
}

/* ---- batches and threads -------------------------------------------------------------------- */

static void batch_equals_single(void **state)
{
    struct limit_set s = {.windows = {{9, 1000}, {20, 4000}}, .windows_count = 2};
    struct throttle *a = make(1000), *b = make(1000);
    struct rand r = {5};
    uint64_t now = START;
    for (unsigned k = 0; k < 3000; k++) {
        struct throttle_ask asks[100][2];
        struct throttle_job jobs[100];
        unsigned n = (unsigned)rand_below(&r, 101);
        now += rand_below(&r, NS_PER_S);
        for (unsigned i = 0; i < n; i++) {
            asks[i][0] = ask_of(rand_below(&r, 40), &s);
            asks[i][1] = ask_of(100 + rand_below(&r, 40), &s);
            jobs[i] = (struct throttle_job){asks[i], (unsigned)rand_below(&r, 3), 1, {0}};
        }
        throttle_decide_batch(a, jobs, n, now);
        for (unsigned i = 0; i < n; i++) {
            struct throttle_verdict v;
            throttle_decide(b, jobs[i].asks, jobs[i].count, 1, now, &v);
            assert_int_equal(v.allow, jobs[i].verdict.allow);
            assert_int_equal(v.retry_ns, jobs[i].verdict.retry_ns);
            assert_int_equal(v.remaining, jobs[i].verdict.remaining);
        }
    }
    throttle_free(a);
    throttle_free(b);
}

#define THREADS 4

struct crowd {
    struct throttle *throttle;
    const struct limit_set *limits;
    _Atomic unsigned admitted;
    _Atomic unsigned number;
};

static void run_sender(void *arg)
{
    struct crowd *c = arg;
    struct rand r = {c->number++};
    for (unsigned k = 0; k < 20000; k++) {
        struct throttle_ask asks[3] = {ask_of(1, c->limits),
                                       ask_of(10 + rand_below(&r, 3000), &c->limits[1]),
                                       ask_of(10 + rand_below(&r, 3000), &c->limits[1])};
        struct throttle_verdict v;
        if (k % 2) {
            throttle_decide(c->throttle, asks, 3, 1, START + k, &v);
        } else {
            struct throttle_job job = {asks, 3, 1, {0}};
            throttle_decide_batch(c->throttle, &job, 1, START + k);
            v = job.verdict;
        }
        c->admitted += v.allow;
        if (rand_below(&r, 100) == 0)
            throttle_clear(c->throttle, asks[1].subject);
    }
}

static void threads_share_a_window(void **state)
{
    static const struct limit_set exact[2] = {
        {.windows = {{100, 60000}}, .windows_count = 1, .count_accepted = true},
        {.windows = {{1000, 60000}, {90, 1000}}, .windows_count = 2, .count_accepted = true}};
    static const struct limit_set large[2] = {
        {.windows = {{5000, 60000}}, .windows_count = 1, .count_accepted = true},
        {.windows = {{100000, 60000}}, .windows_count = 1, .count_accepted = true}};
    for (unsigned i = 0; i < 2; i++) {
        struct crowd c = {.throttle = make(100000), .limits = i ? large : exact};
        pthread_t threads[THREADS];
        for (unsigned k = 0; k < THREADS; k++)
            threads[k] = thread_start("sender", run_sender, &c);
        for (unsigned k = 0; k < THREADS; k++)
            pthread_join(threads[k], NULL);
        assert_int_equal(c.admitted, c.limits[0].windows[0].count);
        throttle_free(c.throttle);
    }
}

/* A decision about a new subject and an idle one, in a full table: the new one must not be given
 * the place of the other, which the decision holds. */
static void a_decision_keeps_what_it_holds(void **state)
{
    (void)state;
    static const struct limit_set lasts = {.windows = {{10, 3600000}}, .windows_count = 1};
    static const struct limit_set ends = {.windows = {{20, 1}}, .windows_count = 1};
    struct throttle *t = make(64);
    uint64_t now = START;
    unsigned held = 0, given = 0;
    for (unsigned i = 0; i < 63; i++)
        decide(t, i, &lasts, 1, now);
    for (unsigned round = 0; round < 20000; round++) {
        struct throttle_ask asks[2] = {ask_of(2000000 + round, &ends),
                                       ask_of(1000000 + round, &ends)};
        struct throttle_verdict v;
        decide(t, 1000000 + round, &ends, 1, now);
        assert_int_equal(throttle_stats(t).subjects, 64);
        now += 5 * NS_PER_MS; /* its window is empty, its place not yet given back */
        throttle_decide(t, asks, 2, 1, now, &v);
        uint32_t of_new = throttle_used(t, &asks[0], 0, now);
        uint32_t of_idle = throttle_used(t, &asks[1], 0, now);
        assert_int_equal(of_new + of_idle, 1); /* there is one place */
        held += of_idle;
        given += of_new;
        throttle_clear(t, asks[0].subject);
        throttle_clear(t, asks[1].subject);
    }
    assert_true(held > 1000 && given > 1000);
    throttle_free(t);
}

/* A table of 64 places, in which nearly every decision has to remove somebody else's subject while
 * it holds its own, alone and in batches, from four threads: each subject that is held stays whole.
 * A window that never empties is asked for in each decision and so must admit exactly its count;
 * the others empty within a millisecond. */
struct crush {
    struct throttle *throttle;
    _Atomic uint64_t now_ns;
    _Atomic unsigned number, admitted, wrong;
};

static const struct limit_set lasting = {
    .windows = {{120, 3600000}, {5000, 3600000}}, .windows_count = 2, .count_accepted = true};
static const struct limit_set brief = {
    .windows = {{20, 1}, {500, 1, LIMIT_BYTES}}, .windows_count = 2, .count_accepted = true};

static void crush_once(struct crush *c, struct rand *r, uint64_t now)
{
    struct throttle_ask asks[8][4];
    struct throttle_job jobs[8];
    unsigned n = 1 + (unsigned)rand_below(r, 8);
    for (unsigned i = 0; i < n; i++) {
        asks[i][0] = ask_of(rand_below(r, 4) ? 1 : 2, &lasting);
        for (unsigned k = 1; k < 4; k++) {
            asks[i][k] = ask_of(10 + rand_below(r, 2000), &brief);
            asks[i][k].bytes = 1;
        }
        jobs[i] = (struct throttle_job){asks[i], 1 + (unsigned)rand_below(r, 4), 1, {0}};
    }
    throttle_decide_batch(c->throttle, jobs, n, now);
    for (unsigned i = 0; i < n; i++) {
        const struct throttle_verdict *v = &jobs[i].verdict;
        c->admitted += v->allow;
        /* Of a subject that was taken from under a decision these could be anything. A brief one
         * may have found no place, and clocks differ a little. */
        bool lasts = v->ask == 0 && v->limit == 120;
        bool briefly = v->ask > 0 && v->limit == (v->bytes ? 500 : 20);
        c->wrong += !(lasts || briefly) || v->remaining > v->limit || v->ask >= jobs[i].count ||
                    v->retry_ns > 3601 * NS_PER_S || v->allow != (v->retry_ns == 0);
    }
}

static void run_crush(void *arg)
{
    struct crush *c = arg;
    struct rand r = {100 + c->number++};
    for (unsigned k = 0; k < 20000; k++) {
        uint64_t now = START + atomic_fetch_add(&c->now_ns, 50 * NS_PER_US);
        crush_once(c, &r, now);
        struct throttle_subject some = {THROTTLE_ACCOUNT, 10 + rand_below(&r, 2000)};
        if (k % 3 == 0)
            throttle_clear(c->throttle, some);
        throttle_prefetch(c->throttle, some, (enum throttle_part)(k % 3));
    }
}

static void eviction_beside_decisions(void **state)
{
    (void)state;
    struct crush c = {.throttle = make(64)};
    pthread_t threads[THREADS];
    for (unsigned k = 0; k < THREADS; k++)
        threads[k] = thread_start("crush", run_crush, &c);
    for (unsigned k = 0; k < THREADS; k++)
        pthread_join(threads[k], NULL);
    assert_int_equal(c.wrong, 0);
    /* Both windows are full, though a thousand subjects a second came and went beside them. */
    assert_int_equal(c.admitted, 2 * 120);
    struct throttle_ask ask = ask_of(1, &lasting);
    assert_int_equal(throttle_used(c.throttle, &ask, 0, START + c.now_ns), 120);
    assert_true(throttle_stats(c.throttle).subjects <= 64);
    throttle_free(c.throttle);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equals_brute_force),
        cmocka_unit_test(long_windows),
        cmocka_unit_test(edge_bursts),
        cmocka_unit_test(retry_is_true),
        cmocka_unit_test(counted_client_at_a_higher_rate),
        cmocka_unit_test(verdict_tells),
        cmocka_unit_test(all_or_none),
        cmocka_unit_test(plan_changes),
        cmocka_unit_test(full_table_keeps_who_blocks),
        cmocka_unit_test(failing_credentials_have_a_part),
        cmocka_unit_test(memory_is_bounded_and_given_back),
        cmocka_unit_test(clock_behind_the_table),
        cmocka_unit_test(buckets_keep_twice_the_count),
        cmocka_unit_test(a_token_bucket_bursts_and_a_leaky_one_paces),
        cmocka_unit_test(bytes_are_counted),
        cmocka_unit_test(a_shadow_refuses_nothing),
        cmocka_unit_test(batch_equals_single),
        cmocka_unit_test(threads_share_a_window),
        cmocka_unit_test(a_decision_keeps_what_it_holds),
        cmocka_unit_test(eviction_beside_decisions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
