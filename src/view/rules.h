/* SPDX-License-Identifier: Apache-2.0 */
/*
 * view/rules.h - the view `rules`: which rules there are, and what each has seen and owes, made
 * from the journal alone, with a snapshot on disk (decision 0060).
 *
 * A rule that finds what it waits for owes a message. Who publishes it (pipeline_rules.c) takes it
 * from here; the record of that message, which carries the rule's mark, takes it out of the view.
 * So a message that was stored before a crash is not owed behind it, and one that was not is.
 *
 * rules_want, _apply, _tick and _snapshot belong to the view's thread. The rest is for any thread
 * and waits for nothing but a mutex that is held while one record is looked at.
 */
#pragma once

#include "base/error.h"
#include "flow/limits.h"
#include "flow/record.h"
#include "flow/rule.h"
#include "journal/disk.h"
#include "journal/journal.h"
#include "seal/seal.h"

struct rules;

struct rules_opts {
    struct disk *disk;
    const char *path;        /* of the snapshot file */
    struct keyring *keyring; /* seals what came sealed; NULL: there is nothing of that kind */
    uint64_t log_id[2]; /* the journal this view belongs to: another log's snapshot is refused */
    struct journal *journal; /* says when all has been seen, so that silence is one; NULL: always */
    int64_t opened_us;       /* silence is not told before devices had time to come back */
};

/* Loads the snapshot if there is one. *ret_cursor: everything below it is in. A damaged snapshot is
 * an error (-EBADMSG) that names the file, never silently ignored. */
int rules_open(const struct rules_opts *opts, struct rules **ret, uint64_t *ret_cursor,
               struct error *err);
/* Accepts NULL. */
void rules_close(struct rules *t);

/* Whether the record can change anything here. */
bool rules_want(const struct rules *t, const struct record *r);
/* Whether there is no rule at all, so that no datum can. */
bool rules_none(const struct rules *t);
/* Applies one record; offsets ascend. */
void rules_apply(struct rules *t, const struct record *r, uint64_t offset);
/* Writes the snapshot: everything below `cursor`. 0 or negative errno. */
int rules_snapshot(struct rules *t, uint64_t cursor);
/* Ends a journal batch of so many bytes: everything below `next_offset` was applied. Looks for
 * silence, and writes the snapshot now and then (view/pace.h). Returns the cursor of the newest
 * snapshot. */
uint64_t rules_tick(struct rules *t, uint64_t next_offset, uint64_t bytes, uint64_t now_ns);

/* Silence is told so long after the server started, or after the rule's own time if that is less:
 * who was not heard because there was no server has had time to come back. */
#define RULES_GRACE_MS 60000u
/* A message that could not be published for so long is given up. */
#define RULES_OWED_US (3600 * 1000000ll)

/* ---- what is owed ---------------------------------------------------------------------------- */

/* One message. */
struct rules_owed {
    struct rule rule; /* its value is `value` */
    struct rule_mark mark;
    bool tried;         /* by hand */
    int64_t caused_us;  /* when what caused it was received */
    struct slice came;  /* the value that did; ptr NULL: silence */
    struct slice value; /* of the rule */
    char bytes[2 * RULE_VALUE_MAX];
};

/* Whether any may be. None before the view has applied all that was durable when it was opened:
 * what an earlier run has stored is known then. Two atomic loads. */
bool rules_owe(const struct rules *t);
/* The next one that is to be published now; it is not told again before it is settled. Of a rule
 * they come one after the other. False: there is none. */
bool rules_next_owed(struct rules *t, uint64_t now_ns, struct rules_owed *ret);

enum rules_settled {
    RULES_STORED,  /* it is durable */
    RULES_LATER,   /* it could not be published: again at `again_ns` */
    RULES_REFUSED, /* it never can be */
};
/* What became of it; `why` of what was not stored. */
void rules_settle(struct rules *t, const struct rule_mark *mark, enum rules_settled how,
                  uint64_t again_ns, const char *why);

/* ---- what is told ---------------------------------------------------------------------------- */

struct rule_info {
    struct rule rule; /* its value points to `value` */
    char value[RULE_VALUE_MAX];
    bool tripped;        /* it has been told, and is not again before it is over */
    uint64_t fired;      /* messages stored */
    uint64_t suppressed; /* not published: too early behind the one before */
    uint64_t dropped;    /* not published: refused, too deep, too many at a time */
    int64_t fired_us;    /* the last one; 0: never */
    unsigned owed;       /* messages not stored yet */
    int64_t error_us;    /* when that was; 0: there was none */
    char error[RULE_ERROR_MAX];
};

/* Up to `max` rules from that id on, by id, of that account (0: of any). Returns how many. */
unsigned rules_list(struct rules *t, uint64_t account, uint64_t id, struct rule_info *ret,
                    unsigned max);
/* How many there are, in all and of the account. */
void rules_count(struct rules *t, uint64_t account, unsigned *ret_all, unsigned *ret_own);
/* One that no rule has had, and that this was not answered with before. */
uint64_t rules_new_id(struct rules *t);
