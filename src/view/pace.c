/* SPDX-License-Identifier: Apache-2.0 */
#include "view/pace.h"

#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "flow/limits.h"

#define INTERVAL_NS (30 * NS_PER_S)
#define PAUSE_TIMES 100u /* writing takes at most this share of the time */

bool pace_due(struct pace *p, uint64_t bytes, uint64_t now_ns)
{
    if (!p->known) {
        p->known = true;
        p->saved_ns = now_ns;
    }
    p->bytes += bytes;
    uint64_t since = now_ns - p->saved_ns;
    return since >= p->least_ns && (since >= INTERVAL_NS || p->bytes >= REPLAY_BYTES);
}

void pace_done(struct pace *p, uint64_t took_ns, uint64_t now_ns, int code, const char *path)
{
    if (code < 0 && !p->failing)
        log_line(LOG_ERROR, "view.snapshot_failed", "path=%s error=%s", path, strerror(-code));
    *p = (struct pace){
        .saved_ns = now_ns, .least_ns = took_ns * PAUSE_TIMES, .known = true, .failing = code < 0};
}
