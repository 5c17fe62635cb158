/* SPDX-License-Identifier: Apache-2.0 */
/*
 * server.h - the whole process: opens journal, catalog and views, starts the threads, serves until
 * it is told to stop. Called once, on the main thread, by `sluice serve`.
 */
#pragma once

#include "base/error.h"
#include "config.h"

/*
 * Runs until SIGTERM or SIGINT and a clean stop. 0, or a negative errno with a sentence: the data
 * directory is in use, an address cannot be listened on, the journal is damaged... `config` is
 * borrowed until it returns.
 */
int server_run(const struct config *config, struct error *err);
