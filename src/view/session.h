/* SPDX-License-Identifier: Apache-2.0 */
/*
 * view/session.h - the state of one MQTT session and what each record does to it. Plain data with
 * one owner and one thread at a time: the view holds them (view/sessions.h), and a connection may
 * keep a copy and apply to it what it writes.
 *
 * Every list has a maximum, and whoever holds a session may bound its growth in bytes (`grow_max`).
 * What comes on top is not taken and counted in `dropped`, so whoever writes records looks at the
 * counts before.
 */
#pragma once

#include "base/buf.h"
#include "flow/record.h"
#include "flow/session_record.h"

/* A subscription. */
struct session_sub {
    struct session_filter filter; /* its text is on the heap */
    uint64_t since;               /* it sees what lies above this offset */
};

/* A packet id that is in use for a message to the client. */
struct session_out {
    uint64_t place;
    uint16_t packet_id;
    uint8_t qos;
    bool pubrel;   /* QoS 2: the client has the message, PUBCOMP is missing */
    bool shared;   /* as that of a group: neither floor nor `acked` is about it */
    bool retained; /* it is none of a group's, but `shared` as they are */
};

struct session {
    uint64_t number, account, credential;
    uint32_t key_id;        /* what its state is sealed by in the snapshot; 0: nothing */
    struct slice client_id; /* on the heap */
    uint32_t expiry_s;
    int64_t closed_us;        /* when its connection ended; 0: it has one */
    uint64_t version;         /* one past the last record about it */
    struct session_will will; /* on the heap */
    struct session_sub *subs;
    uint64_t floor;          /* the client has all messages at positions below this, ... */
    uint64_t *acked;         /* ... and these places above it; ascending */
    struct session_out *out; /* ascending by packet id */
    uint16_t *in;            /* QoS 2: packet ids the client has not released; ascending */
    uint32_t subs_count, acked_count, out_count, in_count;
    uint64_t dropped; /* what found no room since it was loaded */
    size_t grow_max;  /* bytes that it may grow by; lowered as it grows. At first: SIZE_MAX */
};

/* What an event makes of its session. */
enum session_then {
    SESSION_GOES_ON,
    SESSION_IS_OVER, /* ended, or closed with nothing left to wait for */
};

/* A session from its SESSION_OPENED. */
void session_init(struct session *s, const struct record *r, const struct session_record *open,
                  uint64_t offset);
/* Frees what it holds. Accepts a zeroed struct. */
void session_fini(struct session *s);
/* Anything but SESSION_OPENED. Applying it once more changes nothing but `version`. */
enum session_then session_apply(struct session *s, const struct record *r,
                                const struct session_record *event, uint64_t offset);
/* A message with QoS 2 from the client was stored under this packet id. */
void session_receive(struct session *s, uint16_t packet_id);
/* Its will was published, or is not wanted any more. */
void session_drop_will(struct session *s);

/* Whether the packet id of a message from the client is in use, so that this is a repetition. */
bool session_has_received(const struct session *s, uint16_t packet_id);
/* Whether the client has the message. */
bool session_has(const struct session *s, uint64_t place);
/* The packet id's entry, or NULL. */
const struct session_out *session_sent(const struct session *s, uint16_t packet_id);
/* When it is gone, in microseconds since 1970; INT64_MAX: it is connected, or stays for ever. */
int64_t session_ends_us(const struct session *s);
/* When its will is to be published; INT64_MAX: not. */
int64_t session_will_due_us(const struct session *s);

/* Appends all but number, account and key: the form of the snapshot, version 1. */
void session_encode(struct buf *out, const struct session *s);
/* The other way, into a zeroed struct. False: these bytes are none, and nothing is held. */
bool session_decode(struct slice in, struct session *ret);
/* Bytes that it takes in memory, places of its lists that are not in use yet included. */
size_t session_bytes(const struct session *s);
