/* SPDX-License-Identifier: Apache-2.0 */
#include "codec/mqtt.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "codec/mqtt_testing.h"

#define MAX 1000000u

/* Parses a copy of exactly its size, so that a sanitizer sees every byte too far. The copy stays
 * until the next call: slices point into it. */
static enum mqtt_outcome parse(struct slice in, const struct mqtt_reader *reader,
                               struct mqtt_packet *p, struct mqtt_bad *b)
{
    static char *copy;
    free(copy);
    copy = malloc(in.len ? in.len : 1);
    assert_non_null(copy);
    if (in.len)
        memcpy(copy, in.ptr, in.len);
    memset(p, 0x5a, sizeof *p);
    return mqtt_parse(slice_of(copy, in.len), reader, p, b);
}

static struct slice from_hex(const char *hex)
{
    static char out[512];
    size_t n = 0;
    for (unsigned v; sscanf(hex, "%2x", &v) == 1;) {
        out[n++] = (char)v;
        hex += 2;
        while (*hex == ' ')
            hex++;
    }
    return slice_of(out, n);
}

static enum mqtt_outcome parse_hex(const char *hex, enum mqtt_version version, bool server,
                                   struct mqtt_packet *p, struct mqtt_bad *b)
{
    const struct mqtt_reader reader = {version, server, MAX};
    return parse(from_hex(hex), &reader, p, b);
}

static void expect_bytes(enum mqtt_version version, const struct mqtt_packet *p, const char *hex)
{
    struct buf out;
    struct slice want = from_hex(hex);
    buf_init(&out, MAX);
    mqtt_put(&out, version, p);
    assert_int_equal(out.len, want.len);
    assert_memory_equal(out.ptr, want.ptr, want.len);
    assert_int_equal(mqtt_size(version, p), want.len);
    buf_fini(&out);
}

/* ---- by hand, from the tables of the specifications ---- */

static void connect_of_311(void **state)
{
    (void)state;
    struct mqtt_packet p;
    struct mqtt_bad b;
    /* Figure 3.6 of 3.1.1 with its fields filled in. */
    const char *hex = "10 21 0004 4d515454 04 ce 000a 0002 6964 0003 742f77 0004 676f6e65"
                      "0001 75 0003 700077";
    assert_int_equal(parse_hex(hex, MQTT_NONE, true, &p, &b), MQTT_DONE);
    assert_int_equal(p.type, MQTT_CONNECT);
    assert_int_equal(p.connect.version, MQTT_3_1_1);
    assert_true(p.connect.clean && p.connect.has_will && !p.connect.will_retain);
    assert_int_equal(p.connect.will_qos, 1);
    assert_int_equal(p.connect.keep_alive, 10);
    assert_true(slice_eq(p.connect.client_id, SLICE("id")));
    assert_true(slice_eq(p.connect.will_topic, SLICE("t/w")));
    assert_true(slice_eq(p.connect.will_payload, SLICE("gone")));
    assert_true(slice_eq(p.connect.username, SLICE("u")));
    assert_true(slice_eq(p.connect.password, SLICE("p\0w")));
    expect_bytes(MQTT_3_1_1, &p, hex);
}

static void connect_of_5(void **state)
{
    (void)state;
    struct mqtt_packet p;
    struct mqtt_bad b;
    /* Section 3.1.2.12: clean start, no will, session expiry 10; then a client id. */
    const char *hex = "10 13 0004 4d515454 05 02 0000 05 110000000a 0001 63";
    assert_int_equal(parse_hex(hex, MQTT_NONE, true, &p, &b), MQTT_DONE);
    assert_int_equal(p.connect.version, MQTT_5);
    assert_true(mqtt_has(&p.properties, MQTT_SESSION_EXPIRY));
    assert_int_equal(p.properties.session_expiry, 10);
    assert_false(mqtt_has(&p.properties, MQTT_RECEIVE_MAX));
    assert_null(p.connect.username.ptr);
    assert_null(p.connect.password.ptr);
    expect_bytes(MQTT_5, &p, hex);
    /* A password alone is allowed in 5.0, an empty client id in all. */
    assert_int_equal(
        parse_hex("10 10 0004 4d515454 05 42 0000 00 0000 0001 70", MQTT_NONE, true, &p, &b),
        MQTT_DONE);
    assert_true(p.connect.client_id.ptr && !p.connect.client_id.len && !p.connect.username.ptr);
    assert_true(slice_eq(p.connect.password, SLICE("p")));
}

static void connect_of_31(void **state)
{
    (void)state;
    struct mqtt_packet p;
    struct mqtt_bad b;
    const char *hex = "10 15 0006 4d5149736470 03 c2 003c 0001 63 0001 75 0001 70";
    assert_int_equal(parse_hex(hex, MQTT_NONE, true, &p, &b), MQTT_DONE);
    assert_int_equal(p.connect.version, MQTT_3_1);
    assert_true(slice_eq(p.connect.password, SLICE("p")));
    expect_bytes(MQTT_3_1, &p, hex);
    /* The flags promise a username and a password that the length has no room for. */
    assert_int_equal(
        parse_hex("10 0f 0006 4d5149736470 03 c2 003c 0001 63", MQTT_NONE, true, &p, &b),
        MQTT_DONE);
    assert_null(p.connect.username.ptr);
    assert_null(p.connect.password.ptr);
}

static void publish(void **state)
{
    (void)state;
    struct mqtt_packet p;
    struct mqtt_bad b;
    /* Figure 3.11 of 3.1.1: topic a/b, packet identifier 10. */
    assert_int_equal(parse_hex("3b 0a 0003 612f62 000a 32312e", MQTT_3_1_1, true, &p, &b),
                     MQTT_DONE);
    assert_true(p.publish.dup && p.publish.retain && p.publish.qos == 1 && p.id == 10);
    assert_true(slice_eq(p.publish.topic, SLICE("a/b")));
    assert_true(slice_eq(p.publish.payload, SLICE("21.")));
    assert_int_equal(p.properties.has, 0);
    expect_bytes(MQTT_3_1_1, &p, "3b 0a 0003 612f62 000a 32312e");
    assert_int_equal(p.size, 12);
    /* 5.0: by alias alone, with a user property twice. */
    const char *hex = "30 14 0000 11 230007 26 000161 000162 26 000161 000163";
    assert_int_equal(parse_hex(hex, MQTT_5, true, &p, &b), MQTT_DONE);
    assert_int_equal(p.properties.topic_alias, 7);
    assert_int_equal(p.publish.topic.len, 0);
    assert_int_equal(p.publish.payload.len, 0);
    struct slice rest = p.properties.raw, name, value;
    assert_true(mqtt_next_user(&rest, &name, &value) && slice_eq(value, SLICE("b")));
    assert_true(mqtt_next_user(&rest, &name, &value) && slice_eq(name, SLICE("a")));
    assert_true(slice_eq(value, SLICE("c")));
    assert_false(mqtt_next_user(&rest, &name, &value));
    expect_bytes(MQTT_5, &p, hex);
    /* To a client: two subscriptions led to it. */
    hex = "30 0c 0001 74 07 0bffffff7f 0b01 78";
    assert_int_equal(parse_hex(hex, MQTT_5, false, &p, &b), MQTT_DONE);
    uint32_t id = 0;
    rest = p.properties.raw;
    assert_true(mqtt_next_id(&rest, &id) && id == 268435455u && p.properties.subscription_id == id);
    assert_true(mqtt_next_id(&rest, &id) && id == 1);
    assert_false(mqtt_next_id(&rest, &id));
    expect_bytes(MQTT_5, &p, hex);
}

/* Of a PUBLISH's properties a subscriber gets some, in the order they came in. */
static void what_is_passed_on(void **state)
{
    (void)state;
    struct mqtt_packet p;
    struct mqtt_bad b;
    struct mqtt_properties back;
    struct buf out;
    const char *hex =
        "30 28 0001 61 23"
        "23 0001 26 0001 61 0001 62 02 00000005 01 01 03 0001 63 08 0001 64 09 0001 00"
        "26 0001 61 0000 31";
    struct slice name, value, rest;
    assert_int_equal(parse_hex(hex, MQTT_5, true, &p, &b), MQTT_DONE);
    buf_init(&out, 100);
    mqtt_put_passed(&out, p.properties.raw);
    assert_true(mqtt_read_passed(buf_slice(&out), &back));
    assert_false(mqtt_has(&back, MQTT_TOPIC_ALIAS) || mqtt_has(&back, MQTT_MESSAGE_EXPIRY));
    assert_true(mqtt_has(&back, MQTT_PAYLOAD_FORMAT) && back.payload_format == 1);
    assert_true(slice_eq(back.content_type, SLICE("c")));
    assert_true(slice_eq(back.response_topic, SLICE("d")));
    assert_true(mqtt_has(&back, MQTT_CORRELATION) && back.correlation.len == 1);
    rest = back.raw;
    assert_true(mqtt_next_user(&rest, &name, &value) && slice_eq(value, SLICE("b")));
    assert_true(mqtt_next_user(&rest, &name, &value) && value.len == 0);
    assert_false(mqtt_next_user(&rest, &name, &value));
    for (size_t len = 1; len < out.len; len++) { /* cut anywhere: good only behind a property */
        struct slice cut = slice_of(out.ptr, len);
        bool good = len == 7 || len == 9 || len == 13 || len == 17 || len == 21;
        assert_int_equal(mqtt_read_passed(cut, &back), good);
    }
    assert_false(mqtt_read_passed(SLICE("\x23\x00\x01"), &back)); /* an alias */
    assert_true(mqtt_read_passed((struct slice){0}, &back) && !back.has);
    buf_fini(&out);
}

static void subscribe(void **state)
{
    (void)state;
    struct mqtt_packet p;
    struct mqtt_bad b;
    struct mqtt_filter f;
    const char *hex = "82 0e 000a 0003 612f62 01 0003 632f23 02";
    assert_int_equal(parse_hex(hex, MQTT_3_1_1, true, &p, &b), MQTT_DONE);
    expect_bytes(MQTT_3_1_1, &p, hex);
    struct slice list = p.list;
    assert_true(mqtt_next_filter(MQTT_SUBSCRIBE, &list, &f) && f.qos == 1);
    assert_true(slice_eq(f.filter, SLICE("a/b")));
    assert_true(mqtt_next_filter(MQTT_SUBSCRIBE, &list, &f) && f.qos == 2);
    assert_true(slice_eq(f.filter, SLICE("c/#")));
    assert_false(mqtt_next_filter(MQTT_SUBSCRIBE, &list, &f));
    hex = "82 09 000a 02 0b05 0001 61 2e";
    assert_int_equal(parse_hex(hex, MQTT_5, true, &p, &b), MQTT_DONE);
    assert_int_equal(p.properties.subscription_id, 5);
    list = p.list;
    assert_true(mqtt_next_filter(MQTT_SUBSCRIBE, &list, &f));
    assert_true(f.qos == 2 && f.no_local && f.as_published && f.retain_handling == 2);
    expect_bytes(MQTT_5, &p, hex);
    hex = "a2 09 000b 00 0001 61 0001 62";
    assert_int_equal(parse_hex(hex, MQTT_5, true, &p, &b), MQTT_DONE);
    list = p.list;
    assert_true(mqtt_next_filter(MQTT_UNSUBSCRIBE, &list, &f));
    assert_true(mqtt_next_filter(MQTT_UNSUBSCRIBE, &list, &f) && slice_eq(f.filter, SLICE("b")));
    assert_false(mqtt_next_filter(MQTT_UNSUBSCRIBE, &list, &f));
}

static void answers(void **state)
{
    (void)state;
    struct mqtt_packet p;
    struct mqtt_bad b;
    struct buf out;
    buf_init(&out, MAX);
    static const struct {
        const char *hex;
        enum mqtt_version version;
        enum mqtt_type type;
        uint8_t code;
    } all[] = {
        {"40 02 0102", MQTT_3_1_1, MQTT_PUBACK, 0},   {"40 02 0102", MQTT_5, MQTT_PUBACK, 0},
        {"40 03 0102 97", MQTT_5, MQTT_PUBACK, 0x97}, {"50 03 0102 10", MQTT_5, MQTT_PUBREC, 0x10},
        {"62 02 0102", MQTT_3_1_1, MQTT_PUBREL, 0},   {"62 03 0102 92", MQTT_5, MQTT_PUBREL, 0x92},
        {"70 02 0102", MQTT_5, MQTT_PUBCOMP, 0},
    };
    for (unsigned i = 0; i < sizeof all / sizeof *all; i++) {
        assert_int_equal(parse_hex(all[i].hex, all[i].version, true, &p, &b), MQTT_DONE);
        assert_true(p.type == all[i].type && p.id == 0x102 && p.code == all[i].code);
        buf_clear(&out);
        mqtt_put_ack(&out, all[i].version, all[i].type, 0x102, all[i].code);
        struct slice want = from_hex(all[i].hex);
        assert_true(slice_eq(buf_slice(&out), want));
        expect_bytes(all[i].version, &p, all[i].hex);
    }
    /* Code and properties of length 0 may both be there. */
    assert_int_equal(parse_hex("40 04 0102 00 00", MQTT_5, true, &p, &b), MQTT_DONE);
    assert_int_equal(parse_hex("e0 00", MQTT_5, true, &p, &b), MQTT_DONE);
    assert_int_equal(p.code, 0);
    assert_int_equal(parse_hex("e0 01 04", MQTT_5, true, &p, &b), MQTT_DONE);
    assert_int_equal(p.code, 4);
    assert_int_equal(parse_hex("c0 00", MQTT_3_1_1, true, &p, &b), MQTT_DONE);
    assert_int_equal(p.type, MQTT_PINGREQ);
    buf_clear(&out);
    mqtt_put_empty(&out, MQTT_PINGRESP);
    assert_true(slice_eq(buf_slice(&out), SLICE("\xd0\0")));
    assert_int_equal(parse_hex("20 02 00 05", MQTT_3_1_1, false, &p, &b), MQTT_DONE);
    assert_int_equal(p.code, 5);
    buf_fini(&out);
}

/* ---- refusals ---- */

struct refusal {
    const char *hex;
    enum mqtt_version version;
    uint8_t code;
};

#define M MQTT_MALFORMED
#define P MQTT_PROTOCOL_ERROR

static void check_refusals(const struct refusal *all, unsigned count, bool server)
{
    for (unsigned i = 0; i < count; i++) {
        struct mqtt_packet p;
        struct mqtt_bad b = {0};
        enum mqtt_outcome got = parse_hex(all[i].hex, all[i].version, server, &p, &b);
        if (got != MQTT_BAD || b.code != all[i].code || !b.why)
            fail_msg("%s (version %d): outcome %d, code %02x, not %02x", all[i].hex, all[i].version,
                     got, b.code, all[i].code);
    }
}

static void refuses_of_header(void **state)
{
    (void)state;
    static const struct refusal all[] = {
        {"00", MQTT_3_1_1, M}, /* type 0 */
        {"f0", MQTT_3_1_1, M}, /* AUTH before 5.0 */
        {"f0", MQTT_NONE, M},  /* before CONNECT */
        {"30", MQTT_NONE, P},  /* MQTT-3.1.0-1 */
        {"c0", MQTT_NONE, P},
        {"10", MQTT_5, P}, /* MQTT-3.1.0-2 */
        {"20", MQTT_5, P}, /* a client does not send CONNACK */
        {"20", MQTT_NONE, P},
        {"90", MQTT_3_1_1, P}, /* SUBACK */
        {"b0", MQTT_3_1_1, P}, /* UNSUBACK */
        {"d0", MQTT_5, P},     /* PINGRESP */
        {"11", MQTT_NONE, M},  /* MQTT-2.1.3-1: flags */
        {"80", MQTT_5, M},
        {"83", MQTT_3_1_1, M},
        {"8a", MQTT_3_1_1, M}, /* in 3.1 a duplicate, later not */
        {"60", MQTT_5, M},
        {"a0", MQTT_5, M},
        {"42", MQTT_5, M},
        {"c1", MQTT_5, M},
        {"e1", MQTT_3_1_1, M},
        {"c0 80808080", MQTT_3_1_1, M}, /* five bytes of length (CVE-2026-21888) */
        {"30 ffffffff01", MQTT_5, M},
        {"c0 8000", MQTT_5, M}, /* MQTT-1.5.5-1 */
        {"30 ffffff7f", MQTT_5, MQTT_TOO_LARGE},
        {"c0 01 00", MQTT_5, M}, /* bytes left over */
        {"40 03 0001 00", MQTT_3_1_1, M},
        {"e0 01 00", MQTT_3_1_1, M},
    };
    check_refusals(all, sizeof all / sizeof *all, true);
    struct mqtt_packet p;
    struct mqtt_bad b;
    assert_int_equal(parse_hex("c0 8000", MQTT_3_1_1, true, &p, &b), MQTT_DONE);
    assert_int_equal(p.size, 3);
    assert_int_equal(parse_hex("8a 06 0001 0001 61 00", MQTT_3_1, true, &p, &b), MQTT_DONE);
    assert_int_equal(parse_hex("e0 00", MQTT_3_1_1, false, &p, &b), MQTT_BAD);
    assert_int_equal(parse_hex("e0 00", MQTT_5, false, &p, &b), MQTT_DONE);
}

static void refuses_of_connect(void **state)
{
    (void)state;
    static const struct refusal all[] = {
        {"10 00", MQTT_NONE, M},
        {"10 0d 0004 4d515455 04 02 0000 0001 63", MQTT_NONE, MQTT_UNSUPPORTED_VERSION},
        {"10 0d 0004 4d515454 06 02 0000 0001 63", MQTT_NONE, MQTT_UNSUPPORTED_VERSION},
        {"10 0d 0004 4d515454 84 02 0000 0001 63", MQTT_NONE, MQTT_UNSUPPORTED_VERSION},
        {"10 0d 0004 4d515454 03 02 0000 0001 63", MQTT_NONE, MQTT_UNSUPPORTED_VERSION},
        {"10 0f 0006 4d5149736470 04 02 0000 0001 63", MQTT_NONE, MQTT_UNSUPPORTED_VERSION},
        {"10 0d 0004 4d515454 04 03 0000 0001 63", MQTT_NONE, M}, /* MQTT-3.1.2-3 */
        {"10 0d 0004 4d515454 04 0a 0000 0001 63", MQTT_NONE, M}, /* MQTT-3.1.2-11 */
        {"10 0d 0004 4d515454 04 22 0000 0001 63", MQTT_NONE, M}, /* MQTT-3.1.2-13 */
        {"10 13 0004 4d515454 04 1e 0000 0001 63 0001 74 0001 77", MQTT_NONE, M}, /* -12 */
        {"10 10 0004 4d515454 04 42 0000 0001 63 0001 70", MQTT_NONE, M}, /* 3.1.1: 3.1.2-22 */
        {"10 0d 0004 4d515454 04 82 0000 0001 63", MQTT_NONE, M},         /* no username */
        {"10 0d 0004 4d515454 04 06 0000 0001 63", MQTT_NONE, M},         /* no will */
        {"10 12 0004 4d515454 04 06 0000 0001 63 0001 23 0000", MQTT_NONE, M},
        {"10 11 0004 4d515454 04 06 0000 0001 63 0000 0000", MQTT_NONE, M},
        {"10 0d 0004 4d515454 04 02 0000 0001 00", MQTT_NONE, M},     /* MQTT-1.5.4-2 */
        {"10 0f 0004 4d515454 04 02 0000 0003 eda080", MQTT_NONE, M}, /* MQTT-1.5.4-1 */
        {"10 0e 0004 4d515454 04 02 0000 0002 c080", MQTT_NONE, M},
        {"10 0e 0004 4d515454 04 02 0000 0001 63 00", MQTT_NONE, M},   /* left over */
        {"10 8e00 0004 4d515454 05 02 0000 00 0001 63", MQTT_NONE, M}, /* MQTT-1.5.5-1 */
        {"10 0e 0004 4d515454 05 02 0000 02 0001 63", MQTT_NONE, M},
        {"10 11 0004 4d515454 05 02 0000 03 210000 0001 63", MQTT_NONE, P},
        {"10 13 0004 4d515454 05 02 0000 05 2700000000 0001 63", MQTT_NONE, P},
        {"10 10 0004 4d515454 05 02 0000 02 1702 0001 63", MQTT_NONE, P},
        {"10 10 0004 4d515454 05 02 0000 02 1902 0001 63", MQTT_NONE, P},
        {"10 12 0004 4d515454 05 02 0000 04 16000161 0001 63", MQTT_NONE, P},
    };
    check_refusals(all, sizeof all / sizeof *all, true);
}

/* Which CONNACK a refused CONNECT may get. */
static void tells_the_version(void **state)
{
    (void)state;
    static const struct {
        const char *hex;
        enum mqtt_version want;
    } all[] = {
        {"10 0d 0004 4d515455 04 02 0000 0001 63", MQTT_NONE},
        {"10 0d 0004 4d515454 06 02 0000 0001 63", MQTT_5},
        {"10 0d 0004 4d515454 84 02 0000 0001 63", MQTT_3_1_1},
        {"10 0f 0006 4d5149736470 04 02 0000 0001 63", MQTT_3_1},
        {"10 0d 0004 4d515454 04 03 0000 0001 63", MQTT_3_1_1},
        {"10 10 0004 4d515454 05 02 0000 02 1702 0001 63", MQTT_5},
        {"10 00", MQTT_NONE},
    };
    for (unsigned i = 0; i < sizeof all / sizeof *all; i++) {
        struct mqtt_packet p;
        struct mqtt_bad b;
        assert_int_equal(parse_hex(all[i].hex, MQTT_NONE, true, &p, &b), MQTT_BAD);
        assert_int_equal(b.version, all[i].want);
    }
}

static void refuses_of_the_rest(void **state)
{
    static const struct refusal all[] = {
        {"36 05 0001 74 0001", MQTT_3_1_1, M}, /* MQTT-3.3.1-4 */
        {"38 03 0001 74", MQTT_3_1_1, M},      /* MQTT-3.3.1-2 */
        {"30 03 0001 23", MQTT_3_1_1, M},      /* MQTT-3.3.2-2 */
        {"30 05 0003 612f2b", MQTT_3_1_1, M},
        {"30 02 0000", MQTT_3_1_1, M}, /* 3.1.1: MQTT-4.7.3-1 */
        {"30 03 0000 00", MQTT_5, P},  /* no alias either */
        {"30 03 0001 00", MQTT_3_1_1, M},
        {"30 03 0002 74", MQTT_3_1_1, M},
        {"32 05 0001 74 0000", MQTT_3_1_1, P}, /* MQTT-2.2.1-3 */
        {"32 03 0001 74", MQTT_3_1_1, M},
        {"30 07 0001 74 03 230000", MQTT_5, MQTT_ALIAS_INVALID}, /* MQTT-3.3.2-8 */
        {"30 06 0001 74 02 0102", MQTT_5, P},
        {"30 06 0001 74 02 0b01", MQTT_5, P},     /* MQTT-3.3.4-6 */
        {"30 08 0001 74 04 08000123", MQTT_5, P}, /* MQTT-3.3.2-14 */
        {"30 08 0001 74 04 01000101", MQTT_5, P}, /* twice */
        {"30 05 0001 74 01 01", MQTT_5, M},       /* cut off */
        {"30 06 0001 74 02 1100", MQTT_5, M},     /* session expiry in PUBLISH */
        {"30 06 0001 74 02 7f00", MQTT_5, M},     /* unknown */
        {"30 06 0001 74 02 8100", MQTT_5, M},
        {"40 02 0000", MQTT_3_1_1, P},
        {"40 01 00", MQTT_3_1_1, M},
        {"40 03 0001 92", MQTT_5, P}, /* not a code of PUBACK */
        {"62 03 0001 10", MQTT_5, P},
        {"40 04 0001 00 05", MQTT_5, M},
        {"82 02 0001", MQTT_3_1_1, P}, /* MQTT-3.8.3-2 */
        {"82 06 0000 0001 61 00", MQTT_3_1_1, P},
        {"82 06 0001 0001 61 03", MQTT_3_1_1, P},
        {"82 06 0001 0001 61 04", MQTT_3_1_1, M}, /* 3.1.1: MQTT-3.8.3-4 */
        {"82 05 0001 0001 61", MQTT_3_1_1, M},
        {"82 05 0001 0000 00", MQTT_3_1_1, M},
        {"82 07 0001 0002 6123 00", MQTT_3_1_1, M}, /* a# */
        {"82 07 0001 00 0001 61 40", MQTT_5, M},    /* MQTT-3.8.3-5 */
        {"82 07 0001 00 0001 61 30", MQTT_5, P},
        {"82 07 0001 00 0001 61 03", MQTT_5, P},
        {"82 10 0001 00 000a 2473686172652f672f61 04", MQTT_5, P}, /* MQTT-3.8.3-4 */
        {"82 09 0001 02 0b00 0001 61 00", MQTT_5, P},
        {"82 0a 0001 03 0b8000 0001 61 00", MQTT_5, M},
        {"82 0b 0001 04 0b010b02 0001 61 00", MQTT_5, P}, /* twice */
        {"a2 02 0001", MQTT_3_1_1, P},                    /* MQTT-3.10.3-2 */
        {"a2 03 0001 00", MQTT_5, P},
        {"a2 05 0001 00 0001", MQTT_5, M},
        {"e0 01 01", MQTT_5, P},
        {"e0 01 8e", MQTT_5, P}, /* only a server says taken over */
    };
    (void)state;
    check_refusals(all, sizeof all / sizeof *all, true);
    struct mqtt_packet p;
    struct mqtt_bad b;
    assert_int_equal(parse_hex("f0 01 19", MQTT_5, true, &p, &b), MQTT_DONE);
    assert_int_equal(parse_hex("f0 00", MQTT_5, true, &p, &b), MQTT_DONE);
    assert_int_equal(parse_hex("e0 01 8e", MQTT_5, false, &p, &b), MQTT_DONE);
}

static void refuses_of_servers(void **state)
{
    (void)state;
    static const struct refusal of_servers[] = {
        {"20 02 02 00", MQTT_3_1_1, M},
        {"20 02 00 06", MQTT_3_1_1, P},
        {"20 02 01 05", MQTT_3_1_1, P},
        {"20 03 00 8b 00", MQTT_5, P},
        {"20 05 00 00 02 2402", MQTT_5, P},
        {"90 02 0001", MQTT_3_1_1, M},
        {"90 03 0001 03", MQTT_3_1_1, P},
        {"90 04 0001 00 11", MQTT_5, P},
        {"b0 03 0001 00", MQTT_3_1_1, M},
        {"b0 03 0001 00", MQTT_5, M},
        {"e0 01 04", MQTT_5, P},
        {"82", MQTT_5, P},
        {"c0", MQTT_5, P},
    };
    check_refusals(of_servers, sizeof of_servers / sizeof *of_servers, false);
}

/* Section 2.2.2.2, table 2-4, in words of its own. */
static const struct {
    unsigned id;
    const char *bytes; /* a good value */
    const char *packets;
} belongs[] = {
    {1, "01", "PUBLISH"},
    {2, "00000001", "PUBLISH"},
    {3, "000161", "PUBLISH"},
    {8, "000161", "PUBLISH"},
    {9, "000161", "PUBLISH"},
    {11, "01", "PUBLISH SUBSCRIBE"},
    {17, "00000001", "CONNECT CONNACK DISCONNECT"},
    {18, "000161", "CONNACK"},
    {19, "0001", "CONNACK"},
    {21, "000161", "CONNECT CONNACK AUTH"},
    {23, "01", "CONNECT"},
    {24, "00000001", ""},
    {25, "01", "CONNECT"},
    {26, "000161", "CONNACK"},
    {28, "000161", "CONNACK DISCONNECT"},
    {31, "000161", "CONNACK PUBACK PUBREC PUBREL PUBCOMP SUBACK UNSUBACK DISCONNECT AUTH"},
    {33, "0001", "CONNECT CONNACK"},
    {34, "0001", "CONNECT CONNACK"},
    {35, "0001", "PUBLISH"},
    {36, "01", "CONNACK"},
    {37, "01", "CONNACK"},
    {38, "0001610001 62",
     "CONNECT CONNACK PUBLISH PUBACK PUBREC PUBREL PUBCOMP SUBSCRIBE SUBACK UNSUBSCRIBE "
     "UNSUBACK "
     "DISCONNECT AUTH"},
    {39, "00000001", "CONNECT CONNACK"},
    {40, "01", "CONNACK"},
    {41, "01", "CONNACK"},
    {42, "01", "CONNACK"},
};
static const struct {
    const char *name;
    unsigned first;
    const char *before, *behind; /* what stands around the properties */
    bool server;                 /* who reads it */
} frames[] = {
    {" CONNECT ", 0x10, "0004 4d515454 05 02 0000", "0001 63", true},
    {" CONNACK ", 0x20, "0000", "", false},
    {" PUBLISH ", 0x30, "000174", "", false},
    {" PUBACK ", 0x40, "0001 00", "", true},
    {" PUBREC ", 0x50, "0001 00", "", true},
    {" PUBREL ", 0x62, "0001 00", "", true},
    {" PUBCOMP ", 0x70, "0001 00", "", true},
    {" SUBSCRIBE ", 0x82, "0001", "000161 00", true},
    {" SUBACK ", 0x90, "0001", "00", false},
    {" UNSUBSCRIBE ", 0xa2, "0001", "000161", true},
    {" UNSUBACK ", 0xb0, "0001", "00", false},
    {" DISCONNECT ", 0xe0, "00", "", true},
    {" AUTH ", 0xf0, "18", "", true},
};
static void properties_belong(void **state)
{
    (void)state;
    for (unsigned i = 0; i < sizeof belongs / sizeof *belongs; i++) {
        for (unsigned k = 0; k < sizeof frames / sizeof *frames; k++) {
            char hex[400], list[200];
            unsigned one = 1 + (unsigned)from_hex(belongs[i].bytes).len;
            unsigned around = (unsigned)from_hex(frames[k].before).len;
            around += (unsigned)from_hex(frames[k].behind).len;
            struct mqtt_packet p;
            struct mqtt_bad b;
            enum mqtt_version version = frames[k].first == 0x10 ? MQTT_NONE : MQTT_5;
            snprintf(list, sizeof list, " %s ", belongs[i].packets);
            bool want = strstr(list, frames[k].name) != NULL;
            snprintf(hex, sizeof hex, "%02x %02x %s %02x %02x%s %s", frames[k].first,
                     around + 1 + one, frames[k].before, one, belongs[i].id, belongs[i].bytes,
                     frames[k].behind);
            enum mqtt_outcome got = parse_hex(hex, version, frames[k].server, &p, &b);
            if (got != (want ? MQTT_DONE : MQTT_BAD) || (!want && b.code != M))
                fail_msg("property %u in %s: %d %02x", belongs[i].id, frames[k].name, got, b.code);
            if (!want)
                continue;
            assert_true(mqtt_has(&p.properties, (enum mqtt_property)belongs[i].id));
            snprintf(hex, sizeof hex, "%02x %02x %s %02x %02x%s %02x%s %s", frames[k].first,
                     around + 1 + 2 * one, frames[k].before, 2 * one, belongs[i].id,
                     belongs[i].bytes, belongs[i].id, belongs[i].bytes, frames[k].behind);
            bool many = belongs[i].id == 38 || (belongs[i].id == 11 && frames[k].first == 0x30);
            got = parse_hex(hex, version, frames[k].server, &p, &b);
            if (got != (many ? MQTT_DONE : MQTT_BAD) || (!many && b.code != P))
                fail_msg("property %u twice in %s: %d %02x", belongs[i].id, frames[k].name, got,
                         b.code);
        }
    }
}

/* ---- properties of all packets ---- */

static void check_drawn(const struct drawn *r, struct buf *out, struct buf *again)
{
    struct mqtt_packet p;
    struct mqtt_bad b;
    struct mqtt_reader reader = {r->p.type == MQTT_CONNECT ? MQTT_NONE : r->version,
                                 !r->from_server, MAX};
    buf_clear(out);
    mqtt_put(out, r->version, &r->p);
    assert_false(out->failed);
    assert_int_equal(out->len, mqtt_size(r->version, &r->p));
    for (size_t cut = 0; cut < out->len; cut++)
        assert_int_equal(parse(slice_of(out->ptr, cut), &reader, &p, &b), MQTT_MORE);
    reader.packet_max = (uint32_t)out->len - 1;
    assert_int_equal(parse(buf_slice(out), &reader, &p, &b), MQTT_BAD);
    assert_int_equal(b.code, MQTT_TOO_LARGE);
    reader.packet_max = (uint32_t)out->len;
    enum mqtt_outcome got = parse(buf_slice(out), &reader, &p, &b);
    if (got != MQTT_DONE)
        fail_msg("type %d of version %d: %s", r->p.type, r->version, b.why);
    assert_int_equal(p.type, r->p.type);
    assert_int_equal(p.size, out->len);
    assert_int_equal(p.properties.has, r->p.properties.has);
    buf_clear(again);
    mqtt_put(again, r->version, &p);
    assert_true(slice_eq(buf_slice(again), buf_slice(out)));
    /* What follows is not looked at. */
    buf_put_u8(out, 0);
    assert_int_equal(parse(buf_slice(out), &reader, &p, &b), MQTT_DONE);
    assert_int_equal(p.size, out->len - 1);
}

static void all_packets_round_trip_and_cut(void **state)
{
    (void)state;
    struct drawn r = {0};
    struct buf out, again;
    uint32_t seed = 20261128, seen = 0;
    buf_init(&r.raw, MAX);
    buf_init(&r.will_raw, MAX);
    buf_init(&r.list, MAX);
    buf_init(&out, MAX);
    buf_init(&again, MAX);
    for (unsigned i = 0; i < 4000; i++) {
        uint8_t bytes[96];
        for (unsigned k = 0; k < sizeof bytes; k++) {
            seed = seed * 1664525u + 1013904223u;
            bytes[k] = (uint8_t)(seed >> 24);
        }
        struct draw d = {bytes, bytes + sizeof bytes};
        draw_packet(&d, &r);
        check_drawn(&r, &out, &again);
        seen |= 1u << r.p.type;
    }
    assert_int_equal(seen, 0xfffe);
    buf_fini(&r.raw);
    buf_fini(&r.will_raw);
    buf_fini(&r.list);
    buf_fini(&out);
    buf_fini(&again);
}

static void check_aliased(const struct mqtt_packet *p, struct slice packet, bool with_topic)
{
    static const struct mqtt_reader reader = {MQTT_5, false, UINT32_MAX};
    struct mqtt_packet got;
    struct mqtt_bad why;
    struct buf out;
    buf_init(&out, 2 * MAX);
    assert_false(mqtt_put_aliased(&out, packet, 9, with_topic, 8));
    assert_int_equal(out.len, 0);
    assert_true(mqtt_put_aliased(&out, packet, 9, with_topic, UINT32_MAX));
    assert_false(mqtt_put_aliased(&out, packet, 9, with_topic, (uint32_t)out.len - 1));
    assert_int_equal(parse(buf_slice(&out), &reader, &got, &why), MQTT_DONE);
    assert_int_equal(got.size, out.len);
    assert_int_equal(got.properties.has, p->properties.has | 1ull << MQTT_TOPIC_ALIAS);
    assert_int_equal(got.properties.topic_alias, 9);
    if (p->properties.has)
        assert_true(slice_eq(got.properties.content_type, p->properties.content_type));
    assert_true(got.id == p->id && got.publish.qos == p->publish.qos);
    assert_true(got.publish.dup == p->publish.dup && got.publish.retain == p->publish.retain);
    assert_true(slice_eq(got.publish.topic, with_topic ? p->publish.topic : SLICE("")));
    assert_true(slice_eq(got.publish.payload, p->publish.payload));
    buf_fini(&out);
}

static void aliases_are_put_into_packets(void **state)
{
    (void)state;
    struct buf all, payload;
    struct slice packet, topic;
    buf_init(&all, 16 * MAX);
    buf_init(&payload, MAX);
    struct mqtt_packet p[24] = {0};
    while (payload.len < 200)
        buf_put_u8(&payload, 'x');
    for (unsigned i = 0; i < 24; i++) { /* lengths around where they get one byte longer */
        struct mqtt_packet *one = &p[i];
        *one = (struct mqtt_packet){.type = MQTT_PUBLISH, .id = i % 3 ? (uint16_t)(i + 300) : 0};
        one->publish = (struct mqtt_publish){.topic = slice_of("a/bcdef/ghi/jklm", 1 + i % 16),
                                             .payload = slice_of(payload.ptr, 95 + i),
                                             .qos = (uint8_t)(i % 3),
                                             .dup = i % 3 == 2,
                                             .retain = i % 4 == 1};
        if (i % 2) {
            one->properties.has = 1ull << MQTT_CONTENT_TYPE;
            one->properties.content_type = slice_of(payload.ptr, 60 + i * 3);
        }
        mqtt_put(&all, MQTT_5, one);
    }
    assert_false(all.failed);
    struct slice rest = buf_slice(&all);
    unsigned n = 0;
    for (; mqtt_next_publish(&rest, &packet, &topic); n++) {
        assert_int_equal(packet.len, mqtt_size(MQTT_5, &p[n]));
        assert_true(slice_eq(topic, p[n].publish.topic));
        check_aliased(&p[n], packet, true);
        check_aliased(&p[n], packet, false);
    }
    assert_int_equal(n, 24);
    buf_fini(&all);
    buf_fini(&payload);
}

static void an_expiry_is_set_in_a_packet(void **state)
{
    static const struct mqtt_reader reader = {MQTT_5, false, UINT32_MAX};
    (void)state;
    for (unsigned i = 0; i < 6; i++) {
        struct mqtt_packet got, p = {.type = MQTT_PUBLISH, .id = i % 3 ? 300 : 0};
        struct mqtt_bad why;
        struct buf out;
        buf_init(&out, MAX);
        p.publish = (struct mqtt_publish){
            .topic = SLICE("a/b"), .payload = SLICE("xyz"), .qos = (uint8_t)(i % 3)};
        p.properties.has = 1ull << MQTT_MESSAGE_EXPIRY | 1ull << MQTT_CONTENT_TYPE;
        p.properties.has |= i % 2 ? 1ull << MQTT_PAYLOAD_FORMAT : 0;
        p.properties.payload_format = 1;
        p.properties.message_expiry = 0x01020304;
        p.properties.content_type = SLICE("text");
        mqtt_put(&out, MQTT_5, &p);
        mqtt_set_expiry(out.ptr, out.len, 0x05060708);
        assert_int_equal(parse(buf_slice(&out), &reader, &got, &why), MQTT_DONE);
        assert_int_equal(got.properties.message_expiry, 0x05060708);
        assert_int_equal(got.properties.has, p.properties.has);
        assert_true(slice_eq(got.publish.payload, SLICE("xyz")));
        buf_fini(&out);
    }
}

/* A refusal is the same with any number of bytes behind those that decided it, and before that
 * there is none. */
static void refusals_do_not_depend_on_cuts(void **state)
{
    (void)state;
    static const char *const all[] = {"10 0d 0004 4d515454 04 03 0000 0001 63",
                                      "30 ffffffff01 00",
                                      "c0 80808080",
                                      "82 07 0001 0002 6123 00",
                                      "30 08 0001 74 04 08000123",
                                      "00 00"};
    for (unsigned i = 0; i < sizeof all / sizeof *all; i++) {
        struct slice in = from_hex(all[i]);
        struct mqtt_reader reader = {all[i][0] == '1' ? MQTT_NONE : MQTT_5, true, MAX};
        struct mqtt_packet p;
        struct mqtt_bad whole, part;
        assert_int_equal(parse(in, &reader, &p, &whole), MQTT_BAD);
        bool decided = false;
        for (size_t cut = 0; cut <= in.len; cut++) {
            enum mqtt_outcome got = parse(slice_of(in.ptr, cut), &reader, &p, &part);
            assert_true(got == MQTT_BAD || (got == MQTT_MORE && !decided));
            decided = got == MQTT_BAD;
            if (decided)
                assert_true(part.code == whole.code && part.why == whole.why);
        }
        assert_true(decided);
    }
}

static void codes(void **state)
{
    (void)state;
    static const uint8_t pairs[][2] = {{0, 0},    {0x84, 1}, {0x85, 2}, {0x86, 4}, {0x87, 5},
                                       {0x89, 3}, {0x97, 3}, {0x8a, 5}, {0x8c, 5}, {0x88, 3}};
    for (unsigned i = 0; i < sizeof pairs / sizeof *pairs; i++)
        assert_int_equal(mqtt_connack_code_3(pairs[i][0]), pairs[i][1]);
    assert_true(mqtt_code_allowed(MQTT_DISCONNECT, MQTT_TAKEN_OVER, true));
    assert_false(mqtt_code_allowed(MQTT_DISCONNECT, MQTT_TAKEN_OVER, false));
    assert_false(mqtt_code_allowed(MQTT_DISCONNECT, MQTT_DISCONNECT_WITH_WILL, true));
    assert_false(mqtt_code_allowed(MQTT_CONNACK, MQTT_STOPPING, true));
    assert_true(mqtt_code_allowed(MQTT_PUBACK, MQTT_QUOTA, true));
    assert_false(mqtt_code_allowed(MQTT_PUBACK, MQTT_SERVER_BUSY, true));
    assert_true(mqtt_code_allowed(MQTT_AUTH, 0x18, true));
    assert_false(mqtt_code_allowed(MQTT_AUTH, 0x19, true));
}

/* Texts longer than two bytes of length can say are not put. */
static void too_long_is_not_put(void **state)
{
    (void)state;
    struct buf out;
    char *text = calloc(1, 65536);
    buf_init(&out, MAX);
    mqtt_put_user(&out, slice_of(text, 65535), slice_of(text, 1));
    assert_false(out.failed);
    mqtt_put_user(&out, slice_of(text, 65536), slice_of(text, 1));
    assert_true(out.failed);
    buf_fini(&out);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(connect_of_311),
        cmocka_unit_test(connect_of_5),
        cmocka_unit_test(connect_of_31),
        cmocka_unit_test(publish),
        cmocka_unit_test(what_is_passed_on),
        cmocka_unit_test(subscribe),
        cmocka_unit_test(answers),
        cmocka_unit_test(refuses_of_header),
        cmocka_unit_test(refuses_of_connect),
        cmocka_unit_test(tells_the_version),
        cmocka_unit_test(refuses_of_the_rest),
        cmocka_unit_test(refuses_of_servers),
        cmocka_unit_test(properties_belong),
        cmocka_unit_test(all_packets_round_trip_and_cut),
        cmocka_unit_test(aliases_are_put_into_packets),
        cmocka_unit_test(an_expiry_is_set_in_a_packet),
        cmocka_unit_test(refusals_do_not_depend_on_cuts),
        cmocka_unit_test(codes),
        cmocka_unit_test(too_long_is_not_put),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
