/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow/exchange.h - one request and its reply, whatever the protocol. The front makes it and owns
 * it; the pipeline works on it; both on the worker of its connection.
 *
 * Life: the front fills `request` and calls the pipeline. The pipeline either fills `reply` and
 * calls exchange_send at once, or later. It may put requests off to work on all of a turn together:
 * their bytes stay where they are until the worker settles (conn/worker.h), and no later request of
 * the same connection is handed up before. If it must look at the request again after that, it
 * calls exchange_keep, which copies the request's bytes and stops reading from that connection
 * until exchange_release (or exchange_send); the copy stays until exchange_send. A GET that is not
 * answered before the worker settles is kept in any case: its answer is compared with what it has
 * already (If-None-Match). After exchange_send the exchange is the front's again; so it is behind
 * `pledge`, and what that returned is redeemed instead. A connection that goes away does not take
 * its exchanges with it: they are sent into the void.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "flow/principal.h"
#include "flow/reason.h"

enum method {
    METHOD_GET,
    METHOD_HEAD,
    METHOD_POST,
    METHOD_PUT,
    METHOD_PATCH,
    METHOD_DELETE,
    METHOD_OPTIONS,
    METHOD_OTHER,
    /* Of connections that last (MQTT, WebSocket): */
    METHOD_CONNECT,  /* says who sends what follows: fills `principal` */
    METHOD_PUBLISH,  /* `body` to the topic `path` */
    METHOD_SESSION,  /* `body` is a session_record that happened to `session`; with none, to the
                        session of the client id `path`: see pipeline_session.c */
    METHOD_MISSED,   /* `missed`: what a session is to get of the journal */
    METHOD_RETAINED, /* until the view has all retained messages that are durable now */
    METHOD_CREDIT,   /* `consumer` may have `credit` messages of the group `path` */
};

/* Through which door it came: what is served differs. */
enum surface { SURFACE_PUBLIC, SURFACE_OPERATOR, SURFACE_ADMIN, SURFACE_MQTT };

enum presented_kind {
    PRESENTED_NONE,
    PRESENTED_DEVICE,      /* id and secret */
    PRESENTED_KEY,         /* secret alone */
    PRESENTED_BASIC,       /* id is a device's or an account's; secret is the device's or a key */
    PRESENTED_CERTIFICATE, /* id is a device's, and TLS has proved that it is */
};

struct presented {
    enum presented_kind kind;
    struct slice id, secret;
};

struct request {
    enum method method;
    enum surface surface;
    struct slice path;  /* percent-decoded, '//' and a trailing '/' removed; or a topic */
    struct slice query; /* still encoded */
    struct slice body;  /* unpacked */
    struct slice content_type;
    struct slice accept, if_none_match;
    struct slice host;
    struct presented presented;
    /* Of the connection, where that has one: METHOD_CONNECT fills it, what follows is that one's.
     * The front's; NULL: the request says itself who it is from. */
    struct principal *principal;
    bool no_answer;     /* the sender is not told what became of it (QoS 0) */
    uint16_t packet_id; /* METHOD_PUBLISH with QoS 2 in a session */
    /* METHOD_PUBLISH, of MQTT: properties of 5.0 as sent, known to be good; expiry in seconds. */
    struct slice properties;
    uint32_t expiry_s;
    bool has_expiry, retain;
    bool will; /* it is that of `session`, which has none any more once this is stored */
    uint8_t qos;
    uint64_t session;      /* that outlives the connection; 0: none */
    uint64_t version;      /* of `session`: nothing is said of it if it has another; 0: any */
    uint64_t client;       /* record_client, of MQTT 5.0; 0: none */
    bool own;              /* METHOD_PUBLISH of the server itself: its principal was made for it */
    struct slice rule;     /* the same of a rule: its message's rule_mark; ptr NULL: of none */
    struct missed *missed; /* METHOD_MISSED */
    /* A GET that asks for WebSocket: answered 101, `principal` says who it is, and `consumer` is
     * the number that it is known by, on what the connection then says. */
    bool upgrade;
    uint64_t consumer; /* 0: none */
    uint32_t credit;
    struct slice idempotency_key, device_seq; /* as sent; ptr NULL: absent */
    uint64_t source;                          /* the client's address as limits count it */
    bool
        only_unchanged; /* a GET whose answer nobody makes: that its version is known, or nothing */
    bool proven;        /* the pipeline: the credential is good, whatever else becomes of it */
    bool secure;        /* TLS is between the client and us, or the proxy that it sends to */
    bool shared;        /* a proxy's connection: the next request on it may be another client's */
    uint64_t start_ns;  /* monotonic: the request was whole */
};

struct reply {
    enum reason reason;       /* REASON_ok: `status`; else the table's status and text */
    uint16_t status;          /* with REASON_ok */
    const char *content_type; /* NULL: application/json */
    struct buf body;   /* with a reason: left empty, the front writes the error body, or filled
                          with a JSON body of the same shape */
    struct buf fields; /* more header lines, each with CRLF */
    /* METHOD_PUBLISH: nothing was to be stored. `body`, if there is one, is a message for the
     * sender alone, on the first so many bytes of its topic; 0: it is not so, and a `body` is a
     * sentence that the sender is told with the acknowledgement, where it has room for one. */
    size_t answers_on;
    uint64_t retry_ns; /* with a reason: Retry-After; 0 = none */
    uint64_t version; /* of a GET: stands for what the answer was made of, and is its entity tag; 0:
                         the front makes one from the body */
    /* METHOD_SESSION with no `session`: whose record was written, whatever became of that, and
     * whether it was there before; 0: none was. */
    uint64_t session;
    bool session_found;
    bool no_store; /* of a GET: the same again would not do the same, or not say the same; of
                      another: it holds a secret */
};

#define EXCHANGE_MAGIC 0x5eedc0deu

struct exchange {
    uint32_t magic;
    struct request request;
    struct reply reply;
    const struct exchange_ops *ops;
    _Alignas(16) char stage[]; /* the pipeline's own part, zeroed */
};

/* What the front does for the pipeline. */
struct exchange_ops {
    void (*prefetch)(struct exchange *x);
    void (*keep)(struct exchange *x);
    void (*release)(struct exchange *x);
    void (*send)(struct exchange *x);
    bool (*gone)(const struct exchange *x); /* NULL: cannot be told */
    /* All that is still to be said is what becomes of a message whose sender is told that, and it
     * takes a while: the exchange is released and the front's again, and what is returned stands
     * for it, to be redeemed once, on the same worker. Both NULL: cannot be. */
    void *(*pledge)(struct exchange *x);
    void (*redeem)(void *pledge, enum reason reason, uint64_t retry_ns);
};

/* It is about to be answered: asks for the cache lines that this will touch. */
static inline void exchange_prefetch(struct exchange *x)
{
    x->ops->prefetch(x);
}

static inline void exchange_keep(struct exchange *x)
{
    x->ops->keep(x);
}

/* Keeps the request without its body: nobody will look at that any more, and one that was kept is
 * let go. */
static inline void exchange_keep_no_body(struct exchange *x)
{
    x->request.body = (struct slice){0};
    x->ops->keep(x);
}

/* Reading from the connection goes on. The request's bytes are gone, unless they were kept. */
static inline void exchange_release(struct exchange *x)
{
    x->ops->release(x);
}

/* Nobody will read the reply, as far as is known now. */
static inline bool exchange_gone(const struct exchange *x)
{
    return x->ops->gone && x->ops->gone(x);
}

/* The reply is complete. The exchange may be gone when this returns. */
static inline void exchange_send(struct exchange *x)
{
    x->ops->send(x);
}

/* Replies with a reason and, if `text` is not NULL, a better sentence than the table's. */
static inline void exchange_refuse(struct exchange *x, enum reason reason, const char *text)
{
    x->reply.reason = reason;
    x->reply.content_type = NULL;
    buf_clear(&x->reply.body);
    if (text) {
        buf_put_str(&x->reply.body, "{\"error\":");
        buf_put_json(&x->reply.body, slice_str(text));
        buf_put_str(&x->reply.body, "}");
    }
    exchange_send(x);
}
