/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sink/postgres.h - a sink that puts messages into PostgreSQL (15 or later): rows by binary COPY
 * and the cursor in one transaction, so that each message is there exactly once (docs/sinks.md,
 * decision 0044). Made and closed by the server; used by its sink's thread.
 */
#pragma once

#include "sink/sink.h"

struct postgres_opts {
    const char *name;          /* of the sink: names its cursor */
    const char *url;           /* without a password */
    const char *password_file; /* read at each connection; empty: none */
    const char *schema;        /* letters, digits, '_'; made if it is missing */
    uint64_t timeout_ns;       /* of each command */
    uint64_t keep_days;        /* partitions that are older are dropped; 0: never */
    uint8_t log_id[16];        /* of the journal: a cursor of another one is refused */
};

extern const struct sink_ops postgres_ops;

/* What the ops work on. Checks the settings; connects to nothing. 0, or -EINVAL with a sentence. */
int postgres_new(const struct postgres_opts *opts, void **ret, struct error *err);
