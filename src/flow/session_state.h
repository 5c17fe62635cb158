/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow/session_state.h - the state of a session on its way from the pipeline to the connection that
 * opens it: the body of the reply to a SESSION_OPENED or SESSION_RESUMED. Plain bytes within one
 * process, never stored. Pure functions; any thread.
 */
#pragma once

#include "flow/session_record.h"

#define SESSION_STATE_MAX                                                                          \
    (512u << 10) /* bytes, by the maxima of a session's lists (flow/limits.h) */

struct session_state {
    uint64_t number; /* 0: there is no session beyond the connection */
    uint64_t floor;  /* a position: the client has all below it */
    bool present;    /* it was there before */
};

/* Appends: this first, then any of the others. */
void session_state_put(struct buf *out, const struct session_state *s);
/* QoS 2: a packet id that the client has not released. */
void session_state_put_received(struct buf *out, uint16_t packet_id);
/* A subscription, which sees what lies above position `since`. */
void session_state_put_sub(struct buf *out, const struct session_filter *f, uint64_t since);
/* A message that is under way to the client; `pubrel`: QoS 2, the client has it; `shared`: as
 * that of a group; `retained`: as one that was retained, and `shared` too. */
void session_state_put_sent(struct buf *out, const struct session_item *item, bool pubrel,
                            bool shared, bool retained);
/* The client has it, though not all that lies below; ascending. */
void session_state_put_acked(struct buf *out, uint64_t place);

struct session_state_item {
    enum session_state_kind {
        SESSION_STATE_RECEIVED,
        SESSION_STATE_SUB,
        SESSION_STATE_SENT,
        SESSION_STATE_ACKED,
    } kind;
    struct session_item item; /* place, packet id, QoS: those that the kind has */
    bool pubrel, shared, retained;
    struct session_filter filter;
    uint64_t since;
};
/* Takes the first part off *rest. */
struct session_state session_state_get(struct slice *rest);
/* The next one; its filter borrows. False at the end. */
bool session_state_next(struct slice *rest, struct session_state_item *ret);
