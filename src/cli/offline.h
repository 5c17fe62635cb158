/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli/offline.h - runs an admin command in this process, while no server holds the data directory:
 * the same table, the same catalog, opened under the lock. Main thread only.
 */
#pragma once

#include "api/admin.h"
#include "config.h"

/* 0: *ret_status and the body of the answer, as a server's. -EWOULDBLOCK: a process has the lock
 * and nothing was done. Any negative errno comes with a sentence. */
int offline_call(const struct config *config, const struct admin_command *command, json_t *args,
                 struct slice file, unsigned *ret_status, struct buf *ret_body, struct error *err);
