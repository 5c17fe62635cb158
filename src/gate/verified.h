/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gate/verified.h - the one remembered good secret of a credential, in its credential_live. Wrong
 * secrets never write here. Any thread; the slot's own spinlock, never held by an idle thread.
 */
#pragma once

#include "flow/principal.h"
#include "gate/mac.h"

enum verified {
    VERIFIED_NO, /* not this secret */
    VERIFIED_YES,
    VERIFIED_STALE, /* this secret, but the version must be looked at: the caller does, others are
                       served meanwhile */
};

/* `retry_ns`: when the next one looks, should this caller never come back. */
enum verified verified_look(struct credential_live *live, const uint8_t tag[MAC_TAG_BYTES],
                            uint64_t now_ns, uint64_t retry_ns);
/* Remembers a verified secret. */
void verified_put(struct credential_live *live, const uint8_t tag[MAC_TAG_BYTES], uint64_t version,
                  uint64_t check_at_ns);
/* The version was looked at: the tag of the secret under the current record. Keeps the slot if it
 * is still the same, else empties it. Returns whether it was kept. */
bool verified_extend(struct credential_live *live, const uint8_t tag[MAC_TAG_BYTES],
                     uint64_t version, uint64_t check_at_ns);
/* What is remembered, for keeping it elsewhere. False: nothing. */
bool verified_copy(struct credential_live *live, uint8_t ret_tag[MAC_TAG_BYTES],
                   uint64_t *ret_version);
/* Forgets the secret, if it is the one remembered. */
void verified_drop(struct credential_live *live, const uint8_t tag[MAC_TAG_BYTES]);
