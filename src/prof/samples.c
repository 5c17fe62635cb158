/* SPDX-License-Identifier: Apache-2.0 */
#include "prof/samples.h"

#include "base/check.h"

#define HEAD_WORDS 5 /* 0, 3 words behind this one, version 0, period, padding */

bool samples_begin(struct samples *s, struct slice profile)
{
    CHECK((uintptr_t)profile.ptr % sizeof(uint64_t) == 0);
    const uint64_t *words = (const uint64_t *)(const void *)profile.ptr;
    size_t count = profile.len / sizeof(uint64_t);
    if (count < HEAD_WORDS || words[0] != 0 || words[1] != 3 || words[2] != 0 || words[3] == 0)
        return false;
    *s = (struct samples){words + HEAD_WORDS, words + count, words[3]};
    return true;
}

bool samples_next(struct samples *s, struct sample *ret)
{
    size_t left = (size_t)(s->end - s->at);
    if (left < 3 || s->at[0] == 0 || s->at[1] == 0 ||
        s->at[1] > left - 2) /* 0, 1, 0: the trailer */
        return false;
    *ret = (struct sample){.count = s->at[0], .stack = s->at + 2, .depth = s->at[1]};
    s->at += 2 + ret->depth;
    return true;
}
