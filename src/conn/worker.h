/* SPDX-License-Identifier: Apache-2.0 */
/*
 * conn/worker.h - a thread with an event loop of its own (libuv). Connections live and die on one
 * worker; other threads reach it only by posting mail. Created and freed on the main thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "conn/deadline.h"

struct worker;

/* A message to a worker, embedded in whatever it is about; in at most one mailbox at a time. */
struct mail {
    struct mail *next;
    void (*run)(struct mail *m); /* on the worker's thread, in order of posting */
};

/* Called on the worker's thread at the end of each turn of the loop, after all that was readable
 * was read and all mail was run: the place where a batch is handed on. True: look for more input
 * first, without sleeping; it is called again after that. */
struct worker_hook {
    /* Works on what was read so far and put off: nobody looks at the scratch block afterwards. Also
     * called before each turn_end. May be NULL. */
    void (*settle)(void *arg);
    bool (*turn_end)(void *arg);
    void (*tick)(void *arg); /* every WORKER_TICK_MS */
    void *arg;
};

#define WORKER_TICK_MS 100

struct worker *worker_new(unsigned index);
void worker_set_hook(struct worker *w, struct worker_hook hook);
void worker_start(struct worker *w);
/* Ends the loop once every handle is closed, and joins the thread. */
void worker_join(struct worker *w);
void worker_free(struct worker *w);

/* Any thread. Wakes the worker if it sleeps. */
void worker_post(struct worker *w, struct mail *m);

/* ---- the worker's own thread only ---- */
unsigned worker_index(const struct worker *w);
/* Monotonic time, read once per turn of the loop. */
uint64_t worker_now_ns(const struct worker *w);
/* Wall-clock time, as clock_wall_us: read once per read from a socket, and per turn of the loop. */
int64_t worker_wall_us(struct worker *w);
uv_loop_t *worker_loop(struct worker *w);
struct wheel *worker_wheel(struct worker *w);
/* WORKER_SCRATCH bytes to read into. Those that were read are held from worker_scratch_hold on:
 * until the next worker_settle that comes after worker_scratch_done. */
#define WORKER_SCRATCH 65536u
char *worker_scratch(struct worker *w);
void worker_scratch_hold(struct worker *w, size_t bytes);
/* Nobody looks for further requests in them. */
void worker_scratch_done(struct worker *w);
/* Runs the hook's settle. Called by itself at the end of a turn; earlier by whoever is about to
 * reuse bytes that a request may still stand in. May be called from within settle. */
void worker_settle(struct worker *w);
/* How often that was done: tells whether something handed up before has been worked on. */
uint64_t worker_settled(const struct worker *w);
/* While held, nothing is read from streams that stream_may_hold was called for: their senders wait
 * in TCP's window. What was read already is worked on. */
void worker_hold_reading(struct worker *w, bool hold);
/* "Sun, 06 Nov 1994 08:49:37 GMT" (RFC 9110 section 5.6.7), renewed each second. 29 bytes. */
const char *worker_http_date(struct worker *w);
/* Only in turn_end, which then returns true: before it looks again the worker sleeps until then, or
 * until it has mail, so that what becomes readable meanwhile comes together. Newcomers who are put
 * off are not kept waiting so (decision 0045). */
void worker_nap(struct worker *w, uint64_t until_ns);
/* Closes the worker's own handles; the loop ends when the last connection is gone. */
void worker_finish(struct worker *w);
