/* SPDX-License-Identifier: Apache-2.0 */
/*
 * GET /v1/receipts/{offset}: which watermarks have passed a message. Whose it is says the journal,
 * so this needs the disk; who may not read the message is told what he is told of an offset that
 * nothing has.
 */
#include "api/private.h"

static bool parse_offset(struct slice text, uint64_t *ret)
{
    uint64_t v = 0;
    if (text.len == 0 || text.len > 19) /* what has more digits is no offset either */
        return false;
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] < '0' || text.ptr[i] > '9')
            return false;
        v = v * 10 + (uint64_t)(text.ptr[i] - '0');
    }
    *ret = v;
    return true;
}

static bool may_see(const struct api *a, const struct record *r, const struct api_caller *c)
{
    if (r->account != c->account->number)
        return false;
    if (r->kind == RECORD_PUBLISH)
        return c->credential->patterns_count == 0;
    if (r->kind != RECORD_DATUM && r->kind != RECORD_CHANGED && r->kind != RECORD_DELETED)
        return false;
    struct feed *f = catalog_feed_by_number(a->catalog, r->feed);
    bool covers = f ? credential_covers(c->credential, f->key) : c->credential->patterns_count == 0;
    feed_unref(f);
    return covers;
}

/* 1: the caller may be told of the record there; 0: he may not, or there is none; or a negative
 * errno. */
static int look_up(const struct api *a, uint64_t offset, const struct api_caller *c)
{
    struct journal_reader *reader;
    struct journal_batch batch;
    struct record r;
    struct error err;
    size_t at = 0;
    if (offset >= journal_durable(a->journal))
        return 0;
    int rc = journal_reader_open(a->journal,
                                 &(struct journal_reader_opts){.has_start = true, .start = offset},
                                 &reader, &err);
    if (rc)
        return rc;
    rc = journal_reader_next(reader, &batch);
    if (rc == JOURNAL_BATCH)
        rc = batch.first_offset == offset && journal_batch_record(&batch, &at, &r) > 0 &&
             may_see(a, &r, c);
    else if (rc > 0)
        rc = 0;
    journal_reader_close(reader);
    return rc;
}

enum api_read api_receipt(const struct api *a, const struct route_match *m, struct exchange *x,
                          const struct api_caller *c, bool may_block)
{
    uint64_t offset;
    bool is_offset = parse_offset(m->id, &offset);
    if (is_offset && !may_block)
        return API_READ_IO;
    int found = is_offset ? look_up(a, offset, c) : 0;
    x->reply.no_store = true;
    if (found < 0)
        return api_refuse(x, REASON_busy, "the journal cannot be read now");
    if (!found)
        return api_refuse(x, REASON_not_found,
                          "not found - there is no message at that offset, or not any more, that "
                          "this credential may read");
    struct buf *out = &x->reply.body;
    buf_printf(out, "{\"log\":\"%s\",\"shard\":0,\"offset\":", a->log_id);
    buf_put_dec(out, offset);
    buf_put_str(out, ",\"durable\":true");
    a->watermarks(a->arg, offset, out);
    buf_put_str(out, "}");
    return api_done(x);
}
