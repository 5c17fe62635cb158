/* SPDX-License-Identifier: Apache-2.0 */
#include "base/ascending.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

/* What is read to be moved, or compared, is counted. */
static uint64_t reads;
#define ascending_at(a, i) (reads++, ascending_at(a, i))
#include "base/ascending.c"
#include "base/rand.h"

enum { NUMBERS = 500 };

static void expect(const struct ascending *a, const bool *there)
{
    uint32_t n = 0;
    uint64_t *all = calloc(a->count + 1ul, sizeof *all);
    assert_non_null(all);
    ascending_copy(a, all);
    for (uint64_t i = 0; i < NUMBERS; i++) {
        assert_int_equal(ascending_find(a, i), n);
        if (!there[i])
            continue;
        assert_true(n < a->count);
        assert_int_equal(ascending_at(a, n), i);
        assert_int_equal(all[n++], i);
    }
    assert_int_equal(a->count, n);
    assert_true(a->room >= n && (a->room & (a->room - 1)) == 0);
    assert_true(a->room <= 8 || a->room < n * 4);
    free(all);
}

/* Some that ascend. */
static void put_some(struct rand *r, struct ascending *a, bool *there)
{
    uint64_t some[NUMBERS];
    uint32_t n = 0;
    uint64_t distance = 1 + rand_below(r, NUMBERS);
    for (uint64_t i = rand_below(r, NUMBERS); i < NUMBERS; i += 1 + rand_below(r, distance)) {
        some[n++] = i;
        there[i] = true;
    }
    ascending_put_all(a, some, n);
}

/* By an array of flags. */
static void random_numbers(void **state)
{
    struct rand r = {.state = 3};
    struct ascending a = {0};
    bool there[NUMBERS] = {0};
    (void)state;
    expect(&a, there);
    for (unsigned i = 0; i < 20000; i++) {
        uint64_t k = rand_below(&r, NUMBERS);
        bool fills = i / 1000 % 2;
        size_t before = ascending_bytes(&a), more = ascending_growth(&a);
        if (rand_below(&r, 200) == 0) {
            uint32_t n = (uint32_t)rand_below(&r, a.count + 1ull);
            uint64_t end = n < a.count ? ascending_at(&a, n) : NUMBERS;
            ascending_cut(&a, n);
            for (uint64_t c = 0; c < end; c++)
                there[c] = false;
        } else if (rand_below(&r, 100) == 0) {
            put_some(&r, &a, there);
        } else if (rand_below(&r, 4) ? fills : !fills) {
            assert_int_equal(ascending_put(&a, k), !there[k]);
            assert_true(ascending_bytes(&a) <= before + more);
            there[k] = true;
        } else {
            assert_int_equal(ascending_take(&a, k), there[k]);
            there[k] = false;
        }
        expect(&a, there);
    }
    ascending_fini(&a);
    assert_int_equal(ascending_bytes(&a), 0);
}

/* They come at the end and go at the front: it stays as large as it is. */
static void it_goes_round(void **state)
{
    struct ascending a = {0};
    (void)state;
    for (uint64_t i = 0; i < 100; i++)
        assert_true(ascending_put(&a, i));
    assert_int_equal(ascending_bytes(&a), 128 * 8);
    const uint64_t *list = a.list;
    for (uint64_t i = 100; i < 100000; i++) {
        assert_true(ascending_take(&a, i - 100));
        assert_true(ascending_put(&a, i));
        assert_ptr_equal(a.list, list);
        assert_true(ascending_at(&a, 0) == i - 99 && ascending_at(&a, 99) == i);
    }
    ascending_fini(&a);
}

static void it_does_not_grow_and_shrink_by_turns(void **state)
{
    struct ascending a = {0};
    (void)state;
    for (uint64_t i = 0; i < 65; i++)
        ascending_put(&a, i);
    const uint64_t *list = a.list;
    for (uint64_t i = 0; i < 100; i++) {
        ascending_take(&a, 64);
        ascending_put(&a, 64);
        assert_ptr_equal(a.list, list);
    }
    ascending_cut(&a, 65 - 32);
    assert_int_equal(a.room, 64);
    ascending_cut(&a, 32);
    assert_int_equal(a.room, 8);
    ascending_fini(&a);
}

/* One by one each would move all that is behind it. */
static void many_at_once_are_one_pass(void **state)
{
    enum { COUNT = 20000 };
    static uint64_t odd[COUNT];
    struct ascending a = {0};
    (void)state;
    for (uint64_t i = 0; i < COUNT; i++) {
        odd[i] = 2 * i + 1;
        ascending_put(&a, 2 * i);
    }
    reads = 0;
    ascending_put_all(&a, odd, COUNT);
    assert_true(reads <= 2ull * COUNT);
    assert_int_equal(a.count, 2 * COUNT);
    for (uint32_t i = 0; i < a.count; i++)
        assert_int_equal(ascending_at(&a, i), i);
    reads = 0;
    ascending_put_all(&a, odd, 0);
    assert_int_equal(reads, 0);
    ascending_fini(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_numbers),
        cmocka_unit_test(it_goes_round),
        cmocka_unit_test(it_does_not_grow_and_shrink_by_turns),
        cmocka_unit_test(many_at_once_are_one_pass),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
