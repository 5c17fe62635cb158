/* SPDX-License-Identifier: Apache-2.0 */
#include "codec/topic.h"

#include <endian.h>
#include <stdint.h>
#include <string.h>

bool topic_name_valid(struct slice name)
{
    return name.len > 0 && !memchr(name.ptr, '+', name.len) && !memchr(name.ptr, '#', name.len);
}

bool topic_filter_valid(struct slice filter)
{
    for (size_t i = 0; i < filter.len; i++) {
        char c = filter.ptr[i];
        if (c != '+' && c != '#')
            continue;
        if (i > 0 && filter.ptr[i - 1] != '/')
            return false;
        if (i + 1 < filter.len && (c == '#' || filter.ptr[i + 1] != '/'))
            return false;
    }
    return filter.len > 0;
}

/* Bytes before the first '/'. Eight at a time: levels are short, a call of memchr takes longer. */
static size_t level_length(struct slice s)
{
    const uint64_t ones = 0x0101010101010101ull, slashes = '/' * ones;
    size_t len = 0;
    for (; s.len - len >= 8; len += 8) {
        uint64_t w;
        memcpy(&w, s.ptr + len, sizeof w);
        w = le64toh(w) ^ slashes;
        uint64_t zero = (w - ones) & ~w & 0x80 * ones; /* right up to the first zero byte */
        if (zero)
            return len + (size_t)__builtin_ctzll(zero) / 8;
    }
    while (len < s.len && s.ptr[len] != '/')
        len++;
    return len;
}

struct slice topic_level(struct slice *rest)
{
    size_t len = level_length(*rest);
    struct slice level = slice_of(rest->ptr, len);
    *rest =
        len < rest->len ? slice_of(rest->ptr + len + 1, rest->len - len - 1) : (struct slice){0};
    return level;
}

static bool is_char(struct slice s, char c)
{
    return s.len == 1 && s.ptr[0] == c;
}

bool topic_matches(struct slice filter, struct slice name)
{
    if (name.len && name.ptr[0] == '$' && filter.len &&
        (filter.ptr[0] == '+' || filter.ptr[0] == '#'))
        return false;
    while (filter.ptr) {
        struct slice want = topic_level(&filter);
        if (is_char(want, '#'))
            return true; /* also of the parent level: there `name` has just ended */
        if (!name.ptr)
            return false;
        struct slice level = topic_level(&name);
        if (!is_char(want, '+') && !slice_eq(want, level))
            return false;
    }
    return !name.ptr;
}

enum topic_share topic_share_split(struct slice filter, struct slice *ret_group,
                                   struct slice *ret_filter)
{
    struct slice rest = filter;
    if (!slice_eq(topic_level(&rest), SLICE("$share"))) {
        *ret_filter = filter;
        return TOPIC_PLAIN;
    }
    struct slice group = rest.ptr ? topic_level(&rest) : (struct slice){0};
    if (!topic_name_valid(group) || !topic_filter_valid(rest))
        return TOPIC_SHARE_BAD;
    *ret_group = group;
    *ret_filter = rest;
    return TOPIC_SHARED;
}

/* ---- rules ---- */

/* The first rule, without blanks around it; *rest goes on behind its comma. */
static struct slice next_rule(struct slice *rest)
{
    const char *comma = rest->len ? memchr(rest->ptr, ',', rest->len) : NULL;
    size_t len = comma ? (size_t)(comma - rest->ptr) : rest->len;
    struct slice rule = slice_trim(slice_of(rest->ptr, len));
    *rest = comma ? slice_from(*rest, len + 1) : (struct slice){0};
    return rule;
}

static bool is_one_level(struct slice s)
{
    return topic_name_valid(s) && !memchr(s.ptr, '/', s.len);
}

static bool covers(struct slice rule, struct slice self, struct slice filter)
{
    while (rule.ptr) {
        struct slice wanted = topic_level(&rule);
        if (is_char(wanted, '#'))
            return true;
        if (!filter.ptr)
            return false;
        struct slice level = topic_level(&filter);
        if (is_char(level, '#'))
            return false;
        bool is_self = slice_eq(wanted, SLICE("{name}"));
        if (is_self && !is_one_level(self))
            return false;
        if (!is_char(wanted, '+') && !slice_eq(is_self ? self : wanted, level))
            return false;
    }
    return !filter.ptr;
}

bool topic_rules_cover(struct slice rules, struct slice self, struct slice filter)
{
    bool none = !rules.len;
    while (!none && rules.ptr) {
        if (covers(next_rule(&rules), self, filter))
            return true;
    }
    return none;
}

bool topic_rules_valid(struct slice rules)
{
    struct slice group, rest;
    bool valid = rules.len > 0;
    while (valid && rules.ptr) {
        struct slice rule = next_rule(&rules);
        valid = topic_filter_valid(rule) && topic_share_split(rule, &group, &rest) == TOPIC_PLAIN;
    }
    return valid;
}
