/* SPDX-License-Identifier: Apache-2.0 */
#include "codec/topic.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

/* On a block of exactly its size, so that a sanitizer sees every byte too far. */
static char *block(const char *text)
{
    size_t len = strlen(text);
    char *copy = malloc(len ? len : 1);
    assert_non_null(copy);
    memcpy(copy, text, len);
    return copy;
}

static void names(void **state)
{
    (void)state;
    static const char *const good[] = {"a",      "/",   "a/b",      "//", " ",
                                       "$SYS/x", "a b", "\xc3\xa9", "/a", "a/b/c/"};
    static const char *const bad[] = {"", "+", "#", "a/+", "a/#", "a+b", "a#", "#/a"};
    for (unsigned i = 0; i < sizeof good / sizeof *good; i++)
        assert_true(topic_name_valid(slice_str(good[i])));
    for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(topic_name_valid(slice_str(bad[i])));
}

static void filters(void **state)
{
    (void)state;
    static const char *const good[] = {"#",     "+",   "+/+", "/+",   "+/",        "/#",  "a/#",
                                       "a/+/b", "+/#", "/",   "a//#", "sport/+/p", "$a/#"};
    static const char *const bad[] = {"",     "a#",   "a/#/b", "#/",   "a+", "+a",
                                      "a/+b", "a/b#", "##",    "a/#b", "++", "a/++/b"};
    for (unsigned i = 0; i < sizeof good / sizeof *good; i++)
        assert_true(topic_filter_valid(slice_str(good[i])));
    for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(topic_filter_valid(slice_str(bad[i])));
}

/* The examples of section 4.7 and their edges. */
static void matching(void **state)
{
    (void)state;
    static const struct {
        const char *filter, *name;
        bool want;
    } all[] = {
        {"sport/tennis/player1/#", "sport/tennis/player1", true},
        {"sport/tennis/player1/#", "sport/tennis/player1/ranking", true},
        {"sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true},
        {"sport/tennis/player1/#", "sport/tennis/player10", false},
        {"sport/#", "sport", true},
        {"#", "a", true},
        {"#", "/", true},
        {"#", "a/b/c", true},
        {"sport/tennis/+", "sport/tennis/player1", true},
        {"sport/tennis/+", "sport/tennis/player1/ranking", false},
        {"sport/+", "sport", false},
        {"sport/+", "sport/", true},
        {"+/+", "/finance", true},
        {"/+", "/finance", true},
        {"+", "/finance", false},
        {"+", "finance", true},
        {"+/#", "finance", true},
        {"/#", "/", true},
        {"/#", "a", false},
        {"a/b", "a/b", true},
        {"a/b", "a/b/", false},
        {"a/b", "A/b", false},
        {"a/b", "a", false},
        {"a", "a/b", false},
        {"a/+/c", "a//c", true},
        {"a/+/#", "a/b", true},
        {"a/+/#", "a", false},
        {"//", "//", true},
        {"//", "/", false},
        {"#", "$SYS/x", false},
        {"+/x", "$SYS/x", false},
        {"+", "$SYS", false},
        {"$SYS/#", "$SYS/x", true},
        {"$SYS/#", "$SYS", true},
        {"$SYS/+", "$SYS/x", true},
        {"a/#", "a/$b", true},
        {"a/+", "a/$b", true},
    };
    for (unsigned i = 0; i < sizeof all / sizeof *all; i++) {
        char *filter = block(all[i].filter), *name = block(all[i].name);
        bool got = topic_matches(slice_of(filter, strlen(all[i].filter)),
                                 slice_of(name, strlen(all[i].name)));
        if (got != all[i].want)
            fail_msg("%s on %s: %d", all[i].filter, all[i].name, got);
        free(filter);
        free(name);
    }
}

static void shares(void **state)
{
    (void)state;
    static const struct {
        const char *filter;
        enum topic_share want;
        const char *group, *rest;
    } all[] = {
        {"$share/g/a/+", TOPIC_SHARED, "g", "a/+"},
        {"$share/g//a", TOPIC_SHARED, "g", "/a"},
        {"$share/g/#", TOPIC_SHARED, "g", "#"},
        {"$share/g/", TOPIC_SHARE_BAD, "", ""},
        {"$share/g", TOPIC_SHARE_BAD, "", ""},
        {"$share", TOPIC_SHARE_BAD, "", ""},
        {"$share/", TOPIC_SHARE_BAD, "", ""},
        {"$share//a", TOPIC_SHARE_BAD, "", ""},
        {"$share/+/a", TOPIC_SHARE_BAD, "", ""},
        {"$share/g#/a", TOPIC_SHARE_BAD, "", ""},
        {"$share/g/a#", TOPIC_SHARE_BAD, "", ""},
        {"$shared/g/a", TOPIC_PLAIN, "", "$shared/g/a"},
        {"a/$share/b", TOPIC_PLAIN, "", "a/$share/b"},
        {"/$share/g/a", TOPIC_PLAIN, "", "/$share/g/a"},
    };
    for (unsigned i = 0; i < sizeof all / sizeof *all; i++) {
        struct slice group = SLICE(""), rest = SLICE("");
        assert_int_equal(topic_share_split(slice_str(all[i].filter), &group, &rest), all[i].want);
        assert_true(slice_eq(group, slice_str(all[i].group)));
        assert_true(slice_eq(rest, slice_str(all[i].rest)));
    }
}

static void rules(void **state)
{
    (void)state;
    static const struct {
        const char *rules, *self, *filter;
        bool want;
    } all[] = {
        {"", "d", "#", true},
        {"#", "d", "a/b", true},
        {"a/b", "d", "a/b", true},
        {"a/b", "d", "a/c", false},
        {"a/b", "d", "a", false},
        {"a/b", "d", "a/b/c", false},
        {"a/b", "d", "a/b/", false},
        {"a/b", "d", "a/+", false},
        {"a/b", "d", "+/b", false},
        {"a/+", "d", "a/b", true},
        {"a/+", "d", "a/+", true},
        {"a/+", "d", "a/#", false},
        {"a/+", "d", "a", false},
        {"a/+", "d", "a/b/c", false},
        {"a/#", "d", "a", true},
        {"a/#", "d", "a/b/c", true},
        {"a/#", "d", "a/+/c/#", true},
        {"a/#", "d", "#", false},
        {"a/#", "d", "+/b", false},
        {"a/#", "d", "ab", false},
        {"+/b", "d", "#", false},
        {"+", "d", "#", false},
        {"x,a/#", "d", "a/b", true},
        {" x , a/# ", "d", "x", true},
        {"x,a/#", "d", "b", false},
        {"dev/{name}/#", "d1", "dev/d1/x", true},
        {"dev/{name}/#", "d1", "dev/d2/x", false},
        {"dev/{name}/#", "d1", "dev/+/x", false},
        {"dev/{name}/#", "d1", "dev/{name}/x", false},
        {"dev/{name}", "+", "dev/+", false},
        {"dev/{name}", "#", "dev/#", false},
        {"dev/{name}", "a/b", "dev/a/b", false},
        {"dev/{name}", "", "dev/", false},
        {"dev/x{name}", "d1", "dev/x{name}", true},
    };
    for (unsigned i = 0; i < sizeof all / sizeof *all; i++) {
        bool got = topic_rules_cover(slice_str(all[i].rules), slice_str(all[i].self),
                                     slice_str(all[i].filter));
        if (got != all[i].want)
            fail_msg("%s, %s: %s", all[i].rules, all[i].self, all[i].filter);
    }
    static const char *const good[] = {"#", "a", "a,b/+/c", "dev/{name}/#, x"};
    static const char *const bad[] = {"", ",", "a,", ",a", "a,,b", "a#", "a/#/b", "$share/g/a"};
    for (unsigned i = 0; i < sizeof good / sizeof *good; i++)
        assert_true(topic_rules_valid(slice_str(good[i])));
    for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(topic_rules_valid(slice_str(bad[i])));
}

static void levels(void **state)
{
    (void)state;
    struct slice rest = SLICE("a//b/");
    static const char *const want[] = {"a", "", "b", ""};
    for (unsigned i = 0; i < 4; i++) {
        assert_non_null(rest.ptr);
        assert_true(slice_eq(topic_level(&rest), slice_str(want[i])));
    }
    assert_null(rest.ptr);
    /* A level of each length at each place of a word, among bytes that differ from '/' by one bit
     * or by one, and none behind the end. */
    char topic[64];
    for (size_t len = 0; len < 40; len++) {
        for (unsigned c = 1; c < 256; c++) {
            memset(topic, (int)c, sizeof topic);
            topic[len] = '/';
            rest = slice_of(topic, len + 8);
            assert_int_equal(topic_level(&rest).len, c == '/' ? 0 : len);
            assert_ptr_equal(rest.ptr, topic + (c == '/' ? 1 : len + 1));
            rest = slice_of(topic, len);
            assert_int_equal(topic_level(&rest).len, c == '/' ? 0 : len);
            assert_true(!rest.ptr == (c != '/' || len == 0));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names),  cmocka_unit_test(filters), cmocka_unit_test(matching),
        cmocka_unit_test(shares), cmocka_unit_test(levels),  cmocka_unit_test(rules),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
