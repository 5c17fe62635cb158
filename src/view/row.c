/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A row:
 *   u8      ROW_FORMAT
 *   u8      modes: bits 0-1 time unit (1, 1,000, 1,000,000 us), 2-3 value mode, 4-5 place modes,
 *           6-7 offset mode
 *   varint  number of points n
 *   varint  last event time - first
 *   varint  last offset - first, unless OFFSET_STEP
 *   varint  zigzag of the first scaled number, unless VALUE_RAW
 *   u8 k per column, then Rice codes of all columns in one stream of bits:
 *     times     n-1  zigzag of the change of the step, in units; the first counts from their mean
 *     offsets   n-1  zigzag of the step less what is expected: 0, the step before (the first counts
 *                    from their mean), or as many as came on average in the time of the step
 *     values    n    VALUE_RAW: lengths. Else (after a byte with the scale): n-1 zigzags of the
 *                    step of the scaled number, and for VALUE_MIXED n more: decimals dropped
 *     places    n    PLACE_SOME: 0 none, 1 lat and lon, 2 with ele; then lat, lon, ele of those
 *                    that have them: zigzag of the step of value * 10^7, or not here (PLACE_WIDE)
 *   bytes:  raw values one after the other; doubles for PLACE_WIDE, little endian
 *
 * All steps wrap around at 2^64, so every time and offset survives. Values are decimals only if
 * each text comes back exactly; one that does not makes the whole row raw, and what the database
 * compresses is then the text.
 *
 * Sizes for a feed at regular intervals: 1 bit for the time (11 with 1 ms of jitter), 2-5 bits for
 * a slow number, and for the offset the same as for the time if as many records of others come in
 * between each time, else about log2 of how much their number varies + 2.5 bits.
 *
 * In rows of format 1 there is neither of the last two varints, the first step of the times and the
 * first number count from 0, and offsets are OFFSET_STEP. A row of 16 points took 10 bytes more for
 * each of these two, as they are outliers.
 */
#include "view/row.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "base/check.h"
#include "view/bits.h"
#include "view/decimal.h"

enum { ROW_FORMAT_OLD = 1, ROW_FORMAT = 2 };

enum value_mode {
    VALUE_RAW,
    VALUE_FIXED, /* all with the row's scale: 21.50, 21.00 */
    VALUE_SHORT, /* all without trailing zeros: 21.5, 21 */
    VALUE_MIXED,
};

enum {
    PLACE_SOME = 1, /* some point has a place */
    PLACE_WIDE = 2, /* a coordinate that is no multiple of 10^-7 */
};

enum offset_mode {
    OFFSET_STEP,   /* nothing is expected of the step */
    OFFSET_CHANGE, /* that it is the one before */
    OFFSET_TIME,   /* that the journal grows evenly with the event times */
    OFFSET_MODES,
};

#define PLACE_SCALE 1e7

static const int64_t unit_us[] = {1, 1000, 1000000};

/* ---- encoding -------------------------------------------------------------------------------- */

static unsigned width_of(uint64_t v)
{
    return v ? 64 - (unsigned)__builtin_clzll(v) : 0;
}

/* The parameter whose codes are about the shortest: the width of the median, less one. A mean
 * would let one outlier (a night without data) lengthen every code. */
static unsigned column_parameter(const uint64_t *v, size_t n)
{
    uint32_t widths[65] = {0};
    for (size_t i = 0; i < n; i++)
        widths[width_of(v[i])]++;
    size_t seen = 0;
    unsigned width = 0;
    while (width < 64 && (seen += widths[width]) * 2 < n)
        width++;
    unsigned k = width ? width - 1 : 0;
    return k < RICE_K_MAX ? k : RICE_K_MAX;
}

/* How many of a row's offsets are expected in `us` of its time. By doubles, as both are wide: what
 * they round to is the same everywhere. */
struct growth {
    uint64_t span_us;
    double per_us;
};

static struct growth growth_of(uint64_t span_us, uint64_t offsets)
{
    return (struct growth){span_us, span_us ? (double)offsets / (double)span_us : 0};
}

static uint64_t growth_expects(struct growth g, uint64_t us)
{
    double most = 1ull << 53, offsets = us > g.span_us ? 0 : (double)us * g.per_us;
    return offsets < most ? (uint64_t)offsets : 0; /* else the row is damaged */
}

/* The mean of the n-1 steps that make `all`. */
static uint64_t mean_step(uint64_t all, size_t n)
{
    return n > 1 ? all / (n - 1) : 0;
}

struct encoder {
    const struct history_point *p;
    size_t n;
    uint64_t *column;       /* n */
    struct decimal *number; /* n */
    uint8_t *k;             /* where the next parameter goes */
    struct bits_out bits;
};

static void put_column(struct encoder *e, size_t n)
{
    unsigned k = column_parameter(e->column, n);
    *e->k++ = (uint8_t)k;
    for (size_t i = 0; i < n; i++)
        rice_put(&e->bits, e->column[i], k);
}

static unsigned time_unit(const struct history_point *p, size_t n)
{
    unsigned unit = 2;
    uint64_t first = (uint64_t)p[0].event_us;
    for (size_t i = 1; i < n && unit > 0; i++)
        while (unit > 0 && ((uint64_t)p[i].event_us - first) % (uint64_t)unit_us[unit] != 0)
            unit--;
    return unit;
}

static uint64_t span_us(const struct encoder *e)
{
    return (uint64_t)e->p[e->n - 1].event_us - (uint64_t)e->p[0].event_us;
}

static uint64_t span_offsets(const struct encoder *e)
{
    return e->p[e->n - 1].offset - e->p[0].offset;
}

static void fill_times(struct encoder *e, unsigned unit)
{
    uint64_t by = (uint64_t)unit_us[unit], before = mean_step(span_us(e) / by, e->n);
    for (size_t i = 1; i < e->n; i++) {
        uint64_t step = ((uint64_t)e->p[i].event_us - (uint64_t)e->p[i - 1].event_us) / by;
        e->column[i - 1] = zigzag(step - before);
        before = step;
    }
}

static void fill_offsets(struct encoder *e, enum offset_mode mode)
{
    uint64_t all = span_offsets(e), expected = mode == OFFSET_CHANGE ? mean_step(all, e->n) : 0;
    struct growth growth = growth_of(span_us(e), all);
    for (size_t i = 1; i < e->n; i++) {
        const struct history_point *p = &e->p[i];
        uint64_t step = p->offset - p[-1].offset;
        if (mode == OFFSET_TIME)
            expected = growth_expects(growth, (uint64_t)p->event_us - (uint64_t)p[-1].event_us);
        e->column[i - 1] = zigzag(step - expected);
        if (mode == OFFSET_CHANGE)
            expected = step;
    }
}

/* The one that leaves the fewest bits of the steps. Offsets of late points may go back: then
 * nothing is expected of them. */
static enum offset_mode offset_mode(const struct encoder *e)
{
    uint64_t all = span_offsets(e), before = mean_step(all, e->n);
    struct growth growth = growth_of(span_us(e), all);
    if (e->n < 3 || all >> 53 || !growth.span_us)
        return OFFSET_STEP;
    size_t step_bits = 0, change_bits = 8 * varint_bytes(all), time_bits = change_bits;
    for (size_t i = 1; i < e->n; i++) {
        const struct history_point *p = &e->p[i];
        uint64_t step = p->offset - p[-1].offset;
        uint64_t us = (uint64_t)p->event_us - (uint64_t)p[-1].event_us;
        step_bits += width_of(zigzag(step));
        change_bits += width_of(zigzag(step - before));
        time_bits += width_of(zigzag(step - growth_expects(growth, us)));
        before = step;
    }
    if (step_bits <= change_bits && step_bits <= time_bits)
        return OFFSET_STEP;
    return change_bits <= time_bits ? OFFSET_CHANGE : OFFSET_TIME;
}

/* Whether all values are decimals of one scale, and how they are written. */
static enum value_mode value_mode(struct encoder *e, unsigned *ret_scale)
{
    unsigned scale = 0;
    bool fixed = true, shortest = true;
    for (size_t i = 0; i < e->n; i++) {
        struct decimal *d = &e->number[i];
        if (!decimal_parse(e->p[i].datum.value, d))
            return VALUE_RAW;
        fixed &= d->scale == e->number[0].scale;
        shortest &= d->scale == 0 || d->mantissa % 10 != 0;
        if (d->scale > scale)
            scale = d->scale;
    }
    int64_t unused;
    for (size_t i = 0; i < e->n && !fixed; i++)
        if (!decimal_widen(e->number[i], scale, &unused))
            return VALUE_RAW;
    *ret_scale = scale;
    return fixed ? VALUE_FIXED : shortest ? VALUE_SHORT : VALUE_MIXED;
}

static uint64_t widened(const struct encoder *e, size_t i, unsigned scale)
{
    int64_t wide = 0;
    CHECK(decimal_widen(e->number[i], scale, &wide));
    return (uint64_t)wide;
}

static void put_values(struct encoder *e, enum value_mode mode, unsigned scale)
{
    if (mode == VALUE_RAW) {
        for (size_t i = 0; i < e->n; i++)
            e->column[i] = e->p[i].datum.value.len;
        put_column(e, e->n);
        return;
    }
    *e->k++ = (uint8_t)scale;
    uint64_t before = widened(e, 0, scale);
    for (size_t i = 1; i < e->n; i++) {
        uint64_t wide = widened(e, i, scale);
        e->column[i - 1] = zigzag(wide - before);
        before = wide;
    }
    put_column(e, e->n - 1);
    if (mode == VALUE_MIXED) {
        for (size_t i = 0; i < e->n; i++)
            e->column[i] = scale - e->number[i].scale;
        put_column(e, e->n);
    }
}

/* Whether v is m / 10^7 for an integer m, to the last bit. */
static bool place_scaled(double v, int64_t *ret)
{
    if (!(fabs(v) < 1e9))
        return false;
    int64_t m = llround(v * PLACE_SCALE);
    double back = (double)m / PLACE_SCALE;
    *ret = m;
    return memcmp(&back, &v, sizeof v) == 0; /* not for -0.0, which has to come back as it was */
}

/* Coordinate `which` (0 lat, 1 lon, 2 ele) of a point. False: it has none. */
static bool place_get(const struct datum *d, unsigned which, double *ret)
{
    if (!d->has_place || (which == 2 && !d->has_ele))
        return false;
    *ret = which == 0 ? d->lat : which == 1 ? d->lon : d->ele;
    return true;
}

static unsigned place_mode(const struct history_point *p, size_t n)
{
    unsigned mode = 0;
    for (size_t i = 0; i < n; i++) {
        double v;
        int64_t unused;
        for (unsigned which = 0; which < 3; which++)
            if (place_get(&p[i].datum, which, &v))
                mode |= PLACE_SOME | (place_scaled(v, &unused) ? 0u : PLACE_WIDE);
    }
    return mode;
}

static void put_places(struct encoder *e, unsigned mode)
{
    for (size_t i = 0; i < e->n; i++) {
        const struct datum *d = &e->p[i].datum;
        e->column[i] = d->has_place ? d->has_ele ? 2 : 1 : 0;
    }
    put_column(e, e->n);
    for (unsigned which = 0; which < 3 && !(mode & PLACE_WIDE); which++) {
        size_t n = 0;
        int64_t before = 0;
        for (size_t i = 0; i < e->n; i++) {
            double v;
            int64_t m = 0;
            if (!place_get(&e->p[i].datum, which, &v))
                continue;
            place_scaled(v, &m);
            e->column[n++] = zigzag((uint64_t)m - (uint64_t)before);
            before = m;
        }
        put_column(e, n);
    }
}

static void put_bytes(struct encoder *e, enum value_mode values, unsigned places, struct buf *out)
{
    for (size_t i = 0; i < e->n && values == VALUE_RAW; i++)
        buf_put_slice(out, e->p[i].datum.value);
    for (unsigned which = 0; which < 3 && places & PLACE_WIDE; which++)
        for (size_t i = 0; i < e->n; i++) {
            double v;
            if (place_get(&e->p[i].datum, which, &v))
                buf_put(out, &v, sizeof v);
        }
}

/* 45 covers the head; 10 the parameters; 8 columns at the most, each code at its longest. */
static size_t encoded_max(size_t n)
{
    return 55 + n * 8 * RICE_BYTES_MAX + BITS_SLACK;
}

static unsigned parameters_of(enum value_mode values, unsigned places)
{
    return 2 +
           (values == VALUE_RAW     ? 1
            : values == VALUE_MIXED ? 3
                                    : 2) +
           (!places               ? 0
            : places & PLACE_WIDE ? 1
                                  : 4);
}

static void encode(struct encoder *e, struct buf *out, uint8_t *start)
{
    unsigned scale = 0, unit = time_unit(e->p, e->n), places = place_mode(e->p, e->n);
    enum value_mode values = value_mode(e, &scale);
    enum offset_mode offsets = offset_mode(e);
    uint8_t *at = start;
    *at++ = ROW_FORMAT;
    *at++ = (uint8_t)(unit | (unsigned)values << 2 | places << 4 | (unsigned)offsets << 6);
    at = varint_put(at, e->n);
    at = varint_put(at, span_us(e));
    if (offsets != OFFSET_STEP)
        at = varint_put(at, span_offsets(e));
    if (values != VALUE_RAW)
        at = varint_put(at, zigzag(widened(e, 0, scale)));
    unsigned parameters = parameters_of(values, places);
    e->k = at;
    e->bits.at = at + parameters;
    fill_times(e, unit);
    put_column(e, e->n - 1);
    fill_offsets(e, offsets);
    put_column(e, e->n - 1);
    put_values(e, values, scale);
    if (places)
        put_places(e, places);
    CHECK(e->k == at + parameters);
    out->len += (size_t)(bits_end(&e->bits) - start);
    put_bytes(e, values, places, out);
}

void row_encode(struct buf *out, const struct history_point *p, size_t n)
{
    CHECK(n >= 1 && n <= ROW_POINTS_MAX);
    uint64_t column_small[64];
    struct decimal number_small[64];
    struct encoder e = {.p = p, .n = n, .column = column_small, .number = number_small};
    uint8_t *start = (uint8_t *)buf_reserve(out, encoded_max(n));
    uint64_t *big = NULL;
    if (n > 64) {
        big = malloc(n * (sizeof *e.column + sizeof *e.number));
        e.column = big;
        e.number = (struct decimal *)(big + n);
    }
    if (start && e.column)
        encode(&e, out, start);
    else
        out->failed = true;
    free(big);
}

/* ---- decoding -------------------------------------------------------------------------------- */

struct decoder {
    bool old; /* of the first format */
    unsigned unit, places;
    enum value_mode values;
    enum offset_mode offset_mode;
    uint32_t n;
    uint64_t span;         /* of the times */
    uint64_t span_offsets; /* 0 for OFFSET_STEP */
    uint64_t number;       /* the first one */
    const uint8_t *k;      /* the next parameter */
    struct bits_in bits;
    uint64_t *times, *offsets, *numbers, *drops; /* n each */
    uint8_t *place;                              /* n */
};

/* The numbers behind the modes. NULL: not a row. */
static const uint8_t *decode_numbers(const uint8_t *at, const uint8_t *end, struct decoder *d)
{
    uint64_t n;
    if (!(at = varint_get(at, end, &n)) || n == 0 || n > ROW_POINTS_MAX)
        return NULL;
    d->n = (uint32_t)n;
    at = varint_get(at, end, &d->span);
    if (at && d->offset_mode != OFFSET_STEP)
        at = varint_get(at, end, &d->span_offsets);
    if (at && !d->old && d->values != VALUE_RAW) {
        at = varint_get(at, end, &d->number);
        d->number = unzigzag(d->number);
    }
    return at;
}

static bool decode_head(struct slice row, struct decoder *d)
{
    const uint8_t *at = (const uint8_t *)row.ptr, *end = at + row.len;
    if (row.len < 6 || (at[0] != ROW_FORMAT && at[0] != ROW_FORMAT_OLD))
        return false;
    unsigned modes = at[1];
    d->old = at[0] == ROW_FORMAT_OLD;
    d->unit = modes & 3;
    d->values = (enum value_mode)(modes >> 2 & 3);
    d->places = modes >> 4 & 3;
    d->offset_mode = (enum offset_mode)(modes >> 6);
    if (d->unit > 2 || (modes >> 6) >= (d->old ? 1 : OFFSET_MODES))
        return false;
    at = decode_numbers(at + 2, end, d);
    unsigned parameters = parameters_of(d->values, d->places);
    if (!at || (size_t)(end - at) < parameters)
        return false;
    d->k = at;
    d->bits = (struct bits_in){.ptr = at + parameters, .len = (size_t)(end - at) - parameters};
    return true;
}

bool row_peek(struct slice row, struct row_key first, struct row_head *ret)
{
    struct decoder d;
    if (!decode_head(row, &d))
        return false;
    ret->count = d.n;
    ret->last_us = (int64_t)((uint64_t)first.us + d.span);
    return true;
}

/* The parameter of the next column, or above RICE_K_MAX in a damaged row: then it reads as 0 and
 * the stream ends in the wrong place. */
static unsigned next_parameter(struct decoder *d)
{
    unsigned k = *d->k++;
    return k <= RICE_K_MAX ? k : 0;
}

static void get_column(struct decoder *d, uint64_t *out, uint32_t n)
{
    unsigned k = next_parameter(d);
    rice_get_column(&d->bits, k, out, n);
}

static void get_times(struct decoder *d, uint64_t first)
{
    uint64_t by = (uint64_t)unit_us[d->unit], at = first;
    uint64_t step = d->old ? 0 : mean_step(d->span / by, d->n);
    get_column(d, d->times + 1, d->n - 1);
    d->times[0] = at;
    for (uint32_t i = 1; i < d->n; i++) {
        step += unzigzag(d->times[i]);
        d->times[i] = at += step * by;
    }
}

static void get_offsets(struct decoder *d, uint64_t first)
{
    uint64_t at = first, all = d->span_offsets;
    uint64_t expected = d->offset_mode == OFFSET_CHANGE ? mean_step(all, d->n) : 0;
    struct growth growth = growth_of(d->span, all);
    get_column(d, d->offsets + 1, d->n - 1);
    d->offsets[0] = at;
    for (uint32_t i = 1; i < d->n; i++) {
        if (d->offset_mode == OFFSET_TIME)
            expected = growth_expects(growth, d->times[i] - d->times[i - 1]);
        uint64_t step = expected + unzigzag(d->offsets[i]);
        d->offsets[i] = at += step;
        if (d->offset_mode == OFFSET_CHANGE)
            expected = step;
    }
}

static bool get_values(struct decoder *d, unsigned *ret_scale)
{
    if (d->values == VALUE_RAW) {
        get_column(d, d->numbers, d->n);
        return true;
    }
    *ret_scale = *d->k++;
    if (*ret_scale > DECIMAL_SCALE_MAX)
        return false;
    uint32_t begin = d->old ? 0 : 1;
    uint64_t at = d->number;
    d->numbers[0] = at;
    get_column(d, d->numbers + begin, d->n - begin);
    for (uint32_t i = begin; i < d->n; i++)
        d->numbers[i] = at += unzigzag(d->numbers[i]);
    if (d->values == VALUE_MIXED) {
        get_column(d, d->drops, d->n);
        for (uint32_t i = 0; i < d->n; i++)
            if (d->drops[i] > *ret_scale)
                return false;
    }
    return true;
}

static struct slice decimal_text(const struct decoder *d, uint32_t i, unsigned scale, char *out)
{
    struct decimal v = {.mantissa = (int64_t)d->numbers[i], .scale = scale};
    unsigned drop = d->values == VALUE_MIXED ? (unsigned)d->drops[i] : 0;
    if (d->values == VALUE_SHORT)
        drop = scale;
    for (; drop > 0 && v.mantissa % 10 == 0; drop--, v.scale--)
        v.mantissa /= 10;
    return slice_of(out, decimal_format(out, v));
}

static void place_put(struct datum *d, unsigned which, double v)
{
    if (which == 0)
        d->lat = v;
    else if (which == 1)
        d->lon = v;
    else
        d->ele = v;
}

/* Fills the places of out[0..hi-lo) from the points lo..hi; `wide` are the doubles. */
static bool get_places(struct decoder *d, struct slice wide, uint32_t lo, uint32_t hi,
                       struct history_point *out)
{
    size_t at = 0;
    for (unsigned which = 0; which < 3; which++) {
        unsigned k = d->places & PLACE_WIDE ? 0 : next_parameter(d);
        uint64_t m = 0;
        for (uint32_t i = 0; i < d->n; i++) {
            if (d->place[i] < (which == 2 ? 2 : 1))
                continue;
            double v;
            if (d->places & PLACE_WIDE) {
                if (wide.len - at < sizeof v)
                    return false;
                memcpy(&v, wide.ptr + at, sizeof v);
                at += sizeof v;
            } else {
                m += unzigzag(rice_get(&d->bits, k));
                v = (double)(int64_t)m / PLACE_SCALE;
            }
            if (i >= lo && i < hi)
                place_put(&out[i - lo].datum, which, v);
        }
    }
    return true;
}

static bool get_place_kinds(struct decoder *d)
{
    unsigned k = next_parameter(d);
    for (uint32_t i = 0; i < d->n; i++) {
        uint64_t kind = rice_get(&d->bits, k);
        if (kind > 2)
            return false;
        d->place[i] = (uint8_t)kind;
    }
    return true;
}

static bool reserve_columns(struct point_list *out, struct decoder *d)
{
    size_t need = (size_t)d->n * 4 + (d->n + 7) / 8;
    if (need > out->columns_cap) {
        free(out->columns);
        out->columns = malloc(need * sizeof *out->columns);
        out->columns_cap = out->columns ? need : 0;
        if (!out->columns)
            return false;
    }
    d->times = out->columns;
    d->offsets = d->times + d->n;
    d->numbers = d->offsets + d->n;
    d->drops = d->numbers + d->n;
    d->place = (uint8_t *)(d->drops + d->n);
    return true;
}

/* Where the bytes behind the bits begin; beyond the row's end when the bits were too short. */
static size_t bits_bytes(const struct decoder *d)
{
    return (size_t)((d->bits.at + 7) / 8);
}

/* Appends the raw values of lo..hi to the text and their places in it to the points. Returns the
 * doubles that follow, or a slice without pointer when the row is damaged. */
static struct slice raw_values(struct decoder *d, struct slice bytes, uint32_t lo, uint32_t hi,
                               struct point_list *out)
{
    size_t at = 0, begin = 0, end = 0;
    for (uint32_t i = 0; i < d->n; i++) {
        if (i == lo)
            begin = at;
        if (d->numbers[i] > bytes.len - at)
            return (struct slice){0};
        at += (size_t)d->numbers[i];
        if (i + 1 == hi)
            end = at;
    }
    size_t place = out->text->len;
    buf_put(out->text, bytes.ptr + begin, end - begin);
    for (uint32_t i = lo; i < hi; i++) {
        size_t len = (size_t)d->numbers[i];
        out->at[out->count + i - lo].datum.value = slice_of((const char *)(uintptr_t)place, len);
        place += len;
    }
    return slice_from(bytes, at);
}

static void decimal_values(struct decoder *d, unsigned scale, uint32_t lo, uint32_t hi,
                           struct point_list *out)
{
    char *text = buf_reserve(out->text, (size_t)(hi - lo) * DECIMAL_TEXT_MAX);
    if (!text)
        return;
    for (uint32_t i = lo; i < hi; i++) {
        struct slice v = decimal_text(d, i, scale, text);
        out->at[out->count + i - lo].datum.value =
            slice_of((const char *)(uintptr_t)out->text->len, v.len);
        text += v.len;
        out->text->len += v.len;
    }
}

/* All columns are read; now the points lo..hi. */
static int put_points(struct decoder *d, unsigned scale, uint32_t lo, uint32_t hi,
                      struct point_list *out)
{
    if (!points_reserve(out, hi - lo))
        return -ENOMEM;
    struct history_point *p = out->at + out->count;
    for (uint32_t i = lo; i < hi; i++)
        p[i - lo] = (struct history_point){
            .event_us = (int64_t)d->times[i],
            .offset = d->offsets[i],
            .datum = {.has_place = d->places && d->place[i] > 0,
                      .has_ele = d->places && d->place[i] > 1},
        };
    if (d->places && !(d->places & PLACE_WIDE) && !get_places(d, (struct slice){0}, lo, hi, p))
        return -EBADMSG;
    if (bits_bytes(d) > d->bits.len)
        return -EBADMSG;
    struct slice bytes = slice_from(slice_of(d->bits.ptr, d->bits.len), bits_bytes(d));
    if (d->values == VALUE_RAW) {
        bytes = raw_values(d, bytes, lo, hi, out);
        if (!bytes.ptr)
            return -EBADMSG;
    } else {
        decimal_values(d, scale, lo, hi, out);
    }
    if (out->text->failed)
        return -ENOMEM;
    if (d->places & PLACE_WIDE && !get_places(d, bytes, lo, hi, p))
        return -EBADMSG;
    out->count += hi - lo;
    return 0;
}

int row_decode(struct slice row, struct row_key first, int64_t from_us, int64_t to_us, size_t most,
               struct point_list *out)
{
    struct decoder d = {0};
    unsigned scale = 0;
    if (!decode_head(row, &d))
        return -EBADMSG;
    if (!reserve_columns(out, &d))
        return -ENOMEM;
    get_times(&d, (uint64_t)first.us);
    get_offsets(&d, first.offset);
    if (d.times[d.n - 1] != (uint64_t)first.us + d.span)
        return -EBADMSG;
    if (d.offset_mode != OFFSET_STEP && d.offsets[d.n - 1] != first.offset + d.span_offsets)
        return -EBADMSG;
    if (!get_values(&d, &scale) || (d.places && !get_place_kinds(&d)))
        return -EBADMSG;
    if (d.bits.at > d.bits.len * 8)
        return -EBADMSG;
    uint32_t lo = 0, hi = d.n;
    while (lo < hi && (int64_t)d.times[lo] < from_us)
        lo++;
    while (hi > lo && (int64_t)d.times[hi - 1] > to_us)
        hi--;
    if (hi - lo > most)
        lo = hi - (uint32_t)most;
    return lo < hi ? put_points(&d, scale, lo, hi, out) : 0;
}
