/* SPDX-License-Identifier: Apache-2.0 */
#include "sink/password.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>
#include <cmocka.h>

static void the_first_line_is_the_password(void **state)
{
    static const struct {
        const char *file, *password;
    } all[] = {
        {"secret", "secret"},
        {"secret\n", "secret"},
        {"secret\r\n", "secret"},
        {"secret\r\nx\r\n", "secret"},
        {" a\rb \r\n", " a\rb "},
        {"secret\r", "secret\r"},
        {"secret\r\r\n", "secret\r"},
        {"\r\n", ""},
        {"\n", ""},
        {"", ""},
    };
    char path[64];
    snprintf(path, sizeof path, "/tmp/sluice-password-%d", (int)getpid());
    for (unsigned i = 0; i < sizeof all / sizeof *all; i++) {
        FILE *f = fopen(path, "wb");
        assert_non_null(f);
        fputs(all[i].file, f);
        assert_int_equal(fclose(f), 0);
        struct buf got;
        struct error err;
        assert_int_equal(password_read("x.password_file", path, &got, &err), 0);
        assert_string_equal(got.ptr, all[i].password);
        password_forget(&got);
    }
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_first_line_is_the_password)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
