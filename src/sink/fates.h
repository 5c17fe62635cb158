/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sink/fates.h - what became of the messages that a sink has passed last: a ring with a byte for
 * each of the newest FATES_MAX offsets. A sink's position alone does not tell a message that was
 * delivered from one that is a dead letter, or was never meant for that sink.
 *
 * Owned by its sink. The sink's thread notes; any thread asks, without a lock, about offsets below
 * the sink's position, which it has read before.
 */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

#include "flow/limits.h"

/* Numbers are places in the ring. From NOT_SELECTED on it was not delivered. */
enum fate {
    FATE_UNKNOWN, /* not noted, or too long ago */
    FATE_DELIVERED,
    FATE_NOT_SELECTED, /* not meant for that sink */
    FATE_GIVEN_UP,     /* the journal had it no longer, or the sink lagged by too much */
    FATE_UNREADABLE,   /* it could not be opened: its account was erased, or it is damaged */
    FATE_FAILED,       /* the target refused it for what it is: a dead letter */
};

struct fates {
    _Atomic uint64_t end; /* one past the highest offset noted */
    _Atomic uint8_t ring[FATES_MAX];
};

/* "delivered", "failed", ...; of UNKNOWN "passed", which is all that is known. */
const char *fate_name(enum fate fate);

/* Empty, and of offsets from `start` on. NULL: no memory. */
struct fates *fates_new(uint64_t start);
/* Accepts NULL. */
void fates_free(struct fates *f);

/* Of [from, to). What is too old for the ring is let go. The sink's thread. */
void fates_note(struct fates *f, uint64_t from, uint64_t to, enum fate fate);
/* Of one message. */
enum fate fates_of(const struct fates *f, uint64_t offset);
/* The least good of `count` messages from `offset` on, where UNKNOWN is better than what is known
 * to have gone wrong, and worse than the rest; and how many were delivered. */
enum fate fates_worst(const struct fates *f, uint64_t offset, uint32_t count,
                      uint32_t *ret_delivered);
