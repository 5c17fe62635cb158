/* SPDX-License-Identifier: Apache-2.0 */
/*
 * server_sinks.h - the sinks of a server: made from the settings, each with its thread, stopped,
 * and what /v1/status and /metrics say of them. They run in the gateway's process, or in one of
 * their own on the same journal (decision 0063); then the gateway has remote ones in their place.
 * Main thread, but where it says otherwise.
 */
#pragma once

#include "catalog/catalog.h"
#include "config.h"
#include "server_link.h"
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
    void *of; /* what they work on; NULL: it is a remote one */
    struct sink_namer namer;
    struct guest_namer guest_namer; /* in a process of their own */
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
    struct gateway_link link;
    char cursors[LINK_CURSORS_MAX][80]; /* names of those that the link tells of */
    struct disk_file *lock;             /* sinks_take_lock; not in a process of their own */
    struct link_guest *guest;
    pthread_mutex_t telling; /* of these two, and while `moved` runs */
    void (*moved)(void *arg);
    void *moved_arg;
};

/* Whether server.roles has the sinks run in this process. */
bool sinks_run_here(const struct config *c);

struct sinks_opts {
    const struct config *config;
    struct disk *disk;
    struct journal *journal;
    struct keyring *keyring;  /* NULL: nothing is sealed */
    struct catalog *catalog;  /* NULL in a process of their own */
    struct link_guest *guest; /* only there; the lock is taken */
};

/* Starts those that are configured; retention waits no longer for the others. With sinks elsewhere,
 * opens the link to their process. 0, or a negative errno with a sentence; then sinks_close closes
 * what was opened. A target that is away is no error: its sink lags; nor is a process that is. */
int sinks_open(struct sinks *s, const struct sinks_opts *opts, struct error *err);
/* Of the directory data/sinks, which is made: no two processes run its sinks. 0, or a negative
 * errno with a sentence. */
int sinks_take_lock(const char *dir, struct disk_file **ret, struct error *err);
/* Whether anything is configured that a process of sinks would run. */
bool sinks_are_wanted(const struct config *c);
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
