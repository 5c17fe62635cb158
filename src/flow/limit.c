/* SPDX-License-Identifier: Apache-2.0 */
#include "flow/limit.h"

#include <errno.h>

static bool take_number(struct slice *s, uint64_t *ret)
{
    uint64_t v = 0;
    size_t i = 0;
    for (; i < s->len && s->ptr[i] >= '0' && s->ptr[i] <= '9' && i < 12; i++)
        v = v * 10 + (uint64_t)(s->ptr[i] - '0');
    if (i == 0)
        return false;
    *s = slice_from(*s, i);
    *ret = v;
    return true;
}

bool duration_parse(struct slice text, uint64_t *ret_ms)
{
    uint64_t v;
    if (!take_number(&text, &v))
        return false;
    uint64_t unit = slice_eq(text, SLICE("ms"))  ? 1
                    : slice_eq(text, SLICE("s")) ? 1000
                    : slice_eq(text, SLICE("m")) ? 60000
                    : slice_eq(text, SLICE("h")) ? 3600000
                    : slice_eq(text, SLICE("d")) ? 86400000
                                                 : 0;
    if (!unit || v > INT64_MAX / unit)
        return false;
    *ret_ms = v * unit;
    return true;
}

/* The same for what a limit keeps: 49 days at the most. */
static bool parse_ms(struct slice text, uint32_t *ret)
{
    uint64_t ms;
    if (!duration_parse(text, &ms) || ms > UINT32_MAX)
        return false;
    *ret = (uint32_t)ms;
    return true;
}

/* Ordered as they are tried when a number of bytes is written: the largest that divides it. */
static const struct {
    const char *name;
    uint64_t bytes;
} byte_units[] = {
    {"GiB", 1u << 30}, {"GB", 1000000000}, {"MiB", 1u << 20}, {"MB", 1000000},
    {"KiB", 1u << 10}, {"KB", 1000},       {"B", 1},
};
#define BYTE_UNITS (sizeof byte_units / sizeof *byte_units)

/* COUNT, or bytes with a unit. False: no amount. */
static bool take_amount(struct slice *s, uint64_t *ret, uint8_t *kind)
{
    if (!take_number(s, ret))
        return false;
    for (unsigned i = 0; i < BYTE_UNITS; i++) {
        struct slice name = slice_str(byte_units[i].name);
        if (!slice_starts(*s, name))
            continue;
        *s = slice_from(*s, name.len);
        *kind |= LIMIT_BYTES;
        *ret *= byte_units[i].bytes; /* below 10^12 times 2^30 */
        return true;
    }
    return true;
}

/* Takes the word and the blanks behind it. */
static bool take_word(struct slice *s, const char *word)
{
    struct slice w = slice_str(word);
    if (!slice_starts(*s, w) || s->len == w.len || s->ptr[w.len] != ' ')
        return false;
    *s = slice_trim(slice_from(*s, w.len));
    return true;
}

static int parse_window(struct slice item, struct limit_set *l, struct error *err)
{
    struct slice rest = item;
    struct window w = {0};
    uint64_t count;
    if (take_word(&rest, "shadow"))
        w.kind |= LIMIT_SHADOW;
    if (take_word(&rest, "token_bucket"))
        w.kind |= LIMIT_TOKEN;
    else if (take_word(&rest, "leaky_bucket"))
        w.kind |= LIMIT_LEAKY;
    else
        take_word(&rest, "rolling");
    if (!take_amount(&rest, &count, &w.kind) || rest.len < 2 || rest.ptr[0] != '/' ||
        !parse_ms(slice_from(rest, 1), &w.window_ms))
        return error_set(err, -EINVAL,
                         "\"%.*s\" is no limit: write COUNT/LENGTH, such as 60/60s or 1MB/60s, and "
                         "if wished shadow and token_bucket or leaky_bucket before it",
                         SLICE_ARG(item));
    uint64_t most = w.kind & LIMIT_BYTES ? LIMIT_BYTES_MAX : LIMIT_COUNT_MAX;
    if (count < 1 || count > most || w.window_ms < 10)
        return error_set(err, -EINVAL,
                         "\"%.*s\": the count must be 1 to %s, the window at least 10ms",
                         SLICE_ARG(item), w.kind & LIMIT_BYTES ? "4GB" : "1000000000");
    if (l->windows_count == WINDOWS_MAX)
        return error_set(err, -EINVAL, "at most %d windows", WINDOWS_MAX);
    w.count = (uint32_t)count;
    l->windows[l->windows_count++] = w;
    return 0;
}

static int parse_item(struct slice item, struct limit_set *l, struct error *err)
{
    if (slice_eq(item, SLICE("attempts")) || slice_eq(item, SLICE("accepted"))) {
        l->count_accepted = slice_eq(item, SLICE("accepted"));
        return 0;
    }
    if (!slice_starts(item, SLICE("distance=")))
        return parse_window(item, l, err);
    if (parse_ms(slice_from(item, 9), &l->min_distance_ms))
        return 0;
    return error_set(err, -EINVAL, "\"%.*s\": the distance must be a length such as 200ms",
                     SLICE_ARG(item));
}

int limit_set_parse(struct slice text, struct limit_set *ret, struct error *err)
{
    struct limit_set l = {0};
    while (slice_trim(text).len) {
        const char *comma = memchr(text.ptr, ',', text.len);
        size_t len = comma ? (size_t)(comma - text.ptr) : text.len;
        int rc = parse_item(slice_trim(slice_of(text.ptr, len)), &l, err);
        if (rc)
            return rc;
        text = slice_from(text, comma ? len + 1 : len);
    }
    *ret = l;
    return 0;
}

static void format_duration(struct buf *out, uint32_t ms)
{
    static const struct {
        uint32_t ms;
        const char *unit;
    } units[] = {{86400000, "d"}, {3600000, "h"}, {60000, "m"}, {1000, "s"}, {1, "ms"}};
    unsigned i = 0;
    while (ms % units[i].ms)
        i++;
    buf_printf(out, "%u%s", ms / units[i].ms, units[i].unit);
}

void limit_format(struct buf *out, struct window w)
{
    uint64_t unit = 1;
    const char *name = "";
    for (unsigned i = 0; w.kind & LIMIT_BYTES && i < BYTE_UNITS && !name[0]; i++) {
        if (w.count % byte_units[i].bytes == 0) {
            name = byte_units[i].name;
            unit = byte_units[i].bytes;
        }
    }
    buf_printf(out, "%s%s%u%s/", w.kind & LIMIT_SHADOW ? "shadow " : "",
               w.kind & LIMIT_TOKEN   ? "token_bucket "
               : w.kind & LIMIT_LEAKY ? "leaky_bucket "
                                      : "",
               (unsigned)(w.count / unit), name);
    format_duration(out, w.window_ms);
}

void limit_set_format(struct buf *out, const struct limit_set *l)
{
    for (unsigned i = 0; i < l->windows_count; i++) {
        buf_put_str(out, i ? ", " : "");
        limit_format(out, l->windows[i]);
    }
    if (l->windows_count && l->count_accepted)
        buf_put_str(out, ", accepted");
    if (l->min_distance_ms) {
        buf_put_str(out, l->windows_count ? ", distance=" : "distance=");
        format_duration(out, l->min_distance_ms);
    }
}

int limit_set_shown(const struct limit_set *l)
{
    for (unsigned i = 0; i < l->windows_count; i++) {
        if (!(l->windows[i].kind & (LIMIT_BYTES | LIMIT_SHADOW)))
            return (int)i;
    }
    return -1;
}
