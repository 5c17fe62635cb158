/* SPDX-License-Identifier: Apache-2.0 */
/*
 * server_emit.h - the records that changes of the catalog owe, into the journal. Catalog's thread;
 * waits for the disk.
 */
#pragma once

#include "journal/journal.h"
#include "seal/seal.h"

struct emitter {
    struct journal *journal;
    struct keyring *keyring; /* NULL: nothing is sealed */
    struct sealer *sealer;
};

/* Returns when all are durable: 0. Else a negative errno; they may be emitted again. */
int emitter_emit(const struct emitter *e, const struct record *records, unsigned count);
