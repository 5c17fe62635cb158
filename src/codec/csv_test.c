/* SPDX-License-Identifier: Apache-2.0 */
#include "codec/csv.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

/* The text as one line: "1:a|b;2:!1" is line 1 with two fields, line 2 with field 1 wrong. Read
 * from a copy of exactly its size, so that a sanitizer sees every byte too far. */
static char *shown(const char *text, size_t len)
{
    static char out[4096];
    size_t at = 0;
    char *copy = malloc(len ? len : 1);
    memcpy(copy, text, len);
    struct csv c;
    struct csv_record r;
    struct error err;
    out[0] = 0;
    csv_init(&c, slice_of(copy, len), 1);
    for (;;) {
        enum csv_outcome outcome = csv_next(&c, &r, &err);
        if (outcome == CSV_END)
            break;
        at += (size_t)snprintf(out + at, sizeof out - at, "%s%u:", at ? ";" : "", r.line);
        if (outcome == CSV_BAD)
            at += (size_t)snprintf(out + at, sizeof out - at, "!%u", r.count);
        for (unsigned i = 0; outcome == CSV_RECORD && i < r.count; i++)
            at += (size_t)snprintf(out + at, sizeof out - at, "%s%.*s", i ? "|" : "",
                                   SLICE_ARG(r.fields[i]));
    }
    csv_fini(&c);
    free(copy);
    return out;
}

static void reads_lines(void **state)
{
    (void)state;
    static const struct {
        const char *text, *want;
    } all[] = {
        {"", ""},
        {"\n\r\n  \n", ""},
        {"a", "1:a"},
        {"a,b\n", "1:a|b"},
        {"a,b\r\nc,d\r\n", "1:a|b;2:c|d"},
        {"\xef\xbb\xbf"
         "a,b\n",
         "1:a|b"},
        {" a ,\t b \n\n c", "1:a|b;3:c"},
        {",\n", "1:|"},
        {",,", "1:||"},
        {"\"a\"", "1:a"},
        {"\"a,b\" , \"c\"\"d\"\r\n", "1:a,b|c\"d"},
        {"\"\"\"\",\"\"\n", "1:\"|"},
        {"\"a\nb\",c\nd", "1:a\nb|c;3:d"},
        {"\" a \"", "1: a "},
        {"a\"b,c\nd", "1:!0;2:d"},
        {"a,\"b\"c\nd", "1:!1;2:d"},
        {"a,\"b\nc", "1:!1"},
        {"\"", "1:!0"},
        {"a,b\"\n\"c\",d\n", "1:!1;2:c|d"},
    };
    for (unsigned i = 0; i < sizeof all / sizeof *all; i++)
        assert_string_equal(shown(all[i].text, strlen(all[i].text)), all[i].want);
    assert_string_equal(shown("a,b\0c\nd", 7), "1:!1;2:d");
}

static void has_a_maximum_of_fields(void **state)
{
    (void)state;
    char text[200] = "";
    for (unsigned i = 0; i + 1 < CSV_FIELDS_MAX; i++)
        strcat(text, ",");
    strcat(text, "\nx");
    struct csv c;
    struct csv_record r;
    struct error err;
    csv_init(&c, slice_str(text), 7);
    assert_int_equal(csv_next(&c, &r, &err), CSV_RECORD);
    assert_int_equal(r.count, CSV_FIELDS_MAX);
    assert_int_equal(r.line, 7);
    csv_fini(&c);
    memmove(text + 1, text, strlen(text) + 1);
    text[0] = ',';
    csv_init(&c, slice_str(text), 7);
    assert_int_equal(csv_next(&c, &r, &err), CSV_BAD);
    assert_int_equal(csv_next(&c, &r, &err), CSV_RECORD);
    assert_int_equal(r.line, 8);
    csv_fini(&c);
}

static void lines_are_cut_where_they_end(void **state)
{
    (void)state;
    assert_int_equal(csv_line_bytes(SLICE("")), 0);
    assert_int_equal(csv_line_bytes(SLICE("a,b\nc")), 4);
    assert_int_equal(csv_line_bytes(SLICE("a,b")), 3);
    assert_int_equal(csv_line_bytes(SLICE("\"a\nb\"\nc")), 6);
    assert_int_equal(csv_line_bytes(SLICE("\"a\"\"\n\"\nc")), 7);
    assert_int_equal(csv_line_bytes(SLICE("\"a\nb")), 4);
}

/* A good text cut into parts at line ends says the same as the whole. */
static void parts_say_the_same(void **state)
{
    (void)state;
    static const char alphabet[] = "ab,\"\n\r ";
    unsigned seed = 1, good = 0;
    for (unsigned round = 0; round < 20000; round++) {
        char text[24];
        size_t len = (size_t)(rand_r(&seed) % 20);
        for (size_t i = 0; i < len; i++)
            text[i] = alphabet[(unsigned)rand_r(&seed) % (sizeof alphabet - 1)];
        char whole[4096];
        strcpy(whole, shown(text, len));
        if (strchr(whole, '!'))
            continue;
        good++;
        struct csv_record r;
        struct error err;
        char parts[4096] = "";
        struct slice rest = slice_of(text, len);
        unsigned line = 1;
        while (rest.len) {
            struct csv c;
            csv_init(&c, slice_of(rest.ptr, csv_line_bytes(rest)), line);
            for (enum csv_outcome o; (o = csv_next(&c, &r, &err)) != CSV_END;) {
                assert_int_equal(o, CSV_RECORD);
                char *at = parts + strlen(parts);
                at += sprintf(at, "%s%u:", parts[0] ? ";" : "", r.line);
                for (unsigned i = 0; i < r.count; i++)
                    at += sprintf(at, "%s%.*s", i ? "|" : "", SLICE_ARG(r.fields[i]));
            }
            line = c.line;
            rest = slice_from(rest, csv_line_bytes(rest));
            csv_fini(&c);
        }
        assert_string_equal(parts, whole);
    }
    assert_true(good > 2000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_lines),
        cmocka_unit_test(has_a_maximum_of_fields),
        cmocka_unit_test(lines_are_cut_where_they_end),
        cmocka_unit_test(parts_say_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
