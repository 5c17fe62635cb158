/* SPDX-License-Identifier: Apache-2.0 */
/* Data as they are asked for: chosen members, as JSON or as CSV (RFC 4180). */
#include <stdio.h>

#include "api/private.h"
#include "base/clock.h"
#include "codec/csv.h"
#include "codec/text.h"

/* In the order of the record. */
static const char *const names[] = {"id",         "value",         "feed_id",   "feed_key",
                                    "created_at", "location",      "lat",       "lon",
                                    "ele",        "created_epoch", "expiration"};

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
        while (i < FIELDS && !slice_eq(one, slice_str(names[i])))
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

static void put_time(struct buf *out, int64_t us, bool quoted)
{
    if (quoted)
        buf_put_u8(out, '"');
    time_format_s(out, us);
    if (quoted)
        buf_put_u8(out, '"');
}

static void put_text(struct buf *out, struct slice s, bool csv)
{
    if (csv && !s.len)
        buf_put_str(out, "\"\""); /* there, and empty; also no empty line */
    else if (csv)
        csv_put(out, s);
    else
        buf_put_json(out, s);
}

static void put_value(struct buf *out, const struct api *a, const struct feed *f,
                      const struct history_point *p, unsigned field, bool csv)
{
    char id[DATUM_ID_LEN + 1];
    switch (field) {
    case ID:
        datum_id_format(id, p->event_us, a->node, p->offset);
        put_text(out, slice_of(id, DATUM_ID_LEN), csv);
        break;
    case VALUE:
        put_text(out, p->datum.value, csv);
        break;
    case FEED_ID:
        buf_put_dec(out, f->number);
        break;
    case FEED_KEY:
        put_text(out, f->key, csv);
        break;
    case CREATED_AT:
        put_time(out, p->event_us, !csv);
        break;
    case LOCATION:
        api_format_place(out, &p->datum);
        break;
    case EPOCH:
        buf_put_dec(out, (uint64_t)(p->event_us / US_PER_S));
        break;
    case EXPIRATION:
        if (a->expiration_ms)
            put_time(out, p->event_us + (int64_t)a->expiration_ms * 1000, !csv);
        else if (!csv)
            buf_put_str(out, "null");
        break;
    default:
        double_format(out, field == LAT   ? p->datum.lat
                           : field == LON ? p->datum.lon
                                          : p->datum.ele);
    }
}

static void put_json(struct buf *out, const struct api *a, const struct feed *f,
                     const struct history_point *p, unsigned fields)
{
    bool first = true;
    if (!fields) {
        api_format_datum(out, a, f, &p->datum, p->event_us, p->offset, NULL);
        return;
    }
    buf_put_u8(out, '{');
    for (unsigned i = 0; i < FIELDS; i++) {
        if (!(fields & 1u << i) || !is_there(&p->datum, i))
            continue;
        buf_printf(out, "%s\"%s\":", first ? "" : ",", names[i]);
        first = false;
        put_value(out, a, f, p, i, false);
    }
    buf_put_u8(out, '}');
}

static void put_csv(struct buf *out, const struct api *a, const struct feed *f,
                    const struct history_point *p, unsigned fields)
{
    bool first = true;
    for (unsigned i = 0; i < FIELDS; i++) {
        if (!(fields & 1u << i))
            continue;
        if (!first)
            buf_put_u8(out, ',');
        first = false;
        if (!p)
            buf_put_str(out, names[i]);
        else if (is_there(&p->datum, i))
            put_value(out, a, f, p, i, true);
    }
    buf_put_str(out, "\r\n");
}

void api_put_data(struct exchange *x, const struct api *a, const struct feed *f,
                  const struct history_point *points, uint32_t count, unsigned fields, bool csv,
                  bool list)
{
    struct buf *out = &x->reply.body;
    if (csv) {
        fields = fields ? fields & ~(1u << LOCATION) : CSV_FIELDS;
        x->reply.content_type = API_CSV;
        put_csv(out, a, f, NULL, fields);
        for (uint32_t i = 0; i < count; i++)
            put_csv(out, a, f, &points[i], fields);
        return;
    }
    if (list)
        buf_put_u8(out, '[');
    for (uint32_t i = 0; i < count; i++) {
        if (i)
            buf_put_u8(out, ',');
        put_json(out, a, f, &points[i], fields);
    }
    if (list)
        buf_put_u8(out, ']');
}
