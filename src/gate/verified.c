/* SPDX-License-Identifier: Apache-2.0 */
#include "gate/verified.h"

#include <openssl/crypto.h>

_Static_assert(sizeof((struct credential_live){0}.tag) == MAC_TAG_BYTES, "the slot holds a tag");

static bool same(const struct credential_live *live, const uint8_t tag[MAC_TAG_BYTES])
{
    return live->set && CRYPTO_memcmp(live->tag, tag, MAC_TAG_BYTES) == 0;
}

enum verified verified_look(struct credential_live *live, const uint8_t tag[MAC_TAG_BYTES],
                            uint64_t now_ns, uint64_t retry_ns)
{
    enum verified result = VERIFIED_NO;
    spin_lock(&live->lock);
    if (same(live, tag)) {
        result = now_ns < live->check_at_ns ? VERIFIED_YES : VERIFIED_STALE;
        if (result == VERIFIED_STALE)
            live->check_at_ns = retry_ns;
    }
    spin_unlock(&live->lock);
    return result;
}

void verified_put(struct credential_live *live, const uint8_t tag[MAC_TAG_BYTES], uint64_t version,
                  uint64_t check_at_ns)
{
    spin_lock(&live->lock);
    memcpy(live->tag, tag, MAC_TAG_BYTES);
    live->version = version;
    live->check_at_ns = check_at_ns;
    live->set = 1;
    __atomic_store_n(&live->known, 1, __ATOMIC_RELAXED);
    spin_unlock(&live->lock);
}

bool verified_extend(struct credential_live *live, const uint8_t tag[MAC_TAG_BYTES],
                     uint64_t version, uint64_t check_at_ns)
{
    spin_lock(&live->lock);
    bool kept = same(live, tag);
    live->set = kept;
    if (kept) {
        live->version = version;
        live->check_at_ns = check_at_ns;
    }
    spin_unlock(&live->lock);
    return kept;
}

bool verified_copy(struct credential_live *live, uint8_t ret_tag[MAC_TAG_BYTES],
                   uint64_t *ret_version)
{
    spin_lock(&live->lock);
    bool set = live->set;
    memcpy(ret_tag, live->tag, MAC_TAG_BYTES);
    *ret_version = live->version;
    spin_unlock(&live->lock);
    return set;
}

void verified_drop(struct credential_live *live, const uint8_t tag[MAC_TAG_BYTES])
{
    spin_lock(&live->lock);
    if (same(live, tag))
        live->set = 0;
    spin_unlock(&live->lock);
}
