/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz.h"

#include <math.h>
#include <stdlib.h>

#include "base/check.h"
#include "codec/points.h"
#include "codec/utf8.h"

static const struct points_limits limits = {.points_max = 40, .value_max = 200, .feed_max = 50};

static bool within(struct slice part, const char *from, size_t len)
{
    return part.ptr >= from && part.ptr + part.len <= from + len;
}

static void check_point(const struct point *p, struct slice body, const struct buf *storage)
{
    CHECK(within(p->value, body.ptr, body.len) || within(p->value, storage->ptr, storage->cap));
    CHECK(p->value.len <= limits.value_max && utf8_text(p->value));
    CHECK(p->feed.len <= limits.feed_max && utf8_text(p->feed));
    CHECK(!p->has_time || (p->time_us >= 0 && p->time_us <= 253402300800000000));
    CHECK(!p->has_place || (fabs(p->lat) <= 90 && fabs(p->lon) <= 180));
    CHECK(!p->has_ele || (p->has_place && isfinite(p->ele)));
}

static int parse(char form, struct slice body, struct points *out, struct error *err)
{
    switch (form) {
    case '0':
        return points_telemetry(body, BODY_JSON, &limits, out, err);
    case '1':
        return points_telemetry(body, BODY_NDJSON, &limits, out, err);
    case '2':
        return points_datum(body, BODY_JSON, (struct slice){0}, &limits, out, err);
    case '3':
        return points_datum(body, BODY_URLENCODED, (struct slice){0}, &limits, out, err);
    case '4':
        return points_datum(body, BODY_MULTIPART, SLICE("xYz"), &limits, out, err);
    case '6':
        return points_group(body, BODY_JSON, (struct slice){0}, &limits, out, err);
    case '7':
        return points_group(body, BODY_CSV, (struct slice){0}, &limits, out, err);
    case '8':
        return points_group(body, BODY_URLENCODED, (struct slice){0}, &limits, out, err);
    case '9':
        return points_group(body, BODY_MULTIPART, SLICE("xYz"), &limits, out, err);
    case 'c':
        return points_csv(body, &limits, out, err);
    case 'p':
        return points_publish(body, &limits, out, err);
    default:
        return points_batch(body, &limits, out, err);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    /* Made anew, so that a write or read beyond what was reserved is seen. */
    struct buf storage;
    struct points points = {.storage = &storage};
    struct error err = {.text = ""};
    struct slice body = slice_of(data + 1, size - 1), boundary;
    buf_init(&storage, 1 << 20);
    int rc = parse((char)data[0], body, &points, &err);
    CHECK(!storage.failed && points.count <= limits.points_max);
    if (rc != 0) {
        CHECK(rc < 0 && err.text[0]);
    } else {
        CHECK(points.count > 0);
        for (unsigned i = 0; i < points.count; i++)
            check_point(&points.list[i], body, &storage);
    }
    if (body_form(body, &boundary) == BODY_MULTIPART)
        CHECK(boundary.len >= 1 && boundary.len <= 70 && within(boundary, body.ptr, body.len));
    buf_fini(&storage);
    return 0;
}
