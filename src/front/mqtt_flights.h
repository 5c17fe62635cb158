/* SPDX-License-Identifier: Apache-2.0 */
/*
 * front/mqtt_flights.h - the messages above QoS 0 that are under way to one client, in the order of
 * their places, and how far the client has everything. Plain data of one connection; one thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum flight_state {
    FLIGHT_KEPT,      /* of an earlier connection: to be sent again */
    FLIGHT_WAITS,     /* has a packet id; leaves when that is durable */
    FLIGHT_SENT,      /* QoS 1 waits for PUBACK, QoS 2 for PUBREC */
    FLIGHT_RELEASING, /* QoS 2: the client has it; PUBREL leaves when that is durable */
    FLIGHT_RELEASED,  /* QoS 2: waits for PUBCOMP */
    FLIGHT_DONE,      /* over, and one before it is not */
};

struct flight {
    uint64_t place;
    uint16_t id;
    uint8_t qos, state;
    uint32_t member; /* as whose it was given (struct mqtt_sub); 0: for itself */
};

/* All zero: none. */
struct flights {
    struct flight *list; /* ascending by place; as they came where that is the same */
    uint32_t count, room;
    uint32_t kept, done; /* of these */
    uint16_t last_id;
};

void flights_fini(struct flights *f);
/* A new one, with a packet id that no other has: at most 65,535 are under way. The pointer is good
 * until the next call. */
struct flight *flights_put(struct flights *f, uint64_t place, uint8_t qos, enum flight_state state);
/* One that has its packet id; of FLIGHT_DONE 0. */
void flights_restore(struct flights *f, const struct flight *restored);
/* The one that is under way with this packet id, or NULL. */
struct flight *flights_find(struct flights *f, uint16_t id);
/* The first that is to be sent again, or NULL. */
struct flight *flights_kept(struct flights *f);
void flights_set(struct flights *f, struct flight *flight, enum flight_state state);
/* Where what the client does not have begins, at most `next`; that of groups aside. */
uint64_t flights_floor(const struct flights *f, uint64_t next);
/* Forgets those that are over and lie below, or were of groups. */
void flights_forget(struct flights *f, uint64_t floor);
/* Under way on this connection, which is what a client's Receive Maximum counts. */
static inline uint32_t flights_open(const struct flights *f)
{
    return f->count - f->kept - f->done;
}
