/* SPDX-License-Identifier: Apache-2.0 */
/*
 * MQTT connections from their first byte to their last: some clients on two workers, over plain
 * bytes or behind WebSocket, on real sockets, with front/mqtt_*.c whole and a pipeline that
 * accepts, refuses and delays as the input says. The input is a list of steps: packets that keep
 * the rules, any bytes, answers of the pipeline, messages from the journal, connections that break.
 *
 * Held: nothing fails a CHECK, leaks or touches what is not its own; and of a client that kept to
 * the rules until it was connected: what it gets are packets of its version, the first one a
 * CONNACK; no packet id is in use twice; an alias was set before it is used, and is one of those it
 * takes; no more messages are under way than it takes at a time.
 */
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"
#include "codec/mqtt.h"
#include "codec/websocket.h"
/* The loops of two workers are turned by hand. */
#include "conn/worker.c"
#include "flow/limits.h"
#include "flow/missed.h"
#include "flow/session_state.h"
#include "front/mqtt.h"
#include "fuzz.h"
#include "pipeline.h"

#define INPUT_MAX   4096u
#define WORKERS     2u
#define CLIENTS     5u
#define PENDING_MAX 256u
#define TURNS_MAX   100000u
#define TAKES_MAX   3u   /* Receive Maximum of those that say one */
#define ALIASES     2u   /* the same of topic aliases */
#define PACKETS_MAX 300u /* bytes; some clients take no more */

/* ---- what is drawn -----------------------------------------------------------------------------
 */

static const uint8_t *at, *end;

static unsigned below(unsigned n)
{
    return at < end ? *at++ % n : 0;
}

static const char *const topics[] = {"a/b",    "a/c", "u/f/x",
                                     "$SYS/x", "d",   "a/a-longer-topic/of-some-levels/x"};
static const char *const filters[] = {"a/b",        "#",         "a/+", "u/f/#", "$share/g/a/+",
                                      "$share/g/#", "$share//x", "d",   "$SYS/#"};
#define COUNT(list) ((unsigned)(sizeof(list) / sizeof *(list)))

/* ---- clients -----------------------------------------------------------------------------------
 */

struct client {
    int fd; /* -1: none */
    bool websocket, wild /* its bytes are not all known to be good */, connected, ended;
    enum mqtt_version version;
    unsigned front;
    uint32_t packet_max;
    uint16_t takes, aliases;
    uint16_t next_id;
    struct buf got, plain; /* frames, and what they carry */
    bool known[ALIASES + 1];
    uint16_t under_way[TAKES_MAX * 64]; /* packet ids */
    unsigned under_way_count;
    bool received[UINT16_MAX + 1u]; /* of QoS 2: PUBREC was sent */
};

static struct client clients[CLIENTS];
static struct worker *workers[WORKERS];
static struct mqtt_front *fronts[WORKERS];
static struct mqtt_sessions *sessions;
static struct mqtt_shares *shares;
static uint64_t durable, last_session;

static void client_send(struct client *c, struct slice bytes)
{
    struct buf frame;
    buf_init(&frame, bytes.len + 32);
    if (c->websocket && bytes.len) { /* the mask is zero: the bytes stay */
        char head[WEBSOCKET_HEAD_MAX];
        unsigned n = websocket_head(head, WEBSOCKET_BINARY, bytes.len);
        head[1] = (char)(head[1] | 0x80);
        buf_put(&frame, head, n);
        buf_put_u32(&frame, 0);
    }
    buf_put_slice(&frame, bytes);
    if (c->fd >= 0 && send(c->fd, frame.ptr, frame.len, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
        c->ended = true;
    buf_fini(&frame);
}

static void client_put(struct client *c, const struct mqtt_packet *p)
{
    struct buf out;
    buf_init(&out, 1 << 16);
    mqtt_put(&out, c->version, p);
    client_send(c, buf_slice(&out));
    buf_fini(&out);
}

static int find_id(const struct client *c, uint16_t id)
{
    for (unsigned i = 0; i < c->under_way_count; i++) {
        if (c->under_way[i] == id)
            return (int)i;
    }
    return -1;
}

static void forget_id(struct client *c, uint16_t id)
{
    int i = find_id(c, id);
    if (i >= 0)
        c->under_way[i] = c->under_way[--c->under_way_count];
    c->received[id] = false;
}

static void check_publish(struct client *c, const struct mqtt_packet *p)
{
    uint16_t alias = 0;
    if (mqtt_has(&p->properties, MQTT_TOPIC_ALIAS)) {
        alias = p->properties.topic_alias;
        CHECK(alias >= 1 && alias <= c->aliases);
        CHECK(p->publish.topic.len || c->known[alias]);
        c->known[alias] = true;
    }
    CHECK(p->publish.topic.len || alias);
    if (!p->publish.qos)
        return;
    CHECK(find_id(c, p->id) < 0 || p->publish.dup);
    if (find_id(c, p->id) < 0) {
        CHECK(c->under_way_count < COUNT(c->under_way));
        c->under_way[c->under_way_count++] = p->id;
    }
    CHECK(c->under_way_count <= (c->takes ? c->takes : 100u));
}

static void check_packet(struct client *c, const struct mqtt_packet *p)
{
    CHECK(p->size <= c->packet_max);
    if (!c->connected) {
        CHECK(p->type == MQTT_CONNACK);
        c->connected = !p->code;
        return;
    }
    CHECK(p->type != MQTT_CONNACK && p->type != MQTT_CONNECT && p->type != MQTT_AUTH);
    if (p->type == MQTT_PUBLISH)
        check_publish(c, p);
}

/* Frames of the server: not masked, never cut. */
static void unframe(struct client *c)
{
    size_t used = 0;
    while (c->got.len - used >= 2) {
        const uint8_t *head = (const uint8_t *)c->got.ptr + used;
        size_t len = head[1] & 127, more = len == 126 ? 2 : len == 127 ? 8 : 0;
        CHECK(!(head[1] & 128) && head[0] & 128);
        if (c->got.len - used < 2 + more)
            break;
        for (size_t i = 0, n = 0; more && i < more; i++)
            len = n = n << 8 | head[2 + i];
        if (c->got.len - used - 2 - more < len)
            break;
        if ((head[0] & 15) == WEBSOCKET_BINARY)
            buf_put(&c->plain, head + 2 + more, len);
        used += 2 + more + len;
    }
    buf_consume(&c->got, used);
}

static void look(struct client *c)
{
    struct buf *in = c->websocket ? &c->plain : &c->got;
    const struct mqtt_reader reader = {c->version, false, UINT32_MAX};
    struct mqtt_packet p;
    struct mqtt_bad why;
    char block[4096];
    ssize_t n;
    if (c->fd < 0)
        return;
    while ((n = recv(c->fd, block, sizeof block, MSG_DONTWAIT)) > 0)
        buf_put(&c->got, block, (size_t)n);
    c->ended |= n == 0;
    if (c->wild) {
        buf_clear(&c->got);
        return;
    }
    if (c->websocket)
        unframe(c);
    size_t used = 0;
    while (used < in->len) {
        enum mqtt_outcome outcome = mqtt_parse(slice_from(buf_slice(in), used), &reader, &p, &why);
        if (outcome == MQTT_MORE)
            break;
        CHECK(outcome == MQTT_DONE);
        check_packet(c, &p);
        used += p.size;
    }
    buf_consume(in, used);
    CHECK(!in->failed);
}

/* ---- a pipeline --------------------------------------------------------------------------------
 */

struct pending {
    struct exchange *x;
    bool kept;
};
static struct pending pending[PENDING_MAX];
static unsigned pending_count;
static struct account *account;
static struct credential *credential;

static void make_credential(void)
{
    char *text;
    account = account_new(2);
    credential = credential_new(2);
    CHECK(account && credential);
    text = (char *)(account + 1);
    account->name = record_text(&text, SLICE("u"));
    account->number = 1;
    account->topics = TOPICS_ANY;
    account->live = calloc(1, sizeof *account->live);
    CHECK(account->live);
    text = (char *)(credential + 1);
    credential->name = record_text(&text, SLICE("d"));
    credential->number = 5;
    credential->account = account;
    credential->permissions = PERM_data_read | PERM_data_write;
}

static void put_session(struct exchange *x)
{
    struct session_record r;
    struct buf *out = &x->reply.body;
    CHECK(session_record_decode(x->request.body, &r));
    buf_clear(out);
    bool there = r.expiry_s || r.will.topic.ptr, present = there && below(2);
    uint64_t floor = durable > 5 ? durable - below(5) : 0;
    session_state_put(out, &(struct session_state){.number = there ? ++last_session : 0,
                                                   .floor = present ? floor : durable,
                                                   .present = present});
    for (unsigned n = present ? below(4) : 0; n; n--) {
        struct session_item item = {session_place(floor + n, below(3)), (uint16_t)n,
                                    (uint8_t)(1 + below(2))};
        struct session_filter f = {.filter = slice_str(filters[below(COUNT(filters))]),
                                   .qos = (uint8_t)below(3),
                                   .id = below(3)};
        switch (below(4)) {
        case 0:
            session_state_put_received(out, (uint16_t)(1 + below(3)));
            break;
        case 1:
            session_state_put_sub(out, &f, floor);
            break;
        case 2: {
            bool shared = below(2);
            session_state_put_sent(out, &item, item.qos == 2 && below(2), shared,
                                   shared && below(2));
            break;
        }
        default:
            session_state_put_acked(out, item.place);
            break;
        }
    }
    CHECK(!out->failed);
}

static struct slice on_payload(void *arg)
{
    (void)arg;
    return SLICE("payload");
}

static struct live_message draw_message(uint64_t place)
{
    return (struct live_message){.account = 1,
                                 .client = below(3),
                                 .place = place,
                                 .topic = slice_str(topics[below(COUNT(topics))]),
                                 .permission = PERM_data_read,
                                 .payload = on_payload,
                                 .published = below(2),
                                 .retain = below(2),
                                 .qos = (uint8_t)below(3),
                                 .expires_us = below(4) ? INT64_MAX : 1};
}

static void read_missed(struct missed *m)
{
    if (m->what == MISSED_COLLECT) {
        uint64_t place = m->from;
        unsigned count = below(8);
        free(m->places);
        m->places = calloc(count + 1ul, sizeof *m->places);
        CHECK(m->places);
        for (m->places_count = 0; count && place < session_place(m->to, 0); count--) {
            m->places[m->places_count++] = place;
            place += 1 + below(20);
        }
        return;
    }
    m->places_read = m->places_count ? 1 + below(m->places_count) : 0;
    for (uint32_t i = 0; i < m->places_read; i++) {
        struct live_message message = draw_message(m->places[i]);
        message.qos = 2; /* what was sent above QoS 0 was not published with it */
        if (below(4))    /* else it is gone */
            missed_put(m, &message);
    }
}

static void accept_it(struct exchange *x)
{
    struct request *q = &x->request;
    x->reply.status = 200;
    if (q->method == METHOD_CONNECT) {
        q->principal->generation = 0;
        q->principal->credential = credential_ref(credential);
    } else if (q->method == METHOD_SESSION && q->path.len) {
        put_session(x);
    } else if (q->method == METHOD_MISSED) {
        read_missed(q->missed);
    } else {
        durable++;
    }
    exchange_send(x);
}

/* `here`: the request's bytes are. */
static void refuse_it(struct exchange *x, bool here)
{
    static const enum reason ours[] = {REASON_journal_failed, REASON_busy, REASON_outcome_unknown};
    static const enum reason theirs[] = {REASON_throttled, REASON_bad_topic, REASON_revoked,
                                         REASON_bad_key, REASON_forbidden};
    enum reason reason = here && below(2) ? theirs[below(COUNT(theirs))] : ours[below(COUNT(ours))];
    if (x->request.method == METHOD_SESSION || x->request.method == METHOD_MISSED)
        reason = ours[below(2)];
    x->reply.retry_ns = below(2);
    exchange_refuse(x, reason, NULL);
}

static void answer(struct pending p, unsigned how)
{
    if (how % 4)
        accept_it(p.x);
    else
        refuse_it(p.x, p.kept);
}

/* At once, or later; kept or not: nobody looks at a request that is not after the turn. */
static void on_handle(void *arg, struct exchange *x)
{
    unsigned how = below(12);
    (void)arg;
    bool must_keep = x->request.method == METHOD_CONNECT || x->request.method == METHOD_MISSED;
    if (how < 4 || pending_count == PENDING_MAX) {
        if (x->request.method == METHOD_PUBLISH && x->request.path.len > 2 && how == 3) {
            buf_put_str(&x->reply.body, "an answer");
            x->reply.answers_on = x->request.path.len - 1;
        }
        answer((struct pending){x, true}, how);
        return;
    }
    struct pending p = {x, must_keep || how < 8};
    if (p.kept)
        exchange_keep(x);
    if (p.kept && !must_keep && how < 6)
        exchange_release(x);
    pending[pending_count++] = p;
}

static void answer_one(bool oldest)
{
    if (!pending_count)
        return;
    unsigned i = oldest ? 0 : below(pending_count);
    struct pending p = pending[i];
    memmove(pending + i, pending + i + 1, (--pending_count - i) * sizeof *pending);
    answer(p, below(8) + 1);
}

static enum reason on_may_subscribe(void *arg, struct principal *p, struct slice filter,
                                    uint64_t *ret_account)
{
    (void)arg;
    *ret_account = filter.ptr[0] == '$' ? LIVE_OF_NOBODY : 1;
    return !p->credential                 ? REASON_revoked
           : slice_eq(filter, SLICE("d")) ? REASON_forbidden
                                          : REASON_ok;
}

static void on_flood(void *arg, const struct principal *p, uint64_t source, enum flood what,
                     struct flood_verdict *ret)
{
    (void)arg, (void)p, (void)source, (void)what;
    *ret = (struct flood_verdict){below(16) != 1, below(10), 1000};
}

static void publish_on(unsigned i, const struct live_message *m)
{
    struct live_ops live = mqtt_front_live(fronts[i]);
    if (live.wants(live.arg, m->account))
        live.publish(live.arg, m);
}

static void on_tell(void *arg, const struct live_message *m)
{
    publish_on((unsigned)(uintptr_t)arg, m);
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

static enum live_step on_next_retained(void *arg, const struct principal *p, struct slice filter,
                                       struct slice after, uint64_t before, struct buf *storage,
                                       struct live_message *ret, struct slice *ret_payload)
{
    (void)arg, (void)p, (void)filter, (void)before, (void)storage;
    *ret = (struct live_message){.account = 1, .topic = SLICE("a/b"), .place = 1};
    if (after.ptr || below(2))
        return LIVE_END;
    ret->published = ret->retained = true;
    ret->qos = (uint8_t)below(3);
    ret->expires_us = INT64_MAX;
    *ret_payload = SLICE("kept");
    return LIVE_ONE;
}

static bool on_vouches(void *arg, struct principal *p)
{
    (void)arg, (void)p;
    return true;
}

static uint64_t on_glance(void *arg, const struct principal *p, struct slice topic)
{
    (void)arg, (void)p;
    return topic.len;
}

static void on_glance_again(void *arg, uint64_t hint)
{
    (void)arg, (void)hint;
}

/* ---- turns -------------------------------------------------------------------------------------
 */

static bool turn(void)
{
    bool more = false;
    for (unsigned i = 0; i < WORKERS; i++) {
        uv_run(worker_loop(workers[i]), UV_RUN_NOWAIT);
        run_mail(workers[i]);
        do { /* whoever came first: how many a turn has time for must not matter */
            workers[i]->toiled_ns = 0;
            stream_go_on(workers[i]);
            worker_settle(workers[i]);
        } while (stream_lists_wait(&workers[i]->streams));
        more |= mqtt_front_flush(fronts[i]);
        workers[i]->now_ns = 0;
    }
    for (unsigned i = 0; i < CLIENTS; i++)
        look(&clients[i]);
    return more;
}

static void turns(unsigned n)
{
    while (n--)
        (void)turn();
}

static bool on_known(void *arg, uint64_t of, struct slice filter, uint64_t *ret_floor)
{
    (void)arg;
    (void)of;
    CHECK(slice_starts(filter, SLICE("$share/")));
    *ret_floor = below(4);
    return below(2);
}

static void open_all(void)
{
    sessions = mqtt_sessions_new();
    shares = mqtt_shares_new(&(struct mqtt_shares_opts){.born = 5, .known = on_known});
    for (unsigned i = 0; i < WORKERS; i++) {
        const struct mqtt_opts opts = {
            .worker = workers[i],
            .tune = {NS_PER_S * 3600, NS_PER_S * 3600, 60, 100, below(2), 3},
            .packet_max = 2000,
            .connect_max = 1000,
            .receive_max = 4,
            .alias_max = 3,
            .stage_bytes = 16,
            .sessions = sessions,
            .shares = shares,
            .handle = on_handle,
            .subscriptions_max = 6,
            .queue_bytes = 400,
            .may_subscribe = on_may_subscribe,
            .flood = on_flood,
            .tell = on_tell,
            .interest = on_interest,
            .durable = on_durable,
            .next_retained = on_next_retained,
            .vouches = on_vouches,
            .glance = on_glance,
            .glance_again = on_glance_again,
            .arg = (void *)(uintptr_t)i,
        };
        fronts[i] = mqtt_front_new(&opts);
    }
    durable = 10;
    last_session = 0;
    pending_count = 0;
}

static bool all_gone(void)
{
    for (unsigned i = 0; i < WORKERS; i++) {
        if (mqtt_front_connections(fronts[i]))
            return false;
    }
    return !pending_count && mqtt_shares_idle(shares);
}

static void hang_up(struct client *c)
{
    if (c->fd >= 0)
        close(c->fd);
    buf_fini(&c->got);
    buf_fini(&c->plain);
    memset(c, 0, sizeof *c);
    c->fd = -1;
}

static void close_all(bool in_order)
{
    at = end; /* whatever is asked from now on is accepted */
    for (unsigned i = 0; i < WORKERS; i++) {
        if (in_order)
            mqtt_front_stop(fronts[i]);
        else
            mqtt_front_abort(fronts[i]);
    }
    turns(2);
    for (unsigned i = 0; i < CLIENTS; i++)
        hang_up(&clients[i]);
    for (unsigned i = 0; !all_gone(); i++) {
        CHECK(i < TURNS_MAX);
        answer_one(true);
        (void)turn();
        if (i == 1000) {
            mqtt_front_abort(fronts[0]);
            mqtt_front_abort(fronts[1]);
        }
    }
    turns(2);
    for (unsigned i = 0; i < WORKERS; i++)
        mqtt_front_free(fronts[i]);
    mqtt_sessions_free(sessions);
    mqtt_shares_free(shares);
}

/* ---- steps -------------------------------------------------------------------------------------
 */

static void begin(struct client *c)
{
    int pair[2];
    hang_up(c);
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) == 0);
    c->fd = pair[1];
    c->websocket = below(4) == 3;
    c->front = below(WORKERS);
    c->packet_max = MQTT_LENGTH_MAX;
    buf_init(&c->got, 1 << 22);
    buf_init(&c->plain, 1 << 22);
    struct stream *s = stream_new(workers[c->front], pair[0]);
    CHECK(s && (!c->websocket || stream_begin_websocket(s)));
    CHECK(mqtt_accept(fronts[c->front], s));
    stream_begin(s);
}

static void send_connect(struct client *c)
{
    static const enum mqtt_version versions[] = {MQTT_5, MQTT_3_1_1, MQTT_5, MQTT_3_1};
    static const char *const names[] = {"a", "b", "", "c"};
    static const uint16_t takes[] = {0, 1, TAKES_MAX, 0};
    struct mqtt_packet p = {.type = MQTT_CONNECT};
    struct mqtt_connect *k = &p.connect;
    if (c->version)
        c->wild = true; /* the second one */
    c->version = versions[below(4)];
    *k = (struct mqtt_connect){.version = c->version, .clean = below(2), .keep_alive = 60};
    k->client_id = slice_str(names[below(4)]);
    k->username = k->password = SLICE("u");
    if (!k->client_id.len && c->version != MQTT_5)
        k->clean = true;
    unsigned with = below(64);
    if (with & 1) {
        k->has_will = true;
        k->will_qos = with >> 1 & 1;
        k->will_topic = SLICE("a/b");
        k->will_payload = SLICE("gone");
        if (with & 4) {
            k->will.has = 1ull << MQTT_WILL_DELAY;
            k->will.will_delay = 5;
        }
    }
    if (c->version == MQTT_5 && with & 8) {
        p.properties.has |= 1ull << MQTT_SESSION_EXPIRY;
        p.properties.session_expiry = with & 4 ? 50 : 500;
    }
    if (c->version == MQTT_5) {
        c->takes = takes[below(4)];
        c->aliases = with & 16 ? ALIASES : 0;
        c->packet_max = with & 32 ? PACKETS_MAX : MQTT_LENGTH_MAX;
        p.properties.has |= (c->takes ? 1ull << MQTT_RECEIVE_MAX : 0) |
                            (c->aliases ? 1ull << MQTT_TOPIC_ALIAS_MAX : 0) |
                            (with & 32 ? 1ull << MQTT_MAXIMUM_PACKET : 0);
        p.properties.receive_max = c->takes;
        p.properties.topic_alias_max = c->aliases;
        p.properties.maximum_packet = c->packet_max;
    }
    client_put(c, &p);
}

static void send_publish(struct client *c)
{
    struct mqtt_packet p = {.type = MQTT_PUBLISH};
    unsigned with = below(32);
    p.publish = (struct mqtt_publish){.topic = slice_str(topics[below(COUNT(topics))]),
                                      .payload = SLICE("on"),
                                      .qos = (uint8_t)(with % 3),
                                      .retain = with & 4};
    p.id = p.publish.qos ? (uint16_t)(1 + ++c->next_id % 8) : 0;
    if (c->version == MQTT_5 && with & 8) {
        p.properties.has |= 1ull << MQTT_TOPIC_ALIAS;
        p.properties.topic_alias = (uint16_t)(1 + below(3));
        if (with & 16)
            p.publish.topic = SLICE("");
    }
    client_put(c, &p);
}

static void send_filters(struct client *c, enum mqtt_type type)
{
    struct mqtt_packet p = {.type = type, .id = 7};
    struct buf list;
    buf_init(&list, 4096);
    for (unsigned n = 1 + below(3); n; n--) {
        struct mqtt_filter f = {.filter = slice_str(filters[below(COUNT(filters))]),
                                .qos = (uint8_t)below(3),
                                .retain_handling = (uint8_t)below(3)};
        unsigned with = below(16);
        f.no_local = (with & 3) == 1 && f.filter.ptr[0] != '$';
        f.as_published = with & 4;
        mqtt_put_filter(&list, type, c->version, &f);
    }
    if (c->version == MQTT_5 && type == MQTT_SUBSCRIBE && below(2)) {
        p.properties.has = 1ull << MQTT_SUBSCRIPTION_ID;
        p.properties.subscription_id = 1 + below(5);
        mqtt_put_id(&list, 1); /* room; see below */
        list.len -= 2;
    }
    p.list = buf_slice(&list);
    struct buf raw;
    buf_init(&raw, 16);
    if (p.properties.has)
        mqtt_put_id(&raw, p.properties.subscription_id);
    p.properties.raw = buf_slice(&raw);
    client_put(c, &p);
    buf_fini(&raw);
    buf_fini(&list);
}

/* For something that is under way, or for nothing. */
static void send_ack(struct client *c)
{
    static const enum mqtt_type types[] = {MQTT_PUBACK, MQTT_PUBREC, MQTT_PUBCOMP, MQTT_PUBREL};
    enum mqtt_type type = types[below(4)];
    uint16_t id = (uint16_t)(1 + below(8));
    if (type != MQTT_PUBREL && c->under_way_count)
        id = c->under_way[below(c->under_way_count)];
    struct mqtt_packet p = {.type = type, .id = id};
    if (c->version == MQTT_5 && type != MQTT_PUBREL && type != MQTT_PUBCOMP && below(4) == 3)
        p.code = MQTT_QUOTA;
    client_put(c, &p);
    /* Whether it was of QoS 1 or 2 the client forgets: with either it may be used again. */
    if (type == MQTT_PUBACK || type == MQTT_PUBCOMP || p.code)
        forget_id(c, id);
}

static void send_raw(struct client *c)
{
    size_t len = below(64);
    if (len > (size_t)(end - at))
        len = (size_t)(end - at);
    c->wild = true;
    client_send(c, slice_of(at, len));
    at += len;
}

static void send_end(struct client *c)
{
    struct mqtt_packet p = {.type = MQTT_DISCONNECT};
    if (c->version == MQTT_5 && below(2))
        p.code = MQTT_DISCONNECT_WITH_WILL;
    client_put(c, &p);
}

static void bring_batch(void)
{
    uint64_t first = durable + (below(8) == 7 ? 3 : 0); /* something was not brought */
    durable = first + 1;
    const uint8_t *before = at;
    for (unsigned i = 0; i < WORKERS; i++) {
        struct live_ops live = mqtt_front_live(fronts[i]);
        at = before; /* the same for all */
        struct live_message m = draw_message(session_place(first, below(3)));
        live.begin(live.arg, first);
        publish_on(i, &m);
        live.end(live.arg, first + 1);
    }
}

static void step(void)
{
    struct client *c = &clients[below(CLIENTS)];
    unsigned what = below(16);
    if (c->fd < 0 || what == 0) {
        begin(c);
        send_connect(c);
    } else if (what == 1) {
        send_connect(c);
    } else if (what <= 3) {
        send_publish(c);
    } else if (what <= 5) {
        send_filters(c, MQTT_SUBSCRIBE);
    } else if (what == 6) {
        send_filters(c, MQTT_UNSUBSCRIBE);
    } else if (what <= 8) {
        send_ack(c);
    } else if (what == 9) {
        send_raw(c);
    } else if (what == 10) {
        send_end(c);
    } else if (what == 11) {
        hang_up(c);
    } else if (what == 12) {
        answer_one(true);
    } else if (what == 13) {
        answer_one(false);
    } else {
        bring_batch();
    }
    if (below(4))
        turns(1 + below(3));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > INPUT_MAX)
        return 0;
    for (unsigned i = 0; i < WORKERS && !workers[i]; i++) {
        workers[i] = worker_new(i);
        log_set_level(LOG_ERROR + 1);
    }
    if (!credential)
        make_credential();
    at = data;
    end = data + size;
    for (unsigned i = 0; i < CLIENTS; i++)
        clients[i].fd = -1;
    open_all();
    while (at < end)
        step();
    turns(2);
    close_all(size % 2);
    return 0;
}
