/* SPDX-License-Identifier: Apache-2.0 */
/*
 * POST /v1/telemetry. {"temperature":21.5} is the commonest body of all: it is checked once, walked
 * once, and its point borrows from the body.
 */
#include <errno.h>

#include <xxhash.h>

#include "codec/points_build.h"

static uint32_t *slot_of(struct build *b, struct slice feed)
{
    uint32_t at = (uint32_t)XXH3_64bits(feed.ptr, feed.len) & b->slots_mask;
    while (b->slots[at] && !slice_eq(b->out->list[b->slots[at] - 1].feed, feed))
        at = (at + 1) & b->slots_mask; /* at most half of the slots are taken */
    return &b->slots[at];
}

/* Whether the newest point's feed stands in the object that began with point `first` before. From
 * BUILD_COMPARE_ALL points on an index is used: comparing all would be quadratic in a sender's
 * hands. */
static bool feed_again(struct build *b, unsigned first)
{
    unsigned newest = b->out->count - 1;
    struct slice feed = b->out->list[newest].feed;
    if (newest - first < BUILD_COMPARE_ALL) {
        for (unsigned i = first; i < newest; i++)
            if (slice_eq(b->out->list[i].feed, feed))
                return true;
        return false;
    }
    if (newest - first == BUILD_COMPARE_ALL) {
        memset(b->slots, 0, (b->slots_mask + 1) * sizeof *b->slots);
        for (unsigned i = first; i < newest; i++)
            *slot_of(b, b->out->list[i].feed) = i + 1;
    }
    uint32_t *slot = slot_of(b, feed);
    bool again = *slot != 0;
    *slot = newest + 1;
    return again;
}

/* feed -> {value, created_at, lat, lon, ele} */
static int detailed(struct build *b, struct json v, struct point *p)
{
    struct datum_members m;
    int rc = build_members(b, v, &m);
    if (rc != 0)
        return rc;
    if (!m.value.raw.ptr)
        return build_fail(b, NULL, -EINVAL, "the object has no member \"value\"");
    return build_datum(b, &m, 0, p);
}

static int object(struct build *b, struct json v)
{
    struct slice rest = json_members(v);
    struct json key, value;
    unsigned first = b->out->count;
    b->feed = (struct slice){0};
    if (v.type != JSON_OBJECT)
        return build_fail(b, NULL, -EINVAL, "must be an object of feed keys and values");
    while (json_next_member(&rest, &key, &value)) {
        struct point *p = build_point(b);
        if (!p)
            return -E2BIG;
        b->feed = p->feed = build_text(b, key);
        if (p->feed.len == 0)
            return build_fail(b, NULL, -EINVAL, "a feed key is empty");
        if (p->feed.len > b->limits->feed_max)
            return build_fail(b, NULL, -E2BIG, "the feed key is longer than the limit");
        if (feed_again(b, first))
            return build_fail(b, NULL, -EINVAL, "the feed stands there twice");
        int rc = value.type == JSON_OBJECT ? detailed(b, value, p)
                                           : build_value(b, value, NULL, &p->value);
        if (rc != 0)
            return rc;
    }
    b->feed = (struct slice){0};
    return 0;
}

static int json_body(struct build *b, struct slice body)
{
    struct json v, element;
    int rc = build_json(b, body, &v);
    if (rc != 0 || v.type != JSON_ARRAY)
        return rc != 0 ? rc : object(b, v);
    struct slice rest = json_members(v);
    while (rc == 0 && json_next_element(&rest, &element)) {
        b->element++;
        rc = object(b, element);
    }
    return rc;
}

static bool empty_line(struct slice s)
{
    s = slice_trim(s);
    return s.len == 0 || (s.len == 1 && s.ptr[0] == '\r');
}

static int ndjson_body(struct build *b, struct slice body)
{
    int rc = 0;
    while (rc == 0 && body.len) {
        const char *lf = memchr(body.ptr, '\n', body.len);
        struct slice line = slice_of(body.ptr, lf ? (size_t)(lf - body.ptr) : body.len);
        struct json v;
        body = lf ? slice_from(body, line.len + 1) : slice_from(body, body.len);
        b->line++;
        if (empty_line(line))
            continue;
        b->element++;
        b->feed = (struct slice){0};
        rc = build_json(b, line, &v);
        if (rc == 0)
            rc = object(b, v);
    }
    return rc;
}

int points_telemetry(struct slice body, enum body_form form, const struct points_limits *limits,
                     struct points *out, struct error *err)
{
    struct build b;
    int rc = build_begin(&b, body.len, POINT_BODY_MIN, limits, out, err);
    if (rc != 0)
        return rc;
    if (form == BODY_JSON)
        rc = json_body(&b, body);
    else if (form == BODY_NDJSON)
        rc = ndjson_body(&b, body);
    else
        return error_set(err, -EINVAL, "telemetry is JSON or NDJSON");
    if (rc == 0 && out->count == 0)
        return error_set(err, -EINVAL, "there is no data point in the body");
    return rc;
}
