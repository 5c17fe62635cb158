/* SPDX-License-Identifier: Apache-2.0 */
/*
 * seal/seal.h - sealing and opening with the accounts' data keys. A struct sealer belongs to one
 * thread; it keeps the keys it used last set up, and drops them when one was destroyed.
 *
 * Sealed bytes: nonce (12), ciphertext, tag (16). Nonce: boot epoch (48 bits), the sealer's number
 * (8), a counter (40; then another number is taken), all big endian: never twice with one key (NIST
 * SP 800-38D section 8.2.1).
 *
 * A record's payload is bound to all its numbers, its idempotency key and its topic: a payload that
 * was moved to another record does not open. Those stay readable, and so do sizes.
 */
#pragma once

#include "base/buf.h"
#include "flow/record.h"
#include "seal/keyring.h"

#define SEAL_BYTES (AEAD_NONCE_BYTES + AEAD_TAG_BYTES) /* that sealing adds */

struct sealer;

/* `keyring` outlives it. */
struct sealer *sealer_new(struct keyring *keyring);
/* Accepts NULL. */
void sealer_free(struct sealer *s);

enum seal_outcome {
    SEAL_DONE,
    SEAL_PLAIN,   /* there was nothing to do */
    SEAL_ERASED,  /* the key was destroyed, or the account has none */
    SEAL_UNKNOWN, /* no such key: the keyring is older than what it is to open */
    SEAL_BROKEN,  /* the bytes are not what was sealed */
    SEAL_MEMORY,
};

/* Seals the payload, if there is one and the record belongs to an account; `storage` (cleared)
 * holds it then, and the record names the key. */
enum seal_outcome seal_record(struct sealer *s, struct record *r, struct buf *storage);
/* The other way; a record that names no key is plain. */
enum seal_outcome unseal_record(struct sealer *s, struct record *r, struct buf *storage);

/* Appends the bytes sealed by a key, bound to `about`. */
enum seal_outcome seal_bytes(struct sealer *s, uint32_t key_id, struct slice about,
                             struct slice plain, struct buf *out);
/* Appends the bytes opened. */
enum seal_outcome unseal_bytes(struct sealer *s, uint32_t key_id, struct slice about,
                               struct slice sealed, struct buf *out);

/* A name that tells nothing of `bytes` once the account's key is gone: 16 bytes of HMAC-SHA-256
 * under the key. False: the account has no key. */
#define SEAL_NAME_BYTES 16
bool seal_name(struct sealer *s, uint64_t account, const struct slice *fields, unsigned count,
               uint8_t ret[SEAL_NAME_BYTES]);
