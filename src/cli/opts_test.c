/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/opts.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "cli/cli.h"

static const char *file, *first, *second;
static bool loud;
static struct opt_list set;

static const struct opt opts[] = {
    {"file", "FILE",
     "Where to look; this text is long enough to be broken into more than one line of "
     "help, which then goes on under its beginning",
     &file, NULL, NULL},
    {"loud", NULL, "Say more", NULL, &loud, NULL},
    {"set", "NAME=VALUE", "Several", NULL, NULL, &set},
    {0},
};
static const struct opt_arg args[] = {
    {"FIRST", "The first", &first, true}, {"SECOND", "The second", &second, false}, {0}};
static const struct opt_syntax syntax = {.path = "sluice test",
                                         .text = "Test options",
                                         .args = args,
                                         .opts = opts,
                                         .examples = "  sluice test x\n"};

/* Parses words separated by blanks; the status, or -1 to go on. */
static int parse(const char *line)
{
    static char text[4000];
    char *argv[200] = {"test"}, *rest = text, *word;
    int argc = 1, status = -1;
    file = first = second = NULL;
    loud = false;
    set.count = 0;
    snprintf(text, sizeof text, "%s", line);
    while ((word = strsep(&rest, " ")))
        argv[argc++] = word;
    if (!*line)
        argc = 1;
    return opts_parse(&syntax, argc, argv, &status) ? -1 : status;
}

static void takes_options_and_arguments(void **state)
{
    assert_int_equal(parse("a"), -1);
    assert_string_equal(first, "a");
    assert_null(second);
    assert_int_equal(parse("--file f a --loud b"), -1);
    assert_string_equal(file, "f");
    assert_string_equal(first, "a");
    assert_string_equal(second, "b");
    assert_true(loud);
    assert_int_equal(parse("--file=f=g a --set x.y=1 --set=x.z= "), -1);
    assert_string_equal(file, "f=g");
    assert_int_equal(set.count, 2);
    assert_string_equal(set.values[0], "x.y=1");
    assert_string_equal(set.values[1], "x.z=");
    assert_string_equal(second, "");
    /* A value may look like an option, and "--" ends options, "-" is an argument. */
    assert_int_equal(parse("--file --loud - -- --set"), -1);
    assert_string_equal(file, "--loud");
    assert_false(loud);
    assert_string_equal(first, "-");
    assert_string_equal(second, "--set");
}

static void refuses_mistakes(void **state)
{
    static const char *const bad[] = {
        "",         "--file f", "a b c",      "a --fil f",           "a --files f", "a -x",
        "a --file", "a --set",  "a --loud=1", "a --file f --file g", "a --=x",
    };
    for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++)
        if (parse(bad[i]) != CLI_USAGE)
            fail_msg("taken: %s", bad[i]);
    char many[2000] = "a";
    for (unsigned i = 0, at = 1; i <= OPT_LIST_MAX; i++, at += 8)
        memcpy(many + at, " --set x", 9);
    assert_int_equal(parse(many), CLI_USAGE);
    many[1 + 8 * OPT_LIST_MAX] = 0;
    assert_int_equal(parse(many), -1);
}

static void helps_from_the_table(void **state)
{
    char *text;
    size_t len;
    FILE *out = open_memstream(&text, &len);
    opts_help(&syntax, out);
    fclose(out);
    assert_non_null(strstr(text, "Usage: sluice test FIRST [SECOND] [options]\n"));
    for (const struct opt *o = opts; o->name; o++)
        assert_non_null(strstr(text, o->name));
    assert_non_null(strstr(text, "\n  --loud                  Say more\n"));
    assert_non_null(strstr(text, "sluice test x\n"));
    for (char *line = text, *end; (end = strchr(line, '\n')); line = end + 1)
        assert_true(end - line <= 96);
    free(text);
    assert_int_equal(parse("a b c --help"), CLI_USAGE);
    assert_int_equal(parse("--help"), CLI_OK);
    assert_int_equal(parse("-h"), CLI_OK);
    assert_int_equal(parse("-- --help"), -1);
    assert_string_equal(first, "--help");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes_options_and_arguments),
        cmocka_unit_test(refuses_mistakes),
        cmocka_unit_test(helps_from_the_table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
