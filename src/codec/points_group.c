/* SPDX-License-Identifier: Apache-2.0 */
/* Data of several feeds of a group in one request (Adafruit's group data). */
#include <errno.h>

#include "codec/points_csv.h"

/* The members of a group's data beside time and place. */
struct group_body {
    struct json group, feeds, location;
};

static int find_members(struct build *b, struct json object, struct group_body *ret)
{
    struct slice rest = json_members(object);
    struct json key, value;
    while (json_next_member(&rest, &key, &value)) {
        size_t before = b->out->storage->len;
        struct slice name = build_text(b, key);
        struct json *where = slice_eq(name, SLICE("feeds"))      ? &ret->feeds
                             : slice_eq(name, SLICE("group"))    ? &ret->group
                             : slice_eq(name, SLICE("location")) ? &ret->location
                                                                 : NULL;
        b->out->storage->len = before;
        if (where && value.type != JSON_NULL)
            *where = value;
    }
    return 0;
}

/* Time and place of the group's body, as a point that the others take them from. */
static int common(struct build *b, struct json object, struct json location, struct point *ret)
{
    struct datum_members m, place;
    int rc = build_members(b, object, &m);
    m.value = m.datum = (struct json){0};
    if (rc == 0 && location.raw.ptr) {
        if (location.type != JSON_OBJECT)
            return build_fail(b, "location", -EINVAL, "must be an object with lat, lon and ele");
        rc = build_members(b, location, &place);
        m.lat = place.lat;
        m.lon = place.lon;
        m.ele = place.ele;
    }
    return rc == 0 ? build_datum(b, &m, BUILD_LENIENT, ret) : rc;
}

static void inherit(struct point *p, const struct point *from)
{
    if (!p->has_time) {
        p->has_time = from->has_time;
        p->time_us = from->time_us;
    }
    if (!p->has_place) {
        p->has_place = from->has_place;
        p->has_ele = from->has_ele;
        p->lat = from->lat;
        p->lon = from->lon;
        p->ele = from->ele;
    }
}

static int element(struct build *b, struct json v, const struct point *all)
{
    struct slice rest = json_members(v);
    struct json name, value, key = {0};
    struct datum_members m;
    if (v.type != JSON_OBJECT)
        return build_fail(b, NULL, -EINVAL, "must be an object with key and value");
    while (json_next_member(&rest, &name, &value))
        if (slice_eq(name.raw, SLICE("key")) && value.type == JSON_STRING)
            key = value;
    if (!key.raw.ptr || !key.raw.len)
        return build_fail(b, "key", -EINVAL, "the feed's key is missing");
    struct slice feed = build_text(b, key);
    b->feed = feed;
    int rc = build_members(b, v, &m);
    if (rc == 0 && !m.value.raw.ptr)
        rc = build_fail(b, NULL, -EINVAL, "data missing required value");
    struct point *p = rc == 0 ? build_point(b) : NULL;
    if (rc == 0)
        rc = p ? build_datum(b, &m, BUILD_LENIENT, p) : -E2BIG;
    if (rc != 0)
        return rc;
    p->feed = feed;
    inherit(p, all);
    b->feed = (struct slice){0};
    return 0;
}

static int from_json(struct build *b, struct slice body)
{
    struct json v, e;
    struct group_body g = {0};
    struct point all = {0};
    int rc = build_json(b, body, &v);
    if (rc == 0 && v.type == JSON_OBJECT)
        rc = find_members(b, v, &g);
    if (rc == 0 && !g.feeds.raw.ptr && g.group.raw.ptr && g.group.type == JSON_OBJECT) {
        v = g.group;
        rc = find_members(b, v, &g);
    }
    if (rc != 0)
        return rc;
    if (g.feeds.type != JSON_ARRAY || !g.feeds.raw.ptr)
        return build_fail(b, "feeds", -EINVAL, "must be a list of {\"key\":..,\"value\":..}");
    rc = common(b, v, g.location, &all);
    struct slice rest = json_members(g.feeds);
    while (rc == 0 && json_next_element(&rest, &e)) {
        b->element++;
        rc = element(b, e, &all);
    }
    return rc;
}

/* key,value or location,lat,lon,ele. */
static int take_row(struct build *b, const struct csv_record *row, struct point *all)
{
    const struct slice *f = row->fields;
    struct datum_members m = {0};
    if (slice_eq(f[0], SLICE("location"))) {
        m.lat = row->count > 1 ? csv_member(f[1]) : m.lat;
        m.lon = row->count > 2 ? csv_member(f[2]) : m.lon;
        m.ele = row->count > 3 ? csv_member(f[3]) : m.ele;
        return build_datum(b, &m, BUILD_LENIENT, all);
    }
    b->element++;
    if (row->count != 2 || !f[0].len)
        return build_fail(b, NULL, -EINVAL, "must be key,value or location,lat,lon,ele");
    m.value = (struct json){.type = JSON_STRING, .raw = csv_keep(b, f[1])};
    struct point *p = build_point(b);
    if (!p)
        return -E2BIG;
    p->feed = csv_keep(b, f[0]);
    return build_datum(b, &m, BUILD_LENIENT, p);
}

static int from_csv(struct build *b, struct slice body)
{
    struct point all = {0};
    struct csv csv;
    struct csv_record row;
    csv_init(&csv, body, 1);
    int rc = csv_row(b, &csv, &row);
    while (rc == 0 && row.count) {
        rc = take_row(b, &row, &all);
        if (rc == 0)
            rc = csv_row(b, &csv, &row);
    }
    csv_fini(&csv);
    for (unsigned i = 0; i < b->out->count; i++)
        inherit(&b->out->list[i], &all);
    return rc;
}

int points_group(struct slice body, enum body_form form, const struct points_limits *limits,
                 struct points *out, struct error *err)
{
    struct build b;
    int rc = build_begin(&b, body.len, form == BODY_CSV ? POINT_CSV_MIN : POINT_BODY_MIN, limits,
                         out, err);
    if (rc == 0)
        rc = form == BODY_CSV ? from_csv(&b, body) : from_json(&b, body);
    if (rc == 0 && out->count == 0)
        return error_set(err, -EINVAL, "there is no data point in the body");
    return rc;
}
