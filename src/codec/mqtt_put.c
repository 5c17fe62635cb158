/* SPDX-License-Identifier: Apache-2.0 */
/* From packets to bytes. Sizes are worked out first, so that nothing is moved afterwards. */
#include "codec/mqtt_private.h"

static bool has_reason(enum mqtt_type type)
{
    return (type >= MQTT_PUBACK && type <= MQTT_PUBCOMP) || type == MQTT_DISCONNECT ||
           type == MQTT_AUTH;
}

/* Length and properties together. */
static size_t whole_size(const struct mqtt_properties *p)
{
    size_t size = properties_size(p);
    return varint_size((uint32_t)size) + size;
}

static size_t text_size(struct slice s)
{
    return s.ptr ? 2 + s.len : 0;
}

static size_t connect_size(enum mqtt_version version, const struct mqtt_packet *p)
{
    const struct mqtt_connect *k = &p->connect;
    size_t size = version == MQTT_3_1 ? 12 : 10;
    size += 2 + k->client_id.len + text_size(k->username) + text_size(k->password);
    if (version == MQTT_5)
        size += whole_size(&p->properties);
    if (k->has_will)
        size += 4 + k->will_topic.len + k->will_payload.len +
                (version == MQTT_5 ? whole_size(&k->will) : 0);
    return size;
}

static size_t body_size(enum mqtt_version version, const struct mqtt_packet *p)
{
    size_t properties = version == MQTT_5 ? whole_size(&p->properties) : 0;
    switch (p->type) {
    case MQTT_CONNECT:
        return connect_size(version, p);
    case MQTT_CONNACK:
        return 2 + properties;
    case MQTT_PUBLISH:
        return 2 + p->publish.topic.len + (p->publish.qos ? 2 : 0) + properties +
               p->publish.payload.len;
    case MQTT_SUBSCRIBE:
    case MQTT_UNSUBSCRIBE:
    case MQTT_SUBACK:
        return 2 + properties + p->list.len;
    case MQTT_UNSUBACK:
        return version == MQTT_5 ? 2 + properties + p->list.len : 2;
    default:
        break;
    }
    if (!has_reason(p->type))
        return 0;
    size_t id = p->type <= MQTT_PUBCOMP ? 2 : 0;
    if (version != MQTT_5 || (!p->code && !p->properties.has))
        return id;
    return id + 1 + (p->properties.has ? properties : 0);
}

size_t mqtt_size(enum mqtt_version version, const struct mqtt_packet *p)
{
    size_t size = body_size(version, p);
    return 1 + varint_size((uint32_t)size) + size;
}

static void put_whole(struct buf *out, const struct mqtt_properties *p)
{
    put_varint(out, (uint32_t)properties_size(p));
    put_properties(out, p);
}

static void put_connect(struct buf *out, enum mqtt_version version, const struct mqtt_packet *p)
{
    const struct mqtt_connect *k = &p->connect;
    unsigned flags =
        (k->clean ? 0x02u : 0) | (k->username.ptr ? 0x80u : 0) | (k->password.ptr ? 0x40u : 0);
    if (k->has_will)
        flags |= 0x04u | (unsigned)k->will_qos << 3 | (k->will_retain ? 0x20u : 0);
    put_binary(out, version == MQTT_3_1 ? SLICE("MQIsdp") : SLICE("MQTT"));
    buf_put_u8(out, (uint8_t)version);
    buf_put_u8(out, (uint8_t)flags);
    put_u16(out, k->keep_alive);
    if (version == MQTT_5)
        put_whole(out, &p->properties);
    put_binary(out, k->client_id);
    if (k->has_will) {
        if (version == MQTT_5)
            put_whole(out, &k->will);
        put_binary(out, k->will_topic);
        put_binary(out, k->will_payload);
    }
    if (k->username.ptr)
        put_binary(out, k->username);
    if (k->password.ptr)
        put_binary(out, k->password);
}

static void put_publish(struct buf *out, enum mqtt_version version, const struct mqtt_packet *p)
{
    put_binary(out, p->publish.topic);
    if (p->publish.qos)
        put_u16(out, p->id);
    if (version == MQTT_5)
        put_whole(out, &p->properties);
    buf_put_slice(out, p->publish.payload);
}

static void put_list(struct buf *out, enum mqtt_version version, const struct mqtt_packet *p)
{
    put_u16(out, p->id);
    if (version == MQTT_5)
        put_whole(out, &p->properties);
    if (version == MQTT_5 || p->type != MQTT_UNSUBACK)
        buf_put_slice(out, p->list);
}

static void put_reason(struct buf *out, enum mqtt_version version, const struct mqtt_packet *p)
{
    if (p->type <= MQTT_PUBCOMP)
        put_u16(out, p->id);
    if (version != MQTT_5 || (!p->code && !p->properties.has))
        return;
    buf_put_u8(out, p->code);
    if (p->properties.has)
        put_whole(out, &p->properties);
}

static uint8_t flags_of(const struct mqtt_packet *p)
{
    if (p->type == MQTT_PUBLISH)
        return (uint8_t)((p->publish.dup ? 8 : 0) | p->publish.qos << 1 |
                         (p->publish.retain ? 1 : 0));
    return p->type == MQTT_PUBREL || p->type == MQTT_SUBSCRIBE || p->type == MQTT_UNSUBSCRIBE ? 2
                                                                                              : 0;
}

void mqtt_put(struct buf *out, enum mqtt_version version, const struct mqtt_packet *p)
{
    size_t size = body_size(version, p);
    if (size > MQTT_LENGTH_MAX) {
        out->failed = true;
        return;
    }
    buf_put_u8(out, (uint8_t)((unsigned)p->type << 4 | flags_of(p)));
    put_varint(out, (uint32_t)size);
    if (p->type == MQTT_CONNECT) {
        put_connect(out, version, p);
    } else if (p->type == MQTT_CONNACK) {
        buf_put_u8(out, p->session_present);
        buf_put_u8(out, p->code);
        if (version == MQTT_5)
            put_whole(out, &p->properties);
    } else if (p->type == MQTT_PUBLISH) {
        put_publish(out, version, p);
    } else if (p->type >= MQTT_SUBSCRIBE && p->type <= MQTT_UNSUBACK) {
        put_list(out, version, p);
    } else if (has_reason(p->type)) {
        put_reason(out, version, p);
    }
}

void mqtt_put_ack(struct buf *out, enum mqtt_version version, enum mqtt_type type, uint16_t id,
                  uint8_t code)
{
    bool with_code = version == MQTT_5 && code;
    const uint8_t bytes[5] = {(uint8_t)((unsigned)type << 4 | (type == MQTT_PUBREL ? 2 : 0)),
                              with_code ? 3 : 2, (uint8_t)(id >> 8), (uint8_t)id, code};
    buf_put(out, bytes, with_code ? 5 : 4);
}

void mqtt_put_empty(struct buf *out, enum mqtt_type type)
{
    const uint8_t bytes[2] = {(uint8_t)((unsigned)type << 4), 0};
    buf_put(out, bytes, 2);
}

void mqtt_put_filter(struct buf *list, enum mqtt_type type, enum mqtt_version version,
                     const struct mqtt_filter *f)
{
    put_binary(list, f->filter);
    if (type != MQTT_SUBSCRIBE)
        return;
    unsigned options = f->qos;
    if (version == MQTT_5)
        options |=
            (f->no_local ? 4u : 0) | (f->as_published ? 8u : 0) | (unsigned)f->retain_handling << 4;
    buf_put_u8(list, (uint8_t)options);
}
