/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sink/webhook_event.h - a message of the journal as an event for a webhook, in the form that
 * Standard Webhooks 1.0.0 has: {"type", "timestamp", "data"}. Pure; any thread.
 */
#pragma once

#include "sink/sink.h"

#define WEBHOOK_ID_BYTES 64 /* "msg_", a log's id, an offset, and a zero */

struct webhook_source {
    uint8_t log_id[16]; /* of the journal: with the offset it makes an event's id */
    uint16_t node;      /* part of datum ids */
};

/* The id of the message at that offset: the same whenever it is sent, and no other's. */
void webhook_event_id(char out[WEBHOOK_ID_BYTES], const struct webhook_source *s, uint64_t offset);

/* Appends the event's members without braces, so that others may stand before. False: the payload
 * is damaged; `out` may have got some of it. */
bool webhook_event_put(struct buf *out, const struct webhook_source *s,
                       const struct sink_message *m);
