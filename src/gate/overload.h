/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gate/overload.h - the brown-out ladder: what is given up, and in which order, so that a message
 * from a known sender is the last to suffer. Shared by all workers: each request makes one relaxed
 * load (overload_now); whoever ticks first in a tenth of a second computes the next state.
 *
 * Pressure, in permille, is the larger of
 *   messages waiting for the disk / `limit`, which follows the latency of commits: it shrinks when
 *       recent commits take more than twice as long as usual (Netflix's Gradient2: a short and a
 *       long moving average) and grows while they do not and it is in use;
 *   un-durable bytes / the mark at which workers stop reading from sockets.
 *
 *  level            up when      down when    what changes
 *                   for 200 ms   for 1 s
 *  L1 trim          >= 500       < 350        nothing optional: RateLimit fields of refusals
 *  L2 stale reads   >= 700       < 500        reads do not wait until views have caught up
 *  L3 no first      >= 850       < 600        no password hash for an address from which none has
 *     logins                                  been right within the hour
 *  L4 append only   >= 1000      < 750        no password hash, no changes, no reads but
 *                                             to say 304
 *  L5 disk          fill at disk_percent,     as L4; and publishes of a share of the accounts,
 * which at once;                  grows from none a third of the way up to all where the 2 % below,
 * for 1 s        journal refuses (refuse_percent)
 *
 * One step at a time, each with its own time to hold, but for L5. Each lower level stays in force
 * under a higher one. Which accounts L5 sheds is decided by a hash of their number: the same ones
 * all the time, instead of a part of everybody's messages, and more of them, never others, as the
 * disk fills. Health, metrics, status and the admin's interface are never shed.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define OVERLOAD_LEVELS  6u
#define OVERLOAD_COHORTS 128u
#define OVERLOAD_SOURCES 16384u
#define OVERLOAD_TICK_NS (100 * 1000000ull)

enum overload_level {
    OVERLOAD_NONE,
    OVERLOAD_TRIM,
    OVERLOAD_STALE_READS,
    OVERLOAD_NO_FIRST_LOGINS,
    OVERLOAD_APPEND_ONLY,
    OVERLOAD_DISK,
};

struct overload_opts {
    uint32_t limit_min, limit_max; /* messages waiting for the disk */
    unsigned disk_percent;         /* L5 begins */
    unsigned refuse_percent;       /* the journal refuses everything: all cohorts are shed */
};

/* What there was since the last tick. */
struct overload_sample {
    uint64_t now_ns;
    uint64_t waiting;   /* messages not durable yet */
    uint64_t commit_ns; /* mean time of appends from submit to durable, or the age of the oldest
                           that is not, if it is longer; 0: none */
    unsigned bytes_permille; /* un-durable bytes, of the mark at which reading stops */
    unsigned fill_permille;  /* of the file system */
};

struct overload {
    _Atomic uint32_t state; /* level | cohorts shed << 8 */
    _Atomic uint64_t due_ns;
    struct overload_opts opts;
    /* The ticking thread's: */
    uint64_t since_up_ns, since_down_ns; /* that the next step up, or down, has been due; 0: not */
    double limit, short_ns, long_ns;
    unsigned pressure;
    _Atomic uint32_t limit_now, waiting_now;
    /* Addresses with a good history: hash | minute, in the slot of the hash. One may push another
     * out, but only by a right secret. */
    _Atomic uint64_t sources[OVERLOAD_SOURCES];
};

void overload_init(struct overload *o, const struct overload_opts *opts);
/* Other opts from the next tick on; ends the ladder at once. Not while somebody ticks. */
void overload_tune(struct overload *o, const struct overload_opts *opts);
void overload_end(struct overload *o);
/* Whether it is this caller's turn to tick: true for one of all in a tenth of a second. */
bool overload_due(struct overload *o, uint64_t now_ns);
void overload_tick(struct overload *o, const struct overload_sample *s);

/* The state in force; to be given to the two below. */
static inline uint32_t overload_now(const struct overload *o)
{
    return atomic_load_explicit(&o->state, memory_order_relaxed);
}

static inline enum overload_level overload_level(uint32_t state)
{
    return (enum overload_level)(state & 0xff);
}

/* Whether publishes of this account are shed. */
bool overload_sheds(uint32_t state, uint64_t account);
/* A right secret came from this address. */
void overload_note_good(struct overload *o, uint64_t source, uint64_t now_ns);
/* Whether a password hash may be computed for this address in that state. */
bool overload_allows_hash(const struct overload *o, uint32_t state, uint64_t source,
                          uint64_t now_ns);
/* How long who is turned away shall stay away, spread by `salt`: one to four seconds; at L5, which
 * ends when somebody makes room, fifteen to sixty. */
uint64_t overload_retry_ns(uint32_t state, uint64_t salt);
