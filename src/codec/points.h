/* SPDX-License-Identifier: Apache-2.0 */
/*
 * codec/points.h - request bodies to data points, in all the forms that are served. Pure: the
 * caller's buffer holds whatever could not be borrowed from the body.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/error.h"

struct point {
    struct slice feed; /* key as sent; empty where the URL names the feed */
    struct slice
        value; /* text: a string's contents, a number or bool as written, else compact JSON */
    bool has_time, has_place, has_ele;
    int64_t time_us;
    double lat, lon, ele;
};

struct points_limits {
    unsigned points_max;
    size_t value_max;
    size_t feed_max;
    bool value_optional; /* for changes: value.ptr is NULL where none is given */
};

struct points {
    struct point *list; /* in a block of `storage` */
    unsigned count;
    struct buf
        *storage; /* the caller's, cleared first; slices may point into it or into the body */
};

/* What a body is written in. */
enum body_form {
    BODY_JSON,
    BODY_NDJSON,
    BODY_URLENCODED,
    BODY_MULTIPART,
    BODY_CSV,
    BODY_TEXT,
    BODY_UNKNOWN
};
/* From the Content-Type value; *ret_boundary is multipart's. An empty type is taken for JSON. */
enum body_form body_form(struct slice content_type, struct slice *ret_boundary);

/* All return 0, or a negative errno: -EINVAL (malformed or not allowed), -E2BIG (over a limit). The
 * sentence names the element ("element 3 (line 4), member \"lat\": ..."). */

/* POST /v1/telemetry: an object of feed -> value, or feed -> {value, created_at, lat, lon, ele}; an
 * array of such objects; or NDJSON. */
int points_telemetry(struct slice body, enum body_form form, const struct points_limits *limits,
                     struct points *out, struct error *err);
/* Adafruit create data: {"value":..}, {"datum":{..}}, a urlencoded or multipart form. Null and
 * unknown members are ignored; JSON without a `value` member is an error (-EINVAL, "data missing
 * required value"). created_at (RFC 3339) or epoch (seconds) give the time. */
int points_datum(struct slice body, enum body_form form, struct slice boundary,
                 const struct points_limits *limits, struct points *out, struct error *err);
/* What is published to a feed's topic as it is: a JSON object with a `value` is as points_datum has
 * it; anything else is the value, which must be UTF-8 without NUL. */
int points_publish(struct slice body, const struct points_limits *limits, struct points *out,
                   struct error *err);
/* Lines of CSV (RFC 4180): value,lat,lon,ele,created_at as far as they go, or in the order of a
 * heading that names `value`. Blank fields are absent. */
int points_csv(struct slice body, const struct points_limits *limits, struct points *out,
               struct error *err);
/* Data of several feeds of a group, each with its feed: {"feeds":[{"key","value",..},..]} or
 * {"feeds":{"key":value,..}}, also in {"group":{..}}, with a created_at and a place (as members, or
 * in "location") for all that have none of their own; the same as a form, feeds[][key]=..; or lines
 * key,value of CSV, where the key "location" gives lat,lon,ele for all. */
int points_group(struct slice body, enum body_form form, struct slice boundary,
                 const struct points_limits *limits, struct points *out, struct error *err);
/* Adafruit batch: {"data":[..]} or a bare array of such. */
int points_batch(struct slice body, const struct points_limits *limits, struct points *out,
                 struct error *err);
