/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gate/snapshot.h - what the shield has verified, over a restart, so that a fleet that comes back
 * does not ask for ten thousand password hashes at once. Pure but for the shield's state; whoever
 * owns the shield keeps the bytes.
 *
 * Little endian:
 *   8 bytes "SLVERIFY", u32 format, u32 0, 16 bytes log id, 12 bytes nonce,
 *   sealed: 32 bytes the shield's key, u64 entries, per entry u64 credential, u64 version, 16 bytes
 * tag 16 bytes AES-256-GCM tag (NIST SP 800-38D); all that stands before the sealed part is
 * associated data
 *
 * A tag covers the stored hash it was verified against, so a file from before a change, or an old
 * one put back, revives nothing: the next check makes the tag of the current record and finds it
 * different. Every entry is looked at in that way at its first use.
 */
#pragma once

#include <stdint.h>

#include "base/buf.h"
#include "base/error.h"
#include "flow/principal.h"

struct shield;

#define SNAPSHOT_KEY_LEAST 32u /* bytes of a key file */

struct snapshot_key {
    uint8_t bytes[32];
};

/* From the content of a key file: any SNAPSHOT_KEY_LEAST bytes and more. False: too short. */
bool snapshot_key_make(struct slice content, struct snapshot_key *ret);
void snapshot_key_wipe(struct snapshot_key *key);

/* A snapshot being made: begin, any number of credentials, end. */
struct snapshot {
    struct buf plain;
    uint64_t entries;
};
void snapshot_begin(struct snapshot *n, const struct shield *s, size_t bytes_max);
/* Takes the credential's verified secret, if it has one. */
void snapshot_add(struct snapshot *n, const struct credential *c);
/* Seals it to `out` and wipes it. False: too large, or no memory, or OpenSSL failed. */
bool snapshot_end(struct snapshot *n, const struct snapshot_key *key, const uint8_t log_id[16],
                  struct buf *out);

/*
 * Fills the slots of the credentials that are there, and takes over the key they were made with:
 * before the first check. 0, or -EBADMSG with a sentence (another key, another installation,
 * damaged, a newer format): nothing was changed then.
 */
int snapshot_restore(struct shield *s, const struct snapshot_key *key, const uint8_t log_id[16],
                     struct slice sealed, uint64_t *ret_entries, struct error *err);
