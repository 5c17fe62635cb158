/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TZif files. A file is a header and a block of 32-bit times for old readers and, from version 2
 * on, the same again with 64-bit times and a line with the rule for all times behind the last; then
 * only that second part is read. All counts and indexes are checked once, here; zone_at trusts
 * them.
 */
#include "codec/zone.h"

#include <string.h>

#define HEADER_BYTES 44
#define TYPE_BYTES   6

struct header {
    uint8_t version;
    uint32_t is_ut, is_standard, leaps, times, types, chars;
};

static uint32_t get_u32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static int64_t get_time(const uint8_t *p, unsigned wide)
{
    if (wide == 4)
        return (int32_t)get_u32(p);
    return (int64_t)((uint64_t)get_u32(p) << 32 | get_u32(p + 4));
}

static bool take_header(struct slice *s, struct header *h)
{
    const uint8_t *p = (const uint8_t *)s->ptr;
    if (s->len < HEADER_BYTES || memcmp(p, "TZif", 4) != 0)
        return false;
    h->version = p[4];
    uint32_t *const counts[] = {&h->is_ut, &h->is_standard, &h->leaps,
                                &h->times, &h->types,       &h->chars};
    for (unsigned i = 0; i < sizeof counts / sizeof *counts; i++)
        *counts[i] = get_u32(p + 20 + 4 * (size_t)i);
    *s = slice_from(*s, HEADER_BYTES);
    return true;
}

static uint64_t block_bytes(const struct header *h, unsigned wide)
{
    return (uint64_t)h->times * (wide + 1) + (uint64_t)h->types * TYPE_BYTES + h->chars +
           (uint64_t)h->leaps * (wide + 4) + h->is_standard + h->is_ut;
}

/* ---- the block --------------------------------------------------------------------------------
 */

static const char *check_counts(const struct header *h)
{
    if (!h->types || h->types > 256 || !h->chars)
        return "it must have 1 to 256 kinds of local time, and their abbreviations";
    if ((h->is_ut && h->is_ut != h->types) || (h->is_standard && h->is_standard != h->types))
        return "its counts of indicators do not fit that of the kinds of local time";
    return h->leaps ? "it counts leap seconds" : NULL;
}

static const char *check_times(const struct zone *z)
{
    for (unsigned i = 0; i < z->times_count; i++) {
        if (z->kinds[i] >= z->types_count)
            return "a change leads to a kind of local time that is not there";
        if (i && get_time(z->times + (size_t)i * z->wide, z->wide) <=
                     get_time(z->times + (size_t)(i - 1) * z->wide, z->wide))
            return "its changes are not in the order of time";
    }
    return NULL;
}

/* Length of the abbreviation at `at`; 0: it does not end, or is empty, or no text. */
static size_t abbreviation_len(const struct zone *z, unsigned at)
{
    size_t len = 0;
    while (at + len < z->chars_count && z->chars[at + len]) {
        if (z->chars[at + len] < ' ' || z->chars[at + len] > '~')
            return 0;
        len++;
    }
    return at + len < z->chars_count && len <= ZONE_ABBREVIATION_MAX ? len : 0;
}

static const char *check_types(const struct zone *z)
{
    for (unsigned i = 0; i < z->types_count; i++) {
        const uint8_t *type = z->types + (size_t)i * TYPE_BYTES;
        int32_t offset = (int32_t)get_u32(type);
        if (offset < -ZONE_OFFSET_MAX || offset > ZONE_OFFSET_MAX || type[4] > 1)
            return "a kind of local time is more than 26 hours from UTC, or malformed";
        if (!abbreviation_len(z, type[5]))
            return "an abbreviation is empty, longer than 15 bytes, or no text";
    }
    return NULL;
}

static const char *take_block(struct slice *s, const struct header *h, unsigned wide,
                              struct zone *ret)
{
    const char *why = check_counts(h);
    if (why)
        return why;
    if (block_bytes(h, wide) > s->len)
        return "it ends too early";
    const uint8_t *p = (const uint8_t *)s->ptr;
    *ret = (struct zone){.times_count = h->times,
                         .types_count = h->types,
                         .chars_count = h->chars,
                         .wide = wide,
                         .times = p};
    ret->kinds = ret->times + (size_t)h->times * wide;
    ret->types = ret->kinds + h->times;
    ret->chars = ret->types + (size_t)h->types * TYPE_BYTES;
    *s = slice_from(*s, (size_t)block_bytes(h, wide));
    why = check_times(ret);
    return why ? why : check_types(ret);
}

/* A line feed, the rule or nothing, a line feed. */
static const char *take_rule(struct slice s, struct zone *ret)
{
    const char *end = s.len > 1 && s.ptr[0] == '\n' ? memchr(s.ptr + 1, '\n', s.len - 1) : NULL;
    if (!end)
        return "the line with the rule for later times is missing";
    struct slice text = slice_of(s.ptr + 1, (size_t)(end - s.ptr) - 1);
    ret->has_rule = text.len > 0;
    return text.len ? zone_rule_parse(text, &ret->rule) : NULL;
}

const char *zone_parse(struct slice file, struct zone *ret)
{
    struct header h;
    struct zone z;
    const char *why;
    if (file.len > ZONE_FILE_MAX)
        return "it is too large";
    if (!take_header(&file, &h))
        return "it is no TZif file";
    if (!h.version) {
        why = take_block(&file, &h, 4, &z);
    } else {
        if (h.version < '2' || block_bytes(&h, 4) > file.len)
            return h.version < '2' ? "its version is unknown" : "it ends too early";
        file = slice_from(file, (size_t)block_bytes(&h, 4));
        if (!take_header(&file, &h))
            return "its second header is missing";
        why = take_block(&file, &h, 8, &z);
        if (!why)
            why = take_rule(file, &z);
    }
    if (!why)
        *ret = z;
    return why;
}

/* ---- times ------------------------------------------------------------------------------------
 */

static struct zone_time time_of(const struct zone *z, unsigned kind)
{
    const uint8_t *type = z->types + (size_t)kind * TYPE_BYTES;
    struct zone_time t = {.offset_s = (int32_t)get_u32(type), .is_dst = type[4]};
    memcpy(t.abbreviation, z->chars + type[5], abbreviation_len(z, type[5]));
    return t;
}

/* How many of the changes were at `time_s` or before. */
static unsigned changes_until(const struct zone *z, int64_t time_s)
{
    unsigned low = 0, high = z->times_count;
    while (low < high) {
        unsigned middle = low + (high - low) / 2;
        if (get_time(z->times + (size_t)middle * z->wide, z->wide) <= time_s)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

struct zone_time zone_at(const struct zone *z, int64_t time_s)
{
    unsigned passed = changes_until(z, time_s);
    if (passed == z->times_count && z->has_rule)
        return zone_rule_at(&z->rule, time_s);
    return time_of(z, passed ? z->kinds[passed - 1] : 0);
}

struct zone_time zone_utc(void)
{
    return (struct zone_time){.abbreviation = "UTC"};
}

bool zone_name_is_valid(struct slice name)
{
    bool begins = true;
    for (size_t i = 0; i < name.len; i++) {
        char c = name.ptr[i];
        bool good = (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
                    c == '+' || c == '_' || (!begins && (c == '-' || c == '/'));
        if (!good)
            return false;
        begins = c == '/';
    }
    return name.len && name.len <= ZONE_NAME_MAX && !begins;
}
