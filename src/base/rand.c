/* SPDX-License-Identifier: Apache-2.0 */
#include "base/rand.h"

#include <sys/random.h>

#include "base/check.h"

void rand_secret(void *out, size_t len)
{
    char *at = out;
    while (len) {
        ssize_t n = getrandom(at, len, 0);
        CHECK(n > 0);
        at += n;
        len -= (size_t)n;
    }
}

uint64_t rand_next(struct rand *r)
{
    uint64_t z = (r->state += 0x9e3779b97f4a7c15ull);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

uint64_t rand_below(struct rand *r, uint64_t limit)
{
    CHECK(limit > 0);
    return (uint64_t)(((unsigned __int128)rand_next(r) * limit) >> 64);
}
