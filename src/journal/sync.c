/* SPDX-License-Identifier: Apache-2.0 */
#include "journal/sync.h"

int journal_sync_data(struct disk *d, struct disk_file *f)
{
    return d->fdatasync(d, f);
}
