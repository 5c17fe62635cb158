/* SPDX-License-Identifier: Apache-2.0 */
/*
 * front/mqtt_subs.h - the subscriptions of one worker's connections, by account, and which of them
 * a topic matches. Filters without wildcards are found by one look-up; those with wildcards lie in
 * a tree, so that what a topic costs does not grow with their number. One thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"

struct mqtt_subs;
struct share_group;

/* A place in a list; mqtt_subs.c's own. */
struct mqtt_sub_link {
    struct mqtt_sub_link *next, **place;
    uint64_t hash;
};

struct mqtt_sub {
    struct mqtt_sub_link link; /* in the table, or with its node; the first member */
    struct mqtt_sub *of_owner; /* the owner's next */
    struct mqtt_sub *also;     /* the next one of the owner that the message at hand matches */
    void *owner;
    struct mqtt_scope *scope;
    struct node *node; /* of the tree, that it hangs at; NULL: it has no wildcard */
    uint32_t id;       /* the client's subscription identifier; 0: none */
    uint64_t since;    /* position: it sees what lies there and above */
    uint8_t qos;
    bool no_local, as_published;
    bool left;                 /* of a member: it is none any more */
    bool restored;             /* of a member: its session had it before */
    uint32_t member;           /* in a group of a shared subscription: its number; 0: it is not */
    struct share_group *group; /* of a member, and of what matches for all; a reference */
    struct slice filter;       /* behind the struct; of a member the whole, "$share/..." */
    uint64_t missed_from, missed_to; /* of a member: positions that it reads for its group */
    struct slice inner;              /* of a member: what its group matches */
    unsigned telling;                /* of a member that is leaving: of mqtt_share_tell */
};

struct mqtt_subs *mqtt_subs_new(void);
/* All subscriptions must be gone. Accepts NULL. */
void mqtt_subs_free(struct mqtt_subs *s);
/* Adds one of that owner to *list; one with the same filter is replaced (MQTT-3.8.4-3). */
struct mqtt_sub *mqtt_subs_add(struct mqtt_subs *s, struct mqtt_sub **list, void *owner,
                               uint64_t account, struct slice filter);
/* Adds a member of a group to *list: no topic finds it, its number does. Takes over the reference
 * to the group that the caller puts into it. */
struct mqtt_sub *mqtt_subs_add_member(struct mqtt_subs *s, struct mqtt_sub **list, void *owner,
                                      struct slice filter, struct slice inner, uint32_t number);
/* The member with that number, or NULL. */
struct mqtt_sub *mqtt_subs_member(const struct mqtt_subs *s, uint32_t number);
/* False: there was none. */
bool mqtt_subs_remove(struct mqtt_subs *s, struct mqtt_sub **list, struct slice filter);
void mqtt_subs_remove_all(struct mqtt_subs *s, struct mqtt_sub **list);
/* Whether anybody of that account has subscribed to anything. */
bool mqtt_subs_any(const struct mqtt_subs *s, uint64_t account);
/* Calls `each` for every subscription of the account that matches; it must add and remove none. */
void mqtt_subs_match(const struct mqtt_subs *s, uint64_t account, struct slice topic,
                     void (*each)(void *arg, struct mqtt_sub *sub), void *arg);
