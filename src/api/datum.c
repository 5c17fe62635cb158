/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Data records as Adafruit IO writes them: the member order is that of its real answers. A list has
 * a thousand of them, so what a reader pays for is here. Mostly a record is made of one before it:
 * that is copied, and what differs is written over: the value, the low digits of the id, the time
 * of day, the last digits of the epoch. Where more differs (another day, a place) it is written by
 * members, room being made four times per datum (head, value, what is the same, tail), and the next
 * ones are made of that.
 */
#include "api/private.h"
#include "base/clock.h"
#include "base/digits.h"
#include "base/plain.h"
#include "codec/civil.h"
#include "codec/text.h"

/* What is written without looking at the room: the head, up to the value; and the tail, of which
 * the members of the feed and the place are not. */
enum { HEAD_BYTES = 64, TAIL_BYTES = 128 };
#define HEAD   "{\"id\":\""
#define BEHIND "\",\"value\":" /* the id */
/* What is copied of a record's begin: some of its value, too. There is as much behind it. */
enum { COPY_BYTES = 48, LEAST_BYTES = sizeof HEAD + DATUM_ID_LEN + sizeof BEHIND };
_Static_assert((int)LEAST_BYTES <= (int)COPY_BYTES, "all before the value is copied");
/* Of an epoch so many digits are written over. */
enum { EPOCH_DIGITS = 6, EPOCH_STEP = 1000000 };
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
    to = put(to, SLICE(HEAD));
    datum_id_format(to, event_us, w->api->node, offset);
    to = put(to + DATUM_ID_LEN, SLICE(BEHIND));
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

/* ---- of one before ---- */

enum { CLOCK_BYTES = 8 }; /* "20:52:50" */

/* Notes the record from `at` to the end, whose value ends at `rest_at`, if others can be made of
 * it: its second has ten digits, as have those of 2001 to 2286. */
static void be_model(struct data_writer *w, const struct datum *d, int64_t event_us,
                     uint64_t offset, size_t at, size_t rest_at)
{
    struct data_model *m = &w->model;
    uint64_t us = (uint64_t)event_us, s = us / US_PER_S;
    m->is = !w->out->failed && !d->has_place && s - 1000000000 < 9000000000;
    if (!m->is)
        return;
    m->event_ms = us / 1000;
    m->offset = offset;
    m->at = at;
    m->rest_at = rest_at;
    m->rest_len = w->out->len - rest_at;
    m->created = w->same_len + w->created.len;
    m->epoch = m->created + CLOCK_BYTES + strlen("Z\",\"created_epoch\":") + 10 - EPOCH_DIGITS;
    m->epoch_s = s - s % EPOCH_STEP;
    m->day_s = (uint64_t)w->created.start_us / US_PER_S;
    m->expiry = m->created; /* written twice, if there is none */
    m->expiry_s = m->day_s;
    if (w->api->expiration_ms) {
        m->expiry = m->rest_len - strlen("20:52:50Z\"}");
        m->expiry_s = (uint64_t)w->expires.start_us / US_PER_S;
    }
}

static void put_clock(char *to, unsigned second)
{
    digits_put_two(to, second / 3600);
    digits_put_two(to + 3, second / 60 % 60);
    digits_put_two(to + 6, second % 60);
}

/* The record with a comma before it, where there is room. NULL: more differs, or the value cannot
 * stand there as it is. Else its end. */
static inline char *put_like(const struct data_model *m, uint64_t expiration_us, const char *list,
                             char *to, const struct history_point *p)
{
    uint64_t us = (uint64_t)p->event_us, ms = us / 1000, s = ms / 1000, epoch = s - m->epoch_s;
    uint64_t of_day = s - m->day_s, of_expiry = (us + expiration_us) / US_PER_S - m->expiry_s;
    uint64_t differs = (ms ^ m->event_ms) | (p->offset ^ m->offset);
    if (of_day >= DAY_S || of_expiry >= DAY_S || epoch >= EPOCH_STEP || differs >> DATUM_ID_LOW ||
        p->datum.has_place)
        return NULL;
    *to++ = ',';
    memcpy(to, list + m->at, COPY_BYTES);
    datum_id_change(to + strlen(HEAD), ms, p->offset);
    to += strlen(HEAD) + DATUM_ID_LEN + strlen(BEHIND);
    *to++ = '"';
    if (!plain_copy(to, p->datum.value))
        return NULL;
    to += p->datum.value.len;
    *to++ = '"';
    memcpy(to, list + m->rest_at, m->rest_len);
    put_clock(to + m->created, (unsigned)of_day);
    if (of_expiry == of_day)
        memcpy(to + m->expiry, to + m->created, CLOCK_BYTES);
    else
        put_clock(to + m->expiry, (unsigned)of_expiry);
    char *digits = to + m->epoch;
    digits = digits_put_two(digits, (unsigned)epoch / 10000);
    digits = digits_put_two(digits, (unsigned)epoch / 100 % 100);
    digits_put_two(digits, (unsigned)epoch % 100);
    return to + m->rest_len;
}

uint32_t api_put_like(struct data_writer *w, const struct history_point *p, uint32_t count)
{
    const struct data_model m = w->model;
    uint64_t expiration_us = w->api->expiration_ms * 1000;
    uint32_t n = 0;
    for (; m.is && n < count; n++) {
        size_t room = 1 + COPY_BYTES + 2 + p[n].datum.value.len + m.rest_len;
        char *to = buf_reserve(w->out, room);
        to = to ? put_like(&m, expiration_us, w->out->ptr, to, &p[n]) : NULL;
        if (!to)
            break;
        buf_wrote(w->out, to, room);
    }
    return n;
}

void api_put_datum(struct data_writer *w, const struct datum *d, int64_t event_us, uint64_t offset)
{
    size_t at = w->out->len;
    put_head(w, event_us, offset);
    buf_put_json(w->out, d->value);
    size_t rest_at = w->out->len;
    put_same(w);
    put_tail(w, d, event_us);
    be_model(w, d, event_us, offset, at, rest_at);
}

void api_format_datum(struct buf *out, const struct api *a, const struct feed *f,
                      const struct datum *d, int64_t event_us, uint64_t offset, size_t *id_at)
{
    struct data_writer w = {.out = out, .api = a, .feed = f};
    if (id_at)
        *id_at = out->len + strlen("{\"id\":\"");
    api_put_datum(&w, d, event_us, offset);
}
