/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Receipts that are pushed (decision 0059): whoever was told "not yet delivered" hears of it on
 * {user}/receipts, once the sink is past the message. A lane remembers its own late answers, in a
 * list per sink in the order of their offsets, and only while anybody has subscribed to anything.
 * Nothing of it is stored: what a restart forgets, or the maximum, the receipt itself still tells.
 *
 * Where the request named a webhook (decision 0065), what is known then is published to that topic
 * instead, as a message that names the webhook, as those of rules do (flow/rule.h): from then on it
 * is in the journal, and webhooks deliver it as all they do. The first lane publishes; the others
 * hand over to it.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/metric.h"
#include "flow/rule.h"
#include "pipeline_private.h"

#define AT_ONCE  64u /* begun in one turn */
#define AGAIN_NS NS_PER_S

struct late {
    struct late *next;
    struct account *account; /* a reference */
    uint64_t first, end;     /* its messages */
    uint64_t webhook;        /* 0: subscribers are told */
};

/* Known, and to be published for a webhook. */
struct receipt {
    struct receipt *next;
    struct account *account; /* a reference */
    uint64_t offset, webhook;
    uint64_t again_ns; /* not before */
    char topic[USERNAME_MAX + 16], mark[RULE_MARK_MAX];
    char text[256];
    size_t text_len;
};

static bool anybody_listens(const struct pipeline *p)
{
    for (unsigned i = 0; i < p->lanes_count; i++)
        if (atomic_load_explicit(&p->lanes[i]->interest, memory_order_relaxed) > 0)
            return true;
    return false;
}

static void drop_first(struct lane *l, unsigned sink)
{
    struct late_list *list = &l->late[sink];
    struct late *first = list->first;
    list->first = first->next;
    if (!list->first)
        list->last = NULL;
    account_unref(first->account);
    free(first);
    l->late_count--;
    sink_waiters(l->p->opts.sinks[sink], -1);
}

void late_put(struct job *j)
{
    struct lane *l = j->lane;
    struct late_list *list = &l->late[j->sink];
    if (!j->receipt && !anybody_listens(l->p))
        return;
    if (l->late_count >= LATE_MAX) {
        metric_add(METRIC_receipts_dropped, 1);
        return;
    }
    struct late *late = malloc(sizeof *late);
    CHECK(late);
    *late = (struct late){.account = account_ref(j->account),
                          .first = j->end_offset - j->count,
                          .end = j->end_offset,
                          .webhook = j->receipt};
    *(list->last ? &list->last->next : &list->first) = late;
    list->last = late;
    sink_waiters(l->p->opts.sinks[j->sink], 1);
    l->late_count++;
}

/* ---- telling ---- */

struct told {
    struct lane *lane;
    unsigned sink;
    const struct late *late;
};

static void put_receipt(struct buf *out, const struct told *t)
{
    const struct sink *s = t->lane->p->opts.sinks[t->sink];
    uint32_t delivered, count = (uint32_t)(t->late->end - t->late->first);
    enum fate fate = sink_fate(s, t->late->first, count, &delivered);
    buf_clear(out);
    buf_put_str(out, "{\"receipt\":\"/v1/receipts/");
    buf_put_dec(out, t->late->end - 1);
    buf_printf(out, "\",\"accepted\":%u,\"sink\":\"%s\",\"state\":\"%s\",\"delivered\":%u}", count,
               sink_name(s), fate_name(fate), delivered);
}

static struct slice on_receipt(void *arg)
{
    const struct told *t = arg;
    put_receipt(&t->lane->live_text, t);
    return buf_slice(&t->lane->live_text);
}

static void tell(struct lane *l, unsigned sink, const struct late *late)
{
    struct told t = {.lane = l, .sink = sink, .late = late};
    struct buf topic;
    buf_init(&topic, USERNAME_MAX + 16);
    buf_put_slice(&topic, late->account->name);
    buf_put_str(&topic, "/receipts");
    CHECK(!topic.failed); /* names are bounded */
    const struct live_message m = {.account = late->account->number,
                                   .permission = PERM_data_read,
                                   .topic = buf_slice(&topic),
                                   .payload = on_receipt,
                                   .arg = &t};
    metric_add(METRIC_receipts_pushed, 1);
    lane_tell(l, &m);
    buf_fini(&topic);
}

/* ---- for webhooks ---- */

static void receipt_free(struct pipeline *p, struct receipt *r)
{
    account_unref(r->account);
    free(r);
    p->receipts_count--;
}

static void on_receipts(struct mail *m)
{
    struct pipeline *p = (struct pipeline *)((char *)m - offsetof(struct pipeline, receipts_mail));
    atomic_store(&p->receipts_posted, false);
    receipts_run(p->lanes[0]);
}

/* To the first lane. */
static void hand_over(struct lane *l, unsigned sink, const struct late *late)
{
    struct pipeline *p = l->p;
    struct told t = {.lane = l, .sink = sink, .late = late};
    if (p->receipts_count >= LATE_MAX) {
        metric_add(METRIC_receipts_dropped, 1);
        return;
    }
    struct receipt *r = calloc(1, sizeof *r);
    CHECK(r);
    r->account = account_ref(late->account);
    r->offset = late->end - 1;
    r->webhook = late->webhook;
    put_receipt(&l->live_text, &t);
    CHECK(l->live_text.len < sizeof r->text); /* numbers, and names of ours */
    memcpy(r->text, l->live_text.ptr, l->live_text.len);
    r->text_len = l->live_text.len;
    p->receipts_count++;
    pthread_mutex_lock(&p->receipts_lock);
    r->next = p->receipts;
    p->receipts = r;
    pthread_mutex_unlock(&p->receipts_lock);
    if (atomic_exchange(&p->receipts_posted, true))
        return;
    p->receipts_mail.run = on_receipts;
    worker_post(p->lanes[0]->worker, &p->receipts_mail);
}

static void put_back(struct lane *l, struct receipt *r, uint64_t wait_ns)
{
    r->again_ns = worker_now_ns(l->worker) + (wait_ns > AGAIN_NS ? wait_ns : AGAIN_NS);
    r->next = l->receipts;
    l->receipts = r;
}

static void on_published(struct lane *l, void *arg, const struct reply *reply)
{
    struct receipt *r = arg;
    const struct reason_info *info = reason_info(reply->reason);
    if (reply->reason == REASON_ok) {
        metric_add(METRIC_receipts_stored, 1);
        receipt_free(l->p, r);
    } else if (info->http == 429 || info->http >= 500) {
        put_back(l, r, reply->retry_ns);
    } else {
        metric_add(METRIC_receipts_dropped, 1);
        receipt_free(l->p, r);
    }
}

/* The mark of no rule: it is stored once, and sets off nothing. */
static void publish(struct lane *l, struct receipt *r)
{
    const struct rule_mark mark = {.offset = r->offset, .depth = 1, .webhook = r->webhook};
    int len = snprintf(r->topic, sizeof r->topic, "%.*s/receipts", SLICE_ARG(r->account->name));
    CHECK(len > 0 && (size_t)len < sizeof r->topic);
    struct own_publish what = {
        .account = catalog_account_by_number(l->p->opts.api.catalog, r->account->number),
        .sender = "receipts",
        .permissions = PERM_data_write,
        .topic = slice_of(r->topic, (size_t)len),
        .body = slice_of(r->text, r->text_len),
        .rule = slice_of(r->mark, rule_mark_format(r->mark, &mark)),
        .done = on_published,
        .arg = r};
    if (what.account) {
        own_publish(l, &what);
    } else {
        metric_add(METRIC_receipts_dropped, 1);
        receipt_free(l->p, r);
    }
    account_unref(what.account);
}

/* What the other lanes have handed over, in front of what waits. */
static void take_over(struct lane *l)
{
    struct pipeline *p = l->p;
    pthread_mutex_lock(&p->receipts_lock);
    struct receipt *fresh = p->receipts;
    p->receipts = NULL;
    pthread_mutex_unlock(&p->receipts_lock);
    while (fresh) {
        struct receipt *r = fresh;
        fresh = r->next;
        r->next = l->receipts;
        l->receipts = r;
    }
}

void receipts_run(struct lane *l)
{
    uint64_t now = worker_now_ns(l->worker);
    if (l != l->p->lanes[0] || l->stopping || !l->p->receipts_count)
        return;
    take_over(l);
    struct receipt **at = &l->receipts;
    for (unsigned n = 0; *at && n < AT_ONCE;) {
        struct receipt *r = *at;
        if (r->again_ns > now) {
            at = &r->next;
            continue;
        }
        *at = r->next;
        publish(l, r);
        n++;
    }
}

static void free_list(struct pipeline *p, struct receipt *r)
{
    while (r) {
        struct receipt *next = r->next;
        receipt_free(p, r);
        r = next;
    }
}

void receipts_free(struct pipeline *p)
{
    free_list(p, p->receipts);
    pthread_mutex_destroy(&p->receipts_lock);
}

/* ---- what has come ---- */

void late_look(struct lane *l)
{
    for (unsigned i = 0; i < l->p->opts.sinks_count && l->late_count; i++) {
        uint64_t position = sink_position(l->p->opts.sinks[i]);
        while (l->late[i].first && l->late[i].first->end <= position) {
            (l->late[i].first->webhook ? hand_over : tell)(l, i, l->late[i].first);
            drop_first(l, i);
        }
    }
}

void late_free(struct lane *l)
{
    unsigned lost = 0;
    for (unsigned i = 0; i < l->p->opts.sinks_count; i++)
        while (l->late[i].first) {
            lost += l->late[i].first->webhook != 0;
            drop_first(l, i);
        }
    for (const struct receipt *r = l->receipts; r; r = r->next)
        lost++;
    free_list(l->p, l->receipts);
    if (lost)
        log_line(LOG_WARN, "receipts.forgotten", "count=%u", lost);
}
