/* SPDX-License-Identifier: Apache-2.0 */
#include "view/view.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/metric.h"
#include "base/thread.h"
#include "flow/limits.h"

/* How long a quiet view sleeps at the most: its timed flushes are that exact. */
#define IDLE_NS (200 * NS_PER_MS)
/* How long a view that is at the end lets more come together before it looks again. Waking up for
 * every commit would cost two context switches each; a read that waits ends the nap (view_hurry).
 */
#define NAP_NS (5 * NS_PER_MS)
/* Records decoded ahead of the one applied: the memory that each will need is fetched meanwhile. */
#define AHEAD    16u
#define RETRY_NS (1000 * NS_PER_MS)

struct view {
    struct view_opts opts;
    struct journal_reader *reader;
    pthread_t thread;
    _Atomic bool stop, stuck;
    _Atomic uint64_t wanted; /* somebody waits until everything below is applied */
    bool busy;               /* the last look brought something */
    pthread_mutex_t nap_lock;
    pthread_cond_t nap_end;
    pthread_cond_t flushed; /* with nap_lock, as what view_flush asks for: */
    uint64_t flush_asked, flush_done, flush_from;
    int flush_code;
    _Atomic uint64_t applied, durable, gaps, errors;
    _Atomic int64_t received_us; /* of the record last applied; of a batch of data that was passed
                                    over, when that was committed */
    struct sealer *sealer;
    struct buf opened;
    bool failing, commit_failing, unreadable;
    uint64_t committed;
};

/* ---- the thread ------------------------------------------------------------------------------ */

/* Lets retention go on. A commit that fails is tried again with the next tick. */
static void commit(struct view *v, uint64_t cursor)
{
    if (cursor <= v->committed)
        return;
    atomic_store(&v->durable, cursor);
    int code = journal_reader_commit(v->reader, cursor);
    if (code == 0)
        v->committed = cursor;
    else if (!v->commit_failing)
        log_line(LOG_ERROR, "view.commit_failed", "view=%s error=%s", v->opts.ops->name,
                 strerror(-code));
    v->commit_failing = code < 0;
}

static void tick(struct view *v, uint64_t next_offset, uint64_t bytes)
{
    const struct view_ops *ops = v->opts.ops;
    commit(v, ops->tick(v->opts.of, next_offset, bytes, clock_mono_ns()));
    while (ops->stuck && ops->stuck(v->opts.of) && !atomic_load(&v->stop)) {
        atomic_store(&v->stuck, true);
        journal_reader_wait(v->reader, RETRY_NS);
        commit(v, ops->tick(v->opts.of, next_offset, 0, clock_mono_ns()));
    }
    atomic_store(&v->stuck, false);
}

static void publish(struct view *v, uint64_t next_offset)
{
    if (next_offset <= atomic_load_explicit(&v->applied, memory_order_relaxed))
        return;
    atomic_store(&v->applied, next_offset);
    if (v->opts.on_applied)
        v->opts.on_applied(v->opts.arg);
}

/* Gives the view one record, opened if that is possible. */
static void apply(struct view *v, struct record *r, uint64_t offset)
{
    enum seal_outcome found = SEAL_PLAIN;
    if (__builtin_expect(r->key_id != 0, 0))
        found = v->sealer ? unseal_record(v->sealer, r, &v->opened) : SEAL_UNKNOWN;
    CHECK(found != SEAL_MEMORY);
    if (found == SEAL_PLAIN || found == SEAL_DONE) {
        v->opts.ops->apply(v->opts.of, r, offset);
        return;
    }
    if (v->opts.ops->apply_shut) {
        r->payload = SLICE("");
        v->opts.ops->apply_shut(v->opts.of, r, offset);
    }
    if (found == SEAL_ERASED) {
        metric_add(METRIC_sealed_erased, 1);
    } else {
        atomic_fetch_add(&v->errors, 1);
        metric_add(METRIC_sealed_unreadable, 1);
        if (!v->unreadable)
            log_line(LOG_ERROR, "view.sealed_unreadable", "view=%s offset=%llu key=%u why=\"%s\"",
                     v->opts.ops->name, (unsigned long long)offset, r->key_id,
                     found == SEAL_BROKEN ? "it does not open"
                                          : "the keyring does not know the key");
        v->unreadable = true;
    }
}

/* Passes over data that the view does not want. Of the last one it takes the time: so late is it.
 */
static uint64_t skip_data(struct view *v, const struct journal_batch *b, size_t *at)
{
    size_t last = *at, before = *at;
    uint64_t skipped = 0;
    struct record r;
    for (; journal_batch_skip_datum(b, at); last = before, before = *at)
        skipped++;
    if (skipped && *at == b->body.len && journal_batch_record(b, &last, &r) > 0)
        atomic_store_explicit(&v->received_us, r.receive_us, memory_order_relaxed);
    return skipped;
}

/* Applies the batch's records from `from` on: a batch may begin below the cursor. */
static void apply_batch(struct view *v, const struct journal_batch *b, uint64_t from)
{
    const struct view_ops *ops = v->opts.ops;
    size_t at = 0;
    uint64_t offset = b->first_offset, decoded = offset, again = offset;
    const unsigned ahead = ops->prefetch ? AHEAD : 1;
    struct record window[AHEAD];
    int more = 1;
    if (b->data && ops->skips_data && ops->skips_data(v->opts.of)) {
        atomic_store_explicit(&v->received_us, b->commit_us, memory_order_relaxed);
        return;
    }
    for (;;) {
        if (offset == decoded && more > 0 && ops->skips_data && ops->skips_data(v->opts.of))
            offset = decoded += skip_data(v, b, &at);
        while (more > 0 && decoded - offset < ahead &&
               (more = journal_batch_record(b, &at, &window[decoded % AHEAD])) > 0) {
            if (ops->prefetch)
                ops->prefetch(v->opts.of, window[decoded % AHEAD].feed);
            decoded++;
        }
        if (offset == decoded)
            break;
        for (; ops->prefetch && again < decoded && again <= offset + AHEAD / 2; again++)
            ops->prefetch_end(v->opts.of, window[again % AHEAD].feed);
        struct record *r = &window[offset % AHEAD];
        if (offset >= from) {
            if (!ops->wants || ops->wants(v->opts.of, r))
                apply(v, r, offset);
            atomic_store_explicit(&v->received_us, r->receive_us, memory_order_relaxed);
        }
        offset++;
    }
    if (more < 0) {
        /* The batch had a right checksum, so trying again cannot help, and stopping here would hold
         * the journal for ever. It keeps the bytes; what was not understood is named here. */
        atomic_fetch_add(&v->errors, 1);
        log_line(LOG_ERROR, "view.bad_batch", "view=%s batch=%llu skipped_from=%llu records=%llu",
                 v->opts.ops->name, (unsigned long long)b->first_offset, (unsigned long long)offset,
                 (unsigned long long)b->count);
    }
}

static void note_read_error(struct view *v, int code)
{
    atomic_fetch_add(&v->errors, 1);
    if (!v->failing)
        log_line(LOG_ERROR, "view.read_failed", "view=%s offset=%llu error=%s", v->opts.ops->name,
                 (unsigned long long)journal_reader_offset(v->reader), strerror(-code));
    v->failing = true;
}

/* Sleeps as long as a nap is, or until somebody wants more than is applied. */
static void nap(struct view *v, uint64_t applied)
{
    uint64_t length = v->opts.ops->nap_ns ? v->opts.ops->nap_ns : NAP_NS;
    uint64_t end = clock_mono_ns() + length;
    pthread_mutex_lock(&v->nap_lock);
    while (!atomic_load(&v->stop) && atomic_load(&v->wanted) <= applied &&
           cond_wait_until(&v->nap_end, &v->nap_lock, end))
        ;
    pthread_mutex_unlock(&v->nap_lock);
}

void view_hurry(struct view *v, uint64_t offset)
{
    uint64_t was = atomic_load(&v->wanted);
    while (was < offset && !atomic_compare_exchange_weak(&v->wanted, &was, offset))
        ;
    pthread_mutex_lock(&v->nap_lock);
    pthread_cond_signal(&v->nap_end);
    pthread_mutex_unlock(&v->nap_lock);
}

/* One call of the reader and what follows from it. */
static void pull(struct view *v)
{
    struct journal_batch b = {0};
    uint64_t from = journal_reader_offset(v->reader);
    int next = journal_reader_next(v->reader, &b);
    if (next < 0) {
        note_read_error(v, next);
        tick(v, from, 0);
        journal_reader_wait(v->reader, RETRY_NS);
        return;
    }
    v->failing = false;
    if (next == JOURNAL_WAIT) {
        tick(v, from, 0);
        if (v->busy || (v->opts.ops->restless && v->opts.ops->restless(v->opts.of)))
            nap(v, from);
        else
            journal_reader_wait(v->reader, IDLE_NS);
        v->busy = false;
        return;
    }
    v->busy = true;
    uint64_t to = journal_reader_offset(v->reader);
    if (next == JOURNAL_GAP) {
        atomic_fetch_add(&v->gaps, 1);
        log_line(LOG_WARN, "view.gap", "view=%s from=%llu to=%llu", v->opts.ops->name,
                 (unsigned long long)from, (unsigned long long)to);
    } else {
        apply_batch(v, &b, atomic_load_explicit(&v->applied, memory_order_relaxed));
    }
    /* First say it is applied, then do what may take long. */
    publish(v, to);
    tick(v, to, b.body.len);
}

/* Does what view_flush asks for, once enough is applied. */
static void flush_asked(struct view *v)
{
    uint64_t applied = view_applied(v);
    pthread_mutex_lock(&v->nap_lock);
    uint64_t asked = applied >= v->flush_from ? v->flush_asked : v->flush_done;
    bool due = asked != v->flush_done;
    pthread_mutex_unlock(&v->nap_lock);
    if (!due)
        return;
    int code = v->opts.ops->flush(v->opts.of, applied);
    if (code == 0)
        commit(v, applied);
    pthread_mutex_lock(&v->nap_lock);
    v->flush_done = asked;
    v->flush_code = code;
    pthread_cond_broadcast(&v->flushed);
    pthread_mutex_unlock(&v->nap_lock);
}

int view_flush(struct view *v, uint64_t patience_ns)
{
    uint64_t end = patience_ns ? clock_mono_ns() + patience_ns : UINT64_MAX;
    uint64_t from = journal_durable(v->opts.journal);
    pthread_mutex_lock(&v->nap_lock);
    uint64_t ticket = ++v->flush_asked;
    v->flush_from = from;
    pthread_mutex_unlock(&v->nap_lock);
    view_hurry(v, from);
    journal_reader_wake(v->reader);
    pthread_mutex_lock(&v->nap_lock);
    while (v->flush_done < ticket && cond_wait_until(&v->flushed, &v->nap_lock, end))
        ;
    int code = v->flush_done < ticket ? -ETIMEDOUT : v->flush_code;
    pthread_mutex_unlock(&v->nap_lock);
    return code;
}

static void run(void *arg)
{
    struct view *v = arg;
    while (!atomic_load(&v->stop)) {
        pull(v);
        flush_asked(v);
    }
}

/* ---- life ------------------------------------------------------------------------------------ */

int view_start(const struct view_opts *opts, struct view **ret, struct error *err)
{
    struct view *v = calloc(1, sizeof *v);
    CHECK(v);
    v->opts = *opts;
    buf_init(&v->opened, BATCH_BYTES_MAX);
    v->sealer = opts->keyring ? sealer_new(opts->keyring) : NULL;
    v->applied = v->durable = v->committed = opts->cursor;
    struct journal_reader_opts reader = {
        .name = opts->ops->name, .has_start = true, .start = opts->cursor};
    cond_init(&v->nap_end);
    cond_init(&v->flushed);
    pthread_mutex_init(&v->nap_lock, NULL);
    int code = journal_reader_open(opts->journal, &reader, &v->reader, err);
    if (code < 0) {
        sealer_free(v->sealer);
        free(v);
        return code;
    }
    v->thread = thread_start(opts->ops->name, run, v);
    *ret = v;
    return 0;
}

void view_stop(struct view *v)
{
    if (!v)
        return;
    atomic_store(&v->stop, true);
    view_hurry(v, 0);
    journal_reader_wake(v->reader);
    pthread_join(v->thread, NULL);
    uint64_t applied = view_applied(v);
    int code = v->opts.ops->flush(v->opts.of, applied);
    if (code == 0)
        commit(v, applied);
    else
        log_line(LOG_ERROR, "view.flush_failed", "view=%s replay_from=%llu error=%s",
                 v->opts.ops->name, (unsigned long long)v->durable, strerror(-code));
    journal_reader_close(v->reader);
    sealer_free(v->sealer);
    buf_fini(&v->opened);
    free(v);
}

uint64_t view_applied(const struct view *v)
{
    return atomic_load(&v->applied);
}

struct view_stats view_stats(const struct view *v)
{
    uint64_t applied = view_applied(v), end = journal_durable(v->opts.journal);
    struct view_stats s = {
        .applied = applied,
        .durable = v->durable,
        .lag = end > applied ? end - applied : 0,
        .gaps = v->gaps,
        .errors = v->errors,
        .stuck = v->stuck,
    };
    int64_t received = v->received_us, now = clock_wall_us();
    if (s.lag && received && now > received)
        s.lag_us = (uint64_t)(now - received);
    return s;
}
