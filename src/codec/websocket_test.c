/* SPDX-License-Identifier: Apache-2.0 */
#include "codec/websocket.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define MAX 100000u

/* ---- handshake ---- */

static const struct http1_limits limits = {
    .head_bytes = 4096, .target_bytes = 300, .fields = 30, .body_bytes = 100};

#define GET  "GET /mqtt HTTP/1.1\r\nHost: a\r\n"
#define UP   "Upgrade: websocket\r\nConnection: Upgrade\r\n"
#define KEY  "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
#define V13  "Sec-WebSocket-Version: 13\r\n"
#define DONE "\r\n"

static void parse_request(const char *text, struct http1_request *r)
{
    size_t scanned = 0;
    unsigned status;
    const char *why;
    assert_int_equal(http1_parse(slice_str(text), &limits, &scanned, r, &status, &why), HTTP1_DONE);
}

static void handshakes(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        enum websocket_upgrade want;
    } all[] = {
        {GET UP KEY V13 DONE, WEBSOCKET_UPGRADE_OK},
        {GET "Upgrade: h2c, WebSocket\r\nConnection: keep-alive, upgrade\r\n" KEY V13 DONE,
         WEBSOCKET_UPGRADE_OK},
        {GET "Connection: keep-alive\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" KEY V13 DONE,
         WEBSOCKET_UPGRADE_OK},
        {GET DONE, WEBSOCKET_UPGRADE_NONE},
        {GET "Upgrade: websocket\r\n" KEY V13 DONE, WEBSOCKET_UPGRADE_NONE},
        {GET "Upgrade: h2c\r\nConnection: Upgrade\r\n" KEY V13 DONE, WEBSOCKET_UPGRADE_NONE},
        {GET UP V13 DONE, WEBSOCKET_UPGRADE_BAD},
        {GET UP KEY DONE, WEBSOCKET_UPGRADE_BAD},
        {GET UP KEY KEY V13 DONE, WEBSOCKET_UPGRADE_BAD},
        {GET UP KEY V13 V13 DONE, WEBSOCKET_UPGRADE_BAD},
        {GET UP KEY "Sec-WebSocket-Version: 8\r\n" DONE, WEBSOCKET_UPGRADE_VERSION},
        {GET UP V13 "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=\r\n" DONE, WEBSOCKET_UPGRADE_BAD},
        {GET UP V13 "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZR==\r\n" DONE, WEBSOCKET_UPGRADE_BAD},
        {GET UP V13 "Sec-WebSocket-Key: dGhlIHNhbXBs?SBub25jZQ==\r\n" DONE, WEBSOCKET_UPGRADE_BAD},
        {"POST /mqtt HTTP/1.1\r\nHost: a\r\n" UP KEY V13 DONE, WEBSOCKET_UPGRADE_BAD},
        {"GET /mqtt HTTP/1.0\r\nHost: a\r\n" UP KEY V13 DONE, WEBSOCKET_UPGRADE_BAD},
        {GET UP KEY V13 "Content-Length: 5\r\n" DONE, WEBSOCKET_UPGRADE_BAD},
    };
    for (unsigned i = 0; i < sizeof all / sizeof *all; i++) {
        struct http1_request r;
        parse_request(all[i].text, &r);
        if (websocket_upgrade(&r) != all[i].want)
            fail_msg("%s: %d", all[i].text, websocket_upgrade(&r));
    }
}

static void answers_the_key(void **state)
{
    (void)state;
    struct http1_request r;
    char out[WEBSOCKET_ACCEPT_LEN + 1];
    parse_request(GET UP KEY V13 DONE, &r); /* section 1.3 */
    websocket_accept(&r, out);
    assert_string_equal(out, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
}

static void finds_the_subprotocol(void **state)
{
    (void)state;
    struct http1_request r;
    parse_request(GET UP KEY V13 "Sec-WebSocket-Protocol: mqttv3.1 , mqtt\r\n" DONE, &r);
    assert_true(websocket_offers(&r, SLICE("mqtt")));
    assert_false(websocket_offers(&r, SLICE("MQTT")));
    parse_request(GET UP KEY V13 "Sec-WebSocket-Protocol: mqttv3.1\r\n"
                                 "Sec-WebSocket-Protocol: mqtt\r\n" DONE,
                  &r);
    assert_true(websocket_offers(&r, SLICE("mqtt")));
    parse_request(GET UP KEY V13 DONE, &r);
    assert_false(websocket_offers(&r, SLICE("mqtt")));
}

/* ---- frames ---- */

/* A client's frame: masked, with as many length bytes as `wide` says (0: as few as can be). */
static void put_frame(struct buf *out, unsigned first, struct slice payload, unsigned wide,
                      uint32_t mask)
{
    size_t n = payload.len;
    unsigned bytes = wide ? wide : n < 126 ? 1 : n < 65536 ? 2 : 8;
    buf_put_u8(out, (uint8_t)first);
    buf_put_u8(out, (uint8_t)(0x80 | (bytes == 1 ? n : bytes == 2 ? 126 : 127)));
    for (unsigned i = bytes; bytes > 1 && i > 0; i--)
        buf_put_u8(out, (uint8_t)((uint64_t)n >> (8 * (i - 1))));
    buf_put_u32(out, mask);
    for (size_t i = 0; i < n; i++)
        buf_put_u8(out, (uint8_t)((uint8_t)payload.ptr[i] ^ (uint8_t)(mask >> (8 * (i % 4)))));
}

/* What comes out, as text: "T<..>" or "B<..>" a message, "P<..>" a ping, "O<..>" a pong,
 * "C1000<..>" a close, "!1002" a failure. The input is given `first` bytes at first and then
 * `piece` by piece, in blocks of their own. */
static void show(struct slice in, size_t first, size_t piece, uint64_t max, struct buf *out)
{
    struct websocket ws = {0};
    struct websocket_event e;
    bool open = false, failed = false;
    buf_clear(out);
    for (size_t at = 0; at < in.len && !failed;) {
        size_t n = at == 0 && first ? first : piece;
        n = n < in.len - at ? n : in.len - at;
        char *block = malloc(n);
        assert_non_null(block);
        memcpy(block, in.ptr + at, n);
        at += n;
        size_t used = 0;
        for (enum websocket_outcome o = WEBSOCKET_DATA; o != WEBSOCKET_MORE && !failed;) {
            size_t step = 0;
            o = websocket_parse(&ws, block + used, n - used, max, &step, &e);
            used += step;
            if (o == WEBSOCKET_DATA) {
                if (!open)
                    buf_put_u8(out, e.opcode == WEBSOCKET_TEXT ? 'T' : 'B');
                if (!open)
                    buf_put_u8(out, '<');
                open = !e.final;
                buf_put_slice(out, e.data);
                if (e.final)
                    buf_put_u8(out, '>');
            } else if (o == WEBSOCKET_CONTROL) {
                buf_put_u8(out, e.opcode == WEBSOCKET_PING   ? 'P'
                                : e.opcode == WEBSOCKET_PONG ? 'O'
                                                             : 'C');
                if (e.opcode == WEBSOCKET_CLOSE)
                    buf_put_dec(out, e.code);
                buf_put_u8(out, '<');
                buf_put_slice(out, e.data);
                buf_put_u8(out, '>');
            } else if (o == WEBSOCKET_BAD) {
                assert_non_null(e.why);
                buf_put_u8(out, '!');
                buf_put_dec(out, e.code);
                failed = true;
            } else {
                assert_int_equal(used, n);
            }
        }
        free(block);
    }
}

static void expect(struct slice in, const char *want)
{
    struct buf out;
    buf_init(&out, 1 << 20);
    show(in, 0, in.len, MAX, &out);
    if (!slice_eq(buf_slice(&out), slice_str(want)))
        fail_msg("%.*s, not %s", SLICE_ARG(buf_slice(&out)), want);
    buf_fini(&out);
}

static void examples_of_the_rfc(void **state)
{
    (void)state; /* section 5.7 */
    expect(SLICE("\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"), "T<Hello>");
    expect(SLICE("\x8a\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"), "O<Hello>");
    struct buf out;
    buf_init(&out, MAX * 2);
    websocket_put(&out, WEBSOCKET_TEXT, SLICE("Hello"));
    assert_true(slice_eq(buf_slice(&out), SLICE("\x81\x05Hello")));
    static const char zeroes[65536];
    buf_clear(&out);
    websocket_put(&out, WEBSOCKET_BINARY, slice_of(zeroes, 256));
    assert_true(out.len == 260 && slice_starts(buf_slice(&out), SLICE("\x82\x7e\x01\x00")));
    buf_clear(&out);
    websocket_put(&out, WEBSOCKET_BINARY, slice_of(zeroes, 65536));
    assert_true(out.len == 65546);
    assert_true(slice_starts(buf_slice(&out), SLICE("\x82\x7f\0\0\0\0\0\1\0\0")));
    buf_fini(&out);
}

static void refusals(void **state)
{
    (void)state;
    static const struct {
        unsigned first;
        struct slice payload;
        unsigned wide;
        const char *want;
    } all[] = {
        {0x81, SLICE("a"), 0, "T<a>"},
        {0x82, SLICE("\xff"), 0, "B<\xff>"},
        {0x81, SLICE("\xff"), 0, "!1007"},
        {0x81, SLICE("\xc3"), 0, "!1007"},
        {0x81, SLICE("\xed\xa0\x80"), 0, "!1007"},
        {0x01, SLICE("\xf5"), 0, "!1007"},
        {0x01, SLICE("\xe0\x80"), 0, "!1007"}, /* before the character is whole */
        {0x80, SLICE("a"), 0, "!1002"},        /* nothing to continue */
        {0x83, SLICE("a"), 0, "!1002"},
        {0x8b, SLICE("a"), 0, "!1002"},
        {0xc1, SLICE("a"), 0, "!1002"}, /* reserved bits */
        {0x09, SLICE("a"), 0, "!1002"}, /* a control frame in pieces */
        {0x81, SLICE("a"), 2, "!1002"}, /* a length in more bytes than it needs */
        {0x81, SLICE("a"), 8, "!1002"},
        {0x89, SLICE("a"), 2, "!1002"},
        {0x89, SLICE(""), 0, "P<>"},
        {0x88, SLICE(""), 0, "C1005<>"},
        {0x88, SLICE("\x03"), 0, "!1002"},
        {0x88, SLICE("\x03\xe8"), 0, "C1000<>"},
        {0x88, SLICE("\x03\xe8why"), 0, "C1000<why>"},
        {0x88, SLICE("\x03\xe8\xff"), 0, "!1007"},
        {0x88, SLICE("\x03\xed"), 0, "!1002"}, /* 1005 */
        {0x88, SLICE("\x03\xee"), 0, "!1002"},
        {0x88, SLICE("\x03\xe7"), 0, "!1002"},
        {0x88, SLICE("\x0b\xb7"), 0, "!1002"}, /* 2999 */
        {0x88, SLICE("\x0b\xb8"), 0, "C3000<>"},
        {0x88, SLICE("\x13\x88"), 0, "!1002"}, /* 5000 */
    };
    struct buf in;
    buf_init(&in, MAX * 2);
    for (unsigned i = 0; i < sizeof all / sizeof *all; i++) {
        buf_clear(&in);
        put_frame(&in, all[i].first, all[i].payload, all[i].wide, 0x12345678);
        expect(buf_slice(&in), all[i].want);
    }
    expect(SLICE("\x81\x05Hello"), "!1002");                      /* not masked */
    expect(SLICE("\x82\xff\x80\0\0\0\0\0\0\1\1\2\3\4"), "!1002"); /* a length of 2^63 and more */
    expect(SLICE("\x82\xff\0\0\0\0\0\x10\0\0\1\2\3\4"), "!1009");
    buf_fini(&in);
}

/* Fragments count together, however they are cut; the limit is reached before the bytes are there.
 */
static void messages_have_a_maximum(void **state)
{
    (void)state;
    struct buf in, out;
    static const char zeroes[300];
    buf_init(&in, MAX);
    buf_init(&out, MAX);
    put_frame(&in, 0x02, slice_of(zeroes, 60), 0, 1);
    put_frame(&in, 0x80, slice_of(zeroes, 40), 0, 2);
    show(buf_slice(&in), 0, in.len, 100, &out);
    assert_int_equal(out.len, 103);
    show(buf_slice(&in), 0, in.len, 99, &out);
    assert_memory_equal(out.ptr + out.len - 5, "!1009", 5);
    buf_clear(&in);
    put_frame(&in, 0x82, slice_of(zeroes, 300), 0, 1);
    show(slice_of(in.ptr, 8), 0, 8, 299, &out);
    assert_true(slice_eq(buf_slice(&out), SLICE("!1009")));
    buf_fini(&in);
    buf_fini(&out);
}

static uint32_t next(uint32_t *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 16;
}

/* Puts a message in some frames with control frames between them; what it should give to `want`. */
static void put_message(struct buf *in, struct buf *want, uint32_t *seed)
{
    static const char text[] =
        "d\xc3\xa9j\xc3\xa0 vu \xe2\x82\xac \xf0\x9f\x98\x80 \0 \xed\x9f\xbf \xee\x80\x80";
    struct slice rest = slice_of(text, sizeof text - 1);
    bool is_text = next(seed) & 1;
    unsigned opcode = is_text ? 1 : 2;
    buf_put_str(want, is_text ? "T<" : "B<");
    for (;;) {
        size_t n = next(seed) % (rest.len + 1);
        bool final = next(seed) % 3 == 0;
        if (final)
            n = rest.len;
        put_frame(in, (final ? 0x80u : 0) | opcode, slice_of(rest.ptr, n), 0, next(seed) * 77777u);
        buf_put(want, rest.ptr, n);
        rest = slice_from(rest, n);
        opcode = 0;
        if (final)
            break;
    }
    buf_put_u8(want, '>');
    if (next(seed) & 1) {
        put_frame(in, 0x89, SLICE("are you there"), 0, next(seed));
        buf_put_str(want, "P<are you there>");
    }
}

static void cuts_do_not_matter(void **state)
{
    (void)state;
    struct buf in, want, got;
    uint32_t seed = 6455;
    buf_init(&in, MAX);
    buf_init(&want, MAX);
    buf_init(&got, MAX);
    for (unsigned round = 0; round < 60; round++) {
        buf_clear(&in);
        buf_clear(&want);
        for (unsigned i = 0; i < 3; i++)
            put_message(&in, &want, &seed);
        put_frame(&in, 0x88, SLICE("\x03\xe9"), 0, 3);
        buf_put_str(&want, "C1001<>");
        for (size_t cut = 1; cut <= in.len; cut++) {
            show(buf_slice(&in), cut, in.len, MAX, &got);
            assert_true(slice_eq(buf_slice(&got), buf_slice(&want)));
        }
        for (size_t piece = 1; piece < 20; piece++) {
            show(buf_slice(&in), 0, piece, MAX, &got);
            assert_true(slice_eq(buf_slice(&got), buf_slice(&want)));
        }
    }
    buf_fini(&in);
    buf_fini(&want);
    buf_fini(&got);
}

/* A ping between two frames of a message does not disturb its text. */
static void controls_between_frames(void **state)
{
    (void)state;
    struct buf in;
    buf_init(&in, MAX);
    put_frame(&in, 0x01, SLICE("\xe2\x82"), 0, 1);
    put_frame(&in, 0x89, SLICE("x"), 0, 2);
    put_frame(&in, 0x80, SLICE("\xac"), 0, 3);
    struct buf out;
    buf_init(&out, MAX);
    show(buf_slice(&in), 0, in.len, MAX, &out);
    assert_true(slice_eq(buf_slice(&out), SLICE("T<\xe2\x82P<x>\xac>")));
    buf_clear(&in);
    put_frame(&in, 0x01, SLICE("a"), 0, 1);
    put_frame(&in, 0x81, SLICE("b"), 0, 1);
    expect(buf_slice(&in), "T<a!1002");
    buf_fini(&in);
    buf_fini(&out);
}

static void closes(void **state)
{
    (void)state;
    struct buf out;
    char why[300];
    buf_init(&out, MAX);
    websocket_put_close(&out, 0, "nobody reads this");
    assert_true(slice_eq(buf_slice(&out), SLICE("\x88\0")));
    buf_clear(&out);
    websocket_put_close(&out, WEBSOCKET_PROTOCOL, "no");
    assert_true(slice_eq(buf_slice(&out), SLICE("\x88\x04\x03\xeano")));
    memset(why, 'a', sizeof why);
    memcpy(why + 122, "\xc3\xa9", 2); /* would be cut in its middle */
    why[299] = 0;
    buf_clear(&out);
    websocket_put_close(&out, WEBSOCKET_POLICY, why);
    assert_int_equal(out.len, 2 + 2 + 122);
    buf_fini(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(handshakes),
        cmocka_unit_test(answers_the_key),
        cmocka_unit_test(finds_the_subprotocol),
        cmocka_unit_test(examples_of_the_rfc),
        cmocka_unit_test(refusals),
        cmocka_unit_test(messages_have_a_maximum),
        cmocka_unit_test(cuts_do_not_matter),
        cmocka_unit_test(controls_between_frames),
        cmocka_unit_test(closes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
