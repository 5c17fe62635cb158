/* SPDX-License-Identifier: Apache-2.0 */
/* Requests that no honest device sends. */
#include "load/fleet_private.h"

#define OVERSIZE_BODY (256u << 10) /* of the gigabyte that is announced, so much is sent */

static const struct slice malformed[] = {
    SLICE("GET / HTTP/1.1\r\n\r\n"), /* no Host */
    SLICE("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
    SLICE("POST /v1/telemetry HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: "
          "2\r\n\r\n{}"),
    SLICE("POST /v1/telemetry HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n"),
    SLICE("POST /v1/telemetry HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n"
          "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    SLICE("POST /v1/telemetry HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
    SLICE("GET  / HTTP/1.1\r\nHost: a\r\n\r\n"),
    SLICE("GET / HTTP/9.9\r\nHost: a\r\n\r\n"),
    SLICE("GET / HTTP/1.1\r\nHost: a\r\nA b: c\r\n\r\n"),
    SLICE("GET / HTTP/1.1\r\nHost: a\r\n folded: x\r\n\r\n"),
    SLICE("GET /%00%zz HTTP/1.1\r\nHost: a\r\n\r\n"),
    SLICE("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"), /* TLS where there is none */
};

static int add_raw(struct fleet *f, struct slice head, const struct buf *body, struct error *err)
{
    const struct template_marks none = {0};
    uint64_t at = f->bytes.len;
    buf_put_slice(&f->bytes, head);
    return fleet_add(f, at, &none, body, &none, (struct slice){0}, err);
}

int fleet_malformed(struct fleet *f, struct error *err)
{
    struct buf none;
    int rc = 0;
    buf_init(&none, 0);
    for (size_t i = 0; i < sizeof malformed / sizeof malformed[0] && rc == 0; i++)
        rc = add_raw(f, malformed[i], &none, err);
    return rc;
}

/* By its length, and by a header that does not end. */
int fleet_oversize(struct fleet *f, const struct load_opts *opts, struct error *err)
{
    struct buf body, head;
    buf_init(&body, OVERSIZE_BODY);
    buf_init(&head, FLEET_REQUEST_MAX);
    while (body.len < OVERSIZE_BODY && !body.failed)
        buf_put_u8(&body, 'x');
    buf_printf(&head, "POST %.*s HTTP/1.1\r\nHost: %.*s\r\nContent-Length: 1073741824\r\n\r\n",
               SLICE_ARG(opts->url.target), SLICE_ARG(opts->url.authority));
    int rc = add_raw(f, buf_slice(&head), &body, err);
    buf_clear(&head);
    buf_printf(&head,
               "GET / HTTP/1.1\r\nHost: %.*s\r\nX-Endless: ", SLICE_ARG(opts->url.authority));
    if (rc == 0)
        rc = add_raw(f, buf_slice(&head), &body, err);
    buf_fini(&head);
    buf_fini(&body);
    return rc;
}
