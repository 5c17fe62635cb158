/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The Kafka sink against librdkafka's mock cluster: what each error of a broker means for a batch,
 * and that every call ends in time. That cluster does not know which transactions were aborted, nor
 * what a compacted topic is: these are tested with a real broker, test/test_sink_kafka.py.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>

#include "base/check.h"
#include "base/clock.h"
#include "flow/publish.h"
#include "sink/kafka_own.h"

/* Protocol guide, "Api Keys". */
enum { PRODUCE = 0, INIT_PRODUCER_ID = 22, ADD_PARTITIONS = 24, END_TXN = 26 };

#define TIMEOUT_NS (2000 * NS_PER_MS)
/* The brokers that lead our topics. */
enum { OF_CURSORS = 1, OF_MESSAGES = 2 };

#define BIG 20000 /* bytes that are too many for one message here */

static rd_kafka_mock_cluster_t *cluster;
static rd_kafka_t *owner; /* of the cluster */

static void no_log(const rd_kafka_t *rk, int level, const char *what, const char *text)
{
}

static int start_cluster(void **state)
{
    char why[256];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    rd_kafka_conf_set_log_cb(conf, no_log);
    owner = rd_kafka_new(RD_KAFKA_PRODUCER, conf, why, sizeof why);
    cluster = rd_kafka_mock_cluster_new(owner, 2);
    if (!cluster)
        return -1;
    rd_kafka_mock_topic_create(cluster, "telemetry", 1, 1);
    rd_kafka_mock_partition_set_leader(cluster, "telemetry", 0, OF_MESSAGES);
    return 0;
}

static int stop_cluster(void **state)
{
    rd_kafka_mock_cluster_destroy(cluster);
    rd_kafka_destroy(owner);
    return 0;
}

/* ---- the bench ------------------------------------------------------------------------------- */

static struct kafka_opts settings(void)
{
    return (struct kafka_opts){.name = "kafka",
                               .brokers = rd_kafka_mock_cluster_bootstraps(cluster),
                               .topic = "telemetry",
                               .cursor_topic = "cursors",
                               .compression = "lz4",
                               .security = "plaintext",
                               .mechanism = "PLAIN",
                               .username = "",
                               .password_file = "",
                               .ca_file = "",
                               .certificate = "",
                               .key_file = "",
                               .message_max = 10000,
                               .timeout_ns = TIMEOUT_NS,
                               .log_id = {1, 2, 3}};
}

/* Each test has a journal of its own, so a cursor of its own. */
static struct kafka *make(void)
{
    static uint8_t tests;
    struct error err = {""};
    struct kafka_opts o = settings();
    void *k;
    o.log_id[15] = ++tests;
    if (kafka_new(&o, &k, &err) < 0)
        fail_msg("%s", err.text);
    struct kafka *made = k;
    rd_kafka_mock_topic_create(cluster, made->cursor_name, 1, 1);
    rd_kafka_mock_partition_set_leader(cluster, made->cursor_name, 0, OF_CURSORS);
    return made;
}

/* The cluster cannot say what settings a topic has. */
static enum sink_outcome open_it(struct kafka *k, uint64_t *position, struct error *err)
{
    k->topic_checked = true;
    return kafka_ops.open(k, position, err);
}

static uint64_t opened(struct kafka *k, uint64_t position)
{
    struct error err = {""};
    if (open_it(k, &position, &err) != SINK_DONE)
        fail_msg("%s", err.text);
    return position;
}

static struct sink_message datum(struct buf *storage, uint64_t offset, struct slice value)
{
    struct sink_message m = {.offset = offset,
                             .record = {.kind = RECORD_DATUM,
                                        .account = 7,
                                        .feed = 9,
                                        .event_us = 1000000 + (int64_t)offset * 1000,
                                        .receive_us = 2000000},
                             .names = {SLICE("ann"), SLICE("trucks.17"), SLICE("t-1")}};
    struct datum d = {.value = value, .has_place = true, .lat = 47.5, .lon = -8};
    buf_clear(storage);
    datum_encode(storage, &d);
    m.record.payload = buf_slice(storage);
    return m;
}

/* Sends one message that stands for [from, from + 1). */
static enum sink_outcome send_one(struct kafka *k, uint64_t from, struct slice value, bool again,
                                  struct error *err)
{
    struct buf storage;
    buf_init(&storage, 1 << 20);
    struct sink_message m = datum(&storage, from, value);
    struct sink_batch b = {from, from + 1, &m, 1, again};
    uint64_t begun = clock_mono_ns();
    enum sink_outcome found = kafka_ops.send(k, &b, err);
    assert_true(clock_mono_ns() - begun < 4 * TIMEOUT_NS);
    buf_fini(&storage);
    return found;
}

static void expect(struct kafka *k, uint64_t from, enum sink_outcome wanted, const char *why)
{
    struct error err = {""};
    enum sink_outcome found = send_one(k, from, SLICE("21.50"), false, &err);
    if (found != wanted || !strstr(err.text, why))
        fail_msg("outcome %d, wanted %d: \"%s\", wanted \"%s\"", found, wanted, err.text, why);
    if (found == SINK_AWAY || found == SINK_MOVED)
        kafka_ops.close(k);
}

/* The next request of that kind fails: of those with messages, the one to that broker. */
static void push(int16_t request, int broker, rd_kafka_resp_err_t code)
{
    if (request == PRODUCE)
        rd_kafka_mock_broker_push_request_error_rtts(cluster, broker, PRODUCE, 1, code, 0);
    else
        rd_kafka_mock_push_request_errors(cluster, request, 1, code);
}

/* ---- what is sent ---------------------------------------------------------------------------- */

/* What is last in one of a topic's partitions, as text: key, value, headers. */
static void read_last(struct kafka *k, const char *topic, int partitions, struct buf *ret)
{
    struct error err;
    rd_kafka_t *c = kafka_client_consumer(k, &err);
    assert_non_null(c);
    rd_kafka_topic_t *t = rd_kafka_topic_new(c, topic, NULL);
    for (int p = 0; p < partitions; p++) {
        int64_t low, high;
        rd_kafka_headers_t *h;
        assert_int_equal(rd_kafka_query_watermark_offsets(c, topic, p, &low, &high, 5000), 0);
        if (low == high)
            continue;
        assert_int_equal(rd_kafka_consume_start(t, p, high - 1), 0);
        rd_kafka_message_t *m = rd_kafka_consume(t, p, 5000);
        assert_true(m && !m->err);
        buf_printf(ret, "%.*s=%.*s", (int)m->key_len, (const char *)m->key,
                   m->payload ? (int)m->len : 6, m->payload ? (const char *)m->payload : "(none)");
        const char *name;
        const void *value;
        size_t size;
        if (rd_kafka_message_headers(m, &h) == 0)
            for (size_t i = 0; rd_kafka_header_get_all(h, i, &name, &value, &size) == 0; i++)
                buf_printf(ret, " %s:%.*s", name, (int)size, (const char *)value);
        rd_kafka_consume_stop(t, p);
        rd_kafka_message_destroy(m);
    }
    rd_kafka_topic_destroy(t);
    rd_kafka_destroy(c);
    buf_put_u8(ret, 0);
}

static void test_settings(void **state)
{
    static const struct {
        const char *topic, *security, *username, *why;
    } wrong[] = {{"a b", "plaintext", "", "kafka.topic: ' '"},
                 {"{nobody}", "plaintext", "", "kafka.topic: '{'"},
                 {"", "plaintext", "", "1 to 249"},
                 {"..", "plaintext", "", "'..'"},
                 {"t", "sasl_ssl", "", "kafka.username"},
                 {"t", "ssl", "me", "kafka.username"},
                 {"t", "whatever", "", "security.protocol"}};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct kafka_opts o = settings();
        struct error err = {""};
        void *k;
        o.topic = wrong[i].topic;
        o.security = wrong[i].security;
        o.username = wrong[i].username;
        assert_int_equal(kafka_new(&o, &k, &err), -EINVAL);
        if (!strstr(err.text, wrong[i].why))
            fail_msg("%s", err.text);
    }
}

/* A record of that kind as the sink has it in Kafka, in a topic of its own. */
static void expect_text(struct kafka *k, const char *topic, struct sink_message *m,
                        const char *wanted)
{
    struct error err = {""};
    struct buf text;
    static uint64_t at = 100;
    struct sink_batch b = {k->next, ++at, m, 1, false};
    rd_kafka_mock_topic_create(cluster, topic, 1, 1);
    if (kafka_ops.send(k, &b, &err) != SINK_DONE)
        fail_msg("%s", err.text);
    buf_init(&text, 4096);
    read_last(k, topic, 1, &text);
    assert_string_equal(text.ptr, wanted);
    buf_fini(&text);
}

static void test_messages(void **state)
{
    struct kafka *k = make();
    struct buf storage, other;
    buf_init(&storage, 1 << 16);
    buf_init(&other, 1 << 16);
    k->opts.topic = "{account}-{feed}-{device}";
    opened(k, 0);
    struct sink_message m = datum(&storage, 17, SLICE("21.50"));
    snprintf(k->log_id, sizeof k->log_id, "L");
    expect_text(k, "ann-trucks.17-t-1", &m,
                "ann/trucks.17=21.50 device:t-1 ts:1017 position:17 lat:47.5 lon:-8");
    k->opts.headers = KAFKA_HEADERS_FULL;
    expect_text(
        k, "ann-trucks.17-t-1", &m,
        "ann/trucks.17=21.50 kind:datum account:ann feed:trucks.17 device:t-1 ts:1017 log:L "
        "position:17 feed_no:9 lat:47.5 lon:-8");
    k->opts.headers = KAFKA_HEADERS_NONE;
    expect_text(k, "ann-trucks.17-t-1", &m, "ann/trucks.17=21.50 ts:1017 lat:47.5 lon:-8");
    k->opts.headers = KAFKA_HEADERS_FULL;
    /* A change. */
    datum_target_encode(&other, (struct datum_target){.event_ms = 1017, .offset = 17});
    buf_put_slice(&other, m.record.payload);
    m.record.kind = RECORD_CHANGED;
    m.record.payload = buf_slice(&other);
    m.names.device = (struct slice){0};
    expect_text(
        k, "ann-trucks.17-_", &m,
        "ann/trucks.17=21.50 kind:changed account:ann feed:trucks.17 ts:1017 log:L position:17 "
        "feed_no:9 target:17 lat:47.5 lon:-8");
    /* The deletion of a datum, and of the feed, which has no name any more. */
    m.record.kind = RECORD_DELETED;
    m.record.payload.len = DATUM_TARGET_BYTES;
    m.names.device = SLICE("t 2");
    expect_text(k, "ann-trucks.17-t_2", &m,
                "ann/trucks.17= kind:deleted account:ann feed:trucks.17 device:t 2 ts:1017 log:L "
                "position:17 feed_no:9 target:17");
    m.record.payload.len = 0;
    m.names.feed = (struct slice){0};
    expect_text(
        k, "ann-_-t_2", &m,
        "ann/#9=(none) kind:deleted account:ann device:t 2 ts:1017 log:L position:17 feed_no:9");
    /* A message to a topic; the key is the device now. */
    k->opts.key = KAFKA_KEY_DEVICE;
    buf_clear(&storage);
    publish_encode(&storage, &(struct publish){.message = SLICE("")});
    m.record.kind = RECORD_PUBLISH;
    m.record.feed = 0;
    m.record.topic = SLICE("raw/x");
    m.record.payload = buf_slice(&storage);
    expect_text(
        k, "ann-raw.x-t_2", &m,
        "ann/t 2= kind:message account:ann device:t 2 topic:raw/x ts:1017 log:L position:17");
    k->opts.headers = KAFKA_HEADERS_BRIEF;
    expect_text(k, "ann-raw.x-t_2", &m, "ann/t 2= kind:message topic:raw/x ts:1017 position:17");
    m.record.event_us = m.record.receive_us + 1;
    expect_text(k, "ann-raw.x-t_2", &m, "ann/t 2= kind:message topic:raw/x position:17");
    m.record.event_us = 1017000;
    k->opts.headers = KAFKA_HEADERS_FULL;
    m.names = (struct sink_names){0};
    expect_text(k, "_-raw.x-_", &m, "#7= kind:message topic:raw/x ts:1017 log:L position:17");
    buf_fini(&storage);
    buf_fini(&other);
    kafka_ops.free(k);
}

static void test_a_topic_that_cannot_be(void **state)
{
    struct kafka *k = make();
    char name[300];
    struct error err = {""};
    struct buf storage;
    buf_init(&storage, 1 << 16);
    memset(name, 'x', sizeof name);
    k->opts.topic = "{feed}";
    opened(k, 0);
    struct sink_message m = datum(&storage, 0, SLICE("1"));
    struct sink_batch b = {0, 1, &m, 1, false};
    m.names.feed = slice_of(name, KAFKA_TOPIC_MAX + 1);
    assert_int_equal(kafka_ops.send(k, &b, &err), SINK_POISON);
    assert_non_null(strstr(err.text, "no topic"));
    m.names.feed = SLICE("..");
    assert_int_equal(kafka_ops.send(k, &b, &err), SINK_POISON);
    m.names.feed = slice_of(name, KAFKA_TOPIC_MAX);
    assert_int_equal(kafka_ops.send(k, &b, &err), SINK_DONE);
    buf_fini(&storage);
    kafka_ops.free(k);
}

/* ---- the cursor ------------------------------------------------------------------------------ */

static void test_cursor_moves_with_the_batch(void **state)
{
    struct kafka *k = make();
    struct error err = {""};
    assert_int_equal(opened(k, 5), 5); /* it has none: the runner's */
    expect(k, 5, SINK_DONE, "");
    assert_int_equal(send_one(k, 1, SLICE("1"), true, &err), SINK_DONE); /* a replay moves it not */
    expect(k, 6, SINK_DONE, "");
    expect(k, 6, SINK_MOVED, "its cursor is at 7");
    assert_int_equal(opened(k, 0), 7);
    struct sink_batch empty = {7, 5000, NULL, 0, false};
    assert_int_equal(kafka_ops.send(k, &empty, &err), SINK_DONE);
    kafka_ops.close(k);
    assert_int_equal(opened(k, 7), 5000);
    /* Further back than what is looked at first. */
    k->next = 0;
    for (unsigned i = 0; i < 3; i++)
        expect(k, i, SINK_DONE, "");
    assert_int_equal(opened(k, 0), 3);
    kafka_ops.free(k);
}

/* ---- what an error means --------------------------------------------------------------------- */

static void test_poison(void **state)
{
    struct kafka *k = make();
    char big[BIG];
    struct error err = {""};
    memset(big, 'x', sizeof big);
    opened(k, 0);
    assert_int_equal(send_one(k, 0, slice_of(big, sizeof big), false, &err), SINK_POISON);
    assert_non_null(strstr(err.text, "too large"));
    expect(k, 0, SINK_DONE, ""); /* it was aborted in good order: no other connection is needed */
    static const rd_kafka_resp_err_t codes[] = {RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE,
                                                RD_KAFKA_RESP_ERR_INVALID_RECORD,
                                                RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP};
    for (unsigned i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        push(PRODUCE, OF_MESSAGES, codes[i]);
        /* Of a replay, which writes no cursor: here it would be there in spite of the abort. */
        assert_int_equal(send_one(k, 0, SLICE("1"), true, &err), SINK_POISON);
        assert_non_null(strstr(err.text, "topic telemetry"));
        expect(k, 1 + i, SINK_DONE, "");
        /* It is no message's fault that the cursor is refused. */
        push(PRODUCE, OF_CURSORS, codes[i]);
        expect(k, 2 + i, SINK_AWAY, "topic cursors.");
        assert_int_equal(opened(k, 0), 2 + i);
    }
    kafka_ops.free(k);
}

/* What a broker says for which a message can do nothing: the batch waits, and then it is there. */
static void test_refusals_that_are_no_poison(void **state)
{
    static const struct {
        int16_t request;
        rd_kafka_resp_err_t code;
        enum sink_outcome wanted;
        const char *why;
    } cases[] = {
        {PRODUCE, RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED, SINK_AWAY, "authorization"},
        {PRODUCE, RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER, SINK_AWAY, ""},
        {PRODUCE, RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH, SINK_AWAY, ""},
        {PRODUCE, RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS, SINK_DONE, ""}, /* tried again */
        {PRODUCE, RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION, SINK_DONE, ""},
        {ADD_PARTITIONS, RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED, SINK_AWAY, ""},
        {ADD_PARTITIONS, RD_KAFKA_RESP_ERR_CONCURRENT_TRANSACTIONS, SINK_DONE, ""},
        {ADD_PARTITIONS, RD_KAFKA_RESP_ERR_PRODUCER_FENCED, SINK_AWAY, ""},
        {END_TXN, RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE, SINK_DONE, ""},
        {END_TXN, RD_KAFKA_RESP_ERR_INVALID_TXN_STATE, SINK_AWAY, ""},
        {END_TXN, RD_KAFKA_RESP_ERR_PRODUCER_FENCED, SINK_AWAY, "our transactional id"},
    };
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct kafka *k = make();
        opened(k, 0);
        push(cases[i].request, OF_MESSAGES, cases[i].code);
        expect(k, 0, cases[i].wanted, cases[i].why);
        uint64_t at = opened(k, 0);
        assert_true(at <= 1 && (at == 1 || cases[i].wanted == SINK_AWAY));
        expect(k, at, SINK_DONE, "");
        kafka_ops.free(k);
    }
}

static void test_no_coordinator(void **state)
{
    struct kafka *k = make();
    struct error err = {""};
    uint64_t position = 0;
    push(INIT_PRODUCER_ID, 0, RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED);
    assert_int_equal(open_it(k, &position, &err), SINK_AWAY);
    assert_non_null(strstr(err.text, "authorization"));
    kafka_ops.close(k);
    push(INIT_PRODUCER_ID, 0, RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS);
    opened(k, 0);
    kafka_ops.free(k);
}

/* ---- brokers that are away, or hang ---------------------------------------------------------- */

static void set_brokers(bool up)
{
    for (int i = OF_CURSORS; i <= OF_MESSAGES; i++)
        (up ? rd_kafka_mock_broker_set_up : rd_kafka_mock_broker_set_down)(cluster, i);
}

static void set_delay(int ms)
{
    for (int i = OF_CURSORS; i <= OF_MESSAGES; i++)
        rd_kafka_mock_broker_set_rtt(cluster, i, ms);
}

static void test_away_and_back(void **state)
{
    struct kafka *k = make();
    struct error err = {""};
    uint64_t position = 0, begun;
    opened(k, 0);
    expect(k, 0, SINK_DONE, "");
    set_brokers(false);
    begun = clock_mono_ns();
    assert_int_equal(send_one(k, 1, SLICE("1"), false, &err), SINK_AWAY);
    kafka_ops.close(k);
    assert_int_equal(open_it(k, &position, &err), SINK_AWAY);
    assert_non_null(strstr(err.text, "Connect"));
    assert_true(clock_mono_ns() - begun < 4 * TIMEOUT_NS);
    kafka_ops.close(k);
    set_brokers(true);
    assert_int_equal(opened(k, 0), 1);
    expect(k, 1, SINK_DONE, "");
    kafka_ops.free(k);
}

static void *cancel_soon(void *arg)
{
    clock_sleep_ns(300 * NS_PER_MS);
    kafka_ops.cancel(arg);
    return NULL;
}

static void test_time_runs_out_and_a_cancel_ends_it(void **state)
{
    struct kafka *k = make();
    struct error err = {""};
    pthread_t thread;
    opened(k, 0);
    set_delay(60000);
    uint64_t begun = clock_mono_ns();
    assert_int_equal(send_one(k, 0, SLICE("1"), false, &err), SINK_AWAY);
    assert_true(clock_mono_ns() - begun >= TIMEOUT_NS);
    kafka_ops.close(k);
    set_delay(0);
    opened(k, 0);
    set_delay(60000);
    assert_int_equal(pthread_create(&thread, NULL, cancel_soon, k), 0);
    begun = clock_mono_ns();
    assert_int_equal(send_one(k, 0, SLICE("1"), false, &err), SINK_AWAY);
    assert_non_null(strstr(err.text, "stops"));
    assert_true(clock_mono_ns() - begun < TIMEOUT_NS);
    pthread_join(thread, NULL);
    kafka_ops.close(k);
    set_delay(0);
    kafka_ops.free(k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_settings),
        cmocka_unit_test(test_messages),
        cmocka_unit_test(test_a_topic_that_cannot_be),
        cmocka_unit_test(test_cursor_moves_with_the_batch),
        cmocka_unit_test(test_poison),
        cmocka_unit_test(test_refusals_that_are_no_poison),
        cmocka_unit_test(test_no_coordinator),
        cmocka_unit_test(test_away_and_back),
        cmocka_unit_test(test_time_runs_out_and_a_cancel_ends_it),
    };
    return cmocka_run_group_tests(tests, start_cluster, stop_cluster);
}
