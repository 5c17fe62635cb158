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

int ask_init(struct ask *a, const struct load_opts *opts, const struct url *url, const char *key,
             struct error *err)
{
    *a = (struct ask){.url = url, .key = key, .timeout_ns = opts->timeout_ns, .fd = -1};
    buf_init(&a->in, RESPONSE_BYTES_MAX + READ_BYTES);
    return url_is_secure(url) ? tls_client_context(opts, &a->tls, err) : 0;
}

static void hang_up(struct ask *a)
{
    SSL_free(a->ssl);
    a->ssl = NULL;
    if (a->fd >= 0)
        close(a->fd);
    a->fd = -1;
}

void ask_fini(struct ask *a)
{
    if (!a->url)
        return;
    hang_up(a);
    SSL_CTX_free(a->tls);
    buf_fini(&a->in);
}

/* TLS on the open connection. */
static int secure(struct ask *a, struct error *err)
{
    char why[256];
    a->ssl = tls_client_new(a->tls, a->url->host);
    if (!a->ssl || !SSL_set_fd(a->ssl, a->fd))
        return -ENOMEM;
    if (SSL_connect(a->ssl) == 1)
        return 0;
    tls_client_why(a->ssl, why, sizeof why);
    return error_set(err, -EPROTO, "%.*s: %s", SLICE_ARG(a->url->authority), why);
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
    return a->fd < 0 ? rc : a->tls ? secure(a, err) : 0;
}

static ssize_t put(struct ask *a, const char *ptr, size_t len)
{
    if (!a->ssl)
        return send(a->fd, ptr, len, MSG_NOSIGNAL);
    int n = SSL_write(a->ssl, ptr, (int)len);
    errno = n > 0 ? errno : ECONNRESET;
    return n;
}

static ssize_t get(struct ask *a, char *ptr, size_t len)
{
    if (!a->ssl)
        return recv(a->fd, ptr, len, 0);
    int n = SSL_read(a->ssl, ptr, (int)len);
    return n > 0 ? n : 0;
}

static int say(struct ask *a, struct slice target, struct slice body)
{
    struct buf out;
    buf_init(&out, READ_BYTES + body.len);
    buf_printf(&out, "%s %.*s HTTP/1.1\r\nHost: %.*s\r\n", body.len ? "POST" : "GET",
               SLICE_ARG(target), SLICE_ARG(a->url->authority));
    if (a->key)
        buf_printf(&out, "X-AIO-Key: %s\r\n", a->key);
    if (body.len)
        buf_printf(&out, "Content-Type: application/json\r\nContent-Length: %zu\r\n", body.len);
    buf_put_str(&out, "\r\n");
    buf_put_slice(&out, body);
    int rc = out.failed ? -E2BIG : 0;
    for (size_t at = 0; at < out.len && rc == 0;) {
        ssize_t n = put(a, out.ptr + at, out.len - at);
        if (n > 0)
            at += (size_t)n;
        else if (errno != EINTR)
            rc = -errno;
    }
    buf_fini(&out);
    return rc;
}

static bool told_to_stop(const struct ask *a)
{
    return a->stop && *a->stop;
}

static int hear(struct ask *a, struct response *ret)
{
    buf_clear(&a->in);
    for (;;) {
        char *to = buf_reserve(&a->in, READ_BYTES);
        if (!to)
            return -EMSGSIZE;
        ssize_t n = get(a, to, READ_BYTES);
        if (n < 0 && errno == EINTR && !told_to_stop(a))
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

/* *ret_said: the server may have got the question. */
static int attempt(struct ask *a, struct slice target, struct slice body, struct response *ret,
                   bool *ret_said, struct error *err)
{
    int rc = a->fd < 0 ? dial(a, err) : 0;
    *ret_said = rc == 0;
    if (rc == 0)
        rc = say(a, target, body);
    if (rc == 0)
        rc = hear(a, ret);
    if (rc || ret->close)
        hang_up(a);
    return rc;
}

int ask(struct ask *a, struct slice target, struct slice body, struct response *ret,
        struct error *err)
{
    uint64_t began = clock_mono_ns();
    for (;;) {
        bool said;
        struct error why = {0};
        int rc = attempt(a, target, body, ret, &said, &why);
        bool later = rc == 0 && (ret->status == 429 || ret->status == 503);
        if (rc == 0 && !later)
            return 0;
        if (told_to_stop(a))
            return -EINTR;
        uint64_t wait = later ? ret->retry_s * NS_PER_S : 0;
        wait = wait > AGAIN_NS_MAX ? AGAIN_NS_MAX : wait < AGAIN_NS ? AGAIN_NS : wait;
        bool over = clock_mono_ns() + wait - began > a->timeout_ns;
        if (rc == 0 && over)
            return error_set(err, -EBUSY, "%.*s%.*s: answers %u all the time",
                             SLICE_ARG(a->url->authority), SLICE_ARG(target), ret->status);
        if (rc && (over || rc == -EPROTO || (said && body.len)))
            return error_set(err, rc, "%.*s%.*s: %s", SLICE_ARG(a->url->authority),
                             SLICE_ARG(target), why.text[0] ? why.text : strerror(-rc));
        clock_sleep_ns(wait);
    }
}

bool ask_member(struct json v, struct slice name, struct json *ret)
{
    struct json key;
    struct slice rest = v.type == JSON_OBJECT ? json_members(v) : (struct slice){0};
    while (rest.len && json_next_member(&rest, &key, ret))
        if (slice_eq(key.raw, name))
            return true;
    return false;
}

bool ask_text(const struct response *r, struct slice name, struct buf *out)
{
    struct json whole, value;
    size_t at;
    const char *why;
    if (!json_parse(r->body, &whole, &at, &why) || !ask_member(whole, name, &value) ||
        value.type != JSON_STRING)
        return false;
    json_unescape(value, out);
    return out->len > 0 && !out->failed;
}
