/* SPDX-License-Identifier: Apache-2.0 */
/*
 * load/watch.h - figures of the server that is loaded, from its /metrics once a second: what its
 * throttle refuses and what its shield does. On a thread of its own, for it waits for answers.
 * Owned by the run.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "load/ask.h"

/* Counts since the server's start, but `waiting`. */
struct watch_figures {
    uint64_t at_ns; /* when; 0: nothing is known */
    double allowed, refused;
    double known, hashed; /* secrets: recognised, and checked against a hash */
    double waiting;       /* for the hash pool, now */
};

struct watch {
    struct ask ask;
    pthread_t thread;
    bool running;
    pthread_mutex_t lock; /* of what follows */
    bool stop;
    struct watch_figures newest;
};

/* Begins to watch opts->watch_url. 0, or negative errno with a sentence. Zeroed storage. */
int watch_start(struct watch *w, const struct load_opts *opts, struct error *err);
/* The newest figures. */
struct watch_figures watch_take(struct watch *w);
/* Waits for the thread, at most as long as an answer takes. Accepts zeroed storage. */
void watch_stop(struct watch *w);

/* Reads them out of a page of metrics; others are ignored. */
void watch_parse(struct slice page, struct watch_figures *ret);
