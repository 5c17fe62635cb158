/* SPDX-License-Identifier: Apache-2.0 */
/* Reads of views. A feed's newest datum comes from `latest` in memory; everything else from
 * history, first without touching the disk. */
#include "api/private.h"
#include "base/check.h"
#include "base/clock.h"
#include "codec/text.h"

#define LIST_MAX    1000u
#define STORAGE_MAX (32u << 20)

struct slice api_parameter(struct slice query, const char *name, char *out)
{
    struct slice n, v;
    out[0] = 0;
    while (query_next(&query, &n, &v)) {
        if (!slice_eq(n, slice_str(name)))
            continue;
        struct buf b;
        buf_init(&b, QUERY_VALUE_MAX);
        bool good = percent_decode(v, true, &b) && !b.failed;
        size_t len = good ? b.len : 1;
        memcpy(out, good && len ? b.ptr : "?", len);
        out[len] = 0;
        buf_fini(&b);
        return slice_of(out, len);
    }
    return (struct slice){0};
}

enum api_read api_done(struct exchange *x)
{
    x->reply.reason = REASON_ok;
    x->reply.status = 200;
    return API_READ_DONE;
}

enum api_read api_refuse(struct exchange *x, enum reason reason, const char *text)
{
    x->reply.reason = reason;
    buf_clear(&x->reply.body);
    if (text) {
        buf_put_str(&x->reply.body, "{\"error\":");
        buf_put_json(&x->reply.body, slice_str(text));
        buf_put_str(&x->reply.body, "}");
    }
    return API_READ_DONE;
}

/* history_range or history_get with the right flags. API_READ_DONE: *ret_rc says how it went. */
static enum api_read ask_history(const struct api *a, struct history_query *q, bool may_block,
                                 const struct datum_target *id, int *ret_rc)
{
    q->flags = may_block ? 0 : HISTORY_NO_IO;
    *ret_rc = id ? history_get(a->history, q, *id) : history_range(a->history, q);
    return *ret_rc == HISTORY_INCOMPLETE ? API_READ_IO : API_READ_DONE;
}

/* The newest datum of the feed. *ret_has is false when there is none. */
static enum api_read newest(const struct api *a, const struct feed *f, bool may_block,
                            struct buf *storage, struct latest_value *ret, bool *ret_has,
                            int *ret_rc)
{
    *ret_rc = 0;
    *ret_has = false;
    switch (latest_get(a->latest, f->number, storage, ret)) {
    case LATEST_NONE:
        return API_READ_DONE;
    case LATEST_VALUE:
        *ret_has = true;
        return API_READ_DONE;
    case LATEST_ASK_HISTORY:
        if (!may_block) /* the caller waits for history to be as far as latest is, then asks again
                         */
            return API_READ_IO;
        break;
    }
    struct history_query q = {.feed = f->number,
                              .from_us = INT64_MIN,
                              .to_us = INT64_MAX,
                              .limit = 1,
                              .storage = storage};
    if (ask_history(a, &q, may_block, NULL, ret_rc) == API_READ_IO)
        return API_READ_IO;
    if (*ret_rc == 0 && q.count) {
        *ret_has = true;
        *ret = (struct latest_value){.datum = q.points[0].datum,
                                     .event_us = q.points[0].event_us,
                                     .offset = q.points[0].offset};
    }
    return API_READ_DONE;
}

static enum api_read read_last(const struct api *a, struct exchange *x, const struct feed *f,
                               bool may_block)
{
    struct buf storage;
    buf_init(&storage, STORAGE_MAX);
    struct latest_value v;
    bool has;
    int rc;
    enum api_read r = newest(a, f, may_block, &storage, &v, &has, &rc);
    if (r == API_READ_DONE) {
        if (rc < 0) {
            api_refuse(x, REASON_internal, NULL);
        } else if (!has) {
            api_refuse(x, REASON_not_found, "not found - the feed has no data yet");
        } else {
            api_format_datum(&x->reply.body, a, f, &v.datum, v.event_us, v.offset, NULL);
            api_done(x);
        }
    }
    buf_fini(&storage);
    return r;
}

static enum api_read read_one(const struct api *a, struct exchange *x, const struct feed *f,
                              struct slice id_text, bool may_block)
{
    struct datum_target id;
    uint16_t node;
    if (!datum_id_parse(id_text, &id.event_ms, &node, &id.offset) || node != a->node)
        return api_refuse(x, REASON_not_found, NULL);
    struct buf storage;
    buf_init(&storage, STORAGE_MAX);
    struct history_query q = {.feed = f->number, .limit = 1, .storage = &storage};
    int rc;
    enum api_read r = ask_history(a, &q, may_block, &id, &rc);
    if (r == API_READ_DONE) {
        if (rc < 0)
            api_refuse(x, REASON_internal, NULL);
        else if (!q.count)
            api_refuse(x, REASON_not_found, NULL);
        else {
            api_format_datum(&x->reply.body, a, f, &q.points[0].datum, q.points[0].event_us,
                             q.points[0].offset, NULL);
            api_done(x);
        }
    }
    buf_fini(&storage);
    return r;
}

/* ---- lists and their paging (Adafruit's _pagination; notes of its clients' needs) ---- */

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
    buf_put_str(out, "http://");
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
    buf_put_str(out, "Link: <");
    put_url(out, &x->request, f, username);
    if (x->request.query.len) {
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

/* include=value,created_at: only these members, in the record's order. */
static void put_included(struct buf *out, const struct api *a, const struct history_point *p,
                         struct slice include)
{
    static const char *const known[] = {"id", "value", "created_at", "lat", "lon", "ele"};
    bool first = true;
    buf_put_u8(out, '{');
    for (unsigned i = 0; i < sizeof known / sizeof *known; i++) {
        struct slice rest = include;
        bool wanted = false;
        while (rest.len && !wanted) {
            const char *comma = memchr(rest.ptr, ',', rest.len);
            size_t len = comma ? (size_t)(comma - rest.ptr) : rest.len;
            wanted = slice_eq(slice_trim(slice_of(rest.ptr, len)), slice_str(known[i]));
            rest = slice_from(rest, comma ? len + 1 : len);
        }
        if (!wanted || (i == 5 ? !p->datum.has_ele : i >= 3 && !p->datum.has_place))
            continue;
        buf_printf(out, "%s\"%s\":", first ? "" : ",", known[i]);
        first = false;
        char id[DATUM_ID_LEN + 1];
        switch (i) {
        case 0:
            datum_id_format(id, p->event_us, a->node, p->offset);
            buf_printf(out, "\"%s\"", id);
            break;
        case 1:
            buf_put_json(out, p->datum.value);
            break;
        case 2:
            buf_put_u8(out, '"');
            time_format_s(out, p->event_us);
            buf_put_u8(out, '"');
            break;
        default:
            double_format(out, i == 3 ? p->datum.lat : i == 4 ? p->datum.lon : p->datum.ele);
        }
    }
    buf_put_u8(out, '}');
}

static void put_list(struct exchange *x, const struct api *a, const struct feed *f,
                     const struct list_ask *l)
{
    char text[QUERY_VALUE_MAX + 1];
    struct slice include = api_parameter(x->request.query, "include", text);
    struct buf *out = &x->reply.body;
    buf_put_u8(out, '[');
    for (uint32_t i = 0; i < l->q.count; i++) {
        const struct history_point *p = &l->q.points[i];
        if (i)
            buf_put_u8(out, ',');
        if (include.len)
            put_included(out, a, p, include);
        else
            api_format_datum(out, a, f, &p->datum, p->event_us, p->offset, NULL);
    }
    buf_put_u8(out, ']');
}

/* A feed without history lists its one value. */
static enum api_read only_latest(const struct api *a, struct list_ask *l, const struct feed *f,
                                 struct history_point *one)
{
    struct latest_value v;
    if (latest_get(a->latest, f->number, l->q.storage, &v) == LATEST_VALUE &&
        v.event_us >= l->q.from_us && v.event_us <= l->q.to_us && !l->q.has_before) {
        *one = (struct history_point){.datum = v.datum, .event_us = v.event_us, .offset = v.offset};
        l->q.points = one;
        l->q.count = 1;
    }
    return API_READ_DONE;
}

static enum api_read read_list(const struct api *a, const struct route_match *m, struct exchange *x,
                               const struct feed *f, bool may_block)
{
    struct list_ask l = {.q = {.feed = f->number}};
    const char *why = NULL;
    if (!parse_list(x->request.query, a, &l, &why))
        return api_refuse(x, REASON_bad_request, why);
    struct buf storage;
    buf_init(&storage, STORAGE_MAX);
    l.q.storage = &storage;
    struct history_point one;
    uint64_t total = 0;
    int rc = 0;
    enum api_read r;
    if (f->flags & FEED_NO_HISTORY) {
        r = only_latest(a, &l, f, &one);
        total = l.q.count;
    } else {
        r = ask_history(a, &l.q, may_block, NULL, &rc);
        if (r == API_READ_DONE && rc == 0)
            rc = history_count(a->history, f->number, may_block ? 0 : HISTORY_NO_IO, &total);
        if (rc == HISTORY_INCOMPLETE)
            r = API_READ_IO;
    }
    if (r == API_READ_DONE && rc < 0) {
        api_refuse(x, REASON_internal, NULL);
    } else if (r == API_READ_DONE) {
        put_list(x, a, f, &l);
        put_paging(x, &l, total);
        put_link(x, a, f, &l, m->username);
        api_done(x);
    }
    buf_fini(&storage);
    return r;
}

/* ---- feeds and the caller's latest values ---- */

static enum api_read put_feed(const struct api *a, struct buf *out, const struct account *account,
                              const struct feed *f, bool may_block)
{
    struct buf storage;
    buf_init(&storage, STORAGE_MAX);
    struct latest_value v;
    bool has;
    int rc;
    enum api_read r = newest(a, f, may_block, &storage, &v, &has, &rc);
    if (r == API_READ_DONE)
        api_format_feed(out, a, account, f, has ? &v.datum.value : NULL);
    buf_fini(&storage);
    return r;
}

/* {"feeds":{"key":<datum>,..}}: the newest datum of every feed the credential may see. */
static enum api_read put_latest(const struct api *a, struct buf *out, const struct feed *f,
                                bool may_block, bool *first)
{
    struct buf storage;
    buf_init(&storage, STORAGE_MAX);
    struct latest_value v;
    bool has;
    int rc;
    enum api_read r = newest(a, f, may_block, &storage, &v, &has, &rc);
    if (r == API_READ_DONE && has) {
        if (!*first)
            buf_put_u8(out, ',');
        *first = false;
        buf_put_json(out, f->key);
        buf_put_u8(out, ':');
        api_format_datum(out, a, f, &v.datum, v.event_us, v.offset, NULL);
    }
    buf_fini(&storage);
    return r;
}

static enum api_read read_feeds(const struct api *a, const struct route_match *m,
                                struct exchange *x, const struct account *account,
                                const struct credential *credential, bool may_block)
{
    bool telemetry = m->route->op == OP_TELEMETRY_GET;
    struct buf list;
    buf_init(&list, 1u << 30);
    unsigned count = catalog_feeds(a->catalog, account->number, &list);
    struct feed **feeds = (struct feed **)(void *)list.ptr;
    struct buf *out = &x->reply.body;
    enum api_read r = API_READ_DONE;
    bool first = true;
    buf_clear(out);
    buf_put_str(out, telemetry ? "{\"feeds\":{" : "[");
    for (unsigned i = 0; i < count; i++) {
        if (r == API_READ_DONE && credential_covers(credential, feeds[i]->key)) {
            if (telemetry) {
                r = put_latest(a, out, feeds[i], may_block, &first);
            } else {
                if (!first)
                    buf_put_u8(out, ',');
                first = false;
                r = put_feed(a, out, account, feeds[i], may_block);
            }
        }
        feed_unref(feeds[i]);
    }
    buf_put_str(out, telemetry ? "}}" : "]");
    buf_fini(&list);
    if (r == API_READ_DONE)
        api_done(x);
    else
        buf_clear(out);
    return r;
}

enum api_read api_read(const struct api *a, const struct route_match *m, struct exchange *x,
                       const struct account *account, const struct credential *credential,
                       struct feed *feed, bool may_block)
{
    enum api_read r;
    switch (m->route->op) {
    case OP_DATA_LAST:
        return read_last(a, x, feed, may_block);
    case OP_DATA_GET:
    case OP_DATA_DELETE: /* answers with what it deletes; the pipeline then deletes it */
        return read_one(a, x, feed, m->id, may_block);
    case OP_DATA_LIST:
        return read_list(a, m, x, feed, may_block);
    case OP_DATA_CHART:
        return api_chart(a, x, feed, may_block);
    case OP_FEED_GET:
        r = put_feed(a, &x->reply.body, account, feed, may_block);
        return r == API_READ_DONE ? api_done(x) : r;
    case OP_FEED_LIST:
    case OP_TELEMETRY_GET:
        return read_feeds(a, m, x, account, credential, may_block);
    default:
        CHECK_UNREACHABLE("an operation that reads");
        return API_READ_DONE;
    }
}
