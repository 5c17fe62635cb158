/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The PROXY protocol (haproxy doc/proxy-protocol.txt, 2020/03/05). Both versions are decided as
 * early as their bytes allow; version 2 is bounded at 536 bytes, what the text lets a receiver
 * assume.
 */
#include "codec/address.h"

#include <isa-l.h>

#define V1_MAX     107u
#define V2_HEAD    16u
#define V2_MAX     536u
#define TLV_CRC32C 0x03

static const char v2_signature[12] = "\r\n\r\n\0\r\nQUIT\n";

/* The word up to the next single blank, or the rest. */
static struct slice word(struct slice *rest)
{
    const char *blank = rest->len ? memchr(rest->ptr, ' ', rest->len) : NULL;
    struct slice w = slice_of(rest->ptr, blank ? (size_t)(blank - rest->ptr) : rest->len);
    *rest = slice_from(*rest, w.len + (blank ? 1u : 0u));
    return w;
}

/* An address of the family named, without port. */
static bool v1_address(struct slice text, bool v6, struct address *ret)
{
    bool colon = text.len && memchr(text.ptr, ':', text.len);
    return colon == v6 && !(text.len && text.ptr[0] == '[') && address_parse(text, ret);
}

static bool v1_port(struct slice text, uint16_t *ret)
{
    unsigned v = 0;
    if (text.len == 0 || text.len > 5 || (text.len > 1 && text.ptr[0] == '0'))
        return false;
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] < '0' || text.ptr[i] > '9')
            return false;
        v = v * 10 + (unsigned)(text.ptr[i] - '0');
    }
    *ret = (uint16_t)v;
    return v <= 65535;
}

/* `line` is what stands between "PROXY " and CR LF. */
static enum proxy_outcome v1_line(struct slice line, bool *ret_has, struct address *ret)
{
    struct slice rest = line, family = word(&rest);
    if (slice_eq(family, SLICE("UNKNOWN"))) {
        *ret_has = false;
        return PROXY_DONE;
    }
    bool v6 = slice_eq(family, SLICE("TCP6"));
    if (!v6 && !slice_eq(family, SLICE("TCP4")))
        return PROXY_BAD;
    struct address from, to;
    uint16_t from_port, to_port;
    struct slice from_text = word(&rest), to_text = word(&rest), from_port_text = word(&rest);
    if (!v1_address(from_text, v6, &from) || !v1_address(to_text, v6, &to) ||
        !v1_port(from_port_text, &from_port) || !v1_port(rest, &to_port))
        return PROXY_BAD;
    from.port = from_port;
    *ret = from;
    *ret_has = true;
    return PROXY_DONE;
}

static enum proxy_outcome v1_parse(struct slice in, size_t *ret_used, bool *ret_has,
                                   struct address *ret)
{
    struct slice prefix = SLICE("PROXY ");
    size_t n = in.len < prefix.len ? in.len : prefix.len;
    if (memcmp(in.ptr, prefix.ptr, n) != 0)
        return PROXY_BAD;
    size_t len = in.len < V1_MAX ? in.len : V1_MAX;
    const char *cr = memchr(in.ptr, '\r', len);
    if (!cr || cr == in.ptr + len - 1)
        return !memchr(in.ptr, '\n', len) && in.len < V1_MAX ? PROXY_MORE : PROXY_BAD;
    /* An LF before the CR ends the line for others: the verdict must not depend on how much is
     * here. */
    if (cr[1] != '\n' || memchr(in.ptr, '\n', (size_t)(cr - in.ptr)))
        return PROXY_BAD;
    enum proxy_outcome o =
        v1_line(slice_of(in.ptr + prefix.len, (size_t)(cr - in.ptr) - prefix.len), ret_has, ret);
    if (o == PROXY_DONE)
        *ret_used = (size_t)(cr - in.ptr) + 2;
    return o;
}

static unsigned u16_at(const char *p)
{
    return (unsigned)((uint8_t)p[0] << 8 | (uint8_t)p[1]);
}

/* CRC-32C over the whole header with the field's own four bytes as zero. */
static bool crc_right(struct slice whole, size_t field)
{
    unsigned char copy[V2_MAX];
    uint32_t sent = 0;
    memcpy(copy, whole.ptr, whole.len);
    for (unsigned i = 0; i < 4; i++) {
        sent = sent << 8 | copy[field + i];
        copy[field + i] = 0;
    }
    return sent == (uint32_t)~crc32_iscsi(copy, (int)whole.len, ~0u);
}

/* Type-length-values from `at` to the end: well-formed, and the checksum right if there is one. */
static bool tlvs_right(struct slice whole, size_t at)
{
    while (at < whole.len) {
        if (whole.len - at < 3)
            return false;
        size_t n = u16_at(whole.ptr + at + 1);
        if (n > whole.len - at - 3)
            return false;
        if (whole.ptr[at] == TLV_CRC32C && (n != 4 || !crc_right(whole, at + 3)))
            return false;
        at += 3 + n;
    }
    return true;
}

static enum proxy_outcome v2_parse(struct slice in, size_t *ret_used, bool *ret_has,
                                   struct address *ret)
{
    size_t n = in.len < sizeof v2_signature ? in.len : sizeof v2_signature;
    if (memcmp(in.ptr, v2_signature, n) != 0)
        return PROXY_BAD;
    if (in.len < V2_HEAD)
        return PROXY_MORE;
    unsigned command = (uint8_t)in.ptr[12], family = (uint8_t)in.ptr[13];
    size_t len = V2_HEAD + u16_at(in.ptr + 14);
    if ((command != 0x20 && command != 0x21) || len > V2_MAX)
        return PROXY_BAD;
    if (in.len < len)
        return PROXY_MORE;
    struct slice whole = slice_of(in.ptr, len);
    struct address a = {0};
    size_t block = 0; /* bytes of addresses and ports */
    bool has = false;
    if (command == 0x21) {
        switch (family >> 4) {
        case 0:
            /* Nothing is known of what follows, so nothing is read of it. */
            *ret_used = len;
            *ret_has = false;
            return family == 0 ? PROXY_DONE : PROXY_BAD;
        case 1:
            block = 12;
            break;
        case 2:
            block = 36;
            break;
        case 3:
            block = 216; /* two Unix paths: no address */
            break;
        default:
            return PROXY_BAD;
        }
        if ((family & 15) < 1 || (family & 15) > 2 || len < V2_HEAD + block ||
            !tlvs_right(whole, V2_HEAD + block))
            return PROXY_BAD;
        has = block != 216;
        const char *p = in.ptr + V2_HEAD;
        if (block == 12) {
            a.bytes[10] = a.bytes[11] = 0xff;
            memcpy(a.bytes + 12, p, 4);
            a.port = (uint16_t)u16_at(p + 8);
        } else if (block == 36) {
            memcpy(a.bytes, p, 16);
            a.port = (uint16_t)u16_at(p + 32);
        }
    }
    *ret_used = len;
    *ret_has = has;
    if (has)
        *ret = a;
    return PROXY_DONE;
}

enum proxy_outcome proxy_header_parse(struct slice in, size_t *ret_used, bool *ret_has,
                                      struct address *ret)
{
    if (in.len == 0)
        return PROXY_MORE;
    return in.ptr[0] == v2_signature[0] ? v2_parse(in, ret_used, ret_has, ret)
                                        : v1_parse(in, ret_used, ret_has, ret);
}
