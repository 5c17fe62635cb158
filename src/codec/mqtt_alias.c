/* SPDX-License-Identifier: Apache-2.0 */
/* PUBLISH packets as bytes: what is put into them when they leave. */
#include <endian.h>

#include "base/check.h"
#include "codec/mqtt_private.h"

#define ALIAS_BYTES 3u /* of the property */

/* The caller has made the packet: nothing can be missing in it. */
static uint32_t must_varint(struct cursor *c)
{
    uint32_t v = 0;
    bool minimal;
    CHECK(take_varint(c, &v, &minimal));
    return v;
}

static struct slice must_take(struct cursor *c, size_t len)
{
    CHECK(len <= cursor_left(c));
    struct slice taken = slice_of(c->at, len);
    c->at += len;
    return taken;
}

bool mqtt_next_publish(struct slice *packets, struct slice *ret_packet, struct slice *ret_topic)
{
    const uint8_t *begin = (const uint8_t *)packets->ptr;
    struct cursor c = {begin + 1, begin + packets->len};
    if (!packets->len)
        return false;
    uint32_t len = must_varint(&c);
    struct cursor body = {c.at, c.at + must_take(&c, len).len};
    CHECK(take_binary(&body, ret_topic));
    *ret_packet = slice_of(begin, (size_t)(c.at - begin));
    *packets = cursor_rest(&c);
    return true;
}

void mqtt_set_expiry(char *publish, size_t len, uint32_t expiry_s)
{
    const uint8_t *begin = (const uint8_t *)publish;
    struct cursor c = {begin + 1, begin + len};
    struct slice topic;
    uint32_t big = htobe32(expiry_s);
    (void)must_varint(&c);
    CHECK(take_binary(&c, &topic));
    (void)must_take(&c, *begin & 6 ? 2 : 0);
    (void)must_varint(&c);
    if (*must_take(&c, 1).ptr == MQTT_PAYLOAD_FORMAT) /* they ascend, so at most this is before */
        (void)must_take(&c, 2);
    CHECK(c.at[-1] == MQTT_MESSAGE_EXPIRY);
    memcpy(publish + (c.at - begin), &big, sizeof big);
}

bool mqtt_put_aliased(struct buf *out, struct slice publish, uint16_t alias, bool with_topic,
                      uint32_t packet_max)
{
    const uint8_t *begin = (const uint8_t *)publish.ptr;
    struct cursor c = {begin + 1, begin + publish.len};
    struct slice topic;
    (void)must_varint(&c);
    CHECK(take_binary(&c, &topic));
    struct slice id = must_take(&c, *begin & 6 ? 2 : 0);
    struct slice properties = must_take(&c, must_varint(&c));
    uint32_t properties_len = ALIAS_BYTES + (uint32_t)properties.len;
    if (!with_topic)
        topic = slice_str("");
    size_t rest =
        2 + topic.len + id.len + varint_size(properties_len) + properties_len + cursor_left(&c);
    if (rest > MQTT_LENGTH_MAX || 1 + varint_size((uint32_t)rest) + rest > packet_max)
        return false;
    buf_put_u8(out, *begin);
    put_varint(out, (uint32_t)rest);
    put_binary(out, topic);
    buf_put_slice(out, id);
    put_varint(out, properties_len);
    buf_put_u8(out, MQTT_TOPIC_ALIAS);
    put_u16(out, alias);
    buf_put_slice(out, properties);
    buf_put_slice(out, cursor_rest(&c));
    return true;
}
