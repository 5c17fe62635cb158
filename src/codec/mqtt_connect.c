/* SPDX-License-Identifier: Apache-2.0 */
/* CONNECT and CONNACK: the packets that tell the version, and so are read before it is known. */
#include "codec/mqtt_private.h"
#include "codec/topic.h"

enum {
    FLAG_RESERVED = 0x01,
    FLAG_CLEAN = 0x02,
    FLAG_WILL = 0x04,
    FLAG_WILL_QOS = 0x18,
    FLAG_WILL_RETAIN = 0x20,
    FLAG_PASSWORD = 0x40,
    FLAG_USERNAME = 0x80,
};

/* Protocol name and level (section 3.1.2.1, 3.1.2.2). */
static bool take_protocol(struct cursor *c, struct mqtt_connect *k, struct mqtt_bad *b)
{
    struct slice name;
    uint8_t level;
    if (!take_binary(c, &name) || !take_u8(c, &level))
        return malformed(b, "CONNECT ends before its protocol level");
    bool old = slice_eq(name, SLICE("MQIsdp"));
    if (!old && !slice_eq(name, SLICE("MQTT"))) /* MQTT-3.1.2-1: some other protocol */
        return bad(b, MQTT_UNSUPPORTED_VERSION, "the protocol is not MQTT");
    if (old ? level == MQTT_3_1 : (level == MQTT_3_1_1 || level == MQTT_5)) {
        k->version = b->version = (enum mqtt_version)level;
        return true;
    }
    b->version = old ? MQTT_3_1 : level > MQTT_5 && level < 0x80 ? MQTT_5 : MQTT_3_1_1;
    return bad(b, MQTT_UNSUPPORTED_VERSION, "this protocol level is not served");
}

static bool check_flags(uint8_t flags, enum mqtt_version version, struct mqtt_bad *b)
{
    if (flags & FLAG_RESERVED && version != MQTT_3_1) /* MQTT-3.1.2-3; 3.1 does not use the bit */
        return malformed(b, "the reserved flag of CONNECT is set");
    if ((flags & FLAG_WILL_QOS) == FLAG_WILL_QOS) /* MQTT-3.1.2-12 */
        return malformed(b, "the will has QoS 3");
    if (!(flags & FLAG_WILL) && flags & (FLAG_WILL_QOS | FLAG_WILL_RETAIN)) /* MQTT-3.1.2-11, -13 */
        return malformed(b, "flags of a will without a will");
    if (version == MQTT_3_1_1 && flags & FLAG_PASSWORD && !(flags & FLAG_USERNAME))
        return malformed(b, "a password without a username"); /* 3.1.1: MQTT-3.1.2-22 */
    return true;
}

static bool take_will(struct cursor *c, uint8_t flags, struct mqtt_connect *k, struct mqtt_bad *b)
{
    k->will.has = 0;
    k->will.raw = (struct slice){0};
    k->will_qos = flags >> 3 & 3;
    k->will_retain = flags & FLAG_WILL_RETAIN;
    k->has_will = flags & FLAG_WILL;
    k->will_topic = k->will_payload = (struct slice){0};
    if (!k->has_will)
        return true;
    if (k->version == MQTT_5 && !take_properties(c, MQTT_WILL, &k->will, b))
        return false;
    if (!take_string(c, &k->will_topic) || !take_binary(c, &k->will_payload)) /* MQTT-3.1.3-11 */
        return malformed(b, "the will is cut off, or its topic no UTF-8");
    if (!topic_name_valid(k->will_topic))
        return malformed(b, "the topic of the will is empty or has wildcards");
    return true;
}

/* In 3.1 the length of the packet counts for more than the flags: what they promise may be missing
 * (its section 3.1, "Payload"). */
static bool promised(const struct cursor *c, const struct mqtt_connect *k, uint8_t flags,
                     uint8_t flag)
{
    return flags & flag && (k->version != MQTT_3_1 || cursor_left(c));
}

static bool take_credentials(struct cursor *c, uint8_t flags, struct mqtt_connect *k,
                             struct mqtt_bad *b)
{
    k->username = k->password = (struct slice){0};
    if (promised(c, k, flags, FLAG_USERNAME) && !take_string(c, &k->username)) /* MQTT-3.1.3-12 */
        return malformed(b, "the username is cut off, or no UTF-8");
    if (promised(c, k, flags, FLAG_PASSWORD) && !take_binary(c, &k->password))
        return malformed(b, "the password is cut off");
    return true;
}

bool parse_connect(struct cursor *c, struct mqtt_packet *p, struct mqtt_bad *b)
{
    struct mqtt_connect *k = &p->connect;
    uint8_t flags;
    k->version = MQTT_NONE;
    if (!take_protocol(c, k, b))
        return false;
    if (!take_u8(c, &flags) || !take_u16(c, &k->keep_alive))
        return malformed(b, "CONNECT is cut off");
    if (!check_flags(flags, k->version, b))
        return false;
    k->clean = flags & FLAG_CLEAN;
    if (k->version == MQTT_5 && !take_properties(c, MQTT_CONNECT, &p->properties, b))
        return false;
    if (!take_string(c, &k->client_id)) /* MQTT-3.1.3-4 */
        return malformed(b, "the client id is cut off, or no UTF-8");
    return take_will(c, flags, k, b) && take_credentials(c, flags, k, b);
}

bool parse_connack(struct cursor *c, enum mqtt_version version, struct mqtt_packet *p,
                   struct mqtt_bad *b)
{
    uint8_t flags;
    if (!take_u8(c, &flags) || !take_u8(c, &p->code))
        return malformed(b, "CONNACK is cut off");
    if (flags > 1) /* MQTT-3.2.2-1 */
        return malformed(b, "reserved flags of CONNACK are set");
    p->session_present = flags;
    if (p->session_present && p->code) /* MQTT-3.2.2-6 */
        return protocol_error(b, "a session in a CONNACK that refuses");
    if (version != MQTT_5)
        return p->code <= 5 || protocol_error(b, "an unknown return code in CONNACK");
    if (!mqtt_code_allowed(MQTT_CONNACK, p->code, true))
        return protocol_error(b, "this reason code does not belong in CONNACK");
    return take_properties(c, MQTT_CONNACK, &p->properties, b);
}
