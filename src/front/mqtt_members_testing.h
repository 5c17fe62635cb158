/* SPDX-License-Identifier: Apache-2.0 */
/*
 * front/mqtt_members_testing.h - members of a group on two workers whose loops are turned by hand,
 * on real sockets, with a pipeline that accepts, refuses or puts off what it is told of sessions:
 * so each order in which messages, mail, records and connections can meet is one of a test's. Tests
 * only.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/metric.h"
/* The loops of two workers are turned by hand. */
#include "conn/worker.c"
#include "flow/session_record.h"
#include "front/mqtt_private.h"

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
static uint16_t keep_alive_s; /* that clients ask for */
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

static inline void make_credential(void)
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

static inline struct slice on_payload(void *arg)
{
    static char text[24];
    int n = snprintf(text, sizeof text, "%llu", *(unsigned long long *)arg);
    return slice_of(text, (size_t)n);
}

/* The message at that place; what it says is the position. */
static inline struct live_message message_at(uint64_t place, uint8_t qos,
                                             unsigned long long *storage)
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

static inline bool is_given(uint64_t place)
{
    unsigned i = 0;
    while (i < given_count && given[i] != place)
        i++;
    return i < given_count;
}

static inline void collect_missed(struct missed *m)
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

static inline void find_ungiven(struct missed *m)
{
    for (uint32_t i = 0; i < m->places_count; i++) {
        uint64_t place = m->places[i];
        if (is_given(place))
            continue;
        m->places[i] = m->places[m->places_read];
        m->places[m->places_read++] = place;
    }
}

/* What is to be read is there. */
static inline void read_missed(struct missed *m, uint64_t client)
{
    if (m->what == MISSED_COLLECT) {
        collect_missed(m);
        return;
    }
    if (m->what == MISSED_UNGIVEN) {
        find_ungiven(m);
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

static inline void note_given(const struct session_record *r)
{
    struct session_item item = {0};
    struct slice list = r->list;
    while (r->event == SESSION_GIVEN && session_next_item(r, &list, &item)) {
        assert_true(given_count < HELD_MAX);
        given[given_count++] = item.place;
    }
}

static inline void open_session(struct buf *out, const struct session_record *r)
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
        session_state_put_sent(out, &(struct session_item){kept, 1, 1}, false, true, false);
}

static inline void answer(struct exchange *x, enum reason reason)
{
    struct session_record r = {0};
    struct request *q = &x->request;
    if (q->method == METHOD_SESSION)
        assert_true(session_record_decode(q->body, &r));
    x->reply.status = 200;
    if (q->method == METHOD_SESSION && q->path.len && reason == REASON_outcome_unknown) {
        x->reply.session = ++last_session;
        x->reply.session_found = r.event == SESSION_RESUMED;
    }
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

static inline void on_handle(void *arg, struct exchange *x)
{
    struct session_record r = {0};
    (void)arg;
    if (x->request.method == METHOD_SESSION)
        assert_true(session_record_decode(x->request.body, &r));
    told[r.event]++;
    if (r.event == SESSION_ACKED && on_acked)
        on_acked();
    const struct missed *m = x->request.missed;
    bool reads = x->request.method == METHOD_MISSED && m->what != MISSED_COLLECT;
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
static inline void answer_held(enum reason reason)
{
    assert_true(held_count);
    struct exchange *x = held[0];
    memmove(held, held + 1, --held_count * sizeof *held);
    answer(x, reason);
}

static inline enum reason on_may_subscribe(void *arg, struct principal *p, struct slice filter,
                                           uint64_t *ret_account)
{
    (void)arg, (void)p, (void)filter;
    *ret_account = 1;
    return REASON_ok;
}

static inline void on_flood(void *arg, const struct principal *p, uint64_t source, enum flood what,
                            struct flood_verdict *ret)
{
    (void)arg, (void)p, (void)source, (void)what;
    *ret = (struct flood_verdict){true, 10, 1000};
}

static inline void on_interest(void *arg, int change)
{
    (void)arg, (void)change;
}

static inline uint64_t on_durable(void *arg)
{
    (void)arg;
    return durable;
}

static inline bool on_vouches(void *arg, struct principal *p)
{
    (void)arg, (void)p;
    return true;
}

static inline uint64_t on_glance(void *arg, const struct principal *p, struct slice topic)
{
    (void)arg, (void)p, (void)topic;
    return 0;
}

static inline void on_glance_again(void *arg, uint64_t hint)
{
    (void)arg, (void)hint;
}

static inline bool on_known(void *arg, uint64_t of, struct slice filter, uint64_t *ret_floor)
{
    (void)arg, (void)of, (void)filter;
    *ret_floor = 0;
    return false;
}

static inline void turns(unsigned n)
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
static inline void pass_time(void)
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

static inline void put(struct client *c, const struct mqtt_packet *p)
{
    struct buf out;
    buf_init(&out, 1 << 16);
    mqtt_put(&out, MQTT_5, p);
    assert_int_equal(send(c->fd, out.ptr, out.len, MSG_NOSIGNAL), out.len);
    buf_fini(&out);
    turns(1);
}

/* The next packet, whose bytes are good until the next call. False: none has come. */
static inline bool receive(struct client *c, struct mqtt_packet *ret)
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

static inline struct mqtt_packet expect(struct client *c, enum mqtt_type type)
{
    struct mqtt_packet p;
    assert_true(receive(c, &p));
    assert_int_equal(p.type, type);
    return p;
}

/* A message of that position has come; returns its packet id. */
static inline uint16_t expect_message(struct client *c, uint64_t position, uint8_t qos)
{
    struct mqtt_packet p = expect(c, MQTT_PUBLISH);
    char said[24] = {0};
    assert_true(p.publish.payload.len < sizeof said);
    memcpy(said, p.publish.payload.ptr, p.publish.payload.len);
    assert_int_equal(strtoull(said, NULL, 10), position);
    assert_int_equal(p.publish.qos, qos);
    return p.id;
}

static inline void expect_nothing(struct client *c)
{
    struct mqtt_packet p;
    assert_false(receive(c, &p));
}

static inline void expect_end(struct client *c)
{
    char byte;
    expect(c, MQTT_DISCONNECT);
    expect_nothing(c);
    assert_int_equal(recv(c->fd, &byte, 1, MSG_DONTWAIT), 0);
}

/* CONNACK is still to come. */
static inline void send_connect(struct client *c, unsigned worker, const char *name, bool clean,
                                uint32_t expiry_s, uint16_t window)
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
                                      .clean = clean,
                                      .keep_alive = keep_alive_s,
                                      .client_id = slice_str(name),
                                      .username = SLICE("u"),
                                      .password = SLICE("u")};
    p.properties.has = 1ull << MQTT_SESSION_EXPIRY | 1ull << MQTT_RECEIVE_MAX;
    p.properties.session_expiry = expiry_s;
    p.properties.receive_max = window;
    put(c, &p);
}

static inline void connect_to(struct client *c, unsigned worker, const char *name,
                              uint32_t expiry_s, uint16_t window)
{
    send_connect(c, worker, name, true, expiry_s, window);
    assert_int_equal(expect(c, MQTT_CONNACK).code, 0);
}

static inline void send_subscribe(struct client *c, const char *filter, uint8_t qos)
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

static inline void subscribe(struct client *c, const char *filter, uint8_t qos)
{
    send_subscribe(c, filter, qos);
    assert_int_equal(expect(c, MQTT_SUBACK).list.ptr[0], qos);
}

/* At once, whatever the workers have to do first. */
static inline void unsubscribe_now(unsigned worker, const char *filter)
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
static inline void acknowledge(struct client *c, uint16_t id)
{
    put(c, &(struct mqtt_packet){.type = MQTT_PUBREC, .id = id});
    assert_int_equal(expect(c, MQTT_PUBREL).id, id);
    put(c, &(struct mqtt_packet){.type = MQTT_PUBCOMP, .id = id});
}

static inline void hang_up(struct client *c)
{
    if (c->fd < 0)
        return;
    close(c->fd);
    buf_fini(&c->got);
    *c = (struct client){.fd = -1};
    turns(4);
}

/* At once, whatever it is still owed. */
static inline void disconnect(struct client *c)
{
    put(c, &(struct mqtt_packet){.type = MQTT_DISCONNECT});
    hang_up(c);
}

/* It is durable, and all workers are brought it. Returns its position. */
static inline uint64_t publish(uint8_t qos)
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

static inline int open_all(void **state)
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
    keep_alive_s = 60;
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

static inline int close_all(void **state)
{
    (void)state;
    memset(holds, 0, sizeof holds);
    memset(refusals, 0, sizeof refusals);
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
static inline void two_members(uint32_t expiry_s, uint8_t qos, uint16_t window)
{
    connect_to(&a, 0, "a", expiry_s, window);
    subscribe(&a, FILTER, qos);
    connect_to(&b, 1, "b", expiry_s, window);
    subscribe(&b, FILTER, qos);
}

static inline void end_members(void)
{
    hang_up(&a);
    hang_up(&b);
}

/* ---- a group of tests ------------------------------------------------------------------------ */

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_all, close_all)

/* Once, before all of them. */
static inline int make_workers(void **state)
{
    (void)state;
    log_set_level(LOG_ERROR + 1);
    for (unsigned i = 0; i < WORKERS; i++)
        workers[i] = worker_new(i);
    make_credential();
    return 0;
}
