/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gate/mac.h - the shield's keyed tags, made by base/digest.h. Any thread.
 */
#pragma once

#include <stdint.h>

#include "base/slice.h"

#define MAC_TAG_BYTES 16

/* A random key that never leaves the process. */
struct mac_key {
    uint8_t bytes[32];
};

void mac_key_new(struct mac_key *key);
/* One that was kept. No thread may use `key` at this moment. */
void mac_key_set(struct mac_key *key, const uint8_t bytes[32]);
void mac_key_wipe(struct mac_key *key);

/* HMAC-SHA-256 over the domain byte and the fields, each with its length before it (so that no two
 * lists of fields look alike), cut to 16 bytes. */
void mac_tag(const struct mac_key *key, uint8_t domain, const struct slice *fields, unsigned count,
             uint8_t ret[MAC_TAG_BYTES]);
