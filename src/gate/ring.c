/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A stamp is the low 32 bits of a time in units of 1 us << scale. Invariants, under the lock:
 *  1. stamps are in order of time, the newest is that of last_ns;
 *  2. every stamp is younger, measured from last_ns, than 2^32 units: each push first drops what
 *     its longest window no longer sees, and `scale` is chosen so that this window is below 2^32
 *     units. So last_ns is enough to tell the high bits of each.
 */
#include "gate/ring.h"

#include <string.h>

#include "base/clock.h"

static uint32_t capacity(const struct subject *s)
{
    return (uint32_t)RING_FEW << s->grown;
}

static const uint32_t *places(const struct subject *s)
{
    return s->grown ? s->more : s->few;
}

static uint64_t units_up(uint64_t ns, unsigned scale)
{
    uint64_t us = (ns + NS_PER_US - 1) / NS_PER_US;
    return (us + (1ull << scale) - 1) >> scale;
}

/* The i-th oldest stamp in microseconds; `newest` is units_up(last_ns). */
static uint64_t stamp_us(const struct subject *s, uint64_t newest, uint32_t i)
{
    uint32_t low = places(s)[(s->first + i) & (capacity(s) - 1)];
    return (newest - ((uint32_t)newest - low)) << s->scale;
}

static uint64_t window_us(struct window w)
{
    return (uint64_t)w.window_ms * 1000;
}

static uint64_t until_ns(uint64_t us, uint64_t now_ns)
{
    uint64_t at = us * NS_PER_US;
    return at > now_ns ? at - now_ns : 0;
}

uint64_t ring_wait_ns(const struct subject *s, struct window w, uint32_t cost, uint64_t now_ns)
{
    uint32_t nth = w.count - cost + 1;
    if (s->len < nth)
        return 0;
    uint64_t newest = units_up(s->last_ns, s->scale);
    uint64_t leaves_us = stamp_us(s, newest, s->len - nth) + window_us(w);
    return leaves_us > now_ns / NS_PER_US ? until_ns(leaves_us, now_ns) : 0;
}

/* The first of the stamps `from`.. that a window of `span_us` still sees; s->len without one. */
static uint32_t first_within(const struct subject *s, uint32_t from, uint64_t span_us,
                             uint64_t now_ns)
{
    uint64_t newest = units_up(s->last_ns, s->scale);
    uint64_t now_us = now_ns / NS_PER_US;
    uint32_t low = from, high = s->len;
    /* The usual case: it was pruned when it was last counted, and few have left since. */
    for (; low < high && low < from + 3; low++) {
        if (stamp_us(s, newest, low) + span_us > now_us)
            return low;
    }
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (stamp_us(s, newest, middle) + span_us > now_us)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

uint32_t ring_used(const struct subject *s, struct window w, uint64_t now_ns)
{
    uint32_t from = s->len > w.count ? s->len - w.count : 0;
    return s->len - first_within(s, from, window_us(w), now_ns);
}

uint64_t ring_free_ns(const struct subject *s, struct window w, uint64_t now_ns)
{
    uint32_t used = ring_used(s, w, now_ns);
    if (!used)
        return 0;
    uint64_t newest = units_up(s->last_ns, s->scale);
    return until_ns(stamp_us(s, newest, s->len - used) + window_us(w), now_ns);
}

static void drop_oldest(struct subject *s, uint32_t count)
{
    s->first = (uint8_t)((s->first + count) & (capacity(s) - 1));
    s->len = (uint8_t)(s->len - count);
}

static enum slab_size slab_size_of(unsigned grown)
{
    return (enum slab_size)(SLAB_32 + grown - 1);
}

/* Moves the stamps into a ring of RING_FEW << grown places, oldest first. They must fit. */
static bool resize(struct subject *s, struct slab *slab, unsigned grown)
{
    if (grown == s->grown)
        return true;
    uint32_t *to = grown ? slab_take(slab, slab_size_of(grown)) : s->few;
    if (!to)
        return false;
    uint32_t *from = s->more;
    uint32_t kept[RING_FEW];
    if (!s->grown) {
        memcpy(kept, s->few, sizeof kept);
        from = kept;
    }
    for (uint32_t i = 0; i < s->len; i++)
        to[i] = from[(s->first + i) & (capacity(s) - 1)];
    if (s->grown)
        slab_give(slab, slab_size_of(s->grown), s->more);
    s->more = grown ? to : NULL;
    s->grown = (uint8_t)grown;
    s->first = 0;
    return true;
}

static unsigned grown_for(uint32_t stamps)
{
    unsigned grown = 0;
    while (((uint32_t)RING_FEW << grown) < stamps)
        grown++;
    return grown;
}

/* Makes the units coarse enough for `span_us`; kept stamps are rounded up. */
static void rescale(struct subject *s, uint64_t span_us)
{
    unsigned scale = s->len ? s->scale : 0;
    while ((span_us >> scale) >= UINT32_MAX - 4)
        scale++;
    if (s->len && scale != s->scale) {
        uint64_t newest = units_up(s->last_ns, s->scale);
        uint32_t *at = s->grown ? s->more : s->few;
        for (uint32_t i = 0; i < s->len; i++) {
            uint64_t us = stamp_us(s, newest, i);
            at[(s->first + i) & (capacity(s) - 1)] =
                (uint32_t)((us + (1ull << scale) - 1) >> scale);
        }
    }
    s->scale = (uint8_t)scale;
}

bool ring_push(struct subject *s, struct slab *slab, uint32_t count, uint32_t depth,
               uint32_t span_ms, uint64_t now_ns)
{
    uint64_t span_us = (uint64_t)span_ms * 1000;
    bool whole = true;
    if (s->len)
        drop_oldest(s, first_within(s, 0, span_us, now_ns));
    rescale(s, span_us);
    if (count > depth)
        count = depth;
    if (s->len + count > depth)
        drop_oldest(s, s->len + count - depth);
    if (s->len + count > capacity(s) && !resize(s, slab, grown_for(s->len + count))) {
        whole = false;
        if (count > capacity(s))
            count = capacity(s);
        drop_oldest(s, s->len + count - capacity(s));
    }
    s->last_ns = now_ns;
    uint32_t stamp = (uint32_t)units_up(now_ns, s->scale);
    uint32_t *at = s->grown ? s->more : s->few;
    for (uint32_t i = 0; i < count; i++)
        at[(s->first + s->len++) & (capacity(s) - 1)] = stamp;
    return whole;
}

void ring_shrink(struct subject *s, struct slab *slab, uint64_t span_ns, uint64_t now_ns)
{
    if (!s->grown || s->last_ns > now_ns)
        return;
    drop_oldest(s, first_within(s, 0, span_ns / NS_PER_US, now_ns));
    if (s->len <= capacity(s) / 4)
        (void)resize(s, slab, grown_for(s->len)); /* without memory it stays as it is */
}

void ring_clear(struct subject *s, struct slab *slab)
{
    if (s->grown)
        slab_give(slab, slab_size_of(s->grown), s->more);
    s->more = NULL;
    s->grown = s->first = s->len = 0;
}

void ring_prefetch(const struct subject *s)
{
    if (!s->grown)
        return;
    uint32_t last = capacity(s) - 1;
    __builtin_prefetch(&s->more[s->first], 1);
    __builtin_prefetch(&s->more[(s->first + s->len) & last], 1);
}
