/* SPDX-License-Identifier: Apache-2.0 */
#include "journal/record.h"

#include "base/varint.h"

enum {
    HAS_FLAGS = 1,
    HAS_FEED = 2,
    HAS_CREDENTIAL = 4,
    HAS_EVENT = 8,
    HAS_KEY_ID = 16,
    HAS_SESSION = 32,
    HAS_SEQUENCE = 64,
    HAS_KEY = 128,
    HAS_TOPIC = 256,
    HAS_FINGERPRINT = 512,
    HAS_CLIENT = 1024,
    HAS_ALL = 2047,
};

static char *put_varint(char *to, uint64_t v)
{
    return (char *)varint_put((uint8_t *)to, v);
}

static char *put_bytes(char *to, struct slice s)
{
    if (s.len)
        memcpy(to, s.ptr, s.len);
    return to + s.len;
}

/* Moves *at behind the varint. False: it does not end, or has more than 64 bits. */
static bool get_varint(const char **at, const char *end, uint64_t *ret)
{
    const uint8_t *behind = varint_get((const uint8_t *)*at, (const uint8_t *)end, ret);
    if (!behind)
        return false;
    *at = (const char *)behind;
    return true;
}

static unsigned mask_of(const struct record *r)
{
    return (r->flags ? HAS_FLAGS : 0u) | (r->feed ? HAS_FEED : 0u) |
           (r->credential ? HAS_CREDENTIAL : 0u) | (r->event_us != r->receive_us ? HAS_EVENT : 0u) |
           (r->key_id ? HAS_KEY_ID : 0u) | (r->producer.session ? HAS_SESSION : 0u) |
           (r->producer.sequence ? HAS_SEQUENCE : 0u) | (r->producer.key.len ? HAS_KEY : 0u) |
           (r->topic.len ? HAS_TOPIC : 0u) | (r->producer.fingerprint ? HAS_FINGERPRINT : 0u) |
           (r->client ? HAS_CLIENT : 0u);
}

size_t record_head(const struct record *r, char head[RECORD_HEAD_MAX])
{
    char *to = head;
    unsigned mask = mask_of(r);
    *to++ = (char)r->kind;
    to = put_varint(to, mask);
    to = put_varint(to, r->account);
    to = put_varint(to, zigzag((uint64_t)r->receive_us));
    if (mask & HAS_FLAGS)
        to = put_varint(to, r->flags);
    if (mask & HAS_FEED)
        to = put_varint(to, r->feed);
    if (mask & HAS_CREDENTIAL)
        to = put_varint(to, r->credential);
    if (mask & HAS_EVENT) /* unsigned: the difference of any two times wraps and comes back */
        to = put_varint(to, zigzag((uint64_t)r->event_us - (uint64_t)r->receive_us));
    if (mask & HAS_KEY_ID)
        to = put_varint(to, r->key_id);
    if (mask & HAS_SESSION)
        to = put_varint(to, r->producer.session);
    if (mask & HAS_SEQUENCE)
        to = put_varint(to, r->producer.sequence);
    if (mask & HAS_KEY)
        to = put_varint(to, r->producer.key.len);
    if (mask & HAS_TOPIC)
        to = put_varint(to, r->topic.len);
    if (mask & HAS_FINGERPRINT)
        to = put_varint(to, r->producer.fingerprint);
    if (mask & HAS_CLIENT)
        to = put_varint(to, r->client);
    return (size_t)(to - head);
}

bool record_encode(struct buf *out, const struct record *r)
{
    char head[RECORD_HEAD_MAX], length[10];
    size_t head_len = record_head(r, head);
    size_t total = head_len + r->producer.key.len + r->topic.len + r->payload.len;
    size_t length_len = (size_t)(put_varint(length, total) - length);
    if (out->failed || length_len + total > out->max - out->len)
        return false;
    char *at = buf_reserve(out, length_len + total);
    if (!at) {
        out->failed = false; /* no memory: nothing was put, so the buffer stays good */
        return false;
    }
    at = put_bytes(at, slice_of(length, length_len));
    at = put_bytes(at, slice_of(head, head_len));
    at = put_bytes(at, r->producer.key);
    at = put_bytes(at, r->topic);
    put_bytes(at, r->payload);
    out->len += length_len + total;
    return true;
}

static bool get_u32(const char **at, const char *end, uint32_t *ret)
{
    uint64_t v;
    if (!get_varint(at, end, &v) || v > UINT32_MAX)
        return false;
    *ret = (uint32_t)v;
    return true;
}

/* The numbers behind the mask. */
static bool get_fields(const char **at, const char *end, unsigned mask, struct record *r,
                       uint64_t *key_len, uint64_t *topic_len)
{
    uint64_t event = 0;
    if ((mask & HAS_FLAGS && !get_u32(at, end, &r->flags)) ||
        (mask & HAS_FEED && !get_varint(at, end, &r->feed)) ||
        (mask & HAS_CREDENTIAL && !get_varint(at, end, &r->credential)) ||
        (mask & HAS_EVENT && !get_varint(at, end, &event)) ||
        (mask & HAS_KEY_ID && !get_u32(at, end, &r->key_id)) ||
        (mask & HAS_SESSION && !get_varint(at, end, &r->producer.session)) ||
        (mask & HAS_SEQUENCE && !get_varint(at, end, &r->producer.sequence)) ||
        (mask & HAS_KEY && !get_varint(at, end, key_len)) ||
        (mask & HAS_TOPIC && !get_varint(at, end, topic_len)) ||
        (mask & HAS_FINGERPRINT && !get_varint(at, end, &r->producer.fingerprint)) ||
        (mask & HAS_CLIENT && !get_varint(at, end, &r->client)))
        return false;
    r->event_us = (int64_t)((uint64_t)r->receive_us + unzigzag(event));
    return true;
}

size_t record_decode(struct slice in, struct record *ret)
{
    const char *at = in.ptr, *end = in.ptr + in.len;
    struct record *r = ret;
    uint64_t total, mask, receive, key_len = 0, topic_len = 0;
    if (!get_varint(&at, end, &total) || total > (size_t)(end - at) || total < 1)
        return 0;
    end = at + total;
    *r = (struct record){.kind = (enum record_kind)(uint8_t)*at++};
    if (r->kind < RECORD_DATUM || r->kind > RECORD_RULE)
        return 0;
    if (!get_varint(&at, end, &mask) || mask > HAS_ALL || !get_varint(&at, end, &r->account) ||
        !get_varint(&at, end, &receive))
        return 0;
    r->receive_us = (int64_t)unzigzag(receive);
    if (!get_fields(&at, end, (unsigned)mask, r, &key_len, &topic_len))
        return 0;
    size_t rest = (size_t)(end - at);
    if (key_len > rest || topic_len > rest - key_len)
        return 0;
    r->producer.key = slice_of(at, (size_t)key_len);
    at += key_len;
    r->topic = slice_of(at, (size_t)topic_len);
    at += topic_len;
    r->payload = slice_of(at, (size_t)(end - at));
    return (size_t)(end - in.ptr);
}

size_t record_skip(struct slice in)
{
    const char *at = in.ptr, *end = in.ptr + in.len;
    uint64_t total;
    if (!get_varint(&at, end, &total) || total > (size_t)(end - at) || total < 1)
        return 0;
    return (size_t)(at - in.ptr) + (size_t)total;
}

size_t record_skip_datum(struct slice in)
{
    const char *at = in.ptr, *end = in.ptr + in.len;
    uint64_t total, mask;
    if (!get_varint(&at, end, &total) || total > (size_t)(end - at) || total < 1)
        return 0;
    end = at + total;
    if ((uint8_t)*at++ != RECORD_DATUM || !get_varint(&at, end, &mask) || mask > HAS_ALL ||
        mask & HAS_SESSION)
        return 0;
    return (size_t)(end - in.ptr);
}
