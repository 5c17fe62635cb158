/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sink/consume.h - consumer groups: workers of the user's own fetch messages of their account, and
 * say of each that it is done. One thread for all groups, which reads the journal for those that
 * somebody waits for; the rules are sink/lease.h's, and where groups stand is kept by
 * sink/group_file.h. It slows nobody down: a worker hands an ask over and gets it back.
 *
 * A connection that is to be pushed messages is a consumer of the group: it fetches as others do,
 * but has at most so many messages at a time, its credit, and gives all of them back when it ends.
 *
 * Each message of a group is handed out until it is acknowledged, that of a feed one behind the
 * other, whatever crashes. A group holds retention up until it has the messages, up to a maximum.
 *
 * Owned by the server.
 */
#pragma once

#include "flow/principal.h"
#include "flow/reason.h"
#include "sink/sink.h"

struct consume;

struct consume_opts {
    struct journal *journal;
    struct keyring *keyring; /* NULL: nothing is sealed */
    struct disk *disk;
    const char *path; /* of the file; its directory exists */
    uint16_t node;    /* of the ids that data have */
    /* As sink_opts.names. Called on the thread. */
    void (*names)(void *arg, const struct record *r, struct sink_names *ret);
    void *arg;
    unsigned groups_max, account_groups_max;
    uint32_t window_messages; /* of a group: see leases */
    uint64_t window_bytes;
    uint64_t hold_bytes; /* of journal that groups keep from being removed */
    uint64_t idle_ns;    /* a group that nobody fetched from for so long is no more; 0: never */
};

/* 0 or a negative errno with a sentence. */
int consume_start(const struct consume_opts *opts, struct consume **ret, struct error *err);
/* Whoever waits for messages is answered now, without any, and whoever comes later too. Any
 * thread. */
void consume_quit(struct consume *c);
/* Whether a group in the file, which nobody has open, is of that log and beyond `end`; *ret: where
 * the furthest is. Nothing is changed; what is damaged says nothing. */
bool consume_beyond(struct disk *disk, const char *path, const uint8_t log_id[16], uint64_t end,
                    uint64_t *ret);
/* Nobody has an ask there any more. Accepts NULL. */
void consume_stop(struct consume *c);

enum consume_op {
    CONSUME_FETCH,  /* group; makes it if there is none */
    CONSUME_ACK,    /* group, tokens */
    CONSUME_NACK,   /* group, tokens, ns: not to be handed out before */
    CONSUME_EXTEND, /* group, tokens, ns: the lease ends so long from now */
    CONSUME_RETURN, /* group, lease: what it has was never handed out */
    CONSUME_REMOVE, /* group */
    CONSUME_LIST,
    CONSUME_OPEN,   /* as a fetch, of no messages: `consumer` is one of the group, with `credit` */
    CONSUME_CREDIT, /* group, consumer, credit */
    CONSUME_LEAVE,  /* consumer: what it has is given back, and it is no more */
};

/* What stands for a message that was handed out. Text: OFFSET-LEASE in hex. */
struct consume_token {
    uint64_t offset, lease;
};
bool consume_token_parse(struct slice text, struct consume_token *ret);

/* The asker owns it and every byte it points to until `done`. */
struct consume_ask {
    enum consume_op op;
    uint64_t account;
    const struct credential *credential; /* a reference of the asker's */
    struct slice group;
    /* CONSUME_FETCH: */
    unsigned max;
    uint64_t wait_ns, lease_ns;
    struct slice feeds; /* patterns with commas between; ptr NULL: not said */
    bool oldest;        /* a new group begins at the oldest record, not at the newest */
    uint64_t consumer;  /* who fetches, and is in the group; 0: nobody that lasts */
    uint32_t credit;    /* messages that it has at most */
    /* The others: */
    const struct consume_token *tokens;
    unsigned tokens_count;
    uint64_t ns;
    uint64_t lease; /* CONSUME_RETURN; of a fetch it is the answer */

    void (*done)(struct consume_ask *ask); /* on the thread; only passes it on */
    void *owner;
    /* The answer: */
    enum reason reason;
    char text[160];                  /* a sentence when refused, or empty */
    struct buf *out;                 /* JSON, when it is not refused; the asker's */
    unsigned count;                  /* messages handed out */
    uint64_t missed_from, missed_to; /* what the group did not get as it was gone; equal: nothing */

    /* The thread's: */
    struct consume_ask *next;
    uint64_t end_ns;
    struct consumer *who;
};

/* Hands the ask over. Any thread; never waits for a disk. */
void consume_submit(struct consume *c, struct consume_ask *ask);

struct consume_stats {
    uint64_t account;
    char account_name[USERNAME_MAX + 1], name[CONSUME_GROUP_MAX + 1];
    uint64_t position;                /* everything below is done, or not for the group */
    uint64_t lag;                     /* records of the journal that are durable and not below it */
    uint64_t undone, leased, waiting; /* messages in memory, of them with somebody; fetches */
    uint64_t connected;               /* consumers that last */
    uint64_t delivered, redelivered, acked, nacked, expired, missed;
};
/* Copies those of at most `max` groups. How many there are. Any thread. */
unsigned consume_stats(struct consume *c, struct consume_stats *ret, unsigned max);
