/* SPDX-License-Identifier: Apache-2.0 */
#include "load/tls_client.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>

#include <openssl/err.h>

int tls_client_context(const struct load_opts *opts, SSL_CTX **ret, struct error *err)
{
    SSL_CTX *ctx = *ret = SSL_CTX_new(TLS_client_method());
    if (!ctx)
        return error_set(err, -ENOMEM, "no memory for TLS");
    SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION);
    SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_verify(ctx, opts->insecure ? SSL_VERIFY_NONE : SSL_VERIFY_PEER, NULL);
    int known = opts->ca ? SSL_CTX_load_verify_locations(ctx, opts->ca, NULL)
                         : SSL_CTX_set_default_verify_paths(ctx);
    ERR_clear_error();
    return known ? 0
                 : error_set(err, -EINVAL, "--ca: %s: cannot be read, or holds no certificate",
                             opts->ca ? opts->ca : "the system's");
}

SSL *tls_client_new(SSL_CTX *ctx, const char *host)
{
    struct in6_addr any;
    SSL *ssl = SSL_new(ctx);
    if (!ssl)
        return NULL;
    bool address = inet_pton(AF_INET, host, &any) == 1 || inet_pton(AF_INET6, host, &any) == 1;
    bool good = address ? X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), host)
                        : SSL_set_tlsext_host_name(ssl, host) && SSL_set1_host(ssl, host);
    if (!good) {
        SSL_free(ssl);
        return NULL;
    }
    SSL_set_connect_state(ssl);
    return ssl;
}

void tls_client_why(const SSL *ssl, char *out, size_t size)
{
    unsigned long e = ERR_get_error();
    long verdict = SSL_get_verify_result(ssl);
    const char *reason = e ? ERR_reason_error_string(e) : "it ended in the middle";
    if (verdict == X509_V_OK)
        snprintf(out, size, "TLS: %s", reason ? reason : "failed");
    else
        snprintf(out, size, "TLS: certificate: %s", X509_verify_cert_error_string(verdict));
    ERR_clear_error();
}
