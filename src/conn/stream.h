/* SPDX-License-Identifier: Apache-2.0 */
/*
 * conn/stream.h - one accepted connection (TCP or Unix): bytes in, bytes out, back-pressure.
 * Belongs to the worker that accepted it; all calls on that worker's thread.
 *
 * Input that the owner did not consume is kept (at most `input_max` bytes; more closes nothing, the
 * stream just stops reading until the owner consumes). Output that the kernel does not take is kept
 * and sent when it does.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"
#include "codec/address.h"
#include "conn/worker.h"

struct stream;
struct tls_set; /* conn/tls.h */

struct stream_ops {
    /* New or kept input: `ptr` may be written to, and is valid until the next worker_settle.
     * Returns how many bytes were consumed. Called again only when more arrives or after
     * stream_resume. */
    size_t (*on_input)(void *owner, char *ptr, size_t len);
    /* The peer sent its last byte; what was kept unconsumed stays unconsumed. */
    void (*on_end)(void *owner);
    /* All kept output was handed to the kernel. */
    void (*on_drained)(void *owner);
    /* The stream is gone (either side closed it, or it failed); last call. */
    void (*on_closed)(void *owner);
};

/* Bytes in and out, for metrics: counted by the stream itself. */

void stream_set_owner(struct stream *s, const struct stream_ops *ops, void *owner,
                      size_t input_max);
struct worker *stream_worker(const struct stream *s);
/* Who it is: the peer, or whom a trusted proxy named in its PROXY protocol header. All zero for a
 * Unix socket. */
const struct address *stream_peer(const struct stream *s);
/* Whether such a header named it: its other end is a trusted proxy. */
bool stream_is_proxied(const struct stream *s);

/* Whether TLS is between the peer and us; without it the two below are empty. */
bool stream_is_tls(const struct stream *s);
/* The protocol that ALPN agreed on; empty: the peer named none. Valid as long as the stream. */
struct slice stream_alpn(const struct stream *s);
/* What the peer's certificate stands for, a device id; ptr NULL: it showed none. Valid as long as
 * the stream. */
struct slice stream_identity(const struct stream *s);

/*
 * For an owner whose protocol ends and another one begins, on the same connection: within on_input,
 * which then returns the bytes that were still its own. The next owner is set by stream_set_owner
 * and gets the rest; the earlier one hears no more, not even on_closed.
 */
/* The same at another time: offers the owner that was just set what the one before left, and reads
 * on. Not within on_input. */
void stream_hand_over(struct stream *s);
/* From then on the owner reads what the client's binary WebSocket frames carry, and each
 * stream_write is one message; pings and closes are answered by the stream, and what is no frame,
 * or a text, fails it with the code of RFC 6455. False: no memory. */
bool stream_begin_websocket(struct stream *s);
/* Who a trusted proxy says that it is. */
void stream_set_peer(struct stream *s, const struct address *peer);
/* It counts in another number of open connections (atomic). False: there are `max` already. */
bool stream_count_in(struct stream *s, unsigned *open, unsigned max);
/* Nobody owns it; closes it. */
void stream_disown(struct stream *s);

/* Whether its last request proved who it is. Until one did, and again when one did not, it is a
 * newcomer: all those together get a bounded part of each turn of the worker, first come, first
 * served, after what those who are known have sent. */
void stream_set_known(struct stream *s, bool known);

/* Stops and restarts reading. Resuming offers kept input again before new is read. */
void stream_pause(struct stream *s);
void stream_resume(struct stream *s);
/* Not read from while the worker holds reading (worker_hold_reading). */
void stream_may_hold(struct stream *s);
/* Whether that is so now, or it is a newcomer whose turn has not come: what was not read is not the
 * peer's fault. */
bool stream_held(const struct stream *s);
/* Input kept unconsumed now. */
size_t stream_kept(const struct stream *s);
/* The owner keeps that many bytes for this connection elsewhere; they count as if they were kept
 * here (listener_tune.buffers_max). The connection may be closed for it. */
void stream_elsewhere(struct stream *s, size_t bytes);

/* Sends the bytes, copying what the kernel does not take at once. */
void stream_write(struct stream *s, struct slice bytes);
/* The same of `body` behind `head`, for bodies worth no copy of their own. Not with WebSocket. */
void stream_write_both(struct stream *s, struct slice head, struct slice body);
/* Output not yet taken by the kernel. */
size_t stream_unsent(const struct stream *s);
/* Total bytes the peer has acknowledged so far: tells progress. Costs a system call. */
uint64_t stream_sent(const struct stream *s);

/* Since when output waits for the peer, of the worker's time; 0: none does. What a peer does but
 * taking it does not change that. */
uint64_t stream_stuck_ns(const struct stream *s);
/* It has taken some: that time begins anew. */
void stream_unstuck(struct stream *s);

/* Closes once all output is sent; no further input is offered. */
void stream_finish(struct stream *s);
/* Closes now, whatever is unsent. Both end in on_closed, never from within the call. */
void stream_close(struct stream *s);

/* ---- listening -------------------------------------------------------------------------------
 * One listener per worker and address; TCP sockets are bound with SO_REUSEPORT so that the kernel
 * spreads connections over the workers. An address that a socket inherited from our parent listens
 * at (systemd's LISTEN_FDS) is served through that socket, by all workers: connections queue in it
 * while we restart.
 */
struct listener;

/* What may change while it runs. What it points to must stay until the next listener_tune. */
struct listener_tune {
    unsigned open_max; /* beyond it new ones are accepted and closed at once, and counted */
    /* Connections from these networks begin with a PROXY protocol header. */
    const struct cidr *proxies;
    unsigned proxies_count;
    /* Connections that still owe that header or a TLS handshake: for how long, and how many of this
     * listener. */
    uint64_t opening_ns;
    unsigned opening_max;
    size_t buffers_max; /* bytes that all connections of the worker may make it keep; 0: any number.
                           One alone may have a request, or an answer, of the largest size */
    struct tls_set *tls; /* NULL: without TLS */
};

struct listener_opts {
    int backlog;
    unsigned *open; /* shared count of open connections, all listeners (atomic) */
    struct listener_tune tune;
    struct slice alpn; /* protocols spoken here in wire form (RFC 7301 section 3.1); empty: any */
    /* A connection is open: set its owner. False: close it. */
    bool (*accept)(void *arg, struct stream *s);
    void *arg;
};

/* "address:port" with a numeric address ("[::1]:80"), or a path, which has a '/' in it. An
 * existing socket file is replaced. Binds and listens; accepting begins when the worker runs.
 * 0 or a negative errno. */
int listener_open(struct worker *w, struct slice where, const struct listener_opts *opts,
                  struct listener **ret);
/* Whether the address is free: SO_REUSEPORT would let a second server bind it unnoticed. 0,
 * -EADDRINUSE, or another negative errno. */
int listener_probe(struct slice where);
/* Why one of these two failed, in words. */
const char *listener_why(int rc);
/* The port it is bound to (for port 0); 0 for a Unix socket. */
unsigned listener_port(const struct listener *l);
/* From now on; what has begun goes on under what it began with. Worker's thread. */
void listener_tune(struct listener *l, const struct listener_tune *tune);
/* Stops accepting, and closes connections that no owner has yet. Worker's thread. */
void listener_close(struct listener *l);
