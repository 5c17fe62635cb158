/* SPDX-License-Identifier: Apache-2.0 */
#include "codec/address.h"

#include <arpa/inet.h>

static const uint8_t v4_prefix[12] = {[10] = 0xff, [11] = 0xff};

/* A bare address, no port, no zone. */
static bool ip_parse(struct slice text, struct address *ret)
{
    char copy[INET6_ADDRSTRLEN];
    struct address a = {0};
    if (text.len >= sizeof copy || (text.len && memchr(text.ptr, 0, text.len)))
        return false;
    memcpy(copy, text.ptr ? text.ptr : "", text.len);
    copy[text.len] = 0;
    if (inet_pton(AF_INET, copy, a.bytes + 12) == 1)
        memcpy(a.bytes, v4_prefix, sizeof v4_prefix);
    else if (inet_pton(AF_INET6, copy, a.bytes) != 1)
        return false;
    *ret = a;
    return true;
}

static bool port_parse(struct slice text, uint16_t *ret)
{
    unsigned v = 0;
    if (text.len == 0 || text.len > 5 || (text.len > 1 && text.ptr[0] == '0'))
        return false;
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] < '0' || text.ptr[i] > '9')
            return false;
        v = v * 10 + (unsigned)(text.ptr[i] - '0');
    }
    if (v > 65535)
        return false;
    *ret = (uint16_t)v;
    return true;
}

bool address_parse(struct slice text, struct address *ret)
{
    struct address a;
    struct slice host = text, port = {0};
    bool bracket = text.len && text.ptr[0] == '[';
    if (bracket) {
        const char *end = memchr(text.ptr, ']', text.len);
        if (!end)
            return false;
        host = slice_of(text.ptr + 1, (size_t)(end - text.ptr) - 1);
        port = slice_from(text, host.len + 2);
    } else {
        const char *colon = text.len ? memchr(text.ptr, ':', text.len) : NULL;
        if (colon && !memchr(colon + 1, ':', (size_t)(text.ptr + text.len - colon - 1))) {
            host = slice_of(text.ptr, (size_t)(colon - text.ptr));
            port = slice_from(text, host.len);
        }
    }
    if (!ip_parse(host, &a) || (bracket && !memchr(host.ptr, ':', host.len)))
        return false;
    if (port.len && (port.ptr[0] != ':' || !port_parse(slice_from(port, 1), &a.port)))
        return false;
    *ret = a;
    return true;
}

void address_format(struct buf *out, const struct address *a)
{
    char text[INET6_ADDRSTRLEN];
    bool v4 = address_is_v4(a);
    const char *done =
        inet_ntop(v4 ? AF_INET : AF_INET6, a->bytes + (v4 ? 12 : 0), text, sizeof text);
    buf_put_str(out, done ? text : "");
}

bool address_is_v4(const struct address *a)
{
    return memcmp(a->bytes, v4_prefix, sizeof v4_prefix) == 0;
}

bool address_is_loopback(const struct address *a)
{
    static const uint8_t v6[16] = {[15] = 1};
    return address_is_v4(a) ? a->bytes[12] == 127 : memcmp(a->bytes, v6, sizeof v6) == 0;
}

uint64_t address_source(const struct address *a)
{
    uint64_t n = 0;
    bool v4 = address_is_v4(a);
    for (unsigned i = v4 ? 12 : 0, end = v4 ? 16 : 8; i < end; i++)
        n = n << 8 | a->bytes[i];
    /* ffff:ffff::/32 is multicast and never a source, so the two cannot meet. */
    return v4 ? n | 0xffffffff00000000ull : n;
}

void address_source_format(struct buf *out, uint64_t source)
{
    struct address a = {0};
    bool v4 = source >> 32 == 0xffffffffu;
    if (!source)
        return;
    if (v4)
        memcpy(a.bytes, v4_prefix, sizeof v4_prefix);
    for (unsigned i = 0; i < (v4 ? 4 : 8); i++)
        a.bytes[(v4 ? 15 : 7) - i] = (uint8_t)(source >> 8 * i);
    address_format(out, &a);
    buf_put_str(out, v4 ? "" : "/64");
}

bool cidr_parse(struct slice text, struct cidr *ret)
{
    struct cidr c = {.bits = 128};
    const char *slash = text.len ? memchr(text.ptr, '/', text.len) : NULL;
    struct slice host = slash ? slice_of(text.ptr, (size_t)(slash - text.ptr)) : text;
    if (!ip_parse(host, &c.net))
        return false;
    if (slash) {
        bool v4 = !memchr(host.ptr, ':', host.len);
        struct slice bits = slice_from(text, host.len + 1);
        uint16_t n;
        if (bits.len > 3 || !port_parse(bits, &n) || n > (v4 ? 32 : 128))
            return false;
        c.bits = (uint8_t)(n + (v4 ? 96 : 0));
    }
    *ret = c;
    return true;
}

static bool covers(const struct cidr *c, const struct address *a)
{
    unsigned whole = c->bits / 8, rest = c->bits % 8;
    if (memcmp(c->net.bytes, a->bytes, whole) != 0)
        return false;
    return rest == 0 || (c->net.bytes[whole] ^ a->bytes[whole]) >> (8 - rest) == 0;
}

bool cidr_covers(const struct cidr *list, unsigned count, const struct address *a)
{
    static const uint8_t none[16];
    if (memcmp(a->bytes, none, sizeof none) == 0)
        return false;
    /* "::/0" means all of IPv6: the mapped form is only how IPv4 is kept here. */
    bool v4 = address_is_v4(a);
    for (unsigned i = 0; i < count; i++)
        if (!(v4 && list[i].bits < 96) && covers(&list[i], a))
            return true;
    return false;
}
