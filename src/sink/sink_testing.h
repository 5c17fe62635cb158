/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sink/sink_testing.h - for unit tests of the runner: a stepped journal on a simulated disk, and a
 * target that fails by a schedule. It includes sink.c; for one test program, included once.
 */
#pragma once

#include "sink/sink.c"

#include "journal/fixture.h"

#define RECORDS_MAX 4000

/* ---- the target ------------------------------------------------------------------------------ */

struct target {
    bool transactional;
    bool judges; /* each message alone */
    bool has_cursor;
    uint64_t next;
    uint8_t seen[RECORDS_MAX]; /* how often each offset is there */
    bool poison[RECORDS_MAX];
    uint64_t last;   /* offset of the last message of what came live */
    bool disordered; /* a message came after a later one, not as a repetition */
    unsigned opens, sends, sent_again, tended;
    /* Faults, of 100: */
    unsigned open_fails, send_fails, unknown, hangs;
    bool away, gone;
    unsigned most;    /* messages that it takes in its time; 0: any number */
    uint64_t asks_ns; /* to be left alone */
    struct rand rand;
};

static inline enum sink_outcome away(struct error *err, const char *why)
{
    error_set(err, -EIO, "%s", why);
    return SINK_AWAY;
}

static inline bool chance(struct target *t, unsigned percent)
{
    return rand_below(&t->rand, 100) < percent;
}

static inline enum sink_outcome target_open(void *of, uint64_t *position, struct error *err)
{
    struct target *t = of;
    t->opens++;
    if (t->away || chance(t, t->open_fails))
        return away(err, "no connection");
    if (t->transactional && !t->has_cursor) {
        t->has_cursor = true;
        t->next = *position;
    }
    if (t->transactional)
        *position = t->next;
    return SINK_DONE;
}

static inline void take_messages(struct target *t, const struct sink_batch *b)
{
    for (unsigned i = 0; i < b->count; i++) {
        const struct sink_message *m = &b->messages[i];
        assert_true(m->offset < RECORDS_MAX);
        assert_true(m->offset >= b->from && m->offset < b->to);
        assert_int_equal(m->record.account, m->offset + 1);
        for (size_t k = 0; k < m->record.payload.len; k++)
            assert_int_equal((uint8_t)m->record.payload.ptr[k], m->offset & 255);
        if (b->again) {
            t->seen[m->offset] = 1; /* whatever was there is replaced */
            t->sent_again++;
            continue;
        }
        if (t->seen[m->offset] == 0 && m->offset < t->last)
            t->disordered = true;
        t->seen[m->offset]++;
        t->last = m->offset > t->last ? m->offset : t->last;
    }
}

/* The connection breaks behind some of them, or not; what was taken before is known. */
static inline enum sink_outcome judge(struct target *t, const struct sink_batch *b,
                                      struct error *err)
{
    unsigned n = chance(t, t->unknown) ? (unsigned)rand_below(&t->rand, b->count + 1) : b->count;
    for (unsigned i = 0; i < n; i++) {
        struct sink_message *m = &b->messages[i];
        struct sink_batch one = *b;
        one.messages = m;
        one.count = 1;
        if (m->verdict != SINK_UNKNOWN)
            continue;
        m->verdict = t->poison[m->offset] ? SINK_REFUSED : SINK_TAKEN;
        m->why = "it has a zero byte";
        if (m->verdict == SINK_TAKEN)
            take_messages(t, &one);
    }
    return n < b->count ? away(err, "the connection broke") : SINK_DONE;
}

static inline enum sink_outcome target_send(void *of, const struct sink_batch *b, struct error *err)
{
    struct target *t = of;
    t->sends++;
    assert_true(b->from <= b->to);
    if (t->gone) {
        error_set(err, 0, "HTTP 410");
        return SINK_GONE;
    }
    if (t->away || chance(t, t->send_fails))
        return away(err, "the connection broke");
    if (chance(t, t->hangs) || (t->most && b->count > t->most)) {
        clock_sleep_ns(30 * NS_PER_S);
        return away(err, "no answer in 30 s");
    }
    if (t->transactional && !b->again && b->from != t->next)
        return SINK_MOVED;
    if (t->judges)
        return judge(t, b, err);
    for (unsigned i = 0; i < b->count; i++)
        if (t->poison[b->messages[i].offset]) {
            error_set(err, -EINVAL, "it has a zero byte");
            return SINK_POISON;
        }
    take_messages(t, b);
    if (!b->again)
        t->next = b->to;
    return chance(t, t->unknown) ? away(err, "the connection broke behind the commit") : SINK_DONE;
}

static inline enum sink_outcome target_tend(void *of, struct error *err)
{
    struct target *t = of;
    t->tended++;
    return t->away ? away(err, "the connection broke") : SINK_DONE;
}

static inline void target_close(void *of)
{
}

static const struct sink_ops transactional_ops = {.kind = "fake",
                                                  .transactional = true,
                                                  .open = target_open,
                                                  .send = target_send,
                                                  .close = target_close};
static inline uint64_t target_pause(void *of)
{
    return ((struct target *)of)->asks_ns;
}

static const struct sink_ops repeating_ops = {.kind = "fake",
                                              .open = target_open,
                                              .send = target_send,
                                              .close = target_close,
                                              .tend = target_tend,
                                              .pause_ns = target_pause};

static bool names_unknown; /* whom one would ask is away */

static inline void give_names(void *arg, const struct record *r, struct sink_names *ret)
{
    static char account[32];
    ret->unknown = names_unknown && r->account % 4 == 0;
    if (ret->unknown)
        return;
    int n = snprintf(account, sizeof account, "a%llu", U(r->account % 10));
    *ret =
        (struct sink_names){slice_of(account, (size_t)n), SLICE("trucks.17"), SLICE("dev"), false};
}

/* ---- the bench ------------------------------------------------------------------------------- */

struct bench {
    struct fixture *f;
    struct target target;
    struct sink_opts opts;
    struct sink *s;
    uint64_t records; /* appended */
    bool crashed;     /* so not all fates are known */
    unsigned moves;   /* how often who waits was told */
};

static struct clock_fake fake;

static inline void bench_open(struct bench *b)
{
    struct error err = {""};
    assert_int_equal(fixture_open(b->f), 0);
    b->opts.journal = b->f->j;
    assert_int_equal(make(&b->opts, &b->s, &err), 0);
}

static inline struct bench *bench_new(bool transactional, uint64_t seed)
{
    struct bench *b = calloc(1, sizeof *b);
    assert_non_null(b);
    fake = (struct clock_fake){.mono_ns = NS_PER_S, .wall_us = 1000000000};
    clock_set_fake(&fake);
    log_set_level(LOG_ERROR + 1);
    b->f = fixture_new(65536);
    b->target = (struct target){.transactional = transactional, .rand = {seed}};
    b->opts = (struct sink_opts){.name = "fake",
                                 .ops = transactional ? &transactional_ops : &repeating_ops,
                                 .of = &b->target,
                                 .disk = disk_sim_disk(b->f->sim),
                                 .dir = "log",
                                 .names = give_names,
                                 .accounts = "",
                                 .feeds = "",
                                 .batch_count = 16,
                                 .batch_bytes = 4096,
                                 .linger_ns = 20 * NS_PER_MS,
                                 .retry_ns = 100 * NS_PER_MS,
                                 .retry_max_ns = 10 * NS_PER_S,
                                 .breaker = {4, 50, 60 * NS_PER_S, 5 * NS_PER_S, 60 * NS_PER_S},
                                 .hold_bytes = 64 << 20,
                                 .dead_bytes = 1 << 20,
                                 .seed = seed};
    bench_open(b);
    return b;
}

static inline void bench_free(struct bench *b)
{
    if (b->s)
        sink_destroy(b->s);
    fixture_free(b->f);
    free(b);
    log_set_level(LOG_INFO);
    clock_set_fake(NULL);
}

static inline void append_large(struct bench *b, unsigned count, size_t bytes)
{
    assert_int_equal(fixture_append(b->f, b->records, count, bytes), REASON_ok);
    b->records += count;
}

static inline void append(struct bench *b, unsigned count)
{
    append_large(b, count, 40);
}

static inline bool is_dead(struct bench *b, uint64_t offset)
{
    struct buf storage;
    struct dead_letter l;
    buf_init(&storage, 1 << 20);
    bool found = dead_next(b->s->dead, offset, &storage, &l) && l.offset == offset;
    if (found)
        assert_true(slice_eq(l.why, SLICE("it has a zero byte")));
    buf_fini(&storage);
    return found;
}

/* What is told of a message that the sink has passed is true. */
static inline void check_fate(struct bench *b, uint64_t offset)
{
    uint32_t delivered;
    switch (sink_fate(b->s, offset, 1, &delivered)) {
    case FATE_DELIVERED:
        assert_true(b->target.seen[offset] > 0 && delivered == 1);
        break;
    case FATE_FAILED:
        assert_true(is_dead(b, offset) && b->target.seen[offset] == 0);
        break;
    case FATE_NOT_SELECTED:
        assert_true(b->s->opts.accounts[0] || b->s->opts.feeds[0] || b->s->opts.wants);
        assert_int_equal(b->target.seen[offset], 0);
        break;
    case FATE_GIVEN_UP:
        assert_true(sink_stats(b->s).gaps > 0);
        break;
    case FATE_UNKNOWN:
        assert_true(b->crashed);
        break;
    default:
        fail();
    }
}

/* What the thread does, but that resting takes no time. */
static inline void turn(struct bench *b)
{
    uint64_t before = sink_position(b->s);
    uint64_t ns = step(b->s);
    publish(b->s);
    for (uint64_t i = before; i < sink_position(b->s); i++)
        check_fate(b, i);
    if (ns)
        clock_sleep_ns(ns);
}

static inline void arrive(struct bench *b)
{
    for (unsigned i = 0; i < 20000 && b->s->floor < journal_durable(b->f->j); i++)
        turn(b);
    assert_int_equal(b->s->floor, journal_durable(b->f->j));
}

/* kill -9, or a power cut, between two turns: what the sink had not committed is forgotten. */
static inline void crash(struct bench *b, bool cut)
{
    sink_destroy(b->s);
    b->s = NULL;
    b->crashed = true;
    fixture_die(b->f, cut);
    bench_open(b);
}

static inline void no_faults(struct target *t)
{
    t->open_fails = t->send_fails = t->unknown = t->hangs = 0;
    t->away = false;
}

static inline void pass_time(uint64_t ns)
{
    fake.mono_ns += ns;
    fake.wall_us += (int64_t)(ns / NS_PER_US);
}
