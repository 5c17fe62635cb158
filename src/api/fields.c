/* SPDX-License-Identifier: Apache-2.0 */
/* Data as they are asked for: chosen members, as JSON or as CSV (RFC 4180). */
#include <stdio.h>

#include "api/private.h"
#include "base/clock.h"
#include "codec/csv.h"
#include "codec/text.h"

/* Names in the order of the record, also as they stand before a value. */
#define FIELD(name)                                                                                \
    {                                                                                              \
        SLICE(name), SLICE(",\"" name "\":")                                                       \
    }
static const struct {
    struct slice name, member;
} names[] = {
    FIELD("id"),         FIELD("value"),         FIELD("feed_id"),    FIELD("feed_key"),
    FIELD("created_at"), FIELD("location"),      FIELD("lat"),        FIELD("lon"),
    FIELD("ele"),        FIELD("created_epoch"), FIELD("expiration"),
};

enum {
    ID,
    VALUE,
    FEED_ID,
    FEED_KEY,
    CREATED_AT,
    LOCATION,
    LAT,
    LON,
    ELE,
    EPOCH,
    EXPIRATION,
    FIELDS
};

#define CSV_FIELDS                                                                                 \
    (1u << ID | 1u << VALUE | 1u << FEED_ID | 1u << FEED_KEY | 1u << CREATED_AT | 1u << LAT |      \
     1u << LON | 1u << ELE)

const char *api_fields(struct slice query, unsigned *ret)
{
    char text[QUERY_VALUE_MAX + 1];
    struct slice rest = api_parameter(query, "include", text);
    *ret = 0;
    while (rest.len) {
        const char *comma = memchr(rest.ptr, ',', rest.len);
        size_t len = comma ? (size_t)(comma - rest.ptr) : rest.len;
        struct slice one = slice_trim(slice_of(rest.ptr, len));
        rest = slice_from(rest, comma ? len + 1 : len);
        unsigned i = 0;
        while (i < FIELDS && !slice_eq(one, names[i].name))
            i++;
        if (i == FIELDS && one.len)
            return "include: a list of id, value, feed_id, feed_key, created_at, location, lat, "
                   "lon, "
                   "ele, created_epoch and expiration, a comma between";
        if (one.len)
            *ret |= 1u << i;
    }
    return NULL;
}

static bool is_there(const struct datum *d, unsigned field)
{
    return field == ELE                                        ? d->has_ele
           : field == LAT || field == LON || field == LOCATION ? d->has_place
                                                               : true;
}

static void put_epoch(struct buf *out, int64_t event_us)
{
    char *to = buf_reserve(out, EPOCH_MAX);
    if (to)
        out->len += (size_t)(api_epoch_put(to, event_us) - to);
}

static void put_time(struct buf *out, struct time_day *day, int64_t us, bool quoted)
{
    char text[TIME_S_MAX + 2] = "\"", *end = time_put_s(day, text + 1, us);
    *end++ = '"';
    if (quoted)
        buf_put(out, text, (size_t)(end - text));
    else
        buf_put(out, text + 1, (size_t)(end - text) - 2);
}

static void put_text(struct buf *out, struct slice s, bool csv)
{
    if (csv && !s.len)
        buf_put_slice(out, SLICE("\"\"")); /* there, and empty; also no empty line */
    else if (csv)
        csv_put(out, s);
    else
        buf_put_json(out, s);
}

static void put_value(struct data_writer *w, const struct history_point *p, unsigned field,
                      bool csv)
{
    const struct api *a = w->api;
    struct buf *out = w->out;
    char id[DATUM_ID_LEN + 2];
    switch (field) {
    case ID:
        id[0] = '"';
        datum_id_format(id + 1, p->event_us, a->node, p->offset);
        id[DATUM_ID_LEN + 1] = '"';
        buf_put(out, csv ? id + 1 : id, DATUM_ID_LEN + (csv ? 0 : 2));
        break;
    case VALUE:
        put_text(out, p->datum.value, csv);
        break;
    case FEED_ID:
        buf_put_dec(out, w->feed->number);
        break;
    case FEED_KEY:
        put_text(out, w->feed->key, csv);
        break;
    case CREATED_AT:
        put_time(out, &w->created, p->event_us, !csv);
        break;
    case LOCATION:
        api_format_place(out, &p->datum);
        break;
    case EPOCH:
        put_epoch(out, p->event_us);
        break;
    case EXPIRATION:
        if (a->expiration_ms)
            put_time(out, &w->expires, p->event_us + (int64_t)a->expiration_ms * 1000, !csv);
        else if (!csv)
            buf_put_slice(out, SLICE("null"));
        break;
    default:
        double_format(out, field == LAT   ? p->datum.lat
                           : field == LON ? p->datum.lon
                                          : p->datum.ele);
    }
}

static void put_json(struct data_writer *w, const struct history_point *p, unsigned fields)
{
    bool first = true;
    if (!fields) {
        api_put_datum(w, &p->datum, p->event_us, p->offset);
        return;
    }
    buf_put_u8(w->out, '{');
    for (unsigned i = 0; i < FIELDS; i++) {
        if (!(fields & 1u << i) || !is_there(&p->datum, i))
            continue;
        buf_put_slice(w->out, slice_from(names[i].member, first)); /* without its comma */
        first = false;
        put_value(w, p, i, false);
    }
    buf_put_u8(w->out, '}');
}

/* Without a point: the heading. */
static void put_csv(struct data_writer *w, const struct history_point *p, unsigned fields)
{
    bool first = true;
    for (unsigned i = 0; i < FIELDS; i++) {
        if (!(fields & 1u << i))
            continue;
        if (!first)
            buf_put_u8(w->out, ',');
        first = false;
        if (!p)
            buf_put_slice(w->out, names[i].name);
        else if (is_there(&p->datum, i))
            put_value(w, p, i, true);
    }
    buf_put_slice(w->out, SLICE("\r\n"));
}

/* Room for `n` more of about `len` bytes, so that the buffer does not grow by copies. */
static void expect(struct buf *out, size_t len, uint32_t n)
{
    if (n && len < (out->max - out->len) / n)
        buf_reserve(out, len * n);
}

static void put_list(struct data_writer *w, const struct history_point *points, uint32_t count,
                     unsigned fields, bool csv)
{
    for (uint32_t i = 0; i < count; i++) {
        size_t start = w->out->len;
        if (csv) {
            put_csv(w, &points[i], fields);
        } else {
            if (i)
                buf_put_u8(w->out, ',');
            put_json(w, &points[i], fields);
        }
        if (i == 0)
            expect(w->out, w->out->len - start + 1, count);
    }
}

void api_put_data(struct exchange *x, const struct api *a, const struct feed *f,
                  const struct history_point *points, uint32_t count, unsigned fields, bool csv,
                  bool list)
{
    struct buf *out = &x->reply.body;
    struct data_writer w = {.out = out, .api = a, .feed = f};
    if (csv) {
        fields = fields ? fields & ~(1u << LOCATION) : CSV_FIELDS;
        x->reply.content_type = API_CSV;
        put_csv(&w, NULL, fields);
    } else if (list) {
        buf_put_u8(out, '[');
    }
    put_list(&w, points, count, fields, csv);
    if (list && !csv)
        buf_put_u8(out, ']');
}
