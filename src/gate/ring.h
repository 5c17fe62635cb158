/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gate/ring.h - the last stamps of a subject, exact to one microsecond (windows over 71 minutes: to
 * W / 2^32). A stamp is rounded up and the present down, so rounding never admits more than N in W.
 * Under the lock of the subject's shard.
 */
#pragma once

#include "gate/subject.h"

/* How long until `cost` more (1 to w.count) fit into the window; 0 = now. One load: it asks when
 * the (count - cost + 1)-th newest stamp leaves (ClassDojo's rule in peterkhayes'
 * rolling-rate-limiter, kept in a ring). */
uint64_t ring_wait_ns(const struct subject *s, struct window w, uint32_t cost, uint64_t now_ns);
/* How many stamps the window sees, at most w.count; how long until the oldest of them leaves. */
uint32_t ring_used(const struct subject *s, struct window w, uint64_t now_ns);
uint64_t ring_free_ns(const struct subject *s, struct window w, uint64_t now_ns);
/*
 * Counts `count` stamps of `now_ns` (not before s->last_ns), which becomes s->last_ns. `depth` is
 * the largest count and `span_ms` the longest window to serve. False: no memory to grow, older
 * stamps than needed were forgotten.
 */
bool ring_push(struct subject *s, struct slab *slab, uint32_t count, uint32_t depth,
               uint32_t span_ms, uint64_t now_ns);
/* Forgets stamps older than `span_ns` and gives back room that was not needed lately. */
void ring_shrink(struct subject *s, struct slab *slab, uint64_t span_ns, uint64_t now_ns);
/* Forgets all. */
void ring_clear(struct subject *s, struct slab *slab);
/* Asks for the cache lines that the next decision will touch. */
void ring_prefetch(const struct subject *s);
