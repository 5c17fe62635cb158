/* SPDX-License-Identifier: Apache-2.0 */
#include "sink/ready.h"

#include <errno.h>
#include <poll.h>

#include "base/clock.h"

bool ready_wait(int fd, short events, uint64_t end_ns, const _Atomic bool *cancelled)
{
    struct pollfd f = {.fd = fd, .events = events};
    for (;;) {
        uint64_t now = clock_mono_ns();
        if (now >= end_ns || atomic_load(cancelled) || fd < 0)
            return false;
        uint64_t left_ms = (end_ns - now) / NS_PER_MS + 1;
        int n = poll(&f, 1, left_ms < READY_LOOK_MS ? (int)left_ms : READY_LOOK_MS);
        if (n > 0)
            return true;
        if (n < 0 && errno != EINTR)
            return false;
    }
}
