/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One connection, from its first byte to its last.
 *
 *   HEAD --head, body in Content-Length--> BODY --whole--> (handle) --> HEAD
 *    |----chunked--> CHUNKED --last chunk--> (handle) --> HEAD
 *    |----wants messages--> (handle, nothing read meanwhile) --101--> the stream goes to
 *    |                      http_consumer.c, and the connection ends
 *    |----no request--> CLOSING (answer sent, nothing read any more)
 *    '----upgrade--> UPGRADED (the stream goes to another owner, and the connection ends)
 *
 * Invariants: 1. `first..last` are the requests handed up whose answers have not left, in order of
 * arrival; only the head of the queue may leave. 2. Input is looked at only while nothing is kept
 * and the queue is below pipeline_max and the client takes its answers (`may_read`); the stream is
 * paused otherwise. 3. An exchange that is still with the pipeline when its connection closes is
 * orphaned (conn NULL) and freed when it is sent.
 */
#include <stdlib.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/metric.h"
#include "flow/capture.h"
#include "front/http_private.h"

#define FREE_MAX      256u  /* exchanges kept for reuse */
#define REUSE_BYTES   4096u /* their buffers above this are given back */
#define REPLY_MAX     (16u << 20)
#define FIELDS_MAX    8192u
#define KEPT_GRACE_NS (5 * NS_PER_S)
#define UNSENT_MAX    (256u << 10) /* answers not taken: no further requests until they are */

static const struct stream_ops conn_ops;
static const struct exchange_ops exchange_ops;

/* ---- exchanges ---- */

static struct http_exchange *exchange_new(struct http_front *f)
{
    struct http_exchange *e = f->free;
    if (e) {
        f->free = e->next;
        f->free_count--;
    } else {
        e = calloc(1, sizeof *e + f->opts.stage_bytes);
        CHECK(e);
        /* What is kept: parts of the head, some of them twice (keep_head). */
        buf_init(&e->raw, f->opts.limits.head_bytes * 2 + 64);
        buf_init(&e->scratch, f->opts.limits.head_bytes * 2 + 64);
        buf_init(&e->body, f->opts.body_max);
        buf_init(&e->out, REPLY_MAX + FIELDS_MAX + 4096);
        buf_init(&e->x.reply.body, REPLY_MAX);
        buf_init(&e->x.reply.fields, FIELDS_MAX);
        e->x.magic = EXCHANGE_MAGIC;
        e->x.ops = &exchange_ops;
        e->front = f;
    }
    e->next = NULL;
    return e;
}

static void exchange_destroy(struct http_exchange *e)
{
    buf_fini(&e->raw);
    buf_fini(&e->scratch);
    buf_fini(&e->body);
    buf_fini(&e->out);
    buf_fini(&e->x.reply.body);
    buf_fini(&e->x.reply.fields);
    free(e);
}

static void wipe(struct buf *b)
{
    if (b->ptr)
        explicit_bzero(b->ptr, b->cap);
}

static void exchange_free(struct http_exchange *e)
{
    struct http_front *f = e->front;
    if (e->x.reply.no_store) { /* it may hold a secret */
        wipe(&e->x.reply.body);
        wipe(&e->out);
    }
    if (f->free_count >= FREE_MAX) {
        exchange_destroy(e);
        return;
    }
    buf_reuse(&e->raw, REUSE_BYTES);
    buf_reuse(&e->scratch, REUSE_BYTES);
    buf_reuse(&e->body, REUSE_BYTES);
    buf_reuse(&e->out, REUSE_BYTES);
    buf_reuse(&e->x.reply.body, REUSE_BYTES);
    buf_reuse(&e->x.reply.fields, REUSE_BYTES);
    e->x.request = (struct request){0};
    e->x.reply.reason = REASON_ok;
    e->x.reply.status = 0;
    e->x.reply.content_type = NULL;
    e->x.reply.retry_ns = 0;
    e->x.reply.version = 0;
    e->x.reply.no_store = false;
    e->conn = NULL;
    e->apart = e->done = e->kept = e->close = e->head_only = e->minor0 = e->has_origin = false;
    if (e->upgrades)
        principal_clear(&e->who);
    e->upgrades = false;
    memset(e->x.stage, 0, f->opts.stage_bytes);
    e->next = f->free;
    f->free = e;
    f->free_count++;
}

/* ---- deadlines ---- */

static void arm(struct http_conn *c)
{
    struct worker *w = c->front->opts.worker;
    uint64_t now = worker_now_ns(w), at = 0;
    if (stream_unsent(c->stream)) /* whatever comes from the client meanwhile */
        at = stream_stuck_ns(c->stream) + c->front->opts.tune.write_timeout_ns;
    else if (c->first)
        at = 0; /* the pipeline has deadlines of its own */
    else if (c->waiting_body)
        at = c->due_ns = c->due_ns ? c->due_ns : now + NS_PER_S;
    else if (c->scanned && !c->due_ns)
        at = c->due_ns = now + c->front->opts.tune.head_timeout_ns;
    else if (c->due_ns)
        at = c->due_ns;
    else
        at = now + c->front->opts.tune.idle_timeout_ns;
    deadline_set(worker_wheel(w), &c->deadline, at);
}

static void refuse_late(struct http_conn *c);

static bool body_is_slow(const struct http_conn *c, uint64_t now)
{
    uint64_t took = now - c->body_start_ns;
    if (!c->front->opts.tune.body_rate_min || took < KEPT_GRACE_NS)
        return false;
    uint64_t have = c->state == HTTP_CHUNKED ? c->chunked.total : stream_kept(c->stream);
    return have < (took - KEPT_GRACE_NS) / NS_PER_S * c->front->opts.tune.body_rate_min;
}

static void on_due(struct deadline *d)
{
    struct http_conn *c = (struct http_conn *)((char *)d - offsetof(struct http_conn, deadline));
    OBJ_CHECK(c, HTTP_CONN_MAGIC);
    uint64_t now = worker_now_ns(c->front->opts.worker);
    if (stream_unsent(c->stream) && stream_sent(c->stream) != c->sent_seen) {
        c->sent_seen = stream_sent(c->stream);
        stream_unstuck(c->stream);
        arm(c);
        return;
    }
    if (!stream_unsent(c->stream) && stream_held(c->stream)) {
        c->body_start_ns = now; /* all its time begins anew when we read again */
        c->due_ns = 0;
        arm(c);
        return;
    }
    if (!stream_unsent(c->stream) && c->waiting_body && !body_is_slow(c, now)) {
        c->due_ns = 0; /* only looking moves it on: bytes that trickle in must not */
        arm(c);
        return;
    }
    metric_add(METRIC_connections_timed_out, 1);
    if (!stream_unsent(c->stream) && (c->waiting_body || c->scanned) && !c->first)
        refuse_late(c);
    else
        stream_close(c->stream);
}

/* ---- answers out ---- */

/* What is kept for the connection here and not by its stream. */
static void weigh(struct http_conn *c)
{
    stream_elsewhere(c->stream, c->head.len + c->body.len + c->held + c->answers);
}

/* What an exchange holds of its request, but for memory that it has for the next one. */
static size_t held_bytes(const struct http_exchange *e)
{
    return (e->kept ? e->raw.cap : 0) + (e->body.cap > REUSE_BYTES ? e->body.cap : 0);
}

void http_weigh(struct http_exchange *e)
{
    struct http_conn *c = e->conn;
    if (!c)
        return;
    c->held -= e->held;
    e->held = held_bytes(e);
    c->held += e->held;
    weigh(c);
}

/* Nobody looks at it again. */
static void drop_request(struct http_exchange *e)
{
    buf_reuse(&e->raw, REUSE_BYTES);
    buf_reuse(&e->body, REUSE_BYTES);
    e->conn->held -= e->held;
    e->held = 0;
}

static bool may_read(const struct http_conn *c)
{
    return !c->kept && !c->in_turn && c->state < HTTP_CLOSING &&
           c->queued < c->front->opts.tune.pipeline_max &&
           stream_unsent(c->stream) + c->answers < UNSENT_MAX;
}

static size_t answer_bytes(const struct http_exchange *e)
{
    return e->out.len + (e->apart ? e->x.reply.body.len : 0);
}

static void note_done(struct http_conn *c, struct http_exchange *e)
{
    e->done = true;
    c->answers += answer_bytes(e);
}

static void dequeue(struct http_conn *c)
{
    struct http_exchange *e = c->first;
    c->first = e->next;
    c->answers -= e->done ? answer_bytes(e) : 0;
    c->held -= e->held;
    e->held = 0;
    if (!c->first) {
        c->last = &c->first;
        c->in_turn = c->unsafe_queued = false;
    }
    c->queued--;
}

/* Sends all answers at the head of the queue that are done, in one write. */
static void flush(struct http_conn *c)
{
    struct http_front *f = c->front;
    bool close = false;
    if (c->first && c->first->done && (!c->first->next || !c->first->next->done)) {
        struct http_exchange *e = c->first;
        dequeue(c);
        close = e->close;
        if (e->apart)
            stream_write_both(c->stream, buf_slice(&e->out), buf_slice(&e->x.reply.body));
        else
            stream_write(c->stream, buf_slice(&e->out));
        exchange_free(e);
    } else {
        buf_clear(&f->gather);
        while (c->first && c->first->done && !close) {
            struct http_exchange *e = c->first;
            dequeue(c);
            close = e->close;
            buf_put_slice(&f->gather, buf_slice(&e->out));
            if (e->apart)
                buf_put_slice(&f->gather, buf_slice(&e->x.reply.body));
            exchange_free(e);
        }
        stream_write(c->stream, buf_slice(&f->gather));
        buf_reuse(&f->gather, REUSE_BYTES);
    }
    if (close || ((c->ended || f->stopping) && !c->first && !c->waiting_body)) {
        c->state = HTTP_CLOSING;
        stream_finish(c->stream);
    }
    if (c->want_continue && !c->first && c->state != HTTP_CLOSING) {
        c->want_continue = false;
        stream_write(c->stream, SLICE("HTTP/1.1 100 Continue\r\n\r\n"));
    }
    arm(c);
}

static void keep_reading(struct http_conn *c)
{
    if (c->stalled && may_read(c)) {
        c->stalled = false;
        stream_resume(c->stream);
    }
}

static struct http_exchange *of(struct exchange *x)
{
    OBJ_CHECK(x, EXCHANGE_MAGIC);
    return (struct http_exchange *)((char *)x - offsetof(struct http_exchange, x));
}

static void copy_slice(struct buf *to, struct slice *s)
{
    if (!s->ptr)
        return;
    char *at = to->ptr + to->len;
    buf_put_slice(to, *s);
    s->ptr = at;
}

static void keep_head(struct http_exchange *e)
{
    struct request *q = &e->x.request;
    struct slice *all[] = {
        &q->path, &q->query,        &q->content_type,     &q->accept,          &q->if_none_match,
        &q->host, &q->presented.id, &q->presented.secret, &q->idempotency_key, &q->device_seq};
    size_t bytes = 1;
    for (unsigned i = 0; i < sizeof all / sizeof *all; i++)
        bytes += all[i]->len;
    buf_clear(&e->raw);
    CHECK(buf_reserve(&e->raw, bytes)); /* bounded by the head's limit */
    for (unsigned i = 0; i < sizeof all / sizeof *all; i++)
        copy_slice(&e->raw, all[i]);
}

/* There already if it was unpacked. None, and one that was kept is let go. */
static void keep_body(struct http_exchange *e)
{
    struct slice *body = &e->x.request.body;
    if (!body->len) {
        buf_reuse(&e->body, REUSE_BYTES);
        *body = SLICE("");
    } else if (body->ptr != e->body.ptr) {
        buf_clear(&e->body);
        CHECK(buf_reserve(&e->body, body->len)); /* bounded by its own */
        buf_put_slice(&e->body, *body);
        *body = buf_slice(&e->body);
    }
}

static void on_keep(struct exchange *x)
{
    struct http_exchange *e = of(x);
    struct http_conn *c = e->conn;
    if (!e->kept && !c)
        return;
    if (!e->kept) {
        keep_head(e);
        e->kept = true;
        c->kept = e;
        c->stalled = true;
        stream_pause(c->stream);
    }
    keep_body(e);
    http_weigh(e);
}

/* `conn` is in a line that the pipeline's part brought along. */
static void on_prefetch(struct exchange *x)
{
    struct http_exchange *e = of(x);
    __builtin_prefetch(e->out.ptr, 1);
    __builtin_prefetch(x->reply.body.ptr, 1);
    if (e->conn)
        __builtin_prefetch(e->conn->stream);
}

static void on_release(struct exchange *x)
{
    struct http_exchange *e = of(x);
    if (!e->conn)
        return;
    if (e->held && !e->kept) { /* the body that was unpacked */
        drop_request(e);
        weigh(e->conn);
    }
    if (e->conn->kept == e) {
        e->conn->kept = NULL;
        keep_reading(e->conn);
    }
}

static void forget(struct http_conn *c);

/* Nothing is before it, and what is behind it was not read: it was kept. */
static void become_consumer(struct http_conn *c, struct http_exchange *e)
{
    struct stream *s = c->stream;
    CHECK(c->first == e && !e->next);
    stream_write(s, buf_slice(&e->out));
    dequeue(c);
    forget(c);
    http_consumer_begin(e->front, s, e);
    exchange_free(e);
}

static void on_send(struct exchange *x)
{
    struct http_exchange *e = of(x);
    struct http_conn *c = e->conn;
    if (x->request.start_ns)
        metric_observe(METRIC_request_latency,
                       worker_now_ns(e->front->opts.worker) - x->request.start_ns);
    if (!c) {
        exchange_free(e);
        return;
    }
    if (e->upgrades && x->reply.reason == REASON_ok) {
        become_consumer(c, e);
        return;
    }
    /* Only the last answer closes: the requests behind this one have an outcome too. */
    if (c->front->stopping && !e->next && !c->waiting_body) {
        e->close = true;
        c->state = HTTP_CLOSING;
    }
    if (c->front->opts.surface == SURFACE_PUBLIC)
        stream_set_known(c->stream, x->request.proven);
    buf_clear(&e->out);
    http_reply_format(e, c->front->opts.worker);
    note_done(c, e);
    if (e->held)
        drop_request(e);
    if (c->kept == e)
        c->kept = NULL;
    if (c->first == e)
        flush(c);
    weigh(c);
    keep_reading(c);
}

/* A client that ends its side while it waits has left: no library does that to read on. */
static bool on_gone(const struct exchange *x)
{
    const struct http_exchange *e = of((struct exchange *)x);
    return !e->conn || e->conn->ended;
}

static const struct exchange_ops exchange_ops = {
    .gone = on_gone,
    .prefetch = on_prefetch,
    .keep = on_keep,
    .release = on_release,
    .send = on_send,
};

/* ---- bytes in ---- */

static struct http_exchange *enqueue(struct http_conn *c)
{
    struct http_exchange *e = exchange_new(c->front);
    e->conn = c;
    *c->last = e;
    c->last = &e->next;
    c->queued++;
    return e;
}

/* Answers what is no request, and closes behind the answer. */
static void refuse(struct http_conn *c, unsigned status, const char *why)
{
    metric_add(METRIC_http_bad_requests, 1);
    struct http_exchange *e = enqueue(c);
    http_reply_bad(e, c->front->opts.worker, status, why);
    note_done(c, e);
    c->state = HTTP_CLOSING;
    c->waiting_body = false;
    if (c->first == e)
        flush(c);
}

static void refuse_late(struct http_conn *c)
{
    refuse(c, 408, "the request took too long to arrive");
}

static bool is_safe(enum http1_method m)
{
    return m == HTTP1_GET || m == HTTP1_HEAD || m == HTTP1_OPTIONS;
}

/* Asks to be pushed messages. False: not as it should; refused. */
static bool ask_for_messages(struct http_exchange *e, const struct http1_request *r)
{
    const char *why = "";
    struct http_conn *c = e->conn;
    unsigned status = http_check_consumer(c, r, &e->out, &why);
    if (status != 101) {
        metric_add(METRIC_http_bad_requests, 1);
        http_reply_bad(e, c->front->opts.worker, status, why);
        note_done(c, e);
        c->state = HTTP_CLOSING;
        flush(c);
        return false;
    }
    e->upgrades = e->x.request.upgrade = true;
    e->x.request.principal = &e->who;
    exchange_keep(&e->x); /* what follows is not HTTP, if it is let in */
    return true;
}

static void hand_up(struct http_conn *c, const struct http1_request *r, struct slice body)
{
    struct http_front *f = c->front;
    metric_add(METRIC_http_requests, 1);
    c->state = HTTP_HEAD;
    c->scanned = 0;
    c->due_ns = 0;
    c->waiting_body = c->want_continue = false;
    if (f->opts.surface == SURFACE_PUBLIC && capture_wants(&f->captured))
        http_capture(r, body.len, worker_now_ns(f->opts.worker));
    struct http_exchange *e = enqueue(c);
    c->unsafe_queued = c->unsafe_queued || !is_safe(r->method);
    enum reason reason = http_request_fill(e, r, body, stream_peer(c->stream));
    e->x.request.start_ns = worker_now_ns(f->opts.worker);
    if (e->close || f->stopping)
        c->state = HTTP_CLOSING; /* nothing behind this request is looked at */
    if (reason != REASON_ok) {
        exchange_refuse(&e->x, reason, NULL);
        return;
    }
    if (__builtin_expect(http_is_consumer(c, r), 0) && !ask_for_messages(e, r))
        return;
    c->handed_up = worker_settled(f->opts.worker) + 1;
    f->opts.handle(f->opts.arg, &e->x);
}

/* Pipelined requests may be worked on side by side only if they are all safe (RFC 9112
 * section 9.3.2). POSTs as well: what they append keeps their order. Anything else waits for the
 * answers before it. */
static bool must_wait_its_turn(const struct http_conn *c, const struct http1_request *r)
{
    if (!c->first)
        return false;
    if (http_is_upgrade(c, r) || http_is_consumer(c, r))
        return true;
    return is_safe(r->method) ? c->unsafe_queued : r->method != HTTP1_POST;
}

/* Whether the request was for the upgrade, and is dealt with. */
static bool take_upgrade(struct http_conn *c, const struct http1_request *r)
{
    const char *why;
    if (!http_is_upgrade(c, r))
        return false;
    unsigned status = http_upgrade(c, r, &why);
    if (status == 101)
        c->state = HTTP_UPGRADED;
    else
        refuse(c, status, why);
    return true;
}

static void expect_body(struct http_conn *c, const struct http1_request *r)
{
    c->waiting_body = true;
    c->due_ns = 0;
    c->body_start_ns = worker_now_ns(c->front->opts.worker);
    if (r->expect_continue && r->minor > 0)
        c->want_continue = true;
    if (c->want_continue && !c->first) {
        c->want_continue = false;
        stream_write(c->stream, SLICE("HTTP/1.1 100 Continue\r\n\r\n"));
    }
}

/* Each of these looks at the bytes in hand for one state; returns how many it consumed, and sets
 * *more when it is worth looking again at what follows. */
static size_t take_head(struct http_conn *c, char *ptr, size_t len, bool *more)
{
    struct http1_request r;
    unsigned status = 400;
    const char *why = "";
    switch (
        http1_parse(slice_of(ptr, len), &c->front->opts.limits, &c->scanned, &r, &status, &why)) {
    case HTTP1_MORE:
        if (!c->scanned && len)
            c->scanned = 1; /* a head has begun: its deadline runs */
        return 0;
    case HTTP1_BAD:
        refuse(c, status, why);
        return 0;
    case HTTP1_DONE:
        break;
    }
    if (must_wait_its_turn(c, &r)) {
        c->in_turn = c->stalled = true;
        stream_pause(c->stream);
        return 0;
    }
    if (take_upgrade(c, &r))
        return r.head_len;
    if (r.chunked) {
        buf_clear(&c->head);
        buf_put(&c->head, ptr, r.head_len);
        buf_clear(&c->body);
        c->chunked = (struct http1_chunked){0};
        c->state = HTTP_CHUNKED;
        expect_body(c, &r);
        *more = true;
        return r.head_len;
    }
    size_t need = r.head_len + (size_t)r.content_length;
    if (len < need) {
        c->state = HTTP_BODY;
        c->need = need;
        expect_body(c, &r);
        return 0;
    }
    hand_up(c, &r, slice_of(ptr + r.head_len, (size_t)r.content_length));
    *more = true;
    return need;
}

/* The whole body is here: the head is parsed once more rather than kept. */
static size_t take_body(struct http_conn *c, char *ptr, size_t len, bool *more)
{
    if (len < c->need)
        return 0;
    c->state = HTTP_HEAD;
    c->scanned = 0;
    return take_head(c, ptr, len, more);
}

static size_t take_chunked(struct http_conn *c, char *ptr, size_t len, bool *more)
{
    size_t used = 0, body = 0;
    unsigned status = 400;
    const char *why = "";
    enum http1_outcome outcome =
        http1_dechunk(&c->chunked, ptr, len, c->front->opts.body_max, &used, &body, &status, &why);
    if (outcome == HTTP1_BAD) {
        refuse(c, status, why);
        return 0;
    }
    buf_put(&c->body, ptr, body);
    weigh(c);
    if (outcome == HTTP1_MORE)
        return used;
    struct http1_request r;
    size_t scanned = 0;
    outcome = http1_parse(buf_slice(&c->head), &c->front->opts.limits, &scanned, &r, &status, &why);
    CHECK(outcome == HTTP1_DONE);
    hand_up(c, &r, buf_slice(&c->body));
    worker_settle(c->front->opts.worker); /* before the bytes go */
    buf_reuse(&c->head, REUSE_BYTES);
    buf_reuse(&c->body, REUSE_BYTES); /* an idle connection holds no large buffer */
    weigh(c);
    *more = true;
    return used;
}

static void hand_over(struct http_conn *c)
{
    struct stream *s = c->stream;
    const struct http_websocket to = c->front->opts.websocket;
    metric_add(METRIC_websocket_upgrades, 1);
    forget(c);
    stream_set_known(s, false); /* what the next owner speaks begins with who it is */
    if (!stream_begin_websocket(s) || !to.accept(to.arg, s))
        stream_disown(s);
}

static size_t on_input(void *owner, char *ptr, size_t len)
{
    struct http_conn *c = owner;
    OBJ_CHECK(c, HTTP_CONN_MAGIC);
    size_t used = 0;
    bool more = len > 0;
    while (more && used < len) {
        /* The request before this one may have to wait, and this one behind it. */
        if (c->handed_up == worker_settled(c->front->opts.worker) + 1)
            worker_settle(c->front->opts.worker);
        if (!may_read(c)) {
            if (c->state != HTTP_CLOSING) { /* else the rest is drained and dropped */
                c->stalled = true;
                stream_pause(c->stream);
            }
            break;
        }
        more = false;
        char *at = ptr + used;
        size_t left = len - used;
        switch (c->state) {
        case HTTP_HEAD:
            used += take_head(c, at, left, &more);
            break;
        case HTTP_BODY:
            used += take_body(c, at, left, &more);
            break;
        case HTTP_CHUNKED:
            used += take_chunked(c, at, left, &more);
            break;
        case HTTP_CLOSING:
        case HTTP_UPGRADED:
            break;
        }
    }
    if (c->state == HTTP_UPGRADED) {
        hand_over(c);
        return used;
    }
    arm(c);
    return c->state == HTTP_CLOSING ? len : used;
}

static void on_end(void *owner)
{
    struct http_conn *c = owner;
    c->ended = true;
    if (!c->first)
        stream_finish(c->stream);
    else if (c->waiting_body || c->scanned) /* the request in hand will never be whole */
        c->waiting_body = false, c->scanned = 0;
}

static void on_drained(void *owner)
{
    arm(owner);
    keep_reading(owner);
}

static void forget(struct http_conn *c)
{
    while (c->first) {
        struct http_exchange *e = c->first;
        dequeue(c);
        e->conn = NULL;
        if (e->done)
            exchange_free(e);
    }
    deadline_clear(&c->deadline);
    stream_elsewhere(c->stream, 0);
    *c->prev = c->next;
    if (c->next)
        c->next->prev = c->prev;
    c->front->conns_count--;
    buf_fini(&c->head);
    buf_fini(&c->body);
    c->magic = 0;
    free(c);
}

static void on_closed(void *owner)
{
    struct http_conn *c = owner;
    OBJ_CHECK(c, HTTP_CONN_MAGIC);
    forget(c);
}

static const struct stream_ops conn_ops = {
    .on_input = on_input,
    .on_end = on_end,
    .on_drained = on_drained,
    .on_closed = on_closed,
};

/* ---- the front ---- */

bool http_accept(void *front, struct stream *s)
{
    struct http_front *f = front;
    if (f->stopping)
        return false;
    struct http_conn *c = calloc(1, sizeof *c);
    if (!c)
        return false;
    c->magic = HTTP_CONN_MAGIC;
    c->front = f;
    c->stream = s;
    c->last = &c->first;
    c->deadline.due = on_due;
    c->state = HTTP_HEAD;
    buf_init(&c->head, f->opts.limits.head_bytes + 16);
    buf_init(&c->body, f->opts.body_max + 16);
    c->next = f->conns;
    c->prev = &f->conns;
    if (c->next)
        c->next->prev = &c->next;
    f->conns = c;
    f->conns_count++;
    stream_set_owner(s, &conn_ops, c,
                     f->opts.limits.head_bytes + f->opts.body_max + WORKER_SCRATCH);
    if (f->opts.surface == SURFACE_PUBLIC)
        stream_may_hold(s);
    else /* operators look on while devices wait */
        stream_set_known(s, true);
    /* The first request must be there within the header's time, not the idle time. */
    c->due_ns = worker_now_ns(f->opts.worker) + f->opts.tune.head_timeout_ns;
    deadline_set(worker_wheel(f->opts.worker), &c->deadline, c->due_ns);
    return true;
}

struct http_front *http_front_new(const struct http_opts *opts)
{
    struct http_front *f = calloc(1, sizeof *f);
    CHECK(f);
    f->opts = *opts;
    buf_init(&f->gather, (size_t)REPLY_MAX * 2);
    return f;
}

void http_front_tune(struct http_front *f, const struct http_tune *tune)
{
    f->opts.tune = *tune;
}

void http_front_free(struct http_front *f)
{
    if (!f)
        return;
    CHECK(!f->conns && !f->consumers);
    while (f->free) {
        struct http_exchange *e = f->free;
        f->free = e->next;
        exchange_destroy(e);
    }
    buf_fini(&f->gather);
    free(f);
}

void http_front_stop(struct http_front *f)
{
    f->stopping = true;
    for (struct http_conn *c = f->conns; c; c = c->next) {
        if (c->first && !c->waiting_body)
            c->state = HTTP_CLOSING; /* after the answers to what was handed up */
    }
}

void http_front_close_idle(struct http_front *f)
{
    for (struct http_conn *c = f->conns; c; c = c->next) {
        if (!c->first && !c->waiting_body && !stream_held(c->stream))
            stream_finish(c->stream);
    }
    http_consumers_stop(f);
}

void http_front_abort(struct http_front *f)
{
    http_consumers_abort(f);
    for (struct http_conn *c = f->conns; c; c = c->next)
        stream_close(c->stream);
}

unsigned http_front_connections(const struct http_front *f)
{
    return f->conns_count + f->consumers_count;
}
