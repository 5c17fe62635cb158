/* SPDX-License-Identifier: Apache-2.0 */
/*
 * link/guest.h - the end of the link in the process that runs the sinks: learns how far the journal
 * is, what numbers are called and when a key was made or destroyed, and tells where the sinks are.
 *
 * Owned by the server of that process; a thread of its own, which connects again whenever the
 * gateway is back. While it is away the sinks go on up to the last mark, with the names that were
 * asked for before.
 */
#pragma once

#include "base/error.h"
#include "flow/reason.h"
#include "journal/journal.h"
#include "link/note.h"
#include "sink/sink.h"

struct link_guest;

struct link_guest_opts {
    const char *path;        /* of the socket */
    struct journal *journal; /* followed */
    /* A key was made or destroyed, or may have been: 0, or a negative errno, and it is called again
     * before anything new is read. The guest's thread. */
    int (*keys)(void *arg);
    void *arg;
};

/* 0 or a negative errno with a sentence. That nobody is there is no error. */
int link_guest_open(const struct link_guest_opts *opts, struct link_guest **ret, struct error *err);
/* Whoever waits in a call below is told that the gateway is away. Accepts NULL. */
void link_guest_close(struct link_guest *g);

/* From now on it tells where these are. NULL and 0: none any more; then it looks at none when this
 * returns. */
void link_guest_attach(struct link_guest *g, struct sink *const *sinks, unsigned count);
/* One that somebody waits for has moved. Any thread; takes no lock. */
void link_guest_moved(struct link_guest *g);
/* Waits at most that long until the gateway has said how far the journal is. False: it has not. */
bool link_guest_wait(struct link_guest *g, uint64_t ns);
bool link_guest_is_connected(const struct link_guest *g);
/* What the gateway said last is not taken in, and so nothing new is read. */
bool link_guest_is_behind(const struct link_guest *g);

/* The name, with a zero behind it; empty: there is none (any more). False: nobody can tell now. Any
 * thread; waits for the gateway if it is new. */
#define LINK_GUEST_NAME_MAX 320u
bool link_guest_name(struct link_guest *g, enum link_of of, uint64_t number,
                     char ret[LINK_GUEST_NAME_MAX]);
/* A line of the audit log. REASON_ok once it is in the journal; else a sentence in `text`. Any
 * thread. */
enum reason link_guest_note(struct link_guest *g, const struct link_note_text *note,
                            char text[256]);
