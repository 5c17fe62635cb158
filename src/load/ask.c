/* SPDX-License-Identifier: Apache-2.0 */
#include "load/ask.h"

#include <errno.h>
#include <netdb.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/clock.h"

#define AGAIN_NS     (100 * NS_PER_MS)
#define AGAIN_NS_MAX (5 * NS_PER_S) /* however long a Retry-After is */
#define READ_BYTES   65536

void ask_init(struct ask *a, const struct url *url, const char *key, uint64_t timeout_ns)
{
    *a = (struct ask){.url = url, .key = key, .timeout_ns = timeout_ns, .fd = -1};
    buf_init(&a->in, RESPONSE_BYTES_MAX + READ_BYTES);
}

static void hang_up(struct ask *a)
{
    if (a->fd >= 0)
        close(a->fd);
    a->fd = -1;
}

void ask_fini(struct ask *a)
{
    if (!a->url)
        return;
    hang_up(a);
    buf_fini(&a->in);
}

static int dial(struct ask *a, struct error *err)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct addrinfo *all;
    int rc = getaddrinfo(a->url->host, a->url->port, &hints, &all);
    if (rc)
        return error_set(err, -EHOSTUNREACH, "%s: %s", a->url->host, gai_strerror(rc));
    rc = -EHOSTUNREACH;
    for (const struct addrinfo *one = all; one && a->fd < 0; one = one->ai_next) {
        a->fd = socket(one->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        struct timeval wait = {.tv_sec = (time_t)(a->timeout_ns / NS_PER_S) + 1};
        setsockopt(a->fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
        setsockopt(a->fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait);
        if (a->fd < 0 || connect(a->fd, one->ai_addr, one->ai_addrlen) < 0) {
            rc = -errno;
            hang_up(a);
        }
    }
    freeaddrinfo(all);
    return a->fd >= 0 ? 0 : rc;
}

static int say(struct ask *a, struct slice target)
{
    struct buf out;
    buf_init(&out, READ_BYTES);
    buf_printf(&out, "GET %.*s HTTP/1.1\r\nHost: %.*s\r\n", SLICE_ARG(target),
               SLICE_ARG(a->url->authority));
    if (a->key)
        buf_printf(&out, "X-AIO-Key: %s\r\n", a->key);
    buf_put_str(&out, "\r\n");
    int rc = out.failed ? -E2BIG : 0;
    for (size_t at = 0; at < out.len && rc == 0;) {
        ssize_t n = send(a->fd, out.ptr + at, out.len - at, MSG_NOSIGNAL);
        if (n > 0)
            at += (size_t)n;
        else if (errno != EINTR)
            rc = -errno;
    }
    buf_fini(&out);
    return rc;
}

static int hear(struct ask *a, struct response *ret)
{
    buf_clear(&a->in);
    for (;;) {
        char *to = buf_reserve(&a->in, READ_BYTES);
        if (!to)
            return -EMSGSIZE;
        ssize_t n = recv(a->fd, to, READ_BYTES, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n == 0 ? -ECONNRESET : errno == EAGAIN ? -ETIMEDOUT : -errno;
        a->in.len += (size_t)n;
        enum response_outcome outcome = response_parse(buf_slice(&a->in), false, ret);
        if (outcome == RESPONSE_BAD)
            return -EPROTO;
        if (outcome == RESPONSE_DONE)
            return 0;
    }
}

static int attempt(struct ask *a, struct slice target, struct response *ret, struct error *err)
{
    int rc = a->fd < 0 ? dial(a, err) : 0;
    if (rc == 0)
        rc = say(a, target);
    if (rc == 0)
        rc = hear(a, ret);
    if (rc || ret->close)
        hang_up(a);
    return rc;
}

int ask_get(struct ask *a, struct slice target, struct response *ret, struct error *err)
{
    uint64_t began = clock_mono_ns();
    for (;;) {
        int rc = attempt(a, target, ret, err);
        bool later = rc == 0 && (ret->status == 429 || ret->status == 503);
        if (rc == 0 && !later)
            return 0;
        uint64_t wait = later ? ret->retry_s * NS_PER_S : 0;
        wait = wait > AGAIN_NS_MAX ? AGAIN_NS_MAX : wait < AGAIN_NS ? AGAIN_NS : wait;
        if (clock_mono_ns() + wait - began > a->timeout_ns)
            return rc == 0 ? error_set(err, -EBUSY, "GET %.*s at %.*s: answered %u too long",
                                       SLICE_ARG(target), SLICE_ARG(a->url->authority), ret->status)
                           : error_set(err, rc, "GET %.*s at %.*s: %s", SLICE_ARG(target),
                                       SLICE_ARG(a->url->authority), strerror(-rc));
        clock_sleep_ns(wait);
    }
}
