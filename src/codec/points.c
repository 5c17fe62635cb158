/* SPDX-License-Identifier: Apache-2.0 */
#include "codec/points.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/clock.h"
#include "codec/number.h"
#include "codec/points_build.h"
#include "codec/text.h"

#define SHOWN_MAX  64u            /* bytes of a sender's name in a sentence */
#define TIME_MAX_S 253402300799ll /* the end of year 9999 */

/* ---- content types ---- */

static struct slice next_parameter(struct slice *rest, struct slice *ret_name)
{
    *rest = slice_trim(*rest);
    while (rest->len && rest->ptr[0] == ';')
        *rest = slice_trim(slice_from(*rest, 1));
    size_t n = 0;
    while (n < rest->len && rest->ptr[n] != '=' && rest->ptr[n] != ';')
        n++;
    *ret_name = slice_trim(slice_of(rest->ptr, n));
    if (n == rest->len || rest->ptr[n] == ';') {
        *rest = slice_of(rest->ptr + n, rest->len - n);
        return (struct slice){0};
    }
    *rest = slice_from(*rest, n + 1);
    bool quoted = rest->len && rest->ptr[0] == '"';
    if (quoted)
        *rest = slice_from(*rest, 1);
    for (n = 0; n < rest->len && rest->ptr[n] != (quoted ? '"' : ';');)
        n++;
    struct slice value = slice_of(rest->ptr, n);
    *rest = slice_from(*rest, n + quoted);
    return quoted ? value : slice_trim(value);
}

enum body_form body_form(struct slice content_type, struct slice *ret_boundary)
{
    static const struct {
        struct slice type;
        enum body_form form;
    } all[] = {
        {{"application/json", 16}, BODY_JSON},
        {{"text/json", 9}, BODY_JSON},
        {{"application/x-ndjson", 20}, BODY_NDJSON},
        {{"application/ndjson", 18}, BODY_NDJSON},
        {{"application/jsonl", 17}, BODY_NDJSON},
        {{"application/x-jsonlines", 23}, BODY_NDJSON},
        {{"application/json-lines", 22}, BODY_NDJSON},
        {{"application/x-www-form-urlencoded", 33}, BODY_URLENCODED},
        {{"multipart/form-data", 19}, BODY_MULTIPART},
        {{"text/csv", 8}, BODY_CSV},
        {{"text/plain", 10}, BODY_TEXT},
    };
    *ret_boundary = (struct slice){0};
    if (content_type.len == 0)
        return BODY_JSON;
    const char *semi = memchr(content_type.ptr, ';', content_type.len);
    struct slice type =
        slice_of(content_type.ptr, semi ? (size_t)(semi - content_type.ptr) : content_type.len);
    struct slice rest = slice_from(content_type, type.len), name;
    type = slice_trim(type);
    enum body_form form = BODY_UNKNOWN;
    for (unsigned i = 0; i < sizeof all / sizeof *all; i++)
        if (slice_eq_nocase(type, all[i].type))
            form = all[i].form;
    if (form == BODY_UNKNOWN && type.len > 17 &&
        slice_eq_nocase(slice_of(type.ptr, 12), SLICE("application/")) &&
        slice_eq_nocase(slice_from(type, type.len - 5), SLICE("+json")))
        form = BODY_JSON; /* RFC 6839 section 3.1 */
    while (form == BODY_MULTIPART && rest.len) {
        struct slice value = next_parameter(&rest, &name);
        if (slice_eq_nocase(name, SLICE("boundary")))
            *ret_boundary = value;
    }
    if (form == BODY_MULTIPART && (ret_boundary->len == 0 || ret_boundary->len > 70))
        form = BODY_UNKNOWN; /* RFC 2046 section 5.1.1: 1 to 70 */
    return form;
}

/* ---- building ---- */

int build_begin(struct build *b, size_t body_len, size_t point_min,
                const struct points_limits *limits, struct points *out, struct error *err)
{
    *b = (struct build){.limits = limits, .out = out, .err = err};
    buf_clear(out->storage);
    out->count = 0;
    out->list = NULL;
    size_t points = body_len / point_min + 1;
    b->points_room = points < limits->points_max ? (unsigned)points : limits->points_max;
    uint32_t slots = 0;
    if (b->points_room > BUILD_COMPARE_ALL)
        for (slots = 64; slots < 2 * b->points_room;)
            slots *= 2;
    size_t list = b->points_room * sizeof(struct point), index = slots * sizeof *b->slots;
    size_t need = list + index + body_len + 1;
    if (need > out->storage->max)
        return error_set(err, -E2BIG, "the body is larger than what is served at once");
    char *at = buf_reserve(out->storage, need); /* malloc's alignment: the storage is empty */
    if (!at)
        return error_set(err, -ENOMEM, "no memory for the body");
    out->list = (struct point *)(void *)at;
    out->storage->len = list + index;
    if (slots) {
        b->slots = (uint32_t *)(void *)(at + list);
        b->slots_mask = slots - 1;
    }
    return 0;
}

struct point *build_point(struct build *b)
{
    if (b->out->count >= b->points_room) {
        error_set(b->err, -E2BIG, "more than %u data points in one request", b->limits->points_max);
        return NULL;
    }
    struct point *p = &b->out->list[b->out->count++];
    *p = (struct point){0};
    return p;
}

/* A name as sent, cut at a whole character, without what could end a log line. */
static int show(struct slice name, char out[SHOWN_MAX + 1])
{
    size_t n = name.len < SHOWN_MAX ? name.len : SHOWN_MAX;
    while (n && n < name.len && ((uint8_t)name.ptr[n] & 0xc0) == 0x80)
        n--;
    for (size_t i = 0; i < n; i++)
        out[i] = (uint8_t)name.ptr[i] < 0x20 || name.ptr[i] == 0x7f ? '?' : name.ptr[i];
    return (int)n;
}

/* Appends to a text of bounded length; what does not fit is left out. */
__attribute__((format(printf, 4, 5))) static size_t add(char *to, size_t room, size_t at,
                                                        const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = vsnprintf(to + at, room - at, format, args);
    va_end(args);
    return n < 0 ? at : at + (size_t)n < room ? at + (size_t)n : room - 1;
}

int build_fail(const struct build *b, const char *member, int code, const char *what)
{
    char where[256], feed[SHOWN_MAX + 1];
    size_t n = 0;
    if (b->element)
        n = add(where, sizeof where, n, "element %u", b->element);
    if (b->line)
        n = add(where, sizeof where, n, " (line %u)", b->line);
    if (b->feed.ptr)
        n = add(where, sizeof where, n, "%sfeed \"%.*s\"", n ? ", " : "", show(b->feed, feed),
                feed);
    if (member)
        n = add(where, sizeof where, n, "%smember \"%s\"", n ? ", " : "", member);
    return error_set(b->err, code, "%.*s%s%s", (int)n, where, n ? ": " : "", what);
}

int build_json(struct build *b, struct slice body, struct json *ret)
{
    size_t at;
    const char *why;
    if (json_parse(body, ret, &at, &why))
        return 0;
    char what[128];
    add(what, sizeof what, 0, "not JSON at byte %zu: %s", at, why);
    return build_fail(b, NULL, -EINVAL, what);
}

struct slice build_text(struct build *b, struct json string)
{
    struct buf *storage = b->out->storage;
    size_t from = storage->len;
    if (!string.escaped)
        return string.raw;
    json_unescape(string, storage);
    return slice_of(storage->ptr + from, storage->len - from);
}

int build_value(struct build *b, struct json v, const char *member, struct slice *ret)
{
    struct buf *storage = b->out->storage;
    size_t from = storage->len;
    struct slice text = v.raw;
    if (v.type == JSON_NULL)
        return build_fail(b, member, -EINVAL, "null is no value");
    if (v.type == JSON_STRING) {
        text = build_text(b, v);
    } else if (v.type == JSON_ARRAY || v.type == JSON_OBJECT) {
        json_compact(v, storage);
        text = slice_of(storage->ptr + from, storage->len - from);
    }
    if (text.len > b->limits->value_max)
        return build_fail(b, member, -E2BIG, "the value is longer than the limit");
    *ret = text;
    return 0;
}

struct json *datum_member(struct datum_members *m, struct slice name)
{
    switch (name.len) {
    case 3:
        return memcmp(name.ptr, "lat", 3) == 0   ? &m->lat
               : memcmp(name.ptr, "lon", 3) == 0 ? &m->lon
               : memcmp(name.ptr, "ele", 3) == 0 ? &m->ele
                                                 : NULL;
    case 5:
        return memcmp(name.ptr, "value", 5) == 0   ? &m->value
               : memcmp(name.ptr, "epoch", 5) == 0 ? &m->epoch
               : memcmp(name.ptr, "datum", 5) == 0 ? &m->datum
                                                   : NULL;
    case 10:
        return memcmp(name.ptr, "created_at", 10) == 0 ? &m->created_at : NULL;
    default:
        return NULL;
    }
}

int build_members(struct build *b, struct json object, struct datum_members *ret)
{
    struct slice rest = json_members(object);
    struct json key, value;
    *ret = (struct datum_members){0};
    while (json_next_member(&rest, &key, &value)) {
        size_t before = b->out->storage->len;
        struct slice name = build_text(b, key);
        struct json *where = datum_member(ret, name);
        b->out->storage->len = before; /* an unescaped key is not needed beyond this turn */
        if (!where || value.type == JSON_NULL)
            continue;
        if (where->raw.ptr) {
            char shown[SHOWN_MAX + 1];
            shown[show(name, shown)] = 0;
            return build_fail(b, shown, -EINVAL, "the member stands there twice");
        }
        *where = value;
    }
    return 0;
}

static int number(struct build *b, struct json v, const char *member, unsigned flags, double min,
                  double max, double *ret)
{
    double d;
    if (v.type == JSON_STRING && (flags & BUILD_LENIENT)) {
        struct slice text = slice_trim(v.raw);
        if (v.escaped || !number_form(text))
            return build_fail(b, member, -EINVAL, "must be a number");
        d = number_value(text);
    } else if (v.type == JSON_NUMBER) {
        d = json_double(v);
    } else {
        return build_fail(b, member, -EINVAL, "must be a number");
    }
    if (!isfinite(d) || d < min || d > max)
        return build_fail(b, member, -EINVAL, "is out of range");
    *ret = d;
    return 0;
}

static int epoch(struct build *b, struct json v, const char *member, unsigned flags, int64_t *ret)
{
    double s;
    int rc = number(b, v, member, flags, 0, (double)TIME_MAX_S, &s);
    if (rc == 0)
        *ret = llround(s * (double)US_PER_S);
    return rc;
}

static int created_at(struct build *b, struct json v, unsigned flags, int64_t *ret)
{
    if (v.type == JSON_NUMBER ||
        (v.type == JSON_STRING && (flags & BUILD_LENIENT) && number_form(slice_trim(v.raw))))
        return epoch(b, v, "created_at", flags, ret);
    if (v.type != JSON_STRING)
        return build_fail(b, "created_at", -EINVAL,
                          "must be an RFC 3339 time or seconds since 1970");
    size_t before = b->out->storage->len;
    int64_t us;
    bool is = time_parse(slice_trim(build_text(b, v)), &us);
    b->out->storage->len = before;
    if (!is)
        return build_fail(b, "created_at", -EINVAL, "is no RFC 3339 time");
    if (us < 0)
        return build_fail(b, "created_at", -EINVAL, "is before 1970");
    *ret = us;
    return 0;
}

static int time_of(struct build *b, const struct datum_members *m, unsigned flags, struct point *p)
{
    int rc = 0;
    if (m->created_at.raw.ptr)
        rc = created_at(b, m->created_at, flags, &p->time_us);
    else if (m->epoch.raw.ptr && (flags & BUILD_LENIENT))
        rc = epoch(b, m->epoch, "epoch", flags, &p->time_us);
    else
        return 0;
    p->has_time = rc == 0;
    return rc;
}

static int place_of(struct build *b, const struct datum_members *m, unsigned flags, struct point *p)
{
    bool lat = m->lat.raw.ptr, lon = m->lon.raw.ptr, ele = m->ele.raw.ptr;
    bool strict = !(flags & BUILD_LENIENT);
    int rc = 0;
    if (lat)
        rc = number(b, m->lat, "lat", flags, -90, 90, &p->lat);
    if (rc == 0 && lon)
        rc = number(b, m->lon, "lon", flags, -180, 180, &p->lon);
    if (rc == 0 && ele)
        rc = number(b, m->ele, "ele", flags, -HUGE_VAL, HUGE_VAL, &p->ele);
    if (rc != 0)
        return rc;
    if (strict && lat && !lon)
        return build_fail(b, "lat", -EINVAL, "stands there without \"lon\"");
    if (strict && lon && !lat)
        return build_fail(b, "lon", -EINVAL, "stands there without \"lat\"");
    if (strict && ele && !lat)
        return build_fail(b, "ele", -EINVAL, "stands there without \"lat\" and \"lon\"");
    p->has_place = lat && lon;
    p->has_ele = p->has_place && ele;
    return 0;
}

/* An empty text where a time or number is due: a form's way to leave it out. */
static void drop_blank(struct json *v)
{
    if (v->raw.ptr && v->type == JSON_STRING && slice_trim(v->raw).len == 0)
        *v = (struct json){0};
}

int build_datum(struct build *b, struct datum_members *m, unsigned flags, struct point *p)
{
    int rc = m->value.raw.ptr ? build_value(b, m->value, "value", &p->value) : 0;
    if (flags & BUILD_LENIENT) {
        drop_blank(&m->created_at);
        drop_blank(&m->epoch);
        drop_blank(&m->lat);
        drop_blank(&m->lon);
        drop_blank(&m->ele);
    }
    if (rc == 0)
        rc = time_of(b, m, flags, p);
    if (rc == 0)
        rc = place_of(b, m, flags, p);
    return rc;
}
