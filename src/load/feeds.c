/* SPDX-License-Identifier: Apache-2.0 */
#include "load/feeds.h"

#include <errno.h>

#include "load/template.h"

static bool holds(struct slice text, struct slice mark)
{
    return text.len && memmem(text.ptr, text.len, mark.ptr, mark.len) != NULL;
}

struct slice feeds_of_topic(struct slice topic)
{
    const char *user_end = topic.len ? memchr(topic.ptr, '/', topic.len) : NULL;
    struct slice rest = slice_from(topic, user_end ? (size_t)(user_end - topic.ptr) : topic.len);
    if (slice_starts(rest, SLICE("/feeds/")))
        return slice_from(rest, 7);
    return slice_starts(rest, SLICE("/f/")) ? slice_from(rest, 3) : (struct slice){0};
}

int feeds_init(struct feeds *f, const struct load_opts *opts, const struct fleet *fleet,
               struct error *err)
{
    struct slice topic = slice_str(opts->topic), in_topic = feeds_of_topic(topic);
    *f = (struct feeds){.fleet = fleet};
    f->name = opts->topic ? in_topic.len ? in_topic : topic : slice_str(opts->feed);
    f->by_device = holds(f->name, SLICE("%device%"));
    f->by_feed = opts->topic && holds(f->name, SLICE("%feed%"));
    f->per_device = f->by_feed ? opts->feeds : 1;
    uint64_t count = (f->by_device ? fleet->count : 1) * (uint64_t)f->per_device;
    if (count > LOAD_FEEDS_MAX)
        return error_set(err, -E2BIG, "more than %u feeds", LOAD_FEEDS_MAX);
    f->count = (uint32_t)count;
    return 0;
}

void feeds_name(const struct feeds *f, uint32_t number, struct buf *out)
{
    const struct fleet_device *d = &f->fleet->devices[f->by_device ? number / f->per_device : 0];
    struct slice rest = f->name;
    while (rest.len) {
        const char *mark = memchr(rest.ptr, '%', rest.len);
        size_t plain = mark ? (size_t)(mark - rest.ptr) : rest.len;
        buf_put(out, rest.ptr, plain);
        rest = slice_from(rest, plain);
        if (slice_starts(rest, SLICE("%device%"))) {
            buf_put_slice(out, fleet_id(f->fleet, d));
            rest = slice_from(rest, 8);
        } else if (f->by_feed && slice_starts(rest, SLICE("%feed%"))) {
            buf_printf(out, "%0*u", TEMPLATE_FEED_DIGITS, number % f->per_device);
            rest = slice_from(rest, 6);
        } else if (rest.len) {
            buf_put_u8(out, '%');
            rest = slice_from(rest, 1);
        }
    }
}
