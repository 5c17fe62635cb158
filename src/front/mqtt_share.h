/* SPDX-License-Identifier: Apache-2.0 */
/*
 * front/mqtt_share.h - the groups of shared subscriptions (MQTT 5.0, section 4.8.2): who is in one,
 * and whose turn it is. One table for all workers; any thread, unless it says otherwise.
 *
 * A group is one account's group name and filter together. It is there while it has members, which
 * are subscriptions of connections on any worker. One worker, that of the first member, is its
 * home: that one matches the group's filter, so that each message is found once (mqtt_shared.c).
 *
 * If a session has the subscription, the group is kept: which messages were given to members and
 * are not settled yet is known here, and how far all are is told to the journal, so that it is
 * gone on with after a restart (decision 0069).
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/ascending.h"
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

/* A member's place in its group. */
struct share_seat {
    struct share_member member;
    uint64_t joined; /* counted from 1 */
};

/* Whom a message has asked; all zero: nobody yet. */
struct share_round {
    uint64_t first, last; /* `joined` of where the round began, and of who was asked last; or 0 */
    bool around;          /* it has come past the last seat */
    bool force;           /* it is the second one */
    bool barred;          /* somebody was asked who may not see it */
};

struct share_group {
    struct mqtt_shares *shares;
    _Atomic unsigned refs;
    struct mqtt_front *home;
    uint64_t since;        /* position from which on the home matches */
    struct mqtt_sub *subs; /* of the home's thread: what matches for the group */
    uint64_t unclaimed;    /* position of the first message that found no member; 0: none did */
    struct mail mail;      /* tells it that the group is over; posted once */
    /* Of the last member, before that: position of the first one it has left unread; UINT64_MAX:
     * none. */
    uint64_t unread;
    /* Of mqtt_share.c: */
    struct share_group *next; /* in its bucket, under the table's lock */
    uint64_t account, hash;
    const _Atomic uint64_t *reached; /* position: what lies below the home has matched */
    uint64_t founded; /* epoch of what was being told of groups then, see mqtt_share_tell */
    _Atomic bool kept;
    _Atomic bool missing;     /* there is a stretch that nobody has asked the journal for */
    pthread_mutex_t lock;     /* of these: */
    struct share_seat *seats; /* in the order of joining */
    unsigned count, room, turn;
    uint64_t last_joined;
    bool remains;                     /* sessions have left it that go on */
    uint64_t missed_from, missed_to;  /* that stretch, until it has been read; positions */
    struct ascending open;            /* places given to members and not settled */
    uint64_t told;                    /* the floor that was told last */
    struct slice whole, name, filter; /* "$share/NAME/FILTER" and parts of it; behind the struct */
};

struct mqtt_shares_opts {
    uint64_t born; /* a position; what lies below was there before this server ran */
    /* Whether a session of the account has that shared subscription ("$share/..."); *ret_floor:
     * position up to which its group's messages are settled, 0: nothing is known. Any thread. */
    bool (*known)(void *arg, uint64_t account, struct slice filter, uint64_t *ret_floor);
    void *arg;
};
struct mqtt_shares *mqtt_shares_new(const struct mqtt_shares_opts *opts);
/* All groups must be gone. Accepts NULL. */
void mqtt_shares_free(struct mqtt_shares *s);

enum share_joined {
    SHARE_FULL,    /* the group has SHARE_MEMBERS_MAX members */
    SHARE_JOINED,  /* a member of a group that was there */
    SHARE_FOUNDED, /* its first member, whose front is the home now */
};
/* What the member's front is to a group that is founded. */
struct share_home {
    uint64_t since;
    const _Atomic uint64_t *reached;
};
/* Gives the caller a reference to the group with the last two. */
enum share_joined mqtt_share_join(struct mqtt_shares *s, uint64_t account, struct slice name,
                                  struct slice filter, struct share_member m,
                                  const struct share_home *home, struct share_group **ret);
/* True: it was the last one, so the group is over and its home is to be told. The reference stays.
 * `remains`: its session goes on. The newest SHARE_ASLEEP_MAX groups that are over are remembered.
 */
bool mqtt_share_leave(struct share_group *g, struct share_member m, bool remains);
/* Whether it has no member, and never will. */
bool mqtt_share_over(struct share_group *g);
/* The home of one that is over: what comes from that position on has nobody got, nor what is open.
 */
void mqtt_share_sleep(struct share_group *g, uint64_t from);
/* The member that the message is to ask next: first whose turn it is, then those that follow, and
 * when that was the last one, all once more, with r->force. Who is a member all the while is asked
 * once in each round, whoever else comes and goes. False: there is nobody left. */
bool mqtt_share_pick(struct share_group *g, struct share_round *r, struct share_member *ret);

/* ---- what is settled; nothing happens if the group is not kept ---- */
/* A session has joined: it is kept from now on. */
void mqtt_share_keep(struct share_group *g);
/* The message is to be a member's, if it is not already. False: SHARE_OPEN_MAX are, and it is to be
 * dropped, since each of these may be undelivered. */
bool mqtt_share_open(struct share_group *g, uint64_t place);
/* The same of many, ascending. Returns how many of them, from the first on; the others are to be
 * dropped. */
uint32_t mqtt_share_open_all(struct share_group *g, const uint64_t *places, uint32_t count);
/* It needs nobody any more: a client has it, or a session that the journal knows to have it, or it
 * was dropped. */
void mqtt_share_settle(struct share_group *g, uint64_t place);
/* The position below which all is settled, to be told to the journal; 0: the group is over, and
 * what it did not get it does not know. */
uint64_t mqtt_share_floor(struct share_group *g);
/* Whether that is so many above what was told last. */
bool mqtt_share_floor_due(struct share_group *g, uint64_t step);
/* A record of what the group's members have is on its way to the journal, from this moment on until
 * mqtt_share_told is called with what this returns. */
unsigned mqtt_share_tell(struct share_group *g);
void mqtt_share_told(struct share_group *g, unsigned telling);
/* The same of another record, as part of what `telling` stands for: mqtt_share_told is still to be
 * called with that, and for this one as well. Returns it. */
unsigned mqtt_share_tell_in(struct share_group *g, unsigned telling);
/* Whether all those have arrived that began before the group was founded: what is read of the
 * journal for it before that may be on its way to somebody. */
bool mqtt_share_is_told(struct share_group *g);
/* The stretch of the journal that came while there was no member, for a session that was there
 * before: the first to ask gets it. False: there is none. */
bool mqtt_share_take_missed(struct share_group *g, uint64_t *ret_from, uint64_t *ret_to);
/* Who has taken it leaves before it was read: somebody else is to. */
void mqtt_share_put_missed_back(struct share_group *g);
/* What was found in it is open now. */
void mqtt_share_end_missed(struct share_group *g);

struct share_group *mqtt_share_ref(struct share_group *g);
void mqtt_share_unref(struct share_group *g);

/* Mail between workers, that many bytes of it. False: SHARE_BYTES_MAX are on their way already. */
bool mqtt_shares_begin(struct mqtt_shares *s, size_t bytes);
void mqtt_shares_end(struct mqtt_shares *s, size_t bytes);
/* Whether none is on its way. */
bool mqtt_shares_idle(struct mqtt_shares *s);
/* The server is stopping: what finds no member is no loss of a group that is kept. */
void mqtt_shares_stop(struct mqtt_shares *s);
bool mqtt_shares_stopping(const struct mqtt_shares *s);
