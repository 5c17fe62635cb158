/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pipeline_claims.h - whose commands are under way, of those that accounts' own keys give: one of
 * an account, OWN_COMMANDS_MAX of all. One thread runs all commands, and some take seconds: these
 * never fill its queue. Belongs to the pipeline; any thread.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "flow/limits.h"

struct claims {
    pthread_mutex_t lock;                /* held for a look */
    uint64_t accounts[OWN_COMMANDS_MAX]; /* 0: none */
};

void claims_init(struct claims *c);
void claims_fini(struct claims *c);
/* For one command of the account, until claims_drop. False: one is under way, or as many of others
 * as may be. */
bool claims_take(struct claims *c, uint64_t account);
void claims_drop(struct claims *c, uint64_t account);
