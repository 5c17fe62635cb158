/* SPDX-License-Identifier: Apache-2.0 */
/* Which certificate a name gets, what is refused, what a client certificate stands for, tickets. */
#include "conn/tls.c"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
/* cmocka wants these before it */
#include <cmocka.h>

#include "base/clock.h"

#define PEM_MAX 8192

struct made {
    char chain[PEM_MAX], key[PEM_MAX];
    X509 *certificate;
};

static void put(X509 *c, int what, const char *value)
{
    X509V3_CTX context;
    X509V3_set_ctx(&context, c, c, NULL, NULL, 0);
    X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, &context, what, value);
    assert_non_null(e);
    assert_int_equal(X509_add_ext(c, e, -1), 1);
    X509_EXTENSION_free(e);
}

/* Signed by itself; `names`: subjectAltName as OpenSSL's configuration has it, or NULL. */
static struct made *make(const char *cn, const char *names, bool rsa)
{
    struct made *m = calloc(1, sizeof *m);
    EVP_PKEY *key = rsa ? EVP_RSA_gen(2048) : EVP_EC_gen("P-256");
    X509 *c = m->certificate = X509_new();
    X509_set_version(c, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(c), 7);
    X509_gmtime_adj(X509_getm_notBefore(c), -1000);
    X509_gmtime_adj(X509_getm_notAfter(c), 1000);
    if (cn)
        X509_NAME_add_entry_by_NID(X509_get_subject_name(c), NID_commonName, MBSTRING_UTF8,
                                   (const unsigned char *)cn, -1, -1, 0);
    X509_set_issuer_name(c, X509_get_subject_name(c));
    X509_set_pubkey(c, key);
    if (names)
        put(c, NID_subject_alt_name, names);
    assert_true(X509_sign(c, key, EVP_sha256()) > 0);
    BIO *out = BIO_new(BIO_s_mem());
    PEM_write_bio_X509(out, c);
    assert_true(BIO_read(out, m->chain, PEM_MAX - 1) > 0);
    BIO_free(out);
    out = BIO_new(BIO_s_mem());
    PEM_write_bio_PrivateKey(out, key, NULL, NULL, 0, NULL, NULL);
    assert_true(BIO_read(out, m->key, PEM_MAX - 1) > 0);
    BIO_free(out);
    EVP_PKEY_free(key);
    return m;
}

static void made_free(struct made *m)
{
    X509_free(m->certificate);
    free(m);
}

static struct tls_pair pair_of(const struct made *m, const char *name)
{
    return (struct tls_pair){.chain_name = name,
                             .key_name = "key",
                             .chain = slice_str(m->chain),
                             .key = slice_str(m->key)};
}

static void test_names(void **state)
{
    struct made *m[] = {
        make("first.test", NULL, false),
        make("ignored.test", "DNS:a.test,DNS:*.wild.test,DNS:B.TEST", false),
        make(NULL, "DNS:x.wild.test,DNS:a.test", false),
        make(NULL, "DNS:a.test,DNS:x.wild.test", true), /* as the one before, but RSA */
        make(NULL, NULL, false),
    };
    struct tls_pair pairs[5];
    for (unsigned i = 0; i < 5; i++)
        pairs[i] = pair_of(m[i], "file");
    struct tls_opts opts = {.pairs = pairs, .pairs_count = 5, .ciphers = TLS_CIPHERS};
    struct tls_set *set;
    struct error err = {""};
    assert_int_equal(tls_set_new(&opts, &set, &err), 0);
    assert_int_equal(set->contexts_count, 4);
    static const struct {
        const char *name;
        unsigned context;
    } cases[] = {
        {"first.test", 0}, {"a.test", 1},        {"A.Test", 1},      {"a.test.", 1},
        {"b.test", 1},     {"ignored.test", 0},  {"y.wild.test", 1}, {"x.wild.test", 2},
        {"wild.test", 0},  {"z.y.wild.test", 0}, {".wild.test", 0},  {"", 0},
        {".", 0},          {"test", 0},          {"unknown", 0},     {"*.wild.test", 1},
    };
    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(tls_set_choose(set, slice_str(cases[i].name)), cases[i].context);
    char longest[400];
    memset(longest, 'a', sizeof longest);
    assert_int_equal(tls_set_choose(set, slice_of(longest, sizeof longest)), 0);
    const struct tls_certificate *all;
    assert_int_equal(tls_set_certificates(set, &all), 5);
    assert_string_equal(all[1].names, "*.wild.test,a.test,b.test");
    assert_true(all[0].not_after_s - all[0].not_before_s == 2000);
    /* A connection's reference keeps it. */
    tls_set_ref(set);
    tls_set_unref(set);
    SSL *ssl = tls_set_session(set);
    assert_non_null(ssl);
    SSL_free(ssl);
    tls_set_unref(set);
    for (unsigned i = 0; i < 5; i++)
        made_free(m[i]);
}

static void refuse(struct tls_pair *pairs, unsigned count, const char *ciphers, const char *words)
{
    struct tls_opts opts = {.pairs = pairs, .pairs_count = count, .ciphers = ciphers};
    struct tls_set *set = NULL;
    struct error err = {""};
    assert_int_equal(tls_set_new(&opts, &set, &err), -EINVAL);
    assert_non_null(strstr(err.text, words));
    assert_null(set);
}

static void test_bad_pairs(void **state)
{
    struct made *a = make("a.test", NULL, false), *b = make("b.test", NULL, false);
    struct tls_pair good = pair_of(a, "good.pem"), pairs[2] = {good, good};
    refuse(pairs, 2, TLS_CIPHERS, "good.pem: another certificate has the same names (a.test)");
    refuse(pairs, 1, "NOTHING", "tls.ciphers: \"NOTHING\"");
    pairs[0].key = slice_str(b->key);
    refuse(pairs, 1, TLS_CIPHERS, "good.pem with the key key: private key mismatch");
    pairs[0].key = slice_str(b->chain);
    refuse(pairs, 1, TLS_CIPHERS, "key: no private key that can be used");
    /* Every prefix of the file, but for one without its last line break, is damaged or empty. */
    pairs[0] = good;
    for (size_t n = 0; n + 1 < good.chain.len; n += 13) {
        pairs[0].chain.len = n;
        refuse(pairs, 1, TLS_CIPHERS, "good.pem: no good certificate");
    }
    pairs[0] = good;
    for (size_t n = 0; n + 1 < good.key.len; n += 13) {
        pairs[0].key.len = n;
        refuse(pairs, 1, TLS_CIPHERS, "key: no private key that can be used");
    }
    made_free(a);
    made_free(b);
}

static void check_identity(enum tls_identity by, const char *cn, const char *names, const char *id)
{
    struct made *m = make(cn, names, false);
    struct tls_set set = {.identity = by};
    char got[TLS_IDENTITY_MAX + 1];
    bool found = tls_set_identify(&set, m->certificate, got);
    assert_int_equal(found, id != NULL);
    if (id)
        assert_string_equal(got, id);
    made_free(m);
}

static void test_identities(void **state)
{
    check_identity(TLS_IDENTITY_CN, "dev-1", NULL, "dev-1");
    check_identity(TLS_IDENTITY_CN, "dev-1", "DNS:other", "dev-1");
    check_identity(TLS_IDENTITY_CN, NULL, "DNS:other", NULL);
    check_identity(TLS_IDENTITY_DNS, "dev-1", "DNS:dev-2", "dev-2");
    check_identity(TLS_IDENTITY_DNS, "dev-1", NULL, NULL);
    check_identity(TLS_IDENTITY_DNS, "dev-1", "DNS:a,DNS:b", NULL);
    check_identity(TLS_IDENTITY_DNS, "dev-1", "DNS:a,email:b@c,URI:urn:d", "a");
    check_identity(TLS_IDENTITY_EMAIL, "dev-1", "DNS:a,email:b@c,URI:urn:d", "b@c");
    check_identity(TLS_IDENTITY_URI, "dev-1", "DNS:a,email:b@c,URI:urn:dev:d", "d");
    check_identity(TLS_IDENTITY_URI, "dev-1", "URI:spiffe://fleet.test/dev/e", "e");
    check_identity(TLS_IDENTITY_URI, "dev-1", "URI:spiffe://fleet.test/", NULL);
    char longest[200] = "DNS:";
    memset(longest + 4, 'a', TLS_IDENTITY_MAX);
    check_identity(TLS_IDENTITY_DNS, "dev-1", longest, longest + 4);
    longest[4 + TLS_IDENTITY_MAX] = 'a';
    check_identity(TLS_IDENTITY_DNS, "dev-1", longest, NULL);
}

/* Seals as OpenSSL would; the name of the key. */
static void seal(SSL *ssl, unsigned char name[16])
{
    unsigned char iv[EVP_MAX_IV_LENGTH];
    EVP_CIPHER_CTX *cipher = EVP_CIPHER_CTX_new();
    EVP_MAC *hmac = EVP_MAC_fetch(NULL, "HMAC", NULL);
    EVP_MAC_CTX *mac = EVP_MAC_CTX_new(hmac);
    assert_int_equal(tls_tickets_on_key(ssl, name, iv, cipher, mac, 1), 1);
    EVP_MAC_CTX_free(mac);
    EVP_MAC_free(hmac);
    EVP_CIPHER_CTX_free(cipher);
}

static int open_with(SSL *ssl, const unsigned char from[16])
{
    unsigned char iv[EVP_MAX_IV_LENGTH] = {0}, name[16];
    EVP_CIPHER_CTX *cipher = EVP_CIPHER_CTX_new();
    EVP_MAC *hmac = EVP_MAC_fetch(NULL, "HMAC", NULL);
    EVP_MAC_CTX *mac = EVP_MAC_CTX_new(hmac);
    memcpy(name, from, sizeof name);
    int rc = tls_tickets_on_key(ssl, name, iv, cipher, mac, 0);
    EVP_MAC_CTX_free(mac);
    EVP_MAC_free(hmac);
    EVP_CIPHER_CTX_free(cipher);
    return rc;
}

static void test_tickets_outlive_their_key_s_time(void **state)
{
    struct clock_fake fake = {.mono_ns = NS_PER_S};
    clock_set_fake(&fake);
    struct made *m = make("a.test", NULL, false);
    struct tls_pair pair = pair_of(m, "file");
    struct tls_tickets *tickets = tls_tickets_new();
    struct tls_opts opts = {.pairs = &pair,
                            .pairs_count = 1,
                            .ciphers = TLS_CIPHERS,
                            .tickets = tickets,
                            .session_s = 100};
    struct tls_set *set;
    assert_int_equal(tls_set_new(&opts, &set, NULL), 0);
    SSL *ssl = tls_set_session(set);
    unsigned char first[16], same[16], second[16], third[16], fourth[16];
    seal(ssl, first);
    fake.mono_ns += 49 * NS_PER_S;
    seal(ssl, same);
    assert_memory_equal(first, same, 16);
    assert_int_equal(open_with(ssl, first), 1);
    fake.mono_ns += NS_PER_S; /* half of the session's time */
    seal(ssl, second);
    assert_memory_not_equal(first, second, 16);
    assert_int_equal(open_with(ssl, first), 2); /* good, and to be replaced */
    fake.mono_ns += 50 * NS_PER_S;
    seal(ssl, third);
    fake.mono_ns += 48 * NS_PER_S;
    assert_int_equal(open_with(ssl, same), 2); /* made 98 s ago */
    fake.mono_ns += 2 * NS_PER_S;
    seal(ssl, fourth);
    assert_int_equal(open_with(ssl, first), 0); /* gone */
    assert_int_equal(open_with(ssl, second), 2);
    assert_int_equal(open_with(ssl, fourth), 1);
    SSL_free(ssl);
    tls_set_unref(set);
    tls_tickets_free(tickets);
    made_free(m);
    clock_set_fake(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_bad_pairs),
        cmocka_unit_test(test_identities),
        cmocka_unit_test(test_tickets_outlive_their_key_s_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
