/* SPDX-License-Identifier: Apache-2.0 */
/*
 * codec/websocket.h - the server's side of WebSocket (RFC 6455): handshake, frames in and out,
 * strictly. No extensions. Pure functions; no allocation. Any thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "codec/http1.h"

#define WEBSOCKET_CONTROL_MAX 125u /* payload of a control frame (section 5.5) */
#define WEBSOCKET_ACCEPT_LEN  28u
#define WEBSOCKET_HEAD_MAX    10u /* of a frame that is sent */

/* ---- handshake (section 4.2) ---- */
enum websocket_upgrade {
    WEBSOCKET_UPGRADE_NONE, /* an ordinary request */
    WEBSOCKET_UPGRADE_OK,
    WEBSOCKET_UPGRADE_BAD,     /* it wants to, but not as section 4.2.1 says: 400 */
    WEBSOCKET_UPGRADE_VERSION, /* another version: 426 with Sec-WebSocket-Version: 13 */
};
enum websocket_upgrade websocket_upgrade(const struct http1_request *r);
/* Sec-WebSocket-Accept for the request (section 4.2.2), and a NUL. */
void websocket_accept(const struct http1_request *r, char out[WEBSOCKET_ACCEPT_LEN + 1]);
/* Whether the client offers this subprotocol; case counts (section 11.3.4). */
bool websocket_offers(const struct http1_request *r, struct slice protocol);

/* ---- frames (section 5) ---- */
enum websocket_opcode {
    WEBSOCKET_CONTINUATION = 0,
    WEBSOCKET_TEXT = 1,
    WEBSOCKET_BINARY = 2,
    WEBSOCKET_CLOSE = 8,
    WEBSOCKET_PING = 9,
    WEBSOCKET_PONG = 10,
};

/* Close codes (section 7.4.1). */
enum {
    WEBSOCKET_NORMAL = 1000,
    WEBSOCKET_GOING_AWAY = 1001,
    WEBSOCKET_PROTOCOL = 1002,
    WEBSOCKET_UNSUPPORTED = 1003,
    WEBSOCKET_NO_CODE = 1005, /* never sent: the close frame had none */
    WEBSOCKET_NO_UTF8 = 1007,
    WEBSOCKET_POLICY = 1008,
    WEBSOCKET_TOO_BIG = 1009,
    WEBSOCKET_INTERNAL = 1011,
};

/* A connection's input; all zero at its beginning. */
struct websocket {
    uint64_t left;    /* bytes of the frame in hand not seen yet */
    uint64_t message; /* bytes of the message in hand so far, with this frame's */
    uint8_t state;
    uint8_t head_len;
    uint8_t head[14];
    uint8_t opcode;  /* of the frame in hand */
    uint8_t text;    /* WEBSOCKET_TEXT or _BINARY of the message in hand; 0: none */
    bool final;      /* the frame in hand is the message's last */
    uint8_t mask_at; /* of the mask, whose byte is next */
    uint8_t tail_len;
    uint8_t control_len;
    char tail[4]; /* of a text: the character that the last bytes began */
    char control[WEBSOCKET_CONTROL_MAX];
};

enum websocket_outcome {
    WEBSOCKET_MORE,    /* all input is used up */
    WEBSOCKET_DATA,    /* bytes of a message; `final`: it is whole now */
    WEBSOCKET_CONTROL, /* a whole PING, PONG or CLOSE */
    WEBSOCKET_BAD,     /* fail the connection: `code` is what to close with */
};

struct websocket_event {
    enum websocket_opcode opcode; /* TEXT or BINARY; or the control frame's */
    bool final;
    struct slice data; /* unmasked, in the input or, of a control frame, in the struct websocket */
    uint16_t code;     /* of CLOSE: the peer's, or WEBSOCKET_NO_CODE; of BAD */
    const char *why;   /* of BAD: a constant sentence */
};

/*
 * Looks at the input up to the next event; unmasks in place. *ret_used bytes of it are done with.
 * Call again with the rest until MORE. A message of over `message_max` bytes is refused as soon as
 * a frame announces it. The events are the same however the input was cut, but that the data of
 * messages come in other pieces.
 */
enum websocket_outcome websocket_parse(struct websocket *ws, char *in, size_t len,
                                       uint64_t message_max, size_t *ret_used,
                                       struct websocket_event *ret);

/* An unmasked frame of its own (section 5.1), final. */
void websocket_put(struct buf *out, enum websocket_opcode opcode, struct slice payload);
/* The head alone, for a payload that is sent behind it. Returns its length. */
unsigned websocket_head(char out[WEBSOCKET_HEAD_MAX], enum websocket_opcode opcode, uint64_t len);
/* A close frame; code 0 or WEBSOCKET_NO_CODE: without one. `why` is cut to what fits. */
void websocket_put_close(struct buf *out, uint16_t code, const char *why);
