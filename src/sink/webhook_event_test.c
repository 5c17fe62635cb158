/* SPDX-License-Identifier: Apache-2.0 */
#include "sink/webhook_event.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#include <jansson.h>

#include "flow/publish.h"

static const struct webhook_source source = {.log_id = {0xab, 0x01, [15] = 0xff}, .node = 7};
static struct buf out, payload;

static struct sink_message message(enum record_kind kind)
{
    struct sink_message m = {.offset = 1234567890123,
                             .record = {.kind = kind,
                                        .account = 3,
                                        .feed = 4,
                                        .event_us = 1600000000000001,
                                        .receive_us = 1700000000250000},
                             .names = {SLICE("ann"), SLICE("air.temp"), SLICE("truck \"17\"")}};
    return m;
}

/* Checks the whole event; `id` in `expected` stands for the datum's. */
static void makes(const struct sink_message *m, const char *expected)
{
    buf_clear(&out);
    buf_put_u8(&out, '{');
    if (!webhook_event_put(&out, &source, m))
        fail_msg("not made: %s", expected);
    buf_put_u8(&out, '}');
    json_error_t err;
    json_t *made = json_loadb(out.ptr, out.len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &err);
    json_t *wanted = json_loads(expected, JSON_ALLOW_NUL, &err);
    if (!made)
        fail_msg("%s: %.*s", err.text, (int)out.len, out.ptr);
    assert_non_null(wanted);
    if (!json_equal(made, wanted))
        fail_msg("%.*s\n%s", (int)out.len, out.ptr, expected);
    json_decref(made);
    json_decref(wanted);
}

static void encode(struct sink_message *m, const struct datum *d)
{
    buf_clear(&payload);
    if (m->record.kind != RECORD_DATUM)
        datum_target_encode(&payload, (struct datum_target){1600000000000, 99});
    if (d)
        datum_encode(&payload, d);
    m->record.payload = buf_slice(&payload);
}

/* The text with the datum's id where it says ID. */
static const char *with_id(const char *text, int64_t event_us, uint64_t offset)
{
    static char whole[1000];
    char id[DATUM_ID_LEN + 1];
    const char *at = strstr(text, "ID");
    assert_non_null(at);
    datum_id_format(id, event_us, 7, offset);
    snprintf(whole, sizeof whole, "%.*s%s%s", (int)(at - text), text, id, at + 2);
    return whole;
}

static void ids_have_no_full_stop_and_fit(void **state)
{
    char id[WEBHOOK_ID_BYTES];
    webhook_event_id(id, &source, UINT64_MAX);
    assert_string_equal(id, "msg_ab0100000000000000000000000000ff_18446744073709551615");
}

#define HEAD(type)                                                                                 \
    "{\"type\":\"" type "\",\"timestamp\":\"2023-11-14T22:13:20.250000Z\",\"data\":{"              \
    "\"account\":\"ann\",\"device\":\"truck \\\"17\\\"\","
#define FEED "\"feed\":\"air.temp\",\"feed_id\":4,"

static void data_become_events(void **state)
{
    struct sink_message m = message(RECORD_DATUM);
    encode(&m, &(struct datum){.value = SLICE("21.50"),
                               .has_place = true,
                               .has_ele = true,
                               .lat = 47.5,
                               .lon = -8.25,
                               .ele = 400});
    makes(&m, with_id(HEAD("datum.created") FEED
                      "\"id\":\"ID\",\"created_at\":\"2020-09-13T12:26:40.000001Z\",\"value\":"
                      "\"21.50\",\"number\":21.50,\"lat\":47.5,\"lon\":-8.25,\"ele\":400}}",
                      m.record.event_us, m.offset));
    assert_non_null(memmem(out.ptr, out.len, "\"number\":21.50", 14)); /* as it was sent */
    encode(&m, &(struct datum){.value = SLICE("\xc3\xa9 \"x\"\n"), .has_place = true, .lat = 1});
    makes(&m, with_id(HEAD("datum.created") FEED
                      "\"id\":\"ID\",\"created_at\":\"2020-09-13T12:26:40.000001Z\",\"value\":"
                      "\"\xc3\xa9 \\\"x\\\"\\n\",\"lat\":1,\"lon\":0}}",
                      m.record.event_us, m.offset));
    m.names.device = m.names.feed = (struct slice){0};
    encode(&m, &(struct datum){.value = SLICE("")});
    makes(&m,
          with_id("{\"type\":\"datum.created\",\"timestamp\":\"2023-11-14T22:13:20.250000Z\","
                  "\"data\":{\"account\":\"ann\",\"feed\":null,\"feed_id\":4,\"device\":null,"
                  "\"id\":\"ID\",\"created_at\":\"2020-09-13T12:26:40.000001Z\",\"value\":\"\"}}",
                  m.record.event_us, m.offset));
}

static void corrections_name_the_datum(void **state)
{
    struct sink_message m = message(RECORD_CHANGED);
    encode(&m, &(struct datum){.value = SLICE("22")});
    makes(&m, with_id(HEAD("datum.changed") FEED "\"id\":\"ID\",\"value\":\"22\",\"number\":22}}",
                      1600000000000000, 99));
    m.record.kind = RECORD_DELETED;
    encode(&m, NULL);
    makes(&m, with_id(HEAD("datum.deleted") FEED "\"id\":\"ID\"}}", 1600000000000000, 99));
    m.record.payload = (struct slice){0};
    m.names.device = (struct slice){0};
    makes(&m, "{\"type\":\"feed.deleted\",\"timestamp\":\"2023-11-14T22:13:20.250000Z\",\"data\":{"
              "\"account\":\"ann\"," FEED "\"device\":null}}");
}

/* JSON has no bytes: what is no text goes as base64. */
static void messages_to_topics_are_bytes(void **state)
{
    static const struct {
        struct slice message;
        const char *member;
    } cases[] = {{SLICE("8"), "\"value\":\"8\",\"number\":8"},
                 {SLICE("a\0b"), "\"value_base64\":\"YQBi\""},
                 {SLICE("\xff\xfe\xfd\xfc"), "\"value_base64\":\"//79/A==\""},
                 {SLICE(""), "\"value\":\"\""},
                 {SLICE("1e999"), "\"value\":\"1e999\""}};
    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
        char expected[400];
        struct sink_message m = message(RECORD_PUBLISH);
        m.record.topic = SLICE("raw/x");
        buf_clear(&payload);
        publish_encode(&payload, &(struct publish){.qos = 1, .message = cases[i].message});
        m.record.payload = buf_slice(&payload);
        snprintf(expected, sizeof expected, HEAD("message.published") "\"topic\":\"raw/x\",%s}}",
                 cases[i].member);
        makes(&m, expected);
    }
}

static void damage_is_found(void **state)
{
    struct sink_message m = message(RECORD_DATUM);
    m.record.payload = SLICE("\xff");
    buf_clear(&out);
    assert_false(webhook_event_put(&out, &source, &m));
    m.record.kind = RECORD_CHANGED;
    assert_false(webhook_event_put(&out, &source, &m));
    m.record.kind = RECORD_DELETED;
    assert_false(webhook_event_put(&out, &source, &m));
    m.record.kind = RECORD_AUDIT;
    assert_false(webhook_event_put(&out, &source, &m));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids_have_no_full_stop_and_fit),
        cmocka_unit_test(data_become_events),
        cmocka_unit_test(corrections_name_the_datum),
        cmocka_unit_test(messages_to_topics_are_bytes),
        cmocka_unit_test(damage_is_found),
    };
    buf_init(&out, 1 << 20);
    buf_init(&payload, 1 << 20);
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    buf_fini(&out);
    buf_fini(&payload);
    return rc;
}
