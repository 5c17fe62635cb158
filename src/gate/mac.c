/* SPDX-License-Identifier: Apache-2.0 */
#include "gate/mac.h"

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/rand.h"

/* What one thread keeps. */
struct state {
    EVP_MAC *mac;
    EVP_MAC_CTX *mac_ctx;
    EVP_MD *md;
    EVP_MD_CTX *md_ctx;
    uint64_t serial; /* of the key in mac_ctx */
};

static _Thread_local struct state *mine;
static pthread_key_t at_exit;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void free_state(void *arg)
{
    struct state *st = arg;
    EVP_MAC_CTX_free(st->mac_ctx);
    EVP_MAC_free(st->mac);
    EVP_MD_CTX_free(st->md_ctx);
    EVP_MD_free(st->md);
    free(st);
    mine = NULL;
}

static void make_at_exit(void)
{
    CHECK(pthread_key_create(&at_exit, free_state) == 0);
}

static struct state *my_state(void)
{
    if (__builtin_expect(mine != NULL, 1))
        return mine;
    CHECK(pthread_once(&once, make_at_exit) == 0);
    struct state *st = calloc(1, sizeof *st);
    CHECK(st);
    st->mac = EVP_MAC_fetch(NULL, "HMAC", NULL);
    st->md = EVP_MD_fetch(NULL, "SHA256", NULL);
    CHECK(st->mac && st->md);
    st->mac_ctx = EVP_MAC_CTX_new(st->mac);
    st->md_ctx = EVP_MD_CTX_new();
    CHECK(st->mac_ctx && st->md_ctx && EVP_DigestInit_ex2(st->md_ctx, st->md, NULL) == 1);
    CHECK(pthread_setspecific(at_exit, st) == 0);
    mine = st;
    return st;
}

void mac_key_set(struct mac_key *key, const uint8_t bytes[32])
{
    static _Atomic uint64_t serials = 1;
    key->serial = serials++;
    memcpy(key->bytes, bytes, sizeof key->bytes);
}

void mac_key_new(struct mac_key *key)
{
    uint8_t bytes[32];
    rand_secret(bytes, sizeof bytes);
    mac_key_set(key, bytes);
    explicit_bzero(bytes, sizeof bytes);
}

void mac_key_wipe(struct mac_key *key)
{
    explicit_bzero(key, sizeof *key);
}

static void begin(struct state *st, const struct mac_key *key)
{
    if (st->serial == key->serial) {
        CHECK(EVP_MAC_init(st->mac_ctx, NULL, 0, NULL) == 1);
        return;
    }
    char digest[] = "SHA256";
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
        OSSL_PARAM_construct_end(),
    };
    CHECK(EVP_MAC_init(st->mac_ctx, key->bytes, sizeof key->bytes, params) == 1);
    st->serial = key->serial;
}

void mac_tag(const struct mac_key *key, uint8_t domain, const struct slice *fields, unsigned count,
             uint8_t ret[MAC_TAG_BYTES])
{
    struct state *st = my_state();
    uint8_t out[32];
    size_t len = 0;
    begin(st, key);
    CHECK(EVP_MAC_update(st->mac_ctx, &domain, 1) == 1);
    for (unsigned i = 0; i < count; i++) {
        uint64_t bytes = fields[i].len;
        CHECK(EVP_MAC_update(st->mac_ctx, (const uint8_t *)&bytes, sizeof bytes) == 1);
        CHECK(EVP_MAC_update(st->mac_ctx, (const uint8_t *)fields[i].ptr, fields[i].len) == 1);
    }
    CHECK(EVP_MAC_final(st->mac_ctx, out, &len, sizeof out) == 1 && len == sizeof out);
    memcpy(ret, out, MAC_TAG_BYTES);
}

void mac_sha256(const struct slice *fields, unsigned count, uint8_t ret[32])
{
    struct state *st = my_state();
    CHECK(EVP_DigestInit_ex2(st->md_ctx, NULL, NULL) == 1);
    for (unsigned i = 0; i < count; i++)
        CHECK(EVP_DigestUpdate(st->md_ctx, fields[i].ptr, fields[i].len) == 1);
    CHECK(EVP_DigestFinal_ex(st->md_ctx, ret, NULL) == 1);
}
