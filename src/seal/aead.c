/* SPDX-License-Identifier: Apache-2.0 */
#include "seal/aead.h"

#include <openssl/evp.h>
#include <pthread.h>

#include "base/check.h"

static pthread_once_t once = PTHREAD_ONCE_INIT;
static EVP_CIPHER *cipher;

static void fetch(void)
{
    cipher = EVP_CIPHER_fetch(NULL, "AES-256-GCM", NULL);
    CHECK(cipher);
}

void aead_set_key(struct aead *a, const uint8_t key[AEAD_KEY_BYTES])
{
    CHECK(pthread_once(&once, fetch) == 0);
    if (!a->ctx)
        a->ctx = EVP_CIPHER_CTX_new();
    CHECK(a->ctx && EVP_CipherInit_ex2(a->ctx, cipher, key, NULL, 1, NULL) == 1);
}

void aead_fini(struct aead *a)
{
    EVP_CIPHER_CTX_free(a->ctx);
    a->ctx = NULL;
}

static void begin(struct aead *a, int encrypts, const uint8_t *nonce, const struct slice *fields,
                  unsigned count)
{
    int n;
    CHECK(EVP_CipherInit_ex2(a->ctx, NULL, NULL, nonce, encrypts, NULL) == 1);
    for (unsigned i = 0; i < count; i++) {
        if (fields[i].len)
            CHECK(EVP_CipherUpdate(a->ctx, NULL, &n, (const uint8_t *)fields[i].ptr,
                                   (int)fields[i].len) == 1);
    }
}

void aead_seal(struct aead *a, const uint8_t nonce[AEAD_NONCE_BYTES], const struct slice *fields,
               unsigned count, struct slice plain, char *to)
{
    int n = 0;
    begin(a, 1, nonce, fields, count);
    if (plain.len)
        CHECK(EVP_CipherUpdate(a->ctx, (uint8_t *)to, &n, (const uint8_t *)plain.ptr,
                               (int)plain.len) == 1);
    CHECK(EVP_CipherFinal_ex(a->ctx, (uint8_t *)to + n, &n) == 1);
    CHECK(EVP_CIPHER_CTX_ctrl(a->ctx, EVP_CTRL_GCM_GET_TAG, AEAD_TAG_BYTES, to + plain.len) == 1);
}

bool aead_open(struct aead *a, const uint8_t nonce[AEAD_NONCE_BYTES], const struct slice *fields,
               unsigned count, struct slice sealed, char *to)
{
    int n = 0;
    if (sealed.len < AEAD_TAG_BYTES)
        return false;
    size_t len = sealed.len - AEAD_TAG_BYTES;
    begin(a, 0, nonce, fields, count);
    if (len)
        CHECK(EVP_CipherUpdate(a->ctx, (uint8_t *)to, &n, (const uint8_t *)sealed.ptr, (int)len) ==
              1);
    CHECK(EVP_CIPHER_CTX_ctrl(a->ctx, EVP_CTRL_GCM_SET_TAG, AEAD_TAG_BYTES,
                              (void *)(uintptr_t)(sealed.ptr + len)) == 1);
    return EVP_CipherFinal_ex(a->ctx, (uint8_t *)to + n, &n) == 1;
}
