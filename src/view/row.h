/* SPDX-License-Identifier: Apache-2.0 */
/*
 * view/row.h - a run of points of one feed as bytes: what history keeps in its database and, for
 * busy feeds, in memory. Pure functions over the caller's storage; any thread.
 *
 * A row holds its points sorted by (event time, offset). The first point's place in that order is
 * not in the row: it is the row's key.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "view/history.h"

enum { ROW_POINTS_MAX = 65535 };

/* A place in the order of one feed's points. */
struct row_key {
    int64_t us;
    uint64_t offset;
};

static inline struct row_key row_key_of(const struct history_point *p)
{
    return (struct row_key){.us = p->event_us, .offset = p->offset};
}

/* Below, at (0) or above `b`. */
static inline int row_key_compare(struct row_key a, struct row_key b)
{
    if (a.us != b.us)
        return a.us < b.us ? -1 : 1;
    return a.offset == b.offset ? 0 : a.offset < b.offset ? -1 : 1;
}

/* Points with their texts. While the list grows, a value's `ptr` is its place in `text`, because
 * that moves; points_bind turns all of them into pointers. One thread at a time. */
struct point_list {
    struct history_point *at;
    size_t count, cap;
    struct buf *text;  /* values are appended here; the caller's */
    uint64_t *columns; /* scratch of row_decode */
    size_t columns_cap;
};

void points_init(struct point_list *l, struct buf *text);
void points_fini(struct point_list *l);
/* Room for `n` more. False: no memory. */
bool points_reserve(struct point_list *l, size_t n);
/* Copies the point and its value. False: no memory, or `text` is full. */
bool points_add(struct point_list *l, struct history_point p);
void points_bind(struct point_list *l);
/* Puts the points into `text`, before their values, bound, without copying them; the list is empty
 * then. Returns the first one. NULL: no memory, or `text` is full. */
struct history_point *points_move(struct point_list *l);
/* Sorts by (event time, offset), up or down, unless it is so already; of points with the same key
 * the first added stays. */
void points_sort(struct point_list *l, bool newest_first);

/* Appends the row of `n` points, 1 to ROW_POINTS_MAX, sorted upwards, without equal keys, bound.
 * `out` remembers its own failure. */
void row_encode(struct buf *out, const struct history_point *p, size_t n);

struct row_head {
    uint32_t count;
    int64_t last_us;
};
/* What is known without decoding. False: not a row. */
bool row_peek(struct slice row, struct row_key first, struct row_head *ret);

/* Appends to `out` (unbound) the points with from_us <= event time <= to_us, upwards, or only the
 * last `most` of them. 0, -EBADMSG (not a row; nothing was appended), -ENOMEM. */
int row_decode(struct slice row, struct row_key first, int64_t from_us, int64_t to_us, size_t most,
               struct point_list *out);
