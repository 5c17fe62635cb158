/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a reply to the packet that says so. What was refused gets 5.0's reason code with a reason
 * string. 3.x has no word for it (design section 10): what the sender did wrong is acknowledged all
 * the same, as Adafruit does, or closes, as the setting says; what could not be stored through no
 * fault of the sender's always closes, for an acknowledgement would be a lie.
 */
#include "base/check.h"
#include "base/metric.h"
#include "flow/record.h"
#include "front/mqtt_private.h"
#include "front/reply_why.h"

#define WHY_MAX 1024u

void mqtt_put_fitting(struct buf *out, const struct mqtt_conn *c, struct mqtt_packet *p)
{
    enum mqtt_version version = c->reader.version;
    if (mqtt_size(version, p) > c->packet_max) /* MQTT-3.1.2-24, -25; 3.2.2-19, ... */
        p->properties.has &= ~(1ull << MQTT_REASON_STRING);
    if (mqtt_size(version, p) <= c->packet_max)
        mqtt_put(out, version, p);
}

void mqtt_put_connack(struct buf *out, const struct mqtt_conn *c)
{
    const struct mqtt_opts *o = &c->front->opts;
    bool says_present = c->reader.version != MQTT_3_1; /* which has no word for it */
    struct mqtt_packet p = {.type = MQTT_CONNACK, .session_present = c->present && says_present};
    struct mqtt_properties *props = &p.properties;
    if (c->reader.version == MQTT_5) {
        props->has =
            1ull << MQTT_RECEIVE_MAX | 1ull << MQTT_MAXIMUM_PACKET | 1ull << MQTT_TOPIC_ALIAS_MAX;
        props->receive_max = (uint16_t)mqtt_receive_max(c);
        props->maximum_packet = o->packet_max;
        props->topic_alias_max = o->alias_max;
        if (c->assigned) { /* MQTT-3.1.3-7 */
            props->has |= 1ull << MQTT_ASSIGNED_CLIENT;
            props->assigned_client = slice_str(c->client_id);
        }
        if (c->keep_alive_cut) {
            props->has |= 1ull << MQTT_SERVER_KEEP_ALIVE;
            props->server_keep_alive = c->keep_alive;
        }
        if (c->expiry_cut) { /* section 3.2.2.3.2 */
            props->has |= 1ull << MQTT_SESSION_EXPIRY;
            props->session_expiry = c->expiry_s;
        }
    }
    mqtt_put_fitting(out, c, &p);
}

void mqtt_put_answer(struct buf *out, const struct mqtt_answer *a)
{
    if (a->exchange && a->exchange->out.len)
        buf_put_slice(out, buf_slice(&a->exchange->out));
    else
        mqtt_put_ack(out, a->conn->reader.version, a->type, a->id, a->code);
}

/* ---- CONNECT ---- */

void mqtt_refuse_login(struct mqtt_conn *c, const struct reply *r)
{
    char text[WHY_MAX + 1];
    struct buf why;
    uint8_t code = reason_info(r->reason)->mqtt;
    if (!mqtt_code_allowed(MQTT_CONNACK, code, true))
        code = MQTT_SERVER_BUSY; /* stopping, and what else is ours */
    buf_init(&why, WHY_MAX);
    reply_put_why(&why, r);
    memcpy(text, why.ptr, why.len);
    text[why.len] = 0;
    buf_fini(&why);
    mqtt_refuse_connect(c, c->reader.version, code, text);
}

static void reply_login(struct mqtt_exchange *e)
{
    struct mqtt_conn *c = e->answer.conn;
    bool open = false;
    if (c->kept == e)
        c->kept = NULL;
    if (c->state != MQTT_LOGIN) { /* closed meanwhile */
        mqtt_dequeue(&e->answer);
        mqtt_exchange_free(e);
        return;
    }
    if (e->x.reply.reason != REASON_ok) {
        mqtt_refuse_login(c, &e->x.reply);
    } else {
        c->principal = e->own;
        e->own = (struct principal){0};
        c->state = MQTT_CLAIM;
        c->number =
            record_client(c->principal.credential->account->number, slice_str(c->client_id));
        if (mqtt_claim_take(c->front->opts.sessions, &c->claim,
                            c->principal.credential->account->number, slice_str(c->client_id)))
            open = true;
    }
    mqtt_dequeue(&e->answer);
    mqtt_exchange_free(e);
    if (open)
        mqtt_open(c);
}

/* ---- PUBLISH ---- */

/* Not the sender's fault: it is to send the message again. */
static bool is_ours(enum reason r)
{
    switch (r) {
    case REASON_busy:
    case REASON_overloaded:
    case REASON_stopping:
    case REASON_outcome_unknown:
    case REASON_journal_failed:
    case REASON_disk_full:
    case REASON_internal:
        return true;
    default:
        return false;
    }
}

static void put_reasoned(struct mqtt_exchange *e, struct slice why)
{
    struct mqtt_conn *c = e->answer.conn;
    struct mqtt_packet p = {.type = e->answer.type, .id = e->answer.id, .code = e->answer.code};
    if (!c->quiet) { /* MQTT-3.1.2-29 */
        p.properties.has = 1ull << MQTT_REASON_STRING;
        p.properties.reason_string = why;
    }
    mqtt_put_fitting(&e->out, c, &p);
}

static void put_refusal(struct mqtt_exchange *e)
{
    struct buf why;
    buf_init(&why, WHY_MAX);
    reply_put_why(&why, &e->x.reply);
    put_reasoned(e, buf_slice(&why));
    buf_fini(&why);
}

/* It is accepted, and 5.0 is told what the reply has to say on top of that. */
static void accept_message(struct mqtt_exchange *e)
{
    const struct buf *note = &e->x.reply.body;
    bool has_answer = e->answer.type == MQTT_PUBACK || e->answer.type == MQTT_PUBREC;
    if (note->len && has_answer && e->answer.conn->reader.version == MQTT_5)
        put_reasoned(e, buf_slice(note));
    mqtt_done(e);
}

/* A busy server's code is none of PUBACK's: what tells the client to slow down is. */
static uint8_t code_of(enum reason reason, enum mqtt_type answer)
{
    uint8_t code = reason_info(reason)->mqtt;
    if (mqtt_code_allowed(answer, code, true))
        return code;
    return code == MQTT_SERVER_BUSY ? MQTT_QUOTA : MQTT_UNSPECIFIED;
}

static void notify(const struct mqtt_exchange *e)
{
    struct buf why;
    buf_init(&why, WHY_MAX);
    reply_put_why(&why, &e->x.reply);
    mqtt_notice(e->answer.conn, "PUBLISH", e->x.request.path, e->x.reply.reason, buf_slice(&why));
    buf_fini(&why);
}

/* What was asked for, if there is any; 5.0 is told when the client has not subscribed to it. */
static void give_asked(struct mqtt_exchange *e)
{
    const struct reply *r = &e->x.reply;
    struct slice topic = slice_of(e->x.request.path.ptr, r->answers_on);
    if (r->body.len && !mqtt_send_asked(e->answer.conn, topic, buf_slice(&r->body)) &&
        e->answer.conn->reader.version == MQTT_5)
        e->answer.code = MQTT_NO_SUBSCRIBERS;
    mqtt_done(e);
}

static void refuse_message(struct mqtt_exchange *e)
{
    struct mqtt_conn *c = e->answer.conn;
    enum reason reason = e->x.reply.reason;
    const char *why = reason_info(reason)->text;
    metric_add(METRIC_mqtt_publishes_refused, 1);
    if (!is_ours(reason)) /* whose topic is at hand yet */
        notify(e);
    if (!is_ours(reason) && mqtt_count_refusal(c, "PUBLISH", e->x.request.path)) {
        ; /* it is closed */
    } else if (reason == REASON_revoked || reason == REASON_disabled) {
        mqtt_close(c, MQTT_NOT_AUTHORIZED, why);
    } else if (e->answer.type == MQTT_PUBLISH) {
        ; /* QoS 0: nothing can be said here */
    } else if (reason == REASON_outcome_unknown) {
        mqtt_close(c, MQTT_UNSPECIFIED, why); /* neither yes nor no */
    } else if (c->reader.version == MQTT_5) {
        e->answer.code = code_of(reason, e->answer.type);
        if (e->answer.type == MQTT_PUBREC) /* MQTT-4.3.3-9: its id is free again */
            mqtt_release_id(c, e->answer.id);
        put_refusal(e);
    } else if ((is_ours(reason) && !e->x.reply.answers_on) ||
               c->front->opts.tune.refusal_3_closes) {
        mqtt_close(c, MQTT_UNSPECIFIED, NULL);
    }
    mqtt_done(e);
}

/* Messages that wait for the record, maybe with another one. */
static bool has_qos_2(const struct session_record *r)
{
    struct session_item item = {0};
    struct slice list = r->list;
    while (session_next_item(r, &list, &item)) {
        if (item.qos == 2)
            return true;
    }
    return false;
}

/* What could not be told of a session. What may be told late or not at all is let go; else the
 * client is owed an answer, or a message, that it cannot get. */
static void refuse_event(struct mqtt_exchange *e)
{
    struct session_record r;
    CHECK(session_record_decode(e->x.request.body, &r));
    bool late =
        !e->x.request.session || r.event == SESSION_ACKED || r.event == SESSION_COMPLETED ||
        r.event == SESSION_RETURNED ||
        ((r.event == SESSION_SENT || r.event == SESSION_GIVEN) && !e->out.len && !has_qos_2(&r));
    if (late)
        mqtt_done(e);
    else
        mqtt_fail(e);
}

void mqtt_reply(struct mqtt_exchange *e)
{
    bool event = e->x.request.method == METHOD_SESSION;
    if (event && e->answer.type == MQTT_CONNACK) {
        mqtt_reply_open(e);
        return;
    }
    if (event && e->x.reply.reason == REASON_ok)
        mqtt_told(e);
    if (e->answer.type == MQTT_CONNACK)
        reply_login(e);
    else if (e->x.reply.reason == REASON_ok && e->x.reply.answers_on)
        give_asked(e);
    else if (e->x.reply.reason == REASON_ok && e->x.request.method == METHOD_PUBLISH)
        accept_message(e);
    else if (e->x.reply.reason == REASON_ok)
        mqtt_done(e);
    else if (event)
        refuse_event(e);
    else
        refuse_message(e);
}
