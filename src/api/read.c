/* SPDX-License-Identifier: Apache-2.0 */
/* Reads of views: which one answers what, and feeds. */
#include "api/private.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/check.h"
#include "codec/etag.h"
#include "codec/text.h"
#include "view/view.h"

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

enum reason api_number(const struct request *q, const char *name, uint64_t least, uint64_t most,
                       uint64_t fallback, uint64_t *ret, struct error *err)
{
    char text[QUERY_VALUE_MAX + 1];
    struct slice s = api_parameter(q->query, name, text);
    uint64_t v = 0;
    bool good = s.len > 0 && s.len < 10;
    for (size_t i = 0; good && i < s.len; i++) {
        good = s.ptr[i] >= '0' && s.ptr[i] <= '9';
        v = v * 10 + (uint64_t)(s.ptr[i] - '0');
    }
    *ret = s.ptr ? v : fallback;
    if (!s.ptr || (good && v >= least && v <= most))
        return REASON_ok;
    error_set(err, 0, "bad request - %s is a whole number from %llu to %llu", name,
              (unsigned long long)least, (unsigned long long)most);
    return REASON_bad_request;
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

/* ---- what an answer is made of, as one number ---- */

bool api_unchanged(struct exchange *x, uint64_t version)
{
    x->reply.version = version;
    if (!version || !etag_named(x->request.if_none_match, version))
        return x->request.only_unchanged;
    x->reply.reason = REASON_ok;
    x->reply.status = 304;
    return true;
}

struct version {
    uint64_t hash;
    uint64_t newest; /* no view may be behind this when the answer is made */
};

static void version_add(struct version *v, uint64_t n)
{
    v->hash = XXH3_64bits_withSeed(&n, sizeof n, v->hash);
}

static void version_begin(struct version *v, const struct api *a, bool csv)
{
    *v = (struct version){
        .hash = XXH3_64bits_withSeed(SLUICE_VERSION, strlen(SLUICE_VERSION), a->node)};
    version_add(v, a->expiration_ms << 1 | csv);
}

static void version_add_feed(struct version *v, const struct api *a, const struct feed *f)
{
    uint64_t touched = latest_version(a->latest, f->number);
    version_add(v, f->number);
    version_add(v, f->version);
    version_add(v, touched);
    if (v->newest < touched)
        v->newest = touched;
}

/* 0: history may still be behind what was looked at, and an answer made now could be older than its
 * tag says; it then gets one from its bytes. */
static uint64_t version_end(const struct version *v, const struct api *a)
{
    return view_applied(a->history_view) >= v->newest ? v->hash | 1 : 0;
}

uint64_t api_feed_version(const struct api *a, const struct feed *f, bool csv)
{
    struct version v;
    version_begin(&v, a, csv);
    version_add_feed(&v, a, f);
    return version_end(&v, a);
}

/* ---- feeds and the caller's latest values ---- */

static enum api_read put_feed(const struct api *a, struct buf *out, const struct account *account,
                              const struct feed *f, bool may_block)
{
    struct api_datum d = {0};
    int rc;
    buf_init(&d.storage, STORAGE_MAX);
    enum api_read r = api_newest(a, f, may_block, &d, &rc);
    if (r == API_READ_DONE)
        api_format_feed(out, a, account, f, d.has ? &d.point.datum.value : NULL);
    buf_fini(&d.storage);
    return r;
}

static void put_datum_or_null(struct buf *out, const struct api *a, const struct feed *f,
                              const struct api_datum *d)
{
    if (d->has)
        api_format_datum(out, a, f, &d->point.datum, d->point.event_us, d->point.offset, NULL);
    else
        buf_put_str(out, "null");
}

/* The feed with "details" as its last member. */
static enum api_read read_details(const struct api *a, struct exchange *x,
                                  const struct account *account, const struct feed *f,
                                  bool may_block)
{
    struct api_datum first = {0}, last = {0};
    uint64_t count = 0;
    int rc, first_rc = 0, count_rc = 0;
    buf_init(&first.storage, STORAGE_MAX);
    buf_init(&last.storage, STORAGE_MAX);
    struct buf *out = &x->reply.body;
    enum api_read r = api_newest(a, f, may_block, &last, &rc);
    if (r == API_READ_DONE)
        r = api_oldest(a, f, false, may_block, &first, &first_rc);
    if (r == API_READ_DONE && f->flags & FEED_NO_HISTORY)
        count = last.has;
    else if (r == API_READ_DONE)
        count_rc = history_count(a->history, f->number, may_block ? 0 : HISTORY_NO_IO, &count);
    if (count_rc == HISTORY_INCOMPLETE)
        r = API_READ_IO;
    if (r == API_READ_DONE && (rc < 0 || first_rc < 0 || count_rc < 0)) {
        api_refuse(x, REASON_internal, NULL);
    } else if (r == API_READ_DONE) {
        api_format_feed(out, a, account, f, last.has ? &last.point.datum.value : NULL);
        out->len--;
        buf_put_str(out, ",\"details\":{\"shared_with\":[],\"data\":{\"first\":");
        put_datum_or_null(out, a, f, &first);
        buf_put_str(out, ",\"last\":");
        put_datum_or_null(out, a, f, &last);
        buf_put_str(out, ",\"count\":");
        buf_put_dec(out, count);
        buf_put_str(out, "}}}");
        api_done(x);
    }
    buf_fini(&first.storage);
    buf_fini(&last.storage);
    return r;
}

/* {"feeds":{"key":<datum>,..}}: the newest datum of every feed the credential may see. */
static enum api_read put_latest(const struct api *a, struct buf *out, const struct feed *f,
                                bool may_block, bool *first)
{
    struct api_datum d = {0};
    int rc;
    buf_init(&d.storage, STORAGE_MAX);
    enum api_read r = api_newest(a, f, may_block, &d, &rc);
    if (r == API_READ_DONE && d.has) {
        if (!*first)
            buf_put_u8(out, ',');
        *first = false;
        buf_put_json(out, f->key);
        buf_put_u8(out, ':');
        put_datum_or_null(out, a, f, &d);
    }
    buf_fini(&d.storage);
    return r;
}

/* The feeds of an account that the credential may see. */
struct seen {
    struct buf list;
    struct feed **feeds;
    unsigned count;
};

static void seen_init(struct seen *s, const struct api *a, const struct account *account,
                      const struct credential *credential)
{
    buf_init(&s->list, 1u << 30);
    unsigned all = catalog_feeds(a->catalog, account->number, &s->list);
    s->feeds = (struct feed **)(void *)s->list.ptr;
    s->count = 0;
    for (unsigned i = 0; i < all; i++) {
        if (credential_covers(credential, s->feeds[i]->key))
            s->feeds[s->count++] = s->feeds[i];
        else
            feed_unref(s->feeds[i]);
    }
}

static void seen_fini(struct seen *s)
{
    for (unsigned i = 0; i < s->count; i++)
        feed_unref(s->feeds[i]);
    buf_fini(&s->list);
}

/* A group's answer shows its feeds: all that are seen stand for them. */
static bool groups_unchanged(struct exchange *x, const struct api *a, const struct seen *s,
                             struct group **groups, unsigned count)
{
    struct version v;
    version_begin(&v, a, false);
    for (unsigned i = 0; i < count; i++) {
        version_add(&v, groups[i]->number);
        version_add(&v, groups[i]->version);
    }
    for (unsigned i = 0; i < s->count; i++) {
        if (count > 1 || feed_in_group(s->feeds[i], groups[0]))
            version_add_feed(&v, a, s->feeds[i]);
    }
    return api_unchanged(x, version_end(&v, a));
}

static bool seen_unchanged(struct exchange *x, const struct api *a, const struct seen *s)
{
    struct version v;
    version_begin(&v, a, false);
    for (unsigned i = 0; i < s->count; i++)
        version_add_feed(&v, a, s->feeds[i]);
    return api_unchanged(x, version_end(&v, a));
}

/* [feed,..] of those in the group; NULL: of all. */
static enum api_read put_feeds(const struct api *a, struct buf *out, const struct account *account,
                               const struct seen *s, const struct group *group, bool may_block)
{
    enum api_read r = API_READ_DONE;
    bool first = true;
    buf_put_u8(out, '[');
    for (unsigned i = 0; i < s->count && r == API_READ_DONE; i++) {
        if (group && !feed_in_group(s->feeds[i], group))
            continue;
        if (!first)
            buf_put_u8(out, ',');
        first = false;
        r = put_feed(a, out, account, s->feeds[i], may_block);
    }
    buf_put_u8(out, ']');
    return r;
}

static enum api_read put_group(const struct api *a, struct buf *out, const struct account *account,
                               const struct seen *s, const struct group *group, bool may_block)
{
    api_format_group(out, account, group);
    out->len--;
    buf_put_str(out, ",\"feeds\":");
    enum api_read r = put_feeds(a, out, account, s, group, may_block);
    buf_put_u8(out, '}');
    return r;
}

/* One group as it is, or all of them. */
static enum api_read read_groups(const struct api *a, const struct route_match *m,
                                 struct exchange *x, const struct api_caller *c, bool may_block)
{
    struct buf list;
    struct buf *out = &x->reply.body;
    enum api_read r = API_READ_DONE;
    struct seen s;
    bool all = m->route->op == OP_GROUP_LIST;
    buf_init(&list, 1u << 30);
    unsigned count = 1;
    if (all)
        count = catalog_groups(a->catalog, c->account->number, &list);
    else
        buf_put(&list, &c->group, sizeof(struct group *));
    struct group **groups = (struct group **)(void *)list.ptr;
    seen_init(&s, a, c->account, c->credential);
    bool unchanged = m->route->class == ROUTE_READ && groups_unchanged(x, a, &s, groups, count);
    if (all && !unchanged)
        buf_put_u8(out, '[');
    for (unsigned i = 0; i < count; i++) {
        if (!unchanged && r == API_READ_DONE) {
            if (i)
                buf_put_u8(out, ',');
            r = put_group(a, out, c->account, &s, groups[i], may_block);
        }
        if (all)
            group_unref(groups[i]);
    }
    if (all && !unchanged)
        buf_put_u8(out, ']');
    seen_fini(&s);
    buf_fini(&list);
    if (r == API_READ_DONE && !unchanged)
        api_done(x);
    return r;
}

static enum api_read put_all_latest(const struct api *a, struct buf *out, const struct seen *s,
                                    bool may_block)
{
    enum api_read r = API_READ_DONE;
    bool first = true;
    buf_put_str(out, "{\"feeds\":{");
    for (unsigned i = 0; i < s->count && r == API_READ_DONE; i++)
        r = put_latest(a, out, s->feeds[i], may_block, &first);
    buf_put_str(out, "}}");
    return r;
}

enum api_read api_read(const struct api *a, const struct route_match *m, struct exchange *x,
                       const struct api_caller *c, bool may_block, struct api_found *found)
{
    enum api_read r = API_READ_DONE;
    struct seen s;
    switch (m->route->op) {
    case OP_DATA_LIST:
        return api_list(a, m, x, c->feed, may_block);
    case OP_DATA_CHART:
        return api_chart(a, x, c->feed, may_block);
    case OP_TIME_SECONDS:
    case OP_TIME_MILLIS:
    case OP_TIME_ISO:
    case OP_TIME_HOURS:
    case OP_TIME_STRUCT:
    case OP_TIME_STRFTIME:
        return api_time(a, m->route->op, x, may_block);
    case OP_GET_FEED:
    case OP_GET_GROUP:
        return api_message(a, m, x, c, may_block);
    case OP_RECEIPT:
        return api_receipt(a, m, x, c, may_block);
    case OP_FEED_DETAILS:
        return read_details(a, x, c->account, c->feed, may_block);
    case OP_FEED_GET:
    case OP_FEED_CREATE: /* a change is answered with what it made */
    case OP_FEED_UPDATE:
    case OP_FEED_DELETE: /* and a deletion with what it deletes */
        r = put_feed(a, &x->reply.body, c->account, c->feed, may_block);
        break;
    case OP_FEED_LIST:
    case OP_TELEMETRY_GET:
        seen_init(&s, a, c->account, c->credential);
        if (!seen_unchanged(x, a, &s)) {
            r = m->route->op == OP_FEED_LIST
                    ? put_feeds(a, &x->reply.body, c->account, &s, c->group, may_block)
                    : put_all_latest(a, &x->reply.body, &s, may_block);
            if (r == API_READ_DONE)
                api_done(x);
        }
        seen_fini(&s);
        return r;
    case OP_GROUP_LIST:
    case OP_GROUP_GET:
    case OP_GROUP_CREATE:
    case OP_GROUP_UPDATE:
    case OP_GROUP_ADD:
    case OP_GROUP_REMOVE:
    case OP_GROUP_DELETE:
        return read_groups(a, m, x, c, may_block);
    default:
        return api_data(a, m, x, c->feed, may_block, found);
    }
    return r == API_READ_DONE ? api_done(x) : r;
}
