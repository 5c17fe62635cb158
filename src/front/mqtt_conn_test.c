/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keep alive (MQTT-3.1.2-22): one and a half times as long after the last packet that has come, the
 * connection ends, whatever becomes of what is sent to it; but not because we did not read.
 */
#include "front/mqtt_members_testing.h"

/* The server's side; NULL: it has ended. */
static struct mqtt_conn *side(void)
{
    struct mqtt_conn *c = fronts[0]->conns;
    return c && c->state == MQTT_UP ? c : NULL;
}

/* Until the socket takes no more. */
static void congest(void)
{
    static char pings[1 << 16];
    struct mqtt_conn *c = side();
    for (unsigned i = 0; i < sizeof pings; i += 2)
        memcpy(pings + i, "\xd0", 2); /* PINGRESP */
    while (c && !stream_unsent(c->stream))
        stream_write(c->stream, slice_of(pings, sizeof pings));
}

/* The client takes so many bytes, as far as there are any. */
static void drain(size_t most)
{
    static char block[1 << 16];
    ssize_t n = 1;
    while (most && n > 0) {
        n = recv(a.fd, block, sizeof block < most ? sizeof block : most, MSG_DONTWAIT);
        most -= n > 0 ? (size_t)n : 0;
        turns(1);
    }
}

/* Fifths of a second until the connection has ended; at most `most`. */
static unsigned fifths_until_it_ends(unsigned most, void (*meanwhile)(void))
{
    unsigned n = 0;
    while (n < most && side()) {
        meanwhile();
        turns(1);
        pass_time();
        turns(1);
        n++;
    }
    return n;
}

static void connect_for_a_second(void)
{
    keep_alive_s = 1;
    connect_to(&a, 0, "a", 0, 10);
}

static void nothing(void)
{
}

static void send_ping(void)
{
    put(&a, &(struct mqtt_packet){.type = MQTT_PINGREQ});
}

static void congest_and_drain(void)
{
    congest();
    drain(SIZE_MAX);
    assert_true(!side() || !stream_unsent(side()->stream));
}

static void congest_and_take_some(void)
{
    congest();
    drain(1 << 16);
}

static void ping_in_a_jam(void)
{
    congest();
    send_ping();
}

static void ends_when_nothing_comes(void)
{
    unsigned n = fifths_until_it_ends(15, nothing);
    assert_in_range(n, 7, 10);
}

static void who_sends_nothing_is_dropped(void **state)
{
    (void)state;
    connect_for_a_second();
    ends_when_nothing_comes();
    end_members();
}

static void even_if_its_socket_drains_now_and_then(void **state)
{
    (void)state;
    connect_for_a_second();
    assert_in_range(fifths_until_it_ends(15, congest_and_drain), 7, 10);
    end_members();
}

static void and_if_it_never_does(void **state)
{
    (void)state;
    connect_for_a_second();
    assert_in_range(fifths_until_it_ends(15, congest_and_take_some), 7, 10);
    end_members();
}

static void who_sends_is_not(void **state)
{
    (void)state;
    connect_for_a_second();
    assert_int_equal(fifths_until_it_ends(12, send_ping), 12);
    assert_int_equal(fifths_until_it_ends(12, ping_in_a_jam), 12);
    end_members();
}

/* What it has sent is there, but was not read. */
static void nor_who_is_not_read_from(void **state)
{
    (void)state;
    connect_for_a_second();
    worker_hold_reading(workers[0], true);
    send_ping();
    assert_int_equal(fifths_until_it_ends(12, nothing), 12);
    worker_hold_reading(workers[0], false);
    pass_time();
    assert_non_null(side());
    ends_when_nothing_comes();
    end_members();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(who_sends_nothing_is_dropped), TEST(even_if_its_socket_drains_now_and_then),
        TEST(and_if_it_never_does),         TEST(who_sends_is_not),
        TEST(nor_who_is_not_read_from),
    };
    return cmocka_run_group_tests(tests, make_workers, NULL);
}
