/* SPDX-License-Identifier: Apache-2.0 */
#include "codec/points_form.h"

#include <errno.h>

#include "codec/form.h"
#include "codec/utf8.h"

/* "value" of "value" or "datum[value]". */
static struct slice plain_name(struct slice name)
{
    struct slice before = SLICE("datum[");
    if (name.len > before.len && slice_starts(name, before) && name.ptr[name.len - 1] == ']')
        return slice_of(name.ptr + before.len, name.len - before.len - 1);
    return name;
}

struct form {
    struct build *build;
    struct datum_members *members;
};

static int on_field(void *arg, struct slice name, struct slice value)
{
    struct form *f = arg;
    struct json *where = datum_member(f->members, plain_name(name));
    if (!where || where == &f->members->datum)
        return 0;
    if (where->raw.ptr)
        return build_fail(f->build, NULL, -EINVAL, "a form field stands there twice");
    if (!utf8_text(value))
        return build_fail(f->build, NULL, -EINVAL, "a form field that is not UTF-8");
    *where = (struct json){.type = JSON_STRING, .raw = value};
    return 0;
}

int form_datum(struct build *b, struct slice body, enum body_form form, struct slice boundary,
               struct datum_members *ret)
{
    const char *why = NULL;
    struct form f = {.build = b, .members = ret};
    int rc = form == BODY_MULTIPART ? form_multipart(body, boundary, on_field, &f, &why)
                                    : form_urlencoded(body, b->out->storage, on_field, &f, &why);
    return rc != 0 && why ? build_fail(b, NULL, rc, why) : rc;
}
