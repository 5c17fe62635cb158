/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Model.
 * 1. A connection: CONNECTING -> LOGIN -> UP (a subscriber: SUBSCRIBING before it); any of them ->
 *    CLOSING -> WAITING -> CONNECTING, or -> GONE. WAITING only with --reconnect; a login that is
 *    refused is never tried again.
 * 2. Publishers send nothing before all subscribers have been told that they have subscribed.
 * 3. QoS 1: at most `window` messages are unacknowledged; their packet ids are 1 to window, and
 *    the free ones lie in a stack. QoS 0: a PINGREQ goes behind each part of the window, and what
 *    was sent before it counts as answered when its PINGRESP comes (a server reads a connection in
 *    order); PINGS_MAX of them are under way at most.
 * 4. What is to be sent is gathered in `out` and leaves in one write; while the kernel has not
 *    taken all of that, publishers add nothing.
 */
#include "load/mqtt_client.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/clock.h"
#include "load/message.h"
#include "load/run.h"
#include "load/wire.h"

#define RECONNECT_NS (200 * NS_PER_MS)
#define OUT_BYTES    (64u << 10) /* a write of a publisher, or one message if that is larger */
#define PACKET_MAX   (4u << 20)
#define ACKS_MAX     (16u << 20) /* bytes of PUBACKs that a subscriber's server does not take */
#define PINGS_MAX    4u
#define PING_BYTES   2u

enum state {
    STATE_GONE,
    STATE_CONNECTING,
    STATE_LOGIN,
    STATE_SUBSCRIBING,
    STATE_UP,
    STATE_CLOSING,
    STATE_WAITING,
};

/* Messages of QoS 0 that one PINGREQ stands behind. */
struct ping {
    uint32_t messages;
    uint64_t began_ns; /* of the oldest */
};

/* A message of QoS 1 that has no answer yet. */
struct flight {
    uint64_t began_ns; /* 0: none with this packet id */
    uint64_t sequence;
    uint32_t feed;
};

struct mqtt_client;

struct mqtt_link {
    struct wire wire;
    struct mqtt_client *client;
    const struct fleet_device *device;
    enum state state;
    bool subscriber;
    bool refused;       /* its login was */
    bool reopen;        /* at once, whatever --reconnect says */
    bool thinks;        /* publishes nothing before retry_ns: --think */
    uint32_t window;    /* as in force: the server may allow less */
    uint32_t unacked;   /* QoS 0: not known to be read */
    uint64_t heard_ns;  /* of the last bytes, or since when something is awaited */
    uint64_t wanted_ns; /* since when it is to be logged in; 0: it is */
    uint64_t retry_ns;  /* WAITING; or publishes not before */
    struct message message;
    uint16_t *free_ids;                           /* a stack of window - unacked */
    struct flight *flights;                       /* by packet id - 1 */
    struct ping pings[PINGS_MAX + 1], *last_ping; /* oldest first; *last_ping is not sent yet */
    struct buf out;
    struct buf partial; /* the beginning of a packet whose end is still to come */
};

struct mqtt_client {
    struct run run;
    const struct load_opts *opts;
    const struct fleet *fleet;
    struct result *result;
    struct proof *proof;
    uint64_t sequence;       /* the next one */
    struct mqtt_link *links; /* publishers, then subscribers */
    uint32_t links_count;
    uint32_t ready;   /* subscribers that have subscribed */
    uint32_t next;    /* open loop: the publisher whose turn it is */
    uint32_t unacked; /* of all */
    struct wires wires;
};

static void link_open(struct mqtt_link *l);
static void link_fill(struct mqtt_link *l, uint64_t now);

/* ---- the end of a connection ---- */

static void on_closed(void *owner)
{
    struct mqtt_link *l = owner;
    struct mqtt_client *cl = l->client;
    buf_clear(&l->out);
    buf_clear(&l->partial);
    if ((cl->opts->reconnect || l->reopen) && !l->refused && run_sending(&cl->run)) {
        l->state = STATE_WAITING;
        if (l->reopen)
            link_open(l);
        return;
    }
    l->state = STATE_GONE;
    cl->run.alive--;
}

/* `error`: libuv's, 0 when nothing went wrong. */
static void link_close(struct mqtt_link *l, int error)
{
    struct mqtt_client *cl = l->client;
    if (l->state == STATE_CLOSING || l->state == STATE_GONE || l->state == STATE_WAITING)
        return;
    if (l->unacked)
        *(cl->run.storming ? &cl->result->dropped : &cl->result->broken) += 1;
    if (l->subscriber && l->state == STATE_UP)
        cl->ready--;
    cl->unacked -= l->unacked;
    l->unacked = 0;
    l->thinks = false;
    if (error)
        cl->result->last_error = error;
    l->retry_ns = clock_mono_ns() + RECONNECT_NS / 2 + rand_below(&cl->run.rand, RECONNECT_NS / 2);
    l->state = STATE_CLOSING;
    wire_close(&l->wire);
}

static void bad_packet(struct mqtt_link *l)
{
    l->client->result->bad_responses++;
    link_close(l, UV_EPROTO);
}

/* ---- sending ---- */

/* Sends what is in `out`, unless the kernel has not taken what was before it. */
static void link_flush(struct mqtt_link *l)
{
    if (!l->out.len || wire_busy(&l->wire) || l->state == STATE_CLOSING)
        return;
    l->client->result->bytes_sent += l->out.len;
    int rc = wire_send(&l->wire, buf_slice(&l->out));
    buf_clear(&l->out);
    if (rc < 0)
        link_close(l, rc);
}

static bool may_publish(const struct mqtt_link *l)
{
    const struct mqtt_client *cl = l->client;
    return l->state == STATE_UP && !l->subscriber && !l->thinks && !wire_busy(&l->wire) &&
           l->unacked < l->window && l->out.len + l->message.len + PING_BYTES <= l->out.max &&
           cl->ready == cl->opts->subscribers && run_sending(&cl->run);
}

/* One message into `out`. */
static void put_message(struct mqtt_link *l, uint64_t began_ns)
{
    struct mqtt_client *cl = l->client;
    uint16_t id = 0;
    const struct template_values values = {
        .feed = (uint32_t)rand_below(&cl->run.rand, cl->opts->feeds),
        .due_ns = began_ns,
        .sequence = cl->sequence++,
        .rand = &cl->run.rand,
    };
    if (l->free_ids) {
        id = l->free_ids[l->window - l->unacked - 1];
        l->flights[id - 1] =
            (struct flight){.began_ns = began_ns, .sequence = values.sequence, .feed = values.feed};
    } else if (l->last_ping->messages++ == 0) {
        l->last_ping->began_ns = began_ns;
    }
    if (cl->opts->sequenced)
        proof_sent(cl->proof, values.sequence);
    message_put(&l->message, l->out.ptr + l->out.len, id, &values);
    l->out.len += l->message.len;
    l->unacked++;
    cl->unacked++;
    cl->run.started++;
    cl->result->sent++;
}

/* QoS 0: a PINGREQ behind what was put, if it is time for one. */
static void put_ping(struct mqtt_link *l)
{
    if (l->free_ids || l->last_ping->messages == 0)
        return;
    size_t under_way = (size_t)(l->last_ping - l->pings);
    if (under_way == PINGS_MAX || (under_way > 0 && l->last_ping->messages < l->window / PINGS_MAX))
        return;
    mqtt_put_empty(&l->out, MQTT_PINGREQ);
    *++l->last_ping = (struct ping){0};
}

static void link_send(struct mqtt_link *l, uint32_t was_unacked, uint64_t now)
{
    if (was_unacked == 0)
        l->heard_ns = now;
    put_ping(l);
    link_flush(l);
}

/* Closed loop: sends as much as may be under way. */
static void link_fill(struct mqtt_link *l, uint64_t now)
{
    if (l->client->opts->rate > 0) {
        link_send(l, 1, now);
        return;
    }
    while (may_publish(l)) {
        uint32_t was_unacked = l->unacked;
        do
            put_message(l, now);
        while (may_publish(l));
        link_send(l, was_unacked, now);
    }
    link_send(l, 1, now); /* also when nothing may be published: QoS 0 needs its PINGREQ then */
}

/* Open loop: gives each message that is due to the next connection that has room for it. */
static void pump(void *owner)
{
    struct mqtt_client *cl = owner;
    uint64_t now = clock_mono_ns();
    uint32_t tried = 0;
    while (tried < cl->opts->connections && run_sending(&cl->run)) {
        uint64_t at = run_due_ns(&cl->run);
        if (at > now)
            break;
        struct mqtt_link *l = &cl->links[cl->next];
        cl->next = cl->next + 1 < cl->opts->connections ? cl->next + 1 : 0;
        if (may_publish(l)) {
            if (!l->unacked)
                l->heard_ns = now;
            cl->run.scheduled++;
            put_message(l, at);
            tried = 0;
        } else {
            tried++;
        }
    }
    for (uint32_t i = 0; i < cl->opts->connections; i++) {
        if (cl->links[i].state == STATE_UP)
            link_send(&cl->links[i], 1, now);
    }
    if (tried == cl->opts->connections || !run_sending(&cl->run))
        run_wait(&cl->run);
    else
        run_wake_at(&cl->run, run_due_ns(&cl->run), now);
}

/* ---- receiving ---- */

static void count_answer(struct mqtt_client *cl, uint64_t began_ns, uint8_t code, uint64_t now)
{
    result_answer(cl->result, now - began_ns, code, code >= 0x80);
}

/* 0x80 says nothing of how far it got; all above it are refusals. */
static void settle(struct mqtt_link *l, const struct flight *f, uint8_t code)
{
    struct proof *p = l->client->proof;
    if (!l->client->opts->sequenced)
        return;
    const struct ack ack = {
        .sequence = f->sequence,
        .device = l->device,
        .feed = feeds_number(&p->feeds, l->device, f->feed),
    };
    proof_settle(p,
                 code < 0x80   ? LEDGER_ACKED
                 : code > 0x80 ? LEDGER_REFUSED
                               : LEDGER_UNKNOWN,
                 &ack);
}

/* Between an answer and the next message. */
static void think(struct mqtt_link *l, uint64_t now)
{
    if (l->client->opts->think_ns) {
        l->thinks = true;
        l->retry_ns = now + run_think_ns(&l->client->run);
    }
}

static bool take_ack(struct mqtt_link *l, uint16_t id, uint8_t code, uint64_t now)
{
    if (!l->free_ids || id == 0 || id > l->window || l->flights[id - 1].began_ns == 0) {
        bad_packet(l);
        return false;
    }
    count_answer(l->client, l->flights[id - 1].began_ns, code, now);
    settle(l, &l->flights[id - 1], code);
    l->flights[id - 1].began_ns = 0;
    l->free_ids[l->window - l->unacked] = id;
    l->unacked--;
    l->client->unacked--;
    think(l, now);
    return true;
}

static void take_pong(struct mqtt_link *l, uint64_t now)
{
    if (l->free_ids || l->last_ping == l->pings) {
        bad_packet(l);
        return;
    }
    struct ping first = l->pings[0];
    memmove(l->pings, l->pings + 1, (size_t)(l->last_ping - l->pings) * sizeof first);
    l->last_ping--;
    for (uint32_t i = 0; i < first.messages; i++)
        count_answer(l->client, first.began_ns, MQTT_SUCCESS, now);
    l->unacked -= first.messages;
    l->client->unacked -= first.messages;
    think(l, now);
}

/* All packet ids are free. */
static void reset_window(struct mqtt_link *l, const struct mqtt_packet *connack)
{
    l->window = l->client->opts->window;
    if (mqtt_has(&connack->properties, MQTT_RECEIVE_MAX) && l->free_ids &&
        connack->properties.receive_max < l->window)
        l->window = connack->properties.receive_max;
    for (uint32_t i = 0; l->free_ids && i < l->window; i++) {
        l->free_ids[i] = (uint16_t)(l->window - i);
        l->flights[i].began_ns = 0;
    }
    l->last_ping = l->pings;
    l->pings[0] = (struct ping){0};
}

static void publishers_begin(struct mqtt_client *cl)
{
    uint64_t now = clock_mono_ns();
    if (cl->opts->rate > 0)
        pump(cl);
    for (uint32_t i = 0; cl->opts->rate == 0 && i < cl->opts->connections; i++)
        link_fill(&cl->links[i], now);
}

static void take_connack(struct mqtt_link *l, const struct mqtt_packet *p)
{
    struct mqtt_client *cl = l->client;
    if (l->state != STATE_LOGIN) {
        bad_packet(l);
        return;
    }
    if (p->code) {
        cl->result->logins_refused++;
        cl->result->login_code = p->code;
        l->refused = true;
        link_close(l, 0);
        return;
    }
    reset_window(l, p);
    histogram_add(&cl->result->connects, clock_mono_ns() - l->wanted_ns);
    l->wanted_ns = 0;
    l->state = l->subscriber ? STATE_SUBSCRIBING : STATE_UP;
    if (!l->subscriber) {
        if (cl->opts->rate > 0)
            pump(cl);
        return;
    }
    struct buf list;
    buf_init(&list, UINT16_MAX + 16);
    const struct mqtt_filter f = {.filter = slice_str(cl->opts->subscribe),
                                  .qos = (uint8_t)cl->opts->qos};
    mqtt_put_filter(&list, MQTT_SUBSCRIBE, cl->opts->mqtt, &f);
    const struct mqtt_packet subscribe = {
        .type = MQTT_SUBSCRIBE, .id = 1, .list = buf_slice(&list)};
    mqtt_put(&l->out, cl->opts->mqtt, &subscribe);
    buf_fini(&list);
}

static void take_suback(struct mqtt_link *l, const struct mqtt_packet *p)
{
    struct mqtt_client *cl = l->client;
    if (l->state != STATE_SUBSCRIBING || p->list.len != 1) {
        bad_packet(l);
        return;
    }
    if ((uint8_t)p->list.ptr[0] >= 0x80) {
        cl->result->logins_refused++;
        cl->result->login_code = (uint8_t)p->list.ptr[0];
        l->refused = true;
        link_close(l, 0);
        return;
    }
    l->state = STATE_UP;
    if (++cl->ready == cl->opts->subscribers)
        publishers_begin(cl);
}

/* A message came to a subscriber. */
static void take_message(struct mqtt_link *l, const struct mqtt_packet *p, uint64_t now)
{
    struct result *res = l->client->result;
    uint64_t at;
    if (p->publish.qos == 1)
        mqtt_put_ack(&l->out, l->client->opts->mqtt, MQTT_PUBACK, p->id, MQTT_SUCCESS);
    if (!message_time(p->publish.payload, &at) || at > now || at < res->began_ns)
        return; /* somebody else's, or of the warm-up */
    res->delivered++;
    histogram_add(&res->delivery, now - at);
}

static void take_packet(struct mqtt_link *l, const struct mqtt_packet *p, uint64_t now)
{
    switch (p->type) {
    case MQTT_CONNACK:
        take_connack(l, p);
        break;
    case MQTT_PUBACK:
        take_ack(l, p->id, p->code, now);
        break;
    case MQTT_PINGRESP:
        take_pong(l, now);
        break;
    case MQTT_SUBACK:
        take_suback(l, p);
        break;
    case MQTT_PUBLISH:
        take_message(l, p, now);
        break;
    case MQTT_DISCONNECT:
        l->client->result->closed++;
        link_close(l, 0);
        break;
    default:
        bad_packet(l);
    }
}

/* Takes all whole packets; how many bytes they were. */
static size_t take_all(struct mqtt_link *l, struct slice in, uint64_t now)
{
    const struct mqtt_reader reader = {.version = l->client->opts->mqtt, .packet_max = PACKET_MAX};
    struct mqtt_packet p;
    struct mqtt_bad b;
    size_t used = 0;
    while (used < in.len && l->state != STATE_CLOSING) {
        const uint8_t *at = (const uint8_t *)in.ptr + used;
        if (in.len - used >= 4 && at[0] == MQTT_PUBACK << 4 && at[1] == 2) { /* most are these */
            if (take_ack(l, (uint16_t)(at[2] << 8 | at[3]), MQTT_SUCCESS, now))
                used += 4;
            continue;
        }
        enum mqtt_outcome outcome = mqtt_parse(slice_from(in, used), &reader, &p, &b);
        if (outcome == MQTT_MORE)
            break;
        if (outcome == MQTT_BAD) {
            bad_packet(l);
            break;
        }
        used += p.size;
        take_packet(l, &p, now);
    }
    return used;
}

static void on_bytes(void *owner, struct slice in)
{
    struct mqtt_link *l = owner;
    uint64_t now = clock_mono_ns();
    l->client->result->bytes_received += in.len;
    l->heard_ns = now;
    if (l->partial.len) {
        buf_put_slice(&l->partial, in);
        in = buf_slice(&l->partial);
    }
    size_t used = take_all(l, in, now);
    if (l->state == STATE_CLOSING)
        return;
    if (l->partial.len)
        buf_consume(&l->partial, used);
    else
        buf_put_slice(&l->partial, slice_from(in, used));
    if (l->partial.failed || l->out.failed) {
        bad_packet(l);
        return;
    }
    if (l->client->opts->rate > 0 && !l->subscriber)
        pump(l->client);
    link_fill(l, now);
}

/* ---- the beginning of a connection ---- */

static void on_opened(void *owner)
{
    struct mqtt_link *l = owner;
    l->state = STATE_LOGIN;
    buf_put_slice(&l->out, fleet_request(l->client->fleet, l->device));
    link_flush(l);
}

static void on_drained(void *owner)
{
    link_fill(owner, clock_mono_ns());
}

static void on_failed(void *owner, int error)
{
    struct mqtt_link *l = owner;
    l->client->result->closed += error == UV_EOF;
    l->client->result->connect_errors += l->state == STATE_CONNECTING;
    link_close(l, error == UV_EOF ? 0 : error);
}

static const struct wire_ops wire_ops = {
    .opened = on_opened,
    .bytes = on_bytes,
    .drained = on_drained,
    .failed = on_failed,
    .closed = on_closed,
};

static void link_open(struct mqtt_link *l)
{
    l->state = STATE_CONNECTING;
    l->reopen = false;
    l->heard_ns = clock_mono_ns();
    l->wanted_ns = l->wanted_ns ? l->wanted_ns : l->heard_ns;
    int rc = wire_open(&l->wire, 0);
    if (rc < 0)
        on_failed(l, rc);
}

/* ---- the run ---- */

static void on_open(void *owner)
{
    struct mqtt_client *cl = owner;
    cl->run.alive = cl->links_count;
    cl->wires.loop = &cl->run.loop;
    cl->wires.address = (const struct sockaddr *)&cl->run.address;
    cl->wires.rand = &cl->run.rand;
    for (uint32_t i = 0; i < cl->links_count; i++)
        link_open(&cl->links[i]);
}

static bool anything_unanswered(const void *owner)
{
    const struct mqtt_client *cl = owner;
    return cl->unacked;
}

static bool anything_undelivered(const void *owner)
{
    const struct mqtt_client *cl = owner;
    return cl->ready && cl->result->delivered < cl->result->answered * cl->opts->subscribers;
}

static void tend(void *owner, uint64_t now)
{
    struct mqtt_client *cl = owner;
    for (uint32_t i = 0; i < cl->links_count; i++) {
        struct mqtt_link *l = &cl->links[i];
        bool awaits = l->unacked || (l->state >= STATE_CONNECTING && l->state <= STATE_SUBSCRIBING);
        bool silent = now > l->heard_ns && now - l->heard_ns > cl->opts->timeout_ns;
        if ((awaits && silent) || (l->unacked && run_late(&cl->run, now))) {
            cl->result->timed_out++;
            cl->unacked -= l->unacked; /* it does not count as broken too */
            l->unacked = 0;
            link_close(l, UV_ETIMEDOUT);
        } else if (l->state == STATE_WAITING && now >= l->retry_ns) {
            link_open(l);
        } else if (l->thinks && now >= l->retry_ns) {
            l->thinks = false;
            link_fill(l, now);
        }
    }
}

static void storm(void *owner)
{
    struct mqtt_client *cl = owner;
    for (uint32_t i = 0; i < cl->links_count; i++) {
        struct mqtt_link *l = &cl->links[i];
        if (l->state == STATE_UP) {
            l->reopen = true;
            link_close(l, 0);
        }
    }
}

static void on_over(void *owner)
{
    struct mqtt_client *cl = owner;
    for (uint32_t i = 0; i < cl->links_count; i++) {
        struct mqtt_link *l = &cl->links[i];
        if (l->state == STATE_WAITING) {
            l->state = STATE_GONE;
            cl->run.alive--;
        } else if (l->state == STATE_UP) {
            mqtt_put_empty(&l->out, MQTT_DISCONNECT);
            link_flush(l);
        }
        link_close(l, 0);
    }
}

static const struct run_ops run_ops = {
    .open = on_open,
    .pump = pump,
    .tend = tend,
    .unanswered = anything_unanswered,
    .undelivered = anything_undelivered,
    .storm = storm,
    .close = on_over,
};

static bool link_init(struct mqtt_client *cl, struct mqtt_link *l, uint32_t i)
{
    l->client = cl;
    wire_init(&l->wire, &cl->wires, l);
    l->subscriber = i >= cl->opts->connections;
    l->device = &cl->fleet->devices[i % cl->fleet->count];
    l->last_ping = l->pings;
    l->window = cl->opts->window;
    buf_init(&l->partial, PACKET_MAX + WIRE_INPUT_BYTES);
    buf_init(&l->out, ACKS_MAX);
    if (l->subscriber)
        return true;
    if (message_init(&l->message, cl->opts, fleet_id(cl->fleet, l->device)))
        return false;
    size_t room = (l->message.len > OUT_BYTES ? l->message.len : OUT_BYTES) + PING_BYTES;
    buf_init(&l->out, room);
    if (!buf_reserve(&l->out, room))
        return false;
    if (cl->opts->qos) {
        l->free_ids = calloc(l->window, sizeof *l->free_ids);
        l->flights = calloc(l->window, sizeof *l->flights);
    }
    return cl->opts->qos == 0 || (l->free_ids && l->flights);
}

static void client_free(struct mqtt_client *cl)
{
    for (uint32_t i = 0; cl->links && i < cl->links_count; i++) {
        struct mqtt_link *l = &cl->links[i];
        message_fini(&l->message);
        free(l->free_ids);
        free(l->flights);
        buf_fini(&l->out);
        wire_fini(&l->wire);
        buf_fini(&l->partial);
    }
    free(cl->links);
    wires_fini(&cl->wires);
    free(cl);
}

int mqtt_run(const struct load_opts *opts, const struct fleet *fleet, struct proof *proof,
             struct result *result, struct error *err)
{
    struct mqtt_client *cl = calloc(1, sizeof *cl);
    if (!cl)
        return error_set(err, -ENOMEM, "no memory");
    cl->opts = opts;
    cl->fleet = fleet;
    cl->result = result;
    cl->proof = proof;
    cl->sequence = opts->first_sequence;
    cl->wires.ops = &wire_ops;
    int rc = wires_init(&cl->wires, opts, err);
    cl->links_count = opts->connections + opts->subscribers;
    cl->links = calloc(cl->links_count, sizeof *cl->links);
    bool room = cl->links != NULL;
    for (uint32_t i = 0; room && i < cl->links_count && rc == 0; i++)
        room = link_init(cl, &cl->links[i], i);
    if (!room)
        rc = error_set(err, -ENOMEM, "no memory for %u connections", cl->links_count);
    if (rc == 0)
        rc = run_all(&cl->run, opts, fleet, result, &run_ops, cl, err);
    memcpy(result->why, cl->wires.why, sizeof result->why);
    client_free(cl);
    return rc;
}
