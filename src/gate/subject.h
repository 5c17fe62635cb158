/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gate/subject.h - one counted subject: a 64-byte head with the stamps of its ring (the first four
 * inside, more behind a pointer) and the meters of other windows. Belongs to the throttle's table;
 * whoever touches one holds its shard's lock.
 *
 * One ring serves all windows of up to RING_MAX messages of a subject, since each stamp counts in
 * all of them; each larger one, of bytes, in shadow, and each bucket has a meter of its own.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "flow/principal.h"
#include "gate/slab.h"

#define RING_MAX 128 /* larger windows are counted by histogram */
#define RING_FEW 4   /* stamps inside the head */

struct meter;

struct subject {
    uint64_t id;          /* while free: the next free one's number */
    uint64_t last_ns;     /* newest stamp counted */
    uint64_t idle_at_ns;  /* from then on all its windows are empty */
    uint32_t *more;       /* the ring's stamps when they are more than RING_FEW */
    struct meter *meters; /* of windows that the ring does not count */
    uint8_t kind;         /* enum throttle_kind; 0 while free */
    uint8_t scale;        /* a stamp counts units of 1 us << scale */
    uint8_t grown;        /* the ring has RING_FEW << grown places */
    uint8_t first;        /* place of the oldest stamp */
    uint8_t len;
    uint8_t unused[3];
    uint32_t few[RING_FEW];
};
_Static_assert(sizeof(struct subject) == 64, "one cache line");
