/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Wills of MQTT sessions that are published by nobody's connection: their delay has passed, or the
 * server they were connected to has died (MQTT 5.0, section 3.1.2.5). The view says which are due,
 * each to one asker at a time; the record that publishes it says whose it was, so that the view
 * forgets it with the same record. Until that is durable, and after a refusal that may pass, the
 * view tells of it again. All but wills_before on the first lane, from its tick.
 */
#include <stdlib.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/metric.h"
#include "flow/publish.h"
#include "pipeline_private.h"
#include "view/sessions.h"

#define DUE_MAX 16u /* in one tick */

/* An exchange of no connection. */
struct will {
    struct session s;
    struct principal who;
    struct buf record; /* what drops it */
    struct lane *lane;
    struct exchange x; /* last: it ends in the pipeline's part */
};

static void on_nothing(struct exchange *x)
{
    (void)x; /* its bytes are its own, and there is no connection */
}

static void will_free(struct will *w)
{
    principal_clear(&w->who);
    session_fini(&w->s);
    buf_fini(&w->record);
    buf_fini(&w->x.reply.body);
    buf_fini(&w->x.reply.fields);
    free(w);
}

/* Whether the same will can be published later. */
static bool may_pass(enum reason r)
{
    const uint16_t status = reason_info(r)->http;
    return status == 429 || status >= 500;
}

/* It never will be: says that the session has none, and leaves it as it is but for that. */
static void give_up(struct will *w)
{
    int64_t left_us = session_ends_us(&w->s) - clock_wall_us();
    const struct session_record none = {.event = SESSION_CLOSED,
                                        .expiry_s = w->s.expiry_s == SESSION_NEVER ? SESSION_NEVER
                                                    : left_us > 0 ? (uint32_t)(left_us / US_PER_S)
                                                                  : 0};
    struct buf body = w->x.reply.body, fields = w->x.reply.fields;
    buf_clear(&body);
    buf_clear(&fields);
    session_record_encode(&w->record, &none);
    w->x.request = (struct request){.method = METHOD_SESSION,
                                    .principal = &w->who,
                                    .session = w->s.number,
                                    .body = buf_slice(&w->record)};
    w->x.reply = (struct reply){.reason = REASON_ok, .body = body, .fields = fields};
    memset(w->x.stage, 0, lane_stage_bytes());
    lane_handle(w->lane, &w->x);
}

static void on_send(struct exchange *x)
{
    struct will *w = (struct will *)((char *)x - offsetof(struct will, x));
    reason_count(x->reply.reason);
    bool refused = x->request.method == METHOD_PUBLISH && x->reply.reason != REASON_ok;
    if (x->request.method == METHOD_PUBLISH && !refused)
        metric_add(METRIC_mqtt_wills, 1);
    if (refused && !may_pass(x->reply.reason) && x->reply.reason != REASON_revoked)
        give_up(w);
    else
        will_free(w);
}

static const struct exchange_ops will_ops = {
    .prefetch = on_nothing, .keep = on_nothing, .release = on_nothing, .send = on_send};

/* Takes the session over. */
static void publish(struct lane *l, struct session *s)
{
    struct publish p;
    struct credential *c = catalog_credential(l->p->opts.api.catalog, s->credential);
    if (!c || !publish_decode(s->will.payload, &p)) {
        credential_unref(c); /* removed: nobody may publish it */
        session_fini(s);
        return;
    }
    struct will *w = calloc(1, sizeof *w + lane_stage_bytes());
    CHECK(w);
    w->s = *s;
    w->lane = l;
    w->who.credential = c;
    buf_init(&w->record, 64);
    buf_init(&w->x.reply.body, 65536);
    buf_init(&w->x.reply.fields, 8192);
    w->x.magic = EXCHANGE_MAGIC;
    w->x.ops = &will_ops;
    w->x.request = (struct request){.method = METHOD_PUBLISH,
                                    .principal = &w->who,
                                    .path = s->will.topic,
                                    .body = p.message,
                                    .properties = p.properties,
                                    .has_expiry = p.has_expiry,
                                    .expiry_s = p.expiry_s,
                                    .retain = s->will.retain,
                                    .qos = p.qos,
                                    .session = s->number,
                                    .client = record_client(s->account, s->client_id),
                                    .will = true,
                                    .start_ns = worker_now_ns(l->worker)};
    lane_handle(l, &w->x);
}

void wills_before(struct lane *l, uint64_t account, struct slice client_id, bool replaced)
{
    struct session s;
    if (sessions_take_will(l->p->opts.sessions, account, client_id, clock_wall_us(), replaced, &s))
        publish(l, &s);
}

void wills_tick(struct lane *l)
{
    struct session_due due[DUE_MAX];
    struct session s;
    if (l != l->p->lanes[0] || l->stopping)
        return;
    struct sessions *t = l->p->opts.sessions;
    unsigned count = sessions_wills_due(t, clock_wall_us(), due, DUE_MAX);
    for (unsigned i = 0; i < count; i++) {
        if (sessions_get(t, due[i].account, due[i].number, &s))
            publish(l, &s);
    }
}
