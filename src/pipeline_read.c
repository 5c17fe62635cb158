/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads. A read first waits until the view it uses has applied what its account was last told was
 * accepted (as a rule not at all); then it asks the view without touching a disk; if that does not
 * do, it goes to the read pool: a bounded number of threads, fair between accounts, with a
 * deadline.
 */
#include <stdlib.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/metric.h"
#include "codec/etag.h"
#include "pipeline_private.h"

/* ---- waiting for views ---- */

static bool views_have(const struct pipeline *p, unsigned views, uint64_t need)
{
    return (!(views & VIEW_LATEST) || view_applied(p->opts.latest_view) >= need) &&
           (!(views & VIEW_HISTORY) || view_applied(p->opts.history_view) >= need) &&
           (!(views & VIEW_SESSION) || view_applied(p->opts.session_view) >= need);
}

static void take_waiting(struct lane *l, struct job **at)
{
    struct job *j = *at;
    *at = j->next;
    j->next = NULL;
    atomic_fetch_sub(&l->waiting_count, 1);
}

/* Looks through the waiting jobs; those whose views are there go on. A job that goes on may wait
 * anew, so the list is taken apart first. */
static void run_waiting(struct lane *l, uint64_t now_ns)
{
    struct job *ready = NULL, **ready_last = &ready;
    for (struct job **at = &l->waiting; *at;) {
        struct job *j = *at;
        if (!views_have(l->p, j->views, j->need) && now_ns < j->deadline_ns) {
            at = &j->next;
            continue;
        }
        take_waiting(l, at);
        *ready_last = j;
        ready_last = &j->next;
    }
    while (ready) {
        struct job *j = ready;
        ready = j->next;
        j->next = NULL;
        if (views_have(l->p, j->views, j->need)) {
            j->on_applied(j);
        } else {
            job_exchange(j)->reply.retry_ns = NS_PER_S;
            bool stored = j->count > 0;
            job_refuse(j, stored ? REASON_outcome_unknown : REASON_busy,
                       stored ? "stored durably, but not yet applied to the views"
                              : "the view is behind what was accepted, try again");
        }
    }
}

static void on_wake(struct mail *m)
{
    struct lane *l = (struct lane *)((char *)m - offsetof(struct lane, wake));
    atomic_store(&l->wake_posted, false);
    run_waiting(l, worker_now_ns(l->worker));
}

void pipeline_on_applied(void *pipeline)
{
    struct pipeline *p = pipeline;
    rules_on_applied(p);
    for (unsigned i = 0; i < p->lanes_count; i++) {
        struct lane *l = p->lanes[i];
        if (atomic_load(&l->waiting_count) && !atomic_exchange(&l->wake_posted, true)) {
            l->wake.run = on_wake;
            worker_post(l->worker, &l->wake);
        }
    }
}

void wait_for_views(struct job *j, unsigned views, uint64_t need, uint64_t deadline_ns,
                    void (*then)(struct job *j))
{
    struct lane *l = j->lane;
    j->views = views;
    j->need = need;
    j->deadline_ns = deadline_ns;
    j->on_applied = then;
    if (views_have(l->p, views, need)) {
        then(j);
        return;
    }
    if (views & VIEW_LATEST)
        view_hurry(l->p->opts.latest_view, need);
    if (views & VIEW_HISTORY)
        view_hurry(l->p->opts.history_view, need);
    if (views & VIEW_SESSION)
        view_hurry(l->p->opts.session_view, need);
    j->next = l->waiting;
    l->waiting = j;
    atomic_fetch_add(&l->waiting_count, 1);
    /* The view may have got there between the look and the registration: then nobody would wake us.
     * The count is visible now, so one more look settles it. */
    if (views_have(l->p, views, need) && l->waiting == j) {
        take_waiting(l, &l->waiting);
        then(j);
    }
}

void read_tick(struct lane *l, uint64_t now_ns)
{
    if (l->waiting)
        run_waiting(l, now_ns);
}

/* ---- the read pool ---- */

struct read_pool {
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct fair_queue queue;
    bool stopping;
    unsigned threads_count;
    pthread_t threads[];
};

static void finish_read(struct job *j);

static enum api_read ask(const struct api *a, struct job *j, bool may_block)
{
    const struct api_caller c = {
        .account = j->account, .credential = j->credential, .feed = j->feed, .group = j->group};
    return api_read(a, &j->match, job_exchange(j), &c, may_block, j->found);
}

static bool queue_up(struct read_pool *pool, struct job *j)
{
    pthread_mutex_lock(&pool->lock);
    bool queued = fair_put(&pool->queue, j->account->number, &j->pool_item);
    pthread_cond_signal(&pool->wake);
    pthread_mutex_unlock(&pool->lock);
    return queued;
}

static void run_read(struct read_pool *pool, struct job *j)
{
    struct exchange *x = job_exchange(j);
    const struct api *a = &j->lane->p->opts.api;
    if (clock_mono_ns() > j->deadline_ns) {
        x->reply.reason = REASON_busy;
        x->reply.retry_ns = NS_PER_S;
    } else if (j->in_pool) {
        while (!j->in_pool(j)) {
            j->deadline_ns = UINT64_MAX; /* it has begun */
            if (queue_up(pool, j))
                return;
        }
    } else {
        CHECK(ask(a, j, true) == API_READ_DONE);
    }
    job_post(j, j->from_pool);
}

static void run_pool(void *arg)
{
    struct read_pool *pool = arg;
    pthread_mutex_lock(&pool->lock);
    for (;;) {
        struct fair_item *item = fair_take(&pool->queue);
        if (item) {
            pthread_mutex_unlock(&pool->lock);
            run_read(pool, (struct job *)((char *)item - offsetof(struct job, pool_item)));
            pthread_mutex_lock(&pool->lock);
        } else if (pool->stopping) {
            break;
        } else {
            pthread_cond_wait(&pool->wake, &pool->lock);
        }
    }
    pthread_mutex_unlock(&pool->lock);
}

struct read_pool *read_pool_new(struct pipeline *p)
{
    unsigned n = p->opts.read_threads;
    struct read_pool *pool = calloc(1, sizeof *pool + n * sizeof pool->threads[0]);
    CHECK(pool);
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->wake, NULL);
    fair_init(&pool->queue, p->opts.read_queue_max, p->opts.read_per_account_max);
    pool->threads_count = n;
    for (unsigned i = 0; i < n; i++)
        pool->threads[i] = thread_start("read", run_pool, pool);
    return pool;
}

void read_pool_free(struct read_pool *pool)
{
    if (!pool)
        return;
    pthread_mutex_lock(&pool->lock);
    pool->stopping = true;
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->lock);
    for (unsigned i = 0; i < pool->threads_count; i++)
        pthread_join(pool->threads[i], NULL);
    pthread_mutex_destroy(&pool->lock);
    pthread_cond_destroy(&pool->wake);
    free(pool);
}

static void to_pool(struct job *j)
{
    metric_add(METRIC_reads_pool, 1);
    if (!j->from_pool)
        j->from_pool = finish_read;
    if (queue_up(j->lane->p->pool, j))
        return;
    metric_add(METRIC_reads_refused, 1);
    job_exchange(j)->reply.retry_ns = NS_PER_S;
    job_refuse(j, REASON_busy, NULL);
}

void read_in_pool(struct job *j, bool (*what)(struct job *j), void (*then)(struct job *j))
{
    j->in_pool = what;
    j->from_pool = then;
    to_pool(j);
}

/* ---- the stage ---- */

/* How far behind the answer is: messages that its views did not have yet. */
static void put_staleness(struct job *j)
{
    const struct pipeline *p = j->lane->p;
    uint64_t has = view_applied(p->opts.latest_view), history = view_applied(p->opts.history_view);
    if (j->views & VIEW_HISTORY && history < has)
        has = history;
    uint64_t end = journal_durable(p->opts.api.journal);
    metric_add(METRIC_overload_reads_stale, 1);
    buf_printf(&job_exchange(j)->reply.fields, "X-Sluice-Stale: %llu\r\n",
               (unsigned long long)(end > has ? end - has : 0));
}

/* The reply is complete; some of them leave only when what they say is done. */
static void finish_read(struct job *j)
{
    struct exchange *x = job_exchange(j);
    enum route_op op = j->match.route->op;
    struct buf payload;
    char text[DATUM_TARGET_BYTES];
    struct datum_target id;
    uint16_t node;
    if (j->stale)
        put_staleness(j);
    if (x->reply.reason != REASON_ok) {
        job_send(j);
    } else if (op == OP_DATA_DELETE &&
               datum_id_parse(j->match.id, &id.event_ms, &node, &id.offset)) {
        buf_init(&payload, sizeof text);
        datum_target_encode(&payload, id);
        memcpy(text, payload.ptr, sizeof text);
        buf_fini(&payload);
        write_about(j, RECORD_DELETED, slice_of(text, sizeof text));
    } else if (op == OP_DATA_UPDATE) {
        write_about(j, RECORD_CHANGED, buf_slice(&j->found->change));
    } else if (j->match.route->class == ROUTE_CHANGE && !j->changed) {
        change_submit(j);
    } else if (j->found && j->found->moves) {
        mark_move(j);
    } else {
        if (j->changed && api_creates(op))
            x->reply.status = 201;
        job_send(j);
    }
}

/* Whether the answer that was made is the one the caller has; the front says 304 then. */
static bool is_unchanged(const struct exchange *x)
{
    const struct reply *r = &x->reply;
    if (r->reason != REASON_ok || r->status != 200)
        return r->status == 304;
    uint64_t version =
        r->version ? r->version : etag_version(buf_slice(&r->body), r->content_type != NULL);
    return !r->no_store && etag_named(x->request.if_none_match, version);
}

static void read_now(struct job *j)
{
    struct exchange *x = job_exchange(j);
    const struct pipeline *p = j->lane->p;
    enum api_read got = ask(&p->opts.api, j, false);
    if (__builtin_expect(x->request.only_unchanged, 0)) {
        if (got != API_READ_DONE || !is_unchanged(x)) {
            buf_clear(&x->reply.body);
            buf_clear(&x->reply.fields);
            overload_refuse_read(j);
            return;
        }
        metric_add(METRIC_overload_reads_unchanged, 1);
    }
    if (got == API_READ_DONE) {
        finish_read(j);
        return;
    }
    buf_clear(&x->reply.body);
    buf_clear(&x->reply.fields);
    job_keep(j);
    if (j->stale || !j->views)
        to_pool(j);
    else
        wait_for_views(j, VIEW_HISTORY, j->need, j->deadline_ns, to_pool);
}

static unsigned views_of(enum route_op op)
{
    switch (op) {
    case OP_DATA_LIST:
    case OP_DATA_CHART:
    case OP_DATA_FIRST:
    case OP_DATA_NEXT:
    case OP_DATA_PREVIOUS:
    case OP_DATA_GET:
    case OP_DATA_UPDATE:
    case OP_DATA_DELETE:
    case OP_FEED_DETAILS:
        return VIEW_LATEST | VIEW_HISTORY;
    case OP_RECEIPT: /* says itself how far they are */
    case OP_TIME_SECONDS:
    case OP_TIME_MILLIS:
    case OP_TIME_ISO:
    case OP_TIME_HOURS:
    case OP_TIME_STRUCT:
    case OP_TIME_STRFTIME:
        return 0;
    default:
        return VIEW_LATEST;
    }
}

/* Whether there may be more to do than to answer, and what it says must be up to date. */
static bool reads_to_change(const struct job *j)
{
    switch (j->match.route->op) {
    case OP_DATA_LAST:
        return j->feed->has_mark;
    case OP_DATA_FIRST:
    case OP_DATA_NEXT:
    case OP_DATA_UPDATE:
    case OP_DATA_DELETE:
        return true;
    default:
        return j->match.route->class == ROUTE_CHANGE;
    }
}

static void begin_found(struct job *j)
{
    if (j->found)
        return;
    j->found = calloc(1, sizeof *j->found);
    CHECK(j->found);
    buf_init(&j->found->change, VALUE_BIG_MAX + DATUM_TARGET_BYTES + 64);
}

/* What a change of a datum weighs in limits of bytes: what it stores, which is the datum's name and
 * the value that the body brings. */
static uint32_t change_bytes(struct job *j)
{
    struct points *p = &j->lane->points;
    struct error err;
    bool brings = j->match.route->op == OP_DATA_UPDATE &&
                  api_point_change(&job_exchange(j)->request, p, &err) == REASON_ok;
    return DATUM_TARGET_BYTES + (brings ? (uint32_t)p->list[0].value.len : 0);
}

void read_run(struct job *j)
{
    const struct pipeline *p = j->lane->p;
    enum route_op op = j->match.route->op;
    bool changes = reads_to_change(j);
    if (changes && job_exchange(j)->request.only_unchanged) {
        overload_refuse_read(j);
        return;
    }
    if ((op == OP_DATA_DELETE || op == OP_DATA_UPDATE) && !job_throttle(j, 1, change_bytes(j)))
        return;
    if (changes)
        begin_found(j);
    uint64_t need = atomic_load_explicit(&j->account->live->told, memory_order_relaxed);
    if (need < p->told_before)
        need = p->told_before;
    unsigned views = views_of(op);
    uint64_t deadline_ns = worker_now_ns(j->lane->worker) + j->lane->tune.read_deadline_ns;
    if (!views_have(p, views, need)) {
        if (overload_level(j->overload) >= OVERLOAD_STALE_READS &&
            !changes) { /* old news is better than a queue */
            j->stale = true;
            j->views = views;
            j->deadline_ns = deadline_ns;
            read_now(j);
            return;
        }
        job_keep(j);
    }
    wait_for_views(j, views, need, deadline_ns, read_now);
}
