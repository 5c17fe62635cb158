/* SPDX-License-Identifier: Apache-2.0 */
/*
 * server_erase.h - erasing an account: what must go, in which order, and the list of what was
 * erased. The list is the file data/keyring.erased, apart from every backup as the keyring is: a
 * line "account NUMBER FEED..." when an erasure begins, "done NUMBER" at its end. Each start looks
 * at it and finishes what was not, or what came back with a restored backup.
 *
 * All of it may take long (it waits for the views, and writes database and catalog anew) and runs
 * on the admin thread, or on the main thread before the listeners open.
 */
#pragma once

#include "base/error.h"
#include "catalog/catalog.h"
#include "seal/keyring.h"
#include "server_backup.h"
#include "view/history.h"
#include "view/view.h"

struct eraser {
    struct disk *disk;
    const char *path; /* of the list */
    struct catalog *catalog;
    struct keyring *keyring; /* NULL: nothing is sealed */
    struct history *history;
    struct view *const *latest_view, *const *history_view, *const *audit_view;
    struct view *const *session_view, *const *rules_view;
    /* Makes records durable; and returns when all workers have ended a turn. */
    int (*emit)(void *arg, const struct record *records, unsigned count);
    int (*barrier)(void *arg);
    void *arg;
    struct stager *stager; /* what it keeps for a backup goes too */
    bool running;          /* there are workers */
    uint64_t *feeds;       /* of the account in hand */
    unsigned feeds_count;
};

/* Before the account leaves the catalog: from here on the erasure will come to its end, whatever
 * happens. 0 or a negative errno with a sentence. */
int erasure_begin(struct eraser *e, uint64_t account, struct error *err);
/* The same for feeds that are to be erased and leave the catalog without their account; account 0
 * stands for them then. */
int erasure_begin_feeds(struct eraser *e, const uint64_t *feeds, unsigned count, struct error *err);
/* After it left, and its RECORD_DELETED are in the journal: its data leave views and database, its
 * keys the keyring, and the catalog's file is written anew. 0 or a negative errno with a sentence:
 * the next start tries again. */
int erasure_end(struct eraser *e, uint64_t account, struct error *err);
/* The same for admin_opts: `arg` is the eraser. Admin thread. */
int on_erase_begin(void *arg, uint64_t account, struct error *err);
int on_erase_feeds(void *arg, const uint64_t *feeds, unsigned count, struct error *err);
int on_erase_end(void *arg, uint64_t account, struct error *err);
/* Does both, and the removal between them, for whatever the list names and is not gone. */
int erasures_finish(struct eraser *e, struct error *err);
