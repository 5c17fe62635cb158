/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow/record.h - a message as it enters the journal, and a datum, its commonest payload. Plain
 * values that borrow their bytes. Any thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/slice.h"

/* Numbers are part of the journal's format: never change or reuse one. */
enum record_kind {
    RECORD_DATUM = 1,      /* payload: datum */
    RECORD_PUBLISH = 2,    /* payload: publish (flow/publish.h), for topics that are no feeds */
    RECORD_CHANGED = 3,    /* payload: datum_target, then the new datum */
    RECORD_DELETED = 4,    /* payload: datum_target; with no target: the whole feed */
    RECORD_DICTIONARY = 5, /* what a number means: feed, account (JSON) */
    RECORD_SESSION = 6,    /* MQTT session state; payload: session_record */
    RECORD_AUDIT = 7,      /* who changed what (JSON) */
    RECORD_GAP = 8,        /* offsets that are gone: payload u64 first, u64 next, JSON why */
    RECORD_RULE = 9,       /* a rule was made, removed or tried; payload: rule_record */
};

enum {
    RECORD_F_NO_HISTORY = 1, /* only the latest value is kept */
    RECORD_F_RETAIN = 2,     /* RECORD_PUBLISH: from now on its topic's retained message; an empty
                                message: there is none any more */
    RECORD_F_WILL = 4,       /* the will of producer.session: that has no will any more */
    RECORD_F_RULE = 8,       /* a rule's message: producer.key is its rule_mark */
};

/* Who made the message, for idempotency and for sessions. All zero = absent. Of a request with
 * several records the first one carries it for all. A datum or publish record with a session and a
 * sequence was published with QoS 2: that packet id is in use until the sender releases it. */
struct producer {
    uint64_t session;     /* session number; 0: `sequence` is the credential's */
    uint64_t sequence;    /* its sequence or packet id */
    uint64_t fingerprint; /* XXH3 of the request: the same name must come with the same. With a
                             session: that one's version; once it has another, the record says
                             nothing of it */
    struct slice key;     /* an idempotency key */
};

struct record {
    enum record_kind kind;
    uint32_t flags;
    uint64_t account;
    uint64_t feed;       /* 0: none */
    uint64_t credential; /* 0: the system */
    uint64_t client;     /* record_client of whoever published it by MQTT 5.0; 0: none says so */
    int64_t event_us;    /* when it happened, by the sender, else = receive_us */
    int64_t receive_us;  /* when it was read from the wire */
    uint32_t key_id;     /* key the payload is sealed with; 0 = plain */
    struct producer producer;
    struct slice topic; /* RECORD_PUBLISH */
    struct slice payload;
};

/* What stands for an MQTT client in the records of what it publishes: the same for the same account
 * and client id, over connections and restarts. 1 to 2^49 - 1: of two clients that had the same
 * value one would not see the other's messages where it asks for "no local". */
uint64_t record_client(uint64_t account, struct slice client_id);

/* A datum: one value with a place. Its time is the record's event_us. */
struct datum {
    struct slice value; /* byte for byte what was sent */
    bool has_place;
    bool has_ele;
    double lat, lon, ele;
};

/* Appends the datum as a record's payload: u8 flags, [f64 lat, f64 lon, [f64 ele]], value. */
void datum_encode(struct buf *out, const struct datum *d);
/* Reads one back; `value` borrows from `payload`. False: not a datum. */
bool datum_decode(struct slice payload, struct datum *ret);

/* What a change or a deletion is about: the datum's identity (its id without the node). */
struct datum_target {
    int64_t event_ms; /* event time of the datum, in ms, as in its id */
    uint64_t offset;
};

#define DATUM_TARGET_BYTES 16
void datum_target_encode(struct buf *out, struct datum_target t);
bool datum_target_decode(struct slice payload, struct datum_target *ret);

/* Datum id: 26 characters of Crockford base32 over {48-bit event time in ms, 16-bit node, 64-bit
 * offset at the accepting node}. Sorts by time. */
#define DATUM_ID_LEN 26
void datum_id_format(char out[DATUM_ID_LEN + 1], int64_t event_us, uint16_t node, uint64_t offset);
/* Makes of an id that of another datum of the same node, whose time and offset differ in their
 * DATUM_ID_LOW lowest bits at the most. */
#define DATUM_ID_LOW 30
void datum_id_change(char *id, uint64_t event_ms, uint64_t offset);
/* False: not an id. Lower case and Crockford's look-alikes (I, L, O) are accepted. */
bool datum_id_parse(struct slice text, int64_t *ret_event_ms, uint16_t *ret_node,
                    uint64_t *ret_offset);
