/* SPDX-License-Identifier: Apache-2.0 */
/*
 * strtod wants a NUL and a locale, and its time grows with the text. So a number is first reduced
 * to "0.DIGITSeEXPONENT" of bounded length: the first DIGITS_KEPT significant digits, and a 1 after
 * them if any other was not zero. Doubles and the points half-way between them have at most 768
 * significant digits, so this rounds like the whole text.
 */
#include "codec/number.h"

#include <locale.h>
#include <math.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define DIGITS_KEPT  800
#define EXPONENT_MAX 100000 /* beyond it every double is 0 or infinite */

static locale_t c_locale;
static pthread_once_t c_locale_once = PTHREAD_ONCE_INIT;

static void make_c_locale(void)
{
    c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
}

static inline bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

struct reduced {
    bool negative;
    int digits;       /* in text, no leading zero; 0: the number is zero */
    int64_t exponent; /* value = 0.text * 10^exponent */
    char text[DIGITS_KEPT + 1];
};

static void reduce(struct slice t, struct reduced *ret)
{
    const char *p = t.ptr, *end = p + t.len;
    bool point = false, sticky = false;
    int64_t exponent = 0, written = 0;
    ret->digits = 0;
    ret->negative = p < end && *p == '-';
    for (p += ret->negative; p < end && (is_digit(*p) || *p == '.'); p++) {
        if (*p == '.') {
            point = true;
            continue;
        }
        bool counts = ret->digits > 0 || *p != '0';
        if (ret->digits < DIGITS_KEPT && counts)
            ret->text[ret->digits++] = *p;
        else if (counts && *p != '0')
            sticky = true;
        exponent += point ? -(int64_t)!counts : counts;
    }
    if (sticky)
        ret->text[ret->digits++] = '1';
    if (p < end) { /* at the 'e' */
        bool minus = p + 1 < end && p[1] == '-';
        for (p++; p < end; p++)
            if (is_digit(*p) && written < INT64_MAX / 100)
                written = written * 10 + (*p - '0');
        exponent += minus ? -written : written;
    }
    ret->exponent = exponent;
}

static double value_of(const struct reduced *r)
{
    double v;
    if (r->digits == 0 || r->exponent < -EXPONENT_MAX) {
        v = 0;
    } else if (r->exponent > EXPONENT_MAX) {
        v = HUGE_VAL;
    } else {
        char text[DIGITS_KEPT + 32];
        snprintf(text, sizeof text, "0.%.*se%d", r->digits, r->text, (int)r->exponent);
        pthread_once(&c_locale_once, make_c_locale);
        v = strtod_l(text, NULL, c_locale);
    }
    return r->negative ? -v : v;
}

bool number_form(struct slice t)
{
    const char *p = t.ptr, *end = p + t.len;
    p += p < end && *p == '-';
    if (p == end || !is_digit(*p) || (*p == '0' && p + 1 < end && is_digit(p[1])))
        return false;
    while (p < end && is_digit(*p))
        p++;
    if (p < end && *p == '.') {
        if (++p == end || !is_digit(*p))
            return false;
        while (p < end && is_digit(*p))
            p++;
    }
    if (p < end && (*p | 0x20) == 'e') {
        p++;
        p += p < end && (*p == '+' || *p == '-');
        if (p == end || !is_digit(*p))
            return false;
        while (p < end && is_digit(*p))
            p++;
    }
    return p == end;
}

bool number_finite(struct slice text)
{
    struct reduced r;
    reduce(text, &r);
    /* 1 <= DBL_MAX / 10^308 < 10: only exponent 309 needs a closer look. */
    if (r.digits == 0 || r.exponent < 309)
        return true;
    return r.exponent == 309 && isfinite(value_of(&r));
}

/* Up to 15 digits and a power of ten up to 10^22 are doubles exactly, so one rounding remains
 * (Clinger, How to read floating point numbers accurately, 1990). That is every reading of a
 * sensor. 16 bytes hold at most 15 digits and a point, or 16 digits, which the conversion alone
 * rounds. */
static bool value_simple(struct slice t, double *ret)
{
    static const double powers[] = {1e0, 1e1, 1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                    1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15};
    const char *p = t.ptr, *end = p + t.len;
    bool negative = p < end && *p == '-', point = false;
    uint64_t digits = 0;
    unsigned places = 0;
    if (t.len > 16)
        return false;
    for (p += negative; p < end; p++) {
        if (*p == '.') {
            point = true;
            continue;
        }
        if (!is_digit(*p))
            return false;
        digits = digits * 10 + (uint64_t)(*p - '0');
        places += point;
    }
    double v = (double)digits / powers[places];
    *ret = negative ? -v : v;
    return true;
}

double number_value(struct slice text)
{
    double v;
    if (value_simple(text, &v))
        return v;
    struct reduced r;
    reduce(text, &r);
    return value_of(&r);
}
