/* SPDX-License-Identifier: Apache-2.0 */
/*
 * catalog/changed.h - what rows were before a change and what they are after it, for the audit log.
 *
 * Temporary triggers on every audited table call back with the old and the new row as JSON, so no
 * operation can change a row and forget to say so, also none that is written later. The JSON is
 * made by the triggers and holds neither a secret nor a verifier, only which kind of one is stored.
 * One thread: the catalog's.
 */
#pragma once

#include "base/buf.h"
#include "catalog/db.h"

enum changed_kind {
    CHANGED_ACCOUNT,
    CHANGED_PLAN,
    CHANGED_ROLE,
    CHANGED_KEY,
    CHANGED_DEVICE,
    CHANGED_FEED,
    CHANGED_GROUP,
    CHANGED_MEMBER, /* a feed in a group of others */
    CHANGED_KINDS
};

/* "account", ...: the first word of an operation's name. */
extern const char *const changed_names[CHANGED_KINDS];

/* The rows of one kind: how many, and the last of them. */
struct changed_row {
    unsigned count;
    char verb;                /* '+' made, '~' changed, '-' removed */
    uint64_t number, account; /* 0: the kind has none */
    struct buf name;
    struct buf before, after; /* JSON objects; empty: there was none */
};

struct changed {
    bool on; /* rows are noted now */
    struct changed_row rows[CHANGED_KINDS];
};

/* Makes the triggers. `c` must stay where it is until the database is closed. 0 or negative errno.
 * changed_fini accepts a struct that is all zero. */
int changed_init(struct changed *c, struct db *db, struct error *err);
void changed_fini(struct changed *c);
/* Forgets all rows; from now on they are noted, or not. */
void changed_begin(struct changed *c, bool on);
