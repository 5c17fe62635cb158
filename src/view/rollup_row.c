/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tuples of a row as bytes:
 *   u8      ROLLUP_FORMAT
 *   u8      bits 0-2 length of the slots (0: no tuples), 4-5 unit of times (1, 10^3, 10^6 us), 6
 * wide varint  last event time of the row - first and when there are tuples varint  how many u8
 * decimals of the numbers, unless wide each:   varint slots since the tuple before (the first:
 * since the row's first point) varint numbers * 2 + 1 if there are texts; then varint texts and
 * when there are numbers varint time of the first in the slot, varint time from first to last, in
 * units varint zigzag offset of the first - of the last of the tuple before, last - first narrow:
 * varints first (zigzag, minus last of the tuple before), last - first (zigzag), first - min, max -
 * first, sum - numbers * first (zigzag) wide:   doubles first, last, min, max; the sums: 16 bytes,
 * two of mantissa and exponent
 *
 * A tuple of a sensor takes about 20 bytes, a wide one about 90.
 */
#include <math.h>
#include <stdlib.h>

#include "base/check.h"
#include "view/bits.h"
#include "view/rollup.h"

enum {
    ROLLUP_FORMAT = 2, /* another one reads as damaged, so it is made anew */
    HEAD_MAX = 24,
    TUPLE_MAX = 10 * 7 + 16 * 3 + 20 * 2, /* wide is longer than narrow */
    MANTISSA_BITS = 62,
    EXPONENT_MAX = 17000, /* of a long double */
};

#define MANTISSA_MAX ((int64_t)1 << 53)

#define MINUTE_US 60000000ll

/* Every resolution of a chart is a multiple of one of them that is no more than 3 times finer, and
 * none is so much longer than the one before that a row without the finer one is long to read. Part
 * of the format: append, and keep to 7. */
static const int64_t slots_us[] = {MINUTE_US,       5 * MINUTE_US,   30 * MINUTE_US,
                                   120 * MINUTE_US, 480 * MINUTE_US, 1440 * MINUTE_US};
static const int64_t units_us[] = {1, 1000, 1000000};
static const int64_t power[ROLLUP_EXACT_SCALE + 1] = {
    1, 10, 100, 1000, 10000, 100000, 1000000, 10000000, 100000000, 1000000000};

enum { SLOTS = sizeof slots_us / sizeof *slots_us };

int64_t rollup_slot(int64_t at_us, int64_t slot_us)
{
    return at_us / slot_us - (at_us % slot_us < 0);
}

/* Since its slot began. Wraps, as a slot may begin below the least time. */
static uint64_t in_slot(int64_t at_us, int64_t slot, int64_t slot_us)
{
    return (uint64_t)at_us - (uint64_t)slot * (uint64_t)slot_us;
}

/* ---- making ---------------------------------------------------------------------------------- */

/* How many slots the points fall into; stops above `most`. */
static size_t count_slots(const struct history_point *p, size_t n, int64_t slot_us, size_t most)
{
    int64_t slot = rollup_slot(p[0].event_us, slot_us);
    size_t slots = 1;
    for (size_t i = 1; i < n && slots <= most; i++) {
        if (in_slot(p[i].event_us, slot, slot_us) < (uint64_t)slot_us)
            continue;
        slot = rollup_slot(p[i].event_us, slot_us);
        slots++;
    }
    return slots;
}

struct maker {
    unsigned length; /* of the slots: an index */
    size_t count;
    int64_t *slots;
    struct rollup *tuples;
    bool wide;
    unsigned scale, unit;
};

/* False: no length of slot is worth it. */
static bool choose_slots(struct maker *m, const struct history_point *p, size_t n)
{
    for (m->length = 0; m->length < SLOTS; m->length++) {
        m->count = count_slots(p, n, slots_us[m->length], n / ROLLUP_POINTS_MIN);
        if (m->count <= n / ROLLUP_POINTS_MIN)
            return true;
    }
    return false;
}

static void make_tuples(struct maker *m, const struct history_point *p, size_t n)
{
    int64_t slot_us = slots_us[m->length];
    struct rollup *tuple = m->tuples;
    int64_t *slot = m->slots;
    *slot = rollup_slot(p[0].event_us, slot_us);
    *tuple = (struct rollup){0};
    for (size_t i = 0; i < n; i++) {
        if (in_slot(p[i].event_us, *slot, slot_us) >= (uint64_t)slot_us) {
            *++slot = rollup_slot(p[i].event_us, slot_us);
            *++tuple = (struct rollup){0};
        }
        rollup_add(tuple, row_key_of(&p[i]), p[i].datum.value);
    }
}

/* v as m / 10^scale, to the last bit. */
static bool scaled(double v, unsigned scale, int64_t *ret)
{
    double wide = v * (double)power[scale];
    if (!(fabs(wide) <= (double)MANTISSA_MAX))
        return false;
    *ret = llround(wide);
    return (double)*ret / (double)power[scale] == v;
}

/* The sum less numbers * first, in units of the scale. */
static bool scaled_sum(const struct rollup *t, unsigned scale, int64_t first, int64_t *ret)
{
    rollup_int unit = power[ROLLUP_EXACT_SCALE - scale];
    rollup_int rest = t->exact / unit - (rollup_int)t->numbers * first;
    *ret = (int64_t)rest;
    return t->exact % unit == 0 && rest == (int64_t)rest;
}

static bool fits_scale(const struct rollup *t, unsigned scale)
{
    int64_t first, unused;
    return scaled(t->first, scale, &first) && scaled(t->last, scale, &unused) &&
           scaled(t->min, scale, &unused) && scaled(t->max, scale, &unused) &&
           scaled_sum(t, scale, first, &unused);
}

/* The least scale that has all numbers exactly, or wide. */
static void choose_form(struct maker *m)
{
    m->unit = 2;
    for (size_t i = 0; i < m->count; i++) {
        const struct rollup *t = &m->tuples[i];
        if (t->numbers == 0)
            continue;
        m->wide |= t->rest != 0 || t->rest_low != 0;
        while (!m->wide && !fits_scale(t, m->scale))
            if (m->scale++ == ROLLUP_EXACT_SCALE)
                m->wide = true;
        while (t->first_at.us % units_us[m->unit] || t->last_at.us % units_us[m->unit])
            m->unit--;
    }
}

static uint8_t *put_long(uint8_t *at, long double v, long double *ret_left)
{
    int exponent = 0;
    int64_t mantissa = (int64_t)ldexpl(frexpl(v, &exponent), MANTISSA_BITS);
    *ret_left = v - ldexpl((long double)mantissa, exponent - MANTISSA_BITS);
    at = varint_put(at, zigzag((uint64_t)mantissa));
    return varint_put(at, zigzag((uint64_t)(int64_t)exponent));
}

static uint8_t *put_wide(uint8_t *at, const struct rollup *t)
{
    const double values[] = {t->first, t->last, t->min, t->max};
    long double left;
    memcpy(at, values, sizeof values);
    memcpy(at + sizeof values, &t->exact, sizeof t->exact);
    at = put_long(at + sizeof values + sizeof t->exact, t->rest, &left);
    return put_long(at, t->rest_low + left, &left);
}

static uint8_t *put_narrow(uint8_t *at, const struct rollup *t, unsigned scale, int64_t *last)
{
    int64_t first = 0, end = 0, min = 0, max = 0, sum = 0;
    CHECK(scaled(t->first, scale, &first) && scaled(t->last, scale, &end) &&
          scaled(t->min, scale, &min) && scaled(t->max, scale, &max) &&
          scaled_sum(t, scale, first, &sum));
    at = varint_put(at, zigzag((uint64_t)(first - *last)));
    at = varint_put(at, zigzag((uint64_t)(end - first)));
    at = varint_put(at, (uint64_t)(first - min));
    at = varint_put(at, (uint64_t)(max - first));
    *last = end;
    return varint_put(at, zigzag((uint64_t)sum));
}

static uint8_t *put_tuples(uint8_t *at, const struct maker *m, struct row_key begin)
{
    int64_t slot_us = slots_us[m->length], slot = m->slots[0], last = 0;
    uint64_t unit = (uint64_t)units_us[m->unit], offset = begin.offset;
    for (size_t i = 0; i < m->count; i++) {
        const struct rollup *t = &m->tuples[i];
        uint64_t texts = t->count - t->numbers;
        at = varint_put(at, (uint64_t)m->slots[i] - (uint64_t)slot);
        slot = m->slots[i];
        at = varint_put(at, t->numbers * 2 + (texts > 0));
        if (texts)
            at = varint_put(at, texts);
        if (t->numbers == 0)
            continue;
        at = varint_put(at, in_slot(t->first_at.us, slot, slot_us) / unit);
        at = varint_put(at, ((uint64_t)t->last_at.us - (uint64_t)t->first_at.us) / unit);
        at = varint_put(at, zigzag(t->first_at.offset - offset));
        at = varint_put(at, zigzag(t->last_at.offset - t->first_at.offset));
        offset = t->last_at.offset;
        at = m->wide ? put_wide(at, t) : put_narrow(at, t, m->scale, &last);
    }
    return at;
}

void rollup_encode(struct buf *out, const struct history_point *p, size_t n, bool bare)
{
    struct maker m = {0};
    bool tuples = !bare && choose_slots(&m, p, n);
    size_t count = tuples ? m.count : 0;
    uint8_t *start = (uint8_t *)buf_reserve(out, HEAD_MAX + count * TUPLE_MAX);
    if (!start)
        return;
    if (tuples) {
        m.tuples = malloc(count * (sizeof *m.tuples + sizeof *m.slots));
        CHECK(m.tuples);
        m.slots = (int64_t *)(void *)(m.tuples + count);
        make_tuples(&m, p, n);
        choose_form(&m);
    }
    uint8_t *at = start;
    *at++ = ROLLUP_FORMAT;
    *at++ = (uint8_t)(tuples ? (m.length + 1) | m.unit << 4 | (unsigned)m.wide << 6 : 0);
    at = varint_put(at, (uint64_t)p[n - 1].event_us - (uint64_t)p[0].event_us);
    if (tuples) {
        at = varint_put(at, count);
        if (!m.wide)
            *at++ = (uint8_t)m.scale;
        at = put_tuples(at, &m, row_key_of(p));
    }
    free(m.tuples);
    out->len += (size_t)(at - start);
}

/* ---- reading --------------------------------------------------------------------------------- */

bool rollup_open(struct rollup_row *ret, struct slice row, struct row_key first)
{
    struct rollup_row *r = ret;
    *r = (struct rollup_row){.at = (const uint8_t *)row.ptr, .last_offset = first.offset};
    r->end = r->at + row.len;
    uint64_t span;
    if (row.len < 3 || r->at[0] != ROLLUP_FORMAT)
        return false;
    unsigned modes = r->at[1], length = modes & 7;
    r->unit = modes >> 4 & 3;
    r->wide = modes >> 6 & 1;
    if (length > SLOTS || r->unit > 2 || !(r->at = varint_get(r->at + 2, r->end, &span)))
        return false;
    r->last_us = (int64_t)((uint64_t)first.us + span);
    if (length == 0)
        return r->last_us >= first.us;
    r->slot_us = slots_us[length - 1];
    r->slot = rollup_slot(first.us, r->slot_us);
    if (!(r->at = varint_get(r->at, r->end, &r->left)) || r->last_us < first.us)
        return false;
    if (!r->wide) {
        if (r->at == r->end || *r->at > ROLLUP_EXACT_SCALE)
            return false;
        r->scale = *r->at++;
    }
    return true;
}

static bool take(struct rollup_row *r, uint64_t *ret)
{
    const uint8_t *at = varint_get(r->at, r->end, ret);
    if (at)
        r->at = at;
    return at != NULL;
}

static bool take_signed(struct rollup_row *r, int64_t *ret)
{
    uint64_t v;
    if (!take(r, &v))
        return false;
    *ret = (int64_t)unzigzag(v);
    return true;
}

static bool take_long(struct rollup_row *r, long double *ret)
{
    int64_t mantissa, exponent;
    if (!take_signed(r, &mantissa) || !take_signed(r, &exponent) || exponent > EXPONENT_MAX ||
        exponent < -EXPONENT_MAX)
        return false;
    *ret = ldexpl((long double)mantissa, (int)exponent - MANTISSA_BITS);
    return true;
}

static bool take_wide(struct rollup_row *r, struct rollup *t)
{
    double values[4];
    if ((size_t)(r->end - r->at) < sizeof values + sizeof t->exact)
        return false;
    memcpy(values, r->at, sizeof values);
    memcpy(&t->exact, r->at + sizeof values, sizeof t->exact);
    r->at += sizeof values + sizeof t->exact;
    t->first = values[0];
    t->last = values[1];
    t->min = values[2];
    t->max = values[3];
    return take_long(r, &t->rest) && take_long(r, &t->rest_low);
}

static bool take_narrow(struct rollup_row *r, struct rollup *t)
{
    int64_t first, end, sum;
    uint64_t below, above;
    if (!take_signed(r, &first) || !take_signed(r, &end) || !take(r, &below) || !take(r, &above) ||
        !take_signed(r, &sum))
        return false;
    uint64_t at = (uint64_t)r->last + (uint64_t)first; /* all of it wraps in a damaged row */
    double by = (double)power[r->scale];
    t->first = (double)(int64_t)at / by;
    r->last = (int64_t)(at + (uint64_t)end);
    t->last = (double)r->last / by;
    t->min = (double)(int64_t)(at - below) / by;
    t->max = (double)(int64_t)(at + above) / by;
    __extension__ unsigned __int128 whole =
        (unsigned __int128)t->numbers * (unsigned __int128)(rollup_int)(int64_t)at +
        (unsigned __int128)(rollup_int)sum;
    t->exact = (rollup_int)(whole * (uint64_t)power[ROLLUP_EXACT_SCALE - r->scale]);
    return true;
}

bool rollup_next(struct rollup_row *r, int64_t *ret_slot, struct rollup *ret)
{
    struct rollup *t = ret;
    *t = (struct rollup){0};
    uint64_t step, counts, texts = 0, first, span;
    int64_t first_step, last_step;
    r->left--;
    if (!take(r, &step) || !take(r, &counts) || (counts % 2 && !take(r, &texts)))
        return false;
    *ret_slot = r->slot = (int64_t)((uint64_t)r->slot + step);
    t->numbers = counts / 2;
    t->count = t->numbers + texts;
    if (t->numbers == 0)
        return true;
    if (!take(r, &first) || !take(r, &span) || !take_signed(r, &first_step) ||
        !take_signed(r, &last_step))
        return false;
    uint64_t unit = (uint64_t)units_us[r->unit];
    uint64_t at = (uint64_t)r->slot * (uint64_t)r->slot_us + first * unit;
    t->first_at.us = (int64_t)at;
    t->last_at.us = (int64_t)(at + span * unit);
    t->first_at.offset = r->last_offset + (uint64_t)first_step;
    t->last_at.offset = r->last_offset = t->first_at.offset + (uint64_t)last_step;
    return r->wide ? take_wide(r, t) : take_narrow(r, t);
}
