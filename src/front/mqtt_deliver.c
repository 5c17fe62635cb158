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
#include "codec/topic.h"
#include "flow/limits.h"
#include "flow/missed.h"
#include "front/mqtt_deliver_own.h"

#define PACKET_HEAD_MAX (QUEUED_HEAD + 64u) /* of a message, besides its texts */
#define RETRY_NS        (300 * NS_PER_MS)
#define TOLD_NS         NS_PER_MS /* when the worker's wheel turns next */

_Static_assert(DELIVER_FLIGHTS_MAX < SESSION_ACKED_MAX && DELIVER_WINDOW_MAX < SESSION_OUT_MAX,
               "what is told of a session has to fit");

#define QUEUED_HEAD 17u

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
    if (kept && flight->member) {
        tell_given(d, flight->member, item);
    } else if (kept) {
        items_put(&d->sent, item);
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

static void send_new(struct delivery *d, uint64_t place, uint32_t member, uint8_t qos, char *packet,
                     size_t len)
{
    uint32_t of = mqtt_subs_member(d->conn->front->subs, member) ? member : 0;
    bool waits = is_kept(d, of) && qos == 2;
    struct flight *flight =
        flights_put(&d->flights, place, qos, waits ? FLIGHT_WAITS : FLIGHT_SENT);
    flight->member = of;
    leave(d, flight, packet, len);
}

/* Nothing has to go before it. */
static bool is_next(const struct delivery *d)
{
    return !d->queue.len && !d->shared.len && !d->given_count && !d->asked &&
           d->places_at == d->places_count && !d->flights.kept && has_room(d);
}

bool mqtt_may_deliver(const struct mqtt_conn *c)
{
    return !c->out || is_next(c->out);
}

/* False: there is no room. */
static bool enqueue(struct buf *queue, uint64_t place, uint32_t member, uint8_t qos,
                    const struct buf *packet)
{
    if (queue->len + QUEUED_HEAD + packet->len > queue->max)
        return false;
    buf_put_u64(queue, place);
    buf_put_u8(queue, qos);
    buf_put_u32(queue, member);
    buf_put_u32(queue, (uint32_t)packet->len);
    buf_put_slice(queue, buf_slice(packet));
    CHECK(!queue->failed);
    return true;
}

struct queued {
    uint64_t place;
    uint32_t member, len;
    uint8_t qos;
    char *packet;
};

static struct queued queued_at(const struct buf *queue, size_t at)
{
    struct queued q = {.qos = (uint8_t)queue->ptr[at + 8], .packet = queue->ptr + at + QUEUED_HEAD};
    memcpy(&q.place, queue->ptr + at, 8);
    memcpy(&q.member, queue->ptr + at + 9, 4);
    memcpy(&q.len, queue->ptr + at + 13, 4);
    return q;
}

void mqtt_deliver(struct mqtt_conn *c, uint64_t place, bool live, uint8_t qos, struct buf *packet)
{
    struct delivery *d = delivery_of(c);
    if (c->session && live && (d->behind || place < d->join))
        return; /* it is read from the journal */
    if (is_next(d)) {
        send_new(d, place, 0, qos, packet->ptr, packet->len);
    } else if (enqueue(&d->queue, place, 0, qos, packet)) {
        ;
    } else if (c->session && live) {
        d->behind = true;
        d->from = place;
        mqtt_make_dirty(c);
    } else {
        metric_add(METRIC_mqtt_drops_queue_full, 1);
    }
}

bool mqtt_deliver_shared(struct mqtt_conn *c, uint64_t place, uint32_t member, uint8_t qos,
                         struct buf *packet)
{
    struct delivery *d = delivery_of(c);
    if (is_next(d)) {
        send_new(d, place, member, qos, packet->ptr, packet->len);
        return true;
    }
    bool queued = enqueue(&d->shared, place, member, qos, packet);
    metric_add(METRIC_mqtt_drops_queue_full, !queued);
    return queued;
}

bool mqtt_may_queue(const struct mqtt_conn *c, uint8_t qos, size_t bytes)
{
    const struct delivery *d = c->out;
    return qos && d ? d->shared.len + bytes + PACKET_HEAD_MAX < d->shared.max : mqtt_may_send(c, 0);
}

static void send_queued(struct delivery *d, struct buf *queue)
{
    size_t used = 0;
    while (used < queue->len && has_room(d)) {
        struct queued q = queued_at(queue, used);
        send_new(d, q.place, q.member, q.qos, q.packet, q.len);
        used += QUEUED_HEAD + q.len;
    }
    if (used == queue->len)
        buf_fini(queue);
    else
        buf_consume(queue, used);
}

/* ---- as a member of groups ------------------------------------------------------------------- */

static void put_given(struct delivery *d, uint32_t member, uint64_t place,
                      const struct share_round *asked)
{
    if (d->given_count == d->given_room) {
        d->given_room = d->given_room ? d->given_room * 2 : 16;
        d->given = realloc(d->given, d->given_room * sizeof *d->given);
        CHECK(d->given);
    }
    d->given[d->given_count++] = (struct given_place){place, member, false, *asked};
}

bool mqtt_deliver_place(struct mqtt_conn *c, uint32_t member, uint64_t place,
                        const struct share_round *asked)
{
    struct delivery *d = delivery_of(c);
    if (d->given_count >= c->front->opts.tune.missed_max)
        return false;
    put_given(d, member, place, asked);
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
    for (uint32_t i = 0; d && i < d->given_count; i++) {
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
    for (uint32_t i = 0; i < d->given_count; i++) {
        const struct given_place given = d->given[i];
        if (given.member == member) {
            /* if there is nobody, the group sleeps from there */
            (void)mqtt_give_back(d->conn, member, given.place);
            continue;
        }
        asked += i < d->given_asked;
        d->given[kept++] = given;
    }
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
    for (uint32_t i = 0; i < d->given_count;
         i++) /* if there is nobody, the group sleeps from there */
        (void)mqtt_give_back(c, d->given[i].member, d->given[i].place);
    d->given_count = 0;
}

/* ---- from the journal ------------------------------------------------------------------------ */

static void ask(struct delivery *d, struct missed *m)
{
    struct mqtt_conn *c = d->conn;
    struct mqtt_exchange *e = mqtt_exchange_new(c->front);
    struct request *q = &e->x.request;
    e->answer.type = MQTT_PUBLISH;
    e->kept = true;
    e->asks = c;
    e->missed = m;
    e->own = c->principal;
    credential_ref(e->own.credential);
    q->method = METHOD_MISSED;
    q->principal = &e->own;
    q->source = c->source;
    q->client = c->number;
    q->missed = m;
    d->asked = e;
    mqtt_hand_up(e);
}

static bool has_filters(const struct mqtt_conn *c)
{
    const struct mqtt_sub *s = c->subs;
    while (s && (!s->qos || s->member)) /* QoS 0 is for who is there, and so are groups' */
        s = s->of_owner;
    return s != NULL;
}

/* Asks for the stretch between what was read and what comes live, if there is one. */
static void ask_stretch(struct delivery *d)
{
    struct mqtt_conn *c = d->conn;
    uint64_t to = c->front->opts.durable(c->front->opts.arg);
    d->behind = false;
    d->join = session_place(to, 0);
    if (d->from >= d->join)
        d->join = d->from;
    if (d->from >= d->join || !has_filters(c))
        return;
    struct missed *m = missed_new(c->subs_count, d->flights.count, 0);
    m->what = MISSED_COLLECT;
    m->from = d->from;
    m->to = to;
    for (const struct mqtt_sub *s = c->subs; s; s = s->of_owner) {
        const struct missed_filter f = {s->filter, s->since, s->no_local};
        if (s->qos && !s->member)
            missed_add_filter(m, &f);
    }
    for (uint32_t i = 0; i < d->flights.count; i++) {
        if (!d->flights.list[i].member)
            m->had[m->had_count++] = d->flights.list[i].place;
    }
    d->asked_for = ASKED_STRETCH;
    ask(d, m);
}

static void ask_places(struct delivery *d)
{
    uint32_t left = d->places_count - d->places_at, room = d->window - flights_open(&d->flights);
    uint32_t count = left < room ? left : room;
    struct missed *m = missed_new(0, 0, count);
    m->what = MISSED_READ;
    memcpy(m->places, d->places + d->places_at, count * sizeof *m->places);
    m->places_count = count;
    d->asked_for = ASKED_PLACES;
    ask(d, m);
}

static void wait_for(struct delivery *d, uint64_t ns)
{
    struct worker *w = d->conn->front->opts.worker;
    deadline_set(worker_wheel(w), &d->retry, worker_now_ns(w) + ns);
    d->retry_group = false;
}

/* Nothing else has to wait. */
static void wait_for_told(struct delivery *d)
{
    if (d->retry.at_ns)
        return;
    wait_for(d, TOLD_NS);
    d->retry_group = true;
}

static bool has_missed(struct delivery *d, struct mqtt_sub *s)
{
    if (s->missed_to)
        return true;
    if (!s->member || !s->restored || !s->qos || !s->group->missing)
        return false;
    if (!mqtt_share_is_told(s->group)) {
        wait_for_told(d);
        return false;
    }
    return mqtt_share_take_missed(s->group, &s->missed_from, &s->missed_to);
}

/* Asks for what came while a group of its had no member. False: there is nothing of that kind. */
static bool ask_group(struct delivery *d)
{
    struct mqtt_conn *c = d->conn;
    struct mqtt_sub *s = c->subs;
    while (s && !has_missed(d, s))
        s = s->of_owner;
    if (!s)
        return false;
    const struct missed_filter f = {s->inner, 0, false};
    struct missed *m = missed_new(1, 0, 0);
    m->what = MISSED_COLLECT;
    m->from = session_place(s->missed_from, 0);
    m->to = s->missed_to;
    missed_add_filter(m, &f);
    missed_set_group(m, s->filter);
    d->asked_for = ASKED_GROUP;
    d->asked_member = s->member;
    ask(d, m);
    return true;
}

static void take_group(struct delivery *d, const struct missed *m)
{
    struct mqtt_sub *s = mqtt_subs_member(d->conn->front->subs, d->asked_member);
    if (!s)
        return; /* unsubscribed meanwhile */
    s->missed_to = 0;
    for (uint32_t i = 0; i < m->places_count; i++) {
        if (mqtt_share_open(s->group, m->places[i]))
            put_given(d, s->member, m->places[i], &(struct share_round){0});
        else
            metric_add(METRIC_mqtt_drops_shared, 1);
    }
    mqtt_share_end_missed(s->group);
}

static int by_given(const void *a, const void *b)
{
    uint64_t x = ((const struct given_place *)a)->place, y = ((const struct given_place *)b)->place;
    return (x > y) - (x < y);
}

static void ask_given(struct delivery *d)
{
    uint32_t room = d->window - flights_open(&d->flights), i = 0;
    struct missed *m = missed_new(0, 0, room);
    m->what = MISSED_READ;
    qsort(d->given, d->given_count, sizeof *d->given, by_given);
    for (; i < d->given_count && i < room; i++) {
        if (!m->places_count || m->places[m->places_count - 1] != d->given[i].place)
            m->places[m->places_count++] = d->given[i].place;
    }
    d->given_asked = i;
    d->asked_for = ASKED_GIVEN;
    ask(d, m);
}

static void ask_kept(struct delivery *d)
{
    uint32_t room = d->window - flights_open(&d->flights);
    struct missed *m = missed_new(0, 0, room);
    m->what = MISSED_READ;
    for (uint32_t i = 0; i < d->flights.count && m->places_count < room; i++) {
        uint64_t place = d->flights.list[i].place;
        bool again = m->places_count && m->places[m->places_count - 1] == place;
        if (d->flights.list[i].state == FLIGHT_KEPT && !again) /* a group's may be there as well */
            m->places[m->places_count++] = place;
    }
    d->asked_for = ASKED_KEPT;
    ask(d, m);
}

/* Sends what there is and what fits; asks for more. */
static void pump(struct delivery *d)
{
    if (d->conn->state != MQTT_UP || d->asked || (d->retry.at_ns && !d->retry_group) ||
        !has_room(d))
        return;
    if (d->flights.kept) {
        ask_kept(d);
        return;
    }
    if (d->places_at < d->places_count) {
        ask_places(d);
        return;
    }
    if (ask_group(d))
        return;
    if (d->given_count) {
        ask_given(d);
        return;
    }
    send_queued(d, &d->queue);
    send_queued(d, &d->shared);
    if (!d->queue.len && d->behind && has_room(d))
        ask_stretch(d);
}

static void on_retry(struct deadline *deadline)
{
    struct delivery *d = (struct delivery *)((char *)deadline - offsetof(struct delivery, retry));
    d->retry.at_ns = 0;
    mqtt_make_dirty(d->conn); /* at the end of this turn */
}

/* So the group need not care for it any more. */
static void settle(struct delivery *d, const struct flight *flight)
{
    const struct mqtt_sub *sub = mqtt_subs_member(d->conn->front->subs, flight->member);
    if (!is_kept(d, flight->member) && flight->qos == 1)
        note_given(d, flight);
    else if (sub)
        mqtt_share_settle(sub->group, flight->place);
}

/* The client has it, or it cannot be given it any more. */
static void over(struct delivery *d, struct flight *flight)
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

static struct flight *kept_at(struct delivery *d, uint64_t place)
{
    for (uint32_t i = 0; i < d->flights.count && d->flights.list[i].place <= place; i++) {
        if (d->flights.list[i].place == place && d->flights.list[i].state == FLIGHT_KEPT)
            return &d->flights.list[i];
    }
    return NULL;
}

/* How the message goes to the client, by its subscriptions of now. */
static struct outgoing match_own(struct delivery *d, const struct live_message *m)
{
    struct mqtt_front *f = d->conn->front;
    struct outgoing o = {.m = m};
    bool any = false;
    for (const struct mqtt_sub *s = d->conn->subs; s; s = s->of_owner) {
        if (mqtt_sub_wants(s, m) && topic_matches(s->filter, m->topic)) {
            mqtt_add_match(f, &o, s);
            any = true;
        }
    }
    for (const struct mqtt_sub *s = d->conn->subs; s && !any; s = s->of_owner) {
        if (s->member && mqtt_sub_wants(s, m) && topic_matches(s->inner, m->topic)) {
            mqtt_add_match(f, &o, s); /* it was one of a group's */
            any = true;
        }
    }
    return o;
}

/* With its packet id, and DUP. */
static void send_again(struct delivery *d, struct flight *flight, const struct live_message *m,
                       struct slice payload)
{
    struct mqtt_conn *c = d->conn;
    struct outgoing out = match_own(d, m);
    out.payload = payload;
    out.qos = flight->qos;
    out.dup = true;
    if (!mqtt_put_message(c, &out)) {
        over(d, flight);
        return;
    }
    mqtt_set_id(c->front->gather.ptr, flight->id);
    metric_add(METRIC_mqtt_sent_again, 1);
    flights_set(&d->flights, flight, FLIGHT_SENT);
    mqtt_send_messages(c, buf_slice(&c->front->gather));
}

static void send_read(struct delivery *d, const struct live_message *m, struct slice payload)
{
    struct mqtt_conn *c = d->conn;
    struct outgoing out = match_own(d, m);
    out.payload = payload;
    if (m->published && m->qos < out.qos)
        out.qos = m->qos;
    if (out.qos && mqtt_put_message(c, &out))
        send_new(d, m->place, 0, out.qos, c->front->gather.ptr, c->front->gather.len);
}

/* What was given as that of one of its subscriptions, if that is still there. */
static void send_given(struct delivery *d, struct given_place *given, const struct live_message *m,
                       struct slice payload)
{
    struct mqtt_conn *c = d->conn;
    const struct mqtt_sub *sub = mqtt_subs_member(c->front->subs, given->member);
    given->barred = sub && !mqtt_sub_wants(sub, m);
    if (!sub)
        metric_add(METRIC_mqtt_drops_shared, 1);
    if (!sub || given->barred)
        return;
    struct outgoing out = {.m = m, .payload = payload, .member = given->member};
    mqtt_add_match(c->front, &out, sub);
    if (m->published && m->qos < out.qos)
        out.qos = m->qos;
    if (!out.qos)
        (void)mqtt_send(c, sub, m, payload); /* under no packet id: it is settled then */
    else if (mqtt_put_message(c, &out))
        send_new(d, m->place, given->member, out.qos, c->front->gather.ptr, c->front->gather.len);
}

/* It was read and is not under way: it is gone, or was sent with QoS 0. */
static void settle_unsent(struct delivery *d, const struct given_place *given)
{
    const struct mqtt_sub *sub = mqtt_subs_member(d->conn->front->subs, given->member);
    uint32_t i = 0;
    while (i < d->flights.count &&
           (d->flights.list[i].place != given->place || d->flights.list[i].member != given->member))
        i++;
    if (sub && given->barred)
        mqtt_pass_on(d->conn->front, sub->group, given->place, &given->asked);
    else if (sub && i == d->flights.count)
        mqtt_share_settle(sub->group, given->place);
}

static void take_given(struct delivery *d, const struct missed *m)
{
    struct slice rest = buf_slice(&m->messages);
    struct live_message message;
    struct slice payload;
    uint32_t used = 0;
    if (!m->places_read)
        return;
    while (missed_next(&rest, &message, &payload)) {
        for (uint32_t i = 0; i < d->given_asked; i++) {
            if (d->given[i].place == message.place)
                send_given(d, &d->given[i], &message, payload);
        }
    }
    while (used < d->given_asked && d->given[used].place <= m->places[m->places_read - 1]) {
        struct given_place given = d->given[used++]; /* what is passed on may come back */
        given.barred |= missed_bars(m, given.place);
        settle_unsent(d, &given);
    }
    d->given_count -= used;
    memmove(d->given, d->given + used, d->given_count * sizeof *d->given);
}

static void take_read(struct delivery *d, const struct missed *m)
{
    struct slice rest = buf_slice(&m->messages);
    struct live_message message;
    struct slice payload;
    if (d->conn->state != MQTT_UP)
        return;
    while (missed_next(&rest, &message, &payload))
        send_read(d, &message, payload);
    d->places_at += m->places_read;
}

/* All that is kept of places below is gone: erased, or removed with its part of the journal. */
static uint32_t drop_gone(struct delivery *d, const struct missed *m, uint32_t at, uint64_t below)
{
    for (; at < m->places_read && m->places[at] < below; at++) {
        struct flight *gone;
        while ((gone = kept_at(d, m->places[at])))
            over(d, gone);
    }
    return at;
}

/* At one place there may be the client's own copy and that of a group; what finds no room now stays
 * kept. */
static void take_kept(struct delivery *d, const struct missed *m)
{
    struct slice rest = buf_slice(&m->messages);
    struct live_message message;
    struct slice payload;
    uint32_t at = 0;
    if (d->conn->state != MQTT_UP)
        return;
    while (missed_next(&rest, &message, &payload)) {
        struct flight *flight;
        at = drop_gone(d, m, at, message.place);
        while (flights_open(&d->flights) < d->window && (flight = kept_at(d, message.place)))
            send_again(d, flight, &message, payload);
        at += at < m->places_read && m->places[at] == message.place;
    }
    (void)drop_gone(d, m, at, UINT64_MAX);
}

static void take_collected(struct delivery *d, struct missed *m)
{
    free(d->places);
    d->places = m->places;
    d->places_count = m->places_count;
    d->places_at = 0;
    m->places = NULL;
}

/* The pool is full: later. What came live meanwhile is read then, too. */
static void try_later(struct delivery *d, const struct missed *m)
{
    if (d->asked_for == ASKED_STRETCH) {
        d->behind = true;
        d->from = m->from;
        buf_fini(&d->queue);
    }
    wait_for(d, RETRY_NS);
}

void mqtt_take_missed(struct mqtt_exchange *e)
{
    struct mqtt_conn *c = e->asks;
    struct delivery *d = c ? c->out : NULL;
    if (d) {
        CHECK(d->asked == e);
        d->asked = NULL;
        if (e->x.reply.reason != REASON_ok)
            try_later(d, e->missed);
        else if (d->asked_for == ASKED_STRETCH)
            take_collected(d, e->missed);
        else if (d->asked_for == ASKED_GROUP)
            take_group(d, e->missed);
        else if (d->asked_for == ASKED_GIVEN && c->state == MQTT_UP)
            take_given(d, e->missed);
        else if (d->asked_for == ASKED_KEPT)
            take_kept(d, e->missed);
        else if (d->asked_for == ASKED_PLACES)
            take_read(d, e->missed);
        mqtt_make_dirty(c); /* goes on at the end of the turn */
    }
    mqtt_exchange_free(e);
}

/* ---- what the client says -------------------------------------------------------------------- */

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
        over(d, flight);
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

void mqtt_deliver_flush(struct mqtt_conn *c)
{
    struct delivery *d = c->out;
    if (!d)
        return;
    pump(d);
    mqtt_deliver_tell(c);
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
                                         .member = i->shared ? MEMBER_UNKNOWN : 0});
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
        if (!c->session || !d || d->behind || c->state != MQTT_UP)
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
