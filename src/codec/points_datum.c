/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Adafruit's create data and batch. Its clients send all members of their record, mostly null, and
 * more than the API knows: both are passed over. What cannot be understood is still refused.
 */
#include <errno.h>

#include "codec/points_build.h"
#include "codec/points_csv.h"
#include "codec/points_form.h"
#include "codec/utf8.h"

static const char missing[] = "data missing required value";

static int add(struct build *b, struct datum_members *m)
{
    if (!m->value.raw.ptr && !b->limits->value_optional)
        return build_fail(b, NULL, -EINVAL, missing);
    struct point *p = build_point(b);
    return p ? build_datum(b, m, BUILD_LENIENT, p) : -E2BIG;
}

static int datum(struct build *b, struct json v)
{
    struct datum_members m;
    if (v.type != JSON_OBJECT)
        return build_fail(b, NULL, -EINVAL, missing);
    int rc = build_members(b, v, &m);
    if (rc == 0 && m.datum.type == JSON_OBJECT && m.datum.raw.ptr)
        rc = build_members(b, m.datum, &m);
    if (rc != 0)
        return rc;
    return add(b, &m);
}

int points_datum(struct slice body, enum body_form form, struct slice boundary,
                 const struct points_limits *limits, struct points *out, struct error *err)
{
    struct build b;
    struct json v;
    struct datum_members m = {0};
    int rc = build_begin(&b, body.len, POINT_BODY_MIN, limits, out, err);
    if (rc != 0)
        return rc;
    if (form == BODY_JSON) {
        rc = build_json(&b, body, &v);
        return rc != 0 ? rc : datum(&b, v);
    }
    if (form != BODY_URLENCODED && form != BODY_MULTIPART)
        return error_set(err, -EINVAL, "data is JSON, CSV or a form");
    rc = form_datum(&b, body, form, boundary, &m);
    return rc != 0 ? rc : add(&b, &m);
}

/* Whether it is a JSON object that has a value; its members are in *m then. */
static bool is_datum(struct build *b, struct slice body, struct datum_members *m)
{
    struct json v;
    size_t at;
    const char *why;
    struct error none, *err = b->err;
    if (!json_parse(body, &v, &at, &why))
        return false;
    b->err = &none;
    bool found = build_members(b, v, m) == 0 && m->value.raw.ptr;
    b->err = err;
    return found;
}

int points_publish(struct slice body, const struct points_limits *limits, struct points *out,
                   struct error *err)
{
    struct build b;
    struct datum_members m;
    bool object = body.len && body.ptr[0] == '{';
    int rc = build_begin(&b, object ? body.len : 0, POINT_BODY_MIN, limits, out, err);
    if (rc != 0)
        return rc;
    if (object && is_datum(&b, body, &m))
        return add(&b, &m);
    if (!utf8_text(body))
        return build_fail(&b, "value", -EINVAL, "must be text: UTF-8 without NUL");
    if (body.len > limits->value_max)
        return build_fail(&b, "value", -E2BIG, "is too long");
    struct point *p = build_point(&b);
    if (!p)
        return -E2BIG;
    p->value = body;
    return 0;
}

int points_csv(struct slice body, const struct points_limits *limits, struct points *out,
               struct error *err)
{
    struct build b;
    int rc = build_begin(&b, body.len, POINT_CSV_MIN, limits, out, err);
    if (rc == 0)
        rc = csv_data(&b, body);
    if (rc == 0 && out->count == 0)
        return error_set(err, -EINVAL, "there is no data point in the body");
    return rc;
}

/* The list in {"data":[..]}, or the value itself. */
static int batch_list(struct build *b, struct json *v)
{
    struct json key, value, found = {0};
    if (v->type == JSON_ARRAY)
        return 0;
    struct slice rest = json_members(*v);
    while (v->type == JSON_OBJECT && json_next_member(&rest, &key, &value)) {
        size_t before = b->out->storage->len;
        bool data = slice_eq(build_text(b, key), SLICE("data"));
        b->out->storage->len = before;
        if (!data || value.type == JSON_NULL)
            continue;
        if (found.raw.ptr)
            return build_fail(b, "data", -EINVAL, "the member stands there twice");
        found = value;
    }
    if (!found.raw.ptr || found.type != JSON_ARRAY)
        return build_fail(b, NULL, -EINVAL, "a batch is {\"data\":[..]} or a list");
    *v = found;
    return 0;
}

int points_batch(struct slice body, const struct points_limits *limits, struct points *out,
                 struct error *err)
{
    struct build b;
    struct json v, element;
    int rc = build_begin(&b, body.len, POINT_BODY_MIN, limits, out, err);
    if (rc == 0)
        rc = build_json(&b, body, &v);
    if (rc == 0)
        rc = batch_list(&b, &v);
    if (rc != 0)
        return rc;
    struct slice rest = json_members(v);
    while (rc == 0 && json_next_element(&rest, &element)) {
        b.element++;
        rc = datum(&b, element);
    }
    if (rc == 0 && out->count == 0)
        return error_set(err, -EINVAL, "there is no data point in the body");
    return rc;
}
