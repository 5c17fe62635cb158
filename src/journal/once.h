/* SPDX-License-Identifier: Apache-2.0 */
/*
 * journal/once.h - which messages are in the log already: the table behind idempotency. The writer
 * owns it and asks it while it builds a batch, so that deciding and appending are one step.
 *
 * A message is named by its credential and one of two things (struct producer):
 *   key       the sender's own name for it. Remembered for `window_ns`, whole, so that two keys
 * with one hash are two keys. When `memory_max` is reached the oldest are forgotten early. sequence
 * a number that grows, session 0. Each credential has SEQUENCE_SLOTS slots; number n lives in slot
 * n mod SEQUENCE_SLOTS. A number is new unless its slot holds it; what a slot gave up raises the
 * floor, and nothing at or below the floor is taken (as in RFC 4303 section 3.4.3). So no number is
 * ever stored twice while its credential is in the table, which forgets the one that has not stored
 * anything for longest.
 *
 * The table is a projection of the log: recovery fills it by asking about each record again. It is
 * no part of what is durable, and costs nothing to messages without key and sequence.
 */
#pragma once

#include <stdint.h>

#include "flow/record.h"

#define SEQUENCE_SLOTS 32u

struct once;

struct once_opts {
    uint64_t window_ns;
    uint64_t memory_max; /* bytes of all keys */
    uint32_t devices_max;
    uint64_t seed; /* secret: senders choose the keys */
};

/* What a message turned out to be. */
enum once_verdict {
    ONCE_NEW,
    ONCE_DUPLICATE, /* of the one found */
    ONCE_CONFLICT,  /* the same name was given to another payload */
    ONCE_TOO_OLD,   /* a sequence number at or below the floor */
};

struct once_found {
    uint64_t offset; /* of the first record of the original */
    int64_t receive_us;
};

struct once *once_new(const struct once_opts *opts);
/* Accepts NULL. */
void once_free(struct once *o);
/* Whether the record names itself, so that the table has to be asked. */
static inline bool once_named(const struct record *r)
{
    return r->credential && (r->producer.key.len || (r->producer.sequence && !r->producer.session));
}
/* The verdict on a named record; a new one is remembered as the one at `offset`. *ret_found is set
 * for duplicates. `now_ns` does not go back. */
enum once_verdict once_decide(struct once *o, const struct record *r, uint64_t offset,
                              int64_t now_ns, struct once_found *ret_found);
/* Forgets what is at or above `offset`: it was not stored after all. */
void once_rollback(struct once *o, uint64_t offset);
