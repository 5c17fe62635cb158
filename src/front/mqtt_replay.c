/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Retained messages to who subscribes (MQTT 5.0, section 3.3.1.3; 3.1.1, section 3.8.4). First the
 * view must have what was durable when the client subscribed; what comes later reaches it as what
 * it is, live. Then they are sent a part per turn, and only while the client takes them: none is
 * dropped, and a client that subscribes to all of them holds nobody up.
 */
#include <stdlib.h>

#include "base/check.h"
#include "base/metric.h"
#include "codec/topic.h"
#include "flow/limits.h"
#include "front/mqtt_private.h"

#define TURN_MAX 64u /* looks for one connection in a turn */

/* What one subscription is still to get. */
struct mqtt_replay {
    struct mqtt_replay *next;
    struct mqtt_conn *conn;
    struct mqtt_exchange *asks; /* NULL: the view has them */
    uint64_t below;             /* position: what lies there and above came live */
    struct mqtt_sub sub;        /* its QoS and identifier, and whether it is "no local" */
    struct buf after;           /* topic of the last one looked at; empty: begin */
    size_t filter_len;
    char filter[];
};

static struct slice filter_of(const struct mqtt_replay *r)
{
    return slice_of(r->filter, r->filter_len);
}

static void ask(struct mqtt_replay *r)
{
    struct mqtt_conn *c = r->conn;
    struct mqtt_exchange *e = mqtt_exchange_new(c->front);
    r->asks = e;
    e->answer.type = MQTT_PUBLISH;
    e->replay = r;
    e->own = c->principal;
    credential_ref(e->own.credential);
    e->x.request.method = METHOD_RETAINED;
    e->x.request.principal = &e->own;
    e->x.request.source = c->source;
    mqtt_hand_up(e);
}

static void set_options(struct mqtt_replay *r, const struct mqtt_sub *sub)
{
    r->sub.qos = sub->qos;
    r->sub.id = sub->id;
    r->sub.no_local = sub->no_local;
}

/* What the subscription before was to get and has not got yet, it gets all the same. */
static void go_on_as(struct mqtt_conn *c, struct slice filter, const struct mqtt_sub *sub)
{
    for (struct mqtt_replay *r = c->replays; r; r = r->next) {
        if (slice_eq(filter_of(r), filter))
            set_options(r, sub);
    }
}

void mqtt_replay_begin(struct mqtt_conn *c, const struct mqtt_filter *f, const struct mqtt_sub *sub,
                       bool again)
{
    struct slice group, rest;
    if (f->retain_handling == 2 || (f->retain_handling == 1 && again)) {
        go_on_as(c, f->filter, sub);
        return;
    }
    mqtt_replay_drop(c, f->filter);
    if (c->principal.credential->account->topics != TOPICS_ANY ||
        topic_share_split(f->filter, &group, &rest) != TOPIC_PLAIN)
        return;
    struct mqtt_replay *r = calloc(1, sizeof *r + f->filter.len), **at = &c->replays;
    CHECK(r);
    r->conn = c;
    r->below = c->front->opts.durable(c->front->opts.arg);
    set_options(r, sub);
    buf_init(&r->after, TOPIC_MAX);
    r->filter_len = f->filter.len;
    memcpy(r->filter, f->filter.ptr, f->filter.len);
    while (*at)
        at = &(*at)->next;
    *at = r;
    ask(r);
}

/* The one that *at points to. */
static void drop(struct mqtt_replay **at)
{
    struct mqtt_replay *r = *at;
    *at = r->next;
    if (r->asks)
        r->asks->replay = NULL;
    buf_fini(&r->after);
    free(r);
}

void mqtt_replay_drop(struct mqtt_conn *c, struct slice filter)
{
    for (struct mqtt_replay **at = &c->replays; *at;) {
        if (slice_eq(filter_of(*at), filter))
            drop(at);
        else
            at = &(*at)->next;
    }
}

void mqtt_replay_drop_all(struct mqtt_conn *c)
{
    while (c->replays)
        drop(&c->replays);
    if (!c->replaying)
        return;
    struct mqtt_conn **at = &c->front->replaying;
    while (*at != c)
        at = &(*at)->replaying_next;
    *at = c->replaying_next;
    c->replaying = false;
}

void mqtt_reply_retained(struct mqtt_exchange *e)
{
    struct mqtt_replay *r = e->replay;
    enum reason reason = e->x.reply.reason;
    mqtt_exchange_free(e);
    if (!r)
        return; /* unsubscribed or gone meanwhile */
    r->asks = NULL;
    if (reason == REASON_ok)
        mqtt_replay_on(r->conn);
    else /* it would miss some, and not know */
        mqtt_close(r->conn, MQTT_SERVER_BUSY, reason_info(reason)->text);
}

void mqtt_replay_on(struct mqtt_conn *c)
{
    if (c->replaying || !c->replays || c->replays->asks || c->state != MQTT_UP)
        return;
    c->replaying = true;
    c->replaying_next = c->front->replaying;
    c->front->replaying = c;
}

/* Returns whether the client would take more of them. */
static bool replay(struct mqtt_conn *c)
{
    struct mqtt_front *f = c->front;
    struct mqtt_replay *r;
    for (unsigned i = 0; i < TURN_MAX; i++) {
        struct live_message m;
        struct slice payload;
        if (!(r = c->replays) || r->asks || c->state != MQTT_UP || !mqtt_may_send(c, r->sub.qos))
            return false;
        enum live_step step =
            f->opts.next_retained(f->opts.arg, &c->principal, filter_of(r),
                                  r->after.len ? buf_slice(&r->after) : (struct slice){0}, r->below,
                                  &f->retained, &m, &payload);
        if (step == LIVE_END) {
            drop(&c->replays);
            continue;
        }
        buf_clear(&r->after);
        buf_put_slice(&r->after, m.topic);
        const struct credential *who = c->principal.credential;
        bool own = r->sub.no_local && m.client == c->number;
        if (step == LIVE_ONE && !own && who->permissions & PERM_data_read &&
            mqtt_may_see(who, m.topic)) {
            metric_add(METRIC_mqtt_retained_sent, 1);
            mqtt_send(c, &r->sub, &m, payload);
        }
    }
    return c->replays != NULL;
}

bool mqtt_replay_some(struct mqtt_front *f)
{
    struct mqtt_conn *list = f->replaying;
    f->replaying = NULL;
    while (list) {
        struct mqtt_conn *c = list;
        list = c->replaying_next;
        c->replaying = false;
        if (replay(c))
            mqtt_replay_on(c);
    }
    buf_reuse(&f->retained, RETAINED_MAX / 16);
    return f->replaying != NULL;
}
