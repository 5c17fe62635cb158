/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow/capture.h - a sample of the requests that arrive, for `sluice capture`: fronts put lines in,
 * a command takes them out. Off until somebody takes, and off again soon after the last one did.
 * Bounded; what does not fit is counted. Any thread. A worker never waits: if
 * another has the lock, its line is dropped too.
 * As with metrics there is one for the process, and nobody has to carry it.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"

struct capture_counts {
    uint64_t kept, dropped; /* lines since the last take */
};

/* Whether this request is one of the sample; `count` is the caller's own. One relaxed load while it
 * is off. */
bool capture_wants(uint32_t *count);
/* A line without its end. */
void capture_put(struct slice line);
/* Appends the lines since the last call to `out`, each with a line feed, and has one request of
 * `every` recorded from now on, for CAPTURE_LEASE_NS; 0: none. */
void capture_take(uint32_t every, struct buf *out, struct capture_counts *ret);
