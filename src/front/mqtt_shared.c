/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shared subscriptions on a worker: joining and leaving, and how a message of a group finds its
 * way. The group's home matches it, and it goes to the member whose turn it is, by mail if that is
 * another worker's. Who cannot take it at once - its window is full, it does not read, it is gone
 * or may not see it - passes it on to the next. When all have been asked, the first whose queue has
 * room gets it; else it is dropped and counted.
 *
 * What a member has not acknowledged when its connection ends goes on to another by its place in
 * the journal, from where that one reads it (mqtt_missed.c). A message of QoS 2 that was sent
 * stays with the client it was sent to (MQTT-4.8.2-4, -5), and so does everything when there is no
 * other member and the session goes on.
 *
 * Of a group that sessions have each message is open from here on until it is settled
 * (mqtt_share.h), so that the journal can be told how far the group is.
 */
#include <stdlib.h>

#include "base/check.h"
#include "base/metric.h"
#include "codec/topic.h"
#include "flow/limits.h"
#include "front/mqtt_private.h"

/* A message to a member on another worker: its texts are behind the struct. */
struct note {
    struct mail mail;
    struct share_group *group; /* a reference */
    struct share_member to;
    struct share_round asked;
    bool by_place; /* only message.place: it is read from the journal */
    struct live_message message;
    struct slice payload;
    size_t bytes;
    char text[];
};

/* ---- who is in a group ----------------------------------------------------------------------- */

static void change_interest(struct mqtt_front *f, int by)
{
    f->opts.interest(f->opts.arg, by);
}

/* On the home's thread. */
static void begin_home(struct mqtt_front *f, struct share_group *g, uint64_t scope)
{
    struct mqtt_sub *sub = mqtt_subs_add(f->subs, &g->subs, NULL, scope, g->filter);
    sub->group = mqtt_share_ref(g);
}

static uint64_t lower(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static void end_home(struct share_group *g)
{
    struct mqtt_front *f = g->home;
    uint64_t next = f->live_next > g->since ? f->live_next : g->since;
    next = lower(g->unclaimed ? g->unclaimed : next, g->unread);
    mqtt_share_sleep(g, g->missed_to ? lower(g->missed_from, next) : next);
    mqtt_share_ref(g);
    mqtt_subs_remove_all(f->subs, &g->subs);
    mqtt_share_unref(g);
    change_interest(f, -1);
}

static void on_over(struct mail *m)
{
    struct share_group *g = (struct share_group *)((char *)m - offsetof(struct share_group, mail));
    struct mqtt_shares *s = g->shares;
    end_home(g);
    mqtt_shares_end(s, 0);
}

struct mqtt_sub *mqtt_join(struct mqtt_conn *c, uint64_t scope, struct slice filter, bool restored)
{
    struct mqtt_front *f = c->front;
    struct slice name, inner;
    struct share_group *g;
    CHECK(topic_share_split(filter, &name, &inner) == TOPIC_SHARED);
    /* Before others can know of the group: what becomes durable from now on is brought here. */
    change_interest(f, 1);
    uint64_t since = f->opts.durable(f->opts.arg);
    do
        f->last_member++;
    while (!f->last_member || mqtt_subs_member(f->subs, f->last_member));
    const struct share_home home = {since, &f->live_next};
    enum share_joined joined =
        mqtt_share_join(f->opts.shares, c->principal.credential->account->number, name, inner,
                        (struct share_member){f, f->last_member}, &home, &g);
    if (joined == SHARE_FOUNDED)
        begin_home(f, g, scope);
    else
        change_interest(f, -1);
    if (joined == SHARE_FULL)
        return NULL;
    struct mqtt_sub *sub =
        mqtt_subs_add_member(f->subs, &c->subs, c, filter, inner, f->last_member);
    sub->group = g;
    sub->restored = restored;
    if (c->session)
        mqtt_share_keep(g);
    return sub;
}

static struct share_member member_of(const struct mqtt_sub *sub)
{
    const struct mqtt_conn *c = sub->owner;
    return (struct share_member){c->front, sub->member};
}

void mqtt_leave(struct mqtt_sub *sub)
{
    struct share_group *g = sub->group;
    struct mqtt_front *f = member_of(sub).front;
    if (sub->left)
        return;
    sub->left = true;
    if (sub->missed_to)
        mqtt_share_put_missed_back(g);
    if (!mqtt_share_leave(g, member_of(sub), mqtt_deliver_keeps(sub->owner)))
        return;
    g->unread = mqtt_deliver_unread(sub->owner, sub);
    if (g->home == f) {
        end_home(g);
        return;
    }
    (void)mqtt_shares_begin(g->shares, 0);
    g->mail.run = on_over;
    worker_post(g->home->opts.worker, &g->mail);
}

/* ---- to a member of this worker -------------------------------------------------------------- */

/* False: somebody else is to have it. */
static bool take(const struct mqtt_sub *sub, const struct live_message *m, struct slice payload,
                 bool force)
{
    struct mqtt_conn *c = sub->owner;
    uint8_t qos = m->published && sub->qos > m->qos ? m->qos : sub->qos;
    if (c->state != MQTT_UP || !mqtt_sub_wants(sub, m))
        return false;
    if (force ? !mqtt_may_queue(c, qos, m->topic.len + m->properties.len + payload.len)
              : !mqtt_may_send(c, qos))
        return false;
    if (!mqtt_send(c, sub, m, payload)) /* with QoS 0, or it could not be */
        mqtt_share_settle(sub->group, m->place);
    return true;
}

static bool take_place(const struct mqtt_sub *sub, uint64_t place, const struct share_round *asked)
{
    struct mqtt_conn *c = sub->owner;
    return c->state == MQTT_UP && mqtt_deliver_place(c, sub->member, place, asked);
}

/* ---- from one to the other ------------------------------------------------------------------- */

static void hand_on(struct mqtt_front *f, struct note *n);

static void note_free(struct note *n)
{
    mqtt_shares_end(n->group->shares, n->bytes);
    mqtt_share_unref(n->group);
    free(n);
}

static bool take_note(struct mqtt_front *f, const struct note *n)
{
    const struct mqtt_sub *sub = mqtt_subs_member(f->subs, n->to.number);
    if (!sub || sub->left)
        return false;
    return n->by_place ? take_place(sub, n->message.place, &n->asked)
                       : take(sub, &n->message, n->payload, n->asked.force);
}

static void on_note(struct mail *m)
{
    struct note *n = (struct note *)((char *)m - offsetof(struct note, mail));
    struct mqtt_front *f = n->to.front;
    if (take_note(f, n))
        note_free(n);
    else
        hand_on(f, n);
}

/* Nobody takes the message. What stays open is read from the journal again: after the start, or
 * when the group has slept. So does what was `given_back`: no more than its members had taken. Not
 * so what one may not see and no other took: it would be read again and again. */
static void drop(struct share_group *g, uint64_t place, bool given_back)
{
    if (g->kept && (given_back || mqtt_shares_stopping(g->shares) || mqtt_share_over(g)))
        return;
    metric_add(METRIC_mqtt_drops_shared, 1);
    mqtt_share_settle(g, place);
}

static void hand_on(struct mqtt_front *f, struct note *n)
{
    while (mqtt_share_pick(n->group, &n->asked, &n->to)) {
        if (n->to.front != f) {
            n->mail.run = on_note;
            worker_post(n->to.front->opts.worker, &n->mail);
            return;
        }
        if (take_note(f, n)) {
            note_free(n);
            return;
        }
    }
    drop(n->group, n->message.place, n->by_place && !n->asked.barred);
    note_free(n);
}

static struct slice on_note_payload(void *arg)
{
    return ((struct note *)arg)->payload;
}

static struct slice copy(char **at, struct slice s)
{
    struct slice copied = slice_of(*at, s.len);
    if (s.len)
        memcpy(*at, s.ptr, s.len);
    *at += s.len;
    return copied;
}

/* NULL: too much is on its way. */
static struct note *note_new(struct share_group *g, const struct live_message *m,
                             struct slice payload)
{
    size_t text = m->topic.len + m->feed_key.len + m->properties.len + payload.len;
    struct note *n = NULL;
    if (!mqtt_shares_begin(g->shares, sizeof *n + text))
        return NULL;
    n = malloc(sizeof *n + text);
    CHECK(n);
    *n = (struct note){.group = mqtt_share_ref(g), .message = *m, .bytes = sizeof *n + text};
    char *at = n->text;
    n->message.topic = copy(&at, m->topic);
    n->message.feed_key = copy(&at, m->feed_key);
    n->message.properties = copy(&at, m->properties);
    n->payload = copy(&at, payload);
    n->message.payload = on_note_payload;
    n->message.arg = n;
    return n;
}

void mqtt_share_out(struct mqtt_front *f, struct share_group *g, const struct live_message *m,
                    struct slice payload)
{
    struct share_member to;
    struct share_round asked = {0};
    bool any = false;
    if (m->place && !(m->published && !m->qos) && !mqtt_share_open(g, m->place)) {
        metric_add(METRIC_mqtt_drops_shared, 1);
        return;
    }
    while (mqtt_share_pick(g, &asked, &to)) {
        any = true;
        if (to.front != f) {
            struct note *n = note_new(g, m, payload);
            if (!n)
                continue; /* there may be somebody here */
            n->to = to;
            n->asked = asked;
            n->mail.run = on_note;
            worker_post(to.front->opts.worker, &n->mail);
            return;
        }
        const struct mqtt_sub *sub = mqtt_subs_member(f->subs, to.number);
        if (sub && take(sub, m, payload, asked.force))
            return;
    }
    if (m->place && !g->unclaimed && mqtt_share_over(g))
        g->unclaimed = m->place / SESSION_PARTS; /* on the home's thread */
    if (any)
        drop(g, m->place, false);
}

/* ---- the end of a member --------------------------------------------------------------------- */

bool mqtt_may_give(struct share_group *g)
{
    return !(g->kept && mqtt_shares_stopping(g->shares)) && !mqtt_share_over(g);
}

/* Without mail: to a member of this worker. False: there is none. */
static bool give_here(struct mqtt_front *f, struct share_group *g, uint64_t place,
                      const struct share_round *asked)
{
    struct share_round round = *asked;
    struct share_member to;
    while (mqtt_share_pick(g, &round, &to)) {
        const struct mqtt_sub *sub = to.front == f ? mqtt_subs_member(f->subs, to.number) : NULL;
        if (sub && !sub->left && take_place(sub, place, &round))
            return true;
    }
    return false;
}

static void give_place(struct mqtt_front *f, struct share_group *g, uint64_t place,
                       const struct share_round *asked)
{
    struct note *n = note_new(g, &(struct live_message){.place = place}, (struct slice){0});
    if (n) {
        n->by_place = true;
        n->asked = *asked;
        hand_on(f, n);
    } else if (!give_here(f, g, place, asked)) {
        drop(g, place, true);
    }
}

bool mqtt_give_to_another(struct mqtt_front *f, struct share_group *g, uint64_t place)
{
    if (!place || !mqtt_may_give(g))
        return false;
    give_place(f, g, place, &(struct share_round){0});
    return true;
}

void mqtt_pass_on(struct mqtt_front *f, struct share_group *g, uint64_t place,
                  const struct share_round *asked)
{
    struct share_round round = *asked;
    round.barred = true;
    if (mqtt_may_give(g))
        give_place(f, g, place, &round);
    else
        drop(g, place, false);
}

bool mqtt_give_back(struct mqtt_conn *c, uint32_t member, uint64_t place)
{
    const struct mqtt_sub *sub = mqtt_subs_member(c->front->subs, member);
    return sub && mqtt_give_to_another(c->front, sub->group, place);
}

void mqtt_leave_all(struct mqtt_conn *c)
{
    bool any = false;
    /* Whoever finds a group to be over, and founds it anew, waits until all that is told. */
    for (struct mqtt_sub *s = c->subs; s; s = s->of_owner) {
        if (s->member)
            s->telling = mqtt_share_tell(s->group);
    }
    for (struct mqtt_sub *s = c->subs; s; s = s->of_owner) {
        if (!s->member)
            continue;
        mqtt_leave(s);
        any = true;
    }
    if (any)
        mqtt_deliver_give_back(c);
    mqtt_deliver_close(c);
    for (struct mqtt_sub *s = c->subs; s; s = s->of_owner) {
        if (s->member)
            mqtt_share_told(s->group, s->telling);
    }
}
