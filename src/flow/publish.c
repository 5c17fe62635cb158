/* SPDX-License-Identifier: Apache-2.0 */
#include "flow/publish.h"

#include "base/varint.h"

enum { QOS_BITS = 3, HAS_EXPIRY = 4, HAS_PROPERTIES = 8, FLAGS_ALL = 15 };

static void put_varint(struct buf *out, uint64_t v)
{
    uint8_t bytes[VARINT_MAX];
    buf_put(out, bytes, (size_t)(varint_put(bytes, v) - bytes));
}

void publish_encode(struct buf *out, const struct publish *p)
{
    buf_put_u8(out, (uint8_t)((p->qos & QOS_BITS) | (p->has_expiry ? HAS_EXPIRY : 0) |
                              (p->properties.len ? HAS_PROPERTIES : 0)));
    if (p->has_expiry)
        put_varint(out, p->expiry_s);
    if (p->properties.len) {
        put_varint(out, p->properties.len);
        buf_put_slice(out, p->properties);
    }
    buf_put_slice(out, p->message);
}

bool publish_decode(struct slice payload, struct publish *ret)
{
    const uint8_t *at = (const uint8_t *)payload.ptr, *end = at + payload.len;
    if (payload.len < 1 || *at > FLAGS_ALL || (*at & QOS_BITS) > 2)
        return false;
    uint8_t flags = *at++;
    struct publish p = {.qos = flags & QOS_BITS, .has_expiry = flags & HAS_EXPIRY};
    uint64_t v = 0;
    if (p.has_expiry && (!(at = varint_get(at, end, &v)) || v > UINT32_MAX))
        return false;
    p.expiry_s = (uint32_t)v;
    if (flags & HAS_PROPERTIES) {
        if (!(at = varint_get(at, end, &v)) || v == 0 || v > (uint64_t)(end - at))
            return false;
        p.properties = slice_of(at, (size_t)v);
        at += v;
    }
    p.message = slice_of(at, (size_t)(end - at));
    *ret = p;
    return true;
}

int64_t publish_expires_us(const struct publish *p, int64_t receive_us)
{
    int64_t end;
    if (!p->has_expiry || __builtin_add_overflow(receive_us, (int64_t)p->expiry_s * 1000000, &end))
        return INT64_MAX;
    return end;
}
