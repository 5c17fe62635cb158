/* SPDX-License-Identifier: Apache-2.0 */
#include "seal/seal.h"

#include <openssl/evp.h>
#include <openssl/params.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "journal/record.h"

#define SLOTS       64u
#define COUNTER_MAX (1ull << 40)

/* A key set up; the slot is found by its number. */
struct ready {
    uint32_t key_id; /* 0: empty */
    struct aead aead;
};

struct sealer {
    struct keyring *keyring;
    uint32_t generation;
    uint8_t number;
    uint64_t counter;
    uint64_t account; /* the last one, and its key */
    uint32_t account_key;
    EVP_MAC_CTX *mac; /* of seal_name; NULL: not needed yet */
    struct ready slots[SLOTS];
};

struct sealer *sealer_new(struct keyring *keyring)
{
    struct sealer *s = calloc(1, sizeof *s);
    CHECK(s);
    s->keyring = keyring;
    s->generation = keyring_generation(keyring);
    s->counter = COUNTER_MAX; /* one that only opens takes no number */
    return s;
}

static void forget(struct sealer *s)
{
    for (unsigned i = 0; i < SLOTS; i++) {
        aead_fini(&s->slots[i].aead);
        s->slots[i].key_id = 0;
    }
    s->account = 0;
}

void sealer_free(struct sealer *s)
{
    if (!s)
        return;
    forget(s);
    EVP_MAC_CTX_free(s->mac);
    free(s);
}

static void look_for_destroyed(struct sealer *s)
{
    uint32_t generation = keyring_generation(s->keyring);
    if (__builtin_expect(generation == s->generation, 1))
        return;
    forget(s);
    s->generation = generation;
}

static enum seal_outcome get_ready(struct sealer *s, uint32_t key_id, struct aead **ret)
{
    struct ready *slot = &s->slots[key_id % SLOTS];
    *ret = &slot->aead;
    if (slot->key_id == key_id)
        return SEAL_DONE;
    uint8_t key[AEAD_KEY_BYTES];
    enum key_state state = keyring_get(s->keyring, key_id, key);
    if (state == KEY_HERE) {
        aead_set_key(&slot->aead, key);
        slot->key_id = key_id;
    }
    explicit_bzero(key, sizeof key);
    return state == KEY_HERE ? SEAL_DONE : state == KEY_DESTROYED ? SEAL_ERASED : SEAL_UNKNOWN;
}

static void next_nonce(struct sealer *s, char ret[AEAD_NONCE_BYTES])
{
    if (__builtin_expect(s->counter == COUNTER_MAX, 0)) {
        s->number = keyring_take_sealer(s->keyring);
        s->counter = 0;
    }
    uint64_t epoch = keyring_epoch(s->keyring), counter = s->counter++;
    for (int i = 5; i >= 0; i--, epoch >>= 8)
        ret[i] = (char)epoch;
    ret[6] = (char)s->number;
    for (int i = 11; i >= 7; i--, counter >>= 8)
        ret[i] = (char)counter;
}

static enum seal_outcome put_sealed(struct sealer *s, uint32_t key_id, const struct slice *about,
                                    unsigned count, struct slice plain, struct buf *out)
{
    struct aead *aead;
    enum seal_outcome found = get_ready(s, key_id, &aead);
    if (found != SEAL_DONE)
        return found;
    char *to = buf_reserve(out, plain.len + SEAL_BYTES);
    if (!to)
        return SEAL_MEMORY;
    next_nonce(s, to);
    aead_seal(aead, (const uint8_t *)to, about, count, plain, to + AEAD_NONCE_BYTES);
    out->len += plain.len + SEAL_BYTES;
    return SEAL_DONE;
}

static enum seal_outcome put_opened(struct sealer *s, uint32_t key_id, const struct slice *about,
                                    unsigned count, struct slice sealed, struct buf *out)
{
    struct aead *aead;
    look_for_destroyed(s);
    enum seal_outcome found = get_ready(s, key_id, &aead);
    if (found != SEAL_DONE)
        return found;
    if (sealed.len < SEAL_BYTES)
        return SEAL_BROKEN;
    char *to = buf_reserve(out, sealed.len);
    if (!to)
        return SEAL_MEMORY;
    if (!aead_open(aead, (const uint8_t *)sealed.ptr, about, count,
                   slice_from(sealed, AEAD_NONCE_BYTES), to))
        return SEAL_BROKEN;
    out->len += sealed.len - SEAL_BYTES;
    return SEAL_DONE;
}

static uint32_t key_of(struct sealer *s, uint64_t account)
{
    if (s->account == account)
        return s->account_key;
    uint32_t id = keyring_key_of(s->keyring, account);
    if (id) {
        s->account = account;
        s->account_key = id;
    }
    return id;
}

enum seal_outcome seal_record(struct sealer *s, struct record *r, struct buf *storage)
{
    if (!r->payload.len || !r->account)
        return SEAL_PLAIN;
    look_for_destroyed(s);
    uint32_t key_id = key_of(s, r->account);
    if (!key_id)
        return SEAL_ERASED;
    struct record named = *r;
    char head[RECORD_HEAD_MAX];
    named.key_id = key_id;
    const struct slice about[] = {slice_of(head, record_head(&named, head)), r->producer.key,
                                  r->topic};
    buf_clear(storage);
    enum seal_outcome done = put_sealed(s, key_id, about, 3, r->payload, storage);
    if (done == SEAL_DONE) {
        r->key_id = key_id;
        r->payload = buf_slice(storage);
    }
    return done;
}

enum seal_outcome unseal_record(struct sealer *s, struct record *r, struct buf *storage)
{
    if (!r->key_id)
        return SEAL_PLAIN;
    char head[RECORD_HEAD_MAX];
    const struct slice about[] = {slice_of(head, record_head(r, head)), r->producer.key, r->topic};
    buf_clear(storage);
    enum seal_outcome done = put_opened(s, r->key_id, about, 3, r->payload, storage);
    if (done == SEAL_DONE)
        r->payload = buf_slice(storage);
    return done;
}

enum seal_outcome seal_bytes(struct sealer *s, uint32_t key_id, struct slice about,
                             struct slice plain, struct buf *out)
{
    look_for_destroyed(s);
    return put_sealed(s, key_id, &about, 1, plain, out);
}

enum seal_outcome unseal_bytes(struct sealer *s, uint32_t key_id, struct slice about,
                               struct slice sealed, struct buf *out)
{
    return put_opened(s, key_id, &about, 1, sealed, out);
}

static EVP_MAC_CTX *mac_of(struct sealer *s)
{
    if (!s->mac) {
        EVP_MAC *mac = EVP_MAC_fetch(NULL, "HMAC", NULL);
        s->mac = EVP_MAC_CTX_new(mac);
        EVP_MAC_free(mac); /* the context has its own reference */
        CHECK(s->mac);
    }
    return s->mac;
}

bool seal_name(struct sealer *s, uint64_t account, const struct slice *fields, unsigned count,
               uint8_t ret[SEAL_NAME_BYTES])
{
    static const char domain[] = "sluice-name-v1";
    uint8_t key[AEAD_KEY_BYTES], sum[32];
    look_for_destroyed(s);
    bool good = keyring_get(s->keyring, key_of(s, account), key) == KEY_HERE;
    EVP_MAC_CTX *c = mac_of(s);
    char digest[] = "SHA256";
    const OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_string("digest", digest, 0),
                                 OSSL_PARAM_construct_end()};
    size_t n = 0;
    CHECK(EVP_MAC_init(c, key, sizeof key, params) == 1 &&
          EVP_MAC_update(c, (const uint8_t *)domain, sizeof domain) == 1);
    for (unsigned i = 0; i < count; i++) {
        uint64_t len = fields[i].len;
        CHECK(EVP_MAC_update(c, (const uint8_t *)&len, sizeof len) == 1 &&
              EVP_MAC_update(c, (const uint8_t *)fields[i].ptr, fields[i].len) == 1);
    }
    CHECK(EVP_MAC_final(c, sum, &n, sizeof sum) == 1);
    memcpy(ret, sum, SEAL_NAME_BYTES);
    explicit_bzero(key, sizeof key);
    return good;
}
