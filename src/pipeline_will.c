/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Wills of MQTT sessions that are published by nobody's connection: their delay has passed, or the
 * server they were connected to has died (MQTT 5.0, section 3.1.2.5). The view says which are due,
 * each to one asker at a time; the record that publishes it says whose it was, so that the view
 * forgets it with the same record, unless the client is back by then (struct session, `version`).
 * Until that is durable the view tells of it again. All but wills_before on the first lane, from
 * its tick.
 *
 * A will that is refused for the moment gets a session of its own, with a name that no client can
 * have: one who is back, with another will or none, cannot cancel what was due (section 3.1.3.2.2).
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/metric.h"
#include "flow/limits.h"
#include "flow/publish.h"
#include "pipeline_private.h"
#include "view/sessions.h"

#define DUE_MAX 16u /* in one tick */

#define NAME_FORM  "%c%016" PRIx64 /* before the client's id; no client's begins with NUL */
#define NAME_BYTES 17u
_Static_assert(NAME_BYTES + MQTT_CLIENT_ID_MAX <= SESSION_NAME_MAX, "a client's id fits behind it");

/* An exchange of no connection. */
struct will {
    enum { PUBLISHES, OPENS, CLOSES, DROPS } step;
    struct session s;
    uint64_t own; /* number of the session of its own */
    struct principal who;
    struct buf record; /* of METHOD_SESSION */
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

static bool has_own(const struct session *s)
{
    return s->client_id.len >= NAME_BYTES && s->client_id.ptr[0] == '\0';
}

static struct slice client_of(const struct session *s)
{
    return has_own(s) ? slice_from(s->client_id, NAME_BYTES) : s->client_id;
}

/* The next step: a record about that session. */
static void say(struct will *w, uint64_t session, uint64_t version, const struct session_record *r)
{
    struct buf body = w->x.reply.body, fields = w->x.reply.fields;
    buf_clear(&body);
    buf_clear(&fields);
    buf_clear(&w->record);
    session_record_encode(&w->record, r);
    CHECK(!w->record.failed);
    w->x.request = (struct request){.method = METHOD_SESSION,
                                    .principal = &w->who,
                                    .session = session,
                                    .version = version,
                                    .body = buf_slice(&w->record)};
    w->x.reply = (struct reply){.reason = REASON_ok, .body = body, .fields = fields};
    memset(w->x.stage, 0, lane_stage_bytes());
    lane_handle(w->lane, &w->x);
}

/* It is durable as that of a session of its own. */
static void open_own(struct will *w)
{
    struct sessions *t = w->lane->p->opts.sessions;
    char name[SESSION_NAME_MAX + 1];
    w->own = sessions_new_number(t);
    w->step = OPENS;
    (void)snprintf(name, sizeof name, NAME_FORM, '\0', w->own);
    memcpy(name + NAME_BYTES, w->s.client_id.ptr, w->s.client_id.len);
    struct session_record r = {.event = SESSION_OPENED,
                               .client_id = slice_of(name, NAME_BYTES + w->s.client_id.len),
                               .will = w->s.will};
    r.will.delay_s = 0;
    say(w, w->own, 0, &r);
}

static void close_own(struct will *w)
{
    w->step = CLOSES;
    say(w, w->own, 0, &(struct session_record){.event = SESSION_CLOSED, .keep_will = true});
}

/* Says that the session has none, and leaves it as it is but for that. */
static void drop(struct will *w)
{
    int64_t left_us = session_ends_us(&w->s) - clock_wall_us();
    const struct session_record none = {.event = SESSION_CLOSED,
                                        .expiry_s = w->s.expiry_s == SESSION_NEVER ? SESSION_NEVER
                                                    : left_us > 0 ? (uint32_t)(left_us / US_PER_S)
                                                                  : 0};
    w->step = DROPS;
    say(w, w->s.number, w->s.version, &none);
}

/* What may be durable, or is the lot of all, is left to the view. */
static void on_refused(struct will *w, enum reason reason)
{
    struct sessions *t = w->lane->p->opts.sessions;
    if (reason == REASON_revoked || reason == REASON_outcome_unknown)
        will_free(w);
    else if (!may_pass(reason))
        drop(w);
    else if (!has_own(&w->s) && sessions_have_room(t, w->s.account))
        open_own(w);
    else
        will_free(w);
}

static void on_send(struct exchange *x)
{
    struct will *w = (struct will *)((char *)x - offsetof(struct will, x));
    bool good = x->reply.reason == REASON_ok;
    reason_count(x->reply.reason);
    if (w->step == PUBLISHES && good)
        metric_add(METRIC_mqtt_wills, 1);
    if (w->step == PUBLISHES && !good)
        on_refused(w, x->reply.reason);
    else if (w->step == OPENS && good)
        close_own(w);
    else if (w->step == CLOSES && good)
        drop(w);
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
    buf_init(&w->record, SESSION_NAME_MAX + TOPIC_MAX + SESSION_WILL_MAX + 64);
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
                                    .version = s->version,
                                    .client = record_client(s->account, client_of(s)),
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
    int64_t now_us = clock_wall_us();
    unsigned count = sessions_wills_due(t, now_us, due, DUE_MAX);
    for (unsigned i = 0; i < count; i++) {
        if (!sessions_get(t, due[i].account, due[i].number, &s))
            continue;
        if (session_will_due_us(&s) <= now_us)
            publish(l, &s);
        else
            session_fini(&s); /* its client has come back just now */
    }
}
