/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A session's state as bytes, version 1:
 *   varint credential, expiry, zigzag closed_us, version, floor
 *   text client id, text will topic (empty: no will), varint retain + 2 * delay, text will payload
 *   varint count, subscriptions: u8 options as in a SUBSCRIBED record, varint id, since,
 *     text filter
 *   varint count, acked: varint steps, the first from the floor's place
 *   varint count, out: varint packet id * 4 + what (below), varint place
 *   varint count, in: varint packet id
 * A text is its length as varint and its bytes.
 */
#include <stdlib.h>

#include "base/check.h"
#include "base/varint.h"
#include "flow/limits.h"
#include "view/session.h"

/* A message to the client: QoS 1, or that of a group; QoS 2, or released; and, with these two, that
 * it is of a group; and, with those of a group, that it was retained instead. */
enum {
    OUT_1,
    OUT_2,
    OUT_SHARED,
    OUT_PUBREL,
    OUT_2_SHARED = 4 * (UINT16_MAX + 1),
    OUT_RETAINED = 2 * OUT_2_SHARED
};

static void put_sub(struct buf *out, const struct session_sub *sub)
{
    const struct session_filter *f = &sub->filter;
    buf_put_u8(
        out, (uint8_t)(f->qos | f->no_local << 2 | f->as_published << 3 | f->retain_handling << 4));
    buf_put_varint(out, f->id);
    buf_put_varint(out, sub->since);
    buf_put_text(out, f->filter);
}

static unsigned what_of(const struct session_out *o)
{
    unsigned retained = o->retained ? OUT_RETAINED : 0;
    if (o->qos == 1)
        return (o->shared ? OUT_SHARED : OUT_1) + retained;
    return (o->pubrel ? OUT_PUBREL : OUT_2) + (o->shared ? OUT_2_SHARED : 0) + retained;
}

void session_encode(struct buf *out, const struct session *s)
{
    buf_put_varint(out, s->credential);
    buf_put_varint(out, s->expiry_s);
    buf_put_varint(out, zigzag((uint64_t)s->closed_us));
    buf_put_varint(out, s->version);
    buf_put_varint(out, s->floor);
    buf_put_text(out, s->client_id);
    buf_put_text(out, s->will.topic);
    if (s->will.topic.ptr) {
        buf_put_varint(out, s->will.retain + 2ull * s->will.delay_s);
        buf_put_text(out, s->will.payload);
    }
    buf_put_varint(out, s->subs_count);
    for (uint32_t i = 0; i < s->subs_count; i++)
        put_sub(out, &s->subs[i]);
    buf_put_varint(out, s->acked_count);
    uint64_t before = session_place(s->floor, 0);
    for (uint32_t i = 0; i < s->acked_count; before = s->acked[i++])
        buf_put_varint(out, s->acked[i] - before);
    buf_put_varint(out, s->out_count);
    for (uint32_t i = 0; i < s->out_count; i++) {
        const struct session_out *o = &s->out[i];
        buf_put_varint(out, o->packet_id * 4u + what_of(o));
        buf_put_varint(out, o->place);
    }
    buf_put_varint(out, s->in_count);
    for (uint32_t i = 0; i < s->in_count; i++)
        buf_put_varint(out, s->in[i]);
}

/* ---- reading --------------------------------------------------------------------------------- */

struct input {
    const uint8_t *at, *end;
    bool bad;
};

/* A number up to `max`; 0 once something was bad. */
static uint64_t get(struct input *in, uint64_t max)
{
    uint64_t v = 0;
    const uint8_t *behind = in->bad ? NULL : varint_get(in->at, in->end, &v);
    if (!behind || v > max) {
        in->bad = true;
        return 0;
    }
    in->at = behind;
    return v;
}

/* A text on the heap. */
static struct slice get_text(struct input *in, size_t max)
{
    size_t len = (size_t)get(in, max);
    if (in->bad || len > (size_t)(in->end - in->at)) {
        in->bad = true;
        return (struct slice){0};
    }
    char *ptr = malloc(len + 1);
    CHECK(ptr);
    memcpy(ptr, in->at, len);
    in->at += len;
    return slice_of(ptr, len);
}

/* An array for the list that follows; its length goes to *ret. */
static void *get_list(struct input *in, uint32_t max, size_t size, uint32_t *ret)
{
    uint32_t count = (uint32_t)get(in, max), places = 1;
    if (in->bad || count == 0)
        return NULL;
    if (count > (size_t)(in->end - in->at)) { /* each takes a byte at least */
        in->bad = true;
        return NULL;
    }
    while (places < count)
        places *= 2;
    void *array = calloc(places, size);
    CHECK(array);
    *ret = count;
    return array;
}

static void get_will(struct input *in, struct session_will *w)
{
    w->topic = get_text(in, TOPIC_MAX);
    if (in->bad || w->topic.len == 0) {
        free((char *)(uintptr_t)w->topic.ptr);
        w->topic = (struct slice){0};
        return;
    }
    uint64_t v = get(in, 2ull * UINT32_MAX + 1);
    w->retain = v & 1;
    w->delay_s = (uint32_t)(v >> 1);
    w->payload = get_text(in, SESSION_WILL_MAX);
}

static void get_sub(struct input *in, struct session_sub *sub)
{
    struct session_filter *f = &sub->filter;
    uint8_t options = in->bad || in->at == in->end ? 255 : *in->at++;
    if (options > 63 || (options & 3) == 3 || options >> 4 == 3)
        in->bad = true;
    f->qos = options & 3;
    f->no_local = options & 4;
    f->as_published = options & 8;
    f->retain_handling = options >> 4 & 3;
    f->id = (uint32_t)get(in, UINT32_MAX);
    sub->since = get(in, UINT64_MAX);
    f->filter = get_text(in, TOPIC_MAX);
    if (!f->filter.len)
        in->bad = true;
}

static void get_acked(struct input *in, struct session *s)
{
    uint64_t before = session_place(s->floor, 0);
    s->acked = get_list(in, SESSION_ACKED_MAX, sizeof *s->acked, &s->acked_count);
    for (uint32_t i = 0; i < s->acked_count; i++) {
        uint64_t step = get(in, UINT64_MAX - before);
        if (i && step == 0)
            in->bad = true;
        s->acked[i] = before += step;
    }
}

static void get_out(struct input *in, struct session *s)
{
    uint16_t before = 0;
    s->out = get_list(in, SESSION_OUT_MAX, sizeof *s->out, &s->out_count);
    for (uint32_t i = 0; i < s->out_count; i++) {
        uint64_t v = get(in, OUT_RETAINED + OUT_2_SHARED + 4 * UINT16_MAX + 3);
        s->out[i] = (struct session_out){.packet_id = (uint16_t)(v >> 2),
                                         .qos = v & 1 ? 2 : 1,
                                         .pubrel = (v & 3) == OUT_PUBREL,
                                         .shared = (v & 3) == OUT_SHARED || v & OUT_2_SHARED,
                                         .retained = v & OUT_RETAINED,
                                         .place = get(in, UINT64_MAX)};
        if (s->out[i].packet_id <= before || (v & OUT_2_SHARED && !(v & 1)) ||
            (s->out[i].retained && !s->out[i].shared))
            in->bad = true;
        before = s->out[i].packet_id;
    }
}

static void get_in(struct input *in, struct session *s)
{
    uint16_t before = 0;
    s->in = get_list(in, SESSION_IN_MAX, sizeof *s->in, &s->in_count);
    for (uint32_t i = 0; i < s->in_count; i++) {
        s->in[i] = (uint16_t)get(in, UINT16_MAX);
        if (s->in[i] <= before)
            in->bad = true;
        before = s->in[i];
    }
}

bool session_decode(struct slice bytes, struct session *ret)
{
    struct input in = {.at = (const uint8_t *)bytes.ptr};
    in.end = in.at + bytes.len;
    struct session s = {.grow_max = SIZE_MAX};
    s.credential = get(&in, UINT64_MAX);
    s.expiry_s = (uint32_t)get(&in, UINT32_MAX);
    s.closed_us = (int64_t)unzigzag(get(&in, UINT64_MAX));
    s.version = get(&in, UINT64_MAX);
    s.floor = get(&in, UINT64_MAX >> 4);
    s.client_id = get_text(&in, SESSION_NAME_MAX);
    get_will(&in, &s.will);
    s.subs = get_list(&in, SESSION_SUBS_MAX, sizeof *s.subs, &s.subs_count);
    for (uint32_t i = 0; i < s.subs_count; i++)
        get_sub(&in, &s.subs[i]);
    get_acked(&in, &s);
    get_out(&in, &s);
    get_in(&in, &s);
    if (in.bad || in.at != in.end) {
        session_fini(&s);
        return false;
    }
    *ret = s;
    return true;
}
