/* SPDX-License-Identifier: Apache-2.0 */
#include "base/digits.h"

#define TEN(d) #d "0" #d "1" #d "2" #d "3" #d "4" #d "5" #d "6" #d "7" #d "8" #d "9"

const char digits_pairs[201] =
    TEN(0) TEN(1) TEN(2) TEN(3) TEN(4) TEN(5) TEN(6) TEN(7) TEN(8) TEN(9);

/* How many digits v has; 1233 / 4096 is log10(2), so that the first guess is one off at the most.
 */
static unsigned digits_of(uint64_t v)
{
    static const uint64_t least[DIGITS_MAX] = {0,    1e1,  1e2,  1e3,  1e4,  1e5,  1e6,
                                               1e7,  1e8,  1e9,  1e10, 1e11, 1e12, 1e13,
                                               1e14, 1e15, 1e16, 1e17, 1e18, 1e19};
    unsigned bits = 64 - (unsigned)__builtin_clzll(v | 1), less = bits * 1233 >> 12;
    return less + (v >= least[less]);
}

char *digits_put(char *to, uint64_t v)
{
    char *end = to + digits_of(v), *at = end;
    for (; v >= 10000; v /= 10000) {
        unsigned four = (unsigned)(v % 10000);
        digits_put_two(at -= 2, four % 100);
        digits_put_two(at -= 2, four / 100);
    }
    unsigned rest = (unsigned)v;
    if (rest >= 100) {
        digits_put_two(at -= 2, rest % 100);
        rest /= 100;
    }
    if (rest >= 10)
        digits_put_two(at - 2, rest);
    else
        at[-1] = (char)('0' + rest);
    return end;
}
