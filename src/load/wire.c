/* SPDX-License-Identifier: Apache-2.0 */
#include "load/wire.h"

#include <netinet/in.h>

#include "base/check.h"
#include "load/tls_client.h"
#include "load/wire_private.h"

#define HEAD_MAX 8192

int wires_init(struct wires *all, const struct load_opts *opts, struct error *err)
{
    all->host = opts->url.host;
    buf_init(&all->upgrade, HEAD_MAX);
    buf_init(&all->frame, WIRE_OUT_MAX);
    if (url_is_websocket(&opts->url))
        wire_ws_init(all, &opts->url);
    return url_is_secure(&opts->url) ? tls_client_context(opts, &all->tls, err) : 0;
}

void wires_fini(struct wires *all)
{
    SSL_CTX_free(all->tls);
    all->tls = NULL;
    buf_fini(&all->upgrade);
    buf_fini(&all->frame);
}

void wire_init(struct wire *w, struct wires *all, void *owner)
{
    *w = (struct wire){.all = all, .owner = owner};
    buf_init(&w->flying, WIRE_OUT_MAX);
    buf_init(&w->waiting, WIRE_OUT_MAX);
    buf_init(&w->head, HEAD_MAX);
}

void wire_fini(struct wire *w)
{
    SSL_free(w->ssl);
    w->ssl = NULL;
    buf_fini(&w->flying);
    buf_fini(&w->waiting);
    buf_fini(&w->head);
}

void wire_fail(struct wire *w, int error)
{
    if (!w->closing)
        w->all->ops->failed(w->owner, error);
}

/* ---- out ---- */

static void on_written(uv_write_t *write, int status);

static int fly(struct wire *w, size_t from)
{
    uv_buf_t b = uv_buf_init(w->flying.ptr + from, (unsigned)(w->flying.len - from));
    w->write.data = w;
    return uv_write(&w->write, (uv_stream_t *)&w->tcp, &b, 1, on_written);
}

static void on_written(uv_write_t *write, int status)
{
    struct wire *w = write->data;
    struct buf written = w->flying;
    buf_clear(&written);
    w->flying = w->waiting;
    w->waiting = written;
    if (status == 0 && w->flying.len)
        status = fly(w, 0);
    if (status < 0 && status != UV_ECANCELED)
        wire_fail(w, status);
    else if (status == 0 && !w->flying.len && w->open && !w->closing)
        w->all->ops->drained(w->owner);
}

int wire_put(struct wire *w, struct slice bytes)
{
    if (w->closing)
        return UV_ECANCELED;
    if (w->flying.len) {
        buf_put_slice(&w->waiting, bytes);
        return w->waiting.failed ? UV_ENOBUFS : 0;
    }
    uv_buf_t b = uv_buf_init((char *)(uintptr_t)bytes.ptr, (unsigned)bytes.len);
    int n = uv_try_write((uv_stream_t *)&w->tcp, &b, 1);
    if (n == (int)bytes.len)
        return 0;
    if (n < 0 && n != UV_EAGAIN)
        return n;
    buf_put_slice(&w->flying, slice_from(bytes, n > 0 ? (size_t)n : 0));
    return w->flying.failed ? UV_ENOBUFS : fly(w, 0);
}

int wire_put_secret(struct wire *w, struct slice bytes)
{
    return w->ssl ? wire_tls_put(w, bytes) : wire_put(w, bytes);
}

int wire_send(struct wire *w, struct slice bytes)
{
    CHECK(w->open);
    return w->all->upgrade.len ? wire_ws_put(w, bytes) : wire_put_secret(w, bytes);
}

/* ---- in ---- */

void wire_below_bytes(struct wire *w, struct slice in)
{
    if (w->all->upgrade.len)
        wire_ws_bytes(w, in);
    else
        w->all->ops->bytes(w->owner, in);
}

void wire_below_opened(struct wire *w)
{
    if (w->all->upgrade.len) {
        wire_ws_start(w);
        return;
    }
    w->open = true;
    w->all->ops->opened(w->owner);
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *ret)
{
    struct wire *w = handle->data;
    *ret = uv_buf_init(w->all->input, sizeof w->all->input);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *b)
{
    struct wire *w = stream->data;
    if (n == 0 || w->closing)
        return;
    if (n < 0)
        wire_fail(w, (int)n);
    else if (w->ssl)
        wire_tls_bytes(w, slice_of(b->base, (size_t)n));
    else
        wire_below_bytes(w, slice_of(b->base, (size_t)n));
}

static void on_connected(uv_connect_t *connect, int status)
{
    struct wire *w = connect->data;
    if (w->closing)
        return;
    if (status == 0)
        status = uv_read_start((uv_stream_t *)&w->tcp, on_alloc, on_read);
    if (status < 0) {
        wire_fail(w, status);
        return;
    }
    uv_tcp_nodelay(&w->tcp, 1);
    if (w->all->tls)
        wire_tls_start(w);
    else
        wire_below_opened(w);
}

/* ---- beginning and end ---- */

int wire_open(struct wire *w, uint32_t source)
{
    w->open = w->closing = w->upgraded = false;
    w->left = 0;
    CHECK(uv_tcp_init(w->all->loop, &w->tcp) == 0);
    w->tcp.data = w;
    w->connect.data = w;
    int rc = 0;
    if (source) {
        struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(source)};
        rc = uv_tcp_bind(&w->tcp, (struct sockaddr *)&a, 0);
    }
    return rc ? rc : uv_tcp_connect(&w->connect, &w->tcp, w->all->address, on_connected);
}

static void on_closed(uv_handle_t *handle)
{
    struct wire *w = handle->data;
    SSL_free(w->ssl);
    w->ssl = NULL;
    buf_clear(&w->flying);
    buf_clear(&w->waiting);
    buf_clear(&w->head);
    w->all->ops->closed(w->owner);
}

void wire_close(struct wire *w)
{
    if (w->closing)
        return;
    if (w->ssl && w->open)
        wire_tls_bye(w);
    w->open = false;
    w->closing = true;
    uv_close((uv_handle_t *)&w->tcp, on_closed);
}
