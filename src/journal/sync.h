/* SPDX-License-Identifier: Apache-2.0 */
/*
 * journal/sync.h - the one call the whole promise hangs on, alone in a file so that a build can
 * leave it out and show that the crash tests notice. Writer's thread.
 */
#pragma once

#include "journal/disk.h"

/* Makes the batches written to `f` durable. 0 or negative errno; after an error the file's state is
 * unknown and it must not be synced again. */
int journal_sync_data(struct disk *d, struct disk_file *f);
