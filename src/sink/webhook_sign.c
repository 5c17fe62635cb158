/* SPDX-License-Identifier: Apache-2.0 */
#include "sink/webhook_sign.h"

#include <errno.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "codec/text.h"

#define MAC_BYTES 32u

/* What one thread keeps: HMAC() looks for its functions by name each time, which takes longer than
 * a signature. */
struct signer {
    EVP_MAC *mac;
    EVP_MAC_CTX *ctx;
    uint8_t key[WEBHOOK_KEY_BYTES_MAX]; /* in ctx */
    uint8_t len;                        /* 0: none */
};

static _Thread_local struct signer *mine;
static pthread_key_t at_exit;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void free_signer(void *arg)
{
    struct signer *s = arg;
    EVP_MAC_CTX_free(s->ctx);
    EVP_MAC_free(s->mac);
    OPENSSL_cleanse(s, sizeof *s);
    free(s);
    mine = NULL;
}

static void make_at_exit(void)
{
    CHECK(pthread_key_create(&at_exit, free_signer) == 0);
}

static struct signer *my_signer(void)
{
    if (mine)
        return mine;
    CHECK(pthread_once(&once, make_at_exit) == 0);
    struct signer *s = calloc(1, sizeof *s);
    CHECK(s);
    s->mac = EVP_MAC_fetch(NULL, "HMAC", NULL);
    CHECK(s->mac);
    s->ctx = EVP_MAC_CTX_new(s->mac);
    CHECK(s->ctx && pthread_setspecific(at_exit, s) == 0);
    mine = s;
    return s;
}

/* A context with that key, at its beginning. */
static EVP_MAC_CTX *begin(const uint8_t *key, uint8_t len)
{
    struct signer *s = my_signer();
    if (s->len == len && CRYPTO_memcmp(s->key, key, len) == 0) {
        CHECK(EVP_MAC_init(s->ctx, NULL, 0, NULL) == 1);
        return s->ctx;
    }
    char digest[] = "SHA256";
    OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
                           OSSL_PARAM_construct_end()};
    CHECK(EVP_MAC_init(s->ctx, key, len, params) == 1);
    memcpy(s->key, key, len);
    s->len = len;
    return s->ctx;
}

static void put(EVP_MAC_CTX *ctx, struct slice s)
{
    CHECK(EVP_MAC_update(ctx, (const unsigned char *)s.ptr, s.len) == 1);
}

static int read_secret(struct slice line, unsigned number, struct webhook_secrets *s,
                       struct error *err)
{
    struct slice prefix = SLICE("whsec_");
    struct buf key;
    if (s->count == WEBHOOK_SECRETS_MAX)
        return error_set(err, -EINVAL, "there are more than %u secrets", WEBHOOK_SECRETS_MAX);
    if (!slice_starts(line, prefix))
        return error_set(err, -EINVAL, "line %u does not begin with \"whsec_\"", number);
    buf_init(&key, 4 * WEBHOOK_KEY_BYTES_MAX);
    bool good = base64_decode(slice_from(line, prefix.len), &key) && !key.failed &&
                key.len >= WEBHOOK_KEY_BYTES_MIN && key.len <= WEBHOOK_KEY_BYTES_MAX;
    if (good) {
        memcpy(s->at[s->count].key, key.ptr, key.len);
        s->at[s->count++].len = (uint8_t)key.len;
    }
    if (key.ptr)
        OPENSSL_cleanse(key.ptr, key.cap);
    buf_fini(&key);
    return good ? 0
                : error_set(err, -EINVAL, "line %u is not \"whsec_\" and %u to %u bytes in base64",
                            number, WEBHOOK_KEY_BYTES_MIN, WEBHOOK_KEY_BYTES_MAX);
}

int webhook_secrets_parse(struct slice text, struct webhook_secrets *ret, struct error *err)
{
    struct webhook_secrets s = {.count = 0};
    int rc = 0;
    for (unsigned number = 1; text.len && !rc; number++) {
        const char *end = memchr(text.ptr, '\n', text.len);
        struct slice line = slice_of(text.ptr, end ? (size_t)(end - text.ptr) : text.len);
        text = slice_from(text, line.len + (end != NULL));
        if (line.len && line.ptr[line.len - 1] == '\r')
            line.len--;
        line = slice_trim(line);
        if (line.len && line.ptr[0] != '#')
            rc = read_secret(line, number, &s, err);
    }
    if (!rc && !s.count)
        rc = error_set(err, -EINVAL, "there is no secret in it");
    if (!rc)
        *ret = s;
    webhook_secrets_wipe(&s);
    return rc;
}

void webhook_secrets_wipe(struct webhook_secrets *s)
{
    OPENSSL_cleanse(s, sizeof *s);
}

void webhook_sign(const struct webhook_secrets *s, struct slice id, int64_t time_s,
                  struct slice body, struct buf *out)
{
    char time[32];
    int n = snprintf(time, sizeof time, ".%lld.", (long long)time_s);
    for (unsigned i = 0; i < s->count; i++) {
        unsigned char mac[MAC_BYTES], text[4 * ((MAC_BYTES + 2) / 3) + 1];
        size_t len = 0;
        EVP_MAC_CTX *ctx = begin(s->at[i].key, s->at[i].len);
        put(ctx, id);
        put(ctx, slice_of(time, (size_t)n));
        put(ctx, body);
        CHECK(EVP_MAC_final(ctx, mac, &len, sizeof mac) == 1 && len == MAC_BYTES);
        EVP_EncodeBlock(text, mac, MAC_BYTES);
        buf_put_str(out, i ? " v1," : "v1,");
        buf_put_str(out, (const char *)text);
    }
}
