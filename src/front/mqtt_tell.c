/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the journal is told of messages to one client. It is collected during a turn and handed up
 * at its end, in this order: what the client acknowledged, packet ids that are free again, packet
 * ids given, PUBREL. A message of QoS 2, and all behind it, leaves when its packet id is durable:
 * with the last of the records that give any in that turn.
 *
 * Messages of groups are told by group (SESSION_GIVEN), with the group's floor; that of a member
 * without a session, or with one that ends with its connection, too, if sessions have the
 * subscription, since these read on from there after a restart. A retained message is told as one
 * of a group that has no name: it has a place of its own as these do.
 *
 * A message of QoS 2 whose SESSION_GIVEN is not durable has not left, and the connection ends: it
 * goes to another member. Where it may be durable all the same, SESSION_RETURNED takes it from the
 * session first. That says only which message it is, and a SESSION_GIVEN of another worker before
 * it would be undone: who gets it next does so behind that record.
 *
 * If the connection has ended, the client may be back before that could be told, and has the
 * message then. So a record that says nothing is told behind it, by the same worker: when that one
 * is durable, the view is asked whose the message is (MISSED_UNGIVEN), and is right.
 */
#include <stdlib.h>

#include "base/check.h"
#include "flow/limits.h"
#include "front/mqtt_deliver_own.h"

#define FLOOR_STEP 65536u /* records: how far what the journal knows may lie behind */

void items_put(struct items *items, struct session_item item)
{
    if (items->count == items->room) {
        items->room = items->room ? items->room * 2 : 8;
        items->list = realloc(items->list, items->room * sizeof *items->list);
        CHECK(items->list);
    }
    items->list[items->count++] = item;
}

static void put(struct delivery *d, struct group_items *items, struct group_item item)
{
    if (items->count == items->room) {
        items->room = items->room ? items->room * 2 : 8;
        items->list = realloc(items->list, items->room * sizeof *items->list);
        CHECK(items->list);
    }
    items->list[items->count++] = item;
    mqtt_make_dirty(d->conn);
}

void tell_given(struct delivery *d, uint32_t member, struct session_item item)
{
    put(d, &d->given_out, (struct group_item){item, member});
}

void tell_given_back(struct delivery *d, uint32_t member, struct session_item item)
{
    put(d, &d->given_back, (struct group_item){item, member});
}

bool tell_is_under_way(const struct delivery *d, const struct share_group *g, uint64_t place)
{
    for (const struct mqtt_answer *a = d->conn->first; a; a = a->next) {
        struct session_record r;
        struct session_item item = {0};
        if (!a->exchange || a->exchange->group != g)
            continue;
        CHECK(session_record_decode(a->exchange->x.request.body, &r));
        struct slice list = r.list;
        while (session_next_item(&r, &list, &item)) {
            if (item.place == place)
                return true;
        }
    }
    return false;
}

void tell_others(struct delivery *d)
{
    struct group_items *all = &d->given_out;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < all->count; i++) {
        const struct group_item g = all->list[i];
        struct flight *flight = flights_find(&d->flights, g.item.packet_id);
        bool waits = flight && flight->state == FLIGHT_WAITS;
        if (waits && (mqtt_give_back(d->conn, g.member, g.item.place) || !delivery_outlives(d)))
            flights_set(&d->flights, flight, FLIGHT_DONE);
        else
            all->list[kept++] = g;
    }
    all->count = kept;
}

void tell_fini(struct delivery *d)
{
    free(d->acked.list);
    free(d->completed.list);
    free(d->sent.list);
    free(d->apart.list);
    free(d->pubrel.list);
    free(d->given_out.list);
    free(d->given_back.list);
}

void mqtt_deliver_ping(struct mqtt_conn *c)
{
    struct delivery *d = c->out;
    if (!c->session || !d)
        return;
    d->floor_wanted |= delivery_floor(d) >= d->told_floor + FLOOR_STEP;
    for (const struct mqtt_sub *s = c->subs; s; s = s->of_owner) {
        d->group_floors_wanted |= s->member && mqtt_share_floor_due(s->group, FLOOR_STEP);
        if (s->member && s->group->missing) /* maybe somebody left it */
            mqtt_make_dirty(c);
    }
    if (d->floor_wanted || d->group_floors_wanted)
        mqtt_make_dirty(c);
}

/* `packets`: leave behind it. */
static struct mqtt_exchange *begin(struct mqtt_conn *c, enum mqtt_type answer, struct buf *packets)
{
    struct mqtt_exchange *e = mqtt_enqueue(c, answer);
    e->x.request.principal = &c->principal;
    e->x.request.source = c->source;
    if (packets) {
        struct buf spare = e->out;
        size_t max = spare.max > packets->max ? spare.max : packets->max;
        e->out = *packets;
        *packets = spare;
        e->out.max = packets->max = max;
    }
    return e;
}

static int by_place(const void *a, const void *b)
{
    uint64_t x = ((const struct session_item *)a)->place,
             y = ((const struct session_item *)b)->place;
    return (x > y) - (x < y);
}

/* The floor and, of what was acknowledged, the places above it. */
static void tell_acked(struct delivery *d)
{
    struct items *all = &d->acked;
    uint64_t floor = delivery_floor(d);
    uint32_t count = 0;
    if (floor < d->told_floor)
        floor = d->told_floor;
    if (all->count)
        qsort(all->list, all->count, sizeof *all->list, by_place);
    for (uint32_t i = 0; i < all->count; i++) {
        bool again = count && all->list[count - 1].place == all->list[i].place;
        if (all->list[i].place >= session_place(floor, 0) && !again)
            all->list[count++] = all->list[i];
    }
    d->told_floor = floor;
    d->floor_wanted = false;
    all->count = 0;
    const struct session_record r = {
        .event = SESSION_ACKED, .floor = floor, .items = all->list, .count = count};
    mqtt_hand_up_event(begin(d->conn, MQTT_PUBLISH, NULL), &r, d->conn->session);
}

static void tell_items(struct delivery *d, struct items *items, enum session_event event,
                       enum mqtt_type answer, struct buf *packets)
{
    if (!items->count)
        return;
    const struct session_record r = {.event = event, .items = items->list, .count = items->count};
    mqtt_hand_up_event(begin(d->conn, answer, packets), &r, d->conn->session);
    items->count = 0;
}

/* ---- groups ---------------------------------------------------------------------------------- */

/* The group is told what became of it; `telling` ends then. */
static void tell_group(struct delivery *d, struct share_group *g, unsigned telling,
                       const struct session_record *what, struct buf *packets)
{
    bool session = what->event != SESSION_GIVEN || delivery_outlives(d);
    struct session_record r = *what;
    struct mqtt_exchange *e = begin(d->conn, MQTT_PUBLISH, packets);
    r.filter.filter = g->whole;
    r.floor = mqtt_share_floor(g);
    e->group = mqtt_share_ref(g);
    e->telling = telling;
    mqtt_hand_up_event(e, &r, session ? d->conn->session : 0);
}

/* Of a member that leaves with its connection it is part of what that has begun to tell. */
static void tell_member(struct delivery *d, const struct mqtt_sub *sub, enum session_event event,
                        const struct items *items, struct buf *packets)
{
    struct share_group *g = sub->group;
    const struct session_record r = {.event = event, .items = items->list, .count = items->count};
    unsigned telling = sub->left ? mqtt_share_tell_in(g, sub->telling) : mqtt_share_tell(g);
    tell_group(d, g, telling, &r, packets);
}

/* Takes the items of the first one's member off the list. */
static struct mqtt_sub *take_member(struct delivery *d, struct group_items *all, struct items *ret)
{
    uint32_t member = all->list[0].member, kept = 0;
    ret->count = 0;
    for (uint32_t i = 0; i < all->count; i++) {
        if (all->list[i].member == member)
            items_put(ret, all->list[i].item);
        else
            all->list[kept++] = all->list[i];
    }
    all->count = kept;
    return mqtt_subs_member(d->conn->front->subs, member);
}

/* `packets` leave behind the last of them, if nothing else is sent. */
static void tell_members(struct delivery *d, struct buf *packets)
{
    struct items some = {0};
    while (d->given_out.count) {
        const struct mqtt_sub *sub = take_member(d, &d->given_out, &some);
        bool last = !d->given_out.count && !d->sent.count;
        CHECK(sub); /* this is told before it unsubscribes */
        tell_member(d, sub, SESSION_GIVEN, &some, last ? packets : NULL);
    }
    while (d->given_back.count) {
        const struct mqtt_sub *sub = take_member(d, &d->given_back, &some);
        CHECK(sub); /* it leaves now */
        tell_member(d, sub, SESSION_RETURNED, &some, NULL);
    }
    free(some.list);
}

static void tell_group_floors(struct delivery *d)
{
    d->group_floors_wanted = false;
    for (const struct mqtt_sub *s = d->conn->subs; s; s = s->of_owner) {
        if (s->member && mqtt_share_floor_due(s->group, FLOOR_STEP))
            tell_member(d, s, SESSION_GIVEN, &(struct items){0}, NULL);
    }
}

void tell_groups(struct delivery *d)
{
    tell_members(d, NULL);
}

void mqtt_tell_group(struct mqtt_conn *c, const struct mqtt_sub *sub)
{
    mqtt_tell_filter(c, &(struct session_record){.event = SESSION_GIVEN,
                                                 .filter = {.filter = sub->group->whole},
                                                 .floor = mqtt_share_floor(sub->group)});
}

/* Of no connection, by the same credential, about the same group. What is being told of that does
 * not end before it. */
static struct mqtt_exchange *another(const struct mqtt_exchange *e)
{
    struct mqtt_exchange *next = mqtt_exchange_new(e->answer.front);
    next->answer.type = MQTT_PUBLISH;
    next->own = *e->x.request.principal;
    credential_ref(next->own.credential);
    next->x.request.principal = &next->own;
    next->x.request.source = e->x.request.source;
    next->group = mqtt_share_ref(e->group);
    next->telling = mqtt_share_tell_in(e->group, e->telling);
    return next;
}

/* Whether the record is durable, or will be, is not known. One that says nothing is behind it: what
 * is being told ends when that one's outcome is known. Then `whose` is asked, if it is not NULL. */
static void tell_behind(struct mqtt_exchange *e, struct missed *whose)
{
    struct mqtt_exchange *next = another(e);
    const struct session_record r = {.event = SESSION_GIVEN,
                                     .filter = {.filter = e->group->whole},
                                     .floor = mqtt_share_floor(e->group)};
    next->missed = whose;
    mqtt_hand_up_event(next, &r, 0);
}

static struct missed *whose_are(const struct mqtt_exchange *e, const struct items *items)
{
    struct missed *m = missed_new(0, 0, items->count);
    m->what = MISSED_UNGIVEN;
    missed_set_group(m, e->group->whole);
    for (uint32_t i = 0; i < items->count; i++)
        m->places[m->places_count++] = items->list[i].place;
    return m;
}

static void ask_whose(struct mqtt_exchange *e, struct missed *whose)
{
    struct mqtt_exchange *next = another(e);
    next->kept = true;
    next->missed = whose;
    next->x.request.method = METHOD_MISSED;
    next->x.request.missed = whose;
    mqtt_hand_up(next);
}

/* The answer to that. Where there is none now it is asked again, the disk's time later. */
static void take_whose(struct mqtt_exchange *e)
{
    const struct missed *m = e->missed;
    if (e->x.reply.reason != REASON_ok && !mqtt_shares_stopping(e->group->shares)) {
        tell_behind(e, e->missed);
        e->missed = NULL;
        return;
    }
    for (uint32_t i = 0; e->x.reply.reason == REASON_ok && i < m->places_count; i++) {
        if (i < m->places_read)
            (void)mqtt_give_to_another(e->answer.front, e->group, m->places[i]);
        else
            mqtt_share_settle(e->group, m->places[i]);
    }
}

/* Whether its session has them is not known. False: the connection has ended. */
static bool take_back(struct mqtt_exchange *e, const struct items *items)
{
    struct mqtt_conn *c = e->answer.conn;
    const struct session_record r = {
        .event = SESSION_RETURNED, .items = items->list, .count = items->count};
    if (!c || c->state != MQTT_UP)
        return false;
    tell_group(c->out, e->group, mqtt_share_tell_in(e->group, e->telling), &r, NULL);
    return true;
}

/* Of QoS 1: whether it is under way to a client that is a member no more: nobody settles it when
 * that acknowledges it. */
static bool is_under_way_as_its_own(const struct mqtt_exchange *e, const struct session_item *item)
{
    const struct mqtt_conn *c = e->answer.conn;
    const struct flight *f = c && c->out ? flights_find(&c->out->flights, item->packet_id) : NULL;
    return f && f->place == item->place && !mqtt_subs_member(c->front->subs, f->member);
}

/* Maybe when it was a member no more. */
static bool was_acknowledged(const struct mqtt_exchange *e, const struct session_item *item)
{
    const struct mqtt_conn *c = e->answer.conn;
    return c && c->out && c->state == MQTT_UP && !flights_find(&c->out->flights, item->packet_id);
}

/* Nobody else is to have what a session was sent with QoS 2; and what that could not be sent, or
 * has no more, somebody is to have. What a client without a session has is settled already. Puts
 * into *ret_unknown what may be the session's. */
static void take_told(struct mqtt_exchange *e, const struct session_record *r,
                      struct items *ret_unknown)
{
    struct slice list = r->list;
    struct session_item item = {0};
    enum reason reason = e->x.reply.reason;
    bool given = r->event == SESSION_GIVEN, durable = reason == REASON_ok;
    while (e->x.request.session && session_next_item(r, &list, &item)) {
        bool own = given && item.qos == 1 && is_under_way_as_its_own(e, &item);
        bool goes_on = given ? (item.qos == 2 || own) && !durable : item.qos == 1 || durable;
        bool unknown =
            item.qos == 2 && (given ? reason == REASON_outcome_unknown : reason != REASON_ok);
        if (given && durable && (item.qos == 2 || own || was_acknowledged(e, &item)))
            mqtt_share_settle(e->group, item.place);
        else if (unknown)
            items_put(ret_unknown, item);
        else if (goes_on) /* else it stays open: it may be the session's */
            (void)mqtt_give_to_another(e->answer.front, e->group, item.place);
    }
}

static void take_record(struct mqtt_exchange *e)
{
    struct session_record r;
    struct items unknown = {0};
    enum reason reason = e->x.reply.reason;
    struct missed *whose = e->missed; /* of tell_behind */
    CHECK(session_record_decode(e->x.request.body, &r));
    e->missed = NULL;
    take_told(e, &r, &unknown);
    if (unknown.count && !(r.event == SESSION_GIVEN && take_back(e, &unknown)))
        whose = whose_are(e, &unknown);
    bool behind = unknown.count || reason == REASON_outcome_unknown;
    if (whose && reason == REASON_ok)
        ask_whose(e, whose);
    else if (behind && !mqtt_shares_stopping(e->group->shares))
        tell_behind(e, whose);
    else
        missed_free(whose); /* they stay open */
    free(unknown.list);
}

void mqtt_group_told(struct mqtt_exchange *e)
{
    if (e->x.request.method == METHOD_MISSED)
        take_whose(e);
    else
        take_record(e);
    mqtt_share_told(e->group, e->telling);
    mqtt_share_unref(e->group);
    e->group = NULL;
}

/* ---- all ------------------------------------------------------------------------------------- */

void tell_all(struct delivery *d)
{
    struct mqtt_conn *c = d->conn;
    if (d->acked.count || d->floor_wanted)
        tell_acked(d);
    tell_items(d, &d->completed, SESSION_COMPLETED, MQTT_PUBLISH, NULL);
    if (d->group_floors_wanted)
        tell_group_floors(d);
    bool holds = d->held.len > 0, last = !d->given_out.count && !d->sent.count;
    d->holding += holds;
    tell_items(d, &d->apart, SESSION_GIVEN, MQTT_PUBLISH, holds && last ? &d->held : NULL);
    tell_members(d, d->held.len ? &d->held : NULL);
    tell_items(d, &d->sent, SESSION_SENT, MQTT_PUBLISH, d->held.len ? &d->held : NULL);
    if (!d->pubrel.count)
        return;
    struct buf packets;
    buf_init(&packets, DELIVER_WINDOW_MAX * 8);
    for (uint32_t i = 0; i < d->pubrel.count; i++)
        mqtt_put_ack(&packets, c->reader.version, MQTT_PUBREL, d->pubrel.list[i].packet_id,
                     MQTT_SUCCESS);
    CHECK(!packets.failed);
    tell_items(d, &d->pubrel, SESSION_PUBREL, MQTT_PUBREL, &packets);
    buf_fini(&packets);
}

void mqtt_told(struct mqtt_exchange *e)
{
    struct mqtt_conn *c = e->answer.conn;
    struct delivery *d = c->out;
    struct session_record r;
    struct session_item item = {0};
    CHECK(session_record_decode(e->x.request.body, &r));
    struct slice list = r.list;
    bool sent = r.event == SESSION_SENT || (r.event == SESSION_GIVEN && e->x.request.session),
         holds = sent && e->out.len;
    while (d && (sent || r.event == SESSION_PUBREL) && session_next_item(&r, &list, &item)) {
        struct flight *flight = flights_find(&d->flights, item.packet_id);
        if (flight && flight->state == (sent ? FLIGHT_WAITS : FLIGHT_RELEASING))
            flights_set(&d->flights, flight, sent ? FLIGHT_SENT : FLIGHT_RELEASED);
    }
    if (holds && d && c->state == MQTT_UP && c->failed == REASON_ok) { /* nor one before it */
        d->holding--;
        mqtt_send_messages(c, buf_slice(&e->out));
    }
}
