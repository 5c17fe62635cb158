/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP connections from their first byte to their last: some clients on real sockets, with
 * front/http_*.c whole and a pipeline that answers, refuses and delays as the input says; who asks
 * for it becomes a consumer of a group, by WebSocket. The input is a list of steps: requests that
 * keep the rules, any bytes, what consumers say, answers of the pipeline, time, connections that
 * break.
 *
 * Held: nothing fails a CHECK, leaks or touches what is not its own; what a request says stays what
 * it was as long as the pipeline may look at it; a client that kept to the rules gets an answer to
 * each request, in their order, as long as its head says; a consumer is sent frames of JSON, none
 * behind a close frame, and is said to have left once.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
#include <xxhash.h>

#include "api/route.h"
#include "base/check.h"
#include "base/log.h"
#include "codec/json.h"
#include "codec/websocket.h"
/* Its loop is turned by hand, and its clock is ours. */
#include "conn/worker.c"
#include "front/http.h"
#include "fuzz.h"

#define INPUT_MAX   4096u
#define CLIENTS     3u
#define PENDING_MAX 64u
#define TURNS_MAX   100000u
#define REQUESTS    256u /* of one client that are known to be good */
#define CONSUMERS   256u
#define BODY_MAX    3000u
#define LARGE       600000u /* an answer that a socket does not take as a whole */

/* ---- what is drawn -----------------------------------------------------------------------------
 */

static const uint8_t *at, *end;

static unsigned below(unsigned n)
{
    return at < end ? *at++ % n : 0;
}

#define COUNT(list) ((unsigned)(sizeof(list) / sizeof *(list)))
#define DRAW(list)  ((list)[below(COUNT(list))])

static struct slice draw_bytes(unsigned most)
{
    size_t len = below(most);
    if (len > (size_t)(end - at))
        len = (size_t)(end - at);
    struct slice s = slice_of(at, len);
    at += len;
    return s;
}

/* ---- clients -----------------------------------------------------------------------------------
 */

struct client {
    int fd; /* -1: none */
    bool wild /* its bytes, or its times, are not all known to be good */, last_sent;
    bool asks, websocket, said_close; /* to be a consumer; it is one; ... */
    unsigned sent, seen;              /* requests, answers */
    bool head[REQUESTS];              /* it was HEAD: the answer has no body */
    struct buf got;
};

static struct client clients[CLIENTS];
static struct worker *worker;
static uint64_t now_ns; /* never goes back */
static struct http_front *front;
static bool in_order; /* how it is closed */

static void client_send(struct client *c, struct slice bytes)
{
    if (c->fd >= 0 && bytes.len &&
        send(c->fd, bytes.ptr, bytes.len, MSG_DONTWAIT | MSG_NOSIGNAL) != (ssize_t)bytes.len)
        c->wild = true; /* not all of it was taken */
}

/* The value of a field, up to the end of its line; the head ends with an empty one. */
static struct slice field_of(struct slice head, const char *name)
{
    const char *found = memmem(head.ptr, head.len, name, strlen(name));
    if (!found)
        return (struct slice){0};
    struct slice rest = slice_from(head, (size_t)(found - head.ptr) + strlen(name));
    const char *over = memmem(rest.ptr, rest.len, "\r\n", 2);
    CHECK(over);
    return slice_of(rest.ptr, (size_t)(over - rest.ptr));
}

/* Each answer says which request it is to. Returns its length with its body; 0: it is not whole. */
static size_t take_answer(struct client *c, struct slice in)
{
    char name[32];
    const char *over = in.len ? memmem(in.ptr, in.len, "\r\n\r\n", 4) : NULL;
    if (!over)
        return 0;
    struct slice head = slice_of(in.ptr, (size_t)(over - in.ptr) + 4);
    CHECK(slice_starts(head, SLICE("HTTP/1.1 ")) && head.len > 13);
    struct slice status = slice_of(head.ptr + 9, 3), length = {0};
    if (slice_eq(status, SLICE("100")))
        return head.len;
    CHECK(c->seen < c->sent);
    if (slice_eq(status, SLICE("101"))) {
        CHECK(c->asks && c->seen + 1 == c->sent);
        c->websocket = true;
        c->seen++;
        return head.len;
    }
    snprintf(name, sizeof name, "n=%u", c->seen);
    CHECK(slice_eq(field_of(head, "\r\nX-Query: "), slice_str(name)));
    bool bare = slice_eq(status, SLICE("204")) || slice_eq(status, SLICE("304"));
    length = field_of(head, "\r\nContent-Length: ");
    CHECK(bare == !length.len);
    size_t body = bare || c->head[c->seen] ? 0 : strtoul(length.ptr, NULL, 10);
    if (in.len < head.len + body)
        return 0;
    if (c->seen + 1 == c->sent)
        c->asks = false; /* it was refused, if it was that */
    c->seen++;
    return head.len + body;
}

static void check_text(struct slice text)
{
    struct json whole;
    size_t where;
    const char *why;
    CHECK(json_parse(text, &whole, &where, &why) && whole.type == JSON_OBJECT);
}

/* Of the server: whole, and not masked. */
static size_t take_frame(struct client *c, struct slice in)
{
    const uint8_t *p = (const uint8_t *)in.ptr;
    if (in.len < 2)
        return 0;
    size_t len = p[1], more = len == 126 ? 2 : len == 127 ? 8 : 0;
    CHECK(p[0] & 128 && !(p[1] & 128) && !c->said_close);
    if (in.len < 2 + more)
        return 0;
    len = more ? 0 : len;
    for (size_t i = 0; i < more; i++)
        len = len << 8 | p[2 + i];
    if (in.len - 2 - more < len)
        return 0;
    unsigned opcode = p[0] & 15;
    CHECK(opcode == WEBSOCKET_TEXT || (opcode >= WEBSOCKET_CLOSE && len <= WEBSOCKET_CONTROL_MAX));
    if (opcode == WEBSOCKET_TEXT)
        check_text(slice_of(in.ptr + 2 + more, len));
    c->said_close = opcode == WEBSOCKET_CLOSE;
    return 2 + more + len;
}

static void look(struct client *c)
{
    char block[4096];
    ssize_t n;
    if (c->fd < 0)
        return;
    while ((n = recv(c->fd, block, sizeof block, MSG_DONTWAIT)) > 0)
        buf_put(&c->got, block, (size_t)n);
    if (c->wild && !c->websocket) {
        buf_clear(&c->got);
        return;
    }
    size_t used = 0, step;
    do {
        struct slice rest = slice_from(buf_slice(&c->got), used);
        step = c->websocket ? take_frame(c, rest) : take_answer(c, rest);
        used += step;
    } while (step);
    buf_consume(&c->got, used);
    CHECK(!c->got.failed);
}

/* ---- a pipeline --------------------------------------------------------------------------------
 */

struct pending {
    struct exchange *x;
    uint64_t print; /* of what the request says; 0: nobody looks at it again */
};
static struct pending pending[PENDING_MAX];
static unsigned pending_count;
static struct credential *credential;
static uint64_t let_in;
static bool left[CONSUMERS + 1];

static uint64_t print_of(const struct request *q)
{
    const struct slice all[] = {q->path,         q->query,           q->body,
                                q->content_type, q->accept,          q->host,
                                q->presented.id, q->if_none_match,   q->idempotency_key,
                                q->device_seq,   q->presented.secret};
    uint64_t print = 1;
    for (unsigned i = 0; i < COUNT(all); i++)
        print = XXH3_64bits_withSeed(all[i].ptr, all[i].len, print + all[i].len);
    return print | 1;
}

static void put_body(struct exchange *x)
{
    struct buf *out = &x->reply.body;
    if (x->request.consumer && x->request.method == METHOD_GET) {
        buf_put_str(out, below(3) ? "{\"messages\":[{\"token\":\"1-1\",\"value\":\"x\"}]}"
                                  : "{\"messages\":[]}");
        return;
    }
    static char spaces[LARGE];
    if (!spaces[0])
        memset(spaces, ' ', sizeof spaces);
    buf_put_str(out, "{\"count\":1");
    if (below(16) == 15 && !x->request.consumer)
        buf_put(out, spaces, sizeof spaces);
    buf_put_str(out, "}");
}

static void accept_it(struct exchange *x)
{
    static const uint16_t statuses[] = {200, 202, 200, 204, 201};
    struct request *q = &x->request;
    bool gone = exchange_gone(x);
    if (q->upgrade && (gone || let_in == CONSUMERS)) {
        exchange_refuse(x, REASON_stopping, NULL);
        return;
    }
    if (q->upgrade) {
        q->principal->credential = credential_ref(credential);
        q->consumer = ++let_in;
        x->reply.status = 101;
    } else {
        x->reply.status = (uint16_t)(q->consumer ? 200 : DRAW(statuses));
        x->reply.version = below(3) ? 0 : 7;
        x->reply.no_store = below(4) == 1;
        put_body(x);
    }
    q->proven = below(2);
    exchange_send(x);
}

static void refuse_it(struct exchange *x)
{
    static const enum reason reasons[] = {REASON_throttled, REASON_bad_key,   REASON_forbidden,
                                          REASON_busy,      REASON_not_found, REASON_revoked,
                                          REASON_bad_body,  REASON_too_large};
    x->reply.retry_ns = below(2) * NS_PER_S;
    exchange_refuse(x, DRAW(reasons), below(2) ? "a \"better\" sentence" : NULL);
}

static void answer(struct pending p, unsigned how)
{
    exchange_prefetch(p.x);
    CHECK(!p.print || print_of(&p.x->request) == p.print);
    if (how % 4)
        accept_it(p.x);
    else
        refuse_it(p.x);
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

/* As the pipeline does first: what it found is a part of the path. */
static void find_route(const struct request *q)
{
    struct route_match m;
    struct buf methods;
    buf_init(&methods, 256);
    if (route_find(q, &m, &methods) == ROUTE_FOUND) {
        const struct slice parts[] = {m.username, m.group, m.feed, m.id, m.rest};
        for (unsigned i = 0; i < COUNT(parts); i++)
            CHECK(!parts[i].len || (parts[i].ptr >= q->path.ptr &&
                                    parts[i].ptr + parts[i].len <= q->path.ptr + q->path.len));
    }
    CHECK(!methods.failed);
    buf_fini(&methods);
}

/* At once, or later; kept or not: nobody looks at a request that is not after the turn. A fetch of
 * a consumer that is answered brings the next one, and who is let in as one is not in the midst of
 * being read. */
static void on_handle(void *arg, struct exchange *x)
{
    const struct request *q = &x->request;
    unsigned how = below(10);
    bool own = q->consumer != 0; /* its bytes stay anyway */
    struct pending p = {x, print_of(q)};
    find_route(q);
    (void)arg;
    buf_put_str(&x->reply.fields, "X-Query: ");
    buf_put_slice(&x->reply.fields, q->query);
    buf_put_str(&x->reply.fields, "\r\n");
    bool later = (own && q->method == METHOD_GET) || (q->upgrade && how % 4);
    if (how < 4 && !later) {
        answer(p, how);
        return;
    }
    if (how < 8 || q->method <= METHOD_HEAD) {
        exchange_keep(x);
        CHECK(print_of(q) == p.print);
        if (how < 6 && !q->upgrade)
            exchange_release(x);
    } else if (!own) {
        p.print = 0;
    }
    if (pending_count == PENDING_MAX)
        answer_one(true);
    CHECK(pending_count < PENDING_MAX);
    pending[pending_count++] = p;
}

static enum reason on_may(void *arg, struct principal *who)
{
    (void)arg;
    CHECK(who->credential == credential);
    return below(16) == 15 ? REASON_forbidden : REASON_ok;
}

static void on_left(void *arg, uint64_t consumer)
{
    (void)arg;
    CHECK(consumer && consumer <= let_in && !left[consumer]);
    left[consumer] = true;
}

/* MQTT is spoken elsewhere. */
static bool on_accept(void *arg, struct stream *s)
{
    (void)arg, (void)s;
    return false;
}

/* ---- turns -------------------------------------------------------------------------------------
 */

static void turn(void)
{
    worker->now_ns = now_ns;
    uv_run(worker_loop(worker), UV_RUN_NOWAIT);
    do { /* whoever came first: how many a turn has time for must not matter */
        worker->toiled_ns = 0;
        stream_go_on(worker);
        worker_settle(worker);
    } while (stream_lists_wait(&worker->streams));
    for (unsigned i = 0; i < CLIENTS; i++)
        look(&clients[i]);
}

static void turns(unsigned n)
{
    while (n--)
        turn();
}

static void pass_time(void)
{
    static const uint64_t seconds[] = {1, 6, 21, 100};
    unsigned i = below(4);
    for (unsigned k = 0; k < CLIENTS; k++)
        clients[k].wild |= !clients[k].websocket; /* what it waits for may take too long */
    now_ns += seconds[i] * NS_PER_S;
    worker->now_ns = now_ns;
    wheel_turn(&worker->wheel, now_ns);
    turn();
}

static void open_front(void)
{
    static const struct cidr trusted = {.bits = 0};
    static const char *const origins[] = {"", "*", "http://x"};
    static unsigned websockets;
    const char *origin = DRAW(origins);
    bool use_forwarded = below(2);
    unsigned trusted_count = below(2);
    in_order = below(2);
    const struct http_opts opts = {
        .worker = worker,
        .surface = SURFACE_PUBLIC,
        .limits = {.head_bytes = 2000, .target_bytes = 300, .fields = 20, .body_bytes = BODY_MAX},
        .body_max = BODY_MAX,
        .tune = {.pipeline_max = 4,
                 .head_timeout_ns = 5 * NS_PER_S,
                 .idle_timeout_ns = 20 * NS_PER_S,
                 .write_timeout_ns = 5 * NS_PER_S,
                 .body_rate_min = 100,
                 .cors_origin = origin,
                 .use_forwarded = use_forwarded,
                 .trusted = &trusted,
                 .trusted_count = trusted_count,
                 .websocket_max = 1},
        .websocket = {on_accept, NULL, &websockets},
        .consumers = {on_may, on_left},
        .stage_bytes = 16,
        .handle = on_handle,
    };
    front = http_front_new(&opts);
    pending_count = 0;
    let_in = 0;
    memset(left, 0, sizeof left);
}

static void hang_up(struct client *c)
{
    if (c->fd >= 0)
        close(c->fd);
    buf_fini(&c->got);
    memset(c, 0, sizeof *c);
    c->fd = -1;
}

/* Fetches of consumers come again and again. */
static bool somebody_waits(void)
{
    bool waits = false;
    for (unsigned i = 0; i < pending_count; i++)
        waits |= !pending[i].x->request.consumer;
    return waits;
}

/* Who kept to the rules has all answers when the pipeline has none. */
static void check_answered(void)
{
    for (unsigned i = 0, quiet = 0; quiet < 8; i++) {
        CHECK(i < TURNS_MAX);
        answer_one(true);
        turn();
        quiet = somebody_waits() ? 0 : quiet + 1;
    }
    for (unsigned i = 0; i < CLIENTS; i++) {
        const struct client *c = &clients[i];
        CHECK(c->fd < 0 || c->wild || c->websocket || c->seen == c->sent);
    }
}

static void close_all(void)
{

    at = end; /* whatever is asked from now on is accepted */
    check_answered();
    if (in_order) {
        http_front_stop(front);
        turns(2);
        http_front_close_idle(front);
    } else {
        http_front_abort(front);
    }
    turns(2);
    for (unsigned i = 0; i < CLIENTS; i++)
        hang_up(&clients[i]);
    for (unsigned i = 0; http_front_connections(front) || pending_count; i++) {
        CHECK(i < TURNS_MAX);
        answer_one(true);
        turn();
        if (i == 1000)
            http_front_abort(front);
    }
    turns(2);
    http_front_free(front);
    for (uint64_t i = 1; i <= let_in; i++)
        CHECK(left[i]);
}

/* ---- steps -------------------------------------------------------------------------------------
 */

static void begin(struct client *c)
{
    int pair[2];
    hang_up(c);
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) == 0);
    c->fd = pair[1];
    buf_init(&c->got, 1 << 22);
    worker->now_ns = now_ns;
    struct stream *s = stream_new(worker, pair[0]);
    CHECK(s && http_accept(front, s));
    stream_begin(s);
}

/* In one piece or in two. */
static void send_in_pieces(struct client *c, struct slice bytes)
{
    size_t cut = below(4) == 3 ? bytes.len * below(64) / 64 : 0;
    client_send(c, slice_of(bytes.ptr, cut));
    if (cut)
        turn();
    client_send(c, slice_from(bytes, cut));
}

static void put_fields(struct buf *out, struct client *c)
{
    static const char *const fields[] = {
        "X-AIO-Key: k\r\n",
        "Authorization: Basic dTpw\r\n",
        "X-Device-Id: d\r\nX-Device-Token: t\r\n",
        "If-None-Match: \"a\", W/\"b\" , \"0000000000000007\"\r\n",
        "If-None-Match: *\r\n",
        "Accept: application/json;q=0.5, text/*\r\n",
        "Origin: http://x\r\n",
        "X-Forwarded-For: 1.2.3.4, 10.0.0.1\r\n",
        "Forwarded: for=\"[::1]:5\";by=x, for=1.2.3.4\r\n",
        "Idempotency-Key: \"k\"\r\nX-Device-Seq: 5\r\n",
        "Expect: 100-continue\r\n",
        "Connection: close\r\n",
    };
    unsigned which = below(COUNT(fields) * 2);
    if (which >= COUNT(fields))
        return;
    buf_put_str(out, fields[which]);
    c->last_sent |= which == COUNT(fields) - 1;
}

static void put_request_body(struct buf *out)
{
    static const uint8_t gzipped[] = {0x1f, 0x8b, 8, 0,    0,    0,    0,    0, 0, 3, 0xab,
                                      0xae, 5,    0, 0x43, 0xbf, 0xa6, 0xa3, 2, 0, 0, 0}; /* "{}" */
    unsigned n = below(200) * (below(4) ? 1 : 14);
    switch (below(4)) {
    case 0:
        buf_put_str(out, "\r\n");
        return;
    case 1:
        buf_printf(out, "Content-Length: %u\r\n\r\n", n);
        for (unsigned i = 0; i < n; i++)
            buf_put_u8(out, '5');
        return;
    case 2:
        buf_put_str(out, "Transfer-Encoding: chunked\r\n\r\n");
        for (unsigned i = below(4); i; i--)
            buf_put_str(out, "5;a=b\r\n12345\r\n");
        buf_put_str(out, "0\r\n\r\n");
        return;
    default:
        buf_printf(out, "Content-Encoding: gzip\r\nContent-Length: %zu\r\n\r\n", sizeof gzipped);
        buf_put(out, gzipped, sizeof gzipped);
    }
}

static bool may_send_request(const struct client *c)
{
    return !c->asks && !c->websocket && !c->last_sent && c->sent < REQUESTS;
}

static void send_request(struct client *c)
{
    static const char *const methods[] = {"GET", "POST", "HEAD", "PUT", "POST", "OPTIONS", "PATCH"};
    static const char *const paths[] = {"/v1/telemetry", "/a%2fb//c/", "/v1/consume/g",
                                        "/api/v2/u//feeds/f%20g/data.csv"};
    struct buf out;
    if (!may_send_request(c))
        return;
    const char *method = DRAW(methods);
    unsigned minor = method[0] == 'P' || below(16) != 1; /* no chunks before 1.1 */
    c->last_sent = !minor;
    buf_init(&out, 1 << 16);
    buf_printf(&out, "%s %s?n=%u HTTP/1.%u\r\nHost: x\r\n", method, DRAW(paths), c->sent, minor);
    put_fields(&out, c);
    c->head[c->sent++] = method[0] == 'H';
    if (method[0] == 'P')
        put_request_body(&out);
    else
        buf_put_str(&out, "\r\n");
    send_in_pieces(c, buf_slice(&out));
    buf_fini(&out);
}

/* To a consumer; or to MQTT, which is spoken elsewhere. */
static void send_upgrade(struct client *c)
{
    struct buf out;
    if (!may_send_request(c))
        return;
    bool mqtt = below(8) == 7;
    buf_init(&out, 1 << 16);
    buf_printf(&out,
               "GET %s?n=%u HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
               "Connection: keep-alive, Upgrade\r\nSec-WebSocket-Version: 13\r\n"
               "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n%s\r\n",
               mqtt ? "/mqtt" : "/v1/consume/g", c->sent++,
               mqtt ? "Sec-WebSocket-Protocol: mqtt\r\n" : "X-AIO-Key: k\r\n");
    c->asks = true;
    c->wild |= mqtt;
    send_in_pieces(c, buf_slice(&out));
    buf_fini(&out);
}

static void send_frame(struct client *c)
{
    static const char *const words[] = {
        "{\"ack\":{\"tokens\":[\"1-1\"]},\"id\":1}",
        "{\"nack\":{\"tokens\":[\"1-1\"],\"delay\":1},\"id\":\"a\"}",
        "{\"extend\":{}}",
        "{\"credit\":3}",
        "{\"id\":-1.5e3,\"credit\":0}",
        "{\"ack\":{},\"more\":1}",
        "[]",
    };
    static const enum websocket_opcode opcodes[] = {
        WEBSOCKET_TEXT, WEBSOCKET_TEXT, WEBSOCKET_TEXT,         WEBSOCKET_TEXT,
        WEBSOCKET_TEXT, WEBSOCKET_PING, WEBSOCKET_CONTINUATION, WEBSOCKET_CLOSE};
    const uint8_t mask[4] = {1, 2, 3, 4};
    struct slice payload = below(4) ? slice_str(DRAW(words)) : draw_bytes(120);
    unsigned opcode = DRAW(opcodes);
    struct buf out;
    if (!c->websocket)
        return;
    buf_init(&out, 1 << 10);
    buf_put_u8(&out, (uint8_t)((below(8) == 7 ? 0 : 128) | opcode));
    buf_put_u8(&out, (uint8_t)(128 | payload.len));
    buf_put(&out, mask, sizeof mask);
    for (size_t i = 0; i < payload.len; i++)
        buf_put_u8(&out, (uint8_t)((uint8_t)payload.ptr[i] ^ mask[i % 4]));
    send_in_pieces(c, buf_slice(&out));
    buf_fini(&out);
}

static void send_raw(struct client *c)
{
    struct slice bytes = draw_bytes(200);
    if (!bytes.len)
        return;
    c->wild |= !c->websocket;
    client_send(c, bytes);
}

static void send_end(struct client *c)
{
    shutdown(c->fd, SHUT_WR);
    c->wild |= !c->websocket;
    c->last_sent = true;
}

static void step(void)
{
    struct client *c = &clients[below(CLIENTS)];
    unsigned what = below(16);
    if (c->fd < 0 || what == 0)
        begin(c);
    if (what <= 4)
        send_request(c);
    else if (what == 5)
        send_upgrade(c);
    else if (what <= 8)
        send_frame(c);
    else if (what == 9)
        send_raw(c);
    else if (what == 10)
        hang_up(c);
    else if (what == 11)
        send_end(c);
    else if (what == 12)
        pass_time();
    else if (what == 13)
        http_front_check(front);
    else
        answer_one(what == 14);
    if (below(4))
        turns(1 + below(3));
}

static void make_credential(void)
{
    credential = credential_new(0);
    CHECK(credential);
    credential->account = account_new(0);
    CHECK(credential->account);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > INPUT_MAX)
        return 0;
    if (!worker) {
        worker = worker_new(0);
        now_ns = clock_mono_ns();
        log_set_level(LOG_ERROR + 1);
        make_credential();
    }
    at = data;
    end = data + size;
    for (unsigned i = 0; i < CLIENTS; i++)
        clients[i].fd = -1;
    open_front();
    while (at < end)
        step();
    turns(2);
    close_all();
    return 0;
}
