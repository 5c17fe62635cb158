/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gate/hashpool.h - threads that compute password hashes and nothing else. One keeper (the shield's
 * clerk thread) hands them jobs and collects results.
 *
 * Hash threads may run under SCHED_IDLE, so they never take a lock that others take, and allocate
 * nothing: a job goes in and a result comes out through one atomic state per seat, a semaphore and
 * an eventfd. (A thread that left SCHED_OTHER cannot return there without privileges, so raising
 * them for the bookkeeping is no choice.)
 *
 * Every 40 ms, between two hashes, a thread sleeps for 0.1 ms: the kernel's own threads have to
 * wait for the core now and then otherwise (decision 0073).
 *
 * With idle priority there is one seat more, the trickle, which is of normal priority but nice: it
 * rests 19 times as long as it computed, which is 5 % of one core.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "gate/decoy.h"

/* A check to compute. The keeper's; constant while a seat has it. */
struct hash_job {
    char stored[VERIFIER_MAX];   /* the stored hash, or the setting of a decoy; NUL-terminated */
    char secret[SECRET_MAX + 1]; /* NUL-terminated */
    bool real;                   /* false: the result is `wrong` whatever it is */
    struct verifier_cost cost;   /* of `stored` */
    const struct decoy *decoy;   /* whose other kinds a wrong result computes as well */
};

struct hash_result {
    bool right;
    unsigned hashes, decoys; /* how many were computed */
    uint64_t wall_ns, cpu_ns;
};

struct hashpool;

/* `threads` at least 1. NULL: no memory. Results make `wake_fd` (an eventfd) readable. */
struct hashpool *hashpool_new(unsigned threads, bool idle_priority, int wake_fd);
/* Waits for the hashes under way. Accepts NULL. */
void hashpool_free(struct hashpool *p);
/* Number of seats; with idle priority the last one is the trickle. */
unsigned hashpool_seats(const struct hashpool *p);
bool hashpool_is_trickle(const struct hashpool *p, unsigned seat);
/* Whether the seat takes a job now. */
bool hashpool_ready(const struct hashpool *p, unsigned seat, uint64_t now_ns);
void hashpool_give(struct hashpool *p, unsigned seat, const struct hash_job *job);
/* The result of the seat's job, once: it is free (the trickle: resting) after that. */
bool hashpool_collect(struct hashpool *p, unsigned seat, uint64_t now_ns, struct hash_result *ret);
