/* SPDX-License-Identifier: Apache-2.0 */
/*
 * server_figures.h - the server's own figures as feeds of an account (decision 0061): how far sinks
 * are behind, how long commits take, what is left of the disk, the hash queue, refusals. Main
 * thread, but where it says otherwise.
 */
#pragma once

#include "base/metric.h"
#include "catalog/catalog.h"
#include "config.h"
#include "pipeline.h"
#include "server_sinks.h"

/* All zero: turned off. */
struct figures {
    struct journal *journal;
    const struct sinks *sinks;
    uint64_t account, every_ns;
    /* Of the first worker: when they were taken last, and what had been counted then. */
    uint64_t taken_ns, refusals;
    struct metric_mark commits;
};

/* Makes the account and its feeds, where they are not there yet. 0, or a negative errno with a
 * sentence. */
int figures_open(struct figures *f, const struct config *c, struct catalog *catalog,
                 struct journal *journal, const struct sinks *sinks, struct error *err);
/* For the pipeline; it borrows `f`. */
struct figure_source figures_source(struct figures *f);
