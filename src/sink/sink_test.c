/* SPDX-License-Identifier: Apache-2.0 */
#include "sink/sink_testing.h"

/* Nothing is lost, whatever fails and wherever it is killed; nothing is there twice if the target
 * keeps the cursor; what is poisoned is a dead letter, and nothing else is. */
static void schedule(bool transactional, bool judges, uint64_t seed)
{
    struct bench *b = bench_new(transactional, seed);
    struct target *t = &b->target;
    t->judges = judges;
    struct rand r = {seed * 77};
    for (unsigned i = 0; i < RECORDS_MAX; i++)
        t->poison[i] = rand_below(&r, 60) == 0;
    for (unsigned round = 0; round < 12; round++) {
        t->open_fails = (unsigned)rand_below(&r, 40);
        t->send_fails = (unsigned)rand_below(&r, 30);
        t->unknown = (unsigned)rand_below(&r, 30);
        t->hangs = (unsigned)rand_below(&r, 10);
        t->away = rand_below(&r, 8) == 0;
        for (unsigned i = 0; i < 6; i++) {
            append(b, 1 + (unsigned)rand_below(&r, 30));
            for (uint64_t n = rand_below(&r, 12); n; n--)
                turn(b);
        }
        if (rand_below(&r, 2))
            crash(b, rand_below(&r, 2));
    }
    no_faults(t);
    arrive(b);
    for (uint64_t i = 0; i < b->records; i++) {
        assert_int_equal(is_dead(b, i), t->poison[i]);
        if (t->poison[i])
            assert_int_equal(t->seen[i], 0);
        else if (transactional)
            assert_int_equal(t->seen[i], 1);
        else
            assert_true(t->seen[i] >= 1);
    }
    assert_false(t->disordered);
    bench_free(b);
}

static void transactional_targets_get_each_once(void **state)
{
    for (uint64_t seed = 1; seed <= 60; seed++)
        schedule(true, false, seed);
}

static void other_targets_get_each_at_least_once(void **state)
{
    for (uint64_t seed = 1; seed <= 60; seed++)
        schedule(false, seed % 2, seed);
}

/* A target that cannot take a whole batch in its time gets all of it nevertheless. */
static void what_takes_too_long_comes_in_slices(void **state)
{
    struct bench *b = bench_new(true, 5);
    struct target *t = &b->target;
    b->opts.batch_count = RECORDS_MAX;
    b->opts.batch_bytes = 1 << 20;
    crash(b, false);
    t->most = SLICE_MIN + 200;
    for (unsigned i = 0; i < 20; i++)
        append(b, 100);
    arrive(b);
    assert_true(t->sends <= 4);
    t->most = 0;
    unsigned was = b->s->slice_max;
    for (unsigned i = 0; i < 19; i++)
        append(b, 100);
    arrive(b);
    assert_true(b->s->slice_max > was);
    for (uint64_t i = 0; i < b->records; i++)
        assert_int_equal(t->seen[i], 1);
    bench_free(b);
}

/* One of 256 is found with two attempts for each halving. */
static void poison_is_found_by_halving(void **state)
{
    struct bench *b = bench_new(true, 3);
    b->s->opts.batch_count = 16;
    append(b, 16);
    b->target.poison[11] = true;
    arrive(b);
    assert_true(is_dead(b, 11));
    assert_in_range(b->target.sends, 5, 12);
    assert_int_equal(sink_stats(b->s).dead, 1);
    assert_int_equal(sink_stats(b->s).delivered, 15);
    bench_free(b);
}

/* Many of them cost no attempt more, and what was taken or buried is not sent again after a
 * failure. */
static void verdicts_need_no_halving(void **state)
{
    struct bench *b = bench_new(false, 13);
    b->target.judges = true;
    for (unsigned i = 0; i < 64; i += 3)
        b->target.poison[i] = true;
    append(b, 64);
    arrive(b);
    assert_int_equal(b->target.sends, 4);
    b->target.unknown = 80;
    append(b, 200);
    arrive(b);
    struct sink_stats s = sink_stats(b->s);
    assert_true(s.failures > 0);
    assert_int_equal(s.dead, 22);
    assert_int_equal(s.delivered, 264 - 22);
    for (unsigned i = 0; i < 264; i++)
        assert_int_equal(b->target.seen[i], !b->target.poison[i]);
    bench_free(b);
}

/* Also where the dead letters are full: only the one for which there is no room is sent again. */
static void verdicts_outlast_full_dead_letters(void **state)
{
    struct bench *b = bench_new(false, 14);
    sink_destroy(b->s);
    b->opts.dead_bytes = 400;
    struct error err = {""};
    assert_int_equal(make(&b->opts, &b->s, &err), 0);
    b->target.judges = true;
    for (unsigned i = 0; i < 40; i++)
        b->target.poison[i] = i % 2;
    append(b, 40);
    for (unsigned i = 0; i < 200; i++)
        turn(b);
    assert_int_equal(sink_stats(b->s).state, SINK_STUCK);
    assert_true(sink_stats(b->s).lag > 20);
    for (unsigned i = 0; i < 40; i++)
        b->target.poison[i] = false;
    arrive(b);
    for (unsigned i = 0; i < 40; i++)
        assert_true(b->target.seen[i] == !is_dead(b, i));
    bench_free(b);
}

static void an_idle_connection_is_tended(void **state)
{
    struct bench *b = bench_new(false, 15);
    for (unsigned i = 0; i < 60; i++)
        turn(b);
    assert_in_range(b->target.tended, 8, 13); /* in 12 s */
    b->target.away = true;
    for (unsigned i = 0; i < 20; i++)
        turn(b);
    assert_int_equal(sink_stats(b->s).state, SINK_FAILING);
    b->target.away = false;
    for (unsigned i = 0; i < 400; i++)
        turn(b);
    struct sink_stats s = sink_stats(b->s);
    assert_int_equal(s.state, SINK_RUNNING); /* though there is nothing to be sent */
    assert_int_equal(s.breaker, BREAKER_CLOSED);
    assert_string_equal(s.error, "");
    append(b, 1);
    arrive(b);
    bench_free(b);
}

static void a_target_that_is_away_only_makes_it_lag(void **state)
{
    struct bench *b = bench_new(true, 4);
    b->target.away = true;
    append(b, 40);
    for (unsigned i = 0; i < 60; i++)
        turn(b);
    struct sink_stats s = sink_stats(b->s);
    assert_int_equal(s.state, SINK_FAILING);
    assert_int_equal(s.breaker, BREAKER_OPEN);
    assert_int_equal(s.lag, 40);
    assert_true(s.lag_us > 0 && s.lag_bytes > 40 * 40);
    assert_string_equal(s.error, "no connection");
    assert_true(b->target.opens < 12); /* in about a minute */
    b->target.away = false;
    arrive(b);
    turn(b);
    s = sink_stats(b->s);
    assert_int_equal(s.state, SINK_RUNNING);
    assert_int_equal(s.breaker, BREAKER_CLOSED);
    assert_int_equal(s.lag, 0);
    assert_int_equal(s.delivered, 40);
    assert_string_equal(s.error, "");
    bench_free(b);
}

/* Dead letters that are full stop it, and that is said; once there is room it goes on. */
static void full_dead_letters_stop_it(void **state)
{
    struct bench *b = bench_new(true, 5);
    sink_destroy(b->s);
    b->opts.dead_bytes = 400;
    struct error err = {""};
    assert_int_equal(make(&b->opts, &b->s, &err), 0);
    for (unsigned i = 0; i < 40; i++)
        b->target.poison[i] = i % 2;
    append(b, 40);
    for (unsigned i = 0; i < 400; i++)
        turn(b);
    struct sink_stats s = sink_stats(b->s);
    assert_int_equal(s.state, SINK_STUCK);
    assert_true(s.dead_letters >= 1 && s.dead_letters < 8);
    assert_non_null(strstr(s.error, "dead letters are full"));
    assert_true(s.lag > 20);
    for (unsigned i = 0; i < 40; i++) /* somebody looks after it */
        b->target.poison[i] = false;
    arrive(b);
    turn(b);
    assert_int_equal(sink_stats(b->s).state, SINK_RUNNING);
    bench_free(b);
}

/* It holds the journal up, but only so much of it. */
static void it_holds_back_only_so_much(void **state)
{
    for (unsigned transactional = 0; transactional < 2; transactional++) {
        struct bench *b = bench_new(transactional, 6);
        sink_destroy(b->s);
        fixture_die(b->f, false);
        b->f->opts.retain_bytes = 65536;
        b->opts.hold_bytes = 4 * 65536;
        bench_open(b);
        append(b, 20);
        arrive(b);
        b->target.away = true;
        while (journal_hold_from(b->f->j, b->opts.hold_bytes) < 500) {
            append_large(b, 20, 800);
            turn(b);
            keeper_look(b->f->j);
            assert_true(journal_stats(b->f->j).disk_bytes <= 7 * 65536);
        }
        struct sink_stats s = sink_stats(b->s);
        assert_true(s.given_up > 0 && s.gaps > 0);
        crash(b, true); /* what was given up was told; it is not found again as something new */
        b->target.away = false;
        arrive(b);
        uint64_t lost = 0;
        for (uint64_t i = 0; i < b->records; i++)
            lost += b->target.seen[i] == 0;
        assert_in_range(lost, 1, s.given_up);
        assert_int_equal(b->target.seen[b->records - 1], 1);
        bench_free(b);
    }
}

static void a_pause_outlives_a_restart(void **state)
{
    struct bench *b = bench_new(true, 7);
    assert_int_equal(sink_pause(b->s, true), 0);
    append(b, 10);
    for (unsigned i = 0; i < 10; i++)
        turn(b);
    crash(b, true);
    for (unsigned i = 0; i < 10; i++)
        turn(b);
    assert_int_equal(b->target.sends, 0);
    assert_int_equal(sink_stats(b->s).state, SINK_PAUSED);
    assert_int_equal(sink_stats(b->s).lag, 10);
    assert_int_equal(sink_pause(b->s, false), 0);
    assert_int_equal(sink_pause(b->s, false), 0);
    arrive(b);
    crash(b, true);
    append(b, 1);
    arrive(b);
    assert_int_equal(b->target.seen[10], 1);
    bench_free(b);
}

/* Who wants no more gets none, also after a restart, until somebody says otherwise. */
static void a_target_that_is_gone_disables_it(void **state)
{
    struct bench *b = bench_new(false, 7);
    b->target.gone = true;
    append(b, 10);
    for (unsigned i = 0; i < 10; i++)
        turn(b);
    assert_int_equal(b->target.sends, 1);
    for (unsigned restart = 0; restart < 2; restart++) {
        struct sink_stats s = sink_stats(b->s);
        assert_int_equal(s.state, SINK_DISABLED);
        assert_string_equal(s.error, "HTTP 410");
        assert_int_equal(s.lag, 10);
        crash(b, true);
        for (unsigned i = 0; i < 10; i++)
            turn(b);
    }
    assert_int_equal(b->target.sends, 1);
    assert_int_equal(sink_pause(b->s, true), 0); /* then it is no longer the target's word */
    assert_int_equal(sink_stats(b->s).state, SINK_PAUSED);
    b->target.gone = false;
    assert_int_equal(sink_pause(b->s, false), 0);
    arrive(b);
    turn(b);
    assert_int_equal(sink_stats(b->s).state, SINK_RUNNING);
    assert_string_equal(sink_stats(b->s).error, "");
    assert_int_equal(b->target.seen[9], 1);
    bench_free(b);
}

/* A target that asks for an hour gets it, though the longest pause of ours is 10 s; who resumes the
 * sink by hand need not wait. */
static void a_target_is_left_alone_as_it_asks(void **state)
{
    struct bench *b = bench_new(false, 7);
    append(b, 10);
    b->target.send_fails = 100;
    b->target.asks_ns = 3600 * NS_PER_S;
    while (b->target.sends == 0)
        turn(b);
    uint64_t begun = clock_mono_ns();
    while (b->target.sends == 1)
        turn(b);
    assert_in_range(clock_mono_ns() - begun, 3599 * NS_PER_S, 3602 * NS_PER_S);
    no_faults(&b->target);
    begun = clock_mono_ns();
    assert_int_equal(sink_pause(b->s, true), 0);
    assert_int_equal(sink_pause(b->s, false), 0);
    arrive(b);
    assert_true(clock_mono_ns() - begun < NS_PER_S);
    bench_free(b);
}

static void a_replay_goes_behind_what_is_live(void **state)
{
    struct bench *b = bench_new(true, 8);
    append(b, 100);
    arrive(b);
    memset(b->target.seen + 20, 0, 40); /* somebody deleted them */
    append(b, 16);
    assert_int_equal(sink_replay(b->s, 20, 60), 0);
    assert_int_equal(sink_replay(b->s, 20, 60), -EBUSY);
    turn(b);
    assert_int_equal(sink_stats(b->s).replay_from, 20); /* though nothing went yet */
    assert_int_equal(b->target.next, 116);
    assert_int_equal(b->target.sent_again, 0);
    b->target.send_fails = 50;
    for (unsigned i = 0; i < 1000 && b->s->replaying; i++)
        turn(b);
    assert_false(b->s->replaying);
    assert_int_equal(b->target.sent_again, 40);
    for (unsigned i = 0; i < 116; i++)
        assert_int_equal(b->target.seen[i], 1);
    assert_int_equal(b->target.next, 116);
    no_faults(&b->target);
    append(b, 3);
    arrive(b);
    assert_int_equal(sink_replay(b->s, 5, 5), 0); /* nothing */
    assert_false(b->s->replaying);
    bench_free(b);
}

static void only_what_is_selected_comes(void **state)
{
    static const struct {
        const char *accounts, *feeds;
        unsigned of_ten;
    } cases[] = {{"", "", 10},      {"a3, a4", "", 2},       {"a*", "trucks.*", 10},
                 {"", "trucks", 0}, {"", "x,trucks.17", 10}, {"a1", "y*", 0}};
    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct bench *b = bench_new(true, 9);
        b->s->opts.accounts = cases[i].accounts;
        b->s->opts.feeds = cases[i].feeds;
        append(b, 100);
        arrive(b);
        assert_int_equal(sink_stats(b->s).delivered, 10 * cases[i].of_ten);
        assert_int_equal(b->target.next, 100);
        bench_free(b);
    }
}

/* A target with a cursor that went back, as from a backup, is given again what it lost; one that is
 * ahead of the journal was fed from another one. */
static void it_goes_where_the_target_is(void **state)
{
    struct bench *b = bench_new(true, 10);
    append(b, 100);
    arrive(b);
    memset(b->target.seen + 30, 0, 70);
    b->target.next = 30;
    append(b, 1);
    arrive(b);
    for (unsigned i = 0; i < 101; i++)
        assert_int_equal(b->target.seen[i], 1);
    b->target.next = 1000;
    append(b, 1);
    for (unsigned i = 0; i < 20; i++)
        turn(b);
    assert_int_equal(sink_stats(b->s).state, SINK_FAILING);
    assert_non_null(strstr(sink_stats(b->s).error, "fed from another one"));
    b->target.next = 101;
    arrive(b);
    assert_int_equal(b->target.seen[101], 1);
    bench_free(b);
}

static void who_is_forgotten_holds_nothing_back(void **state)
{
    struct bench *b = bench_new(true, 11);
    append(b, 10);
    arrive(b);
    sink_destroy(b->s);
    b->s = NULL;
    assert_int_equal(sink_forget(b->f->j, "fake"), 0);
    assert_int_equal(sink_forget(b->f->j, "fake"), 0);
    fixture_die(b->f, true);
    assert_int_equal(fixture_open(b->f), 0);
    assert_int_equal(cursors_min(&b->f->j->cursors), UINT64_MAX);
    bench_free(b);
}

/* With its own thread and the machine's clock: dead letters are tried again on request, and a stop
 * does not wait. */
/* ---- who waits ------------------------------------------------------------------------------- */

static void on_moved(void *arg)
{
    struct bench *b = arg;
    b->moves++;
}

static struct bench *bench_waiting(bool transactional, uint64_t seed, const char *accounts)
{
    struct bench *b = bench_new(transactional, seed);
    sink_destroy(b->s);
    b->opts.moved = on_moved;
    b->opts.moved_arg = b;
    b->opts.accounts = accounts;
    b->opts.linger_ns = 10 * NS_PER_S;
    struct error err = {""};
    assert_int_equal(make(&b->opts, &b->s, &err), 0);
    return b;
}

/* A batch waits for more as long as nobody waits for it. */
static void who_waits_is_not_kept_waiting(void **state)
{
    struct bench *b = bench_waiting(true, 20, "");
    turn(b); /* it connects */
    append(b, 1);
    uint64_t begun = clock_mono_ns();
    arrive(b);
    assert_true(clock_mono_ns() - begun >= 10 * NS_PER_S);
    assert_int_equal(b->moves, 0); /* nobody asked to be told */
    sink_waiters(b->s, 1);
    for (unsigned i = 0; i < 5; i++) {
        append(b, 3);
        begun = clock_mono_ns();
        arrive(b);
        assert_true(clock_mono_ns() - begun < NS_PER_S);
        assert_int_equal(b->moves, i + 1);
    }
    sink_waiters(b->s, -1);
    append(b, 1);
    begun = clock_mono_ns();
    arrive(b);
    assert_true(clock_mono_ns() - begun >= 10 * NS_PER_S);
    assert_int_equal(b->moves, 5);
    bench_free(b);
}

/* Nor by messages that are not meant for this sink: its cursor is moved over them. */
static void who_waits_in_vain_is_told_soon(void **state)
{
    struct bench *b = bench_waiting(true, 21, "a1,a2"); /* offset n is account n + 1's, mod 10 */
    turn(b);
    sink_waiters(b->s, 1);
    append(b, 1);
    arrive(b);
    append(b, 6);
    uint64_t begun = clock_mono_ns();
    arrive(b);
    assert_true(clock_mono_ns() - begun < NS_PER_S);
    uint32_t delivered;
    for (uint64_t i = 0; i < 7; i++)
        assert_int_equal(sink_fate(b->s, i, 1, &delivered),
                         i < 2 ? FATE_DELIVERED : FATE_NOT_SELECTED);
    assert_int_equal(sink_fate(b->s, 0, 7, &delivered), FATE_NOT_SELECTED);
    assert_int_equal(delivered, 2);
    bench_free(b);
}

static void a_dead_letter_is_not_delivered_until_it_is(void **state)
{
    struct bench *b = bench_waiting(false, 22, "");
    b->opts.linger_ns = 0;
    sink_waiters(b->s, 1);
    b->target.poison[3] = true;
    append(b, 8);
    arrive(b);
    uint32_t delivered;
    assert_int_equal(sink_fate(b->s, 0, 8, &delivered), FATE_FAILED);
    assert_int_equal(delivered, 7);
    b->target.poison[3] = false;
    b->s->retry_at = 0;
    b->s->retry_last = UINT64_MAX;
    retry_dead(b->s);
    assert_int_equal(sink_fate(b->s, 0, 8, &delivered), FATE_DELIVERED);
    assert_int_equal(delivered, 8);
    bench_free(b);
}

static void ask_for_all(struct sink *s)
{
    s->retry_asked = true;
    s->retry_at = 0;
    s->retry_last = UINT64_MAX;
}

/* Many letters that are tried again hold up neither what comes live, nor a pause, nor a stop. */
static void letters_go_in_turns_with_what_is_live(void **state)
{
    struct bench *b = bench_new(true, 24);
    unsigned turns = 0;
    for (unsigned i = 0; i < 200; i++)
        b->target.poison[i] = true;
    append(b, 200);
    arrive(b);
    append(b, 16);
    ask_for_all(b->s);
    for (; b->target.seen[215] == 0; turns++)
        turn(b);
    assert_true(b->s->retry_asked);
    assert_in_range(turns, 1, 3);
    while (b->s->retry_asked && turns++ < 1000)
        turn(b);
    assert_int_equal(b->s->retry_kept, 200);
    assert_int_equal(b->s->retry_code, 0);
    for (unsigned i = 0; i < 200; i++)
        b->target.poison[i] = false;
    ask_for_all(b->s);
    turn(b);
    assert_int_equal(sink_pause(b->s, true), 0);
    turn(b);
    assert_false(b->s->retry_asked);
    assert_int_equal(b->s->retry_code, -EAGAIN);
    uint64_t left = sink_stats(b->s).dead_letters;
    assert_in_range(left, 100, 199);
    assert_int_equal(left + b->target.sent_again, 200); /* what went is no letter any more */
    bench_free(b);
}

/* A letter whose place the target's cursor has not passed yet would come once more behind a crash:
 * it is tried when it has. */
static void a_letter_is_not_tried_too_soon(void **state)
{
    struct bench *b = bench_new(true, 25);
    b->target.poison[5] = true;
    append(b, 16);
    while (!is_dead(b, 5))
        turn(b);
    b->target.poison[5] = false;
    b->target.most = 1; /* a letter goes, what comes live does not */
    ask_for_all(b->s);
    for (unsigned i = 0; i < 20; i++) {
        turn(b);
        if (!b->s->retry_asked)
            ask_for_all(b->s);
    }
    crash(b, true);
    b->target.most = 0;
    arrive(b);
    for (unsigned i = 0; i < 16; i++)
        assert_int_equal(b->target.seen[i], 1);
    assert_false(is_dead(b, 5)); /* now that it was taken */
    bench_free(b);
}

static ssize_t no_pread(struct disk *d, struct disk_file *f, void *to, size_t len, uint64_t at)
{
    return -EIO;
}

/* A journal that cannot be read is no end of it: the lag grows, and it is said why. */
static void a_journal_that_cannot_be_read_is_told(void **state)
{
    struct bench *b = bench_new(true, 26);
    struct disk *d = disk_sim_disk(b->f->sim);
    append(b, 30);
    crash(b, false); /* so that nothing is in memory */
    ssize_t (*pread)(struct disk *, struct disk_file *, void *, size_t, uint64_t) = d->pread;
    d->pread = no_pread;
    for (uint64_t end = clock_mono_ns() + 100 * NS_PER_S; clock_mono_ns() < end;)
        turn(b);
    struct sink_stats s = sink_stats(b->s);
    assert_int_equal(s.lag, 30);
    assert_int_equal(s.state, SINK_FAILING);
    assert_string_equal(s.error, "the journal cannot be read at 0: Input/output error");
    assert_in_range(s.lag_us, 90 * US_PER_S, 100 * US_PER_S);
    d->pread = pread;
    arrive(b);
    turn(b);
    s = sink_stats(b->s);
    assert_int_equal(s.state, SINK_RUNNING);
    assert_string_equal(s.error, "");
    assert_int_equal(s.lag_us, 0);
    bench_free(b);
}

/* The target has it, but the answer was lost: that it has is found out, not guessed. */
static void a_lost_answer_is_no_lost_delivery(void **state)
{
    struct bench *b = bench_waiting(true, 23, "");
    sink_waiters(b->s, 1);
    b->target.unknown = 100; /* each commit breaks the connection */
    for (unsigned i = 0; i < 20; i++) {
        append(b, 5);
        arrive(b);
    }
    uint32_t delivered;
    assert_true(sink_stats(b->s).failures >= 20);
    assert_int_equal(sink_fate(b->s, 0, 100, &delivered), FATE_DELIVERED);
    assert_int_equal(delivered, 100);
    bench_free(b);
}

/* Also where all that was read is delivered, and more is yet to be read. */
static void the_age_of_a_backlog_is_told(void **state)
{
    struct bench *b = bench_new(true, 27);
    unsigned between = 0;
    b->target.away = true;
    append(b, 100);
    for (unsigned i = 0; i < 60; i++)
        turn(b);
    b->target.away = false;
    for (unsigned i = 0; i < 1000 && sink_stats(b->s).lag; i++) {
        struct sink_stats s = sink_stats(b->s);
        assert_true(s.lag_us > 10 * US_PER_S);
        between += s.lag < 100;
        turn(b);
    }
    assert_true(between > 0);
    arrive(b);
    turn(b);
    assert_int_equal(sink_stats(b->s).lag_us, 0);
    append(b, 1); /* it was at the end a moment ago */
    assert_true(sink_stats(b->s).lag_us <= 2 * US_PER_S);
    bench_free(b);
}

/* A record whose names nobody can tell now is not passed over, nor delivered without them: what
 * comes before it is, and it when they can be told. */
static void names_that_are_late(void **state)
{
    struct bench *b = bench_new(false, 5);
    append(b, 100);
    arrive(b);
    names_unknown = true;
    append(b, 100);
    for (int i = 0; i < 500; i++)
        turn(b);
    assert_int_equal(b->s->floor, 103); /* that of account 104 is at 103 */
    for (unsigned i = 0; i < 200; i++)
        assert_int_equal(b->target.seen[i], i < 103);
    assert_true(sink_stats(b->s).lag_us > 60 * US_PER_S);
    names_unknown = false;
    arrive(b);
    for (unsigned i = 0; i < 200; i++)
        assert_int_equal(b->target.seen[i], 1);
    assert_false(b->target.disordered);
    bench_free(b);
}

/* A batch in hand is not delivered either, nor is a cursor moved, and it is said. */
static void a_log_that_went_back(void **state)
{
    struct bench *b = bench_new(false, 6);
    append(b, 40);
    for (int i = 0; i < 4; i++)
        turn(b);
    b->target.away = true;
    for (int i = 0; i < 3; i++)
        turn(b);
    assert_true(b->s->live.ready && b->s->live.count > 0);
    uint64_t at = b->s->floor, committed = b->s->committed;
    assert_true(at > 0 && committed < at);
    atomic_store(&b->f->j->went_back, true);
    b->target.away = false;
    unsigned sends = b->target.sends;
    for (int i = 0; i < 500; i++)
        turn(b);
    assert_int_equal(b->target.sends, sends);
    assert_int_equal(b->s->floor, at);
    assert_int_equal(b->s->committed, committed);
    assert_int_equal(sink_stats(b->s).state, SINK_FAILING);
    assert_non_null(strstr(sink_stats(b->s).error, "the journal went back"));
    bench_free(b);
    /* Nor is it read on. */
    b = bench_new(false, 6);
    append(b, 5);
    arrive(b);
    atomic_store(&b->f->j->went_back, true);
    append(b, 5);
    for (int i = 0; i < 50; i++)
        turn(b);
    assert_int_equal(b->s->live.read, 5);
    bench_free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_that_are_late),
        cmocka_unit_test(the_age_of_a_backlog_is_told),
        cmocka_unit_test(a_log_that_went_back),
        cmocka_unit_test(transactional_targets_get_each_once),
        cmocka_unit_test(other_targets_get_each_at_least_once),
        cmocka_unit_test(what_takes_too_long_comes_in_slices),
        cmocka_unit_test(poison_is_found_by_halving),
        cmocka_unit_test(verdicts_need_no_halving),
        cmocka_unit_test(verdicts_outlast_full_dead_letters),
        cmocka_unit_test(an_idle_connection_is_tended),
        cmocka_unit_test(a_target_that_is_away_only_makes_it_lag),
        cmocka_unit_test(full_dead_letters_stop_it),
        cmocka_unit_test(it_holds_back_only_so_much),
        cmocka_unit_test(a_pause_outlives_a_restart),
        cmocka_unit_test(a_target_that_is_gone_disables_it),
        cmocka_unit_test(a_target_is_left_alone_as_it_asks),
        cmocka_unit_test(a_replay_goes_behind_what_is_live),
        cmocka_unit_test(only_what_is_selected_comes),
        cmocka_unit_test(it_goes_where_the_target_is),
        cmocka_unit_test(who_is_forgotten_holds_nothing_back),
        cmocka_unit_test(who_waits_is_not_kept_waiting),
        cmocka_unit_test(who_waits_in_vain_is_told_soon),
        cmocka_unit_test(a_dead_letter_is_not_delivered_until_it_is),
        cmocka_unit_test(letters_go_in_turns_with_what_is_live),
        cmocka_unit_test(a_letter_is_not_tried_too_soon),
        cmocka_unit_test(a_journal_that_cannot_be_read_is_told),
        cmocka_unit_test(a_lost_answer_is_no_lost_delivery),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
