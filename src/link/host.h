/* SPDX-License-Identifier: Apache-2.0 */
/*
 * link/host.h - the gateway's end of the link to the process that runs the sinks: tells it how far
 * the journal is and what numbers are called, and takes in where the sinks are.
 *
 * Owned by the server; two threads of its own. A guest that is slow, wrong or gone costs the
 * gateway nothing but its sinks' lag: nobody waits for it but these threads. While there is none,
 * the sinks' cursors hold retention up as they would in this process, each by no more than its
 * hold_bytes.
 */
#pragma once

#include "journal/journal.h"
#include "link/note.h"
#include "sink/sink.h"

struct link_host;

/* A reader whose cursor the guest tells. */
struct link_cursor_held {
    const char *name; /* of the cursor: "sink:kafka" */
    uint64_t hold_bytes;
};

#define LINK_CURSORS_MAX SINKS_MAX

struct link_host_opts {
    const char *path; /* of the socket */
    struct journal *journal;
    struct sink *const *sinks; /* remote ones; outlive the host */
    unsigned sinks_count;
    struct link_cursor_held cursors[LINK_CURSORS_MAX];
    unsigned cursors_count;
    /* All on the host's threads. The name of a number, appended; nothing: it has none any more. */
    void (*name)(void *arg, enum link_of of, uint64_t number, struct buf *out);
    uint64_t (*names_changed)(void *arg); /* grows when a name did */
    uint64_t (*keys_changed)(void *arg);  /* the same of the keyring */
    enum reason (*note)(void *arg, const struct link_note_text *note, char text[256]);
    void (*moved)(void *arg); /* somebody waits for a sink that has moved */
    void *arg;
};

/* 0 or a negative errno with a sentence. */
int link_host_open(const struct link_host_opts *opts, struct link_host **ret, struct error *err);
/* Accepts NULL. */
void link_host_close(struct link_host *h);
/* Whether the process of the sinks is connected now. Any thread. */
bool link_host_has_guest(const struct link_host *h);
