/* SPDX-License-Identifier: Apache-2.0 */
/*
 * catalog/row.h - rows of the database as the records of flow/principal.h. One thread.
 */
#pragma once

#include "catalog/db.h"
#include "flow/principal.h"

/*
 * The record of the statement's current row (one of *_READ*), with one reference. 0 or negative
 * errno with a sentence that names the row: -ENOMEM, or -EBADMSG when it is no such record.
 * `live` of an account, `account` and `live` of a credential are left for the caller. `ack` is that
 * of an account whose plan does not say.
 */
int row_account(struct db *db, enum statement s, const struct ack *ack, struct account **ret,
                uint64_t *ret_version, struct error *err);
int row_credential(struct db *db, enum statement s, struct credential **ret, uint64_t *ret_account,
                   struct error *err);
int row_group(struct db *db, enum statement s, struct group **ret, struct error *err);
int row_feed(struct db *db, enum statement s, struct feed **ret, struct error *err);
