/* SPDX-License-Identifier: Apache-2.0 */
/* WebSocket of a wire: the upgrade with the subprotocol mqtt, then one binary frame for each send.
 */
#include <stdio.h>

#include <openssl/evp.h>

#include "load/wire_private.h"

#define CONTROL_MAX 125u

enum { OP_CONTINUATION = 0, OP_BINARY = 2, OP_CLOSE = 8, OP_PING = 9, OP_PONG = 10 };

static void ws_failed(struct wire *w, const char *why)
{
    snprintf(w->all->why, sizeof w->all->why, "WebSocket: %s", why);
    wire_fail(w, UV_EPROTO);
}

void wire_ws_init(struct wires *all, const struct url *url)
{
    static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"; /* section 1.3 */
    unsigned char nonce[16], key[25], digest[20];
    char text[sizeof key + sizeof guid];
    rand_secret(nonce, sizeof nonce);
    EVP_EncodeBlock(key, nonce, sizeof nonce);
    int n = snprintf(text, sizeof text, "%s%s", (const char *)key, guid);
    EVP_Digest(text, (size_t)n, digest, NULL, EVP_sha1(), NULL);
    EVP_EncodeBlock((unsigned char *)all->accept, digest, sizeof digest);
    buf_printf(&all->upgrade,
               "GET %.*s HTTP/1.1\r\nHost: %.*s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
               "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n"
               "Sec-WebSocket-Key: %s\r\n\r\n",
               SLICE_ARG(url->target), SLICE_ARG(url->authority), (const char *)key);
}

void wire_ws_start(struct wire *w)
{
    int rc = wire_put_secret(w, buf_slice(&w->all->upgrade));
    if (rc)
        wire_fail(w, rc);
}

/* One frame, masked (section 5.2). */
static int put_frame(struct wire *w, unsigned op, struct slice bytes)
{
    struct buf *f = &w->all->frame;
    uint32_t mask = (uint32_t)rand_next(w->all->rand);
    char key[4];
    memcpy(key, &mask, sizeof key);
    buf_clear(f);
    buf_put_u8(f, (uint8_t)(0x80 | op));
    if (bytes.len < 126) {
        buf_put_u8(f, (uint8_t)(0x80 | bytes.len));
    } else {
        unsigned wide = bytes.len > UINT16_MAX ? 8 : 2;
        buf_put_u8(f, wide == 8 ? 0xff : 0xfe);
        for (unsigned i = wide; i-- > 0;)
            buf_put_u8(f, (uint8_t)((uint64_t)bytes.len >> 8 * i));
    }
    buf_put(f, key, sizeof key);
    char *to = buf_reserve(f, bytes.len);
    if (!to)
        return UV_ENOBUFS;
    for (size_t i = 0; i < bytes.len; i++)
        to[i] = (char)(bytes.ptr[i] ^ key[i % 4]);
    f->len += bytes.len;
    return wire_put_secret(w, buf_slice(f));
}

int wire_ws_put(struct wire *w, struct slice bytes)
{
    return put_frame(w, OP_BINARY, bytes);
}

/* The answer to the upgrade; what is behind it. */
static bool take_answer(struct wire *w, struct slice *in)
{
    size_t had = w->head.len;
    buf_put_slice(&w->head, *in);
    const char *end = w->head.len ? memmem(w->head.ptr, w->head.len, "\r\n\r\n", 4) : NULL;
    if (!end) {
        if (w->head.failed)
            ws_failed(w, "the answer to the upgrade is too long");
        return false;
    }
    size_t len = (size_t)(end - w->head.ptr) + 4;
    bool good = slice_starts(buf_slice(&w->head), SLICE("HTTP/1.1 101 ")) &&
                memmem(w->head.ptr, len, w->all->accept, strlen(w->all->accept));
    *in = slice_from(*in, len - had);
    buf_clear(&w->head);
    if (!good) {
        ws_failed(w, "the server does not accept the upgrade");
        return false;
    }
    w->upgraded = w->open = true;
    w->all->ops->opened(w->owner);
    return !w->closing;
}

/* Bytes that the head of a frame has in all; what is known yet if `len` is small. */
static size_t head_bytes(const uint8_t *head, size_t len)
{
    unsigned size = len > 1 ? head[1] & 127 : 0;
    return size == 127 ? 10 : size == 126 ? 4 : 2;
}

static uint64_t frame_bytes(const uint8_t *head)
{
    unsigned size = head[1] & 127, wide = size == 127 ? 8 : size == 126 ? 2 : 0;
    uint64_t n = wide ? 0 : size;
    for (unsigned i = 0; i < wide; i++)
        n = n << 8 | head[2 + i];
    return n;
}

/* A control frame is in w->head, whole. */
static bool take_control(struct wire *w)
{
    const uint8_t *head = (const uint8_t *)w->head.ptr;
    unsigned op = head[0] & 15;
    struct slice payload = slice_from(buf_slice(&w->head), 2);
    int rc = op == OP_PING ? put_frame(w, OP_PONG, payload) : 0;
    if (op == OP_CLOSE)
        wire_fail(w, UV_EOF);
    else if (rc)
        wire_fail(w, rc);
    buf_clear(&w->head);
    return !w->closing && op != OP_CLOSE && rc == 0;
}

/* Bytes from the beginning of a frame on. False: stop. */
static bool take_head(struct wire *w, struct slice *in)
{
    struct buf *h = &w->head;
    while (in->len && h->len < head_bytes((const uint8_t *)h->ptr, h->len)) {
        buf_put_u8(h, (uint8_t)in->ptr[0]);
        *in = slice_from(*in, 1);
    }
    const uint8_t *head = (const uint8_t *)h->ptr;
    if (h->len < head_bytes(head, h->len))
        return false;
    unsigned op = head[0] & 15;
    uint64_t size = frame_bytes(head);
    bool control = op >= OP_CLOSE;
    if ((head[0] & 0x70) || (head[1] & 0x80) || (control && (size > CONTROL_MAX || op > OP_PONG)) ||
        (!control && op > OP_BINARY)) {
        ws_failed(w, "what came is no frame of a server");
        return false;
    }
    if (!control) {
        w->left = size;
        buf_clear(h);
        return true;
    }
    size_t missing = 2 + (size_t)size - h->len, n = missing < in->len ? missing : in->len;
    buf_put(h, in->ptr, n);
    *in = slice_from(*in, n);
    return n == missing && take_control(w);
}

void wire_ws_bytes(struct wire *w, struct slice in)
{
    if (!w->upgraded && !take_answer(w, &in))
        return;
    while (in.len) {
        if (w->left == 0) {
            if (!take_head(w, &in))
                return;
            continue;
        }
        size_t n = in.len < w->left ? in.len : (size_t)w->left;
        w->left -= n;
        w->all->ops->bytes(w->owner, slice_of(in.ptr, n));
        if (w->closing)
            return;
        in = slice_from(in, n);
    }
}
