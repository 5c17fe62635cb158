/* SPDX-License-Identifier: Apache-2.0 */
#include "codec/points_csv.h"

#include <errno.h>

#include "codec/utf8.h"

int csv_row(struct build *b, struct csv *csv, struct csv_record *ret)
{
    struct error why;
    ret->count = 0;
    switch (csv_next(csv, ret, &why)) {
    case CSV_END:
        ret->count = 0;
        return 0;
    case CSV_BAD:
        b->line = ret->line;
        return build_fail(b, NULL, -EINVAL, why.text);
    case CSV_RECORD:
        break;
    }
    b->line = ret->line;
    for (unsigned i = 0; i < ret->count; i++)
        if (!utf8_text(ret->fields[i]))
            return build_fail(b, NULL, -EINVAL, "text that is not UTF-8");
    return 0;
}

struct slice csv_keep(struct build *b, struct slice field)
{
    struct buf *storage = b->out->storage;
    size_t at = storage->len;
    buf_put_slice(storage, field);
    return slice_of(storage->ptr + at, field.len);
}

struct json csv_member(struct slice field)
{
    return field.len ? (struct json){.type = JSON_STRING, .raw = field} : (struct json){0};
}

/* Which member each column holds, as a place in struct datum_members. */
struct columns {
    size_t at[CSV_FIELDS_MAX];
    unsigned count;
};

/* Whether the row is a heading: then its columns are the ones. */
static bool heading(const struct csv_record *row, struct columns *ret)
{
    struct datum_members m = {0};
    struct columns c = {.count = row->count};
    for (unsigned i = 0; i < row->count; i++) {
        struct json *at = datum_member(&m, row->fields[i]);
        if (!at || at == &m.datum || at->raw.ptr)
            return false;
        at->raw.ptr = "";
        c.at[i] = (size_t)((char *)at - (char *)&m);
    }
    if (!m.value.raw.ptr)
        return false;
    *ret = c;
    return true;
}

static int take_row(struct build *b, const struct csv_record *row, const struct columns *c)
{
    struct datum_members m = {0};
    if (row->count > c->count)
        return build_fail(b, NULL, -EINVAL, "more columns than value,lat,lon,ele,created_at");
    for (unsigned i = 0; i < row->count; i++) {
        struct json *at = (struct json *)(void *)((char *)&m + c->at[i]);
        *at = csv_member(row->fields[i]);
        if (at == &m.value) /* an empty value is one */
            *at = (struct json){.type = JSON_STRING, .raw = csv_keep(b, row->fields[i])};
    }
    if (!m.value.raw.ptr)
        return build_fail(b, NULL, -EINVAL, "data missing required value");
    struct point *p = build_point(b);
    return p ? build_datum(b, &m, BUILD_LENIENT, p) : -E2BIG;
}

int csv_data(struct build *b, struct slice body)
{
    struct columns columns = {
        .at = {offsetof(struct datum_members, value), offsetof(struct datum_members, lat),
               offsetof(struct datum_members, lon), offsetof(struct datum_members, ele),
               offsetof(struct datum_members, created_at)},
        .count = 5};
    struct csv csv;
    struct csv_record row;
    int rc;
    csv_init(&csv, body, 1);
    rc = csv_row(b, &csv, &row);
    if (rc == 0 && row.count && heading(&row, &columns))
        rc = csv_row(b, &csv, &row);
    while (rc == 0 && row.count) {
        b->element++;
        rc = take_row(b, &row, &columns);
        if (rc == 0)
            rc = csv_row(b, &csv, &row);
    }
    csv_fini(&csv);
    return rc;
}
