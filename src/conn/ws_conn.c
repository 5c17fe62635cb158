/* SPDX-License-Identifier: Apache-2.0 */
/*
 * WebSocket between a stream and its owner (RFC 6455). The owner reads the bytes that binary frames
 * carry, one after the other, and knows of neither frames nor messages; nothing of a message is
 * kept here, so its length needs no limit. Whatever the owner writes is one message.
 *
 * Invariants: 1. Behind a close frame nothing is sent any more (section 5.5.1). 2. Pongs that the
 * client does not take are at most ANSWERS_MAX and those of one read.
 */
#include "conn/ws_private.h"

#include <stdlib.h>

#include "base/metric.h"
#include "codec/websocket.h"
#include "conn/stream_private.h"

#define ANSWERS_MAX 16384u
#define TOGETHER    4096u /* of a message, sent with its head */

struct ws_conn {
    struct stream *stream;
    struct websocket in;
    const char *why;  /* of a failure: a constant */
    uint16_t code;    /* to close with */
    uint16_t answers; /* bytes of pongs since all was sent */
    bool bye;
    uint8_t end; /* enum ws_end */
};

struct ws_conn *ws_conn_new(struct stream *s)
{
    struct ws_conn *w = calloc(1, sizeof *w);
    if (!w)
        return NULL;
    w->stream = s;
    w->code = WEBSOCKET_NORMAL;
    w->why = "";
    return w;
}

void ws_conn_free(struct ws_conn *w)
{
    free(w);
}

enum ws_end ws_conn_end(const struct ws_conn *w)
{
    return (enum ws_end)w->end;
}

bool ws_conn_choked(const struct ws_conn *w)
{
    return w->answers >= ANSWERS_MAX && stream_unsent(w->stream);
}

/* ---- in ---- */

static void fail(struct ws_conn *w, uint16_t code, const char *why)
{
    metric_add(METRIC_websocket_failures, 1);
    w->end = WS_END_BROKEN;
    w->code = code;
    w->why = why;
}

static void pong(struct ws_conn *w, struct slice payload)
{
    char bytes[WEBSOCKET_HEAD_MAX + WEBSOCKET_CONTROL_MAX];
    struct buf out;
    if (w->bye)
        return;
    if (!stream_unsent(w->stream))
        w->answers = 0;
    buf_init(&out, sizeof bytes);
    websocket_put(&out, WEBSOCKET_PONG, payload);
    if (w->answers < ANSWERS_MAX)
        w->answers = (uint16_t)(w->answers + out.len);
    stream_send(w->stream, buf_slice(&out));
    buf_fini(&out);
}

static void take_control(struct ws_conn *w, const struct websocket_event *e)
{
    if (e->opcode == WEBSOCKET_PING) {
        pong(w, e->data);
    } else if (e->opcode == WEBSOCKET_CLOSE) {
        w->end = WS_END_CLOSED;
        w->code = e->code;
    }
}

/* A text is refused for being one even if it is none: else it would depend on how it was cut. */
static bool is_text(const struct ws_conn *w, enum websocket_outcome outcome,
                    const struct websocket_event *e)
{
    return outcome == WEBSOCKET_BAD ? w->in.text == WEBSOCKET_TEXT
                                    : outcome == WEBSOCKET_DATA && e->opcode == WEBSOCKET_TEXT;
}

size_t ws_conn_take(struct ws_conn *w, char *ptr, size_t len)
{
    struct websocket_event e;
    size_t at = 0, out = 0, used;
    while (at < len && w->end == WS_END_NOT) {
        enum websocket_outcome outcome =
            websocket_parse(&w->in, ptr + at, len - at, UINT64_MAX, &used, &e);
        at += used;
        if (is_text(w, outcome, &e)) {
            fail(w, WEBSOCKET_UNSUPPORTED, "only binary messages are understood here");
        } else if (outcome == WEBSOCKET_BAD) {
            fail(w, e.code, e.why);
        } else if (outcome == WEBSOCKET_CONTROL) {
            take_control(w, &e);
        } else if (outcome == WEBSOCKET_DATA && e.data.len) {
            memmove(ptr + out, e.data.ptr, e.data.len);
            out += e.data.len;
        }
    }
    return out;
}

/* ---- out ---- */

void ws_conn_write(struct ws_conn *w, struct slice bytes)
{
    char first[WEBSOCKET_HEAD_MAX + TOGETHER];
    if (w->bye || !bytes.len)
        return;
    unsigned head = websocket_head(first, WEBSOCKET_BINARY, bytes.len);
    size_t n = bytes.len < TOGETHER ? bytes.len : TOGETHER;
    memcpy(first + head, bytes.ptr, n);
    stream_send(w->stream, slice_of(first, head + n));
    if (n < bytes.len)
        stream_send(w->stream, slice_from(bytes, n));
}

void ws_conn_bye(struct ws_conn *w)
{
    struct buf out;
    if (w->bye)
        return;
    w->bye = true;
    buf_init(&out, WEBSOCKET_HEAD_MAX + WEBSOCKET_CONTROL_MAX);
    websocket_put_close(&out, w->code, w->why);
    stream_send(w->stream, buf_slice(&out));
    buf_fini(&out);
}
