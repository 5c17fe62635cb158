/* SPDX-License-Identifier: Apache-2.0 */
/*
 * view/pace.h - when a view that lives in memory writes its snapshot: every 30 s, and earlier when
 * REPLAY_BYTES of journal were applied since, as that much is read again after a crash; but never
 * so often that writing takes more than 1 % of the time. One thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct pace {
    uint64_t saved_ns, least_ns; /* the last snapshot; the shortest pause behind it */
    uint64_t bytes;              /* of the journal since then */
    bool known, failing;         /* the clock has been seen; the last one could not be written */
};

/* `bytes` more were applied. Whether a snapshot is due. */
bool pace_due(struct pace *p, uint64_t bytes, uint64_t now_ns);
/* That took so long. The snapshot is the file at `path` now, or `code` says why not: that is
 * logged, once until one is written again. */
void pace_done(struct pace *p, uint64_t took_ns, uint64_t now_ns, int code, const char *path);
