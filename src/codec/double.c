/* SPDX-License-Identifier: Apache-2.0 */
#include "codec/text.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/digits.h"

#define TEN_MILLIONTHS 1e7

/* Places and most readings have seven decimals at the most: no printf for them, which costs a
 * microsecond. A decimal of up to 15 digits that reads as v is what 15 digits of v say, as no two
 * of them read as the same double (DBL_DIG); below 0.0001 those would be written with an exponent.
 * NULL: v is no such number. */
static char *put_decimal(char *to, double v)
{
    if (!(fabs(v) >= 1e-4 && fabs(v) < 1e8))
        return NULL;
    int64_t m = llround(v * TEN_MILLIONTHS);
    if ((double)m / TEN_MILLIONTHS != v)
        return NULL;
    if (m < 0) {
        *to++ = '-';
        m = -m;
    }
    to = digits_put(to, (uint64_t)m / 10000000);
    unsigned rest = (unsigned)(m % 10000000), places = 7;
    if (!rest)
        return to;
    for (; rest % 10 == 0; rest /= 10)
        places--;
    *to = '.';
    for (unsigned i = places; i > 0; i--, rest /= 10)
        to[i] = (char)('0' + rest % 10);
    return to + places + 1;
}

char *double_put(char *to, double v)
{
    /* Whole numbers below 10^15 are what counters and epochs are. */
    if (fabs(v) < 1e15 && v == (double)(int64_t)v && !signbit(v))
        return digits_put(to, (uint64_t)v);
    char *end = put_decimal(to, v);
    if (end)
        return end;
    int len = 0;
    for (int digits = 15; digits <= 17; digits++) {
        len = snprintf(to, DOUBLE_TEXT_MAX, "%.*g", digits, v);
        if (strtod(to, NULL) == v)
            break;
    }
    return to + len;
}

void double_format(struct buf *out, double v)
{
    char text[DOUBLE_TEXT_MAX];
    buf_put(out, text, (size_t)(double_put(text, v) - text));
}
