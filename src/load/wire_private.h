/* SPDX-License-Identifier: Apache-2.0 */
/* load/wire_private.h - the layers of a wire, each calling the one below to send and the one above
 * with what came. Negative results are libuv's errors. */
#pragma once

#include "load/wire.h"

/* Reports the end of the wire, unless the owner has closed it. */
void wire_fail(struct wire *w, int error);
/* The bytes as they are. */
int wire_put(struct wire *w, struct slice bytes);
/* Through TLS if there is any. */
int wire_put_secret(struct wire *w, struct slice bytes);
/* The layers below WebSocket are there; the bytes that came through them. */
void wire_below_opened(struct wire *w);
void wire_below_bytes(struct wire *w, struct slice in);

/* TLS */
void wire_tls_start(struct wire *w);
void wire_tls_bytes(struct wire *w, struct slice in);
int wire_tls_put(struct wire *w, struct slice bytes);
/* Says that nothing more comes. */
void wire_tls_bye(struct wire *w);

/* WebSocket (RFC 6455), the client's side */
void wire_ws_init(struct wires *all, const struct url *url);
void wire_ws_start(struct wire *w);
void wire_ws_bytes(struct wire *w, struct slice in);
int wire_ws_put(struct wire *w, struct slice bytes);
