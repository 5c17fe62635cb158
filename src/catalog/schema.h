/* SPDX-License-Identifier: Apache-2.0 */
/*
 * catalog/schema.h - the database's tables and how they came about. One thread.
 *
 * PRAGMA user_version is the number of migrations that ran; each is one transaction. A file that
 * has more than this program knows is refused before anything is written, and so is a file that is
 * another program's (PRAGMA application_id).
 */
#pragma once

#include <sqlite3.h>

#include "base/error.h"

/* Brings the database to this program's format; a new one gets the seed. 0 or negative errno with a
 * sentence that begins with `path`. */
int schema_apply(sqlite3 *db, const char *path, struct error *err);
