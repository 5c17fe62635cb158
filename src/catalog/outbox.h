/* SPDX-License-Identifier: Apache-2.0 */
/*
 * catalog/outbox.h - journal records that changes owe. They are written in the change's transaction
 * and, after its commit, handed to the journal in order. A row stays until a later transaction
 * removes it, so a crash in between repeats it with the same change id. One thread at a time.
 *
 * Payloads (JSON; readers ignore members they do not know):
 *   RECORD_DICTIONARY {"change_id", "type": "account", "account", "name"}
 *                     {"change_id", "type": "feed", "account", "account_name", "feed", "key",
 *                      "name", "group", "group_key", "group_name", "description", "license",
 *                      "unit_type", "unit_symbol", "history", "public", "enabled", "created_us"}
 *                     {"change_id", "type": "group", "account", "group", "key", "name",
 *                      "description", "removed"}
 *   RECORD_AUDIT      {"change_id", "when", "actor", "from", "op", "account", "account_number",
 *                      "subject", "subject_number", "before", "after", "with", "note"}: changed.c
 * has what stands in before and after, "with" counts the rows of other kinds that changed too;
 * never a secret or a verifier, not even a digest RECORD_DELETED    empty: the whole feed. A number
 * is never used again, so repeats do nothing.
 */
#pragma once

#include "catalog/catalog.h"
#include "catalog/changed.h"
#include "catalog/db.h"

struct outbox {
    struct db *db;
    uint64_t waiting; /* rows that are not emitted */
    uint64_t emitted; /* change ids up to here are in the journal */
    uint64_t removed; /* and up to here not in the database any more */
    struct record *records;
    struct changed changed; /* by the ask that runs, and not told by an audit record yet */
    struct buf text;        /* the payload being built */
    struct buf payloads;    /* of the records being emitted */
};

/* 0 or negative errno with a sentence. outbox_fini accepts a struct that is all zero. */
int outbox_init(struct outbox *o, struct db *db, struct error *err);
void outbox_fini(struct outbox *o);

/* ---- inside a transaction: each returns SQLITE_DONE or an error code ---- */
/* What the number of an account, a feed or a group means. */
int outbox_account(struct outbox *o, const struct catalog_ask *ask, int64_t now_us, uint64_t number,
                   struct slice name);
int outbox_feed(struct outbox *o, const struct catalog_ask *ask, const struct feed *f,
                struct slice account_name);
int outbox_group(struct outbox *o, const struct catalog_ask *ask, const struct group *g,
                 int64_t now_us, bool removed);
int outbox_deleted(struct outbox *o, const struct catalog_ask *ask, int64_t now_us,
                   uint64_t account, uint64_t feed);
/* The same for all feeds of the account, which are in the database yet. */
int outbox_deleted_all(struct outbox *o, const struct catalog_ask *ask, int64_t now_us,
                       uint64_t account, uint64_t *ret_count);

struct audit {
    const char *op; /* begins with the kind of its subject (changed_names): that row is shown */
    int64_t now_us;
    uint64_t account;
    struct slice account_name;
    struct slice subject; /* the credential's name, or the account's */
    uint64_t subject_number;
    struct slice note; /* JSON, when not empty */
};
/* Tells of all rows that the ask has changed so far. */
int outbox_audit(struct outbox *o, const struct catalog_ask *ask, const struct audit *a);
/* The same of what no audit record of the ask has told: nothing that was audited goes untold. */
int outbox_audit_rest(struct outbox *o, const struct catalog_ask *ask, int64_t now_us);

/* ---- outside ---- */
/* Emits what waits. 0: nothing waits any more. Negative errno: the journal, or reading the rows,
 * failed; it may be called again and goes on where it stopped. */
int outbox_emit(struct outbox *o, int (*emit)(void *, const struct record *, unsigned), void *arg);
/* Whether the database holds rows that were emitted. */
bool outbox_is_untidy(const struct outbox *o);
/* Removes them, inside a transaction. SQLITE_DONE or an error code; outbox_tidied after the commit.
 */
int outbox_tidy(struct outbox *o);
void outbox_tidied(struct outbox *o);
