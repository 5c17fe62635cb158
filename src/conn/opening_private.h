/* SPDX-License-Identifier: Apache-2.0 */
/*
 * conn/opening_private.h - connections between accept(2) and their protocol's first byte: they
 * still owe a PROXY protocol header, or a TLS handshake. Only streams and listeners know of them;
 * an owner gets its stream when it is open. One list per listener, on its worker.
 *
 * Bounded in time (listener_tune.opening_ns) and in number (opening_max). At the maximum whoever
 * dawdles is closed to make room for another one that is there already: first those of whom nothing
 * but a PROXY header came for SILENCE, then those who have needed half of opening_ns for the rest,
 * which is far more than a handshake takes on the slowest link. If nobody dawdles, no more are
 * accepted until one is through: a fleet that comes all at once waits in the kernel's queue instead
 * of being refused, and one that only holds connections open shuts nobody out.
 */
#pragma once

#include "base/buf.h"
#include "conn/stream.h"

struct opening;

struct opening_list {
    struct opening *first, **last; /* oldest first */
};

struct openings {
    struct opening_list silent; /* nothing came yet, or a PROXY header only */
    struct opening_list heard;  /* something did */
    struct opening_list failed; /* their handshake did; an alert is on its way, for LINGER_NS */
    unsigned count;             /* without those that failed */
};

void openings_init(struct openings *list);
/* Closes them all. */
void openings_close(struct openings *list);

/* Whether one more may begin, be it in place of one who dawdles. False: listener_look tells when
 * one has ended; whether somebody dawdles is to be asked again after a while. */
bool openings_have_room(struct listener *l);

/* Whether connections from there owe anything before their protocol. */
bool opening_is_needed(const struct listener *l, const struct stream *s);
/* Puts an accepted stream into that state; if there is no room, somebody who dawdles is closed.
 * False: no memory. */
bool opening_begin(struct listener *l, struct stream *s);
/* There is something to read. The stream may be open, owned or closed when this returns. */
void opening_read(struct opening *o);
/* It is over, one way or the other; frees it. */
void opening_end(struct opening *o);

/* Of listener.c. */
struct openings *listener_openings(struct listener *l);
const struct listener_tune *listener_tune_now(const struct listener *l);
struct worker *listener_worker(const struct listener *l);
struct slice listener_alpn(const struct listener *l);
/* Hands an open stream to the listener's owner, or closes it. */
bool listener_hand_over(struct listener *l, struct stream *s);
/* There may be room again: accepts. */
void listener_look(struct listener *l);
