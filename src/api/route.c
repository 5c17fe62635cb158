/* SPDX-License-Identifier: Apache-2.0 */
#include "api/route.h"

/*
 * A row: method, path, surface, everywhere, class, operation, permission, and DOC: what GET
 * /openapi.json says of it (struct route_doc), whose schemas stand in api/openapi.json. A new row
 * needs all of it and a call in test/test_openapi.py; tests fail until it has them.
 */
#define DOC(...)                                                                                   \
    &(const struct route_doc)                                                                      \
    {                                                                                              \
        __VA_ARGS__                                                                                \
    }
#define DATA "/api/v2/{u}/feeds/{k}/data"

static const struct route routes[] = {
    /* The first is what devices do all day. */
    {METHOD_POST, "/v1/telemetry", SURFACE_PUBLIC, false, ROUTE_WRITE, OP_TELEMETRY_POST,
     PERM_data_write,
     DOC(.id = "telemetry_send", .tag = "telemetry", .summary = "Send values of one or more feeds",
         .query = "ack", .body = "Telemetry application/x-ndjson", .answer = "202 Receipt")},
    {METHOD_GET, "/v1/telemetry", SURFACE_PUBLIC, false, ROUTE_READ, OP_TELEMETRY_GET,
     PERM_data_read,
     DOC(.id = "telemetry_latest", .tag = "telemetry",
         .summary = "The newest datum of every feed the credential may see",
         .answer = "200 LatestData")},
    {METHOD_POST, DATA, SURFACE_PUBLIC, false, ROUTE_WRITE, OP_DATA_CREATE, PERM_data_write,
     DOC(.id = "data_create", .tag = "data", .summary = "Send a datum", .query = "ack",
         .body = "NewDatum application/x-www-form-urlencoded multipart/form-data",
         .answer = "200 Datum")},
    {METHOD_GET, DATA "/last", SURFACE_PUBLIC, false, ROUTE_READ, OP_DATA_LAST, PERM_data_read,
     DOC(.id = "data_last", .tag = "data", .summary = "The newest datum", .answer = "200 Datum")},
    {METHOD_POST, DATA "/batch", SURFACE_PUBLIC, false, ROUTE_WRITE, OP_DATA_BATCH, PERM_data_write,
     DOC(.id = "data_create_many", .tag = "data", .summary = "Send up to 1000 data, all or none",
         .query = "ack", .body = "NewData", .answer = "200 [Datum]")},
    {METHOD_GET, DATA, SURFACE_PUBLIC, false, ROUTE_READ, OP_DATA_LIST, PERM_data_read,
     DOC(.id = "data_list", .tag = "data", .summary = "Data of a time, newest first",
         .query = "limit start_time end_time before include", .answer = "200 [PartOfDatum]")},
    {METHOD_GET, DATA "/chart", SURFACE_PUBLIC, false, ROUTE_READ, OP_DATA_CHART, PERM_data_read,
     DOC(.id = "data_chart", .tag = "data", .summary = "Slices of time, each as one number",
         .query = "start_time end_time hours resolution field raw", .answer = "200 Chart")},
    {METHOD_GET, DATA "/{id}", SURFACE_PUBLIC, false, ROUTE_READ, OP_DATA_GET, PERM_data_read,
     DOC(.id = "data_get", .tag = "data", .summary = "One datum", .answer = "200 Datum")},
    {METHOD_DELETE, DATA "/{id}", SURFACE_PUBLIC, false, ROUTE_READ, OP_DATA_DELETE,
     PERM_data_delete,
     DOC(.id = "data_delete", .tag = "data", .summary = "Delete a datum; answers with what it was",
         .answer = "200 Datum")},
    {METHOD_GET, "/api/v2/{u}/feeds", SURFACE_PUBLIC, false, ROUTE_READ, OP_FEED_LIST,
     PERM_feed_read,
     DOC(.id = "feed_list", .tag = "feeds", .summary = "The feeds the credential may see",
         .answer = "200 [Feed]")},
    {METHOD_POST, "/api/v2/{u}/feeds", SURFACE_PUBLIC, false, ROUTE_CHANGE, OP_FEED_CREATE,
     PERM_feed_write,
     DOC(.id = "feed_create", .tag = "feeds", .summary = "Make a feed", .query = "group_key",
         .body = "NewFeed application/x-www-form-urlencoded", .answer = "201 Feed")},
    {METHOD_GET, "/api/v2/{u}/feeds/{k}", SURFACE_PUBLIC, false, ROUTE_READ, OP_FEED_GET,
     PERM_feed_read,
     DOC(.id = "feed_get", .tag = "feeds", .summary = "One feed", .answer = "200 Feed")},
    {METHOD_DELETE, "/api/v2/{u}/feeds/{k}", SURFACE_PUBLIC, false, ROUTE_CHANGE, OP_FEED_DELETE,
     PERM_feed_delete,
     DOC(.id = "feed_delete", .tag = "feeds", .summary = "Delete a feed with all its data",
         .answer = "200 Feed")},
    {METHOD_GET, "/api/v2/user", SURFACE_PUBLIC, false, ROUTE_SELF, OP_USER, PERM_account_read,
     DOC(.id = "user_get", .tag = "account", .summary = "Whose credential this is",
         .answer = "200 User")},
    {METHOD_GET, "/api/v2/{u}/throttle", SURFACE_PUBLIC, false, ROUTE_SELF, OP_THROTTLE,
     PERM_account_read,
     DOC(.id = "throttle_get", .tag = "account", .summary = "The account's limit and its use of it",
         .answer = "200 Throttle")},
    {METHOD_GET, "/openapi.json", SURFACE_PUBLIC, true, ROUTE_PLAIN, OP_OPENAPI, 0,
     DOC(.id = "openapi_get", .tag = "server", .summary = "This document",
         .answer = "200 OpenApi")},
    {METHOD_GET, "/healthz", SURFACE_PUBLIC, true, ROUTE_PLAIN, OP_HEALTHZ, 0,
     DOC(.id = "health_get", .tag = "server", .summary = "Whether the process answers",
         .answer = "200 Health")},
    {METHOD_GET, "/readyz", SURFACE_PUBLIC, true, ROUTE_PLAIN, OP_READYZ, 0,
     DOC(.id = "ready_get", .tag = "server",
         .summary = "Whether it takes messages and has read all", .answer = "200 Health")},
    {METHOD_GET, "/metrics", SURFACE_OPERATOR, false, ROUTE_PLAIN, OP_METRICS, 0,
     DOC(.id = "metrics_get", .tag = "server", .summary = "Metrics in Prometheus' text format",
         .answer = "200 text/plain")},
    {METHOD_GET, "/v1/status", SURFACE_OPERATOR, false, ROUTE_PLAIN, OP_STATUS, 0,
     DOC(.id = "status_get", .tag = "server", .summary = "How all stages are, for people",
         .answer = "200 Status")},
    {METHOD_GET, "/v1/admin/*", SURFACE_PUBLIC, true, ROUTE_COMMAND, OP_ADMIN, PERM_admin_read,
     NULL},
    {METHOD_POST, "/v1/admin/*", SURFACE_PUBLIC, true, ROUTE_COMMAND, OP_ADMIN, PERM_admin_write,
     NULL},
    {METHOD_POST, "/v1/admin/*", SURFACE_ADMIN, false, ROUTE_ADMIN, OP_ADMIN, 0, NULL},
};

#define ROUTES (sizeof routes / sizeof *routes)

const struct route *route_at(unsigned index)
{
    return index < ROUTES ? &routes[index] : NULL;
}

/* Up to the next '/'; *rest goes on behind it. */
static struct slice segment(struct slice *rest)
{
    const char *slash = rest->len ? memchr(rest->ptr, '/', rest->len) : NULL;
    size_t len = slash ? (size_t)(slash - rest->ptr) : rest->len;
    struct slice s = slice_of(rest->ptr, len);
    *rest = slice_from(*rest, slash ? len + 1 : len);
    return s;
}

static bool path_matches(const char *pattern, struct slice path, struct route_match *m)
{
    struct slice want = slice_str(pattern);
    while (want.len) {
        struct slice w = segment(&want);
        if (slice_eq(w, SLICE("*"))) {
            m->rest = path;
            return true;
        }
        bool had = path.len > 0;
        struct slice p = segment(&path);
        if (slice_eq(w, SLICE("{u}")))
            m->username = p;
        else if (slice_eq(w, SLICE("{k}")))
            m->feed = p;
        else if (slice_eq(w, SLICE("{id}")))
            m->id = p;
        else if (!slice_eq(w, p))
            return false;
        if (!had && w.len)
            return false;
        if (w.len && !p.len)
            return false;
    }
    return path.len == 0;
}

static bool surface_matches(const struct route *r, enum surface s)
{
    return r->surface == s || (r->everywhere && s != SURFACE_ADMIN);
}

static const char *method_name(enum method m)
{
    static const char *const names[] = {"GET",   "HEAD",   "POST",    "PUT",
                                        "PATCH", "DELETE", "OPTIONS", ""};
    return names[m];
}

enum route_found route_find(const struct request *q, struct route_match *ret,
                            struct buf *ret_methods)
{
    struct slice path = q->path;
    enum method method = q->method == METHOD_HEAD ? METHOD_GET : q->method;
    if (slice_starts(path, SLICE("/api/")) && path.len > 5 &&
        slice_eq(slice_from(path, path.len - 5), SLICE(".json")))
        path.len -= 5;
    bool path_known = false;
    for (unsigned i = 0; i < ROUTES; i++) {
        const struct route *r = &routes[i];
        struct route_match m = {.route = r};
        if (!surface_matches(r, q->surface) || !path_matches(r->path, path, &m))
            continue;
        if (r->method == method) {
            buf_clear(ret_methods);
            *ret = m;
            return ROUTE_FOUND;
        }
        buf_put_str(ret_methods, path_known ? ", " : "Allow: ");
        buf_put_str(ret_methods, method_name(r->method));
        path_known = true;
    }
    if (path_known)
        buf_put_str(ret_methods, "\r\n");
    return path_known ? ROUTE_NO_METHOD : ROUTE_NO_PATH;
}
