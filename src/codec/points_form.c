/* SPDX-License-Identifier: Apache-2.0 */
#include "codec/points_form.h"

#include <errno.h>

#include "codec/text.h"
#include "codec/utf8.h"

#define PARTS_MAX        32u
#define PART_HEADERS_MAX 2048u

/* "value" of "value" or "datum[value]". */
static struct slice plain_name(struct slice name)
{
    struct slice before = SLICE("datum[");
    if (name.len > before.len && slice_starts(name, before) && name.ptr[name.len - 1] == ']')
        return slice_of(name.ptr + before.len, name.len - before.len - 1);
    return name;
}

static int field(struct build *b, struct slice name, struct slice value, struct datum_members *m)
{
    struct json *where = datum_member(m, plain_name(name));
    if (!where || where == &m->datum)
        return 0;
    if (where->raw.ptr)
        return build_fail(b, NULL, -EINVAL, "a form field stands there twice");
    if (!utf8_text(value))
        return build_fail(b, NULL, -EINVAL, "a form field that is not UTF-8");
    *where = (struct json){.type = JSON_STRING, .raw = value};
    return 0;
}

int form_urlencoded(struct build *b, struct slice body, struct datum_members *ret)
{
    struct buf *storage = b->out->storage;
    struct slice name, value;
    int rc = 0;
    while (rc == 0 && query_next(&body, &name, &value)) {
        size_t name_at = storage->len;
        if (!percent_decode(name, true, storage))
            return build_fail(b, NULL, -EINVAL, "a form field with a bad %XX");
        size_t value_at = storage->len;
        if (!percent_decode(value, true, storage))
            return build_fail(b, NULL, -EINVAL, "a form field with a bad %XX");
        rc = field(b, slice_of(storage->ptr + name_at, value_at - name_at),
                   slice_of(storage->ptr + value_at, storage->len - value_at), ret);
    }
    return rc;
}

/* ---- multipart/form-data ---- */

/* The first "--boundary" at the start of a line from `from` on; NULL: none. */
static const char *find_delimiter(struct slice body, const char *from, struct slice boundary)
{
    const char *end = body.ptr + body.len;
    while (end - from >= (ptrdiff_t)boundary.len + 2) {
        const char *dash = memmem(from, (size_t)(end - from), "--", 2);
        if (!dash || end - dash < (ptrdiff_t)boundary.len + 2)
            return NULL;
        bool at_start =
            dash == body.ptr || (dash - body.ptr >= 2 && dash[-2] == '\r' && dash[-1] == '\n');
        if (at_start && memcmp(dash + 2, boundary.ptr, boundary.len) == 0)
            return dash;
        from = dash + 1;
    }
    return NULL;
}

/* `name` of a Content-Disposition value: name="x" or name=x. */
static bool disposition_name(struct slice v, struct slice *ret)
{
    const char *p = v.ptr, *end = v.ptr + v.len;
    while ((p = memchr(p, ';', (size_t)(end - p)))) {
        p++;
        while (p < end && (*p == ' ' || *p == '\t'))
            p++;
        if (end - p < 5 || strncasecmp(p, "name=", 5) != 0)
            continue;
        p += 5;
        bool quoted = p < end && *p == '"';
        p += quoted;
        const char *from = p;
        while (p < end && *p != (quoted ? '"' : ';'))
            p++;
        *ret = slice_of(from, (size_t)(p - from));
        return !quoted || p < end;
    }
    return false;
}

/* Reads a part's header lines from p; *ret_body is what follows the empty line. */
static bool part_headers(const char *p, const char *end, struct slice *ret_name,
                         const char **ret_body)
{
    static const char disposition[] = "content-disposition:";
    const char *limit = end - p > (ptrdiff_t)PART_HEADERS_MAX ? p + PART_HEADERS_MAX : end;
    bool named = false;
    for (;;) {
        const char *crlf = memmem(p, (size_t)(limit - p), "\r\n", 2);
        if (!crlf)
            return false;
        if (crlf == p) {
            *ret_body = p + 2;
            return named;
        }
        size_t n = sizeof disposition - 1;
        if ((size_t)(crlf - p) > n && strncasecmp(p, disposition, n) == 0)
            named = disposition_name(slice_of(p + n, (size_t)(crlf - p) - n), ret_name);
        p = crlf + 2;
    }
}

int form_multipart(struct build *b, struct slice body, struct slice boundary,
                   struct datum_members *ret)
{
    static const char fault[] = "not a multipart/form-data body";
    if (body.len == 0 || boundary.len == 0)
        return build_fail(b, NULL, -EINVAL, fault);
    const char *end = body.ptr + body.len;
    const char *at = find_delimiter(body, body.ptr, boundary);
    for (unsigned part = 0; at; part++) {
        const char *p = at + 2 + boundary.len;
        if (end - p >= 2 && p[0] == '-' && p[1] == '-')
            return 0;
        while (p < end && (*p == ' ' || *p == '\t')) /* RFC 2046: transport padding */
            p++;
        struct slice name;
        const char *from;
        if (part == PARTS_MAX)
            return build_fail(b, NULL, -E2BIG, "too many parts in the form");
        if (end - p < 2 || p[0] != '\r' || p[1] != '\n' || !part_headers(p + 2, end, &name, &from))
            break;
        /* An empty part ends with the CR LF that also begins its delimiter line. */
        at = find_delimiter(body, from, boundary);
        if (!at || at - from < 2)
            break;
        int rc = field(b, name, slice_of(from, (size_t)(at - 2 - from)), ret);
        if (rc != 0)
            return rc;
    }
    return build_fail(b, NULL, -EINVAL, fault);
}
