/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow/live.h - a message on its way to those who have subscribed, whatever the protocol. It lies
 * with whoever makes it, on the worker of the subscribers.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"

#define LIVE_OF_NOBODY 0u /* no account's: what the server itself tells */

struct live_message {
    uint64_t account; /* whose */
    uint64_t client;  /* that published it (record_client); 0: not known, or not by MQTT */
    uint64_t place;   /* in the journal (session_place); 0: it is not from there */
    struct slice topic;
    struct slice feed_key; /* that it is about; empty: none, everybody of the account may see it */
    uint64_t permission;   /* that who gets it must have */
    struct slice (*payload)(void *arg); /* made when somebody wants it; good until the next call */
    void *arg;
    /* What was published to a topic that is no feed, with what came with it: */
    bool published, retain;
    bool retained; /* it was there before who gets it subscribed */
    uint8_t qos;
    int64_t expires_us;      /* since 1970; INT64_MAX: never */
    struct slice properties; /* as mqtt_put_passed wrote them */
};

/* What a look for the next of some messages has found. */
enum live_step {
    LIVE_END,  /* no more */
    LIVE_ONE,  /* a message */
    LIVE_MORE, /* none in this look: go on behind the message's topic */
};

/* The subscribers of a worker. */
struct live_ops {
    /* Whether anybody has subscribed to anything of that account. */
    bool (*wants)(void *arg, uint64_t account);
    void (*publish)(void *arg, const struct live_message *m);
    /* Around what comes of a stretch of the journal: its first position, and one past its last.
     * What lies between two stretches was not brought here. */
    void (*begin)(void *arg, uint64_t first);
    void (*end)(void *arg, uint64_t next);
    void *arg;
};
