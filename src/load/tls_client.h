/* SPDX-License-Identifier: Apache-2.0 */
/*
 * load/tls_client.h - what a client believes of a server's certificate (RFC 6125: by the name in
 * the URL). Any thread.
 */
#pragma once

#include <openssl/ssl.h>

#include "base/error.h"
#include "load/load_opts.h"

/* Of --ca and --insecure; TLS 1.2 and newer. 0, or negative errno with a sentence and *ret to be
 * freed all the same. */
int tls_client_context(const struct load_opts *opts, SSL_CTX **ret, struct error *err);
/* A session with the server of that name or address, to be given its transport. NULL: no memory. */
SSL *tls_client_new(SSL_CTX *ctx, const char *host);
/* Why the last call of it failed, as a sentence; takes the thread's errors of OpenSSL. */
void tls_client_why(const SSL *ssl, char *out, size_t size);
