/* SPDX-License-Identifier: Apache-2.0 */
/*
 * server_verified.h - verified secrets over a restart: the file that gate/snapshot.h describes, in
 * the data directory, and when it is written. Main thread only.
 */
#pragma once

#include "base/error.h"
#include "catalog/catalog.h"
#include "gate/shield.h"
#include "gate/snapshot.h"
#include "journal/disk.h"

struct verified_file {
    struct disk *disk;
    struct catalog *catalog;
    struct shield *shield;
    char path[4096];
    uint8_t log_id[16];
    bool on, failing;
    struct snapshot_key key;
    uint64_t saved; /* shield_verified at the last save */
};

/*
 * Reads the key file ("" turns it off) and takes over what an earlier process had verified. A
 * missing, foreign or damaged snapshot is one line in the log and a cold start. -EINVAL and a
 * sentence when the key file cannot be used. Before the first request.
 */
int verified_file_open(struct verified_file *v, const char *key_file, struct error *err);
/* Writes the file if something was verified since the last time. */
void verified_file_save(struct verified_file *v);
/* The same, and wipes the key. */
void verified_file_close(struct verified_file *v);
