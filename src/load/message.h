/* SPDX-License-Identifier: Apache-2.0 */
/*
 * load/message.h - the PUBLISH packets of a connection: one made once, in which places are written
 * over for each message, so that sending is a copy and a few digits. Owned by the connection; one
 * thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "codec/mqtt.h"
#include "load/fleet.h"
#include "load/load_opts.h"

#define MESSAGE_FEED_DIGITS 6  /* a feed's number, so that all topics are of one length */
#define MESSAGE_TIME_DIGITS 19 /* when it was due, nanoseconds of the monotonic clock */
/* Bytes of a payload that the time and the sequence are in. */
#define MESSAGE_SEQUENCED_MIN (MESSAGE_TIME_DIGITS + 1 + FLEET_SEQ_DIGITS + 1)

struct message {
    char *packet;
    uint32_t len;
    uint32_t feed_at; /* where the digits of %feed% stand; 0: nowhere */
    uint32_t id_at;   /* the packet id; 0: QoS 0 */
    uint32_t time_at; /* the time; 0: the payload is as the options have it */
    uint32_t seq_at;  /* the sequence; 0: nowhere */
};

/* What is different in each. */
struct message_fill {
    uint32_t feed;
    uint16_t id;
    uint64_t at_ns; /* when it was due */
    uint64_t sequence;
};

/* Makes the packet for the device that the connection logged in as. 0, or -ENOMEM. */
int message_init(struct message *m, const struct load_opts *opts, struct slice device);
void message_fini(struct message *m);

/* Writes one of m->len bytes to `out`. */
void message_put(const struct message *m, char *out, const struct message_fill *fill);

/* Reads the time out of a payload. False: it has none. */
bool message_time(struct slice payload, uint64_t *ret_ns);
