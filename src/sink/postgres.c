/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A batch is one transaction:
 *
 *   BEGIN; UPDATE cursor SET next = to WHERE sink = ... AND log = ... AND next = from
 *   COPY message FROM STDIN (FORMAT binary), corrections between two of these
 *   COMMIT
 *
 * The conditional UPDATE is lock, fence and deduplication in one: it changes a row exactly if this
 * batch is the next one. When the outcome of a COMMIT is unknown, or another process was here, the
 * cursor says what is there; so the table needs no unique index. A transaction of ours that the
 * server has not given up yet holds the cursor's row, so the next one waits for it.
 *
 * A replay moves no cursor; it deletes what lies at the batch's positions before it writes there.
 */
#include "sink/postgres.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/clock.h"
#include "sink/password.h"
#include "sink/postgres_own.h"

#define U(v) (unsigned long long)(v)

/* ---- connecting ------------------------------------------------------------------------------ */

static enum sink_outcome dial(struct postgres *p, struct error *err)
{
    struct buf password;
    enum sink_outcome rc =
        password_read("postgres.password_file", p->opts.password_file, &password, err) == 0
            ? pq_connect(&p->pq, p->opts.url, password.ptr, err)
            : SINK_AWAY;
    password_forget(&password);
    if (rc != SINK_DONE)
        return rc;
    buf_clear(&p->sql);
    /* The server gives up when we do; what a gateway that hangs has begun is not held for long. */
    buf_printf(&p->sql,
               "SET statement_timeout = %llu; SET lock_timeout = %llu; "
               "SET idle_in_transaction_session_timeout = %llu;",
               U(p->opts.timeout_ns / NS_PER_MS), U(p->opts.timeout_ns / NS_PER_MS),
               U(2 * p->opts.timeout_ns / NS_PER_MS));
    buf_put_u8(&p->sql, 0);
    return pq_run(&p->pq, p->sql.ptr, NULL, err);
}

/* Where the cursor is; it begins where the runner is. */
static enum sink_outcome read_cursor(struct postgres *p, uint64_t *position, struct error *err)
{
    struct pq_answer answer = {.cell = &p->cell};
    buf_clear(&p->sql);
    buf_printf(&p->sql,
               "INSERT INTO %s.cursor (sink, log, next) VALUES ('%s', '%s', %llu) "
               "ON CONFLICT (sink) DO NOTHING; "
               "SELECT log || ' ' || next FROM %s.cursor WHERE sink = '%s'",
               p->opts.schema, p->opts.name, p->log_id, U(*position), p->opts.schema, p->opts.name);
    buf_put_u8(&p->sql, 0);
    enum sink_outcome rc = pq_run(&p->pq, p->sql.ptr, &answer, err);
    if (rc != SINK_DONE)
        return SINK_AWAY;
    buf_put_u8(&p->cell, 0);
    const char *blank = answer.found ? strchr(p->cell.ptr, ' ') : NULL;
    if (!blank) {
        error_set(err, -EIO, "%s.cursor has no row of this sink", p->opts.schema);
        return SINK_AWAY;
    }
    if ((size_t)(blank - p->cell.ptr) != strlen(p->log_id) ||
        memcmp(p->cell.ptr, p->log_id, strlen(p->log_id)) != 0) {
        error_set(err, -EINVAL,
                  "%s.cursor is that of journal %.*s, and this one is %s: use another schema",
                  p->opts.schema, (int)(blank - p->cell.ptr), p->cell.ptr, p->log_id);
        return SINK_AWAY;
    }
    *position = strtoull(blank, NULL, 10);
    return SINK_DONE;
}

static enum sink_outcome on_open(void *of, uint64_t *position, struct error *err)
{
    struct postgres *p = of;
    enum sink_outcome rc = dial(p, err);
    if (rc == SINK_DONE)
        rc = postgres_migrate(p, err);
    postgres_forget_days(p);
    p->maintain_ns = 0;
    if (rc == SINK_DONE)
        rc = postgres_maintain(p, clock_mono_ns(), err);
    if (rc == SINK_DONE)
        rc = read_cursor(p, position, err);
    return rc == SINK_DONE ? rc : SINK_AWAY;
}

static void on_close(void *of)
{
    struct postgres *p = of;
    pq_close(&p->pq);
}

static void on_cancel(void *of)
{
    struct postgres *p = of;
    pq_cancel(&p->pq);
}

/* ---- a batch --------------------------------------------------------------------------------- */

static enum sink_outcome begin(struct postgres *p, const struct sink_batch *b, struct error *err)
{
    struct pq_answer answer = {0};
    buf_clear(&p->sql);
    buf_printf(&p->sql,
               "BEGIN; UPDATE %s.cursor SET next = %llu, updated = now() "
               "WHERE sink = '%s' AND log = '%s' AND next = %llu",
               p->opts.schema, U(b->to), p->opts.name, p->log_id, U(b->from));
    buf_put_u8(&p->sql, 0);
    enum sink_outcome rc = pq_run(&p->pq, p->sql.ptr, &answer, err);
    if (rc != SINK_DONE || answer.affected == 1)
        return rc;
    error_set(err, -ESTALE, "its cursor is not at %llu any more", U(b->from));
    return SINK_MOVED;
}

static bool find_bounds(const struct sink_batch *b, int64_t *ret_first, int64_t *ret_last)
{
    *ret_first = INT64_MAX;
    *ret_last = INT64_MIN;
    for (unsigned i = 0; i < b->count; i++) {
        int64_t us = b->messages[i].record.receive_us;
        *ret_first = us < *ret_first ? us : *ret_first;
        *ret_last = us > *ret_last ? us : *ret_last;
    }
    return b->count > 0;
}

/* The receive times let the server look at few partitions only. */
static enum sink_outcome begin_again(struct postgres *p, const struct sink_batch *b,
                                     struct error *err)
{
    int64_t first, last;
    buf_clear(&p->sql);
    buf_put_str(&p->sql, "BEGIN");
    if (find_bounds(b, &first, &last))
        buf_printf(&p->sql,
                   "; DELETE FROM %s.message WHERE position >= %llu AND position < %llu "
                   "AND received >= to_timestamp(%lld) AND received <= to_timestamp(%lld)",
                   p->opts.schema, U(b->from), U(b->to), (long long)(first / US_PER_S - 1),
                   (long long)(last / US_PER_S + 1));
    buf_put_u8(&p->sql, 0);
    return pq_run(&p->pq, p->sql.ptr, NULL, err);
}

static enum sink_outcome partitions(struct postgres *p, const struct sink_batch *b,
                                    struct error *err)
{
    enum sink_outcome rc = postgres_maintain(p, clock_mono_ns(), err);
    for (unsigned i = 0; i < b->count && rc == SINK_DONE; i++)
        rc = postgres_partition(p, b->messages[i].record.receive_us, err);
    return rc == SINK_DONE ? rc : SINK_AWAY;
}

static enum sink_outcome on_send(void *of, const struct sink_batch *b, struct error *err)
{
    struct postgres *p = of;
    enum sink_outcome rc = partitions(p, b, err);
    if (rc != SINK_DONE)
        return rc;
    rc = b->again ? begin_again(p, b, err) : begin(p, b, err);
    if (rc == SINK_DONE)
        rc = postgres_rows(p, b, err);
    if (rc == SINK_DONE)
        rc = pq_run(&p->pq, "COMMIT", NULL, err);
    if (rc == SINK_AWAY && p->pq.no_partition)
        postgres_forget_days(p);
    if (rc == SINK_POISON && pq_run(&p->pq, "ROLLBACK", NULL, NULL) != SINK_DONE)
        return SINK_AWAY;
    return rc;
}

static void on_free(void *of)
{
    struct postgres *p = of;
    buf_fini(&p->sql);
    buf_fini(&p->cell);
    buf_fini(&p->rows);
    free(p);
}

const struct sink_ops postgres_ops = {
    .kind = "postgres",
    .transactional = true,
    .open = on_open,
    .send = on_send,
    .close = on_close,
    .cancel = on_cancel,
    .free = on_free,
};

/* ---- life ------------------------------------------------------------------------------------ */

static bool is_plain_name(const char *name)
{
    size_t n = 0;
    if (!islower((unsigned char)name[0]) && name[0] != '_')
        return false;
    for (; name[n]; n++)
        if (!islower((unsigned char)name[n]) && !isdigit((unsigned char)name[n]) && name[n] != '_')
            return false;
    return n <= POSTGRES_SCHEMA_MAX;
}

int postgres_new(const struct postgres_opts *opts, void **ret, struct error *err)
{
    struct error why = {""};
    if (pq_check_url(opts->url, &why) < 0)
        return error_set(err, -EINVAL, "postgres.url: %s", why.text);
    if (!is_plain_name(opts->schema))
        return error_set(err, -EINVAL,
                         "postgres.schema: it must have 1 to %d small letters, digits and '_', no "
                         "digit first",
                         POSTGRES_SCHEMA_MAX);
    struct postgres *p = calloc(1, sizeof *p);
    CHECK(p);
    p->opts = *opts;
    p->pq.timeout_ns = opts->timeout_ns;
    for (unsigned i = 0; i < 16; i++)
        snprintf(p->log_id + 2 * i, 3, "%02x", opts->log_id[i]);
    buf_init(&p->sql, 1 << 20);
    buf_init(&p->cell, 16 << 20);
    buf_init(&p->rows, 64 << 20);
    *ret = p;
    return 0;
}
