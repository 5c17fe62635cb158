/* SPDX-License-Identifier: Apache-2.0 */
#include "view/decimal.h"

#include "base/digits.h"

static const int64_t power[DECIMAL_SCALE_MAX + 1] = {
    1, 10, 100, 1000, 10000, 100000, 1000000, 10000000, 100000000, 1000000000};

bool decimal_parse(struct slice text, struct decimal *ret)
{
    const char *at = text.ptr, *end = at + text.len;
    if (text.len == 0 || text.len > DECIMAL_TEXT_MAX - 4)
        return false;
    bool negative = *at == '-';
    at += negative;
    const char *whole = at;
    int64_t mantissa = 0;
    while (at < end && (unsigned)(*at - '0') <= 9)
        mantissa = mantissa * 10 + (*at++ - '0');
    if (at == whole || at - whole > 18 || (*whole == '0' && at - whole > 1))
        return false;
    unsigned scale = 0;
    if (at < end) {
        if (*at++ != '.')
            return false;
        scale = (unsigned)(end - at);
        if (scale == 0 || scale > DECIMAL_SCALE_MAX || (at - whole) + scale > 19)
            return false;
        for (; at < end; at++) {
            if ((unsigned)(*at - '0') > 9)
                return false;
            mantissa = mantissa * 10 + (*at - '0');
        }
    }
    if (mantissa >= DECIMAL_MANTISSA_MAX || (negative && mantissa == 0))
        return false;
    *ret = (struct decimal){.mantissa = negative ? -mantissa : mantissa, .scale = scale};
    return true;
}

unsigned decimal_format(char *out, struct decimal d)
{
    uint64_t m = d.mantissa < 0 ? 0 - (uint64_t)d.mantissa : (uint64_t)d.mantissa;
    char *to = out;
    if (d.mantissa < 0)
        *to++ = '-';
    for (unsigned i = d.scale; i > 0 && m < (uint64_t)power[i]; i--)
        *to++ = '0'; /* so that there is a digit before the point */
    to = digits_put(to, m);
    if (d.scale) {
        char *point = to++ - d.scale;
        uint64_t w;
        if (d.scale <= sizeof w && point - out < (int)(DECIMAL_TEXT_MAX - sizeof w)) {
            memcpy(&w, point, sizeof w); /* and what is behind them, within the room */
            memcpy(point + 1, &w, sizeof w);
        } else {
            memmove(point + 1, point, d.scale);
        }
        *point = '.';
    }
    return (unsigned)(to - out);
}

bool decimal_widen(struct decimal d, unsigned scale, int64_t *ret_mantissa)
{
    int64_t by = power[scale - d.scale];
    int64_t most = (DECIMAL_MANTISSA_MAX - 1) / by;
    if (d.mantissa > most || d.mantissa < -most)
        return false;
    *ret_mantissa = d.mantissa * by;
    return true;
}
