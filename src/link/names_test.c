/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "link/names.h"

static void what_was_put_is_found(void **state)
{
    struct link_names *n = link_names_new();
    char name[64], want[64];
    for (uint64_t i = 1; i <= 20000; i++) { /* it grows on the way */
        snprintf(want, sizeof want, "name-%llu", (unsigned long long)i);
        assert_false(link_names_find(n, (unsigned)(i % 3), i, name, sizeof name));
        link_names_put(n, (unsigned)(i % 3), i, want);
        link_names_put(n, (unsigned)(i % 3), i, "another"); /* what is there stays */
    }
    for (uint64_t i = 1; i <= 20000; i++) {
        snprintf(want, sizeof want, "name-%llu", (unsigned long long)i);
        assert_true(link_names_find(n, (unsigned)(i % 3), i, name, sizeof name));
        assert_string_equal(name, want);
        assert_false(link_names_find(n, (unsigned)((i + 1) % 3), i, name, sizeof name));
    }
    link_names_free(n);
}

static void empty_names_and_short_room(void **state)
{
    struct link_names *n = link_names_new();
    char name[4];
    link_names_put(n, 0, 7, "");
    assert_true(link_names_find(n, 0, 7, name, sizeof name));
    assert_string_equal(name, "");
    link_names_put(n, 1, 7, "trucks");
    assert_true(link_names_find(n, 1, 7, name, sizeof name));
    assert_string_equal(name, "tru");
    link_names_free(n);
    link_names_free(NULL);
}

static void forgotten(void **state)
{
    struct link_names *n = link_names_new();
    char name[64];
    uint64_t age = link_names_age(n);
    link_names_put(n, 0, 7, "acme");
    assert_int_equal(link_names_age(n), age);
    link_names_forget(n);
    assert_int_not_equal(link_names_age(n), age);
    assert_false(link_names_find(n, 0, 7, name, sizeof name));
    link_names_put(n, 0, 7, "acme2");
    assert_true(link_names_find(n, 0, 7, name, sizeof name));
    assert_string_equal(name, "acme2");
    link_names_free(n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(what_was_put_is_found),
                                       cmocka_unit_test(empty_names_and_short_room),
                                       cmocka_unit_test(forgotten)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
