/* SPDX-License-Identifier: Apache-2.0 */
/*
 * front/mqtt_share.h - the groups of shared subscriptions (MQTT 5.0, section 4.8.2): who is in one,
 * and whose turn it is. One table for all workers; any thread, unless it says otherwise.
 *
 * A group is one account's group name and filter together. It is there while it has members, which
 * are subscriptions of connections on any worker. One worker, that of the first member, is its
 * home: that one matches the group's filter, so that each message is found once (mqtt_shared.c).
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"
#include "conn/worker.h"

struct mqtt_front;
struct mqtt_sub;
struct mqtt_shares;

/* A subscription in a group: its worker's front, and its number there. */
struct share_member {
    struct mqtt_front *front;
    uint32_t number;
};

struct share_group {
    struct mqtt_shares *shares;
    _Atomic unsigned refs;
    struct mqtt_front *home;
    /* Of the home's thread: what matches for the group, and from which position on. */
    struct mqtt_sub *subs;
    uint64_t since;
    uint64_t unclaimed; /* position of the first message that found no member; 0: none did */
    struct mail mail;   /* tells it that the group is over; posted once */
    /* Of the last member, before that: position of the first one it has left unread; 0: none. */
    uint64_t unread;
    /* Of mqtt_share.c: */
    struct share_group *next; /* in its bucket, under the table's lock */
    uint64_t account, hash;
    pthread_mutex_t lock; /* of the rest */
    struct share_member *members;
    unsigned count, room, turn;
    struct slice name, filter; /* behind the struct */
};

/* `born`: a position; what lies below was there before this server ran. */
struct mqtt_shares *mqtt_shares_new(uint64_t born);
/* All groups must be gone. Accepts NULL. */
void mqtt_shares_free(struct mqtt_shares *s);

enum share_joined {
    SHARE_FULL,    /* the group has SHARE_MEMBERS_MAX members */
    SHARE_JOINED,  /* a member of a group that was there */
    SHARE_FOUNDED, /* its first member, whose front is the home now */
};
/* Gives the caller a reference to the group with the first two. */
enum share_joined mqtt_share_join(struct mqtt_shares *s, uint64_t account, struct slice name,
                                  struct slice filter, struct share_member m,
                                  struct share_group **ret);
/* True: it was the last one, so the group is over and its home is to be told. The reference stays.
 */
bool mqtt_share_leave(struct share_group *g, struct share_member m);
/* A group that is over: what comes from that position on has nobody got. The newest
 * SHARE_ASLEEP_MAX are remembered. */
void mqtt_share_sleep(struct share_group *g, uint64_t from);
/* Of a group that was founded just now: from which position on nobody has got its messages;
 * UINT64_MAX: that is not known any more. To be asked once. */
uint64_t mqtt_share_wake(struct share_group *g);
/* The member whose turn it is, and then it is the next one's. Returns how many there are; 0: none,
 * and *ret is not set. */
unsigned mqtt_share_pick(struct share_group *g, struct share_member *ret);
struct share_group *mqtt_share_ref(struct share_group *g);
void mqtt_share_unref(struct share_group *g);

/* Mail between workers, that many bytes of it. False: SHARE_BYTES_MAX are on their way already. */
bool mqtt_shares_begin(struct mqtt_shares *s, size_t bytes);
void mqtt_shares_end(struct mqtt_shares *s, size_t bytes);
/* Whether none is on its way. */
bool mqtt_shares_idle(struct mqtt_shares *s);
