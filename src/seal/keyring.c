/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Invariants
 * 1. A key is in memory only once it is durable: nothing is ever sealed by one that a crash could
 *    take away.
 * 2. `keys` and `count` change only under both locks; so whoever holds `writing` reads them without
 *    `lock`, and nobody waits for the disk in `lock`.
 */
#include "seal/keyring.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/rand.h"
#include "seal/keyring_own.h"

#define KEYRING_MAX    (1ull << 33)
#define BUCKETS_FIRST  64u
#define KEYS_FIRST     16u
#define SEALERS_MAX    256u
#define KEYS_COUNT_MAX (UINT32_MAX / 4)

bool master_key_make(struct slice content, struct master_key *ret)
{
    static const char domain[] = "sluice-keyring-v1";
    unsigned n = sizeof ret->bytes;
    while (content.len && strchr(" \t\r\n", content.ptr[content.len - 1]))
        content.len--;
    if (content.len < MASTER_KEY_LEAST)
        return false;
    EVP_MD_CTX *c = EVP_MD_CTX_new();
    CHECK(c && EVP_DigestInit_ex(c, EVP_sha256(), NULL) == 1 &&
          EVP_DigestUpdate(c, domain, sizeof domain) == 1 &&
          EVP_DigestUpdate(c, content.ptr, content.len) == 1 &&
          EVP_DigestFinal_ex(c, ret->bytes, &n) == 1);
    EVP_MD_CTX_free(c);
    return true;
}

void master_key_wipe(struct master_key *key)
{
    OPENSSL_cleanse(key, sizeof *key);
}

/* ---- in memory ------------------------------------------------------------------------------- */

static uint32_t *bucket_of(struct keyring *k, uint64_t account)
{
    return &k->buckets[account * 0x9e3779b97f4a7c15u >> 32 & (k->buckets_count - 1)];
}

static bool grow_buckets(struct keyring *k)
{
    uint32_t n = k->buckets_count ? k->buckets_count * 2 : BUCKETS_FIRST;
    uint32_t *buckets = calloc(n, sizeof *buckets);
    if (!buckets)
        return false;
    free(k->buckets);
    k->buckets = buckets;
    k->buckets_count = n;
    for (uint32_t i = 0; i < k->count; i++) {
        uint32_t *b = bucket_of(k, k->keys[i].account);
        k->keys[i].next = *b;
        *b = i + 1;
    }
    return true;
}

/* realloc would leave a copy of the keys behind. */
static bool grow_keys(struct keyring *k)
{
    uint32_t cap = k->cap ? k->cap * 2 : KEYS_FIRST;
    struct data_key *keys = malloc(cap * sizeof *keys);
    if (!keys)
        return false;
    if (k->count)
        memcpy(keys, k->keys, k->count * sizeof *keys);
    if (k->keys)
        explicit_bzero(k->keys, k->cap * sizeof *keys);
    free(k->keys);
    k->keys = keys;
    k->cap = cap;
    return true;
}

uint32_t keyring_add(struct keyring *k, const struct data_key *key)
{
    if (k->count >= KEYS_COUNT_MAX || (k->count == k->cap && !grow_keys(k)) ||
        (k->count >= k->buckets_count && !grow_buckets(k)))
        return 0;
    uint32_t *b = bucket_of(k, key->account);
    k->keys[k->count] = *key;
    k->keys[k->count].next = *b;
    *b = ++k->count;
    return k->count;
}

static uint32_t find(struct keyring *k, uint64_t account)
{
    uint32_t id = k->count ? *bucket_of(k, account) : 0;
    while (id && (k->keys[id - 1].account != account || k->keys[id - 1].destroyed))
        id = k->keys[id - 1].next;
    return id;
}

uint32_t keyring_key_of(struct keyring *k, uint64_t account)
{
    pthread_mutex_lock(&k->lock);
    uint32_t id = find(k, account);
    pthread_mutex_unlock(&k->lock);
    return id;
}

enum key_state keyring_get(struct keyring *k, uint32_t id, uint8_t ret[AEAD_KEY_BYTES])
{
    enum key_state state = KEY_UNKNOWN;
    pthread_mutex_lock(&k->lock);
    if (id && id <= k->count) {
        const struct data_key *key = &k->keys[id - 1];
        state = key->destroyed ? KEY_DESTROYED : KEY_HERE;
        memcpy(ret, key->bytes, AEAD_KEY_BYTES);
    }
    pthread_mutex_unlock(&k->lock);
    return state;
}

uint32_t keyring_generation(const struct keyring *k)
{
    return atomic_load_explicit(&k->generation, memory_order_acquire);
}

uint64_t keyring_changes(const struct keyring *k)
{
    return atomic_load(&k->changes);
}

uint64_t keyring_epoch(const struct keyring *k)
{
    return k->epoch;
}

uint8_t keyring_take_sealer(struct keyring *k)
{
    uint32_t n = atomic_fetch_add(&k->sealers, 1);
    CHECK(n < SEALERS_MAX);
    return (uint8_t)n;
}

struct keyring_stats keyring_stats(struct keyring *k)
{
    struct keyring_stats s = {0};
    pthread_mutex_lock(&k->lock);
    for (uint32_t i = 0; i < k->count; i++) {
        s.keys += !k->keys[i].destroyed;
        s.destroyed += k->keys[i].destroyed;
    }
    pthread_mutex_unlock(&k->lock);
    return s;
}

static bool is_destroyed(struct keyring *k, uint64_t account)
{
    uint32_t id = k->count ? *bucket_of(k, account) : 0;
    while (id && k->keys[id - 1].account != account)
        id = k->keys[id - 1].next;
    return id && k->keys[id - 1].destroyed;
}

/* ---- changes --------------------------------------------------------------------------------- */

int keyring_make(struct keyring *k, uint64_t account)
{
    int rc = 0;
    pthread_mutex_lock(&k->writing);
    if (is_destroyed(k, account)) {
        rc = -EKEYREVOKED;
    } else if (find(k, account) == 0) {
        struct data_key key = {.account = account, .created_us = clock_wall_us()};
        rand_secret(key.bytes, sizeof key.bytes);
        rc = keyring_append(k, k->count + 1, &key);
        pthread_mutex_lock(&k->lock);
        if (rc == 0 && !keyring_add(k, &key))
            rc = -ENOMEM;
        pthread_mutex_unlock(&k->lock);
        atomic_fetch_add(&k->changes, 1);
        explicit_bzero(&key, sizeof key);
    }
    pthread_mutex_unlock(&k->writing);
    return rc;
}

int keyring_destroy(struct keyring *k, uint64_t account)
{
    pthread_mutex_lock(&k->writing);
    int rc = keyring_overwrite(k, account);
    if (rc == 0) {
        pthread_mutex_lock(&k->lock);
        for (uint32_t i = 0; i < k->count; i++) {
            if (k->keys[i].account != account)
                continue;
            k->keys[i].destroyed = true;
            explicit_bzero(k->keys[i].bytes, AEAD_KEY_BYTES);
        }
        atomic_fetch_add(&k->generation, 1);
        pthread_mutex_unlock(&k->lock);
        rc = keyring_save(k);
        atomic_fetch_add(&k->changes, 1);
    }
    pthread_mutex_unlock(&k->writing);
    return rc;
}

int keyring_rotate(struct keyring *k, const struct master_key *key)
{
    pthread_mutex_lock(&k->writing);
    aead_set_key(&k->wrap, key->bytes);
    int rc = keyring_save(k);
    if (rc == 0)
        k->master = *key;
    else
        aead_set_key(&k->wrap, k->master.bytes);
    pthread_mutex_unlock(&k->writing);
    return rc;
}

/* ---- life ------------------------------------------------------------------------------------ */

void keyring_close(struct keyring *k)
{
    if (!k)
        return;
    aead_fini(&k->wrap);
    master_key_wipe(&k->master);
    if (k->keys)
        explicit_bzero(k->keys, k->cap * sizeof *k->keys);
    pthread_mutex_destroy(&k->writing);
    pthread_mutex_destroy(&k->lock);
    free(k->keys);
    free(k->buckets);
    free(k->path);
    free(k);
}

int keyring_read(struct disk *disk, const char *path, const struct master_key *key,
                 struct keyring **ret, struct error *err)
{
    struct keyring *k = calloc(1, sizeof *k);
    CHECK(k);
    k->disk = disk;
    k->path = strdup(path);
    k->master = *key;
    CHECK(k->path);
    pthread_mutex_init(&k->writing, NULL);
    pthread_mutex_init(&k->lock, NULL);
    aead_set_key(&k->wrap, key->bytes);
    struct buf bytes;
    buf_init(&bytes, KEYRING_MAX);
    int rc = disk_read_file(disk, path, &bytes);
    if (rc == 0)
        rc = keyring_parse(k, buf_slice(&bytes), err);
    else
        error_set(err, rc, "keyring %s: %s", path, disk_strerror(rc));
    buf_fini(&bytes);
    if (rc && rc != -ENOENT) {
        keyring_close(k);
        return rc;
    }
    *ret = k;
    return rc;
}

int keyring_refresh(struct keyring *k, const struct master_key *key, struct error *err)
{
    struct keyring *now = NULL;
    pthread_mutex_lock(&k->writing);
    int rc = keyring_read(k->disk, k->path, key ? key : &k->master, &now, err);
    if (rc == 0 && key) {
        k->master = *key;
        aead_set_key(&k->wrap, key->bytes);
    }
    if (rc == 0) {
        struct keyring was = {.keys = k->keys,
                              .count = k->count,
                              .cap = k->cap,
                              .buckets = k->buckets,
                              .buckets_count = k->buckets_count};
        pthread_mutex_lock(&k->lock);
        k->keys = now->keys;
        k->count = now->count;
        k->cap = now->cap;
        k->buckets = now->buckets;
        k->buckets_count = now->buckets_count;
        atomic_fetch_add(&k->generation, 1); /* one may be destroyed now */
        pthread_mutex_unlock(&k->lock);
        now->keys = was.keys;
        now->count = was.count;
        now->cap = was.cap;
        now->buckets = was.buckets;
        now->buckets_count = was.buckets_count;
    }
    keyring_close(now);
    pthread_mutex_unlock(&k->writing);
    return rc;
}

int keyring_open(struct disk *disk, const char *path, const struct master_key *key,
                 struct keyring **ret, struct error *err)
{
    struct keyring *k;
    int rc = keyring_read(disk, path, key, &k, err);
    if (rc && rc != -ENOENT)
        return rc;
    uint64_t now = (uint64_t)clock_wall_us() / 1000;
    k->epoch = k->epoch + 1 > now ? k->epoch + 1 : now;
    rc = keyring_save(k);
    if (rc) {
        keyring_close(k);
        return error_set(err, rc, "keyring %s cannot be written: %s", path, disk_strerror(rc));
    }
    *ret = k;
    return 0;
}
