/* SPDX-License-Identifier: Apache-2.0 */
/* Bodies that create feeds. Clients send every member they know, most of them null (Adafruit's
 * Python client), wrapped in {"feed":..} or bare, or as a form. */
#include <jansson.h>

#include "api/api.h"
#include "codec/text.h"

struct text_member {
    const char *name;
    size_t at; /* of the slice in struct catalog_ask */
};

static const struct text_member members[] = {
    {"name", offsetof(struct catalog_ask, feed_name)},
    {"key", offsetof(struct catalog_ask, key)},
    {"description", offsetof(struct catalog_ask, description)},
    {"license", offsetof(struct catalog_ask, license)},
    {"unit_type", offsetof(struct catalog_ask, unit_type)},
    {"unit_symbol", offsetof(struct catalog_ask, unit_symbol)},
};

static struct slice keep(struct buf *storage, const char *ptr, size_t len)
{
    char *at = storage->ptr + storage->len;
    buf_put(storage, ptr, len);
    return slice_of(at, len);
}

static void set_text(struct catalog_ask *ask, const char *name, size_t name_len, struct slice value)
{
    for (unsigned i = 0; i < sizeof members / sizeof *members; i++) {
        if (slice_eq(slice_of(name, name_len), slice_str(members[i].name)))
            *(struct slice *)((char *)ask + members[i].at) = value;
    }
}

/* true/false, "ON"/"OFF", "true"/"false", 1/0: all are sent. */
static bool is_on(const json_t *v)
{
    if (json_is_string(v)) {
        struct slice s = slice_str(json_string_value(v));
        return slice_eq_nocase(s, SLICE("on")) || slice_eq_nocase(s, SLICE("true")) ||
               slice_eq(s, SLICE("1"));
    }
    return json_is_true(v) || json_integer_value(v) != 0;
}

static void read_flags(const json_t *o, struct catalog_ask *ask)
{
    const json_t *history = json_object_get(o, "history");
    const json_t *visibility = json_object_get(o, "visibility");
    const json_t *enabled = json_object_get(o, "enabled");
    if (history && !json_is_null(history) && !is_on(history))
        ask->feed_flags |= FEED_NO_HISTORY;
    if (json_is_string(visibility) &&
        slice_eq_nocase(slice_str(json_string_value(visibility)), SLICE("public")))
        ask->feed_flags |= FEED_PUBLIC;
    if (enabled && !json_is_null(enabled) && !is_on(enabled))
        ask->feed_flags |= FEED_DISABLED;
}

static enum reason read_json(struct slice body, struct catalog_ask *ask, struct buf *storage,
                             struct error *err)
{
    json_error_t where;
    json_t *root = json_loadb(body.ptr ? body.ptr : "", body.len, 0, &where);
    if (!root) {
        error_set(err, 0, "the body is no JSON: %s (line %d, column %d)", where.text, where.line,
                  where.column);
        return REASON_bad_body;
    }
    const json_t *o = json_object_get(root, "feed");
    if (!json_is_object(o))
        o = root;
    enum reason reason = REASON_ok;
    if (!json_is_object(o)) {
        error_set(err, 0, "the body must be a JSON object");
        reason = REASON_bad_body;
    }
    for (unsigned i = 0; reason == REASON_ok && i < sizeof members / sizeof *members; i++) {
        const json_t *v = json_object_get(o, members[i].name);
        if (json_is_string(v)) {
            set_text(ask, members[i].name, strlen(members[i].name),
                     keep(storage, json_string_value(v), json_string_length(v)));
        } else if (v && !json_is_null(v)) {
            error_set(err, 0, "member \"%s\" must be a string", members[i].name);
            reason = REASON_bad_body;
        }
    }
    if (reason == REASON_ok)
        read_flags(o, ask);
    json_decref(root);
    return reason;
}

static enum reason read_form(struct slice body, struct catalog_ask *ask, struct buf *storage,
                             struct error *err)
{
    struct slice name, value;
    while (query_next(&body, &name, &value)) {
        size_t at = storage->len;
        if (!percent_decode(value, true, storage)) {
            error_set(err, 0, "the form's member \"%.*s\" is badly encoded", SLICE_ARG(name));
            return REASON_bad_body;
        }
        struct slice text = slice_of(storage->ptr + at, storage->len - at);
        if (slice_starts(name, SLICE("feed[")) && name.len > 6)
            name = slice_of(name.ptr + 5, name.len - 6);
        set_text(ask, name.ptr, name.len, text);
    }
    return REASON_ok;
}

/* POST .../feeds?group_key=g puts the feed into that group. The first one counts: each would
 * lengthen the key, and the storage has room for one. */
static void read_group(struct slice query, struct catalog_ask *ask, struct buf *storage)
{
    struct slice name, value;
    while (query_next(&query, &name, &value)) {
        if (!slice_eq(name, SLICE("group_key")) || !value.len || slice_eq(value, SLICE("default")))
            continue;
        struct buf key;
        buf_init(&key, FEED_KEY_MAX);
        if (ask->key.len)
            buf_put_slice(&key, ask->key);
        else if (!catalog_key_from_name(ask->feed_name, &key))
            buf_clear(&key);
        size_t at = storage->len;
        if (percent_decode(value, true, storage)) {
            buf_put_u8(storage, '.');
            buf_put_slice(storage, buf_slice(&key));
            ask->key = slice_of(storage->ptr + at, storage->len - at);
        }
        buf_fini(&key);
        return;
    }
}

enum reason api_feed_create(const struct request *q, struct catalog_ask *ask, struct buf *storage,
                            struct error *err)
{
    struct slice boundary;
    enum body_form form = body_form(q->content_type, &boundary);
    /* Slices into the storage must stay good: its room is taken once. Decoded text is never longer
     * than the body. */
    buf_clear(storage);
    if (!buf_reserve(storage, q->body.len + q->query.len + FEED_KEY_MAX + 16))
        return REASON_too_large;
    enum reason reason = form == BODY_URLENCODED && !api_looks_like_json(q->body)
                             ? read_form(q->body, ask, storage, err)
                             : read_json(q->body, ask, storage, err);
    if (reason != REASON_ok)
        return reason;
    if (!ask->feed_name.len && !ask->key.len) {
        error_set(err, 0, "request failed - Record invalid. Name can't be blank");
        return REASON_bad_body;
    }
    if (!ask->feed_name.len)
        ask->feed_name = ask->key;
    read_group(q->query, ask, storage);
    ask->op = CATALOG_FEED_ADD;
    ask->must_create = true;
    return REASON_ok;
}
