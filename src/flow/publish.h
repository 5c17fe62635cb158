/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow/publish.h - the payload of a RECORD_PUBLISH: a message to a topic that is no feed. Its topic
 * stands in the record, and whether it is retained in the record's flags. Plain values that borrow
 * their bytes; pure functions; any thread.
 */
#pragma once

#include "base/buf.h"
#include "flow/record.h"

struct publish {
    uint8_t qos;             /* it was published with */
    bool has_expiry;         /* MQTT 5.0, section 3.3.2.3.3: */
    uint32_t expiry_s;       /* counted from the record's receive_us */
    struct slice properties; /* others that are passed on, encoded as in MQTT 5.0; no length */
    struct slice message;
};

/* Appends: u8 flags (bits 0-1 QoS, 2 expiry, 3 properties), [varint expiry], [varint length,
 * properties], message. */
void publish_encode(struct buf *out, const struct publish *p);
/* Reads one back; its slices borrow from `payload`. False: not a message. */
bool publish_decode(struct slice payload, struct publish *ret);
/* When it expires, in microseconds since 1970; INT64_MAX: never. */
int64_t publish_expires_us(const struct publish *p, int64_t receive_us);
