/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sink/rabbitmq.h - a sink that publishes messages to RabbitMQ (3.8 or later), each confirmed by
 * the broker and with an id that stays the same if it comes again: at least once (docs/sinks.md,
 * decision 0050). Made and closed by the server; used by its sink's thread.
 */
#pragma once

#include "sink/sink.h"

struct rabbitmq_opts {
    const char *url;           /* amqp[s]://USER@HOST:PORT/VHOST */
    const char *password_file; /* read at each connection; empty: the password is "guest" */
    const char *ca_file;       /* of amqps; empty: the system's certificates */
    const char
        *exchange;     /* a durable topic exchange, made if it is missing; empty: the default one */
    const char *queue; /* a quorum queue, made if it is missing, gets all; empty: none */
    const char *routing_key; /* text with {account}, {feed}, {device} */
    bool mandatory;          /* what no queue takes is a dead letter, not dropped */
    unsigned batch_max;      /* messages of one batch */
    uint64_t timeout_ns;     /* of each answer */
    unsigned heartbeat_s;
    uint8_t log_id[16]; /* of the journal: a part of a message's id */
};

extern const struct sink_ops rabbitmq_ops;

/* What the ops work on. Checks the settings; connects to nothing. 0, or -EINVAL with a sentence. */
int rabbitmq_new(const struct rabbitmq_opts *opts, void **ret, struct error *err);
