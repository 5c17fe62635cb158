/* SPDX-License-Identifier: Apache-2.0 */
/*
 * codec/json_differential.h - the scanner held against jansson, for the unit test and the fuzz
 * target. Test code only; any thread.
 */
#pragma once

/* Both headers name their types alike; here jansson's get another name. Its macros json_is_x(),
 * which would then see ours, are not used. */
#define JSON_OBJECT JANSSON_OBJECT
#define JSON_ARRAY  JANSSON_ARRAY
#define JSON_STRING JANSSON_STRING
#define JSON_TRUE   JANSSON_TRUE
#define JSON_FALSE  JANSSON_FALSE
#define JSON_NULL   JANSSON_NULL
#include <jansson.h>
#undef JSON_OBJECT
#undef JSON_ARRAY
#undef JSON_STRING
#undef JSON_TRUE
#undef JSON_FALSE
#undef JSON_NULL

#include <ctype.h>
#include <math.h>
#include <stdlib.h>

#include "codec/json.h"

/* True where the two may differ by design (json.c): jansson found an integer beyond 64 bits. */
static inline bool json_exempt(const json_error_t *e)
{
    return json_error_code(e) == json_error_numeric_overflow && strncmp(e->text, "too big", 7) == 0;
}

/* True where jansson drops a NUL byte. */
static inline bool json_nul_dropped(struct slice text)
{
    for (size_t i = 1; i < text.len; i++)
        if (text.ptr[i] == 0 && isalnum((unsigned char)text.ptr[i - 1]))
            return true;
    return false;
}

static inline const char *json_compare_string(struct json v, const char *text, size_t len)
{
    struct buf out;
    buf_init(&out, v.raw.len + 1);
    json_unescape(v, &out);
    bool same = !out.failed && out.len == len && (len == 0 || memcmp(out.ptr, text, len) == 0);
    bool plain = v.escaped || (v.raw.len == len && memcmp(v.raw.ptr, text, len) == 0);
    buf_fini(&out);
    return !same ? "a string differs" : !plain ? "a string is not said to be escaped" : NULL;
}

/* The same members in the same order; jansson keeps of equal keys the first place and the last
 * value, so an object with equal keys is compared by looking its last value up. */
static inline const char *json_compare(struct json v, const json_t *j);

static inline const char *json_compare_members(struct json v, const json_t *j)
{
    struct slice rest = json_members(v);
    struct json key, value;
    size_t seen = 0;
    const char *why = NULL;
    while (!why && json_next_member(&rest, &key, &value)) {
        struct buf name;
        buf_init(&name, key.raw.len + 1);
        json_unescape(key, &name);
        /* Is it the last of its name? Then it is the one that jansson kept. */
        bool last = true;
        struct slice rest2 = rest;
        struct json key2, value2;
        while (last && json_next_member(&rest2, &key2, &value2)) {
            struct buf name2;
            buf_init(&name2, key2.raw.len + 1);
            json_unescape(key2, &name2);
            last = !slice_eq(buf_slice(&name), buf_slice(&name2));
            buf_fini(&name2);
        }
        const json_t *other = json_object_getn(j, name.ptr ? name.ptr : "", name.len);
        if (!other)
            why = "a member is missing";
        else if (last)
            why = json_compare(value, other);
        seen += last;
        buf_fini(&name);
    }
    return why ? why : seen != json_object_size(j) ? "not as many members" : NULL;
}

static inline const char *json_compare(struct json v, const json_t *j)
{
    static const int types[] = {
        [JSON_NULL] = JANSSON_NULL,   [JSON_TRUE] = JANSSON_TRUE,
        [JSON_FALSE] = JANSSON_FALSE, [JSON_STRING] = JANSSON_STRING,
        [JSON_ARRAY] = JANSSON_ARRAY, [JSON_OBJECT] = JANSSON_OBJECT,
        [JSON_NUMBER] = JSON_REAL,
    };
    bool integer = json_typeof(j) == JSON_INTEGER;
    if ((integer ? JSON_REAL : (int)json_typeof(j)) != types[v.type])
        return "a type differs";
    switch (v.type) {
    case JSON_NULL:
        return slice_eq(v.raw, SLICE("null")) ? NULL : "null differs";
    case JSON_TRUE:
        return slice_eq(v.raw, SLICE("true")) ? NULL : "true differs";
    case JSON_FALSE:
        return slice_eq(v.raw, SLICE("false")) ? NULL : "false differs";
    case JSON_NUMBER: {
        double a = json_double(v), b = json_number_value(j);
        bool sign =
            integer && a == 0 ? true : signbit(a) == signbit(b); /* -0 is an integer there */
        return a == b && sign ? NULL : "a number differs";
    }
    case JSON_STRING:
        return json_compare_string(v, json_string_value(j), json_string_length(j));
    case JSON_ARRAY: {
        struct slice rest = json_members(v);
        struct json element;
        size_t i = 0;
        const char *why = NULL;
        while (!why && json_next_element(&rest, &element))
            why = i < json_array_size(j) ? json_compare(element, json_array_get(j, i++))
                                         : "more elements";
        return why ? why : i != json_array_size(j) ? "fewer elements" : NULL;
    }
    default:
        return json_compare_members(v, j);
    }
}

/* NULL: they agree. Else what they disagree on. */
static inline const char *json_differential(struct slice text)
{
    struct json v;
    size_t at = 0;
    const char *why = NULL;
    json_error_t e;
    bool ours = json_parse(text, &v, &at, &why);
    json_t *theirs = json_loadb(text.len ? text.ptr : "", text.len, JSON_DECODE_ANY, &e);
    if (!ours && at > text.len)
        why = "the place of an error is beyond the text";
    else if (ours && theirs)
        why = json_compare(v, theirs);
    else if (ours)
        why = json_exempt(&e) ? NULL : "accepted here, refused there";
    else if (theirs)
        why = strcmp(why, "nested too deeply") == 0 || json_nul_dropped(text)
                  ? NULL
                  : "refused here, accepted there";
    else
        why = NULL;
    json_decref(theirs);
    return why;
}
