/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The other end of a feed: its oldest point, or the first one above a given one. The sources are
 * those of history_read.c, looked at in the order of their first points: as soon as a point is
 * found that lies below all that follows, nothing more is decoded.
 */
#include <errno.h>
#include <stdlib.h>

#include "view/history_own.h"

static int by_first_up(const void *a, const void *b)
{
    return row_key_compare(((const struct source *)a)->first, ((const struct source *)b)->first);
}

/* Leaves only the lowest of the points found. */
static void keep_oldest(struct point_list *found)
{
    for (size_t i = 1; i < found->count; i++)
        if (row_key_compare(row_key_of(&found->at[i]), row_key_of(&found->at[0])) < 0)
            found->at[0] = found->at[i];
    if (found->count)
        found->count = 1;
}

/* At the merged row that holds the beginning of the range, or the first one behind it. Points of
 * one time may lie in two rows: it is the one with the lower offsets. */
static void seek_first(struct reading *r)
{
    struct row_key key = {.us = r->from_us};
    struct slice row;
    history_seek_back(r->it, KEY_ROW, r->feed, key);
    if (!history_row_at(&r->unsealing, r->it, KEY_ROW, r->feed, &key, &row))
        history_seek(r->it, KEY_ROW, r->feed, (struct row_key){.us = INT64_MIN});
}

static int take_up(struct reading *r)
{
    if (r->sources_count > 1)
        qsort(r->sources, r->sources_count, sizeof *r->sources, by_first_up);
    seek_first(r);
    for (size_t next = 0;;) {
        struct row_key first;
        struct slice row;
        bool merged = history_row_at(&r->unsealing, r->it, KEY_ROW, r->feed, &first, &row);
        if (!merged && !rocksdb_iter_valid(r->it)) {
            int code = history_db_ended(r->it);
            if (code < 0)
                return code;
        }
        const struct source *s = next < r->sources_count ? &r->sources[next] : NULL;
        bool use_source = s && (!merged || row_key_compare(s->first, first) < 0);
        if (!s && !merged)
            return 0;
        if (use_source) {
            first = s->first;
            row = s->row;
        }
        keep_oldest(&r->found);
        if (first.us > r->to_us ||
            (r->found.count && row_key_compare(row_key_of(&r->found.at[0]), first) < 0))
            return 0;
        int code = reading_take_row(r, row, first, SIZE_MAX);
        if (code < 0)
            return code;
        if (use_source)
            next++;
        else
            rocksdb_iter_next(r->it);
    }
}

int history_oldest(struct history *h, struct history_query *q)
{
    struct reading r;
    buf_clear(q->storage);
    q->points = NULL;
    q->count = 0;
    q->more = false;
    reading_init(&r, h, q->feed, q->storage);
    r.from_us = q->from_us;
    r.to_us = q->to_us;
    r.has_above = q->has_after;
    r.above = (struct row_key){.us = q->after_us, .offset = q->after_offset};
    if (r.has_above && r.above.us > r.from_us)
        r.from_us = r.above.us;
    int code = reading_begin(&r, q->flags);
    if (code == 0)
        code = reading_ops(&r, r.from_us, r.to_us);
    if (code == 0)
        code = reading_sources(&r);
    if (code == 0)
        code = reading_take_chunk(&r) ? 0 : -ENOMEM;
    if (code == 0)
        code = take_up(&r);
    if (code == 0) {
        keep_oldest(&r.found);
        code = reading_answer(&r, q, 1);
    } else {
        code = reading_outcome(code);
    }
    reading_fini(&r);
    return code;
}
