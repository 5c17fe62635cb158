/* SPDX-License-Identifier: Apache-2.0 */
#include "gate/negative.h"

#include <openssl/crypto.h>
#include <stdlib.h>

#include "base/thread.h"

#define WAYS  4u  /* tags of one set */
#define LOCKS 64u /* sets share them */

struct place {
    uint8_t tag[MAC_TAG_BYTES];
    uint64_t until_ns; /* 0: empty */
};

struct negative {
    struct spin locks[LOCKS];
    uint32_t sets; /* a power of two */
    struct place places[];
};

struct negative *negative_new(unsigned max)
{
    uint32_t sets = 1;
    while (sets * 2ull * WAYS <= max)
        sets *= 2;
    struct negative *n = calloc(1, sizeof *n + sets * WAYS * sizeof n->places[0]);
    if (n)
        n->sets = sets;
    return n;
}

void negative_free(struct negative *n)
{
    free(n);
}

/* Tags are uniform, so any bits of them choose the set. */
static uint32_t set_of(const struct negative *n, const uint8_t tag[MAC_TAG_BYTES])
{
    uint32_t bits;
    memcpy(&bits, tag, sizeof bits);
    return bits & (n->sets - 1);
}

void negative_put(struct negative *n, const uint8_t tag[MAC_TAG_BYTES], uint64_t until_ns,
                  uint64_t now_ns)
{
    uint32_t set = set_of(n, tag);
    if (until_ns <= now_ns)
        return;
    struct place *places = &n->places[set * WAYS], *to = places;
    spin_lock(&n->locks[set % LOCKS]);
    for (unsigned i = 0; i < WAYS; i++) {
        if (CRYPTO_memcmp(places[i].tag, tag, MAC_TAG_BYTES) == 0) {
            to = &places[i];
            break;
        }
        if (places[i].until_ns < to->until_ns)
            to = &places[i];
    }
    memcpy(to->tag, tag, MAC_TAG_BYTES);
    to->until_ns = until_ns;
    spin_unlock(&n->locks[set % LOCKS]);
}

bool negative_has(struct negative *n, const uint8_t tag[MAC_TAG_BYTES], uint64_t now_ns)
{
    uint32_t set = set_of(n, tag);
    const struct place *places = &n->places[set * WAYS];
    bool has = false;
    spin_lock(&n->locks[set % LOCKS]);
    for (unsigned i = 0; i < WAYS; i++)
        has |= CRYPTO_memcmp(places[i].tag, tag, MAC_TAG_BYTES) == 0 && places[i].until_ns > now_ns;
    spin_unlock(&n->locks[set % LOCKS]);
    return has;
}

uint64_t negative_count(struct negative *n, uint64_t now_ns)
{
    uint64_t count = 0;
    for (uint32_t set = 0; set < n->sets; set++) {
        spin_lock(&n->locks[set % LOCKS]);
        for (unsigned i = 0; i < WAYS; i++)
            count += n->places[set * WAYS + i].until_ns > now_ns;
        spin_unlock(&n->locks[set % LOCKS]);
    }
    return count;
}
