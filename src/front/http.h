/* SPDX-License-Identifier: Apache-2.0 */
/*
 * front/http.h - an HTTP/1.1 connection: bytes to exchanges, replies to bytes, in order. One
 * `struct http_front` per worker and surface; everything on that worker's thread.
 *
 * Requests of one connection are handed up as they arrive and may be answered out of order; answers
 * leave in order. While an exchange is kept (exchange_keep) nothing more is read from that
 * connection. A connection that asks for it becomes MQTT over WebSocket (http_upgrade.c), or is
 * pushed messages of a consumer group (http_consumer.c).
 */
#pragma once

#include "codec/address.h"
#include "codec/http1.h"
#include "conn/stream.h"
#include "flow/exchange.h"

struct http_front;

/* What may change while it runs. What it points to must stay until the next http_front_tune. */
struct http_tune {
    unsigned pipeline_max;
    uint64_t head_timeout_ns, idle_timeout_ns, write_timeout_ns;
    uint64_t body_rate_min;  /* bytes per second, after five seconds; 0 = any */
    const char *cors_origin; /* "" = no CORS */
    uint32_t hsts_s;         /* Strict-Transport-Security: max-age; 0 = none */
    bool use_forwarded;      /* trusted proxies write Forwarded, not X-Forwarded-For */
    const struct cidr *trusted;
    unsigned trusted_count;
    unsigned websocket_max; /* connections counted in http_websocket.open; 0: it is not spoken */
};

/* Where connections go that are upgraded to WebSocket at /mqtt. */
struct http_websocket {
    bool (*accept)(void *arg, struct stream *s); /* as in listener_opts; NULL: nowhere */
    void *arg;
    unsigned *open; /* counts them (atomic) */
};

/* What connections need that are pushed messages of a consumer group; they are the front's own. */
struct http_consumers {
    enum reason (*may)(void *arg, struct principal *p); /* whether it still may; NULL: none are */
    void (*left)(void *arg, uint64_t consumer);         /* it has ended */
};

struct http_opts {
    struct worker *worker;
    enum surface surface;
    struct http1_limits limits;
    size_t body_max; /* also after unpacking */
    struct http_tune tune;
    struct http_websocket websocket;
    struct http_consumers consumers; /* with `arg` */
    size_t stage_bytes;              /* room for the pipeline in each exchange */
    /* One whole request. */
    void (*handle)(void *arg, struct exchange *x);
    void *arg;
};

struct http_front *http_front_new(const struct http_opts *opts);
/* From now on; times that run already end as they were set. Worker's thread. */
void http_front_tune(struct http_front *f, const struct http_tune *tune);
/* All its connections must be closed. Accepts NULL. */
void http_front_free(struct http_front *f);
/* For listener_opts: makes the stream an HTTP connection. `front` is the http_front. */
bool http_accept(void *front, struct stream *s);
/* Stopping: every connection closes behind the answers to what it has sent. */
void http_front_stop(struct http_front *f);
/* Closes those that have sent nothing; to be called when every socket was read once since the stop.
 */
void http_front_close_idle(struct http_front *f);
/* Closes every connection, answered or not. */
void http_front_abort(struct http_front *f);
/* Closes the connections of consumers that are not what they were let in as. */
void http_front_check(struct http_front *f);
unsigned http_front_connections(const struct http_front *f);
