/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sink/amqp.h - a connection to an AMQP 0-9-1 broker (librabbitmq 0.11) with one channel in confirm
 * mode, on which every call ends within a time of its own, whatever the broker does. For sink/
 * only; one thread, but for amqp_cancel.
 *
 * librabbitmq's calls wait in their own ways: a connection may take CONNECT_NS, a command of
 * declaring the timeout, and a publish until two heartbeats are missed, so there is one always. Who
 * sends asks amqp_link_writable first. amqp_link_cancel ends all but the first.
 */
#pragma once

#include <pthread.h>
#include <stdint.h>

#include <amqp.h>
#include <amqp_framing.h>

#include "base/error.h"
#include "base/slice.h"
#include "sink/sink.h"

#define AMQP_CHANNEL 1

struct amqp_link {
    amqp_connection_state_t conn; /* NULL: none */
    bool channel;                 /* it is open */
    bool healthy;                 /* nothing has failed on the connection */
    bool blocked;                 /* the broker reads no more for now */
    uint64_t tag;                 /* of the channel's next message */
    uint64_t timeout_ns;
    unsigned heartbeat_s;
    pthread_mutex_t lock; /* of fd, and of what a cancel does to it */
    int fd;               /* a copy of the socket's, so that it is never another one's; -1: none */
    _Atomic bool cancelled;
};

/* Where to, from a URL without a password: amqp[s]://USER@HOST:PORT/VHOST. */
struct amqp_target {
    char text[1024]; /* what the rest points into */
    const char *host, *user, *vhost;
    int port;
    bool tls;
};
/* 0, or -EINVAL with what is wrong with it. Pure. */
int amqp_target_parse(const char *url, struct amqp_target *ret, struct error *err);

void amqp_link_init(struct amqp_link *l, uint64_t timeout_ns, unsigned heartbeat_s);
void amqp_link_fini(struct amqp_link *l);
/* Connects, logs in and opens the channel, not yet in confirm mode. `ca_file` empty: the system's
 * certificates. DONE or AWAY; amqp_link_close in either case, some time. */
enum sink_outcome amqp_link_open(struct amqp_link *l, const struct amqp_target *to,
                                 const char *password, const char *ca_file, struct error *err);
void amqp_link_close(struct amqp_link *l);
/* All waits end now, and those to come at once. Any thread. */
void amqp_link_cancel(struct amqp_link *l);

/* The channel once more, after the broker closed it. DONE or AWAY. */
enum sink_outcome amqp_link_reopen(struct amqp_link *l, struct error *err);
/* What the broker said to the last command: 0: yes; else the code with which it closed the channel
 * (404: there is no such thing), or -1: the connection is over; with a sentence. */
int amqp_link_reply(struct amqp_link *l, const char *what, struct error *err);
/* Waits until the socket takes something. False: the time is up (a clock_mono_ns), or it is
 * cancelled. */
bool amqp_link_writable(struct amqp_link *l, uint64_t end_ns);
/* The next frame, if one comes within READY_LOOK_MS, or at once (wait false); else *ret_has is
 * false. Serves heartbeats. DONE or AWAY. */
enum sink_outcome amqp_link_frame(struct amqp_link *l, bool wait, amqp_frame_t *ret, bool *ret_has,
                                  struct error *err);
/* The library's own failure of a send. */
enum sink_outcome amqp_link_lost(struct amqp_link *l, const char *what, int status,
                                 struct error *err);
bool amqp_link_cancelled(const struct amqp_link *l);
