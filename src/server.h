/* SPDX-License-Identifier: Apache-2.0 */
/*
 * server.h - the wiring: opens the stages in order, runs until SIGTERM or SIGINT, closes them in
 * the opposite order. Called once, on the main thread.
 */
#pragma once

#include "base/error.h"
#include "config.h"

/* Runs the server. 0 after a clean stop; else a negative errno with a sentence. */
int server_run(const struct config *config, struct error *err);
