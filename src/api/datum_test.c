/* SPDX-License-Identifier: Apache-2.0 */
/* What readers get of data, against the same written a member at a time by printf. */
#include "api/private.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <cmocka.h>

#include "base/clock.h"
#include "base/rand.h"

enum { POINTS = 50, TEXT = 40 };

struct data {
    struct api api;
    struct feed feed;
    struct history_point points[POINTS];
    char texts[POINTS][TEXT];
    struct exchange *x;
    struct buf want;
};

/* ---- what is asked for, made up ---- */

static double some_degrees(struct rand *r)
{
    double v = (double)rand_below(r, 3600000000) / 1e7 - 180;
    return rand_below(r, 10) ? v : v / 3;
}

static void fill(struct data *d, struct rand *r)
{
    static const char kinds[] = "0123456789.-\"\\,\n\r\x01 \xc3\xa4";
    bool close = rand_below(r, 2); /* mostly of the same day, place or none, and from one device */
    uint64_t offset = rand_next(r) >> rand_below(r, 64), apart_us = close ? 40000000 : 40000000000;
    int64_t us = (int64_t)rand_below(r, 8000000000000000ull) - 4000000000000000; /* 1843 to 2096 */
    d->api.node = (uint16_t)rand_next(r);
    d->api.expiration_ms = rand_below(r, 3) ? rand_below(r, 100ull * 86400000) : 0;
    d->feed.number = rand_next(r) >> rand_below(r, 64);
    d->feed.key = rand_below(r, 2) ? SLICE("car.speed") : SLICE("t-1");
    for (unsigned i = 0; i < POINTS; i++) {
        struct history_point *p = &d->points[i];
        size_t len = rand_below(r, TEXT + 1), some = rand_below(r, 2) ? 12 : sizeof kinds - 1;
        for (size_t k = 0; k < len; k++)
            d->texts[i][k] = kinds[rand_below(r, some)];
        *p = (struct history_point){.event_us = us, .offset = offset};
        p->datum.value = slice_of(d->texts[i], len);
        p->datum.has_place = rand_below(r, close ? 20 : 3) == 0;
        p->datum.has_ele = p->datum.has_place && rand_below(r, 2);
        p->datum.lat = some_degrees(r);
        p->datum.lon = some_degrees(r);
        p->datum.ele = some_degrees(r) * 10;
        us -= (int64_t)rand_below(r, apart_us); /* up to eleven hours: often another day */
        offset = close ? offset - rand_below(r, 1000) : rand_next(r) >> rand_below(r, 64);
    }
}

/* ---- the same, plainly ---- */

static void plain_json(struct buf *b, struct slice s)
{
    buf_printf(b, "\"");
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.ptr[i];
        if (c == '"' || c == '\\')
            buf_printf(b, "\\%c", c);
        else if (c == '\n')
            buf_printf(b, "\\n");
        else if (c < 0x20)
            buf_printf(b, "\\u%04x", c);
        else
            buf_put_u8(b, c);
    }
    buf_printf(b, "\"");
}

static void plain_csv(struct buf *b, struct slice s)
{
    bool quoted = !s.len;
    for (size_t i = 0; i < s.len; i++)
        quoted |= strchr(",\"\r\n", s.ptr[i]) && s.ptr[i];
    buf_printf(b, quoted ? "\"" : "");
    for (size_t i = 0; i < s.len; i++)
        buf_printf(b, s.ptr[i] == '"' ? "\"%c" : "%c", s.ptr[i]);
    buf_printf(b, quoted ? "\"" : "");
}

static int64_t seconds(int64_t us)
{
    return (us - ((us % US_PER_S) + US_PER_S) % US_PER_S) / US_PER_S;
}

static void plain_time(struct buf *b, const char *quote, int64_t us)
{
    time_t s = (time_t)seconds(us);
    struct tm tm;
    char text[64];
    gmtime_r(&s, &tm);
    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &tm);
    buf_printf(b, "%s%s%s", quote, text, quote);
}

static void plain_double(struct buf *b, double v)
{
    char text[64];
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, v);
        if (strtod(text, NULL) == v)
            break;
    }
    buf_printf(b, "%s", text);
}

static void plain_feature(struct buf *b, const struct datum *d)
{
    buf_printf(b, "{\"type\":\"Feature\",\"geometry\":{\"type\":\"Point\",\"coordinates\":[");
    plain_double(b, d->lon);
    buf_printf(b, ",");
    plain_double(b, d->lat);
    if (d->has_ele) {
        buf_printf(b, ",");
        plain_double(b, d->ele);
    }
    buf_printf(b, "]}}");
}

static const char *const names[] = {"id",         "value",         "feed_id",   "feed_key",
                                    "created_at", "location",      "lat",       "lon",
                                    "ele",        "created_epoch", "expiration"};
enum { NAMES = 11, NO_LOCATION = 0x7ff & ~(1 << 5), CSV_DEFAULT = 0x1df };

/* False: the datum has none. */
static bool plain_member(const struct data *d, struct buf *b, unsigned i,
                         const struct history_point *p, bool csv)
{
    const struct datum *v = &p->datum;
    void (*text)(struct buf *, struct slice) = csv ? plain_csv : plain_json;
    const char *quote = csv ? "" : "\"";
    char id[DATUM_ID_LEN + 1];
    if ((i >= 5 && i <= 7 && !v->has_place) || (i == 8 && !v->has_ele))
        return false;
    if (!csv)
        buf_printf(b, "\"%s\":", names[i]);
    datum_id_format(id, p->event_us, d->api.node, p->offset);
    if (i < 2)
        text(b, i == 0 ? slice_str(id) : v->value);
    else if (i == 2)
        buf_printf(b, "%llu", (unsigned long long)d->feed.number);
    else if (i == 3)
        text(b, d->feed.key);
    else if (i == 4)
        plain_time(b, quote, p->event_us);
    else if (i == 5)
        plain_feature(b, v);
    else if (i <= 8)
        plain_double(b, i == 6 ? v->lat : i == 7 ? v->lon : v->ele);
    else if (i == 9)
        buf_printf(b, "%lld", (long long)seconds(p->event_us));
    else if (d->api.expiration_ms)
        plain_time(b, quote, p->event_us + (int64_t)d->api.expiration_ms * 1000);
    else
        buf_printf(b, csv ? "" : "null");
    return true;
}

static void plain_list(struct data *d, unsigned fields, bool csv)
{
    struct buf *b = &d->want;
    buf_clear(b);
    unsigned all = fields ? fields : 0x7ff;
    if (csv)
        all = fields ? fields & NO_LOCATION : CSV_DEFAULT;
    const char *comma = "";
    for (unsigned i = 0; csv && i < NAMES; i++) {
        if (all & 1u << i)
            buf_printf(b, "%s%s", comma, names[i]);
        comma = all & 1u << i ? "," : comma;
    }
    buf_printf(b, csv ? "\r\n" : "[");
    for (unsigned k = 0; k < POINTS; k++) {
        buf_printf(b, "%s", csv ? "" : k ? ",{" : "{");
        comma = "";
        for (unsigned i = 0; i < NAMES; i++) {
            if (!(all & 1u << i))
                continue;
            size_t before = b->len;
            buf_printf(b, "%s", comma);
            bool there = plain_member(d, b, i, &d->points[k], csv);
            if (!there && !csv)
                b->len = before;
            comma = there || csv ? "," : comma;
        }
        buf_printf(b, csv ? "\r\n" : "}");
    }
    buf_printf(b, csv ? "" : "]");
}

/* ---- tests ---- */

static void compare(struct data *d, unsigned fields, bool csv)
{
    struct buf *body = &d->x->reply.body;
    buf_clear(body);
    api_put_data(d->x, &d->api, &d->feed, d->points, POINTS, fields, csv, true);
    plain_list(d, fields, csv);
    assert_false(body->failed || d->want.failed);
    if (slice_eq(buf_slice(body), buf_slice(&d->want)))
        return;
    size_t at = 0;
    while (at < body->len && at < d->want.len && body->ptr[at] == d->want.ptr[at])
        at++;
    at -= at < 60 ? at : 60;
    fail_msg("at %zu: %.*s, not %.*s", at, 120, body->ptr + at, 120, d->want.ptr + at);
}

static void lists_are_as_they_should_be(void **state)
{
    static struct data d;
    struct rand r = {.state = 4};
    d.x = calloc(1, sizeof *d.x);
    assert_non_null(d.x);
    buf_init(&d.x->reply.body, 1u << 20);
    buf_init(&d.want, 1u << 20);
    for (int i = 0; i < 500; i++) {
        fill(&d, &r);
        compare(&d, 0, false);
        compare(&d, 0, true);
        compare(&d, 1 + (unsigned)rand_below(&r, 0x7ff), false);
        compare(&d, 1 + (unsigned)rand_below(&r, 0x7ff), true);
    }
    buf_fini(&d.want);
    buf_fini(&d.x->reply.body);
    free(d.x);
}

static void one_is_like_the_first_of_many(void **state)
{
    static struct data d;
    struct rand r = {.state = 8};
    struct buf one, many;
    buf_init(&one, 4096);
    buf_init(&many, 1u << 20);
    fill(&d, &r);
    struct data_writer w = {.out = &many, .api = &d.api, .feed = &d.feed};
    for (unsigned i = 0; i < POINTS; i++) {
        const struct history_point *p = &d.points[i];
        size_t id_at = 0, start = many.len;
        buf_clear(&one);
        buf_put_str(&one, "before");
        api_format_datum(&one, &d.api, &d.feed, &p->datum, p->event_us, p->offset, &id_at);
        api_put_datum(&w, &p->datum, p->event_us, p->offset);
        char id[DATUM_ID_LEN + 1];
        datum_id_format(id, p->event_us, d.api.node, p->offset);
        assert_memory_equal(one.ptr + id_at, id, DATUM_ID_LEN);
        assert_true(slice_eq(slice_from(buf_slice(&one), strlen("before")),
                             slice_from(buf_slice(&many), start)));
    }
    buf_fini(&one);
    buf_fini(&many);
}

/* All that is made room for beforehand at its longest, and no byte more is there: each buffer may
 * hold what the writer reserves last, at the point where it does. */
static void the_longest_fits(void **state)
{
    static struct data d;
    static const int64_t times[] = {INT64_MIN + 2 * US_PER_S, INT64_MAX - 2 * US_PER_S};
    const double longest = -1.2345678901234567e-308;
    d.feed.number = UINT64_MAX;
    d.feed.key = SLICE("k");
    d.api.node = UINT16_MAX;
    d.api.expiration_ms = 1000;
    buf_init(&d.want, 4096);
    for (unsigned i = 0; i < 2; i++) {
        struct history_point p = {.event_us = times[i], .offset = UINT64_MAX};
        p.datum = (struct datum){.value = SLICE("1"), .has_place = true, .has_ele = true};
        p.datum.lat = p.datum.lon = p.datum.ele = longest;
        buf_clear(&d.want);
        for (unsigned m = 0; m < NAMES; m++) {
            buf_printf(&d.want, m ? "," : "{");
            plain_member(&d, &d.want, m, &p, false);
        }
        buf_printf(&d.want, "}");
        const char *year = i ? "\"294247-01-10T" : "\"-290308-12-21T";
        assert_non_null(memmem(d.want.ptr, d.want.len, year, strlen(year)));
        struct buf out;
        size_t max = 256;
        do { /* of those that are enough the smallest: the last reserve then ends where it does */
            buf_init(&out, ++max);
            api_format_datum(&out, &d.api, &d.feed, &p.datum, p.event_us, p.offset, NULL);
            if (out.failed)
                buf_fini(&out);
        } while (!out.ptr);
        assert_int_equal(out.cap, max);
        assert_true(slice_eq(buf_slice(&out), buf_slice(&d.want)));
        buf_fini(&out);
        buf_init(&out, 1024);
        api_format_place(&out, &p.datum);
        assert_non_null(memmem(out.ptr, out.len, "e-308]}}", 8));
        buf_fini(&out);
    }
    buf_fini(&d.want);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lists_are_as_they_should_be),
        cmocka_unit_test(one_is_like_the_first_of_many),
        cmocka_unit_test(the_longest_fits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
