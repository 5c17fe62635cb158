/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gate/window.h - all windows of a limit set on one subject: small ones by ring, others by a
 * meter. Under the lock of the subject's shard. The limits come with each call, so they may change
 * at any time: a ring keeps its stamps then, a meter of a new kind or length begins empty.
 */
#pragma once

#include "gate/subject.h"

/* What a request weighs: in limits that count messages, and in those that count bytes. */
struct weight {
    uint32_t messages, bytes;
};

static inline uint32_t weight_in(struct weight weight, struct window w)
{
    return w.kind & LIMIT_BYTES ? weight.bytes : weight.messages;
}

/* How long until `cost` more fit into window `i`; s may be NULL (nothing counted). cost must not be
 * over the window's count. */
uint64_t window_wait_ns(const struct subject *s, struct window w, uint32_t cost, uint64_t now_ns);
/* The same if the window's count were `count` (cost at most that): its stamps stay where they are.
 */
uint64_t window_wait_below_ns(const struct subject *s, struct window w, uint32_t count,
                              uint32_t cost, uint64_t now_ns);
/* How much of the window is used; a ring tells at most its count. */
uint32_t window_used(const struct subject *s, struct window w, uint64_t now_ns);
/* How long until the oldest of that leaves; 0 when nothing is used. */
uint64_t window_free_ns(const struct subject *s, struct window w, uint64_t now_ns);
/* How long until the minimum distance from the last stamp has passed. */
uint64_t window_distance_ns(const struct subject *s, const struct limit_set *l, uint64_t now_ns);
/* Counts at now_ns (not before s->last_ns) in all windows, but not in the meters of those whose bit
 * is in `skip`. False: no memory to count all. */
bool window_push_all(struct subject *s, struct slab *slab, const struct limit_set *l,
                     struct weight weight, unsigned skip, uint64_t now_ns);
/* Forgets everything. */
void window_clear_all(struct subject *s, struct slab *slab);
