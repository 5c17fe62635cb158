/* SPDX-License-Identifier: Apache-2.0 */
/*
 * server_units.h - the workers of a server, each with what runs on it: a lane of the pipeline, the
 * fronts of its surfaces, and the listeners that lead to them. Main thread, but where it says
 * otherwise.
 */
#pragma once

#include <limits.h>
#include <pthread.h>

#include "base/error.h"
#include "config.h"
#include "conn/tls.h"
#include "flow/limits.h"
#include "front/mqtt.h"
#include "journal/journal.h"
#include "pipeline.h"
#include "view/sessions.h"

struct unit;

/* All zero: not opened. */
struct units {
    const struct config *config; /* in force; the admin thread's, once that runs */
    struct tls_set *tls;         /* the same; NULL: there are no certificates */
    struct pipeline *pipeline;
    struct sessions *known;
    struct unit *at;
    unsigned count;
    struct mqtt_sessions *sessions;
    struct mqtt_shares *groups;
    unsigned connections, mqtt_connections; /* atomic; each shared by its listeners */
    char admin_path[PATH_MAX];
    pthread_mutex_t barrier_lock;
    pthread_cond_t barrier_done;
    unsigned barrier_left;
};

/* All are borrowed until units_close. */
struct units_opts {
    const struct config *config;
    struct tls_set *tls; /* NULL: there are no certificates */
    struct pipeline *pipeline;
    struct journal *journal;
    struct sessions *sessions;
    const char *admin_path; /* where the admin socket is made */
};

/* Makes them, opens the listeners, and starts the threads, also when it fails: 0, or a negative
 * errno with a sentence that names setting and address. */
int units_open(struct units *u, const struct units_opts *opts, struct error *err);
/* Takes no more connections, answers what was received, and closes the others; at once, if
 * `abort`. True when all are quiet, false when the time is up. May be repeated. */
bool units_quiesce(struct units *u, bool abort, uint64_t wait_ns);
/* Ends the threads and frees all. Does nothing where units_open was not called. */
void units_close(struct units *u);

/* Returns when every worker has looked at its connections again: those of credentials that were
 * removed, disabled or given another secret are closed. Admin thread. */
void units_check(struct units *u);
/* Returns when every worker goes by these. What was in force before is no longer looked at. Admin
 * thread. */
void units_tune(struct units *u, const struct config *config, struct tls_set *tls);
