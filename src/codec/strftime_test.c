/* SPDX-License-Identifier: Apache-2.0 */
#include "codec/strftime.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <time.h>
#include <cmocka.h>

#include "base/clock.h"

#pragma GCC diagnostic ignored "-Wformat-y2k" /* two digits are what is compared */

static const char *shown(int64_t us, const struct zone_time *zone, const char *text)
{
    static char out[8192];
    struct shown_time t;
    struct buf b;
    buf_init(&b, sizeof out - 1);
    time_show(us, zone, &t);
    time_format(&b, slice_str(text), &t);
    assert_false(b.failed);
    memcpy(out, b.ptr ? b.ptr : "", b.len);
    out[b.len] = 0;
    buf_fini(&b);
    return out;
}

/* 2019-07-03 14:47:16.038007 UTC, a Wednesday. */
#define MOMENT INT64_C(1562165236038007)

static void writes_as_ruby(void **state)
{
    (void)state;
    static const struct {
        const char *format, *want;
    } all[] = {
        {"", ""},
        {"plain", "plain"},
        {"%Y-%m-%d %H:%M:%S.%L %j %u %z %Z", "2019-07-03 16:47:16.038 184 3 +0200 CEST"},
        {"%N %3N %6N %9N %12N %1L", "038007000 038 038007 038007000 038007000000 0"},
        {"%I:%M %p %P %l %k %-I %-l %-m/%-d", "04:47 PM pm  4 16 4 4 7/3"},
        {"%^a %^B %#p %#Z %#a", "WED JULY pm cest WED"},
        {"%10a|%-10a|%010d|%_5m|%3S", "       Wed|Wed|0000000003|    7|016"},
        {"%:z %::z %10z %+", "+02:00 +02:00:00 +000000200 Wed Jul  3 16:47:16 CEST 2019"},
        {"%c|%D|%F|%R|%r|%T|%X|%x|%v",
         "Wed Jul  3 16:47:16 2019|07/03/19|2019-07-03|16:47|04:47:16 PM|16:47:16|16:47:16|"
         "07/03/19| 3-JUL-2019"},
        {"%20F|%^20c", "          2019-07-03|WED JUL  3 16:47:16 2019"},
        {"%C %y %G %g %V %U %W %w %s", "20 19 2019 19 27 26 26 3 1562165236"},
        {"%h%%%n%t%A", "Jul%\n\tWednesday"},
        /* What is none stays. */
        {"%", "%"},
        {"%!", "%!"},
        {"100%, %Q %:d %65Y %", "100%, %Q %:d %65Y %"},
        {"%-", "%-"},
    };
    const struct zone_time berlin = {.offset_s = 7200, .is_dst = true, .abbreviation = "CEST"};
    for (unsigned i = 0; i < sizeof all / sizeof *all; i++)
        assert_string_equal(shown(MOMENT, &berlin, all[i].format), all[i].want);
    const struct zone_time west = {.offset_s = -12615, .abbreviation = "-033015"};
    assert_string_equal(shown(0, &west, "%FT%T%z %::z"), "1969-12-31T20:29:45-0330 -03:30:15");
    const struct zone_time utc = zone_utc();
    assert_string_equal(shown(-1, &utc, "%F %T.%6N %s"), "1969-12-31 23:59:59.999999 -1");
    assert_string_equal(shown(INT64_C(-62198755200) * US_PER_S, &utc, "%Y-%m"), "-0001-01");
}

/* Every letter that C has too, over many days, ends and beginnings of years among them. */
static void agrees_with_the_c_library(void **state)
{
    (void)state;
    static const char all[] =
        "%a %A %b %B %c %C %d %D %e %F %g %G %h %H %I %j %k %l %m %M %n %p %P "
        "%r %R %s %S %t %T %u %U %V %w %W %x %X %y %Y %%";
    const struct zone_time utc = zone_utc();
    setenv("TZ", "UTC0", 1);
    tzset();
    for (int64_t day = -200000; day < 200000; day += day % 365 < 10 ? 1 : 7) {
        time_t t = (time_t)(day * 86400 + (day * 7919) % 86400);
        struct tm tm;
        char want[1000];
        gmtime_r(&t, &tm);
        assert_true(strftime(want, sizeof want, all, &tm));
        assert_string_equal(shown((int64_t)t * US_PER_S, &utc, all), want);
    }
}

static void stays_small(void **state)
{
    (void)state;
    const struct zone_time utc = zone_utc();
    char text[121];
    for (unsigned i = 0; i < 120; i += 4)
        memcpy(text + i, "%64c", 4);
    text[120] = 0;
    assert_true(strlen(shown(MOMENT, &utc, text)) <= 32 * 120);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writes_as_ruby),
        cmocka_unit_test(agrees_with_the_c_library),
        cmocka_unit_test(stays_small),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
