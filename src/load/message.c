/* SPDX-License-Identifier: Apache-2.0 */
#include "load/message.h"

#include <errno.h>
#include <stdlib.h>

/* The time, a blank, where it is wanted the sequence and a blank, and letters up to the size. */
static void put_payload(struct buf *out, const struct load_opts *opts, struct slice device,
                        struct template_marks *marks)
{
    if (opts->payload) {
        template_expand(out, slice_str(opts->payload), device, marks);
        return;
    }
    template_expand(out, opts->sequenced ? SLICE("%due% %seq% ") : SLICE("%due% "), device, marks);
    while (out->len < opts->payload_bytes && !out->failed)
        buf_put_u8(out, (uint8_t)('a' + out->len % 26));
}

static void move_marks(struct template_marks *marks, uint32_t first, uint32_t by)
{
    for (uint32_t i = first; i < marks->count; i++)
        marks->list[i].at += by;
}

int message_init(struct message *m, const struct load_opts *opts, struct slice device)
{
    struct buf topic, payload, out;
    *m = (struct message){0};
    buf_init(&topic, UINT16_MAX);
    buf_init(&payload, MQTT_LENGTH_MAX);
    buf_init(&out, MQTT_LENGTH_MAX);
    template_expand(&topic, slice_str(opts->topic), device, &m->marks);
    uint32_t in_topic = m->marks.count;
    put_payload(&payload, opts, device, &m->marks);
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
        move_marks(&m->marks, 0, behind_topic - (uint32_t)topic.len);
        move_marks(&m->marks, in_topic, payload_at - (behind_topic - (uint32_t)topic.len));
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

void message_put(const struct message *m, char *out, uint16_t id,
                 const struct template_values *values)
{
    memcpy(out, m->packet, m->len);
    if (m->id_at) {
        out[m->id_at] = (char)(id >> 8);
        out[m->id_at + 1] = (char)id;
    }
    template_fill(out, &m->marks, values);
}

bool message_time(struct slice payload, uint64_t *ret_ns)
{
    uint64_t n = 0;
    if (payload.len <= TEMPLATE_DUE_DIGITS || payload.ptr[TEMPLATE_DUE_DIGITS] != ' ')
        return false;
    for (unsigned i = 0; i < TEMPLATE_DUE_DIGITS; i++) {
        if (payload.ptr[i] < '0' || payload.ptr[i] > '9')
            return false;
        n = n * 10 + (unsigned)(payload.ptr[i] - '0');
    }
    *ret_ns = n;
    return true;
}
