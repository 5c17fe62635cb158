/* SPDX-License-Identifier: Apache-2.0 */
/* A command as it comes over HTTP. */
#include "api/admin.h"
#include "codec/text.h"

/* A worker parses them, so they are short; a file does not count. */
#define ARGS_BYTES_MAX (64u << 10)

static json_t *decoded(struct slice encoded)
{
    struct buf text;
    buf_init(&text, encoded.len + 1);
    bool good = percent_decode(encoded, true, &text);
    json_t *ret = good ? json_stringn(text.ptr ? text.ptr : "", text.len) : NULL;
    buf_fini(&text);
    return ret;
}

json_t *admin_args_of_query(struct slice query, struct error *why)
{
    json_t *args = json_object();
    struct slice name, value;
    while (query_next(&query, &name, &value)) {
        json_t *key = decoded(name), *text = decoded(value);
        const char *key_text = json_string_value(key);
        if (key && slice_eq_nocase(slice_str(key_text), SLICE("x-aio-key"))) {
            json_decref(text); /* the credential itself may stand in the query */
        } else if (!key || !text || json_object_get(args, key_text)) {
            error_set(why, 0, "the query's \"%.*s\" is no UTF-8, badly encoded, or there twice",
                      name.len < 60 ? (int)name.len : 60, name.ptr);
            json_decref(text);
            json_decref(args);
            args = NULL;
        } else {
            json_object_set_new(args, key_text, text);
        }
        json_decref(key);
        if (!args)
            return NULL;
    }
    return args;
}

json_t *admin_args_of_body(struct slice body, struct error *why)
{
    json_error_t where;
    if (!body.len)
        return json_object();
    if (body.len > ARGS_BYTES_MAX) {
        error_set(why, 0, "the arguments are longer than %u bytes", ARGS_BYTES_MAX);
        return NULL;
    }
    json_t *args = json_loadb(body.ptr, body.len, JSON_REJECT_DUPLICATES, &where);
    if (!args) {
        error_set(why, 0, "the body is no JSON: %s (line %d, column %d)", where.text, where.line,
                  where.column);
    } else if (!json_is_object(args)) {
        error_set(why, 0, "the body must be a JSON object of arguments");
        json_decref(args);
        args = NULL;
    }
    return args;
}

const struct admin_command *admin_find_path(struct slice rest)
{
    const char *slash = rest.len ? memchr(rest.ptr, '/', rest.len) : NULL;
    size_t noun_len = slash ? (size_t)(slash - rest.ptr) : rest.len;
    return slash ? admin_find(slice_of(rest.ptr, noun_len), slice_from(rest, noun_len + 1)) : NULL;
}
