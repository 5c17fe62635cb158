/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How fast the Kafka sink drains, beside librdkafka's own producer with the same values and keys,
 * in one process by turns; bench/kafka_bench.py starts a broker and runs it.
 *     build/bench/kafka_bench BROKERS TOPIC MESSAGES BATCH ROUNDS [KIND]
 *
 * plain: produces without headers and flushes at the end (idempotent, as the sink). brief, full:
 * with the headers that the sink has by that setting. sink, sink_brief, sink_full: batches of BATCH
 * through the sink's functions, a transaction each, by that setting. One KIND, or all.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/clock.h"
#include "sink/kafka_own.h"
#include "used.h"

#define FEEDS   1000u
#define POLLED  1000u /* messages between two looks at what was delivered */
#define MINUTES (60 * NS_PER_S)

static struct kafka_opts opts = {.name = "kafka",
                                 .cursor_topic = "bench.cursors",
                                 .compression = "lz4",
                                 .security = "plaintext",
                                 .mechanism = "",
                                 .username = "",
                                 .password_file = "",
                                 .ca_file = "",
                                 .certificate = "",
                                 .key_file = "",
                                 .message_max = 1000000,
                                 .timeout_ns = MINUTES};

/* A fleet's: 1,000 feeds in turn, each value another. */
struct fleet {
    char feeds[FEEDS][24];
    char value[32];
    struct buf payload;
};

static void fill(struct fleet *f, uint64_t i, struct sink_message *m)
{
    int n = snprintf(f->value, sizeof f->value, "%llu.%02llu", (unsigned long long)(i % 97),
                     (unsigned long long)(i * 31 % 100));
    int64_t now_us = clock_wall_us();
    *m = (struct sink_message){
        .offset = i,
        .record = {.kind = RECORD_DATUM,
                   .account = 7,
                   .feed = 1 + i % FEEDS,
                   .event_us = now_us,
                   .receive_us = now_us},
        .names = {SLICE("acme"), slice_str(f->feeds[i % FEEDS]), SLICE("truck-17")}};
    struct datum d = {.value = slice_of(f->value, (size_t)n)};
    size_t at = f->payload.len;
    datum_encode(&f->payload, &d);
    m->record.payload = slice_of(f->payload.ptr + at, f->payload.len - at);
}

static rd_kafka_headers_t *headers_of(const struct sink_message *m, bool full)
{
    char number[24];
    int digits = snprintf(number, sizeof number, "%llu", (unsigned long long)m->offset);
    rd_kafka_headers_t *h = rd_kafka_headers_new(8);
    rd_kafka_header_add(h, "device", -1, "truck-17", -1);
    rd_kafka_header_add(h, "position", -1, number, digits);
    if (!full)
        return h;
    rd_kafka_header_add(h, "kind", -1, "datum", -1);
    rd_kafka_header_add(h, "account", -1, "acme", -1);
    rd_kafka_header_add(h, "feed", -1, m->names.feed.ptr, (ssize_t)m->names.feed.len);
    rd_kafka_header_add(h, "ts", -1, "1795944000000", -1);
    rd_kafka_header_add(h, "log", -1, "00000000000000000000000000000000", -1);
    rd_kafka_header_add(h, "feed_no", -1, number, 1);
    return h;
}

/* The library's own producer, with the sink's settings but no transactions. */
static void plain(const char *kind, struct fleet *f, uint64_t messages)
{
    static const char *const settings[][2] = {{"enable.idempotence", "true"},
                                              {"partitioner", "murmur2_random"},
                                              {"linger.ms", "5"},
                                              {"compression.codec", "lz4"},
                                              {"message.timeout.ms", "60000"}};
    char why[256];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    CHECK(rd_kafka_conf_set(conf, "bootstrap.servers", opts.brokers, why, sizeof why) == 0);
    for (size_t i = 0; i < sizeof settings / sizeof settings[0]; i++)
        CHECK(rd_kafka_conf_set(conf, settings[i][0], settings[i][1], why, sizeof why) == 0);
    rd_kafka_t *rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, why, sizeof why);
    rd_kafka_topic_t *topic = rd_kafka_topic_new(rk, opts.topic, NULL);
    struct used begun = used_now();
    for (uint64_t i = 0; i < messages; i++) {
        struct sink_message m;
        struct datum d;
        char key[64];
        buf_clear(&f->payload);
        fill(f, i, &m);
        CHECK(datum_decode(m.record.payload, &d));
        int n = snprintf(key, sizeof key, "acme/%s", f->feeds[i % FEEDS]);
        rd_kafka_headers_t *h = *kind == 'p' ? NULL : headers_of(&m, *kind == 'f');
        while (rd_kafka_producev(rk, RD_KAFKA_V_RKT(topic), RD_KAFKA_V_KEY(key, (size_t)n),
                                 RD_KAFKA_V_VALUE((void *)(uintptr_t)d.value.ptr, d.value.len),
                                 RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_HEADERS(h),
                                 RD_KAFKA_V_END) != 0)
            rd_kafka_poll(rk, 10);
        if (i % POLLED == 0)
            rd_kafka_poll(rk, 0);
    }
    CHECK(rd_kafka_flush(rk, 60000) == 0);
    used_report(kind, messages, "messages", begun);
    rd_kafka_topic_destroy(topic);
    rd_kafka_destroy(rk);
}

static void sink(const char *kind, struct fleet *f, uint64_t messages, unsigned batch)
{
    struct error err = {""};
    void *k;
    uint64_t position = 0;
    struct sink_message *m = calloc(batch, sizeof *m);
    CHECK(m);
    opts.headers = !strcmp(kind, "sink")         ? KAFKA_HEADERS_NONE
                   : !strcmp(kind, "sink_brief") ? KAFKA_HEADERS_BRIEF
                                                 : KAFKA_HEADERS_FULL;
    if (kafka_new(&opts, &k, &err) < 0 || kafka_ops.open(k, &position, &err) != SINK_DONE) {
        fprintf(stderr, "%s\n", err.text);
        exit(1);
    }
    struct used begun = used_now();
    for (uint64_t i = 0; i < messages; i += batch) {
        buf_clear(&f->payload);
        for (unsigned n = 0; n < batch; n++)
            fill(f, i + n, &m[n]);
        struct sink_batch b = {position + i, position + i + batch, m, batch, false};
        if (kafka_ops.send(k, &b, &err) != SINK_DONE) {
            fprintf(stderr, "%s\n", err.text);
            exit(1);
        }
    }
    used_report(kind, messages, "messages", begun);
    kafka_ops.close(k);
    kafka_ops.free(k);
    free(m);
}

int main(int argc, char **argv)
{
    static struct fleet f;
    if (argc < 6) {
        fprintf(stderr, "usage: kafka_bench BROKERS TOPIC MESSAGES BATCH ROUNDS [KIND]\n");
        return 2;
    }
    opts.brokers = argv[1];
    opts.topic = argv[2];
    uint64_t messages = strtoull(argv[3], NULL, 10);
    unsigned batch = (unsigned)strtoul(argv[4], NULL, 10);
    buf_init(&f.payload, 64 << 20);
    CHECK(batch && buf_reserve(&f.payload, 16 << 20)); /* what points into it must not move */
    messages = (messages + batch - 1) / batch * batch;
    for (unsigned i = 0; i < FEEDS; i++)
        snprintf(f.feeds[i], sizeof f.feeds[i], "trucks.%u", i);
    for (unsigned long round = strtoul(argv[5], NULL, 10); round; round--) {
        static const char *const kinds[] = {"plain", "brief",      "full",
                                            "sink",  "sink_brief", "sink_full"};
        for (unsigned i = 0; i < sizeof kinds / sizeof *kinds; i++) {
            if (argc > 6 && strcmp(argv[6], kinds[i]) != 0)
                continue;
            if (*kinds[i] == 's')
                sink(kinds[i], &f, messages, batch);
            else
                plain(kinds[i], &f, messages);
        }
    }
    buf_fini(&f.payload);
    return 0;
}
