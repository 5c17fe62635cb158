/* SPDX-License-Identifier: Apache-2.0 */
/*
 * codec/points_build.h - filling a `struct points`, shared by the forms a body may have. Private to
 * the points files. On the caller's stack, one thread.
 *
 * The block for the list and all texts is made once, from the body's length, so that nothing moves
 * while slices point into it: a point takes at least `point_min` bytes of body, an unescaped or
 * compacted text is never longer than what it was made from.
 */
#pragma once

#include "codec/json.h"
#include "codec/points.h"

/* Points of one object up to which comparing all feeds is cheaper than an index. */
#define BUILD_COMPARE_ALL 16u

#define POINT_BODY_MIN 5u /* "":0, */
#define POINT_CSV_MIN  2u /* 1 and the line's end */

struct build {
    const struct points_limits *limits;
    struct points *out;
    struct error *err;
    unsigned points_room;
    unsigned element;  /* from 1; 0: the body is not a list */
    unsigned line;     /* from 1; 0: not lines */
    struct slice feed; /* that is being read, for the sentences */
    uint32_t *slots;   /* to find feeds of one object: number of a point + 1, 0 = free */
    uint32_t slots_mask;
};

/* Clears the storage and makes the room for a body of that length. 0, or -E2BIG, -ENOMEM. */
int build_begin(struct build *b, size_t body_len, size_t point_min,
                const struct points_limits *limits, struct points *out, struct error *err);
/* A new point, all absent. NULL: more than the limit, err says so (-E2BIG). */
struct point *build_point(struct build *b);
/* Sets the sentence: where we are, the member if not NULL, and `what`. Returns `code`. */
int build_fail(const struct build *b, const char *member, int code, const char *what);
/* The body as one JSON value. */
int build_json(struct build *b, struct slice body, struct json *ret);

/* A string's text, borrowed or unescaped into the storage. */
struct slice build_text(struct build *b, struct json string);
/* Any value but null as the text that a point keeps; checks the limit. */
int build_value(struct build *b, struct json v, const char *member, struct slice *ret);

/* The members of a datum. Absent ones, and those that were null, have raw.ptr NULL. */
struct datum_members {
    struct json value, created_at, epoch, lat, lon, ele, datum;
};
/* Finds them in an object; a known one that stands there twice is an error. */
int build_members(struct build *b, struct json object, struct datum_members *ret);
/* The place where that name is kept; NULL: an unknown name. */
struct json *datum_member(struct datum_members *m, struct slice name);

enum {
    BUILD_LENIENT =
        1, /* Adafruit's forms: numbers may be strings, an incomplete place is dropped */
};
/* Value, time and place of `p` from the members; those that are absent stay so. */
int build_datum(struct build *b, struct datum_members *m, unsigned flags, struct point *p);
