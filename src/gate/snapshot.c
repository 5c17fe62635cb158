/* SPDX-License-Identifier: Apache-2.0 */
#include "gate/snapshot.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>

#include "base/digest.h"
#include "base/rand.h"
#include "gate/clerk.h"
#include "gate/verified.h"

enum {
    FORMAT = 1,
    NONCE_BYTES = 12,
    HEAD_BYTES = 8 + 4 + 4 + 16 + NONCE_BYTES,
    SEAL_BYTES = 16,
    ENTRY_BYTES = 8 + 8 + MAC_TAG_BYTES,
};

static const char magic[8] = {'S', 'L', 'V', 'E', 'R', 'I', 'F', 'Y'};

bool snapshot_key_make(struct slice content, struct snapshot_key *ret)
{
    if (content.len < SNAPSHOT_KEY_LEAST)
        return false;
    const struct slice fields[] = {SLICE("sluice-verified-snapshot-v1"), SLICE("\0"), content};
    sha256_of(fields, 3, ret->bytes);
    return true;
}

void snapshot_key_wipe(struct snapshot_key *key)
{
    OPENSSL_cleanse(key, sizeof *key);
}

/* ---- AES-256-GCM ---- */

static bool seal(const struct snapshot_key *key, struct slice head, struct slice plain, char *to)
{
    int n = 0;
    EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
    const uint8_t *nonce = (const uint8_t *)head.ptr + HEAD_BYTES - NONCE_BYTES;
    bool good =
        c && EVP_EncryptInit_ex(c, EVP_aes_256_gcm(), NULL, key->bytes, nonce) == 1 &&
        EVP_EncryptUpdate(c, NULL, &n, (const uint8_t *)head.ptr, (int)head.len) == 1 &&
        EVP_EncryptUpdate(c, (uint8_t *)to, &n, (const uint8_t *)plain.ptr, (int)plain.len) == 1 &&
        EVP_EncryptFinal_ex(c, (uint8_t *)to + n, &n) == 1 &&
        EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_GCM_GET_TAG, SEAL_BYTES, to + plain.len) == 1;
    EVP_CIPHER_CTX_free(c);
    return good;
}

static bool unseal(const struct snapshot_key *key, struct slice head, struct slice sealed, char *to)
{
    int n = 0, len = (int)(sealed.len - SEAL_BYTES);
    EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
    const uint8_t *nonce = (const uint8_t *)head.ptr + HEAD_BYTES - NONCE_BYTES;
    bool good = c && EVP_DecryptInit_ex(c, EVP_aes_256_gcm(), NULL, key->bytes, nonce) == 1 &&
                EVP_DecryptUpdate(c, NULL, &n, (const uint8_t *)head.ptr, (int)head.len) == 1 &&
                EVP_DecryptUpdate(c, (uint8_t *)to, &n, (const uint8_t *)sealed.ptr, len) == 1 &&
                EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_GCM_SET_TAG, SEAL_BYTES,
                                    (void *)(uintptr_t)(sealed.ptr + len)) == 1 &&
                EVP_DecryptFinal_ex(c, (uint8_t *)to + n, &n) == 1;
    EVP_CIPHER_CTX_free(c);
    return good;
}

/* ---- making one ---- */

void snapshot_begin(struct snapshot *n, const struct shield *s, size_t bytes_max)
{
    *n = (struct snapshot){0};
    buf_init(&n->plain, bytes_max);
    buf_put(&n->plain, s->key.bytes, sizeof s->key.bytes);
    buf_put_u64(&n->plain, 0); /* the entries, when they are known */
}

void snapshot_add(struct snapshot *n, const struct credential *c)
{
    uint8_t tag[MAC_TAG_BYTES];
    uint64_t version;
    if (c->verifier_kind != VERIFIER_CRYPT || !verified_copy(c->live, tag, &version))
        return;
    buf_put_u64(&n->plain, c->number);
    buf_put_u64(&n->plain, version);
    buf_put(&n->plain, tag, sizeof tag);
    n->entries++;
}

static void end(struct snapshot *n)
{
    if (n->plain.ptr)
        OPENSSL_cleanse(n->plain.ptr, n->plain.len);
    buf_fini(&n->plain);
}

bool snapshot_end(struct snapshot *n, const struct snapshot_key *key, const uint8_t log_id[16],
                  struct buf *out)
{
    uint8_t nonce[NONCE_BYTES];
    rand_secret(nonce, sizeof nonce);
    bool good = !n->plain.failed && n->plain.len <= INT32_MAX;
    if (good) {
        for (unsigned i = 0; i < 8; i++)
            n->plain.ptr[sizeof(struct snapshot_key) + i] = (char)(n->entries >> (8 * i));
    }
    size_t at = out->len;
    buf_put(out, magic, sizeof magic);
    buf_put_u32(out, FORMAT);
    buf_put_u32(out, 0);
    buf_put(out, log_id, 16);
    buf_put(out, nonce, sizeof nonce);
    char *to = good ? buf_reserve(out, n->plain.len + SEAL_BYTES) : NULL;
    good = to && seal(key, slice_of(out->ptr + at, HEAD_BYTES), buf_slice(&n->plain), to);
    if (good)
        out->len += n->plain.len + SEAL_BYTES;
    end(n);
    return good;
}

/* ---- taking one over ---- */

static uint64_t get_u64(const char *at)
{
    uint64_t v = 0;
    for (unsigned i = 0; i < 8; i++)
        v |= (uint64_t)(uint8_t)at[i] << (8 * i);
    return v;
}

static int refuse(struct error *err, const char *why)
{
    return error_set(err, -EBADMSG, "%s", why);
}

static int check_head(struct slice in, const uint8_t log_id[16], struct error *err)
{
    if (in.len < HEAD_BYTES + sizeof(struct snapshot_key) + 8 + SEAL_BYTES || in.len > INT32_MAX ||
        memcmp(in.ptr, magic, sizeof magic) != 0)
        return refuse(err, "it is no snapshot of verified secrets, or a part of one");
    if (in.ptr[8] != FORMAT || in.ptr[9] || in.ptr[10] || in.ptr[11])
        return refuse(err, "its format is not known to this version");
    if (memcmp(in.ptr + 16, log_id, 16) != 0)
        return refuse(err, "it belongs to another installation");
    return 0;
}

static uint64_t fill_slots(struct shield *s, struct slice entries)
{
    uint64_t filled = 0;
    for (; entries.len; entries = slice_from(entries, ENTRY_BYTES)) {
        struct credential *c = s->opts.find(s->opts.find_arg, get_u64(entries.ptr));
        if (c && c->verifier_kind == VERIFIER_CRYPT) {
            /* Due at once: its first use looks at the record as it is now. */
            verified_put(c->live, (const uint8_t *)entries.ptr + 16, get_u64(entries.ptr + 8), 0);
            filled++;
        }
        credential_unref(c);
    }
    return filled;
}

int snapshot_restore(struct shield *s, const struct snapshot_key *key, const uint8_t log_id[16],
                     struct slice sealed, uint64_t *ret_entries, struct error *err)
{
    int rc = check_head(sealed, log_id, err);
    if (rc)
        return rc;
    struct buf plain;
    struct slice body = slice_from(sealed, HEAD_BYTES);
    buf_init(&plain, body.len);
    char *to = buf_reserve(&plain, body.len);
    if (!to || !unseal(key, slice_of(sealed.ptr, HEAD_BYTES), body, to)) {
        buf_fini(&plain);
        return refuse(err, "it is damaged, or was sealed with another key");
    }
    plain.len = body.len - SEAL_BYTES;
    struct slice entries = slice_from(buf_slice(&plain), sizeof(struct snapshot_key) + 8);
    if (entries.len != get_u64(plain.ptr + sizeof(struct snapshot_key)) * ENTRY_BYTES) {
        rc = refuse(err, "its length does not fit its number of entries");
    } else {
        mac_key_set(&s->key, (const uint8_t *)plain.ptr);
        *ret_entries = fill_slots(s, entries);
    }
    OPENSSL_cleanse(plain.ptr, plain.len);
    buf_fini(&plain);
    return rc;
}
