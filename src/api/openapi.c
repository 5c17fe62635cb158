/* SPDX-License-Identifier: Apache-2.0 */
/*
 * GET /openapi.json. api/openapi.json holds what does not follow from the tables: words about the
 * whole, schemas, parameters. A path for every row of the tables of routes and of commands is added
 * to it here, so that what is served and what is described cannot differ.
 */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "api/admin.h"
#include "api/api.h"
#include "base/check.h"

extern const char openapi_template[]; /* made of api/openapi.json by the build */

/* ---- words and references ---------------------------------------------------------------------
 */

/* The next word of a text with blanks between; false at its end. */
static bool next_word(struct slice *rest, struct slice *ret)
{
    *rest = slice_trim(*rest);
    if (!rest->len)
        return false;
    const char *blank = memchr(rest->ptr, ' ', rest->len);
    *ret = slice_of(rest->ptr, blank ? (size_t)(blank - rest->ptr) : rest->len);
    *rest = slice_from(*rest, ret->len);
    return true;
}

static json_t *reference(const char *kind, struct slice name)
{
    return json_pack("{s:o}", "$ref", json_sprintf("#/components/%s/%.*s", kind, SLICE_ARG(name)));
}

/* "Datum" or "[Datum]". */
static json_t *schema_of(struct slice word)
{
    if (word.len > 2 && word.ptr[0] == '[')
        return json_pack("{s:s, s:o}", "type", "array", "items",
                         reference("schemas", slice_of(word.ptr + 1, word.len - 2)));
    return reference("schemas", word);
}

/* One more content: a schema (of JSON) or a media type. */
static void add_content(json_t *content, struct slice word)
{
    if (memchr(word.ptr, '/', word.len))
        json_object_setn_new(content, word.ptr, word.len, json_object());
    else
        json_object_set_new(content, "application/json",
                            json_pack("{s:o}", "schema", schema_of(word)));
}

static json_t *request_body(json_t *content, bool required)
{
    return json_pack("{s:b, s:o}", "required", required, "content", content);
}

/* ---- answers ----------------------------------------------------------------------------------
 */

/* "200 Datum 202 Receipt": responses by status, and what every operation may refuse with. */
static json_t *responses_of(const char *answer, bool needs_credential)
{
    static const char *const refusals[] = {"401", "403", "429"};
    json_t *responses = json_object(), *now = NULL;
    struct slice rest = slice_str(answer), word;
    while (next_word(&rest, &word)) {
        if (word.ptr[0] >= '1' && word.ptr[0] <= '5') {
            now = json_pack("{s:s}", "description", "Done");
            json_object_setn_new(responses, word.ptr, word.len, now);
            continue;
        }
        json_t *content = json_object_get(now, "content");
        if (!content) {
            content = json_object();
            json_object_set_new(now, "content", content);
        }
        add_content(content, word);
    }
    for (unsigned i = 0; needs_credential && i < sizeof refusals / sizeof *refusals; i++)
        json_object_set_new(responses, refusals[i], reference("responses", SLICE("Error")));
    json_object_set_new(responses, "default", reference("responses", SLICE("Error")));
    return responses;
}

/* ---- routes -----------------------------------------------------------------------------------
 */

/* What stands in a path for a part of it, and the parameter that it is. */
static const struct {
    const char *part, *parameter;
} parts[] = {{"{u}", "username"},  {"{g}", "group_path"}, {"{k}", "feed_key"},
             {"{id}", "datum_id"}, {"{o}", "offset"},     {"{c}", "consumer_group"}};

/* The path as OpenAPI writes it; its parameters are appended to the list. */
static void put_path(const char *path, struct buf *out, json_t *parameters)
{
    while (*path) {
        unsigned i = 0;
        while (i < sizeof parts / sizeof *parts &&
               strncmp(path, parts[i].part, strlen(parts[i].part)) != 0)
            i++;
        if (i == sizeof parts / sizeof *parts) {
            buf_put_u8(out, (uint8_t)*path++);
            continue;
        }
        buf_printf(out, "{%s}", parts[i].parameter);
        json_array_append_new(parameters, reference("parameters", slice_str(parts[i].parameter)));
        path += strlen(parts[i].part);
    }
    buf_put_u8(out, 0);
}

static json_t *operation(const char *id, const char *tag, const char *summary, json_t *parameters)
{
    return json_pack("{s:s, s:[s], s:s, s:o}", "operationId", id, "tags", tag, "summary", summary,
                     "parameters", parameters);
}

/* Enters the operation under its path and method; takes its reference over. */
static void enter(json_t *paths, const char *path, const char *method, json_t *op)
{
    json_t *item = json_object_get(paths, path);
    if (!item) {
        item = json_object();
        json_object_set_new(paths, path, item);
    }
    json_object_set_new(item, method, op);
}

static void add_route(json_t *paths, const struct route *r)
{
    static const char *const methods[] = {"get", "head", "post", "put", "patch", "delete"};
    const struct route_doc *doc = r->doc;
    bool plain = r->class == ROUTE_PLAIN;
    json_t *parameters = json_array();
    struct buf path;
    buf_init(&path, 1000);
    put_path(r->path, &path, parameters);
    struct slice rest = slice_str(doc->query ? doc->query : ""), word;
    while (next_word(&rest, &word))
        json_array_append_new(parameters, reference("parameters", word));
    json_t *op = operation(doc->id, doc->tag, doc->summary, parameters);
    if (doc->body) {
        json_t *content = json_object();
        bool optional = doc->body[0] == '?';
        rest = slice_str(doc->body + optional);
        while (next_word(&rest, &word))
            add_content(content, word);
        json_object_set_new(op, "requestBody", request_body(content, !optional));
    }
    json_t *responses = responses_of(doc->answer, !plain);
    if (r->method == METHOD_GET && !plain && r->class != ROUTE_PROF)
        json_object_set_new(responses, "304", reference("responses", SLICE("NotModified")));
    json_object_set_new(op, "responses", responses);
    if (plain)
        json_object_set_new(op, "security", json_array());
    else
        json_object_set_new(op, "x-permissions", admin_permission_names(r->permission));
    if (r->surface == SURFACE_OPERATOR)
        json_object_set_new(op, "description",
                            json_string(r->class == ROUTE_PROF
                                            ? "Served on listen.operator only, if debug.pprof is "
                                              "not off; needs no credential if that is open."
                                            : "Served on listen.operator only."));
    CHECK(!path.failed && r->method < sizeof methods / sizeof *methods);
    enter(paths, path.ptr, methods[r->method], op);
    buf_fini(&path);
}

/* ---- commands ---------------------------------------------------------------------------------
 */

static json_t *schema_of_arg(const struct admin_arg *arg)
{
    if (arg->kind == ADMIN_SWITCH)
        return json_pack("{s:s}", "type", "boolean");
    if (arg->type == ADMIN_COUNT)
        return json_pack("{s:s, s:i}", "type", "integer", "minimum", 0);
    if (arg->type == ADMIN_LIST)
        return json_pack("{s:[ss], s:{s:s}}", "type", "array", "string", "items", "type", "string");
    return json_pack("{s:s}", "type", "string");
}

/* A command that only looks, or takes a file, has its arguments in the query. */
static json_t *query_of(const struct admin_command *c, bool own)
{
    json_t *parameters = json_array();
    for (unsigned i = 0; i < ADMIN_ARGS_MAX && c->args[i].name; i++)
        if (c->args[i].kind != ADMIN_FILE && !(own && !strcmp(c->args[i].name, "account")))
            json_array_append_new(parameters,
                                  json_pack("{s:s, s:s, s:b, s:s, s:o}", "name", c->args[i].name,
                                            "in", "query", "required",
                                            c->args[i].kind == ADMIN_NEEDED, "description",
                                            c->args[i].text, "schema", schema_of_arg(&c->args[i])));
    return parameters;
}

/* One that changes something takes them from a JSON object. */
static json_t *body_of(const struct admin_command *c, bool own)
{
    json_t *properties = json_object(), *needed = json_array();
    for (unsigned i = 0; i < ADMIN_ARGS_MAX && c->args[i].name; i++) {
        if (own && !strcmp(c->args[i].name, "account"))
            continue;
        json_t *schema = schema_of_arg(&c->args[i]);
        json_object_set_new(schema, "description", json_string(c->args[i].text));
        json_object_set_new(properties, c->args[i].name, schema);
        if (c->args[i].kind == ADMIN_NEEDED)
            json_array_append_new(needed, json_string(c->args[i].name));
    }
    json_t *schema = json_pack("{s:s, s:o, s:o, s:b}", "type", "object", "properties", properties,
                               "required", needed, "additionalProperties", false);
    return request_body(json_pack("{s:{s:o}}", "application/json", "schema", schema), true);
}

/* `own`: as an account's own key gives it. */
static void add_command(json_t *paths, const struct admin_command *c, bool own)
{
    char path[100], id[100];
    snprintf(path, sizeof path, "/v1/%s%s/%s", own ? "" : "admin/", c->noun, c->verb);
    snprintf(id, sizeof id, "%s_%s_%s", own ? "own" : "admin", c->noun, c->verb);
    bool file = admin_takes_file(c), query = file || !c->changes;
    json_t *op = operation(id, own ? "automation" : "admin", c->text,
                           query ? query_of(c, own) : json_array());
    if (file)
        json_object_set_new(op, "requestBody", request_body(json_pack("{s:{}}", "text/csv"), true));
    else if (c->changes)
        json_object_set_new(op, "requestBody", body_of(c, own));
    char answer[100];
    snprintf(answer, sizeof answer, "200 %s", c->result);
    json_object_set_new(op, "responses", responses_of(answer, true));
    json_object_set_new(op, "x-permissions",
                        admin_permission_names(own          ? ROUTE_OWN_MAY
                                               : c->changes ? PERM_admin_write
                                                            : PERM_admin_read));
    enter(paths, path, c->changes ? "post" : "get", op);
}

void api_openapi(struct buf *out)
{
    json_t *root = json_loads(openapi_template, 0, NULL);
    json_t *paths = json_object_get(root, "paths");
    CHECK(paths); /* the build has read it */
    json_object_set_new(json_object_get(root, "info"), "version", json_string(SLUICE_VERSION));
    for (unsigned i = 0; route_at(i); i++)
        if (route_at(i)->doc)
            add_route(paths, route_at(i));
    for (const struct admin_command *c = admin_commands; c->noun; c++) {
        add_command(paths, c, false);
        if (admin_is_own(c))
            add_command(paths, c, true);
    }
    char *text = json_dumps(root, JSON_COMPACT);
    if (text)
        buf_put_str(out, text);
    else
        out->failed = true;
    free(text);
    json_decref(root);
    CHECK(!out->failed); /* no memory, and that at start */
}
