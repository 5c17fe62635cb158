/* SPDX-License-Identifier: Apache-2.0 */
/* HMAC-SHA-256 under the operator's key: HKDF-Expand (RFC 5869) of one block, with the kind of key,
 * the device's number and what is stored of its secret as the info. */
#include "gate/psk.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "base/check.h"
#include "base/digest.h"
#include "gate/mac.h"

bool psk_master_make(struct slice content, struct psk_master *ret)
{
    const struct slice fields[] = {SLICE("sluice psk master 1"), content};
    if (content.len < PSK_MASTER_LEAST)
        return false;
    sha256_of(fields, 2, ret->bytes);
    ret->given = true;
    return true;
}

/* `text` has a fixed length, so that no two infos look alike. */
static void derive(const struct psk_master *m, uint8_t kind, uint64_t number, struct slice text,
                   uint8_t ret[PSK_BYTES])
{
    uint8_t info[1 + 8 + 32 + 1] = {kind}, digest[32];
    unsigned len = 0;
    sha256_of(&text, 1, digest);
    for (unsigned i = 0; i < 8; i++)
        info[1 + i] = (uint8_t)(number >> (8 * i));
    memcpy(info + 9, digest, sizeof digest);
    info[sizeof info - 1] = 1;
    CHECK(HMAC(EVP_sha256(), m->bytes, sizeof m->bytes, info, sizeof info, ret, &len) &&
          len == PSK_BYTES);
}

void psk_of_device(const struct psk_master *m, const struct credential *device,
                   uint8_t ret[PSK_BYTES])
{
    bool fast = device->verifier_kind == VERIFIER_FAST;
    derive(m, fast ? 'f' : 'c', device->number,
           fast ? slice_of(device->fast, sizeof device->fast) : device->verifier, ret);
}

void psk_of_nobody(const struct psk_master *m, struct slice identity, uint8_t ret[PSK_BYTES])
{
    derive(m, 'n', 0, identity, ret);
}
