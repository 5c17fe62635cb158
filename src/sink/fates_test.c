/* SPDX-License-Identifier: Apache-2.0 */
#include "sink/fates.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "base/rand.h"
#include "base/thread.h"

static void what_is_noted_is_told(void **state)
{
    (void)state;
    struct fates *f = fates_new(1000);
    assert_non_null(f);
    assert_int_equal(fates_of(f, 999), FATE_UNKNOWN); /* before its time */
    assert_int_equal(fates_of(f, 1000), FATE_UNKNOWN);
    fates_note(f, 1000, 1004, FATE_DELIVERED);
    fates_note(f, 1004, 1005, FATE_FAILED);
    fates_note(f, 1010, 1011, FATE_NOT_SELECTED); /* nobody says what became of those between */
    const enum fate all[] = {FATE_DELIVERED, FATE_DELIVERED, FATE_DELIVERED,   FATE_DELIVERED,
                             FATE_FAILED,    FATE_UNKNOWN,   FATE_UNKNOWN,     FATE_UNKNOWN,
                             FATE_UNKNOWN,   FATE_UNKNOWN,   FATE_NOT_SELECTED};
    for (unsigned i = 0; i < sizeof all / sizeof *all; i++)
        assert_int_equal(fates_of(f, 1000 + i), all[i]);
    fates_note(f, 1004, 1005, FATE_DELIVERED); /* a dead letter that was retried */
    assert_int_equal(fates_of(f, 1004), FATE_DELIVERED);
    assert_int_equal(fates_of(f, 1010), FATE_NOT_SELECTED);
    fates_free(f);
}

static void the_least_good_one_counts(void **state)
{
    (void)state;
    /* From good to bad. */
    const enum fate ladder[] = {FATE_DELIVERED, FATE_NOT_SELECTED, FATE_UNKNOWN,
                                FATE_GIVEN_UP,  FATE_UNREADABLE,   FATE_FAILED};
    uint32_t delivered;
    struct fates *f = fates_new(0);
    for (unsigned worst = 0; worst < 6; worst++) {
        for (unsigned i = 0; i <= worst; i++)
            fates_note(f, i, i + 1, ladder[i]);
        assert_int_equal(fates_worst(f, 0, worst + 1, &delivered), ladder[worst]);
        assert_int_equal(delivered, 1);
    }
    assert_int_equal(fates_worst(f, 1, 1, &delivered), FATE_NOT_SELECTED);
    assert_int_equal(delivered, 0);
    fates_note(f, 0, 1000, FATE_DELIVERED);
    assert_int_equal(fates_worst(f, 0, 1000, &delivered), FATE_DELIVERED);
    assert_int_equal(delivered, 1000);
    fates_free(f);
}

/* Against a plain array, with leaps of all lengths, of which some leave the ring behind. */
static void the_oldest_is_forgotten(void **state)
{
    (void)state;
    enum { END = 3 * FATES_MAX };
    struct rand rand = {.state = 6};
    struct fates *f = fates_new(0);
    uint8_t *model = calloc(END, 1);
    uint64_t end = 0, at = 0;
    while (at < END - 1) {
        uint64_t most = rand_below(&rand, 50) ? 2000 : FATES_MAX + FATES_MAX / 2;
        uint64_t from = at + rand_below(&rand, 3) * rand_below(&rand, 100);
        uint64_t to = from + 1 + rand_below(&rand, most);
        if (rand_below(&rand, 10) == 0 && at > 100) /* some of it once more */
            from = at - rand_below(&rand, 100), to = from + 1;
        from = from < END ? from : END - 1;
        to = to < END ? to : END;
        enum fate fate = (enum fate)rand_below(&rand, FATE_FAILED + 1);
        fates_note(f, from, to, fate);
        for (uint64_t i = from; i < to; i++)
            model[i] = (uint8_t)fate;
        end = end > to ? end : to;
        at = end;
        for (unsigned i = 0; i < 200; i++) {
            uint64_t offset =
                i < 4 ? end - (i & 1) - (i & 2 ? FATES_MAX : 0) : rand_below(&rand, END);
            bool kept = offset < end && end - offset <= FATES_MAX;
            assert_int_equal(fates_of(f, offset), kept ? model[offset] : FATE_UNKNOWN);
        }
    }
    free(model);
    fates_free(f);
}

/* ---- another thread ---- */

#define ROUNDS 40u

static enum fate fate_at(uint64_t offset)
{
    return (enum fate)(1 + offset / 7 % 5);
}

static void note_all(void *arg)
{
    struct fates *f = arg;
    for (uint64_t at = 0; at < (uint64_t)ROUNDS * FATES_MAX; at += 7)
        fates_note(f, at, at + 7, fate_at(at));
}

static void nobody_is_told_anothers_fate(void **state)
{
    (void)state;
    struct rand rand = {.state = 7};
    struct fates *f = fates_new(0);
    uint64_t told = 0, last = (uint64_t)ROUNDS * FATES_MAX;
    pthread_t thread = thread_start("fates", note_all, f);
    for (uint64_t end = 0; end < last; end = atomic_load(&f->end)) {
        /* Mostly of where the ring is written over. */
        uint64_t oldest = end > FATES_MAX ? end - FATES_MAX : 0;
        uint64_t offset = oldest + rand_below(&rand, 3000);
        enum fate fate = fates_of(f, offset);
        assert_true(fate == FATE_UNKNOWN || fate == fate_at(offset));
        told += fate != FATE_UNKNOWN;
    }
    pthread_join(thread, NULL);
    assert_true(told > 0);
    fates_free(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_noted_is_told),
        cmocka_unit_test(the_least_good_one_counts),
        cmocka_unit_test(the_oldest_is_forgotten),
        cmocka_unit_test(nobody_is_told_anothers_fate),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
