/* SPDX-License-Identifier: Apache-2.0 */
/*
 * view/view.h - the runner of one view: a thread that pulls batches from the journal, gives every
 * record to the view, says how far it has got, and lets retention go on as the view's own storage
 * becomes durable.
 *
 * Owned by the pipeline. The ops are called on the view's thread only, but for view_stop, which
 * waits for that thread to end.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "flow/record.h"
#include "journal/journal.h"
#include "seal/seal.h"

struct view;

struct view_ops {
    const char *name; /* of the thread and of the journal's reader */
    uint64_t nap_ns;  /* how long it lets records come together; 0: as long as reads like it */
    /* Whether it wants no datum that belongs to no session now: they are not even read. NULL: it
     * does. */
    bool (*skips_data)(const void *of);
    /* Whether the record is to be opened and given to it, by all but its payload; NULL: all are. */
    bool (*wants)(const void *of, const struct record *r);
    /* One record, in order. Cannot fail. */
    void (*apply)(void *of, const struct record *r, uint64_t offset);
    /* One that was to be opened and cannot be, as its key was destroyed or is not known, or its
     * bytes are damaged: its payload is empty. NULL: it is as good as not there. */
    void (*apply_shut)(void *of, const struct record *r, uint64_t offset);
    /* A record of this feed comes soon: fetches what applying it will touch; and a little later,
     * when that has come, what it leads to. Both or none. */
    void (*prefetch)(void *of, uint64_t feed);
    void (*prefetch_end)(void *of, uint64_t feed);
    /* Ends a batch of `bytes`, or nothing came for a while (0). Everything below `next_offset` was
     * applied. Returns the durable cursor: a crash begins again there. */
    uint64_t (*tick)(void *of, uint64_t next_offset, uint64_t bytes, uint64_t now_ns);
    /* Whether the view can take no more now; then only tick is called. May be NULL. */
    bool (*stuck)(void *of);
    /* Whether there is work left in the background: then tick is called again soon. May be NULL. */
    bool (*restless)(void *of);
    /* Makes everything below `next_offset` durable. 0 or negative errno. */
    int (*flush)(void *of, uint64_t next_offset);
};

/* The views; `of` is a struct latest, a struct history, a struct audit, a struct sessions, a struct
 * rules. */
extern const struct view_ops view_latest_ops, view_history_ops, view_audit_ops, view_session_ops,
    view_rules_ops;

struct view_opts {
    struct journal *journal;
    const struct view_ops *ops;
    void *of;                      /* outlives the view */
    uint64_t cursor;               /* where to begin: what the open of the view returned */
    struct keyring *keyring;       /* opens sealed records; NULL: there are none */
    void (*on_applied)(void *arg); /* after the watermark moved; view's thread; may be NULL */
    void *arg;
};

/* Opens the named reader and starts the thread. 0 or negative errno. */
int view_start(const struct view_opts *opts, struct view **ret, struct error *err);
/* Stops the thread after the batch at hand, flushes, commits the cursor, frees. Accepts NULL. */
void view_stop(struct view *v);
/* Somebody waits until everything below `offset` is applied: ends the view's nap, which otherwise
 * lets records come together for some milliseconds. Any thread. */
void view_hurry(struct view *v, uint64_t offset);
/* Returns when everything that is durable in the journal now is applied, and all of that is durable
 * in the view too, or after `patience_ns` (0: it has no end) with -ETIMEDOUT. 0 or a negative
 * errno. Any thread but the view's; nobody may stop it meanwhile. */
int view_flush(struct view *v, uint64_t patience_ns);
/* One past the last record applied; never moves back. Any thread, one atomic load. */
uint64_t view_applied(const struct view *v);

struct view_stats {
    uint64_t applied, durable; /* watermarks of this view */
    uint64_t lag;              /* records durable in the journal and not yet applied */
    uint64_t lag_us;           /* age of the record last applied, while behind */
    uint64_t gaps, errors;
    bool stuck;
};
struct view_stats view_stats(const struct view *v);
