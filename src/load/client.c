/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Model.
 * 1. A connection has at most one request under way (no pipelining). States:
 *      CONNECTING -> IDLE <-> BUSY; any of them -> CLOSING -> WAITING -> CONNECTING, or -> GONE.
 *    WAITING and what follows only with --reconnect, --once, or after the server said Connection:
 *    close. With --once a connection that was told to come back later is IDLE, or WAITING if the
 *    server closed it, until then.
 * 2. Closed loop: an answer sends the connection's next request at once.
 *    Open loop: request k is due at start + k / rate. The first free connection takes it. Its
 * latency counts from when it was due, so time spent waiting for a free connection is in it (no
 *    "coordinated omission"). What is due soon is waited for by polling, for arming a timer and
 *    sleeping costs more than a request; what is due later wakes the loop by a timerfd (a uv_timer
 *    counts in milliseconds).
 * 3. After the end nothing new is sent; answers under way are awaited for a second and counted.
 * 4. Everything that is not urgent (progress, ends, time-outs, reconnects) happens on one tick.
 */
#include "load/client.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <uv.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/rand.h"
#include "load/response.h"

#define TICK_MS          20
#define DRAIN_NS         NS_PER_S
#define RECONNECT_NS     (10 * NS_PER_MS)
#define RECONNECT_NS_MAX (500 * NS_PER_MS)
#define READ_BYTES       65536
#define POLL_NS          (50 * NS_PER_US) /* due sooner: by polling, which keeps a core from others */
#define SLOT_BYTES_MAX   (RESPONSE_BYTES_MAX + READ_BYTES)

enum conn_state { CONN_GONE, CONN_CONNECTING, CONN_IDLE, CONN_BUSY, CONN_CLOSING, CONN_WAITING };

struct client;

struct conn {
    uv_tcp_t tcp;
    uv_connect_t connect;
    uv_write_t write;
    struct client *client;
    const struct fleet_device *device;
    enum conn_state state;
    bool writing; /* the kernel has not taken the whole request yet */
    bool reopen;  /* open again after closing, whatever --reconnect says */
    bool told;    /* --once: was told to come back at retry_ns */
    bool done;    /* --once: its device needs nothing more */
    bool queued;  /* in the ring of free connections, maybe no longer free */
    uint64_t sequence;
    uint64_t began_ns;  /* of the request: when it was due or sent */
    uint64_t retry_ns;  /* WAITING, or IDLE with --once: not before */
    uint64_t pause_ns;  /* the last wait, doubled at each failure */
    struct buf partial; /* the beginning of a response whose end is still to come */
    char *scratch;      /* the request with its sequence, if it has one */
};

enum phase { PHASE_WARMUP, PHASE_MEASURE, PHASE_DRAIN, PHASE_OVER };

struct client {
    const struct load_opts *opts;
    const struct fleet *fleet;
    struct result *result;
    int ack_fd;
    uv_loop_t loop;
    uv_timer_t tick;
    uv_signal_t interrupt;
    uv_poll_t pacer;  /* open loop: a timerfd */
    uv_idle_t poller; /* open loop: while active, the loop does not sleep */
    int pacer_fd;
    struct sockaddr_storage address;
    struct conn *conns;
    uint32_t *idle; /* ring of free connections, first in first out */
    uint32_t idle_at, idle_count;
    uint32_t alive; /* connections not GONE */
    enum phase phase;
    uint64_t phase_end_ns;
    uint64_t schedule_ns; /* open loop: when request 0 of this phase was due */
    uint64_t scheduled;   /* requests of this phase that were sent */
    uint64_t started;     /* requests of the whole run */
    uint64_t sequence;    /* the next one */
    struct rand rand;
    bool to_head;
    bool progress;
    uint64_t shown_ns, shown_answers;
    char input[READ_BYTES];
};

static void conn_open(struct conn *c);
static void conn_send(struct conn *c, uint64_t began_ns);
static void pump(struct client *cl);

static bool sending(const struct client *cl)
{
    return cl->phase <= PHASE_MEASURE &&
           (cl->opts->requests == 0 || cl->started < cl->opts->requests);
}

static uint64_t due_ns(const struct client *cl, uint64_t k)
{
    return cl->schedule_ns + (uint64_t)((double)k * ((double)NS_PER_S / cl->opts->rate));
}

/* ---- one connection ---- */

static void on_closed(uv_handle_t *handle)
{
    struct conn *c = handle->data;
    struct client *cl = c->client;
    buf_clear(&c->partial);
    c->writing = false;
    if ((cl->opts->reconnect || c->reopen || cl->opts->once) && sending(cl) && !c->done) {
        c->state = CONN_WAITING;
        if (c->reopen && !c->told)
            conn_open(c);
        return;
    }
    c->state = CONN_GONE;
    cl->alive--;
}

/* Ends the connection. `error`: libuv's, 0 when nothing went wrong. */
static void conn_close(struct conn *c, int error)
{
    struct client *cl = c->client;
    if (c->state == CONN_CLOSING || c->state == CONN_GONE || c->state == CONN_WAITING)
        return;
    if (c->state == CONN_BUSY)
        cl->result->broken++;
    if (c->state != CONN_IDLE)
        c->told = false;
    if (error)
        cl->result->last_error = error;
    c->pause_ns = c->pause_ns ? c->pause_ns * 2 : RECONNECT_NS;
    if (c->pause_ns > RECONNECT_NS_MAX)
        c->pause_ns = RECONNECT_NS_MAX;
    if (!c->told)
        c->retry_ns = clock_mono_ns() + c->pause_ns / 2 + rand_below(&cl->rand, c->pause_ns / 2);
    c->state = CONN_CLOSING;
    uv_close((uv_handle_t *)&c->tcp, on_closed);
}

static void conn_free_for_work(struct conn *c, uint64_t now)
{
    struct client *cl = c->client;
    c->state = CONN_IDLE;
    if (!sending(cl) || (c->told && now < c->retry_ns))
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

/* The number behind "offset": in an acknowledgement; false if it has none. */
static bool find_offset(struct slice body, uint64_t *ret)
{
    static const char name[] = "\"offset\":";
    const char *at = body.ptr ? memmem(body.ptr, body.len, name, sizeof name - 1) : NULL;
    if (!at)
        return false;
    struct slice rest = slice_from(body, (size_t)(at - body.ptr) + sizeof name - 1);
    rest = slice_trim(rest);
    uint64_t n = 0;
    size_t i = 0;
    for (; i < rest.len && rest.ptr[i] >= '0' && rest.ptr[i] <= '9'; i++)
        n = n * 10 + (unsigned)(rest.ptr[i] - '0');
    *ret = n;
    return i > 0;
}

/* One write(2) a message: what was acknowledged is on record even if we die at the next instruction
 * (the file is not synced: the machine stays up, the server is what gets killed). */
static void log_ack(struct conn *c, const struct response *r)
{
    struct client *cl = c->client;
    const struct fleet_device *d = c->device;
    char value[FLEET_SEQ_DIGITS];
    char line[1024];
    char offset[24] = "-";
    uint64_t number;
    if (find_offset(r->body, &number))
        snprintf(offset, sizeof offset, "%lu", number);
    struct slice id = d->id_len ? fleet_id(cl->fleet, d) : SLICE("-");
    struct slice feed = slice_of(fleet_request(cl->fleet, d).ptr + d->feed_at, d->feed_len);
    fleet_sequence_format(value, c->sequence);
    int n = snprintf(line, sizeof line, "%lu %.*s %.*s %.*s %s\n", c->sequence, SLICE_ARG(id),
                     SLICE_ARG(feed), FLEET_SEQ_DIGITS, value, offset);
    if (n > 0 && (size_t)n < sizeof line && write(cl->ack_fd, line, (size_t)n) == n) {
        cl->result->acked++;
    } else {
        fprintf(stderr, "sluice load: the ack log cannot be written\n");
        exit(1); /* a log with a hole in it would prove nothing */
    }
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
    histogram_add(&res->latency, now - c->began_ns);
    res->answered++;
    res->by_status[r->status]++;
    if (cl->ack_fd >= 0 && r->status >= 200 && r->status < 300)
        log_ack(c, r);
    c->pause_ns = 0;
    c->state = CONN_IDLE;
    if (cl->opts->once && conn_once(c, r, now)) {
        conn_close(c, 0);
        return;
    }
    if (r->close || c->writing) { /* an early answer leaves the rest of the request unwanted */
        res->closed++;
        c->reopen = true;
        conn_close(c, 0);
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

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *ret)
{
    struct conn *c = handle->data;
    *ret = uv_buf_init(c->client->input, sizeof c->client->input);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *b)
{
    struct conn *c = stream->data;
    if (n == 0 || c->state == CONN_CLOSING)
        return;
    if (n == UV_EOF && c->state == CONN_IDLE) {
        c->client->result->closed++;
        conn_close(c, 0);
        return;
    }
    if (n < 0) {
        conn_close(c, (int)n);
        return;
    }
    c->client->result->bytes_received += (size_t)n;
    if (c->partial.len == 0) {
        conn_take(c, slice_of(b->base, (size_t)n));
        return;
    }
    buf_put(&c->partial, b->base, (size_t)n);
    conn_take(c, buf_slice(&c->partial));
}

static void on_written(uv_write_t *write, int status)
{
    struct conn *c = write->data;
    c->writing = false;
    if (status < 0 && status != UV_ECANCELED)
        conn_close(c, status);
}

static struct slice next_request(struct conn *c)
{
    struct client *cl = c->client;
    if (!cl->opts->fixed && !cl->opts->once)
        c->device = &cl->fleet->devices[rand_below(&cl->rand, cl->fleet->count)];
    struct slice request = fleet_request(cl->fleet, c->device);
    if (!c->device->seqs)
        return request;
    c->sequence = cl->sequence++;
    memcpy(c->scratch, request.ptr, request.len);
    for (uint32_t i = 0; i < c->device->seqs; i++)
        fleet_sequence_format(c->scratch + c->device->seq_at[i], c->sequence);
    return slice_of(c->scratch, request.len);
}

static void conn_send(struct conn *c, uint64_t began_ns)
{
    struct client *cl = c->client;
    struct slice request = next_request(c);
    c->state = CONN_BUSY;
    c->began_ns = began_ns;
    cl->started++;
    cl->result->sent++;
    cl->result->bytes_sent += request.len;
    uv_buf_t b = uv_buf_init((char *)(uintptr_t)request.ptr, (unsigned)request.len);
    int n = uv_try_write((uv_stream_t *)&c->tcp, &b, 1);
    if (n == (int)b.len)
        return;
    if (n == UV_EAGAIN)
        n = 0;
    if (n >= 0) {
        b = uv_buf_init(b.base + n, (unsigned)b.len - (unsigned)n);
        c->writing = true;
        c->write.data = c;
        n = uv_write(&c->write, (uv_stream_t *)&c->tcp, &b, 1, on_written);
    }
    if (n < 0)
        conn_close(c, n);
}

static void on_connected(uv_connect_t *connect, int status)
{
    struct conn *c = connect->data;
    if (status == UV_ECANCELED || c->state != CONN_CONNECTING)
        return;
    if (status == 0)
        status = uv_read_start((uv_stream_t *)&c->tcp, on_alloc, on_read);
    if (status < 0) {
        c->client->result->connect_errors++;
        conn_close(c, status);
        return;
    }
    uv_tcp_nodelay(&c->tcp, 1);
    conn_free_for_work(c, clock_mono_ns());
}

static int bind_source(struct conn *c)
{
    const struct load_opts *o = c->client->opts;
    if (!o->sources)
        return 0;
    uint32_t at = o->source_first + (uint32_t)(c - c->client->conns) % o->sources;
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(at)};
    return uv_tcp_bind(&c->tcp, (struct sockaddr *)&a, 0);
}

static void conn_open(struct conn *c)
{
    c->reopen = false;
    c->state = CONN_CONNECTING;
    c->connect.data = c;
    CHECK(uv_tcp_init(&c->client->loop, &c->tcp) == 0);
    c->tcp.data = c;
    c->began_ns = clock_mono_ns();
    int rc = bind_source(c);
    if (rc == 0)
        rc = uv_tcp_connect(&c->connect, &c->tcp, (struct sockaddr *)&c->client->address,
                            on_connected);
    if (rc < 0) {
        c->client->result->connect_errors++;
        conn_close(c, rc);
    }
}

/* ---- open loop ---- */

static void on_poller(uv_idle_t *poller)
{
    pump(poller->data);
}

static void wake_at(struct client *cl, uint64_t at_ns, uint64_t now_ns)
{
    if (at_ns - now_ns < POLL_NS) {
        uv_idle_start(&cl->poller, on_poller);
        return;
    }
    uv_idle_stop(&cl->poller);
    struct itimerspec when = {
        .it_value = {.tv_sec = (time_t)(at_ns / NS_PER_S), .tv_nsec = (long)(at_ns % NS_PER_S)},
    };
    timerfd_settime(cl->pacer_fd, TFD_TIMER_ABSTIME, &when, NULL);
}

/* Gives every request that is due to a free connection. */
static void pump(struct client *cl)
{
    while (cl->idle_count && sending(cl)) {
        uint64_t at = due_ns(cl, cl->scheduled);
        uint64_t now = clock_mono_ns();
        if (at > now) {
            wake_at(cl, at, now);
            return;
        }
        struct conn *c = &cl->conns[cl->idle[cl->idle_at]];
        cl->idle_at = (cl->idle_at + 1) % cl->opts->connections;
        cl->idle_count--;
        c->queued = false;
        if (c->state != CONN_IDLE)
            continue; /* it was closed meanwhile */
        cl->scheduled++;
        conn_send(c, at);
    }
    uv_idle_stop(&cl->poller); /* the next answer, not the time, lets something be sent */
}

static void on_pacer(uv_poll_t *pacer, int status, int events)
{
    struct client *cl = pacer->data;
    uint64_t expirations;
    ssize_t n = read(cl->pacer_fd, &expirations, sizeof expirations);
    if (n > 0)
        pump(cl);
}

/* ---- the run ---- */

static void close_everything(struct client *cl)
{
    cl->phase = PHASE_OVER;
    for (uint32_t i = 0; i < cl->opts->connections; i++) {
        struct conn *c = &cl->conns[i];
        if (c->state == CONN_WAITING) {
            c->state = CONN_GONE;
            cl->alive--;
        }
        conn_close(c, 0);
    }
    uv_close((uv_handle_t *)&cl->tick, NULL);
    uv_close((uv_handle_t *)&cl->interrupt, NULL);
    if (cl->pacer_fd >= 0) {
        uv_close((uv_handle_t *)&cl->pacer, NULL);
        uv_close((uv_handle_t *)&cl->poller, NULL);
    }
}

static void begin_phase(struct client *cl, enum phase phase, uint64_t now, uint64_t length)
{
    if (phase == PHASE_MEASURE) {
        result_start(cl->result, now);
        cl->shown_ns = now;
        cl->shown_answers = 0;
    }
    if (phase == PHASE_DRAIN) {
        cl->result->ended_ns = now;
        cl->result->answered_in_time = cl->result->answered;
        if (cl->opts->rate > 0 && cl->opts->requests == 0 && cl->alive) {
            uint64_t due = (uint64_t)((double)(now - cl->schedule_ns) / 1e9 * cl->opts->rate);
            cl->result->unsent = due > cl->scheduled ? due - cl->scheduled : 0;
        }
    } else {
        cl->schedule_ns = now;
        cl->scheduled = 0;
    }
    cl->phase = phase;
    cl->phase_end_ns = now + length;
}

static bool anything_under_way(const struct client *cl)
{
    for (uint32_t i = 0; i < cl->opts->connections; i++) {
        if (cl->conns[i].state == CONN_BUSY)
            return true;
    }
    return false;
}

static void show_progress(struct client *cl, uint64_t now)
{
    if (!cl->progress || now - cl->shown_ns < NS_PER_S)
        return;
    const struct result *r = cl->result;
    double rate = (double)(r->answered - cl->shown_answers) * 1e9 / (double)(now - cl->shown_ns);
    fprintf(stderr, "\r%s %5.0f s  %9.0f/s  p50 %.3f ms  p99 %.3f ms  errors %lu \033[K",
            cl->phase == PHASE_WARMUP ? "warm-up" : "running", (double)(now - r->began_ns) / 1e9,
            rate, (double)histogram_quantile(&r->latency, 0.5) / 1e6,
            (double)histogram_quantile(&r->latency, 0.99) / 1e6,
            r->broken + r->connect_errors + r->timed_out + r->bad_responses);
    cl->shown_ns = now;
    cl->shown_answers = r->answered;
}

/* Time-outs and reconnects. */
static void tend(struct client *cl, uint64_t now)
{
    for (uint32_t i = 0; i < cl->opts->connections; i++) {
        struct conn *c = &cl->conns[i];
        bool awaits = c->state == CONN_BUSY || c->state == CONN_CONNECTING;
        if (awaits && now > c->began_ns && now - c->began_ns > cl->opts->timeout_ns) {
            cl->result->timed_out++;
            c->state = CONN_IDLE; /* it does not count as broken too */
            conn_close(c, UV_ETIMEDOUT);
        } else if (c->state == CONN_WAITING && now >= c->retry_ns) {
            conn_open(c);
        } else if (c->state == CONN_IDLE && c->told && now >= c->retry_ns && sending(cl)) {
            conn_send(c, now);
        }
    }
}

static void on_tick(uv_timer_t *timer)
{
    struct client *cl = timer->data;
    uint64_t now = clock_mono_ns();
    show_progress(cl, now);
    tend(cl, now);
    if (cl->phase == PHASE_WARMUP && now >= cl->phase_end_ns)
        begin_phase(cl, PHASE_MEASURE, now, cl->opts->run_ns);
    else if (cl->phase == PHASE_MEASURE && (now >= cl->phase_end_ns || cl->alive == 0))
        begin_phase(cl, PHASE_DRAIN, now, DRAIN_NS);
    else if (cl->phase <= PHASE_MEASURE && !sending(cl) && !anything_under_way(cl))
        begin_phase(cl, PHASE_DRAIN, now, 0);
    else if (cl->phase == PHASE_WARMUP && cl->alive == 0)
        begin_phase(cl, PHASE_DRAIN, now, 0);
    if (cl->phase == PHASE_DRAIN && (now >= cl->phase_end_ns || !anything_under_way(cl)))
        close_everything(cl);
}

static void on_interrupt(uv_signal_t *signal, int number)
{
    struct client *cl = signal->data;
    if (cl->phase <= PHASE_MEASURE)
        begin_phase(cl, PHASE_DRAIN, clock_mono_ns(), DRAIN_NS);
}

static int resolve(struct client *cl, struct error *err)
{
    uv_getaddrinfo_t request;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    int rc = uv_getaddrinfo(&cl->loop, &request, NULL, cl->opts->host, cl->opts->port, &hints);
    if (rc < 0)
        return error_set(err, -EHOSTUNREACH, "%s: %s", cl->opts->host, uv_strerror(rc));
    memcpy(&cl->address, request.addrinfo->ai_addr, request.addrinfo->ai_addrlen);
    uv_freeaddrinfo(request.addrinfo);
    return 0;
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
        c->device = &cl->fleet->devices[i % cl->fleet->count];
        buf_init(&c->partial, SLOT_BYTES_MAX);
        c->scratch = malloc(cl->fleet->request_max);
        if (!c->scratch)
            return error_set(err, -ENOMEM, "no memory for %u connections", n);
    }
    return 0;
}

static int start_pacer(struct client *cl, struct error *err)
{
    if (cl->opts->rate == 0)
        return 0;
    cl->pacer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (cl->pacer_fd < 0)
        return error_set(err, -errno, "timerfd: %s", strerror(errno));
    cl->pacer.data = cl;
    CHECK(uv_poll_init(&cl->loop, &cl->pacer, cl->pacer_fd) == 0);
    CHECK(uv_poll_start(&cl->pacer, UV_READABLE, on_pacer) == 0);
    CHECK(uv_idle_init(&cl->loop, &cl->poller) == 0);
    cl->poller.data = cl;
    return 0;
}

static void start(struct client *cl)
{
    CHECK(uv_timer_init(&cl->loop, &cl->tick) == 0);
    cl->tick.data = cl;
    uv_timer_start(&cl->tick, on_tick, TICK_MS, TICK_MS);
    CHECK(uv_signal_init(&cl->loop, &cl->interrupt) == 0);
    cl->interrupt.data = cl;
    uv_signal_start(&cl->interrupt, on_interrupt, SIGINT);

    uint64_t now = clock_mono_ns();
    result_start(cl->result, now);
    bool warm = cl->opts->warmup_ns > 0;
    begin_phase(cl, warm ? PHASE_WARMUP : PHASE_MEASURE, now,
                warm ? cl->opts->warmup_ns : cl->opts->run_ns);
    cl->result->devices = cl->opts->once ? cl->fleet->count : 0;
    cl->alive = cl->opts->connections;
    for (uint32_t i = 0; i < cl->opts->connections; i++)
        conn_open(&cl->conns[i]);
}

static void finish(struct client *cl)
{
    for (uint32_t i = 0; cl->conns && i < cl->opts->connections; i++) {
        buf_fini(&cl->conns[i].partial);
        free(cl->conns[i].scratch);
    }
    free(cl->conns);
    free(cl->idle);
    if (cl->pacer_fd >= 0)
        close(cl->pacer_fd);
    CHECK(uv_loop_close(&cl->loop) == 0);
    free(cl);
}

int client_run(const struct load_opts *opts, const struct fleet *fleet, int ack_fd,
               struct result *result, struct error *err)
{
    struct client *cl = calloc(1, sizeof *cl);
    if (!cl)
        return error_set(err, -ENOMEM, "no memory");
    cl->opts = opts;
    cl->fleet = fleet;
    cl->result = result;
    cl->ack_fd = ack_fd;
    cl->pacer_fd = -1;
    cl->rand.state = opts->seed;
    cl->sequence = opts->first_sequence;
    cl->to_head = strcmp(opts->method, "HEAD") == 0;
    cl->progress = !opts->quiet && isatty(STDERR_FILENO);
    CHECK(uv_loop_init(&cl->loop) == 0);

    int rc = resolve(cl, err);
    if (rc == 0)
        rc = allocate(cl, err);
    if (rc == 0)
        rc = start_pacer(cl, err);
    if (rc == 0) {
        signal(SIGPIPE, SIG_IGN);
        start(cl);
        uv_run(&cl->loop, UV_RUN_DEFAULT);
        if (cl->progress)
            fputc('\n', stderr);
    }
    finish(cl);
    return rc;
}
