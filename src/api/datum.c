/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Data records as Adafruit IO writes them: the member order is that of its real answers. A list has
 * a thousand of them, so what a reader pays for is here: room is made four times per datum (head,
 * value, what is the same, tail) and not per member, what is the same in all of them is copied from
 * the first one, and a day's text is made once.
 */
#include "api/private.h"
#include "base/clock.h"
#include "base/digits.h"
#include "codec/civil.h"
#include "codec/text.h"

/* What is written without looking at the room: the head, up to the value; and the tail, of which
 * the members of the feed and the place are not. */
enum { HEAD_BYTES = 64, TAIL_BYTES = 128 };
enum { PLACE_BYTES = 128 + 6 * DOUBLE_TEXT_MAX };

static char *put(char *to, struct slice s)
{
    memcpy(to, s.ptr, s.len);
    return to + s.len;
}

/* ---- places ---- */

struct place_text {
    char lat[DOUBLE_TEXT_MAX], lon[DOUBLE_TEXT_MAX], ele[DOUBLE_TEXT_MAX];
    size_t lat_len, lon_len, ele_len; /* ele_len 0: it has none */
};

static void place_text(struct place_text *t, const struct datum *d)
{
    t->lat_len = (size_t)(double_put(t->lat, d->lat) - t->lat);
    t->lon_len = (size_t)(double_put(t->lon, d->lon) - t->lon);
    t->ele_len = d->has_ele ? (size_t)(double_put(t->ele, d->ele) - t->ele) : 0;
}

/* GeoJSON's order is lon, lat, ele (RFC 7946 section 3.1.1). */
static char *put_feature(char *to, const struct place_text *t)
{
    to = put(to, SLICE("{\"type\":\"Feature\",\"geometry\":{\"type\":\"Point\",\"coordinates\":["));
    to = put(to, slice_of(t->lon, t->lon_len));
    *to++ = ',';
    to = put(to, slice_of(t->lat, t->lat_len));
    if (t->ele_len) {
        *to++ = ',';
        to = put(to, slice_of(t->ele, t->ele_len));
    }
    return put(to, SLICE("]}}"));
}

void api_format_place(struct buf *out, const struct datum *d)
{
    struct place_text t;
    char *to = buf_reserve(out, PLACE_BYTES);
    if (!to)
        return;
    place_text(&t, d);
    buf_wrote(out, put_feature(to, &t), PLACE_BYTES);
}

static char *put_place(char *to, const struct datum *d)
{
    struct place_text t;
    place_text(&t, d);
    to = put(to, SLICE(",\"location\":"));
    to = put_feature(to, &t);
    to = put(to, SLICE(",\"lat\":"));
    to = put(to, slice_of(t.lat, t.lat_len));
    to = put(to, SLICE(",\"lon\":"));
    to = put(to, slice_of(t.lon, t.lon_len));
    if (t.ele_len) {
        to = put(to, SLICE(",\"ele\":"));
        to = put(to, slice_of(t.ele, t.ele_len));
    }
    return to;
}

/* ---- records ---- */

char *api_epoch_put(char *to, int64_t event_us)
{
    int64_t s = civil_floor_div(event_us, US_PER_S);
    if (s < 0)
        *to++ = '-';
    return digits_put(to, (uint64_t)(s < 0 ? -s : s));
}

static void put_head(struct data_writer *w, int64_t event_us, uint64_t offset)
{
    char *to = buf_reserve(w->out, HEAD_BYTES);
    if (!to)
        return;
    to = put(to, SLICE("{\"id\":\""));
    datum_id_format(to, event_us, w->api->node, offset);
    to = put(to + DATUM_ID_LEN, SLICE("\",\"value\":"));
    buf_wrote(w->out, to, HEAD_BYTES);
}

/* The feed's members, and all between them and the time. */
static void put_same(struct data_writer *w)
{
    if (w->same_len) {
        char *to = buf_reserve(w->out, w->same_len + TAIL_BYTES); /* put_tail's too */
        if (to)
            memcpy(to, w->out->ptr + w->same_at, w->same_len);
        w->out->len += to ? w->same_len : 0;
        return;
    }
    w->same_at = w->out->len;
    buf_put_slice(w->out, SLICE(",\"feed_id\":"));
    buf_put_dec(w->out, w->feed->number);
    buf_put_slice(w->out, SLICE(",\"feed_key\":"));
    buf_put_json(w->out, w->feed->key);
    buf_put_slice(w->out, SLICE(",\"created_at\":\""));
    w->same_len = w->out->len - w->same_at;
}

static void put_tail(struct data_writer *w, const struct datum *d, int64_t event_us)
{
    size_t room = TAIL_BYTES + (d->has_place ? PLACE_BYTES : 0);
    char *to = buf_reserve(w->out, room);
    if (!to)
        return;
    to = time_put_s(&w->created, to, event_us);
    *to++ = '"';
    if (d->has_place)
        to = put_place(to, d);
    to = put(to, SLICE(",\"created_epoch\":"));
    to = api_epoch_put(to, event_us);
    to = put(to, SLICE(",\"expiration\":"));
    if (w->api->expiration_ms) {
        *to++ = '"';
        to = time_put_s(&w->expires, to, event_us + (int64_t)w->api->expiration_ms * 1000);
        *to++ = '"';
    } else {
        to = put(to, SLICE("null"));
    }
    *to++ = '}';
    buf_wrote(w->out, to, room);
}

void api_put_datum(struct data_writer *w, const struct datum *d, int64_t event_us, uint64_t offset)
{
    put_head(w, event_us, offset);
    buf_put_json(w->out, d->value);
    put_same(w);
    put_tail(w, d, event_us);
}

void api_format_datum(struct buf *out, const struct api *a, const struct feed *f,
                      const struct datum *d, int64_t event_us, uint64_t offset, size_t *id_at)
{
    struct data_writer w = {.out = out, .api = a, .feed = f};
    if (id_at)
        *id_at = out->len + strlen("{\"id\":\"");
    api_put_datum(&w, d, event_us, offset);
}
