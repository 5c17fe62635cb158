/* SPDX-License-Identifier: Apache-2.0 */
/* From a parsed head to a protocol-neutral request. */
#include "base/metric.h"
#include "codec/text.h"
#include "front/http_private.h"

/* The fields that say who is sending and how the body is packed. */
struct found {
    struct slice device_id, device_token, aio_key, origin;
    struct slice idempotency_key, device_seq;
    struct slice accept, if_none_match;
};

static void look_at_field(const struct http1_field *f, struct found *ret)
{
    switch (f->name.len) {
    case 6:
        if (slice_eq_nocase(f->name, SLICE("origin")))
            ret->origin = f->value;
        else if (slice_eq_nocase(f->name, SLICE("accept")))
            ret->accept = f->value;
        break;
    case 9:
        if (slice_eq_nocase(f->name, SLICE("x-aio-key")))
            ret->aio_key = f->value;
        break;
    case 11:
        if (slice_eq_nocase(f->name, SLICE("x-device-id")))
            ret->device_id = f->value;
        break;
    case 12:
        if (slice_eq_nocase(f->name, SLICE("x-device-seq")))
            ret->device_seq = f->value;
        break;
    case 13:
        if (slice_eq_nocase(f->name, SLICE("if-none-match")))
            ret->if_none_match = f->value;
        break;
    case 14:
        if (slice_eq_nocase(f->name, SLICE("x-device-token")))
            ret->device_token = f->value;
        break;
    case 15:
        if (slice_eq_nocase(f->name, SLICE("idempotency-key")))
            ret->idempotency_key = f->value;
        break;
    default:
        break;
    }
}

/* Collapses "//" and drops a trailing "/" (Adafruit's Python client sends both), in place. */
static struct slice tidy_path(char *ptr, size_t len)
{
    size_t out = 0;
    for (size_t i = 0; i < len; i++) {
        if (ptr[i] == '/' && out && ptr[out - 1] == '/')
            continue;
        ptr[out++] = ptr[i];
    }
    if (out > 1 && ptr[out - 1] == '/')
        out--;
    return slice_of(ptr, out);
}

static bool path_is_tidy(struct slice p)
{
    for (size_t i = 0; i < p.len; i++) {
        if (p.ptr[i] == '%' || (p.ptr[i] == '/' && (i + 1 == p.len ? i > 0 : p.ptr[i + 1] == '/')))
            return false;
    }
    return true;
}

/* Appends to scratch without ever moving it: slices into it must stay good, so its room was
 * reserved once for all parts. */
static bool fill_path(struct http_exchange *e, struct slice path)
{
    if (path_is_tidy(path)) {
        e->x.request.path = path;
        return true;
    }
    size_t at = e->scratch.len;
    if (!percent_decode(path, false, &e->scratch))
        return false;
    e->x.request.path = tidy_path(e->scratch.ptr + at, e->scratch.len - at);
    return true;
}

/* The key may stand in the query, in any case (PortalBase sends it so). */
static struct slice key_in_query(struct slice query, struct buf *scratch)
{
    struct slice name, value;
    while (query_next(&query, &name, &value)) {
        if (!slice_eq_nocase(name, SLICE("x-aio-key")))
            continue;
        size_t at = scratch->len;
        if (percent_decode(value, true, scratch))
            return slice_of(scratch->ptr + at, scratch->len - at);
    }
    return (struct slice){0};
}

static void fill_presented(struct http_exchange *e, const struct http1_request *r,
                           const struct found *found)
{
    struct presented *p = &e->x.request.presented;
    if (found->device_id.ptr) {
        *p = (struct presented){PRESENTED_DEVICE, found->device_id, found->device_token};
    } else if (found->aio_key.ptr) {
        *p = (struct presented){.kind = PRESENTED_KEY, .secret = found->aio_key};
    } else if (r->authorization.ptr) {
        struct slice user, password;
        if (basic_decode(r->authorization, &e->scratch, &user, &password))
            *p = (struct presented){PRESENTED_BASIC, user, password};
    } else if (r->query.len) {
        struct slice key = key_in_query(r->query, &e->scratch);
        if (key.len)
            *p = (struct presented){.kind = PRESENTED_KEY, .secret = key};
    }
    /* Who says something else of himself means that: a gateway may send for its devices. */
    struct slice certified = stream_identity(e->conn->stream);
    if (p->kind == PRESENTED_NONE && certified.ptr)
        *p = (struct presented){.kind = PRESENTED_CERTIFICATE, .id = certified};
}

static enum reason unpack_body(struct http_exchange *e, struct slice coding, struct slice body)
{
    e->x.request.body = body;
    if (!coding.len || slice_eq_nocase(coding, SLICE("identity")) || !body.len)
        return REASON_ok;
    if (!slice_eq_nocase(coding, SLICE("gzip")) && !slice_eq_nocase(coding, SLICE("x-gzip")))
        return REASON_media_type;
    buf_clear(&e->body);
    enum gunzip_outcome outcome = gunzip(body, &e->body);
    http_weigh(e);
    if (outcome == GUNZIP_OK) {
        e->x.request.body = buf_slice(&e->body);
        return REASON_ok;
    }
    return outcome == GUNZIP_TOO_LARGE ? REASON_too_large : REASON_bad_body;
}

static struct forwarded forwarded_of(const struct http_tune *t, const struct http1_request *r)
{
    return (struct forwarded){r->fields, r->fields_count, t->use_forwarded, t->trusted,
                              t->trusted_count};
}

struct address http_client(const struct http_tune *t, const struct http1_request *r,
                           const struct address *peer)
{
    const struct forwarded f = forwarded_of(t, r);
    return t->trusted_count ? forwarded_client(&f, peer) : *peer;
}

static bool is_secure(const struct http_conn *c, const struct http1_request *r)
{
    const struct http_tune *t = &c->front->opts.tune;
    const struct forwarded f = forwarded_of(t, r);
    return stream_is_tls(c->stream) ||
           (t->trusted_count &&
            (stream_is_proxied(c->stream) || forwarded_trusts(&f, stream_peer(c->stream))) &&
            forwarded_is_https(&f));
}

enum reason http_request_fill(struct http_exchange *e, const struct http1_request *r,
                              struct slice body, const struct address *client)
{
    struct request *q = &e->x.request;
    struct found found = {0};
    for (unsigned i = 0; i < r->fields_count; i++)
        look_at_field(&r->fields[i], &found);

    q->method = (enum method)r->method;
    q->surface = e->front->opts.surface;
    q->query = r->query;
    q->content_type = r->content_type;
    q->host = r->host;
    q->accept = found.accept;
    q->if_none_match = found.if_none_match;
    q->idempotency_key = found.idempotency_key;
    q->device_seq = found.device_seq;
    e->close = !r->keep_alive;
    e->head_only = r->method == HTTP1_HEAD;
    e->minor0 = r->minor == 0;
    e->has_origin = found.origin.ptr && e->front->opts.tune.cors_origin[0];

    const struct http_tune *t = &e->front->opts.tune;
    struct address from = http_client(t, r, client);
    q->source = address_source(&from);
    q->secure = is_secure(e->conn, r);
    q->shared = t->trusted_count && q->source != address_source(client);

    buf_clear(&e->scratch);
    /* Decoded text is never longer than what it comes from. */
    if (!buf_reserve(&e->scratch, r->path.len + r->query.len + r->authorization.len + 8))
        return REASON_internal;
    if (!fill_path(e, r->path))
        return REASON_bad_request;
    fill_presented(e, r, &found);
    return unpack_body(e, r->content_encoding, body);
}
