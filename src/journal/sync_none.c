/* SPDX-License-Identifier: Apache-2.0 */
/* TEST ONLY (-Domit_sync=true): a journal that lies. The crash tests must fail with it. */
#include "journal/sync.h"

int journal_sync_data(struct disk *d, struct disk_file *f)
{
    return 0;
}
