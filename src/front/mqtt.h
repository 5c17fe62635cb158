/* SPDX-License-Identifier: Apache-2.0 */
/*
 * front/mqtt.h - an MQTT connection (3.1, 3.1.1, 5.0): packets to exchanges, replies to packets.
 * One `struct mqtt_front` per worker; everything on that worker's thread.
 *
 * CONNECT becomes a METHOD_CONNECT exchange, PUBLISH a METHOD_PUBLISH one with the connection's
 * principal. Answers leave in the order of the messages (MQTT-4.6.0-2 to -4), those of a turn in
 * one write. While an exchange is kept nothing more is read from that connection.
 */
#pragma once

#include "conn/stream.h"
#include "flow/exchange.h"
#include "flow/flood.h"
#include "flow/live.h"
#include "front/mqtt_session.h"
#include "front/mqtt_share.h"

struct mqtt_front;

/* What may change while it runs. */
struct mqtt_tune {
    uint64_t connect_timeout_ns;   /* from the connection to a whole CONNECT */
    uint64_t write_timeout_ns;     /* without progress while something is being sent */
    uint16_t keep_alive_max_s;     /* 5.0: what longer ones, and none, are cut to; 0: nothing is */
    uint32_t session_expiry_max_s; /* longer ones are cut to it, and 3.x has it; 0: no session
                                      outlives its connection */
    bool refusal_3_closes;         /* 3.x: a refused message closes; else it is acknowledged */
    uint32_t missed_max; /* messages of groups that a member may have to read from the journal */
};

struct mqtt_opts {
    struct worker *worker;
    struct mqtt_tune tune;
    uint32_t packet_max, connect_max; /* bytes of a packet, and of the CONNECT */
    uint16_t receive_max;             /* messages above QoS 0 of a connection without an answer */
    uint16_t alias_max;               /* topic aliases a client may set */
    size_t stage_bytes;               /* room for the pipeline in each exchange */
    struct mqtt_sessions *sessions;   /* all workers' */
    struct mqtt_shares *shares;       /* the same */
    void (*handle)(void *arg, struct exchange *x);
    uint16_t subscriptions_max; /* of one connection */
    size_t queue_bytes;         /* of messages above QoS 0 that wait for a connection's window */
    /* Whether the principal may subscribe to the filter: REASON_ok, with the account whose messages
     * it is about (LIVE_OF_NOBODY: the server's), or why not. */
    enum reason (*may_subscribe)(void *arg, struct principal *p, struct slice filter,
                                 uint64_t *ret_account);
    /* Counts one of that against its limits. */
    void (*flood)(void *arg, const struct principal *p, uint64_t source, enum flood what,
                  struct flood_verdict *ret);
    /* Brings a message to the subscribers of all workers; what it points to is copied. */
    void (*tell)(void *arg, const struct live_message *m);
    /* So many more subscriptions, or fewer, than before. */
    void (*interest)(void *arg, int change);
    /* Everything below this position is durable: was sent before what is subscribed now. */
    uint64_t (*durable)(void *arg);
    /* The next retained message for a filter (lane_next_retained). */
    enum live_step (*next_retained)(void *arg, const struct principal *p, struct slice filter,
                                    struct slice after, uint64_t below, struct buf *storage,
                                    struct live_message *ret, struct slice *ret_payload);
    /* Whether a principal is still so (lane_vouches). */
    bool (*vouches)(void *arg, struct principal *p);
    /* A message of this topic comes soon: fetches what working on it will touch. What it returns is
     * handed in again a little later, when that has come (lane_glance). */
    uint64_t (*glance)(void *arg, const struct principal *p, struct slice topic);
    void (*glance_again)(void *arg, uint64_t hint);
    void *arg;
};

struct mqtt_front *mqtt_front_new(const struct mqtt_opts *opts);
/* From now on; times that run already end as they were set. */
void mqtt_front_tune(struct mqtt_front *f, const struct mqtt_tune *tune);
/* All its connections must be closed. Accepts NULL. */
void mqtt_front_free(struct mqtt_front *f);
/* For listener_opts: makes the stream an MQTT connection. `front` is the mqtt_front. */
bool mqtt_accept(void *front, struct stream *s);
/* Sends what the turn has answered, and a part of the retained messages that connections still get;
 * to be called at each end of a turn. Returns whether there is more of those to be sent. */
bool mqtt_front_flush(struct mqtt_front *f);
/* Closes the connections whose principal is no more. */
void mqtt_front_check(struct mqtt_front *f);
/* Stopping: reads no more; each connection closes behind the answers to what it has sent. */
void mqtt_front_stop(struct mqtt_front *f);
/* Closes every connection, answered or not. */
void mqtt_front_abort(struct mqtt_front *f);
/* Its subscribers, for whoever has messages for them. */
struct live_ops mqtt_front_live(struct mqtt_front *f);
unsigned mqtt_front_connections(const struct mqtt_front *f);
