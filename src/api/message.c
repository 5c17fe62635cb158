/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What MQTT subscribers get of data, in the forms of Adafruit IO's topics: when it is stored
 * (pipeline_live.c), and when somebody publishes to the topic with "/get" behind it.
 */
#include "api/private.h"
#include "codec/csv.h"

#define STORAGE_MAX (32u << 20)

static void put_place(struct buf *out, const struct datum *d)
{
    if (!d->has_place) {
        buf_put_str(out, ",,,");
        return;
    }
    buf_printf(out, ",%.15g,%.15g,", d->lat, d->lon);
    if (d->has_ele)
        buf_printf(out, "%.15g", d->ele);
}

void api_put_message(struct buf *out, const struct api *a, enum body_form form,
                     const struct feed *f, const struct datum *d, int64_t event_us, uint64_t offset)
{
    if (form == BODY_JSON) {
        api_format_datum(out, a, f, d, event_us, offset, NULL);
    } else if (form == BODY_CSV) {
        csv_put(out, d->value);
        put_place(out, d);
    } else {
        buf_put_slice(out, d->value);
    }
}

/* The feed's key without its group's. */
static struct slice short_key(const struct feed *f)
{
    const char *dot = memchr(f->key.ptr, '.', f->key.len);
    return dot ? slice_from(f->key, (size_t)(dot - f->key.ptr) + 1) : f->key;
}

void api_put_in_group(struct buf *out, enum body_form form, const struct feed *f,
                      const struct datum *d)
{
    if (form == BODY_CSV) {
        csv_put(out, short_key(f));
        buf_put_u8(out, ',');
        csv_put(out, d->value);
        buf_put_u8(out, '\n');
        return;
    }
    buf_put_str(out, out->len ? "," : "{\"feeds\":{");
    buf_put_json(out, short_key(f));
    buf_put_u8(out, ':');
    buf_put_json(out, d->value);
}

void api_end_group(struct buf *out, enum body_form form)
{
    if (form != BODY_CSV)
        buf_put_str(out, "}}");
}

/* ---- the newest, when it is asked for ---- */

/* Appends the feed's newest datum, if there is one. */
static enum api_read put_newest(const struct api *a, const struct route_match *m, struct buf *out,
                                const struct feed *f, bool may_block, int *ret_rc)
{
    struct api_datum d = {0};
    buf_init(&d.storage, STORAGE_MAX);
    enum api_read r = api_newest(a, f, may_block, &d, ret_rc);
    if (r == API_READ_DONE && *ret_rc == 0 && d.has) {
        if (m->route->op == OP_GET_GROUP)
            api_put_in_group(out, m->form, f, &d.point.datum);
        else
            api_put_message(out, a, m->form, f, &d.point.datum, d.point.event_us, d.point.offset);
    }
    buf_fini(&d.storage);
    return r;
}

static enum api_read put_newest_of_group(const struct api *a, const struct route_match *m,
                                         struct buf *out, const struct api_caller *c,
                                         bool may_block, int *ret_rc)
{
    struct buf list;
    enum api_read r = API_READ_DONE;
    buf_init(&list, 1u << 30);
    unsigned count = catalog_feeds(a->catalog, c->account->number, &list);
    struct feed **feeds = (struct feed **)(void *)list.ptr;
    for (unsigned i = 0; i < count; i++) {
        if (r == API_READ_DONE && *ret_rc == 0 && feed_in_group(feeds[i], c->group) &&
            credential_covers(c->credential, feeds[i]->key))
            r = put_newest(a, m, out, feeds[i], may_block, ret_rc);
        feed_unref(feeds[i]);
    }
    buf_fini(&list);
    if (out->len)
        api_end_group(out, m->form);
    return r;
}

enum api_read api_message(const struct api *a, const struct route_match *m, struct exchange *x,
                          const struct api_caller *c, bool may_block)
{
    struct buf *out = &x->reply.body;
    enum api_read r = API_READ_DONE;
    int rc = 0;
    if (c->group)
        r = put_newest_of_group(a, m, out, c, may_block, &rc);
    else if (c->feed)
        r = put_newest(a, m, out, c->feed, may_block, &rc);
    if (r != API_READ_DONE)
        return r;
    if (rc < 0 || out->failed)
        return api_refuse(x, rc < 0 ? REASON_internal : REASON_too_large, NULL);
    api_done(x);
    return API_READ_DONE;
}
