/* SPDX-License-Identifier: Apache-2.0 */
/* Every row of the two tables is described, and what it names is there. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <ctype.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "api/admin.h"
#include "api/api.h"

static json_t *document(void)
{
    struct buf text;
    json_error_t where;
    buf_init(&text, 16u << 20);
    api_openapi(&text);
    assert_false(text.failed);
    json_t *root = json_loadb(text.ptr, text.len, JSON_REJECT_DUPLICATES, &where);
    if (!root)
        fail_msg("%s at %d:%d", where.text, where.line, where.column);
    buf_fini(&text);
    return root;
}

static bool is_id(const char *s)
{
    while (islower((unsigned char)*s) || *s == '_')
        s++;
    return *s == 0;
}

static void routes_are_described(void **state)
{
    (void)state;
    for (unsigned i = 0; route_at(i); i++) {
        const struct route *r = route_at(i);
        if (strchr(r->path, '*'))
            continue;
        if (!r->doc || !r->doc->id || !r->doc->tag || !r->doc->summary || !r->doc->answer)
            fail_msg("route.c: %s has no DOC with id, tag, summary and answer", r->path);
        if (!is_id(r->doc->id))
            fail_msg("route.c: %s: the id \"%s\" is not in lower_case", r->path, r->doc->id);
        bool writes = r->method == METHOD_POST || r->method == METHOD_PUT;
        if (writes && !r->doc->body && r->class == ROUTE_WRITE)
            fail_msg("route.c: %s: which body?", r->path);
    }
}

static void commands_are_described(void **state)
{
    (void)state;
    for (const struct admin_command *c = admin_commands; c->noun; c++) {
        if (!c->verb || !c->text || !c->example || !c->run)
            fail_msg("admin_table.c: the row %s is not whole", c->noun);
        if (!c->result)
            fail_msg("admin_table.c: %s %s does not name the schema of its answer", c->noun,
                     c->verb);
        for (unsigned i = 0; i < ADMIN_ARGS_MAX && c->args[i].name; i++)
            if (!c->args[i].text || (c->args[i].kind != ADMIN_SWITCH && !c->args[i].placeholder))
                fail_msg("admin_table.c: %s %s: \"%s\" is not explained", c->noun, c->verb,
                         c->args[i].name);
    }
}

/* "#/components/schemas/Datum" */
static const json_t *resolve(const json_t *root, const char *reference)
{
    char name[100];
    const json_t *at = root;
    assert_memory_equal(reference, "#/", 2);
    for (const char *from = reference + 2; from; from = strchr(from, '/')) {
        from += *from == '/';
        snprintf(name, sizeof name, "%.*s", (int)strcspn(from, "/"), from);
        at = json_object_get(at, name);
    }
    return at;
}

/* Every reference anywhere leads somewhere; counts them. */
static unsigned check_references(const json_t *root, const json_t *at)
{
    const char *name;
    json_t *value;
    size_t i;
    unsigned n = 0;
    json_object_foreach((json_t *)at, name, value)
    {
        if (strcmp(name, "$ref") == 0 && json_is_string(value)) {
            if (!resolve(root, json_string_value(value)))
                fail_msg("api/openapi.json lacks %s", json_string_value(value));
            n++;
        }
        n += check_references(root, value);
    }
    json_array_foreach((json_t *)at, i, value) n += check_references(root, value);
    return n;
}

static void what_rows_name_is_there(void **state)
{
    (void)state;
    json_t *root = document();
    assert_true(check_references(root, root) > 50);
    json_decref(root);
}

static bool is_tag(const json_t *root, const char *tag)
{
    size_t i;
    json_t *t;
    json_array_foreach(json_object_get(root, "tags"), i, t)
    {
        if (strcmp(json_string_value(json_object_get(t, "name")), tag) == 0)
            return true;
    }
    return false;
}

static void every_row_is_one_operation(void **state)
{
    (void)state;
    json_t *root = document(), *seen = json_object(), *item, *op;
    const char *path, *method;
    unsigned rows = 0;
    json_object_foreach(json_object_get(root, "paths"), path, item)
    {
        json_object_foreach(item, method, op)
        {
            const char *id = json_string_value(json_object_get(op, "operationId"));
            if (json_object_get(seen, id))
                fail_msg("two operations are called %s", id);
            json_object_set_new(seen, id, json_true());
            const char *tag = json_string_value(json_array_get(json_object_get(op, "tags"), 0));
            if (!is_tag(root, tag))
                fail_msg("%s: api/openapi.json has no tag \"%s\"", id, tag);
            if (strchr(path, '*') || strstr(path, "{u}"))
                fail_msg("%s: a part of %s has no parameter", id, path);
        }
    }
    for (unsigned i = 0; route_at(i); i++)
        rows += route_at(i)->doc != NULL;
    for (const struct admin_command *c = admin_commands; c->noun; c++)
        rows += admin_is_own(c) ? 2 : 1;
    assert_int_equal(json_object_size(seen), rows);
    json_decref(seen);
    json_decref(root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(routes_are_described),
        cmocka_unit_test(commands_are_described),
        cmocka_unit_test(what_rows_name_is_there),
        cmocka_unit_test(every_row_is_one_operation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
