/* SPDX-License-Identifier: Apache-2.0 */
/*
 * conn/packet.h - whole messages between two processes of one machine, over a Unix socket that
 * keeps their bounds (SOCK_SEQPACKET). Descriptors are the caller's; blocking calls, so not for
 * workers. Any thread; one sender and one receiver of a descriptor at a time.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/error.h"

#define PACKET_MAX 65536u

/* Listens at `path`, instead of who did so before. A descriptor, or a negative errno with a
 * sentence. */
int packet_listen(const char *path, struct error *err);
/* The next who connected, or -EAGAIN, or another negative errno. */
int packet_accept(int listening);
/* A descriptor or a negative errno: -ENOENT and -ECONNREFUSED when nobody listens there. */
int packet_connect(const char *path);
/* Nobody connects any more; accepts a negative descriptor. `path`: removed, unless NULL. */
void packet_close(int fd, const char *path);

/* Sends one message of the pieces, waiting at most `ns` for room. 0 or a negative errno; -EAGAIN:
 * nothing was sent. */
int packet_send(int fd, const struct iovec *pieces, unsigned count, uint64_t ns);
/* The next message. Its length; 0: the other end is gone; -EAGAIN: there is none; -EMSGSIZE: longer
 * than `max`; or another negative errno. */
ssize_t packet_receive(int fd, void *to, size_t max);

/* A descriptor that one thread waits for and any other rings; or a negative errno. */
int packet_bell(void);
void packet_ring(int bell);
/* Sleeps until one of them is readable, the other end of one is gone, or `ns` passed; negative ones
 * are left out. A bell that rang is silent again. */
void packet_wait(const int *fds, unsigned count, int bell, uint64_t ns);
