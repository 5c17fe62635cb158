/* SPDX-License-Identifier: Apache-2.0 */
#include "codec/json.h"

#include <float.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "base/rand.h"
#include "codec/json_differential.h"

#define MUTATIONS 300000

static bool parses(struct slice text)
{
    struct json v;
    size_t at;
    const char *why;
    return json_parse(text, &v, &at, &why);
}

static const struct slice good[] = {
    SLICE("null"),
    SLICE("true"),
    SLICE("false"),
    SLICE(" \t\r\n0\n"),
    SLICE("-0"),
    SLICE("10"),
    SLICE("-0.0e-0"),
    SLICE("1E+5"),
    SLICE("1e5"),
    SLICE("0e0"),
    SLICE("0E99999999999999999999"),
    SLICE("0.000000e99999"),
    SLICE("1e-99999999999999999999"),
    SLICE("123456789.123456789"),
    SLICE("9223372036854775807"),
    SLICE("-9223372036854775808"),
    SLICE("1.7976931348623157e308"),
    SLICE("179769313486231570000000e285"),
    SLICE("0.00017976931348623157e312"),
    SLICE("1.7976931348623158079372e308"),
    SLICE("4.9e-324"),
    SLICE("1e-400"),
    SLICE("1e308"),
    SLICE("\"\""),
    SLICE("\"a b\""),
    SLICE("\"\x7f\""),
    SLICE("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\""),
    SLICE("\"\\u0001\\uFFFF\\ufffe\\u00e4\""),
    SLICE("\"\\ud834\\udd1e\\uDBFF\\uDFFF\""),
    SLICE("\"\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80\""),
    SLICE("\"\xed\x9f\xbf\xee\x80\x80\""),
    SLICE("\"\xf4\x8f\xbf\xbf\xef\xbf\xbf\xc2\x80\xe0\xa0\x80\xf0\x90\x80\x80\""),
    SLICE("[]"),
    SLICE("[ ]"),
    SLICE("{}"),
    SLICE("{ }"),
    SLICE("[1]"),
    SLICE("[1,2 , 3]"),
    SLICE("[[],{},[[]],\"\",null]"),
    SLICE("{\"a\":1}"),
    SLICE("{\"\":\"\"}"),
    SLICE(" { \"a\" : [ 1 , { \"b\" : null } ] , \"c\" : \"}]\\\"\" } "),
    SLICE("{\"a\":1,\"a\":2,\"b\":3,\"\\u0061\":4}"),
    SLICE("[\"\\\\\",\"\\\\\\\"\"]"),
    SLICE("{\"value\":21.50,\"lat\":-1.25e1,\"created_at\":\"2020-05-12T20:52:50Z\"}"),
};

static const struct slice bad[] = {
    SLICE(""),
    SLICE(" "),
    SLICE("\xef\xbb\xbf"
          "1"),
    SLICE("nul"),
    SLICE("nulll"),
    SLICE("True"),
    SLICE("NaN"),
    SLICE("Infinity"),
    SLICE("-Infinity"),
    SLICE("-"),
    SLICE("--1"),
    SLICE("+1"),
    SLICE(".5"),
    SLICE("1."),
    SLICE("1.e1"),
    SLICE("01"),
    SLICE("-01"),
    SLICE("00"),
    SLICE("1e"),
    SLICE("1e+"),
    SLICE("1e1.5"),
    SLICE("0x10"),
    SLICE("1_000"),
    SLICE("1,5"),
    SLICE("1 2"),
    SLICE("1e309"),
    SLICE("-1e309"),
    SLICE("1e999"),
    SLICE("1e999999"),
    SLICE("[1e999999999999]"),
    SLICE("1e99999999999999999999999999"),
    SLICE("1.7976931348623159e308"),
    SLICE("0.00017976931348623159e312"),
    SLICE("\""),
    SLICE("\"\\\""),
    SLICE("\"\\"),
    SLICE("'a'"),
    SLICE("\"\n\""),
    SLICE("\"\t\""),
    SLICE("\"\x00\""),
    SLICE("\"\x1f\""),
    SLICE("\"\\x41\""),
    SLICE("\"\\a\""),
    SLICE("\"\\'\""),
    SLICE("\"\\\x00\""),
    SLICE("\"\\u\""),
    SLICE("\"\\u12\""),
    SLICE("\"\\u123g\""),
    SLICE("\"\\U0041\""),
    SLICE("\"\\u0000\""),
    SLICE("\"\\ud834\""),
    SLICE("\"\\ud834x\""),
    SLICE("\"\\ud834\\n\""),
    SLICE("\"\\ud834\\u0041\""),
    SLICE("\"\\ud834\\ud834\""),
    SLICE("\"\\udd1e\""),
    SLICE("\"\\udd1e\\ud834\""),
    SLICE("\"\\ud834\\udd1\""),
    SLICE("\"\x80\""),
    SLICE("\"\xbf\""),
    SLICE("\"\xc0\xaf\""),
    SLICE("\"\xc1\xbf\""),
    SLICE("\"\xc3\""),
    SLICE("\"\xc3(\""),
    SLICE("\"\xe0\x80\xaf\""),
    SLICE("\"\xe0\x9f\xbf\""),
    SLICE("\"\xe2\x82\""),
    SLICE("\"\xe2\x28\xa1\""),
    SLICE("\"\xed\xa0\x80\""),
    SLICE("\"\xed\xbf\xbf\""),
    SLICE("\"\xf0\x80\x80\xaf\""),
    SLICE("\"\xf0\x8f\xbf\xbf\""),
    SLICE("\"\xf0\x9f\x98\""),
    SLICE("\"\xf4\x90\x80\x80\""),
    SLICE("\"\xf5\x80\x80\x80\""),
    SLICE("\"\xfe\""),
    SLICE("\"\xff\""),
    SLICE("["),
    SLICE("]"),
    SLICE("[1"),
    SLICE("[1,"),
    SLICE("[1,]"),
    SLICE("[,1]"),
    SLICE("[1 2]"),
    SLICE("[1}"),
    SLICE("[[]"),
    SLICE("[]]"),
    SLICE("{"),
    SLICE("}"),
    SLICE("{]"),
    SLICE("{\"a\"}"),
    SLICE("{\"a\":}"),
    SLICE("{\"a\":1,}"),
    SLICE("{,}"),
    SLICE("{a:1}"),
    SLICE("{1:1}"),
    SLICE("{null:1}"),
    SLICE("{\"a\" 1}"),
    SLICE("{\"a\":1 \"b\":2}"),
    SLICE("{\"a\":1]"),
    SLICE("{\"a\"::1}"),
    SLICE("{\"a\":1}{"),
    SLICE("{\"a\":1} x"),
    SLICE("[1]\x00"),
    SLICE("\x00"),
    SLICE("1\x0b"),
    SLICE("\xc2\xa0"
          "1"),
    SLICE("[1]//x"),
    SLICE("/**/1"),
};

static void agrees_on_the_tables(void **state)
{
    for (unsigned i = 0; i < sizeof good / sizeof *good; i++) {
        const char *why = json_differential(good[i]);
        if (why || !parses(good[i]))
            fail_msg("good %u, %.*s: %s", i, SLICE_ARG(good[i]), why ? why : "refused");
    }
    for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
        const char *why = json_differential(bad[i]);
        if (why || parses(bad[i]))
            fail_msg("bad %u, %.*s: %s", i, SLICE_ARG(bad[i]), why ? why : "accepted");
    }
}

static void documented_exceptions(void **state)
{
    char text[256], nested[80];
    for (int depth = 31; depth <= 33; depth++) {
        memset(nested, '[', (size_t)depth);
        memset(nested + depth, ']', (size_t)depth);
        assert_true(parses(slice_of(nested, (size_t)depth * 2)) == (depth <= JSON_DEPTH_MAX));
    }
    assert_true(parses(SLICE("18446744073709551615")));
    assert_true(parses(SLICE("-9223372036854775809")));
    memset(text, '1', 255);
    assert_true(parses(slice_of(text, 255)));
    char digits[400];
    memset(digits, '9', sizeof digits);
    assert_true(parses(slice_of(digits, 308)));
    assert_false(parses(slice_of(digits, 309))); /* rounds to 1e309 */
    digits[0] = '1';
    memset(digits + 1, '0', 399);
    assert_true(parses(slice_of(digits, 309))); /* 1e308 */
}

/* No stack is spent on depth, no time beyond the length. */
static void stands_a_bomb(void **state)
{
    size_t n = 1 << 20;
    char *text = malloc(n);
    memset(text, '[', n);
    assert_false(parses(slice_of(text, n)));
    memset(text, '9', n);
    assert_false(parses(slice_of(text, n)));
    text[1] = '.';
    assert_true(parses(slice_of(text, n)));
    memset(text, '0', n);
    memcpy(text, "1e", 2);
    assert_true(parses(slice_of(text, n)));
    memset(text + 2, '9', n - 2);
    assert_false(parses(slice_of(text, n)));
    memcpy(text, "0e", 2);
    assert_true(parses(slice_of(text, n)));
    free(text);
}

static void names_the_place(void **state)
{
    struct json v;
    size_t at = 0;
    const char *why = NULL;
    assert_false(json_parse(SLICE("{\"a\":1e999}"), &v, &at, &why));
    assert_int_equal(at, 5);
    assert_string_equal(why, "a number out of range");
    assert_false(json_parse(SLICE("[1, 2] x"), &v, &at, &why));
    assert_int_equal(at, 7);
    assert_false(json_parse(SLICE("[\"\\q\"]"), &v, &at, &why));
    assert_int_equal(at, 2);
}

static void takes_one_after_the_other(void **state)
{
    struct slice rest = SLICE(" {\"a\":1}\n[2] \"x\"3 ");
    struct json v;
    size_t at;
    const char *why;
    const char *all[] = {"{\"a\":1}", "[2]", "x", "3"};
    for (unsigned i = 0; i < 4; i++) {
        assert_true(json_take(&rest, &v, &at, &why));
        assert_true(slice_eq(v.raw, slice_str(all[i])));
    }
    assert_false(json_take(&rest, &v, &at, &why));
    assert_int_equal(rest.len, 1);
}

static void unescapes_and_compacts(void **state)
{
    struct buf out;
    struct json v;
    size_t at;
    const char *why;
    buf_init(&out, 4096);
    assert_true(json_parse(SLICE("\"a\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e4\\u20AC\\ud83d\\ude00z\""),
                           &v, &at, &why));
    assert_true(v.escaped);
    json_unescape(v, &out);
    assert_true(
        slice_eq(buf_slice(&out), SLICE("a\"\\/\b\f\n\r\t\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80z")));
    buf_clear(&out);
    assert_true(
        json_parse(SLICE(" { \"a b\" :\t[ 1.50 , \" \\\" x\" ,\r\n{ } ] } "), &v, &at, &why));
    json_compact(v, &out);
    assert_true(slice_eq(buf_slice(&out), SLICE("{\"a b\":[1.50,\" \\\" x\",{}]}")));
    buf_clear(&out);
    assert_true(json_parse(SLICE(" \"a \\n b\" "), &v, &at, &why));
    json_compact(v, &out);
    assert_true(slice_eq(buf_slice(&out), SLICE("\"a \\n b\"")));
    buf_fini(&out);
}

static void reads_doubles(void **state)
{
    static const struct {
        const char *text;
        double value;
    } all[] = {
        {"0", 0},
        {"-1.5", -1.5},
        {"21.50", 21.5},
        {"0.1", 0.1},
        {"1e3", 1000},
        {"1E-2", 0.01},
        {"123456789012345", 123456789012345.0},
        {"0.000000000000001", 1e-15},
        {"9007199254740993", 9007199254740992.0},
        {"9007199254740993.0000000000001", 9007199254740994.0},
        {"1.7976931348623157e308", DBL_MAX},
        {"2.2250738585072014e-308", DBL_MIN},
        {"5e-324", 5e-324},
        {"2e-324", 0},
        {"1e-999999999", 0},
        {"0.3", 0.3},
        {"0.30000000000000004", 0.30000000000000004},
        {"52.520008", 52.520008},
    };
    for (unsigned i = 0; i < sizeof all / sizeof *all; i++) {
        double d = json_double((struct json){.type = JSON_NUMBER, .raw = slice_str(all[i].text)});
        if (d != all[i].value)
            fail_msg("%s gives %.17g", all[i].text, d);
    }
    /* Half-way between 1 and the next double, and the least bit more, a thousand digits on. */
    char tie[1100] = "1.00000000000000011102230246251565404236316680908203125";
    struct json v = {.type = JSON_NUMBER, .raw = slice_str(tie)};
    assert_true(json_double(v) == 1.0);
    memset(tie + v.raw.len, '0', 1000);
    v.raw.len += 1000;
    assert_true(json_double(v) == 1.0);
    tie[v.raw.len - 1] = '1';
    assert_true(json_double(v) == 1.0 + DBL_EPSILON);
    struct rand rand = {.state = 9};
    for (int i = 0; i < 200000; i++) { /* any double, and any short decimal, as strtod reads it */
        char text[64];
        uint64_t bits = rand_next(&rand);
        double d;
        memcpy(&d, &bits, sizeof d);
        if (i & 1)
            snprintf(text, sizeof text, "%lld.%0*llu", (long long)rand_below(&rand, 100000) - 50000,
                     1 + (int)rand_below(&rand, 9), (unsigned long long)rand_below(&rand, 100000));
        else if (isfinite(d))
            snprintf(text, sizeof text, "%.*e", (int)rand_below(&rand, 25), d);
        else
            continue;
        double got = json_double((struct json){.type = JSON_NUMBER, .raw = slice_str(text)});
        if (got != strtod(text, NULL))
            fail_msg("%s gives %.17g", text, got);
    }
}

/* One random change to `text` (room for 400 bytes); returns its new length. */
static size_t mutate(struct rand *r, char *text, size_t len)
{
    static const char *const pieces[] = {
        "\"",          "\\",       "{",    "}",        "[",       "]",
        ",",           ":",        " ",    "\n",       "0",       "-",
        ".",           "e",        "E+",   "1e30",     "9",       "null",
        "true",        "false",    "\\u",  "\\ud83d",  "\\ude00", "\\u0000",
        "\\n",         "\xc3\xa4", "\xe2", "\xf0\x9f", "\x80",    "\xed\xa0\x80",
        "\xff",        "\t",       "\x01", "\"a\":",   "{\"\":",  "1e308",
        "99999999999",
    };
    size_t at = rand_below(r, len + 1);
    switch (rand_below(r, 4)) {
    case 0:
        if (len && at < len)
            text[at] = (char)rand_next(r);
        return len;
    case 1: { /* a piece out */
        size_t n = at + rand_below(r, 6);
        n = n < len ? n : len;
        memmove(text + at, text + n, len - n);
        return len - (n - at);
    }
    case 2: { /* a piece of itself in */
        size_t from = rand_below(r, len + 1), n = rand_below(r, 12);
        char copy[12];
        n = n < len - from ? n : len - from;
        if (len + n > 400)
            return len;
        memcpy(copy, text + from, n);
        memmove(text + at + n, text + at, len - at);
        memcpy(text + at, copy, n);
        return len + n;
    }
    default: {
        const char *piece = pieces[rand_below(r, sizeof pieces / sizeof *pieces)];
        size_t n = strlen(piece);
        if (len + n > 400)
            return len;
        memmove(text + at + n, text + at, len - at);
        memcpy(text + at, piece, n);
        return len + n;
    }
    }
}

static void agrees_on_random_damage(void **state)
{
    struct rand rand = {.state = 20};
    unsigned accepted = 0;
    char text[512];
    for (int round = 0; round < MUTATIONS; round++) {
        bool from_good = rand_below(&rand, 4) != 0;
        struct slice from = from_good ? good[rand_below(&rand, sizeof good / sizeof *good)]
                                      : bad[rand_below(&rand, sizeof bad / sizeof *bad)];
        size_t len = from.len;
        memcpy(text, from.ptr, len);
        for (uint64_t n = rand_below(&rand, 4); n; n--)
            len = mutate(&rand, text, len);
        const char *why = json_differential(slice_of(text, len));
        if (why)
            fail_msg("round %d: %s: %.*s (%zu bytes)", round, why, (int)len, text, len);
        accepted += parses(slice_of(text, len));
    }
    /* Both verdicts must have been tried in earnest. */
    assert_true(accepted > MUTATIONS / 10 && accepted < MUTATIONS * 9 / 10);
}

/* Every text of up to four bytes over the alphabet of numbers: the grammar exactly. */
static void agrees_on_all_short_numbers(void **state)
{
    static const char alphabet[] = "019-+.eE ,";
    enum { N = sizeof alphabet - 1 };
    for (int n = 0; n < N * N * N * N * N; n++) {
        char text[5];
        for (int i = 0, v = n; i < 5; i++, v /= N)
            text[i] = alphabet[v % N];
        for (size_t len = 1; len <= 5; len += 2) {
            const char *why = json_differential(slice_of(text, len));
            if (why)
                fail_msg("%s: %.*s", why, (int)len, text);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(agrees_on_the_tables),
        cmocka_unit_test(documented_exceptions),
        cmocka_unit_test(stands_a_bomb),
        cmocka_unit_test(names_the_place),
        cmocka_unit_test(takes_one_after_the_other),
        cmocka_unit_test(unescapes_and_compacts),
        cmocka_unit_test(reads_doubles),
        cmocka_unit_test(agrees_on_all_short_numbers),
        cmocka_unit_test(agrees_on_random_damage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
