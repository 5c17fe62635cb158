/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/metric.h"
#include "journal/internal.h"

/* Under the lock. */
static void count_bytes(struct journal *j)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < j->segments_count; i++)
        sum += j->segments[i].bytes;
    atomic_store_explicit(&j->disk_bytes, sum, memory_order_relaxed);
    metric_set(METRIC_journal_disk_bytes, sum);
}

int segments_add(struct journal *j, const struct segment *s)
{
    int rc = 0;
    pthread_mutex_lock(&j->segments_lock);
    /* A segment with the base of the last one took its file's place: that held nothing durable. */
    bool replaces = j->segments_count && j->segments[j->segments_count - 1].base == s->base;
    if (!replaces && j->segments_count == j->segments_cap) {
        size_t cap = j->segments_cap ? j->segments_cap * 2 : 16;
        struct segment *grown = realloc(j->segments, cap * sizeof *grown);
        if (grown) {
            j->segments = grown;
            j->segments_cap = cap;
        } else {
            rc = -ENOMEM;
        }
    }
    if (!rc) {
        j->segments_count -= replaces;
        j->segments[j->segments_count++] = *s;
        count_bytes(j);
        atomic_fetch_add(&j->layout, 1);
    }
    pthread_mutex_unlock(&j->segments_lock);
    return rc;
}

bool segments_find(struct journal *j, uint64_t offset, struct segment *ret, uint64_t *ret_limit,
                   uint64_t *ret_next)
{
    pthread_mutex_lock(&j->segments_lock);
    size_t low = 0, high = j->segments_count;
    while (low < high) { /* the first whose base is above */
        size_t mid = low + (high - low) / 2;
        if (j->segments[mid].base <= offset)
            low = mid + 1;
        else
            high = mid;
    }
    bool found = low > 0;
    if (found) {
        *ret = j->segments[low - 1];
        *ret_limit = *ret_next = OFFSET_NONE;
        if (low < j->segments_count) {
            const struct segment *next = &j->segments[low];
            *ret_next = next->base;
            *ret_limit = next->gap_from < next->base ? next->gap_from : next->base;
        }
    }
    pthread_mutex_unlock(&j->segments_lock);
    return found;
}

bool segments_oldest(struct journal *j, struct segment ret[2], size_t *ret_count)
{
    pthread_mutex_lock(&j->segments_lock);
    *ret_count = j->segments_count;
    bool some = j->segments_count > 1;
    if (some) {
        ret[0] = j->segments[0];
        ret[1] = j->segments[1];
    }
    pthread_mutex_unlock(&j->segments_lock);
    return some;
}

void segments_drop_oldest(struct journal *j)
{
    pthread_mutex_lock(&j->segments_lock);
    j->segments_count--;
    memmove(j->segments, j->segments + 1, j->segments_count * sizeof *j->segments);
    count_bytes(j);
    atomic_fetch_add(&j->layout, 1);
    pthread_mutex_unlock(&j->segments_lock);
}

void segments_replace(struct journal *j, struct segment *list, size_t count)
{
    pthread_mutex_lock(&j->segments_lock);
    free(j->segments);
    j->segments = list;
    j->segments_count = j->segments_cap = count;
    count_bytes(j);
    pthread_mutex_unlock(&j->segments_lock);
}

uint64_t journal_hold_from(struct journal *j, uint64_t bytes)
{
    uint64_t held = 0, from = 0;
    pthread_mutex_lock(&j->segments_lock);
    size_t i = j->segments_count;
    if (i)
        held = j->segments[i - 1].bytes, from = j->segments[i - 1].base;
    for (; i > 1 && held + j->segments[i - 2].bytes <= bytes; i--) {
        held += j->segments[i - 2].bytes;
        from = j->segments[i - 2].base;
    }
    pthread_mutex_unlock(&j->segments_lock);
    return from;
}

uint64_t journal_offset_at(struct journal *j, int64_t us, bool behind)
{
    /* A record may come into a segment that was begun a moment after it was received. */
    const int64_t margin_us = 60 * US_PER_S;
    uint64_t found = behind ? journal_durable(j) : atomic_load(&j->oldest);
    pthread_mutex_lock(&j->segments_lock);
    for (size_t i = 0; i < j->segments_count && !behind; i++)
        if (j->segments[i].created_us <= us)
            found = j->segments[i].base;
    for (size_t i = j->segments_count; i-- > 0 && behind;)
        if (j->segments[i].created_us > us + margin_us && j->segments[i].base < found)
            found = j->segments[i].base;
    pthread_mutex_unlock(&j->segments_lock);
    return found;
}
