/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Invariants: `acked` holds no place below the floor. A QoS 1 message is in `out` until the client
 * has it, one of a group until its id is free; one of QoS 2 that is its own is in `acked` or below
 * the floor as soon as its id is `pubrel`, and any stays in `out` until its id is free. All lists
 * are sorted and hold nothing twice.
 */
#include "view/session.h"

#include <stdlib.h>

#include "base/check.h"
#include "flow/limits.h"

/* ---- lists ----------------------------------------------------------------------------------- */

/* Places of an array of `count` elements: the next power of two. */
static size_t places(uint32_t count)
{
    size_t n = count != 0;
    while (n < count)
        n *= 2;
    return n;
}

/* Whether it may grow by that much; else it is counted as dropped. */
static bool may_grow(struct session *s, size_t bytes)
{
    if (bytes > s->grow_max) {
        s->dropped++;
        return false;
    }
    s->grow_max -= bytes;
    return true;
}

/* Room for one more at `at` in an array of `count` elements of `size` bytes. Returns the array, or
 * NULL, and nothing is changed: the session may not grow. */
static void *open_gap(struct session *s, void *array, uint32_t count, uint32_t at, size_t size)
{
    char *ptr = array;
    size_t more = places(count + 1) - places(count);
    if (!may_grow(s, more * size))
        return NULL;
    if (more) {
        ptr = realloc(array, places(count + 1) * size);
        CHECK(ptr);
    }
    memmove(ptr + (at + 1) * size, ptr + at * size, (count - at) * size);
    return ptr;
}

/* Takes `n` elements at `at` out. Returns the array, which has as many places as it needs. */
static void *close_gap(void *array, uint32_t count, uint32_t at, uint32_t n, size_t size)
{
    char *ptr = array;
    count -= n;
    if (count == 0) {
        free(array);
        return NULL;
    }
    memmove(ptr + at * size, ptr + (at + n) * size, (count - at) * size);
    if (places(count) < places(count + n)) {
        ptr = realloc(array, places(count) * size);
        CHECK(ptr);
    }
    return ptr;
}

static struct slice copy_of(struct slice text)
{
    char *ptr = malloc(text.len + 1); /* never NULL for one that is there */
    CHECK(ptr);
    if (text.len)
        memcpy(ptr, text.ptr, text.len);
    return slice_of(ptr, text.len);
}

static void drop_text(struct slice *text)
{
    free((char *)(uintptr_t)text->ptr);
    *text = (struct slice){0};
}

/* The first of `count` elements of `size` bytes, ascending by key, whose key is not below. */
static uint32_t first_from(const void *array, uint32_t count, size_t size,
                           uint64_t (*key_of)(const void *element), uint64_t key)
{
    uint32_t low = 0, high = count;
    while (low < high) {
        uint32_t mid = (low + high) / 2;
        if (key_of((const char *)array + mid * size) < key)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

static uint64_t place_of(const void *acked)
{
    return *(const uint64_t *)acked;
}

static uint64_t id_of_out(const void *out)
{
    return ((const struct session_out *)out)->packet_id;
}

static uint64_t id_of_in(const void *in)
{
    return *(const uint16_t *)in;
}

static uint32_t acked_at(const struct session *s, uint64_t place)
{
    return first_from(s->acked, s->acked_count, sizeof *s->acked, place_of, place);
}

static uint32_t out_at(const struct session *s, uint16_t packet_id)
{
    return first_from(s->out, s->out_count, sizeof *s->out, id_of_out, packet_id);
}

static uint32_t in_at(const struct session *s, uint16_t packet_id)
{
    return first_from(s->in, s->in_count, sizeof *s->in, id_of_in, packet_id);
}

const struct session_out *session_sent(const struct session *s, uint16_t packet_id)
{
    uint32_t at = out_at(s, packet_id);
    return at < s->out_count && s->out[at].packet_id == packet_id ? &s->out[at] : NULL;
}

bool session_has(const struct session *s, uint64_t place)
{
    uint32_t at = acked_at(s, place);
    return place < session_place(s->floor, 0) || (at < s->acked_count && s->acked[at] == place);
}

bool session_has_received(const struct session *s, uint16_t packet_id)
{
    uint32_t at = in_at(s, packet_id);
    return at < s->in_count && s->in[at] == packet_id;
}

/* ---- messages to the client ------------------------------------------------------------------ */

static void drop_out(struct session *s, uint32_t at)
{
    s->out = close_gap(s->out, s->out_count, at, 1, sizeof *s->out);
    s->out_count--;
}

/* Packet ids of QoS 1 whose message the client has. */
static void free_acked_ids(struct session *s)
{
    for (uint32_t i = s->out_count; i-- > 0;)
        if (s->out[i].qos == 1 && !s->out[i].shared && session_has(s, s->out[i].place))
            drop_out(s, i);
}

static void put_acked(struct session *s, uint64_t place)
{
    uint32_t at = acked_at(s, place);
    if (session_has(s, place))
        return;
    if (s->acked_count == SESSION_ACKED_MAX) {
        s->dropped++;
        return;
    }
    uint64_t *acked = open_gap(s, s->acked, s->acked_count, at, sizeof *acked);
    if (!acked)
        return;
    s->acked = acked;
    s->acked[at] = place;
    s->acked_count++;
}

static void raise_floor(struct session *s, uint64_t floor)
{
    if (floor <= s->floor)
        return;
    s->floor = floor;
    uint32_t below = acked_at(s, session_place(floor, 0));
    if (!below)
        return;
    s->acked = close_gap(s->acked, s->acked_count, 0, below, sizeof *s->acked);
    s->acked_count -= below;
}

static void put_out(struct session *s, const struct session_item *item, bool of_group,
                    bool retained)
{
    uint32_t at = out_at(s, item->packet_id);
    if (at == s->out_count || s->out[at].packet_id != item->packet_id) {
        if (s->out_count == SESSION_OUT_MAX) {
            s->dropped++;
            return;
        }
        struct session_out *out = open_gap(s, s->out, s->out_count, at, sizeof *out);
        if (!out)
            return;
        s->out = out;
        s->out_count++;
    }
    s->out[at] = (struct session_out){.place = item->place,
                                      .packet_id = item->packet_id,
                                      .qos = item->qos,
                                      .shared = of_group,
                                      .retained = retained};
}

static void apply_pubrel(struct session *s, uint16_t packet_id)
{
    uint32_t at = out_at(s, packet_id);
    if (at == s->out_count || s->out[at].packet_id != packet_id || s->out[at].qos != 2)
        return;
    s->out[at].pubrel = true;
    if (!s->out[at].shared)
        put_acked(s, s->out[at].place);
}

static void complete(struct session *s, uint16_t packet_id)
{
    uint32_t at = out_at(s, packet_id);
    if (at < s->out_count && s->out[at].packet_id == packet_id)
        drop_out(s, at);
}

/* ---- messages from the client ---------------------------------------------------------------- */

void session_receive(struct session *s, uint16_t packet_id)
{
    uint32_t at = in_at(s, packet_id);
    if (at < s->in_count && s->in[at] == packet_id)
        return;
    if (s->in_count == SESSION_IN_MAX) {
        s->dropped++;
        return;
    }
    uint16_t *in = open_gap(s, s->in, s->in_count, at, sizeof *in);
    if (!in)
        return;
    s->in = in;
    s->in[at] = packet_id;
    s->in_count++;
}

static void release(struct session *s, uint16_t packet_id)
{
    uint32_t at = in_at(s, packet_id);
    if (at == s->in_count || s->in[at] != packet_id)
        return;
    s->in = close_gap(s->in, s->in_count, at, 1, sizeof *s->in);
    s->in_count--;
}

/* ---- subscriptions and the will -------------------------------------------------------------- */

static uint32_t find_sub(const struct session *s, struct slice filter)
{
    uint32_t at = 0;
    while (at < s->subs_count && !slice_eq(s->subs[at].filter.filter, filter))
        at++;
    return at;
}

static void subscribe(struct session *s, const struct session_filter *f, uint64_t since)
{
    uint32_t at = find_sub(s, f->filter);
    if (at == s->subs_count) {
        if (at == SESSION_SUBS_MAX || f->filter.len > TOPIC_MAX) {
            s->dropped++;
            return;
        }
        struct session_sub *subs = NULL;
        if (may_grow(s, f->filter.len))
            subs = open_gap(s, s->subs, s->subs_count, at, sizeof *subs);
        if (!subs)
            return;
        s->subs = subs;
        s->subs[at] = (struct session_sub){.filter.filter = copy_of(f->filter), .since = since};
        s->subs_count++;
    }
    struct slice text = s->subs[at].filter.filter;
    s->subs[at].filter = *f;
    s->subs[at].filter.filter = text;
}

static void unsubscribe(struct session *s, struct slice filter)
{
    uint32_t at = find_sub(s, filter);
    if (at == s->subs_count)
        return;
    drop_text(&s->subs[at].filter.filter);
    s->subs = close_gap(s->subs, s->subs_count, at, 1, sizeof *s->subs);
    s->subs_count--;
}

void session_drop_will(struct session *s)
{
    drop_text(&s->will.topic);
    drop_text(&s->will.payload);
    s->will = (struct session_will){0};
}

static void set_will(struct session *s, const struct session_will *w)
{
    size_t before = s->will.topic.len + s->will.payload.len;
    size_t bytes = w->topic.len + w->payload.len;
    session_drop_will(s);
    if (!w->topic.ptr)
        return;
    if (w->topic.len > TOPIC_MAX || w->payload.len > SESSION_WILL_MAX) {
        s->dropped++;
        return;
    }
    if (bytes > before && !may_grow(s, bytes - before))
        return;
    s->will = *w;
    s->will.topic = copy_of(w->topic);
    s->will.payload = copy_of(w->payload);
}

/* ---- events ---------------------------------------------------------------------------------- */

void session_init(struct session *s, const struct record *r, const struct session_record *open,
                  uint64_t offset)
{
    *s = (struct session){.number = r->producer.session,
                          .account = r->account,
                          .credential = r->credential,
                          .key_id = r->key_id,
                          .client_id = copy_of(open->client_id),
                          .expiry_s = open->expiry_s,
                          .version = offset + 1,
                          .floor = offset + 1,
                          .grow_max = SIZE_MAX};
    set_will(s, &open->will);
}

void session_fini(struct session *s)
{
    drop_text(&s->client_id);
    session_drop_will(s);
    for (uint32_t i = 0; i < s->subs_count; i++)
        drop_text(&s->subs[i].filter.filter);
    free(s->subs);
    free(s->acked);
    free(s->out);
    free(s->in);
    *s = (struct session){0};
}

static void apply_items(struct session *s, const struct session_record *event)
{
    struct slice list = event->list;
    struct session_item item = {0};
    bool given = event->event == SESSION_GIVEN;
    while (session_next_item(event, &list, &item)) {
        if (event->event == SESSION_ACKED)
            put_acked(s, item.place);
        else if (event->event == SESSION_SENT || given)
            put_out(s, &item, given, given && !event->filter.filter.len);
        else if (event->event == SESSION_PUBREL)
            apply_pubrel(s, item.packet_id);
        else if (event->event == SESSION_COMPLETED || event->event == SESSION_RETURNED)
            complete(s, item.packet_id);
        else if (event->event == SESSION_RECEIVED)
            session_receive(s, item.packet_id);
        else
            release(s, item.packet_id);
    }
}

enum session_then session_apply(struct session *s, const struct record *r,
                                const struct session_record *event, uint64_t offset)
{
    s->version = offset + 1;
    switch (event->event) {
    case SESSION_OPENED:
        CHECK_UNREACHABLE("a session is opened by session_init");
    case SESSION_ENDED:
        return SESSION_IS_OVER;
    case SESSION_RESUMED:
        s->credential = r->credential;
        s->key_id = r->key_id;
        s->expiry_s = event->expiry_s;
        s->closed_us = 0;
        set_will(s, &event->will);
        break;
    case SESSION_CLOSED:
        s->expiry_s = event->expiry_s;
        s->closed_us = r->receive_us ? r->receive_us : 1;
        if (!event->keep_will)
            session_drop_will(s);
        return s->expiry_s || s->will.topic.ptr ? SESSION_GOES_ON : SESSION_IS_OVER;
    case SESSION_SUBSCRIBED:
        subscribe(s, &event->filter, offset);
        break;
    case SESSION_UNSUBSCRIBED:
        unsubscribe(s, event->filter.filter);
        break;
    case SESSION_ACKED:
        raise_floor(s, event->floor);
        apply_items(s, event);
        free_acked_ids(s);
        break;
    case SESSION_SENT:
    case SESSION_PUBREL:
    case SESSION_COMPLETED:
    case SESSION_RECEIVED:
    case SESSION_RELEASED:
    case SESSION_GIVEN:
    case SESSION_RETURNED:
        apply_items(s, event);
        break;
    }
    return SESSION_GOES_ON;
}

static int64_t after(int64_t us, uint64_t seconds)
{
    int64_t end;
    return __builtin_add_overflow(us, (int64_t)seconds * 1000000, &end) ? INT64_MAX : end;
}

int64_t session_ends_us(const struct session *s)
{
    return !s->closed_us || s->expiry_s == SESSION_NEVER ? INT64_MAX
                                                         : after(s->closed_us, s->expiry_s);
}

/* MQTT 5.0, section 3.1.3.2.2: when the delay has passed or the session ends, whichever is first.
 */
int64_t session_will_due_us(const struct session *s)
{
    if (!s->closed_us || !s->will.topic.ptr)
        return INT64_MAX;
    int64_t due = after(s->closed_us, s->will.delay_s), ends = session_ends_us(s);
    return due < ends ? due : ends;
}

size_t session_bytes(const struct session *s)
{
    size_t bytes = sizeof *s + s->client_id.len + s->will.topic.len + s->will.payload.len;
    for (uint32_t i = 0; i < s->subs_count; i++)
        bytes += s->subs[i].filter.filter.len;
    return bytes + places(s->subs_count) * sizeof *s->subs +
           places(s->acked_count) * sizeof *s->acked + places(s->out_count) * sizeof *s->out +
           places(s->in_count) * sizeof *s->in;
}
