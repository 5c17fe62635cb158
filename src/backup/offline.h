/* SPDX-License-Identifier: Apache-2.0 */
/*
 * backup/offline.h - a data directory's parts opened for a backup while no server runs. The caller
 * holds the data lock. Main thread only.
 */
#pragma once

#include "backup/stage.h"

/* As the settings have it. */
struct backup_offline_opts {
    struct disk *disk;
    const char *data;            /* outlives what is opened */
    struct journal_opts journal; /* segment_bytes, and who is asked what was durable */
    uint64_t history_open_max, history_cache_bytes;
};

/* Opens journal, history and catalog, each as a server would after a crash. 0 or a negative errno
 * with a sentence: then nothing is held. */
int backup_offline_open(const struct backup_offline_opts *opts, struct backup_source *ret,
                        struct error *err);
/* Accepts a zeroed struct. */
void backup_offline_close(struct backup_source *source);
