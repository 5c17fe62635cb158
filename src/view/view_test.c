/* SPDX-License-Identifier: Apache-2.0 */
/* The runner over a reader that this test scripts. */
#include "view/view.c"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

/* ---- the reader ------------------------------------------------------------------------------ */

struct turn {
    int next;       /* what journal_reader_next returns */
    uint64_t count; /* records of the batch or gap */
    bool bad;       /* the last record of the batch is none */
    bool data;      /* the batch says that it is all data */
};

static struct {
    const struct turn *turns;
    _Atomic unsigned count;
    unsigned at;
    _Atomic uint64_t offset, committed, end;
    _Atomic int commit_error;
    _Atomic unsigned waits, opened;
    uint64_t wanted; /* 0, or every so many records one is no datum */
} script;

struct journal_reader {
    int unused;
};

static struct journal_reader the_reader;

int journal_reader_open(struct journal *j, const struct journal_reader_opts *opts,
                        struct journal_reader **ret, struct error *err)
{
    assert_true(opts->has_start);
    script.offset = opts->start;
    script.opened++;
    *ret = &the_reader;
    return 0;
}

void journal_reader_close(struct journal_reader *r)
{
    script.opened--;
}

int journal_reader_next(struct journal_reader *r, struct journal_batch *ret)
{
    if (script.at == script.count)
        return JOURNAL_WAIT;
    const struct turn *t = &script.turns[script.at++];
    if (t->next < 0 || t->next == JOURNAL_WAIT)
        return t->next;
    *ret = (struct journal_batch){.first_offset = script.offset,
                                  .count = t->count,
                                  .body = slice_of(t, t->count + t->bad),
                                  .commit_us = 1,
                                  .data = t->data};
    script.offset += t->count + t->bad;
    return t->next;
}

void journal_reader_wait(struct journal_reader *r, uint64_t ns)
{
    script.waits++;
    clock_sleep_ns(NS_PER_MS);
}

void journal_reader_wake(struct journal_reader *r)
{
}

int journal_reader_commit(struct journal_reader *r, uint64_t offset)
{
    if (script.commit_error)
        return script.commit_error;
    assert_true(offset > script.committed);
    script.committed = offset;
    return 0;
}

uint64_t journal_reader_offset(struct journal_reader *r)
{
    return script.offset;
}

int journal_batch_record(const struct journal_batch *b, size_t *at, struct record *ret)
{
    if (*at == b->count)
        return b->body.len > b->count ? -EBADMSG : 0;
    *ret = (struct record){.kind = RECORD_DATUM, .receive_us = 1};
    ++*at;
    return 1;
}

bool journal_batch_skip_datum(const struct journal_batch *b, size_t *at)
{
    if (*at == b->count || !script.wanted || (b->first_offset + *at) % script.wanted == 0)
        return false;
    ++*at;
    return true;
}

uint64_t journal_durable(struct journal *j)
{
    return script.end;
}

/* ---- the view -------------------------------------------------------------------------------- */

struct model {
    uint64_t offsets[100];
    unsigned count;
    uint64_t ticked, bytes, flushed;
    _Atomic unsigned stuck_turns;
    int flush_error;
    _Atomic uint64_t notified;
    struct view *v;
};

static void model_apply(void *of, const struct record *r, uint64_t offset)
{
    struct model *m = of;
    assert_int_equal(m->stuck_turns, 0);
    m->offsets[m->count++] = offset;
}

static uint64_t model_tick(void *of, uint64_t next_offset, uint64_t bytes, uint64_t now_ns)
{
    struct model *m = of;
    if (m->stuck_turns)
        m->stuck_turns--;
    m->ticked = next_offset;
    m->bytes += bytes;
    return next_offset > 2 ? next_offset - 2 : 0; /* lags behind */
}

static bool model_stuck(void *of)
{
    struct model *m = of;
    return m->stuck_turns > 0;
}

static int model_flush(void *of, uint64_t next_offset)
{
    struct model *m = of;
    m->flushed = next_offset;
    return m->flush_error;
}

static const struct view_ops model_ops = {.name = "model",
                                          .apply = model_apply,
                                          .tick = model_tick,
                                          .stuck = model_stuck,
                                          .flush = model_flush};

static bool always(const void *of)
{
    return true;
}

static const struct view_ops skipping_ops = {.name = "skipping",
                                             .skips_data = always,
                                             .apply = model_apply,
                                             .tick = model_tick,
                                             .flush = model_flush};

static void on_applied(void *arg)
{
    struct model *m = arg;
    m->notified++;
}

/* `wanted`: 0, or every so many records is one that a view that skips data gets. */
static struct view *run_view(struct model *m, const struct turn *turns, unsigned count,
                             uint64_t cursor, uint64_t wanted)
{
    memset(&script, 0, sizeof script);
    script.turns = turns;
    script.count = count;
    script.wanted = wanted;
    struct view *v;
    struct view_opts opts = {.ops = wanted ? &skipping_ops : &model_ops,
                             .of = m,
                             .cursor = cursor,
                             .on_applied = on_applied,
                             .arg = m};
    assert_int_equal(view_start(&opts, &v, NULL), 0);
    return v;
}

static struct view *run_script(struct model *m, const struct turn *turns, unsigned count,
                               uint64_t cursor)
{
    return run_view(m, turns, count, cursor, 0);
}

static void wait_for(struct view *v, uint64_t offset)
{
    for (unsigned i = 0; i < 10000 && view_applied(v) < offset; i++)
        clock_sleep_ns(NS_PER_MS);
    assert_int_equal(view_applied(v), offset);
    unsigned waits = script.waits;
    while (script.waits < waits + 3)
        clock_sleep_ns(NS_PER_MS);
}

static void records_arrive_in_order(void **state)
{
    static const struct turn turns[] = {{JOURNAL_BATCH, 3}, {JOURNAL_WAIT}, {JOURNAL_BATCH, 2}};
    struct model m = {0};
    struct view *v = run_script(&m, turns, 3, 10);
    script.end = 17;
    wait_for(v, 15);
    struct view_stats s = view_stats(v);
    assert_int_equal(s.applied, 15);
    assert_int_equal(s.lag, 2);
    assert_int_equal(s.durable, 13);
    assert_true(s.lag_us > 0);
    assert_int_equal(script.committed, 13);
    view_stop(v);
    assert_int_equal(m.count, 5);
    for (unsigned i = 0; i < 5; i++)
        assert_int_equal(m.offsets[i], 10 + i);
    assert_int_equal(m.notified, 2);
    assert_int_equal(m.bytes, 5);
    assert_int_equal(m.flushed, 15);
    assert_int_equal(script.committed, 15);
    assert_int_equal(script.opened, 0);
}

/* It gets what it wants with the right offsets; the others count as applied all the same. */
static void data_may_be_passed_over(void **state)
{
    static const struct turn turns[] = {
        {JOURNAL_BATCH, 40}, {JOURNAL_BATCH, 3}, {JOURNAL_BATCH, 9}};
    struct model m = {0};
    struct view *v = run_view(&m, turns, 3, 10, 7);
    script.end = 70;
    wait_for(v, 62);
    assert_true(view_stats(v).lag_us > 0);
    view_stop(v);
    static const uint64_t got[] = {14, 21, 28, 35, 42, 49, 56};
    assert_int_equal(m.count, sizeof got / sizeof got[0]);
    for (unsigned i = 0; i < m.count; i++)
        assert_int_equal(m.offsets[i], got[i]);
    assert_int_equal(m.flushed, 62);
}

/* A batch of which it is known that it is all data is not looked into by who wants none. */
static void batches_of_data_are_passed_over(void **state)
{
    static const struct turn turns[] = {
        {JOURNAL_BATCH, 4}, {JOURNAL_BATCH, 14, .data = true}, {JOURNAL_BATCH, 4}};
    struct model m = {0};
    struct view *v = run_view(&m, turns, 3, 14, 7);
    script.end = 40;
    wait_for(v, 36);
    assert_true(view_stats(v).lag_us > 0);
    view_stop(v);
    assert_int_equal(m.count, 2); /* 14 and 35; not 21 and 28 */
    assert_int_equal(m.offsets[0], 14);
    assert_int_equal(m.offsets[1], 35);
    assert_int_equal(m.flushed, 36);
    m.count = 0;
    v = run_script(&m, turns, 3, 14);
    wait_for(v, 36);
    view_stop(v);
    assert_int_equal(m.count, 22); /* who wants data gets it */
}

static void gaps_and_errors_do_not_stop_it(void **state)
{
    static const struct turn turns[] = {{JOURNAL_BATCH, 1},
                                        {-EIO},
                                        {-EIO},
                                        {JOURNAL_GAP, 100},
                                        {JOURNAL_BATCH, 2},
                                        {JOURNAL_BATCH, 3, .bad = true},
                                        {JOURNAL_BATCH, 1}};
    struct model m = {0};
    struct view *v = run_script(&m, turns, 7, 0);
    wait_for(v, 108);
    struct view_stats s = view_stats(v);
    assert_int_equal(s.gaps, 1);
    assert_int_equal(s.errors, 3);
    view_stop(v);
    static const uint64_t want[] = {0, 101, 102, 103, 104, 105, 107};
    assert_int_equal(m.count, 7);
    assert_memory_equal(m.offsets, want, sizeof want);
}

static void failures_are_tried_again(void **state)
{
    static const struct turn turns[] = {{JOURNAL_BATCH, 5}};
    struct model m = {.flush_error = -ENOSPC};
    struct view *v = run_script(&m, turns, 0, 0);
    script.commit_error = -EIO;
    script.count = 1;
    wait_for(v, 5);
    assert_int_equal(script.committed, 0);
    script.commit_error = 0;
    for (unsigned i = 0; i < 5000 && script.committed == 0; i++)
        clock_sleep_ns(NS_PER_MS);
    assert_int_equal(script.committed, 3);
    view_stop(v);
    assert_int_equal(script.committed, 3); /* the flush failed: replay begins there */
}

static void a_full_view_gets_no_more(void **state)
{
    static const struct turn turns[] = {{JOURNAL_BATCH, 1}, {JOURNAL_BATCH, 1}};
    struct model m = {.stuck_turns = 50};
    struct view *v = run_script(&m, turns, 0, 0);
    clock_sleep_ns(20 * NS_PER_MS);
    assert_true(view_stats(v).stuck);
    m.stuck_turns = 0;
    script.count = 2;
    wait_for(v, 2);
    assert_false(view_stats(v).stuck);
    m.stuck_turns = 1u << 30;
    clock_sleep_ns(20 * NS_PER_MS);
    view_stop(v); /* stops even so */
    view_stop(NULL);
}

static void a_flush_does_not_wait_for_ever(void **state)
{
    static const struct turn turns[] = {{JOURNAL_BATCH, 4}};
    struct model m = {0};
    struct view *v = run_script(&m, turns, 0, 0);
    script.end = 4;
    assert_int_equal(view_flush(v, 30 * NS_PER_MS), -ETIMEDOUT);
    script.count = 1;
    assert_int_equal(view_flush(v, 0), 0);
    assert_int_equal(view_applied(v), 4);
    assert_int_equal(m.flushed, 4);
    view_stop(v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(records_arrive_in_order),
        cmocka_unit_test(data_may_be_passed_over),
        cmocka_unit_test(batches_of_data_are_passed_over),
        cmocka_unit_test(gaps_and_errors_do_not_stop_it),
        cmocka_unit_test(failures_are_tried_again),
        cmocka_unit_test(a_full_view_gets_no_more),
        cmocka_unit_test(a_flush_does_not_wait_for_ever),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
