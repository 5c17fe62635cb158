/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gate/clerk.h - the inside of the shield: its state, and the clerk, one thread of normal priority
 * that hands waiting checks to the hash pool, settles the results and answers. gate/shield.c asks,
 * gate/clerk.c answers; nobody else includes this.
 */
#pragma once

#include <pthread.h>

#include "base/rand.h"
#include "gate/decoy.h"
#include "gate/desk.h"
#include "gate/negative.h"
#include "gate/shield.h"
#include "gate/tempo.h"

struct shield {
    struct shield_opts opts;
    struct mac_key key;
    uint64_t seed;                 /* of hashes of foreign device ids */
    _Atomic uint64_t failed_at_ns; /* when any address last failed; 0: never */
    uint64_t fail_window_ns;       /* how long a failure counts against an address */
    struct decoy decoy;
    struct negative *negative;
    _Atomic uint64_t jitter;
    pthread_mutex_t lock; /* the desk; taken by workers and the clerk only, never while hashing */
    struct desk *desk;
    /* The latest that were given, to those who failed lately [1] and the others [0]; under the
     * lock.
     */
    uint64_t appointment_ns[2];
    uint64_t suspects_rest_ns; /* until then no hash for those who failed lately, if there may be
                                  somebody else; the clerk's */
    bool stopping;
    int wake_fd;
    bool clerk_runs;
    pthread_t clerk;
    struct hashpool *pool;
    struct flight **running; /* by seat; the clerk's */
    _Atomic unsigned running_count;
    _Atomic uint64_t verified; /* secrets found right by a hash */
    _Atomic uint64_t wall_ns;  /* moving averages of one check; 0: none yet */
    _Atomic uint64_t cpu_ns;
    _Atomic uint64_t each_ns; /* what the tempo says */
    struct tempo tempo;       /* the clerk's, as these: */
    unsigned cores;
    uint64_t quiet_from_ns, quiet_cpu_ns; /* since when no hash is computed (0: one is), and what
                                             the process had used of the CPU then */
    uint64_t busy_ns, busy_wall_ns;       /* what it used in the last such time, and how long */
};

/* Starts the clerk and the pool (s->opts, desk and wake_fd are set). 0 or -ENOMEM. */
int clerk_start(struct shield *s);
/* Answers what waits with REASON_stopping, ends clerk and pool. */
void clerk_stop(struct shield *s);
/* Something new is on the desk. Any thread. */
void clerk_wake(struct shield *s);
/*
 * When one who is turned away shall come back, under the lock: an appointment. Each is given a
 * later one than the one before, as far apart as a hash takes, so those who keep theirs find the
 * pool free, and do not come together. What nobody keeps is over when its time has passed. Those
 * who failed lately (`suspect`) have appointments of their own, as far apart as their share of the
 * pool demands: they push nobody else's away. APPOINTMENT_MAX_NS bounds both.
 */
uint64_t clerk_retry_ns(struct shield *s, bool suspect);
/* How long until a hash begins that has `ahead` others before it. */
uint64_t clerk_wait_ns(struct shield *s, unsigned ahead);
/* The queue's length, by class, to the gauges. Under the lock. */
void clerk_show_queue(struct shield *s);

/* ---- shared judgement (shield.c) ------------------------------------------------------------ */
/* How long the failure windows still refuse that lane to that address; 0: they do not. */
uint64_t shield_wait_ns(struct shield *s, uint64_t lane, uint64_t source, uint64_t now_ns);
/* Counts one failure against both. */
void shield_failed(struct shield *s, uint64_t lane, uint64_t source, uint64_t now_ns);
/* A success clears the address. */
void shield_succeeded(struct shield *s, uint64_t source);
/* When a secret verified now has its version looked at: the TTL, a quarter more or less. */
uint64_t shield_check_at_ns(struct shield *s, uint64_t now_ns);
/* Uniform, below `limit`. */
uint64_t shield_random(struct shield *s, uint64_t limit);
