/* SPDX-License-Identifier: Apache-2.0 */
/*
 * base/slice.h - a borrowed run of bytes: pointer and length, never NUL-terminated by contract.
 * Whoever hands one out says how long it stays valid. Any thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <strings.h>

struct slice {
    const char *ptr;
    size_t len;
};

#define SLICE(literal) ((struct slice){.ptr = (literal), .len = sizeof(literal) - 1})
/* For printf's "%.*s". */
#define SLICE_ARG(s) (int)(s).len, (s).ptr ? (s).ptr : ""

static inline struct slice slice_of(const void *ptr, size_t len)
{
    return (struct slice){.ptr = (const char *)ptr, .len = len};
}

static inline struct slice slice_str(const char *text)
{
    return text ? slice_of(text, strlen(text)) : (struct slice){0};
}

static inline bool slice_eq(struct slice a, struct slice b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

/* ASCII case folding only, as HTTP field names want it (RFC 9110 section 5.1). */
static inline bool slice_eq_nocase(struct slice a, struct slice b)
{
    return a.len == b.len && (a.len == 0 || strncasecmp(a.ptr, b.ptr, a.len) == 0);
}

static inline bool slice_starts(struct slice s, struct slice prefix)
{
    return s.len >= prefix.len && (prefix.len == 0 || memcmp(s.ptr, prefix.ptr, prefix.len) == 0);
}

static inline struct slice slice_from(struct slice s, size_t at)
{
    if (!s.ptr) /* NULL + 0 is undefined in C */
        return s;
    return at >= s.len ? (struct slice){.ptr = s.ptr + s.len, .len = 0}
                       : (struct slice){.ptr = s.ptr + at, .len = s.len - at};
}

/* Without blanks and tabs at both ends. */
static inline struct slice slice_trim(struct slice s)
{
    while (s.len && (s.ptr[0] == ' ' || s.ptr[0] == '\t'))
        s.ptr++, s.len--;
    while (s.len && (s.ptr[s.len - 1] == ' ' || s.ptr[s.len - 1] == '\t'))
        s.len--;
    return s;
}
