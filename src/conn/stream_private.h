/* SPDX-License-Identifier: Apache-2.0 */
/*
 * conn/stream_private.h - what listener.c and stream.c share. Nobody else includes it.
 */
#pragma once

#include "base/buf.h"
#include "conn/certified.h"
#include "conn/stream.h"

#define HOARD_FREE 4096u /* what a connection makes us keep does not count below this */

struct hoard;
struct opening;
struct tls_conn;
struct ws_conn;

/* A place in a list that is a ring; the list is the one place that is no stream's. */
struct stream_place {
    struct stream_place *next, *prev;
};

struct stream {
    uv_poll_t poll;
    int fd;
    int interest; /* what `poll` watches for: UV_READABLE, UV_WRITABLE */
    struct worker *worker;
    const struct stream_ops *ops; /* NULL until an owner is set */
    void *owner;
    struct opening *opening; /* until it is open (conn/opening_private.h) */
    struct tls_conn *tls;    /* NULL: none (conn/tls_private.h) */
    struct ws_conn *ws;      /* above TLS; NULL: none (conn/ws_private.h) */
    struct address peer;
    struct buf kept;   /* input not consumed yet */
    struct buf unsent; /* output the kernel did not take */
    size_t unsent_at;  /* of `unsent`, what it took since */
    size_t elsewhere;  /* stream_elsewhere */
    size_t counted;    /* in the worker's hoard (conn/hoard.c) */
    uint64_t sent;
    uint64_t stuck_ns;      /* stream_stuck_ns */
    struct deadline linger; /* of a finished stream: how long it may still drain input */
    unsigned *open;         /* the listeners' shared count */
    bool paused, ended, finishing, lingering, closing, offering;
    bool proxied;     /* stream_is_proxied */
    bool told_end;    /* the owner, of the end of WebSocket's frames */
    bool known;       /* its last request proved who it is; else it is a newcomer */
    bool put_off;     /* it waits among the newcomers, and is not watched for input meanwhile */
    const bool *hold; /* the worker's; NULL: never held */
    struct stream_place place;                        /* in one of the worker's lists */
    struct stream_place hoarder;                      /* in one of its hoard's */
    struct stream *certified_next, **certified_place; /* conn/certified.c */
};

/* What it makes us keep (conn/hoard.h). */
static inline size_t stream_keeps(const struct stream *s)
{
    size_t bytes = s->kept.cap + s->unsent.cap + s->elsewhere;
    return bytes > HOARD_FREE ? bytes : 0;
}

/* A stream on an accepted, non-blocking socket, which it owns from here on. NULL: no memory, and
 * the socket is closed. */
struct stream *stream_new(struct worker *w, int fd);
/* What a worker keeps of streams: each is in one list at most. */
struct stream_lists {
    struct stream_place held;      /* want input, and reading is held */
    struct stream_place again;     /* have read more already: looked at in the next turn */
    struct stream_place newcomers; /* have input, or a handshake to go on with */
};
void stream_lists_init(struct stream_lists *l);
static inline void stream_list_init(struct stream_place *list)
{
    list->next = list->prev = list;
}

static inline bool stream_list_is_empty(const struct stream_place *list)
{
    return list->next == list;
}

/* Behind the others. It is in none. */
static inline void stream_list_put(struct stream_place *list, struct stream_place *p)
{
    *p = (struct stream_place){.next = list, .prev = list->prev};
    list->prev->next = p;
    list->prev = p;
}

/* Accepts one that is in none. */
static inline void stream_list_drop(struct stream_place *p)
{
    if (!p->next)
        return;
    p->next->prev = p->prev;
    p->prev->next = p->next;
    p->next = NULL;
}

/* Those that are held: taken off the list and watched again. */
void stream_let_go(struct stream_lists *l);
/* Has what it read already looked at in the next turn of the loop. */
void stream_again(struct stream *s);
/* At the end of a turn: looks at those, and at as many newcomers as the worker has time for. */
void stream_go_on(struct worker *w);
/* Whether some are to be looked at in the next turn. */
bool stream_lists_wait(const struct stream_lists *l);
/* Through TLS, if there is any. */
void stream_send(struct stream *s, struct slice bytes);
/* The bytes as they are: sends them, keeping what the kernel does not take at once. */
void stream_put(struct stream *s, struct slice bytes);
/* Of worker.c: what streams look at. */
const bool *worker_hold_flag(const struct worker *w);
struct stream_lists *worker_streams(struct worker *w);
struct certified *worker_certified(struct worker *w);
struct hoard *worker_hoard(struct worker *w);
/* Newcomers and handshakes may come in any number, and whoever is known waits meanwhile: whether
 * this turn of the loop has time for one more; and that one took so long. */
bool worker_may_toil(const struct worker *w);
void worker_toiled(struct worker *w, uint64_t ns);
/* Begins to read. */
void stream_begin(struct stream *s);
/* Offers the new owner what was read before it was there: less than a scratch block. */
void stream_take_early(struct stream *s, struct slice bytes);
