/* SPDX-License-Identifier: Apache-2.0 */
/*
 * seal/keyring_own.h - what keyring.c (the keys in memory) and keyring_file.c (the file) share.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "base/buf.h"
#include "seal/keyring.h"

/* Of the number one more than its place in the array. */
struct data_key {
    uint64_t account;
    int64_t created_us;
    uint32_t next; /* the one made before with the same bucket; 0: none */
    bool destroyed;
    uint8_t bytes[AEAD_KEY_BYTES];
};

struct keyring {
    struct disk *disk;
    char *path;
    struct master_key master;
    struct aead wrap;        /* under `writing` */
    pthread_mutex_t writing; /* the file: one change at a time */
    pthread_mutex_t lock;    /* what follows; never held over a file call */
    struct data_key *keys;
    uint32_t count, cap;
    uint32_t *buckets; /* by account: the newest key there */
    uint32_t buckets_count;
    uint64_t epoch;
    _Atomic uint32_t generation, sealers;
    _Atomic uint64_t changes;
};

/* Under `lock`, or before anybody else knows the ring. The key's number; 0: no memory. */
uint32_t keyring_add(struct keyring *k, const struct data_key *key);

/* All of `k` into the file's bytes: `master` wraps. */
void keyring_format(struct keyring *k, struct aead *wrap, struct buf *out);
/* The bytes into an empty `k`, whose master key unwraps. 0 or a negative errno with a sentence. */
int keyring_parse(struct keyring *k, struct slice in, struct error *err);
/* Writes the file as one. 0 or a negative errno. */
int keyring_save(struct keyring *k);
/* Zeroes over the keys of the account where they stand in the file, and syncs. */
int keyring_overwrite(struct keyring *k, uint64_t account);
/* One more entry at the end of the file, durable. 0 or a negative errno. */
int keyring_append(struct keyring *k, uint32_t id, const struct data_key *key);
