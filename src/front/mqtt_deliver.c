/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages above QoS 0 to one client: under packet ids, in a window, and what the journal is told
 * of that if the session outlives its connection.
 *
 * Of such a session every message is named by its place in the journal, and the journal is its
 * queue. Going up in places there is
 *
 *   flights    what is under way, and what is over behind something that is not
 *   places     what was found in the journal (`missed`), to be read and sent
 *   queue      what came live meanwhile, from place `join` on
 *   shared     what it was given as a member of groups, in any order (mqtt_shared.c)
 *   from ...   if `behind`: what came live after that was let pass; it is read later
 *
 * so nothing is sent twice or left out where reading turns into live delivery. A session that ends
 * with its connection only has flights and queue, and what finds no room there is dropped.
 *
 * What the journal is told of all that: mqtt_tell.c.
 */
#include <stdlib.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/metric.h"
#include "flow/limits.h"
#include "flow/missed.h"
#include "front/mqtt_deliver_own.h"

#define PACKET_HEAD_MAX (QUEUED_HEAD + 64u) /* of a message, besides its texts */

_Static_assert(DELIVER_FLIGHTS_MAX < SESSION_ACKED_MAX && DELIVER_WINDOW_MAX < SESSION_OUT_MAX,
               "what is told of a session has to fit");

/* Of a message that waits: u64 place, u8 QoS, u32 member, u32 length, i64 when it expires. */
#define QUEUED_HEAD 25u

static void on_retry(struct deadline *d);

static struct delivery *delivery_of(struct mqtt_conn *c)
{
    if (c->out)
        return c->out;
    struct delivery *d = c->out = calloc(1, sizeof *d);
    CHECK(d);
    d->conn = c;
    d->window = c->receive_max < DELIVER_WINDOW_MAX ? c->receive_max : DELIVER_WINDOW_MAX;
    d->retry.due = on_retry;
    buf_init(&d->queue, c->front->opts.queue_bytes);
    buf_init(&d->shared, c->front->opts.queue_bytes);
    buf_init(&d->held, c->front->opts.queue_bytes + MQTT_LENGTH_MAX);
    return d;
}

void mqtt_deliver_free(struct mqtt_conn *c)
{
    struct delivery *d = c->out;
    if (!d)
        return;
    if (d->asked)
        d->asked->asks = NULL; /* it comes back to nobody */
    deadline_clear(&d->retry);
    flights_fini(&d->flights);
    tell_fini(d);
    free(d->places);
    free(d->given);
    buf_fini(&d->shared);
    buf_fini(&d->held);
    buf_fini(&d->queue);
    free(d);
    c->out = NULL;
}

/* ---- how far it is --------------------------------------------------------------------------- */

/* The first place that may not be among the flights yet. */
static uint64_t next_place(const struct delivery *d)
{
    uint64_t live = session_place(d->conn->front->live_next, 0), next;
    if (d->asked && d->asked_for == ASKED_STRETCH)
        return d->asked->missed->from;
    if (d->places_at < d->places_count)
        return d->places[d->places_at];
    if (d->queue.len) {
        memcpy(&next, d->queue.ptr, sizeof next);
        return next;
    }
    return d->behind ? d->from : d->join > live ? d->join : live;
}

uint64_t delivery_floor(const struct delivery *d)
{
    return flights_floor(&d->flights, next_place(d)) / SESSION_PARTS;
}

static bool has_room(const struct delivery *d)
{
    return flights_open(&d->flights) < d->window && d->flights.count < DELIVER_FLIGHTS_MAX &&
           d->held.len < d->conn->front->opts.queue_bytes;
}

/* ---- out ------------------------------------------------------------------------------------- */

/* Whether the journal is told of a message under a packet id when it is sent. That of a group is
 * not if the session ends with the connection, so that it is the group's again in a crash. */
static bool is_kept(const struct delivery *d, uint32_t member)
{
    return d->conn->session && (!member || delivery_outlives(d));
}

/* A client without a session has it, which the group's sessions do not get then. */
static void note_given(struct delivery *d, const struct flight *flight)
{
    const struct mqtt_sub *sub = mqtt_subs_member(d->conn->front->subs, flight->member);
    if (!sub)
        return;
    mqtt_share_settle(sub->group, flight->place);
    if (sub->group->kept)
        tell_given(d, flight->member,
                   (struct session_item){flight->place, flight->id, flight->qos});
}

/* Sends the packet, whose id is not set yet. */
static void leave(struct delivery *d, const struct flight *flight, char *packet, size_t len)
{
    struct mqtt_conn *c = d->conn;
    mqtt_set_id(packet, flight->id);
    metric_add(METRIC_mqtt_sent, 1);
    const struct session_item item = {flight->place, flight->id, flight->qos};
    bool kept = is_kept(d, flight->member);
    if (kept && flight->member && flight->member != MEMBER_RETAINED) {
        tell_given(d, flight->member, item);
    } else if (kept) {
        items_put(flight->member ? &d->apart : &d->sent, item);
        mqtt_make_dirty(c);
    } else if (flight->member && flight->qos == 2) {
        note_given(d, flight); /* it stays with the client (MQTT-4.8.2-5) */
    }
    if (kept && (flight->qos == 2 || d->holding || d->held.len)) {
        buf_put(&d->held, packet, len);
        CHECK(!d->held.failed); /* has_room */
    } else {
        mqtt_send_messages(c, slice_of(packet, len));
    }
}

void delivery_send(struct delivery *d, uint64_t place, uint32_t member, uint8_t qos, char *packet,
                   size_t len)
{
    bool still = member == MEMBER_RETAINED || mqtt_subs_member(d->conn->front->subs, member);
    uint32_t of = still ? member : 0;
    bool waits = is_kept(d, of) && qos == 2;
    struct flight *flight =
        flights_put(&d->flights, place, qos, waits ? FLIGHT_WAITS : FLIGHT_SENT);
    flight->member = of;
    leave(d, flight, packet, len);
}

/* Nothing has to go before it. */
static bool is_next(const struct delivery *d)
{
    return !d->queue.len && !d->shared.len && d->given_at == d->given_count && !d->asked &&
           d->places_at == d->places_count && !d->flights.kept && has_room(d);
}

bool mqtt_may_deliver(const struct mqtt_conn *c)
{
    return !c->out || is_next(c->out);
}

/* What waits for the client counts as if its stream kept it. May close that. */
static void weigh(struct delivery *d)
{
    size_t bytes = d->queue.cap + d->shared.cap + d->held.cap;
    if (bytes == d->counted)
        return;
    d->counted = bytes;
    stream_elsewhere(d->conn->stream, bytes);
}

/* False: there is no room. */
static bool enqueue(struct buf *queue, const struct live_message *m, uint32_t member, uint8_t qos,
                    const struct buf *packet)
{
    if (queue->len + QUEUED_HEAD + packet->len > queue->max)
        return false;
    buf_put_u64(queue, m->place);
    buf_put_u8(queue, qos);
    buf_put_u32(queue, member);
    buf_put_u32(queue, (uint32_t)packet->len);
    buf_put_u64(queue, (uint64_t)(m->published ? m->expires_us : INT64_MAX));
    buf_put_slice(queue, buf_slice(packet));
    CHECK(!queue->failed);
    return true;
}

struct queued {
    uint64_t place;
    uint32_t member, len;
    int64_t expires_us;
    uint8_t qos;
    char *packet;
};

static struct queued queued_at(const struct buf *queue, size_t at)
{
    struct queued q = {.qos = (uint8_t)queue->ptr[at + 8], .packet = queue->ptr + at + QUEUED_HEAD};
    memcpy(&q.place, queue->ptr + at, 8);
    memcpy(&q.member, queue->ptr + at + 9, 4);
    memcpy(&q.len, queue->ptr + at + 13, 4);
    memcpy(&q.expires_us, queue->ptr + at + 17, 8);
    return q;
}

void mqtt_deliver_let_pass(struct mqtt_conn *c, uint64_t place)
{
    struct delivery *d = delivery_of(c);
    if (d->behind || place < d->join)
        return;
    d->behind = true;
    d->from = place;
}

void mqtt_deliver(struct mqtt_conn *c, const struct live_message *m, uint8_t qos,
                  struct buf *packet)
{
    struct delivery *d = delivery_of(c);
    bool live = c->session && !m->retained;
    uint32_t member = m->retained ? MEMBER_RETAINED : 0;
    if (live && (d->behind || m->place < d->join))
        return; /* it is read from the journal */
    if (is_next(d)) {
        delivery_send(d, m->place, member, qos, packet->ptr, packet->len);
    } else if (enqueue(&d->queue, m, member, qos, packet)) {
        weigh(d);
    } else if (live) {
        mqtt_deliver_let_pass(c, m->place);
        mqtt_make_dirty(c);
    } else {
        metric_add(METRIC_mqtt_drops_queue_full, 1);
    }
}

bool mqtt_deliver_shared(struct mqtt_conn *c, const struct live_message *m, uint32_t member,
                         uint8_t qos, struct buf *packet)
{
    struct delivery *d = delivery_of(c);
    if (is_next(d)) {
        delivery_send(d, m->place, member, qos, packet->ptr, packet->len);
        return true;
    }
    bool queued = enqueue(&d->shared, m, member, qos, packet);
    metric_add(METRIC_mqtt_drops_queue_full, !queued);
    weigh(d);
    return queued;
}

bool mqtt_may_queue(const struct mqtt_conn *c, uint8_t qos, size_t bytes)
{
    const struct delivery *d = c->out;
    return qos && d ? d->shared.len + bytes + PACKET_HEAD_MAX < d->shared.max : mqtt_may_send(c, 0);
}

/* Tells what is left of its time (MQTT-3.3.2-6). False: nothing is, and it is dropped. */
static bool age(struct delivery *d, const struct queued *q)
{
    const struct mqtt_sub *sub = mqtt_subs_member(d->conn->front->subs, q->member);
    int64_t left_us = q->expires_us - clock_wall_us();
    if (q->expires_us == INT64_MAX)
        return true;
    if (left_us > 0 && d->conn->reader.version == MQTT_5)
        mqtt_set_expiry(q->packet, q->len, (uint32_t)((left_us + US_PER_S - 1) / US_PER_S));
    metric_add(METRIC_mqtt_drops_expired, left_us <= 0);
    if (left_us <= 0 && sub)
        mqtt_share_settle(sub->group, q->place);
    return left_us > 0;
}

static void send_queued(struct delivery *d, struct buf *queue)
{
    size_t used = 0;
    while (used < queue->len && has_room(d)) {
        struct queued q = queued_at(queue, used);
        if (age(d, &q))
            delivery_send(d, q.place, q.member, q.qos, q.packet, q.len);
        used += QUEUED_HEAD + q.len;
    }
    if (used == queue->len)
        buf_fini(queue);
    else
        buf_consume(queue, used);
}

/* ---- as a member of groups ------------------------------------------------------------------- */

/* What was read makes room. */
static void drop_read(struct delivery *d)
{
    uint32_t left = d->given_count - d->given_at;
    memmove(d->given, d->given + d->given_at, left * sizeof *d->given);
    d->given_asked -= d->given_asked < d->given_at ? d->given_asked : d->given_at;
    d->given_count = left;
    d->given_at = 0;
}

void delivery_put_given(struct delivery *d, uint32_t member, uint64_t place,
                        const struct share_round *asked)
{
    bool is_full = d->given_count == d->given_room;
    if (is_full && d->given_at > d->given_room / 2) {
        drop_read(d);
    } else if (is_full) {
        d->given_room = d->given_room ? d->given_room * 2 : 16;
        d->given = realloc(d->given, d->given_room * sizeof *d->given);
        CHECK(d->given);
    }
    d->given_mixed |= d->given_count > d->given_at && d->given[d->given_count - 1].place > place;
    d->given[d->given_count++] = (struct given_place){place, member, false, *asked};
}

bool mqtt_deliver_place(struct mqtt_conn *c, uint32_t member, uint64_t place,
                        const struct share_round *asked)
{
    struct delivery *d = delivery_of(c);
    if (d->given_count - d->given_at >= c->front->opts.tune.missed_max)
        return false;
    delivery_put_given(d, member, place, asked);
    mqtt_make_dirty(c);
    return true;
}

bool mqtt_deliver_keeps(const struct mqtt_conn *c)
{
    return c->state == MQTT_CLOSING && c->session && c->expiry_s;
}

static bool is_unacked(const struct flight *flight)
{
    return flight->qos == 1 && (flight->state == FLIGHT_SENT || flight->state == FLIGHT_WAITS);
}

uint64_t mqtt_deliver_unread(const struct mqtt_conn *c, const struct mqtt_sub *sub)
{
    const struct delivery *d = c->out;
    bool ends = c->state == MQTT_CLOSING; /* else it has only unsubscribed */
    uint64_t first = UINT64_MAX;
    for (uint32_t i = d ? d->given_at : 0; d && i < d->given_count; i++) {
        if (d->given[i].member == sub->member && d->given[i].place < first)
            first = d->given[i].place;
    }
    for (uint32_t i = 0; d && ends && !mqtt_deliver_keeps(c) && i < d->flights.count; i++) {
        const struct flight *flight = &d->flights.list[i];
        if (flight->member == sub->member && is_unacked(flight) && flight->place < first)
            first = flight->place;
    }
    for (size_t at = 0; d && ends && at < d->shared.len;) {
        struct queued q = queued_at(&d->shared, at);
        if (q.member == sub->member && q.place && q.place < first)
            first = q.place;
        at += QUEUED_HEAD + q.len;
    }
    return first == UINT64_MAX ? first : first / SESSION_PARTS;
}

/* What it has not read yet, as that member. What is being read then is not sent. */
static void give_back_given(struct delivery *d, uint32_t member)
{
    uint32_t kept = 0, asked = 0;
    for (uint32_t i = d->given_at; i < d->given_count; i++) {
        const struct given_place given = d->given[i];
        if (given.member == member) {
            /* if there is nobody, the group sleeps from there */
            (void)mqtt_give_back(d->conn, member, given.place);
            continue;
        }
        asked += i < d->given_asked;
        d->given[kept++] = given;
    }
    d->given_at = 0;
    d->given_count = kept;
    d->given_asked = asked;
}

/* What waits for its window, as that member. It is its own if there is nobody else, and the group
 * does not sleep. */
static void give_back_queued(struct delivery *d, const struct mqtt_sub *sub)
{
    struct buf kept;
    buf_init(&kept, d->shared.max);
    for (size_t at = 0; at < d->shared.len;) {
        struct queued q = queued_at(&d->shared, at);
        bool own = !(q.place && sub->group->kept);
        if (q.member != sub->member || (!mqtt_give_back(d->conn, q.member, q.place) && own))
            buf_put(&kept, d->shared.ptr + at, QUEUED_HEAD + q.len);
        at += QUEUED_HEAD + q.len;
    }
    CHECK(!kept.failed);
    buf_fini(&d->shared);
    d->shared = kept;
}

void mqtt_deliver_disown(struct mqtt_conn *c, const struct mqtt_sub *sub)
{
    struct delivery *d = c->out;
    if (!d)
        return;
    give_back_given(d, sub->member);
    give_back_queued(d, sub);
    for (uint32_t i = 0; i < d->flights.count; i++) {
        const struct flight *flight = &d->flights.list[i];
        if (flight->member == sub->member && !tell_is_under_way(d, sub->group, flight->place))
            mqtt_share_settle(sub->group, flight->place);
    }
}

/* What the client has acknowledged, or will, when it is back with its session, is not given. What
 * that session has goes on when it is durable that it has it no more: the records of who gets it
 * then are behind that, whatever worker writes them. */
static void give_back_flights(struct delivery *d)
{
    for (uint32_t i = 0; i < d->flights.count; i++) {
        struct flight *flight = &d->flights.list[i];
        const struct mqtt_sub *sub = mqtt_subs_member(d->conn->front->subs, flight->member);
        if (!sub || !is_unacked(flight) ||
            (mqtt_deliver_keeps(d->conn) && !mqtt_may_give(sub->group)))
            continue;
        if (d->conn->session)
            tell_given_back(d, flight->member,
                            (struct session_item){flight->place, flight->id, flight->qos});
        else
            (void)mqtt_give_back(d->conn, flight->member, flight->place);
        flights_set(&d->flights, flight, FLIGHT_DONE);
    }
}

void mqtt_deliver_give_back(struct mqtt_conn *c)
{
    struct delivery *d = c->out;
    if (!d)
        return;
    give_back_flights(d);
    tell_others(d);
    for (size_t at = 0; at < d->shared.len;) {
        struct queued q = queued_at(&d->shared, at);
        const struct mqtt_sub *sub = mqtt_subs_member(c->front->subs, q.member);
        bool gone = !mqtt_give_back(c, q.member, q.place);
        if (gone && !(sub && q.place && sub->group->kept)) /* else it is read again */
            metric_add(METRIC_mqtt_drops_shared, 1);
        at += QUEUED_HEAD + q.len;
    }
    buf_fini(&d->shared);
    for (; d->given_at < d->given_count; d->given_at++) /* if nobody: the group sleeps from there */
        (void)mqtt_give_back(c, d->given[d->given_at].member, d->given[d->given_at].place);
}

/* ---- what the client says -------------------------------------------------------------------- */

/* So the group need not care for it any more. */
static void settle(struct delivery *d, const struct flight *flight)
{
    const struct mqtt_sub *sub = mqtt_subs_member(d->conn->front->subs, flight->member);
    if (!is_kept(d, flight->member) && flight->qos == 1)
        note_given(d, flight);
    else if (sub)
        mqtt_share_settle(sub->group, flight->place);
}

void delivery_over(struct delivery *d, struct flight *flight)
{
    struct session_item item = {flight->place, flight->id, flight->qos};
    bool released = flight->state == FLIGHT_RELEASED;
    flights_set(&d->flights, flight, FLIGHT_DONE);
    settle(d, flight);
    if (d->conn->session && !released && !flight->member)
        items_put(&d->acked, item);
    if (d->conn->session && (item.qos == 2 || flight->member))
        items_put(&d->completed, item);
    d->floor_wanted |= !flight->member || item.qos == 2;
    flights_forget(&d->flights, flights_floor(&d->flights, next_place(d)));
    mqtt_make_dirty(d->conn);
}

/* Whether nothing more is to come of the message. */
static bool ends(const struct flight *flight, const struct mqtt_packet *p)
{
    if (p->type == MQTT_PUBCOMP)
        return flight->state == FLIGHT_RELEASED;
    if (flight->state != FLIGHT_SENT)
        return false;
    return p->type == MQTT_PUBACK ? flight->qos == 1
                                  : flight->qos == 2 && p->code >= MQTT_UNSPECIFIED;
}

void mqtt_take_ack(struct mqtt_conn *c, const struct mqtt_packet *p)
{
    struct delivery *d = c->out;
    struct flight *flight = d ? flights_find(&d->flights, p->id) : NULL;
    if (p->type == MQTT_PUBREC && !flight && p->code < MQTT_UNSPECIFIED) {
        mqtt_put_ack(&c->front->now, c->reader.version, MQTT_PUBREL, p->id, MQTT_ID_NOT_FOUND);
        return;
    }
    if (!flight)
        return; /* of something we never sent: nothing to do */
    if (ends(flight, p)) {
        delivery_over(d, flight);
    } else if (p->type == MQTT_PUBREC && flight->qos == 2 && flight->state == FLIGHT_SENT &&
               c->session) {
        flights_set(&d->flights, flight, FLIGHT_RELEASING);
        items_put(&d->pubrel, (struct session_item){.packet_id = p->id});
        mqtt_make_dirty(c);
    } else if (p->type == MQTT_PUBREC && flight->qos == 2 &&
               (flight->state == FLIGHT_SENT || flight->state == FLIGHT_RELEASED)) {
        flights_set(&d->flights, flight, FLIGHT_RELEASED);
        mqtt_put_ack(&c->front->now, c->reader.version, MQTT_PUBREL, p->id, MQTT_SUCCESS);
    }
    mqtt_replay_on(c);
}

/* ---- at the end of a turn -------------------------------------------------------------------- */

/* Sends what there is and what fits; asks for more. */
static void pump(struct delivery *d)
{
    if (d->conn->state != MQTT_UP || d->asked || (d->retry.at_ns && !d->retry_group) ||
        !has_room(d))
        return;
    if (mqtt_ask_missed(d))
        return;
    send_queued(d, &d->queue);
    send_queued(d, &d->shared);
    if (!d->queue.len && d->behind && has_room(d))
        mqtt_ask_stretch(d);
}

static void on_retry(struct deadline *deadline)
{
    struct delivery *d = (struct delivery *)((char *)deadline - offsetof(struct delivery, retry));
    d->retry.at_ns = 0;
    mqtt_make_dirty(d->conn); /* at the end of this turn */
}

void mqtt_deliver_flush(struct mqtt_conn *c)
{
    struct delivery *d = c->out;
    if (!d)
        return;
    pump(d);
    mqtt_deliver_tell(c);
    weigh(d);
}

void mqtt_deliver_tell(struct mqtt_conn *c)
{
    if (c->out && c->session)
        tell_all(c->out);
    else if (c->out)
        tell_groups(c->out);
}

void mqtt_deliver_close(struct mqtt_conn *c)
{
    struct delivery *d = c->out;
    if (!d)
        return;
    if (!c->session || !c->expiry_s) {
        tell_groups(d);
        return;
    }
    d->floor_wanted = delivery_floor(d) > d->told_floor;
    tell_all(d);
}

/* ---- life ------------------------------------------------------------------------------------ */

void mqtt_deliver_restore(struct mqtt_conn *c, const struct session_state *s,
                          const struct session_state_item *i)
{
    struct delivery *d = delivery_of(c);
    d->behind = true;
    d->from = session_place(s->floor, 0);
    d->told_floor = s->floor;
    if (i->kind == SESSION_STATE_SENT)
        flights_restore(&d->flights,
                        &(struct flight){.place = i->item.place,
                                         .id = i->item.packet_id,
                                         .qos = i->item.qos,
                                         .state = i->pubrel ? FLIGHT_RELEASED : FLIGHT_KEPT,
                                         .member = i->retained ? MEMBER_RETAINED
                                                   : i->shared ? MEMBER_UNKNOWN
                                                               : 0});
    else if (i->kind == SESSION_STATE_ACKED)
        flights_restore(&d->flights,
                        &(struct flight){.place = i->item.place, .state = FLIGHT_DONE});
}

void mqtt_deliver_begin(struct mqtt_conn *c)
{
    struct delivery *d = c->out;
    struct buf *out = &c->front->gather;
    buf_clear(out);
    for (uint32_t i = 0; d && i < d->flights.count; i++) {
        if (d->flights.list[i].state == FLIGHT_RELEASED)
            mqtt_put_ack(out, c->reader.version, MQTT_PUBREL, d->flights.list[i].id, MQTT_SUCCESS);
    }
    stream_write(c->stream, buf_slice(out));
    mqtt_make_dirty(c);
}

void mqtt_deliver_join(struct mqtt_conn *c)
{
    struct delivery *d = delivery_of(c);
    uint64_t now = session_place(c->front->opts.durable(c->front->opts.arg), 0);
    if (!d->behind && d->join < now)
        d->join = now;
}

/* ---- what was not brought here --------------------------------------------------------------- */

void mqtt_front_begin(void *front, uint64_t first)
{
    struct mqtt_front *f = front;
    uint64_t missing = f->live_next;
    f->live_next = first > missing ? first : missing;
    if (!missing || first <= missing)
        return;
    for (struct mqtt_conn *c = f->conns; c; c = c->next) {
        struct delivery *d = c->out;
        uint64_t from = session_place(missing, 0);
        if (!c->session || !d || d->behind || (c->state != MQTT_UP && c->state != MQTT_ENDING))
            continue;
        if (from < d->join)
            from = d->join;
        if (from >= session_place(first, 0))
            continue;
        d->behind = true;
        d->from = from;
        mqtt_make_dirty(c);
    }
}

void mqtt_front_end(void *front, uint64_t next)
{
    struct mqtt_front *f = front;
    f->live_next = next;
}

struct live_ops mqtt_front_live(struct mqtt_front *f)
{
    return (struct live_ops){.wants = mqtt_front_wants,
                             .publish = mqtt_front_publish,
                             .begin = mqtt_front_begin,
                             .end = mqtt_front_end,
                             .arg = f};
}
