/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bucket b covers [b * width, (b+1) * width) with width = W/63 rounded up. At a time in bucket b
 * the window (now - W, now] reaches at most into bucket b - 63, so the 64 buckets b-63..b hold all
 * of it, and bucket j has left once the present is in bucket j + 64.
 */
#include "gate/histogram.h"

#include <string.h>

#include "base/clock.h"

#define BUCKETS 64u

struct histogram {
    struct meter meter;
    uint64_t newest;           /* number of the bucket last counted into */
    uint64_t total;            /* sum of all buckets */
    uint32_t buckets[BUCKETS]; /* by number modulo 64 */
};
_Static_assert(sizeof(struct histogram) <= 320, "fits its slab size");

static uint64_t width_ns(uint32_t window_ms)
{
    return ((uint64_t)window_ms * NS_PER_MS + BUCKETS - 2) / (BUCKETS - 1);
}

/* The bucket that the present is in: mostly the newest, and then nothing is divided. */
static uint64_t bucket_of(const struct histogram *h, uint64_t width, uint64_t now_ns)
{
    uint64_t begin = h->newest * width;
    return now_ns >= begin && now_ns - begin < width ? h->newest : now_ns / width;
}

static struct histogram *find(const struct subject *s, struct window w)
{
    return (struct histogram *)(void *)meter_find(s, w);
}

/* The oldest bucket that counts when the present is in bucket `now`. */
static uint64_t oldest_bucket(uint64_t now)
{
    return now >= BUCKETS - 1 ? now - (BUCKETS - 1) : 0;
}

/* What the buckets hold that still count, and the first of them. */
static uint64_t counted(const struct histogram *h, uint64_t now, uint64_t *ret_first)
{
    uint64_t total = h->total, j = oldest_bucket(h->newest);
    for (; j < oldest_bucket(now) && j <= h->newest; j++)
        total -= h->buckets[j % BUCKETS];
    *ret_first = j;
    return total;
}

/* How long until enough buckets have left that at most `keep` remain; 0 = now. */
static uint64_t drained_in(const struct histogram *h, uint64_t keep, uint64_t now_ns)
{
    uint64_t width = width_ns(h->meter.window_ms), j;
    uint64_t total = counted(h, bucket_of(h, width, now_ns), &j);
    uint64_t at_ns = now_ns;
    for (; total > keep && j <= h->newest; j++) {
        if (!h->buckets[j % BUCKETS])
            continue;
        total -= h->buckets[j % BUCKETS];
        at_ns = (j + BUCKETS) * width;
    }
    return at_ns - now_ns;
}

uint64_t histogram_wait_ns(const struct subject *s, struct window w, uint32_t count, uint32_t cost,
                           uint64_t now_ns)
{
    const struct histogram *h = find(s, w);
    if (!h || h->total + cost <= count)
        return 0;
    return drained_in(h, count - cost, now_ns);
}

uint32_t histogram_used(const struct subject *s, struct window w, uint64_t now_ns)
{
    const struct histogram *h = find(s, w);
    uint64_t first;
    uint64_t total = h ? counted(h, bucket_of(h, width_ns(w.window_ms), now_ns), &first) : 0;
    return total > UINT32_MAX ? UINT32_MAX : (uint32_t)total;
}

uint64_t histogram_free_ns(const struct subject *s, struct window w, uint64_t now_ns)
{
    uint32_t used = histogram_used(s, w, now_ns);
    return used ? drained_in(find(s, w), used - 1ull, now_ns) : 0;
}

/* Empties the buckets that left since the last count. */
static void advance(struct histogram *h, uint64_t now)
{
    if (now <= h->newest)
        return;
    if (now - h->newest >= BUCKETS) {
        memset(h->buckets, 0, sizeof h->buckets);
        h->total = 0;
    } else {
        for (uint64_t j = h->newest + 1; j <= now; j++) {
            h->total -= h->buckets[j % BUCKETS];
            h->buckets[j % BUCKETS] = 0;
        }
    }
    h->newest = now;
}

bool histogram_push(struct subject *s, struct slab *slab, struct window w, uint32_t count,
                    uint64_t now_ns)
{
    bool made;
    struct histogram *h = (struct histogram *)(void *)meter_make(s, slab, w, &made);
    if (!h)
        return false;
    if (made) {
        h->newest = now_ns / width_ns(w.window_ms);
        h->total = 0;
        memset(h->buckets, 0, sizeof h->buckets);
    }
    uint64_t now = bucket_of(h, width_ns(w.window_ms), now_ns);
    advance(h, now);
    uint32_t *at = &h->buckets[now % BUCKETS];
    uint32_t room = UINT32_MAX - *at; /* refused attempts count without end */
    if (count > room)
        count = room;
    *at += count;
    h->total += count;
    return true;
}
