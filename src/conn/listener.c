/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/metric.h"
#include "conn/hoard.h"
#include "conn/listener_private.h"
#include "conn/opening_private.h"
#include "conn/stream_private.h"

struct listener {
    uv_poll_t poll;
    int fd;
    int spare; /* given up for a moment when there are no descriptors left; -1: was not got back */
    struct deadline rest;
    struct worker *worker;
    struct listener_opts opts;
    struct openings openings;
    bool is_unix;
    bool full; /* rests because too many are opening */
    bool closing;
};

#define LISTENER_REST_NS 100000000ull
#define ACCEPTS_MAX      16u /* at once: those who are connected are served in between */
#define ACCEPT_NS        (20 * NS_PER_US) /* what one costs, about */

static bool is_path(struct slice where)
{
    return where.len && memchr(where.ptr, '/', where.len);
}

static void set_peer(struct stream *s, const struct sockaddr_storage *from)
{
    if (from->ss_family == AF_INET) {
        const struct sockaddr_in *v4 = (const struct sockaddr_in *)from;
        s->peer.bytes[10] = s->peer.bytes[11] = 0xff;
        memcpy(s->peer.bytes + 12, &v4->sin_addr, 4);
        s->peer.port = ntohs(v4->sin_port);
    } else if (from->ss_family == AF_INET6) {
        const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)from;
        memcpy(s->peer.bytes, &v6->sin6_addr, 16);
        s->peer.port = ntohs(v6->sin6_port);
    }
}

bool listener_hand_over(struct listener *l, struct stream *s)
{
    if (l->opts.accept(l->opts.arg, s))
        return true;
    metric_add(METRIC_connections_refused, 1);
    s->ops = NULL;
    stream_close(s);
    return false;
}

static void take_connection(struct listener *l, int fd, const struct sockaddr_storage *from)
{
    metric_add(METRIC_connections_accepted, 1);
    struct stream *s = stream_new(l->worker, fd);
    if (!s) {
        metric_add(METRIC_connections_refused, 1);
        return;
    }
    unsigned open = l->opts.open ? __atomic_fetch_add(l->opts.open, 1, __ATOMIC_RELAXED) : 0;
    s->open = l->opts.open;
    set_peer(s, from);
    metric_move(METRIC_connections_open, 1);
    bool wait = opening_is_needed(l, s);
    if ((l->opts.open && open >= l->opts.tune.open_max) || (wait && !opening_begin(l, s))) {
        metric_add(METRIC_connections_refused, 1);
        stream_close(s);
    } else if (wait || listener_hand_over(l, s)) {
        stream_begin(s);
    }
}

static int accept_one(struct listener *l, struct sockaddr_storage *from)
{
    socklen_t len = sizeof *from;
    return accept4(l->fd, (struct sockaddr *)from, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
}

/* No descriptors left: whoever waits is let in by the spare one and sent away, or the listener
 * would stay readable and the loop would never sleep again. */
static bool turn_away(struct listener *l)
{
    struct sockaddr_storage from;
    if (l->spare >= 0)
        close(l->spare);
    int fd = accept_one(l, &from);
    if (fd >= 0)
        close(fd);
    l->spare = fcntl(l->fd, F_DUPFD_CLOEXEC, 0);
    metric_add(METRIC_connections_refused, fd >= 0);
    return fd >= 0;
}

static void on_connection(uv_poll_t *handle, int status, int events);

static void on_rested(struct deadline *d)
{
    struct listener *l = (struct listener *)((char *)d - offsetof(struct listener, rest));
    if (l->spare < 0)
        l->spare = fcntl(l->fd, F_DUPFD_CLOEXEC, 0);
    l->full = false;
    CHECK(uv_poll_start(&l->poll, UV_READABLE, on_connection) == 0);
}

/* Nobody can be let in: too many are opening, or there is no descriptor, not even to send somebody
 * away with, because another worker was faster with what the spare one had freed. Who waits does so
 * in the backlog meanwhile. */
static void rest(struct listener *l)
{
    uv_poll_stop(&l->poll);
    deadline_set(worker_wheel(l->worker), &l->rest, worker_now_ns(l->worker) + LISTENER_REST_NS);
}

static void on_connection(uv_poll_t *handle, int status, int events)
{
    struct listener *l = handle->data;
    (void)events;
    /* One at least, or another listener could take all the time there is. */
    for (unsigned i = 0; status == 0 && i < ACCEPTS_MAX && (!i || worker_may_toil(l->worker));
         i++) {
        struct sockaddr_storage from = {0};
        worker_toiled(l->worker, ACCEPT_NS);
        if (!openings_have_room(l)) {
            l->full = true;
            rest(l);
            break;
        }
        int fd = accept_one(l, &from);
        if (fd >= 0)
            take_connection(l, fd, &from);
        else if (errno == EMFILE || errno == ENFILE)
            status = turn_away(l) ? 0 : -EMFILE;
        else if (errno != ECONNABORTED && errno != EINTR)
            break;
    }
    if (status == -EMFILE)
        rest(l);
}

void listener_look(struct listener *l)
{
    if (!l->full || l->closing)
        return;
    deadline_clear(&l->rest);
    on_rested(&l->rest);
}

static int bind_unix(int fd, struct slice where)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    if (where.len >= sizeof to.sun_path)
        return -ENAMETOOLONG;
    memcpy(to.sun_path, where.ptr, where.len);
    struct stat st;
    if (lstat(to.sun_path, &st) == 0 && S_ISSOCK(st.st_mode))
        unlink(to.sun_path);
    mode_t before = umask(0077); /* only the owner may talk to it */
    int rc = bind(fd, (const struct sockaddr *)&to, sizeof to) == 0 ? 0 : -errno;
    umask(before);
    return rc;
}

/* False: no address. */
static bool to_sockaddr(struct slice where, struct sockaddr_storage *to)
{
    struct address a;
    *to = (struct sockaddr_storage){0};
    if (!address_parse(where, &a))
        return false;
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

static int inherited(const struct sockaddr_storage *to)
{
    return inherited_listener(to, to->ss_family == AF_INET ? sizeof(struct sockaddr_in)
                                                           : sizeof(struct sockaddr_in6));
}

static void set(int fd, int level, int option)
{
    int on = 1;
    (void)setsockopt(fd, level, option, &on, sizeof on); /* bind tells what matters */
}

int listener_probe(struct slice where)
{
    struct sockaddr_storage to;
    if (is_path(where))
        return 0;
    if (!to_sockaddr(where, &to))
        return -EINVAL;
    int fd = inherited(&to);
    if (fd >= 0) {
        close(fd);
        return 0;
    }
    fd = socket(to.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    set(fd, SOL_SOCKET, SO_REUSEADDR);
    int rc = bind(fd, (const struct sockaddr *)&to, sizeof to) == 0 ? 0 : -errno;
    close(fd);
    return rc;
}

static int bind_tcp(int fd, const struct sockaddr_storage *to)
{
    set(fd, SOL_SOCKET, SO_REUSEADDR);
    set(fd, SOL_SOCKET, SO_REUSEPORT);
    set(fd, IPPROTO_TCP, TCP_NODELAY); /* accepted sockets inherit it (tcp(7)) */
    return bind(fd, (const struct sockaddr *)to, sizeof *to) == 0 ? 0 : -errno;
}

/* A bound socket that listens, made or inherited; or a negative errno. */
static int open_socket(struct slice where, bool is_unix, int backlog)
{
    struct sockaddr_storage to = {.ss_family = AF_UNIX};
    if (!is_unix && !to_sockaddr(where, &to))
        return -EINVAL;
    int fd = is_unix ? -1 : inherited(&to);
    if (fd >= 0) {
        set(fd, IPPROTO_TCP, TCP_NODELAY);
        return fd;
    }
    fd = socket(to.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    int rc = is_unix ? bind_unix(fd, where) : bind_tcp(fd, &to);
    if (!rc && listen(fd, backlog) != 0)
        rc = -errno;
    if (rc)
        close(fd);
    return rc ? rc : fd;
}

/* Before the worker runs too. */
static void set_buffers(const struct listener *l)
{
    if (l->opts.tune.buffers_max)
        worker_hoard(l->worker)->bytes_max = l->opts.tune.buffers_max;
}

int listener_open(struct worker *w, struct slice where, const struct listener_opts *opts,
                  struct listener **ret)
{
    bool is_unix = is_path(where);
    int fd = open_socket(where, is_unix, opts->backlog);
    if (fd < 0)
        return fd;
    struct listener *l = calloc(1, sizeof *l);
    CHECK(l);
    l->fd = fd;
    l->spare = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    l->worker = w;
    l->opts = *opts;
    l->is_unix = is_unix;
    l->rest.due = on_rested;
    l->poll.data = l;
    openings_init(&l->openings);
    set_buffers(l);
    CHECK(uv_poll_init(worker_loop(w), &l->poll, fd) == 0);
    CHECK(uv_poll_start(&l->poll, UV_READABLE, on_connection) == 0);
    *ret = l;
    return 0;
}

const char *listener_why(int rc)
{
    return rc == -EINVAL       ? "write it as address:port"
           : rc == -EADDRINUSE ? "another program listens there; choose another address, or none"
                               : strerror(-rc);
}

unsigned listener_port(const struct listener *l)
{
    struct sockaddr_storage at;
    socklen_t len = sizeof at;
    if (l->is_unix || getsockname(l->fd, (struct sockaddr *)&at, &len) != 0)
        return 0;
    return at.ss_family == AF_INET6 ? ntohs(((struct sockaddr_in6 *)&at)->sin6_port)
                                    : ntohs(((struct sockaddr_in *)&at)->sin_port);
}

static void on_listener_closed(uv_handle_t *handle)
{
    free(handle->data);
}

void listener_tune(struct listener *l, const struct listener_tune *tune)
{
    l->opts.tune = *tune;
    set_buffers(l);
    listener_look(l);
}

struct openings *listener_openings(struct listener *l)
{
    return &l->openings;
}

const struct listener_tune *listener_tune_now(const struct listener *l)
{
    return &l->opts.tune;
}

struct slice listener_alpn(const struct listener *l)
{
    return l->opts.alpn;
}

struct worker *listener_worker(const struct listener *l)
{
    return l->worker;
}

void listener_close(struct listener *l)
{
    if (!l)
        return;
    l->closing = true;
    deadline_clear(&l->rest);
    openings_close(&l->openings);
    uv_close((uv_handle_t *)&l->poll, on_listener_closed);
    close(l->fd);
    if (l->spare >= 0)
        close(l->spare);
}
