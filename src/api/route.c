/* SPDX-License-Identifier: Apache-2.0 */
#include "api/route.h"

static const struct route routes[] = {
    /* The first is what devices do all day. */
    {METHOD_POST, "/v1/telemetry", SURFACE_PUBLIC, false, ROUTE_WRITE, OP_TELEMETRY_POST,
     PERM_data_write},
    {METHOD_GET, "/v1/telemetry", SURFACE_PUBLIC, false, ROUTE_READ, OP_TELEMETRY_GET,
     PERM_data_read},
    {METHOD_POST, "/api/v2/{u}/feeds/{k}/data", SURFACE_PUBLIC, false, ROUTE_WRITE, OP_DATA_CREATE,
     PERM_data_write},
    {METHOD_GET, "/api/v2/{u}/feeds/{k}/data/last", SURFACE_PUBLIC, false, ROUTE_READ, OP_DATA_LAST,
     PERM_data_read},
    {METHOD_POST, "/api/v2/{u}/feeds/{k}/data/batch", SURFACE_PUBLIC, false, ROUTE_WRITE,
     OP_DATA_BATCH, PERM_data_write},
    {METHOD_GET, "/api/v2/{u}/feeds/{k}/data", SURFACE_PUBLIC, false, ROUTE_READ, OP_DATA_LIST,
     PERM_data_read},
    {METHOD_GET, "/api/v2/{u}/feeds/{k}/data/{id}", SURFACE_PUBLIC, false, ROUTE_READ, OP_DATA_GET,
     PERM_data_read},
    {METHOD_DELETE, "/api/v2/{u}/feeds/{k}/data/{id}", SURFACE_PUBLIC, false, ROUTE_READ,
     OP_DATA_DELETE, PERM_data_delete},
    {METHOD_GET, "/api/v2/{u}/feeds", SURFACE_PUBLIC, false, ROUTE_READ, OP_FEED_LIST,
     PERM_feed_read},
    {METHOD_POST, "/api/v2/{u}/feeds", SURFACE_PUBLIC, false, ROUTE_CHANGE, OP_FEED_CREATE,
     PERM_feed_write},
    {METHOD_GET, "/api/v2/{u}/feeds/{k}", SURFACE_PUBLIC, false, ROUTE_READ, OP_FEED_GET,
     PERM_feed_read},
    {METHOD_DELETE, "/api/v2/{u}/feeds/{k}", SURFACE_PUBLIC, false, ROUTE_CHANGE, OP_FEED_DELETE,
     PERM_feed_delete},
    {METHOD_GET, "/api/v2/user", SURFACE_PUBLIC, false, ROUTE_SELF, OP_USER, PERM_account_read},
    {METHOD_GET, "/api/v2/{u}/throttle", SURFACE_PUBLIC, false, ROUTE_SELF, OP_THROTTLE,
     PERM_account_read},
    {METHOD_GET, "/healthz", SURFACE_PUBLIC, true, ROUTE_PLAIN, OP_HEALTHZ, 0},
    {METHOD_GET, "/readyz", SURFACE_PUBLIC, true, ROUTE_PLAIN, OP_READYZ, 0},
    {METHOD_GET, "/metrics", SURFACE_OPERATOR, false, ROUTE_PLAIN, OP_METRICS, 0},
    {METHOD_GET, "/v1/status", SURFACE_OPERATOR, false, ROUTE_PLAIN, OP_STATUS, 0},
    {METHOD_POST, "/v1/admin/*", SURFACE_ADMIN, false, ROUTE_ADMIN, OP_ADMIN, 0},
};

#define ROUTES (sizeof routes / sizeof *routes)

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
