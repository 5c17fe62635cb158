/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/print.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

static void prints(const char *json, const char *want)
{
    char *text;
    size_t len;
    FILE *out = open_memstream(&text, &len);
    json_t *result = json_loads(json, 0, NULL);
    assert_non_null(result);
    print_result(out, result);
    fclose(out);
    assert_string_equal(text, want);
    json_decref(result);
    free(text);
}

static void lists_as_tables(void **state)
{
    prints("{\"devices\":[{\"name\":\"d1\",\"disabled\":false,\"feeds\":[\"a\",\"b*\"]},"
           "{\"name\":\"\xc3\xbc-long-name\",\"disabled\":true,\"feeds\":[]}],\"total\":2}",
           "NAME         DISABLED  FEEDS\n"
           "d1           no        a,b*\n"
           "\xc3\xbc-long-name  yes       -\n");
    prints("{\"accounts\":[],\"total\":0}", "no accounts\n");
    prints("{\"keys\":[{\"name\":\"k\"}],\"total\":7}",
           "NAME\nk\n1 of 7; --skip and --limit show others\n");
    prints("{\"keys\":[{\"a_b\":1},{\"c\":1}],\"total\":2}", "A B\n1\n-\n");
}

static void records_as_lines(void **state)
{
    prints("{\"name\":\"acme\",\"feeds_max\":-5,\"limits\":\"\",\"x\":null}", "name       acme\n"
                                                                              "feeds max  -5\n"
                                                                              "limits     -\n"
                                                                              "x          -\n");
    prints("{\"name\":\"a\\u001b[31m\\u007f\\n\"}", "name  a?[31m??\n");
    prints("{}", "");
    prints("{\"name\":\"a\",\"limits\":[{\"used\":1}],\"users\":[],\"tags\":[\"x\"]}",
           "name   a\nusers  -\ntags   x\n\nlimits\nUSED\n1\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lists_as_tables),
        cmocka_unit_test(records_as_lines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
