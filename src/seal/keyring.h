/* SPDX-License-Identifier: Apache-2.0 */
/*
 * seal/keyring.h - the data keys: one of 256 random bits for each account, wrapped by the
 * operator's master key in the file data/keyring. Keys are numbered from 1, and a number is never
 * used again; a destroyed key leaves its number behind, so that what it sealed is known to be
 * erased and not damaged.
 *
 * The file is no part of any backup: it is saved apart, so that a key destroyed here is gone from
 * every backup too. Opened once by the server, who holds the data lock. All calls but open and
 * close from any thread; make, destroy and rotate wait for the disk, the others never do.
 *
 * Boot epoch: each open takes a new one, greater than the last and no less than the time in
 * milliseconds, and makes it durable before it returns. It is a part of every nonce
 * (seal/seal.h), so none comes twice with one key over restarts, nor when an older copy of this
 * file is put back.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/slice.h"
#include "journal/disk.h"
#include "seal/aead.h"

#define MASTER_KEY_LEAST 32u /* bytes of what the operator gives */

struct keyring;

/* What wraps the data keys. */
struct master_key {
    uint8_t bytes[AEAD_KEY_BYTES];
};

/* From the content of the operator's file or variable, without white space at its end. False: too
 * short. */
bool master_key_make(struct slice content, struct master_key *ret);
void master_key_wipe(struct master_key *key);

/* Opens the file, or begins it. 0; -EKEYREJECTED: another master key; -EBADMSG: damaged; or another
 * negative errno. *err is a sentence that names the file. */
int keyring_open(struct disk *disk, const char *path, const struct master_key *key,
                 struct keyring **ret, struct error *err);
/* Wipes everything. Accepts NULL. */
void keyring_close(struct keyring *k);
/* The keys alone, for commands that look at the files: no new epoch, nothing is written. */
int keyring_read(struct disk *disk, const char *path, const struct master_key *key,
                 struct keyring **ret, struct error *err);

/* Reads the file again, which another process writes: keys that came and went. `key`: the master
 * key from now on, if it opens the file; NULL: the one before. 0 or a negative errno with a
 * sentence, as keyring_open: nothing changed. Any thread; waits for the disk. */
int keyring_refresh(struct keyring *k, const struct master_key *key, struct error *err);

/* A durable key for the account, if it has none. 0; -EKEYREVOKED: it had one that was destroyed,
 * and gets no other; or another negative errno. */
int keyring_make(struct keyring *k, uint64_t account);
/* Overwrites the account's keys in the file, syncs, then writes the file anew without them. After a
 * crash the call may be repeated. 0 or a negative errno. */
int keyring_destroy(struct keyring *k, uint64_t account);
/* Wraps all keys by another master key. 0 or a negative errno: then the old one is still right. */
int keyring_rotate(struct keyring *k, const struct master_key *key);

enum key_state { KEY_UNKNOWN, KEY_HERE, KEY_DESTROYED };

/* The account's key, or 0. */
uint32_t keyring_key_of(struct keyring *k, uint64_t account);
/* Copies a key that is here. */
enum key_state keyring_get(struct keyring *k, uint32_t id, uint8_t ret[AEAD_KEY_BYTES]);
/* Grows when a key was destroyed: whoever keeps copies drops them. One atomic load. */
uint32_t keyring_generation(const struct keyring *k);
/* Grows with each key that is made or destroyed, once the file has it. One atomic load. */
uint64_t keyring_changes(const struct keyring *k);
uint64_t keyring_epoch(const struct keyring *k);
/* A number for a sealer, never given out twice by one open keyring. */
uint8_t keyring_take_sealer(struct keyring *k);

struct keyring_stats {
    uint64_t keys, destroyed;
};
struct keyring_stats keyring_stats(struct keyring *k);
