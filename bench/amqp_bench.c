/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A plain confirm loop of librabbitmq, to measure the RabbitMQ sink beside (rabbitmq_bench.py):
 * publishes COUNT persistent messages of BYTES with an id, at most WINDOW of them unconfirmed, and
 * says in how many seconds all were confirmed.
 *
 *     amqp_bench PORT USER PASSWORD EXCHANGE KEY COUNT BYTES WINDOW
 */
#include <amqp.h>
#include <amqp_framing.h>
#include <amqp_tcp_socket.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define LOOK_EVERY 32

static amqp_connection_state_t conn;

static void need(int ok, const char *what)
{
    if (ok)
        return;
    fprintf(stderr, "amqp_bench: %s\n", what);
    exit(1);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int said_yes(void)
{
    return amqp_get_rpc_reply(conn).reply_type == AMQP_RESPONSE_NORMAL;
}

static void connect_to(int port, const char *user, const char *password)
{
    conn = amqp_new_connection();
    amqp_socket_t *socket = amqp_tcp_socket_new(conn);
    need(socket && amqp_socket_open(socket, "127.0.0.1", port) == AMQP_STATUS_OK, "no connection");
    need(amqp_login(conn, "/", 0, 131072, 60, AMQP_SASL_METHOD_PLAIN, user, password).reply_type ==
             AMQP_RESPONSE_NORMAL,
         "no login");
    amqp_channel_open(conn, 1);
    need(said_yes(), "no channel");
    amqp_confirm_select(conn, 1);
    need(said_yes(), "no confirms");
}

/* How many are confirmed after one frame, or none that is there. */
static unsigned long take(unsigned long confirmed, int wait)
{
    amqp_frame_t f;
    struct timeval most = {.tv_sec = wait ? 60 : 0};
    amqp_maybe_release_buffers(conn);
    int status = amqp_simple_wait_frame_noblock(conn, &f, &most);
    if (status == AMQP_STATUS_TIMEOUT && !wait)
        return confirmed;
    need(status == AMQP_STATUS_OK, amqp_error_string2(status));
    need(f.frame_type == AMQP_FRAME_METHOD && f.payload.method.id == AMQP_BASIC_ACK_METHOD,
         "no confirmation");
    const amqp_basic_ack_t *ack = f.payload.method.decoded;
    return ack->multiple ? (ack->delivery_tag > confirmed ? ack->delivery_tag : confirmed)
                         : confirmed + 1;
}

int main(int argc, char **argv)
{
    need(argc == 9, "PORT USER PASSWORD EXCHANGE KEY COUNT BYTES WINDOW");
    unsigned long count = strtoul(argv[6], NULL, 10), bytes = strtoul(argv[7], NULL, 10),
                  window = strtoul(argv[8], NULL, 10), confirmed = 0;
    char *body = malloc(bytes + 1), id[64];
    need(body != NULL, "no memory");
    memset(body, 'x', bytes);
    connect_to((int)strtoul(argv[1], NULL, 10), argv[2], argv[3]);
    amqp_basic_properties_t properties = {
        ._flags = AMQP_BASIC_DELIVERY_MODE_FLAG | AMQP_BASIC_MESSAGE_ID_FLAG, .delivery_mode = 2};
    double begun = now();
    for (unsigned long i = 0; i < count; i++) {
        int n = snprintf(id, sizeof id, "%032d:%lu", 0, i);
        properties.message_id = (amqp_bytes_t){(size_t)n, id};
        int status =
            amqp_basic_publish(conn, 1, amqp_cstring_bytes(argv[4]), amqp_cstring_bytes(argv[5]), 1,
                               0, &properties, (amqp_bytes_t){bytes, body});
        need(status == AMQP_STATUS_OK, "not published");
        for (unsigned long before = count; i % LOOK_EVERY == 0 && before != confirmed;) {
            before = confirmed;
            confirmed = take(confirmed, 0);
        }
        while (i + 1 - confirmed >= window)
            confirmed = take(confirmed, 1);
    }
    while (confirmed < count)
        confirmed = take(confirmed, 1);
    printf("%.3f\n", now() - begun);
    amqp_destroy_connection(conn);
    free(body);
    return 0;
}
