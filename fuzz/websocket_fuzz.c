/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz.h"

#include <stdlib.h>
#include <xxhash.h>

#include "base/buf.h"
#include "base/check.h"
#include "codec/utf8.h"
#include "codec/websocket.h"

#define MESSAGE_MAX 2000u

/* Everything that came out, in a form that does not depend on how the input was cut. */
struct story {
    struct buf text;
    uint64_t message; /* bytes of the message in hand */
    bool failed, closed;
};

static void tell(struct story *s, enum websocket_outcome o, const struct websocket_event *e)
{
    if (o == WEBSOCKET_DATA) {
        CHECK(e->opcode == WEBSOCKET_TEXT || e->opcode == WEBSOCKET_BINARY);
        s->message += e->data.len;
        CHECK(s->message <= MESSAGE_MAX);
        buf_put_slice(&s->text, e->data);
        if (e->final) {
            buf_printf(&s->text, "[end %d]", e->opcode);
            s->message = 0;
        }
    } else if (o == WEBSOCKET_CONTROL) {
        CHECK(e->data.len <= WEBSOCKET_CONTROL_MAX && e->final);
        buf_printf(&s->text, "[control %d %u %zu ", e->opcode, e->code, e->data.len);
        buf_put_slice(&s->text, e->data);
        s->closed = e->opcode == WEBSOCKET_CLOSE;
    } else if (o == WEBSOCKET_BAD) {
        CHECK(e->code >= 1002 && e->code <= 1009 && e->why);
        buf_printf(&s->text, "[bad %u %s]", e->code, e->why);
        s->failed = true;
    }
}

/* `first` bytes, then `piece` by piece, each a block of its own. */
static void run(struct slice in, size_t first, size_t piece, struct story *s)
{
    struct websocket ws = {0};
    buf_init(&s->text, 1 << 20);
    for (size_t at = 0; at < in.len && !s->failed && !s->closed;) {
        size_t n = at == 0 && first ? first : piece;
        n = n < in.len - at ? n : in.len - at;
        char *block = malloc(n);
        CHECK(block);
        memcpy(block, in.ptr + at, n);
        at += n;
        size_t used = 0;
        enum websocket_outcome o = WEBSOCKET_DATA;
        while (o != WEBSOCKET_MORE && !s->failed && !s->closed) {
            struct websocket_event e;
            size_t step = 0;
            o = websocket_parse(&ws, block + used, n - used, MESSAGE_MAX, &step, &e);
            used += step;
            CHECK(used <= n && (o != WEBSOCKET_MORE || used == n));
            tell(s, o, &e);
        }
        free(block);
    }
    CHECK(!s->text.failed);
}

/* The bytes as frames that keep the rules: what was put in comes out. */
static void check_frames(struct slice in)
{
    struct buf wire, want;
    struct story s = {0};
    buf_init(&wire, 1 << 20);
    buf_init(&want, 1 << 20);
    unsigned opcode = WEBSOCKET_BINARY;
    for (size_t at = 0; at < in.len && want.len < MESSAGE_MAX;) {
        size_t n = (uint8_t)in.ptr[at++] % 100;
        n = n < in.len - at ? n : in.len - at;
        n = n < MESSAGE_MAX - want.len ? n : MESSAGE_MAX - want.len;
        buf_put_u8(&wire, (uint8_t)opcode);
        buf_put_u8(&wire, (uint8_t)(0x80 | n));
        const uint8_t mask[4] = {(uint8_t)at, (uint8_t)n, 0xa5, 0};
        buf_put(&wire, mask, 4);
        for (size_t i = 0; i < n; i++)
            buf_put_u8(&wire, (uint8_t)((uint8_t)in.ptr[at + i] ^ mask[i % 4]));
        buf_put(&want, in.ptr + at, n);
        at += n;
        opcode = WEBSOCKET_CONTINUATION;
    }
    run(buf_slice(&wire), 0, wire.len ? wire.len : 1, &s);
    CHECK(!s.failed && slice_eq(buf_slice(&s.text), buf_slice(&want)));
    buf_fini(&s.text);
    buf_fini(&wire);
    buf_fini(&want);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice in = slice_of(data, size);
    struct story whole = {0}, part = {0}, bytes = {0};
    run(in, 0, size ? size : 1, &whole);
    run(in, size ? 1 + XXH3_64bits(data, size) % size : 0, size ? size : 1, &part);
    run(in, 0, 1, &bytes);
    CHECK(whole.failed == part.failed && whole.failed == bytes.failed);
    /* A text that is no UTF-8 is given up at the piece that shows it: what came before differs. */
    struct slice end = SLICE("[bad 1007 a text is no UTF-8]");
    struct slice text = buf_slice(&whole.text);
    bool by_text = text.len >= end.len && slice_eq(slice_from(text, text.len - end.len), end);
    if (!by_text)
        CHECK(slice_eq(text, buf_slice(&part.text)) && slice_eq(text, buf_slice(&bytes.text)));
    buf_fini(&whole.text);
    buf_fini(&part.text);
    buf_fini(&bytes.text);
    check_frames(in);
    return 0;
}
