/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gate/bucket.h - token buckets and leaky buckets by one debt that is paid off at N per W: the
 * Generic Cell Rate Algorithm of ITU-T I.371, annex A.1, in the form of a continuous leaky bucket.
 * A token bucket takes what keeps the debt at N or below; a leaky bucket takes the next one when
 * the debt is paid, so single messages come W/N apart and a batch is paid for after it. Both admit
 * up to 2N in some W, and never more. What is refused adds no debt. Exact: there is no rounding but
 * that of waits, up to a nanosecond. Under the lock of the subject's shard.
 */
#pragma once

#include "gate/meter.h"

/* As ring_wait_ns, if the bucket's size were `count` (at most w.count; cost at most count): of a
 * leaky bucket with count = w.count until it is empty. One that was never counted is empty. */
uint64_t bucket_wait_ns(const struct subject *s, struct window w, uint32_t count, uint32_t cost,
                        uint64_t now_ns);
/* How much of it is not paid off yet, rounded up; how long until one less is. */
uint32_t bucket_used(const struct subject *s, struct window w, uint64_t now_ns);
uint64_t bucket_free_ns(const struct subject *s, struct window w, uint64_t now_ns);
/* Adds to the debt, which stays at N at most. False: no memory. */
bool bucket_push(struct subject *s, struct slab *slab, struct window w, uint32_t cost,
                 uint64_t now_ns);
