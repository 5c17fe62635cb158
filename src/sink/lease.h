/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sink/lease.h - which messages of a consumer group are undone, and who has them: the rules alone,
 * without a journal, a disk or a clock. One thread.
 *
 * Messages come in by lease_add in the order of the journal and stay until they are acknowledged.
 * A grant hands out those that nobody has, from the front on; with one of an order (a feed) that is
 * not done and not in the same grant, the later ones of that order wait. So whoever works on a feed
 * has its oldest undone messages, and nobody else has any.
 *
 * A message is named by its offset and a grant by a number, its lease, that is never used twice. An
 * acknowledgement counts while the lease has the message, and later as long as nobody else was
 * given it. What it was told before a restart is forgotten: then it counts if nobody was given it
 * since. Leases may have a holder, who has at most so many messages and gives all back at once.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"

enum lease_state { LEASE_FREE, LEASE_OUT, LEASE_DONE };

/* Whoever has messages of several leases. Its owner's, and stays where it is as long as it has any.
 */
struct lease_holder {
    uint32_t has; /* messages that are OUT */
};

struct lease_message {
    uint64_t offset;
    uint64_t order;  /* of the same: one after the other */
    uint64_t lease;  /* that has it, or had it last; 0: none since the start */
    uint64_t due_ns; /* OUT: the lease's end; FREE: not to be given before */
    enum lease_state state;
    uint32_t deliveries, bytes;
    char *raw;                   /* as in the journal; NULL once it is done */
    struct lease_holder *holder; /* OUT: of the lease; NULL: it has none */
};

struct leases {
    uint32_t messages_max; /* of the window: from the first undone one on, done ones too */
    uint64_t bytes_max;    /* of those undone, and the last one on top */
    uint64_t next; /* of the journal: everything below is in the window, or was not wanted */
    struct lease_message *window;
    uint32_t first, end; /* of the window: what is before `first` is done */
    uint64_t *had;       /* done, as it was told before the window came there; ascending */
    uint32_t had_count;
    uint64_t bytes;
    uint32_t undone, out;
    uint64_t due_ns; /* nothing changes by itself before */
    /* Orders that the grant in hand must not touch: a table of hashes, emptied by its number. */
    struct lease_blocked *blocked;
    uint32_t blocked_size, grant;
};

/* Everything below `floor` is done, and so are the `had_count` offsets, which ascend from there. */
void leases_init(struct leases *l, uint32_t messages_max, uint64_t bytes_max, uint64_t floor,
                 const uint64_t *had, uint32_t had_count);
void leases_fini(struct leases *l);

/* Whether one more message may be added. */
bool leases_room(const struct leases *l);
/* A copy of the message at `offset`, which is not below `next`. */
void leases_add(struct leases *l, uint64_t offset, uint64_t order, struct slice raw);
/* Nothing that is wanted lies between `next` and there. */
void leases_pass(struct leases *l, uint64_t next);
/* The first message that is not done; `next` if there is none. */
uint64_t leases_floor(const struct leases *l);
/* Offsets above it that are done, ascending: how many. `ret` NULL: they are only counted. */
uint32_t leases_done(const struct leases *l, uint64_t *ret);

struct lease_terms {
    uint64_t lease, now_ns, end_ns;
    uint32_t messages_max;
    uint64_t bytes_max;          /* and those of the last one on top */
    struct lease_holder *holder; /* of the lease; NULL: none */
};
/* Fills `ret` with what was granted, in order; they stay where they are until the next
 * leases_add. How many. */
uint32_t leases_grant(struct leases *l, const struct lease_terms *terms,
                      struct lease_message **ret);
/* It need not be handed out: it is done. */
void leases_drop(struct leases *l, struct lease_message *m);

enum lease_outcome { LEASE_OK = 1, LEASE_STALE };
/* Done. OK also when it was before. STALE: somebody else was given it, or there is no such message.
 * `known`: that lease was made since the start. */
enum lease_outcome leases_ack(struct leases *l, uint64_t offset, uint64_t lease, bool known);
/* Given back, not to be handed out before `due_ns`; with it the later ones of its order that the
 * lease has. STALE: the lease does not have it. */
enum lease_outcome leases_nack(struct leases *l, uint64_t offset, uint64_t lease, uint64_t due_ns);
/* The lease has it until then. */
enum lease_outcome leases_extend(struct leases *l, uint64_t offset, uint64_t lease,
                                 uint64_t end_ns);
/* All that the lease has is given back, as if it had not been handed out. */
void leases_return(struct leases *l, uint64_t lease);
/* All that the holder has is given back. It was handed out. */
void leases_leave(struct leases *l, struct lease_holder *holder);
/* Leases that are over by now give back what they have. How many messages. */
uint32_t leases_expire(struct leases *l, uint64_t now_ns);
