/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The writer of history.
 *
 * Exactly once. A flush writes all open points as rows together with the cursor in one write
 * batch. The batch goes to one column family without RocksDB's log, so what survives a crash is a
 * prefix of the batches written, and in it the rows of a point are there if and only if the cursor
 * has passed it. Replay begins at that cursor; history_apply ignores what lies below. (Writing only
 * the coldest feeds when memory is short would break this: their points would lie above the cursor.
 * So a full table is flushed as a whole, which also empties it best.)
 *
 * The cursor is durable when RocksDB has flushed and it is found in a file; only then is it
 * reported. Until then readers see the rows in RocksDB's memory and a crash returns to the cursor
 * before.
 *
 * Snapshots. A reader copies a feed's open state under the shard's lock, then makes an iterator,
 * which is a snapshot of the database. What it must not see is a database newer than the copy, but
 * for one case. `version` is odd from before the write of a flush until all that was written has
 * been removed from memory, and in that time nothing is applied: the history thread is busy with
 * the flush. So with v1 read before the copy and v2 after the iterator was made:
 *   v1 == v2, even: no write began in between: the copy and the snapshot fit.
 *   v1 odd, v2 == v1 or v1 + 1: open state stood still. The copy holds all of it or, if it was
 *     cleared already, the snapshot does; a point in both is one point, since its key (event time,
 *     offset) is unique; point records and floors in both may be applied twice.
 *   otherwise: try again. A flush happens every few seconds, a try takes microseconds.
 * Merging changes rows but not what they say, so it needs no part in this.
 *
 * Failing writes (a full disk) leave everything in memory and are tried again by later ticks.
 * history_stuck tells the caller when it should stop applying.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/metric.h"
#include "view/history_own.h"

#define RETRY_NS NS_PER_S
#define BUSY_NS  (100 * NS_PER_MS) /* so long after a record more are expected */
/* Rows of so many points and more, in the mean, are worth a flush before flush_bytes came together,
 * from EARLY of it on: what a row costs is shared by its points. */
#define ROW_POINTS 24u
#define EARLY      4u
#define FETCH      8u /* feeds ahead of the one that is written: what is looked at comes meanwhile */

int history_open(const struct history_opts *opts, struct history **ret, uint64_t *ret_cursor,
                 struct error *err)
{
    struct history *h = calloc(1, sizeof *h);
    CHECK(h);
    h->opts = *opts;
    h->path = strdup(opts->path);
    CHECK(h->path);
    h->opts.path = h->path;
    if (h->opts.merge_points == 0)
        h->opts.merge_points = 256;
    if (h->opts.merge_points > ROW_POINTS_MAX / 4)
        h->opts.merge_points = ROW_POINTS_MAX / 4;
    buf_init(&h->text, 1);
    buf_init(&h->row, SIZE_MAX / 2);
    buf_init(&h->sealed, SIZE_MAX / 2);
    h->sealer = opts->keyring ? sealer_new(opts->keyring) : NULL;
    points_init(&h->points, &h->text);
    h->open = open_new();
    uint64_t cursor = 0;
    int code = history_db_open(&h->opts, &h->db, &cursor, err);
    if (code < 0) {
        h->unflushed = false;
        history_close(h);
        return code;
    }
    h->applied = h->written = cursor;
    h->durable = cursor;
    rocksdb_iterator_t *it = rocksdb_create_iterator(h->db.db, h->db.read);
    rocksdb_iter_seek(it, (char[]){KEY_OP}, 1);
    size_t len;
    h->has_ops = rocksdb_iter_valid(it) && rocksdb_iter_key(it, &len)[0] == KEY_OP;
    rocksdb_iter_destroy(it);
    code = history_rollup_open(h);
    if (code < 0) {
        history_close(h);
        return error_set(err, code, "history database %s: cannot read how far its rollups are",
                         opts->path);
    }
    *ret = h;
    *ret_cursor = cursor;
    return 0;
}

void history_close(struct history *h)
{
    if (!h)
        return;
    if (h->db.db) {
        int code = history_flush(h);
        if (code < 0)
            log_line(LOG_ERROR, "history.close_unflushed", "path=%s error=%s cursor=%llu", h->path,
                     strerror(-code), (unsigned long long)h->durable);
    }
    if (h->batch)
        rocksdb_writebatch_destroy(h->batch);
    history_db_close(&h->db);
    open_free(h->open);
    points_fini(&h->points);
    buf_fini(&h->text);
    buf_fini(&h->row);
    buf_fini(&h->sealed);
    sealer_free(h->sealer);
    free(h->queue.feeds);
    free(h->path);
    free(h);
}

/* ---- applying -------------------------------------------------------------------------------- */

void history_prefetch(struct history *h, uint64_t feed)
{
    open_prefetch(h->open, feed);
}

void history_prefetch_end(struct history *h, uint64_t feed)
{
    open_prefetch_end(h->open, feed);
}

void history_apply(struct history *h, const struct record *r, uint64_t offset)
{
    if (offset < h->applied)
        return;
    h->applied = offset + 1;
    h->records_since++;
    if (r->feed == 0)
        return;
    struct datum unused;
    struct datum_target id;
    struct slice rest = r->payload;
    if (r->kind == RECORD_DATUM) {
        if (!(r->flags & RECORD_F_NO_HISTORY) && datum_decode(r->payload, &unused)) {
            open_put(h->open, r->feed, (struct row_key){.us = r->event_us, .offset = offset},
                     r->payload);
            h->points_since++;
        }
    } else if (r->kind == RECORD_CHANGED) {
        if (datum_target_decode(r->payload, &id)) {
            rest = slice_from(r->payload, DATUM_TARGET_BYTES);
            if (datum_decode(rest, &unused))
                open_op(h->open, r->feed, id, rest);
        }
    } else if (r->kind == RECORD_DELETED) {
        if (r->payload.len == 0)
            open_drop(h->open, r->feed, offset);
        else if (datum_target_decode(r->payload, &id))
            open_op(h->open, r->feed, id, (struct slice){0});
    }
    struct open_feed *f = r->key_id ? open_find(h->open, r->feed) : NULL;
    if (f)
        f->key_id = r->key_id;
}

/* ---- flushing -------------------------------------------------------------------------------- */

/* Everything of the feed in the database. */
static void put_drop(rocksdb_writebatch_t *b, uint64_t feed)
{
    static const char kinds[] = {KEY_FRESH, KEY_OP, KEY_ROW, KEY_ROLLUP};
    for (unsigned i = 0; i < sizeof kinds; i++) {
        char from[ROW_KEY_BYTES], to[ROW_KEY_BYTES];
        history_key(from, kinds[i], feed, (struct row_key){.us = INT64_MIN});
        history_key(to, kinds[i], feed + 1, (struct row_key){.us = INT64_MIN});
        rocksdb_writebatch_delete_range(b, from, sizeof from, to, sizeof to);
    }
}

static void put_fresh(struct history *h, rocksdb_writebatch_t *b, const struct open_feed *f,
                      struct row_key first, struct slice row)
{
    char key[ROW_KEY_BYTES];
    history_key(key, KEY_FRESH, f->feed, first);
    history_put(h, b, slice_of(key, sizeof key), f->key_id, row);
}

/* The feed's open state as rows and point records. Returns how many points. */
static uint64_t put_feed(struct history *h, rocksdb_writebatch_t *b, const struct open_feed *f)
{
    uint64_t points = f->count;
    const struct open_more *m = f->more;
    if (m && m->floor)
        put_drop(b, f->feed);
    for (const struct sealed *s = m ? m->sealed : NULL; s; s = s->next) {
        put_fresh(h, b, f, s->first, slice_of(s->row, s->len));
        points += s->count;
    }
    if (f->count) {
        h->points.count = 0;
        open_points(f, &h->points);
        points_sort(&h->points, false);
        buf_clear(&h->row);
        row_encode(&h->row, h->points.at, h->points.count);
        CHECK(!h->row.failed);
        put_fresh(h, b, f, row_key_of(h->points.at), buf_slice(&h->row));
    }
    struct op op;
    for (size_t at = 0; m && op_next(buf_slice(&m->ops), &at, &op);) {
        char key[OP_KEY_BYTES];
        history_op_key(key, f->feed, op.event_ms, op.offset, op.deleted);
        history_put(h, b, slice_of(key, sizeof key), op.deleted ? 0 : f->key_id, op.payload);
        atomic_store(&h->has_ops, true);
    }
    return points;
}

static unsigned rows_of(const struct open_feed *f)
{
    unsigned rows = f->count > 0;
    if (f->more)
        rows += f->more->sealed_count + (unsigned)(f->more->ops.len + 255) / 256;
    return rows;
}

/* The write succeeded: memory forgets it, and feeds with many rows are merged. */
static void forget_open(struct history *h, struct open_feed **all, size_t n, uint64_t points)
{
    uint64_t rows = 0;
    for (size_t i = 0; i < n; i++) {
        if (i + FETCH < n)
            __builtin_prefetch(all[i + FETCH], 1);
        unsigned some = rows_of(all[i]);
        rows += some;
        all[i]->fresh_rows =
            (uint8_t)(all[i]->fresh_rows + some < 255 ? all[i]->fresh_rows + some : 255);
        history_merge_want(h, all[i]);
    }
    atomic_fetch_add_explicit(&h->rows_written, rows, memory_order_relaxed);
    atomic_fetch_add_explicit(&h->points_written, points, memory_order_relaxed);
    h->queue_flushes++;
    open_clear(h->open, h->opts.open_bytes_max / 4 / sizeof(struct open_feed));
    h->base_bytes = open_bytes(h->open);
}

/* An empty batch, with as much memory as the rounds before needed: else it would grow to tens of
 * megabytes each time, by copies into pages that the kernel has to clear first. */
static rocksdb_writebatch_t *take_batch(struct history *h)
{
    if (h->batch)
        rocksdb_writebatch_clear(h->batch);
    else
        h->batch = rocksdb_writebatch_create();
    return h->batch;
}

/* Keeps the batch for the next round, unless this one needed much less. */
static void give_batch(struct history *h)
{
    size_t bytes;
    rocksdb_writebatch_data(h->batch, &bytes);
    if (bytes > h->batch_bytes)
        h->batch_bytes = bytes;
    if (bytes >= h->batch_bytes / 4)
        return;
    rocksdb_writebatch_destroy(h->batch);
    h->batch = NULL;
    h->batch_bytes = 0;
}

/* Writes what is open, and the cursor, to RocksDB's memory. 0 or a negative errno. */
static int write_open(struct history *h)
{
    struct open_feed **all;
    size_t n = open_active(h->open, &all);
    rocksdb_writebatch_t *b = take_batch(h);
    uint64_t points = 0, cursor = h->applied;
    for (size_t i = 0; i < n; i++) {
        if (i + FETCH < n)
            __builtin_prefetch(all[i + FETCH]);
        if (i + FETCH / 2 < n)
            open_prefetch_chunk(all[i + FETCH / 2]);
        points += put_feed(h, b, all[i]);
    }
    rocksdb_writebatch_put(b, (char[]){KEY_CURSOR}, 1, (const char *)&cursor, sizeof cursor);

    char *text = NULL;
    atomic_fetch_add(&h->version, 1);
    rocksdb_write(h->db.db, h->db.write, b, &text);
    int code = history_db_error(text);
    if (code == 0) {
        forget_open(h, all, n, points);
        h->written = cursor;
        h->unflushed = true;
        h->bytes_since = h->points_since = 0;
    }
    atomic_fetch_add(&h->version, 1);
    give_batch(h);
    free(all);
    return code;
}

int history_flush(struct history *h)
{
    if (h->applied > h->written || open_feeds(h->open) > 0) {
        int code = write_open(h);
        if (code < 0)
            return code;
    }
    if (h->unflushed) {
        int code = history_db_flush(&h->db, h->written);
        if (code < 0)
            return code;
        h->unflushed = false;
        atomic_store(&h->durable, h->written);
        metric_add(METRIC_history_flushes, 1);
    }
    return 0;
}

static void note_failure(struct history *h, int code, const char *what)
{
    metric_add(METRIC_history_write_retries, 1);
    if (!h->failing)
        log_line(LOG_ERROR, "history.write_failed", "path=%s what=%s error=%s", h->path, what,
                 strerror(-code));
    h->failing = true;
}

static void note_success(struct history *h)
{
    if (h->failing)
        log_line(LOG_INFO, "history.write_recovered", "path=%s", h->path);
    h->failing = false;
}

static bool enough_to_flush(const struct history *h)
{
    if (h->bytes_since < h->opts.flush_bytes / EARLY)
        return false;
    return h->bytes_since >= h->opts.flush_bytes ||
           h->points_since >= ROW_POINTS * open_feeds(h->open);
}

static bool flush_due(const struct history *h, uint64_t now_ns)
{
    if (h->unflushed || h->failing)
        return true;
    if (h->applied == h->written)
        return false;
    uint64_t held = open_bytes(h->open);
    return enough_to_flush(h) || now_ns - h->flushed_ns >= h->opts.flush_ns ||
           /* the second part: a table that is large even when empty must not flush every time */
           (held > h->opts.open_bytes_max && held > h->base_bytes + h->opts.open_bytes_max / 8);
}

uint64_t history_tick(struct history *h, uint64_t next_offset, uint64_t bytes, uint64_t now_ns)
{
    if (next_offset > h->applied)
        h->applied = next_offset;
    h->bytes_since += bytes;
    if (!h->clock_known) {
        h->clock_known = true;
        h->flushed_ns = now_ns;
    }
    if (h->records_since)
        metric_add(METRIC_view_history_records, h->records_since);
    h->records_since = 0;
    metric_set(METRIC_history_open_bytes, open_bytes(h->open));

    if (bytes)
        h->busy_ns = now_ns;
    bool busy = h->busy_ns && now_ns - h->busy_ns < BUSY_NS, due = flush_due(h, now_ns);
    if (h->failing && now_ns < h->retry_ns)
        return h->durable;
    int code = due ? history_flush(h) : history_merge_some(h, busy, now_ns);
    if (code == 0 && !due && history_rollup_wanted(h))
        code = history_rollup_some(h, busy, now_ns);
    if (code < 0) {
        note_failure(h, code, due ? "flush" : "merge");
        h->retry_ns = now_ns + RETRY_NS;
    } else {
        note_success(h);
        if (due)
            h->flushed_ns = now_ns;
    }
    return h->durable;
}

bool history_stuck(struct history *h)
{
    return h->failing && open_bytes(h->open) > h->opts.open_bytes_max;
}

bool history_restless(struct history *h)
{
    return !h->failing && (h->queue.count > 0 || history_rollup_wanted(h));
}

struct history_stats history_stats(struct history *h)
{
    struct history_stats s = {
        .durable_cursor = h->durable,
        .open_bytes = open_bytes(h->open),
        .open_feeds = open_feeds(h->open),
        .rows_written = h->rows_written,
        .points_written = h->points_written,
        .merges = h->merges,
        .rolled = h->roll_again ? 0 : h->rolled,
    };
    rocksdb_property_int(h->db.db, "rocksdb.total-sst-files-size", &s.disk_bytes);
    return s;
}
