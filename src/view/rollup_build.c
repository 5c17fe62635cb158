/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tuples of merged rows. They are made from a row's points, in memory at that moment, and
 * written and deleted in the same write batch as the row. So they need no cursor, cannot count a
 * point twice after a crash, and are right after whatever changed the row: late points, changes and
 * deletions by id reach a merged row only by making it anew. Until they do, readers add late points
 * from the fresh rows and do not use the tuples of rows that a pending change is about.
 *
 * Rows below merge_points get the mere end of the row: they will soon be merged again.
 *
 * A database from before there were tuples, or one whose tuples are damaged, gets them in the
 * background, feed by feed; `rolled` is the first feed that may lack some. Readers take its points.
 */
#include <errno.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/metric.h"
#include "view/history_own.h"

enum { ROWS_OF_ONE_CALL = 32 }; /* about a millisecond */

/* While records come in: less than a tenth of the thread's time. */
#define PAUSE_NS (10 * NS_PER_MS)

void history_rollup_put(struct history *h, rocksdb_writebatch_t *b, uint64_t feed, uint32_t key_id,
                        const struct history_point *p, size_t n, struct buf *text)
{
    char key[ROW_KEY_BYTES];
    history_key(key, KEY_ROLLUP, feed, row_key_of(p));
    buf_clear(text);
    rollup_encode(text, p, n, n < h->opts.merge_points);
    history_put(h, b, slice_of(key, sizeof key), key_id, buf_slice(text));
}

void history_rollup_delete(rocksdb_writebatch_t *b, const char row_key[ROW_KEY_BYTES])
{
    char key[ROW_KEY_BYTES];
    memcpy(key, row_key, sizeof key);
    key[0] = KEY_ROLLUP;
    rocksdb_writebatch_delete(b, key, sizeof key);
}

void history_rollup_begin(rocksdb_writebatch_t *b, uint64_t feed)
{
    rocksdb_writebatch_put(b, (char[]){KEY_ROLLED}, 1, (const char *)&feed, sizeof feed);
}

int history_rollup_open(struct history *h)
{
    char *text = NULL;
    size_t len = 0;
    uint64_t rolled = 0;
    char *value = rocksdb_get(h->db.db, h->db.read, (char[]){KEY_ROLLED}, 1, &len, &text);
    if (text)
        return history_db_error(text);
    if (value && len == sizeof rolled)
        memcpy(&rolled, value, sizeof rolled);
    if (value)
        rocksdb_free(value);
    h->rolled = rolled;
    h->roll_at = (struct row_key){.us = INT64_MIN};
    if (rolled != UINT64_MAX)
        log_line(LOG_INFO, "history.rollups_missing", "path=%s from_feed=%llu", h->path,
                 (unsigned long long)rolled);
    return 0;
}

/* Forgets all tuples. Readers look at `rolled` after they have made their iterator too, so none
 * takes the empty place for an empty feed. */
static int forget_all(struct history *h, int why)
{
    char *text = NULL;
    log_line(why == ROLL_DAMAGED ? LOG_ERROR : LOG_INFO, "history.rollups_anew",
             "path=%s reason=%s", h->path, why == ROLL_DAMAGED ? "damaged" : "asked");
    metric_add(METRIC_history_rollups_damaged, why == ROLL_DAMAGED);
    atomic_store(&h->rolled, 0);
    rocksdb_writebatch_t *b = rocksdb_writebatch_create();
    rocksdb_writebatch_delete_range(b, (char[]){KEY_ROLLUP}, 1, (char[]){KEY_ROLLUP + 1}, 1);
    history_rollup_begin(b, 0);
    rocksdb_write(h->db.db, h->db.write, b, &text);
    rocksdb_writebatch_destroy(b);
    int code = history_db_error(text);
    if (code == 0) {
        h->roll_at = (struct row_key){.us = INT64_MIN};
        h->roll_failed = false;
        atomic_store(&h->roll_again, ROLL_NOT);
    }
    return code;
}

/* Puts the tuples of up to ROWS_OF_ONE_CALL rows. *ret_feed and *ret_at: where to go on. */
static int put_some(struct history *h, rocksdb_iterator_t *it, rocksdb_writebatch_t *b,
                    uint64_t *ret_feed, struct row_key *ret_at)
{
    struct buf text, tuples;
    struct unsealing unsealing;
    struct point_list points;
    struct slice row;
    int code = 0;
    buf_init(&text, SIZE_MAX / 2);
    buf_init(&tuples, SIZE_MAX / 2);
    unsealing_init(&unsealing, h);
    points_init(&points, &text);
    history_seek(it, KEY_ROW, *ret_feed, *ret_at);
    unsigned n = 0;
    bool more;
    while ((more = history_any_row_at(&unsealing, it, KEY_ROW, ret_feed, ret_at, &row)) &&
           n++ < ROWS_OF_ONE_CALL && code == 0) {
        points.count = 0;
        buf_clear(&text);
        code = row_decode(row, *ret_at, INT64_MIN, INT64_MAX, SIZE_MAX, &points);
        if (code == 0) {
            points_bind(&points);
            history_rollup_put(h, b, *ret_feed, unsealing.key_id, points.at, points.count, &tuples);
            rocksdb_iter_next(it);
            unsealing.key_id = 0;
        }
    }
    if (!more) {
        *ret_feed = UINT64_MAX;
        code = rocksdb_iter_valid(it) ? 0 : history_db_ended(it);
    }
    points_fini(&points);
    buf_fini(&text);
    buf_fini(&tuples);
    unsealing_fini(&unsealing);
    return code;
}

bool history_rollup_wanted(struct history *h)
{
    if (atomic_load_explicit(&h->roll_again, memory_order_relaxed))
        return true;
    return atomic_load_explicit(&h->rolled, memory_order_relaxed) != UINT64_MAX && !h->roll_failed;
}

int history_rollup_some(struct history *h, bool busy, uint64_t now_ns)
{
    int again = atomic_load_explicit(&h->roll_again, memory_order_relaxed);
    if (again)
        return forget_all(h, again);
    if (busy && now_ns - h->roll_ns < PAUSE_NS)
        return 0;
    h->roll_ns = now_ns;
    uint64_t feed = h->rolled;
    struct row_key at = h->roll_at;
    char *text = NULL;
    rocksdb_iterator_t *it = rocksdb_create_iterator(h->db.db, h->db.read_once);
    rocksdb_writebatch_t *b = rocksdb_writebatch_create();
    int code = put_some(h, it, b, &feed, &at);
    if (code == 0) {
        history_rollup_begin(b, feed);
        rocksdb_write(h->db.db, h->db.write, b, &text);
        code = history_db_error(text);
    }
    rocksdb_writebatch_destroy(b);
    rocksdb_iter_destroy(it);
    if (code == -EBADMSG) { /* the points themselves: their readers are told */
        log_line(LOG_ERROR, "history.rollup_failed", "path=%s feed=%llu error=%s", h->path,
                 (unsigned long long)feed, strerror(-code));
        h->roll_failed = true;
        return 0;
    }
    if (code < 0)
        return code;
    h->roll_at = at;
    atomic_store(&h->rolled, feed);
    if (feed == UINT64_MAX)
        log_line(LOG_INFO, "history.rollups_complete", "path=%s", h->path);
    return 0;
}

void history_rollup_rebuild(struct history *h)
{
    int not = ROLL_NOT;
    atomic_compare_exchange_strong(&h->roll_again, &not, ROLL_ASKED);
}
