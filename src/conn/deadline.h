/* SPDX-License-Identifier: Apache-2.0 */
/*
 * conn/deadline.h - coarse timers for many connections: a hashed wheel of WHEEL_SLOTS slots. Moving
 * a deadline later costs one store; the wheel looks again when the old slot comes up. One thread.
 */
#pragma once

#include <stdint.h>

#define WHEEL_SLOTS   256u
#define WHEEL_SLOT_NS 100000000ull

struct deadline {
    struct deadline *next, **prev;   /* in a slot; prev NULL: in none */
    uint64_t at_ns;                  /* when it is due; 0: never */
    uint64_t slot;                   /* slot number (not reduced) it is linked in */
    void (*due)(struct deadline *d); /* unlinked already; may set it again */
};

struct wheel {
    uint64_t turned; /* slots up to this one were looked at */
    struct deadline *slots[WHEEL_SLOTS];
};

void wheel_init(struct wheel *w, uint64_t now_ns);
/* Due at `at_ns`, at most one slot late; replaces the deadline's earlier setting. 0: never. */
void deadline_set(struct wheel *w, struct deadline *d, uint64_t at_ns);
/* Takes it out; must be called before its memory goes away. */
void deadline_clear(struct deadline *d);
/* Calls `due` of all that have come due. */
void wheel_turn(struct wheel *w, uint64_t now_ns);
