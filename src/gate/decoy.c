/* SPDX-License-Identifier: Apache-2.0 */
#include "gate/decoy.h"

#include <stdatomic.h>

/* Ordered as numbers: class, cost, then parameters. */
static uint64_t pack(struct verifier_cost c)
{
    uint64_t rank = c.class == VERIFIER_BCRYPT ? 2 : c.class == VERIFIER_YESCRYPT ? 1 : 0;
    return rank << 48 | (uint64_t)c.cost << 32 | (uint64_t)(uint8_t)c.params[0] << 16 |
           (uint64_t)(uint8_t)c.params[1] << 8 | (uint8_t)c.params[2];
}

void decoy_note(struct decoy *d, struct verifier_cost c)
{
    uint64_t mine = pack(c);
    uint64_t was = atomic_load(&d->dearest);
    while (was < mine && !atomic_compare_exchange_weak(&d->dearest, &was, mine))
        ;
}

struct verifier_cost decoy_cost(const struct decoy *d)
{
    uint64_t p = atomic_load(&d->dearest);
    return (struct verifier_cost){
        .class = p >> 48 == 2   ? VERIFIER_BCRYPT
                 : p >> 48 == 1 ? VERIFIER_YESCRYPT
                                : VERIFIER_BAD,
        .cost = (unsigned)(p >> 32 & 0xffff),
        .params = {(char)(p >> 16), (char)(p >> 8), (char)p, 0},
    };
}
