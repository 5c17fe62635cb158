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
#include "load/load_opts.h"
#include "load/template.h"

/* Bytes of a payload that time, and time and sequence, are in. */
#define MESSAGE_TIMED_MIN     (TEMPLATE_DUE_DIGITS + 1)
#define MESSAGE_SEQUENCED_MIN (MESSAGE_TIMED_MIN + TEMPLATE_SEQ_DIGITS + 1)

struct message {
    char *packet;
    uint32_t len;
    uint32_t id_at; /* the packet id; 0: QoS 0 */
    struct template_marks marks;
};

/* Makes the packet for the device that the connection logged in as. 0, or -ENOMEM. */
int message_init(struct message *m, const struct load_opts *opts, struct slice device);
void message_fini(struct message *m);

/* Writes one of m->len bytes to `out`. */
void message_put(const struct message *m, char *out, uint16_t id,
                 const struct template_values *values);

/* Reads the time out of a payload. False: it has none. */
bool message_time(struct slice payload, uint64_t *ret_ns);
