/* SPDX-License-Identifier: Apache-2.0 */
/*
 * codec/mqtt.h - MQTT control packets from bytes and back, of 3.1, 3.1.1 (OASIS, 2014) and 5.0
 * (OASIS, 2019), strictly: what those call malformed or a protocol error is refused with the reason
 * code they name. Pure functions; no allocation; all slices borrow from the input. Any thread.
 *
 * Clauses are cited as MQTT-x.y.z-n of 5.0; where 3.1.1 numbers them otherwise it is said.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/slice.h"

#define MQTT_HEADER_MAX 5u         /* type and flags, then the length (section 2.1.4) */
#define MQTT_LENGTH_MAX 268435455u /* what four bytes of length can say */

enum mqtt_version { MQTT_NONE = 0, MQTT_3_1 = 3, MQTT_3_1_1 = 4, MQTT_5 = 5 };

enum mqtt_type {
    MQTT_WILL, /* no packet: the will's properties in CONNECT */
    MQTT_CONNECT,
    MQTT_CONNACK,
    MQTT_PUBLISH,
    MQTT_PUBACK,
    MQTT_PUBREC,
    MQTT_PUBREL,
    MQTT_PUBCOMP,
    MQTT_SUBSCRIBE,
    MQTT_SUBACK,
    MQTT_UNSUBSCRIBE,
    MQTT_UNSUBACK,
    MQTT_PINGREQ,
    MQTT_PINGRESP,
    MQTT_DISCONNECT,
    MQTT_AUTH,
};

/* Reason codes that are used by name (section 2.4). */
enum {
    MQTT_SUCCESS = 0x00,
    MQTT_DISCONNECT_WITH_WILL = 0x04,
    MQTT_NO_SUBSCRIBERS = 0x10,
    MQTT_NO_SUBSCRIPTION = 0x11,
    MQTT_UNSPECIFIED = 0x80,
    MQTT_MALFORMED = 0x81,
    MQTT_PROTOCOL_ERROR = 0x82,
    MQTT_UNSUPPORTED_VERSION = 0x84,
    MQTT_BAD_CLIENT_ID = 0x85,
    MQTT_BAD_CREDENTIALS = 0x86,
    MQTT_NOT_AUTHORIZED = 0x87,
    MQTT_SERVER_BUSY = 0x89,
    MQTT_STOPPING = 0x8b,
    MQTT_BAD_AUTH_METHOD = 0x8c,
    MQTT_KEEP_ALIVE_TIMEOUT = 0x8d,
    MQTT_TAKEN_OVER = 0x8e,
    MQTT_FILTER_INVALID = 0x8f,
    MQTT_NAME_INVALID = 0x90,
    MQTT_ID_IN_USE = 0x91,
    MQTT_ID_NOT_FOUND = 0x92,
    MQTT_RECEIVE_MAXIMUM = 0x93,
    MQTT_ALIAS_INVALID = 0x94,
    MQTT_TOO_LARGE = 0x95,
    MQTT_QUOTA = 0x97,
    MQTT_RETAIN_UNSUPPORTED = 0x9a,
    MQTT_QOS_UNSUPPORTED = 0x9b,
    MQTT_SHARED_UNSUPPORTED = 0x9e,
    MQTT_IDS_UNSUPPORTED = 0xa1,
};

/* Identifiers of properties (section 2.2.2.2). */
enum mqtt_property {
    MQTT_PAYLOAD_FORMAT = 1,
    MQTT_MESSAGE_EXPIRY = 2,
    MQTT_CONTENT_TYPE = 3,
    MQTT_RESPONSE_TOPIC = 8,
    MQTT_CORRELATION = 9,
    MQTT_SUBSCRIPTION_ID = 11,
    MQTT_SESSION_EXPIRY = 17,
    MQTT_ASSIGNED_CLIENT = 18,
    MQTT_SERVER_KEEP_ALIVE = 19,
    MQTT_AUTH_METHOD = 21,
    MQTT_AUTH_DATA = 22,
    MQTT_REQUEST_PROBLEM = 23,
    MQTT_WILL_DELAY = 24,
    MQTT_REQUEST_RESPONSE = 25,
    MQTT_RESPONSE_INFORMATION = 26,
    MQTT_SERVER_REFERENCE = 28,
    MQTT_REASON_STRING = 31,
    MQTT_RECEIVE_MAX = 33,
    MQTT_TOPIC_ALIAS_MAX = 34,
    MQTT_TOPIC_ALIAS = 35,
    MQTT_MAXIMUM_QOS = 36,
    MQTT_RETAIN_AVAILABLE = 37,
    MQTT_USER_PROPERTY = 38,
    MQTT_MAXIMUM_PACKET = 39,
    MQTT_WILDCARD_AVAILABLE = 40,
    MQTT_IDS_AVAILABLE = 41,
    MQTT_SHARED_AVAILABLE = 42,
};

/* A value means something only if its identifier's bit is in `has`: nothing else is filled in. */
struct mqtt_properties {
    uint64_t has;
    struct slice raw; /* as sent, without the length: for mqtt_next_user, mqtt_next_id */
    struct slice content_type, response_topic, correlation;
    struct slice assigned_client, auth_method, auth_data;
    struct slice response_information, server_reference, reason_string;
    uint32_t message_expiry, subscription_id /* the first one */, session_expiry, will_delay;
    uint32_t maximum_packet;
    uint16_t server_keep_alive, receive_max, topic_alias_max, topic_alias;
    uint8_t payload_format, request_problem, request_response, maximum_qos, retain_available;
    uint8_t wildcard_available, ids_available, shared_available;
};

static inline bool mqtt_has(const struct mqtt_properties *p, enum mqtt_property id)
{
    return p->has >> id & 1;
}

/* The user properties and subscription identifiers in order; *rest begins as `raw`. False: no more.
 * Only for properties that were parsed, or put there by mqtt_put_user and mqtt_put_id. */
bool mqtt_next_user(struct slice *rest, struct slice *ret_name, struct slice *ret_value);
bool mqtt_next_id(struct slice *rest, uint32_t *ret_id);
/* Make up a `raw`. Name and value are at most 65,535 bytes of UTF-8; ids 1 to 268,435,455. */
void mqtt_put_user(struct buf *raw, struct slice name, struct slice value);
void mqtt_put_id(struct buf *raw, uint32_t id);

/* Of properties that were parsed, appends those that a server passes on to who receives the message
 * (section 3.3.2.3; not the expiry, which it counts down). */
void mqtt_put_passed(struct buf *out, struct slice raw);
/* Reads back what that put; slices borrow from `raw`. False: these bytes are none. */
bool mqtt_read_passed(struct slice raw, struct mqtt_properties *ret);

struct mqtt_connect {
    enum mqtt_version version;
    bool clean; /* clean session, or clean start */
    bool has_will, will_retain;
    uint8_t will_qos;
    uint16_t keep_alive; /* seconds; 0: none */
    struct slice client_id, will_topic, will_payload;
    struct slice username, password; /* ptr NULL: absent */
    struct mqtt_properties will;
};

struct mqtt_publish {
    struct slice topic; /* empty: the topic alias says it */
    struct slice payload;
    uint8_t qos;
    bool dup, retain;
};

struct mqtt_packet {
    enum mqtt_type type;
    uint16_t id;  /* of PUBLISH above QoS 0, its answers, (UN)SUBSCRIBE, (UN)SUBACK */
    uint8_t code; /* of CONNACK as it is in that version, PUBACK to PUBCOMP, DISCONNECT, AUTH */
    bool session_present; /* of CONNACK */
    size_t size;          /* of all its bytes */
    struct mqtt_properties properties;
    union {
        struct mqtt_connect connect;
        struct mqtt_publish publish;
        struct slice list; /* (UN)SUBSCRIBE: for mqtt_next_filter; (UN)SUBACK: a code per byte */
    };
};

struct mqtt_filter {
    struct slice filter;
    uint8_t qos;             /* these four of SUBSCRIBE only */
    uint8_t retain_handling; /* 0 to 2 */
    bool no_local, as_published;
};

/* What is read: the other side's packets. */
struct mqtt_reader {
    enum mqtt_version version; /* of the connection; a server has MQTT_NONE until CONNECT came */
    bool server;               /* who reads */
    uint32_t packet_max;       /* bytes of a packet, all of it; larger ones are refused */
};

/* Why a packet is refused. */
struct mqtt_bad {
    uint8_t code;              /* reason code of 5.0 */
    enum mqtt_version version; /* of a CONNECT: in which a CONNACK may say so; NONE: just close */
    const char *why;           /* a constant sentence */
};

enum mqtt_outcome { MQTT_MORE, MQTT_DONE, MQTT_BAD };

/*
 * Parses one packet at the start of `in`. MORE: not complete. BAD: *ret_bad says why and the
 * connection is to be closed; said as soon as the bytes cannot become a packet any more, and the
 * same however the input was cut. DONE: *ret is filled, as far as its type has it, and ret->size
 * bytes are used up. Topic names and filters in it are valid (topic.h).
 */
enum mqtt_outcome mqtt_parse(struct slice in, const struct mqtt_reader *reader,
                             struct mqtt_packet *ret, struct mqtt_bad *ret_bad);
/* Walks `list` of a SUBSCRIBE or UNSUBSCRIBE that was parsed. False at the end. */
bool mqtt_next_filter(enum mqtt_type type, struct slice *list, struct mqtt_filter *ret);
/* Makes up such a list. */
void mqtt_put_filter(struct buf *list, enum mqtt_type type, enum mqtt_version version,
                     const struct mqtt_filter *f);

/* Whether this reason code of 5.0 may stand in that packet from that side (section 2.4). */
bool mqtt_code_allowed(enum mqtt_type type, uint8_t code, bool from_server);
/* What a CONNACK of 3.1 and 3.1.1 says instead of a reason code of 5.0: 0 to 5. */
uint8_t mqtt_connack_code_3(uint8_t code);

/* Appends the packet. What 3.1.1 does not have (properties, most codes) is left out there. The
 * caller keeps to the rules of the version: what is put is not checked but for its length. */
void mqtt_put(struct buf *out, enum mqtt_version version, const struct mqtt_packet *p);
/* PUBACK to PUBCOMP without properties, PINGRESP and the like need no struct. */
void mqtt_put_ack(struct buf *out, enum mqtt_version version, enum mqtt_type type, uint16_t id,
                  uint8_t code);
void mqtt_put_empty(struct buf *out, enum mqtt_type type);
/* Of PUBLISH packets that mqtt_put has made, one behind the other: takes the first one off. False:
 * there is none. */
bool mqtt_next_publish(struct slice *packets, struct slice *ret_packet, struct slice *ret_topic);
/* Appends such a packet of 5.0, which has no topic alias, with one (section 3.3.2.3.4), and its
 * topic only if the alias is to be set. False: that is more than `packet_max` bytes, and nothing is
 * appended. */
bool mqtt_put_aliased(struct buf *out, struct slice publish, uint16_t alias, bool with_topic,
                      uint32_t packet_max);
/* Sets the message expiry interval of such a packet of 5.0, which has one. */
void mqtt_set_expiry(char *publish, size_t len, uint32_t expiry_s);
/* Bytes that mqtt_put would append. */
size_t mqtt_size(enum mqtt_version version, const struct mqtt_packet *p);
