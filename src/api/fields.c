/* SPDX-License-Identifier: Apache-2.0 */
/* Data as they are asked for: chosen members, as JSON or as CSV (RFC 4180). */
#include <stdio.h>

#include "api/private.h"
#include "base/clock.h"
#include "codec/csv.h"
#include "codec/text.h"

/* So many bytes are copied for the name before a value, whatever its length: that is three words
 * and no call. */
enum { MEMBER_BYTES = 24 };
/* Any value but one of LONG_FIELDS, with its quotes. */
enum { SHORT_BYTES = 2 + DOUBLE_TEXT_MAX };

/* Names in the order of the record, also as they stand before a value. */
#define FIELD(name)                                                                                \
    {                                                                                              \
        SLICE(name), sizeof name + 3, ",\"" name "\":"                                             \
    }
static const struct {
    struct slice name;
    unsigned member_len;
    char member[MEMBER_BYTES + 1];
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

#define LONG_FIELDS   (1u << VALUE | 1u << FEED_KEY | 1u << LOCATION)
#define QUOTED_FIELDS (1u << ID | 1u << CREATED_AT | 1u << EXPIRATION)
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

static void put_text(struct buf *out, struct slice s, bool csv)
{
    if (csv && !s.len)
        buf_put_slice(out, SLICE("\"\"")); /* there, and empty; also no empty line */
    else if (csv)
        csv_put(out, s);
    else
        buf_put_json(out, s);
}

/* Those of any length. */
static void put_long(struct data_writer *w, const struct datum *d, unsigned field, bool csv)
{
    if (field == LOCATION)
        api_format_place(w->out, d);
    else
        put_text(w->out, field == VALUE ? d->value : w->feed->key, csv);
}

/* Any other, at `to`. */
static char *put_short(struct data_writer *w, char *to, const struct history_point *p,
                       unsigned field)
{
    switch (field) {
    case ID:
        datum_id_format(to, p->event_us, w->api->node, p->offset);
        return to + DATUM_ID_LEN;
    case FEED_ID:
        return digits_put(to, w->feed->number);
    case CREATED_AT:
        return time_put_s(&w->created, to, p->event_us);
    case EPOCH:
        return api_epoch_put(to, p->event_us);
    case EXPIRATION:
        return time_put_s(&w->expires, to, p->event_us + (int64_t)w->api->expiration_ms * 1000);
    default:
        return double_put(to, field == LAT   ? p->datum.lat
                              : field == LON ? p->datum.lon
                                             : p->datum.ele);
    }
}

static void put_value(struct data_writer *w, const struct history_point *p, unsigned field,
                      bool csv)
{
    if (LONG_FIELDS & 1u << field) {
        put_long(w, &p->datum, field, csv);
        return;
    }
    if (field == EXPIRATION && !w->api->expiration_ms) {
        buf_put_slice(w->out, csv ? SLICE("") : SLICE("null"));
        return;
    }
    char *to = buf_reserve(w->out, SHORT_BYTES);
    if (!to)
        return;
    bool quoted = !csv && (QUOTED_FIELDS & 1u << field);
    if (quoted)
        *to++ = '"';
    to = put_short(w, to, p, field);
    if (quoted)
        *to++ = '"';
    buf_wrote(w->out, to, SHORT_BYTES);
}

/* The member's name as it stands before a value, with a comma in front unless it is the first. */
static void put_name(struct buf *out, unsigned field, bool first)
{
    char *to = buf_reserve(out, MEMBER_BYTES);
    if (!to)
        return;
    memcpy(to, names[field].member + first, MEMBER_BYTES);
    buf_wrote(out, to + names[field].member_len - first, MEMBER_BYTES);
}

static void put_json(struct data_writer *w, const struct history_point *p, unsigned fields)
{
    bool first = true;
    if (!fields) {
        api_put_datum(w, &p->datum, p->event_us, p->offset);
        return;
    }
    buf_put_u8(w->out, '{');
    for (unsigned left = fields; left; left &= left - 1) {
        unsigned i = (unsigned)__builtin_ctz(left);
        if (!is_there(&p->datum, i))
            continue;
        put_name(w->out, i, first);
        first = false;
        put_value(w, p, i, false);
    }
    buf_put_u8(w->out, '}');
}

/* Without a point: the heading. */
static void put_csv(struct data_writer *w, const struct history_point *p, unsigned fields)
{
    bool first = true;
    for (unsigned left = fields; left; left &= left - 1) {
        unsigned i = (unsigned)__builtin_ctz(left);
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
        if (!csv && !fields)
            i += api_put_like(w, &points[i], count - i);
        if (i == count)
            break;
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
