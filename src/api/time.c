/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Adafruit's time service: what the clock says, as its libraries ask for it. Adafruit takes the
 * zone, where none is asked for, from the client's address; here it is UTC.
 */
#include "api/private.h"
#include "base/clock.h"
#include "codec/strftime.h"
#include "codec/text.h"
#include "codec/utf8.h"

#define FORMAT_MAX 256
/* What Adafruit's PortalBase asks for. */
#define FORMAT_DEFAULT "%Y-%m-%d %H:%M:%S.%L %j %u %z %Z"

/* The parameter `fmt`, decoded into `out`. NULL, or what is wrong with it. */
static const char *parse_format(struct slice query, struct buf *out)
{
    struct slice n, v;
    while (query_next(&query, &n, &v)) {
        if (!slice_eq(n, SLICE("fmt")) || !v.len)
            continue;
        bool good = percent_decode(v, true, out);
        if (out->failed)
            return "fmt has at most 256 bytes";
        return good && utf8_text(buf_slice(out)) ? NULL : "fmt is no text";
    }
    buf_put_str(out, FORMAT_DEFAULT);
    return NULL;
}

/* Members and their counting as in Adafruit's answers: wday from Sunday = 0, yday from 1. */
static void put_struct(struct buf *out, const struct shown_time *t)
{
    buf_printf(out,
               "{\"year\":%lld,\"mon\":%u,\"mday\":%u,\"hour\":%u,\"min\":%u,\"sec\":%u,"
               "\"wday\":%u,\"yday\":%u,\"isdst\":%u}",
               (long long)t->year, t->month, t->day, t->hour, t->minute, t->second, t->weekday,
               t->year_day, t->zone.is_dst);
}

static struct slice format_of(enum route_op op, bool local)
{
    switch (op) {
    case OP_TIME_SECONDS:
        return SLICE("%s");
    case OP_TIME_MILLIS:
        return SLICE("%s%L");
    case OP_TIME_ISO:
        return local ? SLICE("%FT%T.%L%:z") : SLICE("%FT%T.%LZ");
    default:
        return SLICE("%-H");
    }
}

static void put_time(struct exchange *x, enum route_op op, const struct shown_time *t, bool local,
                     struct slice format)
{
    struct buf *out = &x->reply.body;
    x->reply.content_type = "text/plain; charset=utf-8";
    switch (op) {
    case OP_TIME_STRUCT:
        x->reply.content_type = NULL;
        put_struct(out, t);
        break;
    case OP_TIME_STRFTIME:
        time_format(out, format, t);
        break;
    default:
        time_format(out, format_of(op, local), t);
    }
}

static enum api_read put_in_zone(struct exchange *x, enum route_op op, int64_t now_us,
                                 const struct zone_time *zone, bool local)
{
    struct shown_time t;
    struct buf format;
    buf_init(&format, FORMAT_MAX);
    const char *why = op == OP_TIME_STRFTIME ? parse_format(x->request.query, &format) : NULL;
    if (!why) {
        time_show(now_us, zone, &t);
        put_time(x, op, &t, local, buf_slice(&format));
    }
    buf_fini(&format);
    return why ? api_refuse(x, REASON_bad_request, why) : api_done(x);
}

enum api_read api_time(const struct api *a, enum route_op op, struct exchange *x, bool may_block)
{
    char text[QUERY_VALUE_MAX + 1];
    struct slice name = api_parameter(x->request.query, "tz", text);
    struct zone_time zone = zone_utc();
    struct error err;
    int64_t now_us = clock_wall_us();
    x->reply.no_store = true;
    if (!name.len)
        return put_in_zone(x, op, now_us, &zone, false);
    if (!zone_name_is_valid(name))
        return api_refuse(x, REASON_bad_request, "tz: the name of a time zone, as Europe/Berlin");
    switch (zones_at(a->zones, name, now_us / US_PER_S, clock_mono_ns(), may_block, &zone, &err)) {
    case ZONES_INCOMPLETE:
        return API_READ_IO;
    case ZONES_NONE:
        return api_refuse(x, REASON_not_found, err.text);
    case ZONES_FAILED:
        return api_refuse(x, REASON_internal, err.text);
    default:
        return put_in_zone(x, op, now_us, &zone, !slice_eq(name, SLICE("UTC")));
    }
}

void api_put_time(struct buf *out, enum route_op op, int64_t us)
{
    const struct zone_time utc = zone_utc();
    struct shown_time t;
    time_show(us, &utc, &t);
    time_format(out, format_of(op, false), &t);
}

void api_time_of_day(enum route_op op, struct exchange *x)
{
    const struct zone_time utc = zone_utc();
    put_in_zone(x, op, clock_wall_us(), &utc, false);
}
