/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow/missed.h - what METHOD_MISSED asks of the journal for a session, and what comes back: first
 * the places of what its filters match in a stretch (MISSED_COLLECT), then the messages at some
 * places (MISSED_READ). And which of some places a group has given to nobody (MISSED_UNGIVEN), by
 * what the journal says of it. The front makes and frees it; in between it is the pipeline's.
 * Places are session_place's (flow/session_record.h). One thread at a time.
 */
#pragma once

#include "base/buf.h"
#include "flow/live.h"

struct missed_filter {
    struct slice filter; /* on the heap */
    uint64_t since;      /* position: it sees what lies there and above */
    bool no_local;
};

struct missed {
    enum { MISSED_COLLECT, MISSED_READ, MISSED_UNGIVEN } what;
    /* To collect: places from `from` on, of positions below `to`; not those in `had`. */
    uint64_t from, to;
    struct missed_filter *filters;
    unsigned filters_count;
    uint64_t *had; /* ascending */
    uint32_t had_count;
    /* Or, of a shared subscription, those that its group has settled: "$share/..."; on the heap;
     * ptr NULL: it is none. */
    struct slice group;
    /* Collected; or to be read. Ascending. Of UNGIVEN: asked about, in any order. */
    uint64_t *places;
    uint32_t places_count;
    /* Read: messages, in order, of the first `places_read` places; those that are missing are gone,
     * or `barred`, which is not for this client. Of UNGIVEN: the first `places_read` places are
     * nobody's, the others somebody's. */
    uint32_t places_read;
    uint64_t *barred; /* ascending */
    uint32_t barred_count;
    struct buf messages;
};

/* Zeroed, with room for so many filters, places it has, and places to read. */
struct missed *missed_new(unsigned filters, uint32_t had, uint32_t places);
/* Accepts NULL. */
void missed_free(struct missed *m);
/* Adds a copy; at most as many as there is room for. */
void missed_add_filter(struct missed *m, const struct missed_filter *f);
/* Sets a copy; at most once. */
void missed_set_group(struct missed *m, struct slice group);
/* The message at that place is there, and not for this client. In order; at most as many as there
 * are places. */
void missed_bar(struct missed *m, uint64_t place);
/* Whether that was said of it. */
bool missed_bars(const struct missed *m, uint64_t place);
/* Appends to m->messages. */
void missed_put(struct missed *m, const struct live_message *message);
/* Walks them; `rest` begins as buf_slice(&m->messages). Their `payload` is not to be called. False
 * at the end. */
bool missed_next(struct slice *rest, struct live_message *ret, struct slice *ret_payload);
