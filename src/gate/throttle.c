/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A decision holds the locks of all its subjects' shards, taken in ascending order and each once,
 * so that looking at all and counting all is one step and no order of asks can deadlock.
 *
 * Time of a subject: the later of the clock handed in and its newest stamp; workers whose loop
 * clocks differ by a little never count backwards.
 *
 * With `attempts` a refused try fills the windows too, so the wait told after a refusal is computed
 * when all is counted: a window that had room before the refused try may be the one that is full
 * afterwards.
 */
#include "gate/throttle.h"

#include <stdlib.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/metric.h"
#include "flow/limits.h"
#include "gate/meter.h"
#include "gate/ring.h"
#include "gate/subjects.h"
#include "gate/window.h"

#define BATCH 32u /* jobs whose cache misses overlap: more than a core has line fill buffers */

struct throttle {
    struct subjects *subjects;
};

/* One ask while its shard is locked. */
struct seat {
    const struct throttle_ask *ask;
    uint64_t hash;
    uint64_t now_ns; /* the subject's present */
    struct subject *subject;
    struct weight weight;
    uint8_t shadowed; /* a bit for each window in shadow that would refuse */
    bool limited;
};

/* Why and until when one ask refuses. */
struct refusal {
    uint64_t wait_ns;
    uint8_t window;
    bool distance, never;
};

struct throttle *throttle_new(const struct throttle_opts *opts)
{
    struct throttle *t = calloc(1, sizeof *t);
    if (!t)
        return NULL;
    t->subjects = subjects_new(opts->subjects_max, opts->memory_max);
    if (!t->subjects) {
        free(t);
        return NULL;
    }
    return t;
}

void throttle_free(struct throttle *t)
{
    if (!t)
        return;
    subjects_free(t->subjects);
    free(t);
}

static bool has_limits(const struct limit_set *l)
{
    return l->windows_count || l->min_distance_ms;
}

/* ---- looking -------------------------------------------------------------------------------- */

static bool in_shadow(struct window w)
{
    return w.kind & LIMIT_SHADOW;
}

/* The wait for one window; all of it, with *ret_never, when the request is larger than that. */
static uint64_t look_at(const struct seat *at, struct window w, bool *ret_never)
{
    uint32_t cost = weight_in(at->weight, w);
    *ret_never = cost > w.count;
    if (*ret_never)
        return (uint64_t)w.window_ms * NS_PER_MS;
    return cost ? window_wait_ns(at->subject, w, cost, at->now_ns) : 0;
}

/* The longest of the waits that the limits ask for; wait_ns 0: it may go now. */
static struct refusal look(struct seat *at)
{
    const struct limit_set *l = at->ask->limits;
    struct refusal r = {.wait_ns = window_distance_ns(at->subject, l, at->now_ns)};
    r.distance = r.wait_ns > 0;
    at->shadowed = 0;
    for (unsigned i = 0; i < l->windows_count; i++) {
        bool never;
        uint64_t wait = look_at(at, l->windows[i], &never);
        if (__builtin_expect(in_shadow(l->windows[i]), 0))
            at->shadowed |= (uint8_t)((wait > 0) << i);
        else if (never > r.never || (wait > r.wait_ns && never == r.never))
            r = (struct refusal){.wait_ns = wait, .window = (uint8_t)i, .never = never};
    }
    return r;
}

static void tell_refused(struct throttle_verdict *v, const struct seat *at, struct refusal why)
{
    const struct limit_set *l = at->ask->limits;
    v->allow = false;
    v->never = why.never;
    v->window = why.window;
    v->distance = why.distance;
    if (why.distance) {
        v->limit = 1;
        v->window_ms = l->min_distance_ms;
        return;
    }
    struct window w = l->windows[why.window];
    uint32_t used = window_used(at->subject, w, at->now_ns);
    v->bytes = w.kind & LIMIT_BYTES;
    v->limit = w.count;
    v->window_ms = w.window_ms;
    v->remaining = used < w.count ? w.count - used : 0;
}

/* Messages and bytes are compared by what part of the window they are. */
static bool tighter(const struct throttle_verdict *v, struct window w, uint32_t remaining)
{
    uint64_t a = remaining, b = v->remaining;
    if (__builtin_expect(v->bytes != !!(w.kind & LIMIT_BYTES), 0)) {
        a *= v->limit;
        b *= w.count;
    }
    return a < b || (a == b && w.window_ms > v->window_ms);
}

/* Notes the ask's tightest window, if it is tighter than what `v` has; of two alike the longer one,
 * which keeps the sender waiting more. */
static void tell_allowed(struct throttle_verdict *v, const struct seat *at, unsigned ask)
{
    const struct limit_set *l = at->ask->limits;
    for (unsigned i = 0; i < l->windows_count; i++) {
        struct window w = l->windows[i];
        if (in_shadow(w))
            continue;
        uint32_t used = window_used(at->subject, w, at->now_ns);
        uint32_t remaining = used < w.count ? w.count - used : 0;
        v->pressed |= (uint8_t)((remaining < w.count / 2) << ask);
        if (v->limit && !tighter(v, w, remaining))
            continue;
        v->bytes = w.kind & LIMIT_BYTES;
        v->ask = (uint8_t)ask;
        v->window = (uint8_t)i;
        v->limit = w.count;
        v->window_ms = w.window_ms;
        v->remaining = remaining;
    }
}

/* ---- seats ---------------------------------------------------------------------------------- */

static void take_seat(struct throttle *t, struct seat *at, const struct throttle_ask *ask,
                      uint32_t cost, uint64_t now_ns)
{
    *at = (struct seat){.ask = ask,
                        .now_ns = now_ns,
                        .weight = {cost, ask->bytes},
                        .limited = has_limits(ask->limits)};
    if (at->limited)
        at->hash = subjects_hash(t->subjects, ask->subject);
}

static void find_subject(struct throttle *t, struct seat *at)
{
    at->subject = subjects_find(t->subjects, at->hash, at->ask->subject);
    if (at->subject && at->subject->last_ns > at->now_ns)
        at->now_ns = at->subject->last_ns;
}

/* Whose state the request leaves as it is: buckets that refused, or that others refused for; and,
 * where refused tries do not count, windows in shadow that would have refused. */
static unsigned not_counted(const struct seat *at, bool refused)
{
    const struct limit_set *l = at->ask->limits;
    unsigned skip = 0;
    for (unsigned i = 0; i < l->windows_count; i++) {
        bool not_let = refused || at->shadowed >> i & 1;
        bool skips = l->windows[i].kind & LIMIT_BUCKET || l->count_accepted;
        skip |= (unsigned)(not_let && skips) << i;
    }
    return skip;
}

/* With less tries than that, none of the limits refuses. */
static uint32_t fewest(const struct limit_set *l)
{
    uint32_t least = 1;
    for (unsigned i = 0; i < l->windows_count; i++)
        least = i == 0 || l->windows[i].count < least ? l->windows[i].count : least;
    return least;
}

/* False: the table had no room for all of it. */
static bool count(struct throttle *t, struct seat *at, unsigned skip)
{
    if (!at->subject) /* looked up again: an ask before may have been for the same subject */
        find_subject(t, at);
    if (!at->subject)
        at->subject = subjects_insert(t->subjects, at->hash, at->ask->subject);
    if (!at->subject &&
        subjects_reclaim(t->subjects, at->ask->subject, fewest(at->ask->limits), at->now_ns))
        at->subject = subjects_insert(t->subjects, at->hash, at->ask->subject);
    bool whole = at->subject && window_push_all(at->subject, subjects_slab(t->subjects),
                                                at->ask->limits, at->weight, skip, at->now_ns);
    if (!whole)
        metric_add(METRIC_throttle_table_full, 1);
    return whole;
}

/* ---- deciding ------------------------------------------------------------------------------- */

/* Locks the shards of all limited seats, ascending, each once. Returns how many. */
static unsigned lock_seats(struct throttle *t, const struct seat *seats, unsigned n,
                           uint16_t shards[THROTTLE_ASKS_MAX])
{
    unsigned locked = 0;
    for (unsigned i = 0; i < n; i++) {
        if (!seats[i].limited)
            continue;
        uint16_t shard = (uint16_t)subjects_shard(seats[i].hash);
        unsigned at = locked;
        while (at > 0 && shards[at - 1] > shard)
            at--;
        if (at > 0 && shards[at - 1] == shard)
            continue;
        for (unsigned k = locked; k > at; k--)
            shards[k] = shards[k - 1];
        shards[at] = shard;
        locked++;
    }
    for (unsigned i = 0; i < locked; i++)
        subjects_lock(t->subjects, shards[i]);
    return locked;
}

/* Looks at all, then counts. Under the locks. */
static void decide_locked(struct throttle *t, struct seat *seats, unsigned n,
                          struct throttle_verdict *v)
{
    struct refusal worst = {0};
    bool refused = false;
    *v = (struct throttle_verdict){.allow = true};
    for (unsigned i = 0; i < n; i++) {
        if (!seats[i].limited)
            continue;
        find_subject(t, &seats[i]);
        struct refusal why = look(&seats[i]);
        v->shadow |= (uint32_t)seats[i].shadowed << (i * WINDOWS_MAX);
        if (!why.wait_ns)
            continue;
        if (!refused || why.never > worst.never ||
            (why.never == worst.never && why.wait_ns > worst.wait_ns)) {
            worst = why;
            v->ask = (uint8_t)i;
        }
        refused = true;
    }
    for (unsigned i = 0; i < n; i++) {
        if (seats[i].limited && !(refused && seats[i].ask->limits->count_accepted))
            v->untracked |= !count(t, &seats[i], not_counted(&seats[i], refused));
    }
    if (!refused) {
        for (unsigned i = 0; i < n; i++)
            tell_allowed(v, &seats[i], i);
        return;
    }
    tell_refused(v, &seats[v->ask], worst);
    v->pressed = (uint8_t)(1 << v->ask);
    v->retry_ns = seats[v->ask].now_ns + worst.wait_ns;
    for (unsigned i = 0; i < n; i++) {
        if (!seats[i].limited)
            continue;
        uint64_t wait = look(&seats[i]).wait_ns;
        if (wait && seats[i].now_ns + wait > v->retry_ns)
            v->retry_ns = seats[i].now_ns + wait;
    }
}

static void decide_seats(struct throttle *t, struct seat *seats, unsigned n, uint64_t now_ns,
                         struct throttle_verdict *v)
{
    uint16_t shards[THROTTLE_ASKS_MAX];
    unsigned locked = lock_seats(t, seats, n, shards);
    for (unsigned i = 0; i < locked; i++)
        subjects_tend(t->subjects, shards[i], now_ns);
    decide_locked(t, seats, n, v);
    for (unsigned i = 0; i < locked; i++)
        subjects_unlock(t->subjects, shards[i]);
    if (!v->allow) /* from a moment to a length */
        v->retry_ns -= now_ns;
    if (__builtin_expect(v->shadow != 0, 0))
        metric_add(METRIC_throttle_shadow_refused, 1);
    metric_add(v->allow ? METRIC_throttle_allowed : METRIC_throttle_refused, 1);
}

void throttle_decide(struct throttle *t, const struct throttle_ask *asks, unsigned n, uint32_t cost,
                     uint64_t now_ns, struct throttle_verdict *ret)
{
    struct seat seats[THROTTLE_ASKS_MAX];
    CHECK(n <= THROTTLE_ASKS_MAX && cost > 0);
    for (unsigned i = 0; i < n; i++)
        take_seat(t, &seats[i], &asks[i], cost, now_ns);
    decide_seats(t, seats, n, now_ns, ret);
}

/* The locks are held only to look; a head that is removed meanwhile costs a useless prefetch. */
static void warm(struct throttle *t, uint64_t hash, struct throttle_subject key,
                 enum throttle_part part)
{
    unsigned shard = subjects_shard(hash);
    if (part == THROTTLE_PLACE) {
        subjects_prefetch(t->subjects, hash);
        return;
    }
    subjects_lock(t->subjects, shard);
    if (part == THROTTLE_HEAD) {
        subjects_prefetch_head(t->subjects, hash);
    } else {
        const struct subject *s = subjects_find(t->subjects, hash, key);
        if (s) {
            ring_prefetch(s);
            meter_prefetch(s);
        }
    }
    subjects_unlock(t->subjects, shard);
}

void throttle_prefetch(struct throttle *t, struct throttle_subject s, enum throttle_part part)
{
    warm(t, subjects_hash(t->subjects, s), s, part);
}

/* While one job's line is on its way the next one's is asked for. */
static void warm_seats(struct throttle *t, const struct seat *seats, unsigned n,
                       enum throttle_part part)
{
    for (unsigned i = 0; i < n; i++) {
        if (seats[i].limited)
            warm(t, seats[i].hash, seats[i].ask->subject, part);
    }
}

void throttle_decide_batch(struct throttle *t, struct throttle_job *jobs, unsigned n,
                           uint64_t now_ns)
{
    struct seat seats[BATCH + THROTTLE_ASKS_MAX];
    for (unsigned from = 0; from < n;) {
        unsigned to = from, taken = 0;
        for (; to < n && taken < BATCH; to++) {
            CHECK(jobs[to].count <= THROTTLE_ASKS_MAX && jobs[to].cost > 0);
            for (unsigned i = 0; i < jobs[to].count; i++) {
                take_seat(t, &seats[taken++], &jobs[to].asks[i], jobs[to].cost, now_ns);
            }
        }
        if (to - from > 1) {
            warm_seats(t, seats, taken, THROTTLE_PLACE);
            warm_seats(t, seats, taken, THROTTLE_HEAD);
            warm_seats(t, seats, taken, THROTTLE_WINDOWS);
        }
        struct seat *at = seats;
        for (; from < to; from++) {
            struct throttle_job *job = &jobs[from];
            decide_seats(t, at, job->count, now_ns, &job->verdict);
            at += job->count;
        }
    }
}

/* ---- one subject ---------------------------------------------------------------------------- */

void throttle_peek(struct throttle *t, const struct throttle_ask *ask, uint32_t cost,
                   uint64_t now_ns, struct throttle_verdict *ret)
{
    struct seat at;
    CHECK(cost > 0);
    take_seat(t, &at, ask, cost, now_ns);
    *ret = (struct throttle_verdict){.allow = true};
    if (!at.limited)
        return;
    unsigned shard = subjects_shard(at.hash);
    subjects_lock(t->subjects, shard);
    find_subject(t, &at);
    struct refusal why = look(&at);
    if (why.wait_ns) {
        tell_refused(ret, &at, why);
        ret->retry_ns = at.now_ns + why.wait_ns - now_ns;
    } else {
        tell_allowed(ret, &at, 0);
        /* Only here: what a device never asks for must not cost each message a walk. */
        if (ret->limit)
            ret->retry_ns =
                window_free_ns(at.subject, ask->limits->windows[ret->window], at.now_ns);
    }
    subjects_unlock(t->subjects, shard);
}

uint32_t throttle_used(struct throttle *t, const struct throttle_ask *ask, unsigned window,
                       uint64_t now_ns)
{
    struct seat at;
    take_seat(t, &at, ask, 0, now_ns);
    if (window >= ask->limits->windows_count)
        return 0;
    unsigned shard = subjects_shard(at.hash);
    subjects_lock(t->subjects, shard);
    find_subject(t, &at);
    uint32_t used = window_used(at.subject, ask->limits->windows[window], at.now_ns);
    subjects_unlock(t->subjects, shard);
    return used;
}

uint64_t throttle_wait_ns(struct throttle *t, const struct throttle_ask *ask, unsigned window,
                          uint64_t now_ns)
{
    struct seat at;
    take_seat(t, &at, ask, 1, now_ns);
    if (window >= ask->limits->windows_count)
        return 0;
    unsigned shard = subjects_shard(at.hash);
    subjects_lock(t->subjects, shard);
    find_subject(t, &at);
    uint64_t wait = window_wait_ns(at.subject, ask->limits->windows[window], 1, at.now_ns);
    subjects_unlock(t->subjects, shard);
    return wait;
}

uint64_t throttle_wait_below(struct throttle *t, const struct throttle_ask *ask,
                             const uint32_t *counts, uint32_t cost, uint64_t now_ns)
{
    struct seat at;
    uint64_t longest = 0;
    take_seat(t, &at, ask, cost, now_ns);
    unsigned shard = subjects_shard(at.hash);
    if (!at.limited)
        return 0;
    subjects_lock(t->subjects, shard);
    find_subject(t, &at);
    for (unsigned i = 0; i < ask->limits->windows_count; i++) {
        struct window w = ask->limits->windows[i];
        uint32_t some = weight_in(at.weight, w);
        if (in_shadow(w) || !some)
            continue;
        some = some < counts[i] ? some : counts[i];
        uint64_t wait = window_wait_below_ns(at.subject, w, counts[i], some, at.now_ns);
        longest = wait > longest ? wait : longest;
    }
    subjects_unlock(t->subjects, shard);
    return longest;
}

void throttle_charge(struct throttle *t, const struct throttle_ask *ask, uint32_t cost,
                     uint64_t now_ns)
{
    struct seat at;
    take_seat(t, &at, ask, cost, now_ns);
    if (!at.limited || !cost)
        return;
    unsigned shard = subjects_shard(at.hash);
    subjects_lock(t->subjects, shard);
    subjects_tend(t->subjects, shard, now_ns);
    (void)count(t, &at, 0);
    subjects_unlock(t->subjects, shard);
}

void throttle_clear(struct throttle *t, struct throttle_subject s)
{
    uint64_t hash = subjects_hash(t->subjects, s);
    unsigned shard = subjects_shard(hash);
    subjects_lock(t->subjects, shard);
    subjects_remove(t->subjects, hash, s);
    subjects_unlock(t->subjects, shard);
}

struct throttle_stats throttle_stats(struct throttle *t)
{
    return subjects_stats(t->subjects);
}
