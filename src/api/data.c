/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One datum: the newest, the oldest, that of an id, and those that a reader walks along with
 * data/next. Where such a reader stands, the feed's mark, is kept by the catalog and moved by the
 * pipeline, which is told here where to (struct api_found).
 */
#include <errno.h>

#include "api/private.h"
#include "base/check.h"
#include "base/clock.h"
#include "codec/csv.h"
#include "codec/text.h"

#define STORAGE_MAX (32u << 20)

/* history_range, history_oldest or history_get with the right flags. API_READ_DONE: *ret_rc says
 * how it went. */
typedef int ask_view(struct history *h, struct history_query *q);

static enum api_read ask(const struct api *a, ask_view *view, struct history_query *q,
                         bool may_block, int *ret_rc)
{
    q->flags = may_block ? 0 : HISTORY_NO_IO;
    *ret_rc = view(a->history, q);
    return *ret_rc == HISTORY_INCOMPLETE ? API_READ_IO : API_READ_DONE;
}

static void take_point(const struct history_query *q, struct api_datum *ret)
{
    ret->has = q->count > 0;
    if (ret->has)
        ret->point = q->points[0];
}

enum api_read api_newest(const struct api *a, const struct feed *f, bool may_block,
                         struct api_datum *ret, int *ret_rc)
{
    struct latest_value v;
    *ret_rc = 0;
    ret->has = false;
    switch (latest_get(a->latest, f->number, &ret->storage, &v)) {
    case LATEST_NONE:
        return API_READ_DONE;
    case LATEST_VALUE:
        ret->has = true;
        ret->point =
            (struct history_point){.datum = v.datum, .event_us = v.event_us, .offset = v.offset};
        return API_READ_DONE;
    case LATEST_ASK_HISTORY:
        if (f->flags & FEED_NO_HISTORY)
            return API_READ_DONE; /* the one there was is deleted */
        if (!may_block) /* the caller waits for history to be as far as latest is, then asks again
                         */
            return API_READ_IO;
        break;
    }
    struct history_query q = {.feed = f->number,
                              .from_us = INT64_MIN,
                              .to_us = INT64_MAX,
                              .limit = 1,
                              .storage = &ret->storage};
    enum api_read r = ask(a, history_range, &q, may_block, ret_rc);
    if (r == API_READ_DONE && *ret_rc == 0)
        take_point(&q, ret);
    return r;
}

static bool is_above(const struct history_point *p, int64_t us, uint64_t offset)
{
    return p->event_us > us || (p->event_us == us && p->offset > offset);
}

enum api_read api_oldest(const struct api *a, const struct feed *f, bool after_mark, bool may_block,
                         struct api_datum *ret, int *ret_rc)
{
    if (f->flags & FEED_NO_HISTORY) {
        enum api_read r = api_newest(a, f, may_block, ret, ret_rc);
        if (after_mark && ret->has && !is_above(&ret->point, f->mark_us, f->mark_offset))
            ret->has = false;
        return r;
    }
    struct history_query q = {.feed = f->number,
                              .from_us = INT64_MIN,
                              .to_us = INT64_MAX,
                              .has_after = after_mark,
                              .after_us = f->mark_us,
                              .after_offset = f->mark_offset,
                              .storage = &ret->storage};
    enum api_read r = ask(a, history_oldest, &q, may_block, ret_rc);
    if (r == API_READ_DONE && *ret_rc == 0)
        take_point(&q, ret);
    return r;
}

/* The datum at the mark; if that is deleted, the one before it. */
static enum api_read at_mark(const struct api *a, const struct feed *f, bool may_block,
                             struct api_datum *ret, int *ret_rc)
{
    if (f->flags & FEED_NO_HISTORY) {
        enum api_read r = api_newest(a, f, may_block, ret, ret_rc);
        if (ret->has && is_above(&ret->point, f->mark_us, f->mark_offset))
            ret->has = false;
        return r;
    }
    struct history_query q = {.feed = f->number,
                              .from_us = INT64_MIN,
                              .to_us = f->mark_us,
                              .has_before = true,
                              .before_us = f->mark_us,
                              .before_offset = f->mark_offset + 1,
                              .limit = 1,
                              .storage = &ret->storage};
    enum api_read r = ask(a, history_range, &q, may_block, ret_rc);
    if (r == API_READ_DONE && *ret_rc == 0)
        take_point(&q, ret);
    return r;
}

static enum api_read by_id(const struct api *a, const struct feed *f, struct slice text,
                           bool may_block, struct api_datum *ret, int *ret_rc)
{
    struct datum_target id;
    uint16_t node;
    *ret_rc = 0;
    if (!datum_id_parse(text, &id.event_ms, &node, &id.offset) || node != a->node)
        return API_READ_DONE;
    if (f->flags & FEED_NO_HISTORY) {
        enum api_read r = api_newest(a, f, may_block, ret, ret_rc);
        char own[DATUM_ID_LEN + 1] = "";
        if (ret->has)
            datum_id_format(own, ret->point.event_us, a->node, ret->point.offset);
        char asked[DATUM_ID_LEN + 1];
        datum_id_format(asked, id.event_ms * 1000, a->node, id.offset);
        ret->has = ret->has && memcmp(own, asked, DATUM_ID_LEN) == 0;
        return r;
    }
    struct history_query q = {.feed = f->number, .limit = 1, .storage = &ret->storage};
    q.flags = may_block ? 0 : HISTORY_NO_IO;
    *ret_rc = history_get(a->history, &q, id);
    if (*ret_rc == HISTORY_INCOMPLETE)
        return API_READ_IO;
    if (*ret_rc == 0)
        take_point(&q, ret);
    return API_READ_DONE;
}

static enum api_read find(const struct api *a, const struct route_match *m, const struct feed *f,
                          bool may_block, struct api_datum *ret, int *ret_rc)
{
    *ret_rc = 0;
    switch (m->route->op) {
    case OP_DATA_LAST:
    case OP_DATA_RETAIN:
        return api_newest(a, f, may_block, ret, ret_rc);
    case OP_DATA_FIRST:
        return api_oldest(a, f, false, may_block, ret, ret_rc);
    case OP_DATA_NEXT:
        return api_oldest(a, f, f->has_mark, may_block, ret, ret_rc);
    case OP_DATA_PREVIOUS:
        return f->has_mark ? at_mark(a, f, may_block, ret, ret_rc) : API_READ_DONE;
    default:
        return by_id(a, f, m->id, may_block, ret, ret_rc);
    }
}

static const char *why_none(enum route_op op, const struct feed *f)
{
    switch (op) {
    case OP_DATA_NEXT:
        return f->has_mark ? "not found - the feed has no data that were not read yet"
                           : "not found - the feed has no data yet";
    case OP_DATA_PREVIOUS:
        return f->has_mark ? "not found - what was read last is deleted, and all before it"
                           : "not found - nothing of the feed was read by data/next yet";
    case OP_DATA_LAST:
    case OP_DATA_FIRST:
        return "not found - the feed has no data yet";
    default:
        return NULL;
    }
}

/* ---- changing one ---- */

/* What the body says, on top of what is there. */
static enum reason merge(const struct request *q, const struct feed *f,
                         const struct history_point *was, struct points *points, struct datum *ret,
                         struct error *err)
{
    enum reason reason = api_point_change(q, points, err);
    if (reason != REASON_ok)
        return reason;
    const struct point *p = &points->list[0];
    if (p->has_time && p->time_us / US_PER_S != was->event_us / US_PER_S) {
        error_set(err, 0, "created_at of a stored datum cannot be changed: it is part of its id");
        return REASON_bad_body;
    }
    *ret = was->datum;
    if (p->value.ptr)
        ret->value = p->value;
    if (p->has_place) {
        ret->has_place = true;
        ret->has_ele = p->has_ele;
        ret->lat = p->lat;
        ret->lon = p->lon;
        ret->ele = p->ele;
    }
    struct point now = {.value = ret->value};
    return api_point_check(&now, 0, f, was->event_us, err);
}

static void change(const struct api *a, struct exchange *x, const struct feed *f,
                   const struct history_point *was, struct api_found *found)
{
    struct buf text;
    struct points points = {.storage = &text};
    struct datum now;
    struct error err = {""};
    buf_init(&text, STORAGE_MAX);
    enum reason reason = merge(&x->request, f, was, &points, &now, &err);
    if (reason == REASON_ok) {
        datum_target_encode(&found->change,
                            (struct datum_target){was->event_us / 1000, was->offset});
        datum_encode(&found->change, &now);
        if (found->change.failed)
            reason = REASON_internal;
    }
    if (reason == REASON_ok) {
        api_format_datum(&x->reply.body, a, f, &now, was->event_us, was->offset, NULL);
        api_done(x);
    } else {
        api_refuse(x, reason, err.text[0] ? err.text : NULL);
    }
    buf_fini(&text);
}

/* ---- answers ---- */

/* Adafruit's Arduino library copies it into a buffer of its own: value,lat,lon,ele and no more. */
static void put_retained(struct exchange *x, const struct api_datum *d)
{
    struct buf *out = &x->reply.body;
    const struct datum *v = &d->point.datum;
    x->reply.content_type = API_CSV;
    if (d->has) {
        csv_put(out, v->value);
        buf_put_u8(out, ',');
        if (v->has_place)
            double_format(out, v->lat);
        buf_put_u8(out, ',');
        if (v->has_place)
            double_format(out, v->lon);
        buf_put_u8(out, ',');
        if (v->has_ele)
            double_format(out, v->ele);
    }
    api_done(x);
}

/* The mark is moved by a GET, never by a HEAD. */
static void move_mark(const struct feed *f, enum route_op op, const struct exchange *x,
                      const struct history_point *p, struct api_found *found)
{
    bool there = f->has_mark && f->mark_us == p->event_us && f->mark_offset == p->offset;
    bool reader = op == OP_DATA_NEXT || op == OP_DATA_FIRST || (op == OP_DATA_LAST && f->has_mark);
    found->moves = reader && !there && x->request.method == METHOD_GET;
    found->mark_us = p->event_us;
    found->mark_offset = p->offset;
}

enum api_read api_data(const struct api *a, const struct route_match *m, struct exchange *x,
                       const struct feed *f, bool may_block, struct api_found *found)
{
    enum route_op op = m->route->op;
    unsigned fields;
    const char *why = api_fields(x->request.query, &fields);
    if (why)
        return api_refuse(x, REASON_bad_request, why);
    struct api_datum d = {0};
    int rc;
    buf_init(&d.storage, STORAGE_MAX);
    enum api_read r = find(a, m, f, may_block, &d, &rc);
    x->reply.no_store = op == OP_DATA_NEXT || op == OP_DATA_FIRST;
    if (r == API_READ_DONE && rc < 0) {
        api_refuse(x, REASON_internal, NULL);
    } else if (r == API_READ_DONE && op == OP_DATA_RETAIN) {
        put_retained(x, &d);
    } else if (r == API_READ_DONE && !d.has) {
        api_refuse(x, REASON_not_found, why_none(op, f));
    } else if (r == API_READ_DONE && op == OP_DATA_UPDATE) {
        change(a, x, f, &d.point, found);
    } else if (r == API_READ_DONE) {
        api_put_data(x, a, f, &d.point, 1, fields, m->csv, false);
        if (found)
            move_mark(f, op, x, &d.point, found);
        api_done(x);
    }
    buf_fini(&d.storage);
    return r;
}
