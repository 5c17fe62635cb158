/* SPDX-License-Identifier: Apache-2.0 */
#include "gate/decoy.h"

#include <stdatomic.h>

static uint64_t pack(struct verifier_cost c)
{
    return (uint64_t)c.class << 48 | (uint64_t)c.cost << 32 | (uint64_t)(uint8_t)c.params[0] << 16 |
           (uint64_t)(uint8_t)c.params[1] << 8 | (uint8_t)c.params[2];
}

void decoy_note(struct decoy *d, struct verifier_cost c)
{
    uint64_t mine = pack(c);
    for (unsigned i = 0; i < DECOY_KINDS_MAX; i++) {
        uint64_t there = 0;
        if (atomic_compare_exchange_strong(&d->kinds[i], &there, mine) || there == mine)
            return;
    }
}

struct verifier_cost decoy_kind(const struct decoy *d, unsigned at)
{
    uint64_t p = at < DECOY_KINDS_MAX ? atomic_load(&d->kinds[at]) : 0;
    return (struct verifier_cost){
        .class = (enum verifier_class)(p >> 48),
        .cost = (unsigned)(p >> 32 & 0xffff),
        .params = {(char)(p >> 16), (char)(p >> 8), (char)p, 0},
    };
}

unsigned decoy_kinds(const struct decoy *d)
{
    unsigned n = 0;
    while (n < DECOY_KINDS_MAX && atomic_load(&d->kinds[n]))
        n++;
    return n ? n : 1;
}

struct verifier_cost decoy_dearest(const struct decoy *d)
{
    struct verifier_cost dearest = {.class = VERIFIER_BAD}, c;
    for (unsigned i = 0; (c = decoy_kind(d, i)).class != VERIFIER_BAD; i++) {
        if (verifier_estimate_ns(c) > verifier_estimate_ns(dearest))
            dearest = c;
    }
    return dearest;
}
