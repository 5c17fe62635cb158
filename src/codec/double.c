/* SPDX-License-Identifier: Apache-2.0 */
#include "codec/text.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

void double_format(struct buf *out, double v)
{
    /* Whole numbers below 10^15 are what counters and epochs are: no printf for them. */
    if (fabs(v) < 1e15 && v == (double)(int64_t)v && !signbit(v)) {
        buf_put_dec(out, (uint64_t)v);
        return;
    }
    char text[32];
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, v);
        if (strtod(text, NULL) == v)
            break;
    }
    buf_put_str(out, text);
}
