/* SPDX-License-Identifier: Apache-2.0 */
#include "sink/amqp.h"

#include <amqp_ssl_socket.h>
#include <amqp_tcp_socket.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"
#include "sink/ready.h"

#define CONNECT_NS (10 * NS_PER_S)
#define FRAME_MAX  131072 /* RabbitMQ's default; it may want less */

/* ---- errors ---------------------------------------------------------------------------------- */

enum sink_outcome amqp_link_lost(struct amqp_link *l, const char *what, int status,
                                 struct error *err)
{
    l->healthy = false;
    if (amqp_link_cancelled(l))
        error_set(err, -ECANCELED, "%s: the sink stops", what);
    else
        error_set(err, -EIO, "%s: %s", what, amqp_error_string2(status));
    return SINK_AWAY;
}

static void told(const char *what, int code, amqp_bytes_t text, struct error *err)
{
    error_set(err, -EIO, "%s: %d %.*s", what, code, text.len < 300 ? (int)text.len : 300,
              (const char *)text.bytes);
}

static int judge(struct amqp_link *l, amqp_rpc_reply_t r, const char *what, struct error *err)
{
    if (r.reply_type == AMQP_RESPONSE_NORMAL)
        return 0;
    if (r.reply_type != AMQP_RESPONSE_SERVER_EXCEPTION) {
        amqp_link_lost(l, what, r.library_error, err);
        return -1;
    }
    if (r.reply.id == AMQP_CHANNEL_CLOSE_METHOD) {
        const amqp_channel_close_t *m = r.reply.decoded;
        l->channel = false;
        told(what, m->reply_code, m->reply_text, err);
        return m->reply_code;
    }
    l->healthy = false;
    const amqp_connection_close_t *m = r.reply.decoded;
    if (r.reply.id == AMQP_CONNECTION_CLOSE_METHOD)
        told(what, m->reply_code, m->reply_text, err);
    else
        error_set(err, -EIO, "%s: an unexpected answer", what);
    return -1;
}

int amqp_link_reply(struct amqp_link *l, const char *what, struct error *err)
{
    return judge(l, amqp_get_rpc_reply(l->conn), what, err);
}

/* ---- targets --------------------------------------------------------------------------------- */

int amqp_target_parse(const char *url, struct amqp_target *ret, struct error *err)
{
    struct amqp_connection_info info;
    const char *authority = strstr(url, "://"), *at = authority ? strchr(authority, '@') : NULL;
    const char *colon = authority ? strchr(authority + 3, ':') : NULL;
    if (at && colon && colon < at)
        return error_set(err, -EINVAL,
                         "it has a password; that belongs into a file of its own, "
                         "rabbitmq.password_file");
    if (strlen(url) >= sizeof ret->text)
        return error_set(err, -EINVAL, "it is too long");
    memcpy(ret->text, url, strlen(url) + 1);
    if (amqp_parse_url(ret->text, &info) != AMQP_STATUS_OK)
        return error_set(err, -EINVAL, "it must look like amqps://USER@HOST:PORT/VHOST");
    ret->host = info.host;
    ret->user = info.user;
    ret->vhost = info.vhost;
    ret->port = info.port;
    ret->tls = info.ssl;
    return 0;
}

/* ---- life ------------------------------------------------------------------------------------ */

void amqp_link_init(struct amqp_link *l, uint64_t timeout_ns, unsigned heartbeat_s)
{
    *l = (struct amqp_link){.timeout_ns = timeout_ns, .heartbeat_s = heartbeat_s, .fd = -1};
    pthread_mutex_init(&l->lock, NULL);
}

void amqp_link_fini(struct amqp_link *l)
{
    amqp_link_close(l);
    pthread_mutex_destroy(&l->lock);
}

bool amqp_link_cancelled(const struct amqp_link *l)
{
    return atomic_load(&l->cancelled);
}

void amqp_link_cancel(struct amqp_link *l)
{
    pthread_mutex_lock(&l->lock);
    l->cancelled = true;
    if (l->fd >= 0)
        shutdown(l->fd, SHUT_RDWR);
    pthread_mutex_unlock(&l->lock);
}

static void keep_fd(struct amqp_link *l, int fd)
{
    pthread_mutex_lock(&l->lock);
    if (l->fd >= 0)
        close(l->fd);
    l->fd = fd;
    if (fd >= 0 && l->cancelled)
        shutdown(fd, SHUT_RDWR);
    pthread_mutex_unlock(&l->lock);
}

static struct timeval timeval_of(uint64_t ns)
{
    return (struct timeval){.tv_sec = (time_t)(ns / NS_PER_S),
                            .tv_usec = (suseconds_t)(ns % NS_PER_S / 1000)};
}

static int trust(amqp_socket_t *socket, const char *ca_file)
{
    amqp_ssl_socket_set_verify_peer(socket, 1);
    amqp_ssl_socket_set_verify_hostname(socket, 1);
    int status = amqp_ssl_socket_set_ssl_versions(socket, AMQP_TLSv1_2, AMQP_TLSvLATEST);
    if (status != AMQP_STATUS_OK || ca_file[0])
        return status == AMQP_STATUS_OK ? amqp_ssl_socket_set_cacert(socket, ca_file) : status;
    return SSL_CTX_set_default_verify_paths(amqp_ssl_socket_get_context(socket)) == 1
               ? AMQP_STATUS_OK
               : AMQP_STATUS_SSL_ERROR;
}

static enum sink_outcome dial(struct amqp_link *l, const struct amqp_target *to,
                              const char *ca_file, struct error *err)
{
    l->conn = amqp_new_connection();
    CHECK(l->conn);
    amqp_socket_t *socket = to->tls ? amqp_ssl_socket_new(l->conn) : amqp_tcp_socket_new(l->conn);
    CHECK(socket);
    int status = to->tls ? trust(socket, ca_file) : AMQP_STATUS_OK;
    if (status != AMQP_STATUS_OK)
        return amqp_link_lost(l, "rabbitmq.ca_file", status, err);
    const struct timeval most = timeval_of(l->timeout_ns < CONNECT_NS ? l->timeout_ns : CONNECT_NS);
    status = amqp_socket_open_noblock(socket, to->host, to->port, &most);
    if (status != AMQP_STATUS_OK)
        return amqp_link_lost(l, "connecting", status, err);
    keep_fd(l, fcntl(amqp_get_sockfd(l->conn), F_DUPFD_CLOEXEC, 0));
    return SINK_DONE;
}

/* Whether it is told of a broker that is low on memory or disk, and who we are. */
static amqp_rpc_reply_t log_in(struct amqp_link *l, const struct amqp_target *to,
                               const char *password)
{
    amqp_table_entry_t can[] = {
        {amqp_cstring_bytes("connection.blocked"), {AMQP_FIELD_KIND_BOOLEAN, {.boolean = 1}}}};
    amqp_table_entry_t entries[] = {
        {amqp_cstring_bytes("product"),
         {AMQP_FIELD_KIND_UTF8, {.bytes = amqp_cstring_bytes("Sluice")}}},
        {amqp_cstring_bytes("connection_name"),
         {AMQP_FIELD_KIND_UTF8, {.bytes = amqp_cstring_bytes("sluice")}}},
        {amqp_cstring_bytes("capabilities"), {AMQP_FIELD_KIND_TABLE, {.table = {1, can}}}}};
    const amqp_table_t properties = {3, entries};
    const struct timeval timeout = timeval_of(l->timeout_ns);
    amqp_set_handshake_timeout(l->conn, &timeout);
    amqp_set_rpc_timeout(l->conn, &timeout);
    return amqp_login_with_properties(l->conn, to->vhost, 0, FRAME_MAX, (int)l->heartbeat_s,
                                      &properties, AMQP_SASL_METHOD_PLAIN, to->user, password);
}

enum sink_outcome amqp_link_open(struct amqp_link *l, const struct amqp_target *to,
                                 const char *password, const char *ca_file, struct error *err)
{
    amqp_link_close(l);
    if (dial(l, to, ca_file, err) != SINK_DONE)
        return SINK_AWAY;
    if (judge(l, log_in(l, to, password), "login", err) != 0)
        return SINK_AWAY;
    l->healthy = true;
    l->blocked = false;
    amqp_channel_open(l->conn, AMQP_CHANNEL);
    l->channel = amqp_link_reply(l, "channel", err) == 0;
    return l->channel ? SINK_DONE : SINK_AWAY;
}

void amqp_link_close(struct amqp_link *l)
{
    amqp_connection_close_t bye = {.reply_code = AMQP_REPLY_SUCCESS,
                                   .reply_text = amqp_cstring_bytes("bye")};
    if (!l->conn)
        return;
    /* The answer is not waited for, nor is TLS's at the end. */
    if (l->healthy && amqp_link_writable(l, clock_mono_ns() + READY_LOOK_MS * NS_PER_MS))
        amqp_send_method(l->conn, 0, AMQP_CONNECTION_CLOSE_METHOD, &bye);
    pthread_mutex_lock(&l->lock);
    if (l->fd >= 0)
        shutdown(l->fd, SHUT_RDWR);
    pthread_mutex_unlock(&l->lock);
    keep_fd(l, -1);
    amqp_destroy_connection(l->conn);
    l->conn = NULL;
    l->channel = l->healthy = false;
}

enum sink_outcome amqp_link_reopen(struct amqp_link *l, struct error *err)
{
    amqp_channel_close_ok_t ok = {0};
    int status = amqp_send_method(l->conn, AMQP_CHANNEL, AMQP_CHANNEL_CLOSE_OK_METHOD, &ok);
    if (status != AMQP_STATUS_OK)
        return amqp_link_lost(l, "channel", status, err);
    amqp_maybe_release_buffers(l->conn);
    amqp_channel_open(l->conn, AMQP_CHANNEL);
    l->channel = amqp_link_reply(l, "channel", err) == 0;
    return l->channel ? SINK_DONE : SINK_AWAY;
}

/* ---- waiting --------------------------------------------------------------------------------- */

bool amqp_link_writable(struct amqp_link *l, uint64_t end_ns)
{
    return ready_wait(amqp_get_sockfd(l->conn), POLLOUT, end_ns, &l->cancelled);
}

enum sink_outcome amqp_link_frame(struct amqp_link *l, bool wait, amqp_frame_t *ret, bool *ret_has,
                                  struct error *err)
{
    struct timeval most = {.tv_usec = wait ? READY_LOOK_MS * 1000 : 0};
    *ret_has = false;
    amqp_maybe_release_buffers(l->conn);
    int status = amqp_simple_wait_frame_noblock(l->conn, ret, &most);
    if (amqp_link_cancelled(l))
        return amqp_link_lost(l, "waiting", AMQP_STATUS_OK, err);
    if (status == AMQP_STATUS_TIMEOUT)
        return SINK_DONE;
    if (status != AMQP_STATUS_OK)
        return amqp_link_lost(l, "waiting", status, err);
    *ret_has = true;
    return SINK_DONE;
}
