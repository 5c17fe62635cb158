/* SPDX-License-Identifier: Apache-2.0 */
/*
 * load/mqtt_client.h - the MQTT connections of a run: publishers with many messages in flight, and
 * subscribers that measure how long a message takes to them. Everything happens on the thread that
 * calls mqtt_run; the caller owns the result.
 */
#pragma once

#include "base/error.h"
#include "load/fleet.h"
#include "load/load_opts.h"
#include "load/proof.h"
#include "load/result.h"

/* As client_run (load/client.h). The fleet's requests are CONNECT packets. */
int mqtt_run(const struct load_opts *opts, const struct fleet *fleet, struct proof *proof,
             struct result *result, struct error *err);
