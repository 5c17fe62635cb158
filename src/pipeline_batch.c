/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Batches: what one lane's requests append together. At the end of the loop's turn the open one
 * goes to the journal's writer; when it is durable it comes back by mail and whom it owes an answer
 * gets that: jobs, and what is left of those whose exchange is gone already (decision 0067).
 *
 * Invariant: nothing says "accepted" before on_batch_mail saw REASON_ok, except at ack level
 * received, which is counted when it was wrong.
 */
#include <stdlib.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/metric.h"
#include "pipeline_private.h"

#define BATCH_TURNS 8u
#define FETCH       8u        /* ahead of the one that is answered */
#define OWED_KEPT   8192u     /* that a batch keeps room for */
#define PACE_NS     NS_PER_MS /* between two commits while hashes want the cores, */
#define PACE_ENOUGH 16u       /* unless so many records came together anyway */

static void batch_free(struct batch *b)
{
    buf_fini(&b->append.body);
    buf_fini(&b->append.units);
    free(b->owed);
    free(b);
}

static void unlink_flying(struct lane *l, struct batch *b)
{
    struct batch **at = &l->flying;
    while (*at != b)
        at = &(*at)->next;
    *at = b->next;
    l->flying_count -= b->append.count;
    if (!b->next)
        l->flying_last = at;
}

/* Asks for what answering the one at that place touches first, and for what an earlier call for it
 * leads to. */
static void fetch_answer(const struct batch *b, uint32_t at)
{
    if (at + FETCH < b->owed_count) {
        const struct owed *o = &b->owed[at + FETCH];
        const char *j = (const char *)o->job;
        if (!j) {
            __builtin_prefetch(o->pledge, 1);
        } else {
            __builtin_prefetch(j, 1);
            __builtin_prefetch(j + 64, 1);
            __builtin_prefetch(j - offsetof(struct exchange, stage), 1);
        }
    }
    if (at + FETCH / 2 < b->owed_count && b->owed[at + FETCH / 2].job)
        exchange_prefetch(job_exchange(b->owed[at + FETCH / 2].job));
}

static void redeem(struct owed *o, enum reason reason)
{
    account_unref(o->account);
    o->ops->redeem(o->pledge, reason, reason == REASON_ok ? 0 : NS_PER_S);
}

static void redeem_durable(struct lane *l, struct owed *o, uint64_t first_offset)
{
    uint64_t end = first_offset + o->count;
    if (o->of_session)
        remember_session_told(o->account, end);
    remember_told(o->account, end);
    count_accepted(l, o->count, o->start_ns);
    redeem(o, REASON_ok);
}

static void owed_not_durable(struct owed *o, enum reason reason)
{
    if (o->job)
        job_not_durable(o->job, reason);
    else
        redeem(o, reason);
}

/* Answers every request of the batch. */
static void batch_answer(struct batch *b, enum reason reason)
{
    const struct journal_append *a = &b->append;
    struct unit_place place = {0};
    for (uint32_t at = b->owed_first; at < b->owed_count; at++) {
        struct owed *o = &b->owed[at];
        fetch_answer(b, at);
        if (reason != REASON_ok)
            owed_not_durable(o, reason);
        else if (!o->job)
            redeem_durable(b->lane, o,
                           a->first_offset + o->first_index -
                               once_dropped(a, &place, o->first_index));
        else if (__builtin_expect(a->units.len == 0, 1))
            job_durable(o->job, a->first_offset + o->job->first_index);
        else
            once_answer(o->job, a, &place);
    }
    b->owed_first = b->owed_count = 0;
}

static void batch_recycle(struct batch *b)
{
    struct lane *l = b->lane;
    b->append.count = 0;
    b->received = 0;
    buf_clear(&b->append.body);
    buf_clear(&b->append.units);
    if (b->owed_room > OWED_KEPT) { /* once in a while there are many */
        free(b->owed);
        b->owed = NULL;
        b->owed_room = 0;
    }
    b->next = l->spare;
    l->spare = b;
}

/* On the lane again: the journal is done with it. */
static void on_batch_mail(struct mail *m)
{
    struct batch *b = (struct batch *)((char *)m - offsetof(struct batch, mail));
    struct lane *l = b->lane;
    unlink_flying(l, b);
    overload_note_commit(l, b->submitted_ns);
    if (l->holds)
        overload_hold_look(l);
    /* Not in batch_answer: that one also answers those for whom it takes too long. */
    if (b->append.reason != REASON_ok && b->received)
        metric_add(METRIC_journal_received_lost, b->received);
    batch_answer(b, b->append.reason);
    batch_recycle(b);
}

/* On the journal's writer thread. */
static void on_append_done(struct journal_append *a)
{
    struct batch *b = a->owner;
    worker_post(b->lane->worker, &b->mail);
}

struct batch *batch_open(struct lane *l)
{
    if (l->open)
        return l->open;
    struct batch *b = l->spare;
    if (b) {
        l->spare = b->next;
    } else {
        b = calloc(1, sizeof *b);
        CHECK(b);
        buf_init(&b->append.body, BATCH_BYTES_MAX);
        b->lane = l;
        b->append.owner = b;
        b->append.done = on_append_done;
        b->mail.run = on_batch_mail;
    }
    b->next = NULL;
    b->submitted_ns = 0;
    b->seen = 0;
    b->turns = 0;
    l->open = b;
    return b;
}

void batch_submit(struct lane *l)
{
    struct batch *b = l->open;
    if (!b || !b->append.count)
        return;
    if (!b->submitted_ns)
        b->submitted_ns = worker_now_ns(l->worker);
    b->next = NULL;
    *l->flying_last = b;
    l->flying_last = &b->next;
    l->flying_count += b->append.count;
    l->open = NULL;
    enum reason reason = journal_submit(l->p->opts.api.journal, &b->append);
    if (reason == REASON_ok)
        return;
    if (reason == REASON_busy) {
        unlink_flying(l, b);
        l->open = b;
        overload_hold_look(l);
        return;
    }
    b->append.reason = reason; /* answered from the mail, as the journal's own refusals are */
    worker_post(l->worker, &b->mail);
}

/* While hashes are computed on every core, commits wait for each other unless so many messages came
 * together anyway: one costs, with its turns and wake-ups, what a dozen messages do, and so much
 * less is left for who logs in (decision 0068). Nor are the sockets looked at meanwhile, or while a
 * commit is under way: a turn for each message would cost as much. */
static bool turn_waits(struct lane *l, uint32_t ready)
{
    uint64_t next_ns = l->submitted_ns + PACE_NS;
    if (ready >= PACE_ENOUGH || l->flying_count >= 2 * PACE_ENOUGH ||
        worker_now_ns(l->worker) >= next_ns || !shield_is_full(l->p->opts.api.shield))
        return false;
    worker_nap(l->worker, next_ns);
    return true;
}

/*
 * Hands the batch on as soon as a look for more input brings none: the senders that were just
 * answered are about to send again, and their messages share this commit. No timer: a lone message
 * costs one more look at the sockets. BATCH_TURNS bounds it when input never ends.
 */
bool batch_turn_end(struct lane *l, bool more)
{
    struct batch *b = l->open;
    overload_note_turn(l);
    bool ready = b && b->append.count && !l->flying;
    if (ready && b->append.count > b->seen && ++b->turns < BATCH_TURNS) {
        b->seen = b->append.count;
        return true;
    }
    if (!ready && !l->flying)
        return false;
    if (!more && turn_waits(l, ready ? b->append.count : 0))
        return true;
    if (!ready)
        return false;
    l->submitted_ns = worker_now_ns(l->worker);
    batch_submit(l);
    return false;
}

/* The requests came in the order they stand in, so those who waited longest are first. */
static void answer_late(struct batch *b, uint64_t now_ns)
{
    while (b->owed_first < b->owed_count && b->owed[b->owed_first].deadline_ns <= now_ns)
        owed_not_durable(&b->owed[b->owed_first++], REASON_outcome_unknown);
}

/* Whoever waited longer than ack.timeout is told that the outcome is unknown. */
void batch_tick(struct lane *l, uint64_t now_ns)
{
    for (struct batch *b = l->flying; b; b = b->next)
        answer_late(b, now_ns);
    if (l->open) /* behind one that flies, or not taken: the journal is busy */
        answer_late(l->open, now_ns);
}

unsigned batch_unfinished(const struct lane *l)
{
    return (l->flying != NULL) + (l->open && l->open->append.count);
}

void batch_lane_free(struct lane *l)
{
    CHECK(!l->flying);
    if (l->open)
        batch_free(l->open);
    while (l->spare) {
        struct batch *b = l->spare;
        l->spare = b->next;
        batch_free(b);
    }
}
