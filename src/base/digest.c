/* SPDX-License-Identifier: Apache-2.0 */
#include "base/digest.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"

/* What one thread keeps. */
struct state {
    EVP_MAC *mac;
    EVP_MAC_CTX *mac_ctx;
    EVP_MD *md;
    EVP_MD_CTX *md_ctx;
    uint8_t key[DIGEST_KEY_MAX]; /* in mac_ctx */
    size_t len;                  /* 0: none */
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
    OPENSSL_cleanse(st, sizeof *st);
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

void hmac_begin(const uint8_t *key, size_t len)
{
    struct state *st = my_state();
    CHECK(len > 0 && len <= sizeof st->key);
    if (st->len == len && CRYPTO_memcmp(st->key, key, len) == 0) {
        CHECK(EVP_MAC_init(st->mac_ctx, NULL, 0, NULL) == 1);
        return;
    }
    char digest[] = "SHA256";
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
        OSSL_PARAM_construct_end(),
    };
    CHECK(EVP_MAC_init(st->mac_ctx, key, len, params) == 1);
    memcpy(st->key, key, len);
    st->len = len;
}

void hmac_put(struct slice s)
{
    CHECK(EVP_MAC_update(my_state()->mac_ctx, (const uint8_t *)s.ptr, s.len) == 1);
}

void hmac_end(uint8_t ret[DIGEST_BYTES])
{
    size_t len = 0;
    CHECK(EVP_MAC_final(my_state()->mac_ctx, ret, &len, DIGEST_BYTES) == 1 && len == DIGEST_BYTES);
}

void sha256_of(const struct slice *fields, unsigned count, uint8_t ret[DIGEST_BYTES])
{
    struct state *st = my_state();
    CHECK(EVP_DigestInit_ex2(st->md_ctx, NULL, NULL) == 1);
    for (unsigned i = 0; i < count; i++)
        CHECK(EVP_DigestUpdate(st->md_ctx, fields[i].ptr, fields[i].len) == 1);
    CHECK(EVP_DigestFinal_ex(st->md_ctx, ret, NULL) == 1);
}
