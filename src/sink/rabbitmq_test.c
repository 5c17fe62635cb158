/* SPDX-License-Identifier: Apache-2.0 */
/* What the broker may answer, frame by frame; routing keys, ids and headers. */
#include "sink/rabbitmq.c"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "flow/publish.h"

#define COUNT 8

struct bench {
    struct rabbitmq *p;
    struct sink_message messages[COUNT];
    struct sink_batch batch;
};

static struct rabbitmq *make(const char *key)
{
    void *of = NULL;
    struct error err = {""};
    const struct rabbitmq_opts opts = {.url = "amqp://me@localhost/x",
                                       .password_file = "",
                                       .ca_file = "",
                                       .exchange = "sluice",
                                       .queue = "",
                                       .routing_key = key,
                                       .batch_max = COUNT,
                                       .timeout_ns = NS_PER_S,
                                       .heartbeat_s = 1,
                                       .log_id = {0xab, 0xcd}};
    assert_int_equal(rabbitmq_new(&opts, &of, &err), 0);
    return of;
}

/* As if all messages were published on a channel that had seen 100 before. */
static struct bench *bench_new(void)
{
    struct bench *b = calloc(1, sizeof *b);
    assert_non_null(b);
    b->p = make("{account}.{feed}");
    for (unsigned i = 0; i < COUNT; i++) {
        b->messages[i].offset = 10 * i;
        b->p->places[i] = i;
    }
    b->batch = (struct sink_batch){.messages = b->messages, .count = COUNT};
    b->p->batch = &b->batch;
    b->p->first_tag = 101;
    b->p->published = COUNT;
    return b;
}

static void bench_free(struct bench *b)
{
    rabbitmq_ops.free(b->p);
    free(b);
}

static enum sink_outcome method(struct bench *b, amqp_method_number_t id, void *decoded,
                                struct error *err)
{
    const amqp_method_t m = {id, decoded};
    return take_method(b->p, &m, err);
}

static enum sink_outcome ack(struct bench *b, uint64_t tag, bool multiple)
{
    struct error err;
    amqp_basic_ack_t m = {.delivery_tag = tag, .multiple = multiple};
    return method(b, AMQP_BASIC_ACK_METHOD, &m, &err);
}

static unsigned taken(const struct bench *b)
{
    unsigned bits = 0;
    for (unsigned i = 0; i < COUNT; i++)
        bits |= (b->messages[i].verdict == SINK_TAKEN) << i;
    return bits;
}

static void acks_come_in_any_order(void **state)
{
    struct bench *b = bench_new();
    assert_int_equal(ack(b, 103, false), SINK_DONE);
    assert_int_equal(taken(b), 0x04);
    assert_int_equal(ack(b, 102, true), SINK_DONE);
    assert_int_equal(taken(b), 0x07);
    assert_int_equal(b->p->low, 3);
    assert_int_equal(ack(b, 103, false), SINK_DONE); /* again */
    assert_int_equal(b->p->settled, 3);
    assert_int_equal(ack(b, 0, true), SINK_DONE); /* all */
    assert_int_equal(taken(b), 0xff);
    assert_int_equal(b->p->settled, COUNT);
    bench_free(b);
}

static void what_was_not_sent_is_not_confirmed(void **state)
{
    struct bench *b = bench_new();
    assert_int_equal(ack(b, 100, false), SINK_AWAY);
    assert_int_equal(ack(b, 109, false), SINK_AWAY);
    assert_int_equal(ack(b, UINT64_MAX, true), SINK_AWAY);
    assert_int_equal(ack(b, 0, false), SINK_AWAY);
    b->p->batch = NULL;
    assert_int_equal(ack(b, 101, false), SINK_AWAY);
    assert_int_equal(taken(b), 0);
    bench_free(b);
}

static void nacks_are_counted(void **state)
{
    struct bench *b = bench_new();
    struct error err;
    amqp_basic_nack_t m = {.delivery_tag = 102, .multiple = 1};
    assert_int_equal(method(b, AMQP_BASIC_NACK_METHOD, &m, &err), SINK_DONE);
    assert_int_equal(ack(b, 0, true), SINK_DONE);
    assert_int_equal(b->p->nacked, 2);
    assert_int_equal(taken(b), 0xfc);
    bench_free(b);
}

static void content(struct bench *b, const char *id, uint64_t bytes)
{
    amqp_basic_properties_t properties = {._flags = id ? AMQP_BASIC_MESSAGE_ID_FLAG : 0,
                                          .message_id = amqp_cstring_bytes(id ? id : "")};
    amqp_basic_return_t m = {.reply_code = 312};
    struct error err;
    assert_int_equal(method(b, AMQP_BASIC_RETURN_METHOD, &m, &err), SINK_DONE);
    amqp_frame_t f = {.frame_type = AMQP_FRAME_HEADER};
    f.payload.properties.class_id = AMQP_BASIC_CLASS;
    f.payload.properties.body_size = bytes;
    f.payload.properties.decoded = &properties;
    take_content(b->p, &f);
    for (uint64_t left = bytes; left;) {
        uint64_t n = left < 100 ? left : 100;
        assert_true(b->p->returning);
        f = (amqp_frame_t){.frame_type = AMQP_FRAME_BODY};
        f.payload.body_fragment = (amqp_bytes_t){n, NULL};
        take_content(b->p, &f);
        left -= n;
    }
    assert_false(b->p->returning);
}

#define LOG "abcd0000000000000000000000000000"

static void returned_messages_are_known_by_their_id(void **state)
{
    struct bench *b = bench_new();
    content(b, LOG ":30", 250);
    content(b, LOG ":0", 0);
    content(b, LOG ":35", 1); /* of none */
    content(b, "someone else's", 1);
    content(b, LOG, 1);
    content(b, LOG ":123456789012345678901234567890", 1);
    content(b, NULL, 1);
    assert_int_equal(ack(b, 0, true), SINK_DONE);
    assert_int_equal(taken(b), 0xff & ~0x09);
    assert_int_equal(b->messages[3].verdict, SINK_REFUSED);
    assert_non_null(strstr(b->messages[3].why, "no queue"));
    bench_free(b);
}

static void only_a_message_that_is_refused_is_poison(void **state)
{
    static const struct {
        uint16_t code, class, method;
        enum sink_outcome expected;
    } cases[] = {{406, 60, 40, SINK_POISON},
                 {404, 60, 40, SINK_AWAY},
                 {403, 60, 40, SINK_AWAY},
                 {406, 50, 10, SINK_AWAY},
                 {541, 60, 40, SINK_AWAY}};
    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct bench *b = bench_new();
        struct error err;
        amqp_channel_close_t m = {.reply_code = cases[i].code,
                                  .reply_text = amqp_cstring_bytes("why"),
                                  .class_id = cases[i].class,
                                  .method_id = cases[i].method};
        b->p->link.channel = true;
        assert_int_equal(method(b, AMQP_CHANNEL_CLOSE_METHOD, &m, &err), cases[i].expected);
        assert_false(b->p->link.channel);
        assert_non_null(strstr(err.text, "why"));
        bench_free(b);
    }
}

/* ---- messages -------------------------------------------------------------------------------- */

static void routing_keys(void **state)
{
    static const struct {
        const char *template, *expected;
        bool topic;
    } cases[] = {
        {"{account}.{feed}", "ann.room.air", false},
        {"{feed}", "a.b..c", true},
        {"x/{device}-{account}", "x/dev-ann", true},
        {"", "", false},
        {"queue", "queue", false},
    };
    char payload[64];
    struct buf out;
    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct rabbitmq *p = make(cases[i].template);
        struct rabbitmq_message m;
        struct publish publish = {.message = SLICE("hi")};
        struct datum datum = {.value = SLICE("hi")};
        buf_init(&out, sizeof payload);
        if (cases[i].topic)
            publish_encode(&out, &publish);
        else
            datum_encode(&out, &datum);
        const struct sink_message in = {
            .offset = 7,
            .record = {.kind = cases[i].topic ? RECORD_PUBLISH : RECORD_DATUM,
                       .topic = SLICE("a/b//c"),
                       .payload = buf_slice(&out)},
            .names = {SLICE("ann"), SLICE("room.air"), SLICE("dev")}};
        assert_null(rabbitmq_message(p, &in, &m));
        assert_int_equal(m.key_len, strlen(cases[i].expected));
        assert_memory_equal(m.key, cases[i].expected, m.key_len);
        assert_int_equal(m.body.len, 2);
        assert_int_equal(m.properties.message_id.len, strlen(LOG ":7"));
        assert_memory_equal(m.id, LOG ":7", strlen(LOG ":7"));
        buf_fini(&out);
        rabbitmq_ops.free(p);
    }
}

static void keys_that_are_too_long_are_refused(void **state)
{
    char topic[512];
    struct buf out;
    struct rabbitmq_message m;
    struct rabbitmq *p = make("{account}.{feed}");
    struct publish publish = {.message = SLICE("hi")};
    memset(topic, 'x', sizeof topic);
    buf_init(&out, 64);
    publish_encode(&out, &publish);
    struct sink_message in = {.record = {.kind = RECORD_PUBLISH,
                                         .topic = slice_of(topic, 251),
                                         .payload = buf_slice(&out)},
                              .names = {SLICE("ann"), SLICE(""), SLICE("")}};
    assert_null(rabbitmq_message(p, &in, &m));
    assert_int_equal(m.key_len, 255);
    in.record.topic = slice_of(topic, 252);
    assert_non_null(strstr(rabbitmq_message(p, &in, &m), "255"));
    in.record.topic = slice_of(topic, 1);
    in.record.kind = RECORD_CHANGED;
    in.record.payload = SLICE("short");
    assert_non_null(strstr(rabbitmq_message(p, &in, &m), "damaged"));
    buf_fini(&out);
    rabbitmq_ops.free(p);
}

static void a_place_makes_three_headers_more(void **state)
{
    struct buf out;
    struct rabbitmq_message m;
    struct rabbitmq *p = make("k");
    const struct datum d = {.value = SLICE("1"),
                            .has_place = true,
                            .has_ele = true,
                            .lat = 47.5,
                            .lon = -8.25,
                            .ele = 4};
    buf_init(&out, 64);
    datum_target_encode(&out, (struct datum_target){.offset = 99});
    datum_encode(&out, &d);
    struct sink_message in = {.record = {.kind = RECORD_CHANGED, .payload = buf_slice(&out)},
                              .names = {SLICE("a"), SLICE("f"), SLICE("d")}};
    assert_null(rabbitmq_message(p, &in, &m));
    assert_int_equal(m.properties.headers.num_entries,
                     10); /* RABBITMQ_HEADERS has the topic, too */
    assert_int_equal(m.headers[6].value.value.i64, 99);
    assert_memory_equal(m.headers[8].value.value.bytes.bytes, "-8.25", 5);
    buf_fini(&out);
    rabbitmq_ops.free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(acks_come_in_any_order),
        cmocka_unit_test(what_was_not_sent_is_not_confirmed),
        cmocka_unit_test(nacks_are_counted),
        cmocka_unit_test(returned_messages_are_known_by_their_id),
        cmocka_unit_test(only_a_message_that_is_refused_is_poison),
        cmocka_unit_test(routing_keys),
        cmocka_unit_test(keys_that_are_too_long_are_refused),
        cmocka_unit_test(a_place_makes_three_headers_more),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
