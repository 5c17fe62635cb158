/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sessions that outlive their connection. What happens to one is a METHOD_SESSION exchange whose
 * body is the record that goes into the journal; this file says what, and when the client may be
 * told.
 *
 * The client id is given back only when what the connection had to say of its session is durable,
 * so that whoever takes the id next finds all of it. Until then the connection's memory stays
 * (`settling`), and what it waits for points to it (`settles`). Messages of QoS 2 say of the
 * session that they were received, and the will that it is published: where they wait, for a feed
 * that is being made for instance, the end of the connection is told behind them. So it is behind
 * an opening whose outcome is not known: durable later than what the next holder of the id opens,
 * that would take its place. A new session that no client was told of ends then: one who comes back
 * and finds it would take it for an older one, with the subscriptions that this had.
 */
#include "base/check.h"
#include "base/clock.h"
#include "base/metric.h"
#include "flow/limits.h"
#include "flow/publish.h"
#include "flow/session_record.h"
#include "front/mqtt_private.h"

#define UNTOLD_NS   NS_PER_S /* until what could not be told is told again, */
#define UNTOLD_TURN 1000u    /* so many at a time */

/* Puts the record into the exchange and hands that up. */
static void hand_up(struct mqtt_exchange *e, const struct session_record *r, uint64_t session,
                    struct slice path)
{
    struct request *q = &e->x.request;
    buf_clear(&e->raw);
    buf_put_slice(&e->raw, path);
    session_record_encode(&e->raw, r);
    CHECK(!e->raw.failed); /* it is made of a CONNECT */
    e->kept = true;
    q->method = METHOD_SESSION;
    q->session = session;
    q->path = slice_of(e->raw.ptr, path.len);
    q->body = slice_from(buf_slice(&e->raw), path.len);
    mqtt_hand_up(e);
}

void mqtt_hand_up_event(struct mqtt_exchange *e, const struct session_record *r, uint64_t session)
{
    hand_up(e, r, session, (struct slice){0});
}

/* ---- opening --------------------------------------------------------------------------------- */

/* The will as a session has it; its payload lies in `storage`. */
static struct session_will will_of(const struct mqtt_will *w, struct buf *storage)
{
    struct slice properties = slice_of(w->bytes + w->topic_len, w->properties_len);
    struct buf passed;
    buf_init(&passed, w->properties_len);
    mqtt_put_passed(&passed, properties);
    const struct publish p = {.qos = w->qos,
                              .has_expiry = w->has_expiry,
                              .expiry_s = w->expiry_s,
                              .properties = buf_slice(&passed),
                              .message = slice_of(properties.ptr + properties.len, w->payload_len)};
    publish_encode(storage, &p);
    buf_fini(&passed);
    if (storage->failed)
        return (struct session_will){0}; /* too large for a session: it ends with the connection */
    return (struct session_will){.topic = slice_of(w->bytes, w->topic_len),
                                 .retain = w->retain,
                                 .delay_s = w->delay_s,
                                 .payload = buf_slice(storage)};
}

void mqtt_open(struct mqtt_conn *c)
{
    struct buf will;
    if (c->assigned && !c->expiry_s && !c->will) {
        mqtt_begin(c); /* nobody has had this client id */
        return;
    }
    struct session_record r = {.event = c->clean ? SESSION_OPENED : SESSION_RESUMED,
                               .expiry_s = c->expiry_s};
    buf_init(&will, SESSION_WILL_MAX);
    if (c->will && c->will->topic_len <= TOPIC_MAX)
        r.will = will_of(c->will, &will);
    c->will_kept = r.will.topic.ptr != NULL;
    c->state = MQTT_OPEN;
    struct mqtt_exchange *e = mqtt_enqueue(c, MQTT_CONNACK);
    e->x.request.principal = &c->principal;
    e->x.request.source = c->source;
    hand_up(e, &r, 0, slice_str(c->client_id));
    buf_fini(&will);
}

/* What the pipeline says of the session. */
static void take_opened(struct mqtt_conn *c, const struct buf *body)
{
    struct slice rest = buf_slice(body);
    struct session_state s = session_state_get(&rest);
    struct session_state_item i;
    c->session = s.number;
    c->present = s.present;
    if (c->state != MQTT_OPEN)
        return; /* nobody goes on with it */
    while (session_state_next(&rest, &i)) {
        if (i.kind == SESSION_STATE_RECEIVED) {
            mqtt_remember_id(c, i.item.packet_id);
            continue;
        }
        if (i.kind == SESSION_STATE_SUB)
            mqtt_restore_sub(c, &i.filter, i.since + 1);
        mqtt_deliver_restore(c, &s, &i);
    }
    if (c->present)
        metric_add(METRIC_mqtt_sessions_resumed, 1);
}

/* Its record may be durable, or become so: the connection ends as one of that session. */
static void take_unknown(struct mqtt_conn *c, const struct reply *r)
{
    c->session = r->session;
    c->present = r->session_found;
}

void mqtt_reply_open(struct mqtt_exchange *e)
{
    struct mqtt_conn *c = e->answer.conn;
    bool good = e->x.reply.reason == REASON_ok;
    CHECK(c->state == MQTT_OPEN); /* else it settles */
    if (c->kept == e)
        c->kept = NULL;
    mqtt_dequeue(&e->answer);
    if (good)
        take_opened(c, &e->x.reply.body);
    if (e->x.reply.reason == REASON_outcome_unknown)
        take_unknown(c, &e->x.reply);
    if (!good)
        mqtt_refuse_login(c, &e->x.reply);
    mqtt_exchange_free(e);
    if (good)
        mqtt_begin(c);
}

/* ---- while it is up -------------------------------------------------------------------------- */

void mqtt_put_release(struct mqtt_conn *c, uint16_t id)
{
    const struct session_item item = {.packet_id = id};
    struct mqtt_exchange *e = mqtt_enqueue(c, MQTT_PUBCOMP);
    e->answer.id = id;
    e->x.request.principal = &c->principal;
    e->x.request.source = c->source;
    mqtt_hand_up_event(
        e, &(struct session_record){.event = SESSION_RELEASED, .items = &item, .count = 1},
        c->session);
}

void mqtt_tell_filter(struct mqtt_conn *c, const struct session_record *r)
{
    struct mqtt_exchange *e = mqtt_enqueue(c, MQTT_PUBLISH);
    e->x.request.principal = &c->principal;
    e->x.request.source = c->source;
    mqtt_hand_up_event(e, r, c->session);
}

/* ---- the end --------------------------------------------------------------------------------- */

bool mqtt_keeps_will(const struct mqtt_conn *c)
{
    if (!c->session || !c->will || !c->will_kept)
        return false;
    return c->front->stopping || (c->will->delay_s && c->expiry_s); /* section 3.1.3.2.2 */
}

static void tell_closed(struct mqtt_conn *c, const struct principal *who)
{
    struct mqtt_exchange *e = mqtt_exchange_new(c->front);
    bool known = c->begun || c->present; /* else nobody was told that there is one */
    bool goes_on = (known && c->expiry_s) || c->keep_will;
    struct session_record r = {.event = goes_on ? SESSION_CLOSED : SESSION_ENDED,
                               .expiry_s = c->expiry_s,
                               .keep_will = c->keep_will,
                               .end = SESSION_END_CLEAN};
    e->answer.type = MQTT_PUBLISH;
    e->settles = c;
    e->own = *who;
    credential_ref(e->own.credential);
    e->x.request.principal = &e->own;
    e->x.request.source = c->source;
    mqtt_hand_up_event(e, &r, c->session);
}

void mqtt_settle_behind(struct mqtt_conn *c, struct mqtt_exchange *e)
{
    e->settles = c;
    c->owed++;
}

void mqtt_settle_on(struct mqtt_exchange *e)
{
    struct mqtt_conn *c = e->settles;
    e->settles = NULL;
    if (--c->owed == 0 && c->settling)
        tell_closed(c, e->x.request.principal);
}

/* Messages of QoS 2 that are not on their way into the journal yet. */
static void settle_behind_messages(struct mqtt_conn *c)
{
    for (struct mqtt_answer *a = c->first; a; a = a->next) {
        if (a->type == MQTT_PUBREC && a->exchange && !a->exchange->released && !a->done)
            mqtt_settle_behind(c, a->exchange);
    }
}

bool mqtt_settle(struct mqtt_conn *c, bool opening, bool keep_will)
{
    if (opening && c->first) {
        /* Whether there is a session is not known yet: the exchange that asks will say. */
        c->settling = true;
        c->first->exchange->settles = c;
        return true;
    }
    if (c->settling)
        return true;
    if (!c->session)
        return false;
    c->settling = true;
    c->keep_will = keep_will;
    settle_behind_messages(c);
    if (!c->owed)
        tell_closed(c, &c->principal);
    return true;
}

/* Whether a will that is refused for that is to be published later. */
static bool may_pass(enum reason reason)
{
    const uint16_t status = reason_info(reason)->http;
    return status == 429 || status >= 500;
}

/* Whoever tells of a connection's end later may be told yes. */
static bool may_be_told_later(enum reason reason)
{
    return reason == REASON_busy || reason == REASON_overloaded || reason == REASON_disk_full;
}

static void wait_for_untold(struct mqtt_front *f)
{
    if (f->untold)
        deadline_set(worker_wheel(f->opts.worker), &f->tell_again,
                     f->untold->x.request.start_ns + UNTOLD_NS);
}

static void tell_later(struct mqtt_exchange *e)
{
    struct mqtt_front *f = e->answer.front;
    e->free_next = NULL;
    *f->untold_last = e;
    f->untold_last = &e->free_next;
    wait_for_untold(f);
}

static struct mqtt_exchange *take_untold(struct mqtt_front *f)
{
    struct mqtt_exchange *e = f->untold;
    f->untold = e->free_next;
    if (!f->untold)
        f->untold_last = &f->untold;
    return e;
}

/* What is refused once more is behind the others, and not due. */
static void on_tell_again(struct deadline *d)
{
    struct mqtt_front *f =
        (struct mqtt_front *)((char *)d - offsetof(struct mqtt_front, tell_again));
    uint64_t due_ns = worker_now_ns(f->opts.worker) - UNTOLD_NS;
    for (unsigned n = 0; n < UNTOLD_TURN && f->untold; n++) {
        if (f->untold->x.request.start_ns > due_ns)
            break;
        struct mqtt_exchange *e = take_untold(f);
        tell_closed(e->settles, e->x.request.principal);
        mqtt_exchange_free(e);
    }
    wait_for_untold(f);
}

void mqtt_keep_init(struct mqtt_front *f)
{
    f->untold_last = &f->untold;
    f->tell_again.due = on_tell_again;
}

static void settle(struct mqtt_conn *c)
{
    c->settling = false;
    mqtt_conn_forget(c);
}

void mqtt_keep_stop(struct mqtt_front *f)
{
    while (f->untold) {
        struct mqtt_exchange *e = take_untold(f);
        settle(e->settles);
        mqtt_exchange_free(e);
    }
}

void mqtt_settled(struct mqtt_exchange *e)
{
    struct mqtt_conn *c = e->settles;
    bool message = e->x.request.method == METHOD_PUBLISH;
    bool opening = !message && !e->x.request.session;
    bool unknown = e->x.reply.reason == REASON_outcome_unknown && !c->front->stopping;
    if (opening && e->x.reply.reason == REASON_ok)
        take_opened(c, &e->x.reply.body);
    else if (opening && unknown)
        take_unknown(c, &e->x.reply);
    if (e->answer.conn)
        mqtt_dequeue(&e->answer);
    if (message) {
        c->keep_will |= c->will_kept && e->x.request.will && may_pass(e->x.reply.reason);
        mqtt_settle_on(e);
    } else if (opening ? c->session != 0 : unknown) {
        tell_closed(c, e->x.request.principal); /* again: behind what may still become durable */
    } else if (!opening && may_be_told_later(e->x.reply.reason) && !c->front->stopping) {
        tell_later(e);
        return;
    } else {
        settle(c);
    }
    mqtt_exchange_free(e);
}
