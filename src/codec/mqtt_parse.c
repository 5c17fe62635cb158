/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The fixed header, and the bodies of all packets but CONNECT and CONNACK.
 *
 * A verdict does not depend on where the input was cut: the header's two parts are judged when they
 * are whole (section 2.1), everything behind it when the packet is.
 */
#include "codec/mqtt_private.h"
#include "codec/topic.h"

/* ---- bodies: each reads all of its packet; what is left over is an error ---- */

static bool take_id(struct cursor *c, struct mqtt_packet *p, struct mqtt_bad *b)
{
    if (!take_u16(c, &p->id))
        return malformed(b, "the packet ends before its identifier");
    return p->id != 0 || protocol_error(b, "a packet identifier is 0"); /* MQTT-2.2.1-3, -4 */
}

static bool parse_publish(struct cursor *c, uint8_t flags, const struct mqtt_reader *reader,
                          struct mqtt_packet *p, struct mqtt_bad *b)
{
    struct mqtt_publish *m = &p->publish;
    m->qos = flags >> 1 & 3;
    m->dup = flags & 8;
    m->retain = flags & 1;
    p->id = 0;
    if (m->qos == 3) /* MQTT-3.3.1-4 */
        return malformed(b, "a message has QoS 3");
    if (m->dup && m->qos == 0) /* MQTT-3.3.1-2 */
        return malformed(b, "a message of QoS 0 says it is a duplicate");
    if (!take_string(c, &m->topic)) /* MQTT-3.3.2-1 */
        return malformed(b, "the topic is cut off, or no UTF-8");
    if (m->topic.len && !topic_name_valid(m->topic)) /* MQTT-3.3.2-2 */
        return malformed(b, "the topic of a message has wildcards");
    if (m->qos && !take_id(c, p, b))
        return false;
    if (reader->version == MQTT_5 && !take_properties(c, MQTT_PUBLISH, &p->properties, b))
        return false;
    if (!m->topic.len && reader->version != MQTT_5) /* 3.1.1: MQTT-4.7.3-1 */
        return malformed(b, "the topic of a message is empty");
    if (!m->topic.len && !mqtt_has(&p->properties, MQTT_TOPIC_ALIAS)) /* section 3.3.2.1 */
        return protocol_error(b, "a message has neither topic nor alias");
    if (reader->server && mqtt_has(&p->properties, MQTT_SUBSCRIPTION_ID)) /* MQTT-3.3.4-6 */
        return protocol_error(b, "a client's message has a subscription identifier");
    m->payload = cursor_rest(c);
    c->at = c->end;
    return true;
}

/* Reason code and properties that may be left out from the end (section 3.4.2.1, 3.14.2.1). */
static bool take_reason(struct cursor *c, const struct mqtt_reader *reader, struct mqtt_packet *p,
                        struct mqtt_bad *b)
{
    p->code = MQTT_SUCCESS;
    if (reader->version != MQTT_5 || !take_u8(c, &p->code))
        return true;
    if (!mqtt_code_allowed(p->type, p->code, !reader->server))
        return protocol_error(b, "this reason code does not belong in this packet");
    return !cursor_left(c) || take_properties(c, p->type, &p->properties, b);
}

static bool parse_subscribe(struct cursor *c, const struct mqtt_reader *reader,
                            struct mqtt_packet *p, struct mqtt_bad *b)
{
    if (!take_id(c, p, b))
        return false;
    if (reader->version == MQTT_5 && !take_properties(c, p->type, &p->properties, b))
        return false;
    p->list = cursor_rest(c);
    if (!p->list.len) /* MQTT-3.8.3-2, 3.10.3-2 */
        return protocol_error(b, "a packet with topic filters has none");
    while (c->at < c->end) {
        struct slice filter, group, rest;
        uint8_t options = 0;
        if (!take_string(c, &filter)) /* MQTT-3.8.3-1 */
            return malformed(b, "a topic filter is cut off, or no UTF-8");
        if (!topic_filter_valid(filter))
            return malformed(b, "a topic filter is empty, or its wildcards stand wrong");
        bool shared = topic_share_split(filter, &group, &rest) == TOPIC_SHARED;
        if (p->type == MQTT_UNSUBSCRIBE)
            continue;
        if (!take_u8(c, &options))
            return malformed(b, "a subscription has no options");
        if (options & (reader->version == MQTT_5 ? 0xc0 : 0xfc)) /* MQTT-3.8.3-5; 3.1.1: -4 */
            return malformed(b, "reserved bits of a subscription's options are set");
        if ((options & 3) == 3)
            return protocol_error(b, "a subscription asks for QoS 3");
        if ((options >> 4 & 3) == 3)
            return protocol_error(b, "a subscription's retain handling is 3");
        if (shared && options & 4) /* MQTT-3.8.3-4 */
            return protocol_error(b, "a shared subscription says no local");
    }
    return true;
}

static bool parse_suback(struct cursor *c, const struct mqtt_reader *reader, struct mqtt_packet *p,
                         struct mqtt_bad *b)
{
    if (!take_id(c, p, b))
        return false;
    if (reader->version == MQTT_5 && !take_properties(c, p->type, &p->properties, b))
        return false;
    p->list = cursor_rest(c);
    bool bare = p->type == MQTT_UNSUBACK && reader->version != MQTT_5;
    if (bare ? p->list.len > 0 : !p->list.len)
        return malformed(b, "the list of reason codes has the wrong length");
    for (uint8_t code; take_u8(c, &code);) {
        bool good = reader->version == MQTT_5 ? mqtt_code_allowed(p->type, code, true)
                                              : code <= 2 || code == 0x80; /* 3.1.1: MQTT-3.9.3-2 */
        if (!good)
            return protocol_error(b, "this reason code does not belong in this packet");
    }
    return true;
}

static bool parse_body(struct cursor *c, uint8_t flags, const struct mqtt_reader *reader,
                       struct mqtt_packet *p, struct mqtt_bad *b)
{
    p->properties.has = 0;
    p->properties.raw = (struct slice){0};
    switch (p->type) {
    case MQTT_CONNECT:
        return parse_connect(c, p, b);
    case MQTT_CONNACK:
        return parse_connack(c, reader->version, p, b);
    case MQTT_PUBLISH:
        return parse_publish(c, flags, reader, p, b);
    case MQTT_PUBACK:
    case MQTT_PUBREC:
    case MQTT_PUBREL:
    case MQTT_PUBCOMP:
        return take_id(c, p, b) && take_reason(c, reader, p, b);
    case MQTT_SUBSCRIBE:
    case MQTT_UNSUBSCRIBE:
        return parse_subscribe(c, reader, p, b);
    case MQTT_SUBACK:
    case MQTT_UNSUBACK:
        return parse_suback(c, reader, p, b);
    case MQTT_DISCONNECT:
    case MQTT_AUTH:
        return take_reason(c, reader, p, b);
    default:
        return true;
    }
}

/* ---- the header ---- */

static bool check_type(uint8_t first, const struct mqtt_reader *reader, struct mqtt_bad *b)
{
    enum { PUBLISH_BOTH = 1u << MQTT_PUBLISH };
    const uint32_t answers = PUBLISH_BOTH | 1u << MQTT_PUBACK | 1u << MQTT_PUBREC |
                             1u << MQTT_PUBREL | 1u << MQTT_PUBCOMP | 1u << MQTT_DISCONNECT |
                             1u << MQTT_AUTH;
    const uint32_t of_clients = answers | 1u << MQTT_CONNECT | 1u << MQTT_SUBSCRIBE |
                                1u << MQTT_UNSUBSCRIBE | 1u << MQTT_PINGREQ;
    const uint32_t of_servers = answers | 1u << MQTT_CONNACK | 1u << MQTT_SUBACK |
                                1u << MQTT_UNSUBACK | 1u << MQTT_PINGRESP;
    unsigned type = first >> 4, flags = first & 15, want = 0;
    if (type == 0 || (type == MQTT_AUTH && reader->version != MQTT_5))
        return malformed(b, "there is no packet of this type"); /* section 2.1.2 */
    if (reader->version == MQTT_NONE && type != MQTT_CONNECT)   /* MQTT-3.1.0-1 */
        return protocol_error(b, "the first packet is not CONNECT");
    if (reader->version != MQTT_NONE && type == MQTT_CONNECT) /* MQTT-3.1.0-2 */
        return protocol_error(b, "a second CONNECT");
    if (!((reader->server ? of_clients : of_servers) >> type & 1) ||
        (!reader->server && type == MQTT_DISCONNECT && reader->version != MQTT_5))
        return protocol_error(b, "the other side does not send packets of this type");
    if (type == MQTT_PUBREL || type == MQTT_SUBSCRIBE || type == MQTT_UNSUBSCRIBE) {
        want = 2;
        if (reader->version == MQTT_3_1) /* there it may say that it is sent again */
            flags &= 7;
    }
    if (type != MQTT_PUBLISH && flags != want) /* MQTT-2.1.3-1 */
        return malformed(b, "the flags of a packet are not those of its type");
    return true;
}

/* Type, flags and length. MORE: they are not whole. */
static enum mqtt_outcome take_header(struct cursor *c, const struct mqtt_reader *reader,
                                     uint8_t *ret_first, uint32_t *ret_len, bool *ret_minimal,
                                     struct mqtt_bad *b)
{
    const uint8_t *start = c->at;
    if (!take_u8(c, ret_first))
        return MQTT_MORE;
    if (!check_type(*ret_first, reader, b))
        return MQTT_BAD;
    if (!take_varint(c, ret_len, ret_minimal)) {
        if (cursor_left(c) < 4)
            return MQTT_MORE;
        malformed(b, "the length of a packet takes more than four bytes"); /* section 1.5.5 */
        return MQTT_BAD;
    }
    /* 3.1.1 does not forbid a length with leading zeroes, and some modems send it. */
    if (reader->version == MQTT_5 && !*ret_minimal) {
        malformed(b, "the length of a packet is written with leading zeroes");
        return MQTT_BAD;
    }
    if (*ret_len + (size_t)(c->at - start) > reader->packet_max) {
        bad(b, MQTT_TOO_LARGE, "a packet is larger than the limit"); /* MQTT-3.2.2-15 */
        return MQTT_BAD;
    }
    return MQTT_DONE;
}

enum mqtt_outcome mqtt_parse(struct slice in, const struct mqtt_reader *reader,
                             struct mqtt_packet *ret, struct mqtt_bad *ret_bad)
{
    if (!in.len)
        return MQTT_MORE;
    struct cursor c = {(const uint8_t *)in.ptr, (const uint8_t *)in.ptr + in.len};
    uint8_t first = 0;
    uint32_t len = 0;
    bool minimal = true;
    ret_bad->version = MQTT_NONE;
    enum mqtt_outcome outcome = take_header(&c, reader, &first, &len, &minimal, ret_bad);
    if (outcome != MQTT_DONE)
        return outcome;
    if (cursor_left(&c) < len)
        return MQTT_MORE;
    c.end = c.at + len;
    ret->type = (enum mqtt_type)(first >> 4);
    ret->size = (size_t)(c.end - (const uint8_t *)in.ptr);
    if (!parse_body(&c, first & 15, reader, ret, ret_bad))
        return MQTT_BAD;
    if (cursor_left(&c)) {
        malformed(ret_bad, "bytes are left over at the end of a packet");
        return MQTT_BAD;
    }
    if (ret->type == MQTT_CONNECT && ret->connect.version == MQTT_5 && !minimal) {
        malformed(ret_bad, "the length of a packet is written with leading zeroes");
        return MQTT_BAD;
    }
    return MQTT_DONE;
}

bool mqtt_next_filter(enum mqtt_type type, struct slice *list, struct mqtt_filter *ret)
{
    struct cursor c = {(const uint8_t *)list->ptr, (const uint8_t *)list->ptr + list->len};
    uint8_t options = 0;
    if (!list->len || !take_binary(&c, &ret->filter) ||
        (type == MQTT_SUBSCRIBE && !take_u8(&c, &options)))
        return false;
    ret->qos = options & 3;
    ret->no_local = options & 4;
    ret->as_published = options & 8;
    ret->retain_handling = options >> 4 & 3;
    *list = cursor_rest(&c);
    return true;
}
