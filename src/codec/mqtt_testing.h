/* SPDX-License-Identifier: Apache-2.0 */
/*
 * codec/mqtt_testing.h - packets made up from random bytes, for the unit test and the fuzz target:
 * whatever the bytes are, the packet keeps the rules of its version.
 */
#pragma once

#include <string.h>

#include "base/buf.h"
#include "codec/mqtt.h"

/* What is made up is drawn from here; behind its end come zeroes. */
struct draw {
    const uint8_t *at, *end;
};

static inline unsigned draw_below(struct draw *d, unsigned n)
{
    unsigned v = d->at < d->end ? *d->at++ : 0;
    if (n > 256)
        v = v << 8 | (d->at < d->end ? *d->at++ : 0u);
    return v % n;
}

static inline struct slice draw_text(struct draw *d, unsigned max)
{
    static const char text[] =
        "d/\xc3\xa9v/1/\xe2\x82\xac/\xf0\x9f\x98\x80 temperature in the cellar";
    static const uint8_t starts[] = {0, 1, 2, 4, 5, 6, 7, 8, 11, 12, 16, 17};
    unsigned from = starts[draw_below(d, sizeof starts)];
    unsigned len = draw_below(d, max < 20 ? max + 1 : 20);
    while ((text[from + len] & 0xc0) == 0x80) /* not within a character */
        len++;
    return slice_of(text + from, len);
}

static inline struct slice draw_topic(struct draw *d)
{
    struct slice s = draw_text(d, 20);
    return s.len ? s : SLICE("t");
}

static inline struct slice draw_filter(struct draw *d)
{
    static const char *const filters[] = {
        "#", "a/+/b", "+", "$share/g/x/#", "/", "demo/feeds/+/json"};
    return slice_str(filters[draw_below(d, 6)]);
}

static inline struct slice draw_binary(struct draw *d)
{
    static const char bytes[] = "\0\1\xff\xfe\x80{\"value\":21.5}";
    return slice_of(bytes, draw_below(d, sizeof bytes));
}

struct drawn {
    struct mqtt_packet p;
    enum mqtt_version version;
    bool from_server;
    struct buf raw, will_raw, list;
};

#define DRAW_U32(d, field, id, p)                                                                  \
    if (draw_below(d, 3) == 0) {                                                                   \
        (p)->has |= 1ull << (id);                                                                  \
        (p)->field = draw_below(d, 65536) * 65537u;                                                \
    }
#define DRAW(d, field, id, p, how)                                                                 \
    if (draw_below(d, 3) == 0) {                                                                   \
        (p)->has |= 1ull << (id);                                                                  \
        (p)->field = (how);                                                                        \
    }

static inline void draw_user(struct draw *d, struct mqtt_properties *p, struct buf *raw)
{
    for (unsigned n = draw_below(d, 3); n; n--) {
        mqtt_put_user(raw, draw_text(d, 20), draw_text(d, 20));
        p->has |= 1ull << MQTT_USER_PROPERTY;
    }
}

static inline void draw_message(struct draw *d, struct mqtt_properties *p)
{
    DRAW(d, payload_format, MQTT_PAYLOAD_FORMAT, p, (uint8_t)draw_below(d, 2))
    DRAW_U32(d, message_expiry, MQTT_MESSAGE_EXPIRY, p)
    DRAW(d, content_type, MQTT_CONTENT_TYPE, p, draw_text(d, 20))
    DRAW(d, response_topic, MQTT_RESPONSE_TOPIC, p, draw_topic(d))
    DRAW(d, correlation, MQTT_CORRELATION, p, draw_binary(d))
}

static inline void draw_login(struct draw *d, struct mqtt_properties *p)
{
    DRAW(d, auth_method, MQTT_AUTH_METHOD, p, draw_text(d, 20))
    if (mqtt_has(p, MQTT_AUTH_METHOD))
        DRAW(d, auth_data, MQTT_AUTH_DATA, p, draw_binary(d))
    if (draw_below(d, 2))
        return;
    DRAW_U32(d, session_expiry, MQTT_SESSION_EXPIRY, p)
    DRAW(d, receive_max, MQTT_RECEIVE_MAX, p, (uint16_t)(1 + draw_below(d, 65535)))
    DRAW(d, topic_alias_max, MQTT_TOPIC_ALIAS_MAX, p, (uint16_t)draw_below(d, 65536))
    DRAW(d, maximum_packet, MQTT_MAXIMUM_PACKET, p, 1 + draw_below(d, 65536))
}

static inline void draw_connect(struct draw *d, struct drawn *r)
{
    struct mqtt_connect *k = &r->p.connect;
    *k = (struct mqtt_connect){.version = r->version};
    r->from_server = false;
    k->clean = draw_below(d, 2);
    k->keep_alive = (uint16_t)draw_below(d, 65536);
    k->client_id = draw_text(d, 20);
    if (draw_below(d, 2)) {
        k->has_will = true;
        k->will_qos = (uint8_t)draw_below(d, 3);
        k->will_retain = draw_below(d, 2);
        k->will_topic = draw_topic(d);
        k->will_payload = draw_binary(d);
    }
    if (draw_below(d, 2))
        k->username = draw_text(d, 20);
    if ((k->username.ptr || r->version == MQTT_5) && draw_below(d, 2))
        k->password = draw_binary(d);
    if (r->version != MQTT_5)
        return;
    draw_login(d, &r->p.properties);
    DRAW(d, request_problem, MQTT_REQUEST_PROBLEM, &r->p.properties, (uint8_t)draw_below(d, 2))
    DRAW(d, request_response, MQTT_REQUEST_RESPONSE, &r->p.properties, (uint8_t)draw_below(d, 2))
    draw_user(d, &r->p.properties, &r->raw);
    if (!k->has_will)
        return;
    draw_message(d, &k->will);
    DRAW_U32(d, will_delay, MQTT_WILL_DELAY, &k->will)
    draw_user(d, &k->will, &r->will_raw);
    k->will.raw = buf_slice(&r->will_raw);
}

static inline void draw_connack(struct draw *d, struct drawn *r)
{
    struct mqtt_properties *p = &r->p.properties;
    r->from_server = true;
    if (r->version != MQTT_5) {
        r->p.code = (uint8_t)draw_below(d, 6);
        r->p.session_present = !r->p.code && draw_below(d, 2);
        return;
    }
    do
        r->p.code = (uint8_t)draw_below(d, 256);
    while (!mqtt_code_allowed(MQTT_CONNACK, r->p.code, true));
    r->p.session_present = !r->p.code && draw_below(d, 2);
    draw_login(d, p);
    DRAW(d, assigned_client, MQTT_ASSIGNED_CLIENT, p, draw_text(d, 20))
    DRAW(d, server_keep_alive, MQTT_SERVER_KEEP_ALIVE, p, (uint16_t)draw_below(d, 65536))
    DRAW(d, response_information, MQTT_RESPONSE_INFORMATION, p, draw_text(d, 20))
    DRAW(d, server_reference, MQTT_SERVER_REFERENCE, p, draw_text(d, 20))
    DRAW(d, reason_string, MQTT_REASON_STRING, p, draw_text(d, 20))
    DRAW(d, maximum_qos, MQTT_MAXIMUM_QOS, p, (uint8_t)draw_below(d, 2))
    DRAW(d, retain_available, MQTT_RETAIN_AVAILABLE, p, (uint8_t)draw_below(d, 2))
    DRAW(d, wildcard_available, MQTT_WILDCARD_AVAILABLE, p, (uint8_t)draw_below(d, 2))
    DRAW(d, ids_available, MQTT_IDS_AVAILABLE, p, (uint8_t)draw_below(d, 2))
    DRAW(d, shared_available, MQTT_SHARED_AVAILABLE, p, (uint8_t)draw_below(d, 2))
    draw_user(d, p, &r->raw);
}

static inline void draw_publish(struct draw *d, struct drawn *r)
{
    struct mqtt_properties *p = &r->p.properties;
    struct mqtt_publish *m = &r->p.publish;
    *m = (struct mqtt_publish){.topic = draw_topic(d), .payload = draw_binary(d)};
    m->qos = (uint8_t)draw_below(d, 3);
    m->retain = draw_below(d, 2);
    m->dup = m->qos && draw_below(d, 2);
    if (r->version != MQTT_5)
        return;
    draw_message(d, p);
    DRAW(d, topic_alias, MQTT_TOPIC_ALIAS, p, (uint16_t)(1 + draw_below(d, 65535)))
    if (mqtt_has(p, MQTT_TOPIC_ALIAS) && draw_below(d, 2))
        m->topic.len = 0;
    draw_user(d, p, &r->raw);
    for (unsigned n = r->from_server ? draw_below(d, 3) : 0; n; n--) {
        uint32_t id = 1 + draw_below(d, 65536) * 4000u;
        p->subscription_id = mqtt_has(p, MQTT_SUBSCRIPTION_ID) ? p->subscription_id : id;
        p->has |= 1ull << MQTT_SUBSCRIPTION_ID;
        mqtt_put_id(&r->raw, id);
    }
}

static inline void draw_filters(struct draw *d, struct drawn *r)
{
    struct mqtt_properties *p = &r->p.properties;
    r->from_server = false;
    for (unsigned n = 1 + draw_below(d, 3); n; n--) {
        struct mqtt_filter f = {.filter = draw_filter(d), .qos = (uint8_t)draw_below(d, 3)};
        if (r->version == MQTT_5) {
            f.no_local = f.filter.ptr[0] != '$' && draw_below(d, 2);
            f.as_published = draw_below(d, 2);
            f.retain_handling = (uint8_t)draw_below(d, 3);
        }
        mqtt_put_filter(&r->list, r->p.type, r->version, &f);
    }
    if (r->version != MQTT_5)
        return;
    draw_user(d, p, &r->raw);
    if (r->p.type == MQTT_SUBSCRIBE && draw_below(d, 2)) {
        p->subscription_id = 1 + draw_below(d, 65536) * 4000u;
        p->has |= 1ull << MQTT_SUBSCRIPTION_ID;
        mqtt_put_id(&r->raw, p->subscription_id);
    }
}

static inline uint8_t draw_code(struct draw *d, const struct drawn *r)
{
    unsigned code = draw_below(d, 256);
    while (!mqtt_code_allowed(r->p.type, (uint8_t)code, r->from_server))
        code++;
    return (uint8_t)code;
}

static inline void draw_codes(struct draw *d, struct drawn *r)
{
    r->from_server = true;
    if (r->version == MQTT_5)
        DRAW(d, reason_string, MQTT_REASON_STRING, &r->p.properties, draw_text(d, 20))
    for (unsigned n = 1 + draw_below(d, 3); n; n--) {
        uint8_t code = draw_code(d, r);
        if (r->version != MQTT_5)
            code = code < 3 ? code : 0x80;
        if (r->version == MQTT_5 || r->p.type == MQTT_SUBACK)
            buf_put_u8(&r->list, code);
    }
}

static inline void draw_reason(struct draw *d, struct drawn *r)
{
    if (r->version != MQTT_5) {
        r->from_server = r->from_server && r->p.type != MQTT_DISCONNECT;
        return;
    }
    r->p.code = draw_code(d, r);
    DRAW(d, reason_string, MQTT_REASON_STRING, &r->p.properties, draw_text(d, 20))
    draw_user(d, &r->p.properties, &r->raw);
}

/* Fills *ret, whose buffers are initialised; slices in it point into them. */
static inline void draw_packet(struct draw *d, struct drawn *ret)
{
    static const enum mqtt_version versions[] = {MQTT_3_1, MQTT_3_1_1, MQTT_5, MQTT_5};
    buf_clear(&ret->raw);
    buf_clear(&ret->will_raw);
    buf_clear(&ret->list);
    ret->p = (struct mqtt_packet){.type = (enum mqtt_type)(1 + draw_below(d, 15))};
    ret->version = ret->p.type == MQTT_AUTH ? MQTT_5 : versions[draw_below(d, 4)];
    ret->from_server = draw_below(d, 2);
    ret->p.id = (uint16_t)(1 + draw_below(d, 65535));
    switch (ret->p.type) {
    case MQTT_CONNECT:
        draw_connect(d, ret);
        break;
    case MQTT_CONNACK:
        draw_connack(d, ret);
        break;
    case MQTT_PUBLISH:
        draw_publish(d, ret);
        break;
    case MQTT_SUBSCRIBE:
    case MQTT_UNSUBSCRIBE:
        draw_filters(d, ret);
        break;
    case MQTT_SUBACK:
    case MQTT_UNSUBACK:
        draw_codes(d, ret);
        break;
    case MQTT_PINGREQ:
    case MQTT_PINGRESP:
        ret->from_server = ret->p.type == MQTT_PINGRESP;
        break;
    default:
        draw_reason(d, ret);
        break;
    }
    ret->p.properties.raw = buf_slice(&ret->raw);
    if (ret->list.len || ret->p.type == MQTT_UNSUBACK)
        ret->p.list = buf_slice(&ret->list);
}
