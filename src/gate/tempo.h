/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gate/tempo.h - how fast password hashes follow each other while there is enough to do: what
 * appointments are dealt by. One thread.
 *
 * It is measured, over TEMPO_NS and longer, since threads of idle priority have the cores one
 * moment and not the next. But those who come all at once are all told when to come back within
 * seconds, in which connecting them takes the cores that hashes will have afterwards. So after a
 * pause a guess counts as if it had been measured for TEMPO_NS: the CPU time of one hash over the
 * share of the cores that the process left free in the seconds before.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/clock.h"

#define TEMPO_NS       (8 * NS_PER_S)
#define TEMPO_STALE_NS (10 * NS_PER_S) /* without enough to do: what was measured is old */

/* Zeroed is new. */
struct tempo {
    uint64_t full_ns;  /* since when all threads have a hash, or one was done; 0: they have not */
    uint64_t ended_ns; /* when they had not any more */
    uint64_t sum_ns, count; /* so long for so many hashes */
};

/* Whether all threads have a hash to compute. */
void tempo_full(struct tempo *t, bool full, uint64_t now_ns);
/* Whether a guess is better than what was measured. */
bool tempo_is_stale(const struct tempo *t, uint64_t now_ns);
/* Begins with a guess. */
void tempo_guess(struct tempo *t, uint64_t each_ns);
/* A hash is done. */
void tempo_done(struct tempo *t, uint64_t now_ns);
/* From one done to the next; 0: nothing is known. */
uint64_t tempo_each_ns(const struct tempo *t);

/* The guess: hashes of so much CPU time each, `threads` of them at once, on `cores` of which the
 * process used `busy_ns` in the last `wall_ns` for other things (0 ns: nothing is known); less of
 * that while hashes are computed, as commits are made to wait for each other then. The kernel's
 * work for it comes on top, and hashes are slower in between others' turns, as measured. A
 * twentieth of a core is always counted as free: the trickle takes that. */
uint64_t tempo_expected_ns(uint64_t cpu_ns, unsigned threads, unsigned cores, uint64_t busy_ns,
                           uint64_t wall_ns);
