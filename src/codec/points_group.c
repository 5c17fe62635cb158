/* SPDX-License-Identifier: Apache-2.0 */
/* Data of several feeds of a group in one request (Adafruit's group data). */
#include <errno.h>

#include "codec/form.h"
#include "codec/points_csv.h"
#include "codec/utf8.h"

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

/* One more point, of that feed. */
static int add(struct build *b, struct slice feed, struct datum_members *m)
{
    b->feed = feed;
    if (!feed.len)
        return build_fail(b, "key", -EINVAL, "the feed's key is missing");
    if (feed.len > b->limits->feed_max)
        return build_fail(b, "key", -EINVAL, "the feed's key is too long");
    if (!m->value.raw.ptr)
        return build_fail(b, NULL, -EINVAL, "data missing required value");
    struct point *p = build_point(b);
    if (!p)
        return -E2BIG;
    p->feed = feed;
    int rc = build_datum(b, m, BUILD_LENIENT, p);
    b->feed = (struct slice){0};
    return rc;
}

static int element(struct build *b, struct json v)
{
    struct slice rest = json_members(v);
    struct json name, value, key = {0};
    struct datum_members m;
    if (v.type != JSON_OBJECT)
        return build_fail(b, NULL, -EINVAL, "must be an object with key and value");
    while (json_next_member(&rest, &name, &value))
        if (slice_eq(name.raw, SLICE("key")) && value.type == JSON_STRING)
            key = value;
    struct slice feed = key.raw.ptr ? build_text(b, key) : (struct slice){0};
    int rc = build_members(b, v, &m);
    return rc == 0 ? add(b, feed, &m) : rc;
}

/* {"key":value,..}, as groups are written in MQTT. */
static int members(struct build *b, struct json object)
{
    struct slice rest = json_members(object);
    struct json key, value;
    int rc = 0;
    while (rc == 0 && json_next_member(&rest, &key, &value)) {
        struct datum_members m = {.value = value};
        b->element++;
        rc = add(b, build_text(b, key), &m);
    }
    return rc;
}

static void inherit_all(struct build *b, const struct point *from)
{
    for (unsigned i = 0; i < b->out->count; i++)
        inherit(&b->out->list[i], from);
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
    if (!g.feeds.raw.ptr || (g.feeds.type != JSON_ARRAY && g.feeds.type != JSON_OBJECT))
        return build_fail(b, "feeds", -EINVAL,
                          "must be a list of {\"key\":..,\"value\":..}, or {\"key\":value,..}");
    rc = common(b, v, g.location, &all);
    if (rc == 0 && g.feeds.type == JSON_OBJECT)
        rc = members(b, g.feeds);
    struct slice rest = g.feeds.type == JSON_ARRAY ? json_members(g.feeds) : (struct slice){0};
    while (rc == 0 && json_next_element(&rest, &e)) {
        b->element++;
        rc = element(b, e);
    }
    inherit_all(b, &all);
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
    return add(b, csv_keep(b, f[0]), &m);
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
    inherit_all(b, &all);
    return rc;
}

/* ---- forms ----
 * Fields have the names that Rack (and so Rails, and Adafruit) makes of nested parameters:
 * feeds[][key]=a&feeds[][value]=1, feeds[0][key]=.., or feeds[a]=1; location[lat] or lat; all also
 * in group[..]. The fields of one element stand together: with feeds[] it ends where a member comes
 * a second time, with feeds[0] where the number changes.
 */

#define BRACKETS_MAX 3

struct group_form {
    struct build *build;
    struct datum_members all, one;
    struct slice index; /* of the element that is being read */
    struct json key;
    bool open; /* there is one */
};

/* "group[feeds][][key]" as base "feeds" and the brackets "", "key". False: not so written. */
static bool take_apart(struct slice name, struct slice *ret_base,
                       struct slice brackets[BRACKETS_MAX], unsigned *ret_count)
{
    const char *at = name.len ? memchr(name.ptr, '[', name.len) : NULL;
    size_t len = at ? (size_t)(at - name.ptr) : name.len;
    *ret_base = slice_of(name.ptr, len);
    *ret_count = 0;
    for (name = slice_from(name, len); name.len;) {
        const char *end = memchr(name.ptr, ']', name.len);
        if (name.ptr[0] != '[' || !end || *ret_count == BRACKETS_MAX)
            return false;
        len = (size_t)(end - name.ptr);
        brackets[(*ret_count)++] = slice_of(name.ptr + 1, len - 1);
        name = slice_from(name, len + 1);
    }
    if (slice_eq(*ret_base, SLICE("group")) && *ret_count) {
        *ret_base = brackets[0];
        memmove(brackets, brackets + 1, --*ret_count * sizeof *brackets);
    }
    return true;
}

static int end_element(struct group_form *f)
{
    if (!f->open)
        return 0;
    f->open = false;
    return add(f->build, f->key.raw, &f->one);
}

static void begin_element(struct group_form *f, struct slice index)
{
    f->open = true;
    f->index = index;
    f->key = (struct json){0};
    f->one = (struct datum_members){0};
    f->build->element++;
}

/* feeds[index][member]=value */
static int on_member(struct group_form *f, struct slice index, struct slice member,
                     struct json value)
{
    bool key = slice_eq(member, SLICE("key"));
    struct json *where = key ? &f->key : datum_member(&f->one, member);
    if (!where || where == &f->one.datum)
        return 0;
    bool ends = f->open && (!slice_eq(index, f->index) || (!index.len && where->raw.ptr));
    int rc = ends ? end_element(f) : 0;
    if (rc != 0)
        return rc;
    if (!f->open)
        begin_element(f, index);
    if (where->raw.ptr)
        return build_fail(f->build, NULL, -EINVAL, "a form field stands there twice");
    *where = value;
    return 0;
}

static int on_field(void *arg, struct slice name, struct slice text)
{
    struct group_form *f = arg;
    struct slice base, in[BRACKETS_MAX];
    unsigned count;
    if (!utf8_text(name) || !utf8_text(text))
        return build_fail(f->build, NULL, -EINVAL, "a form field that is not UTF-8");
    if (!take_apart(name, &base, in, &count))
        return 0;
    struct json value = {.type = JSON_STRING, .raw = text};
    if (slice_eq(base, SLICE("feeds")) && count == 2)
        return on_member(f, in[0], in[1], value);
    if (slice_eq(base, SLICE("feeds")) && count == 1) {
        int rc = end_element(f);
        if (rc != 0)
            return rc;
        begin_element(f, in[0]);
        f->key = (struct json){.type = JSON_STRING, .raw = in[0]};
        f->one.value = value;
        return end_element(f);
    }
    bool place = slice_eq(base, SLICE("location")) && count == 1;
    struct json *where = place    ? datum_member(&f->all, in[0])
                         : !count ? datum_member(&f->all, base)
                                  : NULL;
    if (!where || where == &f->all.value || where == &f->all.datum)
        return 0;
    if (where->raw.ptr)
        return build_fail(f->build, NULL, -EINVAL, "a form field stands there twice");
    *where = value;
    return 0;
}

static int from_form(struct build *b, struct slice body, enum body_form form, struct slice boundary)
{
    struct group_form f = {.build = b};
    struct point all = {0};
    const char *why = NULL;
    int rc = form == BODY_MULTIPART ? form_multipart(body, boundary, on_field, &f, &why)
                                    : form_urlencoded(body, b->out->storage, on_field, &f, &why);
    if (rc != 0)
        return why ? build_fail(b, NULL, rc, why) : rc;
    rc = end_element(&f);
    b->element = 0;
    if (rc == 0)
        rc = build_datum(b, &f.all, BUILD_LENIENT, &all);
    inherit_all(b, &all);
    return rc;
}

int points_group(struct slice body, enum body_form form, struct slice boundary,
                 const struct points_limits *limits, struct points *out, struct error *err)
{
    struct build b;
    int rc = build_begin(&b, body.len, form == BODY_CSV ? POINT_CSV_MIN : POINT_BODY_MIN, limits,
                         out, err);
    if (rc == 0)
        rc = form == BODY_CSV ? from_csv(&b, body)
             : form == BODY_URLENCODED || form == BODY_MULTIPART
                 ? from_form(&b, body, form, boundary)
                 : from_json(&b, body);
    if (rc == 0 && out->count == 0)
        return error_set(err, -EINVAL, "there is no data point in the body");
    return rc;
}
