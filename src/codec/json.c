/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The scanner is a loop with one bit per open bracket, never recursive. It accepts what
 * jansson 2.14 accepts with JSON_DECODE_ANY (and its default of refusing NUL), but for
 *  1. depth: JSON_DEPTH_MAX here, 2048 there;
 *  2. integers: jansson refuses those beyond 64 bits; here a number is text, so any integer that is
 *     finite as a double passes. 1e999 is refused by both.
 *  3. a NUL byte right after a number or literal: jansson 2.14 drops it, RFC 8259 does not know it,
 * refused here. The walkers (json_next_*) run on checked text only; they are bounded by its end all
 * the same.
 */
#include "codec/json.h"

#include "codec/number.h"
#include "codec/utf8.h"

struct scan {
    const char *start, *p, *end;
    const char *why;
};

static bool fail(struct scan *s, const char *why)
{
    s->why = why;
    return false;
}

static inline bool is_blank(char c)
{
    return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

static inline bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static inline void skip_blanks(struct scan *s)
{
    while (s->p < s->end && is_blank(*s->p))
        s->p++;
}

/* Bytes that a string may hold as they are: neither control, '"', '\\' nor the start of a longer
 * UTF-8 sequence. A table, as this is asked for nearly every byte of a body. */
static const bool plain[256] = {
    [' '] = true,
    ['!'] = true,
    ['#' ... '['] = true,
    [']' ... 0x7f] = true,
};

static inline bool is_plain(char c)
{
    return plain[(uint8_t)c];
}

static int hex_value(char c)
{
    if (is_digit(c))
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* The four digits after "\u" at p; -1: they are none. */
static int32_t hex4(const char *p, const char *end)
{
    int32_t v = 0;
    if (end - p < 4)
        return -1;
    for (int i = 0; i < 4; i++) {
        int digit = hex_value(p[i]);
        if (digit < 0)
            return -1;
        v = v << 4 | digit;
    }
    return v;
}

/* An escape at p (which is the backslash). Moves over it. */
static bool scan_escape(struct scan *s)
{
    if (s->end - s->p < 2)
        return fail(s, "a string without its end");
    char c = s->p[1];
    if (c != 'u') {
        if (!c || !strchr("\"\\/bfnrt", c))
            return fail(s, "an unknown escape");
        s->p += 2;
        return true;
    }
    int32_t unit = hex4(s->p + 2, s->end);
    if (unit < 0)
        return fail(s, "\\u without four hex digits");
    if (unit == 0)
        return fail(s, "\\u0000 is not allowed");
    if (unit >= 0xdc00 && unit <= 0xdfff)
        return fail(s, "half a surrogate pair");
    if (unit >= 0xd800 && unit <= 0xdbff) {
        int32_t low =
            s->end - s->p >= 8 && s->p[6] == '\\' && s->p[7] == 'u' ? hex4(s->p + 8, s->end) : -1;
        if (low < 0xdc00 || low > 0xdfff)
            return fail(s, "half a surrogate pair");
        s->p += 6;
    }
    s->p += 6;
    return true;
}

/* A string at p (which is the quote). */
static bool scan_string(struct scan *s, struct json *ret)
{
    const char *from = ++s->p;
    bool escaped = false;
    for (;;) {
        while (s->p < s->end && is_plain(*s->p))
            s->p++;
        if (s->p == s->end)
            return fail(s, "a string without its end");
        if (*s->p == '"')
            break;
        if (*s->p == '\\') {
            escaped = true;
            if (!scan_escape(s))
                return false;
        } else if ((uint8_t)*s->p < 0x20) {
            return fail(s, "a control byte in a string");
        } else {
            size_t n = utf8_sequence(s->p, s->end);
            if (!n)
                return fail(s, "a string that is not UTF-8");
            s->p += n;
        }
    }
    *ret = (struct json){
        .type = JSON_STRING, .raw = slice_of(from, (size_t)(s->p - from)), .escaped = escaped};
    s->p++;
    return true;
}

static bool scan_digits(struct scan *s)
{
    const char *from = s->p;
    while (s->p < s->end && is_digit(*s->p))
        s->p++;
    return s->p > from;
}

static bool scan_number(struct scan *s, struct json *ret)
{
    const char *from = s->p;
    bool exponent = false;
    if (*s->p == '-')
        s->p++;
    if (s->p < s->end && *s->p == '0') {
        s->p++;
        if (s->p < s->end && is_digit(*s->p))
            return fail(s, "a number with a leading zero");
    } else if (!scan_digits(s)) {
        return fail(s, "no value where one must stand");
    }
    if (s->p < s->end && *s->p == '.') {
        s->p++;
        if (!scan_digits(s))
            return fail(s, "a number without digits after its point");
    }
    if (s->p < s->end && (*s->p | 0x20) == 'e') {
        exponent = true;
        s->p++;
        if (s->p < s->end && (*s->p == '+' || *s->p == '-'))
            s->p++;
        if (!scan_digits(s))
            return fail(s, "a number without digits in its exponent");
    }
    *ret = (struct json){.type = JSON_NUMBER, .raw = slice_of(from, (size_t)(s->p - from))};
    /* Without an exponent it takes 309 digits to leave the range of a double. */
    if ((exponent || ret->raw.len > 308) && !number_finite(ret->raw)) {
        s->p = from;
        return fail(s, "a number out of range");
    }
    return true;
}

static bool scan_literal(struct scan *s, struct json *ret)
{
    static const struct {
        struct slice text;
        enum json_type type;
    } all[] = {
        {{"true", 4}, JSON_TRUE},
        {{"false", 5}, JSON_FALSE},
        {{"null", 4}, JSON_NULL},
    };
    struct slice rest = slice_of(s->p, (size_t)(s->end - s->p));
    for (unsigned i = 0; i < sizeof all / sizeof *all; i++) {
        if (slice_starts(rest, all[i].text)) {
            *ret = (struct json){.type = all[i].type, .raw = slice_of(s->p, all[i].text.len)};
            s->p += all[i].text.len;
            return true;
        }
    }
    return fail(s, "no value where one must stand");
}

static bool scan_scalar(struct scan *s, struct json *ret)
{
    if (s->p == s->end)
        return fail(s, "the text ends where a value must stand");
    if (*s->p == '"')
        return scan_string(s, ret);
    return *s->p == '-' || is_digit(*s->p) ? scan_number(s, ret) : scan_literal(s, ret);
}

/* A key and its colon; p is before it. */
static bool scan_key(struct scan *s)
{
    struct json key;
    skip_blanks(s);
    if (s->p == s->end || *s->p != '"')
        return fail(s, "no key where one must stand");
    if (!scan_string(s, &key))
        return false;
    skip_blanks(s);
    if (s->p == s->end || *s->p != ':')
        return fail(s, "no colon after a key");
    s->p++;
    return true;
}

/* After a value inside brackets: a comma (more follows: true), or the end of one or more levels. */
static bool scan_after(struct scan *s, uint64_t *kinds, unsigned *depth, bool *ret_more)
{
    *ret_more = false;
    while (*depth) {
        bool object = *kinds & 1;
        skip_blanks(s);
        if (s->p < s->end && *s->p == ',') {
            s->p++;
            *ret_more = true;
            return !object || scan_key(s);
        }
        if (s->p == s->end || *s->p != (object ? '}' : ']'))
            return fail(s, object ? "neither , nor } after a member"
                                  : "neither , nor ] after an element");
        s->p++;
        *kinds >>= 1;
        --*depth;
    }
    return true;
}

/* One value at p, after blanks. */
static bool scan_value(struct scan *s, struct json *ret)
{
    uint64_t kinds = 0; /* a bit per open level, 1 = object; the innermost lowest */
    unsigned depth = 0;
    bool more = true;
    struct json scalar;
    skip_blanks(s);
    const char *from = s->p;
    _Static_assert(JSON_DEPTH_MAX <= 64, "a bit per level");
    while (more) {
        skip_blanks(s);
        bool object = s->p < s->end && *s->p == '{';
        if (!object && (s->p == s->end || *s->p != '[')) {
            if (!scan_scalar(s, &scalar))
                return false;
            if (depth == 0) {
                *ret = scalar;
                return true;
            }
        } else {
            if (depth == JSON_DEPTH_MAX)
                return fail(s, "nested too deeply");
            s->p++;
            kinds = kinds << 1 | object;
            depth++;
            skip_blanks(s);
            if (s->p == s->end || *s->p != (object ? '}' : ']')) {
                if (object && !scan_key(s))
                    return false;
                continue;
            }
        }
        if (!scan_after(s, &kinds, &depth, &more))
            return false;
    }
    *ret = (struct json){.type = *from == '{' ? JSON_OBJECT : JSON_ARRAY,
                         .raw = slice_of(from, (size_t)(s->p - from))};
    return true;
}

static struct scan scan_of(struct slice text)
{
    const char *from = text.len ? text.ptr : "";
    return (struct scan){.start = from, .p = from, .end = from + text.len};
}

static bool report(const struct scan *s, size_t *ret_at, const char **ret_why)
{
    *ret_at = (size_t)(s->p - s->start);
    *ret_why = s->why;
    return false;
}

bool json_parse(struct slice text, struct json *ret, size_t *ret_at, const char **ret_why)
{
    struct scan s = scan_of(text);
    struct json v;
    if (!scan_value(&s, &v))
        return report(&s, ret_at, ret_why);
    skip_blanks(&s);
    if (s.p != s.end) {
        s.why = "something stands after the value";
        return report(&s, ret_at, ret_why);
    }
    *ret = v;
    return true;
}

bool json_take(struct slice *text, struct json *ret, size_t *ret_at, const char **ret_why)
{
    struct scan s = scan_of(*text);
    struct json v;
    if (!scan_value(&s, &v))
        return report(&s, ret_at, ret_why);
    *ret = v;
    *text = slice_of(s.p, (size_t)(s.end - s.p));
    return true;
}

/* ---- walking what was checked ---- */

/* The string whose opening quote is at p, up to and with its closing quote. */
static struct json walk_string(struct scan *s)
{
    struct json v = {.type = JSON_STRING};
    const char *from = s->p < s->end ? ++s->p : s->p;
    while (s->p < s->end && *s->p != '"') {
        if (*s->p == '\\') {
            v.escaped = true;
            s->p++;
        }
        s->p += s->p < s->end;
    }
    v.raw = slice_of(from, (size_t)(s->p - from));
    s->p += s->p < s->end;
    return v;
}

static struct json walk_value(struct scan *s)
{
    if (s->p == s->end)
        return (struct json){.raw = slice_of(s->p, 0)};
    const char *from = s->p;
    struct json v = {0};
    switch (*from) {
    case '"':
        return walk_string(s);
    case '{':
    case '[':
        v.type = *from == '{' ? JSON_OBJECT : JSON_ARRAY;
        for (unsigned depth = 0; s->p < s->end;) {
            char c = *s->p;
            if (c == '"') {
                walk_string(s);
                continue;
            }
            s->p++;
            depth += c == '{' || c == '[';
            if ((c == '}' || c == ']') && --depth == 0)
                break;
        }
        break;
    default:
        v.type = *from == 't'   ? JSON_TRUE
                 : *from == 'f' ? JSON_FALSE
                 : *from == 'n' ? JSON_NULL
                                : JSON_NUMBER;
        while (s->p < s->end && !is_blank(*s->p) && *s->p != ',' && *s->p != '}' && *s->p != ']')
            s->p++;
    }
    v.raw = slice_of(from, (size_t)(s->p - from));
    return v;
}

struct slice json_members(struct json v)
{
    if ((v.type != JSON_OBJECT && v.type != JSON_ARRAY) || v.raw.len < 2)
        return slice_of(v.raw.ptr, 0);
    return slice_of(v.raw.ptr + 1, v.raw.len - 2);
}

/* To the next member or element; false at the end. */
static bool walk_next(struct scan *s, struct slice rest)
{
    *s = (struct scan){.p = rest.ptr, .end = rest.ptr};
    if (!rest.len) /* its pointer may be NULL */
        return false;
    s->end += rest.len;
    skip_blanks(s);
    if (s->p < s->end && *s->p == ',') {
        s->p++;
        skip_blanks(s);
    }
    return s->p < s->end;
}

bool json_next_member(struct slice *rest, struct json *key, struct json *value)
{
    struct scan s;
    bool more = walk_next(&s, *rest);
    if (more) {
        *key = walk_string(&s);
        skip_blanks(&s);
        s.p += s.p < s.end; /* the colon */
        skip_blanks(&s);
        *value = walk_value(&s);
    }
    *rest = slice_of(s.p, (size_t)(s.end - s.p));
    return more;
}

bool json_next_element(struct slice *rest, struct json *value)
{
    struct scan s;
    bool more = walk_next(&s, *rest);
    if (more)
        *value = walk_value(&s);
    *rest = slice_of(s.p, (size_t)(s.end - s.p));
    return more;
}

static void put_code_point(struct buf *out, uint32_t c)
{
    char utf8[4];
    buf_put(out, utf8, utf8_put(utf8, c));
}

void json_unescape(struct json string, struct buf *out)
{
    const char *p = string.raw.ptr, *end = p + string.raw.len;
    while (p < end) {
        const char *from = p;
        while (p < end && *p != '\\')
            p++;
        buf_put(out, from, (size_t)(p - from));
        if (end - p < 2)
            break;
        char c = p[1];
        static const char named[] = "bfnrt", means[] = "\b\f\n\r\t";
        const char *at = c ? strchr(named, c) : NULL;
        p += 2;
        if (c != 'u') {
            buf_put_u8(out, (uint8_t)(at ? means[at - named] : c));
            continue;
        }
        int32_t unit = hex4(p, end);
        if (unit < 0)
            break; /* not checked text */
        p += 4;
        int32_t low = unit >= 0xd800 && unit <= 0xdbff && end - p >= 6 ? hex4(p + 2, end) : -1;
        if (low >= 0) {
            put_code_point(out, 0x10000u + ((uint32_t)(unit & 0x3ff) << 10 | (low & 0x3ff)));
            p += 6;
        } else {
            put_code_point(out, (uint32_t)unit);
        }
    }
}

void json_compact(struct json v, struct buf *out)
{
    if (v.type == JSON_STRING) { /* raw is without its quotes */
        buf_put_u8(out, '"');
        buf_put_slice(out, v.raw);
        buf_put_u8(out, '"');
        return;
    }
    struct scan s = {.p = v.raw.ptr, .end = v.raw.ptr + v.raw.len};
    while (s.p < s.end) {
        const char *from = s.p;
        while (s.p < s.end && !is_blank(*s.p)) {
            if (*s.p == '"')
                walk_string(&s);
            else
                s.p++;
        }
        buf_put(out, from, (size_t)(s.p - from));
        skip_blanks(&s);
    }
}

double json_double(struct json number)
{
    return number_value(number.raw);
}
