/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Nanoseconds of the two parsers that every HTTP message passes: the head of a typical telemetry
 * request and its body. Prints the best of several rounds: the others were disturbed.
 */
#include <stdio.h>

#include "base/check.h"
#include "base/clock.h"
#include "codec/http1.h"
#include "codec/points.h"

#define ROUNDS 15
#define CALLS  200000

static const char telemetry_head[] = "POST /v1/telemetry HTTP/1.1\r\n"
                                     "Host: telemetry.example.com:8080\r\n"
                                     "User-Agent: fleet-agent/3.2.1 (esp32)\r\n"
                                     "Accept: */*\r\n"
                                     "X-Device-Id: truck-00017-front\r\n"
                                     "X-Device-Secret: k3yk3yk3yk3yk3yk3yk3yk3yk3yk3y\r\n"
                                     "Content-Type: application/json\r\n"
                                     "Content-Length: 20\r\n"
                                     "\r\n";

static void parse_head(void)
{
    static struct http1_request r;
    const struct http1_limits limits = {
        .head_bytes = 16384, .target_bytes = 4096, .fields = 64, .body_bytes = 1 << 20};
    size_t scanned = 0;
    unsigned status;
    const char *why;
    enum http1_outcome o = http1_parse(slice_of(telemetry_head, sizeof telemetry_head - 1), &limits,
                                       &scanned, &r, &status, &why);
    CHECK(o == HTTP1_DONE && r.content_length == 20);
}

static struct points points;

static void parse_points(struct slice body, unsigned count)
{
    const struct points_limits limits = {.points_max = 1000, .value_max = 1024, .feed_max = 257};
    struct error err;
    CHECK(points_telemetry(body, BODY_JSON, &limits, &points, &err) == 0);
    CHECK(points.count == count);
}

static void parse_one(void)
{
    parse_points(SLICE("{\"temperature\":21.5}"), 1);
}

static void parse_five(void)
{
    parse_points(SLICE("{\"temperature\":21.5,\"humidity\":40,\"door\":false,\"state\":\"ok\","
                       "\"at\":{\"value\":1,\"lat\":52.5,\"lon\":13.4,"
                       "\"created_at\":\"2020-05-12T20:52:50Z\"}}"),
                 5);
}

static void measure(const char *name, void (*call)(void))
{
    uint64_t best = UINT64_MAX;
    for (int round = 0; round < ROUNDS; round++) {
        uint64_t from = clock_mono_ns();
        for (int i = 0; i < CALLS; i++)
            call();
        uint64_t took = clock_mono_ns() - from;
        best = took < best ? took : best;
    }
    printf("%-52s %6.1f ns\n", name, (double)best / CALLS);
}

int main(void)
{
    struct buf storage;
    buf_init(&storage, 1 << 20);
    points.storage = &storage;
    char name[64];
    snprintf(name, sizeof name, "http1_parse, head of %zu bytes, 7 fields",
             sizeof telemetry_head - 1);
    measure(name, parse_head);
    measure("points_telemetry, {\"temperature\":21.5}", parse_one);
    measure("points_telemetry, 5 members, one with time and place", parse_five);
    buf_fini(&storage);
    return 0;
}
