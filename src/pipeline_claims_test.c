/* SPDX-License-Identifier: Apache-2.0 */
#include "pipeline_claims.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/thread.h"

static void one_of_an_account_and_some_of_all(void **state)
{
    struct claims c;
    claims_init(&c);
    for (uint64_t i = 1; i <= OWN_COMMANDS_MAX; i++) {
        assert_true(claims_take(&c, i));
        assert_false(claims_take(&c, i));
    }
    assert_false(claims_take(&c, 99));
    claims_drop(&c, 2);
    assert_false(claims_take(&c, 1));
    assert_true(claims_take(&c, 99));
    claims_fini(&c);
}

static struct claims shared;
static _Atomic unsigned at_once, most, turns;

/* Two threads go through the same turns side by side: each asks once in a turn. */
static void ask_again_and_again(void *arg)
{
    for (unsigned i = 0; i < 20000; i++) {
        turns++;
        while (turns < 2 * (i + 1)) {
        }
        if (!claims_take(&shared, 7))
            continue;
        unsigned now = ++at_once;
        if (now > most)
            most = now;
        at_once--;
        claims_drop(&shared, 7);
    }
}

static void two_that_ask_at_once(void **state)
{
    claims_init(&shared);
    pthread_t other = thread_start("other", ask_again_and_again, NULL);
    ask_again_and_again(NULL);
    pthread_join(other, NULL);
    assert_int_equal(most, 1);
    claims_fini(&shared);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_of_an_account_and_some_of_all),
        cmocka_unit_test(two_that_ask_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
