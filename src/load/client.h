/* SPDX-License-Identifier: Apache-2.0 */
/*
 * load/client.h - the connections of a run and when each sends. Everything happens on the thread
 * that calls client_run; the caller owns the result.
 */
#pragma once

#include "base/error.h"
#include "load/fleet.h"
#include "load/load_opts.h"
#include "load/proof.h"
#include "load/result.h"

/*
 * Runs to the end that the options set, or until SIGINT or until no connection is left. 0, or a
 * negative errno when it could not even begin.
 */
int client_run(const struct load_opts *opts, const struct fleet *fleet, struct proof *proof,
               struct result *result, struct error *err);
