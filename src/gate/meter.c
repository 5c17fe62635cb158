/* SPDX-License-Identifier: Apache-2.0 */
#include "gate/meter.h"

static enum slab_size size_of(unsigned kind)
{
    return kind & LIMIT_BUCKET ? SLAB_64 : SLAB_320;
}

struct meter *meter_make(struct subject *s, struct slab *slab, struct window w, bool *ret_new)
{
    struct meter *m = meter_find(s, w);
    *ret_new = !m;
    if (m)
        return m;
    m = slab_take(slab, size_of(w.kind));
    if (!m)
        return NULL;
    *m = (struct meter){s->meters, w.window_ms, meter_count(w), w.kind};
    s->meters = m;
    return m;
}

static bool wanted(const struct limit_set *l, const struct meter *m)
{
    for (unsigned i = 0; l && i < l->windows_count; i++) {
        if (!meter_in_ring(l->windows[i]) && meter_is_of(m, l->windows[i]))
            return true;
    }
    return false;
}

void meter_keep(struct subject *s, struct slab *slab, const struct limit_set *l)
{
    for (struct meter **at = &s->meters; *at;) {
        struct meter *m = *at;
        if (wanted(l, m)) {
            at = &m->next;
            continue;
        }
        *at = m->next;
        slab_give(slab, size_of(m->kind), m);
    }
}

void meter_prefetch(const struct subject *s)
{
    const char *m = (const char *)s->meters;
    for (size_t at = 0; m && at < 320; at += 64) /* counting empties old buckets of a histogram */
        __builtin_prefetch(m + at, 1);
}
