/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Model.
 * 1. A connection has at most one request under way (no pipelining). States:
 *      CONNECTING -> IDLE <-> BUSY; any of them -> CLOSING -> WAITING -> CONNECTING, or -> GONE.
 *    WAITING and what follows only with --reconnect, --once, or after the server said Connection:
 *    close. With --once a connection that was told to come back later is IDLE, or WAITING if the
 *    server closed it, until then.
 * 2. Closed loop: an answer sends the connection's next request at once. Open loop (load/run.h):
 * the first free connection takes what is due.
 */
#include "load/client.h"

#include <errno.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/clock.h"
#include "load/response.h"
#include "load/run.h"
#include "load/wire.h"

#define RECONNECT_NS     (10 * NS_PER_MS)
#define RECONNECT_NS_MAX (500 * NS_PER_MS)
#define DRIP_NS          NS_PER_S
#define SLOT_BYTES_MAX   (RESPONSE_BYTES_MAX + WIRE_INPUT_BYTES)

enum conn_state { CONN_GONE, CONN_CONNECTING, CONN_IDLE, CONN_BUSY, CONN_CLOSING, CONN_WAITING };

struct client;

struct conn {
    struct wire wire;
    struct client *client;
    const struct fleet_device *device;
    enum conn_state state;
    bool reopen; /* open again after closing, whatever --reconnect says */
    bool told;   /* --once: was told to come back at retry_ns */
    bool done;   /* --once: its device needs nothing more */
    bool thinks; /* IDLE until retry_ns: --think */
    bool queued; /* in the ring of free connections, maybe no longer free */
    uint64_t sequence;
    uint64_t began_ns;  /* of the request: when it was due or sent */
    uint64_t wanted_ns; /* since when it is to be open; 0: it is */
    uint64_t drip_ns;   /* --attack slow: when the next byte is due, */
    struct slice drip;  /* and what is still to be sent */
    uint64_t retry_ns;  /* WAITING, or IDLE with --once or --think: not before */
    uint64_t pause_ns;  /* the last wait, doubled at each failure */
    struct buf partial; /* the beginning of a response whose end is still to come */
    char *scratch;      /* the request with its sequence, if it has one */
};

struct client {
    struct run run;
    const struct load_opts *opts;
    const struct fleet *fleet;
    struct result *result;
    struct proof *proof;
    struct conn *conns;
    uint32_t *idle; /* ring of free connections, first in first out */
    uint32_t idle_at, idle_count;
    uint64_t sequence; /* the next one */
    bool to_head;
    struct wires wires;
};

static void conn_open(struct conn *c);
static void conn_send(struct conn *c, uint64_t began_ns);
static void pump(void *owner);

/* ---- one connection ---- */

static void on_closed(void *owner)
{
    struct conn *c = owner;
    struct client *cl = c->client;
    buf_clear(&c->partial);
    c->drip = (struct slice){0};
    if ((cl->opts->reconnect || c->reopen || cl->opts->once) && run_sending(&cl->run) && !c->done) {
        c->state = CONN_WAITING;
        if (c->reopen && !c->told)
            conn_open(c);
        return;
    }
    c->state = CONN_GONE;
    cl->run.alive--;
}

/* Ends the connection. `error`: libuv's, 0 when nothing went wrong. */
static void conn_close(struct conn *c, int error)
{
    struct client *cl = c->client;
    if (c->state == CONN_CLOSING || c->state == CONN_GONE || c->state == CONN_WAITING)
        return;
    if (c->state == CONN_BUSY)
        *(cl->run.storming ? &cl->result->dropped : &cl->result->broken) += 1;
    if (c->state != CONN_IDLE)
        c->told = false;
    c->thinks = false;
    if (error)
        cl->result->last_error = error;
    c->pause_ns = c->pause_ns ? c->pause_ns * 2 : RECONNECT_NS;
    if (c->pause_ns > RECONNECT_NS_MAX)
        c->pause_ns = RECONNECT_NS_MAX;
    if (!c->told)
        c->retry_ns =
            clock_mono_ns() + c->pause_ns / 2 + rand_below(&cl->run.rand, c->pause_ns / 2);
    c->state = CONN_CLOSING;
    wire_close(&c->wire);
}

static void conn_free_for_work(struct conn *c, uint64_t now)
{
    struct client *cl = c->client;
    c->state = CONN_IDLE;
    if (!run_sending(&cl->run) || (c->told && now < c->retry_ns))
        return;
    if (cl->opts->rate == 0) {
        conn_send(c, now);
        return;
    }
    if (!c->queued) {
        c->queued = true;
        cl->idle[(cl->idle_at + cl->idle_count++) % cl->opts->connections] =
            (uint32_t)(c - cl->conns);
    }
    pump(cl);
}

/* The digits behind "offset": in an acknowledgement; empty if it has none. */
static struct slice find_offset(struct slice body)
{
    static const char name[] = "\"offset\":";
    const char *at = body.ptr ? memmem(body.ptr, body.len, name, sizeof name - 1) : NULL;
    if (!at)
        return (struct slice){0};
    struct slice rest = slice_trim(slice_from(body, (size_t)(at - body.ptr) + sizeof name - 1));
    return slice_of(rest.ptr, strspn(rest.ptr, "0123456789"));
}

/* What an answer says of the message. A 503 that does not call the outcome unknown is a refusal, as
 * is 507; of other failures nobody knows how far they got. */
static enum ledger_outcome outcome_of(const struct response *r)
{
    static const char open[] = "outcome unknown";
    if (r->status < 300)
        return r->status >= 200 ? LEDGER_ACKED : LEDGER_UNKNOWN;
    if (r->status == 503 && r->body.len && memmem(r->body.ptr, r->body.len, open, sizeof open - 1))
        return LEDGER_UNKNOWN;
    bool refused = r->status < 500 || r->status == 503 || r->status == 507;
    return refused ? LEDGER_REFUSED : LEDGER_UNKNOWN;
}

static void settle(struct conn *c, const struct response *r)
{
    struct proof *p = c->client->proof;
    if (!c->client->opts->sequenced || !c->device->stores)
        return;
    const struct ack ack = {
        .sequence = c->sequence,
        .device = c->device,
        .feed = feeds_number(&p->feeds, c->device, 0),
        .offset = p->ack_fd >= 0 ? find_offset(r->body) : (struct slice){0},
    };
    proof_settle(p, outcome_of(r), &ack);
}

/* --once: what the answer means for its device. Returns whether it needs no other. */
static bool conn_once(struct conn *c, const struct response *r, uint64_t now)
{
    struct result *res = c->client->result;
    bool accepted = r->status >= 200 && r->status < 300;
    bool later = (r->status == 429 || r->status == 503) && r->retry_s > 0;
    if (c->told) {
        res->kept += accepted;
        res->not_kept += later;
    }
    c->told = later;
    c->done = !later;
    if (accepted) {
        res->accepted++;
        res->accepted_ns = now - res->began_ns;
    } else if (later) {
        res->told++;
        c->retry_ns = now + r->retry_s * NS_PER_S;
        if (r->retry_s > res->told_s_max)
            res->told_s_max = r->retry_s;
    } else {
        res->refused++;
    }
    return c->done;
}

static void conn_answered(struct conn *c, const struct response *r)
{
    struct client *cl = c->client;
    struct result *res = cl->result;
    uint64_t now = clock_mono_ns();
    result_answer(res, now - c->began_ns, r->status, r->status >= 400);
    settle(c, r);
    c->pause_ns = 0;
    c->state = CONN_IDLE;
    if (cl->opts->once && conn_once(c, r, now)) {
        conn_close(c, 0);
        return;
    }
    if (r->close || c->drip.len ||
        wire_busy(&c->wire)) { /* an early answer leaves the rest of the request unwanted */
        res->closed++;
        c->reopen = true;
        conn_close(c, 0);
        return;
    }
    if (cl->opts->think_ns) {
        c->thinks = true;
        c->retry_ns = now + run_think_ns(&cl->run);
        return;
    }
    conn_free_for_work(c, now);
}

/* Takes the whole response at the front of `in`. Returns false when the connection is closing. */
static bool conn_take(struct conn *c, struct slice in)
{
    struct response r;
    enum response_outcome outcome =
        c->state == CONN_BUSY ? response_parse(in, c->client->to_head, &r) : RESPONSE_BAD;
    if (outcome == RESPONSE_DONE && r.len == in.len) {
        buf_clear(&c->partial);
        conn_answered(c, &r);
        return c->state != CONN_CLOSING;
    }
    if (outcome == RESPONSE_MORE) {
        if (in.ptr != c->partial.ptr)
            buf_put_slice(&c->partial, in);
        if (!c->partial.failed)
            return true;
    }
    /* Not a response, an endless one, or bytes nobody asked for. */
    c->client->result->bad_responses++;
    conn_close(c, UV_EPROTO);
    return false;
}

static void on_bytes(void *owner, struct slice in)
{
    struct conn *c = owner;
    c->client->result->bytes_received += in.len;
    if (c->partial.len) {
        buf_put_slice(&c->partial, in);
        in = buf_slice(&c->partial);
    }
    conn_take(c, in);
}

static void on_failed(void *owner, int error)
{
    struct conn *c = owner;
    if (error == UV_EOF && c->state == CONN_IDLE) {
        c->client->result->closed++;
        error = 0;
    }
    c->client->result->connect_errors += c->state == CONN_CONNECTING;
    conn_close(c, error);
}

static void on_drained(void *owner)
{
}

static struct slice next_request(struct conn *c)
{
    struct client *cl = c->client;
    if (cl->opts->replay)
        c->device = &cl->fleet->devices[cl->run.scheduled - 1];
    else if (!cl->opts->fixed && !cl->opts->once)
        c->device = &cl->fleet->devices[rand_below(&cl->run.rand, cl->fleet->count)];
    struct slice request = fleet_request(cl->fleet, c->device);
    if (!c->device->marks.count)
        return request;
    c->sequence = cl->sequence++;
    if (cl->opts->sequenced && c->device->stores)
        proof_sent(cl->proof, c->sequence);
    memcpy(c->scratch, request.ptr, request.len);
    const struct template_values values = {
        .sequence = c->sequence, .due_ns = c->began_ns, .rand = &cl->run.rand};
    template_fill(c->scratch, &c->device->marks, &values);
    return slice_of(c->scratch, request.len);
}

/* A byte is sent; when the next one is. */
static void drip_next(struct conn *c, uint64_t now)
{
    c->drip = slice_from(c->drip, 1);
    c->drip_ns = now + DRIP_NS;
}

static void conn_send(struct conn *c, uint64_t began_ns)
{
    struct client *cl = c->client;
    c->state = CONN_BUSY;
    c->began_ns = began_ns;
    struct slice request = next_request(c);
    cl->run.started++;
    cl->result->sent++;
    cl->result->bytes_sent += request.len;
    if (cl->opts->attack == ATTACK_SLOW) {
        c->drip = request;
        request.len = 1;
        drip_next(c, began_ns);
    }
    int rc = wire_send(&c->wire, request);
    if (rc < 0)
        conn_close(c, rc);
}

static void on_opened(void *owner)
{
    struct conn *c = owner;
    uint64_t now = clock_mono_ns();
    histogram_add(&c->client->result->connects, now - c->wanted_ns);
    c->wanted_ns = 0;
    conn_free_for_work(c, now);
}

static const struct wire_ops wire_ops = {
    .opened = on_opened,
    .bytes = on_bytes,
    .drained = on_drained,
    .failed = on_failed,
    .closed = on_closed,
};

static void conn_open(struct conn *c)
{
    const struct load_opts *o = c->client->opts;
    uint32_t at = (uint32_t)(c - c->client->conns);
    c->reopen = false;
    c->state = CONN_CONNECTING;
    c->began_ns = clock_mono_ns();
    c->wanted_ns = c->wanted_ns ? c->wanted_ns : c->began_ns;
    int rc = wire_open(&c->wire, o->sources ? o->source_first + at % o->sources : 0);
    if (rc < 0)
        on_failed(c, rc);
}

/* ---- open loop ---- */

/* Gives every request that is due to a free connection. */
static void pump(void *owner)
{
    struct client *cl = owner;
    while (cl->idle_count && run_sending(&cl->run)) {
        uint64_t at = run_due_ns(&cl->run);
        uint64_t now = clock_mono_ns();
        if (at > now) {
            run_wake_at(&cl->run, at, now);
            return;
        }
        struct conn *c = &cl->conns[cl->idle[cl->idle_at]];
        cl->idle_at = (cl->idle_at + 1) % cl->opts->connections;
        cl->idle_count--;
        c->queued = false;
        if (c->state != CONN_IDLE)
            continue; /* it was closed meanwhile */
        cl->run.scheduled++;
        conn_send(c, at);
    }
    run_wait(&cl->run);
}

/* ---- the run ---- */

static void on_over(void *owner)
{
    struct client *cl = owner;
    for (uint32_t i = 0; i < cl->opts->connections; i++) {
        struct conn *c = &cl->conns[i];
        if (c->state == CONN_WAITING) {
            c->state = CONN_GONE;
            cl->run.alive--;
        }
        conn_close(c, 0);
    }
}

static bool anything_unanswered(const void *owner)
{
    const struct client *cl = owner;
    for (uint32_t i = 0; i < cl->opts->connections; i++) {
        if (cl->conns[i].state == CONN_BUSY && !cl->conns[i].drip.len)
            return true;
    }
    return false;
}

/* Time-outs and reconnects. */
static void tend(void *owner, uint64_t now)
{
    struct client *cl = owner;
    for (uint32_t i = 0; i < cl->opts->connections; i++) {
        struct conn *c = &cl->conns[i];
        bool asked = c->state == CONN_BUSY && !c->drip.len;
        bool silent = now > c->began_ns && now - c->began_ns > cl->opts->timeout_ns;
        if (((asked || c->state == CONN_CONNECTING) && silent) ||
            (asked && run_late(&cl->run, now))) {
            cl->result->timed_out++;
            c->state = CONN_IDLE; /* it does not count as broken too */
            conn_close(c, UV_ETIMEDOUT);
        } else if (c->state == CONN_BUSY && c->drip.len && now >= c->drip_ns) {
            int rc = wire_send(&c->wire, slice_of(c->drip.ptr, 1));
            drip_next(c, now);
            if (rc < 0)
                conn_close(c, rc);
        } else if (c->state == CONN_WAITING && now >= c->retry_ns) {
            conn_open(c);
        } else if (c->state == CONN_IDLE && (c->told || c->thinks) && now >= c->retry_ns &&
                   run_sending(&cl->run)) {
            c->thinks = false;
            conn_send(c, now);
        }
    }
}

static void storm(void *owner)
{
    struct client *cl = owner;
    for (uint32_t i = 0; i < cl->opts->connections; i++) {
        struct conn *c = &cl->conns[i];
        if (c->state == CONN_IDLE || c->state == CONN_BUSY) {
            c->reopen = true;
            conn_close(c, 0);
        }
    }
}

static int allocate(struct client *cl, struct error *err)
{
    uint32_t n = cl->opts->connections;
    cl->conns = calloc(n, sizeof *cl->conns);
    cl->idle = calloc(n, sizeof *cl->idle);
    if (!cl->conns || !cl->idle)
        return error_set(err, -ENOMEM, "no memory for %u connections", n);
    for (uint32_t i = 0; i < n; i++) {
        struct conn *c = &cl->conns[i];
        c->client = cl;
        wire_init(&c->wire, &cl->wires, c);
        c->device = &cl->fleet->devices[i % cl->fleet->count];
        buf_init(&c->partial, SLOT_BYTES_MAX);
        c->scratch = malloc(cl->fleet->request_max);
        if (!c->scratch)
            return error_set(err, -ENOMEM, "no memory for %u connections", n);
    }
    return 0;
}

static void on_open(void *owner)
{
    struct client *cl = owner;
    cl->result->devices = cl->opts->once ? cl->fleet->count : 0;
    cl->run.alive = cl->opts->connections;
    cl->wires.loop = &cl->run.loop;
    cl->wires.address = (const struct sockaddr *)&cl->run.address;
    cl->wires.rand = &cl->run.rand;
    for (uint32_t i = 0; i < cl->opts->connections; i++)
        conn_open(&cl->conns[i]);
}

static void client_free(struct client *cl)
{
    for (uint32_t i = 0; cl->conns && i < cl->opts->connections; i++) {
        wire_fini(&cl->conns[i].wire);
        buf_fini(&cl->conns[i].partial);
        free(cl->conns[i].scratch);
    }
    free(cl->conns);
    free(cl->idle);
    wires_fini(&cl->wires);
    free(cl);
}

static const struct run_ops run_ops = {
    .open = on_open,
    .pump = pump,
    .tend = tend,
    .unanswered = anything_unanswered,
    .storm = storm,
    .close = on_over,
};

int client_run(const struct load_opts *opts, const struct fleet *fleet, struct proof *proof,
               struct result *result, struct error *err)
{
    struct client *cl = calloc(1, sizeof *cl);
    if (!cl)
        return error_set(err, -ENOMEM, "no memory");
    cl->opts = opts;
    cl->fleet = fleet;
    cl->result = result;
    cl->proof = proof;
    cl->sequence = opts->first_sequence;
    cl->to_head = strcmp(opts->method, "HEAD") == 0;
    cl->wires.ops = &wire_ops;
    int rc = wires_init(&cl->wires, opts, err);
    if (rc == 0)
        rc = allocate(cl, err);
    if (rc == 0)
        rc = run_all(&cl->run, opts, fleet, result, &run_ops, cl, err);
    memcpy(result->why, cl->wires.why, sizeof result->why);
    client_free(cl);
    return rc;
}
