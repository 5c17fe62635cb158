/* SPDX-License-Identifier: Apache-2.0 */
/*
 * server.h - the wiring: opens the stages in order, runs until SIGTERM or SIGINT, closes them in
 * the opposite order. Called once, on the main thread.
 */
#pragma once

#include "base/error.h"
#include "config.h"

/* Where the settings come from, for a reload. */
struct server_source {
    const char *file; /* NULL: there is none, and nothing to read again */
    int (*read)(void *arg, struct config **ret, struct error *err);
    void *arg;
};

/* Runs the server. Takes `config` over. 0 after a clean stop; else a negative errno with a
 * sentence.
 */
int server_run(struct config *config, const struct server_source *source, struct error *err);
