/* SPDX-License-Identifier: Apache-2.0 */
#include "base/digits.h"

#define TEN(d) #d "0" #d "1" #d "2" #d "3" #d "4" #d "5" #d "6" #d "7" #d "8" #d "9"

const char digits_pairs[201] =
    TEN(0) TEN(1) TEN(2) TEN(3) TEN(4) TEN(5) TEN(6) TEN(7) TEN(8) TEN(9);

char *digits_put(char *to, uint64_t v)
{
    char digits[DIGITS_MAX];
    size_t at = sizeof digits;
    while (v >= 10) {
        at -= 2;
        digits_put_two(digits + at, (unsigned)(v % 100));
        v /= 100;
    }
    if (v || at == sizeof digits) /* else all of them were pairs */
        digits[--at] = (char)('0' + v);
    memcpy(to, digits + at, sizeof digits - at);
    return to + (sizeof digits - at);
}
