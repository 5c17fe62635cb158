/* SPDX-License-Identifier: Apache-2.0 */
/*
 * codec/mqtt_private.h - the data representations of MQTT (section 1.5), and what the files
 * mqtt_*.c share. Nobody else includes it.
 */
#pragma once

#include "codec/mqtt.h"
#include "codec/utf8.h"

/* What is left to read. Each take_x moves on, or returns false and leaves *ret alone. */
struct cursor {
    const uint8_t *at, *end;
};

static inline size_t cursor_left(const struct cursor *c)
{
    return (size_t)(c->end - c->at);
}

static inline struct slice cursor_rest(const struct cursor *c)
{
    return slice_of(c->at, cursor_left(c));
}

static inline bool take_u8(struct cursor *c, uint8_t *ret)
{
    if (c->at == c->end)
        return false;
    *ret = *c->at++;
    return true;
}

static inline bool take_u16(struct cursor *c, uint16_t *ret)
{
    if (cursor_left(c) < 2)
        return false;
    *ret = (uint16_t)(c->at[0] << 8 | c->at[1]);
    c->at += 2;
    return true;
}

static inline bool take_u32(struct cursor *c, uint32_t *ret)
{
    if (cursor_left(c) < 4)
        return false;
    *ret = (uint32_t)c->at[0] << 24 | (uint32_t)c->at[1] << 16 | (uint32_t)c->at[2] << 8 | c->at[3];
    c->at += 4;
    return true;
}

/* A variable byte integer (section 1.5.5): at most four bytes. *ret_minimal: in the fewest it can
 * be written in, as 5.0 wants it (MQTT-1.5.5-1). */
static inline bool take_varint(struct cursor *c, uint32_t *ret, bool *ret_minimal)
{
    uint32_t value = 0;
    for (unsigned i = 0; i < 4 && c->at + i < c->end; i++) {
        value |= (uint32_t)(c->at[i] & 0x7f) << (7 * i);
        if (c->at[i] & 0x80)
            continue;
        *ret_minimal = i == 0 || c->at[i] != 0;
        *ret = value;
        c->at += i + 1;
        return true;
    }
    return false;
}

static inline bool take_binary(struct cursor *c, struct slice *ret)
{
    struct cursor look = *c;
    uint16_t len;
    if (!take_u16(&look, &len) || cursor_left(&look) < len)
        return false;
    *ret = slice_of(look.at, len);
    c->at = look.at + len;
    return true;
}

/* UTF-8 without U+0000 and surrogates (MQTT-1.5.4-1, 1.5.4-2). */
static inline bool take_string(struct cursor *c, struct slice *ret)
{
    struct cursor look = *c;
    struct slice s;
    if (!take_binary(&look, &s) || !utf8_text(s))
        return false;
    *ret = s;
    *c = look;
    return true;
}

static inline bool bad(struct mqtt_bad *b, uint8_t code, const char *why)
{
    b->code = code;
    b->why = why;
    return false;
}

static inline bool malformed(struct mqtt_bad *b, const char *why)
{
    return bad(b, MQTT_MALFORMED, why);
}

static inline bool protocol_error(struct mqtt_bad *b, const char *why)
{
    return bad(b, MQTT_PROTOCOL_ERROR, why);
}

/* mqtt_properties.c: length and properties of a packet of 5.0. */
bool take_properties(struct cursor *c, enum mqtt_type type, struct mqtt_properties *ret,
                     struct mqtt_bad *b);
/* Without their length. */
size_t properties_size(const struct mqtt_properties *p);
void put_properties(struct buf *out, const struct mqtt_properties *p);
size_t varint_size(uint32_t v);
void put_varint(struct buf *out, uint32_t v);
void put_u16(struct buf *out, uint16_t v);
void put_binary(struct buf *out, struct slice s);

/* mqtt_connect.c: the bodies of CONNECT and CONNACK. */
bool parse_connect(struct cursor *c, struct mqtt_packet *p, struct mqtt_bad *b);
bool parse_connack(struct cursor *c, enum mqtt_version version, struct mqtt_packet *p,
                   struct mqtt_bad *b);
