/* SPDX-License-Identifier: Apache-2.0 */
#include "gate/shares.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/metric.h"
#include "base/rand.h"
#include "flow/limit.h"

#define DEVICES 24u
#define START   (1000 * NS_PER_S)

/* One account with its devices, asked as the pipeline asks. */
struct world {
    struct throttle *throttle;
    struct shares *shares;
    struct account *account;
    struct account_live account_live;
    struct credential devices[DEVICES];
    struct credential_live lives[DEVICES];
    unsigned allowed[DEVICES], refused[DEVICES];
    uint64_t bytes[DEVICES]; /* of what was allowed */
    uint64_t retry_ns;       /* of the last refusal */
};

static struct world *world_new(const char *limits)
{
    struct world *w = calloc(1, sizeof *w);
    struct error err;
    w->throttle =
        throttle_new(&(struct throttle_opts){.subjects_max = 10000, .memory_max = 16 << 20});
    w->shares = shares_new(w->throttle);
    w->account = account_new(0);
    w->account->number = 1;
    w->account->live = &w->account_live;
    assert_int_equal(limit_set_parse(slice_str(limits), &w->account->limits, &err), 0);
    for (unsigned i = 0; i < DEVICES; i++) {
        w->devices[i].number = i + 1;
        w->devices[i].account = w->account;
        w->devices[i].live = &w->lives[i];
    }
    return w;
}

static void world_free(struct world *w)
{
    shares_free(w->shares);
    throttle_free(w->throttle);
    account_unref(w->account);
    free(w);
}

static bool ask_bytes(struct world *w, unsigned device, uint32_t cost, uint32_t bytes, uint64_t now)
{
    struct throttle_ask asks[] = {{{THROTTLE_ACCOUNT, 1}, &w->account->limits, bytes}};
    const struct credential *c = &w->devices[device];
    bool sharing = shares_matter(w->account, shares_manual(w->shares), now);
    struct share_verdict share;
    struct throttle_verdict v;
    if (sharing && !shares_ask(w->shares, w->account, c, cost, bytes, now, &share)) {
        w->retry_ns = share.retry_ns;
        w->refused[device]++;
        return false;
    }
    struct limit_set accepted = w->account->limits;
    accepted.count_accepted = true;
    if (sharing && share.several)
        asks[0].limits = &accepted;
    throttle_decide(w->throttle, asks, 1, cost, now, &v);
    shares_note(w->account, &v, now);
    if (v.allow) {
        if (sharing)
            shares_allowed(w->shares, w->account, c, cost, bytes, now);
        w->allowed[device]++;
        w->bytes[device] += bytes;
        return true;
    }
    w->retry_ns = sharing ? shares_appointment_ns(w->account, &v, now) : v.retry_ns;
    w->refused[device]++;
    return false;
}

static bool ask(struct world *w, unsigned device, uint32_t cost, uint64_t now)
{
    return ask_bytes(w, device, cost, 0, now);
}

struct sender {
    uint64_t next_ns, every_ns;
    uint32_t bytes;
};

/* Lets everybody send until `until`, in order of time. */
static void run(struct world *w, struct sender *senders, unsigned n, uint64_t until)
{
    for (;;) {
        unsigned first = 0;
        for (unsigned i = 1; i < n; i++)
            if (senders[i].next_ns < senders[first].next_ns)
                first = i;
        if (senders[first].next_ns >= until)
            return;
        ask_bytes(w, first, 1, senders[first].bytes, senders[first].next_ns);
        senders[first].next_ns += senders[first].every_ns;
    }
}

/* One of twenty sends a hundred times its share for ten minutes. */
static void one_of_twenty_runs_away(const char *limits, uint64_t window_ns, unsigned share)
{
    struct world *w = world_new(limits);
    struct sender senders[20];
    struct rand r = {7};
    for (unsigned i = 0; i < 20; i++) {
        senders[i].every_ns = window_ns / share / NS_PER_US * NS_PER_US;
        senders[i].next_ns = START + rand_below(&r, senders[i].every_ns) / NS_PER_US * NS_PER_US;
    }
    run(w, senders, 20, START + 2 * window_ns);
    for (unsigned i = 0; i < 20; i++)
        assert_int_equal(w->refused[i], 0);
    senders[19].every_ns /= 100;
    uint64_t stop = START + 2 * window_ns + 600 * NS_PER_S;
    run(w, senders, 20, stop);
    for (unsigned i = 0; i < 19; i++)
        assert_int_equal(w->refused[i], 0);
    assert_true(w->refused[19] > w->allowed[19] * 5);
    struct quarantined q[2];
    assert_int_equal(shares_list(w->shares, q, 2, stop), 1);
    assert_int_equal(q[0].credential, 20);
    assert_true(!q[0].manual && q[0].refused > 100 && q[0].active == 20);
    /* It stops; the others go on; within one window it is free. */
    run(w, senders, 19, stop + window_ns);
    assert_true(ask(w, 19, 1, stop + window_ns));
    assert_int_equal(shares_list(w->shares, q, 2, stop + 2 * window_ns), 0);
    run(w, senders, 19, stop + 3 * window_ns);
    for (unsigned i = 0; i < 19; i++)
        assert_int_equal(w->refused[i], 0);
    world_free(w);
}

static void nineteen_keep_theirs(void **state)
{
    (void)state;
    one_of_twenty_runs_away("60/60s", 60 * NS_PER_S, 3);
    one_of_twenty_runs_away("100/10s", 10 * NS_PER_S, 5);
    one_of_twenty_runs_away("20/1s", NS_PER_S, 1);
    one_of_twenty_runs_away("60/60s, accepted", 60 * NS_PER_S, 3);
    /* Large windows are histograms, which count a part of what has left: a little below the share.
     */
    one_of_twenty_runs_away("6000/60s", 60 * NS_PER_S, 280);
    one_of_twenty_runs_away("5000/50s, 200/1s", 50 * NS_PER_S, 230);
}

/* The same of bytes: the one sends as often as the others, but a hundred times as much. */
static void nineteen_keep_their_bytes(void **state)
{
    (void)state;
    static const char *const limits[] = {"60000B/60s", "1000000/60s, 60000B/60s",
                                         "60000B/60s, accepted"};
    for (unsigned k = 0; k < 3; k++) {
        struct world *w = world_new(limits[k]);
        struct sender senders[20];
        struct rand r = {7};
        for (unsigned i = 0; i < 20; i++)
            senders[i] = (struct sender){.next_ns = START + rand_below(&r, 2000) * NS_PER_MS,
                                         .every_ns = 2 * NS_PER_S,
                                         .bytes = 80}; /* 2,400 of a share of 3,000 */
        run(w, senders, 20, START + 120 * NS_PER_S);
        for (unsigned i = 0; i < 20; i++)
            assert_int_equal(w->refused[i], 0);
        senders[19].bytes = 8000;
        uint64_t stop = START + 720 * NS_PER_S;
        run(w, senders, 20, stop);
        for (unsigned i = 0; i < 19; i++)
            assert_int_equal(w->refused[i], 0);
        assert_true(w->refused[19] > w->allowed[19]);
        struct quarantined q[2];
        assert_int_equal(shares_list(w->shares, q, 2, stop), 1);
        assert_int_equal(q[0].credential, 20);
        /* It goes back to what it sent before; within one window (and the histogram's bucket) it is
         * free. */
        run(w, senders, 19, stop + 62 * NS_PER_S);
        assert_true(ask_bytes(w, 19, 1, 80, stop + 62 * NS_PER_S));
        world_free(w);
    }
}

/* Never more bytes than the limit in any window, whoever sends them and however much at a time. */
static void the_account_s_bytes_hold(void **state)
{
    (void)state;
    struct rand r = {41};
    for (unsigned round = 0; round < 10; round++) {
        struct world *w = world_new(round % 2 ? "40/5s, 20000B/5s" : "20000B/5s, accepted");
        unsigned len = 0, from = 0, most = 0;
        uint64_t *stamps = calloc(100000, sizeof *stamps), now = START, sum = 0;
        uint32_t *sizes = calloc(100000, sizeof *sizes);
        for (unsigned i = 0; i < 100000; i++) {
            now += rand_below(&r, rand_below(&r, 50) ? 30 * NS_PER_MS : 2 * NS_PER_S);
            unsigned device = (unsigned)rand_below(&r, 1 + rand_below(&r, DEVICES));
            uint32_t bytes = (uint32_t)rand_below(&r, rand_below(&r, 9) ? 300 : 4000);
            if (!ask_bytes(w, device, 1, bytes, now))
                continue;
            stamps[len] = now;
            sizes[len++] = bytes;
            for (sum += bytes; stamps[from] + 5 * NS_PER_S <= now; from++)
                sum -= sizes[from];
            assert_true(sum <= 20000);
            most = sum > most ? (unsigned)sum : most;
        }
        assert_true(len > 1000 && (round % 2 || most > 18000));
        free(stamps);
        free(sizes);
        world_free(w);
    }
}

/* What others do not use is there for whoever wants it. */
static void spare_room_is_used(void **state)
{
    (void)state;
    struct world *w = world_new("80/10s");
    struct sender senders[5];
    for (unsigned i = 0; i < 5; i++)
        senders[i] = (struct sender){START + i * NS_PER_MS, i < 4 ? 2 * NS_PER_S : NS_PER_S / 4};
    run(w, senders, 5, START + 60 * NS_PER_S);
    for (unsigned i = 0; i < 5; i++)
        assert_int_equal(w->refused[i], 0); /* four times 5 and 40: the share of five would be 16 */
    assert_int_equal(w->allowed[4], 240);
    world_free(w);
}

/* A device alone has all of it, whatever it sends. */
static void alone_it_has_all(void **state)
{
    (void)state;
    struct world *w = world_new("60/60s");
    for (unsigned i = 0; i < 60; i++)
        assert_true(ask(w, 0, 1, START + i * NS_PER_MS));
    assert_false(ask(w, 0, 1, START + NS_PER_S));
    assert_true(ask(w, 0, 1, START + 62 * NS_PER_S));
    world_free(w);
}

/* Never more than N in W, whatever shares do. */
static void the_account_s_window_holds(void **state)
{
    (void)state;
    struct rand r = {99};
    for (unsigned round = 0; round < 20; round++) {
        struct world *w = world_new(round % 2 ? "40/5s" : "300/5s");
        uint32_t n = w->account->limits.windows[0].count, len = 0, from = 0;
        uint64_t *stamps = calloc(200000, sizeof *stamps), now = START;
        for (unsigned i = 0; i < 200000; i++) {
            now += rand_below(&r, rand_below(&r, 50) ? 3 * NS_PER_MS : 2 * NS_PER_S);
            unsigned device = (unsigned)rand_below(&r, 1 + rand_below(&r, DEVICES));
            if (!ask(w, device, 1, now))
                continue;
            stamps[len++] = now;
            while (stamps[from] + 5 * NS_PER_S <= now)
                from++;
            assert_true(len - from <= n);
        }
        assert_true(len > 1000);
        free(stamps);
        world_free(w);
    }
}

/* Everybody who was refused comes back when told, and not together. */
static void releases_are_no_stampede(void **state)
{
    (void)state;
    struct world *w = world_new("60/60s");
    uint64_t told[20], now = START;
    for (unsigned i = 0; i < 60; i++)
        ask(w, i % 20, 1, now += NS_PER_S / 4);
    for (unsigned i = 0; i < 20; i++) {
        now += NS_PER_MS;
        assert_false(ask(w, i, 1, now));
        told[i] = now + w->retry_ns;
    }
    for (unsigned i = 1; i < 20; i++)
        assert_true(told[i] >= told[i - 1]);
    assert_true(told[19] - told[0] > 10 * NS_PER_S);
    unsigned served = 0;
    for (unsigned i = 0; i < 20; i++)
        served += ask(w, i, 1, told[i]);
    assert_int_equal(served, 20);
    world_free(w);
}

static void by_hand(void **state)
{
    (void)state;
    struct world *w = world_new("60/60s");
    struct quarantined q[4];
    uint64_t now = clock_mono_ns();
    assert_true(ask(w, 0, 1, now));
    assert_true(shares_quarantine(w->shares, 1, 1, UINT64_MAX));
    assert_false(ask(w, 0, 1, now));
    assert_true(ask(w, 1, 1, now));
    assert_int_equal(shares_list(w->shares, q, 4, now), 1);
    assert_true(q[0].manual && q[0].credential == 1 && q[0].account == 1 && q[0].refused == 1);
    assert_true(shares_release(w->shares, 1, now));
    assert_false(shares_release(w->shares, 1, now));
    assert_true(ask(w, 0, 1, now));
    assert_true(shares_quarantine(w->shares, 1, 1, now + 5 * NS_PER_S));
    assert_false(ask(w, 0, 1, now + NS_PER_S));
    assert_int_equal(w->retry_ns, 4 * NS_PER_S);
    assert_true(ask(w, 0, 1, now + 5 * NS_PER_S));
    assert_int_equal(*shares_manual(w->shares), 0);
    /* The table has a maximum, and entries that move find their place. */
    unsigned in = 0;
    for (unsigned i = 0; i < 2 * QUARANTINED_MAX; i++)
        in += shares_quarantine(w->shares, 1, 1000 + i, UINT64_MAX);
    assert_int_equal(in, QUARANTINED_MAX);
    for (unsigned i = 0; i < QUARANTINED_MAX; i += 2)
        assert_true(shares_release(w->shares, 1000 + i, now));
    for (unsigned i = 0; i < QUARANTINED_MAX; i++)
        assert_int_equal(shares_release(w->shares, 1000 + i, now), i % 2);
    assert_int_equal(*shares_manual(w->shares), 0);
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nineteen_keep_theirs),      cmocka_unit_test(spare_room_is_used),
        cmocka_unit_test(nineteen_keep_their_bytes), cmocka_unit_test(the_account_s_bytes_hold),
        cmocka_unit_test(alone_it_has_all),          cmocka_unit_test(the_account_s_window_holds),
        cmocka_unit_test(releases_are_no_stampede),  cmocka_unit_test(by_hand),
    };
    log_set_level(LOG_ERROR); /* each quarantine is worth a line, and here are thousands */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
