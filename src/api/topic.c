/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What MQTT topics mean to who publishes. Those of Adafruit IO are {u}/feeds/{key}, {u}/f/{key},
 * {u}/groups/{key}, {u}/g/{key}, each with /json or /csv behind it; with /get behind
 * all that nothing is stored: it asks for the newest value. Where an account has any
 * topics, all that do not begin with its own name, or with '$', are ordinary ones: its own, no
 * feeds, and not seen by others, whatever they are called (decision 0032).
 */
#include "codec/topic.h"

#include "api/route.h"

static const struct route connect_route = {
    METHOD_CONNECT, "", SURFACE_PUBLIC, false, ROUTE_CONNECT, OP_CONNECT, 0, NULL};
static const struct route session_route = {
    METHOD_SESSION, "", SURFACE_PUBLIC, false, ROUTE_SESSION, OP_SESSION, 0, NULL};
static const struct route retained_route = {
    METHOD_RETAINED, "", SURFACE_PUBLIC, false, ROUTE_RETAINED, OP_RETAINED, 0, NULL};
static const struct route missed_route = {
    METHOD_MISSED, "", SURFACE_PUBLIC, false, ROUTE_MISSED, OP_MISSED, 0, NULL};
static const struct route credit_route = {
    METHOD_CREDIT,     "",  SURFACE_PUBLIC, false, ROUTE_CONSUME, OP_CONSUME_CREDIT,
    ROUTE_CONSUME_MAY, NULL};
static const struct route feed_route = {
    METHOD_PUBLISH, "", SURFACE_PUBLIC, false, ROUTE_WRITE, OP_PUBLISH_FEED, PERM_data_write, NULL};
static const struct route topic_route = {METHOD_PUBLISH,  "",          SURFACE_PUBLIC,
                                         false,           ROUTE_TOPIC, OP_PUBLISH_TOPIC,
                                         PERM_data_write, NULL};
static const struct route group_route = {METHOD_PUBLISH,  "",          SURFACE_PUBLIC,
                                         false,           ROUTE_WRITE, OP_PUBLISH_GROUP,
                                         PERM_data_write, NULL};
static const struct route get_feed_route = {METHOD_PUBLISH, "",          SURFACE_PUBLIC, false,
                                            ROUTE_READ,     OP_GET_FEED, PERM_data_read, NULL};
static const struct route get_group_route = {METHOD_PUBLISH, "",           SURFACE_PUBLIC, false,
                                             ROUTE_READ,     OP_GET_GROUP, PERM_data_read, NULL};

static bool is_form(struct slice level, enum body_form *ret)
{
    bool json = slice_eq(level, SLICE("json"));
    if (!json && !slice_eq(level, SLICE("csv")))
        return false;
    *ret = json ? BODY_JSON : BODY_CSV;
    return true;
}

/* Fills in what a topic of Adafruit's says. False: it is none. */
static bool is_adafruits(struct slice rest, struct route_match *ret)
{
    struct route_match m = {.form = BODY_TEXT, .username = topic_level(&rest)};
    struct slice kind = rest.ptr ? topic_level(&rest) : (struct slice){0};
    struct slice key = rest.ptr ? topic_level(&rest) : (struct slice){0};
    if (slice_eq(kind, SLICE("f")) || slice_eq(kind, SLICE("feeds"))) {
        m.route = &feed_route;
        m.feed = key;
    } else if (slice_eq(kind, SLICE("g")) || slice_eq(kind, SLICE("groups"))) {
        m.route = &group_route;
        m.group = key;
    } else {
        return false;
    }
    struct slice level = rest.ptr ? topic_level(&rest) : (struct slice){0};
    if (level.ptr && is_form(level, &m.form))
        level = rest.ptr ? topic_level(&rest) : (struct slice){0};
    if (level.ptr && slice_eq(level, SLICE("get"))) {
        m.route = m.group.ptr ? &get_group_route : &get_feed_route;
        level = (struct slice){0};
    }
    if (!m.username.len || !key.len || level.ptr || rest.ptr)
        return false;
    *ret = m;
    return true;
}

enum route_found topic_find(const struct request *q, struct route_match *ret)
{
    if (q->method == METHOD_PUBLISH && is_adafruits(q->path, ret))
        return ROUTE_FOUND;
    if (q->method == METHOD_CREDIT) {
        *ret = (struct route_match){.route = &credit_route,
                                    .id = slice_from(q->path, strlen(ROUTE_CONSUME_AT))};
        return ROUTE_FOUND;
    }
    *ret = (struct route_match){.route = q->method == METHOD_SESSION    ? &session_route
                                         : q->method == METHOD_MISSED   ? &missed_route
                                         : q->method == METHOD_RETAINED ? &retained_route
                                         : q->method == METHOD_PUBLISH  ? &topic_route
                                                                        : &connect_route,
                                .form = BODY_TEXT};
    return ROUTE_FOUND;
}

enum reason topic_settle(const struct account *a, struct slice topic, struct route_match *m)
{
    struct slice rest = topic, first = topic_level(&rest);
    bool own = slice_eq(first, a->name), adafruits = m->route != &topic_route;
    if (adafruits && (own || a->topics == TOPICS_ADAFRUIT))
        return own ? REASON_ok : REASON_not_your_topic;
    if (own || a->topics == TOPICS_ADAFRUIT || topic.len > TOPIC_MAX || topic.ptr[0] == '$')
        return REASON_bad_topic;
    *m = (struct route_match){.route = &topic_route, .form = BODY_TEXT};
    return REASON_ok;
}
