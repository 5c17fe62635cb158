/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Queries. What a feed holds is the union of its chunk and sealed rows in memory, its fresh rows
 * and its merged rows in the database, less what changes and deletions by id say (pending ones in
 * memory, others in the database), less what lies below the feed's floor.
 *
 * All of them are "sources": runs of points with a known last time. A query takes sources in the
 * order of their last time, newest first, and stops when enough of the points found are newer than
 * anything a source not yet taken can hold. Merged rows do not overlap, so only one of them is
 * looked at ahead; fresh rows do, but the merging pass keeps them few.
 *
 * Why a query sees one moment: see history.c, "Snapshots".
 */
#include <errno.h>
#include <stdlib.h>

#include "base/check.h"
#include "view/history_own.h"

/* Room for so many points, and what rows hold beyond them, is made at once. */
enum { RESERVE_MAX = 1024 };

/* ---- begin and end --------------------------------------------------------------------------- */

int reading_begin(struct reading *r, unsigned flags)
{
    struct history *h = r->h;
    for (;;) {
        uint64_t before = atomic_load(&h->version);
        r->torn = before % 2 == 1;
        int code = open_copy(h->open, r->feed, &r->copy);
        if (code == 0)
            r->it = rocksdb_create_iterator(h->db.db,
                                            flags & HISTORY_NO_IO ? h->db.read_no_io : h->db.read);
        uint64_t after = atomic_load(&h->version);
        if (code < 0 || after == before || (r->torn && after == before + 1))
            return code;
        rocksdb_iter_destroy(r->it);
        r->it = NULL;
        open_copy_fini(&r->copy);
    }
}

void reading_init(struct reading *r, struct history *h, uint64_t feed, struct buf *text)
{
    *r = (struct reading){.h = h, .feed = feed};
    unsealing_init(&r->unsealing, h);
    op_list_init(&r->ops);
    buf_init(&r->rows, SIZE_MAX / 2);
    points_init(&r->found, text);
}

void reading_fini(struct reading *r)
{
    if (r->it)
        rocksdb_iter_destroy(r->it);
    open_copy_fini(&r->copy);
    unsealing_fini(&r->unsealing);
    op_list_fini(&r->ops);
    buf_fini(&r->rows);
    free(r->sources);
    points_fini(&r->found);
}

/* ---- sources --------------------------------------------------------------------------------- */

static bool in_range(const struct reading *r, struct row_key first, int64_t last_us)
{
    return first.us <= r->to_us && last_us >= r->from_us &&
           !(r->has_below && row_key_compare(first, r->below) >= 0);
}

static int add_source(struct reading *r, struct row_key first, struct slice row, bool copy)
{
    struct row_head head;
    if (!row_peek(row, first, &head))
        return -EBADMSG;
    if (!in_range(r, first, head.last_us))
        return 0;
    if (r->sources_count == r->sources_cap) {
        size_t cap = r->sources_cap ? r->sources_cap * 2 : 32;
        struct source *at = realloc(r->sources, cap * sizeof *at);
        if (!at)
            return -ENOMEM;
        r->sources = at;
        r->sources_cap = cap;
    }
    struct source s = {
        .first = first, .last_us = head.last_us, .count = head.count, .row = row, .placed = copy};
    if (copy) { /* the iterator will move */
        s.row.ptr = (const char *)(uintptr_t)r->rows.len;
        buf_put_slice(&r->rows, row);
        if (r->rows.failed)
            return -ENOMEM;
    }
    r->sources[r->sources_count++] = s;
    return 0;
}

static int by_last_down(const void *a, const void *b)
{
    int64_t x = ((const struct source *)a)->last_us, y = ((const struct source *)b)->last_us;
    return x > y ? -1 : x < y;
}

int reading_sources(struct reading *r)
{
    for (uint32_t i = 0; i < r->copy.sealed_count; i++) {
        struct sealed *s = r->copy.sealed[i];
        int code = add_source(r, s->first, slice_of(s->row, s->len), false);
        if (code < 0)
            return code;
    }
    struct row_key key = {.us = INT64_MIN};
    struct slice row;
    history_seek(r->it, KEY_FRESH, r->feed, key);
    for (; history_row_at(&r->unsealing, r->it, KEY_FRESH, r->feed, &key, &row);
         rocksdb_iter_next(r->it)) {
        int code = key.us > r->to_us ? 0 : add_source(r, key, row, true);
        if (code < 0)
            return code;
        if (key.us > r->to_us)
            break;
    }
    if (!rocksdb_iter_valid(r->it)) {
        int code = history_db_ended(r->it);
        if (code < 0)
            return code;
    }
    for (size_t i = 0; i < r->sources_count; i++)
        if (r->sources[i].placed)
            r->sources[i].row.ptr = r->rows.ptr + (uintptr_t)r->sources[i].row.ptr;
    if (r->sources_count > 1)
        qsort(r->sources, r->sources_count, sizeof *r->sources, by_last_down);
    return 0;
}

int reading_ops(struct reading *r, int64_t from_us, int64_t to_us)
{
    int code = 0;
    if (atomic_load_explicit(&r->h->has_ops, memory_order_relaxed))
        code = op_list_load(&r->ops, &r->unsealing, r->it, r->feed, from_us, to_us);
    struct op op;
    for (size_t at = 0; code == 0 && op_next(buf_slice(&r->copy.ops), &at, &op);)
        op_list_add(&r->ops, op);
    return code < 0 ? code : op_list_ready(&r->ops);
}

/* ---- points ---------------------------------------------------------------------------------- */

/* Whether a point in the range may be unwanted. */
static bool chooses(const struct reading *r)
{
    return r->one || r->has_above || r->has_below || r->copy.floor;
}

static bool wanted(const struct reading *r, const struct history_point *p)
{
    if (p->event_us < r->from_us || p->event_us > r->to_us || p->offset < r->copy.floor)
        return false;
    if (r->one && p->offset != r->offset)
        return false;
    if (r->has_above && row_key_compare(row_key_of(p), r->above) <= 0)
        return false;
    return !r->has_below || row_key_compare(row_key_of(p), r->below) < 0;
}

static void keep_wanted(struct reading *r, size_t start)
{
    struct point_list *f = &r->found;
    size_t kept = start;
    for (size_t i = start; i < f->count; i++) {
        if (wanted(r, &f->at[i])) {
            if (kept != i)
                f->at[kept] = f->at[i];
            kept++;
        }
    }
    f->count = kept;
}

/* As reading_take, of points that all are wanted. */
static bool take_wanted(struct reading *r, size_t start)
{
    struct point_list *f = &r->found;
    if (!op_list_apply(&r->ops, f, start))
        return false;
    for (size_t i = start, k = f->count; i + 1 < k; i++) {
        struct history_point p = f->at[i];
        f->at[i] = f->at[--k];
        f->at[k] = p;
    }
    return true;
}

bool reading_take(struct reading *r, size_t start)
{
    keep_wanted(r, start);
    return take_wanted(r, start);
}

int reading_take_row(struct reading *r, struct slice row, struct row_key first, size_t most)
{
    size_t start = r->found.count;
    int code = row_decode(row, first, r->from_us, r->to_us, most, &r->found);
    if (code < 0)
        return code;
    bool done = chooses(r) ? reading_take(r, start) : take_wanted(r, start);
    return done ? 0 : -ENOMEM;
}

bool reading_take_chunk(struct reading *r)
{
    return open_copy_points(&r->copy, &r->found) && reading_take(r, 0);
}

static size_t count_above(const struct reading *r, struct row_key bound, size_t most)
{
    size_t above = 0;
    for (size_t i = 0; i < r->found.count && above < most; i++)
        above += row_key_compare(row_key_of(&r->found.at[i]), bound) > 0;
    return above;
}

/* Whether more than `limit` of the points found lie above everything up to `bound`. While a flush
 * is going on a point may have been found twice, in memory and in the database; sorting drops it.
 */
static bool enough(struct reading *r, struct row_key bound, size_t limit)
{
    if (r->one)
        return r->found.count > 0;
    if (r->found.count <= limit || count_above(r, bound, limit + 1) <= limit)
        return false;
    size_t before = r->found.count;
    points_sort(&r->found, true);
    return r->found.count == before || count_above(r, bound, limit + 1) > limit;
}

/* Of a row of `count` points up to `last`: how many of the newest may be in the answer. All, unless
 * it is certain that each in the range is wanted, and found only once. */
static size_t most_of(const struct reading *r, struct row_key last, uint32_t count, size_t limit)
{
    bool picky = r->one || r->has_below || r->copy.floor || r->ops.count || r->torn;
    if (picky || r->found.count + count <= limit)
        return count;
    return limit + 1 - count_above(r, last, limit);
}

/* The merged row before the one at hand. */
struct merged {
    bool valid;
    uint32_t count;
    struct row_key first;
    struct row_key last; /* at the most */
    struct slice row;
};

/* Looks at the row the iterator stands on; `before` is the first key of the one after it. */
static int look_merged(struct reading *r, const struct row_key *before, struct merged *ret)
{
    struct row_head head;
    ret->valid = history_row_at(&r->unsealing, r->it, KEY_ROW, r->feed, &ret->first, &ret->row);
    if (!ret->valid)
        return rocksdb_iter_valid(r->it) ? 0 : history_db_ended(r->it);
    if (!row_peek(ret->row, ret->first, &head))
        return -EBADMSG;
    ret->count = head.count;
    ret->last = (struct row_key){.us = head.last_us, .offset = UINT64_MAX};
    if (before && row_key_compare(ret->last, *before) >= 0)
        ret->last = (struct row_key){.us = before->us, .offset = before->offset - 1};
    ret->valid = head.last_us >= r->from_us; /* and all further ones are older still */
    return 0;
}

static int take_sources(struct reading *r, size_t limit)
{
    struct row_key top = {.us = r->to_us, .offset = UINT64_MAX};
    if (r->has_below && row_key_compare(r->below, top) < 0)
        top = r->below;
    struct merged m = {0};
    history_seek_back(r->it, KEY_ROW, r->feed, top);
    int code = look_merged(r, NULL, &m);
    for (size_t next = 0; code == 0;) {
        const struct source *s = next < r->sources_count ? &r->sources[next] : NULL;
        if (!s && !m.valid)
            break;
        if (s && (!m.valid || s->last_us >= m.last.us)) {
            struct row_key last = {.us = s->last_us, .offset = UINT64_MAX};
            if (enough(r, last, limit))
                break;
            code = reading_take_row(r, s->row, s->first, most_of(r, last, s->count, limit));
            next++;
        } else {
            if (enough(r, m.last, limit))
                break;
            code = reading_take_row(r, m.row, m.first, most_of(r, m.last, m.count, limit));
            struct row_key before = m.first;
            rocksdb_iter_prev(r->it);
            if (code == 0)
                code = look_merged(r, &before, &m);
        }
    }
    return code;
}

/* ---- how many -------------------------------------------------------------------------------- */

/* Adds up the points of the feed's rows of one kind. */
static int count_rows(struct unsealing *u, rocksdb_iterator_t *it, char kind, uint64_t feed,
                      uint64_t *sum)
{
    struct row_key key = {.us = INT64_MIN};
    struct slice row;
    history_seek(it, kind, feed, key);
    for (; history_row_at(u, it, kind, feed, &key, &row); rocksdb_iter_next(it)) {
        struct row_head head;
        if (!row_peek(row, key, &head))
            return -EBADMSG;
        *sum += head.count;
    }
    return rocksdb_iter_valid(it) ? 0 : history_db_ended(it);
}

int history_merged_points(struct unsealing *u, rocksdb_iterator_t *it, uint64_t feed, uint64_t *ret)
{
    char key[OP_KEY_BYTES];
    struct slice value;
    *ret = 0;
    history_count_key(key, feed);
    rocksdb_iter_seek(it, key, sizeof key);
    if (history_count_at(u, it, feed, &value) && value.len == COUNT_BYTES &&
        value.ptr[0] == COUNT_FORMAT) {
        memcpy(ret, value.ptr + 1, sizeof *ret);
        return 0;
    }
    int code = rocksdb_iter_valid(it) ? 0 : history_db_ended(it);
    if (code == 0)
        code = count_rows(u, it, KEY_ROW, feed, ret);
    return code < 0 ? code : 1;
}

static uint64_t count_deleted(const struct op_list *l)
{
    uint64_t n = 0;
    for (size_t i = 0; i < l->count; i++)
        n += l->at[i].deleted && (i == 0 || l->at[i - 1].offset != l->at[i].offset);
    return n;
}

/* Of all the feed's points, with all its changes and deletions read. 0 or a negative errno. */
static int count_held(struct reading *r, uint64_t *ret)
{
    uint64_t sum = 0, merged = 0;
    int code = 0;
    if (r->copy.floor == 0)
        code = count_rows(&r->unsealing, r->it, KEY_FRESH, r->feed, &sum);
    if (r->copy.floor == 0 && code == 0)
        code = history_merged_points(&r->unsealing, r->it, r->feed, &merged);
    if (code < 0)
        return code;
    sum += merged + r->copy.count;
    for (uint32_t i = 0; i < r->copy.sealed_count; i++)
        sum += r->copy.sealed[i]->count;
    uint64_t deleted = count_deleted(&r->ops);
    *ret = sum > deleted ? sum - deleted : 0;
    return 0;
}

/* ---- answers --------------------------------------------------------------------------------- */

int reading_answer(struct reading *r, struct history_query *q, size_t limit)
{
    struct point_list *f = &r->found;
    points_sort(f, true);
    q->more = f->count > limit;
    if (q->more)
        f->count = limit;
    q->count = (uint32_t)f->count;
    q->points = q->count ? points_move(f) : NULL;
    return q->count && !q->points ? -ENOMEM : HISTORY_DONE;
}

int reading_outcome(int code)
{
    return code == -EAGAIN ? HISTORY_INCOMPLETE : code;
}

static int read_points(struct reading *r, struct history_query *q, size_t limit)
{
    int code = reading_begin(r, q->flags);
    if (code == 0 && limit <= RESERVE_MAX && !points_reserve(&r->found, limit * 3 / 2))
        code = -ENOMEM;
    if (code == 0)
        code = reading_ops(r, q->counts ? INT64_MIN : r->from_us, q->counts ? INT64_MAX : r->to_us);
    if (code == 0)
        code = reading_sources(r);
    if (code == 0)
        code = reading_take_chunk(r) ? 0 : -ENOMEM;
    if (code == 0)
        code = take_sources(r, limit);
    if (code == 0 && q->counts)
        code = count_held(r, &q->held);
    return code < 0 ? reading_outcome(code) : reading_answer(r, q, limit);
}

static void query_clear(struct history_query *q)
{
    buf_clear(q->storage);
    q->points = NULL;
    q->count = 0;
    q->more = false;
    q->held = 0;
}

int history_range(struct history *h, struct history_query *q)
{
    struct reading r;
    query_clear(q);
    reading_init(&r, h, q->feed, q->storage);
    r.from_us = q->from_us;
    r.to_us = q->to_us;
    r.has_below = q->has_before;
    r.below = (struct row_key){.us = q->before_us, .offset = q->before_offset};
    if (r.has_below && r.below.us < r.to_us)
        r.to_us = r.below.us;
    int code = read_points(&r, q, q->limit);
    reading_fini(&r);
    return code;
}

int history_get(struct history *h, struct history_query *q, struct datum_target id)
{
    struct reading r;
    int64_t ms = op_event_ms(id.event_ms);
    query_clear(q);
    reading_init(&r, h, q->feed, q->storage);
    r.from_us = (ms - 1) * 1000; /* ids round to zero */
    r.to_us = (ms + 1) * 1000;
    r.one = true;
    r.offset = id.offset;
    int code = read_points(&r, q, 1);
    reading_fini(&r);
    struct op as_op = {.offset = id.offset, .event_ms = ms};
    if (code == HISTORY_DONE && q->count && !op_matches(&as_op, q->points))
        q->count = 0;
    return code;
}

int history_count(struct history *h, uint64_t feed, unsigned flags, uint64_t *ret)
{
    struct reading r;
    reading_init(&r, h, feed, NULL);
    int code = reading_begin(&r, flags);
    if (code == 0)
        code = reading_ops(&r, INT64_MIN, INT64_MAX);
    if (code == 0)
        code = count_held(&r, ret);
    reading_fini(&r);
    return reading_outcome(code);
}
