/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The model. The thread goes round in `step`, which does one thing or says how long to rest.
 *
 * 1. A batch, once ready, is delivered from front to back in slices. `position` is where the target
 *    is: it moves only when the target confirmed a slice, so what happens in between - a crash, an
 *    error, a slice whose outcome nobody knows - is settled by asking the target (`open`) or, where
 *    it keeps no cursor, by sending again.
 * 2. A slice that the target refuses for what is in it is halved; one message that is refused alone
 *    is a dead letter. It is durable there before the cursor may pass it. The next slice stands for
 *    its place too. A target that judges messages one by one needs no halves: what it took, and
 *    what it refused, is passed over, and not sent again after a failure.
 * 3. The journal's named cursor follows `position`, up to a second behind: it only holds retention
 *    up, and says where to begin when the target does not.
 * 4. A sink that lags by more than `hold_bytes` of journal gives the oldest up: that is counted,
 *    logged with its place, and then the named cursor moves without a delivery.
 * 5. What comes live goes before what is replayed, between two batches.
 * 6. Of a log that went back (follow.h) nothing is delivered any more, and no cursor is moved.
 */
#include "sink/sink.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/thread.h"
#include "journal/follow.h"
#include "sink/sink_own.h"

#define LOOK_NS                                                                                    \
    (1000 * NS_PER_MS) /* between two commits of the named cursor, two looks at the hold */
#define STUCK_NS  (1000 * NS_PER_MS)
#define PAUSED_NS (500 * NS_PER_MS)
#define DUE_US    US_PER_S /* between two looks for letters that are due */
#define SLICE_MIN 1000u    /* messages that any target takes in its time */

#define U(v) (unsigned long long)(v)

/* ---- what others see ------------------------------------------------------------------------- */

static void publish(struct sink *s)
{
    const struct course *c = &s->live;
    pthread_mutex_lock(&s->lock);
    struct sink_stats *t = &s->stats;
    bool fails = s->failures || c->failing;
    t->state = s->stuck ? SINK_STUCK : fails ? SINK_FAILING : SINK_RUNNING;
    t->breaker = s->breaker.state;
    t->opened = s->breaker.opened;
    t->position = s->floor;
    t->gaps = c->gaps + s->replay.gaps;
    t->erased = c->erased + s->replay.erased;
    t->unreadable = c->unreadable + s->replay.unreadable;
    t->lag_bytes = c->read ? c->read_bytes / c->read : 0; /* per record; the reader multiplies */
    t->lag_us = (uint64_t)(c->first < c->count ? c->messages[c->first].record.receive_us
                           : c->stalled_us     ? c->stalled_us
                                               : c->past_us);
    t->replay_from = !s->replaying ? 0 : s->replay.reader ? s->replay.from : s->replay_from;
    t->replay_to = s->replaying ? s->replay_to : 0;
    if (!s->failures && !s->stuck)
        t->error[0] = 0;
    if (!s->failures && !s->stuck && c->failing)
        snprintf(t->error, sizeof t->error, "the journal cannot be read at %llu: %s", U(c->to),
                 strerror(-c->failing));
    pthread_mutex_unlock(&s->lock);
    if (atomic_exchange(&s->passed, s->floor) != s->floor && atomic_load(&s->waiters) &&
        s->opts.moved)
        s->opts.moved(s->opts.moved_arg);
}

struct sink_stats sink_stats(struct sink *s)
{
    if (s->remote)
        return sink_remote_stats(s);
    pthread_mutex_lock(&s->lock);
    struct sink_stats t = s->stats;
    if (s->paused)
        t.state = s->disabled[0] ? SINK_DISABLED : SINK_PAUSED;
    if (s->paused && s->disabled[0])
        snprintf(t.error, sizeof t.error, "%s", s->disabled);
    pthread_mutex_unlock(&s->lock);
    uint64_t end = journal_durable(s->opts.journal);
    int64_t now = clock_wall_us(), oldest = (int64_t)t.lag_us;
    t.lag = end > t.position ? end - t.position : 0;
    t.lag_bytes *= t.lag;
    t.lag_us = t.lag && oldest && now > oldest ? (uint64_t)(now - oldest) : 0;
    dead_count(s->dead, &t.dead_letters, &t.dead_bytes);
    return t;
}

const char *sink_state_name(enum sink_state state)
{
    static const char *const names[] = {"running", "failing",  "paused",
                                        "stuck",   "disabled", "absent"};
    return names[state];
}

const char *sink_name(const struct sink *s)
{
    return s->opts.name;
}

struct dead_letters *sink_dead(struct sink *s)
{
    return s->dead;
}

bool sink_test(struct sink *s, uint64_t patience_ns, struct attempt *ret)
{
    if (s->opts.ops->test)
        s->opts.ops->test(s->opts.of, patience_ns, ret);
    return s->opts.ops->test != NULL;
}

bool sink_attempt(struct sink *s, unsigned n, struct attempt *ret)
{
    return s->opts.ops->attempt && s->opts.ops->attempt(s->opts.of, n, ret);
}

uint64_t sink_position(const struct sink *s)
{
    return atomic_load(&s->passed);
}

bool sink_is_disabled(const struct sink *s)
{
    return atomic_load(&s->is_disabled);
}

enum fate sink_fate(const struct sink *s, uint64_t offset, uint32_t count, uint32_t *ret_delivered)
{
    return fates_worst(s->fates, offset, count, ret_delivered);
}

const char *sink_tells(struct sink *s, uint64_t offset)
{
    if (sink_position(s) <= offset)
        return "pending";
    struct dead_letter letter;
    struct buf storage;
    enum fate fate = fates_of(s->fates, offset);
    buf_init(&storage, SIZE_MAX / 2);
    if (fate == FATE_UNKNOWN && s->dead && dead_next(s->dead, offset, &storage, &letter) &&
        letter.offset == offset)
        fate = FATE_FAILED;
    buf_fini(&storage);
    return fate_name(fate);
}

void sink_waiters(struct sink *s, int change)
{
    if (atomic_fetch_add(&s->waiters, (unsigned)change) != 0)
        return;
    pthread_mutex_lock(&s->rest_lock); /* a batch that lingers does not any more */
    pthread_cond_signal(&s->woken);
    pthread_mutex_unlock(&s->rest_lock);
}

static void count(struct sink *s, uint64_t *of, uint64_t n)
{
    pthread_mutex_lock(&s->lock);
    *of += n;
    pthread_mutex_unlock(&s->lock);
}

/* With the lock. */
static void wake(struct sink *s)
{
    pthread_mutex_lock(&s->rest_lock);
    s->wake = true;
    pthread_cond_signal(&s->woken);
    pthread_mutex_unlock(&s->rest_lock);
    journal_reader_wake(s->live.reader);
}

/* ---- the target ------------------------------------------------------------------------------ */

static void let_go(struct sink *s)
{
    if (s->connected)
        s->opts.ops->close(s->opts.of);
    s->connected = false;
}

/* For ever, until somebody resumes it; if that cannot be written, it is tried again, and said. */
static void disable(struct sink *s, const struct error *err)
{
    char text[128];
    size_t len = strnlen(err->text, sizeof s->disabled - 1);
    int rc = disk_replace(s->opts.disk, s->paused_path, err->text, len);
    log_line(LOG_ERROR, rc ? "sink.not_disabled" : "sink.disabled",
             "sink=%s position=%llu why=\"%s\" error=\"%s\"", s->opts.name, U(s->position),
             log_text(text, slice_str(err->text)), rc ? strerror(-rc) : "");
    if (rc)
        return;
    pthread_mutex_lock(&s->lock);
    s->paused = true;
    snprintf(s->disabled, sizeof s->disabled, "%s", err->text);
    atomic_store(&s->is_disabled, s->disabled[0] != 0);
    pthread_mutex_unlock(&s->lock);
}

/* The target is away, or nobody knows what became of the slice. */
static void fail(struct sink *s, bool away, const struct error *err, uint64_t now_ns)
{
    let_go(s);
    s->failures++;
    s->next_try_ns =
        now_ns + breaker_pause_ns(s->failures, s->opts.retry_ns, s->opts.retry_max_ns, &s->rand);
    uint64_t opened = s->breaker.opened;
    breaker_note(&s->breaker, away, now_ns);
    char text[128];
    if (s->failures == 1)
        log_line(LOG_WARN, "sink.failed", "sink=%s position=%llu error=\"%s\"", s->opts.name,
                 U(s->position), log_text(text, slice_str(err->text)));
    if (s->breaker.opened != opened)
        log_line(LOG_ERROR, "sink.breaker_open", "sink=%s for_ms=%llu failures=%u error=\"%s\"",
                 s->opts.name, U((s->breaker.until_ns - now_ns) / NS_PER_MS), s->failures,
                 log_text(text, slice_str(err->text)));
    pthread_mutex_lock(&s->lock);
    s->stats.failures++;
    snprintf(s->stats.error, sizeof s->stats.error, "%s", err->text);
    pthread_mutex_unlock(&s->lock);
}

/* What an attempt to send came to, that is neither DONE nor POISON. */
static void send_failed(struct sink *s, enum sink_outcome found, const struct error *err,
                        uint64_t now_ns)
{
    const struct sink_ops *ops = s->opts.ops;
    uint64_t asked_ns = ops->pause_ns && found == SINK_AWAY ? ops->pause_ns(s->opts.of) : 0;
    fail(s, found != SINK_MOVED, err, now_ns);
    if (s->next_try_ns < now_ns + asked_ns)
        s->next_try_ns = now_ns + asked_ns;
    if (found == SINK_GONE)
        disable(s, err);
}

static void succeeded(struct sink *s, uint64_t now_ns)
{
    breaker_note(&s->breaker, false, now_ns);
    if (s->failures)
        log_line(LOG_INFO, "sink.recovered", "sink=%s position=%llu failures=%u", s->opts.name,
                 U(s->position), s->failures);
    s->failures = 0;
    s->next_try_ns = 0;
}

/* Goes on at `from` in the journal, with an empty batch. */
static void read_from(struct sink *s, uint64_t from, uint64_t now_ns)
{
    struct error err = {""};
    pthread_mutex_lock(&s->lock);
    int rc = course_begin(&s->live, true, from, UINT64_MAX, &err);
    pthread_mutex_unlock(&s->lock);
    if (rc < 0)
        fail(s, true, &err, now_ns);
    s->live.from = s->position; /* what was given up is a part of the stretch */
}

/* The target's cursor is further than we knew: what was sent last arrived after all, or somebody
 * was at it before us, and what became of each message is not known. */
static void note_moved(struct sink *s, uint64_t position)
{
    const struct course *c = &s->live;
    if (position < s->position)
        return;
    if (position != s->unsure_to)
        fates_note(s->fates, s->position, position, FATE_UNKNOWN);
    for (unsigned i = c->first; position == s->unsure_to && i < c->count; i++) {
        uint64_t offset = c->messages[i].offset;
        if (offset < position)
            fates_note(s->fates, offset, offset + 1, FATE_DELIVERED);
    }
}

/* Connects; goes where the target is. */
static void connect_target(struct sink *s, uint64_t now_ns)
{
    struct error err = {""};
    uint64_t position = s->position;
    if (s->failures)
        count(s, &s->stats.retries, 1);
    enum sink_outcome found = s->opts.ops->open(s->opts.of, &position, &err);
    s->connected = found == SINK_DONE;
    if (!s->connected) {
        s->opts.ops->close(s->opts.of);
        fail(s, true, &err, now_ns);
        return;
    }
    if (position == s->position)
        return;
    uint64_t end = journal_durable(s->opts.journal);
    if (position > end) {
        error_set(
            &err, -EINVAL,
            "its cursor is at %llu, but the journal ends at %llu: it was fed from another one",
            U(position), U(end));
        fail(s, true, &err, now_ns);
        return;
    }
    note_moved(s, position);
    log_line(LOG_INFO, "sink.moved", "sink=%s from=%llu to=%llu", s->opts.name, U(s->position),
             U(position));
    s->position = s->floor = position;
    read_from(s, position, now_ns);
}

/* ---- deliveries ------------------------------------------------------------------------------ */

/* How many messages of the batch are sent at once: all that may be, or half of where a poisoned one
 * is. */
static unsigned slice_count(const struct sink *s, const struct course *c)
{
    unsigned n = c->count - c->first;
    if (c->bad_end > c->first)
        n = (c->bad_end - c->first) / 2;
    if (n > s->slice_max)
        n = s->slice_max;
    return n || c->first == c->count ? n : 1;
}

/* What the target cannot take in its time comes in smaller slices, until it can. */
static void fit_slices(struct sink *s, unsigned sent, enum sink_outcome found)
{
    if (found == SINK_AWAY && sent > SLICE_MIN)
        s->slice_max = sent / 2 > SLICE_MIN ? sent / 2 : SLICE_MIN;
    else if (found == SINK_DONE && sent == s->slice_max)
        s->slice_max += s->slice_max / 8;
    if (s->slice_max > s->opts.batch_count)
        s->slice_max = s->opts.batch_count;
}

/* The message alone was refused. False: there is no room for it. */
static bool bury(struct sink *s, const struct sink_message *m, const struct error *why,
                 uint64_t now_ns)
{
    struct dead_letter letter = {m->offset, clock_wall_us(), slice_str(why->text), m->raw};
    char text[128];
    int rc = dead_put(s->dead, &letter);
    if (rc == DEAD_STORED) {
        log_line(LOG_WARN, "sink.dead_letter", "sink=%s offset=%llu why=\"%s\"", s->opts.name,
                 U(m->offset), log_text(text, letter.why));
        count(s, &s->stats.dead, 1);
        s->stuck = false;
        return true;
    }
    if (!s->stuck)
        log_line(LOG_ERROR, "sink.stuck", "sink=%s offset=%llu error=\"%s\" why=\"%s\"",
                 s->opts.name, U(m->offset),
                 rc == DEAD_FULL ? "the dead letters are full" : strerror(-rc),
                 log_text(text, letter.why));
    pthread_mutex_lock(&s->lock);
    snprintf(s->stats.error, sizeof s->stats.error,
             rc == DEAD_FULL ? "dead letters are full: %.200s"
                             : "a dead letter was not stored: %.200s",
             why->text);
    pthread_mutex_unlock(&s->lock);
    s->stuck = true;
    s->next_try_ns = now_ns + STUCK_NS;
    return false;
}

/* Passes over the messages at the front that have a verdict. False: one is refused, and there is no
 * room for it; it alone will be sent again. */
static bool settle(struct sink *s, struct course *c, uint64_t now_ns)
{
    bool room = true;
    uint64_t taken = 0;
    for (; c->first < c->count; c->first++) {
        struct sink_message *m = &c->messages[c->first];
        struct error why = {""};
        if (m->verdict == SINK_UNKNOWN)
            break;
        if (m->verdict == SINK_REFUSED) {
            error_set(&why, 0, "%s", m->why);
            room = bury(s, m, &why, now_ns);
        }
        if (!room) {
            m->verdict = SINK_UNKNOWN;
            c->bad_end = c->first + 1;
            break;
        }
        taken += m->verdict == SINK_TAKEN;
        if (c->fates)
            fates_note(c->fates, m->offset, m->offset + 1,
                       m->verdict == SINK_TAKEN ? FATE_DELIVERED : FATE_FAILED);
    }
    count(s, &s->stats.delivered, taken);
    return room;
}

/* The target is where the first message without a verdict begins. */
static void advance(struct sink *s, struct course *c, bool again)
{
    uint64_t to = c->first < c->count ? c->messages[c->first].offset : c->to;
    if (!again) {
        s->position = to;
        if (s->floor < to)
            s->floor = to;
    }
    if (c->first == c->count)
        course_next(c, c->to);
    else
        c->from = to;
}

/* Those that were sent; if they cannot be removed, they are sent once more some day. */
static void remove_sent(struct sink *s)
{
    int rc = s->sent_count ? dead_remove(s->dead, s->sent, s->sent_count) : 0;
    if (rc)
        log_line(LOG_ERROR, "sink.letters_not_removed", "sink=%s count=%u error=%s", s->opts.name,
                 s->sent_count, strerror(-rc));
    s->sent_count = 0;
}

/* A message that was taken has no letter any more: it was refused before a restart, or before the
 * target went back. */
static void drop_letters(struct sink *s, const struct sink_batch *b)
{
    struct dead_letter l;
    struct buf storage;
    unsigned i = 0;
    remove_sent(s);
    buf_init(&storage, SIZE_MAX / 2);
    for (uint64_t at = b->from; dead_next(s->dead, at, &storage, &l) && l.offset < b->to;
         at = l.offset + 1) {
        while (i < b->count && b->messages[i].offset < l.offset)
            i++;
        if (i < b->count && b->messages[i].offset == l.offset &&
            b->messages[i].verdict == SINK_TAKEN)
            s->sent[s->sent_count++] = l.offset;
        if (s->sent_count == SENT_MAX)
            remove_sent(s);
    }
    remove_sent(s);
    buf_fini(&storage);
}

/* Sends the next slice of the course's batch. */
static void deliver(struct sink *s, struct course *c, bool again, uint64_t now_ns)
{
    struct error err = {""};
    unsigned n = slice_count(s, c), first = c->first, end = first + n;
    struct sink_batch b = {.from = again ? c->from : s->position,
                           .to = end < c->count ? c->messages[end].offset : c->to,
                           .messages = c->messages + first,
                           .count = n,
                           .again = again};
    enum sink_outcome found = s->opts.ops->send(s->opts.of, &b, &err);
    now_ns = clock_mono_ns();
    fit_slices(s, n, found);
    s->unsure_to = !again && found == SINK_AWAY ? b.to : 0;
    if (found == SINK_DONE || (found == SINK_POISON && n)) {
        succeeded(s, now_ns); /* it is there, and may say what it does not like */
        if (found == SINK_POISON)
            c->bad_end = end;
        if (found == SINK_POISON && n == 1) {
            b.messages[0].verdict = SINK_REFUSED;
            b.messages[0].why = err.text;
        }
        for (unsigned i = 0; i < n && found == SINK_DONE; i++)
            if (b.messages[i].verdict == SINK_UNKNOWN)
                b.messages[i].verdict = SINK_TAKEN;
        s->stuck = s->stuck && found == SINK_POISON;
        count(s, &s->stats.batches, found == SINK_DONE);
    } else {
        send_failed(s, found, &err, now_ns);
    }
    course_keep_whys(c);
    settle(s, c, now_ns);
    if (!again && b.from < dead_end(s->dead))
        drop_letters(s, &b);
    if (found == SINK_DONE || (c->first > first && (found == SINK_AWAY || found == SINK_GONE)))
        advance(s, c, again);
}

/* ---- dead letters once more ------------------------------------------------------------------ */

static void retried(struct sink *s, int code)
{
    remove_sent(s);
    pthread_mutex_lock(&s->lock);
    s->retry_asked = false;
    s->retry_code = code;
    pthread_cond_broadcast(&s->answered);
    pthread_mutex_unlock(&s->lock);
}

/* Sends what is in a letter, as the only message of the course. AWAY: also when nobody can tell its
 * names, which is no failure of the target. */
static enum sink_outcome resend(struct sink *s, struct course *c, const struct dead_letter *letter,
                                struct error *err)
{
    /* Before the cursor is past it, a restart would have it delivered once more. */
    if (s->opts.ops->transactional && letter->offset >= s->position)
        return SINK_POISON;
    course_next(c, letter->offset);
    enum course_letter is = course_message(c, letter->offset, letter->record);
    if (is != COURSE_MESSAGE)
        return is == COURSE_UNNAMED ? SINK_AWAY : SINK_POISON;
    struct sink_batch b = {letter->offset, letter->offset + 1, c->messages, 1, true};
    enum sink_outcome found = s->opts.ops->send(s->opts.of, &b, err);
    if (found == SINK_DONE && c->messages[0].verdict == SINK_REFUSED)
        found = SINK_POISON;
    if (found == SINK_DONE) {
        fates_note(s->fates, letter->offset, letter->offset + 1, FATE_DELIVERED);
        s->sent[s->sent_count++] = letter->offset;
        if (s->sent_count == SENT_MAX)
            remove_sent(s);
    } else if (found != SINK_POISON) {
        send_failed(s, found, err, clock_mono_ns());
    }
    return found;
}

/* One letter. False: there are no more, or the target is away. */
static bool retry_one(struct sink *s, struct course *c, struct buf *storage)
{
    struct dead_letter letter;
    struct error err = {""};
    if (!dead_next(s->dead, s->retry_at, storage, &letter) || letter.offset > s->retry_last) {
        retried(s, 0);
        return false;
    }
    s->retry_at = letter.offset + 1;
    enum sink_outcome found = resend(s, c, &letter, &err);
    if (found != SINK_DONE && found != SINK_POISON) {
        retried(s, -EAGAIN);
        return false;
    }
    pthread_mutex_lock(&s->lock);
    s->retry_sent += found == SINK_DONE;
    s->retry_kept += found != SINK_DONE;
    pthread_mutex_unlock(&s->lock);
    return true;
}

/* Some of them; the rest in turns with what comes live. */
static void retry_dead(struct sink *s)
{
    struct course c = {.opts = &s->opts, .sealer = s->sealer};
    struct error err = {""};
    struct buf storage;
    uint64_t end_ns = clock_mono_ns() + LOOK_NS;
    remove_sent(s);
    buf_init(&storage, SIZE_MAX / 2);
    if (course_begin(&c, false, s->position, UINT64_MAX, &err) < 0) {
        retried(s, -EAGAIN);
    } else {
        for (unsigned i = 0; i < SENT_MAX && retry_one(s, &c, &storage); i++)
            if (clock_mono_ns() >= end_ns)
                break;
    }
    remove_sent(s);
    s->retried_last = true;
    course_end(&c);
    buf_fini(&storage);
}

/* Tries a letter whose time has come. False: there is none, or it has to wait. */
static bool retry_due(struct sink *s)
{
    struct course c = {.opts = &s->opts, .sealer = s->sealer};
    struct dead_letter letter;
    struct error err = {""};
    struct buf storage;
    int64_t now_us = clock_wall_us();
    bool tried = false;
    if (!s->opts.again.count || clock_mono_ns() < s->due_from_ns)
        return false;
    if (!s->due && now_us < s->due_until_us)
        s->due_until_us = now_us; /* the clock was set back */
    if (!s->due && now_us - s->due_until_us < DUE_US)
        return false;
    if (!s->due) {
        s->due_after_us = s->due_until_us;
        s->due_until_us = now_us;
        s->due_at = 0;
        s->due = true;
    }
    buf_init(&storage, SIZE_MAX / 2);
    s->due = dead_due(s->dead, s->due_at, &s->opts.again, s->due_after_us, s->due_until_us,
                      &storage, &letter);
    if (!s->due) {
        remove_sent(s);
    } else if (course_begin(&c, false, s->position, UINT64_MAX, &err) == 0) {
        enum sink_outcome found = resend(s, &c, &letter, &err);
        tried = c.count != 0 || found != SINK_AWAY;
        if (!tried) /* its names cannot be told */
            s->due_from_ns = clock_mono_ns() + LOOK_NS;
        if (found == SINK_DONE || found == SINK_POISON) /* else it is tried first, next time */
            s->due_at = letter.offset + 1;
        if (found == SINK_POISON)
            log_line(LOG_INFO, "sink.letter_kept", "sink=%s offset=%llu", s->opts.name,
                     U(letter.offset));
    }
    course_end(&c);
    buf_fini(&storage);
    return tried;
}

/* ---- the thread ------------------------------------------------------------------------------ */

static void commit(struct sink *s)
{
    if (s->floor <= s->committed || journal_went_back(s->opts.journal))
        return;
    int rc = journal_reader_commit(s->live.reader, s->floor);
    if (rc == 0)
        s->committed = s->floor;
    else
        log_line(LOG_ERROR, "sink.commit_failed", "sink=%s error=%s", s->opts.name, strerror(-rc));
}

/* See 4. */
static void relieve(struct sink *s, uint64_t now_ns)
{
    uint64_t from = journal_hold_from(s->opts.journal, s->opts.hold_bytes);
    if (from <= s->floor || from > journal_durable(s->opts.journal) ||
        journal_went_back(s->opts.journal))
        return;
    log_line(LOG_ERROR, "sink.gave_up", "sink=%s from=%llu to=%llu hold_bytes=%llu", s->opts.name,
             U(s->floor), U(from), U(s->opts.hold_bytes));
    s->live.gaps++;
    count(s, &s->stats.given_up, from - s->floor);
    fates_note(s->fates, s->floor, from, FATE_GIVEN_UP);
    s->floor = from;
    if (!s->opts.ops->transactional)
        s->position = from;
    read_from(s, from, now_ns);
}

static void look(struct sink *s, uint64_t now_ns)
{
    if (s->looked_ns && now_ns - s->looked_ns < LOOK_NS)
        return;
    s->looked_ns = now_ns;
    relieve(s, now_ns);
    commit(s);
}

static bool asked(struct sink *s, const bool *what)
{
    pthread_mutex_lock(&s->lock);
    bool is = *what;
    pthread_mutex_unlock(&s->lock);
    return is;
}

/* What may be done while nothing comes live. False: nothing. */
static bool in_spare_time(struct sink *s, uint64_t now_ns)
{
    uint64_t ns;
    struct error err = {""};
    if (retry_due(s))
        return true;
    if (!asked(s, &s->replaying))
        return false;
    struct course *c = &s->replay;
    if (!c->reader && course_begin(c, false, s->replay_from, s->replay_to, &err) < 0)
        return false;
    enum course_found found = course_fill(c, now_ns, &ns);
    if (found == COURSE_READY) {
        deliver(s, c, true, now_ns);
        return true;
    }
    if (found != COURSE_OVER)
        return false;
    log_line(LOG_INFO, "sink.replayed", "sink=%s from=%llu to=%llu", s->opts.name,
             U(s->replay_from), U(s->replay_to));
    journal_reader_close(c->reader);
    c->reader = NULL;
    pthread_mutex_lock(&s->lock);
    s->replaying = false;
    pthread_mutex_unlock(&s->lock);
    return true;
}

/* Looks after a connection that nothing is sent over. */
static void tend(struct sink *s, uint64_t now_ns)
{
    struct error err = {""};
    if (!s->opts.ops->tend || (s->tended_ns && now_ns - s->tended_ns < LOOK_NS))
        return;
    s->tended_ns = now_ns;
    if (s->opts.ops->tend(s->opts.of, &err) != SINK_DONE)
        fail(s, true, &err, now_ns);
}

/* Somebody resumed it: he wants to see at once whether it goes now. */
static void forget_pauses(struct sink *s)
{
    uint64_t opened = s->breaker.opened;
    breaker_init(&s->breaker, &s->opts.breaker);
    s->breaker.opened = opened;
    s->next_try_ns = 0;
    pthread_mutex_lock(&s->lock);
    s->resumed = false;
    pthread_mutex_unlock(&s->lock);
}

/* See 6. False: it did not. */
static bool log_went_back(struct sink *s, uint64_t now_ns)
{
    struct error err;
    if (!journal_went_back(s->opts.journal))
        return false;
    error_set(&err, -ESTALE,
              "the journal went back: it was durable up to %llu once, and now is another one",
              U(journal_durable(s->opts.journal)));
    fail(s, true, &err, now_ns);
    return true;
}

/* Does one thing. How long to rest then; 0: not at all. */
static uint64_t step(struct sink *s)
{
    uint64_t now_ns = clock_mono_ns(), ns = 0;
    look(s, now_ns);
    enum course_found found = course_fill(&s->live, now_ns, &ns);
    s->idle = found == COURSE_NOTHING;
    s->lingers = found == COURSE_LINGERS;
    if (asked(s, &s->paused)) {
        let_go(s);
        if (asked(s, &s->retry_asked))
            retried(s, -EAGAIN);
        s->idle = s->lingers = false;
        return PAUSED_NS;
    }
    if (asked(s, &s->resumed))
        forget_pauses(s);
    bool away = s->next_try_ns > now_ns || breaker_wait_ns(&s->breaker, now_ns);
    if (away) {
        if (asked(s, &s->retry_asked))
            retried(s, -EAGAIN);
        uint64_t wait_ns = breaker_wait_ns(&s->breaker, now_ns);
        if (s->next_try_ns > now_ns + wait_ns)
            wait_ns = s->next_try_ns - now_ns;
        s->idle = s->lingers = false;
        return wait_ns < LOOK_NS ? wait_ns : LOOK_NS;
    }
    if (log_went_back(s, now_ns))
        return 0;
    if (!s->connected) { /* also while nothing is to be sent: who set it up sees what is wrong */
        connect_target(s, now_ns);
        return 0;
    }
    if (asked(s, &s->retry_asked) && !(found == COURSE_READY && s->retried_last)) {
        retry_dead(s);
        return 0;
    }
    s->retried_last = false;
    if (found == COURSE_READY) {
        deliver(s, &s->live, false, now_ns);
        return 0;
    }
    if (in_spare_time(s, now_ns))
        return 0;
    tend(s, now_ns);
    if (s->connected && s->failures && found == COURSE_NOTHING)
        succeeded(s, now_ns); /* it is back; nobody has to send a message for that to be seen */
    return ns;
}

static void rest(struct sink *s, uint64_t ns)
{
    if (s->idle) {
        journal_reader_wait(s->live.reader, ns);
        return;
    }
    uint64_t end = clock_mono_ns() + ns;
    pthread_mutex_lock(&s->rest_lock);
    while (!s->wake && !(s->lingers && atomic_load(&s->waiters)) &&
           cond_wait_until(&s->woken, &s->rest_lock, end))
        ;
    s->wake = false;
    pthread_mutex_unlock(&s->rest_lock);
}

static void run(void *arg)
{
    struct sink *s = arg;
    while (!asked(s, &s->stop)) {
        uint64_t ns = step(s);
        publish(s);
        if (ns)
            rest(s, ns);
    }
    remove_sent(s);
    commit(s);
    let_go(s);
}

/* ---- life ------------------------------------------------------------------------------------ */

/* Whether it was paused when it ended, and if the target did that, why. */
static int find_paused(struct sink *s, struct error *err)
{
    struct buf why;
    buf_init(&why, sizeof s->disabled - 1);
    int rc = disk_read_file(s->opts.disk, s->paused_path, &why);
    if (rc == 0 && why.len)
        memcpy(s->disabled, why.ptr, why.len);
    s->paused = rc != -ENOENT;
    s->is_disabled = s->disabled[0] != 0;
    buf_fini(&why);
    return rc == 0 || rc == -ENOENT
               ? 0
               : error_set(err, rc, "%s: %s", s->paused_path, disk_strerror(rc));
}

/* Where the named cursor is; begins one at the oldest record. */
static int find_cursor(struct sink *s, struct error *err)
{
    char name[COURSE_CURSOR_BYTES];
    struct journal_reader *r;
    snprintf(name, sizeof name, "sink:%s", s->opts.name);
    int rc =
        journal_reader_open(s->opts.journal, &(struct journal_reader_opts){.name = name}, &r, err);
    if (rc)
        return rc;
    s->position = s->floor = s->committed = journal_reader_offset(r);
    journal_reader_close(r);
    return 0;
}

void sink_destroy(struct sink *s)
{
    course_end(&s->live);
    course_end(&s->replay);
    dead_close(s->dead);
    sealer_free(s->sealer);
    pthread_cond_destroy(&s->woken);
    pthread_cond_destroy(&s->answered);
    pthread_mutex_destroy(&s->lock);
    pthread_mutex_destroy(&s->rest_lock);
    fates_free(s->fates);
    free(s);
}

void sink_init(struct sink *s)
{
    cond_init(&s->woken);
    cond_init(&s->answered);
    pthread_mutex_init(&s->lock, NULL);
    pthread_mutex_init(&s->rest_lock, NULL);
}

/* All but the thread. */
static int make(const struct sink_opts *opts, struct sink **ret, struct error *err)
{
    char path[PATH_MAX];
    struct sink *s = calloc(1, sizeof *s);
    CHECK(s);
    s->opts = *opts;
    s->rand.state = opts->seed;
    s->slice_max = opts->batch_count;
    s->sealer = opts->keyring ? sealer_new(opts->keyring) : NULL;
    s->live = s->replay = (struct course){.opts = &s->opts, .sealer = s->sealer};
    breaker_init(&s->breaker, &opts->breaker);
    sink_init(s);
    int rc = 0;
    snprintf(s->dir, sizeof s->dir, "%s", opts->dir);
    if (snprintf(path, sizeof path, "%s/%s.dead", opts->dir, opts->name) >= (int)sizeof path ||
        snprintf(s->paused_path, sizeof s->paused_path, "%s/%s.paused", opts->dir, opts->name) >=
            (int)sizeof s->paused_path)
        rc = error_set(err, -ENAMETOOLONG, "%.100s...: the name is too long", opts->dir);
    if (!rc)
        rc = dead_open(opts->disk, path, opts->dead_bytes, &s->dead, err);
    if (!rc)
        rc = find_paused(s, err);
    if (!rc)
        rc = find_cursor(s, err);
    if (!rc && !(s->fates = fates_new(s->position)))
        rc = error_set(err, -ENOMEM, "no memory for the sink %s", opts->name);
    s->live.fates = s->fates;
    s->live.waiters = &s->waiters;
    if (!rc)
        rc = course_begin(&s->live, true, s->position, UINT64_MAX, err);
    if (rc) {
        sink_destroy(s);
        return rc;
    }
    s->due_until_us = clock_wall_us() - dead_reach_us(&opts->again); /* what came due meanwhile */
    *ret = s;
    publish(s);
    return 0;
}

int sink_start(const struct sink_opts *opts, struct sink **ret, struct error *err)
{
    struct sink *s;
    int rc = make(opts, &s, err);
    if (rc)
        return rc;
    log_line(LOG_INFO, "sink.start", "sink=%s kind=%s position=%llu paused=%d", opts->name,
             opts->ops->kind, U(s->position), s->paused);
    s->thread = thread_start(opts->name, run, s);
    *ret = s;
    return 0;
}

void sink_stop(struct sink *s)
{
    if (!s)
        return;
    pthread_mutex_lock(&s->lock);
    s->stop = true;
    wake(s);
    pthread_mutex_unlock(&s->lock);
    if (s->opts.ops->cancel)
        s->opts.ops->cancel(s->opts.of);
    pthread_join(s->thread, NULL);
    sink_destroy(s);
}

int sink_forget(struct journal *journal, const char *name)
{
    char cursor[COURSE_CURSOR_BYTES];
    snprintf(cursor, sizeof cursor, "sink:%s", name);
    return journal_forget_reader(journal, cursor);
}

/* ---- orders ---------------------------------------------------------------------------------- */

int sink_pause(struct sink *s, bool paused)
{
    struct disk *d = s->opts.disk;
    int rc = paused ? disk_replace(d, s->paused_path, "", 0) : d->unlink(d, s->paused_path);
    if (!rc && !paused)
        rc = d->sync_dir(d, s->dir);
    if (rc && !(rc == -ENOENT && !paused))
        return rc;
    pthread_mutex_lock(&s->lock);
    bool was = s->paused;
    s->paused = paused;
    s->disabled[0] = 0;
    atomic_store(&s->is_disabled, false);
    if (was && !paused)
        s->resumed = true;
    wake(s);
    pthread_mutex_unlock(&s->lock);
    if (was != paused)
        log_line(LOG_INFO, paused ? "sink.paused" : "sink.resumed", "sink=%s", s->opts.name);
    return 0;
}

int sink_replay(struct sink *s, uint64_t from, uint64_t to)
{
    int rc = 0;
    pthread_mutex_lock(&s->lock);
    if (s->replaying) {
        rc = -EBUSY;
    } else if (from < to) {
        s->replaying = true;
        s->replay_from = s->stats.replay_from = from;
        s->replay_to = s->stats.replay_to = to;
        wake(s);
    }
    pthread_mutex_unlock(&s->lock);
    return rc;
}

int sink_retry_dead(struct sink *s, uint64_t offset, uint64_t patience_ns, unsigned *ret_sent,
                    unsigned *ret_kept)
{
    uint64_t end = clock_mono_ns() + patience_ns;
    pthread_mutex_lock(&s->lock);
    if (s->retry_asked) { /* one that nobody waits for any more is still at it */
        pthread_mutex_unlock(&s->lock);
        return -EBUSY;
    }
    s->retry_asked = true;
    s->retry_at = offset == UINT64_MAX ? 0 : offset;
    s->retry_last = offset;
    s->retry_sent = s->retry_kept = 0;
    wake(s);
    while (s->retry_asked && cond_wait_until(&s->answered, &s->lock, end))
        ;
    int rc = s->retry_asked ? -ETIMEDOUT : s->retry_code;
    *ret_sent = s->retry_sent;
    *ret_kept = s->retry_kept;
    pthread_mutex_unlock(&s->lock);
    return rc;
}
