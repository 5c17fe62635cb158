/* SPDX-License-Identifier: Apache-2.0 */
/*
 * conn/ws_private.h - WebSocket (RFC 6455) between a stream's bytes and its owner: what TLS is
 * below it. Only stream.c knows of it. On the stream's worker.
 */
#pragma once

#include <stdbool.h>

#include "base/slice.h"

struct stream;
struct ws_conn;

/* NULL: no memory. */
struct ws_conn *ws_conn_new(struct stream *s);
/* Accepts NULL. */
void ws_conn_free(struct ws_conn *w);

/* Bytes of the client's frames, which may be cut anywhere: moves what binary frames carry to their
 * front, and answers pings. Returns how many bytes that is. */
size_t ws_conn_take(struct ws_conn *w, char *ptr, size_t len);
/* Whether the client's side is over: by a close frame, or because what came was no frame. */
enum ws_end { WS_END_NOT, WS_END_CLOSED, WS_END_BROKEN };
enum ws_end ws_conn_end(const struct ws_conn *w);
/* Whether the client provokes answers that it does not take: no more is to be read until it has. */
bool ws_conn_choked(const struct ws_conn *w);
/* Sends the bytes as one binary message. */
void ws_conn_write(struct ws_conn *w, struct slice bytes);
/* Says once that nothing will follow: a close frame with the client's code, or why it is failed. */
void ws_conn_bye(struct ws_conn *w);
