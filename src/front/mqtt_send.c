/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages to clients: SUBSCRIBE, and what is published to it. A client that does not keep up is
 * never buffered for without end: QoS 0 is dropped while UNSENT_MAX bytes wait for its socket; QoS
 * 1 is sent while fewer than its window are unacknowledged, then queued up to mqtt.queue_size, then
 * dropped. Every drop is counted, with its reason.
 */
#include <stdlib.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/metric.h"
#include "codec/topic.h"
#include "flow/session_record.h"
#include "front/mqtt_private.h"

#define WINDOW_MAX 100u /* of ours, whatever the client would take */
#define UNSENT_MAX (256u << 10)

struct outbound {
    uint16_t ids[WINDOW_MAX]; /* sent and not acknowledged */
    unsigned count, window;
    uint16_t next_id;
    struct buf queue; /* packets of QoS 1 that wait: u32 length, u32 where the id stands, bytes */
};

/* ---- subscriptions ---- */

/* A subscription that is made again goes on where it was. */
static uint64_t since_of(const struct mqtt_conn *c, struct slice filter)
{
    const struct mqtt_sub *before = c->subs;
    while (before && !slice_eq(before->filter, filter))
        before = before->of_owner;
    return before ? before->since : c->front->opts.durable(c->front->opts.arg);
}

/* REASON_ok, with the QoS that is granted, or why not. */
static enum reason subscribe(struct mqtt_conn *c, const struct mqtt_filter *f, uint32_t id,
                             uint8_t *ret_qos)
{
    struct mqtt_front *front = c->front;
    struct slice group, rest;
    uint64_t scope;
    if (topic_share_split(f->filter, &group, &rest) != TOPIC_PLAIN)
        return REASON_shared_unsupported;
    enum reason reason =
        front->opts.may_subscribe(front->opts.arg, &c->principal, f->filter, &scope);
    if (reason == REASON_ok && c->subs_count >= front->opts.subscriptions_max)
        reason = REASON_subscriptions_full;
    if (reason != REASON_ok)
        return reason;
    uint64_t since = since_of(c, f->filter);
    bool replaced = mqtt_subs_remove(front->subs, &c->subs, f->filter);
    struct mqtt_sub *sub = mqtt_subs_add(front->subs, &c->subs, c, scope, f->filter);
    sub->qos = f->qos ? 1 : 0; /* more is not granted: section 3.8.4 */
    sub->id = id;
    sub->no_local = f->no_local;
    sub->since = since;
    sub->as_published = f->as_published;
    c->subs_count = (uint16_t)(c->subs_count + !replaced);
    if (!replaced)
        metric_move(METRIC_mqtt_subscriptions, 1);
    front->opts.interest(front->opts.arg, replaced ? 0 : 1);
    if (scope != LIVE_OF_NOBODY)
        mqtt_replay_begin(c, f, sub, replaced);
    *ret_qos = sub->qos;
    return REASON_ok;
}

static uint8_t refused_code(const struct mqtt_conn *c, enum reason reason)
{
    uint8_t code = reason_info(reason)->mqtt;
    if (c->reader.version != MQTT_5)
        return MQTT_UNSPECIFIED;
    if (mqtt_code_allowed(MQTT_SUBACK, code, true))
        return code;
    return code == MQTT_NAME_INVALID ? MQTT_FILTER_INVALID : MQTT_UNSPECIFIED;
}

static uint8_t unsubscribe(struct mqtt_conn *c, struct slice filter)
{
    if (!mqtt_subs_remove(c->front->subs, &c->subs, filter))
        return MQTT_NO_SUBSCRIPTION;
    mqtt_replay_drop(c, filter);
    c->subs_count--;
    metric_move(METRIC_mqtt_subscriptions, -1);
    c->front->opts.interest(c->front->opts.arg, -1);
    return MQTT_SUCCESS;
}

/* Says what was refused on {user}/errors, behind the answer: some clients take a message before it
 * for an error. Who is refused too often is closed. */
static void tell_refused(struct mqtt_conn *c, const struct mqtt_packet *p,
                         const struct buf *reasons)
{
    struct slice rest = p->list, first = {0};
    struct mqtt_filter f;
    stream_write(c->stream, buf_slice(&c->front->now));
    buf_clear(&c->front->now);
    for (size_t i = 0; i < reasons->len && mqtt_next_filter(p->type, &rest, &f); i++) {
        enum reason reason = (enum reason)(uint8_t)reasons->ptr[i];
        if (reason == REASON_ok)
            continue;
        metric_add(METRIC_mqtt_subscribes_refused, 1);
        reason_count(reason);
        mqtt_notice(c, "SUBSCRIBE", f.filter, reason, slice_str(reason_info(reason)->text));
        if (!first.ptr)
            first = f.filter;
    }
    mqtt_count_refusal(c, "SUBSCRIBE", first);
}

static void subscribe_all(struct mqtt_conn *c, const struct mqtt_packet *p, struct buf *codes,
                          bool flood)
{
    uint32_t id =
        mqtt_has(&p->properties, MQTT_SUBSCRIPTION_ID) ? p->properties.subscription_id : 0;
    struct mqtt_packet answer = {.type = MQTT_SUBACK, .id = p->id};
    struct slice rest = p->list;
    struct mqtt_filter f;
    struct buf reasons;
    bool any = false;
    buf_init(&reasons, c->front->opts.packet_max);
    while (mqtt_next_filter(p->type, &rest, &f)) {
        uint8_t code;
        enum reason reason = flood ? REASON_flood : subscribe(c, &f, id, &code);
        any |= reason != REASON_ok;
        buf_put_u8(codes, reason == REASON_ok ? code : refused_code(c, reason));
        buf_put_u8(&reasons, (uint8_t)reason);
    }
    answer.list = buf_slice(codes);
    mqtt_put_fitting(&c->front->now, c, &answer);
    if (any)
        tell_refused(c, p, &reasons);
    buf_fini(&reasons);
}

static void unsubscribe_all(struct mqtt_conn *c, const struct mqtt_packet *p, struct buf *codes)
{
    struct mqtt_packet answer = {.type = MQTT_UNSUBACK, .id = p->id};
    struct slice rest = p->list;
    struct mqtt_filter f;
    while (mqtt_next_filter(p->type, &rest, &f))
        buf_put_u8(codes, unsubscribe(c, f.filter));
    answer.list = buf_slice(codes);
    mqtt_put_fitting(&c->front->now, c, &answer);
}

void mqtt_take_filters(struct mqtt_conn *c, const struct mqtt_packet *p)
{
    bool is_subscribe = p->type == MQTT_SUBSCRIBE;
    const char *action = is_subscribe ? "SUBSCRIBE" : "UNSUBSCRIBE";
    struct slice rest = p->list;
    struct mqtt_filter f = {0};
    struct buf codes;
    (void)mqtt_next_filter(p->type, &rest, &f);
    bool flood = !mqtt_count_filters(c, action, f.filter);
    buf_init(&codes, c->front->opts.packet_max);
    if (is_subscribe) {
        subscribe_all(c, p, &codes, flood);
    } else {
        unsubscribe_all(c, p, &codes); /* which cannot be refused for that, and sets memory free */
        if (flood)
            mqtt_count_refusal(c, action, f.filter);
    }
    buf_fini(&codes);
}

void mqtt_drop_subs(struct mqtt_conn *c)
{
    metric_move(METRIC_mqtt_subscriptions, -(int64_t)c->subs_count);
    c->front->opts.interest(c->front->opts.arg, -(int)c->subs_count);
    mqtt_subs_remove_all(c->front->subs, &c->subs);
    c->subs_count = 0;
    mqtt_replay_drop_all(c);
    if (c->out)
        buf_fini(&c->out->queue);
    free(c->out);
    c->out = NULL;
}

/* ---- messages ---- */

static struct outbound *outbound_of(struct mqtt_conn *c)
{
    if (c->out)
        return c->out;
    c->out = calloc(1, sizeof *c->out);
    CHECK(c->out);
    buf_init(&c->out->queue, c->front->opts.queue_bytes);
    c->out->window = c->receive_max < WINDOW_MAX ? c->receive_max : WINDOW_MAX;
    return c->out;
}

static bool id_in_use(const struct outbound *o, uint16_t id)
{
    for (unsigned i = 0; i < o->count; i++) {
        if (o->ids[i] == id)
            return true;
    }
    return id == 0;
}

static uint16_t take_id(struct outbound *o)
{
    do
        o->next_id++;
    while (id_in_use(o, o->next_id));
    o->ids[o->count++] = o->next_id;
    return o->next_id;
}

/* Where the packet identifier of a PUBLISH stands: behind its header and its topic. */
static size_t id_place(const char *packet)
{
    size_t at = 1;
    while (packet[at++] & 0x80)
        ;
    return at + 2 + (size_t)((uint8_t)packet[at] << 8 | (uint8_t)packet[at + 1]);
}

static void set_id(char *packet, uint16_t id)
{
    size_t at = id_place(packet);
    packet[at] = (char)(id >> 8);
    packet[at + 1] = (char)id;
}

static void drop_message(enum metric_counter why)
{
    metric_add(why, 1);
}

/* The lower of the two (section 3.8.4); what was not published has none of its own. */
static uint8_t qos_of(const struct mqtt_sub *sub, const struct live_message *m)
{
    return m->published && sub->qos > m->qos ? m->qos : sub->qos;
}

/* What the message came with, and how long it may still take (MQTT-3.3.2-6). False: too long. */
static bool put_published(struct mqtt_packet *p, const struct live_message *m)
{
    struct mqtt_properties *props = &p->properties;
    if (m->properties.len && !mqtt_read_passed(m->properties, props))
        props->has = 0; /* a later version may have written more */
    if (m->expires_us == INT64_MAX)
        return true;
    int64_t left_us = m->expires_us - clock_wall_us();
    if (left_us <= 0) /* MQTT-3.3.2-5 */
        return false;
    props->has |= 1ull << MQTT_MESSAGE_EXPIRY;
    props->message_expiry = (uint32_t)((left_us + US_PER_S - 1) / US_PER_S);
    return true;
}

/* Appends the packet. False: it would come too late. */
static bool put_message(struct buf *out, enum mqtt_version version, const struct mqtt_sub *sub,
                        const struct live_message *m, struct slice payload)
{
    struct buf raw;
    struct mqtt_packet p = {.type = MQTT_PUBLISH, .id = 1};
    p.publish = (struct mqtt_publish){.topic = m->topic,
                                      .payload = payload,
                                      .qos = qos_of(sub, m),
                                      .retain = m->retained ||
                                                (m->retain && sub->as_published)}; /* 3.3.1.3 */
    if (m->published && !put_published(&p, m))
        return false;
    buf_init(&raw, SIZE_MAX / 2);
    if (version == MQTT_5 && sub->id) { /* MQTT-3.3.4-3 */
        buf_put_slice(&raw, m->properties);
        mqtt_put_id(&raw, sub->id);
        p.properties.has |= 1ull << MQTT_SUBSCRIPTION_ID;
        p.properties.raw = buf_slice(&raw);
    }
    mqtt_put(out, version, &p);
    buf_fini(&raw);
    return true;
}

/* The packet for that subscriber. Where nothing in it is his own it is made once for all of a
 * message and version. Empty: dropped. */
static struct slice packet_for(struct mqtt_conn *c, const struct mqtt_sub *sub,
                               const struct live_message *m, struct slice payload)
{
    struct mqtt_front *f = c->front;
    bool is_5 = c->reader.version == MQTT_5;
    bool common =
        qos_of(sub, m) == 0 && !sub->id && !m->retained && !(m->retain && sub->as_published);
    struct buf *out = common ? &f->common[is_5] : &f->gather;
    if (!common || !f->common_made[is_5]) {
        buf_clear(out);
        if (!put_message(out, c->reader.version, sub, m, payload))
            buf_clear(out);
        f->common_made[is_5] |= common;
    }
    if (!out->len)
        drop_message(METRIC_mqtt_drops_expired);
    else if (out->len > c->packet_max) /* MQTT-3.1.2-25 */
        drop_message(METRIC_mqtt_drops_too_large);
    return out->len <= c->packet_max ? buf_slice(out) : (struct slice){0};
}

bool mqtt_may_see(const struct credential *who, struct slice topic)
{
    return !who->topics || topic_rules_cover(who->topics->subscribe, who->name, topic);
}

bool mqtt_may_send(const struct mqtt_conn *c, uint8_t qos)
{
    const struct outbound *o = c->out;
    return stream_unsent(c->stream) + c->sending.len <= UNSENT_MAX &&
           (!qos || !o || (o->count < o->window && !o->queue.len));
}

static void send_one(struct mqtt_conn *c, const struct mqtt_sub *sub, const struct live_message *m,
                     struct slice payload)
{
    if (c->state != MQTT_UP)
        return;
    struct slice packet = packet_for(c, sub, m, payload);
    if (!packet.len)
        return;
    if (qos_of(sub, m) == 0) {
        if (stream_unsent(c->stream) + c->sending.len > UNSENT_MAX) {
            drop_message(METRIC_mqtt_drops_slow);
            return;
        }
        metric_add(METRIC_mqtt_sent, 1);
        mqtt_send_later(c, packet);
        return;
    }
    struct buf *out = &c->front->gather;
    struct outbound *o = outbound_of(c);
    if (o->count < o->window && !o->queue.len) {
        set_id(out->ptr, take_id(o));
        metric_add(METRIC_mqtt_sent, 1);
        mqtt_send_later(c, buf_slice(out));
        return;
    }
    if (o->queue.len + 4 + out->len > o->queue.max) {
        drop_message(METRIC_mqtt_drops_queue_full);
        return;
    }
    buf_put_u32(&o->queue, (uint32_t)out->len);
    buf_put_slice(&o->queue, buf_slice(out));
}

/* No packet is made of it yet. */
static void begin_message(struct mqtt_front *f)
{
    f->common_made[0] = f->common_made[1] = false;
}

void mqtt_send(struct mqtt_conn *c, const struct mqtt_sub *sub, const struct live_message *m,
               struct slice payload)
{
    begin_message(c->front);
    send_one(c, sub, m, payload);
}

void mqtt_take_ack(struct mqtt_conn *c, const struct mqtt_packet *p)
{
    struct outbound *o = c->out;
    unsigned at = 0;
    while (o && at < o->count && o->ids[at] != p->id)
        at++;
    if (!o || at == o->count)
        return; /* of something we never sent: nothing to do */
    o->ids[at] = o->ids[--o->count];
    size_t used = 0;
    while (o->count < o->window && used < o->queue.len) {
        uint32_t len;
        memcpy(&len, o->queue.ptr + used, 4);
        char *packet = o->queue.ptr + used + 4;
        set_id(packet, take_id(o));
        metric_add(METRIC_mqtt_sent, 1);
        buf_put(&c->front->now, packet, len);
        used += 4 + len;
    }
    if (used == o->queue.len)
        buf_fini(&o->queue);
    else
        buf_consume(&o->queue, used);
    mqtt_replay_on(c);
}

bool mqtt_send_asked(struct mqtt_conn *c, struct slice topic, struct slice payload)
{
    const struct mqtt_sub *best = NULL;
    for (const struct mqtt_sub *s = c->subs; s; s = s->of_owner) {
        if ((!best || s->qos > best->qos) && topic_matches(s->filter, topic))
            best = s;
    }
    if (best)
        mqtt_send(c, best, &(struct live_message){.topic = topic}, payload);
    return best != NULL;
}

/* ---- for the pipeline ---- */

bool mqtt_front_wants(void *front, uint64_t account)
{
    struct mqtt_front *f = front;
    return mqtt_subs_any(f->subs, account);
}

struct matching {
    const struct live_message *m;
    struct slice payload;
};

static void on_match(void *arg, const struct mqtt_sub *sub)
{
    struct matching *x = arg;
    struct mqtt_conn *c = sub->owner;
    const struct credential *who = c->principal.credential;
    /* Its role and its feeds may have changed since it subscribed. */
    if ((who->permissions & x->m->permission) != x->m->permission ||
        (x->m->published && !mqtt_may_see(who, x->m->topic)) ||
        (x->m->feed_key.len && !credential_covers(who, x->m->feed_key)))
        return;
    if (sub->no_local && x->m->credential == who->number)
        return;
    if (x->m->place && x->m->place < session_place(sub->since, 0))
        return; /* it was on its way already when the client subscribed */
    if (!x->payload.ptr)
        x->payload = x->m->payload(x->m->arg);
    send_one(c, sub, x->m, x->payload);
}

void mqtt_front_publish(void *front, const struct live_message *m)
{
    struct mqtt_front *f = front;
    struct matching x = {.m = m};
    begin_message(f);
    mqtt_subs_match(f->subs, m->account, m->topic, on_match, &x);
}
