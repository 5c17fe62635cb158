/* SPDX-License-Identifier: Apache-2.0 */
#include "server_tls.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/metric.h"
#include "codec/address.h"
#include "flow/limits.h"
#include "journal/disk.h"

#define FILE_MAX (1u << 20)

_Static_assert(TLS_IDENTITY_MAX == DEVICE_ID_MAX, "a certificate names a device");
_Static_assert(TLS_PSK_BYTES == PSK_BYTES, "a key is a device's");

/* The files of all settings, while a set is made of them. */
struct files {
    struct buf bufs[2 * TLS_PAIRS_MAX + 2];
    char *names[2 * TLS_PAIRS_MAX + 2];
    unsigned count;
    struct tls_pair pairs[TLS_PAIRS_MAX];
    unsigned pairs_count;
};

static void files_free(struct files *f)
{
    for (unsigned i = 0; i < f->count; i++) {
        if (f->bufs[i].ptr)
            OPENSSL_cleanse(f->bufs[i].ptr, f->bufs[i].cap);
        buf_fini(&f->bufs[i]);
        free(f->names[i]);
    }
    free(f);
}

/* Reads one more file; which in *ret. */
static int read_file(struct files *f, const char *setting, struct slice path, unsigned *ret,
                     struct error *err)
{
    struct buf *b = &f->bufs[f->count];
    char *name = strndup(path.ptr, path.len);
    f->names[f->count] = name;
    buf_init(b, FILE_MAX);
    *ret = f->count++;
    /* With room from the start, so that no copy of a key is left behind by growing. */
    if (!name || !buf_reserve(b, 65536))
        return error_set(err, -ENOMEM, "%s: no memory", setting);
    int rc = disk_read_file(disk_posix(), name, b);
    return rc < 0 ? error_set(err, rc, "%s: %s: %s", setting, name, disk_strerror(rc)) : 0;
}

/* "CHAIN:KEY", or one file with both. The last colon parts them: a path may have others. */
static int read_pair(struct files *f, struct slice item, struct error *err)
{
    const char *colon = memrchr(item.ptr, ':', item.len);
    struct slice chain = slice_of(item.ptr, colon ? (size_t)(colon - item.ptr) : item.len);
    unsigned a, b;
    if (f->pairs_count == TLS_PAIRS_MAX)
        return error_set(err, -EINVAL, "tls.certificates: over %u", TLS_PAIRS_MAX);
    int rc = read_file(f, "tls.certificates", chain, &a, err);
    b = a;
    if (!rc && colon)
        rc = read_file(f, "tls.certificates", slice_from(item, chain.len + 1), &b, err);
    if (!rc)
        f->pairs[f->pairs_count++] = (struct tls_pair){.chain_name = f->names[a],
                                                       .key_name = f->names[b],
                                                       .chain = buf_slice(&f->bufs[a]),
                                                       .key = buf_slice(&f->bufs[b])};
    return rc;
}

static enum tls_identity identity_of(const char *name)
{
    return !strcmp(name, "dns")     ? TLS_IDENTITY_DNS
           : !strcmp(name, "email") ? TLS_IDENTITY_EMAIL
           : !strcmp(name, "uri")   ? TLS_IDENTITY_URI
                                    : TLS_IDENTITY_CN;
}

static int read_clients(const struct config *c, struct files *f, struct tls_opts *o,
                        struct error *err)
{
    unsigned at;
    int rc = 0;
    o->identity = identity_of(c->tls.client_identity);
    if (!c->tls.client_ca[0] && c->tls.client_crl[0])
        return error_set(err, -EINVAL, "tls.client_crl: means nothing without tls.client_ca");
    if (!c->tls.client_ca[0])
        return 0;
    o->clients =
        !strcmp(c->tls.client_certificate, "required") ? TLS_CLIENTS_MUST : TLS_CLIENTS_MAY;
    rc = read_file(f, "tls.client_ca", slice_str(c->tls.client_ca), &at, err);
    if (!rc) {
        o->client_ca_name = "tls.client_ca";
        o->client_ca = buf_slice(&f->bufs[at]);
    }
    if (!rc && c->tls.client_crl[0]) {
        rc = read_file(f, "tls.client_crl", slice_str(c->tls.client_crl), &at, err);
        o->client_crl_name = "tls.client_crl";
        o->client_crl = buf_slice(&f->bufs[at]);
    }
    return rc;
}

static bool is_known(const struct tls_set *set, const struct tls_certificate *c)
{
    const struct tls_certificate *all;
    unsigned count = set ? tls_set_certificates(set, &all) : 0;
    for (unsigned i = 0; i < count; i++) {
        if (memcmp(all[i].digest, c->digest, sizeof c->digest) == 0)
            return true;
    }
    return false;
}

/* What is wrong with its dates; NULL: nothing. */
static const char *out_of_date(const struct tls_certificate *c)
{
    int64_t now_s = clock_wall_us() / US_PER_S;
    return now_s >= c->not_after_s   ? "has expired"
           : now_s < c->not_before_s ? "is not yet valid"
                                     : NULL;
}

static int check_dates(const struct tls_set *set, const struct tls_set *before, struct error *err)
{
    const struct tls_certificate *all;
    unsigned count = tls_set_certificates(set, &all);
    for (unsigned i = 0; i < count; i++) {
        const char *wrong = out_of_date(&all[i]);
        if (wrong && !is_known(before, &all[i]))
            return error_set(err, -EINVAL, "tls.certificates: %s: the certificate %s",
                             all[i].chain_name, wrong);
    }
    return 0;
}

int server_tls_read_psk(const struct config *c, struct psk_master *ret, struct error *err)
{
    const char *path = c->tls.psk_key_file;
    struct buf content;
    *ret = (struct psk_master){0};
    if (!path[0])
        return 0;
    buf_init(&content, FILE_MAX);
    int rc = buf_reserve(&content, 65536) ? disk_read_file(disk_posix(), path, &content) : -ENOMEM;
    if (rc < 0)
        error_set(err, rc, "tls.psk_key_file: %s: %s", path, disk_strerror(rc));
    else if (!psk_master_make(buf_slice(&content), ret))
        rc = error_set(err, -EINVAL, "tls.psk_key_file: %s must hold %u random bytes or more", path,
                       PSK_MASTER_LEAST);
    if (content.ptr)
        OPENSSL_cleanse(content.ptr, content.cap);
    buf_fini(&content);
    return rc < 0 ? rc : 0;
}

/* Whatever is asked for, a key is derived. */
static void on_psk(void *arg, struct slice identity, uint8_t ret[TLS_PSK_BYTES])
{
    const struct server_tls *t = arg;
    struct credential *c = t->catalog ? catalog_device(*t->catalog, identity) : NULL;
    if (c)
        psk_of_device(&t->psk, c, ret);
    else
        psk_of_nobody(&t->psk, identity, ret);
    if (c)
        credential_unref(c);
}

static int make(struct server_tls *t, const struct config *c, struct files *f, struct tls_set **ret,
                struct error *err)
{
    struct slice rest = slice_str(c->tls.certificates), item;
    struct error why = {""};
    int rc = 0;
    while (!rc && config_list_next(&rest, &item))
        rc = read_pair(f, item, err);
    struct tls_opts opts = {.pairs = f->pairs,
                            .pairs_count = f->pairs_count,
                            .only_13 = !strcmp(c->tls.min_version, "1.3"),
                            .ciphers = c->tls.ciphers,
                            .psk = {t->psk.given ? on_psk : NULL, t},
                            .psk_ciphers = c->tls.psk_ciphers,
                            .tickets = c->tls.session_lifetime ? t->tickets : NULL,
                            .session_s = (uint32_t)((c->tls.session_lifetime + 999) / 1000)};
    if (!rc)
        rc = read_clients(c, f, &opts, err);
    if (rc)
        return rc;
    if (!f->pairs_count)
        return c->listen.https[0] || c->listen.mqtts[0]
                   ? error_set(err, -EINVAL,
                               "tls.certificates: listen.%s needs one; for tests `sluice cert "
                               "dev` makes it",
                               c->listen.https[0] ? "https" : "mqtts")
                   : 0;
    rc = tls_set_new(&opts, ret, &why);
    bool names_setting = !strncmp(why.text, "tls.", 4);
    return rc ? error_set(err, rc, "%s%s", names_setting ? "" : "tls.certificates: ",
                          why.text[0] ? why.text : disk_strerror(rc))
              : 0;
}

int server_tls_load(struct server_tls *t, const struct config *c, const struct tls_set *before,
                    struct tls_set **ret, struct error *err)
{
    struct files *f = calloc(1, sizeof *f);
    struct tls_set *set = NULL;
    if (!f)
        return error_set(err, -ENOMEM, "tls: no memory");
    int rc = make(t, c, f, &set, err);
    files_free(f);
    if (!rc && before && set)
        rc = check_dates(set, before, err);
    if (rc) {
        tls_set_unref(set);
        metric_add(METRIC_tls_certificates_refused, 1);
        return rc;
    }
    *ret = set;
    return 0;
}

void server_tls_note(const struct tls_set *set)
{
    const struct tls_certificate *all;
    unsigned count = set ? tls_set_certificates(set, &all) : 0;
    int64_t first = 0;
    for (unsigned i = 0; i < count; i++) {
        const char *wrong = out_of_date(&all[i]);
        char names[128];
        log_line(wrong ? LOG_WARN : LOG_INFO,
                 wrong ? "tls.certificate_out_of_date" : "tls.certificate",
                 "file=%s names=%s not_after=%lld%s%s%s", all[i].chain_name,
                 log_text(names, slice_str(all[i].names)), (long long)all[i].not_after_s,
                 wrong ? " error=\"it " : "", wrong ? wrong : "", wrong ? "\"" : "");
        if (!first || all[i].not_after_s < first)
            first = all[i].not_after_s;
    }
    metric_set(METRIC_tls_certificate_expires_at, first > 0 ? (uint64_t)first : 0);
}

int server_tls_check_plain(const struct config *c, const char *setting, const char *list,
                           struct error *err)
{
    struct slice rest = slice_str(list), item;
    struct address a;
    while (c->tls.required && config_list_next(&rest, &item)) {
        bool is_path = memchr(item.ptr, '/', item.len) != NULL;
        if (!is_path && address_parse(item, &a) && !address_is_loopback(&a))
            return error_set(err, -EINVAL,
                             "%s: at %.*s secrets would cross the network in clear: use "
                             "%ss, or listen at 127.0.0.1 behind a proxy on this machine, "
                             "or set tls.required to false",
                             setting, SLICE_ARG(item), setting);
    }
    return 0;
}

int server_tls_open(struct server_tls *t, const struct config *c, struct error *err)
{
    int rc = server_tls_check_plain(c, "listen.http", c->listen.http, err);
    if (!rc)
        rc = server_tls_check_plain(c, "listen.mqtt", c->listen.mqtt, err);
    if (!rc)
        rc = server_tls_read_psk(c, &t->psk, err);
    if (rc)
        return rc;
    t->tickets = tls_tickets_new();
    if (!t->tickets)
        return error_set(err, -ENOMEM, "tls: no memory");
    return server_tls_load(t, c, NULL, &t->set, err);
}

void server_tls_close(struct server_tls *t)
{
    tls_set_unref(t->set);
    tls_tickets_free(t->tickets);
    OPENSSL_cleanse(&t->psk, sizeof t->psk);
}
