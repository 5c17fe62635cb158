/* SPDX-License-Identifier: Apache-2.0 */
/*
 * view/rules_own.h - what rules.c (the table), rules_judge.c (what records mean to a rule) and
 * rules_file.c (the snapshot) share.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "view/pace.h"
#include "view/rules.h"

/* A message that a rule owes. */
struct owed {
    uint64_t offset; /* of what caused it */
    unsigned depth;
    int64_t caused_us;
    bool tried, silence;
    bool out; /* somebody publishes it */
    uint64_t again_ns;
    struct slice came; /* allocated; ptr NULL: nothing */
};

struct rule_entry {
    struct rule_entry *next;                          /* all, by id */
    struct rule_entry *next_id, *next_feed, *next_to; /* of the bucket */
    struct rule rule;                                 /* its value is behind the struct */
    uint32_t key_id; /* what the rule or its data were sealed by; 0: nothing */
    /* What it has seen. */
    bool tripped;  /* above, below: not cleared since. silence: it was told */
    bool has_last; /* there was a value: */
    uint64_t last_hash;
    bool has_told; /* there was a number that was told, or the first one: */
    double told;
    uint64_t last_offset; /* of the newest record of its feed, or its own */
    unsigned last_depth;
    int64_t last_us;
    bool has_caused; /* it has published: */
    int64_t caused_us;
    /* What became of it. */
    uint64_t fired, suppressed, dropped;
    int64_t fired_us, error_us;
    char error[RULE_ERROR_MAX];
    struct owed *owed; /* oldest first, RULE_PENDING_MAX at most */
    unsigned owed_count;
    struct rule_entry *next_owing; /* if `owing` */
    bool owing;
};

struct rules {
    struct rules_opts opts;
    char *path;
    struct sealer *sealer; /* of the snapshot; NULL: nothing is sealed */
    struct buf plain, sealed;
    pthread_mutex_t lock; /* of all that follows; only the view's thread changes the chains */
    struct rule_entry *all, **all_end;
    uint64_t mask; /* buckets less one, of each table */
    struct rule_entry **by_id, **by_feed, **by_to;
    unsigned count;
    uint64_t last_id;
    uint64_t given_id; /* whose rule may not have been applied yet */
    struct rule_entry *owing, **owing_end;
    _Atomic unsigned owed; /* messages that nobody publishes yet */
    _Atomic bool ready;    /* all that was durable at the start is applied */
    /* The view's thread: */
    uint64_t applied; /* next offset to apply */
    uint64_t saved;   /* cursor of the snapshot file */
    uint64_t ready_at;
    struct pace pace;
    uint64_t looked_ns;
};

/* ---- rules.c */
struct rules *rules_new(const struct rules_opts *opts);
struct rule_entry *rules_find(const struct rules *t, uint64_t id);
/* The rules of a feed: the first; NULL: none. */
struct rule_entry *rules_of_feed(const struct rules *t, uint64_t feed);
/* Puts one in that is not there; `from` is copied. */
struct rule_entry *rules_put(struct rules *t, const struct rule *from);
void rules_take_out(struct rules *t, struct rule_entry *e);
/* Adds a message that it owes; `came` is copied. False: there are too many. */
bool rules_owe_one(struct rules *t, struct rule_entry *e, const struct owed *o);
/* Takes out the one with that cause, if it is there. */
void rules_forget_owed(struct rules *t, struct rule_entry *e, uint64_t offset);
void rules_note_error(struct rule_entry *e, int64_t now_us, const char *why);

/* ---- rules_judge.c */
/* A datum of the rule's feed has come. */
void rules_judge(struct rules *t, struct rule_entry *e, const struct record *r, uint64_t offset,
                 unsigned depth);
/* By hand. */
void rules_try(struct rules *t, struct rule_entry *e, struct slice came, int64_t now_us,
               uint64_t offset);
/* Everything that was received up to `now_us` has been applied: tells of silence. */
void rules_look(struct rules *t, int64_t now_us);
