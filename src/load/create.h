/* SPDX-License-Identifier: Apache-2.0 */
/*
 * load/create.h - makes the devices of a fleet on the server, through its admin API, and writes
 * them to the file that the fleet is read from. One thread, waiting.
 */
#pragma once

#include "base/error.h"
#include "load/load_opts.h"

/* opts->create devices ACCOUNT-load-000000 and on, one question each. 0, or negative errno with a
 * sentence; what was made until then is in the file. */
int create_devices(const struct load_opts *opts, struct error *err);
