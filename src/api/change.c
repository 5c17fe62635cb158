/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bodies that create and change feeds and groups. Clients send every member they know, most of them
 * null (Adafruit's Python client), wrapped in {"feed":..} or bare, as JSON or as a form; a form
 * becomes the JSON that it stands for. What is null or unknown is passed over, what is known and
 * cannot be understood is refused.
 */
#include <errno.h>
#include <jansson.h>

#include "api/admin_ops.h"
#include "api/private.h"
#include "codec/form.h"
#include "codec/text.h"

#define STATUS_TIMEOUT_MAX 525600u /* minutes: a year */

bool api_deletes(enum route_op op)
{
    return op == OP_FEED_DELETE || op == OP_GROUP_DELETE;
}

bool api_creates(enum route_op op)
{
    return op == OP_FEED_CREATE || op == OP_GROUP_CREATE;
}

bool api_is_of_group(enum route_op op)
{
    return op == OP_GROUP_CREATE || op == OP_GROUP_UPDATE || op == OP_GROUP_DELETE ||
           op == OP_GROUP_ADD || op == OP_GROUP_REMOVE;
}

/* ---- bodies ---- */

struct fields {
    json_t *object;
    const char *wrapper;
    struct error *err;
};

/* "name" of "name" or "feed[name]". */
static int on_field(void *arg, struct slice name, struct slice value)
{
    struct fields *f = arg;
    size_t len = strlen(f->wrapper);
    if (name.len > len + 2 && slice_starts(name, slice_str(f->wrapper)) && name.ptr[len] == '[' &&
        name.ptr[name.len - 1] == ']')
        name = slice_of(name.ptr + len + 1, name.len - len - 2);
    char key[64];
    if (name.len >= sizeof key)
        return 0; /* none of ours */
    memcpy(key, name.ptr, name.len);
    key[name.len] = 0;
    if (json_object_get(f->object, key))
        return error_set(f->err, -EINVAL, "the form's field \"%s\" stands there twice", key);
    if (json_object_set_new(f->object, key, json_stringn(value.len ? value.ptr : "", value.len)))
        return error_set(f->err, -EINVAL, "the form's field \"%s\" is not UTF-8", key);
    return 0;
}

static json_t *load_form(const struct request *q, enum body_form form, struct slice boundary,
                         const char *wrapper, struct error *err)
{
    struct fields f = {.object = json_object(), .wrapper = wrapper, .err = err};
    struct buf storage;
    const char *why = NULL;
    buf_init(&storage, q->body.len + 1);
    int rc = -ENOMEM;
    if (buf_reserve(&storage, q->body.len + 1))
        rc = form == BODY_MULTIPART ? form_multipart(q->body, boundary, on_field, &f, &why)
                                    : form_urlencoded(q->body, &storage, on_field, &f, &why);
    buf_fini(&storage);
    if (rc == 0)
        return f.object;
    if (why || rc == -ENOMEM)
        error_set(err, rc, "%s", why ? why : "no memory for the form");
    json_decref(f.object);
    return NULL;
}

static json_t *load_json(const struct request *q, const char *wrapper, struct error *err)
{
    json_error_t where;
    json_t *root =
        json_loadb(q->body.ptr ? q->body.ptr : "", q->body.len, JSON_REJECT_DUPLICATES, &where);
    if (!root) {
        error_set(err, 0, "the body is no JSON: %s (line %d, column %d)", where.text, where.line,
                  where.column);
        return NULL;
    }
    json_t *inner = json_object_get(root, wrapper);
    if (json_is_object(inner)) {
        json_incref(inner);
        json_decref(root);
        root = inner;
    }
    if (json_is_object(root))
        return root;
    error_set(err, 0, "the body must be a JSON object");
    json_decref(root);
    return NULL;
}

/* The members of the body. NULL: there are none, err says why. */
static json_t *load(const struct request *q, const char *wrapper, struct error *err)
{
    struct slice boundary;
    enum body_form form = body_form(q->content_type, &boundary);
    if (form == BODY_MULTIPART || (form == BODY_URLENCODED && !api_looks_like_json(q->body)))
        return load_form(q, form, boundary, wrapper, err);
    return load_json(q, wrapper, err);
}

/* ---- members ---- */

struct text_member {
    const char *name;
    size_t at; /* of the slice in struct catalog_ask */
};

static const struct text_member texts[] = {
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

static enum reason bad(struct error *err, const char *member, const char *what)
{
    error_set(err, 0, "member \"%s\" must be %s", member, what);
    return REASON_bad_body;
}

static enum reason read_texts(const json_t *o, struct catalog_ask *ask, struct buf *storage,
                              struct error *err)
{
    for (unsigned i = 0; i < sizeof texts / sizeof *texts; i++) {
        const json_t *v = json_object_get(o, texts[i].name);
        if (json_is_string(v))
            *(struct slice *)((char *)ask + texts[i].at) =
                keep(storage, json_string_value(v), json_string_length(v));
        else if (v && !json_is_null(v))
            return bad(err, texts[i].name, "a string");
    }
    return REASON_ok;
}

/* true/false, "ON"/"OFF", "true"/"false", 1/0: all are sent. 1, 0; -1: absent; -2: none of them. */
static int switch_of(const json_t *v)
{
    if (!v || json_is_null(v))
        return -1;
    if (json_is_boolean(v))
        return json_is_true(v);
    if (json_is_integer(v))
        return json_integer_value(v) == 0 ? 0 : json_integer_value(v) == 1 ? 1 : -2;
    if (!json_is_string(v))
        return -2;
    struct slice s = slice_str(json_string_value(v));
    if (slice_eq_nocase(s, SLICE("on")) || slice_eq_nocase(s, SLICE("true")) ||
        slice_eq(s, SLICE("1")))
        return 1;
    return slice_eq_nocase(s, SLICE("off")) || slice_eq_nocase(s, SLICE("false")) ||
                   slice_eq(s, SLICE("0"))
               ? 0
               : -2;
}

/* A switch that is a flag of the feed, or when `off` the lack of one. */
static enum reason read_flag(const json_t *o, const char *member, uint32_t flag, bool off,
                             struct catalog_ask *ask, struct error *err)
{
    int is = switch_of(json_object_get(o, member));
    if (is == -2)
        return bad(err, member, "true or false");
    if (is < 0)
        return REASON_ok;
    ask->feed_flags_given |= flag;
    if ((is == 1) != off)
        ask->feed_flags |= flag;
    return REASON_ok;
}

static enum reason read_visibility(const json_t *o, uint32_t flag, struct catalog_ask *ask,
                                   struct error *err)
{
    const json_t *v = json_object_get(o, "visibility");
    if (!v || json_is_null(v))
        return REASON_ok;
    struct slice s = slice_str(json_string_value(v));
    bool shown = slice_eq_nocase(s, SLICE("public"));
    if (!shown && !slice_eq_nocase(s, SLICE("private")))
        return bad(err, "visibility", "\"public\" or \"private\"");
    ask->feed_flags_given |= flag;
    ask->feed_flags |= shown ? flag : 0;
    return REASON_ok;
}

static enum reason read_status(const json_t *o, struct catalog_ask *ask, struct error *err)
{
    int notify = switch_of(json_object_get(o, "status_notify"));
    if (notify == -2)
        return bad(err, "status_notify", "true or false");
    ask->status_notify_given = notify >= 0;
    ask->status_notify = notify == 1;
    const json_t *v = json_object_get(o, "status_timeout");
    if (!v || json_is_null(v))
        return REASON_ok;
    json_int_t minutes = json_is_integer(v) ? json_integer_value(v) : 0;
    if (json_is_string(v)) {
        char *end;
        minutes = strtoll(json_string_value(v), &end, 10);
        minutes = *end ? 0 : minutes;
    }
    if (minutes < 1 || minutes > STATUS_TIMEOUT_MAX)
        return bad(err, "status_timeout", "a number of minutes from 1 to 525600");
    ask->status_timeout = (uint32_t)minutes;
    return REASON_ok;
}

static enum reason read_feed(const struct request *q, struct catalog_ask *ask, struct buf *storage,
                             struct error *err)
{
    json_t *o = load(q, "feed", err);
    if (!o)
        return REASON_bad_body;
    enum reason r = read_texts(o, ask, storage, err);
    if (r == REASON_ok)
        r = read_flag(o, "history", FEED_NO_HISTORY, true, ask, err);
    if (r == REASON_ok)
        r = read_flag(o, "enabled", FEED_DISABLED, true, ask, err);
    if (r == REASON_ok)
        r = read_visibility(o, FEED_PUBLIC, ask, err);
    if (r == REASON_ok)
        r = read_status(o, ask, err);
    json_decref(o);
    return r;
}

static enum reason read_group(const struct request *q, struct catalog_ask *ask, struct buf *storage,
                              struct error *err)
{
    json_t *o = load(q, "group", err);
    if (!o)
        return REASON_bad_body;
    enum reason r = read_texts(o, ask, storage, err);
    if (r == REASON_ok)
        r = read_visibility(o, GROUP_PUBLIC, ask, err);
    json_decref(o);
    return r;
}

/* ---- keys ---- */

static void from_query(struct slice query, const char *name, struct buf *storage, struct slice *ret)
{
    struct slice n, v;
    while (query_next(&query, &n, &v)) {
        size_t at = storage->len;
        if (slice_eq(n, slice_str(name)) && percent_decode(v, true, storage)) {
            *ret = slice_of(storage->ptr + at, storage->len - at);
            return;
        }
    }
}

/* The key of a new feed: with its group in front, which the path or ?group_key= says. */
static enum reason put_group(const struct request *q, const struct api_caller *c,
                             struct catalog_ask *ask, struct buf *storage, struct error *err)
{
    struct slice group = {0};
    struct buf key;
    if (c->group)
        group = c->group->key;
    else
        from_query(q->query, "group_key", storage, &group);
    buf_init(&key, FEED_KEY_MAX);
    if (ask->key.len)
        buf_put_slice(&key, ask->key);
    else if (!catalog_key_from_name(ask->feed_name, &key)) {
        buf_fini(&key); /* the catalog says what is wrong with the name */
        return REASON_ok;
    }
    size_t at = storage->len;
    if (group.len && !slice_eq(group, SLICE("default"))) {
        bool has = slice_starts(buf_slice(&key), group) && key.len > group.len &&
                   key.ptr[group.len] == '.';
        if (!has) {
            buf_put_slice(storage, group);
            buf_put_u8(storage, '.');
        }
    }
    buf_put_slice(storage, buf_slice(&key));
    buf_fini(&key);
    ask->key = slice_of(storage->ptr + at, storage->len - at);
    if (!storage->failed && credential_covers(c->credential, ask->key))
        return REASON_ok;
    error_set(err, 0, "this credential may not use a feed \"%.*s\"", SLICE_ARG(ask->key));
    return REASON_forbidden;
}

/* Those who are bound to feeds have no say in what others use too. */
static enum reason check_bound(const struct api_caller *c, struct error *err)
{
    if (!c->credential->patterns_count)
        return REASON_ok;
    error_set(err, 0, "a credential that is bound to feeds may not change keys or groups");
    return REASON_forbidden;
}

/* ---- operations ---- */

static enum reason create_feed(const struct request *q, const struct api_caller *c,
                               struct catalog_ask *ask, struct buf *storage, struct error *err)
{
    enum reason r = read_feed(q, ask, storage, err);
    if (r != REASON_ok)
        return r;
    if (!ask->feed_name.len && !ask->key.len) {
        error_set(err, 0, "request failed - Record invalid. Name can't be blank");
        return REASON_bad_body;
    }
    if (!ask->feed_name.len)
        ask->feed_name = ask->key;
    ask->op = CATALOG_FEED_ADD;
    ask->must_create = true;
    return put_group(q, c, ask, storage, err);
}

static enum reason create_group(const struct request *q, const struct api_caller *c,
                                struct catalog_ask *ask, struct buf *storage, struct error *err)
{
    enum reason r = read_group(q, ask, storage, err);
    if (r == REASON_ok)
        r = check_bound(c, err);
    if (r == REASON_ok && !ask->feed_name.len && !ask->key.len) {
        error_set(err, 0, "request failed - Record invalid. Name can't be blank");
        r = REASON_bad_body;
    }
    ask->op = CATALOG_GROUP_ADD;
    return r;
}

/* The feed that goes into the group or out of it: feed_key of the body or of the query. */
static enum reason choose_feed(const struct api *a, const struct request *q,
                               const struct api_caller *c, struct catalog_ask *ask,
                               struct buf *storage, struct error *err)
{
    struct slice key = {0};
    from_query(q->query, "feed_key", storage, &key);
    if (!key.len) {
        json_t *o = load(q, "feed", err);
        const json_t *v = json_object_get(o, "feed_key");
        if (json_is_string(v))
            key = keep(storage, json_string_value(v), json_string_length(v));
        else if (o)
            error_set(err, 0,
                      "feed_key is missing: send it as a member of the body or in the query");
        json_decref(o);
        if (!key.len)
            return REASON_bad_body;
    }
    struct feed *f = catalog_feed(a->catalog, c->account->number, key);
    if (!f && ask->op == CATALOG_GROUP_UNLINK)
        f = catalog_feed_in_group(a->catalog, c->group, key);
    if (!f) {
        error_set(err, 0, "not found - There is no feed with the key '%.*s'.", SLICE_ARG(key));
        return REASON_not_found;
    }
    ask->feed_number = f->number;
    feed_unref(f);
    return check_bound(c, err);
}

/* The key that the body wants. Without one a new one is made. */
static enum reason wanted_key(const struct request *q, struct buf *storage, struct slice *ret,
                              struct error *err)
{
    if (!slice_trim(q->body).len)
        return REASON_ok;
    json_t *o = load(q, "key", err);
    const json_t *v = json_object_get(o, "key");
    enum reason r = o ? REASON_ok : REASON_bad_body;
    if (json_is_string(v))
        *ret = keep(storage, json_string_value(v), json_string_length(v));
    else if (v && !json_is_null(v))
        r = bad(err, "key", "a string");
    if (ret->len && !shield_secret_is_strong(*ret))
        r = bad(err, "key",
                "\"aio_\" and 28 letters or digits, or 32 hexadecimal digits, chosen at "
                "random");
    json_decref(o);
    return r;
}

/* A key replaces itself; who lost the race with somebody else who has it is told so. */
static enum reason regenerate_key(struct exchange *x, const struct api_caller *c,
                                  struct catalog_ask *ask, struct buf *storage, struct error *err)
{
    struct slice key = {0};
    struct admin_secret made = {0};
    if (c->credential->kind != CREDENTIAL_KEY) {
        error_set(err, 0, "only an account's key can replace itself, a device's secret cannot");
        return REASON_forbidden;
    }
    enum reason r = wanted_key(&x->request, storage, &key, err);
    if (r != REASON_ok)
        return r;
    if (!key.len) {
        admin_secret_new_key(&made);
        key = slice_str(made.text);
    }
    ask->op = CATALOG_KEY_SECRET;
    ask->name = c->credential->name;
    ask->has_digest = ask->has_replaced = true;
    shield_fast_digest(key, ask->digest);
    memcpy(ask->replaced, c->credential->fast, sizeof ask->replaced);
    struct buf *out = &x->reply.body;
    buf_put_str(out, "{\"username\":");
    buf_put_json(out, c->account->name);
    buf_put_str(out, ",\"name\":");
    buf_put_json(out, c->credential->name);
    buf_put_str(out, ",\"key\":");
    buf_put_json(out, key);
    buf_put_str(out, "}");
    x->reply.no_store = true;
    admin_secret_wipe(&made);
    api_done(x);
    return REASON_ok;
}

static enum reason fill(const struct api *a, const struct route_match *m, struct exchange *x,
                        const struct api_caller *c, struct catalog_ask *ask, struct buf *storage,
                        struct error *err)
{
    const struct request *q = &x->request;
    enum reason r;
    switch (m->route->op) {
    case OP_KEY_REGENERATE:
        return regenerate_key(x, c, ask, storage, err);
    case OP_FEED_CREATE:
        return create_feed(q, c, ask, storage, err);
    case OP_FEED_UPDATE:
        ask->op = CATALOG_FEED_CHANGE;
        r = read_feed(q, ask, storage, err);
        return r == REASON_ok && ask->key.ptr ? check_bound(c, err) : r;
    case OP_FEED_DELETE:
        ask->op = CATALOG_FEED_REMOVE;
        return REASON_ok;
    case OP_GROUP_CREATE:
        return create_group(q, c, ask, storage, err);
    case OP_GROUP_UPDATE:
        ask->op = CATALOG_GROUP_CHANGE;
        r = read_group(q, ask, storage, err);
        return r == REASON_ok ? check_bound(c, err) : r;
    case OP_GROUP_DELETE:
        ask->op = CATALOG_GROUP_REMOVE;
        return check_bound(c, err);
    default:
        ask->op = m->route->op == OP_GROUP_ADD ? CATALOG_GROUP_LINK : CATALOG_GROUP_UNLINK;
        return choose_feed(a, q, c, ask, storage, err);
    }
}

enum reason api_change(const struct api *a, const struct route_match *m, struct exchange *x,
                       const struct api_caller *c, struct catalog_ask *ask, struct buf *storage,
                       struct error *err)
{
    /* Slices into the storage must stay good: its room is taken once. Decoded text is never longer
     * than the body. */
    const struct request *q = &x->request;
    if (!buf_reserve(storage, q->body.len + q->query.len + 2 * FEED_KEY_MAX + 16))
        return REASON_too_large;
    ask->feed_number = c->feed ? c->feed->number : 0;
    ask->group_number = c->group ? c->group->number : 0;
    return fill(a, m, x, c, ask, storage, err);
}
