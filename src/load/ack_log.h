/* SPDX-License-Identifier: Apache-2.0 */
/*
 * load/ack_log.h - a line for each message that the server acknowledged, in a file that outlives
 * this process. Owned by the run; one thread.
 */
#pragma once

#include <stdint.h>

#include "base/error.h"
#include "load/feeds.h"

struct ack {
    uint64_t sequence;
    const struct fleet_device *device;
    uint32_t feed;       /* its number */
    struct slice offset; /* digits; empty: it was not told */
};

/* Opens, to append. `path` NULL: *ret_fd is -1. 0 or negative errno. */
int ack_log_open(const char *path, int *ret_fd, struct error *err);
/* "sequence device feed value offset" and a line feed, in one write(2): what was acknowledged is on
 * record even if we die at the next instruction (the file is not synced: the machine stays up, the
 * server is what gets killed). A log with a hole would prove nothing, so if it cannot be written
 * the process ends. */
void ack_log_put(int fd, const struct feeds *feeds, const struct ack *ack);
