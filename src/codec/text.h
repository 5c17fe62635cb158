/* SPDX-License-Identifier: Apache-2.0 */
/*
 * codec/text.h - the small texts of URLs and headers: percent coding, queries, times, base64,
 * gzip. Pure functions; any thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/slice.h"

/* Appends `in` with %XX decoded ('+' becomes a blank when `plus`). False: a bad escape, or NUL. */
bool percent_decode(struct slice in, bool plus, struct buf *out);
void percent_encode(struct slice in, struct buf *out);
/* Walks a query or urlencoded form; name and value are still encoded. False at the end. */
bool query_next(struct slice *rest, struct slice *name, struct slice *value);

/* RFC 3339, with any offset, fraction up to ns (cut to us); also with a blank for 'T' and without
 * an offset (= UTC), as Adafruit's clients send. False: no such time. */
bool time_parse(struct slice text, int64_t *ret_us);
/* "2020-05-12T20:52:50Z". */
void time_format_s(struct buf *out, int64_t us);
/* The text of a day, for many times that mostly are of the same one. Zeroed at first. */
struct time_day {
    int64_t start_us; /* when it begins */
    unsigned len;     /* 0: none yet */
    char text[16];    /* "2020-05-12T" */
};
enum { TIME_S_MAX = 24 };
/* The same at `to`, where there is room for TIME_S_MAX. Returns the end. */
char *time_put_s(struct time_day *day, char *to, int64_t us);
/* "2020-05-12T20:52:50.123456Z". */
void time_format_us(struct buf *out, int64_t us);
/* "2019-05-03T17:35:13.637+0000", as Adafruit's X-Pagination-End. */
void time_format_ms(struct buf *out, int64_t us);

/* Appends the bytes of a base64 text (RFC 4648 section 4), in the one form each has: padded, unused
 * bits zero, nothing else in it. False: it is none; `out` may have got some of it. */
bool base64_decode(struct slice in, struct buf *out);
/* Basic credentials of an Authorization value (RFC 7617): user up to the first colon. Decoded into
 * `out`. False: not Basic, or bad base64. */
bool basic_decode(struct slice authorization, struct buf *out, struct slice *ret_user,
                  struct slice *ret_password);

/* Whether an Accept value prefers text/csv to JSON. */
bool accept_csv(struct slice accept);

enum gunzip_outcome { GUNZIP_OK, GUNZIP_BAD, GUNZIP_TOO_LARGE };
/* Inflates a whole gzip body into `out`, whose maximum bounds it. Trailing bytes are refused. */
enum gunzip_outcome gunzip(struct slice in, struct buf *out);

/* The shortest decimal text that reads back as the same double ("0.1", "-12", "1e+22"). */
void double_format(struct buf *out, double v);
enum { DOUBLE_TEXT_MAX = 32 };
/* The same at `to`, where there is room for DOUBLE_TEXT_MAX. Returns the end. */
char *double_put(char *to, double v);
