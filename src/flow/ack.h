/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow/ack.h - when "accepted" is said (docs/design: a watermark passes the message), as settings,
 * plans, accounts and requests write it. Pure; any thread.
 */
#pragma once

#include "base/buf.h"
#include "base/slice.h"

#define SINK_NAME_MAX 15 /* bytes */
#define ACK_TEXT_MAX  (sizeof "delivered:" - 1 + SINK_NAME_MAX)
/* What may be written, for who wrote something else. */
#define ACK_WORDS "received, durable, applied or delivered:SINK"

enum ack_level {
    ACK_RECEIVED,  /* it is in memory: nothing is promised */
    ACK_DURABLE,   /* on the disk */
    ACK_APPLIED,   /* and the next read sees it */
    ACK_DELIVERED, /* on the disk, and a sink's target has confirmed it */
};

struct ack {
    enum ack_level level;
    char sink[SINK_NAME_MAX + 1]; /* of ACK_DELIVERED; whether there is one is not known here */
};

/* "received", "durable", "applied" or "delivered:NAME". False: it is none of these. */
bool ack_parse(struct slice text, struct ack *ret);
/* Writes it back. */
void ack_format(struct buf *out, const struct ack *a);
