/* SPDX-License-Identifier: Apache-2.0 */
#include "load/histogram.h"

#include <string.h>

#define LINEAR_BITS 11 /* values below 2^11 are counted exactly */
#define HALF        (1u << (LINEAR_BITS - 1))

void histogram_clear(struct histogram *h)
{
    memset(h, 0, sizeof *h);
}

/* How far a value is shifted right to have LINEAR_BITS bits; 0 for small ones. */
static unsigned shift_of(uint64_t value)
{
    unsigned bits = 64u - (unsigned)__builtin_clzll(value | 1);
    return bits > LINEAR_BITS ? bits - LINEAR_BITS : 0;
}

static unsigned cell_of(uint64_t value)
{
    unsigned shift = shift_of(value);
    return shift * HALF + (unsigned)(value >> shift);
}

/* The largest value of a cell: the inverse of cell_of. */
static uint64_t cell_top(unsigned cell)
{
    if (cell < 2 * HALF)
        return cell;
    unsigned shift = cell / HALF - 1;
    uint64_t mantissa = cell - shift * HALF;
    return ((mantissa + 1) << shift) - 1;
}

void histogram_add(struct histogram *h, uint64_t value)
{
    if (value > HISTOGRAM_VALUE_MAX)
        value = HISTOGRAM_VALUE_MAX;
    if (h->total == 0 || value < h->min)
        h->min = value;
    if (value > h->max)
        h->max = value;
    h->total++;
    h->sum += value;
    h->cells[cell_of(value)]++;
}

uint64_t histogram_quantile(const struct histogram *h, double q)
{
    if (h->total == 0)
        return 0;
    double exact = q * (double)h->total;
    uint64_t wanted = (uint64_t)exact;
    if ((double)wanted < exact || wanted == 0)
        wanted++;
    if (wanted > h->total)
        wanted = h->total;
    uint64_t seen = 0;
    for (unsigned i = 0; i < HISTOGRAM_CELLS; i++) {
        seen += h->cells[i];
        if (seen >= wanted) {
            uint64_t top = cell_top(i);
            return top < h->max ? top : h->max;
        }
    }
    return h->max;
}

double histogram_mean(const struct histogram *h)
{
    return h->total ? (double)h->sum / (double)h->total : 0;
}
