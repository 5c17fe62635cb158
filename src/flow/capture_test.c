/* SPDX-License-Identifier: Apache-2.0 */
#include "flow/capture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/clock.h"
#include "flow/limits.h"

static struct clock_fake fake;
static struct buf out;
static struct capture_counts counts;

static int start(void **state)
{
    fake = (struct clock_fake){.mono_ns = NS_PER_S};
    clock_set_fake(&fake);
    buf_init(&out, CAPTURE_BYTES_MAX);
    capture_take(0, &out, &counts);
    buf_clear(&out);
    return 0;
}

static int stop(void **state)
{
    buf_fini(&out);
    clock_set_fake(NULL);
    return 0;
}

static void one_of_so_many_is_wanted(void **state)
{
    uint32_t count = 0;
    unsigned wanted = 0;
    assert_false(capture_wants(&count));
    capture_take(5, &out, &counts);
    for (unsigned i = 0; i < 100; i++)
        wanted += capture_wants(&count);
    assert_int_equal(wanted, 20);
    capture_take(0, &out, &counts);
    assert_false(capture_wants(&count));
}

static void lines_are_taken_once(void **state)
{
    capture_take(1, &out, &counts);
    capture_put(SLICE("one"));
    capture_put(SLICE("two"));
    capture_take(1, &out, &counts);
    assert_true(slice_eq(buf_slice(&out), SLICE("one\ntwo\n")));
    assert_int_equal(counts.kept, 2);
    buf_clear(&out);
    capture_take(1, &out, &counts);
    assert_int_equal(out.len + counts.kept + counts.dropped, 0);
}

static void it_ends_when_nobody_takes(void **state)
{
    uint32_t count = 0;
    capture_take(1, &out, &counts);
    fake.mono_ns += CAPTURE_LEASE_NS + 1;
    assert_true(capture_wants(&count));
    capture_put(SLICE("late"));
    assert_false(capture_wants(&count));
    capture_take(0, &out, &counts);
    assert_int_equal(out.len, 0);
}

static void what_does_not_fit_is_counted(void **state)
{
    static char line[1 << 20];
    capture_take(1, &out, &counts);
    for (unsigned i = 0; i < 2 * CAPTURE_BYTES_MAX / sizeof line; i++)
        capture_put(slice_of(line, sizeof line));
    capture_take(1, &out, &counts);
    assert_true(out.len > CAPTURE_BYTES_MAX / 2 && out.len <= CAPTURE_BYTES_MAX && !out.failed);
    assert_int_equal(counts.kept, out.len / (sizeof line + 1));
    assert_int_equal(counts.kept + counts.dropped, 2 * CAPTURE_BYTES_MAX / sizeof line);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(one_of_so_many_is_wanted, start, stop),
        cmocka_unit_test_setup_teardown(lines_are_taken_once, start, stop),
        cmocka_unit_test_setup_teardown(it_ends_when_nobody_takes, start, stop),
        cmocka_unit_test_setup_teardown(what_does_not_fit_is_counted, start, stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
