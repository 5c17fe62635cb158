/* SPDX-License-Identifier: Apache-2.0 */
/*
 * view/yield.h - whether the threads of a view stand back behind those that answer (decision 0072).
 * Writing and merging rows comes in bursts that need a core for a second. Threads of equal rank
 * share it equally, and then who waits for an answer waits for the burst. So these are nice while
 * the view keeps up, and as all others when it does not: how far it falls behind stays bounded.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "view/view.h"

/* The rule. One thread. */
struct yielding {
    bool on;          /* they stand back */
    uint64_t mark;    /* was durable in the journal when mark_ns was, and is waited for */
    uint64_t mark_ns; /* 0: there was no look yet */
    unsigned looks, in_time;
};

/* A look, 5 times a second: how far the view is, and what is durable. Returns whether its threads
 * are to stand back from now on. */
bool yielding_look(struct yielding *y, uint64_t applied, uint64_t durable, uint64_t now_ns);

struct yield;

struct yield_opts {
    struct journal *journal;
    const struct view *view;    /* outlives this */
    const char *const *threads; /* what their names begin with; NULL ends them */
};

/* Starts the thread that looks. It ends at once where what is nice cannot become as before without
 * privileges (RLIMIT_NICE): then nothing stands back. */
struct yield *yield_start(const struct yield_opts *opts);
/* Ends it, leaving the threads as they are then. Accepts NULL. */
void yield_stop(struct yield *y);
