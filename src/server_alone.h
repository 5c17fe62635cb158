/* SPDX-License-Identifier: Apache-2.0 */
/*
 * server_alone.h - the process that runs the sinks and nothing else (--roles sink, decision 0063):
 * it reads the journal that the gateway's process writes, has its own cursors and dead letters in
 * data/sinks, its own operator's port and admin socket. Called once, on the main thread.
 */
#pragma once

#include "server.h"

/* Whether the settings want it. */
bool server_runs_alone(const struct config *c);
/* As server_run. */
int server_run_alone(struct config *config, const struct server_source *source, struct error *err);
