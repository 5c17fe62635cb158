/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages as rows. Data and topic messages are rows of a COPY in PostgreSQL's binary form
 * (documentation of COPY, "Binary Format"): big endian, a length before each field, -1 for null. A
 * change or deletion of a datum ends the COPY, does the same to its row, and the next COPY begins:
 * so they happen in the order of the journal.
 */
#include <string.h>

#include "base/clock.h"
#include "codec/number.h"
#include "flow/publish.h"
#include "sink/postgres_own.h"

#define PIECE_BYTES 65536u            /* handed to libpq at a time */
#define EPOCH_US    946684800000000ll /* 2000-01-01, PostgreSQL's, in ours */
#define LONG_FACTOR 20                /* deleting a whole feed may take so many times as long */
#define FIELDS      15

/* Types: src/include/catalog/pg_type.dat. */
enum { OID_INT8 = 20, OID_TEXT = 25, OID_FLOAT8 = 701, OID_TIMESTAMPTZ = 1184 };

static void put_be32(struct buf *out, uint32_t v)
{
    const uint8_t b[4] = {(uint8_t)(v >> 24), (uint8_t)(v >> 16), (uint8_t)(v >> 8), (uint8_t)v};
    buf_put(out, b, sizeof b);
}

static void be64(uint8_t b[8], uint64_t v)
{
    for (unsigned i = 0; i < 8; i++)
        b[i] = (uint8_t)(v >> (56 - 8 * i));
}

static void put_int(struct buf *out, uint64_t v)
{
    uint8_t b[8];
    be64(b, v);
    put_be32(out, 8);
    buf_put(out, b, 8);
}

static uint64_t bits_of(double v)
{
    uint64_t bits;
    memcpy(&bits, &v, sizeof bits);
    return bits;
}

/* Times that PostgreSQL has not are refused there: the message is a dead letter. */
static uint64_t time_of(int64_t us)
{
    int64_t t;
    return (uint64_t)(__builtin_sub_overflow(us, EPOCH_US, &t) ? INT64_MIN + 1 : t);
}

static void put_text(struct buf *out, struct slice s)
{
    put_be32(out, (uint32_t)s.len);
    buf_put_slice(out, s);
}

static void put_null(struct buf *out)
{
    put_be32(out, UINT32_MAX);
}

static void put_name(struct buf *out, struct slice s)
{
    if (s.len)
        put_text(out, s);
    else
        put_null(out);
}

static void put_number(struct buf *out, uint64_t n)
{
    if (n)
        put_int(out, n);
    else
        put_null(out);
}

static void put_double(struct buf *out, bool has, double v)
{
    if (has)
        put_int(out, bits_of(v));
    else
        put_null(out);
}

static bool is_number(struct slice value)
{
    return number_form(value) && number_finite(value);
}

/* What a message says: a datum's value and place, or the message to a topic. */
static bool read_message(const struct record *r, struct datum *ret)
{
    struct publish p;
    if (r->kind != RECORD_PUBLISH)
        return datum_decode(r->payload, ret);
    *ret = (struct datum){0};
    if (!publish_decode(r->payload, &p))
        return false;
    ret->value = p.message;
    return true;
}

/* False: the payload is damaged. */
static bool put_row(struct buf *out, const struct sink_message *m)
{
    const struct record *r = &m->record;
    struct datum d;
    if (!read_message(r, &d))
        return false;
    bool number = is_number(d.value);
    buf_put_u8(out, 0);
    buf_put_u8(out, FIELDS);
    put_int(out, time_of(r->receive_us));
    put_int(out, time_of(r->event_us));
    put_int(out, m->offset);
    put_name(out, m->names.account);
    put_name(out, r->kind == RECORD_PUBLISH ? (struct slice){0} : m->names.feed);
    put_name(out, m->names.device);
    put_name(out, r->topic);
    put_text(out, d.value);
    put_double(out, number, number ? number_value(d.value) : 0);
    put_double(out, d.has_place, d.lat);
    put_double(out, d.has_place, d.lon);
    put_double(out, d.has_place && d.has_ele, d.ele);
    put_int(out, r->account);
    put_number(out, r->feed);
    put_number(out, r->credential);
    return true;
}

/* ---- copying --------------------------------------------------------------------------------- */

static enum sink_outcome hand_on(struct postgres *p, struct error *err)
{
    if (p->rows.failed) {
        error_set(err, 0, "no memory for rows");
        return SINK_AWAY;
    }
    enum sink_outcome rc = pq_copy(&p->pq, buf_slice(&p->rows), err);
    buf_clear(&p->rows);
    return rc;
}

static enum sink_outcome copy_begin(struct postgres *p, struct error *err)
{
    static const char head[] = "PGCOPY\n\377\r\n\0\0\0\0\0\0\0\0"; /* signature, flags, no more */
    buf_clear(&p->sql);
    buf_printf(&p->sql,
               "COPY %s.message (received, ts, position, account, feed, device, topic, value, "
               "number, lat, lon, ele, account_no, feed_no, device_no) FROM STDIN (FORMAT binary)",
               p->opts.schema);
    buf_put_u8(&p->sql, 0);
    buf_reuse(&p->rows, 4 * PIECE_BYTES);
    buf_put(&p->rows, head, 19);
    return pq_copy_begin(&p->pq, p->sql.ptr, err);
}

static enum sink_outcome copy_end(struct postgres *p, struct error *err)
{
    buf_put_u8(&p->rows, 255);
    buf_put_u8(&p->rows, 255);
    enum sink_outcome rc = hand_on(p, err);
    return rc == SINK_DONE ? pq_copy_end(&p->pq, err) : rc;
}

/* ---- corrections ----------------------------------------------------------------------------- */

static enum sink_outcome delete_feed(struct postgres *p, const struct sink_message *m,
                                     struct error *err)
{
    uint8_t feed[8], before[8];
    uint64_t long_ns = LONG_FACTOR * p->opts.timeout_ns;
    be64(feed, m->record.feed);
    be64(before, m->offset);
    buf_clear(&p->sql);
    buf_printf(&p->sql, "SET LOCAL statement_timeout = %llu",
               (unsigned long long)(long_ns / NS_PER_MS));
    buf_put_u8(&p->sql, 0);
    enum sink_outcome rc = pq_run(&p->pq, p->sql.ptr, NULL, err);
    if (rc != SINK_DONE)
        return rc;
    buf_clear(&p->sql);
    /* The account's index is of use if the account is still called as it was. */
    buf_printf(&p->sql,
               "DELETE FROM %s.message WHERE feed_no = $1 AND position < $2 AND ($3 = '' OR "
               "account = $3)",
               p->opts.schema);
    buf_put_u8(&p->sql, 0);
    const struct pq_param params[] = {
        {OID_INT8, feed, 8},
        {OID_INT8, before, 8},
        {OID_TEXT, m->names.account.len ? m->names.account.ptr : "", m->names.account.len}};
    return pq_run_params(&p->pq, p->sql.ptr, params, 3, long_ns, err);
}

static enum sink_outcome delete_datum(struct postgres *p, struct datum_target t, struct error *err)
{
    uint8_t position[8], from[8], to[8];
    be64(position, t.offset);
    be64(from, time_of(t.event_ms * 1000));
    be64(to, time_of(t.event_ms * 1000 + 1000));
    buf_clear(&p->sql);
    buf_printf(&p->sql, "DELETE FROM %s.message WHERE position = $1 AND ts >= $2 AND ts < $3",
               p->opts.schema);
    buf_put_u8(&p->sql, 0);
    const struct pq_param params[] = {
        {OID_INT8, position, 8}, {OID_TIMESTAMPTZ, from, 8}, {OID_TIMESTAMPTZ, to, 8}};
    return pq_run_params(&p->pq, p->sql.ptr, params, 3, 0, err);
}

static enum sink_outcome change_datum(struct postgres *p, struct datum_target t,
                                      const struct datum *d, struct error *err)
{
    uint8_t position[8], from[8], to[8], number[8], lat[8], lon[8], ele[8];
    bool is = is_number(d->value);
    be64(position, t.offset);
    be64(from, time_of(t.event_ms * 1000));
    be64(to, time_of(t.event_ms * 1000 + 1000));
    be64(number, bits_of(is ? number_value(d->value) : 0));
    be64(lat, bits_of(d->lat));
    be64(lon, bits_of(d->lon));
    be64(ele, bits_of(d->ele));
    buf_clear(&p->sql);
    buf_printf(&p->sql,
               "UPDATE %s.message SET value = $4, number = $5, lat = $6, lon = $7, ele = $8 "
               "WHERE position = $1 AND ts >= $2 AND ts < $3",
               p->opts.schema);
    buf_put_u8(&p->sql, 0);
    const struct pq_param params[] = {{OID_INT8, position, 8},
                                      {OID_TIMESTAMPTZ, from, 8},
                                      {OID_TIMESTAMPTZ, to, 8},
                                      {OID_TEXT, d->value.len ? d->value.ptr : "", d->value.len},
                                      {OID_FLOAT8, is ? number : NULL, 8},
                                      {OID_FLOAT8, d->has_place ? lat : NULL, 8},
                                      {OID_FLOAT8, d->has_place ? lon : NULL, 8},
                                      {OID_FLOAT8, d->has_place && d->has_ele ? ele : NULL, 8}};
    return pq_run_params(&p->pq, p->sql.ptr, params, 8, 0, err);
}

static enum sink_outcome damaged(struct error *err)
{
    error_set(err, 0, "its payload is no %s", "datum");
    return SINK_POISON;
}

static enum sink_outcome correct(struct postgres *p, const struct sink_message *m,
                                 struct error *err)
{
    const struct record *r = &m->record;
    struct datum_target target;
    struct datum d;
    if (r->kind == RECORD_DELETED && r->payload.len == 0)
        return delete_feed(p, m, err);
    if (!datum_target_decode(r->payload, &target))
        return damaged(err);
    if (r->kind == RECORD_DELETED)
        return delete_datum(p, target, err);
    return datum_decode(slice_from(r->payload, DATUM_TARGET_BYTES), &d)
               ? change_datum(p, target, &d, err)
               : damaged(err);
}

enum sink_outcome postgres_rows(struct postgres *p, const struct sink_batch *b, struct error *err)
{
    enum sink_outcome rc = SINK_DONE;
    bool copying = false, broken = false;
    for (unsigned i = 0; i < b->count && rc == SINK_DONE && !broken; i++) {
        const struct sink_message *m = &b->messages[i];
        bool row = m->record.kind == RECORD_DATUM || m->record.kind == RECORD_PUBLISH;
        if (row && !copying)
            rc = copy_begin(p, err);
        else if (!row && copying)
            rc = copy_end(p, err);
        copying = row;
        if (rc == SINK_DONE && row)
            broken = !put_row(&p->rows, m);
        else if (rc == SINK_DONE)
            rc = correct(p, m, err);
        if (rc == SINK_DONE && copying && p->rows.len >= PIECE_BYTES)
            rc = hand_on(p, err);
    }
    if (rc == SINK_DONE && copying)
        rc = copy_end(p, err);
    return rc == SINK_DONE && broken ? damaged(err) : rc;
}
