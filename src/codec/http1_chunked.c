/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Chunked transfer coding, one byte = one step outside chunk data, so that input may be cut
 * anywhere. Stricter than RFC 9112 section 7.1 where decoders are known to differ: no blanks in the
 * size line, at most 16 digits, extensions only as ;token or ;token=token, CR LF everywhere.
 */
#include "codec/http1.h"

#include "codec/http1_chars.h"

#define SIZE_LINE_MAX 256u
#define TRAILERS_MAX  4096u

enum state {
    SIZE_FIRST, /* a digit is due */
    SIZE,
    EXT_FIRST, /* after ';' */
    EXT,
    EXT_VALUE_FIRST, /* after '=' */
    EXT_VALUE,
    SIZE_LF,
    DATA,
    DATA_CR,
    DATA_LF,
    TRAILER, /* at the start of a trailer line, or of the last line */
    TRAILER_NAME,
    TRAILER_VALUE,
    TRAILER_LF,
    END_LF,
    END,
};

/* Fields that would change the framing, the routing or the rights of a message that was already
 * let in (RFC 9110 section 6.5.1). */
static const struct slice forbidden[] = {
    {"host", 4},
    {"expect", 6},
    {"trailer", 7},
    {"connection", 10},
    {"content-type", 12},
    {"authorization", 13},
    {"content-length", 14},
    {"content-encoding", 16},
    {"transfer-encoding", 17},
};
#define FORBIDDEN_COUNT (sizeof forbidden / sizeof *forbidden)

static bool fail(unsigned *ret_status, const char **ret_why, unsigned status, const char *why)
{
    *ret_status = status;
    *ret_why = why;
    return false;
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* One byte of the size line. */
static bool size_step(struct http1_chunked *c, char b, uint64_t max, unsigned *ret_status,
                      const char **ret_why)
{
    if (++c->line > SIZE_LINE_MAX)
        return fail(ret_status, ret_why, 400, "a chunk size line longer than the limit");
    bool token = http1_is(b, CHAR_TOKEN);
    bool may_end = c->state == SIZE || c->state == EXT || c->state == EXT_VALUE;
    if (c->state == SIZE_LF) {
        if (b != '\n')
            return fail(ret_status, ret_why, 400, "a CR without LF after a chunk size");
        c->state = c->left ? DATA : TRAILER;
        c->line = 0;
    } else if (b == '\r' && may_end) {
        if (c->left > max - c->total) /* total <= max always */
            return fail(ret_status, ret_why, 413, "the body is larger than the limit");
        c->state = SIZE_LF;
    } else if (b == ';' && may_end) {
        c->state = EXT_FIRST;
    } else if (c->state <= SIZE) {
        int digit = hex_value(b);
        if (digit < 0 || c->line > 16)
            return fail(ret_status, ret_why, 400, "a chunk size that is no plain hex number");
        c->left = c->left << 4 | (unsigned)digit;
        c->state = SIZE;
    } else if (b == '=' && c->state == EXT) {
        c->state = EXT_VALUE_FIRST;
    } else if (token) {
        c->state = c->state <= EXT ? EXT : EXT_VALUE;
    } else {
        return fail(ret_status, ret_why, 400, "a chunk extension that is not ;name or ;name=token");
    }
    return true;
}

static bool name_step(struct http1_chunked *c, char b)
{
    uint16_t still = 0;
    for (unsigned i = 0; i < FORBIDDEN_COUNT; i++)
        if (c->names >> i & 1 && c->name_len < forbidden[i].len &&
            (b | 0x20) == forbidden[i].ptr[c->name_len])
            still = (uint16_t)(still | 1u << i);
    c->names = still;
    if (c->name_len < UINT8_MAX)
        c->name_len++;
    return http1_is(b, CHAR_TOKEN);
}

static bool name_forbidden(const struct http1_chunked *c)
{
    for (unsigned i = 0; i < FORBIDDEN_COUNT; i++)
        if (c->names >> i & 1 && c->name_len == forbidden[i].len)
            return true;
    return false;
}

/* One byte of the trailers or of the empty line after them. */
static bool trailer_step(struct http1_chunked *c, char b, unsigned *ret_status,
                         const char **ret_why)
{
    if (++c->line > TRAILERS_MAX)
        return fail(ret_status, ret_why, 431, "trailers longer than the limit");
    switch (c->state) {
    case TRAILER:
        c->names = (1u << FORBIDDEN_COUNT) - 1;
        c->name_len = 0;
        c->state = b == '\r' ? END_LF : TRAILER_NAME;
        if (b != '\r' && !name_step(c, b))
            return fail(ret_status, ret_why, 400, "a trailer line that is no field");
        return true;
    case TRAILER_NAME:
        if (b == ':') {
            c->state = TRAILER_VALUE;
            return !name_forbidden(c) ||
                   fail(ret_status, ret_why, 400, "a field that may not stand in the trailers");
        }
        return name_step(c, b) || fail(ret_status, ret_why, 400, "a trailer line that is no field");
    case TRAILER_VALUE:
        if (b == '\r')
            c->state = TRAILER_LF;
        return b == '\r' || http1_is(b, CHAR_VALUE) ||
               fail(ret_status, ret_why, 400, "a control byte in a trailer");
    default: /* TRAILER_LF, END_LF */
        c->state = c->state == END_LF ? END : TRAILER;
        return b == '\n' || fail(ret_status, ret_why, 400, "a CR without LF in the trailers");
    }
}

static bool step(struct http1_chunked *c, char b, uint64_t max, unsigned *ret_status,
                 const char **ret_why)
{
    if (c->state <= SIZE_LF)
        return size_step(c, b, max, ret_status, ret_why);
    if (c->state >= TRAILER)
        return trailer_step(c, b, ret_status, ret_why);
    bool right = b == (c->state == DATA_CR ? '\r' : '\n');
    c->state = c->state == DATA_CR ? DATA_LF : SIZE_FIRST;
    return right || fail(ret_status, ret_why, 400, "a chunk that is longer than its size says");
}

enum http1_outcome http1_dechunk(struct http1_chunked *c, char *in, size_t len,
                                 uint64_t body_bytes_max, size_t *ret_used, size_t *ret_body,
                                 unsigned *ret_status, const char **ret_why)
{
    size_t at = 0, body = 0;
    bool ok = c->total <= body_bytes_max ||
              fail(ret_status, ret_why, 413, "the body is larger than the limit");
    while (ok && at < len && c->state != END) {
        if (c->state != DATA) {
            ok = step(c, in[at++], body_bytes_max, ret_status, ret_why);
            continue;
        }
        size_t n = len - at < c->left ? len - at : (size_t)c->left;
        if (body != at)
            memmove(in + body, in + at, n);
        at += n;
        body += n;
        c->left -= n;
        c->total += n;
        if (c->left == 0)
            c->state = DATA_CR;
    }
    *ret_used = at;
    *ret_body = body;
    if (!ok)
        return HTTP1_BAD;
    return c->state == END ? HTTP1_DONE : HTTP1_MORE;
}
