/* SPDX-License-Identifier: Apache-2.0 */
/*
 * load/run.h - the course of a run, whatever the protocol: warm-up, measured time, drain; when a
 * request of the open loop is due; progress. Owned by the client that embeds it. One thread.
 *
 * Model.
 * 1. Open loop: request k is due when load/arrival.h says so. Its latency counts from when it was
 * due, so time spent waiting for a free connection is in it (no "coordinated omission"). What is
 * due soon is waited for by polling, for arming a timer and sleeping costs more than a request;
 * what is due later wakes the loop by a timerfd (a uv_timer counts in milliseconds).
 * 2. After the end nothing new is sent; answers under way are awaited for drain_ns at most and
 * counted, what has none by then has timed out, and copies at subscribers have a second more. The
 * first SIGINT is such an end; the second one ends all at once.
 * 3. Everything that is not urgent (progress, ends, time-outs, reconnects) happens on one tick.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <uv.h>

#include "base/error.h"
#include "base/rand.h"
#include "load/arrival.h"
#include "load/fleet.h"
#include "load/load_opts.h"
#include "load/result.h"
#include "load/screen.h"

enum phase { PHASE_WARMUP, PHASE_MEASURE, PHASE_DRAIN, PHASE_OVER };

/* What a client does for its run; `owner` is the client. */
struct run_ops {
    void (*open)(void *owner);               /* the run begins: connects */
    void (*pump)(void *owner);               /* something may be due */
    void (*tend)(void *owner, uint64_t now); /* each tick: time-outs (run_late too), reconnects */
    bool (*unanswered)(const void *owner);   /* an answer is awaited */
    bool (*undelivered)(const void *owner); /* so is a copy at a subscriber; NULL: there are none */
    void (*storm)(void *owner);             /* every connection breaks, and is opened again */
    void (*close)(void *owner);             /* closes all its handles */
};

struct run {
    const struct load_opts *opts;
    struct result *result;
    const struct run_ops *ops;
    void *owner;
    uv_loop_t loop;
    uv_timer_t tick;
    uv_signal_t interrupt;
    uv_poll_t pacer;  /* open loop: a timerfd */
    uv_idle_t poller; /* open loop: while active, the loop does not sleep */
    int pacer_fd;
    struct sockaddr_storage address; /* of the server */
    enum phase phase;
    uint64_t phase_end_ns;
    uint64_t schedule_ns;       /* open loop: when request 0 of this phase was due */
    uint64_t scheduled;         /* requests of this phase that were sent */
    struct arrival arrival;     /* of this phase */
    const struct fleet *replay; /* its requests are due as recorded; NULL: as `arrival` says */
    bool stormed, storming;     /* has been; is being */
    uint64_t started;           /* requests of the whole run, */
    uint64_t started_max;       /* which may not be more */
    uint32_t alive;             /* connections that are not gone for good */
    struct rand rand;
    struct screen screen;
    struct watch watch;
    uint64_t shown_ns; /* the last second's end */
};

/*
 * Runs to the end that the options set, or until SIGINT or until no connection is left. The run's
 * storage is the client's and uninitialized; the loop is there from ops->open on, and empty when
 * this returns. 0, or a negative errno when it could not even begin.
 */
int run_all(struct run *r, const struct load_opts *opts, const struct fleet *fleet,
            struct result *result, const struct run_ops *ops, void *owner, struct error *err);

/* Whether more requests are to be sent. */
bool run_sending(const struct run *r);
/* Whether no answer is awaited any longer. */
bool run_late(const struct run *r, uint64_t now);
/* When the next request of the open loop is due. */
uint64_t run_due_ns(struct run *r);
/* How long a connection thinks between an answer and what it sends next. */
uint64_t run_think_ns(struct run *r);
/* Calls `pump` at that time. */
void run_wake_at(struct run *r, uint64_t at_ns, uint64_t now_ns);
/* The next answer, not the time, lets something be sent. */
void run_wait(struct run *r);
