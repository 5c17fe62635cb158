/* SPDX-License-Identifier: Apache-2.0 */
/*
 * front/http_private.h - what http_conn.c (bytes in), http_reply.c (bytes out) and http_request.c
 * (head to request) share. Nobody else includes it.
 */
#pragma once

#include "front/http.h"

#define HTTP_CONN_MAGIC 0x477e11edu

/* A request on its connection: the exchange and what the front must remember for the answer. */
struct http_exchange {
    struct http_exchange *next; /* in the connection's queue, or the front's free list */
    struct http_conn *conn;     /* NULL: the connection went away */
    struct http_front *front;
    size_t held;        /* of its connection's `held` */
    struct buf raw;     /* the head's parts, once kept */
    struct buf scratch; /* decoded path and credentials; never moves once filled */
    struct buf body;    /* the body, unpacked or once kept */
    struct buf out;     /* the answer, ready to send, or what goes before its body */
    bool apart;         /* it is followed by x.reply.body, too long to be copied without need */
    bool done, kept, close, head_only, minor0, has_origin;
    bool upgrades;        /* asks for messages by WebSocket: `out` begins as the answer to that */
    struct principal who; /* of what it becomes */
    struct exchange x;    /* last: it ends in the pipeline's part */
};

enum http_state {
    HTTP_HEAD,
    HTTP_BODY,
    HTTP_CHUNKED,
    HTTP_CLOSING,
    HTTP_UPGRADED, /* 101 was sent: the stream goes to another owner */
};

struct http_conn {
    uint32_t magic;
    struct http_front *front;
    struct stream *stream;
    struct http_conn *next, **prev;      /* all connections of the front */
    struct http_exchange *first, **last; /* requests without an answer sent, oldest first */
    unsigned queued;
    enum http_state state;
    size_t scanned;  /* of the head in hand */
    size_t need;     /* HTTP_BODY: bytes of head and body together */
    uint64_t due_ns; /* when the head in hand must be whole, or its body is looked at again */
    uint64_t body_start_ns;
    uint64_t sent_seen; /* progress of writing at the last look */
    size_t answers;     /* bytes of those that are done and wait for one before them */
    size_t held;        /* bytes that requests without an answer made us copy or unpack */
    struct http1_chunked chunked;
    struct buf head, body;      /* HTTP_CHUNKED: the head's bytes, the body so far */
    struct http_exchange *kept; /* what reading waits for */
    uint64_t handed_up;         /* worker_settled + 1 when the last request was; 0: never */
    bool ended, want_continue, waiting_body, stalled;
    bool in_turn;       /* the request in hand waits for the answers before it */
    bool unsafe_queued; /* one of the queued requests changes something */
    struct deadline deadline;
};

struct http_front {
    struct http_opts opts;
    uint32_t captured; /* requests asked about (flow/capture.h) */
    struct http_conn *conns;
    unsigned conns_count;
    struct http_exchange *free;
    unsigned free_count;
    struct buf gather; /* several answers for one write */
    struct consumer_conn *consumers;
    unsigned consumers_count;
    bool stopping;
};

/* http_request.c: fills x->request from a parsed head. The slices borrow from the head, from
 * `body`, or from e->scratch. REASON_ok or why the request is refused. */
enum reason http_request_fill(struct http_exchange *e, const struct http1_request *r,
                              struct slice body, const struct address *client);

/* http_conn.c: what the exchange holds of its request may be more, or less. May close the stream,
 * and others. */
void http_weigh(struct http_exchange *e);

/* Who sends, where a proxy says so and the peer is believed. */
struct address http_client(const struct http_tune *t, const struct http1_request *r,
                           const struct address *peer);

/* http_upgrade.c: whether it is for the place that speaks MQTT over WebSocket. */
bool http_is_upgrade(const struct http_conn *c, const struct http1_request *r);
/* Whether it asks for messages of a consumer group over WebSocket. */
bool http_is_consumer(const struct http_conn *c, const struct http1_request *r);
/* 101 if it asks for that as it should, and what is to be answered when it is let in is in `out`;
 * else the status and sentence to refuse it with. */
unsigned http_check_consumer(const struct http_conn *c, const struct http1_request *r,
                             struct buf *out, const char **ret_why);
/* What becomes of it, with no request before it without an answer. 101: that was sent, and what
 * follows is WebSocket; else the status and sentence to refuse it with. */
unsigned http_upgrade(struct http_conn *c, const struct http1_request *r, const char **ret_why);

/* http_consumer.c: the stream is pushed messages from now on, as the exchange, answered 101, asked
 * for. */
void http_consumer_begin(struct http_front *f, struct stream *s, struct http_exchange *e);
void http_consumers_stop(struct http_front *f);
void http_consumers_abort(struct http_front *f);

/* http_capture.c: records the request, which came at `now_ns` with so many bytes of body. */
void http_capture(const struct http1_request *r, size_t body_len, uint64_t now_ns);

/* http_reply.c: writes the answer of `e` to e->out from its reply, or what goes before its body. */
void http_reply_format(struct http_exchange *e, struct worker *w);
/* The answer to a head that is no request; the connection closes behind it. */
void http_reply_bad(struct http_exchange *e, struct worker *w, unsigned status, const char *why);
