/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How much: the windows of the account, of the credential and of the address, asked together.
 *
 * Tabs. Who has much room left in all windows is not asked message by message while what one read
 * brought is worked on: after the second in a row, which are decided, his messages are put on a
 * tab, and that is counted as one when another sender's message comes, or the turn ends. A tab
 * takes TAB_MOST at most where TAB_LEAST fit and less than half of each window is used. So all
 * workers' tabs together fit in. A window of N can let in TAB_MOST more for each of them only if
 * senders on other workers use up what is left of it, half of it at least, before that turn is
 * over. Whom the throttle's table has no room for is asked each time: its metric counts messages.
 *
 * Who looks at the windows from elsewhere, as `sluice throttle explain` does, does not see what is
 * on a tab: TAB_MOST messages of each worker at most, which came in the turn that it is in. For who
 * asks on the worker itself the tab is counted first.
 */
#include "base/clock.h"
#include "base/metric.h"
#include "pipeline_private.h"

#define ASKS_MAX  3u    /* whose windows one message counts in */
#define TAB_MOST  64u   /* messages */
#define TAB_LEAST 8192u /* messages that the tightest window has room for */
_Static_assert(TAB_MOST *WORKERS_MAX <= TAB_LEAST, "all workers' tabs fit");

/* Remembers for `sluice throttle explain` what refused. */
static void note_refused(struct job *j, enum refused_by by, struct window limit)
{
    const struct refused_try what = {.account = j->account->number,
                                     .credential = j->credential->number,
                                     .by = by,
                                     .limit = limit};
    refusals_note(j->lane->p->opts.api.refusals, &what);
}

static void note_verdict(struct job *j, const struct throttle_ask *asks, unsigned count,
                         const struct throttle_verdict *v)
{
    for (unsigned i = 0; i < count; i++) {
        const struct limit_set *l = asks[i].limits;
        enum refused_by by = asks[i].subject.kind == THROTTLE_ACCOUNT      ? REFUSED_BY_ACCOUNT
                             : asks[i].subject.kind == THROTTLE_CREDENTIAL ? REFUSED_BY_DEVICE
                                                                           : REFUSED_BY_ADDRESS;
        for (unsigned k = 0; k < l->windows_count; k++) {
            if (v->shadow >> (i * WINDOWS_MAX + k) & 1)
                note_refused(j, by, l->windows[k]);
        }
        if (!v->allow && i == v->ask)
            note_refused(j, by,
                         v->distance ? (struct window){.window_ms = v->window_ms}
                                     : l->windows[v->window]);
    }
}

/* Whose windows a message of that many bytes counts in. Returns how many there are. */
static unsigned fill_asks(const struct lane *l, const struct account *a, const struct credential *c,
                          uint64_t source, uint32_t bytes, struct throttle_ask asks[ASKS_MAX])
{
    const struct throttle_ask all[ASKS_MAX] = {
        {{THROTTLE_ACCOUNT, a->number}, &a->limits, bytes},
        {{THROTTLE_CREDENTIAL, c->number}, &a->device_limits, bytes},
        {{THROTTLE_ADDRESS, source}, &l->tune.address_limits, bytes},
    };
    unsigned count = 0;
    for (unsigned i = 0; i < ASKS_MAX; i++) {
        if (all[i].limits->windows_count || all[i].limits->min_distance_ms)
            asks[count++] = all[i];
    }
    return count;
}

/* ---- tabs ---- */

/* Whether all that the windows of these limits look at is how many messages there were. */
static bool counts_messages_only(const struct limit_set *l)
{
    for (unsigned i = 0; i < l->windows_count; i++) {
        if (l->windows[i].kind != LIMIT_ROLLING)
            return false;
    }
    return !l->min_distance_ms;
}

static void tab_open(struct job *j, const struct throttle_ask *asks, unsigned count,
                     const struct throttle_verdict *v, uint64_t now)
{
    struct tab *t = &j->lane->tab;
    bool in_a_row = t->last == j->credential->number;
    t->last = j->credential->number;
    if (!in_a_row || v->pressed || v->untracked || v->remaining < TAB_LEAST)
        return;
    for (unsigned i = 0; i < count; i++) {
        if (!counts_messages_only(asks[i].limits))
            return;
    }
    t->account = account_ref(j->account);
    t->credential = credential_ref(j->credential);
    t->source = job_exchange(j)->request.source;
    t->now_ns = now;
    t->generation = catalog_generation(j->lane->p->opts.api.catalog);
    t->cost = 0;
    t->bytes = 0;
}

/* By the limits that the account has now: counting by those that it had when the tab was opened
 * would make windows forget what they only have since. */
static void tab_count(struct lane *l)
{
    struct tab *t = &l->tab;
    struct catalog *c = l->p->opts.api.catalog;
    struct throttle_ask asks[ASKS_MAX];
    bool changed = t->generation != catalog_generation(c);
    struct account *a =
        changed ? catalog_account_by_number(c, t->account->number) : account_ref(t->account);
    if (!a)
        return; /* it is gone */
    uint32_t bytes = t->bytes < UINT32_MAX ? (uint32_t)t->bytes : UINT32_MAX;
    unsigned count = fill_asks(l, a, t->credential, t->source, bytes, asks);
    for (unsigned i = 0; i < count; i++)
        throttle_charge(l->p->opts.api.throttle, &asks[i], t->cost, t->now_ns);
    account_unref(a);
}

static void tab_settle(struct lane *l)
{
    struct tab *t = &l->tab;
    if (t->cost)
        tab_count(l);
    t->account = account_unref(t->account);
    t->credential = credential_unref(t->credential);
}

static bool tab_takes(struct job *j, uint32_t cost, uint32_t bytes)
{
    struct tab *t = &j->lane->tab;
    if (t->credential != j->credential || t->account != j->account ||
        t->source != job_exchange(j)->request.source || t->cost + cost > TAB_MOST)
        return false;
    t->cost += cost;
    t->bytes += bytes;
    metric_add(METRIC_throttle_allowed, 1);
    return true;
}

void throttle_settle(struct lane *l)
{
    if (l->tab.credential)
        tab_settle(l);
}

void throttle_turn_end(struct lane *l)
{
    throttle_settle(l);
    l->tab.last = 0;
}

/* ---- the stage ---- */

bool job_throttle(struct job *j, uint32_t cost, uint32_t bytes)
{
    if (j->lane->tab.credential) {
        if (tab_takes(j, cost, bytes))
            return true;
        tab_settle(j->lane);
    }
    struct exchange *x = job_exchange(j);
    const struct pipeline_opts *o = &j->lane->p->opts;
    struct throttle_ask asks[ASKS_MAX];
    unsigned count = fill_asks(j->lane, j->account, j->credential, x->request.source, bytes, asks);
    uint64_t now = worker_now_ns(j->lane->worker);
    bool sharing = shares_matter(j->account, shares_manual(o->api.shares), now);
    struct share_verdict share;
    struct throttle_verdict v = {.allow = true};
    if (sharing &&
        !shares_ask(o->api.shares, j->account, j->credential, cost, bytes, now, &share)) {
        note_refused(j, share.share == SHARE_OVER ? REFUSED_BY_SHARE : REFUSED_BY_QUARANTINE,
                     (struct window){0});
        api_share_fields(x, j->account, &share);
        job_send(j);
        return false;
    }
    if (!count)
        return true;
    struct limit_set accepted;
    if (sharing && share.several) {
        accepted = j->account->limits;
        accepted.count_accepted = true;
        asks[0].limits = &accepted;
    }
    throttle_decide(o->api.throttle, asks, count, cost, now, &v);
    shares_note(j->account, &v, now);
    if (__builtin_expect(!v.allow || v.shadow, 0))
        note_verdict(j, asks, count, &v);
    if (v.allow) {
        if (sharing)
            shares_allowed(o->api.shares, j->account, j->credential, cost, bytes, now);
        else
            tab_open(j, asks, count, &v, now);
        return true;
    }
    if (sharing && !v.never && asks[v.ask].subject.kind == THROTTLE_ACCOUNT)
        v.retry_ns = shares_appointment_ns(j->account, &v, now);
    api_throttle_fields(x, j->account, asks, count, &v, j->overload != 0);
    job_send(j);
    return false;
}
