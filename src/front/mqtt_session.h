/* SPDX-License-Identifier: Apache-2.0 */
/*
 * front/mqtt_session.h - who holds a client id, so that of each account's only one connection has
 * it at a time (MQTT-3.1.4-3). One table for all workers: a connection that takes a client id from
 * another one, on whatever worker, waits until that one has let go.
 *
 * A claim is also what makes a connection the only one of its session: it is dropped only when what
 * the connection had to say of that is durable (mqtt_keep.c).
 *
 * A claim is embedded in its connection and used on that connection's worker. It must stay until
 * mqtt_claim_drop has returned true, or else until it was told CLAIM_GONE.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"
#include "conn/worker.h"

struct mqtt_sessions;

enum claim_event {
    CLAIM_GRANTED, /* who held the id has let go */
    CLAIM_LOST,    /* another connection wants it: close, and drop the claim */
    CLAIM_GONE,    /* after mqtt_claim_drop: its memory may go */
};

struct mqtt_claim {
    struct worker *worker; /* the caller sets these two */
    /* On `worker`, from its mail. */
    void (*told)(struct mqtt_claim *c, enum claim_event event);
    struct mail mail;
    bool mine; /* taken and not dropped; of `worker` alone */
    /* Of mqtt_session.c, under the table's lock: */
    struct mqtt_sessions *sessions;
    struct mqtt_claim *next; /* in its bucket, while it holds the id */
    struct mqtt_claim *waiter, *holder;
    uint64_t account, hash;
    struct slice id;
    uint8_t state, events;
    bool posted;
};

struct mqtt_sessions *mqtt_sessions_new(void);
/* All claims must be dropped. Accepts NULL. */
void mqtt_sessions_free(struct mqtt_sessions *s);

/* Claims the id, whose bytes stay until the claim is dropped. True: it is held at once. False: its
 * holder was told to close; CLAIM_GRANTED or CLAIM_LOST follows. */
bool mqtt_claim_take(struct mqtt_sessions *s, struct mqtt_claim *c, uint64_t account,
                     struct slice id);
/* Lets go, or stops waiting; also of a claim that was never taken. True: the claim's memory may go.
 * False: not before CLAIM_GONE. Nothing else is told any more. */
bool mqtt_claim_drop(struct mqtt_claim *c);
