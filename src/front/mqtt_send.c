/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages to clients: SUBSCRIBE, and what is published to it. A client that does not keep up is
 * never buffered for without end: QoS 0 is dropped while UNSENT_MAX bytes wait for its socket; for
 * more see mqtt_deliver.c. Every drop is counted, with its reason.
 */
#include "base/check.h"
#include "base/clock.h"
#include "base/metric.h"
#include "codec/topic.h"
#include "flow/limits.h"
#include "flow/session_record.h"
#include "front/mqtt_private.h"

#define UNSENT_MAX  (256u << 10)
#define NOTICES_MAX 10u /* of one packet */

/* ---- subscriptions ---- */

static bool is_shared(struct slice filter)
{
    struct slice group, inner;
    return topic_share_split(filter, &group, &inner) == TOPIC_SHARED;
}

static struct mqtt_sub *find_own(const struct mqtt_conn *c, struct slice filter)
{
    struct mqtt_sub *s = c->subs;
    while (s && !slice_eq(s->filter, filter))
        s = s->of_owner;
    return s;
}

/* A subscription that is made again goes on where it was. */
static uint64_t since_of(const struct mqtt_conn *c, struct slice filter)
{
    const struct mqtt_sub *before = find_own(c, filter);
    return before ? before->since : c->front->opts.durable(c->front->opts.arg);
}

/* NULL: its group is full. */
static struct mqtt_sub *add(struct mqtt_conn *c, const struct session_filter *f, uint64_t scope,
                            uint64_t since, bool restored)
{
    struct mqtt_front *front = c->front;
    struct mqtt_sub *before = find_own(c, f->filter), *sub = before;
    bool replaced = before != NULL;
    if (!is_shared(f->filter)) /* takes the place of the one before */
        sub = mqtt_subs_add(front->subs, &c->subs, c, scope, f->filter);
    else if (!before)
        sub = mqtt_join(c, scope, f->filter, restored);
    if (!sub)
        return NULL;
    sub->qos = f->qos;
    sub->id = f->id;
    sub->no_local = f->no_local;
    sub->as_published = f->as_published;
    sub->since = sub->member ? 0 : since; /* a group's home sees to it */
    c->subs_count = (uint16_t)(c->subs_count + !replaced);
    if (!replaced)
        metric_move(METRIC_mqtt_subscriptions, 1);
    front->opts.interest(front->opts.arg, replaced ? 0 : 1);
    return sub;
}

/* What the journal keeps of a session has maxima of its own (flow/limits.h). */
static unsigned subs_max(const struct mqtt_conn *c)
{
    unsigned max = c->front->opts.subscriptions_max;
    return c->session && max > SESSION_SUBS_MAX ? SESSION_SUBS_MAX : max;
}

/* REASON_ok, with the QoS that is granted, or why not. */
static enum reason subscribe(struct mqtt_conn *c, const struct mqtt_filter *f, uint32_t id,
                             uint8_t *ret_qos)
{
    struct mqtt_front *front = c->front;
    struct slice group, rest;
    uint64_t scope;
    if (topic_share_split(f->filter, &group, &rest) == TOPIC_SHARE_BAD)
        return REASON_bad_topic;
    enum reason reason = front->opts.may_subscribe(front->opts.arg, &c->principal, rest, &scope);
    if (reason == REASON_ok && c->subs_count >= subs_max(c) && !find_own(c, f->filter))
        reason = REASON_subscriptions_full;
    if (reason == REASON_ok && c->session && f->filter.len > TOPIC_MAX)
        reason = REASON_bad_topic;
    if (reason != REASON_ok)
        return reason;
    const struct session_filter kept = {.filter = f->filter,
                                        .qos = f->qos,
                                        .retain_handling = f->retain_handling,
                                        .no_local = f->no_local,
                                        .as_published = f->as_published,
                                        .id = id};
    unsigned before = c->subs_count;
    struct mqtt_sub *sub = add(c, &kept, scope, since_of(c, f->filter), false);
    if (!sub)
        return REASON_subscriptions_full;
    *ret_qos = f->qos;
    if (scope != LIVE_OF_NOBODY)
        mqtt_replay_begin(c, f, sub, c->subs_count == before);
    if (!c->session || c->state != MQTT_UP) /* what that asks for may have been refused */
        return REASON_ok;
    if (!before)
        mqtt_deliver_join(c);
    mqtt_tell_filter(c, &(struct session_record){.event = SESSION_SUBSCRIBED, .filter = kept});
    if (sub->member)
        mqtt_tell_group(c, sub);
    return REASON_ok;
}

void mqtt_restore_sub(struct mqtt_conn *c, const struct session_filter *f, uint64_t since)
{
    const struct mqtt_opts *o = &c->front->opts;
    struct slice group, rest;
    uint64_t scope;
    if (topic_share_split(f->filter, &group, &rest) != TOPIC_SHARE_BAD &&
        o->may_subscribe(o->arg, &c->principal, rest, &scope) == REASON_ok)
        (void)add(c, f, scope, since, true); /* else its role has changed */
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
    struct mqtt_sub *sub = find_own(c, filter);
    if (!sub)
        return MQTT_NO_SUBSCRIPTION;
    if (sub->member) {
        mqtt_deliver_tell(c);
        mqtt_leave(sub);
        mqtt_deliver_disown(c, sub);
    }
    mqtt_subs_remove(c->front->subs, &c->subs, filter);
    mqtt_replay_drop(c, filter);
    c->subs_count--;
    metric_move(METRIC_mqtt_subscriptions, -1);
    c->front->opts.interest(c->front->opts.arg, -1);
    if (c->session)
        mqtt_tell_filter(c, &(struct session_record){.event = SESSION_UNSUBSCRIBED,
                                                     .filter = {.filter = filter}});
    return MQTT_SUCCESS;
}

/* Says what was refused on {user}/errors, behind the answer: some clients take a message before it
 * for an error. Who is refused too often is closed. */
static void tell_refused(struct mqtt_conn *c, const struct mqtt_packet *p,
                         const struct buf *reasons)
{
    struct slice rest = p->list, first = {0};
    struct mqtt_filter f;
    unsigned notices = 0;
    stream_write(c->stream, buf_slice(&c->front->now));
    buf_clear(&c->front->now);
    for (size_t i = 0; i < reasons->len && mqtt_next_filter(p->type, &rest, &f); i++) {
        enum reason reason = (enum reason)(uint8_t)reasons->ptr[i];
        if (reason == REASON_ok)
            continue;
        metric_add(METRIC_mqtt_subscribes_refused, 1);
        reason_count(reason);
        if (notices++ < NOTICES_MAX) /* each goes to all workers */
            mqtt_notice(c, "SUBSCRIBE", f.filter, reason, slice_str(reason_info(reason)->text));
        if (!first.ptr)
            first = f.filter;
    }
    mqtt_count_refusal(c, "SUBSCRIBE", first);
}

/* In a session behind what is told of that: when it is durable. */
static void put_answer(struct mqtt_conn *c, struct mqtt_packet *answer)
{
    if (mqtt_size(c->reader.version, answer) > c->packet_max) { /* MQTT-3.1.2-24 */
        mqtt_close(c, MQTT_TOO_LARGE, "the answer is larger than the packets you take");
        return;
    }
    if (!c->session) {
        mqtt_put_fitting(&c->front->now, c, answer);
        return;
    }
    struct mqtt_exchange *e = mqtt_enqueue(c, answer->type);
    mqtt_put_fitting(&e->out, c, answer);
    mqtt_done(e);
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
    unsigned left = flood ? 0 : subs_max(c); /* one packet makes no more than there may be */
    bool any = false;
    buf_init(&reasons, c->front->opts.packet_max);
    while (c->state == MQTT_UP && mqtt_next_filter(p->type, &rest, &f)) {
        uint8_t code;
        enum reason reason = flood ? REASON_flood : REASON_subscriptions_full;
        if (left) {
            reason = subscribe(c, &f, id, &code);
            left--;
        }
        any |= reason != REASON_ok;
        buf_put_u8(codes, reason == REASON_ok ? code : refused_code(c, reason));
        buf_put_u8(&reasons, (uint8_t)reason);
    }
    answer.list = buf_slice(codes);
    if (c->state == MQTT_UP)
        put_answer(c, &answer);
    if (any && c->state == MQTT_UP)
        tell_refused(c, p, &reasons);
    buf_fini(&reasons);
}

static void unsubscribe_all(struct mqtt_conn *c, const struct mqtt_packet *p, struct buf *codes)
{
    struct mqtt_packet answer = {.type = MQTT_UNSUBACK, .id = p->id};
    struct slice rest = p->list;
    struct mqtt_filter f;
    while (c->state == MQTT_UP && mqtt_next_filter(p->type, &rest, &f))
        buf_put_u8(codes, unsubscribe(c, f.filter));
    answer.list = buf_slice(codes);
    if (c->state == MQTT_UP)
        put_answer(c, &answer);
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
    mqtt_deliver_free(c);
}

/* ---- messages ---- */

/* Where the packet identifier of a PUBLISH stands: behind its header and its topic. */
static size_t id_place(const char *packet)
{
    size_t at = 1;
    while (packet[at++] & 0x80)
        ;
    return at + 2 + (size_t)((uint8_t)packet[at] << 8 | (uint8_t)packet[at + 1]);
}

void mqtt_set_id(char *packet, uint16_t id)
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
static uint8_t qos_of(const struct outgoing *o)
{
    return o->m->published && o->qos > o->m->qos ? o->m->qos : o->qos;
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
static bool put_message(struct buf *out, enum mqtt_version version, const struct outgoing *o)
{
    const struct live_message *m = o->m;
    struct buf raw;
    struct mqtt_packet p = {.type = MQTT_PUBLISH, .id = 1};
    p.publish = (struct mqtt_publish){.topic = m->topic,
                                      .payload = o->payload,
                                      .qos = qos_of(o),
                                      .dup = o->dup,
                                      .retain = m->retained ||
                                                (m->retain && o->as_published)}; /* 3.3.1.3 */
    if (m->published && !put_published(&p, m))
        return false;
    buf_init(&raw, SIZE_MAX / 2);
    if (version == MQTT_5 && o->ids.len) { /* MQTT-3.3.4-3 */
        buf_put_slice(&raw, m->properties);
        buf_put_slice(&raw, o->ids);
        p.properties.has |= 1ull << MQTT_SUBSCRIPTION_ID;
        p.properties.raw = buf_slice(&raw);
    }
    mqtt_put(out, version, &p);
    buf_fini(&raw);
    return true;
}

/* The packet for that client. Where nothing in it is his own it is made once for all of a message
 * and version. Empty: dropped. */
static struct slice packet_for(struct mqtt_conn *c, const struct outgoing *o)
{
    struct mqtt_front *f = c->front;
    bool is_5 = c->reader.version == MQTT_5;
    bool common =
        qos_of(o) == 0 && !o->ids.len && !o->m->retained && !(o->m->retain && o->as_published);
    struct buf *out = common ? &f->common[is_5] : &f->gather;
    if (!common || !f->common_made[is_5]) {
        buf_clear(out);
        if (!put_message(out, c->reader.version, o))
            buf_clear(out);
        f->common_made[is_5] |= common;
    }
    if (!out->len)
        drop_message(METRIC_mqtt_drops_expired);
    else if (out->len > c->packet_max) /* MQTT-3.1.2-25 */
        drop_message(METRIC_mqtt_drops_too_large);
    return out->len <= c->packet_max ? buf_slice(out) : (struct slice){0};
}

bool mqtt_put_message(struct mqtt_conn *c, const struct outgoing *o)
{
    CHECK(qos_of(o)); /* else it may be everybody's */
    return packet_for(c, o).len > 0;
}

bool mqtt_may_see(const struct credential *who, struct slice topic)
{
    return !who->topics || topic_rules_cover(who->topics->subscribe, who->name, topic);
}

bool mqtt_may_send(const struct mqtt_conn *c, uint8_t qos)
{
    return stream_unsent(c->stream) + c->sending.len <= UNSENT_MAX && (!qos || mqtt_may_deliver(c));
}

/* Whether it is under way then, above QoS 0. */
static bool send_one(struct mqtt_conn *c, const struct outgoing *o)
{
    struct outgoing now = *o;
    now.qos = qos_of(o);
    if (c->session && !o->m->place)
        now.qos = 0; /* not from the journal: it would not be there when the client is again */
    if (c->session && now.qos && !o->member && c->state == MQTT_ENDING)
        mqtt_deliver_let_pass(c, o->m->place);
    if (c->state != MQTT_UP)
        return false;
    struct slice packet = packet_for(c, &now);
    if (!packet.len)
        return false;
    if (now.qos && o->member)
        return mqtt_deliver_shared(c, o->m, o->member, now.qos, &c->front->gather);
    if (now.qos) {
        mqtt_deliver(c, o->m, now.qos, &c->front->gather);
        return true;
    }
    if (stream_unsent(c->stream) + c->sending.len > UNSENT_MAX) {
        drop_message(METRIC_mqtt_drops_slow);
    } else {
        metric_add(METRIC_mqtt_sent, 1);
        mqtt_send_messages(c, packet);
    }
    return false;
}

void mqtt_add_match(struct mqtt_front *f, struct outgoing *o, const struct mqtt_sub *sub)
{
    if (!o->ids.len)
        buf_clear(&f->ids);
    if (sub->id) /* MQTT-3.3.4-3, -4 */
        mqtt_put_id(&f->ids, sub->id);
    CHECK(!f->ids.failed); /* a connection's subscriptions have a maximum */
    o->ids = buf_slice(&f->ids);
    o->qos = sub->qos > o->qos ? sub->qos : o->qos; /* MQTT-3.3.4-2 */
    o->as_published |= sub->as_published;
}

/* No packet is made of it yet. */
static void begin_message(struct mqtt_front *f)
{
    f->common_made[0] = f->common_made[1] = false;
}

bool mqtt_send(struct mqtt_conn *c, const struct mqtt_sub *sub, const struct live_message *m,
               struct slice payload)
{
    struct outgoing o = {.m = m, .payload = payload, .member = sub->member};
    begin_message(c->front);
    mqtt_add_match(c->front, &o, sub);
    return send_one(c, &o);
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
    struct mqtt_front *front;
    const struct live_message *m;
    struct slice payload;
};

bool mqtt_sub_wants(const struct mqtt_sub *sub, const struct live_message *m)
{
    const struct mqtt_conn *c = sub->owner;
    const struct credential *who = c->principal.credential;
    /* Its role and its feeds may have changed since it subscribed. */
    if ((who->permissions & m->permission) != m->permission ||
        (m->published && !mqtt_may_see(who, m->topic)) ||
        (m->feed_key.len && !credential_covers(who, m->feed_key)))
        return false;
    if (sub->no_local && m->client == c->number) /* MQTT-3.8.3-3 */
        return false;
    /* Else it was on its way already when the client subscribed. */
    return !m->place || m->place >= session_place(sub->since, 0);
}

static void on_match(void *arg, struct mqtt_sub *sub)
{
    struct matching *x = arg;
    struct mqtt_conn *c = sub->owner;
    struct share_group *g = sub->group;
    if (g ? x->m->place && x->m->place < session_place(g->since, 0) : !mqtt_sub_wants(sub, x->m))
        return;
    if (!x->payload.ptr)
        x->payload = x->m->payload(x->m->arg);
    if (g) {
        mqtt_share_out(x->front, g, x->m, x->payload);
        return;
    }
    if (!c->due) {
        c->due_next = x->front->due;
        x->front->due = c;
    }
    sub->also = c->due;
    c->due = sub;
}

/* A client gets one copy, whatever number of its subscriptions match (decision 0040). */
static void send_due(struct mqtt_front *f, const struct matching *x)
{
    while (f->due) {
        struct mqtt_conn *c = f->due;
        struct outgoing o = {.m = x->m, .payload = x->payload};
        for (const struct mqtt_sub *s = c->due; s; s = s->also)
            mqtt_add_match(f, &o, s);
        f->due = c->due_next;
        c->due = NULL;
        send_one(c, &o);
    }
}

void mqtt_front_publish(void *front, const struct live_message *m)
{
    struct mqtt_front *f = front;
    struct matching x = {.front = f, .m = m};
    begin_message(f);
    mqtt_subs_match(f->subs, m->account, m->topic, on_match, &x);
    send_due(f, &x);
}
