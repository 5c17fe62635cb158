/* SPDX-License-Identifier: Apache-2.0 */
#include "flow/permission.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

static uint64_t parsed(const char *text)
{
    uint64_t mask = 0;
    struct slice bad = {0};
    if (!permissions_parse(slice_str(text), ',', &mask, &bad))
        fail_msg("\"%s\": \"%.*s\" is none", text, SLICE_ARG(bad));
    return mask;
}

static void reads_names(void **state)
{
    (void)state;
    assert_int_equal(parsed(""), 0);
    assert_int_equal(parsed("data_read"), PERM_data_read);
    assert_int_equal(parsed(" data_read , data_write,data_read"), PERM_data_read | PERM_data_write);
    assert_int_equal(parsed("admin_read,admin_write"), PERM_ADMIN);
}

static void a_star_is_no_administrator(void **state)
{
    (void)state;
    assert_int_equal(parsed("*") & PERM_ADMIN, 0);
    assert_int_equal(parsed("*") & PERM_data_delete, PERM_data_delete);
    assert_int_equal(parsed("*,admin_read") & PERM_ADMIN, PERM_admin_read);
}

static void names_what_is_none(void **state)
{
    (void)state;
    static const struct {
        const char *text, *bad;
    } all[] = {{"fly", "fly"},
               {"data_read,fly ", "fly"},
               {"data_read,,data_write", ""},
               {",", ""},
               {"DATA_READ", "DATA_READ"},
               {"data_read|data_write", "data_read|data_write"},
               {"data_rea", "data_rea"}};
    for (unsigned i = 0; i < sizeof all / sizeof *all; i++) {
        uint64_t mask = 77;
        struct slice bad = {0};
        assert_false(permissions_parse(slice_str(all[i].text), ',', &mask, &bad));
        assert_true(slice_eq(bad, slice_str(all[i].bad)));
        assert_int_equal(mask, 77);
    }
}

static void comes_back(void **state)
{
    (void)state;
    for (uint64_t mask = 0; mask < 1024; mask++) {
        struct buf text;
        uint64_t again = 0;
        struct slice bad;
        buf_init(&text, 1000);
        permissions_format(&text, mask, '|');
        assert_true(permissions_parse(buf_slice(&text), '|', &again, &bad));
        assert_int_equal(again, mask);
        buf_fini(&text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_names),
        cmocka_unit_test(a_star_is_no_administrator),
        cmocka_unit_test(names_what_is_none),
        cmocka_unit_test(comes_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
