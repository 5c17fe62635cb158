/* SPDX-License-Identifier: Apache-2.0 */
/*
 * catalog/load.h - fills the memory from the database when the catalog is opened.
 */
#pragma once

#include "catalog/batch.h"

/*
 * Loads all records. With `hold_owed`, feeds whose dictionary record is not in the journal yet
 * become effects of `b` instead, to be published once it is. 0 or negative errno with a sentence.
 */
int load_all(struct memory *m, struct batch *b, bool hold_owed, struct error *err);
