/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sink/webhook.h - a sink that POSTs messages to one URL as Standard Webhooks 1.0.0 (docs/sinks.md,
 * decision 0049): at least once, each with an id that never changes. Made and closed by the server;
 * used by its sink's thread.
 */
#pragma once

#include "codec/address.h"
#include "sink/sink.h"
#include "sink/webhook_event.h"

#define WEBHOOK_MESSAGES_MAX 1000u

struct webhook_opts {
    const char *url;
    const char *secret_file;    /* see webhook_secrets_parse; read again every few seconds */
    const char *ca_file;        /* empty: the machine's certificates */
    const struct cidr *allowed; /* networks that may be posted to though they are special */
    unsigned allowed_count;
    bool by_feed; /* of each feed one after the other, in its order; what comes late is late */
    unsigned batch_max;    /* events of a request; above 1 they are in "data" of one event, and
                              requests    go one after the other */
    unsigned messages_max; /* of a sink_batch; at most WEBHOOK_MESSAGES_MAX */
    unsigned at_once;      /* requests under way */
    uint64_t timeout_ns;
    struct webhook_source source;
    const char *resolve; /* tests only: see posts.h */
};

extern const struct sink_ops webhook_ops;
/* When its dead letters are tried again. Not for by_feed: they would come behind later ones. */
extern const struct dead_schedule webhook_schedule;

/* What the ops work on. Checks the settings; connects to nothing. 0, or a negative errno with a
 * sentence. */
int webhook_new(const struct webhook_opts *opts, void **ret, struct error *err);
