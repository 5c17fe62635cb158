/* SPDX-License-Identifier: Apache-2.0 */
#include "base/hash.h"

#include <endian.h>

static uint64_t fold(uint64_t a, uint64_t b)
{
    unsigned __int128 product = (unsigned __int128)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

uint64_t hash_bytes(struct slice s, uint64_t seed)
{
    const uint64_t odd = 0x9e3779b97f4a7c15u; /* 2^64 / golden ratio */
    uint64_t h = fold(seed ^ 0xd6e8feb86659fd93u, odd ^ s.len), word;
    size_t at = 0;
    for (; s.len - at >= 8; at += 8) {
        memcpy(&word, s.ptr + at, 8);
        word = le64toh(word);
        h = fold(h ^ word, odd) + word;
    }
    word = 0;
    if (at < s.len)
        memcpy(&word, s.ptr + at, s.len - at);
    h = fold(h ^ le64toh(word), odd);
    return fold(h ^ seed, 0xa0761d6478bd642fu);
}
