/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pre-shared keys: TLS 1.2 (RFC 4279, RFC 5489) and external ones of TLS 1.3 (RFC 8446 section
 * 2.2). Every identity has a key, those of nobody one that nobody has: so a wrong key and an
 * unknown identity fail alike, at the same message and after the same work (RFC 4279 section 2).
 *
 * Who was let in by a key is what the session in use says, and never what was looked up last: a
 * client may offer several identities, of which but one is proven. Sessions that began so are not
 * resumed, because a key can be exchanged; another handshake with it costs no more.
 */
#include <openssl/crypto.h>

#include "conn/tls_private.h"

/* Tickets, which are identities in TLS 1.3 too, are longer, and not text. */
static bool is_identity(struct slice s)
{
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] <= ' ' || s.ptr[i] > '~')
            return false;
    }
    return s.len && s.len <= TLS_IDENTITY_MAX;
}

static void find_key(SSL *ssl, struct slice identity, uint8_t ret[TLS_PSK_BYTES])
{
    const struct tls_psk *psk = tls_set_psk(SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl)));
    psk->key(psk->arg, identity, ret);
}

/* TLS 1.3. With SHA-256, as RFC 8446 section 4.2.11 says where nothing else was agreed on. */
static int on_find_session(SSL *ssl, const unsigned char *ptr, size_t len, SSL_SESSION **ret)
{
    static const unsigned char aes128_gcm_sha256[] = {0x13, 0x01};
    struct slice identity = slice_of(ptr, len);
    uint8_t key[TLS_PSK_BYTES];
    *ret = NULL;
    if (!is_identity(identity))
        return 1;
    SSL_SESSION *s = SSL_SESSION_new();
    const SSL_CIPHER *cipher = SSL_CIPHER_find(ssl, aes128_gcm_sha256);
    find_key(ssl, identity, key);
    bool good = s && cipher && SSL_SESSION_set1_master_key(s, key, sizeof key) == 1 &&
                SSL_SESSION_set_cipher(s, cipher) == 1 &&
                SSL_SESSION_set_protocol_version(s, TLS1_3_VERSION) == 1 &&
                SSL_SESSION_set1_ticket_appdata(s, ptr, len) == 1 &&
                SSL_set_num_tickets(ssl, 0) == 1;
    OPENSSL_cleanse(key, sizeof key);
    if (!good) {
        SSL_SESSION_free(s);
        return 0;
    }
    *ret = s;
    return 1;
}

/* TLS 1.2. */
static unsigned on_key(SSL *ssl, const char *text, unsigned char *ret, unsigned max)
{
    struct slice identity = slice_str(text);
    if (SSL_version(ssl) >= TLS1_3_VERSION || max < TLS_PSK_BYTES)
        return 0;
    find_key(ssl, is_identity(identity) ? identity : (struct slice){0}, ret);
    return TLS_PSK_BYTES;
}

/* By its cipher's exchange of keys. */
static bool is_by_key(SSL *ssl)
{
    const SSL_CIPHER *cipher = SSL_get_current_cipher(ssl);
    int kind = cipher ? SSL_CIPHER_get_kx_nid(cipher) : NID_undef;
    return kind == NID_kx_psk || kind == NID_kx_ecdhe_psk || kind == NID_kx_dhe_psk ||
           kind == NID_kx_rsa_psk;
}

/* Marks what is not to be resumed. */
static int on_ticket(SSL *ssl, void *arg)
{
    (void)arg;
    return !is_by_key(ssl) || SSL_SESSION_set1_ticket_appdata(SSL_get_session(ssl), "p", 1) == 1;
}

static SSL_TICKET_RETURN on_ticket_back(SSL *ssl, SSL_SESSION *s, const unsigned char *name,
                                        size_t name_len, SSL_TICKET_STATUS status, void *arg)
{
    void *mark;
    size_t len = 0;
    (void)ssl, (void)name, (void)name_len, (void)arg;
    if (status != SSL_TICKET_SUCCESS && status != SSL_TICKET_SUCCESS_RENEW)
        return SSL_TICKET_RETURN_IGNORE_RENEW;
    if (SSL_SESSION_get0_ticket_appdata(s, &mark, &len) != 1 || len)
        return SSL_TICKET_RETURN_IGNORE;
    return status == SSL_TICKET_SUCCESS ? SSL_TICKET_RETURN_USE : SSL_TICKET_RETURN_USE_RENEW;
}

bool tls_psk_use(SSL_CTX *ctx)
{
    SSL_CTX_set_psk_find_session_callback(ctx, on_find_session);
    SSL_CTX_set_psk_server_callback(ctx, on_key);
    return SSL_CTX_set_session_ticket_cb(ctx, on_ticket, on_ticket_back, NULL) == 1;
}

bool tls_psk_identity(SSL *ssl, char out[TLS_IDENTITY_MAX + 1])
{
    void *ptr = NULL;
    size_t len = 0;
    if (SSL_version(ssl) < TLS1_3_VERSION) {
        const char *text = is_by_key(ssl) ? SSL_get_psk_identity(ssl) : NULL;
        ptr = (void *)(uintptr_t)text;
        len = text && !SSL_session_reused(ssl) ? strlen(text) : 0;
    } else if (SSL_session_reused(ssl)) {
        SSL_SESSION_get0_ticket_appdata(SSL_get0_session(ssl), &ptr, &len);
    }
    if (!len || !is_identity(slice_of(ptr, len)))
        return false;
    memcpy(out, ptr, len);
    out[len] = 0;
    return true;
}
