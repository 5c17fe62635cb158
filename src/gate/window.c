/* SPDX-License-Identifier: Apache-2.0 */
#include "gate/window.h"

#include "base/clock.h"
#include "gate/bucket.h"
#include "gate/histogram.h"
#include "gate/ring.h"

uint64_t window_wait_ns(const struct subject *s, struct window w, uint32_t cost, uint64_t now_ns)
{
    return window_wait_below_ns(s, w, w.count, cost, now_ns);
}

uint64_t window_wait_below_ns(const struct subject *s, struct window w, uint32_t count,
                              uint32_t cost, uint64_t now_ns)
{
    if (!s)
        return 0;
    if (meter_in_ring(w)) {
        w.count = count;
        return ring_wait_ns(s, w, cost, now_ns);
    }
    return w.kind & LIMIT_BUCKET ? bucket_wait_ns(s, w, count, cost, now_ns)
                                 : histogram_wait_ns(s, w, count, cost, now_ns);
}

uint32_t window_used(const struct subject *s, struct window w, uint64_t now_ns)
{
    if (!s)
        return 0;
    if (meter_in_ring(w))
        return ring_used(s, w, now_ns);
    return w.kind & LIMIT_BUCKET ? bucket_used(s, w, now_ns) : histogram_used(s, w, now_ns);
}

uint64_t window_free_ns(const struct subject *s, struct window w, uint64_t now_ns)
{
    if (!s)
        return 0;
    if (meter_in_ring(w))
        return ring_free_ns(s, w, now_ns);
    return w.kind & LIMIT_BUCKET ? bucket_free_ns(s, w, now_ns) : histogram_free_ns(s, w, now_ns);
}

uint64_t window_distance_ns(const struct subject *s, const struct limit_set *l, uint64_t now_ns)
{
    if (!s || !l->min_distance_ms)
        return 0;
    uint64_t at = s->last_ns + (uint64_t)l->min_distance_ms * NS_PER_MS;
    return at > now_ns ? at - now_ns : 0;
}

/* Two windows may share a meter, which must be counted into once. */
static bool counted_before(const struct limit_set *l, unsigned i)
{
    struct window w = l->windows[i];
    for (unsigned k = 0; k < i; k++) {
        struct window v = l->windows[k];
        if (!meter_in_ring(v) && v.kind == w.kind && v.window_ms == w.window_ms &&
            meter_count(v) == meter_count(w))
            return true;
    }
    return false;
}

static bool push_meter(struct subject *s, struct slab *slab, struct window w, uint32_t cost,
                       uint64_t now_ns)
{
    if (!cost)
        return true;
    return w.kind & LIMIT_BUCKET ? bucket_push(s, slab, w, cost, now_ns)
                                 : histogram_push(s, slab, w, cost, now_ns);
}

bool window_push_all(struct subject *s, struct slab *slab, const struct limit_set *l,
                     struct weight weight, unsigned skip, uint64_t now_ns)
{
    uint32_t depth = 0, span_ms = 0, longest_ms = l->min_distance_ms;
    bool whole = true;
    if (s->meters)
        meter_keep(s, slab, l);
    for (unsigned i = 0; i < l->windows_count; i++) {
        struct window w = l->windows[i];
        if (w.window_ms > longest_ms)
            longest_ms = w.window_ms;
        if (!meter_in_ring(w)) {
            if (!(skip >> i & 1) && !counted_before(l, i))
                whole &= push_meter(s, slab, w, weight_in(weight, w), now_ns);
            continue;
        }
        depth = w.count > depth ? w.count : depth;
        span_ms = w.window_ms > span_ms ? w.window_ms : span_ms;
    }
    if (depth)
        whole &= ring_push(s, slab, weight.messages, depth, span_ms, now_ns);
    else
        ring_clear(s, slab); /* its stamps could not be told from last_ns any more */
    s->last_ns = now_ns;
    /* A little late, since a histogram's last bucket and a rounded stamp leave late. */
    s->idle_at_ns = now_ns + (uint64_t)longest_ms * (NS_PER_MS + NS_PER_MS / 16) + NS_PER_MS;
    return whole;
}

void window_clear_all(struct subject *s, struct slab *slab)
{
    ring_clear(s, slab);
    meter_keep(s, slab, NULL);
}
