/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>

#include "api/api.h"
#include "base/clock.h"

#define FUTURE_SLACK_US (60 * US_PER_S) /* senders' clocks are never quite right */

static enum reason reason_of(int rc)
{
    switch (rc) {
    case 0:
        return REASON_ok;
    case -E2BIG:
        return REASON_too_large;
    case -ENOMEM:
        return REASON_internal;
    default:
        return REASON_bad_body;
    }
}

/* curl -d says "urlencoded" of whatever it is given: JSON is taken for JSON all the same. */
bool api_looks_like_json(struct slice body)
{
    size_t i = 0;
    while (i < body.len && (body.ptr[i] == ' ' || body.ptr[i] == '\t' || body.ptr[i] == '\r' ||
                            body.ptr[i] == '\n'))
        i++;
    return i < body.len && (body.ptr[i] == '{' || body.ptr[i] == '[');
}

static enum reason one_of_csv(struct slice body, const struct points_limits *limits,
                              struct points *out, struct error *err)
{
    enum reason reason = reason_of(points_csv(body, limits, out, err));
    if (reason != REASON_ok || out->count == 1)
        return reason;
    error_set(err, 0, "one line of CSV is one datum; send several to data/batch");
    return REASON_bad_body;
}

static enum reason published(const struct route_match *m, struct slice body,
                             const struct points_limits *limits, struct points *out,
                             struct error *err)
{
    enum reason reason =
        m->form == BODY_CSV
            ? one_of_csv(body, limits, out, err)
            : reason_of(m->form == BODY_JSON
                            ? points_datum(body, BODY_JSON, (struct slice){0}, limits, out, err)
                            : points_publish(body, limits, out, err));
    for (unsigned i = 0; reason == REASON_ok && i < out->count; i++)
        out->list[i].feed = m->feed; /* which may not be there yet */
    return reason;
}

enum reason api_points(const struct route_match *m, const struct request *q, struct points *out,
                       struct error *err)
{
    const struct points_limits limits = {
        .points_max = REQUEST_RECORDS_MAX, .value_max = VALUE_BIG_MAX, .feed_max = FEED_KEY_MAX};
    struct slice boundary = {0};
    enum body_form form = body_form(q->content_type, &boundary);
    switch (m->route->op) {
    case OP_TELEMETRY_POST:
        /* A type that says nothing of JSON is what simple clients send: take the body for what it
         * looks like, as long as it is not a form. */
        if (form != BODY_NDJSON)
            form = form == BODY_MULTIPART ? form : BODY_JSON;
        if (form == BODY_MULTIPART) {
            error_set(err, 0, "send application/json or application/x-ndjson");
            return REASON_media_type;
        }
        return reason_of(points_telemetry(q->body, form, &limits, out, err));
    case OP_DATA_BATCH:
        return reason_of(form == BODY_CSV ? points_csv(q->body, &limits, out, err)
                                          : points_batch(q->body, &limits, out, err));
    case OP_PUBLISH_FEED:
        return published(m, q->body, &limits, out, err);
    case OP_PUBLISH_GROUP:
        return reason_of(points_group(q->body, m->form == BODY_CSV ? BODY_CSV : BODY_JSON, boundary,
                                      &limits, out, err));
    case OP_GROUP_DATA:
        if (form == BODY_URLENCODED && api_looks_like_json(q->body))
            form = BODY_JSON;
        return reason_of(points_group(q->body, form, boundary, &limits, out, err));
    default:
        if (form == BODY_CSV)
            return one_of_csv(q->body, &limits, out, err);
        if (form == BODY_UNKNOWN || form == BODY_NDJSON ||
            (form == BODY_URLENCODED && api_looks_like_json(q->body)))
            form = BODY_JSON;
        return reason_of(points_datum(q->body, form, boundary, &limits, out, err));
    }
}

enum reason api_point_check(const struct point *p, unsigned index, const struct feed *f,
                            int64_t now_us, struct error *err)
{
    uint32_t flags = f ? f->flags : 0;
    if (p->has_time && p->time_us > now_us + FUTURE_SLACK_US) {
        error_set(err, 0, "data created_at may not be in the future (element %u)", index);
        return REASON_bad_body;
    }
    if (p->has_time && p->time_us < 0) {
        error_set(err, 0, "data created_at may not be before 1970 (element %u)", index);
        return REASON_bad_body;
    }
    if (!(flags & FEED_NO_HISTORY) && p->value.len > VALUE_MAX) {
        error_set(err, 0,
                  "the value of element %u is %zu bytes long; a feed with history takes at most %d",
                  index, p->value.len, VALUE_MAX);
        return REASON_bad_body;
    }
    if (flags & FEED_DISABLED) {
        error_set(err, 0, "feed \"%.*s\" (element %u) is disabled", SLICE_ARG(f->key), index);
        return REASON_forbidden;
    }
    return REASON_ok;
}

enum reason api_point_change(const struct request *q, struct points *out, struct error *err)
{
    const struct points_limits limits = {.points_max = 1,
                                         .value_max = VALUE_BIG_MAX,
                                         .feed_max = FEED_KEY_MAX,
                                         .value_optional = true};
    struct slice boundary = {0};
    enum body_form form = body_form(q->content_type, &boundary);
    if (form == BODY_CSV)
        return one_of_csv(q->body, &limits, out, err);
    if (form == BODY_UNKNOWN || form == BODY_NDJSON ||
        (form == BODY_URLENCODED && api_looks_like_json(q->body)))
        form = BODY_JSON;
    return reason_of(points_datum(q->body, form, boundary, &limits, out, err));
}
