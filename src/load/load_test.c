/* SPDX-License-Identifier: Apache-2.0 */
/* The whole command against a small server in this process, one blocking thread a connection. */
#include "load/load.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <jansson.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/slice.h"
#include "load/fleet.h"

#define SEEN_MAX 200000

static struct server {
    int fd;
    unsigned port;
    pthread_t thread;
    _Atomic unsigned requests, connections;
    _Atomic unsigned status;
    _Atomic unsigned die_after;   /* requests after which every connection is cut; 0: never */
    _Atomic unsigned close_every; /* each n-th answer says Connection: close */
    _Atomic unsigned delay_ms;
    pthread_mutex_t lock;
    char last[4096]; /* request, whole */
    ;
    in_addr_t sources[64];     /* of the connections, in order of arrival */
    _Atomic unsigned busy;     /* so many first requests get 503 and a second to wait */
    uint64_t values[SEEN_MAX]; /* by offset: the value that was acknowledged with it */
} server;

/* Reads one request; the whole of it in `in`. 0 at the end of the connection. */
static size_t read_request(int fd, char *in, size_t cap, size_t *ret_head)
{
    size_t len = 0;
    for (;;) {
        ssize_t n = recv(fd, in + len, cap - len - 1, 0);
        if (n <= 0)
            return 0;
        len += (size_t)n;
        in[len] = 0;
        char *end = strstr(in, "\r\n\r\n");
        if (!end)
            continue;
        *ret_head = (size_t)(end + 4 - in);
        const char *field = strstr(in, "Content-Length: ");
        size_t body = field ? strtoul(field + 16, NULL, 10) : 0;
        if (len >= *ret_head + body)
            return len;
    }
}

static void *serve(void *arg)
{
    int fd = (int)(intptr_t)arg;
    char in[4096], body[128], out[512];
    size_t head;
    size_t len;
    while ((len = read_request(fd, in, sizeof in, &head)) > 0) {
        unsigned number = server.requests++;
        if (server.die_after && number >= server.die_after)
            break;
        pthread_mutex_lock(&server.lock);
        memcpy(server.last, in, len);
        server.last[len] = 0;
        pthread_mutex_unlock(&server.lock);
        const char *value = strstr(in + head, ":\"");
        if (number < SEEN_MAX && value)
            server.values[number] = strtoull(value + 2, NULL, 10);
        if (server.delay_ms)
            usleep(server.delay_ms * 1000);
        bool close_it = server.close_every && number % server.close_every == 0;
        int n = snprintf(body, sizeof body,
                         "{\"accepted\":1,\"position\":{\"log\":\"x\",\"shard\":0,\"offset\":%u}}",
                         number);
        bool busy = number < server.busy;
        n = snprintf(out, sizeof out, "HTTP/1.1 %u x\r\nContent-Length: %d\r\n%s%s\r\n%s",
                     busy ? 503 : server.status, n, close_it ? "Connection: close\r\n" : "",
                     busy ? "Retry-After: 1\r\n" : "", body);
        if (send(fd, out, (size_t)n, MSG_NOSIGNAL) != n || close_it)
            break;
    }
    close(fd);
    return NULL;
}

static void *accept_all(void *arg)
{
    for (;;) {
        struct sockaddr_in from;
        socklen_t len = sizeof from;
        int fd = accept(server.fd, (struct sockaddr *)&from, &len);
        if (fd < 0)
            return NULL;
        pthread_t t;
        server.sources[server.connections++ % 64] = ntohl(from.sin_addr.s_addr);
        CHECK(pthread_create(&t, NULL, serve, (void *)(intptr_t)fd) == 0);
        pthread_detach(t);
    }
}

static int server_start(void **state)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof a;
    server.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(server.fd, (struct sockaddr *)&a, len) || listen(server.fd, 128) ||
        getsockname(server.fd, (struct sockaddr *)&a, &len))
        return -1;
    server.port = ntohs(a.sin_port);
    pthread_mutex_init(&server.lock, NULL);
    return pthread_create(&server.thread, NULL, accept_all, NULL);
}

static int server_stop(void **state)
{
    shutdown(server.fd, SHUT_RDWR);
    close(server.fd);
    return pthread_join(server.thread, NULL);
}

static int server_reset(void **state)
{
    server.requests = server.connections = 0;
    server.status = 202;
    server.die_after = server.close_every = server.delay_ms = server.busy = 0;
    memset(server.values, 0, sizeof server.values);
    return 0;
}

static char json_path[] = "/tmp/sluice_load_json_XXXXXX";
static char ack_path[] = "/tmp/sluice_load_ack_XXXXXX";
static char csv_path[] = "/tmp/sluice_load_csv_XXXXXX";

/* Runs the command with the URL of the server; *ret_result: what it wrote as JSON. */
static int run(const char *const *args, json_t **ret_result)
{
    char url[64];
    char *argv[32] = {"load", url, "--quiet", "--json", json_path};
    int argc = 5;
    snprintf(url, sizeof url, "http://127.0.0.1:%u", server.port);
    while (*args)
        argv[argc++] = (char *)(uintptr_t)*args++;
    int status = load_command(argc, argv);
    *ret_result = json_load_file(json_path, 0, NULL);
    assert_non_null(*ret_result);
    return status;
}
#define RUN(ret, ...) run((const char *const[]){__VA_ARGS__, NULL}, ret)

static uint64_t count(const json_t *r, const char *name)
{
    const json_t *v = json_object_get(r, name);
    assert_true(json_is_integer(v));
    return (uint64_t)json_integer_value(v);
}

static void every_request_is_counted(void **state)
{
    json_t *r;
    assert_int_equal(
        RUN(&r, "--requests", "1000", "--connections", "4", "--device", "d1", "--token", "s1"), 0);
    assert_int_equal(server.requests, 1000);
    assert_int_equal(server.connections, 4);
    assert_int_equal(count(r, "sent"), 1000);
    assert_int_equal(count(r, "answered"), 1000);
    assert_int_equal(count(json_object_get(r, "status"), "202"), 1000);
    assert_int_equal(count(r, "broken"), 0);
    assert_non_null(strstr(server.last, "POST /v1/telemetry HTTP/1.1\r\n"));
    assert_non_null(strstr(server.last, "\r\nX-Device-Id: d1\r\nX-Device-Token: s1\r\n"));
    json_decref(r);

    server.status = 429;
    assert_int_equal(RUN(&r, "--requests", "10", "--key", "aio_k", "--method", "GET"), 0);
    assert_int_equal(count(json_object_get(r, "status"), "429"), 10);
    assert_non_null(strstr(server.last, "GET /v1/telemetry HTTP/1.1\r\n"));
    assert_non_null(strstr(server.last, "\r\nX-AIO-Key: aio_k\r\n"));
    assert_null(strstr(server.last, "Content-Length"));
    json_decref(r);
}

static void the_ack_log_names_what_was_acknowledged(void **state)
{
    json_t *r;
    server.die_after = 500;
    assert_int_equal(RUN(&r, "--connections", "3", "--device", "d", "--token", "s", "--ack-log",
                         ack_path, "--feed", "f-%device%", "--first-sequence", "77"),
                     0);
    assert_int_equal(count(r, "answered"), 500);
    assert_int_equal(count(r, "acked"), 500);
    assert_int_equal(count(r, "broken"), 3); /* it ended by itself when the server had died */
    json_decref(r);

    FILE *f = fopen(ack_path, "r");
    char device[16], feed[16];
    unsigned long sequence, value, offset;
    unsigned lines = 0;
    while (fscanf(f, "%lu %15s %15s %lu %lu\n", &sequence, device, feed, &value, &offset) == 5) {
        assert_string_equal(device, "d");
        assert_string_equal(feed, "f-d");
        assert_int_equal(value, 1000000000000000ul + sequence);
        assert_int_equal(server.values[offset], value);
        lines++;
    }
    assert_int_equal(lines, 500);
    assert_true(server.values[0] >= 1000000000000077ul);
    fclose(f);
}

static void it_comes_back_when_told_to(void **state)
{
    json_t *r;
    server.close_every = 50;
    assert_int_equal(RUN(&r, "--requests", "1000", "--connections", "2"), 0);
    assert_int_equal(count(r, "answered"), 1000);
    assert_int_equal(count(r, "closed"), 20);
    assert_int_equal(count(r, "broken"), 0);
    json_decref(r);

    server_reset(NULL);
    server.die_after = 100;
    assert_int_equal(RUN(&r, "--seconds", "0.5", "--connections", "2", "--reconnect"), 0);
    assert_int_equal(count(r, "answered"), 100);
    assert_true(count(r, "broken") > 4);
    json_decref(r);
}

static void the_schedule_is_kept(void **state)
{
    json_t *r;
    assert_int_equal(RUN(&r, "--seconds", "1", "--rate", "2000", "--connections", "8"), 0);
    assert_in_range(count(r, "sent"), 1900, 2100);
    json_decref(r);

    /* One connection that takes 20 ms for each cannot do 200/s: waiting shows in the latency, and
     * what never found a connection is told. */
    server.delay_ms = 20;
    assert_int_equal(RUN(&r, "--seconds", "1", "--rate", "200", "--connections", "1"), 0);
    assert_in_range(count(r, "sent") + count(r, "unsent"), 190, 210);
    assert_true(count(r, "unsent") > 100);
    const json_t *latency = json_object_get(r, "latency_ms");
    assert_true(json_real_value(json_object_get(latency, "max")) > 400);
    json_decref(r);
}

/* It is told too where the number of requests has an end, or a recording. */
static void what_is_left_of_a_number_is_told(void **state)
{
    json_t *r;
    server.delay_ms = 20;
    assert_int_equal(
        RUN(&r, "--seconds", "1", "--rate", "200", "--requests", "1000", "--connections", "1"), 0);
    assert_in_range(count(r, "sent") + count(r, "unsent"), 190, 210);
    assert_true(count(r, "unsent") > 100);
    json_decref(r);
    assert_int_equal(
        RUN(&r, "--seconds", "1", "--rate", "200", "--requests", "60", "--connections", "1"), 0);
    assert_int_equal(count(r, "sent") + count(r, "unsent"), 60);
    assert_true(count(r, "unsent") > 0);
    json_decref(r);

    FILE *f = fopen(ack_path, "w");
    assert_non_null(f);
    for (unsigned i = 0; i < 200; i++)
        fprintf(f,
                "{\"us\":%u,\"method\":\"POST\",\"target\":\"/v1/telemetry\",\"fields\":[],"
                "\"body\":30}\n",
                1000 * i);
    assert_int_equal(fclose(f), 0);
    assert_int_equal(RUN(&r, "--replay", ack_path, "--connections", "1", "--timeout", "1"), 0);
    assert_int_equal(count(r, "sent") + count(r, "unsent"), 200);
    assert_true(count(r, "unsent") > 100);
    json_decref(r);
}

/* 50 of the slow half, 500 of the fast one. */
static void the_rate_follows_its_shape(void **state)
{
    json_t *r;
    assert_int_equal(RUN(&r, "--seconds", "1", "--shape", "0:100,0.5:100,0.5:1000,1:1000,1:0",
                         "--connections", "8"),
                     0);
    assert_in_range(count(r, "sent") + count(r, "unsent"), 549, 551);
    json_decref(r);
    assert_int_equal(RUN(&r, "--seconds", "1", "--rate", "400", "--shape", "ramp"), 0);
    assert_in_range(count(r, "sent") + count(r, "unsent"), 199, 400);
    json_decref(r);
}

static void a_storm_breaks_all_connections_once(void **state)
{
    json_t *r;
    server.delay_ms = 5;
    assert_int_equal(RUN(&r, "--seconds", "1.5", "--storm", "0.3", "--connections", "6"), 0);
    assert_int_equal(server.connections, 12);
    assert_int_equal(count(r, "broken"), 0);
    assert_in_range(count(r, "dropped"), 1, 6);
    assert_int_equal(count(r, "sent"), count(r, "answered") + count(r, "dropped"));
    const json_t *connects = json_object_get(r, "connect_ms");
    assert_true(json_real_value(json_object_get(connects, "max")) > 0);
    json_decref(r);
}

static void devices_think(void **state)
{
    json_t *r;
    assert_int_equal(RUN(&r, "--seconds", "1", "--think", "0.1-0.15", "--connections", "3"), 0);
    assert_in_range(count(r, "sent"), 3, 3 * 10);
    json_decref(r);
}

static void each_message_is_filled_in_anew(void **state)
{
    json_t *r;
    unsigned random = 0;
    unsigned long time = 0, sequence = 0;
    assert_int_equal(RUN(&r, "--requests", "3", "--connections", "1", "--device", "d1", "--token",
                         "s", "--header", "X-N: %seq%", "--payload",
                         "{\"r\":%random%,\"at\":%time%,\"n\":%seq%,\"%device%\":\"100%\"}"),
                     0);
    const char *body = strstr(server.last, "\r\n\r\n") + 4;
    assert_int_equal(sscanf(body, "{\"r\":%5u,\"at\":%13lu,\"n\":%lu,\"d1\":\"100%%\"}", &random,
                            &time, &sequence),
                     3);
    assert_in_range(random, 10000, 99999);
    assert_in_range(time, clock_wall_us() / 1000 - 60000, clock_wall_us() / 1000);
    assert_int_equal(sequence, 1000000000000003ul);
    assert_non_null(strstr(server.last, "X-N: 1000000000000003\r\n"));
    json_decref(r);
}

static void devices_have_header_fields_of_their_own(void **state)
{
    FILE *f = fopen(csv_path, "w");
    fputs("device_id,secret,X-Fw,User-Agent\na,s,\"1,2\",m 1\nb,t,,n\n", f);
    fclose(f);
    struct load_opts opts = {.attack = ATTACKS,
                             .method = "GET",
                             .devices = csv_path,
                             .url = {.authority = SLICE("h"), .target = SLICE("/")}};
    struct fleet fleet;
    struct error err = {0};
    assert_int_equal(fleet_init(&fleet, &opts, NULL), 0);
    assert_int_equal(fleet.count, 2);
    assert_true(slice_eq(fleet_request(&fleet, &fleet.devices[0]),
                         SLICE("GET / HTTP/1.1\r\nHost: h\r\nX-Device-Id: a\r\n"
                               "X-Device-Token: s\r\nX-Fw: 1,2\r\nUser-Agent: m 1\r\n\r\n")));
    assert_true(slice_eq(fleet_request(&fleet, &fleet.devices[1]),
                         SLICE("GET / HTTP/1.1\r\nHost: h\r\nX-Device-Id: b\r\n"
                               "X-Device-Token: t\r\nUser-Agent: n\r\n\r\n")));
    fleet_fini(&fleet);
    f = fopen(csv_path, "w");
    fputs("device_id,secret,X-Fw\na,s,1\nb,t\n", f);
    fclose(f);
    assert_int_equal(fleet_init(&fleet, &opts, &err), -EINVAL);
    assert_non_null(strstr(err.text, ":3: must be device_id,secret and a field for each name"));
    fleet_fini(&fleet);
}

/* Every request is another guess, or comes from another device; from the addresses asked for. */
static void guesses_and_strangers_are_new_each_time(void **state)
{
    json_t *r;
    assert_int_equal(RUN(&r, "--requests", "5", "--connections", "1", "--device", "d", "--token",
                         "guess-%seq%", "--first-sequence", "77"),
                     0);
    assert_non_null(strstr(server.last, "\r\nX-Device-Id: d\r\n"));
    assert_non_null(strstr(server.last, "\r\nX-Device-Token: guess-1000000000000081\r\n"));
    json_decref(r);
    server_reset(NULL);
    assert_int_equal(RUN(&r, "--requests", "30", "--connections", "3", "--source",
                         "127.0.0.5-127.0.0.6", "--device", "ghost-%seq%", "--token", "g%seq%"),
                     0);
    assert_non_null(strstr(server.last, "\r\nX-Device-Id: ghost-10000000000000"));
    assert_non_null(strstr(server.last, "\r\nX-Device-Token: g10000000000000"));
    unsigned of_five = 0;
    for (unsigned i = 0; i < 3; i++) {
        assert_in_range(server.sources[i], 0x7f000005, 0x7f000006);
        of_five += server.sources[i] == 0x7f000005;
    }
    assert_int_equal(of_five, 2);
    json_decref(r);
}

/* --once: each device until it is accepted, and those told to wait come when they were told to. */
static void all_devices_log_in_once(void **state)
{
    json_t *r;
    FILE *f = fopen(csv_path, "w");
    for (unsigned i = 0; i < 40; i++)
        fprintf(f, "d%u,s\n", i);
    fclose(f);
    server.busy = 50; /* ten of the forty twice */
    server.close_every = 7;
    assert_int_equal(RUN(&r, "--once", "--devices", csv_path, "--seconds", "20"), 0);
    assert_int_equal(server.requests, 90);
    assert_int_equal(count(r, "devices"), 40);
    assert_int_equal(count(r, "accepted"), 40);
    assert_int_equal(count(r, "told"), 50);
    assert_int_equal(count(r, "not_kept"), 10);
    assert_int_equal(count(r, "kept"), 40);
    assert_int_equal(count(r, "refused"), 0);
    assert_int_equal(count(json_object_get(r, "status"), "202"), 40);
    double took = json_real_value(json_object_get(r, "accepted_seconds"));
    assert_true(took >= 2 && took < 5);
    json_decref(r);

    server_reset(NULL);
    server.status = 401;
    assert_int_equal(RUN(&r, "--once", "--devices", csv_path, "--seconds", "20"), 0);
    assert_int_equal(count(r, "refused"), 40);
    assert_int_equal(server.requests, 40);
    json_decref(r);
}

static void silence_is_given_up(void **state)
{
    json_t *r;
    server.delay_ms = 2000;
    assert_int_equal(RUN(&r, "--seconds", "1", "--timeout", "0.2", "--connections", "2"), 1);
    assert_int_equal(count(r, "timed_out"), 2);
    assert_int_equal(count(r, "broken"), 0);
    assert_int_equal(count(r, "answered"), 0);
    json_decref(r);
}

/* At the end of the time they are waited for. */
static void late_answers_count(void **state)
{
    json_t *r;
    server.delay_ms = 1500;
    assert_int_equal(RUN(&r, "--seconds", "0.1", "--connections", "2"), 0);
    assert_int_equal(count(r, "timed_out"), 0);
    assert_int_equal(count(r, "broken"), 0);
    assert_int_equal(count(r, "answered"), 2);
    json_decref(r);
}

static void devices_come_from_a_file(void **state)
{
    FILE *f = fopen(csv_path, "w");
    fputs("device_id,secret\nalpha,s,1\r\nbeta,s2\n", f);
    fclose(f);
    struct load_opts opts = {
        .attack = ATTACKS,
        .method = "POST",
        .feed = "t-%device%",
        .devices = csv_path,
        .url = {.authority = SLICE("h:1"), .target = SLICE("/x/%device%?a=1")},
        .sequenced = true,
        .basic = true,
    };
    struct fleet fleet;
    assert_int_equal(fleet_init(&fleet, &opts, NULL), 0);
    assert_int_equal(fleet.count, 2);
    const struct fleet_device *d = &fleet.devices[1];
    struct slice request = fleet_request(&fleet, d);
    assert_true(
        slice_eq(request, SLICE("POST /x/beta?a=1 HTTP/1.1\r\nHost: h:1\r\n"
                                "Authorization: Basic YmV0YTpzMg==\r\n"
                                "Content-Type: application/json\r\nContent-Length: 29\r\n\r\n"
                                "{\"t-beta\":\"1000000000000000\"}")));
    assert_int_equal(d->len, request.len);
    assert_int_equal(d->marks.count, 1);
    assert_memory_equal(request.ptr + d->marks.list[0].at, "1000000000000000", 16);
    assert_true(slice_eq(fleet_id(&fleet, &fleet.devices[0]), SLICE("alpha")));
    fleet_fini(&fleet);

    static const char *const bad[] = {"", "one\n", ",s\n", "d,\n", "device_id,secret\n"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct error err = {0};
        f = fopen(csv_path, "w");
        fputs(bad[i], f);
        fclose(f);
        assert_int_equal(fleet_init(&fleet, &opts, &err), -EINVAL);
        assert_non_null(strstr(err.text, csv_path));
        fleet_fini(&fleet);
    }
}

static void wrong_usage_is_told(void **state)
{
    static const char *const wrong[][6] = {
        {"load"},
        {"load", "ftp://h/"},
        {"load", "http://h", "http://h"},
        {"load", "http://h", "--rate", "-1"},
        {"load", "http://h", "--rate", "nan"},
        {"load", "http://h", "--connections", "0"},
        {"load", "http://h", "--connections", "1x"},
        {"load", "http://h:99999"},
        {"load", "http://h", "--device", "d"},
        {"load", "http://h", "--nonsense"},
        {"load", "http://h", "--key"},
        {"load", "http://h", "--order", "any"},
        {"load", "http://h", "--header", "no colon"},
        {"load", "http://h", "--source", "127.0.0.2-127.0.0.1"},
        {"load", "http://h", "--source", "here"},
        {"load", "http://h", "--once", "--rate=5"},
        {"load", "http://h", "--shape", "spike"},
        {"load", "http://h", "--shape", "0:5,1:6", "--rate=5"},
        {"load", "http://h", "--shape", "up", "--rate=5"},
        {"load", "http://h", "--think", "2-1"},
        {"load", "http://h", "--think", "1", "--rate=5"},
        {"load", "http://h", "--once", "--storm=1"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        char *argv[6] = {0}; /* getopt permutes it */
        int argc = 0;
        for (; argc < 5 && wrong[i][argc]; argc++)
            argv[argc] = (char *)(uintptr_t)wrong[i][argc];
        assert_int_equal(load_command(argc, argv), 2);
    }
    assert_int_equal(load_command(2, (char *[]){"load", "--help", NULL}), 0);
}

static int make_files(void **state)
{
    close(mkstemp(json_path));
    close(mkstemp(ack_path));
    close(mkstemp(csv_path));
    return server_start(state);
}

static int remove_files(void **state)
{
    unlink(json_path);
    unlink(ack_path);
    unlink(csv_path);
    return server_stop(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(every_request_is_counted, server_reset),
        cmocka_unit_test_setup(the_ack_log_names_what_was_acknowledged, server_reset),
        cmocka_unit_test_setup(it_comes_back_when_told_to, server_reset),
        cmocka_unit_test_setup(the_schedule_is_kept, server_reset),
        cmocka_unit_test_setup(what_is_left_of_a_number_is_told, server_reset),
        cmocka_unit_test_setup(the_rate_follows_its_shape, server_reset),
        cmocka_unit_test_setup(a_storm_breaks_all_connections_once, server_reset),
        cmocka_unit_test_setup(devices_think, server_reset),
        cmocka_unit_test_setup(each_message_is_filled_in_anew, server_reset),
        cmocka_unit_test(devices_have_header_fields_of_their_own),
        cmocka_unit_test_setup(guesses_and_strangers_are_new_each_time, server_reset),
        cmocka_unit_test_setup(all_devices_log_in_once, server_reset),
        cmocka_unit_test_setup(silence_is_given_up, server_reset),
        cmocka_unit_test_setup(late_answers_count, server_reset),
        cmocka_unit_test(devices_come_from_a_file),
        cmocka_unit_test(wrong_usage_is_told),
    };
    return cmocka_run_group_tests(tests, make_files, remove_files);
}
