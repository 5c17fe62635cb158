/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file, little endian. Head and entries have 128 bytes, so that none crosses a sector: a torn
 * write leaves each as it was or as it was to be.
 *   head   "SLKEYRNG", u32 format, u32 0, u64 epoch, 12 bytes nonce, 16 bytes tag over the 24 bytes
 *          in front: says whether the master key is the right one; zeroes; u32 CRC-32C
 *   entry  u32 number, u32 state, u64 account, i64 created (us), 12 bytes nonce, the key wrapped by
 *          the master key (AES-256-GCM, the 24 bytes in front are bound to it) with its tag;
 *          zeroes; u32 CRC-32C. A destroyed key is all zero from the nonce on.
 * Entry n stands at place n. It is written as a whole at each open and when keys were destroyed,
 * and grows at its end in between: an entry at the end that is cut short or torn was never used.
 */
#include <errno.h>
#include <fcntl.h>
#include <isa-l/crc.h>
#include <string.h>

#include "base/rand.h"
#include "seal/keyring_own.h"

enum {
    FORMAT = 1,
    BLOCK = 128,
    BOUND = 24, /* bytes in front that are bound */
    CRC_AT = BLOCK - 4,
    STATE_HERE = 1,
    STATE_DESTROYED = 2,
};

static const char magic[8] = {'S', 'L', 'K', 'E', 'Y', 'R', 'N', 'G'};

static void put_crc(char *block)
{
    uint32_t crc = ~crc32_iscsi((unsigned char *)block, CRC_AT, ~0u);
    memcpy(block + CRC_AT, &crc, sizeof crc);
}

static bool crc_right(const char *block)
{
    uint32_t crc;
    memcpy(&crc, block + CRC_AT, sizeof crc);
    return crc == (uint32_t)~crc32_iscsi((unsigned char *)(uintptr_t)block, CRC_AT, ~0u);
}

static void format_head(const struct keyring *k, struct aead *wrap, char block[BLOCK])
{
    uint32_t format = FORMAT;
    memset(block, 0, BLOCK);
    memcpy(block, magic, sizeof magic);
    memcpy(block + 8, &format, 4);
    memcpy(block + 16, &k->epoch, 8);
    rand_secret(block + BOUND, AEAD_NONCE_BYTES);
    aead_seal(wrap, (const uint8_t *)block + BOUND, &(struct slice){block, BOUND}, 1,
              (struct slice){0}, block + BOUND + AEAD_NONCE_BYTES);
    put_crc(block);
}

static void format_entry(struct aead *wrap, uint32_t id, const struct data_key *key,
                         char block[BLOCK])
{
    uint32_t state = key->destroyed ? STATE_DESTROYED : STATE_HERE;
    memset(block, 0, BLOCK);
    memcpy(block, &id, 4);
    memcpy(block + 4, &state, 4);
    memcpy(block + 8, &key->account, 8);
    memcpy(block + 16, &key->created_us, 8);
    if (!key->destroyed) {
        rand_secret(block + BOUND, AEAD_NONCE_BYTES);
        aead_seal(wrap, (const uint8_t *)block + BOUND, &(struct slice){block, BOUND}, 1,
                  slice_of((const char *)key->bytes, sizeof key->bytes),
                  block + BOUND + AEAD_NONCE_BYTES);
    }
    put_crc(block);
}

void keyring_format(struct keyring *k, struct aead *wrap, struct buf *out)
{
    char block[BLOCK];
    format_head(k, wrap, block);
    buf_put(out, block, BLOCK);
    for (uint32_t i = 0; i < k->count; i++) {
        format_entry(wrap, i + 1, &k->keys[i], block);
        buf_put(out, block, BLOCK);
    }
}

/* ---- reading --------------------------------------------------------------------------------- */

static int damaged(const struct keyring *k, struct error *err, const char *what)
{
    return error_set(err, -EBADMSG, "keyring %s is damaged: %s", k->path, what);
}

static int parse_head(struct keyring *k, const char *block, struct error *err)
{
    uint32_t format;
    memcpy(&format, block + 8, 4);
    if (memcmp(block, magic, sizeof magic) != 0)
        return damaged(k, err, "it does not begin like one");
    if (format > FORMAT)
        return error_set(err, -ENOTSUP, "keyring %s has format %u; this version reads %u", k->path,
                         format, (unsigned)FORMAT);
    if (format == 0 || !crc_right(block))
        return damaged(k, err, "its head has a wrong checksum");
    memcpy(&k->epoch, block + 16, 8);
    if (!aead_open(&k->wrap, (const uint8_t *)block + BOUND, &(struct slice){block, BOUND}, 1,
                   slice_of(block + BOUND + AEAD_NONCE_BYTES, AEAD_TAG_BYTES), NULL))
        return error_set(err, -EKEYREJECTED,
                         "keyring %s was wrapped by another master key than the one given",
                         k->path);
    return 0;
}

static int parse_entry(struct keyring *k, const char *block, struct error *err)
{
    struct data_key key = {0};
    uint32_t id, state;
    memcpy(&id, block, 4);
    memcpy(&state, block + 4, 4);
    memcpy(&key.account, block + 8, 8);
    memcpy(&key.created_us, block + 16, 8);
    key.destroyed = state == STATE_DESTROYED;
    if (id != k->count + 1 || (state != STATE_HERE && !key.destroyed))
        return damaged(k, err, "an entry is none");
    if (!key.destroyed &&
        !aead_open(&k->wrap, (const uint8_t *)block + BOUND, &(struct slice){block, BOUND}, 1,
                   slice_of(block + BOUND + AEAD_NONCE_BYTES, AEAD_KEY_BYTES + AEAD_TAG_BYTES),
                   (char *)key.bytes))
        return damaged(k, err, "a key does not open");
    uint32_t added = keyring_add(k, &key);
    explicit_bzero(key.bytes, sizeof key.bytes);
    return added ? 0 : error_set(err, -ENOMEM, "keyring %s: no memory", k->path);
}

/* keyring_overwrite was cut short in this entry: its first bytes differ from those that were there
 * in the state alone, so whatever was written of it either is not seen or says so. */
static bool says_destroyed(const struct keyring *k, const char *block)
{
    uint32_t id, state;
    memcpy(&id, block, 4);
    memcpy(&state, block + 4, 4);
    return id == k->count + 1 && state == STATE_DESTROYED;
}

int keyring_parse(struct keyring *k, struct slice in, struct error *err)
{
    if (in.len < BLOCK)
        return damaged(k, err, "it is too short");
    int rc = parse_head(k, in.ptr, err);
    for (size_t at = BLOCK; rc == 0 && at + BLOCK <= in.len; at += BLOCK) {
        if (crc_right(in.ptr + at) || says_destroyed(k, in.ptr + at))
            rc = parse_entry(k, in.ptr + at, err);
        else if (at + 2 * (size_t)BLOCK <= in.len)
            rc = damaged(k, err, "an entry has a wrong checksum");
    }
    return rc;
}

/* ---- writing --------------------------------------------------------------------------------- */

int keyring_save(struct keyring *k)
{
    struct buf out;
    buf_init(&out, SIZE_MAX / 2);
    keyring_format(k, &k->wrap, &out);
    int rc = out.failed ? -ENOMEM : disk_replace(k->disk, k->path, out.ptr, out.len);
    buf_fini(&out);
    return rc;
}

static int write_block(struct keyring *k, struct disk_file *f, uint32_t id,
                       const struct data_key *key)
{
    char block[BLOCK];
    format_entry(&k->wrap, id, key, block);
    struct iovec v = {.iov_base = block, .iov_len = sizeof block};
    return disk_write_full(k->disk, f, &v, 1, (uint64_t)id * BLOCK);
}

/* Opens the file, lets `each` write into it, syncs. */
static int change(struct keyring *k, int (*each)(struct keyring *k, struct disk_file *f, void *arg),
                  void *arg)
{
    struct disk_file *f;
    int rc = k->disk->open(k->disk, k->path, O_RDWR, &f);
    if (rc < 0)
        return rc;
    rc = each(k, f, arg);
    if (rc == 0)
        rc = k->disk->fdatasync(k->disk, f);
    int closed = k->disk->close(k->disk, f);
    return rc < 0 ? rc : closed;
}

struct addition {
    uint32_t id;
    const struct data_key *key;
};

static int put_addition(struct keyring *k, struct disk_file *f, void *arg)
{
    const struct addition *a = arg;
    return write_block(k, f, a->id, a->key);
}

int keyring_append(struct keyring *k, uint32_t id, const struct data_key *key)
{
    return change(k, put_addition, &(struct addition){id, key});
}

static int put_zeroes(struct keyring *k, struct disk_file *f, void *arg)
{
    const uint64_t *account = arg;
    int rc = 0;
    for (uint32_t i = 0; rc == 0 && i < k->count; i++) {
        struct data_key gone = {.account = *account, .destroyed = true};
        if (k->keys[i].account != *account)
            continue;
        gone.created_us = k->keys[i].created_us;
        rc = write_block(k, f, i + 1, &gone);
    }
    return rc;
}

int keyring_overwrite(struct keyring *k, uint64_t account)
{
    return change(k, put_zeroes, &account);
}
