/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sink/breaker.h - when a target that fails is left alone, and for how long: a circuit breaker
 * (Nygard, Release It!, 2007), and the pause between two attempts. Values of the caller; one
 * thread; no clock: the caller says what time it is.
 *
 * Closed: every attempt is made. Once at least `volume_min` of the last attempts within `window_ns`
 * are known, and `fail_percent` of them failed, it opens: no attempt for a while, twice as long
 * each time up to a maximum. Then it is half open: one attempt, which closes it or opens it again.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/rand.h"

#define BREAKER_ATTEMPTS 32u /* that are looked back on, at the most */

struct breaker_opts {
    unsigned volume_min; /* 1 to BREAKER_ATTEMPTS */
    unsigned fail_percent;
    uint64_t window_ns;
    uint64_t open_ns, open_max_ns; /* the first pause, and the longest */
};

enum breaker_state { BREAKER_CLOSED, BREAKER_OPEN, BREAKER_HALF_OPEN };

struct breaker {
    struct breaker_opts opts;
    enum breaker_state state;
    uint64_t until_ns; /* open: no attempt before */
    uint64_t pause_ns; /* of the next opening */
    uint64_t opened;   /* how often */
    struct {
        uint64_t at_ns;
        bool failed;
    } attempts[BREAKER_ATTEMPTS];
    unsigned count, next;
};

void breaker_init(struct breaker *b, const struct breaker_opts *opts);
/* How long to wait before the next attempt; 0: it may be made now (an open one is half open then).
 */
uint64_t breaker_wait_ns(struct breaker *b, uint64_t now_ns);
/* What came of an attempt. */
void breaker_note(struct breaker *b, bool failed, uint64_t now_ns);
/* "closed", "open" or "half_open". */
const char *breaker_name(enum breaker_state state);

/* The pause behind the n-th failure in a row (1, 2, ...): uniform between 0 and base * 2^(n-1), at
 * most `max_ns`: full jitter (Brooker, Exponential Backoff And Jitter, 2015), so that many that
 * failed together do not come back together. */
uint64_t breaker_pause_ns(unsigned failures, uint64_t base_ns, uint64_t max_ns, struct rand *r);
