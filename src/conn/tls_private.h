/* SPDX-License-Identifier: Apache-2.0 */
/*
 * conn/tls_private.h - what tls.c (certificates), tls_tickets.c (resumption) and tls_conn.c (one
 * connection) share, and what streams call. Nobody else includes it.
 */
#pragma once

#include <openssl/ssl.h>
#include <sys/types.h>

#include "base/buf.h"
#include "conn/stream.h"
#include "conn/tls.h"

/* ---- tls.c ---- */

/* A session to begin: SSL_new of the set's default. NULL: no memory. */
SSL *tls_set_session(struct tls_set *set);
/* Which of the set's contexts is for this name (RFC 6066 section 3); 0, the default, if none is. */
unsigned tls_set_choose(const struct tls_set *set, struct slice name);
struct tls_tickets *tls_set_tickets(const struct tls_set *set);
uint32_t tls_set_session_s(const struct tls_set *set);
/* What the certificate says its device is, into `out` with a NUL. False: nothing, several things,
 * or what no device id can be. */
bool tls_set_identify(const struct tls_set *set, X509 *certificate, char out[TLS_IDENTITY_MAX + 1]);
const struct tls_psk *tls_set_psk(const struct tls_set *set);
/* Whether the set would take this client's certificate, with the others it showed (or NULL), now.
 */
bool tls_set_believes(const struct tls_set *set, X509 *certificate, STACK_OF(X509) * others);
/* Whether both demand the same of clients. */
bool tls_set_same_policy(const struct tls_set *a, const struct tls_set *b);
/* Why the newest OpenSSL call of this thread failed, in words; clears the queue. */
const char *tls_why(void);

/* ---- tls_tickets.c ---- */

/* For SSL_CTX_set_tlsext_ticket_key_evp_cb. */
int tls_tickets_on_key(SSL *ssl, unsigned char name[16], unsigned char iv[EVP_MAX_IV_LENGTH],
                       EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac, int encrypt);

/* ---- tls_psk.c ---- */

/* False: no memory. */
bool tls_psk_use(SSL_CTX *ctx);
/* The identity whose key the finished handshake has proven, with a NUL. False: none. */
bool tls_psk_identity(SSL *ssl, char out[TLS_IDENTITY_MAX + 1]);

/* ---- tls_conn.c: on the stream's worker ---- */

struct tls_conn;

/* `alpn`: protocols in wire form (RFC 7301 section 3.1), or NULL: any. `early`: what was read of
 * the client's bytes, taken over. NULL: no memory, and `early` is still the caller's. */
struct tls_conn *tls_conn_new(struct tls_set *set, struct stream *s, struct slice alpn,
                              struct buf *early);
/* Accepts NULL. */
void tls_conn_free(struct tls_conn *t);

enum tls_step { TLS_STEP_MORE, TLS_STEP_DONE, TLS_STEP_FAILED };
/* The list it was made with. */
struct slice tls_conn_wanted(const SSL *ssl);
/* Goes on with the handshake as far as the bytes that are there allow. */
enum tls_step tls_conn_handshake(struct tls_conn *t);
/* After TLS_STEP_FAILED, in words. */
const char *tls_conn_failure(const struct tls_conn *t);
/* Whether the handshake resumed a session. */
bool tls_conn_resumed(const struct tls_conn *t);
/* Those of our list that the client wanted too; empty: none. Points into `t`. */
struct slice tls_conn_alpn(const struct tls_conn *t);
/* Of the client's certificate, or of its key; ptr NULL: it has neither. Points into `t`. */
struct slice tls_conn_identity(const struct tls_conn *t);

/* Whether `set` would take the client's certificate, and see the same device in it; true of one
 * that has none (but a key). A resumed session holds no certificates but the client's own: one that
 * was signed by others in between is not believed. */
bool tls_conn_believed(struct tls_conn *t, struct tls_set *set);

/* Up to `room` bytes of what the client sent. > 0: how many; 0: nothing for now. */
enum { TLS_READ_END = -1, TLS_READ_BROKEN = -2, TLS_READ_GONE = -3 };
ssize_t tls_conn_read(struct tls_conn *t, char *to, size_t room);
/* Whether there may be more without the socket saying so. */
bool tls_conn_has_more(const struct tls_conn *t);
/* Seals the bytes and gives them to stream_put. */
void tls_conn_write(struct tls_conn *t, struct slice bytes);
/* Says once that nothing will follow (close_notify), if the connection is in order. */
void tls_conn_bye(struct tls_conn *t);
