/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sink/attempts.h - the last attempts that a target was sent something, for who wants to see what
 * it says. In memory, of a size that is fixed at birth. Owned by a target; any thread; its own
 * lock.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define ATTEMPTS_MAX     256u /* that anybody remembers */
#define ATTEMPT_SAID_MAX 256u

struct attempt {
    int64_t at_us;   /* when it ended */
    uint64_t offset; /* of its first message */
    unsigned count;  /* of messages; 0: a test */
    bool taken;
    unsigned status; /* of the answer; 0: there was none */
    uint64_t took_ns;
    char said[ATTEMPT_SAID_MAX]; /* what the answer begins with, or what failed; printable ASCII */
};

struct attempts;

/* One that remembers so many. */
struct attempts *attempts_new(unsigned max);
/* Accepts NULL. */
void attempts_free(struct attempts *a);
void attempts_put(struct attempts *a, const struct attempt *one);
/* The n-th last, 0 being the last one. False: so many are not remembered. */
bool attempts_get(struct attempts *a, unsigned n, struct attempt *ret);
