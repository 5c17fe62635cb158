/* SPDX-License-Identifier: Apache-2.0 */
/*
 * codec/json.h - a JSON scanner for the hot path (RFC 8259): checks and finds, allocates nothing,
 * keeps numbers as they were written. Accepts exactly what jansson accepts
 * with JSON_DECODE_ANY (so: valid UTF-8 only, no NUL, no lone surrogates), except where the depth
 * or a number's range is concerned (see json.c); a fuzz target holds the two against each other.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/slice.h"

#define JSON_DEPTH_MAX 32

enum json_type {
    JSON_NULL,
    JSON_FALSE,
    JSON_TRUE,
    JSON_NUMBER,
    JSON_STRING,
    JSON_ARRAY,
    JSON_OBJECT
};

struct json {
    enum json_type type;
    struct slice raw; /* the whole value; of a string: what is between the quotes, still escaped */
    bool escaped;     /* a string with a backslash in it: json_unescape before use */
};

/* Checks the whole text: one value with white space around it. True: *ret is it. False: *ret_at is
 * the byte where it goes wrong and *ret_why a constant sentence. */
bool json_parse(struct slice text, struct json *ret, size_t *ret_at, const char **ret_why);
/* Like json_parse for the value at the start of *text; the rest stays there (for NDJSON). */
bool json_take(struct slice *text, struct json *ret, size_t *ret_at, const char **ret_why);

/* Walk the members of an already checked object or array. `rest` begins as json_members(v). Each
 * call fills *key (of an object) and *value; false at the end. */
struct slice json_members(struct json v);
bool json_next_member(struct slice *rest, struct json *key, struct json *value);
bool json_next_element(struct slice *rest, struct json *value);

/* The string's text, unescaped, at the end of `out`. */
void json_unescape(struct json string, struct buf *out);
/* The value without white space between tokens, otherwise byte for byte. */
void json_compact(struct json v, struct buf *out);
/* A number as a double (strtod, whatever the locale). */
double json_double(struct json number);
