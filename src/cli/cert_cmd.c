/* SPDX-License-Identifier: Apache-2.0 */
/* sluice cert dev: a certificate of its own signature, for tests on one machine. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/rand.h"
#include "cli/cli.h"
#include "cli/opts.h"
#include "codec/address.h"
#include "journal/disk.h"

#define NAMES_BYTES_MAX 8192u
#define DAYS_MAX        825 /* what browsers still take of a certificate somebody trusts by hand */

static int out_of_words(struct error *err)
{
    const char *why = ERR_reason_error_string(ERR_peek_last_error());
    return error_set(err, -EINVAL, "the certificate cannot be made: %s", why ? why : "no memory");
}

/* A host name, with letters, digits, '-', '.' and perhaps "*." before it. */
static bool is_host(const char *name)
{
    size_t skip = strncmp(name, "*.", 2) == 0 ? 2 : 0, len = strlen(name);
    return len > skip && len <= 253 &&
           strspn(name + skip,
                  "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-.") == len - skip;
}

/* As X509V3_EXT_conf_nid wants it: "DNS:localhost,IP:127.0.0.1". */
static int put_name(struct buf *names, const char *name, struct error *err)
{
    struct address a;
    bool is_address = address_parse(slice_str(name), &a) && !a.port;
    if (!is_address && !is_host(name))
        return error_set(err, -EINVAL, "\"%.60s\" is neither a host name nor an address", name);
    buf_put_str(names, names->len ? "," : "");
    buf_put_str(names, is_address ? "IP:" : "DNS:");
    buf_put_str(names, name);
    return 0;
}

static int put_names(struct buf *names, const struct opt_list *more, struct error *err)
{
    char host[HOST_NAME_MAX + 1] = "";
    int rc = put_name(names, "localhost", err);
    rc = rc ? rc : put_name(names, "127.0.0.1", err);
    rc = rc ? rc : put_name(names, "::1", err);
    if (gethostname(host, sizeof host - 1) == 0 && is_host(host) && strcmp(host, "localhost") != 0)
        rc = rc ? rc : put_name(names, host, err);
    for (unsigned i = 0; i < more->count && !rc; i++)
        rc = put_name(names, more->values[i], err);
    buf_put_u8(names, 0);
    return rc ? rc : names->failed ? error_set(err, -E2BIG, "there are too many names") : 0;
}

static bool put_extension(X509 *c, int what, const char *value)
{
    X509V3_CTX context;
    X509V3_set_ctx(&context, c, c, NULL, NULL, 0);
    X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, &context, what, value);
    bool good = e && X509_add_ext(c, e, -1) == 1;
    X509_EXTENSION_free(e);
    return good;
}

static bool put_number(X509 *c)
{
    uint64_t number;
    rand_secret(&number, sizeof number);
    return ASN1_INTEGER_set_uint64(X509_get_serialNumber(c), number >> 1 | 1) == 1;
}

/* It can sign nothing but its own handshakes: who steals its key can be no other server. */
static bool fill(X509 *c, EVP_PKEY *key, const char *names, long days)
{
    X509_NAME *subject = X509_get_subject_name(c);
    static const unsigned char name[] = "Sluice development";
    time_t now = (time_t)(clock_wall_us() / US_PER_S);
    return X509_set_version(c, 2) == 1 && put_number(c) &&
           X509_time_adj_ex(X509_getm_notBefore(c), -1, 0, &now) &&
           X509_time_adj_ex(X509_getm_notAfter(c), (int)days, 0, &now) &&
           X509_NAME_add_entry_by_NID(subject, NID_commonName, MBSTRING_UTF8, name, -1, -1, 0) &&
           X509_set_issuer_name(c, subject) == 1 && X509_set_pubkey(c, key) == 1 &&
           put_extension(c, NID_basic_constraints, "critical,CA:FALSE") &&
           put_extension(c, NID_key_usage, "critical,digitalSignature") &&
           put_extension(c, NID_ext_key_usage, "serverAuth") &&
           put_extension(c, NID_subject_key_identifier, "hash") &&
           put_extension(c, NID_subject_alt_name, names) && X509_sign(c, key, EVP_sha256()) > 0;
}

/* A new file; like all of ours nobody else may read it. */
static int write_new(struct disk *d, const char *path, const char *ptr, size_t len)
{
    struct disk_file *f;
    const struct iovec v = {.iov_base = (char *)(uintptr_t)ptr, .iov_len = len};
    int rc = d->open(d, path, O_WRONLY | O_CREAT | O_EXCL, &f);
    if (rc)
        return rc;
    rc = disk_write_full(d, f, &v, 1, 0);
    if (!rc)
        rc = d->fdatasync(d, f);
    d->close(d, f);
    return rc;
}

static int write_file(const char *path, bool replace, BIO *content, struct error *err)
{
    char *ptr;
    size_t len = (size_t)BIO_get_mem_data(content, &ptr);
    int rc = replace ? disk_replace(disk_posix(), path, ptr, len)
                     : write_new(disk_posix(), path, ptr, len);
    return rc ? error_set(err, rc, "%s: %s%s", path, strerror(-rc),
                          rc == -EEXIST ? " (--force replaces it)" : "")
              : 0;
}

static int save(X509 *c, EVP_PKEY *key, const char *cert_path, const char *key_path, bool replace,
                struct error *err)
{
    BIO *public = BIO_new(BIO_s_mem()), *secret = BIO_new(BIO_s_secmem());
    int rc = 0;
    if (!public || !secret || PEM_write_bio_X509(public, c) != 1 ||
        PEM_write_bio_PrivateKey(secret, key, NULL, NULL, 0, NULL, NULL) != 1)
        rc = out_of_words(err);
    if (!rc)
        rc = write_file(key_path, replace, secret, err);
    if (!rc)
        rc = write_file(cert_path, replace, public, err);
    BIO_free(public);
    BIO_free(secret);
    return rc;
}

static int make(const char *dir, const struct opt_list *more, long days, bool replace,
                struct error *err)
{
    char cert_path[PATH_MAX], key_path[PATH_MAX];
    if (snprintf(cert_path, sizeof cert_path, "%s/dev-cert.pem", dir) >= (int)sizeof cert_path)
        return error_set(err, -ENAMETOOLONG, "%.100s...: the name is too long", dir);
    snprintf(key_path, sizeof key_path, "%s/dev-key.pem", dir);
    struct buf names;
    buf_init(&names, NAMES_BYTES_MAX);
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *c = X509_new();
    int rc = put_names(&names, more, err);
    if (!rc && (!key || !c || !fill(c, key, names.ptr, days)))
        rc = out_of_words(err);
    if (!rc)
        rc = save(c, key, cert_path, key_path, replace, err);
    if (!rc)
        printf("certificate  %s (for %s, %ld days)\n"
               "key          %s (for nobody else's eyes)\n\n"
               "  sluice serve --set listen.https=127.0.0.1:8443 --set tls.certificates=%s:%s\n"
               "  curl --cacert %s https://localhost:8443/\n",
               cert_path, names.ptr, days, key_path, cert_path, key_path, cert_path);
    X509_free(c);
    EVP_PKEY_free(key);
    buf_fini(&names);
    return rc;
}

static int cmd_dev(int argc, char **argv)
{
    const char *dir = ".", *days_text = NULL;
    struct opt_list more = {0};
    bool replace = false;
    const struct opt opts[] = {
        {"dir", "DIR", "Where to put dev-cert.pem and dev-key.pem; default: here", &dir, NULL,
         NULL},
        {"name", "NAME", "One more host name or address it is for; may be there several times",
         NULL, NULL, &more},
        {"days", "NUMBER", "How long it is good for, at most 825; default: 365", &days_text, NULL,
         NULL},
        {"force", NULL, "Replace files that are there", NULL, &replace, NULL},
        {0}};
    const struct opt_syntax syntax = {
        .path = "sluice cert dev",
        .text = "Make a certificate for tests, signed by itself: ECDSA with P-256, for localhost, "
                "127.0.0.1, ::1 and this machine's name",
        .opts = opts,
        .examples = "  sluice cert dev\n"
                    "  sluice cert dev --dir /etc/sluice --name gateway.lan --name 192.168.1.7\n",
    };
    int status;
    struct error err = {""};
    if (!opts_parse(&syntax, argc, argv, &status))
        return status;
    char *end = NULL;
    long days = days_text ? strtol(days_text, &end, 10) : 365;
    if (days < 1 || days > DAYS_MAX || (end && (*end || end == days_text))) {
        fprintf(stderr, "sluice cert dev: --days must be a number from 1 to %d\n", DAYS_MAX);
        return CLI_USAGE;
    }
    if (make(dir, &more, days, replace, &err)) {
        fprintf(stderr, "sluice cert dev: %s\n", err.text);
        return CLI_FAILED;
    }
    return CLI_OK;
}

int cmd_cert(int argc, char **argv)
{
    static const struct command commands[] = {
        {"dev", "Make one for tests", cmd_dev},
        {0},
    };
    static const struct command_group group = {
        .path = "sluice cert",
        .text = "Make certificates.",
        .commands = commands,
        .examples = "  sluice cert dev\n",
    };
    return cli_dispatch(&group, argc, argv);
}
