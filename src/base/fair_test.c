/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fair.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

struct item {
    struct fair_item link;
    unsigned key, n;
};

static void takes_turns(void **state)
{
    static struct fair_queue q;
    static struct item items[110];
    fair_init(&q, 108, 100);
    unsigned used = 0;
    for (unsigned i = 0; i < 101; i++) {
        items[used] = (struct item){.key = 1, .n = i};
        bool took = fair_put(&q, 1, &items[used].link);
        assert_true(took == (i < 100));
        used += took;
    }
    for (unsigned i = 0; i < 8; i++) {
        items[used] = (struct item){.key = 2, .n = i};
        assert_true(fair_put(&q, 2, &items[used++].link));
    }
    struct item extra;
    assert_false(fair_put(&q, 3, &extra.link));
    unsigned next[3] = {0};
    for (unsigned i = 0; i < 108; i++) {
        struct item *t = (struct item *)fair_take(&q);
        assert_non_null(t);
        assert_int_equal(t->n, next[t->key]++); /* in order within a key */
        if (i < 16)                             /* the short queue is not behind the long one */
            assert_int_equal(t->key, 1 + i % 2);
    }
    assert_null(fair_take(&q));
    assert_int_equal(q.len, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes_turns),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
