/* SPDX-License-Identifier: Apache-2.0 */
#include "flow/limit.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

static void reads_and_writes(void **state)
{
    struct limit_set l;
    struct error err;
    struct buf out;
    buf_init(&out, 1000);
    assert_int_equal(limit_set_parse(SLICE(" 60/60s,10/1s , accepted,distance=200ms"), &l, &err),
                     0);
    assert_int_equal(l.windows_count, 2);
    assert_int_equal(l.windows[0].window_ms, 60000);
    assert_int_equal(l.windows[1].count, 10);
    assert_true(l.count_accepted);
    limit_set_format(&out, &l);
    assert_true(slice_eq(buf_slice(&out), SLICE("60/1m, 10/1s, accepted, distance=200ms")));
    buf_fini(&out);
}

static void names_what_is_wrong(void **state)
{
    static const char *const bad[] = {"x",
                                      "60",
                                      "60/",
                                      "60/s",
                                      "0/1s",
                                      "5/1ms",
                                      "1/1s,,1/1s",
                                      "distance=",
                                      "60/60 s",
                                      "1/60d",
                                      "1/1s,1/2s,1/3s,1/4s,1/5s"};
    for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct limit_set l;
        struct error err = {""};
        assert_int_equal(limit_set_parse(slice_str(bad[i]), &l, &err), -EINVAL);
        assert_true(err.text[0] != 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_and_writes),
        cmocka_unit_test(names_what_is_wrong),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
