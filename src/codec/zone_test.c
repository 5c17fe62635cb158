/* SPDX-License-Identifier: Apache-2.0 */
#include "codec/zone.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <cmocka.h>

#include "base/buf.h"

#define ZONES "/usr/share/zoneinfo"

/* ---- files that are made here -----------------------------------------------------------------
 */

struct kind {
    int32_t offset_s;
    uint8_t is_dst, text_at;
};

struct made {
    char version;
    unsigned times_count, kinds_count;
    int64_t times[4];
    uint8_t to[4];
    struct kind kinds[2];
    const char *text; /* abbreviations, NUL and all */
    size_t text_len;
    uint32_t leaps;
    const char *rule; /* NULL: the line is missing */
};

static void put_be(struct buf *b, uint64_t v, unsigned bytes)
{
    while (bytes--)
        buf_put_u8(b, (uint8_t)(v >> 8 * bytes));
}

static void put_part(struct buf *b, const struct made *m, unsigned wide)
{
    buf_put_str(b, "TZif");
    buf_put_u8(b, (uint8_t)m->version);
    for (unsigned i = 0; i < 15; i++)
        buf_put_u8(b, 0);
    const uint64_t counts[] = {0, 0, m->leaps, m->times_count, m->kinds_count, m->text_len};
    for (unsigned i = 0; i < 6; i++)
        put_be(b, counts[i], 4);
    for (unsigned i = 0; i < m->times_count; i++)
        put_be(b, (uint64_t)m->times[i], wide);
    buf_put(b, m->to, m->times_count);
    for (unsigned i = 0; i < m->kinds_count; i++) {
        put_be(b, (uint32_t)m->kinds[i].offset_s, 4);
        buf_put_u8(b, m->kinds[i].is_dst);
        buf_put_u8(b, m->kinds[i].text_at);
    }
    buf_put(b, m->text, m->text_len);
    for (unsigned i = 0; i < m->leaps * (wide + 4); i++)
        buf_put_u8(b, 0);
}

static void make(struct buf *b, const struct made *m)
{
    buf_clear(b);
    put_part(b, m, 4);
    if (m->version)
        put_part(b, m, 8);
    if (m->version && m->rule)
        buf_printf(b, "\n%s\n", m->rule);
}

static const struct made good = {.version = '2',
                                 .times_count = 2,
                                 .kinds_count = 2,
                                 .times = {1000, 2000},
                                 .to = {1, 0},
                                 .kinds = {{3600, 0, 0}, {7200, 1, 4}},
                                 .text = "CET\0CEST",
                                 .text_len = 9,
                                 .rule = "CET-1CEST,M3.5.0,M10.5.0/3"};

static const char *why_not(const struct made *m)
{
    struct buf b;
    struct zone z;
    buf_init(&b, 1 << 16);
    make(&b, m);
    const char *why = zone_parse(buf_slice(&b), &z);
    buf_fini(&b);
    return why ? why : "";
}

static void reads_a_file(void **state)
{
    (void)state;
    struct buf b;
    struct zone z;
    buf_init(&b, 1 << 16);
    struct made m = good;
    for (m.version = 0; m.version < '5'; m.version = m.version ? m.version + 1 : '2') {
        make(&b, &m);
        assert_null(zone_parse(buf_slice(&b), &z));
        assert_string_equal(zone_at(&z, INT64_MIN).abbreviation, "CET"); /* before the first */
        assert_string_equal(zone_at(&z, 999).abbreviation, "CET");
        assert_string_equal(zone_at(&z, 1000).abbreviation, "CEST");
        assert_int_equal(zone_at(&z, 1999).offset_s, 7200);
        assert_true(zone_at(&z, 1999).is_dst);
        assert_int_equal(zone_at(&z, 2000).offset_s, 3600);
        /* Later times follow the rule, where there is one. */
        assert_int_equal(zone_at(&z, 1782864000).offset_s, m.version ? 7200 : 3600);
    }
    m.version = '2';
    m.rule = "";
    make(&b, &m);
    assert_null(zone_parse(buf_slice(&b), &z));
    assert_int_equal(zone_at(&z, 1782864000).offset_s, 3600);
    /* Every byte of it is looked for before it is read. */
    for (size_t cut = 0; cut < b.len; cut++) {
        char *copy = malloc(cut ? cut : 1);
        memcpy(copy, b.ptr, cut);
        assert_non_null(zone_parse(slice_of(copy, cut), &z));
        free(copy);
    }
    buf_fini(&b);
}

static void refuses_bad_files(void **state)
{
    (void)state;
    struct made m = good;
    m.times[1] = 1000;
    assert_string_equal(why_not(&m), "its changes are not in the order of time");
    m = good;
    m.to[1] = 2;
    assert_string_equal(why_not(&m), "a change leads to a kind of local time that is not there");
    m = good;
    m.kinds[1].offset_s = ZONE_OFFSET_MAX + 1;
    assert_non_null(strstr(why_not(&m), "26 hours"));
    m.kinds[1].offset_s = INT32_MIN;
    assert_non_null(strstr(why_not(&m), "26 hours"));
    m = good;
    m.kinds[1].is_dst = 2;
    assert_non_null(strstr(why_not(&m), "malformed"));
    m = good;
    m.kinds[1].text_at = 9;
    assert_non_null(strstr(why_not(&m), "abbreviation"));
    m = good;
    m.text_len = 8; /* the last one does not end */
    assert_non_null(strstr(why_not(&m), "abbreviation"));
    m = good;
    m.leaps = 1;
    assert_string_equal(why_not(&m), "it counts leap seconds");
    m = good;
    m.kinds_count = 0;
    assert_non_null(strstr(why_not(&m), "kinds of local time"));
    m = good;
    m.rule = NULL;
    assert_non_null(strstr(why_not(&m), "is missing"));
    m.rule = "CET-1CEST";
    assert_non_null(strstr(why_not(&m), "POSIX"));
    m = good;
    m.version = '1';
    assert_string_equal(why_not(&m), "its version is unknown");
    struct zone z;
    assert_string_equal(zone_parse(SLICE("#!/bin/sh\n"), &z), "it is no TZif file");
    assert_string_equal(zone_parse((struct slice){0}, &z), "it is no TZif file");
}

/* ---- rules ------------------------------------------------------------------------------------
 */

static struct zone_time rule_at(const char *text, int64_t time_s)
{
    struct zone_rule r;
    assert_null(zone_rule_parse(slice_str(text), &r));
    return zone_rule_at(&r, time_s);
}

static void follows_rules(void **state)
{
    (void)state;
    static const char berlin[] = "CET-1CEST,M3.5.0,M10.5.0/3";
    assert_int_equal(rule_at(berlin, 1774745999).offset_s, 3600); /* 2026-03-29 00:59:59 UTC */
    assert_int_equal(rule_at(berlin, 1774746000).offset_s, 7200);
    assert_int_equal(rule_at(berlin, 1792889999).offset_s, 7200); /* 2026-10-25 00:59:59 UTC */
    assert_int_equal(rule_at(berlin, 1792890000).offset_s, 3600);
    /* South of the equator summer goes over the year's end. */
    static const char sydney[] = "AEST-10AEDT,M10.1.0,M4.1.0/3";
    assert_string_equal(rule_at(sydney, 1767225600).abbreviation, "AEDT");
    assert_string_equal(rule_at(sydney, 1780272000).abbreviation, "AEST");
    /* Hours beyond the day, and before it (Godthab, and what Gaza once had). */
    static const char nuuk[] = "<-02>2<-01>,M3.5.0/-1,M10.5.0/0";
    assert_int_equal(rule_at(nuuk, 1774745999).offset_s, -7200);
    assert_int_equal(rule_at(nuuk, 1774746000).offset_s, -3600);
    /* Summer all year: no hole at its end (RFC 9636, section 3.3.1). */
    for (int64_t t = 1767225600 - 7200; t < 1767225600 + 7200 * 4; t += 60)
        assert_true(rule_at("EST5EDT,0/0,J365/25", t).is_dst);
    /* J60 is 1 March in any year, 59 is 29 February in a leap year: 2028-02-29 and 2027-03-01. */
    assert_int_equal(rule_at("AAA0BBB,J60/0,J300/0", 1835481599).offset_s, 0);
    assert_int_equal(rule_at("AAA0BBB,J60/0,J300/0", 1835481600).offset_s, 3600);
    assert_int_equal(rule_at("AAA0BBB,59/0,J300/0", 1835395199).offset_s, 0);
    assert_int_equal(rule_at("AAA0BBB,59/0,J300/0", 1835395200).offset_s, 3600);
    assert_int_equal(rule_at("<+0545>-5:45", 0).offset_s, 20700);
    assert_string_equal(rule_at("<+0545>-5:45", 0).abbreviation, "+0545");
    assert_int_equal(rule_at("AAA3:30:15", 0).offset_s, -12615);
    rule_at(berlin, INT64_MAX);
    rule_at(berlin, INT64_MIN);
}

static void refuses_bad_rules(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "CET",
        "CE-1",
        "-1",
        "CET-25",
        "CET-1:60",
        "CET-1CEST",
        "CET-1CEST,M3.5.0",
        "CET-1CEST,M3.5.0,",
        "CET-1CEST,M0.5.0,M10.5.0",
        "CET-1CEST,M13.5.0,M10.5.0",
        "CET-1CEST,M3.0.0,M10.5.0",
        "CET-1CEST,M3.6.0,M10.5.0",
        "CET-1CEST,M3.5.7,M10.5.0",
        "CET-1CEST,M3.5.0/168,M10.5.0",
        "CET-1CEST,J0,J1",
        "CET-1CEST,J366,J1",
        "CET-1CEST,366,1",
        "CET-1CEST,M3.5.0,M10.5.0 ",
        "<CET-1",
        "<AB>1",
        "<A B C>1",
        "ABCDEFGHIJKLMNOP1",
        "CET99999999999999999999",
        ":Europe/Berlin",
    };
    struct zone_rule r;
    for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++)
        if (!zone_rule_parse(slice_str(bad[i]), &r))
            fail_msg("taken for a rule: \"%s\"", bad[i]);
}

/* ---- the machine's own zones, beside the C library ---------------------------------------------
 */

static unsigned compared;

static void compare(const char *path, struct slice file)
{
    struct zone z;
    const char *why = zone_parse(file, &z);
    if (why)
        fail_msg("%s: %s", path, why);
    char text[400];
    snprintf(text, sizeof text, ":%s", path);
    setenv("TZ", text, 1);
    tzset();
    /* 1902 to 2400, and each side of every change until 2037. */
    int64_t at[2000];
    unsigned n = 0;
    for (int64_t t = -2145916800; t < INT64_C(13569465600); t += 86400 * 433 + 12345)
        at[n++] = t;
    for (unsigned i = 0; i < z.times_count && n + 2 < 2000; i++) {
        uint64_t v = 0;
        for (unsigned k = 0; k < z.wide; k++)
            v = v << 8 | z.times[i * z.wide + k];
        int64_t change = z.wide == 8 ? (int64_t)v : (int32_t)(uint32_t)v;
        if (i == 0)
            continue; /* what was before it the C library does not say */
        at[n++] = change - 1;
        at[n++] = change;
    }
    for (unsigned i = 0; i < n; i++) {
        struct tm tm;
        time_t t = (time_t)at[i];
        struct zone_time got = zone_at(&z, at[i]);
        localtime_r(&t, &tm);
        if (got.offset_s != tm.tm_gmtoff || got.is_dst != (tm.tm_isdst > 0) ||
            strcmp(got.abbreviation, tm.tm_zone) != 0)
            fail_msg("%s at %lld: %d %d %s, the C library %ld %d %s", path, (long long)at[i],
                     got.offset_s, got.is_dst, got.abbreviation, tm.tm_gmtoff, tm.tm_isdst,
                     tm.tm_zone);
    }
    compared++;
}

static void walk(const char *dir)
{
    DIR *d = opendir(dir);
    struct dirent *e;
    while (d && (e = readdir(d))) {
        char path[600];
        struct stat st;
        snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
        if (e->d_name[0] == '.' || strcmp(e->d_name, "right") == 0 || stat(path, &st) != 0)
            continue;
        if (S_ISDIR(st.st_mode)) {
            walk(path);
            continue;
        }
        char *bytes = malloc(ZONE_FILE_MAX);
        FILE *f = fopen(path, "rb");
        size_t len = f ? fread(bytes, 1, ZONE_FILE_MAX, f) : 0;
        if (f)
            fclose(f);
        char *copy = malloc(len ? len : 1); /* exactly its size */
        memcpy(copy, bytes, len);
        if (len > 4 && memcmp(copy, "TZif", 4) == 0)
            compare(path, slice_of(copy, len));
        free(copy);
        free(bytes);
    }
    if (d)
        closedir(d);
}

static void agrees_with_the_c_library(void **state)
{
    (void)state;
    walk(ZONES);
    if (!compared)
        skip(); /* no tzdata here */
    assert_true(compared > 300);
}

static void checks_names(void **state)
{
    (void)state;
    static const char *const names[] = {
        "UTC",       "Europe/Berlin", "America/Argentina/Buenos_Aires",
        "Etc/GMT+3", "Etc/GMT-14",    "EST5EDT"};
    static const char *const bad[] = {
        "",          "/etc/passwd", "../passwd", "Europe/../x", "Europe/",      "a//b",
        "a/.hidden", ".",           "a b",       "a\\b",        "-Europe",      "Europe/-",
        "a:b",       "Zürich",      "a\nb",      "%2e%2e",      "Europe/Ber*in"};
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++)
        assert_true(zone_name_is_valid(slice_str(names[i])));
    for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++)
        if (zone_name_is_valid(slice_str(bad[i])))
            fail_msg("taken for a name: \"%s\"", bad[i]);
    char text[ZONE_NAME_MAX + 1];
    memset(text, 'a', sizeof text);
    assert_true(zone_name_is_valid(slice_of(text, ZONE_NAME_MAX)));
    assert_false(zone_name_is_valid(slice_of(text, ZONE_NAME_MAX + 1)));
    assert_false(zone_name_is_valid(slice_of("a\0b", 3)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_a_file),
        cmocka_unit_test(refuses_bad_files),
        cmocka_unit_test(follows_rules),
        cmocka_unit_test(refuses_bad_rules),
        cmocka_unit_test(agrees_with_the_c_library),
        cmocka_unit_test(checks_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
