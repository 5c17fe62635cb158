/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Properties of 5.0 (section 2.2.2), by one table: what each is, where in struct mqtt_properties it
 * goes, and in which packets it may stand. An identifier that does not belong there is malformed
 * (section 2.2.2.2); one that comes twice, and a value out of its range, is a protocol error, as
 * the section of each property says.
 */
#include <stddef.h>

#include "codec/mqtt_private.h"
#include "codec/topic.h"

enum kind {
    KIND_NONE,
    KIND_U8,
    KIND_U16,
    KIND_U32,
    KIND_VARINT,
    KIND_STRING,
    KIND_BINARY,
    KIND_PAIR
};

enum { RULE_FLAG = 1 /* 0 or 1 */, RULE_NOT_ZERO = 2, RULE_MANY = 4 };

struct rule {
    uint8_t kind, rules;
    uint16_t offset;
    uint16_t packets; /* a bit per enum mqtt_type */
};

#define IN(type) (1u << MQTT_##type)
#define REASONED                                                                                   \
    (IN(CONNACK) | IN(PUBACK) | IN(PUBREC) | IN(PUBREL) | IN(PUBCOMP) | IN(SUBACK) |               \
     IN(UNSUBACK) | IN(DISCONNECT) | IN(AUTH))
#define MESSAGE    (IN(PUBLISH) | IN(WILL))
#define AUTH_STEPS (IN(CONNECT) | IN(CONNACK) | IN(AUTH))
#define AT(field)  offsetof(struct mqtt_properties, field)

#define PROPERTIES_MAX 43u

static const struct rule table[PROPERTIES_MAX] = {
    [MQTT_PAYLOAD_FORMAT] = {KIND_U8, RULE_FLAG, AT(payload_format), MESSAGE},
    [MQTT_MESSAGE_EXPIRY] = {KIND_U32, 0, AT(message_expiry), MESSAGE},
    [MQTT_CONTENT_TYPE] = {KIND_STRING, 0, AT(content_type), MESSAGE},
    [MQTT_RESPONSE_TOPIC] = {KIND_STRING, 0, AT(response_topic), MESSAGE},
    [MQTT_CORRELATION] = {KIND_BINARY, 0, AT(correlation), MESSAGE},
    [MQTT_SUBSCRIPTION_ID] = {KIND_VARINT, RULE_NOT_ZERO, AT(subscription_id),
                              IN(PUBLISH) | IN(SUBSCRIBE)},
    [MQTT_SESSION_EXPIRY] = {KIND_U32, 0, AT(session_expiry),
                             IN(CONNECT) | IN(CONNACK) | IN(DISCONNECT)},
    [MQTT_ASSIGNED_CLIENT] = {KIND_STRING, 0, AT(assigned_client), IN(CONNACK)},
    [MQTT_SERVER_KEEP_ALIVE] = {KIND_U16, 0, AT(server_keep_alive), IN(CONNACK)},
    [MQTT_AUTH_METHOD] = {KIND_STRING, 0, AT(auth_method), AUTH_STEPS},
    [MQTT_AUTH_DATA] = {KIND_BINARY, 0, AT(auth_data), AUTH_STEPS},
    [MQTT_REQUEST_PROBLEM] = {KIND_U8, RULE_FLAG, AT(request_problem), IN(CONNECT)},
    [MQTT_WILL_DELAY] = {KIND_U32, 0, AT(will_delay), IN(WILL)},
    [MQTT_REQUEST_RESPONSE] = {KIND_U8, RULE_FLAG, AT(request_response), IN(CONNECT)},
    [MQTT_RESPONSE_INFORMATION] = {KIND_STRING, 0, AT(response_information), IN(CONNACK)},
    [MQTT_SERVER_REFERENCE] = {KIND_STRING, 0, AT(server_reference), IN(CONNACK) | IN(DISCONNECT)},
    [MQTT_REASON_STRING] = {KIND_STRING, 0, AT(reason_string), REASONED},
    [MQTT_RECEIVE_MAX] = {KIND_U16, RULE_NOT_ZERO, AT(receive_max), IN(CONNECT) | IN(CONNACK)},
    [MQTT_TOPIC_ALIAS_MAX] = {KIND_U16, 0, AT(topic_alias_max), IN(CONNECT) | IN(CONNACK)},
    [MQTT_TOPIC_ALIAS] = {KIND_U16, 0, AT(topic_alias), IN(PUBLISH)},
    [MQTT_MAXIMUM_QOS] = {KIND_U8, RULE_FLAG, AT(maximum_qos), IN(CONNACK)},
    [MQTT_RETAIN_AVAILABLE] = {KIND_U8, RULE_FLAG, AT(retain_available), IN(CONNACK)},
    [MQTT_USER_PROPERTY] = {KIND_PAIR, RULE_MANY, 0,
                            MESSAGE | REASONED | IN(CONNECT) | IN(SUBSCRIBE) | IN(UNSUBSCRIBE)},
    [MQTT_MAXIMUM_PACKET] = {KIND_U32, RULE_NOT_ZERO, AT(maximum_packet),
                             IN(CONNECT) | IN(CONNACK)},
    [MQTT_WILDCARD_AVAILABLE] = {KIND_U8, RULE_FLAG, AT(wildcard_available), IN(CONNACK)},
    [MQTT_IDS_AVAILABLE] = {KIND_U8, RULE_FLAG, AT(ids_available), IN(CONNACK)},
    [MQTT_SHARED_AVAILABLE] = {KIND_U8, RULE_FLAG, AT(shared_available), IN(CONNACK)},
};

/* ---- reading ---- */

struct value {
    uint32_t number;
    struct slice text, name; /* `name` of a pair */
};

static bool take_value(struct cursor *c, uint8_t kind, struct value *ret, struct mqtt_bad *b)
{
    uint8_t u8;
    uint16_t u16;
    bool minimal = true, ok;
    switch ((enum kind)kind) {
    case KIND_U8:
        ok = take_u8(c, &u8);
        ret->number = ok ? u8 : 0;
        break;
    case KIND_U16:
        ok = take_u16(c, &u16);
        ret->number = ok ? u16 : 0;
        break;
    case KIND_U32:
        ok = take_u32(c, &ret->number);
        break;
    case KIND_VARINT:
        ok = take_varint(c, &ret->number, &minimal) && minimal;
        break;
    case KIND_STRING:
        ok = take_string(c, &ret->text);
        break;
    case KIND_BINARY:
        ok = take_binary(c, &ret->text);
        break;
    case KIND_PAIR:
        ok = take_string(c, &ret->name) && take_string(c, &ret->text);
        break;
    default:
        ok = false;
    }
    return ok || malformed(b, "the value of a property is not what its type says, or is cut off");
}

static void store(struct mqtt_properties *p, const struct rule *r, const struct value *v)
{
    char *to = (char *)p + r->offset;
    switch ((enum kind)r->kind) {
    case KIND_U8:
        *(uint8_t *)to = (uint8_t)v->number;
        break;
    case KIND_U16:
        *(uint16_t *)to = (uint16_t)v->number;
        break;
    case KIND_U32:
    case KIND_VARINT:
        *(uint32_t *)to = v->number;
        break;
    case KIND_STRING:
    case KIND_BINARY:
        *(struct slice *)to = v->text;
        break;
    default: /* pairs stay in `raw` */
        break;
    }
}

static bool check_value(uint8_t id, const struct rule *r, const struct value *v, struct mqtt_bad *b)
{
    if (r->rules & RULE_FLAG && v->number > 1)
        return protocol_error(b, "a property that can be 0 or 1 is something else");
    if (r->rules & RULE_NOT_ZERO && v->number == 0)
        return protocol_error(b, "a property that must not be 0 is 0");
    if (id == MQTT_TOPIC_ALIAS && v->number == 0) /* MQTT-3.3.2-8 */
        return bad(b, MQTT_ALIAS_INVALID, "a topic alias is 0");
    if (id == MQTT_RESPONSE_TOPIC && !topic_name_valid(v->text)) /* MQTT-3.3.2-14 */
        return protocol_error(b, "a response topic is empty or has wildcards");
    return true;
}

static bool take_property(struct cursor *c, enum mqtt_type type, struct mqtt_properties *p,
                          struct mqtt_bad *b)
{
    uint8_t id = 0;
    struct value v = {0};
    (void)take_u8(c, &id); /* all of them are below 128, so one byte is what a varint takes */
    const struct rule *r = id < PROPERTIES_MAX ? &table[id] : &table[0];
    if (!(r->packets >> type & 1))
        return malformed(b, "a property does not belong in this packet");
    bool twice = p->has >> id & 1;
    /* Several messages for one subscription, several subscriptions for one message: section
     * 3.3.2.3.8. */
    bool many = r->rules & RULE_MANY || (id == MQTT_SUBSCRIPTION_ID && type == MQTT_PUBLISH);
    if (twice && !many)
        return protocol_error(b, "a property is there twice");
    if (!take_value(c, r->kind, &v, b) || !check_value(id, r, &v, b))
        return false;
    if (!twice)
        store(p, r, &v);
    p->has |= 1ull << id;
    return true;
}

bool take_properties(struct cursor *c, enum mqtt_type type, struct mqtt_properties *ret,
                     struct mqtt_bad *b)
{
    uint32_t len;
    bool minimal;
    ret->has = 0;
    if (!take_varint(c, &len, &minimal) || !minimal || len > cursor_left(c))
        return malformed(b, "the length of the properties is wrong");
    struct cursor in = {c->at, c->at + len};
    ret->raw = cursor_rest(&in);
    while (in.at < in.end) {
        if (!take_property(&in, type, ret, b))
            return false;
    }
    c->at += len;
    if (mqtt_has(ret, MQTT_AUTH_DATA) && !mqtt_has(ret, MQTT_AUTH_METHOD))
        return protocol_error(b, "authentication data without a method");
    return true;
}

/* The next property with this identifier, of some that are known to be good. */
static bool next_of(struct slice *rest, uint8_t wanted, struct value *ret)
{
    if (!rest->len)
        return false;
    struct cursor c = {(const uint8_t *)rest->ptr, (const uint8_t *)rest->ptr + rest->len};
    struct mqtt_bad none;
    bool found = false;
    uint8_t id;
    while (!found && take_u8(&c, &id) && id < PROPERTIES_MAX &&
           take_value(&c, table[id].kind, ret, &none))
        found = id == wanted;
    *rest = found ? cursor_rest(&c) : (struct slice){0};
    return found;
}

bool mqtt_next_user(struct slice *rest, struct slice *ret_name, struct slice *ret_value)
{
    struct value v;
    if (!next_of(rest, MQTT_USER_PROPERTY, &v))
        return false;
    *ret_name = v.name;
    *ret_value = v.text;
    return true;
}

bool mqtt_next_id(struct slice *rest, uint32_t *ret_id)
{
    struct value v = {0};
    if (!next_of(rest, MQTT_SUBSCRIPTION_ID, &v))
        return false;
    *ret_id = v.number;
    return true;
}

/* ---- writing ---- */

size_t varint_size(uint32_t v)
{
    return v < 128 ? 1 : v < 16384 ? 2 : v < 2097152 ? 3 : 4;
}

void put_varint(struct buf *out, uint32_t v)
{
    for (; v >= 128; v >>= 7)
        buf_put_u8(out, (uint8_t)(v | 0x80));
    buf_put_u8(out, (uint8_t)v);
}

void put_u16(struct buf *out, uint16_t v)
{
    const uint8_t two[] = {(uint8_t)(v >> 8), (uint8_t)v};
    buf_put(out, two, 2);
}

static void put_u32(struct buf *out, uint32_t v)
{
    put_u16(out, (uint16_t)(v >> 16));
    put_u16(out, (uint16_t)v);
}

void put_binary(struct buf *out, struct slice s)
{
    if (s.len > UINT16_MAX) {
        out->failed = true;
        return;
    }
    put_u16(out, (uint16_t)s.len);
    buf_put_slice(out, s);
}

void mqtt_put_user(struct buf *raw, struct slice name, struct slice value)
{
    buf_put_u8(raw, MQTT_USER_PROPERTY);
    put_binary(raw, name);
    put_binary(raw, value);
}

void mqtt_put_id(struct buf *raw, uint32_t id)
{
    buf_put_u8(raw, MQTT_SUBSCRIPTION_ID);
    put_varint(raw, id);
}

/* The next of `raw` whose identifier's bit is in `wanted`, all its bytes. */
static bool next_raw(struct slice *rest, uint64_t wanted, struct slice *ret)
{
    while (rest->len) {
        const char *start = rest->ptr;
        struct cursor c = {(const uint8_t *)start, (const uint8_t *)start + rest->len};
        struct value v;
        struct mqtt_bad none;
        uint8_t id;
        if (!take_u8(&c, &id) || id >= PROPERTIES_MAX || !take_value(&c, table[id].kind, &v, &none))
            return false;
        *rest = cursor_rest(&c);
        if (wanted >> id & 1) {
            *ret = slice_of(start, (size_t)((const char *)c.at - start));
            return true;
        }
    }
    return false;
}

/* What of `raw` is written again: the user properties, and identifiers if there are several. */
#define FROM_RAW (1ull << MQTT_USER_PROPERTY | 1ull << MQTT_SUBSCRIPTION_ID)

#define PASSED                                                                                     \
    (1ull << MQTT_PAYLOAD_FORMAT | 1ull << MQTT_CONTENT_TYPE | 1ull << MQTT_RESPONSE_TOPIC |       \
     1ull << MQTT_CORRELATION | 1ull << MQTT_USER_PROPERTY)

void mqtt_put_passed(struct buf *out, struct slice raw)
{
    struct slice one;
    while (next_raw(&raw, PASSED, &one))
        buf_put_slice(out, one);
}

bool mqtt_read_passed(struct slice raw, struct mqtt_properties *ret)
{
    struct cursor c = {(const uint8_t *)raw.ptr, (const uint8_t *)raw.ptr + raw.len};
    struct mqtt_bad none;
    ret->has = 0;
    ret->raw = raw;
    while (c.at < c.end) {
        if (!take_property(&c, MQTT_PUBLISH, ret, &none))
            return false;
    }
    return !(ret->has & ~PASSED);
}

/* Those that are written from their field. */
static uint64_t from_fields(const struct mqtt_properties *p)
{
    return p->has & ~FROM_RAW;
}

static size_t value_size(const struct mqtt_properties *p, const struct rule *r)
{
    const char *from = (const char *)p + r->offset;
    switch ((enum kind)r->kind) {
    case KIND_U8:
        return 1;
    case KIND_U16:
        return 2;
    case KIND_U32:
        return 4;
    default:
        return 2 + ((const struct slice *)from)->len;
    }
}

size_t properties_size(const struct mqtt_properties *p)
{
    size_t sum = 0;
    struct slice rest = p->raw, one;
    if (!p->has)
        return 0;
    for (uint64_t left = from_fields(p); left; left &= left - 1)
        sum += 1 + value_size(p, &table[__builtin_ctzll(left)]);
    while (next_raw(&rest, FROM_RAW, &one))
        sum += one.len;
    return sum;
}

void put_properties(struct buf *out, const struct mqtt_properties *p)
{
    struct slice rest = p->raw, one;
    if (!p->has)
        return;
    for (uint64_t left = from_fields(p); left; left &= left - 1) {
        unsigned id = (unsigned)__builtin_ctzll(left);
        const char *from = (const char *)p + table[id].offset;
        buf_put_u8(out, (uint8_t)id);
        switch ((enum kind)table[id].kind) {
        case KIND_U8:
            buf_put_u8(out, *(const uint8_t *)from);
            break;
        case KIND_U16:
            put_u16(out, *(const uint16_t *)from);
            break;
        case KIND_U32:
            put_u32(out, *(const uint32_t *)from);
            break;
        default:
            put_binary(out, *(const struct slice *)from);
            break;
        }
    }
    while (next_raw(&rest, FROM_RAW, &one))
        buf_put_slice(out, one);
}
