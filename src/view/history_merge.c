/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The merging pass. A flush writes per feed one small row to the fresh ones, which may overlap
 * anything. Once a feed has MERGE_ROWS of them they are folded into its merged rows:
 *
 *   1. Read fresh rows (FOLD_ROWS or FOLD_TIMES * merge_points points at the most): the late
 * points.
 *   2. Read the merged rows that they overlap, and the one before if it is still small.
 *   3. Sort, apply changes and deletions by id, write rows of merge_points to twice as many.
 *   4. When the late points reach over too many merged rows, those behind become a fresh row again,
 *      and the feed stays in the queue.
 *
 * Invariants: the merged rows of a feed do not overlap in (event time, offset); a point is in one
 * row only; a point record is removed together with the point it changes or, when the feed has no
 * fresh rows, when there is no such point: all data older than the record are in rows then.
 *
 * One step is one part of a write batch, so it happens whole or not at all, and it does not change
 * what readers see. It reads what the history thread alone writes.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/metric.h"
#include "view/history_own.h"

enum {
    MERGE_ROWS = 32,
    FOLD_ROWS = 64,
    FOLD_TIMES = 8,
    GATHER_ROWS = 8,
    STEPS_MAX = 64,   /* of one call */
    STEPS_SHARE = 64, /* a call does this part of the queue */
    PAUSE_TIMES = 3, /* so much longer than a piece is the pause behind it, when records come in, */
    LATE_FLUSHES = 16, /* until feeds have waited for so many flushes */
};

struct fold {
    struct history *h;
    /* One iterator per kind: the queue is nearly in the order of feeds, so each goes forward and
     * mostly stays in the block it has. Going to and fro with one cost a third of all CPU time. */
    rocksdb_iterator_t *fresh_it, *row_it, *op_it, *count_it;
    struct unsealing fresh_u, row_u, op_u, count_u;
    rocksdb_writebatch_t *batch;
    uint64_t feed;
    struct buf text;          /* of both lists */
    struct point_list late;   /* from fresh rows */
    struct point_list points; /* the new rows' */
    struct op_list ops;
    struct buf old_keys; /* rows read, ROW_KEY_BYTES each */
    struct buf row, tuples;
    uint64_t rows_read;
    uint64_t merged_read; /* points of the merged rows among them */
    bool counted;         /* all merged rows of the feed were looked at */
    size_t gathered;
};

enum step { STEP_DONE, STEP_MORE };

/* ---- the queue ------------------------------------------------------------------------------- */

static void queue_push(struct merge_queue *q, uint64_t feed)
{
    if (q->count == q->cap) {
        size_t cap = q->cap ? q->cap * 2 : 256;
        uint64_t *feeds = malloc(cap * sizeof *feeds);
        CHECK(feeds);
        for (size_t i = 0; i < q->count; i++)
            feeds[i] = q->feeds[(q->first + i) % q->cap];
        free(q->feeds);
        *q = (struct merge_queue){.feeds = feeds, .count = q->count, .cap = cap};
    }
    q->feeds[(q->first + q->count++) % q->cap] = feed;
}

static uint64_t queue_pop(struct merge_queue *q)
{
    uint64_t feed = q->feeds[q->first];
    q->first = (q->first + 1) % q->cap;
    q->count--;
    return feed;
}

void history_merge_want(struct history *h, struct open_feed *f)
{
    if (f->queued || f->fresh_rows < MERGE_ROWS)
        return;
    f->queued = true;
    queue_push(&h->queue, f->feed);
}

/* ---- reading --------------------------------------------------------------------------------- */

static int gather(struct fold *f, char kind, struct row_key key, struct slice row,
                  struct point_list *to)
{
    char raw[ROW_KEY_BYTES];
    history_key(raw, kind, f->feed, key);
    buf_put(&f->old_keys, raw, sizeof raw);
    f->rows_read++;
    size_t before = to->count;
    int code = row_decode(row, key, INT64_MIN, INT64_MAX, SIZE_MAX, to);
    f->merged_read += kind == KEY_ROW ? to->count - before : 0;
    return code;
}

static int load_fresh(struct fold *f, bool *ret_more)
{
    struct row_key key = {.us = INT64_MIN};
    struct slice row;
    *ret_more = false;
    history_seek(f->fresh_it, KEY_FRESH, f->feed, key);
    for (; history_row_at(&f->fresh_u, f->fresh_it, KEY_FRESH, f->feed, &key, &row);
         rocksdb_iter_next(f->fresh_it)) {
        *ret_more = f->rows_read >= FOLD_ROWS ||
                    f->late.count >= (size_t)FOLD_TIMES * f->h->opts.merge_points;
        if (*ret_more)
            break;
        int code = gather(f, KEY_FRESH, key, row, &f->late);
        if (code < 0)
            return code;
    }
    points_sort(&f->late, false);
    return rocksdb_iter_valid(f->fresh_it) ? 0 : history_db_ended(f->fresh_it);
}

/* Reads the merged rows that the late points fall into. *ret_end: the late points from here on
 * have to wait; `ret_cut` when there are such. */
static int gather_merged(struct fold *f, struct row_key *ret_end, bool *ret_cut)
{
    struct row_key first = row_key_of(&f->late.at[0]), key;
    struct row_key last = row_key_of(&f->late.at[f->late.count - 1]);
    struct slice row;
    struct row_head head;
    *ret_cut = false;
    history_seek_back(f->row_it, KEY_ROW, f->feed, first);
    if (history_row_at(&f->row_u, f->row_it, KEY_ROW, f->feed, &key, &row)) {
        if (!row_peek(row, key, &head))
            return -EBADMSG;
        if (head.last_us >= first.us || head.count < f->h->opts.merge_points) {
            int code = gather(f, KEY_ROW, key, row, &f->points);
            if (code < 0)
                return code;
            f->gathered++;
        }
        rocksdb_iter_next(f->row_it);
    } else {
        history_seek(f->row_it, KEY_ROW, f->feed, (struct row_key){.us = INT64_MIN});
    }
    for (; history_row_at(&f->row_u, f->row_it, KEY_ROW, f->feed, &key, &row);
         rocksdb_iter_next(f->row_it)) {
        if (row_key_compare(key, last) > 0)
            break;
        if (f->gathered++ >= GATHER_ROWS) {
            *ret_end = key;
            *ret_cut = true;
            break;
        }
        int code = gather(f, KEY_ROW, key, row, &f->points);
        if (code < 0)
            return code;
    }
    return rocksdb_iter_valid(f->row_it) ? 0 : history_db_ended(f->row_it);
}

/* ---- writing --------------------------------------------------------------------------------- */

/* Of whatever is written now: the newest key of what was read of the feed. */
static uint32_t key_of(const struct fold *f)
{
    uint32_t id = f->fresh_u.key_id > f->row_u.key_id ? f->fresh_u.key_id : f->row_u.key_id;
    return f->op_u.key_id > id ? f->op_u.key_id : id;
}

static void put_row(struct fold *f, char kind, const struct history_point *p, size_t n)
{
    char key[ROW_KEY_BYTES];
    history_key(key, kind, f->feed, row_key_of(p));
    buf_clear(&f->row);
    row_encode(&f->row, p, n);
    CHECK(!f->row.failed);
    history_put(f->h, f->batch, slice_of(key, sizeof key), key_of(f), buf_slice(&f->row));
    if (kind == KEY_ROW)
        history_rollup_put(f->h, f->batch, f->feed, key_of(f), p, n, &f->tuples);
}

/* In rows of merge_points to twice that, or one smaller one. */
static void put_rows(struct fold *f, char kind, const struct history_point *p, size_t n)
{
    size_t rows = n / f->h->opts.merge_points;
    if (rows == 0)
        rows = n > 0;
    for (size_t i = 0; i < rows; i++) {
        size_t from = n * i / rows, to = n * (i + 1) / rows;
        put_row(f, kind, p + from, to - from);
    }
}

static void delete_op(struct fold *f, const struct op *op)
{
    char key[OP_KEY_BYTES];
    history_op_key(key, f->feed, op->event_ms, op->offset, op->deleted);
    rocksdb_writebatch_delete(f->batch, key, sizeof key);
}

static bool op_has_point(const struct op *op, const struct point_list *l)
{
    for (size_t i = 0; i < l->count; i++)
        if (op_matches(op, &l->at[i]))
            return true;
    return false;
}

/* Applies the point records about `points` and removes them, also those about `orphan_ms` that
 * match nothing. Returns how many matched, or a negative errno. */
static int64_t fold_ops(struct fold *f, int64_t from_us, int64_t to_us, bool orphans,
                        int64_t orphan_ms)
{
    if (!atomic_load_explicit(&f->h->has_ops, memory_order_relaxed))
        return 0;
    int code = op_list_load(&f->ops, &f->op_u, f->op_it, f->feed, from_us, to_us);
    if (code == 0)
        code = op_list_ready(&f->ops);
    if (code < 0)
        return code;
    int64_t matched = 0;
    for (size_t i = 0; i < f->ops.count; i++) {
        bool hit = op_has_point(&f->ops.at[i], &f->points);
        matched += hit;
        if (hit || (orphans && f->ops.at[i].event_ms == orphan_ms))
            delete_op(f, &f->ops.at[i]);
    }
    return op_list_apply(&f->ops, &f->points, 0) ? matched : -ENOMEM;
}

/* How many points the merged rows hold, when those that were read have become these. */
static int put_count(struct fold *f)
{
    uint64_t count;
    int code = history_merged_points(&f->count_u, f->count_it, f->feed, &count);
    if (code < 0)
        return code;
    f->counted = code > 0 && count > 0;
    count += f->points.count - f->merged_read;
    char key[OP_KEY_BYTES], value[COUNT_BYTES] = {COUNT_FORMAT};
    memcpy(value + 1, &count, sizeof count);
    history_count_key(key, f->feed);
    rocksdb_writebatch_delete(f->batch, key,
                              sizeof key); /* a plain one, if nothing can be sealed */
    history_put(f->h, f->batch, slice_of(key, sizeof key), key_of(f),
                slice_of(value, sizeof value));
    return 0;
}

/* Replaces the rows read by the points. 0 or a negative errno. */
static int replace_rows(struct fold *f)
{
    int code = put_count(f);
    if (code < 0)
        return code;
    for (size_t at = 0; at < f->old_keys.len; at += ROW_KEY_BYTES) {
        const char *key = f->old_keys.ptr + at;
        rocksdb_writebatch_delete(f->batch, key, ROW_KEY_BYTES);
        if (key[0] == KEY_ROW)
            history_rollup_delete(f->batch, key);
    }
    points_bind(&f->points);
    put_rows(f, KEY_ROW, f->points.at, f->points.count);
    atomic_fetch_add_explicit(&f->h->merges, 1, memory_order_relaxed);
    metric_add(METRIC_history_rows_merged, f->rows_read);
    return 0;
}

/* ---- steps ----------------------------------------------------------------------------------- */

static int step_fresh(struct fold *f, bool more_fresh)
{
    struct row_key end = {0};
    bool cut;
    int code = gather_merged(f, &end, &cut);
    if (code < 0)
        return code;
    size_t taken = f->late.count;
    while (cut && taken > 0 && row_key_compare(row_key_of(&f->late.at[taken - 1]), end) >= 0)
        taken--;
    if (!points_reserve(&f->points, taken))
        return -ENOMEM;
    memcpy(f->points.at + f->points.count, f->late.at, taken * sizeof *f->late.at);
    f->points.count += taken;
    points_sort(&f->points, false);
    int64_t matched =
        fold_ops(f, f->points.at[0].event_us, f->points.at[f->points.count - 1].event_us, false, 0);
    if (matched < 0 || f->text.failed || f->old_keys.failed)
        return matched < 0 ? (int)matched : -ENOMEM;
    code = replace_rows(f);
    if (code < 0)
        return code;
    points_bind(&f->late);
    put_rows(f, KEY_FRESH, f->late.at + taken, f->late.count - taken);
    bool ops = atomic_load_explicit(&f->h->has_ops, memory_order_relaxed);
    return more_fresh || taken < f->late.count || ops ? STEP_MORE : STEP_DONE;
}

/* The feed has no fresh rows: folds its oldest point record into the row of its datum. */
static int step_op(struct fold *f)
{
    struct op op;
    history_seek(f->op_it, KEY_OP, f->feed, (struct row_key){.us = INT64_MIN});
    if (!history_op_at(&f->op_u, f->op_it, f->feed, &op))
        return rocksdb_iter_valid(f->op_it) ? STEP_DONE : history_db_ended(f->op_it);
    int64_t from = (op.event_ms - 1) * 1000, to = (op.event_ms + 1) * 1000;
    struct row_key key;
    struct slice row;
    struct row_head head;
    bool cut = false;
    history_seek_back(f->row_it, KEY_ROW, f->feed,
                      (struct row_key){.us = to, .offset = UINT64_MAX});
    for (; history_row_at(&f->row_u, f->row_it, KEY_ROW, f->feed, &key, &row);
         rocksdb_iter_prev(f->row_it)) {
        if (!row_peek(row, key, &head))
            return -EBADMSG;
        if (head.last_us < from)
            break;
        cut = f->gathered++ >= GATHER_ROWS;
        if (cut)
            break;
        int code = gather(f, KEY_ROW, key, row, &f->points);
        if (code < 0)
            return code;
    }
    if (!rocksdb_iter_valid(f->row_it)) {
        int code = history_db_ended(f->row_it);
        if (code < 0)
            return code;
    }
    points_sort(&f->points, false);
    if (f->points.count && f->points.at[0].event_us < from)
        from = f->points.at[0].event_us;
    if (f->points.count && f->points.at[f->points.count - 1].event_us > to)
        to = f->points.at[f->points.count - 1].event_us;
    int64_t matched = fold_ops(f, from, to, !cut, op.event_ms);
    if (matched < 0 || f->text.failed || f->old_keys.failed)
        return matched < 0 ? (int)matched : -ENOMEM;
    int code = matched ? replace_rows(f) : 0;
    if (code < 0)
        return code;
    return matched || !cut ? STEP_MORE : STEP_DONE;
}

static int step(struct fold *f, uint64_t feed)
{
    f->feed = feed;
    f->rows_read = f->merged_read = f->gathered = 0;
    f->counted = false;
    f->fresh_u.key_id = f->row_u.key_id = f->op_u.key_id = 0;
    f->late.count = f->points.count = f->ops.count = 0;
    buf_clear(&f->text);
    buf_clear(&f->ops.text);
    buf_clear(&f->old_keys);
    bool more;
    int code = load_fresh(f, &more);
    if (code < 0)
        return code;
    return f->late.count ? step_fresh(f, more) : step_op(f);
}

static void fold_init(struct fold *f, struct history *h)
{
    *f = (struct fold){.h = h};
    buf_init(&f->text, SIZE_MAX / 2);
    buf_init(&f->old_keys, SIZE_MAX / 2);
    buf_init(&f->row, SIZE_MAX / 2);
    buf_init(&f->tuples, SIZE_MAX / 2);
    unsealing_init(&f->fresh_u, h);
    unsealing_init(&f->row_u, h);
    unsealing_init(&f->op_u, h);
    unsealing_init(&f->count_u, h);
    points_init(&f->late, &f->text);
    points_init(&f->points, &f->text);
    op_list_init(&f->ops);
    f->fresh_it = rocksdb_create_iterator(h->db.db, h->db.read_once);
    f->row_it = rocksdb_create_iterator(h->db.db, h->db.read_once);
    f->op_it = rocksdb_create_iterator(h->db.db, h->db.read_once);
    f->count_it = rocksdb_create_iterator(h->db.db, h->db.read_once);
    f->batch = rocksdb_writebatch_create();
}

static void fold_fini(struct fold *f)
{
    rocksdb_iter_destroy(f->fresh_it);
    rocksdb_iter_destroy(f->row_it);
    rocksdb_iter_destroy(f->op_it);
    rocksdb_iter_destroy(f->count_it);
    rocksdb_writebatch_destroy(f->batch);
    unsealing_fini(&f->fresh_u);
    unsealing_fini(&f->row_u);
    unsealing_fini(&f->op_u);
    unsealing_fini(&f->count_u);
    op_list_fini(&f->ops);
    points_fini(&f->late);
    points_fini(&f->points);
    buf_fini(&f->text);
    buf_fini(&f->old_keys);
    buf_fini(&f->row);
    buf_fini(&f->tuples);
}

/* The feed's entry, if its rows may be merged now. */
static struct open_feed *mergeable(struct history *h, uint64_t feed)
{
    struct open_feed *f = open_find(h->open, feed);
    if (f && f->more && f->more->floor) { /* all of it goes with the next flush */
        f->queued = false;
        return NULL;
    }
    return f;
}

/* Takes up to `n` feeds from the queue and does one step of each. Returns how many. A piece
 * ends behind one whose rows had to be counted, and with one that cannot be read, which is not
 * tried again until it has collected new rows. */
static size_t steps(struct history *h, struct fold *fold, size_t n, uint64_t *feeds, int *outcome)
{
    size_t done = 0;
    for (size_t i = 0; i < n; i++) {
        struct open_feed *f = mergeable(h, queue_pop(&h->queue));
        if (!f)
            continue;
        feeds[done] = f->feed;
        outcome[done] = step(fold, f->feed);
        if (outcome[done++] >= 0) {
            if (fold->counted)
                break; /* that may have taken long */
            continue;
        }
        log_line(LOG_ERROR, "history.merge_failed", "path=%s feed=%llu error=%s", h->path,
                 (unsigned long long)f->feed, strerror(-outcome[done - 1]));
        break;
    }
    return done;
}

int history_merge_some(struct history *h, bool busy, uint64_t now_ns)
{
    if (h->queue.count == 0)
        h->queue_flushes = 0;
    if (busy && h->queue_flushes < LATE_FLUSHES && now_ns < h->merge_ns)
        return 0;
    uint64_t begun_ns = clock_mono_ns();
    size_t n = h->queue.count / STEPS_SHARE + 1;
    if (n > STEPS_MAX)
        n = STEPS_MAX;
    if (n > h->queue.count)
        n = h->queue.count;
    if (n == 0)
        return 0;
    struct fold fold;
    fold_init(&fold, h);
    uint64_t feeds[STEPS_MAX];
    int outcome[STEPS_MAX], code = 0;
    size_t done = steps(h, &fold, n, feeds, outcome);
    bool all = done == 0 || outcome[done - 1] >= 0;
    if (all && done) {
        char *text = NULL;
        rocksdb_write(h->db.db, h->db.write, fold.batch, &text);
        code = history_db_error(text);
    }
    for (size_t i = 0; i < done; i++) {
        struct open_feed *f = open_find(h->open, feeds[i]);
        bool again = outcome[i] >= 0 && (!all || code < 0 || outcome[i] == STEP_MORE);
        if (again) {
            queue_push(&h->queue, feeds[i]);
        } else {
            f->queued = false;
            f->fresh_rows = 0;
        }
    }
    fold_fini(&fold);
    h->merge_ns = now_ns + (PAUSE_TIMES + 1) * (clock_mono_ns() - begun_ns);
    return code;
}
