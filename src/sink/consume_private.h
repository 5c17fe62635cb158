/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sink/consume_private.h - what consume.c (the thread and its asks), consume_group.c (a group and
 * its way through the journal) and consume_message.c (a message as text) share. Nobody else
 * includes it.
 */
#pragma once

#include <limits.h>
#include <pthread.h>

#include "base/thread.h"
#include "sink/consume.h"
#include "sink/group_file.h"
#include "sink/lease.h"

/* A connection that is pushed messages of the group. */
struct consumer {
    struct consumer *next;
    uint64_t number;
    uint32_t credit;
    struct lease_holder holder;
};

struct consume_group {
    struct consume_group *next;
    struct consume *c;
    uint64_t account;
    char name[CONSUME_GROUP_MAX + 1];
    char feeds[CONSUME_FEEDS_MAX + 1]; /* patterns; empty: all feeds, and topics that are none */
    int64_t created_us, used_us;       /* wall clock: made, last fetched from */
    struct leases leases;
    bool dirty;       /* must be written before it is said */
    uint64_t written; /* the floor as the file has it, and used_us */
    int64_t written_us;
    /* Those that wait, in the order they came. */
    struct consume_ask *waiting, **waiting_last;
    unsigned waiting_count;
    struct consumer *consumers;
    unsigned consumers_count;
    uint64_t end_ns; /* when the first of them has waited enough */
    /* Its reader, while it reads, and what is not used up of the batch that the journal gave. */
    struct journal_reader *reader;
    uint64_t read_ns;
    struct journal_batch given;
    size_t given_at;
    uint64_t given_offset, given_left;
    uint64_t missed_from, missed_to; /* to be told with the next answer */
    struct consume_stats stats;
};

struct consume {
    struct consume_opts opts;
    char path[PATH_MAX];
    struct sealer *sealer;
    pthread_t thread;
    struct consume_group *groups;
    unsigned groups_count;
    struct group_file *file;
    uint64_t file_bytes; /* when it was written anew */
    bool anew;           /* it must be: it has a group that is no more */
    uint64_t retry_ns;   /* not to be written for its own sake before: that failed */
    uint64_t leases;     /* the next lease's number: one of the start, then a count */
    uint64_t cursor;     /* that retention waits for, if `committed`; UINT64_MAX: for none */
    bool committed;
    uint64_t began_ns, looked_ns, published_ns;
    bool changed;  /* since the stats were published */
    bool quitting; /* `quit`, as the thread last saw it */
    struct lease_message **granted;
    struct consume_stats *fresh; /* to be put in the place of `stats` */
    struct buf opened;
    struct consume_ask *answered, **answered_last; /* as soon as it is written */
    pthread_mutex_t lock;                          /* of the rest */
    pthread_cond_t woken;
    struct consume_ask *asks, **asks_last;
    struct journal_reader *ear; /* what the thread waits with for news; NULL: it does not */
    bool quit, stop;
    struct consume_stats *stats;
    unsigned stats_count;
};

/* ---- consume.c ---- */
struct consume_stats consume_group_stats(const struct consume_group *g);

/* ---- consume_group.c ---- */
struct consume_group *consume_group_new(struct consume *c, uint64_t account, struct slice name,
                                        struct slice feeds, uint64_t floor, const uint64_t *had,
                                        uint32_t had_count);
void consume_group_free(struct consume_group *g);
/* What the file has of it. */
void consume_group_encode(const struct consume_group *g, struct buf *out);
/* Makes the group anew, or changes the one that is there. False: that is none. */
bool consume_group_decode(struct consume *c, struct slice entry);
struct consume_group *consume_group_find(struct consume *c, uint64_t account, struct slice name);
/* Whether all that the group hands out is for that credential. */
bool consume_group_is_for(const struct consume_group *g, const struct credential *c);
/* NULL: the group has no such consumer. */
struct consumer *consume_group_consumer(struct consume_group *g, uint64_t number);
void consume_group_join(struct consume_group *g, uint64_t number, uint32_t credit);
/* What it has is given back, and its fetch, if one waits, answered without messages. */
void consume_group_leave(struct consume_group *g, struct consumer *who);
/* Puts it behind those who wait. The caller counts it. */
void consume_group_wait(struct consume_group *g, struct consume_ask *ask);
/* Gives messages to those who wait, and answers who has some or has waited enough. True: there may
 * be more to do at once. */
bool consume_group_serve(struct consume_group *g, uint64_t now_ns);
/* Reads no more. */
void consume_group_rest(struct consume_group *g);
/* Answers all that wait. */
void consume_group_send_away(struct consume_group *g, enum reason reason, const char *text);

/* ---- consume_message.c ---- */
/* Appends the message as JSON. False: it need not be handed out, as it or its feed is no more. */
bool consume_message_put(struct consume *c, const struct lease_message *m, struct buf *out);
/* Appends what is a list of groups for a person. */
void consume_group_put(const struct consume_stats *s, const char *feeds, struct buf *out);
