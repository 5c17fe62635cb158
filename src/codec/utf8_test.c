/* SPDX-License-Identifier: Apache-2.0 */
#include "codec/utf8.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

enum { LONGEST = 40 };

/* One sequence after the other. */
static bool by_sequence(struct slice s)
{
    const char *p = s.ptr, *end = s.ptr + s.len;
    while (p < end) {
        size_t n = *p ? utf8_sequence(p, end) : 0;
        if (!n)
            return false;
        p += n;
    }
    return true;
}

/* Every piece of text at every place and in texts of every length: words and what is left of them.
 */
static void test_text_is_judged_the_same_at_any_place(void **state)
{
    static const struct slice pieces[] = {
        {"\0", 1},           {"\x01", 1},         {"\x7f", 1},
        {"\x80", 1},         {"\xff", 1},         {"\xc3\xa4", 2},
        {"\xc3", 1},         {"\xc0\x80", 2},     {"\xe2\x82\xac", 3},
        {"\xed\xa0\x80", 3}, {"\xe2\x82", 2},     {"\xf0\x9f\x98\x80", 4},
        {"\xf5\x80", 2},     {"\x01\x00\x01", 3}, {"\x00\x80", 2},
        {"\x80\x00", 2},     {"\xf0\x9f\x98", 3}, {"\xf4\x90\x80\x80", 4},
    };
    char text[LONGEST];
    unsigned good = 0, bad = 0;
    for (size_t i = 0; i < sizeof pieces / sizeof pieces[0]; i++) {
        for (size_t len = pieces[i].len; len <= LONGEST; len++) {
            for (size_t at = 0; at + pieces[i].len <= len; at++) {
                memset(text, 'a', len);
                memcpy(text + at, pieces[i].ptr, pieces[i].len);
                struct slice s = slice_of(text, len);
                assert_int_equal(utf8_text(s), by_sequence(s));
                good += utf8_text(s);
                bad += !utf8_text(s);
            }
        }
    }
    assert_true(good > 1000 && bad > 1000);
    assert_true(utf8_text((struct slice){0}));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text_is_judged_the_same_at_any_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
