/* SPDX-License-Identifier: Apache-2.0 */
/*
 * prof/heap.h - what the allocator in use can tell. glibc's, which Sluice runs on, keeps no book of
 * who allocated; jemalloc does, if it is preloaded and told to (docs/bottleneck.md). Any thread.
 */
#pragma once

#include "base/buf.h"
#include "base/error.h"
#include "flow/reason.h"

/* Live allocations by who made them, sampled, as jeprof reads it. REASON_ok, or why not, with a
 * sentence. */
enum reason heap_profile(struct buf *out, struct error *err);
/* How much is in use and how much is kept, as the allocator counts; text for people. */
void heap_describe(struct buf *out);
