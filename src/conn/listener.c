/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "base/metric.h"
#include "conn/stream_private.h"

struct listener {
    union {
        uv_handle_t any;
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    } handle;
    struct worker *worker;
    struct listener_opts opts;
    bool is_unix;
};

static bool is_path(struct slice where)
{
    return where.len && memchr(where.ptr, '/', where.len);
}

static void on_refused(uv_handle_t *handle)
{
    free(handle->data);
}

static int init_handle(uv_loop_t *loop, struct stream *s, bool is_unix)
{
    return is_unix ? uv_pipe_init(loop, &s->handle.pipe, 0) : uv_tcp_init(loop, &s->handle.tcp);
}

static void read_peer(struct stream *s)
{
    struct sockaddr_storage from;
    int len = sizeof from;
    if (uv_tcp_getpeername(&s->handle.tcp, (struct sockaddr *)&from, &len) != 0)
        return;
    if (from.ss_family == AF_INET) {
        const struct sockaddr_in *v4 = (const struct sockaddr_in *)&from;
        s->peer.bytes[10] = s->peer.bytes[11] = 0xff;
        memcpy(s->peer.bytes + 12, &v4->sin_addr, 4);
        s->peer.port = ntohs(v4->sin_port);
    } else if (from.ss_family == AF_INET6) {
        const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)&from;
        memcpy(s->peer.bytes, &v6->sin6_addr, 16);
        s->peer.port = ntohs(v6->sin6_port);
    }
}

static void on_connection(uv_stream_t *server, int status)
{
    struct listener *l = server->data;
    if (status < 0)
        return;
    struct stream *s = calloc(1, sizeof *s);
    if (!s || init_handle(worker_loop(l->worker), s, l->is_unix) != 0) {
        free(s);
        return; /* libuv holds the connection and accepts no more here: no memory is no service */
    }
    s->handle.any.data = s;
    s->worker = l->worker;
    if (uv_accept(server, &s->handle.stream) != 0 || uv_fileno(&s->handle.any, &s->fd) != 0) {
        uv_close(&s->handle.any, on_refused);
        return;
    }
    unsigned open = l->opts.open ? __atomic_fetch_add(l->opts.open, 1, __ATOMIC_RELAXED) : 0;
    s->open = l->opts.open;
    if (!l->is_unix) {
        uv_tcp_nodelay(&s->handle.tcp, 1);
        read_peer(s);
    }
    metric_add(METRIC_connections_accepted, 1);
    metric_move(METRIC_connections_open, 1);
    if ((l->opts.open && open >= l->opts.open_max) || !l->opts.accept(l->opts.arg, s)) {
        metric_add(METRIC_connections_refused, 1);
        s->ops = NULL;
        stream_close(s);
        return;
    }
    stream_begin(s);
}

static int bind_unix(struct listener *l, struct slice where)
{
    char path[108];
    if (where.len >= sizeof path)
        return -ENAMETOOLONG;
    memcpy(path, where.ptr, where.len);
    path[where.len] = 0;
    struct stat st;
    if (lstat(path, &st) == 0 && S_ISSOCK(st.st_mode))
        unlink(path);
    mode_t before = umask(0077); /* only the owner may talk to it */
    int rc = uv_pipe_bind(&l->handle.pipe, path);
    umask(before);
    return rc;
}

/* False: no address. */
static bool to_sockaddr(struct slice where, struct sockaddr_storage *to)
{
    struct address a;
    if (!address_parse(where, &a))
        return false;
    *to = (struct sockaddr_storage){0};
    if (address_is_v4(&a)) {
        struct sockaddr_in *v4 = (struct sockaddr_in *)to;
        v4->sin_family = AF_INET;
        v4->sin_port = htons(a.port);
        memcpy(&v4->sin_addr, a.bytes + 12, 4);
    } else {
        struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)to;
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons(a.port);
        memcpy(&v6->sin6_addr, a.bytes, 16);
    }
    return true;
}

int listener_probe(struct slice where)
{
    struct sockaddr_storage to;
    if (is_path(where))
        return 0;
    if (!to_sockaddr(where, &to))
        return -EINVAL;
    int fd = socket(to.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    int on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    int rc = bind(fd, (const struct sockaddr *)&to, sizeof to) == 0 ? 0 : -errno;
    close(fd);
    return rc;
}

static int bind_tcp(struct listener *l, struct slice where)
{
    struct sockaddr_storage to;
    if (!to_sockaddr(where, &to))
        return -EINVAL;
    int rc = uv_tcp_init_ex(worker_loop(l->worker), &l->handle.tcp, to.ss_family);
    if (rc)
        return rc;
    uv_os_fd_t fd;
    int on = 1;
    rc = uv_fileno(&l->handle.any, &fd);
    if (!rc && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) != 0)
        rc = -errno;
    if (!rc)
        rc = uv_tcp_bind(&l->handle.tcp, (const struct sockaddr *)&to, 0);
    return rc;
}

static void on_listener_closed(uv_handle_t *handle)
{
    free(handle->data);
}

int listener_open(struct worker *w, struct slice where, const struct listener_opts *opts,
                  struct listener **ret)
{
    struct listener *l = calloc(1, sizeof *l);
    CHECK(l);
    l->worker = w;
    l->opts = *opts;
    l->is_unix = is_path(where);
    int rc;
    if (l->is_unix) {
        rc = uv_pipe_init(worker_loop(w), &l->handle.pipe, 0);
        l->handle.any.data = l;
        if (!rc)
            rc = bind_unix(l, where);
    } else {
        rc = bind_tcp(l, where);
        if (rc == -EINVAL && !l->handle.any.loop) {
            free(l);
            return rc;
        }
    }
    l->handle.any.data = l;
    if (!rc)
        rc = uv_listen(&l->handle.stream, opts->backlog, on_connection);
    if (rc) {
        uv_close(&l->handle.any, on_listener_closed);
        return rc;
    }
    *ret = l;
    return 0;
}

unsigned listener_port(const struct listener *l)
{
    struct sockaddr_storage at;
    int len = sizeof at;
    if (l->is_unix || uv_tcp_getsockname(&l->handle.tcp, (struct sockaddr *)&at, &len) != 0)
        return 0;
    return at.ss_family == AF_INET6 ? ntohs(((struct sockaddr_in6 *)&at)->sin6_port)
                                    : ntohs(((struct sockaddr_in *)&at)->sin_port);
}

void listener_close(struct listener *l)
{
    if (l)
        uv_close(&l->handle.any, on_listener_closed);
}
