/* SPDX-License-Identifier: Apache-2.0 */
#include "catalog/names.h"

#include <jansson.h>

#include "catalog/catalog.h"
#include "flow/limits.h"

#define KEY_PART_MAX 128u

static bool is_lower(char c)
{
    return c >= 'a' && c <= 'z';
}

static bool is_letter(char c)
{
    return is_lower(c) || (c >= 'A' && c <= 'Z');
}

static bool is_alnum(char c)
{
    return is_lower(c) || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

static bool is_visible(char c)
{
    return c > 0x20 && c < 0x7f && c != ':';
}

bool name_is_username(struct slice s)
{
    for (size_t i = 0; i < s.len; i++) {
        if (!is_alnum(s.ptr[i]) && s.ptr[i] != '-' && s.ptr[i] != '_')
            return false;
    }
    return s.len >= 1 && s.len <= USERNAME_MAX;
}

bool name_is_reserved(struct slice s)
{
    /* MQTT's time/seconds, GET /api/v2/user, POST /api/v2/webhooks/... */
    return slice_eq_nocase(s, SLICE("time")) || slice_eq_nocase(s, SLICE("user")) ||
           slice_eq_nocase(s, SLICE("webhooks"));
}

static bool all_visible(struct slice s)
{
    for (size_t i = 0; i < s.len; i++) {
        if (!is_visible(s.ptr[i]))
            return false;
    }
    return s.len > 0;
}

bool name_is_device_id(struct slice s)
{
    return s.len <= DEVICE_ID_MAX && all_visible(s);
}

bool name_is_verifier(struct slice s)
{
    return s.len < VERIFIER_MAX && all_visible(s);
}

bool name_is_text(struct slice s, size_t max)
{
    if (s.len > max || (s.len && memchr(s.ptr, 0, s.len)))
        return false;
    json_t *as_json = json_stringn(s.len ? s.ptr : "", s.len); /* NULL when it is not UTF-8 */
    json_decref(as_json);
    return as_json != NULL;
}

bool name_is_label(struct slice s)
{
    for (size_t i = 0; i < s.len; i++) {
        if ((unsigned char)s.ptr[i] < 0x20 || s.ptr[i] == 0x7f)
            return false;
    }
    return s.len > 0 && name_is_text(s, DEVICE_ID_MAX);
}

bool name_is_feed(struct slice s)
{
    bool spoken = false;
    for (size_t i = 0; i < s.len; i++) {
        if (is_letter(s.ptr[i]))
            spoken = true;
        else if (is_alnum(s.ptr[i]))
            continue;
        else if (s.ptr[i] == 0 || !strchr(" -_.", s.ptr[i]))
            return false;
    }
    return spoken && s.len <= FEED_NAME_MAX;
}

bool name_is_key_part(struct slice s)
{
    for (size_t i = 0; i < s.len; i++) {
        if (!is_lower(s.ptr[i]) && !(s.ptr[i] >= '0' && s.ptr[i] <= '9') && s.ptr[i] != '-')
            return false;
    }
    return s.len >= 1 && s.len <= KEY_PART_MAX;
}

bool name_split_key(struct slice key, struct slice *ret_group, struct slice *ret_feed,
                    struct slice *ret_key)
{
    const char *dot = key.len ? memchr(key.ptr, '.', key.len) : NULL;
    struct slice group = SLICE("default"), feed = key;
    if (dot) {
        group = slice_of(key.ptr, (size_t)(dot - key.ptr));
        feed = slice_from(key, group.len + 1);
    }
    if (!name_is_key_part(group) || !name_is_key_part(feed))
        return false;
    *ret_key = slice_eq(group, SLICE("default")) ? feed : key;
    *ret_group = group;
    *ret_feed = feed;
    return true;
}

static bool is_pattern(struct slice s)
{
    struct slice group, feed, key;
    if (!s.len || s.ptr[s.len - 1] != '*')
        return name_split_key(s, &group, &feed, &key);
    s.len--;
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] != '.' && !name_is_key_part(slice_of(s.ptr + i, 1)))
            return false;
    }
    return s.len < FEED_KEY_MAX;
}

bool name_parse_patterns(struct slice s, struct buf *out)
{
    unsigned n = 0;
    while (slice_trim(s).len) {
        const char *comma = memchr(s.ptr, ',', s.len);
        size_t len = comma ? (size_t)(comma - s.ptr) : s.len;
        struct slice item = slice_trim(slice_of(s.ptr, len));
        if (!is_pattern(item) || n == FEED_PATTERNS_MAX)
            return false;
        if (n++)
            buf_put_u8(out, ',');
        buf_put_slice(out, item);
        s = slice_from(s, comma ? len + 1 : len);
    }
    return !out->failed;
}

bool catalog_key_from_name(struct slice name, struct buf *out)
{
    if (!name_is_feed(name))
        return false;
    size_t before = out->len;
    for (size_t i = 0; i < name.len; i++) {
        char c = name.ptr[i];
        if (c == '.')
            buf_put_str(out, "-dot-");
        else if (c == ' ' || c == '_')
            buf_put_u8(out, '-');
        else
            buf_put_u8(out, (uint8_t)(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c));
    }
    if (out->failed)
        return false;
    if (out->len - before > KEY_PART_MAX) {
        out->len = before;
        return false;
    }
    return true;
}
