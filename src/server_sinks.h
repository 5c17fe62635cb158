/* SPDX-License-Identifier: Apache-2.0 */
/*
 * server_sinks.h - the sinks of a server: made from the settings, each with its thread, stopped,
 * and what /v1/status and /metrics say of them. Main thread, but where it says otherwise.
 */
#pragma once

#include "catalog/catalog.h"
#include "config.h"
#include "sink/consume.h"
#include "sink/hooks.h"
#include "sink/sink.h"

/* What the names of the last record asked about point into; of one sink's thread. */
struct sink_namer {
    struct catalog *catalog;
    struct account *account;
    struct feed *feed;
    struct credential *credential;
};

struct sink_own {
    const struct sink_ops *ops;
    void *of; /* what they work on */
    struct sink_namer namer;
};

/* Consumer groups: server_consume.h. */
struct consumers {
    struct consume *consume;
    struct sink_namer namer;
    unsigned max;
};

struct sinks {
    struct sink *at[SINKS_MAX];
    struct sink_own own[SINKS_MAX];
    unsigned count;
    struct hooks *hooks; /* webhooks of accounts; NULL: turned off */
    struct sink_namer hooks_namer;
    struct cidr hooks_allowed[CONFIG_NETWORKS_MAX];
    struct consumers consumers;
    pthread_mutex_t telling; /* of these two, and while `moved` runs */
    void (*moved)(void *arg);
    void *moved_arg;
};

/* Starts those that are configured; retention waits no longer for the others. 0, or a negative
 * errno with a sentence; then sinks_close closes what was opened. A target that is away is no
 * error: its sink lags. */
int sinks_open(struct sinks *s, const struct config *c, struct disk *disk, struct journal *journal,
               struct keyring *keyring, struct catalog *catalog, struct error *err);
/* Has `moved` called, on the sinks' threads, when the position of one that somebody waits for has
 * moved; NULL: no more, and no call is under way when this returns. */
void sinks_tell(struct sinks *s, void (*moved)(void *arg), void *arg);
/* Stops the threads, without waiting for a target. */
void sinks_close(struct sinks *s);

/* The member of a receipt: what each did with that offset. Any thread but workers. */
void sinks_put_passed(const struct sinks *s, uint64_t offset, struct buf *out);
/* The member of /v1/status about them, and their families of /metrics. Any thread. */
void sinks_put_status(const struct sinks *s, struct buf *out);
void sinks_put_metrics(const struct sinks *s, struct buf *out);
