/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Payloads: u8 event, then
 *   OPENED        u8 flags (1 will, 2 its retain), varint expiry, varint length, client id, will
 *   RESUMED       the same without a client id
 *   CLOSED        u8 flags (1 keep the will), varint expiry
 *   ENDED         u8 why
 *   SUBSCRIBED    u8 options (bits 0-1 QoS, 2 no local, 3 as published, 4-5 retain handling),
 *                 varint subscription id, filter
 *   UNSUBSCRIBED  filter
 *   ACKED         varint floor, then per item: varint, its place less the one before it (first:
 *                 less the floor's)
 *   SENT          per item: varint packet id * 2 + (QoS 2), varint zigzag of the step in place
 *   GIVEN, RETURNED  varint floor, varint length, filter, then items as in SENT
 *   others        per item: varint packet id
 * A will: varint delay, varint length, topic, payload to the end.
 */
#include "flow/session_record.h"

#include "base/varint.h"

enum { WILL = 1, WILL_RETAIN = 2 };

static void put_begin(struct buf *out, const struct session_record *r)
{
    const struct session_will *w = &r->will;
    buf_put_u8(out, (uint8_t)(w->topic.ptr ? WILL | (w->retain ? WILL_RETAIN : 0) : 0));
    buf_put_varint(out, r->expiry_s);
    if (r->event == SESSION_OPENED)
        buf_put_text(out, r->client_id);
    if (!w->topic.ptr)
        return;
    buf_put_varint(out, w->delay_s);
    buf_put_text(out, w->topic);
    buf_put_slice(out, w->payload);
}

static void put_filter(struct buf *out, const struct session_filter *f)
{
    buf_put_u8(
        out, (uint8_t)(f->qos | f->no_local << 2 | f->as_published << 3 | f->retain_handling << 4));
    buf_put_varint(out, f->id);
    buf_put_slice(out, f->filter);
}

static bool is_of_group(enum session_event event)
{
    return event == SESSION_GIVEN || event == SESSION_RETURNED;
}

/* Its items have packet id, QoS and place. */
static bool has_all(enum session_event event)
{
    return event == SESSION_SENT || is_of_group(event);
}

static void put_items(struct buf *out, const struct session_record *r)
{
    uint64_t before = 0;
    if (is_of_group(r->event)) {
        buf_put_varint(out, r->floor);
        buf_put_text(out, r->filter.filter);
    }
    if (r->event == SESSION_ACKED) {
        buf_put_varint(out, r->floor);
        before = session_place(r->floor, 0);
    }
    for (unsigned i = 0; i < r->count; i++) {
        const struct session_item *item = &r->items[i];
        if (r->event == SESSION_ACKED)
            buf_put_varint(out, item->place - before);
        else if (has_all(r->event))
            buf_put_varint(out, item->packet_id * 2u + (item->qos == 2));
        else
            buf_put_varint(out, item->packet_id);
        if (has_all(r->event))
            buf_put_varint(out, zigzag(item->place - before));
        before = item->place;
    }
}

void session_record_encode(struct buf *out, const struct session_record *r)
{
    buf_put_u8(out, (uint8_t)r->event);
    switch (r->event) {
    case SESSION_OPENED:
    case SESSION_RESUMED:
        put_begin(out, r);
        break;
    case SESSION_CLOSED:
        buf_put_u8(out, r->keep_will);
        buf_put_varint(out, r->expiry_s);
        break;
    case SESSION_ENDED:
        buf_put_u8(out, (uint8_t)r->end);
        break;
    case SESSION_SUBSCRIBED:
        put_filter(out, &r->filter);
        break;
    case SESSION_UNSUBSCRIBED:
        buf_put_slice(out, r->filter.filter);
        break;
    case SESSION_ACKED:
    case SESSION_SENT:
    case SESSION_PUBREL:
    case SESSION_COMPLETED:
    case SESSION_RECEIVED:
    case SESSION_RELEASED:
    case SESSION_GIVEN:
    case SESSION_RETURNED:
        put_items(out, r);
        break;
    }
}

/* ---- reading --------------------------------------------------------------------------------- */

static bool get_u8(struct slice *in, uint8_t max, uint8_t *ret)
{
    if (in->len < 1 || (uint8_t)in->ptr[0] > max)
        return false;
    *ret = (uint8_t)in->ptr[0];
    *in = slice_from(*in, 1);
    return true;
}

static bool get_u32(struct slice *in, uint32_t *ret)
{
    uint64_t v;
    if (!varint_take(in, UINT32_MAX, &v))
        return false;
    *ret = (uint32_t)v;
    return true;
}

static bool get_text(struct slice *in, struct slice *ret)
{
    uint64_t len;
    if (!varint_take(in, UINT32_MAX, &len) || len > in->len)
        return false;
    *ret = slice_of(in->ptr, (size_t)len);
    *in = slice_from(*in, (size_t)len);
    return true;
}

static bool get_begin(struct slice in, struct session_record *r)
{
    uint8_t flags;
    if (!get_u8(&in, WILL | WILL_RETAIN, &flags) || flags == WILL_RETAIN ||
        !get_u32(&in, &r->expiry_s) ||
        (r->event == SESSION_OPENED && !get_text(&in, &r->client_id)))
        return false;
    if (!(flags & WILL))
        return in.len == 0;
    r->will.retain = flags & WILL_RETAIN;
    if (!get_u32(&in, &r->will.delay_s) || !get_text(&in, &r->will.topic) || !r->will.topic.len)
        return false;
    r->will.payload = in;
    return true;
}

static bool get_filter(struct slice in, struct session_filter *f)
{
    uint8_t options;
    if (!get_u8(&in, 63, &options) || (options & 3) == 3 || options >> 4 == 3 ||
        !get_u32(&in, &f->id) || !in.len)
        return false;
    f->qos = options & 3;
    f->no_local = options & 4;
    f->as_published = options & 8;
    f->retain_handling = options >> 4;
    f->filter = in;
    return true;
}

static bool get_item(const struct session_record *r, struct slice *list, struct session_item *item)
{
    uint64_t v, step;
    if (r->event == SESSION_ACKED) {
        uint64_t before = item->place ? item->place : session_place(r->floor, 0);
        if (!varint_take(list, UINT64_MAX - before, &step) || (item->place && !step))
            return false;
        item->place = before + step;
        return item->place != 0; /* place 0 is spelled by no list: the floor says it */
    }
    bool sent = has_all(r->event);
    if (!varint_take(list, sent ? 2 * UINT16_MAX + 1 : UINT16_MAX, &v) || (sent ? v / 2 : v) == 0)
        return false;
    item->packet_id = (uint16_t)(sent ? v / 2 : v);
    if (!sent)
        return true;
    item->qos = v & 1 ? 2 : 1;
    if (!varint_take(list, UINT64_MAX, &step))
        return false;
    item->place += unzigzag(step);
    return true;
}

static bool get_items(struct slice in, struct session_record *r)
{
    if (r->event == SESSION_ACKED && !varint_take(&in, UINT64_MAX >> 4, &r->floor))
        return false;
    if (is_of_group(r->event) &&
        (!varint_take(&in, UINT64_MAX >> 4, &r->floor) || !get_text(&in, &r->filter.filter) ||
         (r->event == SESSION_RETURNED && !r->filter.filter.len)))
        return false;
    r->list = in;
    struct session_item item = {0};
    for (; in.len; r->count++)
        if (!get_item(r, &in, &item))
            return false;
    return true;
}

bool session_next_item(const struct session_record *r, struct slice *list, struct session_item *ret)
{
    return list->len && get_item(r, list, ret);
}

bool session_record_decode(struct slice payload, struct session_record *ret)
{
    struct session_record r = {0};
    uint8_t byte;
    if (!get_u8(&payload, SESSION_RETURNED, &byte))
        return false;
    r.event = (enum session_event)byte;
    bool good = false;
    switch (r.event) {
    case SESSION_OPENED:
    case SESSION_RESUMED:
        good = get_begin(payload, &r);
        break;
    case SESSION_CLOSED:
        good = get_u8(&payload, 1, &byte) && get_u32(&payload, &r.expiry_s) && !payload.len;
        r.keep_will = byte == 1;
        break;
    case SESSION_ENDED:
        good = get_u8(&payload, SESSION_END_ERASED, &byte) && byte && !payload.len;
        r.end = (enum session_end)byte;
        break;
    case SESSION_SUBSCRIBED:
        good = get_filter(payload, &r.filter);
        break;
    case SESSION_UNSUBSCRIBED:
        r.filter.filter = payload;
        good = payload.len != 0;
        break;
    case SESSION_ACKED:
    case SESSION_SENT:
    case SESSION_PUBREL:
    case SESSION_COMPLETED:
    case SESSION_RECEIVED:
    case SESSION_RELEASED:
    case SESSION_GIVEN:
    case SESSION_RETURNED:
        good = get_items(payload, &r);
        break;
    }
    if (good)
        *ret = r;
    return good;
}
