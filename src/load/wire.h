/* SPDX-License-Identifier: Apache-2.0 */
/*
 * load/wire.h - a connection of a run, whatever its bytes travel in: TCP, TLS over it, WebSocket
 * over either. What is above it sees bytes. Owned by the protocol's connection that embeds it; on
 * the loop's thread.
 *
 * Life: wire_open, then `opened` or `failed`; `bytes` and at last `failed`, upon which the owner
 * calls wire_close (it may also do so at any other time, from within any call); `closed` comes
 * later, and then the wire may be opened again.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <openssl/ssl.h>
#include <uv.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/rand.h"
#include "load/load_opts.h"

#define WIRE_INPUT_BYTES (256u << 10)
#define WIRE_OUT_MAX     (20u << 20) /* bytes that the kernel has not taken */

struct wire_ops {
    void (*opened)(void *owner);
    void (*bytes)(void *owner, struct slice in); /* good until it returns */
    void (*drained)(void *owner);                /* it was busy, and is no more */
    void (*failed)(void *owner, int error);      /* libuv's; UV_EOF: the peer ended it in order */
    void (*closed)(void *owner);
};

/* What all wires of a run have in common. */
struct wires {
    const struct wire_ops *ops;
    uv_loop_t *loop;                /* this, the server's address and */
    const struct sockaddr *address; /* where masks come from are the */
    struct rand *rand;              /* owner's to set once it has them */
    SSL_CTX *tls;                   /* NULL: none */
    const char *host;               /* as the certificate is to name it */
    struct buf upgrade;             /* the request for WebSocket; empty: none */
    char accept[32];                /* what must be answered to it */
    struct buf frame;               /* of WebSocket, on its way out */
    char why[256];                  /* why TLS or WebSocket failed last; empty: they did not */
    char plain[16u << 10];          /* of TLS, on its way in */
    char input[WIRE_INPUT_BYTES];
};

struct wire {
    uv_tcp_t tcp;
    uv_connect_t connect;
    uv_write_t write;
    struct wires *all;
    void *owner;
    bool open, closing;
    SSL *ssl;
    struct buf flying, waiting; /* what libuv writes, and what comes behind it */
    /* WebSocket, the frame that is being read: */
    struct buf head; /* of the answer to the upgrade, then of a frame; then of a control frame with
                        all of it */
    bool upgraded;
    uint64_t left; /* bytes of a data frame */
};

/* Takes what the options say of TLS and WebSocket. 0, or negative errno with a sentence. Zeroed
 * storage. */
int wires_init(struct wires *all, const struct load_opts *opts, struct error *err);
/* Accepts zeroed wires. */
void wires_fini(struct wires *all);

void wire_init(struct wire *w, struct wires *all, void *owner);
/* After `closed`, or if never opened. */
void wire_fini(struct wire *w);
/* Connects, from the local IPv4 address `source` (host order) unless that is 0. Negative errno of
 * libuv: nothing was begun, but wire_close is needed. */
int wire_open(struct wire *w, uint32_t source);
/* Only while it is open. Bytes that the kernel does not take are copied. 0 or libuv's error. */
int wire_send(struct wire *w, struct slice bytes);
void wire_close(struct wire *w);

/* Whether the kernel has not taken all that was sent. */
static inline bool wire_busy(const struct wire *w)
{
    return w->flying.len > 0;
}
