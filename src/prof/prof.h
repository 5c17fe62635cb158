/* SPDX-License-Identifier: Apache-2.0 */
/*
 * prof/prof.h - profiles of this very process, in the forms that pprof reads: where its CPU time
 * goes (gperftools' profiler), what its allocator holds, names for its addresses; and a flame graph
 * for a browser. Decision 0056.
 *
 * One `struct prof` with one nice thread, on which everything is worked out: naming reads files. A
 * CPU profile runs beside other asks, and there is one at a time, since a process has one timer for
 * it. What a profile costs the other threads is a signal each 10 ms of CPU time.
 */
#pragma once

#include "base/buf.h"
#include "flow/reason.h"

struct prof;

enum prof_op {
    PROF_CPU,       /* gperftools' format, with what is mapped where */
    PROF_FLAME,     /* the same as an SVG document */
    PROF_SYMBOL,    /* names for `text` */
    PROF_HEAP,      /* live allocations by who made them, if the allocator keeps book */
    PROF_ALLOCATOR, /* what the allocator says of itself, for people */
};

/* Whoever submits it owns it, and must let it be until `done` was called. */
struct prof_ask {
    enum prof_op op;
    uint64_t for_ns;   /* CPU, FLAME: how long */
    struct slice text; /* SYMBOL: addresses in hex, with '+' between */
    struct buf *out;   /* the answer */
    enum reason reason;
    char why[256];    /* a sentence, where the reason's own does not do; else empty */
    uint64_t left_ns; /* REASON_profile_running: how long that one still takes at the most */
    void (*done)(struct prof_ask *ask); /* on the profiler's thread, or the submitter's */
    void *owner;
    struct prof_ask *next; /* the rest is prof's */
    bool given_up;
};

/* Starts the thread. Aborts when there is no memory. */
struct prof *prof_new(void);
/* After every ask was answered. Accepts NULL. */
void prof_free(struct prof *p);
/* Any thread. */
void prof_submit(struct prof *p, struct prof_ask *ask);
/* Nobody waits for that one any more: a profile ends at once, `done` is called all the same. Before
 * `done` was called. Any thread. */
void prof_give_up(struct prof *p, struct prof_ask *ask);
/* The server stops: the profile that runs ends now and is answered, none begins. Any thread. */
void prof_quit(struct prof *p);
