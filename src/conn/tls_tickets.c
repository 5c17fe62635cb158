/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A ticket made with a key is good for the session's lifetime L; a key makes tickets for L / 2. So
 * with the present key and two before it every good ticket can be opened, and none is open to who
 * steals the keys 3 / 2 L later.
 *
 * AES-256-CBC and HMAC-SHA-256, encrypt then MAC, as RFC 5077 section 4 recommends.
 */
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/params.h>
#include <openssl/rand.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/rand.h"
#include "base/thread.h"
#include "conn/tls_private.h"

#define KEYS 3u

struct key {
    uint8_t name[16], aes[32], mac[32];
};

struct tls_tickets {
    EVP_CIPHER *cipher;
    struct spin lock;      /* of the rest */
    struct key keys[KEYS]; /* newest first; all zero: none yet */
    unsigned count;
    uint64_t made_ns; /* the newest */
};

struct tls_tickets *tls_tickets_new(void)
{
    struct tls_tickets *t = calloc(1, sizeof *t);
    if (!t)
        return NULL;
    t->cipher = EVP_CIPHER_fetch(NULL, "AES-256-CBC", NULL);
    if (!t->cipher) {
        free(t);
        return NULL;
    }
    return t;
}

void tls_tickets_free(struct tls_tickets *t)
{
    if (!t)
        return;
    EVP_CIPHER_free(t->cipher);
    OPENSSL_cleanse(t, sizeof *t);
    free(t);
}

/* The key to seal with now. */
static void newest(struct tls_tickets *t, uint64_t now, uint64_t period_ns, struct key *ret)
{
    struct key fresh;
    spin_lock(&t->lock);
    bool due = !t->count || now - t->made_ns >= period_ns;
    *ret = t->keys[0];
    spin_unlock(&t->lock);
    if (!due)
        return;
    rand_secret(&fresh, sizeof fresh);
    spin_lock(&t->lock);
    if (!t->count || now - t->made_ns >= period_ns) { /* nobody was faster */
        memmove(t->keys + 1, t->keys, sizeof t->keys[0] * (KEYS - 1));
        t->keys[0] = fresh;
        t->count += t->count < KEYS;
        t->made_ns = now;
    }
    *ret = t->keys[0];
    spin_unlock(&t->lock);
    OPENSSL_cleanse(&fresh, sizeof fresh);
}

/* Its age: 0 is the newest. KEYS: there is none of that name. */
static unsigned find(struct tls_tickets *t, const unsigned char name[16], struct key *ret)
{
    unsigned i;
    spin_lock(&t->lock);
    for (i = 0; i < t->count && memcmp(t->keys[i].name, name, 16) != 0; i++)
        ;
    if (i < t->count)
        *ret = t->keys[i];
    spin_unlock(&t->lock);
    return i < t->count ? i : KEYS;
}

static bool set_mac(EVP_MAC_CTX *mac, struct key *k)
{
    char digest[] = "SHA256";
    const OSSL_PARAM params[] = {
        OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, k->mac, sizeof k->mac),
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
        OSSL_PARAM_construct_end(),
    };
    return EVP_MAC_CTX_set_params(mac, params) == 1;
}

/* OpenSSL's outcomes: -1 failed, 0 no such key, 1 go on, 2 go on and make the client a new one. */
int tls_tickets_on_key(SSL *ssl, unsigned char name[16], unsigned char iv[EVP_MAX_IV_LENGTH],
                       EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac, int encrypt)
{
    const struct tls_set *set = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));
    struct tls_tickets *t = tls_set_tickets(set);
    struct key k;
    unsigned age = 0;
    int rc;
    if (encrypt) {
        newest(t, clock_mono_ns(), tls_set_session_s(set) * NS_PER_S / 2, &k);
        memcpy(name, k.name, sizeof k.name);
        rand_secret(iv, 16);
        rc = EVP_EncryptInit_ex2(cipher, t->cipher, k.aes, iv, NULL) == 1 && set_mac(mac, &k) ? 1
                                                                                              : -1;
    } else {
        age = find(t, name, &k);
        if (age == KEYS)
            return 0;
        rc = EVP_DecryptInit_ex2(cipher, t->cipher, k.aes, iv, NULL) == 1 && set_mac(mac, &k) ? 1
                                                                                              : -1;
    }
    OPENSSL_cleanse(&k, sizeof k);
    return rc == 1 && age ? 2 : rc;
}
