/* SPDX-License-Identifier: Apache-2.0 */
#include "view/row.h"

#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "base/rand.h"
#include "view/decimal.h"

static void decimals_are_exact(void **state)
{
    static const char *yes[] = {
        "0",          "5", "-5", "0.0", "0.10", "21.5", "21.50", "-0.000001", "999999999999999999",
        "1.000000000"};
    static const char *no[] = {"",
                               "-0",
                               "-0.0",
                               "1e5",
                               "007",
                               "+1",
                               " 1",
                               "1 ",
                               ".5",
                               "5.",
                               "-",
                               "1.",
                               "NaN",
                               "1_",
                               "1.0000000000",
                               "--1",
                               "1,5",
                               "0x1",
                               "1000000000000000000",
                               "12345678901.12345678"};
    for (unsigned i = 0; i < sizeof yes / sizeof *yes; i++) {
        struct decimal d;
        char out[DECIMAL_TEXT_MAX];
        assert_true(decimal_parse(slice_str(yes[i]), &d));
        unsigned len = decimal_format(out, d);
        assert_true(slice_eq(slice_of(out, len), slice_str(yes[i])));
    }
    for (unsigned i = 0; i < sizeof no / sizeof *no; i++) {
        struct decimal d;
        assert_false(decimal_parse(slice_str(no[i]), &d));
    }
    struct rand r = {.state = 3};
    for (unsigned i = 0; i < 100000; i++) {
        uint64_t m = (rand_next(&r) >> rand_below(&r, 64)) % DECIMAL_MANTISSA_MAX;
        struct decimal d = {.mantissa = (int64_t)m, .scale = (unsigned)rand_below(&r, 10)}, back;
        char want[64], out[DECIMAL_TEXT_MAX];
        /* With a digit before the point at least. */
        int len = sprintf(want, "%0*lld", (int)(d.scale % 10) + 1, (long long)d.mantissa);
        if (d.scale) {
            memmove(want + len - d.scale + 1, want + len - d.scale, d.scale);
            want[len++ - (int)d.scale] = '.';
        }
        if (rand_below(&r, 2) && d.mantissa) {
            memmove(want + 1, want, (size_t)len++);
            want[0] = '-';
            d.mantissa = -d.mantissa;
        }
        unsigned got = decimal_format(out, d);
        assert_true(slice_eq(slice_of(out, got), slice_of(want, (size_t)len)));
        assert_true(decimal_parse(slice_of(out, got), &back));
        assert_true(back.mantissa == d.mantissa && back.scale == d.scale);
    }
}

static double random_double(struct rand *r)
{
    uint64_t bits = rand_next(r);
    double v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

enum { MOST = 300 };

static size_t random_text(struct rand *r, unsigned style, char *out)
{
    switch (style) {
    case 0:
        return (size_t)sprintf(out, "%.2f", ((double)rand_below(r, 9000) - 4000) / 100);
    case 1:
        return (size_t)sprintf(out, "%g", (double)rand_below(r, 500) / 10);
    case 2:
        return (size_t)sprintf(out, "%.*f", (int)rand_below(r, 9), (double)rand_below(r, 999) / 8);
    case 3:
        return (size_t)sprintf(out, "%lld", (long long)rand_next(r) >> rand_below(r, 64));
    default:
        for (size_t i = 0, n = rand_below(r, 40);; i++) {
            if (i == n)
                return n;
            out[i] = (char)rand_next(r);
        }
    }
}

/* Random points, sorted, in `l`. */
static void random_points(struct rand *r, struct point_list *l)
{
    size_t n = 1 + rand_below(r, rand_below(r, 4) ? 20 : MOST);
    unsigned style = (unsigned)rand_below(r, 6), place = (unsigned)rand_below(r, 6);
    uint64_t unit = (uint64_t[]){1, 1000, 1000000}[rand_below(r, 3)], us = rand_next(r) >> 4;
    uint64_t offset = rand_next(r) >> rand_below(r, 64);
    bool wild = rand_below(r, 10) == 0;
    unsigned others = (unsigned)rand_below(r, 3); /* records of others in between */
    for (size_t i = 0; i < n; i++) {
        char text[64];
        struct history_point p = {.event_us = (int64_t)us, .offset = offset};
        p.datum.value = slice_of(text, random_text(r, style, text));
        p.datum.has_place = place < 3 && rand_below(r, 4);
        p.datum.has_ele = p.datum.has_place && place == 1;
        if (p.datum.has_place) {
            p.datum.lat = place == 2 ? random_double(r) : (double)rand_below(r, 900000000) / 1e7;
            p.datum.lon = place == 0 ? -0.5 : (double)rand_below(r, 1800000000) / -1e7;
        }
        if (p.datum.has_ele)
            p.datum.ele = rand_below(r, 3) ? 120.5 : NAN;
        assert_true(points_add(l, p));
        uint64_t step = others == 2 && !wild ? 10 + rand_below(r, 90000) : 10 + rand_below(r, 3);
        us = wild ? rand_next(r) : us + unit * step;
        offset += others == 0   ? rand_below(r, 1000) + 1
                  : others == 1 ? 5000
                                : step * 30 + rand_below(r, 20);
        offset = wild ? rand_next(r) : offset;
    }
    points_sort(l, false);
    points_bind(l);
}

static void assert_same_point(const struct history_point *a, const struct history_point *b)
{
    assert_int_equal(a->event_us, b->event_us);
    assert_int_equal(a->offset, b->offset);
    assert_true(slice_eq(a->datum.value, b->datum.value));
    assert_int_equal(a->datum.has_place, b->datum.has_place);
    assert_int_equal(a->datum.has_ele, b->datum.has_ele);
    assert_memory_equal(&a->datum.lat, &b->datum.lat, 3 * sizeof(double));
}

static void rows_round_trip(void **state)
{
    struct rand r = {.state = 5};
    struct buf text, back_text, row;
    struct point_list l, back;
    buf_init(&text, 1 << 20);
    buf_init(&back_text, 1 << 20);
    buf_init(&row, 1 << 20);
    points_init(&l, &text);
    points_init(&back, &back_text);
    for (unsigned turn = 0; turn < 5000; turn++) {
        l.count = back.count = 0;
        buf_clear(&text), buf_clear(&back_text), buf_clear(&row);
        random_points(&r, &l);
        row_encode(&row, l.at, l.count);
        assert_false(row.failed);
        struct row_head head;
        struct row_key first = row_key_of(&l.at[0]);
        assert_true(row_peek(buf_slice(&row), first, &head));
        assert_int_equal(head.count, l.count);
        assert_int_equal(head.last_us, l.at[l.count - 1].event_us);
        size_t lo = rand_below(&r, l.count), hi = lo + rand_below(&r, l.count - lo);
        int64_t from = l.at[lo].event_us, to = l.at[hi].event_us;
        size_t most = rand_below(&r, 2) ? SIZE_MAX : rand_below(&r, MOST);
        assert_int_equal(row_decode(buf_slice(&row), first, from, to, most, &back), 0);
        points_bind(&back);
        while (lo > 0 && l.at[lo - 1].event_us == from)
            lo--;
        while (hi + 1 < l.count && l.at[hi + 1].event_us == to)
            hi++;
        if (hi - lo + 1 > most)
            lo = hi + 1 - most;
        assert_int_equal(back.count, hi + 1 - lo);
        for (size_t i = 0; i < back.count; i++)
            assert_same_point(&l.at[lo + i], &back.at[i]);
    }
    points_fini(&l);
    points_fini(&back);
    buf_fini(&text), buf_fini(&back_text), buf_fini(&row);
}

static size_t encoded(struct buf *row, const struct history_point *p, size_t n)
{
    buf_clear(row);
    row_encode(row, p, n);
    assert_false(row->failed);
    return row->len;
}

/* What short rows take, which is what most feeds have: the head of about 12 bytes, and of each
 * point what nobody could have known. */
static void rows_are_short(void **state)
{
    enum { N = 16 };
    struct rand r = {.state = 9};
    struct history_point p[N];
    char texts[N][8];
    struct buf row;
    buf_init(&row, 4096);
    size_t even = 0, random = 0;
    for (unsigned turn = 0; turn < 100; turn++) {
        uint64_t us = 1700000000000000, value = 200;
        for (unsigned i = 0; i < N; i++) {
            value += rand_below(&r, 3);
            sprintf(texts[i], "%llu.%llu", (unsigned long long)value / 10,
                    (unsigned long long)value % 10);
            p[i] = (struct history_point){.datum.value = slice_str(texts[i])};
            p[i].event_us = (int64_t)(us + i * 10000000 + rand_below(&r, 2000));
            p[i].offset = 7000000 + i * 100000;
        }
        even += encoded(&row, p, N);
        for (unsigned i = 0; i < N; i++) { /* one of 10,000 messages a second, whenever it is */
            us += 1 + rand_below(&r, 20000000);
            p[i].event_us = (int64_t)us;
            p[i].offset = 7000000 + us / 100 - 17000000000000 + rand_below(&r, 20);
        }
        random += encoded(&row, p, N);
    }
    buf_fini(&row);
    assert_in_range(even / 100, 30, 52);
    assert_in_range(random / 100, 60, 82);
}

/* Rows as they were written before. */
static void old_rows_are_read(void **state)
{
    static const struct {
        struct slice row;
        const char *values[5];
    } all[] = {
        {SLICE("\x01\x04\x05\x80\xb4\x89\x13\x0b\x07\x01\x08\xff\xff\xff\x00\x2d\x31\x01\x00"
               "\x00\x00\x00\x00\x10\xee\xf6\xf6\x34\x71\xc2\xa4\xc9\x95\x80\x81\xce\x53\x07"),
         {"21.5", "21.6", "21.4", "-3.0", "21.5"}},
        {SLICE("\x01\x1c\x05\x80\xb4\x89\x13\x0b\x07\x03\x0a\x01\x00\x14\x00\x1d\xff\xff\xff"
               "\x00\x2d\x31\x01\x00\x00\x00\x00\x00\x10\xee\xf6\xf6\x34\x71\xc2\xa4\x09\x7a"
               "\xe8\xaf\xd7\xff\xcf\x36\x00\x54\x9a\xd2\xfe\xff\xff\x01\x75\x2b\x7d\x00\x00"
               "\x00\x00\x02\x24\xf4\x03\x48\xe8\x00\x09\xfd\xff\xff\xff\x87\x72\xf9\x01\x00"
               "\x00\x00\x00\x01\x42\x82\x24"),
         {"1", "1.50", "0.125", "7", "7.0"}},
        {SLICE("\x01\x30\x05\x80\xb4\x89\x13\x0b\x07\x01\x00\xff\xff\xff\x00\x2d\x31\x01\x00"
               "\x00\x00\x00\x00\x10\xee\xf6\xf6\x34\x71\xc2\xa4\x49\x89\x02\x6f\x6e\x6f\x66"
               "\x66\x6f\x6e\x78\x55\x55\x55\x55\x55\x55\xd5\x3f\x00\x00\x00\x00\x00\x00\x00"
               "\x80"),
         {"on", "off", "", "on", "x"}},
    };
    struct buf text;
    struct point_list l;
    buf_init(&text, 4096);
    points_init(&l, &text);
    for (unsigned k = 0; k < 3; k++) {
        l.count = 0;
        buf_clear(&text);
        struct row_key first = {.us = 1700000000000000, .offset = 1000};
        assert_int_equal(row_decode(all[k].row, first, INT64_MIN, INT64_MAX, SIZE_MAX, &l), 0);
        points_bind(&l);
        assert_int_equal(l.count, 5);
        for (unsigned i = 0; i < 5; i++) {
            struct history_point want = {.datum.value = slice_str(all[k].values[i])};
            want.event_us = 1700000000000000 + (int64_t)i * 10000000 + (i == 3 ? 1500 : 0);
            want.offset = 1000 + (uint64_t)i * 77 + (i == 2);
            want.datum.has_place = (k == 1 && i != 2) || (k == 2 && i == 1);
            want.datum.has_ele = k == 1 && i == 4;
            if (want.datum.has_place) {
                want.datum.lat = k == 1 ? 52.5 + i / 10.0 : 1.0 / 3;
                want.datum.lon = k == 1 ? -13.25 : -0.0;
            }
            want.datum.ele = want.datum.has_ele ? 34.5 : 0;
            assert_same_point(&want, &l.at[i]);
        }
    }
    points_fini(&l);
    buf_fini(&text);
}

/* Damage is an error or other points, never a crash; being cut is an error. */
static void damaged_rows_are_survived(void **state)
{
    struct rand r = {.state = 6};
    struct buf text, back_text, row;
    struct point_list l, back;
    buf_init(&text, 1 << 20);
    buf_init(&back_text, 4 << 20);
    buf_init(&row, 1 << 20);
    points_init(&l, &text);
    points_init(&back, &back_text);
    for (unsigned turn = 0; turn < 20000; turn++) {
        l.count = back.count = 0;
        buf_clear(&text), buf_clear(&back_text), buf_clear(&row);
        random_points(&r, &l);
        row_encode(&row, l.at, l.count);
        struct row_key first = row_key_of(&l.at[0]);
        char *exact = malloc(row.len); /* so that reading beyond it shows */
        memcpy(exact, row.ptr, row.len);
        size_t len = row.len;
        if (turn % 2)
            len = rand_below(&r, len);
        else
            exact[rand_below(&r, len)] ^= (char)(1 << rand_below(&r, 8));
        int code = row_decode(slice_of(exact, len), first, INT64_MIN, INT64_MAX, SIZE_MAX, &back);
        assert_true(code == 0 || code == -EBADMSG || code == -ENOMEM);
        if (turn % 2)
            assert_int_equal(code, -EBADMSG);
        free(exact);
    }
    points_fini(&l);
    points_fini(&back);
    buf_fini(&text), buf_fini(&back_text), buf_fini(&row);
}

/* The head says where the offsets end, if anything is expected of them. */
static void damaged_offsets_are_found(void **state)
{
    struct buf text, row;
    struct point_list back;
    struct history_point p[20] = {0};
    buf_init(&text, 4096);
    buf_init(&row, 4096);
    points_init(&back, &text);
    for (unsigned mode = 1; mode <= 2; mode++) {
        for (unsigned i = 0, us = 0; i < 20; i++) {
            us += mode == 1 ? 1000000 : 1000000 + (i * i % 7) * 131000;
            p[i].event_us = us;
            p[i].offset = 1000 + (mode == 1 ? i * 77u : us / 1000);
            p[i].datum.value = SLICE("7");
        }
        encoded(&row, p, 20);
        struct row_key first = row_key_of(&p[0]);
        assert_int_equal((uint8_t)row.ptr[1] >> 6, mode);
        assert_int_equal(row_decode(buf_slice(&row), first, INT64_MIN, INT64_MAX, SIZE_MAX, &back),
                         0);
        size_t at = 3; /* behind the number of points; then come the spans */
        while (row.ptr[at++] & 0x80)
            ;
        for (unsigned bit = 0; bit < 7; bit++) {
            row.ptr[at] ^= (char)(1 << bit);
            int code = row_decode(buf_slice(&row), first, INT64_MIN, INT64_MAX, SIZE_MAX, &back);
            assert_int_equal(code, -EBADMSG);
            row.ptr[at] ^= (char)(1 << bit);
        }
    }
    points_fini(&back);
    buf_fini(&text), buf_fini(&row);
}

static void sorting_is_stable_and_unique(void **state)
{
    struct rand r = {.state = 8};
    struct buf text;
    struct point_list l;
    buf_init(&text, 1 << 20);
    points_init(&l, &text);
    for (unsigned turn = 0; turn < 500; turn++) {
        l.count = 0;
        bool down = turn % 2;
        for (uint64_t i = 0; i < 100; i++)
            assert_true(
                points_add(&l, (struct history_point){.event_us = (int64_t)rand_below(&r, 9),
                                                      .offset = rand_below(&r, 9),
                                                      .datum.lat = (double)i}));
        struct history_point before[100];
        memcpy(before, l.at, sizeof before);
        points_sort(&l, down);
        for (size_t i = 1; i < l.count; i++) {
            int order = row_key_compare(row_key_of(&l.at[i - 1]), row_key_of(&l.at[i]));
            assert_int_equal(order, down ? 1 : -1);
        }
        for (size_t i = 0; i < 100; i++) { /* each key is there, as first added */
            size_t first = 0, at = 0;
            while (row_key_compare(row_key_of(&before[first]), row_key_of(&before[i])) != 0)
                first++;
            while (row_key_compare(row_key_of(&l.at[at]), row_key_of(&before[i])) != 0)
                at++;
            assert_true(l.at[at].datum.lat == before[first].datum.lat);
        }
    }
    points_fini(&l);
    buf_fini(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decimals_are_exact),
        cmocka_unit_test(rows_round_trip),
        cmocka_unit_test(rows_are_short),
        cmocka_unit_test(old_rows_are_read),
        cmocka_unit_test(damaged_rows_are_survived),
        cmocka_unit_test(damaged_offsets_are_found),
        cmocka_unit_test(sorting_is_stable_and_unique),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
