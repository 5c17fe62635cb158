/* SPDX-License-Identifier: Apache-2.0 */
#include "conn/descriptors.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <sys/resource.h>

/* Places in the kernel's table (proc_pid_status(5)). */
static unsigned long places(void)
{
    FILE *f = fopen("/proc/self/status", "r");
    char line[256];
    unsigned long n = 0;
    assert_non_null(f);
    while (fgets(line, sizeof line, f)) {
        if (sscanf(line, "FDSize: %lu", &n) == 1)
            break;
    }
    fclose(f);
    return n;
}

static unsigned long soft_limit(void)
{
    struct rlimit limit;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    return limit.rlim_cur;
}

static void limit_to(unsigned long soft, unsigned long hard)
{
    const struct rlimit limit = {.rlim_cur = soft, .rlim_max = hard};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

static void reserves_as_many_as_it_may(void **state)
{
    limit_to(256, 3000);
    descriptors_reserve(0);
    assert_int_equal(soft_limit(), 256);
    descriptors_reserve(100); /* never less than before */
    assert_int_equal(soft_limit(), 256);
    assert_true(places() < 1000);
    descriptors_reserve(1000);
    assert_int_equal(soft_limit(), 1000);
    assert_true(places() >= 1000 && places() < 3000);
    descriptors_reserve(100000);
    assert_int_equal(soft_limit(), 3000);
    assert_true(places() >= 3000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reserves_as_many_as_it_may),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
