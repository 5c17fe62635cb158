/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sink/sink_own.h - what sink.c (a sink that runs here) and remote.c (one that runs in another
 * process) share.
 */
#pragma once

#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>

#include "base/rand.h"
#include "sink/course.h"
#include "sink/remote.h"

#define SENT_MAX 64u /* letters that are removed together */

struct sink {
    bool remote;      /* it runs in another process: remote.c */
    uint64_t told_ns; /* the same: when that said something last */
    struct sink_opts opts;
    char dir[PATH_MAX], paused_path[PATH_MAX];
    struct dead_letters *dead;
    struct sealer *sealer;
    struct rand rand;
    pthread_t thread;
    _Atomic uint64_t passed; /* `floor`, for who waits */
    _Atomic unsigned waiters;
    _Atomic bool is_disabled;  /* disabled[0] */
    pthread_mutex_t rest_lock; /* of `wake`; never held over anything slow */
    pthread_cond_t woken;
    bool wake;
    pthread_mutex_t lock; /* of all up to the next comment, and of live.reader, for who wakes it */
    pthread_cond_t answered;
    bool stop, paused;
    bool resumed;       /* what was waited for before is not waited for any more */
    char disabled[200]; /* paused: because the target said so; else empty */
    bool replaying;
    uint64_t replay_from, replay_to;
    bool retry_asked; /* of dead letters, from retry_at to retry_last */
    uint64_t retry_at, retry_last;
    int retry_code;
    unsigned retry_sent, retry_kept;
    struct sink_stats stats;
    /* The thread's own: */
    struct course live, replay;
    struct breaker breaker;
    struct fates *fates; /* others ask it too */
    bool connected, stuck;
    bool retried_last;  /* letters had the last turn */
    bool idle, lingers; /* why it rests */
    unsigned failures;  /* in a row */
    unsigned slice_max; /* messages sent at once; see fit_slices */
    uint64_t next_try_ns, looked_ns, tended_ns;
    uint64_t position; /* see 1 */
    uint64_t floor; /* the first record that is still owed: position, or behind what was given up */
    uint64_t committed; /* the named cursor */
    uint64_t unsure_to; /* where the target is, if it took what was sent last; 0: that is known */
    /* Letters that became due between these two are being tried, from that offset on: */
    int64_t due_after_us, due_until_us;
    uint64_t due_at;
    uint64_t due_from_ns; /* no look at them before */
    bool due;
    uint64_t sent[SENT_MAX]; /* letters that are still to be removed */
    unsigned sent_count;
};

/* Its locks. */
void sink_init(struct sink *s);
void sink_destroy(struct sink *s);
/* Of one that is remote. */
struct sink_stats sink_remote_stats(struct sink *s);
