/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A connection over WebSocket: real sockets, conn/stream.c and conn/ws_conn.c, with an owner that
 * takes what it is offered at once, or in parts and later. The first byte of an input says how it
 * is cut and how the owner behaves; the rest is what the client sends.
 *
 * Held: the owner gets the bytes that the codec finds in the whole, in order, however they were
 * cut; it is told of a close once, behind them, and of what is no frame not at all; the client gets
 * a pong for each ping and, at the end, one close frame with the code that the codec says.
 */
#include <sys/socket.h>
#include <unistd.h>

#include "base/check.h"
#include "codec/websocket.h"
#include "conn/stream_private.h"
#include "fuzz.h"

#define INPUT_MAX 8192u
#define TURNS_MAX 100000u

/* What is to happen, as the codec has it. */
struct expected {
    struct buf plain, answers;
    uint16_t code; /* 0: the connection stays open */
    const char *why;
    bool closes; /* by a close frame */
};

struct owner {
    struct stream *stream;
    struct buf got;
    uint8_t habit;
    unsigned calls, ends;
    bool paused, closed;
};

static struct worker *worker;

static void expect(const uint8_t *data, size_t size, struct expected *ret)
{
    static char copy[INPUT_MAX];
    struct websocket ws = {0};
    struct websocket_event e;
    size_t at = 0, used;
    memcpy(copy, data, size);
    ret->why = "";
    while (at < size && !ret->code) {
        enum websocket_outcome outcome =
            websocket_parse(&ws, copy + at, size - at, UINT64_MAX, &used, &e);
        at += used;
        bool text = outcome == WEBSOCKET_BAD
                        ? ws.text == WEBSOCKET_TEXT
                        : outcome == WEBSOCKET_DATA && e.opcode == WEBSOCKET_TEXT;
        if (text) {
            ret->code = WEBSOCKET_UNSUPPORTED;
            ret->why = "only binary messages are understood here";
        } else if (outcome == WEBSOCKET_BAD) {
            ret->code = e.code;
            ret->why = e.why;
        } else if (outcome == WEBSOCKET_DATA) {
            buf_put_slice(&ret->plain, e.data);
        } else if (outcome == WEBSOCKET_CONTROL && e.opcode == WEBSOCKET_PING) {
            websocket_put(&ret->answers, WEBSOCKET_PONG, e.data);
        } else if (outcome == WEBSOCKET_CONTROL && e.opcode == WEBSOCKET_CLOSE) {
            ret->code = e.code;
            ret->closes = true;
        }
    }
    if (ret->code)
        websocket_put_close(&ret->answers, ret->code, ret->why);
}

/* ---- the owner ---- */

static size_t on_input(void *arg, char *ptr, size_t len)
{
    struct owner *o = arg;
    CHECK(!o->paused && !o->ends && len);
    size_t used = len;
    if (o->habit & 1 && o->calls++ % 2 == 0) {
        used = len / 2;
        o->paused = true;
        stream_pause(o->stream);
    }
    buf_put(&o->got, ptr, used);
    return used;
}

static void on_end(void *arg)
{
    struct owner *o = arg;
    CHECK(!o->paused);
    o->ends++;
    stream_finish(o->stream);
}

static void on_drained(void *arg)
{
    (void)arg;
}

static void on_closed(void *arg)
{
    struct owner *o = arg;
    o->closed = true;
}

static const struct stream_ops ops = {on_input, on_end, on_drained, on_closed};

/* ---- turns ---- */

static void turn(struct owner *o, int client, struct buf *answers)
{
    char block[4096];
    ssize_t n;
    uv_run(worker_loop(worker), UV_RUN_NOWAIT);
    worker_settle(worker);
    if (o->paused && !o->closed) {
        o->paused = false;
        stream_resume(o->stream);
        worker_settle(worker);
    }
    while ((n = recv(client, block, sizeof block, MSG_DONTWAIT)) > 0)
        buf_put(answers, block, (size_t)n);
}

static void run(struct owner *o, int client, const uint8_t *data, size_t size,
                const struct expected *x)
{
    size_t piece = o->habit >> 1 ? o->habit >> 1 : size;
    struct buf answers;
    buf_init(&answers, INPUT_MAX * 4);
    for (size_t at = 0; at < size; at += piece) {
        size_t n = size - at < piece ? size - at : piece;
        if (send(client, data + at, n, MSG_DONTWAIT | MSG_NOSIGNAL) != (ssize_t)n)
            break; /* it was closed already */
        turn(o, client, &answers);
    }
    for (unsigned i = 0; o->paused || o->got.len < x->plain.len || answers.len < x->answers.len;
         i++) {
        CHECK(i < TURNS_MAX);
        turn(o, client, &answers);
    }
    CHECK(slice_eq(buf_slice(&o->got), buf_slice(&x->plain)));
    CHECK(slice_eq(buf_slice(&answers), buf_slice(&x->answers)));
    CHECK(o->ends == (x->closes ? 1u : 0));
    buf_fini(&answers);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int pair[2];
    if (!size || size > INPUT_MAX)
        return 0;
    if (!worker)
        worker = worker_new(0);
    struct owner o = {.habit = data[0]};
    struct expected x = {0};
    buf_init(&o.got, INPUT_MAX);
    buf_init(&x.plain, INPUT_MAX);
    buf_init(&x.answers, INPUT_MAX * 4);
    expect(data + 1, size - 1, &x);
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) == 0);
    o.stream = stream_new(worker, pair[0]);
    CHECK(o.stream && stream_begin_websocket(o.stream));
    stream_set_owner(o.stream, &ops, &o, INPUT_MAX + WORKER_SCRATCH);
    stream_set_known(o.stream, true); /* its bytes are taken whenever the loop is turned */
    stream_begin(o.stream);
    run(&o, pair[1], data + 1, size - 1, &x);
    close(pair[1]);
    if (!o.closed)
        stream_close(o.stream);
    for (unsigned i = 0; !o.closed; i++) {
        CHECK(i < TURNS_MAX);
        uv_run(worker_loop(worker), UV_RUN_NOWAIT);
        worker_settle(worker);
    }
    buf_fini(&o.got);
    buf_fini(&x.plain);
    buf_fini(&x.answers);
    return 0;
}
