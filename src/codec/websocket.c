/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames in: a head is collected in `head` (it may come in pieces), then its payload passes. Data
 * are handed on as they come, unmasked; control frames are collected, as they may stand between the
 * frames of a message.
 */
#include "codec/websocket.h"

#include "base/check.h"
#include "codec/utf8.h"

enum { STATE_HEAD, STATE_DATA, STATE_CONTROL };

enum { HEAD_FINAL = 0x80, HEAD_RESERVED = 0x70, HEAD_MASK = 0x80 };

static enum websocket_outcome bad(struct websocket_event *ret, uint16_t code, const char *why)
{
    ret->code = code;
    ret->why = why;
    return WEBSOCKET_BAD;
}

/* ---- heads ---- */

/* Bytes of the head that begins with these two (section 5.2). */
static unsigned head_size(const uint8_t *head)
{
    unsigned len = head[1] & 0x7f;
    return 2 + (len == 126 ? 2u : len == 127 ? 8u : 0) + 4;
}

static uint64_t payload_len(const uint8_t *head, bool *ret_minimal)
{
    unsigned len = head[1] & 0x7f, bytes = len == 126 ? 2 : len == 127 ? 8 : 0;
    uint64_t v = 0;
    for (unsigned i = 0; i < bytes; i++)
        v = v << 8 | head[2 + i];
    *ret_minimal = !bytes || v > (bytes == 2 ? 125u : 65535u);
    return bytes ? v : len;
}

/* The first two bytes: everything that does not need the length. */
static enum websocket_outcome check_start(struct websocket *ws, struct websocket_event *ret)
{
    unsigned opcode = ws->head[0] & 15;
    bool control = opcode & 8;
    if (ws->head[0] & HEAD_RESERVED)
        return bad(ret, WEBSOCKET_PROTOCOL, "reserved bits of a frame are set");
    if ((opcode > 2 && opcode < 8) || opcode > 10)
        return bad(ret, WEBSOCKET_PROTOCOL, "there is no frame of this type");
    if (!(ws->head[1] & HEAD_MASK)) /* section 5.1 */
        return bad(ret, WEBSOCKET_PROTOCOL, "a client's frame is not masked");
    if (control && !(ws->head[0] & HEAD_FINAL))
        return bad(ret, WEBSOCKET_PROTOCOL, "a control frame is fragmented");
    if (control && (ws->head[1] & 0x7f) > WEBSOCKET_CONTROL_MAX)
        return bad(ret, WEBSOCKET_PROTOCOL, "a control frame is too long");
    if (!control && (opcode == WEBSOCKET_CONTINUATION) != (ws->text != 0)) /* section 5.4 */
        return bad(ret, WEBSOCKET_PROTOCOL,
                   ws->text ? "a message begins within another" : "there is nothing to continue");
    return WEBSOCKET_MORE;
}

static enum websocket_outcome begin_frame(struct websocket *ws, uint64_t message_max,
                                          struct websocket_event *ret)
{
    bool minimal;
    ws->left = payload_len(ws->head, &minimal);
    if (!minimal || ws->left >> 63)
        return bad(ret, WEBSOCKET_PROTOCOL, "the length of a frame is not written as it must be");
    ws->opcode = ws->head[0] & 15;
    ws->mask_at = 0;
    bool final = ws->head[0] & HEAD_FINAL;
    memmove(ws->head, ws->head + ws->head_len - 4, 4); /* the mask alone is still needed */
    ws->head_len = 0;
    if (ws->opcode & 8) {
        ws->state = STATE_CONTROL;
        ws->control_len = 0;
        return WEBSOCKET_MORE;
    }
    if (message_max < ws->message || ws->left > message_max - ws->message)
        return bad(ret, WEBSOCKET_TOO_BIG, "a message is larger than the limit");
    ws->state = STATE_DATA;
    ws->final = final;
    ws->message += ws->left;
    if (ws->opcode != WEBSOCKET_CONTINUATION)
        ws->text = ws->opcode;
    return WEBSOCKET_MORE;
}

/* Takes bytes into the head. When it is whole, the state is that of the frame's payload. */
static enum websocket_outcome take_head(struct websocket *ws, const char *in, size_t len,
                                        uint64_t message_max, size_t *used,
                                        struct websocket_event *ret)
{
    while (*used < len) {
        ws->head[ws->head_len++] = (uint8_t)in[(*used)++];
        if (ws->head_len == 2 && check_start(ws, ret) == WEBSOCKET_BAD)
            return WEBSOCKET_BAD;
        if (ws->head_len < 2 || ws->head_len < head_size(ws->head))
            continue;
        return begin_frame(ws, message_max, ret);
    }
    return WEBSOCKET_MORE;
}

/* ---- payload ---- */

static void unmask(struct websocket *ws, char *ptr, size_t len)
{
    uint8_t mask[8];
    for (unsigned i = 0; i < 8; i++)
        mask[i] = ws->head[(ws->mask_at + i) & 3];
    uint64_t wide;
    memcpy(&wide, mask, 8);
    size_t i = 0;
    for (; i + 8 <= len; i += 8) {
        uint64_t v;
        memcpy(&v, ptr + i, 8);
        v ^= wide;
        memcpy(ptr + i, &v, 8);
    }
    for (; i < len; i++)
        ptr[i] = (char)(ptr[i] ^ mask[i & 7]);
    ws->mask_at = (uint8_t)((ws->mask_at + len) & 3);
}

/* Bytes of the character that this one begins; 0: none does. */
static unsigned character_size(uint8_t first)
{
    return first < 0x80   ? 1
           : first < 0xc2 ? 0
           : first < 0xe0 ? 2
           : first < 0xf0 ? 3
           : first < 0xf5 ? 4
                          : 0;
}

/* Whether a cut-off character can still become one: the second byte is what the first allows. */
static bool can_become(const char *p, unsigned have, unsigned size)
{
    char whole[4] = {0};
    memcpy(whole, p, have);
    if (have == 1) {
        uint8_t first = (uint8_t)p[0];
        whole[1] = (char)(first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80);
    }
    for (unsigned i = have < 2 ? 2 : have; i < size; i++)
        whole[i] = (char)0x80;
    return utf8_sequence(whole, whole + size) == size;
}

/* Goes on checking a text (section 8.1): NUL is a character here. */
static bool check_text(struct websocket *ws, const char *p, size_t len, bool last)
{
    const char *end = p + len;
    while (p < end) {
        unsigned size = character_size((uint8_t)(ws->tail_len ? ws->tail[0] : *p));
        if (!ws->tail_len && size == 1) {
            p++;
            continue;
        }
        while (p < end && ws->tail_len < size)
            ws->tail[ws->tail_len++] = *p++;
        if (!size || !can_become(ws->tail, ws->tail_len, size))
            return false;
        if (ws->tail_len == size)
            ws->tail_len = 0;
    }
    return !last || !ws->tail_len;
}

static enum websocket_outcome take_data(struct websocket *ws, char *in, size_t len, size_t *used,
                                        struct websocket_event *ret)
{
    size_t n = len - *used < ws->left ? len - *used : (size_t)ws->left;
    char *at = in + *used;
    bool ends = n == ws->left;
    if (!n && !ends)
        return WEBSOCKET_MORE;
    unmask(ws, at, n);
    *used += n;
    ws->left -= n;
    ret->opcode = (enum websocket_opcode)ws->text;
    ret->final = ends && ws->final;
    ret->data = slice_of(at, n);
    if (ws->text == WEBSOCKET_TEXT && !check_text(ws, at, n, ret->final))
        return bad(ret, WEBSOCKET_NO_UTF8, "a text is no UTF-8");
    if (ends)
        ws->state = STATE_HEAD;
    if (ret->final) {
        ws->text = 0;
        ws->message = 0;
    }
    return n || ret->final ? WEBSOCKET_DATA : WEBSOCKET_MORE;
}

/* Codes that may stand in a frame (section 7.4). */
static bool close_code_valid(unsigned code)
{
    return (code >= 1000 && code <= 1014 && code != 1004 && code != 1005 && code != 1006) ||
           (code >= 3000 && code <= 4999);
}

static enum websocket_outcome check_close(struct websocket *ws, struct websocket_event *ret)
{
    if (ws->control_len == 0) {
        ret->code = WEBSOCKET_NO_CODE;
        return WEBSOCKET_CONTROL;
    }
    const uint8_t *p = (const uint8_t *)ws->control;
    unsigned code = ws->control_len > 1 ? (unsigned)p[0] << 8 | p[1] : 0;
    if (!close_code_valid(code))
        return bad(ret, WEBSOCKET_PROTOCOL, "there is no such close code");
    ws->tail_len = 0;
    if (!check_text(ws, ws->control + 2, ws->control_len - 2u, true))
        return bad(ret, WEBSOCKET_NO_UTF8, "the reason of a close is no UTF-8");
    ret->code = (uint16_t)code;
    ret->data = slice_of(ws->control + 2, ws->control_len - 2u);
    return WEBSOCKET_CONTROL;
}

static enum websocket_outcome take_control(struct websocket *ws, char *in, size_t len, size_t *used,
                                           struct websocket_event *ret)
{
    size_t n = len - *used < ws->left ? len - *used : (size_t)ws->left;
    unmask(ws, in + *used, n);
    CHECK(ws->control_len + n <= WEBSOCKET_CONTROL_MAX);
    memcpy(ws->control + ws->control_len, in + *used, n);
    ws->control_len = (uint8_t)(ws->control_len + n);
    *used += n;
    ws->left -= n;
    if (ws->left)
        return WEBSOCKET_MORE;
    ws->state = STATE_HEAD;
    ret->opcode = (enum websocket_opcode)ws->opcode;
    ret->final = true;
    ret->data = slice_of(ws->control, ws->control_len);
    return ws->opcode == WEBSOCKET_CLOSE ? check_close(ws, ret) : WEBSOCKET_CONTROL;
}

enum websocket_outcome websocket_parse(struct websocket *ws, char *in, size_t len,
                                       uint64_t message_max, size_t *ret_used,
                                       struct websocket_event *ret)
{
    enum websocket_outcome outcome = WEBSOCKET_MORE;
    size_t used = 0;
    *ret = (struct websocket_event){0};
    for (;;) {
        if (ws->state == STATE_HEAD)
            outcome = take_head(ws, in, len, message_max, &used, ret);
        if (outcome == WEBSOCKET_MORE && ws->state == STATE_DATA)
            outcome = take_data(ws, in, len, &used, ret);
        if (outcome == WEBSOCKET_MORE && ws->state == STATE_CONTROL)
            outcome = take_control(ws, in, len, &used, ret);
        if (outcome != WEBSOCKET_MORE || used == len)
            break;
    }
    *ret_used = used;
    return outcome;
}

/* ---- out ---- */

unsigned websocket_head(char out[WEBSOCKET_HEAD_MAX], enum websocket_opcode opcode, uint64_t len)
{
    unsigned bytes = len < 126 ? 0 : len < 65536 ? 2 : 8;
    out[0] = (char)(HEAD_FINAL | opcode);
    out[1] = (char)(bytes == 0 ? len : bytes == 2 ? 126 : 127);
    for (unsigned i = 0; i < bytes; i++)
        out[2 + i] = (char)(len >> (8 * (bytes - 1 - i)));
    return 2 + bytes;
}

void websocket_put(struct buf *out, enum websocket_opcode opcode, struct slice payload)
{
    char head[WEBSOCKET_HEAD_MAX];
    buf_put(out, head, websocket_head(head, opcode, payload.len));
    buf_put_slice(out, payload);
}

void websocket_put_close(struct buf *out, uint16_t code, const char *why)
{
    char payload[WEBSOCKET_CONTROL_MAX] = {(char)(code >> 8), (char)code};
    size_t len = strlen(why);
    if (len > sizeof payload - 2)
        len = sizeof payload - 2;
    while (len && ((uint8_t)why[len] & 0xc0) == 0x80) /* not within a character */
        len--;
    memcpy(payload + 2, why, len);
    bool none = code == 0 || code == WEBSOCKET_NO_CODE;
    websocket_put(out, WEBSOCKET_CLOSE, slice_of(payload, none ? 0 : 2 + len));
}
