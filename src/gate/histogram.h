/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gate/histogram.h - a window of any count in 64 buckets of W/63. The oldest bucket, of which the
 * window sees only a part, is counted whole: never more than N are admitted in any W; at most W/63
 * later than an exact window they are admitted again. Under the lock of the subject's shard.
 */
#pragma once

#include "gate/meter.h"

/* As ring_wait_ns (if the window's count were `count`), ring_used and ring_free_ns; a window that
 * was never counted is empty. */
uint64_t histogram_wait_ns(const struct subject *s, struct window w, uint32_t count, uint32_t cost,
                           uint64_t now_ns);
uint32_t histogram_used(const struct subject *s, struct window w, uint64_t now_ns);
uint64_t histogram_free_ns(const struct subject *s, struct window w, uint64_t now_ns);
/* Counts into the window's buckets, made when missing. False: no memory. */
bool histogram_push(struct subject *s, struct slab *slab, struct window w, uint32_t count,
                    uint64_t now_ns);
