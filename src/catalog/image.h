/* SPDX-License-Identifier: Apache-2.0 */
/*
 * catalog/image.h - a copy of the database, made some pages at a time while changes go on: what is
 * changed in a page that was copied is changed in the copy too (sqlite3_backup_step: "Concurrent
 * usage of database handles"). Owned by whoever waits in catalog_image; used by the catalog's
 * thread alone.
 */
#pragma once

#include "catalog/db.h"

struct image {
    sqlite3 *to;
    sqlite3_backup *backup;
};

/* Begins a new file at `path`, readable by its owner only; one that is there is refused. 0 or a
 * negative errno with a sentence. The file is not synced: a crash leaves something that is no
 * image. */
int image_begin(struct image *i, struct db *from, const char *path, struct error *err);
/* Copies a bounded piece; outside of any transaction. 1: there is more; 0: it is whole, and equal
 * to the database now; or a negative errno with a sentence. */
int image_step(struct image *i, struct error *err);
/* Closes the file. Accepts what image_begin left of a failure. */
void image_end(struct image *i);
