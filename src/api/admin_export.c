/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All there is of an account, in parts: first what the catalog has, then the data feed by feed,
 * newest first. Where the next part begins is a text "FEED" or "FEED:MICROSECONDS:OFFSET", so
 * nothing is kept between two calls, and what comes in meanwhile does not move anything.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "api/admin_ops.h"
#include "codec/text.h"
#include "view/history.h"
#include "view/latest.h"

#define DATA_OF_ONE_PART 1000u
#define SNAPSHOT_BYTES   (SIZE_MAX / 2)
#define STORAGE_BYTES    (256u << 20)

struct place {
    uint64_t feed; /* 0: the beginning */
    bool inside;   /* behind this datum of it */
    int64_t us;
    uint64_t offset;
};

static bool parse_place(const char *text, struct place *ret)
{
    int end = 0;
    *ret = (struct place){0};
    if (!*text)
        return true;
    if (sscanf(text, "%" SCNu64 "%n", &ret->feed, &end) == 1 && !text[end])
        return true;
    ret->inside = true;
    return sscanf(text, "%" SCNu64 ":%" SCNd64 ":%" SCNu64 "%n", &ret->feed, &ret->us, &ret->offset,
                  &end) == 3 &&
           !text[end];
}

static void put_time(json_t *to, const char *name, int64_t us)
{
    struct buf text;
    buf_init(&text, 100);
    time_format_ms(&text, us);
    json_object_set_new(to, name, admin_json_text(buf_slice(&text)));
    buf_fini(&text);
}

/* A value that is no UTF-8 is written in hexadecimal digits, under another name. */
static void put_value(json_t *to, struct slice value)
{
    json_t *text = admin_json_text(value);
    if (text) {
        json_object_set_new(to, "value", text);
        return;
    }
    struct buf hex;
    buf_init(&hex, 2 * value.len + 1);
    for (size_t i = 0; i < value.len; i++)
        buf_printf(&hex, "%02x", (unsigned char)value.ptr[i]);
    json_object_set_new(to, "value_hex", admin_json_text(buf_slice(&hex)));
    buf_fini(&hex);
}

static void put(json_t *records, const char *type, json_t *record)
{
    json_object_set_new(record, "type", json_string(type));
    json_array_append_new(records, record);
}

/* ---- the first part -------------------------------------------------------------------------- */

static json_t *json_of_feed(const struct feed *f)
{
    json_t *o = json_pack(
        "{s:o, s:I, s:o, s:o, s:o, s:o, s:o, s:o, s:b, s:b, s:b}", "key", admin_json_text(f->key),
        "number", (json_int_t)f->number, "name", admin_json_text(f->name), "description",
        admin_json_text(f->description), "license", admin_json_text(f->license), "unit_type",
        admin_json_text(f->unit_type), "unit_symbol", admin_json_text(f->unit_symbol), "groups",
        admin_json_text(f->groups), "history", !(f->flags & FEED_NO_HISTORY), "public",
        (f->flags & FEED_PUBLIC) != 0, "enabled", !(f->flags & FEED_DISABLED));
    put_time(o, "created", f->created_us);
    put_time(o, "updated", f->updated_us);
    return o;
}

static void put_credentials(json_t *records, struct catalog *c, uint64_t account,
                            enum credential_kind kind)
{
    struct buf list;
    buf_init(&list, SNAPSHOT_BYTES);
    unsigned count = catalog_credentials(c, account, kind, &list);
    struct credential **at = (void *)list.ptr;
    for (unsigned i = 0; i < count; i++) {
        put(records, kind == CREDENTIAL_KEY ? "key" : "device", admin_json_credential(at[i]));
        credential_unref(at[i]);
    }
    buf_fini(&list);
}

static void put_groups(json_t *records, struct catalog *c, uint64_t account)
{
    struct buf list;
    buf_init(&list, SNAPSHOT_BYTES);
    unsigned count = catalog_groups(c, account, &list);
    struct group **at = (void *)list.ptr;
    for (unsigned i = 0; i < count; i++) {
        json_t *o = json_pack("{s:o, s:I, s:o, s:o}", "key", admin_json_text(at[i]->key), "number",
                              (json_int_t)at[i]->number, "name", admin_json_text(at[i]->name),
                              "description", admin_json_text(at[i]->description));
        put_time(o, "created", at[i]->created_us);
        put(records, "group", o);
        group_unref(at[i]);
    }
    buf_fini(&list);
}

/* ---- a feed's data --------------------------------------------------------------------------- */

static void put_datum(const struct admin_opts *opts, json_t *records, const struct feed *f,
                      const struct datum *d, int64_t us, uint64_t offset)
{
    char id[DATUM_ID_LEN + 1];
    datum_id_format(id, us, opts->node, offset);
    json_t *o = json_pack("{s:s, s:o}", "id", id, "feed", admin_json_text(f->key));
    put_time(o, "created_at", us);
    put_value(o, d->value);
    if (d->has_place)
        json_object_update_new(o, json_pack("{s:f, s:f}", "lat", d->lat, "lon", d->lon));
    if (d->has_place && d->has_ele)
        json_object_set_new(o, "ele", json_real(d->ele));
    put(records, "datum", o);
}

/* The only datum of a feed that keeps no others. */
static void put_latest(const struct admin_opts *opts, json_t *records, const struct feed *f)
{
    struct latest_value v;
    struct buf storage;
    buf_init(&storage, VALUE_BIG_MAX + 32);
    if (latest_get(opts->latest, f->number, &storage, &v) == LATEST_VALUE)
        put_datum(opts, records, f, &v.datum, v.event_us, v.offset);
    buf_fini(&storage);
}

/* 0, 1: there are more, from *p on; or a negative errno. */
static int put_data(const struct admin_opts *opts, json_t *records, const struct feed *f,
                    struct place *p)
{
    struct buf storage;
    buf_init(&storage, STORAGE_BYTES);
    struct history_query q = {.feed = f->number,
                              .from_us = INT64_MIN,
                              .to_us = INT64_MAX,
                              .has_before = p->inside,
                              .before_us = p->us,
                              .before_offset = p->offset,
                              .limit = DATA_OF_ONE_PART,
                              .storage = &storage};
    int rc = history_range(opts->history, &q);
    for (uint32_t i = 0; rc == HISTORY_DONE && i < q.count; i++) {
        const struct history_point *at = &q.points[i];
        put_datum(opts, records, f, &at->datum, at->event_us, at->offset);
        *p = (struct place){f->number, true, at->event_us, at->offset};
    }
    if (rc == HISTORY_DONE && !q.count && !p->inside)
        put_latest(opts, records, f);
    buf_fini(&storage);
    return rc < 0 ? rc : q.count && q.more;
}

/* Data from the place on; sets the place of the next part in the result. */
static int put_part(const struct admin_opts *opts, uint64_t account, struct place p,
                    json_t *records, json_t *result)
{
    struct buf list;
    char next[80] = "";
    int rc = 0;
    buf_init(&list, SNAPSHOT_BYTES);
    unsigned count = catalog_feeds(opts->catalog, account, &list);
    struct feed **at = (void *)list.ptr;
    for (unsigned i = 0; i < count; i++) {
        bool room = json_array_size(records) < DATA_OF_ONE_PART && !next[0] && rc == 0;
        if (p.feed == 0) {
            put(records, "feed", json_of_feed(at[i]));
            if (!next[0])
                snprintf(next, sizeof next, "%" PRIu64, at[i]->number);
        } else if (at[i]->number >= p.feed && room) {
            if (at[i]->number > p.feed)
                p = (struct place){.feed = at[i]->number};
            rc = put_data(opts, records, at[i], &p);
            if (rc == 1) {
                snprintf(next, sizeof next, "%" PRIu64 ":%" PRId64 ":%" PRIu64, p.feed, p.us,
                         p.offset);
                rc = 0;
            }
        } else if (at[i]->number > p.feed && !next[0]) {
            snprintf(next, sizeof next, "%" PRIu64, at[i]->number);
        }
        feed_unref(at[i]);
    }
    buf_fini(&list);
    if (next[0])
        json_object_set_new(result, "next", json_string(next));
    return rc;
}

enum reason account_export(struct admin *a, struct admin_call *call)
{
    const struct admin_opts *opts = admin_opts(a);
    struct slice name = admin_arg(call, "account"), from = admin_arg(call, "from");
    struct place place;
    if (!opts->history || !opts->latest)
        return admin_refuse(call, REASON_bad_request,
                            "data are exported by the running server, and none runs here");
    if (!parse_place(from.ptr ? from.ptr : "", &place))
        return admin_refuse(call, REASON_bad_request,
                            "from must be what an answer called \"next\"");
    struct account *account = catalog_account(opts->catalog, name);
    if (!account)
        return admin_refuse(call, REASON_not_found, "there is no account \"%.*s\"",
                            SLICE_ARG(name));
    json_t *records = json_array();
    json_t *result = json_pack("{s:o}", "records", records);
    if (place.feed == 0) {
        put(records, "account", admin_json_account(account));
        put_credentials(records, opts->catalog, account->number, CREDENTIAL_KEY);
        put_credentials(records, opts->catalog, account->number, CREDENTIAL_DEVICE);
        put_groups(records, opts->catalog, account->number);
    }
    int rc = put_part(opts, account->number, place, records, result);
    account_unref(account);
    if (rc < 0) {
        json_decref(result);
        return admin_refuse(call, REASON_internal, "the history cannot be read: %s", strerror(-rc));
    }
    call->ret_result = result;
    return REASON_ok;
}
