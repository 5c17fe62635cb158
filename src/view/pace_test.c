/* SPDX-License-Identifier: Apache-2.0 */
#include "view/pace.c"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define S NS_PER_S

static void every_half_minute(void **state)
{
    struct pace p = {0};
    assert_false(pace_due(&p, 1, 100 * S));
    assert_false(pace_due(&p, 1, 130 * S - 1));
    assert_true(pace_due(&p, 0, 130 * S));
    pace_done(&p, 1, 130 * S, 0, "");
    assert_false(pace_due(&p, 1, 160 * S - 1));
    assert_true(pace_due(&p, 1, 160 * S));
}

static void earlier_when_much_would_be_read_again(void **state)
{
    struct pace p = {0};
    assert_false(pace_due(&p, REPLAY_BYTES - 1, S));
    assert_true(pace_due(&p, 1, S));
    pace_done(&p, 0, S, 0, "");
    assert_false(pace_due(&p, REPLAY_BYTES - 1, 2 * S)); /* it counts anew */
}

static void later_when_writing_takes_long(void **state)
{
    struct pace p = {0};
    pace_due(&p, 0, 0);
    pace_done(&p, S / 2, 10 * S, -ENOSPC, "");
    assert_false(pace_due(&p, 10ull * REPLAY_BYTES, 60 * S - 1));
    assert_true(pace_due(&p, 0, 60 * S));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_half_minute),
        cmocka_unit_test(earlier_when_much_would_be_read_again),
        cmocka_unit_test(later_when_writing_takes_long),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
