/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a client is sent from the journal: what its session has missed, what groups gave it or have
 * missed, and what is to be sent again. It is asked for in parts, as the window has room, one after
 * the other; the read pool answers (pipeline_missed.c). What mqtt_deliver.c says of places is the
 * order of that.
 */
#include <stdlib.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/metric.h"
#include "codec/topic.h"
#include "flow/missed.h"
#include "front/mqtt_deliver_own.h"

#define RETRY_NS (300 * NS_PER_MS)
#define TOLD_NS  NS_PER_MS /* when the worker's wheel turns next */

/* ---- asking ---------------------------------------------------------------------------------- */

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

void mqtt_ask_stretch(struct delivery *d)
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
    uint32_t opened = mqtt_share_open_all(s->group, m->places, m->places_count);
    for (uint32_t i = 0; i < opened; i++)
        delivery_put_given(d, s->member, m->places[i], &(struct share_round){0});
    metric_add(METRIC_mqtt_drops_shared, m->places_count - opened);
    mqtt_share_end_missed(s->group);
}

static int by_given(const void *a, const void *b)
{
    uint64_t x = ((const struct given_place *)a)->place, y = ((const struct given_place *)b)->place;
    return (x > y) - (x < y);
}

static void ask_given(struct delivery *d)
{
    uint32_t room = d->window - flights_open(&d->flights), i = d->given_at;
    uint32_t count = d->given_count - d->given_at, end = i + (count < room ? count : room);
    struct missed *m = missed_new(0, 0, room);
    m->what = MISSED_READ;
    if (d->given_mixed)
        qsort(d->given + i, count, sizeof *d->given, by_given);
    d->given_mixed = false;
    for (; i < end; i++) {
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

bool mqtt_ask_missed(struct delivery *d)
{
    if (d->flights.kept)
        ask_kept(d);
    else if (d->places_at < d->places_count)
        ask_places(d);
    else if (ask_group(d))
        ;
    else if (d->given_at < d->given_count)
        ask_given(d);
    else
        return false;
    return true;
}

/* ---- what comes back ------------------------------------------------------------------------- */

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
    for (const struct mqtt_sub *s = d->conn->subs; s && !any && !m->retained; s = s->of_owner) {
        if (s->member && mqtt_sub_wants(s, m) && topic_matches(s->inner, m->topic)) {
            mqtt_add_match(f, &o, s); /* it was one of a group's */
            any = true;
        }
    }
    return o;
}

/* With its packet id, and DUP; and as retained, if it was that. */
static void send_again(struct delivery *d, struct flight *flight, const struct live_message *m,
                       struct slice payload)
{
    struct mqtt_conn *c = d->conn;
    struct live_message message = *m;
    message.retained = flight->member == MEMBER_RETAINED;
    if (message.retained)
        message.place = 0; /* it was there before its subscription */
    struct outgoing out = match_own(d, &message);
    out.payload = payload;
    out.qos = flight->qos;
    out.dup = true;
    if (!mqtt_put_message(c, &out)) {
        delivery_over(d, flight);
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
        delivery_send(d, m->place, 0, out.qos, c->front->gather.ptr, c->front->gather.len);
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
        delivery_send(d, m->place, given->member, out.qos, c->front->gather.ptr,
                      c->front->gather.len);
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
    if (!m->places_read)
        return;
    while (missed_next(&rest, &message, &payload)) {
        for (uint32_t i = d->given_at; i < d->given_asked; i++) {
            if (d->given[i].place == message.place)
                send_given(d, &d->given[i], &message, payload);
        }
    }
    uint64_t last = m->places[m->places_read - 1];
    while (d->given_at < d->given_asked && d->given[d->given_at].place <= last) {
        struct given_place given = d->given[d->given_at++]; /* what is passed on may come back */
        given.barred |= missed_bars(m, given.place);
        settle_unsent(d, &given);
    }
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
            delivery_over(d, gone);
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
