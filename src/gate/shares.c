/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two windows for each credential of a contended account, in the throttle's own table: what it got
 * (THROTTLE_SHARE), and what it tried (THROTTLE_TRIES). Both have the account's windows, so a try
 * is counted just as long as it counts there, and are empty, hence gone, a window later.
 *
 * Who is active is counted in epochs of the account's longest window: a credential's first try of
 * an epoch counts it in. The larger of this epoch's and the last one's number is used, so it
 * neither begins at one with each epoch nor forgets within one.
 */
#include "gate/shares.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/metric.h"
#include "flow/limit.h"
#include "base/thread.h"

#define SPARE_OF 8u /* beyond their shares credentials may use all but 1/8 of the window */
#define PLACES   (QUARANTINED_MAX * 2)

struct shares {
    struct throttle *throttle;
    _Atomic unsigned manual;
    struct spin lock; /* the table */
    unsigned used;
    struct quarantined table[PLACES]; /* linear probing by credential; 0: free */
};

struct shares *shares_new(struct throttle *t)
{
    struct shares *s = calloc(1, sizeof *s);
    if (s)
        s->throttle = t;
    return s;
}

void shares_free(struct shares *s)
{
    free(s);
}

const _Atomic unsigned *shares_manual(const struct shares *s)
{
    return &s->manual;
}

static uint64_t longest_ns(const struct limit_set *l)
{
    uint32_t ms = 1;
    for (unsigned i = 0; i < l->windows_count; i++)
        ms = l->windows[i].window_ms > ms ? l->windows[i].window_ms : ms;
    return ms * NS_PER_MS;
}

/* ---- how many share ------------------------------------------------------------------------- */

static uint32_t count_active(const struct account *a, const struct credential *c, uint64_t now_ns)
{
    struct account_live *live = a->live;
    uint32_t epoch = (uint32_t)(now_ns / longest_ns(&a->limits)) + 1; /* 0: never */
    spin_lock(&live->lock);
    if (live->epoch != epoch) {
        live->active_before = live->epoch + 1 == epoch ? live->active : 0;
        live->active = 0;
        live->epoch = epoch;
    }
    /* Only this account's lock covers the credential's mark: it is of no other account. */
    if (c->live->share_epoch != epoch) {
        c->live->share_epoch = epoch;
        live->active++;
    }
    uint32_t active = live->active > live->active_before ? live->active : live->active_before;
    spin_unlock(&live->lock);
    return active;
}

/* ---- the table of those in quarantine -------------------------------------------------------- */

static struct quarantined *place_of(struct shares *s, uint64_t credential)
{
    unsigned i = (unsigned)((credential * 0x9e3779b97f4a7c15ull) >> 40) % PLACES;
    while (s->table[i].credential && s->table[i].credential != credential)
        i = (i + 1) % PLACES;
    return &s->table[i];
}

static void remove_place(struct shares *s, struct quarantined *q)
{
    if (q->manual)
        s->manual--;
    s->used--;
    unsigned hole = (unsigned)(q - s->table);
    *q = (struct quarantined){0};
    for (unsigned i = (hole + 1) % PLACES; s->table[i].credential; i = (i + 1) % PLACES) {
        struct quarantined moved = s->table[i];
        s->table[i] = (struct quarantined){0};
        *place_of(s, moved.credential) = moved;
    }
    metric_set(METRIC_throttle_quarantined, s->used);
}

/* Removes what has ended, at most once in a while when the table is full. */
static void prune(struct shares *s, uint64_t now_ns)
{
    for (unsigned i = 0; i < PLACES; i++) {
        while (s->table[i].credential && s->table[i].until_ns <= now_ns)
            remove_place(s, &s->table[i]);
    }
}

/* The credential's entry, made when it is missing; NULL: full. */
static struct quarantined *enter(struct shares *s, uint64_t account, uint64_t credential,
                                 uint64_t now_ns, bool *ret_new)
{
    struct quarantined *q = place_of(s, credential);
    *ret_new = !q->credential || q->until_ns <= now_ns;
    if (!q->credential) {
        if (s->used == QUARANTINED_MAX)
            prune(s, now_ns);
        if (s->used == QUARANTINED_MAX)
            return NULL;
        q = place_of(s, credential); /* pruning moves entries */
        s->used++;
        metric_set(METRIC_throttle_quarantined, s->used);
    }
    if (*ret_new) {
        if (q->manual)
            s->manual--;
        *q = (struct quarantined){
            .account = account, .credential = credential, .since_us = clock_wall_us()};
    }
    return q;
}

/* Whether it is in quarantine by hand. */
static bool is_manual(struct shares *s, uint64_t credential, uint64_t now_ns, uint64_t *ret_until)
{
    if (!atomic_load_explicit(&s->manual, memory_order_relaxed))
        return false;
    spin_lock(&s->lock);
    struct quarantined *q = place_of(s, credential);
    bool in = q->credential && q->manual && q->until_ns > now_ns;
    if (in)
        q->refused++;
    else if (q->credential && q->manual)
        remove_place(s, q);
    *ret_until = q->until_ns;
    spin_unlock(&s->lock);
    return in;
}

static void note_quarantined(struct shares *s, const struct account *a, const struct credential *c,
                             uint32_t active, uint32_t tries, uint64_t now_ns)
{
    bool new = false;
    spin_lock(&s->lock);
    struct quarantined *q = enter(s, a->number, c->number, now_ns, &new);
    if (q) {
        q->refused++;
        q->active = active;
        q->tries = tries;
        if (!q->manual)
            q->until_ns = now_ns + longest_ns(&a->limits);
    }
    spin_unlock(&s->lock);
    if (q && new)
        log_line(LOG_WARN, "throttle.quarantine",
                 "account=%.*s credential=%.*s tries=%u share_of=%u", SLICE_ARG(a->name),
                 SLICE_ARG(c->name), tries, active);
}

/* ---- one request ---------------------------------------------------------------------------- */

static void each_share(const struct limit_set *l, uint32_t of, uint32_t times,
                       uint32_t ret[WINDOWS_MAX])
{
    for (unsigned i = 0; i < l->windows_count; i++) {
        uint64_t n = (uint64_t)l->windows[i].count * times / of;
        ret[i] = n < 1 ? 1 : n > l->windows[i].count ? l->windows[i].count : (uint32_t)n;
    }
}

static bool refuse(struct share_verdict *ret, enum share why, uint64_t retry_ns)
{
    metric_add(why == SHARE_OVER ? METRIC_throttle_over_share : METRIC_throttle_quarantine_refused,
               1);
    metric_add(METRIC_throttle_refused, 1);
    *ret = (struct share_verdict){.share = why, .retry_ns = retry_ns ? retry_ns : 1};
    return false;
}

/* What is shown: messages, if the account has a limit of them. */
static uint32_t tries_used(struct shares *s, const struct throttle_ask *tries, uint64_t now_ns)
{
    int shown = limit_set_shown(tries->limits);
    return throttle_used(s->throttle, tries, shown < 0 ? 0 : (unsigned)shown, now_ns);
}

bool shares_ask(struct shares *s, const struct account *a, const struct credential *c,
                uint32_t cost, uint32_t bytes, uint64_t now_ns, struct share_verdict *ret)
{
    const struct limit_set *l = &a->limits;
    const struct throttle_ask share = {{THROTTLE_SHARE, c->number}, l, bytes};
    const struct throttle_ask tries = {{THROTTLE_TRIES, c->number}, l, bytes};
    const struct throttle_ask one_more = {{THROTTLE_TRIES, c->number}, l, bytes > 0};
    const struct throttle_ask account = {{THROTTLE_ACCOUNT, a->number}, l, bytes};
    uint64_t until = 0;
    *ret = (struct share_verdict){.share = SHARE_WITHIN};
    if (is_manual(s, c->number, now_ns, &until))
        return refuse(ret, SHARE_QUARANTINED, until == UINT64_MAX ? longest_ns(l) : until - now_ns);
    if (!l->windows_count ||
        atomic_load_explicit(&a->live->contended_until_ns, memory_order_relaxed) <= now_ns)
        return true;
    uint32_t active = count_active(a, c, now_ns);
    uint32_t fair[WINDOWS_MAX], far[WINDOWS_MAX], spare[WINDOWS_MAX];
    throttle_charge(s->throttle, &tries, cost, now_ns);
    if (active < 2)
        return true;
    ret->several = true;
    each_share(l, active, 1, fair);
    each_share(l, active, QUARANTINE_SHARES, far);
    uint64_t over = throttle_wait_below(s->throttle, &share, fair, cost, now_ns);
    uint64_t far_over = throttle_wait_below(s->throttle, &one_more, far, 1, now_ns);
    if (far_over) {
        note_quarantined(s, a, c, active, tries_used(s, &tries, now_ns), now_ns);
        return refuse(ret, SHARE_QUARANTINED, over > far_over ? over : far_over);
    }
    if (!over)
        return true;
    ret->share = SHARE_OVER;
    each_share(l, SPARE_OF, SPARE_OF - 1, spare);
    if (!throttle_wait_below(s->throttle, &account, spare, cost, now_ns))
        return true;
    return refuse(ret, SHARE_OVER, over);
}

void shares_allowed(struct shares *s, const struct account *a, const struct credential *c,
                    uint32_t cost, uint32_t bytes, uint64_t now_ns)
{
    const struct throttle_ask share = {{THROTTLE_SHARE, c->number}, &a->limits, bytes};
    throttle_charge(s->throttle, &share, cost, now_ns);
}

void shares_note(const struct account *a, const struct throttle_verdict *v, uint64_t now_ns)
{
    if (!(v->pressed & 1) || a->limits.windows_count == 0)
        return;
    uint64_t span = longest_ns(&a->limits);
    uint64_t until = atomic_load_explicit(&a->live->contended_until_ns, memory_order_relaxed);
    if (until < now_ns + span / 2) /* not a store with every message */
        atomic_store_explicit(&a->live->contended_until_ns, now_ns + span, memory_order_relaxed);
}

uint64_t shares_appointment_ns(const struct account *a, const struct throttle_verdict *v,
                               uint64_t now_ns)
{
    struct account_live *live = a->live;
    uint64_t span = (uint64_t)v->window_ms * NS_PER_MS, each = v->limit ? span / v->limit : 0;
    uint64_t at = now_ns + v->retry_ns;
    spin_lock(&live->lock);
    if (live->active > 1 || live->active_before > 1) {
        if (at < live->promised_ns + each)
            at = live->promised_ns + each;
        if (at > now_ns + v->retry_ns + span)
            at = now_ns + v->retry_ns + span;
        live->promised_ns = at;
    }
    spin_unlock(&live->lock);
    return at - now_ns;
}

/* ---- by hand -------------------------------------------------------------------------------- */

bool shares_quarantine(struct shares *s, uint64_t account, uint64_t credential, uint64_t until_ns)
{
    bool new;
    spin_lock(&s->lock);
    struct quarantined *q = enter(s, account, credential, clock_mono_ns(), &new);
    if (q) {
        if (!q->manual)
            s->manual++;
        q->manual = true;
        q->until_ns = until_ns;
    }
    spin_unlock(&s->lock);
    return q != NULL;
}

bool shares_release(struct shares *s, uint64_t credential, uint64_t now_ns)
{
    spin_lock(&s->lock);
    struct quarantined *q = place_of(s, credential);
    bool was = q->credential && q->until_ns > now_ns;
    if (q->credential)
        remove_place(s, q);
    spin_unlock(&s->lock);
    throttle_clear(s->throttle, (struct throttle_subject){THROTTLE_TRIES, credential});
    throttle_clear(s->throttle, (struct throttle_subject){THROTTLE_SHARE, credential});
    return was;
}

unsigned shares_list(struct shares *s, struct quarantined *ret, unsigned max, uint64_t now_ns)
{
    unsigned n = 0;
    spin_lock(&s->lock);
    prune(s, now_ns);
    for (unsigned i = 0; i < PLACES && n < max; i++) {
        if (s->table[i].credential)
            ret[n++] = s->table[i];
    }
    spin_unlock(&s->lock);
    return n;
}
