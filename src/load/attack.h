/* SPDX-License-Identifier: Apache-2.0 */
/*
 * load/attack.h - adversaries beside the fleet. Each is a process of its own, so that it takes
 * nothing from the schedule of those who are measured; it runs as any load does, with other
 * requests, until the fleet's run is over. HTTP only. Owned by the run; one thread.
 */
#pragma once

#include "load/load_opts.h"
#include "load/result.h"

struct attacks {
    struct {
        int pid; /* 0: it does not run */
        int fd;  /* what it tells at its end comes here */
    } list[ATTACKS];
};

/* Starts those of opts->attacks. 0, or negative errno with a sentence; attacks_end is due anyhow.
 */
int attacks_start(struct attacks *a, const struct load_opts *opts, struct error *err);
/* Ends them, and takes what they counted. Accepts zeroed storage. */
void attacks_end(struct attacks *a, struct attack_counts counts[ATTACKS]);
