/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>

#include "view/history_own.h"

void op_list_init(struct op_list *l)
{
    *l = (struct op_list){0};
    buf_init(&l->text, SIZE_MAX / 2);
}

void op_list_fini(struct op_list *l)
{
    free(l->at);
    buf_fini(&l->text);
    *l = (struct op_list){0};
}

void op_list_add(struct op_list *l, struct op op)
{
    if (l->count == l->cap) {
        size_t cap = l->cap ? l->cap * 2 : 16;
        struct op *at = realloc(l->at, cap * sizeof *at);
        if (!at) {
            l->no_memory = true;
            return;
        }
        l->at = at;
        l->cap = cap;
    }
    size_t place = l->text.len;
    buf_put_slice(&l->text, op.payload);
    op.payload.ptr = (const char *)(uintptr_t)place;
    l->at[l->count++] = op;
}

/* Rounded down; ids round to zero, so a search takes one more on either side. */
static int64_t floor_ms(int64_t us)
{
    return us / 1000 - (us % 1000 < 0);
}

int op_list_load(struct op_list *l, struct unsealing *u, rocksdb_iterator_t *it, uint64_t feed,
                 int64_t from_us, int64_t to_us)
{
    /* The time of an id has 48 bits with its sign; what lies outside wrapped: look everywhere. */
    int64_t most = (int64_t)1 << 47, from = floor_ms(from_us) - 1, to = floor_ms(to_us) + 1;
    if (from < -most || to >= most) {
        from = INT64_MIN;
        to = INT64_MAX;
    }
    history_seek(it, KEY_OP, feed, (struct row_key){.us = from});
    struct op op;
    for (; history_op_at(u, it, feed, &op) && op.event_ms <= to; rocksdb_iter_next(it))
        op_list_add(l, op);
    return rocksdb_iter_valid(it) ? 0 : history_db_ended(it);
}

/* By datum; deletions first. For the rest the order of coming is kept by the payload's place. */
static int by_offset(const void *a, const void *b)
{
    const struct op *x = a, *y = b;
    if (x->offset != y->offset)
        return x->offset < y->offset ? -1 : 1;
    if (x->deleted != y->deleted)
        return x->deleted ? -1 : 1;
    uintptr_t px = (uintptr_t)x->payload.ptr, py = (uintptr_t)y->payload.ptr;
    return px < py ? 1 : px > py ? -1 : 0; /* the latest first */
}

int op_list_ready(struct op_list *l)
{
    if (l->no_memory || l->text.failed)
        return -ENOMEM;
    if (l->count == 0)
        return 0;
    qsort(l->at, l->count, sizeof *l->at, by_offset);
    for (size_t i = 0; i < l->count; i++)
        l->at[i].payload.ptr =
            l->at[i].payload.len ? l->text.ptr + (uintptr_t)l->at[i].payload.ptr : "";
    return 0;
}

bool op_matches(const struct op *op, const struct history_point *p)
{
    return op->offset == p->offset && op->event_ms == op_event_ms(p->event_us / 1000);
}

/* The op that decides what the point is now, or NULL. */
static const struct op *find_op(const struct op_list *l, const struct history_point *p)
{
    size_t lo = 0, hi = l->count;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (l->at[mid].offset < p->offset)
            lo = mid + 1;
        else
            hi = mid;
    }
    for (; lo < l->count && l->at[lo].offset == p->offset; lo++)
        if (op_matches(&l->at[lo], p))
            return &l->at[lo];
    return NULL;
}

bool op_list_apply(const struct op_list *l, struct point_list *points, size_t start)
{
    if (l->count == 0)
        return true;
    size_t kept = start;
    for (size_t i = start; i < points->count; i++) {
        struct history_point p = points->at[i];
        const struct op *op = find_op(l, &p);
        if (op && op->deleted)
            continue;
        if (op && datum_decode(op->payload, &p.datum)) {
            size_t place = points->text->len;
            buf_put_slice(points->text, p.datum.value);
            p.datum.value.ptr = (const char *)(uintptr_t)place;
        }
        points->at[kept++] = p;
    }
    points->count = kept;
    return !points->text->failed;
}
