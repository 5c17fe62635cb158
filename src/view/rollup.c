/* SPDX-License-Identifier: Apache-2.0 */
#include "view/rollup.h"

#include <math.h>

#include "codec/number.h"
#include "view/decimal.h"

#define EXACT_UNIT 1e9L

static const int64_t power[ROLLUP_EXACT_SCALE + 1] = {
    1, 10, 100, 1000, 10000, 100000, 1000000, 10000000, 100000000, 1000000000};

/* ---- numbers --------------------------------------------------------------------------------- */

static bool is_blank(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static size_t digits_at(const char *p, const char *end)
{
    size_t n = 0;
    while (p + n < end && p[n] >= '0' && p[n] <= '9')
        n++;
    return n;
}

/* [0-9]*(\.[0-9]*)?([eE][+-]?[0-9]+)? with a digit before the exponent. */
static bool is_magnitude(struct slice t)
{
    const char *p = t.ptr, *end = p + t.len;
    size_t digits = digits_at(p, end);
    p += digits;
    if (p < end && *p == '.') {
        size_t behind = digits_at(p + 1, end);
        digits += behind;
        p += 1 + behind;
    }
    if (digits && p < end && (*p | 0x20) == 'e') {
        p++;
        p += p < end && (*p == '+' || *p == '-');
        digits = digits_at(p, end);
        p += digits;
    }
    return digits && p == end;
}

/* A number that is no plain decimal. */
static bool odd_number(struct slice text, double *ret)
{
    while (text.len && is_blank(text.ptr[0]))
        text = slice_from(text, 1);
    while (text.len && is_blank(text.ptr[text.len - 1]))
        text.len--;
    bool negative = text.len && text.ptr[0] == '-';
    if (negative || (text.len && text.ptr[0] == '+'))
        text = slice_from(text, 1);
    if (!is_magnitude(text))
        return false;
    double v = number_value(text);
    if (!isfinite(v))
        return false;
    *ret = negative ? 0 - v : v; /* 0 - 0 is 0 */
    return true;
}

static double decimal_value(struct decimal d, struct slice text)
{
    const int64_t exact = (int64_t)1
                          << 53; /* up to here both are doubles, so one rounding is left */
    return d.mantissa <= exact && d.mantissa >= -exact ? (double)d.mantissa / (double)power[d.scale]
                                                       : number_value(text);
}

/* ---- sums ------------------------------------------------------------------------------------ */

static void add_rest(struct rollup *r, long double v)
{
    long double sum = r->rest + v;
    r->rest_low += fabsl(r->rest) >= fabsl(v) ? (r->rest - sum) + v : (v - sum) + r->rest;
    r->rest = sum;
}

static void add_exact(struct rollup *r, rollup_int v)
{
    rollup_int sum;
    if (__builtin_add_overflow(r->exact, v, &sum)) { /* more than 10^11 of the largest decimals */
        add_rest(r, (long double)r->exact / EXACT_UNIT);
        sum = v;
    }
    r->exact = sum;
}

long double rollup_sum(const struct rollup *r)
{
    return (long double)r->exact / EXACT_UNIT + (r->rest + r->rest_low);
}

double rollup_average(const struct rollup *r)
{
    return r->numbers ? (double)(rollup_sum(r) / (long double)r->numbers) : 0;
}

/* ---- tuples ---------------------------------------------------------------------------------- */

static void take_first(struct rollup *r, struct row_key at, double v)
{
    if (r->numbers == 0 || row_key_compare(at, r->first_at) < 0) {
        r->first = v;
        r->first_at = at;
    }
}

static void take_last(struct rollup *r, struct row_key at, double v)
{
    if (r->numbers == 0 || row_key_compare(at, r->last_at) > 0) {
        r->last = v;
        r->last_at = at;
    }
}

static void take_extremes(struct rollup *r, double min, double max)
{
    if (r->numbers == 0 || min < r->min)
        r->min = min;
    if (r->numbers == 0 || max > r->max)
        r->max = max;
}

void rollup_add(struct rollup *r, struct row_key at, struct slice value)
{
    struct decimal d;
    double v;
    r->count++;
    if (decimal_parse(value, &d)) {
        v = decimal_value(d, value);
        add_exact(r, (rollup_int)d.mantissa * power[ROLLUP_EXACT_SCALE - d.scale]);
    } else if (odd_number(value, &v)) {
        add_rest(r, v);
    } else {
        return;
    }
    take_first(r, at, v);
    take_last(r, at, v);
    take_extremes(r, v, v);
    r->numbers++;
}

void rollup_merge(struct rollup *to, const struct rollup *from)
{
    to->count += from->count;
    if (from->numbers == 0)
        return;
    take_first(to, from->first_at, from->first);
    take_last(to, from->last_at, from->last);
    take_extremes(to, from->min, from->max);
    to->numbers += from->numbers;
    add_exact(to, from->exact);
    add_rest(to, from->rest);
    add_rest(to, from->rest_low);
}
