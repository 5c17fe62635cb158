/* SPDX-License-Identifier: Apache-2.0 */
/* The data of a feed, newest first, and their paging (Adafruit's _pagination; its clients' needs).
 */
#include "api/private.h"
#include "codec/text.h"

#define LIST_MAX    1000u
#define HOST_MAX    300u /* bytes of a Host that is written again: a name and a port, and more */
#define STORAGE_MAX (32u << 20)

struct list_ask {
    struct history_query q;
    struct slice start_time, end_time; /* as sent */
    char limit_text[QUERY_VALUE_MAX + 1], start_text[QUERY_VALUE_MAX + 1],
        end_text[QUERY_VALUE_MAX + 1], before_text[QUERY_VALUE_MAX + 1];
};

static bool parse_list(struct slice query, const struct api *a, struct list_ask *l,
                       const char **why)
{
    struct slice limit = api_parameter(query, "limit", l->limit_text);
    l->start_time = api_parameter(query, "start_time", l->start_text);
    l->end_time = api_parameter(query, "end_time", l->end_text);
    struct slice before = api_parameter(query, "before", l->before_text);
    l->q.from_us = INT64_MIN;
    l->q.to_us = INT64_MAX;
    l->q.limit = LIST_MAX;
    if (limit.len) {
        uint64_t n = 0;
        for (size_t i = 0; i < limit.len; i++) {
            if (limit.ptr[i] < '0' || limit.ptr[i] > '9' || i > 6) {
                *why = "limit must be a number";
                return false;
            }
            n = n * 10 + (uint64_t)(limit.ptr[i] - '0');
        }
        l->q.limit = n < 1 ? 1 : n > LIST_MAX ? LIST_MAX : (uint32_t)n;
    }
    if (l->start_time.len && !time_parse(l->start_time, &l->q.from_us)) {
        *why = "start_time is no time such as 2026-01-31T12:00:00Z";
        return false;
    }
    if (l->end_time.len && !time_parse(l->end_time, &l->q.to_us)) {
        *why = "end_time is no time such as 2026-01-31T12:00:00Z";
        return false;
    }
    int64_t before_ms;
    uint16_t node;
    if (before.len) {
        /* "<id>" or "<id>-<microseconds>": the id holds milliseconds only. */
        struct slice id =
            slice_of(before.ptr, before.len < DATUM_ID_LEN ? before.len : DATUM_ID_LEN);
        struct slice us = slice_from(before, id.len);
        if (!datum_id_parse(id, &before_ms, &node, &l->q.before_offset) || node != a->node) {
            *why = "before is no token that was given out here";
            return false;
        }
        unsigned extra = 0;
        bool sound = us.len == 0 || (us.len == 4 && us.ptr[0] == '-');
        for (size_t i = 1; i < us.len && sound; i++) {
            sound = us.ptr[i] >= '0' && us.ptr[i] <= '9';
            extra = extra * 10 + (unsigned)(us.ptr[i] - '0');
        }
        if (!sound) {
            *why = "before is no token that was given out here";
            return false;
        }
        l->q.has_before = true;
        l->q.before_us = before_ms * 1000 + (int64_t)extra;
    }
    return true;
}

static void put_url(struct buf *out, const struct request *rq, const struct feed *f,
                    struct slice username)
{
    buf_put_str(out, rq->secure ? "https://" : "http://");
    buf_put_slice(out, rq->host.len ? rq->host : SLICE("localhost"));
    buf_put_str(out, "/api/v2/");
    percent_encode(username, out);
    buf_put_str(out, "/feeds/");
    percent_encode(f->key, out);
    buf_put_str(out, "/data");
}

/* Adafruit's malformed shape: <SELF>;rel="next", <NEXT>. Its Python client depends on it. */
static void put_link(struct exchange *x, const struct api *a, const struct feed *f,
                     const struct list_ask *l, struct slice username)
{
    struct buf *out = &x->reply.fields;
    if (x->request.host.len > HOST_MAX)
        return;
    buf_put_str(out, "Link: <");
    put_url(out, &x->request, f, username);
    if (x->request.query.len && x->request.query.len < out->max / 2) { /* nobody needs a long one */
        buf_put_u8(out, '?');
        buf_put_slice(out, x->request.query);
    }
    buf_put_u8(out, '>');
    if (l->q.more && l->q.count) {
        const struct history_point *p = &l->q.points[l->q.count - 1];
        char id[DATUM_ID_LEN + 1];
        datum_id_format(id, p->event_us, a->node, p->offset);
        buf_put_str(out, ";rel=\"next\", <");
        put_url(out, &x->request, f, username);
        buf_printf(out, "?before=%s-%03d&limit=%u", id, (int)(p->event_us % 1000), l->q.limit);
        if (l->start_time.len) {
            buf_put_str(out, "&start_time=");
            percent_encode(l->start_time, out);
        }
        if (l->end_time.len) {
            buf_put_str(out, "&end_time=");
            percent_encode(l->end_time, out);
        }
        char text[QUERY_VALUE_MAX + 1];
        struct slice include = api_parameter(x->request.query, "include", text);
        if (include.len) {
            buf_put_str(out, "&include=");
            percent_encode(include, out);
        }
        buf_put_u8(out, '>');
    }
    buf_put_str(out, "\r\n");
}

static void put_paging(struct exchange *x, const struct list_ask *l, uint64_t total)
{
    struct buf *out = &x->reply.fields;
    buf_printf(out,
               "X-Pagination-Limit: %u\r\nX-Pagination-Count: %u\r\nX-Pagination-Total: %llu\r\n",
               l->q.limit, l->q.count, (unsigned long long)total);
    buf_put_str(out, "X-Pagination-Start: ");
    if (l->q.count)
        time_format_ms(out, l->q.points[l->q.count - 1].event_us);
    buf_put_str(out, "\r\nX-Pagination-End: ");
    if (l->q.count)
        time_format_ms(out, l->q.points[0].event_us);
    buf_put_str(out, "\r\n");
}

/* A feed without history lists its one value. */
static enum api_read only_latest(const struct api *a, struct list_ask *l, const struct feed *f,
                                 bool may_block, struct api_datum *one, int *ret_rc)
{
    enum api_read r = api_newest(a, f, may_block, one, ret_rc);
    if (r == API_READ_DONE && one->has && one->point.event_us >= l->q.from_us &&
        one->point.event_us <= l->q.to_us && !l->q.has_before) {
        l->q.points = &one->point;
        l->q.count = 1;
    }
    return r;
}

static enum api_read find(const struct api *a, struct list_ask *l, const struct feed *f,
                          bool may_block, struct api_datum *one, uint64_t *ret_total, int *ret_rc)
{
    if (f->flags & FEED_NO_HISTORY) {
        enum api_read r = only_latest(a, l, f, may_block, one, ret_rc);
        *ret_total = l->q.count;
        return r;
    }
    l->q.flags = may_block ? 0 : HISTORY_NO_IO;
    l->q.counts = true;
    *ret_rc = history_range(a->history, &l->q);
    *ret_total = l->q.held;
    return *ret_rc == HISTORY_INCOMPLETE ? API_READ_IO : API_READ_DONE;
}

enum api_read api_list(const struct api *a, const struct route_match *m, struct exchange *x,
                       const struct feed *f, bool may_block)
{
    struct list_ask l = {.q = {.feed = f->number}};
    const char *why = NULL;
    unsigned fields;
    if (!parse_list(x->request.query, a, &l, &why) || (why = api_fields(x->request.query, &fields)))
        return api_refuse(x, REASON_bad_request, why);
    if (api_unchanged(x, api_feed_version(a, f, m->csv)))
        return API_READ_DONE;
    struct api_datum one = {0};
    uint64_t total = 0;
    int rc = 0;
    buf_init(&one.storage, STORAGE_MAX);
    l.q.storage = &one.storage;
    enum api_read r = find(a, &l, f, may_block, &one, &total, &rc);
    if (r == API_READ_DONE && rc < 0) {
        api_refuse(x, REASON_internal, NULL);
    } else if (r == API_READ_DONE) {
        api_put_data(x, a, f, l.q.points, l.q.count, fields, m->csv, true);
        put_paging(x, &l, total);
        put_link(x, a, f, &l, m->username);
        api_done(x);
    }
    buf_fini(&one.storage);
    return r;
}
