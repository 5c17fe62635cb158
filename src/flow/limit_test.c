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

static void all_kinds_read_back(void **state)
{
    static const char *const same[] = {
        "token_bucket 60/1m",  "leaky_bucket 10/1s, 1MB/1m", "shadow token_bucket 64KiB/10s",
        "shadow 5/1s, 7/1s",   "999B/1s, distance=5ms",      "leaky_bucket 4GB/1d, accepted",
        "token_bucket 1GiB/1h"};
    struct buf out;
    struct error err;
    struct limit_set l;
    buf_init(&out, 1000);
    for (unsigned i = 0; i < sizeof same / sizeof *same; i++) {
        assert_int_equal(limit_set_parse(slice_str(same[i]), &l, &err), 0);
        buf_clear(&out);
        limit_set_format(&out, &l);
        assert_true(slice_eq(buf_slice(&out), slice_str(same[i])));
    }
    assert_int_equal(limit_set_parse(SLICE("shadow  rolling 2KB/1s, leaky_bucket 3/2s"), &l, &err),
                     0);
    assert_int_equal(l.windows[0].kind, LIMIT_SHADOW | LIMIT_BYTES);
    assert_int_equal(l.windows[0].count, 2000);
    assert_int_equal(l.windows[1].kind, LIMIT_LEAKY);
    assert_int_equal(limit_set_shown(&l), 1);
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
                                      "5GB/1s",
                                      "1TB/1s",
                                      "shadow",
                                      "shadow accepted",
                                      "bucket 1/1s",
                                      "token_bucket leaky_bucket 1/1s",
                                      "token_bucket shadow 1/1s",
                                      "rolling60/60s",
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
        cmocka_unit_test(all_kinds_read_back),
        cmocka_unit_test(names_what_is_wrong),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
