/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Overload as the pipeline sees it. The ladder itself is gate/overload.h; here its samples are
 * taken from the lanes, and its levels become refusals. And before any refusal: a lane that has
 * more un-durable bytes than it should stops reading from its sockets, so that senders wait in
 * TCP's window and are not told anything.
 */
#include "base/metric.h"
#include "base/clock.h"
#include "pipeline_private.h"

/* ---- what each level refuses ---- */

static bool turn_away(struct job *j, enum metric_counter counter)
{
    struct exchange *x = job_exchange(j);
    metric_add(counter, 1);
    x->reply.retry_ns = overload_retry_ns(j->overload, j->credential->number ^ x->request.start_ns);
    job_refuse(j, REASON_overloaded, NULL);
    return false;
}

void overload_refuse_read(struct job *j)
{
    turn_away(j, METRIC_overload_reads_shed);
}

bool overload_lets(struct job *j)
{
    enum overload_level level = overload_level(j->overload);
    struct request *q = &job_exchange(j)->request;
    overload_note_good(&j->lane->p->overload, q->source, worker_now_ns(j->lane->worker));
    bool reads = level < OVERLOAD_APPEND_ONLY;
    switch (j->match.route->class) {
    case ROUTE_READ:
        /* Who has the answer already is told so: that is known without a disk. */
        q->only_unchanged = !reads && q->if_none_match.len > 0;
        return reads || q->only_unchanged || turn_away(j, METRIC_overload_reads_shed);
    case ROUTE_CHANGE:
        return reads || turn_away(j, METRIC_overload_reads_shed);
    case ROUTE_CONSUME: /* what is done makes room */
        return reads || j->match.route->op != OP_CONSUME_FETCH ||
               turn_away(j, METRIC_overload_reads_shed);
    case ROUTE_WRITE:
    case ROUTE_TOPIC:
        return level < OVERLOAD_DISK || !overload_sheds(j->overload, j->account->number) ||
               turn_away(j, METRIC_overload_publishes_shed);
    default:
        return true;
    }
}

bool overload_lets_hash(struct job *j)
{
    return overload_allows_hash(&j->lane->p->overload, j->overload, job_exchange(j)->request.source,
                                worker_now_ns(j->lane->worker));
}

/* ---- reading stops, and goes on ---- */

void overload_hold_look(struct lane *l)
{
    struct pipeline *p = l->p;
    uint64_t bytes =
        journal_pending(p->opts.api.journal) + (l->open ? l->open->append.body.len : 0);
    uint64_t line = l->holds ? p->hold_above / 3 * 2 : p->hold_above;
    bool hold = bytes >= line;
    if (hold == l->holds)
        return;
    l->holds = hold;
    atomic_fetch_add_explicit(&p->holding, hold ? 1u : -1u, memory_order_relaxed);
    worker_hold_reading(l->worker, hold);
}

/* ---- samples ---- */

void overload_note_turn(struct lane *l)
{
    uint64_t waiting = l->flying_count + (l->open ? l->open->append.count : 0);
    atomic_store_explicit(&l->waiting_records, waiting, memory_order_relaxed);
    atomic_store_explicit(&l->oldest_ns, l->flying ? l->flying->submitted_ns : 0,
                          memory_order_relaxed);
}

void overload_note_commit(struct lane *l, uint64_t submitted_ns)
{
    uint64_t n = atomic_load_explicit(&l->commits, memory_order_relaxed);
    uint64_t ns = atomic_load_explicit(&l->commits_ns, memory_order_relaxed);
    uint64_t took = worker_now_ns(l->worker) - submitted_ns;
    atomic_store_explicit(&l->commits, n + 1, memory_order_relaxed);
    atomic_store_explicit(&l->commits_ns, ns + took, memory_order_relaxed);
}

static struct overload_sample gather(struct pipeline *p, uint64_t now_ns)
{
    struct overload_sample s = {.now_ns = now_ns,
                                .fill_permille = journal_fill(p->opts.api.journal)};
    uint64_t commits = 0, commits_ns = 0, age = 0;
    for (unsigned i = 0; i < p->lanes_count; i++) {
        struct lane *l = p->lanes[i];
        uint64_t oldest = atomic_load_explicit(&l->oldest_ns, memory_order_relaxed);
        s.waiting += atomic_load_explicit(&l->waiting_records, memory_order_relaxed);
        commits += atomic_load_explicit(&l->commits, memory_order_relaxed);
        commits_ns += atomic_load_explicit(&l->commits_ns, memory_order_relaxed);
        if (oldest && now_ns > oldest && now_ns - oldest > age)
            age = now_ns - oldest;
    }
    if (commits != p->commits)
        s.commit_ns = (commits_ns - p->commits_ns) / (commits - p->commits);
    p->commits = commits;
    p->commits_ns = commits_ns;
    if (age > s.commit_ns)
        s.commit_ns = age;
    uint64_t pending = journal_pending(p->opts.api.journal);
    s.bytes_permille = p->hold_above ? (unsigned)(pending * 1000 / p->hold_above) : 0;
    if (atomic_load_explicit(&p->holding, memory_order_relaxed) && s.bytes_permille < 1000)
        s.bytes_permille = 1000;
    return s;
}

void overload_look(struct lane *l, uint64_t now_ns)
{
    struct pipeline *p = l->p;
    if (l->holds)
        overload_hold_look(l);
    if (!atomic_load_explicit(&p->shed, memory_order_relaxed) ||
        !overload_due(&p->overload, now_ns) || atomic_flag_test_and_set(&p->ticking))
        return;
    struct overload_sample s = gather(p, now_ns);
    overload_tick(&p->overload, &s);
    atomic_flag_clear(&p->ticking);
}

/* Whoever ticks is done within microseconds, and never waits. */
void pipeline_tune(struct pipeline *p, const struct pipeline_tune *tune)
{
    atomic_store(&p->pprof, tune->pprof);
    while (atomic_flag_test_and_set(&p->ticking))
        clock_sleep_ns(NS_PER_MS / 100);
    overload_tune(&p->overload, &tune->overload);
    atomic_store(&p->shed, tune->shed);
    if (!tune->shed)
        overload_end(&p->overload);
    atomic_flag_clear(&p->ticking);
}

void pipeline_put_overload(const struct pipeline *p, struct buf *out)
{
    uint32_t state = overload_now(&p->overload);
    buf_printf(out,
               ",\"overload\":{\"level\":%d,\"waiting\":%u,\"limit\":%u,\"cohorts_shed\":%u,"
               "\"workers_holding\":%u,\"disk_fill_percent\":%u}",
               (int)overload_level(state), atomic_load(&p->overload.waiting_now),
               atomic_load(&p->overload.limit_now), state >> 8, atomic_load(&p->holding),
               journal_fill(p->opts.api.journal) / 10);
}
