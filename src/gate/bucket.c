/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The debt is kept times the window's length in nanoseconds: then each nanosecond pays N units and
 * each message costs W of them, both whole numbers. N * W may need 84 bits.
 */
#include "gate/bucket.h"

#include "base/clock.h"

typedef unsigned __int128 debt_t;

struct bucket {
    struct meter meter;
    uint64_t at_ns; /* when the debt was as follows */
    debt_t debt;
};
_Static_assert(sizeof(struct bucket) <= 64, "fits its slab size");

static debt_t price(struct window w, uint32_t cost)
{
    return (debt_t)cost * ((uint64_t)w.window_ms * NS_PER_MS);
}

static debt_t debt_at(const struct bucket *b, uint32_t count, uint64_t now_ns)
{
    uint64_t passed = now_ns > b->at_ns ? now_ns - b->at_ns : 0;
    debt_t paid = (debt_t)passed * count;
    return b->debt > paid ? b->debt - paid : 0;
}

static debt_t debt_of(const struct subject *s, struct window w, uint64_t now_ns)
{
    const struct meter *m = s->meters ? meter_find(s, w) : NULL;
    return m ? debt_at((const struct bucket *)(const void *)m, w.count, now_ns) : 0;
}

static uint64_t up(debt_t a, debt_t b)
{
    return (uint64_t)((a + b - 1) / b);
}

uint64_t bucket_wait_ns(const struct subject *s, struct window w, uint32_t count, uint32_t cost,
                        uint64_t now_ns)
{
    debt_t debt = debt_of(s, w, now_ns);
    bool paced = w.kind & LIMIT_LEAKY && count == w.count;
    debt_t most = paced ? 0 : price(w, count - cost);
    return debt > most ? up(debt - most, w.count) : 0;
}

uint32_t bucket_used(const struct subject *s, struct window w, uint64_t now_ns)
{
    return (uint32_t)up(debt_of(s, w, now_ns), price(w, 1));
}

uint64_t bucket_free_ns(const struct subject *s, struct window w, uint64_t now_ns)
{
    debt_t debt = debt_of(s, w, now_ns);
    uint32_t used = (uint32_t)up(debt, price(w, 1));
    if (!used)
        return 0;
    bool paced = w.kind & LIMIT_LEAKY;
    return up(debt - (paced ? 0 : price(w, used - 1)), w.count);
}

bool bucket_push(struct subject *s, struct slab *slab, struct window w, uint32_t cost,
                 uint64_t now_ns)
{
    bool made;
    struct bucket *b = (struct bucket *)(void *)meter_make(s, slab, w, &made);
    if (!b)
        return false;
    if (made) {
        b->debt = 0;
        b->at_ns = now_ns;
    }
    debt_t debt = debt_at(b, w.count, now_ns) + price(w, cost), most = price(w, w.count);
    b->debt = debt < most ? debt : most;
    b->at_ns = now_ns;
    return true;
}
