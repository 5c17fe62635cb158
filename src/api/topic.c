/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What Adafruit IO's MQTT topics mean to who publishes: {u}/feeds/{key}, {u}/f/{key},
 * {u}/groups/{key}, {u}/g/{key}, each with /json or /csv behind it.
 */
#include "codec/topic.h"

#include "api/route.h"

static const struct route connect_route = {
    METHOD_CONNECT, "", SURFACE_PUBLIC, false, ROUTE_CONNECT, OP_CONNECT, 0, NULL};
static const struct route session_route = {
    METHOD_SESSION, "", SURFACE_PUBLIC, false, ROUTE_SESSION, OP_SESSION, 0, NULL};
static const struct route feed_route = {
    METHOD_PUBLISH, "", SURFACE_PUBLIC, false, ROUTE_WRITE, OP_PUBLISH_FEED, PERM_data_write, NULL};
static const struct route group_route = {METHOD_PUBLISH,  "",          SURFACE_PUBLIC,
                                         false,           ROUTE_WRITE, OP_PUBLISH_GROUP,
                                         PERM_data_write, NULL};

enum route_found topic_find(const struct request *q, struct route_match *ret)
{
    struct route_match m = {.route = &connect_route, .form = BODY_TEXT};
    if (q->method == METHOD_SESSION)
        m.route = &session_route;
    if (q->method != METHOD_PUBLISH) {
        *ret = m;
        return ROUTE_FOUND;
    }
    struct slice rest = q->path;
    m.username = topic_level(&rest);
    struct slice kind = rest.ptr ? topic_level(&rest) : (struct slice){0};
    struct slice key = rest.ptr ? topic_level(&rest) : (struct slice){0};
    if (slice_eq(kind, SLICE("f")) || slice_eq(kind, SLICE("feeds"))) {
        m.route = &feed_route;
        m.feed = key;
    } else if (slice_eq(kind, SLICE("g")) || slice_eq(kind, SLICE("groups"))) {
        m.route = &group_route;
        m.group = key;
    } else {
        return ROUTE_NO_PATH;
    }
    if (rest.ptr) {
        struct slice form = topic_level(&rest);
        bool json = slice_eq(form, SLICE("json"));
        if (!json && !slice_eq(form, SLICE("csv")))
            return ROUTE_NO_PATH;
        m.form = json ? BODY_JSON : BODY_CSV;
    }
    if (!m.username.len || !key.len || rest.ptr)
        return ROUTE_NO_PATH;
    *ret = m;
    return ROUTE_FOUND;
}
