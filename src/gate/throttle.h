/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gate/throttle.h - exact rolling windows: the k-th attempt is refused iff the (k-N)-th was less
 * than W ago. One table for every subject (accounts, credentials, addresses, failures), shared by
 * all protocols and all workers. Any thread. After a restart windows begin empty.
 *
 * N <= 128: a lazily grown ring of the last N stamps, exact to the microsecond. Larger N, or bytes:
 * a histogram of 64 buckets per window that counts the partial oldest bucket, so it never admits
 * more than N in W. Where a limit says so, a token or leaky bucket instead (gate/bucket.h): up to
 * 2N in W, and what is refused never counts. A limit in shadow is counted as if it were in force,
 * by a meter of its own, refuses nothing and is in nothing that is told but `shadow`.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "flow/principal.h"

struct throttle;

#define THROTTLE_ASKS_MAX 8 /* subjects of one decision */

enum throttle_kind {
    THROTTLE_ACCOUNT = 1,
    THROTTLE_CREDENTIAL,
    THROTTLE_ADDRESS,
    THROTTLE_FAILURE_CREDENTIAL,
    THROTTLE_FAILURE_PAIR,  /* of these, those of one address, */
    THROTTLE_FAILURE_FIRST, /* and those of addresses that had none yet */
    THROTTLE_FAILURE_ADDRESS,
    THROTTLE_SHARE, /* of a credential in its account's window: what it got, ... */
    THROTTLE_TRIES, /* ... and what it tried */
    /* What connections ask for without storing anything, and what is refused to them: */
    THROTTLE_SUBSCRIBE_CREDENTIAL,
    THROTTLE_SUBSCRIBE_ADDRESS,
    THROTTLE_REFUSED_CREDENTIAL,
    THROTTLE_REFUSED_ADDRESS,
};

/* Who is counted: a kind and a number (or a hash of an address) that is unique within it. */
struct throttle_subject {
    enum throttle_kind kind;
    uint64_t id;
};

struct throttle_opts {
    uint64_t subjects_max; /* beyond it new subjects are refused tracking: see throttle_decide */
    uint64_t memory_max;   /* bytes of rings and histograms */
};

struct throttle *throttle_new(const struct throttle_opts *opts);
void throttle_free(struct throttle *t);

/* One subject of a decision. `limits` is borrowed for the call. */
struct throttle_ask {
    struct throttle_subject subject;
    const struct limit_set *limits;
    uint32_t bytes; /* what the request weighs in limits that count bytes; `cost` in the others. 0:
                       those do not ask */
};

/* The window that refused, or the tightest one when allowed: what headers and notices tell. All of
 * it is 0 but `allow` when no ask has a limit. */
struct throttle_verdict {
    bool allow;
    bool distance;   /* refused by min_distance, no window */
    bool bytes;      /* `limit` and `remaining` are bytes */
    bool never;      /* the cost is larger than a window: waiting does not help */
    bool untracked;  /* the table had no room to count all of it */
    uint8_t pressed; /* a bit for each ask that has a window of which less than half is left */
    uint8_t ask;     /* index of the ask that decided */
    uint32_t shadow; /* a bit for each limit in shadow that would have refused: ask * 4 + window */
    uint8_t window;  /* index of its window (0 when min_distance decided) */
    uint32_t limit;  /* that window's count (1 when min_distance decided) */
    uint32_t window_ms; /* that window's length (the distance when min_distance decided) */
    uint32_t remaining; /* how many more it would take now */
    uint64_t retry_ns;  /* refused: when one more of this cost is allowed, if nothing else is sent
                           until then (with `never`: the window's length). Allowed, and only by
                           throttle_peek: when the window's next slot frees; 0 when none is used */
};

/*
 * Decides one request of weight `cost` against all `asks` together: all are looked at first, then
 * counted (a refused one is counted only where the limits count attempts). `now_ns` is monotonic;
 * the table uses the later of it and its own last stamp. When the table is full of subjects whose
 * windows are not empty, a new subject is allowed and counted in throttle_table_full; failing
 * credentials fill an eighth of it at most, and take each other's places. The minimum distance is
 * that from the last try that was counted. count <= THROTTLE_ASKS_MAX, cost > 0.
 */
void throttle_decide(struct throttle *t, const struct throttle_ask *asks, unsigned count,
                     uint32_t cost, uint64_t now_ns, struct throttle_verdict *ret);

/* The subject is asked about soon: asks for the cache lines of its place, of its head (when the
 * place is here), of its windows (when the head is). */
enum throttle_part { THROTTLE_PLACE, THROTTLE_HEAD, THROTTLE_WINDOWS };
void throttle_prefetch(struct throttle *t, struct throttle_subject s, enum throttle_part part);

/* The same for `n` independent requests at once: the table's cache misses overlap. */
struct throttle_job {
    const struct throttle_ask *asks;
    unsigned count;
    uint32_t cost;
    struct throttle_verdict verdict;
};
void throttle_decide_batch(struct throttle *t, struct throttle_job *jobs, unsigned n,
                           uint64_t now_ns);

/* Looks without counting (GET throttle, failure windows before a hash). */
void throttle_peek(struct throttle *t, const struct throttle_ask *ask, uint32_t cost,
                   uint64_t now_ns, struct throttle_verdict *ret);
/* How much of window `window` is used now: messages or bytes. */
uint32_t throttle_used(struct throttle *t, const struct throttle_ask *ask, unsigned window,
                       uint64_t now_ns);
/* How long until one more message (or byte) fits into window `window`, in force or in shadow; of a
 * lone bucket or window, whatever the others say. Looks only. */
uint64_t throttle_wait_ns(struct throttle *t, const struct throttle_ask *ask, unsigned window,
                          uint64_t now_ns);
/* How long until `cost` more (or as much as ever fits) would leave each window at most at
 * `counts[its index]`, which is 1 to its own count; 0: now. Shadows are left out. Looks only. */
uint64_t throttle_wait_below(struct throttle *t, const struct throttle_ask *ask,
                             const uint32_t *counts, uint32_t cost, uint64_t now_ns);
/* Counts without deciding (a failed login). */
void throttle_charge(struct throttle *t, const struct throttle_ask *ask, uint32_t cost,
                     uint64_t now_ns);
/* Forgets the subject (a success restores an address). */
void throttle_clear(struct throttle *t, struct throttle_subject s);

struct throttle_stats {
    uint64_t subjects, bytes;
};
struct throttle_stats throttle_stats(struct throttle *t);
