/* SPDX-License-Identifier: Apache-2.0 */
/*
 * seal/aead.h - AES-256-GCM (NIST SP 800-38D) with a key that is set up once and used often. The
 * cipher is fetched from OpenSSL once for the process. A struct aead has one user at a time.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"

enum { AEAD_KEY_BYTES = 32, AEAD_NONCE_BYTES = 12, AEAD_TAG_BYTES = 16, AEAD_FIELDS_MAX = 3 };

struct aead {
    struct evp_cipher_ctx_st *ctx; /* NULL: no key yet */
};

/* Expands the key. What the struct held before is wiped. */
void aead_set_key(struct aead *a, const uint8_t key[AEAD_KEY_BYTES]);
/* Wipes and frees. Accepts one that is all zero. */
void aead_fini(struct aead *a);
/* Writes the ciphertext and behind it the tag to `to`: plain.len + AEAD_TAG_BYTES. The nonce must
 * never come twice with one key. `fields` are bound to it as they are, one after the other. */
void aead_seal(struct aead *a, const uint8_t nonce[AEAD_NONCE_BYTES], const struct slice *fields,
               unsigned count, struct slice plain, char *to);
/* The other way, sealed.len - AEAD_TAG_BYTES into `to`. False: another key, another nonce, or one
 * bit of fields or bytes is not as it was; `to` holds nothing of use then. */
bool aead_open(struct aead *a, const uint8_t nonce[AEAD_NONCE_BYTES], const struct slice *fields,
               unsigned count, struct slice sealed, char *to);
