/* SPDX-License-Identifier: Apache-2.0 */
/* From a reply to the bytes of an HTTP/1.1 response (RFC 9112 section 4). */
#include "base/clock.h"
#include "codec/etag.h"
#include "front/http_private.h"

/* A body from here on is not copied behind the head: that costs more than to send two parts. With
 * TLS it is, for two parts would be two records, and the head's mostly a packet of its own. */
#define APART_BYTES 4096u

static const char *status_text(unsigned status)
{
    switch (status) {
    case 200:
        return "OK";
    case 201:
        return "Created";
    case 202:
        return "Accepted";
    case 204:
        return "No Content";
    case 304:
        return "Not Modified";
    case 400:
        return "Bad Request";
    case 401:
        return "Unauthorized";
    case 403:
        return "Forbidden";
    case 404:
        return "Not Found";
    case 405:
        return "Method Not Allowed";
    case 406:
        return "Not Acceptable";
    case 408:
        return "Request Timeout";
    case 409:
        return "Conflict";
    case 413:
        return "Content Too Large";
    case 414:
        return "URI Too Long";
    case 415:
        return "Unsupported Media Type";
    case 417:
        return "Expectation Failed";
    case 422:
        return "Unprocessable Content";
    case 426:
        return "Upgrade Required";
    case 429:
        return "Too Many Requests";
    case 431:
        return "Request Header Fields Too Large";
    case 500:
        return "Internal Server Error";
    case 501:
        return "Not Implemented";
    case 503:
        return "Service Unavailable";
    case 505:
        return "HTTP Version Not Supported";
    case 507:
        return "Insufficient Storage";
    default:
        return "Unknown";
    }
}

static void put_cors(struct buf *out, const struct http_exchange *e)
{
    buf_printf(out,
               "Access-Control-Allow-Origin: %s\r\n"
               "Access-Control-Expose-Headers: X-Pagination-Limit, X-Pagination-Start, "
               "X-Pagination-End, X-Pagination-Count, X-Pagination-Total, Retry-After, RateLimit, "
               "RateLimit-Policy, X-Sluice-Offset, Idempotency-Replayed, Link, ETag\r\n",
               e->front->opts.tune.cors_origin);
    if (e->x.request.method == METHOD_OPTIONS)
        buf_put_str(
            out, "Access-Control-Allow-Methods: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n"
                 "Access-Control-Allow-Headers: DNT, Origin, X-Requested-With, X-AIO-Key, "
                 "X-Device-Id, X-Device-Token, Content-Type, Content-Encoding, Accept, "
                 "Authorization, Idempotency-Key, X-Device-Seq, X-Sluice-Offset, If-None-Match\r\n"
                 "Access-Control-Max-Age: 1728000\r\n");
}

/*
 * What may be kept of the answer to a GET, and how it is checked; of others only that nothing is.
 * Every answer is one credential's own, so nobody but who asked may keep it, and only to ask again
 * whether it is still true.
 */
static void put_cache_fields(struct buf *out, const struct reply *r)
{
    if (!r->version) {
        buf_put_slice(out, SLICE("Cache-Control: no-store\r\n"));
        return;
    }
    char etag[ETAG_LEN + 1];
    etag_format(etag, r->version);
    buf_put_slice(out,
                  SLICE("Cache-Control: private, no-cache\r\n"
                        "Vary: Accept, Authorization, X-AIO-Key, X-Device-Id, X-Device-Token\r\n"
                        "ETag: "));
    buf_put(out, etag, ETAG_LEN);
    buf_put_slice(out, SLICE("\r\n"));
}

static void put_head(struct buf *out, struct http_exchange *e, struct worker *w, unsigned status,
                     size_t body_len)
{
    const struct reply *r = &e->x.reply;
    if (status == 202) {
        buf_put_slice(out, SLICE("HTTP/1.1 202 Accepted\r\nDate: "));
    } else {
        buf_put_slice(out, SLICE("HTTP/1.1 "));
        buf_put_dec(out, status);
        buf_put_u8(out, ' ');
        buf_put_str(out, status_text(status));
        buf_put_slice(out, SLICE("\r\nDate: "));
    }
    buf_put(out, worker_http_date(w), 29);
    if (status != 204 && status != 304) {
        if (r->content_type) {
            buf_put_slice(out, SLICE("\r\nContent-Type: "));
            buf_put_str(out, r->content_type);
        } else {
            buf_put_slice(out, SLICE("\r\nContent-Type: application/json; charset=utf-8"));
        }
        buf_put_slice(out, SLICE("\r\nContent-Length: "));
        buf_put_dec(out, body_len);
    }
    buf_put_slice(out, SLICE("\r\n"));
    if (status == 426) /* RFC 9110 section 15.5.22; RFC 6455 section 4.4 */
        buf_put_slice(out, SLICE("Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"));
    if (status == 401)
        buf_put_slice(out, SLICE("WWW-Authenticate: Basic realm=\"sluice\"\r\n"));
    if (e->has_origin)
        put_cors(out, e);
    /* RFC 6797 sections 6.1.1, 7.1 and 7.2 */
    if (e->x.request.secure && e->front->opts.tune.hsts_s) {
        buf_put_slice(out, SLICE("Strict-Transport-Security: max-age="));
        buf_put_dec(out, e->front->opts.tune.hsts_s);
        buf_put_slice(out, SLICE("\r\n"));
    }
    if (r->retry_ns) {
        buf_put_slice(out, SLICE("Retry-After: "));
        buf_put_dec(out, (r->retry_ns + NS_PER_S - 1) / NS_PER_S);
        buf_put_slice(out, SLICE("\r\n"));
    }
    if (e->x.request.method <= METHOD_HEAD || r->no_store)
        put_cache_fields(out, r);
    buf_put_slice(out, buf_slice(&r->fields));
    if (e->close)
        buf_put_slice(out, SLICE("Connection: close\r\n"));
    else if (e->minor0)
        buf_put_slice(out, SLICE("Connection: keep-alive\r\n"));
    buf_put_slice(out, SLICE("\r\n"));
}

/*
 * A GET that went well gets its version here, from the answer's bytes unless what it was made of
 * has one (reply.version); and whoever has it already is told so. Returns the status.
 */
static unsigned check_version(const struct request *q, struct reply *r, unsigned status)
{
    if (status == 304)
        return status;
    if (status != 200 || r->reason != REASON_ok || r->no_store) {
        r->version = 0;
        return status;
    }
    if (!r->version)
        r->version = etag_version(buf_slice(&r->body), r->content_type != NULL);
    return etag_named(q->if_none_match, r->version) ? 304 : 200;
}

void http_reply_format(struct http_exchange *e, struct worker *w)
{
    struct reply *r = &e->x.reply;
    reason_count(r->reason);
    unsigned status = r->reason == REASON_ok ? r->status : reason_info(r->reason)->http;
    if (r->reason != REASON_ok && !r->body.len) {
        buf_put_str(&r->body, "{\"error\":");
        buf_put_json(&r->body, slice_str(reason_info(r->reason)->text));
        buf_put_str(&r->body, "}");
    }
    if (r->body.failed ||
        r->fields.failed) { /* an answer over its maximum: say so, not half of it */
        buf_clear(&r->body);
        buf_clear(&r->fields);
        status = 500;
        buf_put_str(&r->body, "{\"error\":\"the answer is larger than the limit\"}");
    }
    if (e->x.request.method <= METHOD_HEAD)
        status = check_version(&e->x.request, r, status);
    put_head(&e->out, e, w, status, r->body.len);
    if (e->head_only || status == 204 || status == 304)
        return;
    e->apart = r->body.len >= APART_BYTES && !(e->conn && stream_is_tls(e->conn->stream));
    if (!e->apart)
        buf_put_slice(&e->out, buf_slice(&r->body));
}

void http_reply_bad(struct http_exchange *e, struct worker *w, unsigned status, const char *why)
{
    struct reply *r = &e->x.reply;
    r->reason = REASON_ok;
    r->status = (uint16_t)status;
    e->close = true;
    reason_count(REASON_bad_request);
    buf_clear(&r->body);
    buf_put_str(&r->body, "{\"error\":");
    buf_put_json(&r->body, slice_str(why));
    buf_put_str(&r->body, "}");
    http_reply_format(e, w);
}
