/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gate/desk.h - checks that wait for a password hash: who joins whom, and whose turn it is. No
 * thread of its own; everything under the shield's mutex.
 *
 * A flight is one hash to compute: one presented secret of one credential. Every check of it is a
 * ticket on the flight. Flights of one credential form a lane, of which one at a time is ready or
 * running. Ready flights queue by class and source address. Within a class sources take turns.
 * Administrators go before all; of sixteen turns eleven are for credentials that were verified
 * before, four for new ones, one for sources that failed lately: everybody progresses. A turn of
 * either of the first two that nobody needs is the other's; sources that failed take more than
 * their own one only if nobody else waits, so from those who did not they take a sixteenth at most.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "flow/principal.h"
#include "gate/hashpool.h"
#include "gate/mac.h"
#include "gate/shield.h"

struct flight;

struct ticket {
    TAILQ_ENTRY(ticket) by_flight, by_age;
    struct flight *flight;
    struct source *source;
    struct shield_wait *wait;
    uint64_t at_ns;
};
TAILQ_HEAD(ticket_list, ticket);

/* In the order of their right of way. */
enum desk_class { DESK_ADMIN, DESK_KNOWN, DESK_NEW, DESK_SUSPECT, DESK_CLASSES };

enum flight_state { FLIGHT_WAITING, FLIGHT_READY, FLIGHT_RUNNING };

struct flight {
    TAILQ_ENTRY(flight) link; /* in its lane while waiting, in its source while ready */
    struct lane *lane;
    struct source *source; /* whose turn it uses */
    enum flight_state state;
    enum desk_class class; /* by what is asked about; a suspect source's are all DESK_SUSPECT */
    bool suspect;          /* its source had failed when it came, or when its turn came */
    struct ticket_list tickets;
    uint8_t tag[MAC_TAG_BYTES];
    uint64_t lane_id;              /* also its subject of failure windows */
    struct credential *credential; /* a reference; NULL: no such device */
    enum reason wrong;             /* what a wrong secret is told */
    unsigned seats;                /* that compute it now (the clerk's) */
    uint64_t started_ns;
    bool over; /* answered; only its job is still being computed (the clerk's) */
    struct hash_job job;
};

struct desk;

/* NULL: no memory. */
struct desk *desk_new(unsigned waiting_max, unsigned per_source_max);
/* Must be empty of tickets and running flights. Accepts NULL. */
void desk_free(struct desk *d);

/* A flight for desk_add, all zero but its tickets; NULL: no memory. desk_flight_free wipes it. */
struct flight *desk_flight_new(void);
void desk_flight_free(struct flight *f);

/* The flight of this secret, or NULL. */
struct flight *desk_find(struct desk *d, uint64_t lane_id, const uint8_t tag[MAC_TAG_BYTES]);
/* Whether there is no room for one more check from this source, or for one more secret of this
 * lane (a bound on what desk_find looks through). Some room is kept for administrators. */
bool desk_full(struct desk *d, uint64_t lane_id, uint64_t source, enum desk_class class);
/* How many hashes are computed before that of a new flight, if nothing else comes. */
unsigned desk_ahead(struct desk *d, uint64_t source, enum desk_class class);
/* Puts a check on a flight: on one that desk_find found, or (with f->lane == NULL) on a new one
 * that has lane_id and tag, which is taken over. False: no memory, nothing changed. */
bool desk_join(struct desk *d, struct flight *f, struct shield_wait *w, uint64_t source,
               enum desk_class class, bool suspect, uint64_t now_ns);
/* The flight whose turn it is, now running, or NULL. `suspects`: one of a source that failed lately
 * may be it. */
struct flight *desk_next(struct desk *d, bool suspects);
/* Takes a flight off its lane and all its tickets off it; the lane's next one becomes ready. The
 * tickets are the caller's, to be given to desk_ticket_free. */
void desk_finish(struct desk *d, struct flight *f, struct ticket_list *ret);
/* Takes off the oldest ticket if it came at or before `at_ns`, or NULL. A flight that nobody waits
 * for and that does not run is freed. */
struct ticket *desk_expire(struct desk *d, uint64_t at_ns);
/* Takes one ticket off a flight, which stays. */
void desk_take(struct desk *d, struct ticket *t);
uint64_t desk_ticket_source(const struct ticket *t);
/* Whether its source failed lately. */
bool desk_ticket_suspect(const struct ticket *t);
/* The ticket must have been taken off. */
void desk_ticket_free(struct desk *d, struct ticket *t);
/* Tickets now. */
unsigned desk_waiting(const struct desk *d);
/* Flights that wait for a hash: all, and those of a class whose turn is not far off. */
unsigned desk_flights(const struct desk *d);
unsigned desk_ready(const struct desk *d, enum desk_class class);
/* When the ticket came that came last; 0: none waits. */
uint64_t desk_newest_ns(const struct desk *d);
/* When no flight waited the last time, as far as desk_join was told. */
uint64_t desk_idle_at_ns(const struct desk *d);
