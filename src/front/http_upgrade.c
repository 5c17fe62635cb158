/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From HTTP to WebSocket (RFC 6455 section 4.2): GET /mqtt becomes MQTT (5.0 section 6); GET of a
 * consumer group goes through the pipeline first, as any request. Extensions are declined by not
 * naming them in the answer.
 */
#include "base/metric.h"
#include "codec/websocket.h"
#include "front/http_private.h"

bool http_is_upgrade(const struct http_conn *c, const struct http1_request *r)
{
    struct slice path = r->path;
    if (path.len == 6 && path.ptr[5] == '/')
        path.len--;
    return slice_eq(path, SLICE("/mqtt")) && r->method == HTTP1_GET &&
           c->front->opts.websocket.accept && c->front->opts.tune.websocket_max;
}

bool http_is_consumer(const struct http_conn *c, const struct http1_request *r)
{
    return c->front->opts.consumers.may && r->method == HTTP1_GET &&
           slice_starts(r->path, SLICE("/v1/consume/")) &&
           websocket_upgrade(r) != WEBSOCKET_UPGRADE_NONE;
}

/*
 * Pages of other origins. A client that is no browser sends no Origin, and where credentials are in
 * CONNECT, or in the query, no browser puts them there by itself; but a certificate it may show by
 * itself, and a password that it was once told, so with these a page must be of the origin that is
 * named, or be ours.
 */
static bool origin_may(const struct http_conn *c, const struct http1_request *r, bool by_itself)
{
    struct slice origin = http1_field(r, SLICE("origin"));
    struct slice allowed = slice_str(c->front->opts.tune.cors_origin);
    if (!origin.ptr || slice_eq_nocase(origin, allowed))
        return true;
    if (slice_eq(allowed, SLICE("*")) && !stream_identity(c->stream).ptr && !by_itself)
        return true;
    const char *colon = origin.len ? memchr(origin.ptr, ':', origin.len) : NULL;
    struct slice rest = colon ? slice_from(origin, (size_t)(colon - origin.ptr)) : origin;
    return rest.len > 3 && memcmp(rest.ptr, "://", 3) == 0 &&
           slice_eq_nocase(slice_from(rest, 3), r->host);
}

static struct slice choose_protocol(const struct http1_request *r)
{
    if (websocket_offers(r, SLICE("mqtt")))
        return SLICE("mqtt");
    /* What clients of 3.1 said before there was a standard. */
    return websocket_offers(r, SLICE("mqttv3.1")) ? SLICE("mqttv3.1") : (struct slice){0};
}

static void put_answer(struct buf *out, const struct http1_request *r, struct slice protocol)
{
    char accept[WEBSOCKET_ACCEPT_LEN + 1];
    websocket_accept(r, accept);
    buf_put_slice(out, SLICE("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                             "Connection: Upgrade\r\nSec-WebSocket-Accept: "));
    buf_put_str(out, accept);
    if (protocol.len)
        buf_put_slice(out, SLICE("\r\nSec-WebSocket-Protocol: "));
    buf_put_slice(out, protocol);
    buf_put_slice(out, SLICE("\r\n\r\n"));
}

/* 101, or why the handshake is not one. */
static unsigned check_handshake(const struct http1_request *r, const char **ret_why)
{
    switch (websocket_upgrade(r)) {
    case WEBSOCKET_UPGRADE_NONE:
        *ret_why = "here MQTT is spoken over WebSocket: ask for the upgrade to it";
        return 426;
    case WEBSOCKET_UPGRADE_VERSION:
        *ret_why = "only version 13 of WebSocket is spoken";
        return 426;
    case WEBSOCKET_UPGRADE_BAD:
        *ret_why = "the upgrade to WebSocket is not as RFC 6455 section 4.2.1 says";
        return 400;
    case WEBSOCKET_UPGRADE_OK:
        break;
    }
    return 101;
}

unsigned http_check_consumer(const struct http_conn *c, const struct http1_request *r,
                             struct buf *out, const char **ret_why)
{
    unsigned status = check_handshake(r, ret_why);
    if (status == 101 && !origin_may(c, r, r->authorization.ptr != NULL)) {
        *ret_why = "pages of this origin may not connect";
        return 403;
    }
    if (status == 101)
        put_answer(out, r, (struct slice){0});
    return status;
}

unsigned http_upgrade(struct http_conn *c, const struct http1_request *r, const char **ret_why)
{
    const struct http_opts *o = &c->front->opts;
    struct slice protocol = choose_protocol(r);
    unsigned status = check_handshake(r, ret_why);
    if (status != 101)
        return status;
    if (!protocol.len) {
        *ret_why = "Sec-WebSocket-Protocol does not name mqtt";
        return 400;
    }
    if (!origin_may(c, r, false)) {
        *ret_why = "pages of this origin may not connect";
        return 403;
    }
    *ret_why = "there are as many MQTT connections as may be";
    if (c->front->stopping || !stream_count_in(c->stream, o->websocket.open, o->tune.websocket_max))
        return 503;
    struct address from = http_client(&o->tune, r, stream_peer(c->stream));
    stream_set_peer(c->stream, &from);
    buf_clear(&c->front->gather);
    put_answer(&c->front->gather, r, protocol);
    stream_write(c->stream, buf_slice(&c->front->gather));
    metric_add(METRIC_http_requests, 1);
    return 101;
}
