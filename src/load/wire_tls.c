/* SPDX-License-Identifier: Apache-2.0 */
/* TLS of a wire, over memory: libuv reads and writes the socket. */
#include <openssl/err.h>

#include "load/tls_client.h"
#include "load/wire_private.h"

static void tls_failed(struct wire *w)
{
    tls_client_why(w->ssl, w->all->why, sizeof w->all->why);
    wire_fail(w, UV_EPROTO);
}

/* What OpenSSL has ready for the peer. */
static int flush(struct wire *w)
{
    char *ptr;
    long n = BIO_get_mem_data(SSL_get_wbio(w->ssl), &ptr);
    int rc = n > 0 ? wire_put(w, slice_of(ptr, (size_t)n)) : 0;
    (void)BIO_reset(SSL_get_wbio(w->ssl));
    return rc;
}

static bool wants_more(struct wire *w, int n)
{
    return SSL_get_error(w->ssl, n) == SSL_ERROR_WANT_READ;
}

static void shake(struct wire *w)
{
    int n = SSL_do_handshake(w->ssl);
    if (n <= 0 && !wants_more(w, n)) {
        flush(w);
        tls_failed(w);
        return;
    }
    int rc = flush(w);
    if (rc)
        wire_fail(w, rc);
    else if (n == 1)
        wire_below_opened(w);
}

void wire_tls_start(struct wire *w)
{
    BIO *in = BIO_new(BIO_s_mem()), *out = BIO_new(BIO_s_mem());
    w->ssl = tls_client_new(w->all->tls, w->all->host);
    if (!w->ssl || !in || !out) {
        BIO_free(in);
        BIO_free(out);
        wire_fail(w, UV_ENOMEM);
        return;
    }
    SSL_set_bio(w->ssl, in, out);
    shake(w);
}

void wire_tls_bytes(struct wire *w, struct slice in)
{
    if (BIO_write(SSL_get_rbio(w->ssl), in.ptr, (int)in.len) != (int)in.len) {
        wire_fail(w, UV_ENOMEM);
        return;
    }
    if (!SSL_is_init_finished(w->ssl)) {
        shake(w);
        if (w->closing || !SSL_is_init_finished(w->ssl))
            return;
    }
    for (;;) {
        int n = SSL_read(w->ssl, w->all->plain, sizeof w->all->plain);
        if (n > 0) {
            wire_below_bytes(w, slice_of(w->all->plain, (size_t)n));
            if (w->closing)
                return;
            continue;
        }
        if (SSL_get_error(w->ssl, n) == SSL_ERROR_ZERO_RETURN)
            wire_fail(w, UV_EOF);
        else if (!wants_more(w, n))
            tls_failed(w);
        else
            flush(w); /* a key update, say */
        return;
    }
}

int wire_tls_put(struct wire *w, struct slice bytes)
{
    if (SSL_write(w->ssl, bytes.ptr, (int)bytes.len) != (int)bytes.len) {
        ERR_clear_error();
        return UV_EPROTO;
    }
    return flush(w);
}

void wire_tls_bye(struct wire *w)
{
    if (SSL_shutdown(w->ssl) >= 0)
        flush(w);
    ERR_clear_error();
}
