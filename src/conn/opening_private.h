/* SPDX-License-Identifier: Apache-2.0 */
/*
 * conn/opening_private.h - connections between accept(2) and their protocol's first byte: they
 * still owe a PROXY protocol header. Only streams and listeners know of them; an owner gets its
 * stream when it is open. One list per listener, on its worker.
 *
 * Bounded in time (listener_tune.opening_ns) and in number (opening_max). At the maximum whoever
 * dawdles, which is to say began over PATIENCE ago, is closed to make room; if nobody does, no more
 * are accepted until one is through: a fleet that comes all at once waits in the kernel's queue
 * instead of being refused, and one that only holds connections open shuts nobody out.
 */
#pragma once

#include "base/buf.h"
#include "conn/stream.h"

struct opening;

struct openings {
    struct opening *first, **last; /* oldest first */
    struct opening *failed;        /* their handshake did, and they are not gone yet */
    unsigned count;                /* without those */
};

void openings_init(struct openings *list);
/* Closes them all. */
void openings_close(struct openings *list);

/* Whether one more may begin; makes room if it can. False: listener_look tells when one has ended;
 * whether somebody dawdles is to be asked again after a while. */
bool openings_have_room(struct listener *l);

/* Whether connections from there owe anything before their protocol. */
bool opening_is_needed(const struct listener *l, const struct stream *s);
/* Puts an accepted stream into that state. False: no memory. */
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
