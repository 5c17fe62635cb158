/* SPDX-License-Identifier: Apache-2.0 */
#include "gate/mac.h"

#include <string.h>

#include "base/digest.h"
#include "base/rand.h"

void mac_key_set(struct mac_key *key, const uint8_t bytes[32])
{
    memcpy(key->bytes, bytes, sizeof key->bytes);
}

void mac_key_new(struct mac_key *key)
{
    rand_secret(key->bytes, sizeof key->bytes);
}

void mac_key_wipe(struct mac_key *key)
{
    explicit_bzero(key, sizeof *key);
}

void mac_tag(const struct mac_key *key, uint8_t domain, const struct slice *fields, unsigned count,
             uint8_t ret[MAC_TAG_BYTES])
{
    uint8_t out[DIGEST_BYTES];
    hmac_begin(key->bytes, sizeof key->bytes);
    hmac_put(slice_of((const char *)&domain, 1));
    for (unsigned i = 0; i < count; i++) {
        uint64_t bytes = fields[i].len;
        hmac_put(slice_of((const char *)&bytes, sizeof bytes));
        hmac_put(fields[i]);
    }
    hmac_end(out);
    memcpy(ret, out, MAC_TAG_BYTES);
}
