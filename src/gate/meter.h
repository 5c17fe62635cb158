/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gate/meter.h - the head of what counts one window outside the ring: a histogram (rolling) or a
 * bucket. Under the lock of the subject's shard. It is found by what its state depends on: two
 * windows that agree in that share it; one that is changed begins empty.
 */
#pragma once

#include "gate/subject.h"

struct meter {
    struct meter *next;
    uint32_t window_ms;
    uint32_t count; /* 0 where the state does not depend on it */
    uint8_t kind;   /* LIMIT_ flags of the window */
};

/* Whether the ring counts it: one that rolls, in messages, in force, and small. */
static inline bool meter_in_ring(struct window w)
{
    return w.kind == LIMIT_ROLLING && w.count <= RING_MAX;
}

/* What the window's meter must agree with. A bucket's state is in units of its pace; a window in
 * shadow admits by its own count. */
static inline uint32_t meter_count(struct window w)
{
    return w.kind & (LIMIT_BUCKET | LIMIT_SHADOW) ? w.count : 0;
}

static inline bool meter_is_of(const struct meter *m, struct window w)
{
    return m->window_ms == w.window_ms && m->kind == w.kind && m->count == meter_count(w);
}

static inline struct meter *meter_find(const struct subject *s, struct window w)
{
    struct meter *m = s->meters;
    while (m && !meter_is_of(m, w))
        m = m->next;
    return m;
}

/* Found, or made with undefined contents behind the head (*ret_new). NULL: no memory. */
struct meter *meter_make(struct subject *s, struct slab *slab, struct window w, bool *ret_new);
/* Forgets the meters of windows that `l` (NULL: nothing) no longer has. */
void meter_keep(struct subject *s, struct slab *slab, const struct limit_set *l);
/* Asks for the cache lines of the first one. */
void meter_prefetch(const struct subject *s);
