/* SPDX-License-Identifier: Apache-2.0 */
#include "codec/text.h"

#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <cmocka.h>
#include <zlib.h>

#include "base/rand.h"

static struct buf out;

static void clear(void)
{
    buf_clear(&out);
}

static void percent(void **state)
{
    static const struct {
        const char *in;
        bool plus;
        const char *text;
    } good[] = {
        {"", false, ""},      {"abc", false, "abc"},           {"a+b", false, "a+b"},
        {"a+b", true, "a b"}, {"%41%4a%4A", false, "AJJ"},     {"%25%32%35", true, "%25"},
        {"%2B+", true, "+ "}, {"%c3%A4x", false, "\xc3\xa4x"}, {"%7f%01", false, "\x7f\x01"},
    };
    static const char *const bad[] = {"%",    "%4",  "a%4", "%4g",  "%g4",
                                      "%%41", "%00", "x%0", "% 41", "%-1"};
    for (unsigned i = 0; i < sizeof good / sizeof *good; i++) {
        clear();
        assert_true(percent_decode(slice_str(good[i].in), good[i].plus, &out));
        assert_true(slice_eq(buf_slice(&out), slice_str(good[i].text)));
    }
    for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
        clear();
        if (percent_decode(slice_str(bad[i]), true, &out))
            fail_msg("%s is taken", bad[i]);
    }
    assert_false(percent_decode(slice_of("a\0b", 3), false, &out));
    struct buf all;
    buf_init(&all, 1000);
    for (int c = 1; c < 256; c++)
        buf_put_u8(&all, (uint8_t)c);
    clear();
    percent_encode(buf_slice(&all), &out);
    for (size_t i = 0; i < out.len; i++)
        assert_true(out.ptr[i] > ' ' && out.ptr[i] < 0x7f && !strchr("&=+#?/\"<>", out.ptr[i]));
    struct slice coded = buf_slice(&out);
    struct buf back;
    buf_init(&back, 1000);
    assert_true(percent_decode(coded, true, &back));
    assert_true(slice_eq(buf_slice(&back), buf_slice(&all)));
    buf_fini(&back);
    buf_fini(&all);
}

static void queries(void **state)
{
    struct slice rest = SLICE("&a=1&&b&=c&d==e=&%61=+&"), name, value;
    static const char *const all[][2] = {
        {"a", "1"}, {"b", ""}, {"", "c"}, {"d", "=e="}, {"%61", "+"}};
    for (unsigned i = 0; i < 5; i++) {
        assert_true(query_next(&rest, &name, &value));
        assert_true(slice_eq(name, slice_str(all[i][0])) && slice_eq(value, slice_str(all[i][1])));
    }
    assert_false(query_next(&rest, &name, &value));
    assert_false(query_next(&rest, &name, &value));
    rest = (struct slice){0};
    assert_false(query_next(&rest, &name, &value));
}

static void times_good(void **state)
{
    static const struct {
        const char *in;
        int64_t us;
    } good[] = {
        {"1970-01-01T00:00:00Z", 0},
        {"1969-12-31T23:59:59.5Z", -500000},
        {"2020-05-12T20:52:50Z", 1589316770000000},
        {"2020-05-12t20:52:50z", 1589316770000000},
        {"2020-05-12 20:52:50", 1589316770000000},
        {"2020-05-12 20:52:50 UTC", 1589316770000000},
        {"2020-05-12T20:52:50", 1589316770000000},
        {"2020-05-12T22:52:50+02:00", 1589316770000000},
        {"2020-05-12T15:22:50-0530", 1589316770000000},
        {"2020-05-12T20:52:50-00:00", 1589316770000000},
        {"2020-05-12T20:52:50.1Z", 1589316770100000},
        {"2020-05-12T20:52:50.637+0000", 1589316770637000},
        {"2020-05-12T20:52:50.123456Z", 1589316770123456},
        {"2020-05-12T20:52:50.123456789Z", 1589316770123456},
        {"2000-02-29T00:00:00Z", 951782400000000},
        {"2024-02-29T12:00:00Z", 1709208000000000},
        {"2016-12-31T23:59:60Z", 1483228800000000},
        {"2017-01-01T00:59:60+01:00", 1483228800000000},
        {"0000-01-01T00:00:00Z", -62167219200000000},
        {"9999-12-31T23:59:59.999999Z", 253402300799999999},
    };
    for (unsigned i = 0; i < sizeof good / sizeof *good; i++) {
        int64_t us = -1;
        if (!time_parse(slice_str(good[i].in), &us) || us != good[i].us)
            fail_msg("%s: %lld", good[i].in, (long long)us);
    }
}

static void times_bad(void **state)
{
    static const char *const bad[] = {
        "",
        "2020",
        "2020-05-12",
        "2020-05-12T",
        "2020-05-12T20:52",
        "2020-05-12T20:52:5",
        "2020-5-12T20:52:50Z",
        "20-05-12T20:52:50Z",
        "2020/05/12T20:52:50Z",
        "2020-05-12_20:52:50Z",
        "2020-00-12T20:52:50Z",
        "2020-13-12T20:52:50Z",
        "2020-05-00T20:52:50Z",
        "2020-05-32T20:52:50Z",
        "2021-02-29T00:00:00Z",
        "1900-02-29T00:00:00Z",
        "2020-04-31T00:00:00Z",
        "2020-05-12T24:00:00Z",
        "2020-05-12T20:60:00Z",
        "2020-05-12T20:52:61Z",
        "2020-05-12T20:52:60Z",
        "2020-05-12T20:52:50.Z",
        "2020-05-12T20:52:50.1234567890Z",
        "2020-05-12T20:52:50,5Z",
        "2020-05-12T20:52:50ZZ",
        "2020-05-12T20:52:50 Z",
        "2020-05-12T20:52:50+",
        "2020-05-12T20:52:50+2:00",
        "2020-05-12T20:52:50+02",
        "2020-05-12T20:52:50+02:0",
        "2020-05-12T20:52:50+24:00",
        "2020-05-12T20:52:50+00:60",
        "2020-05-12T20:52:50+02:00x",
        "2020-05-12T20:52:50CET",
        " 2020-05-12T20:52:50Z",
        "2020-05-12T20:52:50Z ",
        "+020-05-12T20:52:50Z",
        "-020-05-12T20:52:50Z",
        "2020-05-12T-1:52:50Z",
        "now",
        "1589316770",
    };
    for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
        int64_t us;
        if (time_parse(slice_str(bad[i]), &us))
            fail_msg("%s is taken", bad[i]);
    }
}

static void times_format_and_return(void **state)
{
    clear();
    time_format_s(&out, 1589316770999999);
    buf_put_u8(&out, ' ');
    time_format_ms(&out, 1556904913637999);
    buf_put_u8(&out, ' ');
    time_format_ms(&out, -1);
    buf_put_u8(&out, ' ');
    time_format_us(&out, -1);
    buf_put_u8(&out, ' ');
    time_format_us(&out, 1589316770000042);
    assert_true(slice_eq(buf_slice(&out), SLICE("2020-05-12T20:52:50Z 2019-05-03T17:35:13.637+0000 "
                                                "1969-12-31T23:59:59.999+0000 "
                                                "1969-12-31T23:59:59.999999Z "
                                                "2020-05-12T20:52:50.000042Z")));
    struct rand r = {.state = 5};
    for (int i = 0; i < 100000; i++) { /* against the C library's calendar, over all years */
        int64_t us = (int64_t)rand_below(&r, 315569519999999999ull) - 62167219200000000ll, back;
        time_t s = (time_t)((us - ((us % 1000000) + 1000000) % 1000000) / 1000000);
        struct tm tm;
        char text[64];
        gmtime_r(&s, &tm);
        snprintf(text, sizeof text, "%04d-%02d-%02dT%02d:%02d:%02dZ", tm.tm_year + 1900,
                 tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec);
        clear();
        time_format_s(&out, us);
        if (!slice_eq(buf_slice(&out), slice_str(text)))
            fail_msg("%lld: %s, not %.*s", (long long)us, text, SLICE_ARG(buf_slice(&out)));
        assert_true(time_parse(buf_slice(&out), &back) && back == (int64_t)s * 1000000);
        clear();
        time_format_ms(&out, us);
        assert_true(time_parse(buf_slice(&out), &back) && back <= us && us - back < 1000);
    }
    clear();
    time_format_s(&out, INT64_MAX); /* beyond what is ever accepted: still whole text */
    time_format_s(&out, INT64_MIN);
    assert_true(slice_eq(buf_slice(&out), SLICE("294247-01-10T04:00:54Z-290308-12-21T19:59:05Z")));
}

/* With a day kept from one to the next, as without. */
static void times_of_a_day(void **state)
{
    struct rand r = {.state = 6};
    struct time_day day = {0};
    int64_t us = 0;
    for (int i = 0; i < 200000; i++) {
        char text[TIME_S_MAX];
        uint64_t far = rand_below(&r, 100);
        if (far == 0) /* any day of 200,000 years */
            us = (int64_t)rand_next(&r) / 3;
        else /* mostly the same day, and often the next one */
            us += (int64_t)rand_below(&r, 20000000000ull) - 10000000000;
        clear();
        time_format_s(&out, us);
        size_t len = (size_t)(time_put_s(&day, text, us) - text);
        if (!slice_eq(buf_slice(&out), slice_of(text, len)))
            fail_msg("%.*s, not %.*s", (int)len, text, SLICE_ARG(buf_slice(&out)));
    }
}

static void basic(void **state)
{
    static const struct {
        const char *in, *user, *password;
    } good[] = {
        {"Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==", "Aladdin", "open sesame"},
        {"basic  YTpiOmM= ", "a", "b:c"},
        {"BASIC Og==", "", ""},
        {"Basic YTo=", "a", ""},
        {"Basic w6Q6/z8+", "\xc3\xa4", "\xff?>"},
    };
    static const char *const bad[] = {
        "",
        "Basic",
        "Basic ",
        "Bearer YTpi",
        "BasicYTpi",
        "Basic YWI=",
        "Basic YTpiOmM",
        "Basic YTo",
        "Basic YT==YTpi",
        "Basic YTp=",
        "Basic YTpi=",
        "Basic YTpi====",
        "Basic ====",
        "Basic =TpI",
        "Basic YTp i",
        "Basic YTp!",
        "Basic YTp_",
        "Basic YTp-",
        "Basic YToA",
        "Basic YTp/",
        "Basic YTpiOmN=",
        "Basic YTq=",
        "Basic\tYTpi",
        "Basic YTpi,YTpi",
    };
    struct slice user, password;
    for (unsigned i = 0; i < sizeof good / sizeof *good; i++) {
        clear();
        buf_put_str(&out, "before");
        assert_true(basic_decode(slice_str(good[i].in), &out, &user, &password));
        assert_true(slice_eq(user, slice_str(good[i].user)));
        assert_true(slice_eq(password, slice_str(good[i].password)));
    }
    for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
        clear();
        if (basic_decode(slice_str(bad[i]), &out, &user, &password))
            fail_msg("%s is taken", bad[i]);
    }
    struct buf small;
    buf_init(&small, 5);
    assert_false(basic_decode(slice_str(good[0].in), &small, &user, &password));
    buf_fini(&small);
}

/* `in` compressed; level 0 to 9. */
static struct slice compress_gzip(struct slice in, unsigned char *to, size_t room, int level)
{
    z_stream z = {.next_in = (Bytef *)(uintptr_t)in.ptr,
                  .avail_in = (uInt)in.len,
                  .next_out = to,
                  .avail_out = (uInt)room};
    assert_int_equal(deflateInit2(&z, level, Z_DEFLATED, 31, 8, Z_DEFAULT_STRATEGY), Z_OK);
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    struct slice made = slice_of(to, z.total_out);
    deflateEnd(&z);
    return made;
}

static void gzip(void **state)
{
    static unsigned char coded[1 << 17];
    static char text[1 << 16];
    struct rand r = {.state = 1};
    for (int round = 0; round < 60; round++) {
        size_t n = round < 3 ? (size_t)round : rand_below(&r, sizeof text);
        for (size_t i = 0; i < n; i++)
            text[i] = (char)(round & 1 ? rand_next(&r) : 'a' + (i & 3));
        struct slice in = compress_gzip(slice_of(text, n), coded, sizeof coded, round % 10);
        struct buf b;
        buf_init(&b, n + 7); /* a prefix that is there must stay */
        buf_put_str(&b, "before ");
        assert_int_equal(gunzip(in, &b), GUNZIP_OK);
        assert_int_equal(b.len, n + 7);
        assert_memory_equal(b.ptr + 7, text, n);
        buf_fini(&b);
        buf_init(&b, n ? n - 1 : 0);
        assert_int_equal(gunzip(in, &b), n ? GUNZIP_TOO_LARGE : GUNZIP_OK);
        buf_fini(&b);
        buf_init(&b, 1 << 20);
        for (int cut = 0; cut < 20; cut++) { /* cut off, damaged, followed by something */
            buf_clear(&b);
            assert_int_equal(gunzip(slice_of(in.ptr, rand_below(&r, in.len)), &b), GUNZIP_BAD);
        }
        coded[in.len] = 0;
        buf_clear(&b);
        assert_int_equal(gunzip(slice_of(in.ptr, in.len + 1), &b), GUNZIP_BAD);
        coded[in.len - 6] ^= 1; /* in the CRC */
        buf_clear(&b);
        assert_int_equal(gunzip(in, &b), GUNZIP_BAD);
        buf_fini(&b);
    }
    struct buf b;
    buf_init(&b, 1000);
    assert_int_equal(gunzip((struct slice){0}, &b), GUNZIP_BAD);
    assert_int_equal(gunzip(SLICE("{\"a\":1}"), &b), GUNZIP_BAD);
    assert_int_equal(gunzip(SLICE("\x78\x9c\x03\x00\x00\x00\x00\x01"), &b), GUNZIP_BAD); /* zlib */
    buf_fini(&b);
}

static void gzip_bomb(void **state)
{
    size_t n = 100u << 20;
    char *zeros = calloc(1, n);
    unsigned char *coded = malloc(1 << 20);
    struct slice in = compress_gzip(slice_of(zeros, n), coded, 1 << 20, 9);
    struct buf b;
    buf_init(&b, 1 << 20);
    assert_true(in.len < 200000);
    assert_int_equal(gunzip(in, &b), GUNZIP_TOO_LARGE);
    assert_true(b.cap <= 1 << 20);
    buf_fini(&b);
    free(coded);
    free(zeros);
}

static void doubles(void **state)
{
    static const struct {
        double v;
        const char *text;
    } all[] = {
        {0, "0"},
        {-0.0, "-0"},
        {1, "1"},
        {-12, "-12"},
        {0.1, "0.1"},
        {0.1 + 0.2, "0.30000000000000004"},
        {1e22, "1e+22"},
        {1e15, "1e+15"},
        {123456789012345, "123456789012345"},
        {1e-7, "1e-07"},
        {21.5, "21.5"},
        {1.0 / 3, "0.3333333333333333"},
        {2.0 / 3, "0.6666666666666666"},
        {DBL_MAX, "1.7976931348623157e+308"},
        {5e-324, "4.94065645841247e-324"},
        {1e14 + 0.5, "100000000000000.5"},
    };
    for (unsigned i = 0; i < sizeof all / sizeof *all; i++) {
        clear();
        double_format(&out, all[i].v);
        if (!slice_eq(buf_slice(&out), slice_str(all[i].text)))
            fail_msg("%s, not %.*s", all[i].text, SLICE_ARG(buf_slice(&out)));
    }
    struct rand r = {.state = 2};
    for (int i = 0; i < 100000; i++) {
        uint64_t bits = rand_next(&r);
        double v;
        memcpy(&v, &bits, sizeof v);
        if (i & 1)
            v = (double)(int64_t)(bits >> 20) / 1000;
        if (!isfinite(v))
            continue;
        clear();
        double_format(&out, v);
        buf_put_u8(&out, 0);
        assert_true(strtod(out.ptr, NULL) == v);
    }
}

/* Against printf: the first of 15 to 17 digits that reads back; of all that is near where numbers
 * are written in another way. */
static void doubles_like_printf(void **state)
{
    struct rand r = {.state = 3};
    for (int i = 0; i < 200000; i++) {
        double scale = pow(10, (double)rand_below(&r, 20));
        double v = (double)(int64_t)(rand_next(&r) >> (1 + rand_below(&r, 63))) / scale;
        if (rand_below(&r, 4) == 0)
            v = nextafter(v, rand_below(&r, 2) ? 1e300 : -1e300);
        if (rand_below(&r, 2))
            v = -v;
        char text[64];
        for (int digits = 15; digits <= 17; digits++) {
            snprintf(text, sizeof text, "%.*g", digits, v);
            if (strtod(text, NULL) == v)
                break;
        }
        clear();
        double_format(&out, v);
        if (!slice_eq(buf_slice(&out), slice_str(text)))
            fail_msg("%s, not %.*s", text, SLICE_ARG(buf_slice(&out)));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(percent),
        cmocka_unit_test(queries),
        cmocka_unit_test(times_good),
        cmocka_unit_test(times_bad),
        cmocka_unit_test(times_format_and_return),
        cmocka_unit_test(times_of_a_day),
        cmocka_unit_test(basic),
        cmocka_unit_test(gzip),
        cmocka_unit_test(gzip_bomb),
        cmocka_unit_test(doubles),
        cmocka_unit_test(doubles_like_printf),
    };
    buf_init(&out, 4096);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    buf_fini(&out);
    return failed;
}
