/* SPDX-License-Identifier: Apache-2.0 */
/*
 * front/mqtt_deliver_own.h - what mqtt_deliver.c (messages to one client), mqtt_missed.c (those
 * that are read from the journal) and mqtt_tell.c (what that is told of them) share. A delivery
 * belongs to its connection and its worker's thread.
 */
#pragma once

#include "front/mqtt_private.h"

/* Of a group, by an earlier connection. */
#define MEMBER_UNKNOWN UINT32_MAX
/* A retained message, which has a place where it does not follow what was sent before. */
#define MEMBER_RETAINED (UINT32_MAX - 1)

struct items {
    struct session_item *list;
    uint32_t count, room;
};

/* The same as member of groups. */
struct group_item {
    struct session_item item;
    uint32_t member;
};

struct group_items {
    struct group_item *list;
    uint32_t count, room;
};

/* A message that another member has not acknowledged. */
struct given_place {
    uint64_t place;
    uint32_t member;
    bool barred; /* it was read, and is not for this client */
    struct share_round asked;
};

struct delivery {
    struct mqtt_conn *conn;
    struct flights flights;
    uint32_t window;
    /* Of this turn, to be told: */
    struct items acked, completed, sent, apart, pubrel; /* apart: sent, retained */
    struct group_items given_out, given_back;           /* sent as member of groups; not any more */
    struct buf held;     /* packets that leave when all that is durable */
    unsigned holding;    /* exchanges that hold earlier ones */
    uint64_t told_floor; /* position */
    bool floor_wanted, group_floors_wanted;
    /* To be sent: */
    uint64_t *places;
    uint32_t places_count, places_at;
    struct buf queue;  /* messages, each as QUEUED_HEAD says */
    struct buf shared; /* the same */
    size_t counted;    /* bytes of these and of `held`, as its stream was told */
    /* As a member of groups, to be read: from `given_at` on, and up to `given_asked` while it is
     * asked for. */
    struct given_place *given;
    uint32_t given_count, given_at, given_asked, given_room;
    bool given_mixed;      /* they may not ascend; not so while they are asked for */
    uint32_t asked_member; /* of ASKED_GROUP */
    enum { ASKED_KEPT, ASKED_STRETCH, ASKED_PLACES, ASKED_GIVEN, ASKED_GROUP } asked_for;
    uint64_t join, from;
    bool behind;
    struct mqtt_exchange *asked; /* is under way */
    struct deadline retry;
    bool retry_group; /* that is only for what a group has missed */
};

/* ---- mqtt_deliver.c ---- */
/* Position below which the client has all messages of its own. */
uint64_t delivery_floor(const struct delivery *d);
/* Sends the packet under a new packet id: for itself, or as that member of a group. There is room
 * in the window. */
void delivery_send(struct delivery *d, uint64_t place, uint32_t member, uint8_t qos, char *packet,
                   size_t len);
/* The client has it, or it cannot be given it any more. */
void delivery_over(struct delivery *d, struct flight *flight);
/* As that member it is to read the message at that place. */
void delivery_put_given(struct delivery *d, uint32_t member, uint64_t place,
                        const struct share_round *asked);

/* Whether its session goes on when the connection ends; else that is one for its will's sake only,
 * or there is none, and as a member of groups it has none. */
static inline bool delivery_outlives(const struct delivery *d)
{
    return d->conn->session && d->conn->expiry_s;
}

/* ---- mqtt_missed.c ---- */
/* Asks the journal for what is to be sent before all that waits, as far as the window has room; its
 * answer comes to mqtt_take_missed. False: there is nothing of that kind. */
bool mqtt_ask_missed(struct delivery *d);
/* The same for the stretch between what was read and what comes live, if there is one. */
void mqtt_ask_stretch(struct delivery *d);

/* ---- mqtt_tell.c ---- */
void items_put(struct items *items, struct session_item item);
/* To be told of a message as that member's: it is on its way to a client that has a session, or a
 * client without one has it. */
void tell_given(struct delivery *d, uint32_t member, struct session_item item);
/* The same: it goes to somebody else. */
void tell_given_back(struct delivery *d, uint32_t member, struct session_item item);
/* Whether the record that says whose the message is, is on its way to the journal; what then
 * becomes of the message is seen to when that is answered. */
bool tell_is_under_way(const struct delivery *d, const struct share_group *g, uint64_t place);
/* The connection ends: what of QoS 2 has not left and is not handed up goes to others, no session
 * having it. If there is nobody, it is told if its session goes on, and else stays open. */
void tell_others(struct delivery *d);
/* Tells all that is to be told. */
void tell_all(struct delivery *d);
/* Of a connection without a session, or whose session ends with it: only what groups have to know.
 */
void tell_groups(struct delivery *d);
void tell_fini(struct delivery *d);
