/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Members of a group on two workers whose loops are turned by hand, on real sockets, with a
 * pipeline that accepts, refuses or puts off what it is told of sessions: so each order in which
 * messages, mail, records and connections can meet is one of a test's.
 */
#include "front/mqtt_private.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/metric.h"
/* The loops of two workers are turned by hand. */
#include "conn/worker.c"
#include "flow/session_record.h"

#define WORKERS  2u
#define HELD_MAX 16u
#define FILTER   "$share/g/a/b"

/* ---- a pipeline ------------------------------------------------------------------------------ */

static struct worker *workers[WORKERS];
static struct mqtt_front *fronts[WORKERS];
static struct mqtt_sessions *sessions;
static struct mqtt_shares *shares;
static struct account *account;
static struct credential *credential;
static uint64_t durable, last_session;

/* What is done with records of that event. */
static enum reason refusals[SESSION_RETURNED + 1];
static bool holds[SESSION_RETURNED + 1];
static unsigned told[SESSION_RETURNED + 1];
static struct exchange *held[HELD_MAX];
static unsigned held_count;

/* What the view would know: messages of the group that were published, and given. A session that is
 * opened was there before, and has the subscription. */
static uint64_t published[HELD_MAX], given[HELD_MAX];
static unsigned published_count, given_count;
static bool restores, restores_both; /* if it has one of its own, the group's as well */
static uint64_t kept; /* place of a message that it was sent, with QoS 1; 0: there is none */
static uint64_t own;  /* the same of one that it has missed itself */
static uint64_t told_floor;
static bool holds_reads;
static uint64_t barred[2];     /* clients that may not see what is read */
static void (*on_acked)(void); /* happens when a session's floor is told; or NULL */

static void make_credential(void)
{
    char *text;
    account = account_new(2);
    credential = credential_new(2);
    assert_true(account && credential);
    text = (char *)(account + 1);
    account->name = record_text(&text, SLICE("u"));
    account->number = 1;
    account->topics = TOPICS_ANY;
    account->live = calloc(1, sizeof *account->live);
    assert_non_null(account->live);
    text = (char *)(credential + 1);
    credential->name = record_text(&text, SLICE("d"));
    credential->number = 5;
    credential->account = account;
    credential->permissions = PERM_data_read | PERM_data_write;
}

static struct slice on_payload(void *arg)
{
    static char text[24];
    int n = snprintf(text, sizeof text, "%llu", *(unsigned long long *)arg);
    return slice_of(text, (size_t)n);
}

/* The message at that place; what it says is the position. */
static struct live_message message_at(uint64_t place, uint8_t qos, unsigned long long *storage)
{
    *storage = place / SESSION_PARTS;
    return (struct live_message){.account = 1,
                                 .place = place,
                                 .topic = SLICE("a/b"),
                                 .permission = PERM_data_read,
                                 .payload = on_payload,
                                 .arg = storage,
                                 .published = true,
                                 .qos = qos,
                                 .expires_us = INT64_MAX};
}

static bool is_given(uint64_t place)
{
    unsigned i = 0;
    while (i < given_count && given[i] != place)
        i++;
    return i < given_count;
}

static void collect_missed(struct missed *m)
{
    free(m->places);
    m->places = calloc(HELD_MAX, sizeof *m->places);
    m->places_count = 0;
    if (own && !m->group.ptr)
        m->places[m->places_count++] = own;
    for (unsigned i = 0; m->group.ptr && i < published_count; i++) {
        if (published[i] >= m->from && published[i] < session_place(m->to, 0) &&
            !is_given(published[i]))
            m->places[m->places_count++] = published[i];
    }
}

/* What is to be read is there. */
static void read_missed(struct missed *m, uint64_t client)
{
    if (m->what == MISSED_COLLECT) {
        collect_missed(m);
        return;
    }
    m->places_read = m->places_count;
    for (uint32_t i = 0; i < m->places_count; i++) {
        unsigned long long position;
        struct live_message message = message_at(m->places[i], 2, &position);
        if (client == barred[0] || client == barred[1])
            missed_bar(m, m->places[i]);
        else if (!i || m->places[i] != m->places[i - 1])
            missed_put(m, &message);
    }
}

static void note_given(const struct session_record *r)
{
    struct session_item item = {0};
    struct slice list = r->list;
    while (r->event == SESSION_GIVEN && session_next_item(r, &list, &item)) {
        assert_true(given_count < HELD_MAX);
        given[given_count++] = item.place;
    }
}

static void open_session(struct buf *out, const struct session_record *r)
{
    const struct session_filter f = {.filter = SLICE(FILTER), .qos = 2};
    uint64_t number = r->expiry_s ? ++last_session : 0;
    buf_clear(out);
    session_state_put(out, &(struct session_state){.number = number,
                                                   .present = restores,
                                                   .floor = own ? own / SESSION_PARTS : durable});
    const struct session_filter plain = {.filter = SLICE("a/#"), .qos = 1};
    if (restores)
        session_state_put_sub(out, own ? &plain : &f, 0);
    if (restores && restores_both)
        session_state_put_sub(out, &f, 0);
    if (kept)
        session_state_put_sent(out, &(struct session_item){kept, 1, 1}, false, true);
}

static void answer(struct exchange *x, enum reason reason)
{
    struct session_record r = {0};
    struct request *q = &x->request;
    if (q->method == METHOD_SESSION)
        assert_true(session_record_decode(q->body, &r));
    x->reply.status = 200;
    if (reason != REASON_ok) {
        exchange_refuse(x, reason, NULL);
        return;
    }
    if (q->method == METHOD_CONNECT) {
        q->principal->credential = credential_ref(credential);
    } else if (q->method == METHOD_SESSION && q->path.len) {
        open_session(&x->reply.body, &r);
    } else if (q->method == METHOD_MISSED) {
        read_missed(q->missed, q->client);
    } else {
        durable++;
        note_given(&r);
    }
    exchange_send(x);
}

static void on_handle(void *arg, struct exchange *x)
{
    struct session_record r = {0};
    (void)arg;
    if (x->request.method == METHOD_SESSION)
        assert_true(session_record_decode(x->request.body, &r));
    told[r.event]++;
    if (r.event == SESSION_ACKED && on_acked)
        on_acked();
    const struct missed *m = x->request.missed;
    bool reads = x->request.method == METHOD_MISSED && m->what == MISSED_READ;
    told_floor = r.event == SESSION_ACKED ? r.floor : told_floor;
    if (!holds[r.event] && !(holds_reads && reads)) {
        answer(x, refusals[r.event]);
        return;
    }
    assert_true(held_count < HELD_MAX);
    exchange_keep(x);
    held[held_count++] = x;
}

/* The oldest of those put off. */
static void answer_held(enum reason reason)
{
    assert_true(held_count);
    struct exchange *x = held[0];
    memmove(held, held + 1, --held_count * sizeof *held);
    answer(x, reason);
}

static enum reason on_may_subscribe(void *arg, struct principal *p, struct slice filter,
                                    uint64_t *ret_account)
{
    (void)arg, (void)p, (void)filter;
    *ret_account = 1;
    return REASON_ok;
}

static void on_flood(void *arg, const struct principal *p, uint64_t source, enum flood what,
                     struct flood_verdict *ret)
{
    (void)arg, (void)p, (void)source, (void)what;
    *ret = (struct flood_verdict){true, 10, 1000};
}

static void on_interest(void *arg, int change)
{
    (void)arg, (void)change;
}

static uint64_t on_durable(void *arg)
{
    (void)arg;
    return durable;
}

static bool on_vouches(void *arg, struct principal *p)
{
    (void)arg, (void)p;
    return true;
}

static uint64_t on_glance(void *arg, const struct principal *p, struct slice topic)
{
    (void)arg, (void)p, (void)topic;
    return 0;
}

static void on_glance_again(void *arg, uint64_t hint)
{
    (void)arg, (void)hint;
}

static bool on_known(void *arg, uint64_t of, struct slice filter, uint64_t *ret_floor)
{
    (void)arg, (void)of, (void)filter;
    *ret_floor = 0;
    return false;
}

static void turns(unsigned n)
{
    while (n--) {
        for (unsigned i = 0; i < WORKERS; i++) {
            uv_run(worker_loop(workers[i]), UV_RUN_NOWAIT);
            run_mail(workers[i]);
            do {
                workers[i]->toiled_ns = 0;
                stream_go_on(workers[i]);
                worker_settle(workers[i]);
            } while (stream_lists_wait(&workers[i]->streams));
            (void)mqtt_front_flush(fronts[i]);
            workers[i]->now_ns = 0;
        }
    }
}

/* What was to be looked at again in a moment is. */
static void pass_time(void)
{
    usleep(2 * WHEEL_SLOT_NS / 1000);
    for (unsigned i = 0; i < WORKERS; i++)
        wheel_turn(worker_wheel(workers[i]), clock_mono_ns());
}

/* ---- clients --------------------------------------------------------------------------------- */

struct client {
    int fd;
    struct buf got;
    size_t used; /* by the packet in hand */
};

static void put(struct client *c, const struct mqtt_packet *p)
{
    struct buf out;
    buf_init(&out, 1 << 16);
    mqtt_put(&out, MQTT_5, p);
    assert_int_equal(send(c->fd, out.ptr, out.len, MSG_NOSIGNAL), out.len);
    buf_fini(&out);
    turns(1);
}

/* The next packet, whose bytes are good until the next call. False: none has come. */
static bool receive(struct client *c, struct mqtt_packet *ret)
{
    const struct mqtt_reader reader = {MQTT_5, false, UINT32_MAX};
    struct mqtt_bad why;
    char block[4096];
    ssize_t n;
    turns(8);
    buf_consume(&c->got, c->used);
    c->used = 0;
    while ((n = recv(c->fd, block, sizeof block, MSG_DONTWAIT)) > 0)
        buf_put(&c->got, block, (size_t)n);
    enum mqtt_outcome outcome = mqtt_parse(buf_slice(&c->got), &reader, ret, &why);
    assert_int_not_equal(outcome, MQTT_BAD);
    c->used = outcome == MQTT_DONE ? ret->size : 0;
    return outcome == MQTT_DONE;
}

static struct mqtt_packet expect(struct client *c, enum mqtt_type type)
{
    struct mqtt_packet p;
    assert_true(receive(c, &p));
    assert_int_equal(p.type, type);
    return p;
}

/* A message of that position has come; returns its packet id. */
static uint16_t expect_message(struct client *c, uint64_t position, uint8_t qos)
{
    struct mqtt_packet p = expect(c, MQTT_PUBLISH);
    char said[24] = {0};
    assert_true(p.publish.payload.len < sizeof said);
    memcpy(said, p.publish.payload.ptr, p.publish.payload.len);
    assert_int_equal(strtoull(said, NULL, 10), position);
    assert_int_equal(p.publish.qos, qos);
    return p.id;
}

static void expect_nothing(struct client *c)
{
    struct mqtt_packet p;
    assert_false(receive(c, &p));
}

static void expect_end(struct client *c)
{
    char byte;
    expect(c, MQTT_DISCONNECT);
    expect_nothing(c);
    assert_int_equal(recv(c->fd, &byte, 1, MSG_DONTWAIT), 0);
}

static void connect_to(struct client *c, unsigned worker, const char *name, uint32_t expiry_s,
                       uint16_t window)
{
    int pair[2];
    struct mqtt_packet p = {.type = MQTT_CONNECT};
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
    *c = (struct client){.fd = pair[1]};
    buf_init(&c->got, 1 << 20);
    struct stream *s = stream_new(workers[worker], pair[0]);
    assert_true(s && mqtt_accept(fronts[worker], s));
    stream_begin(s);
    p.connect = (struct mqtt_connect){.version = MQTT_5,
                                      .clean = true,
                                      .keep_alive = 60,
                                      .client_id = slice_str(name),
                                      .username = SLICE("u"),
                                      .password = SLICE("u")};
    p.properties.has = 1ull << MQTT_SESSION_EXPIRY | 1ull << MQTT_RECEIVE_MAX;
    p.properties.session_expiry = expiry_s;
    p.properties.receive_max = window;
    put(c, &p);
    assert_int_equal(expect(c, MQTT_CONNACK).code, 0);
}

static void send_subscribe(struct client *c, const char *filter, uint8_t qos)
{
    struct buf list;
    struct mqtt_packet p = {.type = MQTT_SUBSCRIBE, .id = 7};
    const struct mqtt_filter f = {.filter = slice_str(filter), .qos = qos};
    buf_init(&list, 4096);
    mqtt_put_filter(&list, MQTT_SUBSCRIBE, MQTT_5, &f);
    p.list = buf_slice(&list);
    put(c, &p);
    buf_fini(&list);
}

static void subscribe(struct client *c, const char *filter, uint8_t qos)
{
    send_subscribe(c, filter, qos);
    assert_int_equal(expect(c, MQTT_SUBACK).list.ptr[0], qos);
}

/* At once, whatever the workers have to do first. */
static void unsubscribe_now(unsigned worker, const char *filter)
{
    struct buf list;
    struct mqtt_packet p = {.type = MQTT_UNSUBSCRIBE, .id = 8};
    const struct mqtt_filter f = {.filter = slice_str(filter)};
    buf_init(&list, 4096);
    mqtt_put_filter(&list, MQTT_UNSUBSCRIBE, MQTT_5, &f);
    p.list = buf_slice(&list);
    struct mqtt_conn *c = fronts[worker]->conns;
    mqtt_take(c, &p);
    stream_write(c->stream, buf_slice(&c->front->now));
    buf_clear(&c->front->now);
    buf_fini(&list);
}

/* To its end, with QoS 2. */
static void acknowledge(struct client *c, uint16_t id)
{
    put(c, &(struct mqtt_packet){.type = MQTT_PUBREC, .id = id});
    assert_int_equal(expect(c, MQTT_PUBREL).id, id);
    put(c, &(struct mqtt_packet){.type = MQTT_PUBCOMP, .id = id});
}

static void hang_up(struct client *c)
{
    if (c->fd < 0)
        return;
    close(c->fd);
    buf_fini(&c->got);
    *c = (struct client){.fd = -1};
    turns(4);
}

/* At once, whatever it is still owed. */
static void disconnect(struct client *c)
{
    put(c, &(struct mqtt_packet){.type = MQTT_DISCONNECT});
    hang_up(c);
}

/* It is durable, and all workers are brought it. Returns its position. */
static uint64_t publish(uint8_t qos)
{
    unsigned long long position;
    uint64_t first = durable++;
    assert_true(published_count < HELD_MAX);
    published[published_count++] = session_place(first, 0);
    struct live_message m = message_at(session_place(first, 0), qos, &position);
    for (unsigned i = 0; i < WORKERS; i++) {
        struct live_ops live = mqtt_front_live(fronts[i]);
        live.begin(live.arg, first);
        if (live.wants(live.arg, 1))
            live.publish(live.arg, &m);
        live.end(live.arg, first + 1);
    }
    return first;
}

/* ---- each test ------------------------------------------------------------------------------- */

static int open_all(void **state)
{
    (void)state;
    memset(refusals, 0, sizeof refusals);
    memset(holds, 0, sizeof holds);
    memset(told, 0, sizeof told);
    published_count = given_count = 0;
    restores = restores_both = holds_reads = false;
    kept = own = told_floor = 0;
    on_acked = NULL;
    memset(barred, 0, sizeof barred);
    durable = 10;
    sessions = mqtt_sessions_new();
    shares = mqtt_shares_new(&(struct mqtt_shares_opts){.born = 5, .known = on_known});
    for (unsigned i = 0; i < WORKERS; i++) {
        const struct mqtt_opts opts = {
            .worker = workers[i],
            .tune = {NS_PER_S * 3600, NS_PER_S * 3600, 60, 100, false, 100},
            .packet_max = 2000,
            .connect_max = 1000,
            .receive_max = 4,
            .stage_bytes = 16,
            .sessions = sessions,
            .shares = shares,
            .handle = on_handle,
            .subscriptions_max = 6,
            .queue_bytes = 4000,
            .may_subscribe = on_may_subscribe,
            .flood = on_flood,
            .interest = on_interest,
            .durable = on_durable,
            .vouches = on_vouches,
            .glance = on_glance,
            .glance_again = on_glance_again,
        };
        fronts[i] = mqtt_front_new(&opts);
    }
    return 0;
}

static int close_all(void **state)
{
    (void)state;
    memset(holds, 0, sizeof holds);
    while (held_count)
        answer_held(REASON_ok);
    for (unsigned i = 0; i < WORKERS; i++)
        mqtt_front_abort(fronts[i]);
    turns(20);
    assert_true(mqtt_shares_idle(shares));
    for (unsigned i = 0; i < WORKERS; i++)
        mqtt_front_free(fronts[i]);
    mqtt_sessions_free(sessions);
    mqtt_shares_free(shares);
    return 0;
}

static struct client a = {.fd = -1}, b = {.fd = -1};

/* `a` has its turn first. */
static void two_members(uint32_t expiry_s, uint8_t qos, uint16_t window)
{
    connect_to(&a, 0, "a", expiry_s, window);
    subscribe(&a, FILTER, qos);
    connect_to(&b, 1, "b", expiry_s, window);
    subscribe(&b, FILTER, qos);
}

static void end_members(void)
{
    hang_up(&a);
    hang_up(&b);
}

/* ---- tests ----------------------------------------------------------------------------------- */

/* On its way to a member that leaves meanwhile: the other one, which was full, has still a queue.
 */
static void who_leaves_takes_nobodys_turn(void **state)
{
    (void)state;
    two_members(0, 2, 1);
    expect_message(&a, publish(2), 2);
    uint16_t id = expect_message(&b, publish(2), 2);
    uint64_t third = publish(2);
    turns(1); /* both have been asked, and it is in the mail to `a` */
    unsubscribe_now(0, FILTER);
    expect(&a, MQTT_UNSUBACK);
    expect_nothing(&b);
    acknowledge(&b, id);
    acknowledge(&b, expect_message(&b, third, 2));
    end_members();
}

/* A message whose packet id waits to be durable at `a`. */
static uint64_t publish_held(void)
{
    holds[SESSION_GIVEN] = true;
    uint64_t position = publish(2);
    expect_nothing(&a);
    assert_int_equal(held_count, 1);
    holds[SESSION_GIVEN] = false;
    return position;
}

/* It has not left, and the session knows nothing of it: somebody else gets it. */
static void what_is_not_made_durable_is_anothers(void **state)
{
    (void)state;
    two_members(50, 2, 10);
    uint64_t position = publish_held();
    answer_held(REASON_journal_failed);
    expect_end(&a);
    acknowledge(&b, expect_message(&b, position, 2));
    expect_nothing(&b);
    end_members();
}

static void nor_is_what_its_connection_did_not_wait_for(void **state)
{
    (void)state;
    two_members(50, 2, 10);
    uint64_t position = publish_held();
    disconnect(&a);
    expect_nothing(&b);
    answer_held(REASON_disk_full);
    acknowledge(&b, expect_message(&b, position, 2));
    end_members();
}

static void what_is_durable_stays_with_its_session(void **state)
{
    (void)state;
    two_members(50, 2, 10);
    publish_held();
    disconnect(&a);
    answer_held(REASON_ok);
    expect_nothing(&b);
    end_members();
}

/* It may be durable: the session has to give it back before anybody else can have it. */
static void what_may_be_durable_is_taken_back_first(void **state)
{
    (void)state;
    two_members(50, 2, 10);
    uint64_t position = publish_held();
    holds[SESSION_RETURNED] = true;
    answer_held(REASON_outcome_unknown);
    expect_end(&a);
    expect_nothing(&b);
    answer_held(REASON_ok);
    acknowledge(&b, expect_message(&b, position, 2));
    end_members();
}

/* `a` unsubscribes before the record about a message is durable, and acknowledges it or not: it is
 * open until that is known. Else a crash could lose it. */
static void unsubscribe_before_it_is_told(uint8_t qos, bool acknowledged, enum reason outcome)
{
    two_members(50, qos, 10);
    const struct share_group *g = fronts[1]->conns->subs->group;
    holds[SESSION_GIVEN] = true;
    uint64_t position = publish(qos);
    uint16_t id = qos == 1 ? expect_message(&a, position, 1) : 0;
    turns(2);
    assert_int_equal(held_count, 1);
    unsubscribe_now(0, FILTER);
    holds[SESSION_GIVEN] = false;
    if (acknowledged)
        put(&a, &(struct mqtt_packet){.type = MQTT_PUBACK, .id = id});
    assert_int_equal(g->open.count, 1);
    answer_held(outcome);
    if (outcome == REASON_ok)
        expect_nothing(&b);
    else if (!acknowledged)
        (void)expect_message(&b, position, qos);
    assert_int_equal(g->open.count, outcome != REASON_ok);
    end_members();
}

static void who_unsubscribes_has_what_is_told_then(void **state)
{
    (void)state;
    unsubscribe_before_it_is_told(1, false, REASON_ok);
    unsubscribe_before_it_is_told(1, true, REASON_ok);
}

static void and_what_is_sent_then(void **state)
{
    (void)state;
    unsubscribe_before_it_is_told(2, false, REASON_ok);
}

static void what_is_not_told_then_is_anothers(void **state)
{
    (void)state;
    unsubscribe_before_it_is_told(1, false, REASON_journal_failed);
}

/* Else the record of who gets it could come first, and would be undone. */
static void give_back(enum reason outcome)
{
    two_members(50, 1, 10);
    uint64_t position = publish(1);
    expect_message(&a, position, 1);
    holds[SESSION_RETURNED] = true;
    hang_up(&a);
    expect_nothing(&b);
    answer_held(outcome);
    expect_message(&b, position, 1);
    end_members();
}

static void what_is_given_back_goes_on_behind_that(void **state)
{
    (void)state;
    give_back(REASON_ok);
}

/* The session has it, too: it comes once more than it must. */
static void what_cannot_be_given_back_goes_on_as_well(void **state)
{
    (void)state;
    give_back(REASON_journal_failed);
}

/* What a member with QoS 1 has not acknowledged goes to one with QoS 0. */
static void what_is_given_back_goes_on_with_qos_0(void **state)
{
    (void)state;
    connect_to(&a, 0, "a", 50, 10);
    subscribe(&a, FILTER, 1);
    connect_to(&b, 1, "b", 50, 10);
    subscribe(&b, FILTER, 0);
    uint64_t position = publish(1);
    expect_message(&a, position, 1);
    struct share_group *g = mqtt_share_ref(fronts[0]->conns->subs->group);
    hang_up(&a);
    expect_message(&b, position, 0);
    expect_nothing(&b);
    assert_int_equal(g->open.count, 0);
    mqtt_share_unref(g);
    end_members();
}

/* `a` has it and hangs up, and `b` may not see it. */
static uint64_t give_back_to_who_may_not_see(void)
{
    two_members(50, 1, 10);
    barred[0] = fronts[1]->conns->number;
    uint64_t position = publish(1);
    expect_message(&a, position, 1);
    return position;
}

static void what_one_may_not_see_goes_on(void **state)
{
    (void)state;
    struct client third;
    uint64_t position = give_back_to_who_may_not_see();
    connect_to(&third, 0, "third", 50, 10);
    subscribe(&third, FILTER, 1);
    hang_up(&a);
    expect_message(&third, position, 1);
    expect_nothing(&b);
    hang_up(&third);
    end_members();
}

/* Not for ever. */
static void what_nobody_may_see_is_dropped(void **state)
{
    (void)state;
    struct client third;
    give_back_to_who_may_not_see();
    connect_to(&third, 0, "third", 50, 10);
    subscribe(&third, FILTER, 1);
    barred[1] = fronts[0]->conns->number;
    uint64_t before = metric_sum(METRIC_mqtt_drops_shared);
    hang_up(&a);
    expect_nothing(&b);
    expect_nothing(&third);
    turns(40);
    assert_int_equal(metric_sum(METRIC_mqtt_drops_shared), before + 1);
    assert_int_equal(fronts[1]->conns->subs->group->open.count, 0);
    hang_up(&third);
    end_members();
}

/* A DISCONNECT in the turn in which a message of QoS 2 was to be told, with that expiry. */
static void end_in_the_turn(uint32_t expiry_s)
{
    const struct mqtt_packet bye = {
        .type = MQTT_DISCONNECT,
        .properties = {.has = 1ull << MQTT_SESSION_EXPIRY, .session_expiry = expiry_s}};
    uint64_t position = publish(2);
    mqtt_take(fronts[0]->conns, &bye);
    hang_up(&a);
    acknowledge(&b, expect_message(&b, position, 2));
    expect_nothing(&b);
    assert_int_equal(given_count, 1);
    assert_int_equal(fronts[1]->conns->subs->group->open.count, 0);
    end_members();
}

static void what_has_not_left_is_anothers(void **state)
{
    (void)state;
    two_members(50, 2, 10);
    end_in_the_turn(50);
}

static void and_so_it_is_if_its_session_ends(void **state)
{
    (void)state;
    two_members(50, 2, 10);
    end_in_the_turn(0);
}

/* There is nobody else. */
static void else_it_is_read_again(void **state)
{
    (void)state;
    connect_to(&a, 0, "a", 50, 10);
    subscribe(&a, FILTER, 2);
    connect_to(&b, 1, "b", 50, 10);
    subscribe(&b, FILTER, 2);
    hang_up(&b);
    const struct mqtt_packet bye = {.type = MQTT_DISCONNECT,
                                    .properties = {.has = 1ull << MQTT_SESSION_EXPIRY}};
    uint64_t position = publish(2);
    mqtt_take(fronts[0]->conns, &bye);
    hang_up(&a);
    assert_int_equal(given_count, 0);
    restores = true;
    connect_to(&b, 1, "b", 50, 10);
    acknowledge(&b, expect_message(&b, position, 2));
    end_members();
}

/* The group has slept, and is there again before what its last member was sent is durable. */
static void be_back_before_it_is_told(enum reason outcome, bool comes)
{
    connect_to(&a, 0, "a", 50, 10);
    subscribe(&a, FILTER, 2);
    uint64_t position = publish_held();
    disconnect(&a);
    restores = true;
    connect_to(&b, 1, "b", 50, 10);
    expect_nothing(&b);
    answer_held(outcome);
    pass_time();
    if (comes)
        acknowledge(&b, expect_message(&b, position, 2));
    expect_nothing(&b);
    acknowledge(&b, expect_message(&b, publish(2), 2));
    end_members();
}

static void what_is_being_told_is_waited_for(void **state)
{
    (void)state;
    be_back_before_it_is_told(REASON_ok, false);
}

static void what_could_not_be_told_was_missed(void **state)
{
    (void)state;
    be_back_before_it_is_told(REASON_journal_failed, true);
}

/* It becomes durable later than anybody waits for it; so does what was told behind it. */
static void what_is_told_late_is_waited_for(void **state)
{
    (void)state;
    connect_to(&a, 0, "a", 50, 10);
    subscribe(&a, FILTER, 2);
    uint64_t position = publish_held();
    holds[SESSION_GIVEN] = true;
    disconnect(&a);
    restores = true;
    connect_to(&b, 1, "b", 50, 10);
    for (unsigned i = 0; i < 3; i++) {
        answer_held(REASON_outcome_unknown);
        pass_time();
        expect_nothing(&b);
        assert_int_equal(held_count, 1);
    }
    given[given_count++] = session_place(position, 0);
    holds[SESSION_GIVEN] = false;
    answer_held(REASON_ok);
    pass_time();
    expect_nothing(&b);
    acknowledge(&b, expect_message(&b, publish(2), 2));
    end_members();
}

/* It never became durable. */
static void what_was_not_told_after_all_was_missed(void **state)
{
    (void)state;
    be_back_before_it_is_told(REASON_outcome_unknown, true);
}

/* What it has missed itself does not wait for that. */
static void what_is_its_own_does_not_wait(void **state)
{
    (void)state;
    connect_to(&a, 0, "a", 50, 10);
    subscribe(&a, FILTER, 2);
    uint64_t position = publish_held();
    disconnect(&a);
    restores = restores_both = true;
    own = session_place(7, 0);
    connect_to(&b, 1, "b", 50, 10);
    expect_message(&b, 7, 1);
    expect_nothing(&b);
    answer_held(REASON_journal_failed);
    pass_time();
    acknowledge(&b, expect_message(&b, position, 2));
    end_members();
}

static struct share_group *anew;
static const struct share_member other = {NULL, 77};

/* Another worker finds the group to be over, and asks whether all of it is told. */
static void found_anew(void)
{
    const struct share_home home = {durable, &fronts[1]->live_next};
    assert_int_equal(mqtt_share_join(shares, 1, SLICE("g"), SLICE("a/b"), other, &home, &anew),
                     SHARE_FOUNDED);
    assert_false(mqtt_share_is_told(anew));
}

/* That is while the last member leaves, with a record that it has still to write. */
static void so_is_what_is_told_when_it_leaves(void **state)
{
    (void)state;
    connect_to(&a, 0, "a", 50, 10);
    subscribe(&a, FILTER, 2);
    holds[SESSION_GIVEN] = true;
    (void)publish(2);
    on_acked = found_anew;
    mqtt_take(fronts[0]->conns, &(struct mqtt_packet){.type = MQTT_DISCONNECT});
    assert_non_null(anew);
    assert_int_equal(held_count, 1);
    assert_false(mqtt_share_is_told(anew));
    answer_held(REASON_ok);
    assert_true(mqtt_share_is_told(anew));
    assert_true(mqtt_share_leave(anew, other, true));
    mqtt_share_unref(anew);
    anew = NULL;
    end_members();
}

/* The server stops before the message that is to be sent was read: it is not gone. */
static void stop_before_it_is_read(void)
{
    restores = holds_reads = true;
    connect_to(&b, 1, "b", 50, 10);
    holds[SESSION_SUBSCRIBED] = true;
    put(&b, &(struct mqtt_packet){.type = MQTT_PINGREQ});
    expect(&b, MQTT_PINGRESP);
    send_subscribe(&b, "other", 1); /* whose answer is owed */
    turns(2);
    assert_int_equal(held_count, 2);
    mqtt_front_stop(fronts[1]);
    answer_held(REASON_ok);
    answer_held(REASON_ok);
    turns(4);
    assert_int_equal(told[SESSION_CLOSED], 1);
    end_members();
}

static void what_is_to_come_again_outlasts_a_stop(void **state)
{
    (void)state;
    kept = session_place(5, 0);
    stop_before_it_is_read();
    assert_int_equal(told[SESSION_COMPLETED], 0);
}

static void what_was_missed_outlasts_a_stop(void **state)
{
    (void)state;
    own = session_place(7, 0);
    stop_before_it_is_read();
    assert_true(told_floor <= 7);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_all, close_all)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(who_leaves_takes_nobodys_turn),
        TEST(what_is_not_made_durable_is_anothers),
        TEST(nor_is_what_its_connection_did_not_wait_for),
        TEST(what_is_durable_stays_with_its_session),
        TEST(what_may_be_durable_is_taken_back_first),
        TEST(who_unsubscribes_has_what_is_told_then),
        TEST(and_what_is_sent_then),
        TEST(what_is_not_told_then_is_anothers),
        TEST(what_is_given_back_goes_on_behind_that),
        TEST(what_cannot_be_given_back_goes_on_as_well),
        TEST(what_is_given_back_goes_on_with_qos_0),
        TEST(what_one_may_not_see_goes_on),
        TEST(what_nobody_may_see_is_dropped),
        TEST(what_has_not_left_is_anothers),
        TEST(and_so_it_is_if_its_session_ends),
        TEST(else_it_is_read_again),
        TEST(what_is_being_told_is_waited_for),
        TEST(what_could_not_be_told_was_missed),
        TEST(what_is_its_own_does_not_wait),
        TEST(what_is_told_late_is_waited_for),
        TEST(what_was_not_told_after_all_was_missed),
        TEST(so_is_what_is_told_when_it_leaves),
        TEST(what_is_to_come_again_outlasts_a_stop),
        TEST(what_was_missed_outlasts_a_stop),
    };
    log_set_level(LOG_ERROR + 1);
    for (unsigned i = 0; i < WORKERS; i++)
        workers[i] = worker_new(i);
    make_credential();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
