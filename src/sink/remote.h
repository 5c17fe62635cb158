/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sink/remote.h - a sink that runs in another process, as far as the gateway's process has to do
 * with it: its name, where it is, what became of its last messages, and its figures, as that
 * process told them last. It is a `struct sink` to all who wait for a delivery or show figures; it
 * takes no orders here.
 *
 * Owned by the server. What is told comes from one thread, that of the link; any thread asks.
 */
#pragma once

#include "sink/sink.h"

/* One that is absent, at that position. `journal` says how far it lags. NULL: no memory. */
struct sink *sink_remote_new(const char *name, struct journal *journal, uint64_t position);
/* Accepts NULL. */
void sink_remote_free(struct sink *s);
bool sink_is_remote(const struct sink *s);

/* What its process tells of it. `position` never goes back. */
struct sink_report {
    uint64_t position;
    uint64_t disabled; /* not 0: as sink_is_disabled */
    struct sink_stats stats;
};
/* Of one that runs here. */
void sink_report(struct sink *s, struct sink_report *ret);
void sink_fates(const struct sink *s, uint64_t offset, uint8_t *ret, unsigned count);
unsigned sink_waiting(const struct sink *s);

/* True: somebody waits for the sink, and its position has moved. */
bool sink_remote_put(struct sink *s, const struct sink_report *r);
/* What became of `count` messages from `offset` on; to be told before the position passes them. */
void sink_remote_fates(struct sink *s, uint64_t offset, const uint8_t *fates, unsigned count);
/* Its process is gone. */
void sink_remote_absent(struct sink *s);
