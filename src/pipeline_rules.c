/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages that rules owe (view/rules.h), published as a client's are: to a feed, or to the topic
 * {account}/rules/{id}, through the account's windows, into the journal. Each names itself by its
 * rule and what set it off, so it is stored once however often it is published, and by the same
 * name the view knows that it is owed no more. All but rules_on_applied on the first lane.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/metric.h"
#include "codec/text.h"
#include "pipeline_private.h"
#include "view/rules.h"

#define AT_ONCE    64u /* begun in one turn */
#define AGAIN_NS   NS_PER_S
#define TOPIC_ROOM 512u
#define TEXT_BYTES (16 * RULE_VALUE_MAX + 4096) /* each byte escaped */

/* One that is being published. */
struct firing {
    struct rules_owed owed;
    char topic[TOPIC_ROOM], mark[RULE_MARK_MAX];
    struct buf text; /* of a message that is made here */
};

static void firing_free(struct firing *f)
{
    buf_fini(&f->text);
    free(f);
}

static void on_published(struct lane *l, void *arg, const struct reply *r)
{
    struct firing *f = arg;
    const struct reason_info *info = reason_info(r->reason);
    bool stored = r->reason == REASON_ok, later = info->http == 429 || info->http >= 500;
    uint64_t wait_ns = r->retry_ns > AGAIN_NS ? r->retry_ns : AGAIN_NS;
    if (stored)
        metric_add(METRIC_rules_fired, 1);
    rules_settle(l->p->opts.rules, &f->owed.mark,
                 stored  ? RULES_STORED
                 : later ? RULES_LATER
                         : RULES_REFUSED,
                 worker_now_ns(l->worker) + wait_ns, info->text);
    firing_free(f);
}

/* ---- what is sent ---------------------------------------------------------------------------- */

static void put_time(struct buf *out, const char *name, int64_t us)
{
    buf_printf(out, ",\"%s\":\"", name);
    time_format_us(out, us);
    buf_put_u8(out, '"');
}

/* To a topic: what happened, as JSON. */
static void put_event(struct buf *out, const struct rules_owed *o, struct slice account,
                      struct slice feed)
{
    const struct rule *r = &o->rule;
    buf_printf(out, "{\"rule\":%llu,\"account\":", (unsigned long long)r->id);
    buf_put_json(out, account);
    buf_put_str(out, ",\"feed\":");
    buf_put_json(out, feed);
    buf_printf(out, ",\"when\":\"%s\"", rule_when_name(r->when));
    if (r->when == RULE_ABOVE || r->when == RULE_BELOW) {
        buf_put_str(out, ",\"limit\":");
        double_format(out, r->limit);
    }
    if (r->when == RULE_SILENCE)
        buf_printf(out, ",\"silence_ms\":%llu", (unsigned long long)r->silence_ms);
    buf_put_str(out, ",\"value\":");
    if (o->came.ptr)
        buf_put_json(out, o->came);
    else
        buf_put_str(out, "null");
    if (o->value.ptr) {
        buf_put_str(out, ",\"message\":");
        buf_put_json(out, o->value);
    }
    if (o->tried)
        buf_put_str(out, ",\"test\":true");
    put_time(out, "at", o->caused_us);
    buf_printf(out, ",\"offset\":%llu}", (unsigned long long)o->mark.offset);
}

/* To a feed: a value. */
static struct slice value_of(struct firing *f)
{
    const struct rules_owed *o = &f->owed;
    if (o->value.ptr)
        return o->value;
    if (o->came.ptr)
        return o->came;
    buf_printf(&f->text, "%llu", (unsigned long long)(o->rule.silence_ms / 1000));
    return buf_slice(&f->text);
}

/* Fills in topic and body. False: what it is about or goes to is gone. */
static bool address(struct lane *l, struct firing *f, struct own_publish *ret)
{
    struct catalog *c = l->p->opts.api.catalog;
    const struct rules_owed *o = &f->owed;
    struct slice account = ret->account->name;
    struct feed *from = catalog_feed_by_number(c, o->rule.feed);
    struct feed *to = o->rule.to_feed ? catalog_feed_by_number(c, o->rule.to_feed) : NULL;
    bool there = from && (to || !o->rule.to_feed);
    int len = 0;
    if (there && to) {
        len = snprintf(f->topic, sizeof f->topic, "%.*s/feeds/%.*s", SLICE_ARG(account),
                       SLICE_ARG(to->key));
        ret->body = value_of(f);
    } else if (there) {
        len = snprintf(f->topic, sizeof f->topic, "%.*s/rules/%llu", SLICE_ARG(account),
                       (unsigned long long)o->rule.id);
        put_event(&f->text, o, account, from->key);
        ret->body = buf_slice(&f->text);
    }
    CHECK(len >= 0 && (size_t)len < sizeof f->topic && !f->text.failed); /* all are bounded */
    ret->topic = slice_of(f->topic, (size_t)len);
    feed_unref(from);
    feed_unref(to);
    return there;
}

/* ---- publishing ------------------------------------------------------------------------------ */

static void publish(struct lane *l, struct firing *f)
{
    buf_init(&f->text, TEXT_BYTES);
    struct own_publish what = {
        .account = catalog_account_by_number(l->p->opts.api.catalog, f->owed.rule.account),
        .sender = "rule",
        .permissions = PERM_data_write, /* and not to make a feed that was deleted just now */
        .rule = slice_of(f->mark, rule_mark_format(f->mark, &f->owed.mark)),
        .done = on_published,
        .arg = f};
    if (what.account && address(l, f, &what)) {
        own_publish(l, &what);
    } else {
        rules_settle(l->p->opts.rules, &f->owed.mark, RULES_REFUSED, 0,
                     "its account or one of its feeds is gone");
        firing_free(f);
    }
    account_unref(what.account);
}

void rules_run(struct lane *l)
{
    struct rules *t = l->p->opts.rules;
    if (l != l->p->lanes[0] || l->stopping)
        return;
    for (unsigned i = 0; i < AT_ONCE && rules_owe(t); i++) {
        struct firing *f = calloc(1, sizeof *f);
        CHECK(f);
        if (!rules_next_owed(t, worker_now_ns(l->worker), &f->owed)) {
            free(f);
            return;
        }
        publish(l, f);
    }
}

static void on_owed(struct mail *m)
{
    struct pipeline *p = (struct pipeline *)((char *)m - offsetof(struct pipeline, rules_mail));
    atomic_store(&p->rules_posted, false);
    rules_run(p->lanes[0]);
}

void rules_on_applied(struct pipeline *p)
{
    if (!p->lanes_count || !rules_owe(p->opts.rules) || atomic_exchange(&p->rules_posted, true))
        return;
    p->rules_mail.run = on_owed;
    worker_post(p->lanes[0]->worker, &p->rules_mail);
}
