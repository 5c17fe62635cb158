/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One SSL_CTX per set of names: OpenSSL itself chooses between an RSA and an ECDSA certificate in
 * it. The first is where connections begin; the name the client asks for moves them to another
 * (on_name). All are alike but for the certificates, so that a resumed session cannot get around
 * what its first handshake had to show: the session id context is a digest of what clients must
 * show, and a changed policy ends all sessions.
 */
#include "conn/tls.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include "base/check.h"
#include "conn/tls_private.h"

#define NAMES_MAX     (64u << 10) /* bytes of a certificate's names, shown */
#define CLIENT_CHAIN  16384       /* bytes of certificates that a client may show */
#define CLIENT_DEPTH  4
#define CLIENT_CA_MAX 256u
#define CURVES        "X25519:P-256:P-384" /* as Mozilla's guideline */

struct name {
    char *text; /* lower case; "*.example.org" is all names one label longer */
    unsigned context;
};

struct context {
    SSL_CTX *ctx;
    char *names; /* sorted, "," between: alike in certificates that stand together */
    int key_types[4];
    unsigned keys;
};

struct tls_set {
    _Atomic unsigned refs;
    struct tls_tickets *tickets;
    uint32_t session_s;
    enum tls_identity identity;
    struct tls_psk psk;
    unsigned char policy[32]; /* what clients must show */
    bool asks;                /* clients for a certificate */
    struct context contexts[TLS_PAIRS_MAX];
    unsigned contexts_count;
    struct name *names; /* sorted; of equal ones the first pair's stands first */
    unsigned names_count;
    struct tls_certificate certificates[TLS_PAIRS_MAX];
    unsigned certificates_count;
};

const char *tls_why(void)
{
    unsigned long e = ERR_peek_last_error();
    const char *why = e ? ERR_reason_error_string(e) : NULL;
    ERR_clear_error();
    return why ? why : "no reason is known";
}

struct tls_tickets *tls_set_tickets(const struct tls_set *set)
{
    return set->tickets;
}

uint32_t tls_set_session_s(const struct tls_set *set)
{
    return set->session_s;
}

/* ---- PEM ---- */

const struct tls_psk *tls_set_psk(const struct tls_set *set)
{
    return &set->psk;
}

static int no_password(char *to, int room, int writing, void *arg)
{
    return -1; /* and never ask on a terminal */
}

/* The next certificate; NULL: there is none, or what follows is damaged (then *ret_bad is set). */
static X509 *next_certificate(BIO *in, bool *ret_bad)
{
    X509 *c = PEM_read_bio_X509(in, NULL, no_password, NULL);
    if (!c && ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE)
        *ret_bad = true;
    else if (!c)
        ERR_clear_error();
    return c;
}

/* Everything in a PEM file of certificates. NULL: damaged, none, or over `max`. */
static STACK_OF(X509) * read_certificates(struct slice pem, unsigned max)
{
    BIO *in = BIO_new_mem_buf(pem.ptr, (int)pem.len);
    STACK_OF(X509) *all = sk_X509_new_null();
    bool bad = !in || !all;
    X509 *c;
    while (!bad && (c = next_certificate(in, &bad))) {
        bad = sk_X509_num(all) >= (int)max || !sk_X509_push(all, c);
        if (bad)
            X509_free(c);
    }
    BIO_free(in);
    if (!bad && sk_X509_num(all) > 0)
        return all;
    sk_X509_pop_free(all, X509_free);
    return NULL;
}

static EVP_PKEY *read_key(struct slice pem)
{
    BIO *in = BIO_new_mem_buf(pem.ptr, (int)pem.len);
    EVP_PKEY *key = in ? PEM_read_bio_PrivateKey(in, NULL, no_password, NULL) : NULL;
    BIO_free(in);
    return key;
}

/* ---- names ---- */

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* A copy in lower case; NULL: it has bytes that no host name has. */
static char *host_name(const ASN1_STRING *s)
{
    size_t len = (size_t)ASN1_STRING_length(s);
    const unsigned char *at = ASN1_STRING_get0_data(s);
    char *copy = len && len <= 255 ? calloc(1, len + 1) : NULL;
    for (size_t i = 0; copy && i < len; i++) {
        unsigned char c = at[i];
        if (c <= ' ' || c >= 0x7f || c == ',') {
            free(copy);
            return NULL;
        }
        copy[i] = (char)(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
    }
    return copy;
}

/* The names that a certificate is for: DNS names in the subject's alternatives, else its common
 * name (RFC 6125 section 6.4.4). Returns how many; the caller's to free, each. */
static unsigned names_of(X509 *c, char **ret, unsigned max)
{
    unsigned n = 0;
    GENERAL_NAMES *all = X509_get_ext_d2i(c, NID_subject_alt_name, NULL, NULL);
    for (int i = 0; i < sk_GENERAL_NAME_num(all) && n < max; i++) {
        const GENERAL_NAME *g = sk_GENERAL_NAME_value(all, i);
        char *name = g->type == GEN_DNS ? host_name(g->d.dNSName) : NULL;
        if (name)
            ret[n++] = name;
    }
    if (!all) {
        X509_NAME *subject = X509_get_subject_name(c);
        int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
        char *name =
            at >= 0 ? host_name(X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at))) : NULL;
        if (name)
            ret[n++] = name;
    }
    GENERAL_NAMES_free(all);
    qsort(ret, n, sizeof *ret, by_text);
    return n;
}

static char *join(char **names, unsigned count)
{
    struct buf out;
    buf_init(&out, NAMES_MAX);
    for (unsigned i = 0; i < count; i++) {
        buf_put_str(&out, i ? "," : "");
        buf_put_str(&out, names[i]);
    }
    buf_put_u8(&out, 0);
    char *text = out.failed ? NULL : strdup(out.ptr);
    buf_fini(&out);
    return text;
}

static int by_name(const void *a, const void *b)
{
    const struct name *x = a, *y = b;
    int c = strcmp(x->text, y->text);
    return c ? c : (int)x->context - (int)y->context;
}

static const struct name *find_name(const struct tls_set *set, const char *text)
{
    unsigned from = 0, to = set->names_count;
    while (from < to) {
        unsigned middle = from + (to - from) / 2;
        if (strcmp(set->names[middle].text, text) < 0)
            from = middle + 1;
        else
            to = middle;
    }
    bool found = from < set->names_count && strcmp(set->names[from].text, text) == 0;
    return found ? &set->names[from] : NULL;
}

unsigned tls_set_choose(const struct tls_set *set, struct slice name)
{
    char text[257];
    if (name.len && name.ptr[name.len - 1] == '.')
        name.len--;
    if (!name.len || name.len > 255)
        return 0;
    for (size_t i = 0; i < name.len; i++)
        text[i + 1] = (char)(name.ptr[i] >= 'A' && name.ptr[i] <= 'Z' ? name.ptr[i] - 'A' + 'a'
                                                                      : name.ptr[i]);
    text[name.len + 1] = 0;
    const struct name *found = find_name(set, text + 1);
    char *dot = found ? NULL : strchr(text + 1, '.');
    if (dot && dot > text + 1) {
        dot[-1] = '*';
        found = find_name(set, dot - 1);
    }
    return found ? found->context : 0;
}

/* ---- what OpenSSL asks ---- */

static int on_name(SSL *ssl, int *alert, void *arg)
{
    const struct tls_set *set = arg;
    const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    unsigned i = name ? tls_set_choose(set, slice_str(name)) : 0;
    if (i && !SSL_set_SSL_CTX(ssl, set->contexts[i].ctx))
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    return name ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_NOACK;
}

/* Strict: who lists protocols and none of ours is told so (RFC 7301 section 3.2). */
static int on_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len,
                   const unsigned char *in, unsigned in_len, void *arg)
{
    struct slice ours = tls_conn_wanted(ssl);
    unsigned char *chosen = NULL;
    if (!ours.len)
        return SSL_TLSEXT_ERR_NOACK;
    if (SSL_select_next_proto(&chosen, out_len, (const unsigned char *)ours.ptr, (unsigned)ours.len,
                              in, in_len) != OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

/* ---- client certificates ---- */

/* UTF-8 of a string in a certificate, if it is short enough and has no NUL in it. */
static bool take_text(const ASN1_STRING *s, char out[TLS_IDENTITY_MAX + 1])
{
    unsigned char *text = NULL;
    int len = ASN1_STRING_to_UTF8(&text, s);
    bool good = len > 0 && len <= (int)TLS_IDENTITY_MAX && !memchr(text, 0, (size_t)len);
    if (good) {
        memcpy(out, text, (size_t)len);
        out[len] = 0;
    }
    OPENSSL_free(text);
    return good;
}

static bool identify_by_cn(X509 *c, char out[TLS_IDENTITY_MAX + 1])
{
    X509_NAME *subject = X509_get_subject_name(c);
    int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
    if (at < 0 || X509_NAME_get_index_by_NID(subject, NID_commonName, at) >= 0)
        return false;
    return take_text(X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)), out);
}

/* Of "urn:dev:x" and "spiffe://example.org/x" the x: device ids have no colon. */
static bool keep_last_part(char text[TLS_IDENTITY_MAX + 1])
{
    char *at = text + strlen(text);
    while (at > text && at[-1] != ':' && at[-1] != '/')
        at--;
    memmove(text, at, strlen(at) + 1);
    return text[0] != 0;
}

bool tls_set_identify(const struct tls_set *set, X509 *c, char out[TLS_IDENTITY_MAX + 1])
{
    static const int types[] = {[TLS_IDENTITY_DNS] = GEN_DNS,
                                [TLS_IDENTITY_EMAIL] = GEN_EMAIL,
                                [TLS_IDENTITY_URI] = GEN_URI};
    if (set->identity == TLS_IDENTITY_CN)
        return identify_by_cn(c, out);
    GENERAL_NAMES *all = X509_get_ext_d2i(c, NID_subject_alt_name, NULL, NULL);
    unsigned found = 0;
    bool good = false;
    for (int i = 0; i < sk_GENERAL_NAME_num(all); i++) {
        const GENERAL_NAME *g = sk_GENERAL_NAME_value(all, i);
        if (g->type != types[set->identity])
            continue;
        good = take_text(g->d.ia5, out);
        found++;
    }
    GENERAL_NAMES_free(all);
    if (good && set->identity == TLS_IDENTITY_URI)
        good = keep_last_part(out);
    return good && found == 1;
}

static int bad_client_file(struct error *err, const char *name, const char *what)
{
    return error_set(err, -EINVAL, "%s: %s: %s", name, what, tls_why());
}

static int add_crls(const struct tls_opts *o, X509_STORE *store, struct error *err)
{
    BIO *in = BIO_new_mem_buf(o->client_crl.ptr, (int)o->client_crl.len);
    unsigned count = 0;
    X509_CRL *crl;
    while (in && (crl = PEM_read_bio_X509_CRL(in, NULL, no_password, NULL))) {
        count += X509_STORE_add_crl(store, crl) == 1;
        X509_CRL_free(crl);
    }
    BIO_free(in);
    if (!count || ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE)
        return bad_client_file(err, o->client_crl_name, "no good list of revoked certificates");
    ERR_clear_error();
    X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK);
    return 0;
}

static int set_clients(const struct tls_opts *o, SSL_CTX *ctx, struct error *err)
{
    if (o->clients == TLS_CLIENTS_NOT_ASKED)
        return 0;
    X509_STORE *store = SSL_CTX_get_cert_store(ctx);
    STACK_OF(X509) *all = read_certificates(o->client_ca, CLIENT_CA_MAX);
    if (!all)
        return bad_client_file(err, o->client_ca_name, "no good certificates");
    bool good = true;
    for (int i = 0; i < sk_X509_num(all); i++)
        good = good && X509_STORE_add_cert(store, sk_X509_value(all, i)) == 1 &&
               SSL_CTX_add_client_CA(ctx, sk_X509_value(all, i)) == 1;
    sk_X509_pop_free(all, X509_free);
    if (!good)
        return bad_client_file(err, o->client_ca_name, "a certificate cannot be used");
    /* Whoever is in the file is believed, whether it signed itself or not. */
    X509_STORE_set_flags(store, X509_V_FLAG_PARTIAL_CHAIN);
    SSL_CTX_set_verify(ctx,
                       SSL_VERIFY_PEER | SSL_VERIFY_CLIENT_ONCE |
                           (o->clients == TLS_CLIENTS_MUST ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0),
                       NULL);
    SSL_CTX_set_verify_depth(ctx, CLIENT_DEPTH);
    return o->client_crl.len ? add_crls(o, store, err) : 0;
}

/* ---- contexts ---- */

/* What clients must show, as one number: sessions are resumed only under the same. */
static bool policy_digest(const struct tls_opts *o, unsigned char out[32])
{
    EVP_MD_CTX *c = EVP_MD_CTX_new();
    const uint64_t head[] = {o->clients, o->identity, o->client_ca.len, o->client_crl.len};
    bool good = c && EVP_DigestInit_ex2(c, EVP_sha256(), NULL) == 1 &&
                EVP_DigestUpdate(c, head, sizeof head) == 1 &&
                EVP_DigestUpdate(c, o->client_ca.ptr, o->client_ca.len) == 1 &&
                EVP_DigestUpdate(c, o->client_crl.ptr, o->client_crl.len) == 1 &&
                EVP_DigestFinal_ex(c, out, NULL) == 1;
    EVP_MD_CTX_free(c);
    return good;
}

static void set_sessions(const struct tls_opts *o, SSL_CTX *ctx)
{
    SSL_CTX_set_session_cache_mode(ctx,
                                   SSL_SESS_CACHE_OFF); /* the client keeps it, in its ticket */
    if (o->tickets) {
        SSL_CTX_set_timeout(ctx, o->session_s);
        SSL_CTX_set_tlsext_ticket_key_evp_cb(ctx, tls_tickets_on_key);
        SSL_CTX_set_num_tickets(ctx, 1); /* a device makes one connection at a time */
    } else {
        SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET);
        SSL_CTX_set_num_tickets(ctx, 0);
    }
}

/* A client that offers ciphers with keys has a key, so these come first, and of TLS 1.3 those with
 * SHA-256, which is the hash of such a key. */
static bool add_psk(const struct tls_opts *o, SSL_CTX *ctx)
{
    char both[2048];
    int len = snprintf(both, sizeof both, "%s:%s", o->psk_ciphers, o->ciphers);
    return len > 0 && (size_t)len < sizeof both &&
           SSL_CTX_set_cipher_list(ctx, o->psk_ciphers) == 1 &&
           SSL_CTX_set_cipher_list(ctx, both) == 1 &&
           SSL_CTX_set_ciphersuites(ctx, "TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256:"
                                         "TLS_AES_256_GCM_SHA384") == 1 &&
           tls_psk_use(ctx);
}

static bool set_ciphers(const struct tls_opts *o, SSL_CTX *ctx, struct error *err)
{
    if (SSL_CTX_set_cipher_list(ctx, o->ciphers) != 1)
        error_set(err, -EINVAL, "tls.ciphers: \"%.100s\": %s", o->ciphers, tls_why());
    else if (o->psk.key && !add_psk(o, ctx))
        error_set(err, -EINVAL, "tls.psk_ciphers: \"%.100s\": %s", o->psk_ciphers, tls_why());
    else
        return true;
    return false;
}

bool tls_set_same_policy(const struct tls_set *a, const struct tls_set *b)
{
    return memcmp(a->policy, b->policy, sizeof a->policy) == 0;
}

bool tls_set_believes(const struct tls_set *set, X509 *certificate, STACK_OF(X509) * others)
{
    X509_STORE_CTX *c = set->asks ? X509_STORE_CTX_new() : NULL;
    bool good = c && X509_STORE_CTX_init(c, SSL_CTX_get_cert_store(set->contexts[0].ctx),
                                         certificate, others) == 1;
    if (good) {
        X509_STORE_CTX_set_depth(c, CLIENT_DEPTH);
        good = X509_STORE_CTX_set_default(c, "ssl_client") == 1 && X509_verify_cert(c) == 1;
    }
    X509_STORE_CTX_free(c);
    ERR_clear_error();
    return good;
}

static SSL_CTX *make_context(struct tls_set *set, const struct tls_opts *o, struct error *err)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    if (!ctx) {
        error_set(err, -ENOMEM, "TLS: %s", tls_why());
        return NULL;
    }
    /* An end without close_notify is an end: HTTP and MQTT frame what they send. */
    SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                                 SSL_OP_IGNORE_UNEXPECTED_EOF);
    /* Our order, but ChaCha20 for who wants it most: that is a device without AES in hardware. */
    SSL_CTX_set_options(ctx, SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
    SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_NO_AUTO_CHAIN);
    SSL_CTX_set_read_ahead(ctx, 1);
    SSL_CTX_set_max_cert_list(ctx, CLIENT_CHAIN);
    SSL_CTX_set_min_proto_version(ctx, o->only_13 ? TLS1_3_VERSION : TLS1_2_VERSION);
    SSL_CTX_set_app_data(ctx, set);
    SSL_CTX_set_tlsext_servername_callback(ctx, on_name);
    SSL_CTX_set_tlsext_servername_arg(ctx, set);
    SSL_CTX_set_alpn_select_cb(ctx, on_alpn, NULL);
    set_sessions(o, ctx);
    if (SSL_CTX_set_session_id_context(ctx, set->policy, sizeof set->policy) != 1 ||
        SSL_CTX_set1_groups_list(ctx, CURVES) != 1)
        error_set(err, -EINVAL, "TLS: %s", tls_why());
    else if (set_ciphers(o, ctx, err) && set_clients(o, ctx, err) == 0)
        return ctx;
    SSL_CTX_free(ctx);
    return NULL;
}

/* The context for certificates of these names and this kind of key; made if there is none. NULL:
 * with a sentence. */
static struct context *context_for(struct tls_set *set, const struct tls_opts *o,
                                   const struct tls_pair *pair, const char *names, int key_type,
                                   struct error *err)
{
    struct context *c = NULL;
    for (unsigned i = 0; i < set->contexts_count && !c && names[0]; i++)
        c = strcmp(set->contexts[i].names, names) == 0 ? &set->contexts[i] : NULL;
    if (!c) {
        c = &set->contexts[set->contexts_count];
        c->ctx = make_context(set, o, err);
        c->names = c->ctx ? strdup(names) : NULL;
        set->contexts_count += c->ctx != NULL;
    }
    if (!c->names)
        return NULL;
    for (unsigned i = 0; i < c->keys; i++) {
        if (c->key_types[i] == key_type) {
            error_set(
                err, -EINVAL,
                "%s: another certificate has the same names (%.200s) and the same kind of key",
                pair->chain_name, names);
            return NULL;
        }
    }
    if (c->keys < sizeof c->key_types / sizeof *c->key_types)
        c->key_types[c->keys++] = key_type;
    return c;
}

static int64_t seconds_of(const ASN1_TIME *when)
{
    struct tm tm;
    return ASN1_TIME_to_tm(when, &tm) == 1 ? timegm(&tm) : 0;
}

static bool describe(struct tls_set *set, const struct tls_pair *pair, X509 *leaf, char *joined)
{
    struct tls_certificate *c = &set->certificates[set->certificates_count];
    unsigned len;
    c->names = joined;
    c->chain_name = strdup(pair->chain_name);
    set->certificates_count++;
    c->not_before_s = seconds_of(X509_get0_notBefore(leaf));
    c->not_after_s = seconds_of(X509_get0_notAfter(leaf));
    return c->chain_name && X509_digest(leaf, EVP_sha256(), c->digest, &len) == 1;
}

/* Takes over the texts of `names`. */
static bool add_names(struct tls_set *set, char **names, unsigned count, unsigned context)
{
    struct name *grown = realloc(set->names, (set->names_count + count + 1) * sizeof *set->names);
    if (grown)
        set->names = grown;
    for (unsigned i = 0; i < count; i++) {
        if (grown)
            set->names[set->names_count++] = (struct name){names[i], context};
        else
            free(names[i]);
    }
    return grown != NULL;
}

#define PAIR_NAMES_MAX 1000u

static int use_pair(struct tls_set *set, const struct tls_opts *o, const struct tls_pair *pair,
                    STACK_OF(X509) * chain, EVP_PKEY *key, struct error *err)
{
    X509 *leaf = sk_X509_shift(chain);
    char *names[PAIR_NAMES_MAX];
    unsigned count = names_of(leaf, names, PAIR_NAMES_MAX);
    char *joined = join(names, count);
    int rc = -ENOMEM;
    if (joined && describe(set, pair, leaf, joined)) {
        struct context *c = context_for(set, o, pair, joined, EVP_PKEY_get_base_id(key), err);
        rc = c ? 0 : -EINVAL;
        if (c && SSL_CTX_use_cert_and_key(c->ctx, leaf, key, chain, 1) != 1)
            rc = error_set(err, -EINVAL, "%s with the key %s: %s", pair->chain_name, pair->key_name,
                           tls_why());
        if (!add_names(set, names, count, c ? (unsigned)(c - set->contexts) : 0) && !rc)
            rc = -ENOMEM;
    } else {
        while (count)
            free(names[--count]);
    }
    X509_free(leaf);
    return rc;
}

static int add_pair(struct tls_set *set, const struct tls_opts *o, const struct tls_pair *pair,
                    struct error *err)
{
    STACK_OF(X509) *chain = read_certificates(pair->chain, 32);
    if (!chain)
        return error_set(err, -EINVAL, "%s: no good certificate: %s", pair->chain_name, tls_why());
    EVP_PKEY *key = read_key(pair->key);
    int rc =
        key ? use_pair(set, o, pair, chain, key, err)
            : error_set(err, -EINVAL,
                        "%s: no private key that can be used: it must be PEM, without a password",
                        pair->key_name);
    ERR_clear_error();
    EVP_PKEY_free(key);
    sk_X509_pop_free(chain, X509_free);
    return rc;
}

/* ---- the set ---- */

int tls_set_new(const struct tls_opts *o, struct tls_set **ret, struct error *err)
{
    CHECK(o->pairs_count >= 1 && o->pairs_count <= TLS_PAIRS_MAX);
    struct tls_set *set = calloc(1, sizeof *set);
    int rc = set ? 0 : -ENOMEM;
    if (set) {
        set->refs = 1;
        set->tickets = o->tickets;
        set->session_s = o->session_s;
        set->identity = o->identity;
        set->psk = o->psk;
        set->asks = o->clients != TLS_CLIENTS_NOT_ASKED;
        rc = policy_digest(o, set->policy) ? 0 : -ENOMEM;
    }
    for (unsigned i = 0; i < o->pairs_count && !rc; i++)
        rc = add_pair(set, o, &o->pairs[i], err);
    if (rc) {
        tls_set_unref(set);
        return rc;
    }
    qsort(set->names, set->names_count, sizeof *set->names, by_name);
    *ret = set;
    return 0;
}

SSL *tls_set_session(struct tls_set *set)
{
    return SSL_new(set->contexts[0].ctx);
}

struct tls_set *tls_set_ref(struct tls_set *set)
{
    atomic_fetch_add_explicit(&set->refs, 1, memory_order_relaxed);
    return set;
}

void tls_set_unref(struct tls_set *set)
{
    if (!set || atomic_fetch_sub_explicit(&set->refs, 1, memory_order_acq_rel) != 1)
        return;
    for (unsigned i = 0; i < set->contexts_count; i++) {
        SSL_CTX_free(set->contexts[i].ctx);
        free(set->contexts[i].names);
    }
    for (unsigned i = 0; i < set->names_count; i++)
        free(set->names[i].text);
    for (unsigned i = 0; i < set->certificates_count; i++) {
        free((char *)set->certificates[i].chain_name);
        free((char *)set->certificates[i].names);
    }
    free(set->names);
    free(set);
}

unsigned tls_set_certificates(const struct tls_set *set, const struct tls_certificate **ret)
{
    *ret = set->certificates;
    return set->certificates_count;
}
