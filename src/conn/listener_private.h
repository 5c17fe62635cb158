/* SPDX-License-Identifier: Apache-2.0 */
/*
 * conn/listener_private.h - what listener.c and inherited.c share. Nobody else includes it.
 */
#pragma once

#include <stdbool.h>
#include <sys/socket.h>

/* A descriptor of the inherited socket that listens at this address, the caller's to close, or -1:
 * there is none. All workers share one such socket. */
int inherited_listener(const struct sockaddr_storage *at, socklen_t len);
