/* SPDX-License-Identifier: Apache-2.0 */
/*
 * view/backlog.h - what a session has missed: the messages of a stretch of the journal that the
 * caller's `match` wants, at most so many, the newest ones; how many others there were, and why
 * they are not among them, is counted. Reads files, so it belongs where waiting is allowed (the
 * read pool); one thread at a time.
 *
 * First backlog_collect goes through the stretch and keeps places; then backlog_next reads their
 * records one after the other, or backlog_places says what they are, and somebody else reads them
 * later in parts. Only places are held, 16 bytes for each record.
 */
#pragma once

#include "base/error.h"
#include "journal/journal.h"
#include "seal/seal.h"

struct backlog;

struct backlog_opts {
    struct journal *journal;
    struct keyring *keyring; /* opens sealed messages; NULL: there are none */
    uint64_t account;
    uint64_t from, to; /* the stretch; `to` is at most what is durable */
    uint32_t messages_max;
    uint64_t bytes_max;  /* of payloads, once per message */
    int64_t oldest_us;   /* what was received before is too old */
    uint64_t scan_bytes; /* of the journal that is looked through, about */
    /* Which parts (session_place) of this datum or publish record of the account the session gets,
     * a bit each, by all but its payload, which may be sealed. */
    uint16_t (*match)(void *arg, struct record *r, uint64_t offset);
    void *arg;
    /* Instead of all that: the records of these places, ascending; they borrow. NULL: not so. */
    const uint64_t *places;
    uint32_t places_count;
};

/* Why messages are not among what is handed out. */
struct backlog_dropped {
    uint64_t too_many, too_large, too_old; /* messages */
    uint64_t unread; /* records not looked at: removed by retention, or beyond scan_bytes */
    uint64_t erased; /* messages whose key was destroyed, or that do not open */
};

/* 0, or a negative errno with a sentence. */
int backlog_open(const struct backlog_opts *opts, struct backlog **ret, struct error *err);
/* Accepts NULL. */
void backlog_close(struct backlog *b);

/* The argument of `match` from now on. */
void backlog_look_for(struct backlog *b, void *arg);

enum backlog_step {
    BACKLOG_MORE = 1, /* call again */
    BACKLOG_DONE,     /* collected; no more messages */
    BACKLOG_MESSAGE,
};

/* Looks through about `bytes` more of the journal. MORE, DONE or a negative errno (the call may be
 * repeated). */
int backlog_collect(struct backlog *b, uint64_t bytes);
/* The next message, oldest first: *ret borrows until the next call. MESSAGE; MORE, when `bytes` of
 * the journal were read without coming to it; DONE; or a negative errno (the call may be repeated).
 */
int backlog_next(struct backlog *b, uint64_t bytes, struct record *ret, uint64_t *ret_offset);
/* Messages not handed out yet. */
uint32_t backlog_left(const struct backlog *b);
/* Their places, ascending: backlog_left of them. */
void backlog_places(const struct backlog *b, uint64_t *ret);
struct backlog_dropped backlog_dropped(const struct backlog *b);
