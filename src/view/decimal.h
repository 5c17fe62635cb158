/* SPDX-License-Identifier: Apache-2.0 */
/*
 * view/decimal.h - values that are decimal numbers in a form that can be made again exactly from
 * two integers. Pure functions, any thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"

enum { DECIMAL_SCALE_MAX = 9, DECIMAL_TEXT_MAX = 24 };
#define DECIMAL_MANTISSA_MAX 1000000000000000000ll /* 10^18: a delta of two still fits */

/* mantissa / 10^scale. */
struct decimal {
    int64_t mantissa;
    unsigned scale;
};

/* "-?(0|[1-9][0-9]*)(\.[0-9]{1,9})?" below the maximum, and no negative zero: exactly the texts
 * that decimal_format makes. False: anything else ("1e5", "-0", "007", "+1", " 1"). */
bool decimal_parse(struct slice text, struct decimal *ret);
/* Writes the text where there is room for DECIMAL_TEXT_MAX bytes; returns its length. */
unsigned decimal_format(char *out, struct decimal d);
/* The same number with `scale` decimals; scale >= d.scale. False: too big. */
bool decimal_widen(struct decimal d, unsigned scale, int64_t *ret_mantissa);
