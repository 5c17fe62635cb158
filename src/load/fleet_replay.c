/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A recording as requests: when, method, target, header fields and sizes are as recorded; who
 * sends, and what, is ours. Devices take turns.
 */
#include <errno.h>
#include <stdlib.h>

#include "load/fleet_private.h"
#include "load/recording.h"

struct replay {
    struct fleet *fleet;
    const struct load_opts *opts;
    uint64_t first_us, last_us;
    struct error *err;
};

static bool is_one_of(struct slice name, const struct slice *list, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (slice_eq_nocase(name, list[i]))
            return true;
    return false;
}
#define IS_ONE_OF(name, list) is_one_of(name, list, sizeof(list) / sizeof(list)[0])

/* What is put by us, or says something of the recorded connection or body that is not so here. */
static bool is_ours(struct slice name)
{
    static const struct slice ours[] = {
        {"host", 4},
        {"content-length", 14},
        {"content-type", 12},
        {"connection", 10},
        {"transfer-encoding", 17},
        {"content-encoding", 16},
        {"expect", 6},
        {"upgrade", 7},
        {"sec-websocket-key", 17},
        {"authorization", 13},
        {"x-aio-key", 9},
        {"x-device-id", 11},
        {"x-device-token", 14},
        {"x-device-seq", 12},
        {"forwarded", 9},
        {"x-forwarded-for", 15},
        {"x-real-ip", 9},
        {"trailer", 7},
    };
    return IS_ONE_OF(name, ours);
}

static void put_fields(struct buf *out, const struct recorded *r, struct template_marks *marks)
{
    for (unsigned i = 0; i < r->fields_count; i++) {
        if (is_ours(r->names[i]))
            continue;
        buf_put_slice(out, r->names[i]);
        buf_put_str(out, ": ");
        if (slice_eq_nocase(r->names[i], SLICE("idempotency-key")))
            template_expand(out, SLICE("%seq%"), (struct slice){0}, marks); /* new each time */
        else
            buf_put_slice(out, r->values[i]);
        buf_put_str(out, "\r\n");
    }
}

/* Such as /api/v2/USER/feeds/KEY/data. */
static bool names_its_feed(struct slice target)
{
    return memmem(target.ptr, target.len, "/data", 5) != NULL;
}

/* JSON of that size, by blanks at its end; larger if that is too small. */
static void put_body(struct buf *body, const struct replay *p, const struct recorded *r,
                     struct template_marks *marks)
{
    if (r->body == 0)
        return;
    bool datum = names_its_feed(r->target);
    buf_put_str(body, "{\"");
    template_expand(body, datum ? SLICE("value") : slice_str(p->opts->feed), (struct slice){0},
                    NULL);
    buf_put_str(body, "\":\"");
    template_expand(body, SLICE("%seq%"), (struct slice){0}, marks);
    buf_put_str(body, "\"");
    while (body->len + 1 < r->body && !body->failed)
        buf_put_u8(body, ' ');
    buf_put_str(body, "}");
}

static struct fleet_row row_of(const struct fleet *f, uint32_t number)
{
    struct fleet_row row = {0};
    if (f->rows_count) {
        const struct fleet_name *n = &f->rows[number % f->rows_count];
        row.id = slice_of(f->names.ptr + n->at, n->id_len);
        row.secret = slice_of(f->names.ptr + n->at + n->id_len, n->secret_len);
    }
    return row;
}

static int on_recorded(void *arg, const struct recorded *r)
{
    struct replay *p = arg;
    struct fleet *f = p->fleet;
    struct buf *out = &f->bytes, body;
    struct template_marks in_head = {0}, in_body = {0};
    struct fleet_row row = row_of(f, f->count);
    uint64_t at = out->len;
    buf_init(&body, FLEET_REQUEST_MAX);
    put_body(&body, p, r, &in_body);
    buf_printf(out, "%.*s %.*s HTTP/1.1\r\nHost: %.*s\r\n", SLICE_ARG(r->method),
               SLICE_ARG(r->target), SLICE_ARG(p->opts->url.authority));
    fleet_put_credentials(out, p->opts, &row, NULL);
    put_fields(out, r, &in_head);
    if (body.len)
        buf_printf(out, "Content-Type: application/json\r\nContent-Length: %zu\r\n", body.len);
    buf_put_str(out, "\r\n");
    if (f->count == 0)
        p->first_us = p->last_us = r->us;
    p->last_us = r->us > p->last_us ? r->us : p->last_us; /* workers differ by a little */
    int rc = fleet_add(f, at, &in_head, &body, &in_body, row.id, p->err);
    if (rc == 0 && names_its_feed(r->target)) /* which is not --feed */
        f->devices[f->count - 1].stores = false;
    if (rc == 0)
        f->devices[f->count - 1].due_ns =
            (uint64_t)((double)(p->last_us - p->first_us) * 1000 / p->opts->speed);
    buf_fini(&body);
    return rc;
}

int fleet_replay(struct fleet *f, const struct load_opts *opts, struct error *err)
{
    struct replay p = {.fleet = f, .opts = opts, .err = err};
    return recording_read(opts->replay, on_recorded, &p, err);
}
