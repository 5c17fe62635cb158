/* SPDX-License-Identifier: Apache-2.0 */
#include "view/arena.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "base/rand.h"

enum { PIECES = 3000 };

/* Fills each piece with its number and looks whether all still hold theirs. */
static void fill_and_check(struct arena *a, struct rand *r, size_t largest)
{
    static unsigned char *pieces[PIECES];
    static size_t sizes[PIECES];
    for (unsigned i = 0; i < PIECES; i++) {
        sizes[i] = 1 + rand_below(r, largest);
        pieces[i] = arena_take(a, sizes[i]);
        assert_int_equal((uintptr_t)pieces[i] % 16, 0);
        memset(pieces[i], (int)(i % 251), sizes[i]);
    }
    for (unsigned i = 0; i < PIECES; i++) {
        for (size_t k = 0; k < sizes[i]; k++)
            assert_int_equal(pieces[i][k], i % 251);
    }
}

static void test_pieces_do_not_overlap(void **state)
{
    struct arena a;
    struct rand r = {.state = 1};
    arena_init(&a);
    for (unsigned round = 0; round < 5; round++) {
        fill_and_check(&a, &r, 900);
        arena_reset(&a);
    }
    arena_fini(&a);
    assert_int_equal(a.bytes, 0);
}

static void test_memory_is_kept_as_long_as_it_is_used(void **state)
{
    struct arena a;
    struct rand r = {.state = 2};
    arena_init(&a);
    fill_and_check(&a, &r, 900);
    uint64_t busy = a.bytes;
    assert_true(busy > 4 * ARENA_SLAB_BYTES);
    arena_reset(&a);
    assert_int_equal(a.bytes, busy); /* for the next round */
    (void)arena_take(&a, 100);
    assert_int_equal(a.bytes, busy);
    arena_reset(&a); /* that one took one slab */
    assert_true(a.bytes < 2 * ARENA_SLAB_BYTES);
    arena_reset(&a); /* and this one none */
    assert_int_equal(a.bytes, 0);
    arena_fini(&a);
}

static void test_large_pieces_have_their_own(void **state)
{
    struct arena a;
    arena_init(&a);
    char *small = arena_take(&a, 10);
    memset(small, 1, 10);
    char *large = arena_take(&a, 3 * ARENA_SLAB_BYTES);
    memset(large, 2, 3 * ARENA_SLAB_BYTES);
    char *behind = arena_take(&a, 10);
    memset(behind, 3, 10);
    assert_int_equal(small[9], 1);
    assert_int_equal(large[3 * ARENA_SLAB_BYTES - 1], 2);
    arena_reset(&a);
    assert_true(a.bytes < 3 * ARENA_SLAB_BYTES); /* not kept */
    arena_fini(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pieces_do_not_overlap),
        cmocka_unit_test(test_memory_is_kept_as_long_as_it_is_used),
        cmocka_unit_test(test_large_pieces_have_their_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
