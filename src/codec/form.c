/* SPDX-License-Identifier: Apache-2.0 */
#include "codec/form.h"

#include <errno.h>

#include "codec/text.h"

#define PARTS_MAX        256u
#define PART_HEADERS_MAX 2048u

static const char bad_escape[] = "a form field with a bad %XX";

int form_urlencoded(struct slice body, struct buf *storage, form_field *on_field, void *arg,
                    const char **ret_why)
{
    struct slice name, value;
    int rc = 0;
    *ret_why = NULL;
    while (rc == 0 && query_next(&body, &name, &value)) {
        size_t name_at = storage->len;
        bool good = percent_decode(name, true, storage);
        size_t value_at = storage->len;
        if (!good || !percent_decode(value, true, storage)) {
            *ret_why = bad_escape;
            return -EINVAL;
        }
        rc = on_field(arg, slice_of(storage->ptr + name_at, value_at - name_at),
                      slice_of(storage->ptr + value_at, storage->len - value_at));
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

int form_multipart(struct slice body, struct slice boundary, form_field *on_field, void *arg,
                   const char **ret_why)
{
    static const char fault[] = "not a multipart/form-data body";
    *ret_why = fault;
    if (body.len == 0 || boundary.len == 0)
        return -EINVAL;
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
        if (part == PARTS_MAX) {
            *ret_why = "too many parts in the form";
            return -E2BIG;
        }
        if (end - p < 2 || p[0] != '\r' || p[1] != '\n' || !part_headers(p + 2, end, &name, &from))
            break;
        /* An empty part ends with the CR LF that also begins its delimiter line. */
        at = find_delimiter(body, from, boundary);
        if (!at || at - from < 2)
            break;
        int rc = on_field(arg, name, slice_of(from, (size_t)(at - 2 - from)));
        if (rc != 0) {
            *ret_why = NULL; /* the caller's own */
            return rc;
        }
    }
    return -EINVAL;
}
