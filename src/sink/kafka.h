/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sink/kafka.h - a sink that puts messages into Kafka (librdkafka 2.0.2): a batch and the cursor in
 * one transaction, so that whoever reads what is committed sees each message exactly once
 * (docs/sinks.md, decision 0051). Made and closed by the server; used by its sink's thread.
 */
#pragma once

#include "sink/sink.h"

enum kafka_key {
    KAFKA_KEY_FEED,   /* "account/feed", or "account/topic" */
    KAFKA_KEY_DEVICE, /* "account/device"; "account" if no device sent it */
};

/* Each header costs about half of what a message without any does. */
enum kafka_headers {
    KAFKA_HEADERS_BRIEF, /* what neither key nor time says */
    KAFKA_HEADERS_NONE,  /* likewise, but for a datum or a message neither position nor names */
    KAFKA_HEADERS_FULL,  /* all there are */
};

struct kafka_opts {
    const char *name;         /* of the sink: names its cursor and its transactions */
    const char *brokers;      /* "host:port", commas between */
    const char *topic;        /* may have {account}, {feed}, {device} in it */
    const char *cursor_topic; /* followed by '.' and the log id; compacted, made if it is missing */
    enum kafka_key key;       /* of messages */
    enum kafka_headers headers;
    const char *compression;   /* as librdkafka names it; "none" */
    const char *security;      /* "plaintext", "ssl", "sasl_plaintext", "sasl_ssl" */
    const char *mechanism;     /* of SASL: "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512" */
    const char *username;      /* of SASL */
    const char *password_file; /* of SASL: read at each connection; empty: none */
    const char *ca_file;       /* empty: the system's */
    const char *certificate;   /* the client's; empty: none */
    const char *key_file;      /* to it */
    uint64_t message_max;      /* bytes of a message, and of a batch that librdkafka makes */
    uint64_t timeout_ns;       /* of each step of a delivery */
    uint8_t log_id[16];        /* of the journal: each has a cursor of its own */
};

/* The table of functions. */
extern const struct sink_ops kafka_ops;

/* Checks the settings; connects to nothing. *ret: what the ops work on. 0, or -EINVAL with a
 * sentence. */
int kafka_new(const struct kafka_opts *opts, void **ret, struct error *err);
