/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz.h"

#include <stdlib.h>
#include <xxhash.h>

#include "base/check.h"
#include "codec/mqtt.h"
#include "codec/mqtt_testing.h"
#include "codec/topic.h"
#include "codec/utf8.h"

#define PACKET_MAX 3000u

struct verdict {
    enum mqtt_outcome outcome;
    struct mqtt_packet p;
    struct mqtt_bad b;
};

static void parse(struct slice in, const struct mqtt_reader *reader, struct verdict *v)
{
    memset(&v->p, 0x5a, sizeof v->p);
    v->outcome = mqtt_parse(in, reader, &v->p, &v->b);
    if (v->outcome == MQTT_BAD)
        CHECK(v->b.code >= 0x80 && v->b.why);
    if (v->outcome == MQTT_DONE)
        CHECK(v->p.size >= 2 && v->p.size <= in.len && v->p.size <= reader->packet_max);
}

static void check_within(struct slice part, struct slice whole)
{
    CHECK(part.len == 0 || (part.ptr >= whole.ptr && part.ptr + part.len <= whole.ptr + whole.len));
}

static void check_properties(const struct mqtt_properties *p, struct slice whole)
{
    struct slice rest = p->raw, name, value;
    uint32_t id = 0;
    unsigned users = 0, ids = 0;
    check_within(p->raw, whole);
    while (mqtt_next_user(&rest, &name, &value)) {
        check_within(name, whole);
        check_within(value, whole);
        CHECK(utf8_text(name) && utf8_text(value));
        users++;
    }
    for (rest = p->raw; mqtt_next_id(&rest, &id); ids++)
        CHECK(id > 0 && id <= MQTT_LENGTH_MAX);
    CHECK((users > 0) == mqtt_has(p, MQTT_USER_PROPERTY));
    CHECK((ids > 0) == mqtt_has(p, MQTT_SUBSCRIPTION_ID));
    if (mqtt_has(p, MQTT_RESPONSE_TOPIC))
        CHECK(topic_name_valid(p->response_topic));
}

static void check_packet(const struct mqtt_packet *p, enum mqtt_version version, struct slice whole)
{
    check_properties(&p->properties, whole);
    if (p->type == MQTT_CONNECT) {
        check_within(p->connect.client_id, whole);
        check_within(p->connect.username, whole);
        check_within(p->connect.password, whole);
        if (p->connect.has_will)
            CHECK(topic_name_valid(p->connect.will_topic) && p->connect.will_qos < 3);
        check_properties(&p->connect.will, whole);
    } else if (p->type == MQTT_PUBLISH) {
        check_within(p->publish.topic, whole);
        check_within(p->publish.payload, whole);
        CHECK(p->publish.qos < 3 && (p->id != 0) == (p->publish.qos > 0));
        CHECK(utf8_text(p->publish.topic));
        CHECK(topic_name_valid(p->publish.topic) ||
              (version == MQTT_5 && mqtt_has(&p->properties, MQTT_TOPIC_ALIAS)));
    } else if (p->type == MQTT_SUBSCRIBE || p->type == MQTT_UNSUBSCRIBE) {
        struct slice list = p->list;
        struct mqtt_filter f;
        unsigned n = 0;
        for (; mqtt_next_filter(p->type, &list, &f); n++)
            CHECK(topic_filter_valid(f.filter) && f.qos < 3 && f.retain_handling < 3);
        CHECK(n > 0 && list.len == 0);
    }
}

/* Written again it is read the same, and written again the same. */
static void check_round_trip(const struct mqtt_packet *p, enum mqtt_version version,
                             const struct mqtt_reader *reader)
{
    struct verdict again;
    struct buf one, two;
    struct mqtt_reader wide = *reader;
    wide.packet_max = UINT32_MAX; /* lengths with leading zeroes get shorter, nothing gets longer */
    buf_init(&one, 1 << 16);
    buf_init(&two, 1 << 16);
    mqtt_put(&one, version, p);
    CHECK(!one.failed && one.len == mqtt_size(version, p) && one.len <= p->size);
    parse(buf_slice(&one), &wide, &again);
    CHECK(again.outcome == MQTT_DONE && again.p.type == p->type && again.p.size == one.len);
    CHECK(again.p.properties.has == p->properties.has);
    mqtt_put(&two, version, &again.p);
    CHECK(slice_eq(buf_slice(&one), buf_slice(&two)));
    buf_fini(&one);
    buf_fini(&two);
}

static void check_cuts(struct slice in, const struct mqtt_reader *reader,
                       const struct verdict *whole)
{
    size_t cuts[] = {XXH3_64bits(in.ptr, in.len) % (in.len + 1), in.len / 2,
                     in.len ? in.len - 1 : 0};
    for (unsigned i = 0; i < 3; i++) {
        struct verdict part;
        char *prefix = malloc(cuts[i] + 1); /* a block of its own: reads beyond the cut are seen */
        CHECK(prefix);
        memcpy(prefix, in.ptr, cuts[i]);
        parse(slice_of(prefix, cuts[i]), reader, &part);
        if (part.outcome != MQTT_MORE)
            CHECK(part.outcome == whole->outcome);
        if (part.outcome == MQTT_BAD)
            CHECK(part.b.code == whole->b.code && part.b.why == whole->b.why &&
                  part.b.version == whole->b.version);
        if (part.outcome == MQTT_DONE)
            CHECK(part.p.size == whole->p.size && part.p.type == whole->p.type);
        free(prefix);
    }
}

/* A packet made up from the bytes keeps the rules, so it must be taken. */
static void check_drawn(struct slice in)
{
    struct drawn r = {0};
    struct draw d = {(const uint8_t *)in.ptr, (const uint8_t *)in.ptr + in.len};
    struct verdict v;
    struct buf out;
    buf_init(&r.raw, 1 << 16);
    buf_init(&r.will_raw, 1 << 16);
    buf_init(&r.list, 1 << 16);
    buf_init(&out, 1 << 16);
    draw_packet(&d, &r);
    mqtt_put(&out, r.version, &r.p);
    struct mqtt_reader reader = {r.p.type == MQTT_CONNECT ? MQTT_NONE : r.version, !r.from_server,
                                 (uint32_t)out.len};
    parse(buf_slice(&out), &reader, &v);
    CHECK(v.outcome == MQTT_DONE);
    check_packet(&v.p, r.version, buf_slice(&out));
    check_round_trip(&v.p, r.version, &reader);
    buf_fini(&r.raw);
    buf_fini(&r.will_raw);
    buf_fini(&r.list);
    buf_fini(&out);
}

/* The first byte: 0 to 7 version and side, above that a packet is made up. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const enum mqtt_version versions[] = {MQTT_NONE, MQTT_3_1, MQTT_3_1_1, MQTT_5};
    if (!size)
        return 0;
    struct slice in = slice_of(data + 1, size - 1);
    if ((data[0] & 15) > 7) {
        check_drawn(in);
        return 0;
    }
    struct mqtt_reader reader = {versions[data[0] & 3], (data[0] & 4) == 0 || (data[0] & 3) == 0,
                                 PACKET_MAX};
    struct verdict v;
    parse(in, &reader, &v);
    check_cuts(in, &reader, &v);
    if (v.outcome != MQTT_DONE)
        return 0;
    enum mqtt_version version = v.p.type == MQTT_CONNECT ? v.p.connect.version : reader.version;
    check_packet(&v.p, version, in);
    check_round_trip(&v.p, version, &reader);
    return 0;
}
