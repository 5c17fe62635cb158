/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Queries for slices of time. What a feed holds is as in history_read.c; here
 *   - points in memory and in fresh rows are added one by one,
 *   - a merged row gives its tuples if they fit: it lies in the range as a whole, its slots divide
 *     the slices, and no pending change or deletion is about its time,
 *   - else its points.
 * All of it from one iterator, so from one moment: first the ends and tuples of the rows, then the
 * rows whose points are needed.
 *
 * While a flush is being written a point may be found in memory and in the database. History's list
 * drops the second; here it would be counted. So in that case points in memory below the cursor of
 * the snapshot are left out: they are in it.
 *
 * A query that turns out to be long is no work for a thread that must not wait (COST_NO_IO), and
 * there is an end to any (COST_MAX).
 */
#include <errno.h>
#include <stdlib.h>

#include "view/history_own.h"

enum {
    TUPLE_COST = 2,      /* in points decoded */
    ROW_COST = 16,       /* of looking at a row */
    COST_BYTES = 64,     /* so many of its bytes cost as much as a point: long texts */
    COST_NO_IO = 4096,   /* 0.2 ms */
    COST_MAX = 20000000, /* a second */
};

struct key_list {
    struct row_key *at;
    size_t count, cap;
};

struct rolling {
    struct reading r;
    struct history_slices *q;
    int64_t first_slice;
    struct rollup *slices; /* of the whole range */
    size_t slices_count;
    struct buf text;      /* of r.found */
    int64_t *op_ms;       /* sorted */
    struct key_list rows; /* whose points are needed */
};

/* ---- adding ---------------------------------------------------------------------------------- */

static int charge(struct rolling *s, uint64_t cost)
{
    s->q->cost += cost;
    if (s->q->flags & HISTORY_NO_IO)
        return s->q->cost > COST_NO_IO ? -EAGAIN : 0;
    return s->q->cost > COST_MAX ? -E2BIG : 0;
}

/* The points found so far, which are in the range, leave the list for their slices. */
static void add_found(struct rolling *s)
{
    struct point_list *f = &s->r.found;
    points_bind(f);
    for (size_t i = 0; i < f->count; i++) {
        const struct history_point *p = &f->at[i];
        int64_t slice = rollup_slot(p->event_us, s->q->slice_us) - s->first_slice;
        rollup_add(&s->slices[slice], row_key_of(p), p->datum.value);
    }
    f->count = 0;
    buf_clear(&s->text);
}

/* Takes what was decoded; points in memory only from `from` on. */
static int take_found(struct rolling *s, uint64_t from)
{
    struct point_list *f = &s->r.found;
    size_t kept = 0;
    for (size_t i = 0; i < f->count; i++)
        if (f->at[i].offset >= from)
            f->at[kept++] = f->at[i];
    f->count = kept;
    if (!reading_take(&s->r, 0))
        return -ENOMEM;
    add_found(s);
    return 0;
}

static int add_row(struct rolling *s, struct slice row, struct row_key first, uint64_t from)
{
    struct row_head head;
    if (!row_peek(row, first, &head))
        return -EBADMSG;
    int code = charge(s, ROW_COST + head.count + row.len / COST_BYTES);
    if (code == 0)
        code = row_decode(row, first, s->r.from_us, s->r.to_us, SIZE_MAX, &s->r.found);
    return code < 0 ? code : take_found(s, from);
}

/* Everything that has no tuples: the chunk, sealed and fresh rows. */
static int add_recent(struct rolling *s, uint64_t memory_from)
{
    int code = charge(s, s->r.copy.count);
    if (code < 0)
        return code;
    if (!open_copy_points(&s->r.copy, &s->r.found))
        return -ENOMEM;
    code = take_found(s, memory_from);
    for (size_t i = 0; i < s->r.sources_count && code == 0; i++) {
        const struct source *at = &s->r.sources[i];
        code = add_row(s, at->row, at->first, at->placed ? 0 : memory_from);
    }
    return code;
}

/* ---- tuples ---------------------------------------------------------------------------------- */

static int by_value(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

static int sort_ops(struct rolling *s)
{
    size_t n = s->r.ops.count;
    if (n == 0)
        return 0;
    s->op_ms = malloc(n * sizeof *s->op_ms);
    if (!s->op_ms)
        return -ENOMEM;
    for (size_t i = 0; i < n; i++)
        s->op_ms[i] = s->r.ops.at[i].event_ms;
    qsort(s->op_ms, n, sizeof *s->op_ms, by_value);
    return 0;
}

/* Whether a change or deletion may be about a point between the two times. */
static bool has_op(const struct rolling *s, int64_t first_us, int64_t last_us)
{
    size_t lo = 0, hi = s->r.ops.count;
    /* The time of an id has 48 bits; one beyond them stands for some time within. */
    const int64_t most = (int64_t)1 << 47;
    int64_t first = first_us / 1000 - 1, last = last_us / 1000 + 1;
    if (first < -most || last >= most)
        return hi > 0;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (s->op_ms[mid] < first)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < s->r.ops.count && s->op_ms[lo] <= last;
}

static int want_row(struct rolling *s, struct row_key key)
{
    struct key_list *l = &s->rows;
    if (l->count == l->cap) {
        size_t cap = l->cap ? l->cap * 2 : 64;
        struct row_key *at = realloc(l->at, cap * sizeof *at);
        if (!at)
            return -ENOMEM;
        l->at = at;
        l->cap = cap;
    }
    l->at[l->count++] = key;
    return 0;
}

static bool fits(const struct rolling *s, const struct rollup_row *row, struct row_key first)
{
    return row->slot_us && s->q->slice_us % row->slot_us == 0 && first.us >= s->r.from_us &&
           row->last_us <= s->r.to_us && !has_op(s, first.us, row->last_us);
}

static int add_tuples(struct rolling *s, struct rollup_row *row)
{
    int64_t slots = s->q->slice_us / row->slot_us, slot;
    int code = charge(s, row->left * TUPLE_COST);
    while (row->left && code == 0) {
        struct rollup tuple;
        if (!rollup_next(row, &slot, &tuple))
            return -EBADMSG;
        int64_t slice = rollup_slot(slot, slots) - s->first_slice;
        if (slice < 0 || slice >= (int64_t)s->slices_count)
            return -EBADMSG;
        rollup_merge(&s->slices[slice], &tuple);
    }
    return code;
}

/* Goes to the row that may hold the first point of the range. */
static void seek_range(struct rolling *s, char kind)
{
    struct row_key key = {.us = s->r.from_us};
    struct slice row;
    history_seek_back(s->r.it, kind, s->r.feed, key);
    if (!history_row_at(&s->r.unsealing, s->r.it, kind, s->r.feed, &key, &row))
        history_seek(s->r.it, kind, s->r.feed, (struct row_key){.us = INT64_MIN});
}

static int ended(const struct rolling *s)
{
    return rocksdb_iter_valid(s->r.it) ? 0 : history_db_ended(s->r.it);
}

static int add_all_tuples(struct rolling *s)
{
    struct row_key key;
    struct slice value;
    struct rollup_row row;
    int code = 0;
    seek_range(s, KEY_ROLLUP);
    for (;
         code == 0 && history_row_at(&s->r.unsealing, s->r.it, KEY_ROLLUP, s->r.feed, &key, &value);
         rocksdb_iter_next(s->r.it)) {
        if (key.us > s->r.to_us)
            return 0;
        if (!rollup_open(&row, value, key))
            return -EBADMSG;
        code = charge(s, ROW_COST);
        if (code < 0 || row.last_us < s->r.from_us)
            continue;
        code = fits(s, &row, key) ? add_tuples(s, &row) : want_row(s, key);
    }
    return code < 0 ? code : ended(s);
}

/* The rows whose tuples did not fit. */
static int add_wanted_rows(struct rolling *s)
{
    struct row_key key;
    struct slice row;
    int code = 0;
    bool there = false;
    for (size_t i = 0; i < s->rows.count && code == 0; i++) {
        struct row_key want = s->rows.at[i];
        if (there)
            rocksdb_iter_next(s->r.it);
        there = there && history_row_at(&s->r.unsealing, s->r.it, KEY_ROW, s->r.feed, &key, &row) &&
                row_key_compare(key, want) == 0;
        if (!there)
            history_seek(s->r.it, KEY_ROW, s->r.feed, want);
        if (!history_row_at(&s->r.unsealing, s->r.it, KEY_ROW, s->r.feed, &key, &row) ||
            row_key_compare(key, want) != 0) {
            code = ended(s);
            return code < 0 ? code : -EBADMSG;
        }
        there = true;
        code = add_row(s, row, key, 0);
    }
    return code;
}

/* All rows by their points. */
static int add_all_rows(struct rolling *s)
{
    struct row_key key;
    struct slice row;
    int code = 0;
    seek_range(s, KEY_ROW);
    for (; code == 0 && history_row_at(&s->r.unsealing, s->r.it, KEY_ROW, s->r.feed, &key, &row);
         rocksdb_iter_next(s->r.it)) {
        if (key.us > s->r.to_us)
            return 0;
        code = add_row(s, row, key, 0);
    }
    return code < 0 ? code : ended(s);
}

/* ---- the query ------------------------------------------------------------------------------- */

/* The journal offset below which everything is in the snapshot. */
static int snapshot_cursor(struct rolling *s, uint64_t *ret)
{
    size_t len;
    rocksdb_iter_seek(s->r.it, (char[]){KEY_CURSOR}, 1);
    if (!rocksdb_iter_valid(s->r.it))
        return history_db_ended(s->r.it);
    const char *value = rocksdb_iter_value(s->r.it, &len);
    if (len != sizeof *ret)
        return -EBADMSG;
    memcpy(ret, value, sizeof *ret);
    return 0;
}

static int add_merged(struct rolling *s, bool rolled)
{
    if (s->r.copy.floor && !s->r.torn)
        return 0; /* all of it is deleted */
    /* In a flush the floor may be in the database already, or not: look at each point. */
    return rolled && !s->r.copy.floor ? add_all_tuples(s) : add_all_rows(s);
}

static int roll(struct rolling *s, bool tuples)
{
    struct history *h = s->r.h;
    uint64_t memory_from = 0, rolled = atomic_load(&h->rolled), after;
    int code = reading_begin(&s->r, s->q->flags);
    after = atomic_load(&h->rolled); /* it grows after the write of tuples, shrinks before */
    if (after < rolled)
        rolled = after;
    if (code == 0 && s->r.torn)
        code = snapshot_cursor(s, &memory_from);
    if (code == 0)
        code = reading_ops(&s->r, s->r.from_us, s->r.to_us);
    if (code == 0)
        code = sort_ops(s);
    if (code == 0)
        code = reading_sources(&s->r);
    if (code == 0)
        code = add_recent(s, memory_from);
    if (code == 0)
        code = add_merged(s, tuples && s->r.feed < rolled);
    return code == 0 ? add_wanted_rows(s) : code;
}

static int begin(struct rolling *s, struct history *h, struct history_slices *q)
{
    *s = (struct rolling){.q = q};
    buf_init(&s->text, SIZE_MAX / 2);
    reading_init(&s->r, h, q->feed, &s->text);
    s->r.from_us = q->from_us;
    s->r.to_us = q->to_us;
    buf_clear(q->storage);
    q->slices = NULL;
    q->count = 0;
    q->cost = 0;
    s->first_slice = rollup_slot(q->from_us, q->slice_us);
    uint64_t count = (uint64_t)rollup_slot(q->to_us, q->slice_us) - (uint64_t)s->first_slice + 1;
    if (q->from_us > q->to_us || count > HISTORY_SLICES_MAX)
        return -EINVAL;
    s->slices_count = (size_t)count;
    s->slices = calloc(s->slices_count, sizeof *s->slices);
    return s->slices ? 0 : -ENOMEM;
}

static void end(struct rolling *s)
{
    reading_fini(&s->r);
    buf_fini(&s->text);
    free(s->slices);
    free(s->op_ms);
    free(s->rows.at);
}

/* Slices with something in them go to the query. */
static int answer(const struct rolling *s)
{
    struct history_slices *q = s->q;
    struct rollup_slice *to =
        (struct rollup_slice *)(void *)buf_reserve(q->storage, s->slices_count * sizeof *to);
    if (!to)
        return -ENOMEM;
    q->slices = to;
    for (size_t i = 0; i < s->slices_count; i++) {
        if (s->slices[i].count == 0)
            continue;
        to->start_us = (int64_t)(((uint64_t)s->first_slice + i) * (uint64_t)q->slice_us);
        to++->r = s->slices[i];
        q->count++;
    }
    return HISTORY_DONE;
}

static int try(struct history *h, struct history_slices *q, bool tuples)
{
    struct rolling s;
    int code = begin(&s, h, q);
    if (code == 0)
        code = roll(&s, tuples);
    if (code == 0)
        code = answer(&s);
    end(&s);
    return code == -EAGAIN ? HISTORY_INCOMPLETE : code;
}

int history_rollup(struct history *h, struct history_slices *q)
{
    int code = try(h, q, true);
    if (code != -EBADMSG)
        return code;
    code = try(h, q, false);
    if (code == HISTORY_DONE) /* so it is the tuples that are damaged: they will be made again */
        atomic_store(&h->roll_again, ROLL_DAMAGED);
    return code;
}
