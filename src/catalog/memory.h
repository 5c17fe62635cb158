/* SPDX-License-Identifier: Apache-2.0 */
/*
 * catalog/memory.h - all accounts, credentials, feeds and groups, resident. Looked up by any
 * thread, changed by one (the catalog's, or whoever opens or closes it).
 *
 * The memory owns one reference to each record, held by its account's lists; the tables borrow it.
 * A record is replaced whole: into every table first, then the old one's reference is given back.
 * Look-ups take one shard's spinlock for a few dozen instructions. Lists are read under a
 * reader-writer lock, which the writer takes for one record at a time.
 *
 * Out of memory aborts here: what is durable and cannot be shown would be a lie.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "catalog/pool.h"
#include "catalog/table.h"
#include "flow/principal.h"

/* Records in order of their numbers, which is the order of creation. */
struct roll {
    struct counted **records;
    size_t count, cap;
};

/* One account and what belongs to it. */
struct holding {
    struct account *account;
    struct roll feeds;
    struct roll groups;
    struct roll credentials[2]; /* by kind */
};

struct memory {
    uint64_t seed; /* of the hash of texts */
    struct table accounts_by_name, accounts, devices, keys, credentials, feeds_by_key, feeds;
    struct table groups_by_key, groups;
    pthread_rwlock_t lists;
    struct holding **holdings; /* by number of the account */
    size_t holdings_count, holdings_cap;
    struct pool account_lives, credential_lives;
    _Atomic uint64_t accounts_count, credentials_count, feeds_count;
    void (*loaded)(void *arg, const struct credential *c);
    void *loaded_arg;
};

void memory_init(struct memory *m);
/* Gives all references back. Records that others still hold stay, but not their `live`. */
void memory_fini(struct memory *m);

/* ---- any thread: a new reference, or NULL ---- */
struct account *memory_account(struct memory *m, struct slice name);
struct account *memory_account_by_number(struct memory *m, uint64_t number);
struct credential *memory_device(struct memory *m, struct slice id);
uint64_t memory_device_hash(const struct memory *m, struct slice id);
uint64_t memory_feed_hash(const struct memory *m, uint64_t account, struct slice key);
struct credential *memory_key(struct memory *m, const uint8_t digest[32]);
struct credential *memory_credential(struct memory *m, uint64_t number);
struct feed *memory_feed(struct memory *m, uint64_t account, struct slice key);
struct feed *memory_feed_by_number(struct memory *m, uint64_t number);
unsigned memory_feeds(struct memory *m, uint64_t account, struct buf *ret);
struct group *memory_group(struct memory *m, uint64_t account, struct slice key);
struct group *memory_group_by_number(struct memory *m, uint64_t number);
unsigned memory_groups(struct memory *m, uint64_t account, struct buf *ret);
unsigned memory_accounts(struct memory *m, struct buf *ret);
unsigned memory_credentials(struct memory *m, uint64_t account, enum credential_kind kind,
                            struct buf *ret);

/* ---- the writer; each `put` takes the caller's reference over ---- */
/* Enters or replaces. Replacing makes a new version, `version`, of each credential of the account.
 */
void memory_put_account(struct memory *m, struct account *a, uint64_t version);
/* Enters or replaces; fills `account` and `live`. A changed verifier empties the live slot, and a
 * key is then found by its new digest only. False, and the record is gone: its account is not
 * there. */
bool memory_put_credential(struct memory *m, struct credential *c, uint64_t account);
/* Enters or replaces, also under another key. False, and the record is gone: its account is not
 * there. */
bool memory_put_feed(struct memory *m, struct feed *f);
bool memory_put_group(struct memory *m, struct group *g);
/* Takes out; nothing happens if it is not there. An account goes with all it has. */
void memory_remove_account(struct memory *m, uint64_t number);
void memory_remove_credential(struct memory *m, uint64_t number);
void memory_remove_feed(struct memory *m, uint64_t number);
void memory_remove_group(struct memory *m, uint64_t number);
