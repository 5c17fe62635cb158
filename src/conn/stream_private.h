/* SPDX-License-Identifier: Apache-2.0 */
/*
 * conn/stream_private.h - what listener.c and stream.c share. Nobody else includes it.
 */
#pragma once

#include "base/buf.h"
#include "conn/stream.h"

struct opening;

struct stream {
    uv_poll_t poll;
    int fd;
    int interest; /* what `poll` watches for: UV_READABLE, UV_WRITABLE */
    struct worker *worker;
    const struct stream_ops *ops; /* NULL until an owner is set */
    void *owner;
    struct opening *opening; /* until it is open (conn/opening_private.h) */
    struct address peer;
    struct buf kept;   /* input not consumed yet */
    struct buf unsent; /* output the kernel did not take */
    size_t unsent_at;  /* of `unsent`, what it took since */
    uint64_t sent;
    struct deadline linger; /* of a finished stream: how long it may still drain input */
    unsigned *open;         /* the listeners' shared count */
    bool paused, ended, finishing, lingering, closing, offering;
    const bool *hold; /* the worker's; NULL: never held */
    struct stream *held_next,
        **held_place; /* in the worker's list, when it wants input and is held */
};

/* A stream on an accepted, non-blocking socket, which it owns from here on. NULL: no memory, and
 * the socket is closed. */
struct stream *stream_new(struct worker *w, int fd);
/* Those that want input and are held: taken off the list and watched again. */
void stream_let_go(struct stream *first);
/* Of worker.c: what streams look at. */
const bool *worker_hold_flag(const struct worker *w);
struct stream **worker_held(struct worker *w);
/* Begins to read. */
void stream_begin(struct stream *s);
/* Offers the new owner what was read before it was there: less than a scratch block. */
void stream_take_early(struct stream *s, struct slice bytes);
