/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow/session_record.h - the payload of a RECORD_SESSION: one thing that happened to an MQTT
 * session. The record's producer.session names the session, its receive_us says when. Plain values
 * that borrow their bytes; pure functions; any thread.
 *
 * A session is what MQTT 5.0, section 4.1 calls the session state of a server. What may be lost in
 * a crash without breaking a promise may be told late or not at all: SESSION_ACKED,
 * SESSION_RETURNED, SESSION_SENT and SESSION_GIVEN of QoS 1 (a message then comes twice),
 * SESSION_COMPLETED and SESSION_RECEIVED. The others have to be durable before the client is told:
 * SUBACK, UNSUBACK, CONNACK, PUBREC and PUBCOMP of what it publishes, PUBLISH with QoS 2 and PUBREL
 * of what it is sent.
 */
#pragma once

#include "base/buf.h"

/* Numbers are part of the journal's format: never change or reuse one. */
enum session_event {
    SESSION_OPENED = 1,       /* a new one; what the client id had before is gone */
    SESSION_RESUMED = 2,      /* a connection goes on with it */
    SESSION_CLOSED = 3,       /* its connection ended: it begins to expire */
    SESSION_ENDED = 4,        /* it is gone; producer.session 0: all that the account has */
    SESSION_SUBSCRIBED = 5,   /* or subscribed again: where it began stays */
    SESSION_UNSUBSCRIBED = 6, /* */
    SESSION_ACKED = 7,        /* the client has what lies below a floor, and some above it */
    SESSION_SENT = 8,         /* messages were sent, under packet ids */
    SESSION_PUBREL = 9,       /* QoS 2: the client has them; ids stay in use */
    SESSION_COMPLETED = 10,   /* QoS 2, and QoS 1 of a group: those ids are free again */
    SESSION_RECEIVED = 11,    /* QoS 2: ids of messages from the client that were not stored */
    SESSION_RELEASED = 12,    /* QoS 2: the client is done with those ids */
    /* Of a group, named by its shared subscription; all that lies below a floor is settled. GIVEN
     * without a name: retained messages were sent, which the floor of the session is not about
     * either. */
    SESSION_GIVEN = 13,    /* messages were sent, under packet ids; producer.session 0: to somebody
                              without a session, who has them */
    SESSION_RETURNED = 14, /* messages so sent go to somebody else; their ids are free again */
};

enum session_end {
    SESSION_END_CLEAN = 1,   /* the client asked for it */
    SESSION_END_EXPIRED = 2, /* */
    SESSION_END_REMOVED = 3, /* an administrator, or the credential is gone */
    SESSION_END_ERASED = 4,  /* with its account */
};

#define SESSION_NEVER UINT32_MAX /* an expiry: as in MQTT 5.0, section 3.1.2.11.2 */

/* One message to one session: the record's offset, and which of the topics that a datum appears
 * under (0 for a publish). Ordered as they are sent. */
#define SESSION_PARTS 16u
static inline uint64_t session_place(uint64_t position, unsigned part)
{
    return position << 4 | part;
}

struct session_filter {
    struct slice filter; /* as subscribed, "$share/..." too */
    uint8_t qos;
    uint8_t retain_handling;
    bool no_local, as_published;
    uint32_t id; /* subscription identifier, 0: none */
};

struct session_will {
    struct slice topic; /* ptr NULL: there is no will */
    bool retain;
    uint32_t delay_s;
    struct slice payload; /* a publish (flow/publish.h) */
};

/* ACKED has places; SENT, GIVEN and RETURNED all three; others only packet ids. */
struct session_item {
    uint64_t place;
    uint16_t packet_id; /* 1 to 65535 */
    uint8_t qos;        /* 1 or 2 */
};

struct session_record {
    enum session_event event;
    struct slice client_id;       /* OPENED */
    uint32_t expiry_s;            /* OPENED, RESUMED, CLOSED: after its connection ended */
    struct session_will will;     /* OPENED, RESUMED */
    bool keep_will;               /* CLOSED: it is to be published when its delay has passed */
    enum session_end end;         /* ENDED */
    struct session_filter filter; /* SUBSCRIBED; of UNSUBSCRIBED, GIVEN, RETURNED only its text */
    uint64_t floor; /* ACKED, GIVEN, RETURNED: a position; of a group 0: it is not known now */
    /* To encode: the items, places of ACKED ascending. Decoded: `items` is NULL, see
     * session_next_item. */
    const struct session_item *items;
    unsigned count;
    struct slice list;
};

/* Appends it. */
void session_record_encode(struct buf *out, const struct session_record *r);
/* Reads one back; its slices borrow from `payload`. False: it is none, or a newer version's. */
bool session_record_decode(struct slice payload, struct session_record *ret);
/* The items of a decoded record, `ret` being the one before it, zeroed at first; *list begins as
 * the record's. False: no more. */
bool session_next_item(const struct session_record *r, struct slice *list,
                       struct session_item *ret);
