/* SPDX-License-Identifier: Apache-2.0 */
/*
 * conn/tls.h - what TLS listeners present and demand (TLS 1.2 and 1.3, OpenSSL 3.0): certificates
 * by the name a client asks for (SNI), whose client certificates are believed, session tickets.
 *
 * A `struct tls_set` is made from bytes, never changes, and is shared by all workers; connections
 * that began under it keep a reference until they close. So a reload makes a new one, and either
 * all of it takes effect or nothing does.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/slice.h"

#define TLS_PAIRS_MAX    64u
#define TLS_IDENTITY_MAX 128u /* bytes of what a client certificate is mapped to */
/* Mozilla's guideline "intermediate", version 5.8; for TLS 1.3 it is OpenSSL's own default. */
#define TLS_CIPHERS                                                                                \
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:"     \
    "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"

struct tls_set;
struct tls_tickets;

/* A certificate and its key, as PEM. */
struct tls_pair {
    const char *chain_name, *key_name; /* how messages call them: the files */
    struct slice chain;                /* the server's certificate first, then what signed it */
    struct slice key;                  /* not encrypted */
};

/* Whether clients are asked for a certificate. */
enum tls_clients { TLS_CLIENTS_NOT_ASKED, TLS_CLIENTS_MAY, TLS_CLIENTS_MUST };

/* What of a client certificate says which device it is. */
enum tls_identity { TLS_IDENTITY_CN, TLS_IDENTITY_DNS, TLS_IDENTITY_EMAIL, TLS_IDENTITY_URI };

/* The key of a client with this identity, a device id; where there is none such, one that nobody
 * has, after as much time. On workers: must not wait. */
#define TLS_PSK_BYTES 32u
struct tls_psk {
    void (*key)(void *arg, struct slice identity, uint8_t ret[TLS_PSK_BYTES]);
    void *arg;
};

struct tls_opts {
    const struct tls_pair *pairs; /* the first is for clients that name nobody we know */
    unsigned pairs_count;         /* 1 to TLS_PAIRS_MAX */
    bool only_13;                 /* TLS 1.2 is refused */
    const char *ciphers;          /* of TLS 1.2, as OpenSSL writes them */
    struct tls_psk psk;           /* `key` NULL: pre-shared keys are not spoken */
    const char *psk_ciphers;      /* of TLS 1.2, beside `ciphers` */
    struct tls_tickets *tickets;  /* outlives the set; NULL: sessions are not resumed */
    uint32_t session_s;           /* how long one can be */
    enum tls_clients clients;
    enum tls_identity identity;
    const char *client_ca_name, *client_crl_name; /* for messages */
    struct slice client_ca;                       /* PEM: who signs client certificates */
    struct slice client_crl;                      /* PEM: which of them are revoked; may be empty */
};

/* A certificate in a set, for logs. Lives as long as the set. */
struct tls_certificate {
    const char *chain_name;
    const char *names;                 /* it is for, "," between */
    int64_t not_before_s, not_after_s; /* since 1970 */
    uint8_t digest[32];                /* SHA-256 of the certificate */
};

/*
 * Parses and checks: the key fits its certificate, both are as strong as OpenSSL demands, names and
 * kind of key are not there twice (a certificate with RSA and one with ECDSA for the same names
 * are both used, as clients can). The bytes are not needed afterwards. 0, -ENOMEM, or -EINVAL with
 * a sentence that names the file. Dates are not looked at. Any thread.
 */
int tls_set_new(const struct tls_opts *opts, struct tls_set **ret, struct error *err);
struct tls_set *tls_set_ref(struct tls_set *set);
/* Accepts NULL. */
void tls_set_unref(struct tls_set *set);
/* In the order of the pairs. */
unsigned tls_set_certificates(const struct tls_set *set, const struct tls_certificate **ret);

/*
 * Keys that session tickets are sealed with (RFC 5077, RFC 8446 section 4.6.1), the same for all
 * workers, so that a session is resumed on whichever the client comes to. Made at random, in memory
 * only, renewed after half of the time that a session can be resumed; those before are kept until
 * no ticket of theirs can be used. Any thread, under a lock of its own.
 */
struct tls_tickets *tls_tickets_new(void);
/* Accepts NULL. */
void tls_tickets_free(struct tls_tickets *t);
