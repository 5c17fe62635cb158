/* SPDX-License-Identifier: Apache-2.0 */
#include "load/message.h"

#include <errno.h>
#include <stdlib.h>

#define FEED_MARK   SLICE("%feed%")
#define DEVICE_MARK SLICE("%device%")

static void put_digits(char *out, unsigned digits, uint64_t n)
{
    for (unsigned i = digits; i-- > 0; n /= 10)
        out[i] = (char)('0' + n % 10);
}

/* *ret_feed_at: where in `out` the first %feed% went. */
static void put_topic(struct buf *out, struct slice text, struct slice device, size_t *ret_feed_at)
{
    while (text.len) {
        if (slice_starts(text, DEVICE_MARK)) {
            buf_put_slice(out, device);
            text = slice_from(text, DEVICE_MARK.len);
        } else if (*ret_feed_at == SIZE_MAX && slice_starts(text, FEED_MARK)) {
            *ret_feed_at = out->len;
            for (unsigned i = 0; i < MESSAGE_FEED_DIGITS; i++)
                buf_put_u8(out, '0');
            text = slice_from(text, FEED_MARK.len);
        } else {
            buf_put_u8(out, (uint8_t)text.ptr[0]);
            text = slice_from(text, 1);
        }
    }
}

/* The time, a blank, where it is wanted the sequence and a blank, and letters up to the size. */
static void put_payload(struct buf *out, const struct load_opts *opts)
{
    if (opts->payload) {
        buf_put_str(out, opts->payload);
        return;
    }
    for (unsigned i = 0; i < opts->payload_bytes; i++) {
        bool blank =
            i == MESSAGE_TIME_DIGITS || (opts->sequenced && i == MESSAGE_SEQUENCED_MIN - 1);
        bool digit = i < (opts->sequenced ? MESSAGE_SEQUENCED_MIN : MESSAGE_TIME_DIGITS);
        buf_put_u8(out, blank ? ' ' : digit ? '0' : (uint8_t)('a' + i % 26));
    }
}

int message_init(struct message *m, const struct load_opts *opts, struct slice device)
{
    struct buf topic, payload, out;
    size_t feed_at = SIZE_MAX;
    *m = (struct message){0};
    buf_init(&topic, UINT16_MAX);
    buf_init(&payload, MQTT_LENGTH_MAX);
    buf_init(&out, MQTT_LENGTH_MAX);
    put_topic(&topic, slice_str(opts->topic), device, &feed_at);
    put_payload(&payload, opts);
    const struct mqtt_packet p = {.type = MQTT_PUBLISH,
                                  .id = 1,
                                  .publish = {.topic = buf_slice(&topic),
                                              .payload = buf_slice(&payload),
                                              .qos = (uint8_t)opts->qos}};
    mqtt_put(&out, opts->mqtt, &p);
    bool failed = topic.failed || payload.failed || out.failed;
    if (!failed) {
        m->packet = out.ptr;
        m->len = (uint32_t)out.len;
        uint32_t payload_at = m->len - (uint32_t)payload.len;
        uint32_t behind_topic = payload_at - (opts->mqtt == MQTT_5) - 2 * (opts->qos > 0);
        m->id_at = opts->qos ? behind_topic : 0;
        m->feed_at =
            feed_at == SIZE_MAX ? 0 : behind_topic - (uint32_t)topic.len + (uint32_t)feed_at;
        m->time_at = opts->payload ? 0 : payload_at;
        m->seq_at = opts->sequenced ? payload_at + MESSAGE_TIME_DIGITS + 1 : 0;
    } else {
        buf_fini(&out);
    }
    buf_fini(&topic);
    buf_fini(&payload);
    return failed ? -ENOMEM : 0;
}

void message_fini(struct message *m)
{
    free(m->packet);
    *m = (struct message){0};
}

void message_put(const struct message *m, char *out, const struct message_fill *fill)
{
    memcpy(out, m->packet, m->len);
    if (m->feed_at)
        put_digits(out + m->feed_at, MESSAGE_FEED_DIGITS, fill->feed);
    if (m->id_at) {
        out[m->id_at] = (char)(fill->id >> 8);
        out[m->id_at + 1] = (char)fill->id;
    }
    if (m->time_at)
        put_digits(out + m->time_at, MESSAGE_TIME_DIGITS, fill->at_ns);
    if (m->seq_at)
        fleet_sequence_format(out + m->seq_at, fill->sequence);
}

bool message_time(struct slice payload, uint64_t *ret_ns)
{
    uint64_t n = 0;
    if (payload.len <= MESSAGE_TIME_DIGITS || payload.ptr[MESSAGE_TIME_DIGITS] != ' ')
        return false;
    for (unsigned i = 0; i < MESSAGE_TIME_DIGITS; i++) {
        if (payload.ptr[i] < '0' || payload.ptr[i] > '9')
            return false;
        n = n * 10 + (unsigned)(payload.ptr[i] - '0');
    }
    *ret_ns = n;
    return true;
}
