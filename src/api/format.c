/* SPDX-License-Identifier: Apache-2.0 */
/* Feeds, groups and users as Adafruit IO writes them: the member order is that of its real answers.
 */
#include "api/api.h"
#include "codec/text.h"

/* Not by buf_printf: a list has thousands of them. */
static void put_name(struct buf *out, const char *name)
{
    buf_put_str(out, ",\"");
    buf_put_str(out, name);
    buf_put_str(out, "\":");
}

static void put_member_str(struct buf *out, const char *name, struct slice value)
{
    put_name(out, name);
    buf_put_json(out, value);
}

static void put_member_or_null(struct buf *out, const char *name, struct slice value)
{
    if (value.len) {
        put_member_str(out, name, value);
        return;
    }
    put_name(out, name);
    buf_put_str(out, "null");
}

static void put_member_time(struct buf *out, const char *name, int64_t us)
{
    put_name(out, name);
    buf_put_u8(out, '"');
    time_format_s(out, us);
    buf_put_u8(out, '"');
}

void api_format_group(struct buf *out, const struct account *owner, const struct group *g)
{
    buf_put_str(out, "{\"username\":");
    buf_put_json(out, owner->name);
    buf_printf(out, ",\"owner\":{\"id\":%llu,\"username\":", (unsigned long long)owner->number);
    buf_put_json(out, owner->name);
    buf_printf(out, "},\"id\":%llu", (unsigned long long)g->number);
    put_member_str(out, "key", g->key);
    put_member_str(out, "name", g->name);
    put_member_or_null(out, "description", g->description);
    buf_printf(out, ",\"visibility\":\"%s\"", g->flags & GROUP_PUBLIC ? "public" : "private");
    put_member_time(out, "created_at", g->created_us);
    put_member_time(out, "updated_at", g->updated_us);
    buf_put_u8(out, '}');
}

static void put_group(struct buf *out, const struct account *owner, const struct feed *f)
{
    buf_printf(out, "{\"id\":%llu,\"key\":", (unsigned long long)f->group);
    buf_put_json(out, f->group_key);
    put_member_str(out, "name", f->group_name);
    buf_printf(out, ",\"user_id\":%llu}", (unsigned long long)owner->number);
}

/* Those that the feed was added to. */
static void put_more_groups(struct buf *out, const struct api *a, const struct account *owner,
                            const struct feed *f)
{
    struct slice rest = f->groups;
    while (rest.len) {
        const char *comma = memchr(rest.ptr, ',', rest.len);
        size_t len = comma ? (size_t)(comma - rest.ptr) : rest.len;
        struct group *g = catalog_group(a->catalog, owner->number, slice_of(rest.ptr, len));
        rest = slice_from(rest, comma ? len + 1 : len);
        if (!g)
            continue;
        buf_printf(out, ",{\"id\":%llu,\"key\":", (unsigned long long)g->number);
        buf_put_json(out, g->key);
        put_member_str(out, "name", g->name);
        buf_printf(out, ",\"user_id\":%llu}", (unsigned long long)owner->number);
        group_unref(g);
    }
}

void api_format_feed(struct buf *out, const struct api *a, const struct account *owner,
                     const struct feed *f, const struct slice *last_value)
{
    buf_put_str(out, "{\"username\":");
    buf_put_json(out, owner->name);
    buf_printf(out, ",\"owner\":{\"id\":%llu,\"username\":", (unsigned long long)owner->number);
    buf_put_json(out, owner->name);
    buf_printf(out, "},\"id\":%llu", (unsigned long long)f->number);
    put_member_str(out, "name", f->name);
    put_member_or_null(out, "description", f->description);
    put_member_or_null(out, "license", f->license);
    buf_printf(out, ",\"history\":%s,\"enabled\":%s,\"visibility\":\"%s\"",
               f->flags & FEED_NO_HISTORY ? "false" : "true",
               f->flags & FEED_DISABLED ? "false" : "true",
               f->flags & FEED_PUBLIC ? "public" : "private");
    put_member_or_null(out, "unit_type", f->unit_type);
    put_member_or_null(out, "unit_symbol", f->unit_symbol);
    if (last_value)
        put_member_str(out, "last_value", *last_value);
    else
        buf_put_str(out, ",\"last_value\":null");
    put_member_time(out, "created_at", f->created_us);
    put_member_time(out, "updated_at", f->updated_us);
    buf_printf(out, ",\"status_notify\":%s,\"status_timeout\":%u,\"status\":\"%s\"",
               f->status_notify ? "true" : "false", f->status_timeout,
               last_value ? "online" : "offline");
    put_member_str(out, "key", f->key);
    buf_put_str(out, ",\"writable\":true,\"group\":");
    put_group(out, owner, f);
    buf_put_str(out, ",\"groups\":[");
    put_group(out, owner, f);
    put_more_groups(out, a, owner, f);
    buf_put_str(out, "],\"feed_webhook_receivers\":[],\"feed_status_changes\":[]}");
}

void api_format_user(struct buf *out, const struct api *a, const struct account *account)
{
    struct group *all = catalog_group(a->catalog, account->number, SLICE("default"));
    buf_printf(out, "{\"id\":%llu", (unsigned long long)account->number);
    put_member_str(out, "name", account->name);
    buf_put_str(out, ",\"color\":null");
    put_member_str(out, "username", account->name);
    buf_put_str(out, ",\"role\":\"user\",\"default_group_id\":");
    if (all)
        buf_put_dec(out, all->number);
    else
        buf_put_str(out, "null");
    buf_put_str(out, ",\"default_dashboard_id\":null,\"time_zone\":\"UTC\"");
    put_member_time(out, "created_at", account->created_us);
    put_member_time(out, "updated_at", account->created_us);
    buf_put_u8(out, '}');
    group_unref(all);
}
