/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Adafruit's chart: slices of time, each as one number (http/_data in its documentation), or, raw,
 * the newest values. What it leaves open is decided so: slices begin at multiples of the resolution
 * since 1970; both ends of the time belong to it; slices with nothing to show are left out; `val`
 * is the last number; val_count counts all values, the others only those that are numbers.
 * Resolutions beyond its 960 minutes are whole days.
 */
#include <errno.h>
#include <float.h>
#include <math.h>

#include "api/private.h"
#include "base/clock.h"
#include "codec/text.h"
#include "view/rollup.h"

enum {
    SLICES_AUTO = 640,  /* at most so many when the resolution is chosen here */
    SLICES_MAX = 1000,  /* and when it is asked for; else it is made coarser */
    SLICES_HERE = 256,  /* more are written by a thread that may block: 0.2 ms */
    RAW_MAX = 1000,     /* values */
    HOURS_MAX = 876000, /* a hundred years */
    DAY_MINUTES = 1440,
    STORAGE_MAX = 32 << 20,
};

#define MINUTE_US (60 * US_PER_S)
#define HOUR_US   (60 * MINUTE_US)

/* In minutes; view/rollup_row.c keeps tuples of lengths that divide them. */
static const unsigned resolutions[] = {1, 5, 10, 30, 60, 120, 240, 480, 960, DAY_MINUTES};

enum field { FIELD_AVG, FIELD_SUM, FIELD_VAL, FIELD_MIN, FIELD_MAX, FIELD_COUNT, FIELDS };

static const char *const fields[FIELDS] = {"avg", "sum", "val", "min", "max", "val_count"};

struct chart {
    int64_t from_us, to_us;
    uint64_t minutes; /* of a slice */
    enum field field;
    bool raw;
};

/* ---- the question -----------------------------------------------------------------------------
 */

/* A whole number above 0 and up to `most`. */
static bool parse_number(struct slice text, uint64_t most, uint64_t *ret)
{
    uint64_t n = 0;
    for (size_t i = 0; i < text.len && n <= most; i++) {
        if (text.ptr[i] < '0' || text.ptr[i] > '9')
            return false;
        n = n * 10 + (uint64_t)(text.ptr[i] - '0');
    }
    *ret = n;
    return n >= 1 && n <= most;
}

/* The time asked for. NULL, or what is wrong. */
static const char *parse_time(struct slice query, struct chart *c)
{
    char text[QUERY_VALUE_MAX + 1];
    uint64_t hours = 1;
    struct slice given = api_parameter(query, "start_time", text);
    bool start = given.len > 0;
    if (start && !time_parse(given, &c->from_us))
        return "start_time is no time such as 2026-01-31T12:00:00Z";
    given = api_parameter(query, "end_time", text);
    bool end = given.len > 0;
    if (end && !time_parse(given, &c->to_us))
        return "end_time is no time such as 2026-01-31T12:00:00Z";
    given = api_parameter(query, "hours", text);
    if (given.len && !parse_number(given, HOURS_MAX, &hours))
        return "hours must be a whole number from 1 to 876000";
    int64_t span = (int64_t)hours * HOUR_US;
    if (start && !end && given.len) {
        c->to_us = c->from_us + span;
    } else {
        if (!end)
            c->to_us = clock_wall_us();
        if (!start)
            c->from_us = c->to_us - span;
    }
    return c->from_us > c->to_us ? "start_time lies behind end_time" : NULL;
}

static const char *parse_field(struct slice text, enum field *ret)
{
    *ret = FIELD_AVG;
    if (!text.len)
        return NULL;
    for (unsigned i = 0; i < FIELDS; i++) {
        if (slice_eq(text, slice_str(fields[i]))) {
            *ret = (enum field)i;
            return NULL;
        }
    }
    return "field must be one of avg, sum, val, min, max, val_count";
}

static const char *parse_resolution(struct slice text, uint64_t *ret)
{
    if (!text.len)
        return NULL;
    bool number = parse_number(text, DAY_MINUTES, ret);
    for (unsigned i = 0; number && i < sizeof resolutions / sizeof *resolutions; i++)
        if (*ret == resolutions[i])
            return NULL;
    return "resolution must be one of 1, 5, 10, 30, 60, 120, 240, 480, 960, 1440 (minutes)";
}

static const char *parse_raw(struct slice text, bool *ret)
{
    *ret = slice_eq(text, SLICE("1")) || slice_eq_nocase(text, SLICE("true"));
    bool no = !text.len || slice_eq(text, SLICE("0")) || slice_eq_nocase(text, SLICE("false"));
    return *ret || no ? NULL : "raw must be 1, true, 0 or false";
}

/* The finest resolution, not finer than `least`, that makes at most `most` slices. */
static uint64_t choose_resolution(const struct chart *c, uint64_t least, uint64_t most)
{
    uint64_t minutes = (uint64_t)(c->to_us - c->from_us + MINUTE_US - 1) / MINUTE_US;
    for (unsigned i = 0; i < sizeof resolutions / sizeof *resolutions; i++)
        if (resolutions[i] >= least && minutes <= most * resolutions[i])
            return resolutions[i];
    uint64_t days = (minutes + most * DAY_MINUTES - 1) / (most * DAY_MINUTES);
    return days * DAY_MINUTES;
}

static const char *parse(struct slice query, struct chart *c)
{
    char text[QUERY_VALUE_MAX + 1];
    *c = (struct chart){0};
    const char *why = parse_time(query, c);
    if (!why)
        why = parse_raw(api_parameter(query, "raw", text), &c->raw);
    struct slice field = api_parameter(query, "field", text);
    bool has_field = field.len > 0;
    if (!why)
        why = parse_field(field, &c->field);
    if (!why)
        why = parse_resolution(api_parameter(query, "resolution", text), &c->minutes);
    if (!why && c->raw && (has_field || c->minutes))
        why = "raw cannot be combined with field or resolution";
    if (!why)
        c->minutes = choose_resolution(c, c->minutes, c->minutes ? SLICES_MAX : SLICES_AUTO);
    return why;
}

/* ---- the answer -------------------------------------------------------------------------------
 */

static void put_time(struct buf *out, struct time_day *day, int64_t us)
{
    char text[TIME_S_MAX + 2] = "\"", *end = time_put_s(day, text + 1, us);
    *end++ = '"';
    buf_put(out, text, (size_t)(end - text));
}

static void put_head(struct buf *out, const struct feed *f, const struct chart *c)
{
    struct time_day day = {0};
    buf_printf(out, "{\"feed\":{\"id\":%llu,\"key\":", (unsigned long long)f->number);
    buf_put_json(out, f->key);
    buf_put_str(out, ",\"name\":");
    buf_put_json(out, f->name);
    buf_put_str(out, "},\"parameters\":{\"start_time\":");
    put_time(out, &day, c->from_us);
    buf_put_str(out, ",\"end_time\":");
    put_time(out, &day, c->to_us);
    if (!c->raw)
        buf_printf(out, ",\"resolution\":%llu", (unsigned long long)c->minutes);
    buf_printf(out, ",\"hours\":%lld",
               (long long)((c->to_us - c->from_us + HOUR_US - 1) / HOUR_US));
    if (c->raw)
        buf_put_str(out, ",\"raw\":true},\"columns\":[\"date\",\"value\"],\"data\":[");
    else
        buf_printf(out, ",\"field\":\"%s\"},\"columns\":[\"date\",\"%s\"],\"data\":[",
                   fields[c->field], fields[c->field]);
}

static void put_sum(struct buf *out, long double sum)
{
    if (fabsl(sum) <= DBL_MAX)
        double_format(out, (double)sum);
    else
        buf_printf(out, "%.17Lg", sum);
}

static void put_field(struct buf *out, const struct rollup *r, enum field field)
{
    switch (field) {
    case FIELD_SUM:
        put_sum(out, rollup_sum(r));
        break;
    case FIELD_COUNT:
        buf_put_dec(out, r->count);
        break;
    case FIELD_VAL:
        double_format(out, r->last);
        break;
    case FIELD_MIN:
        double_format(out, r->min);
        break;
    case FIELD_MAX:
        double_format(out, r->max);
        break;
    default:
        double_format(out, rollup_average(r));
    }
}

static void put_slices(struct buf *out, const struct chart *c, const struct rollup_slice *s,
                       uint32_t n)
{
    struct time_day day = {0};
    bool first = true;
    for (uint32_t i = 0; i < n; i++) {
        if (s[i].r.numbers == 0 && c->field != FIELD_COUNT)
            continue;
        buf_put_slice(out, first ? SLICE("[") : SLICE(",["));
        first = false;
        put_time(out, &day, s[i].start_us);
        buf_put_slice(out, SLICE(",\""));
        put_field(out, &s[i].r, c->field);
        buf_put_slice(out, SLICE("\"]"));
    }
}

/* Oldest first; the points come newest first. */
static void put_points(struct buf *out, const struct history_point *p, uint32_t n)
{
    struct time_day day = {0};
    for (uint32_t i = n; i-- > 0;) {
        buf_put_slice(out, i + 1 == n ? SLICE("[") : SLICE(",["));
        put_time(out, &day, p[i].event_us);
        buf_put_u8(out, ',');
        buf_put_json(out, p[i].datum.value);
        buf_put_u8(out, ']');
    }
}

/* A feed without history is charted by its one value. */
static void put_latest(const struct api *a, struct buf *out, const struct chart *c,
                       const struct feed *f, struct buf *storage)
{
    struct latest_value v;
    if (latest_get(a->latest, f->number, storage, &v) != LATEST_VALUE || v.event_us < c->from_us ||
        v.event_us > c->to_us)
        return;
    struct history_point p = {.datum = v.datum, .event_us = v.event_us, .offset = v.offset};
    struct rollup_slice s = {0};
    int64_t slice_us = (int64_t)c->minutes * MINUTE_US;
    s.start_us = rollup_slot(v.event_us, slice_us) * slice_us;
    rollup_add(&s.r, row_key_of(&p), v.datum.value);
    if (c->raw)
        put_points(out, &p, 1);
    else
        put_slices(out, c, &s, 1);
}

/* enum history_found or a negative errno. */
static int put_data(const struct api *a, struct buf *out, const struct chart *c,
                    const struct feed *f, bool may_block, struct buf *storage)
{
    unsigned flags = may_block ? 0 : HISTORY_NO_IO;
    if (f->flags & FEED_NO_HISTORY) {
        put_latest(a, out, c, f, storage);
        return HISTORY_DONE;
    }
    if (c->raw) {
        struct history_query q = {.feed = f->number,
                                  .from_us = c->from_us,
                                  .to_us = c->to_us,
                                  .limit = RAW_MAX,
                                  .flags = flags,
                                  .storage = storage};
        int rc = history_range(a->history, &q);
        if (rc == HISTORY_DONE)
            put_points(out, q.points, q.count);
        return rc;
    }
    struct history_slices q = {.feed = f->number,
                               .from_us = c->from_us,
                               .to_us = c->to_us,
                               .slice_us = (int64_t)c->minutes * MINUTE_US,
                               .flags = flags,
                               .storage = storage};
    int rc = history_rollup(a->history, &q);
    if (rc == HISTORY_DONE && !may_block && q.count > SLICES_HERE)
        rc = HISTORY_INCOMPLETE;
    if (rc == HISTORY_DONE)
        put_slices(out, c, q.slices, q.count);
    return rc;
}

enum api_read api_chart(const struct api *a, struct exchange *x, const struct feed *f,
                        bool may_block)
{
    struct chart c;
    const char *why = parse(x->request.query, &c);
    if (why)
        return api_refuse(x, REASON_bad_request, why);
    if (api_unchanged(x, 0)) /* its tag is made of its bytes */
        return API_READ_DONE;
    struct buf storage, *out = &x->reply.body;
    buf_init(&storage, STORAGE_MAX);
    buf_clear(out);
    put_head(out, f, &c);
    int rc = put_data(a, out, &c, f, may_block, &storage);
    buf_put_str(out, "]}");
    buf_fini(&storage);
    if (rc == HISTORY_INCOMPLETE)
        return API_READ_IO;
    if (rc == -E2BIG)
        return api_refuse(
            x, REASON_busy,
            "the chart needs more values than one request may read; ask for a shorter "
            "time");
    return rc < 0 ? api_refuse(x, REASON_internal, NULL) : api_done(x);
}
