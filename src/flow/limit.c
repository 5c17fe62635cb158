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

bool duration_parse(struct slice text, uint32_t *ret_ms)
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
    if (!unit || v > UINT32_MAX / unit)
        return false;
    *ret_ms = (uint32_t)(v * unit);
    return true;
}

static int parse_item(struct slice item, struct limit_set *l, struct error *err)
{
    if (slice_eq(item, SLICE("attempts")) || slice_eq(item, SLICE("accepted"))) {
        l->count_accepted = slice_eq(item, SLICE("accepted"));
        return 0;
    }
    if (slice_starts(item, SLICE("distance="))) {
        if (duration_parse(slice_from(item, 9), &l->min_distance_ms))
            return 0;
        return error_set(err, -EINVAL, "\"%.*s\": the distance must be a length such as 200ms",
                         SLICE_ARG(item));
    }
    struct slice rest = item;
    uint64_t count;
    uint32_t window_ms;
    if (!take_number(&rest, &count) || rest.len < 2 || rest.ptr[0] != '/' ||
        !duration_parse(slice_from(rest, 1), &window_ms))
        return error_set(err, -EINVAL, "\"%.*s\" is no limit: write COUNT/LENGTH, such as 60/60s",
                         SLICE_ARG(item));
    if (count < 1 || count > 1000000000 || window_ms < 10)
        return error_set(err, -EINVAL,
                         "\"%.*s\": the count must be 1 to 1000000000, the window at "
                         "least 10ms",
                         SLICE_ARG(item));
    if (l->windows_count == WINDOWS_MAX)
        return error_set(err, -EINVAL, "at most %d windows", WINDOWS_MAX);
    l->windows[l->windows_count++] = (struct window){(uint32_t)count, window_ms};
    return 0;
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

void limit_set_format(struct buf *out, const struct limit_set *l)
{
    for (unsigned i = 0; i < l->windows_count; i++) {
        buf_printf(out, "%s%u/", i ? ", " : "", l->windows[i].count);
        format_duration(out, l->windows[i].window_ms);
    }
    if (l->windows_count && l->count_accepted)
        buf_put_str(out, ", accepted");
    if (l->min_distance_ms) {
        buf_put_str(out, l->windows_count ? ", distance=" : "distance=");
        format_duration(out, l->min_distance_ms);
    }
}
