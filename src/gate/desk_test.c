/* SPDX-License-Identifier: Apache-2.0 */
#include "gate/desk.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#define MANY 4000u

static struct shield_wait waits[MANY];
static unsigned joined; /* also the lane and the tag of the next one */

static struct desk *start(unsigned max, unsigned per_source)
{
    joined = 0;
    struct desk *d = desk_new(max, per_source);
    assert_non_null(d);
    return d;
}

/* One check of a secret of its own. */
static struct flight *put(struct desk *d, uint64_t source, enum desk_class class, bool suspect)
{
    struct flight *f = desk_flight_new();
    assert_non_null(f);
    f->lane_id = ++joined;
    f->tag[0] = (uint8_t)joined;
    f->started_ns = source; /* to tell who had its turn */
    assert_true(desk_join(d, f, &waits[joined], source, class, suspect, joined));
    return f;
}

static void done(struct desk *d, struct flight *f)
{
    struct ticket_list tickets = TAILQ_HEAD_INITIALIZER(tickets);
    struct ticket *t;
    desk_finish(d, f, &tickets);
    while ((t = TAILQ_FIRST(&tickets))) {
        TAILQ_REMOVE(&tickets, t, by_flight);
        desk_ticket_free(d, t);
    }
    desk_flight_free(f);
}

/* Serves up to `n`; counts whose turns they were. */
static void serve(struct desk *d, unsigned n, unsigned by_source[], unsigned by_class[])
{
    for (unsigned i = 0; i < n; i++) {
        struct flight *f = desk_next(d, true);
        if (!f)
            break;
        if (by_source)
            by_source[f->started_ns]++;
        if (by_class)
            by_class[f->suspect ? DESK_SUSPECT : f->class]++;
        done(d, f);
    }
}

static void finish(struct desk *d)
{
    serve(d, UINT32_MAX, NULL, NULL);
    assert_int_equal(desk_waiting(d), 0);
    assert_int_equal(desk_flights(d), 0);
    for (unsigned c = 0; c < DESK_CLASSES; c++)
        assert_int_equal(desk_ready(d, c), 0);
    desk_free(d);
}

static void known_ones_go_first_and_nobody_starves(void **state)
{
    (void)state;
    struct desk *d = start(MANY, MANY);
    unsigned turns[DESK_CLASSES] = {0};
    for (unsigned i = 0; i < 200; i++) {
        put(d, 1, DESK_SUSPECT, true);
        put(d, 2, DESK_NEW, false);
        put(d, 3, DESK_KNOWN, false);
    }
    serve(d, 80, NULL, turns);
    assert_int_equal(turns[DESK_KNOWN], 55);
    assert_int_equal(turns[DESK_NEW], 20);
    assert_int_equal(turns[DESK_SUSPECT], 5);
    put(d, 2, DESK_ADMIN, false);
    put(d, 3, DESK_ADMIN, false);
    serve(d, 2, NULL, turns);
    assert_int_equal(turns[DESK_ADMIN], 2);
    finish(d);
}

/* Whoever of the good ones waits, those who failed have a sixteenth of the turns, or none. */
static void who_failed_takes_little_from_others(void **state)
{
    (void)state;
    for (enum desk_class c = DESK_KNOWN; c <= DESK_NEW; c++) {
        struct desk *d = start(MANY, MANY);
        unsigned turns[DESK_CLASSES] = {0};
        for (unsigned i = 0; i < 200; i++) {
            put(d, 1, DESK_NEW, true);
            put(d, 2, c, false);
        }
        serve(d, 160, NULL, turns);
        assert_int_equal(turns[c], 150);
        assert_int_equal(turns[DESK_SUSPECT], 10);
        for (unsigned i = 0; i < 50; i++) {
            struct flight *f = desk_next(d, false);
            assert_int_equal(f->class, c);
            done(d, f);
        }
        assert_null(desk_next(d, false));
        finish(d);
    }
}

static void a_class_alone_has_all_turns(void **state)
{
    (void)state;
    for (enum desk_class c = DESK_ADMIN; c < DESK_CLASSES; c++) {
        struct desk *d = start(MANY, MANY);
        for (unsigned i = 0; i < 30; i++)
            put(d, i, c == DESK_SUSPECT ? DESK_NEW : c, c == DESK_SUSPECT);
        unsigned turns[DESK_CLASSES] = {0};
        serve(d, 30, NULL, turns);
        assert_int_equal(turns[c], 30);
        finish(d);
    }
}

static void sources_of_a_class_take_turns(void **state)
{
    (void)state;
    struct desk *d = start(MANY, MANY);
    unsigned by_source[8] = {0};
    for (unsigned i = 0; i < 300; i++)
        put(d, 1, DESK_NEW, false);
    for (unsigned s = 2; s < 5; s++)
        for (unsigned i = 0; i < 10; i++)
            put(d, s, DESK_NEW, false);
    serve(d, 40, by_source, NULL);
    for (unsigned s = 1; s < 5; s++)
        assert_int_equal(by_source[s], 10);
    finish(d);
}

/* A source that fails sinks with all it has waiting, and rises again when it is right. */
static void a_failure_moves_all_of_a_source(void **state)
{
    (void)state;
    struct desk *d = start(MANY, MANY);
    for (unsigned i = 0; i < 20; i++)
        put(d, 1, i % 2 ? DESK_KNOWN : DESK_NEW, false);
    assert_int_equal(desk_ready(d, DESK_SUSPECT), 0);
    put(d, 1, DESK_NEW, true);
    assert_int_equal(desk_ready(d, DESK_SUSPECT), 21);
    put(d, 1, DESK_KNOWN, false);
    assert_int_equal(desk_ready(d, DESK_SUSPECT), 0);
    assert_int_equal(desk_ready(d, DESK_KNOWN), 11);
    assert_int_equal(desk_ready(d, DESK_NEW), 11);
    finish(d);
}

/* What was foreseen is what happens, for the newest of each class, while nothing else comes. */
static void the_wait_is_foreseen(void **state)
{
    (void)state;
    uint64_t seed = 5;
    for (unsigned round = 0; round < 300; round++) {
        struct desk *d = start(MANY, MANY);
        unsigned n = 1 + (unsigned)(seed >> 33) % 120;
        for (unsigned i = 0; i < n; i++) {
            seed = seed * 6364136223846793005ull + 1442695040888963407ull;
            unsigned source = (unsigned)(seed >> 40) % 5;
            bool suspect = source == 4;
            put(d, source, suspect || seed >> 63 ? DESK_NEW : DESK_KNOWN, suspect);
        }
        unsigned source = (unsigned)(seed >> 50) % 5;
        enum desk_class class = source == 4 ? DESK_SUSPECT : DESK_KNOWN;
        unsigned ahead = desk_ahead(d, source, class);
        struct flight *mine = put(d, source, DESK_KNOWN, source == 4);
        unsigned before = 0;
        for (struct flight *f; (f = desk_next(d, true)) != mine; before++)
            done(d, f);
        done(d, mine);
        assert_true(before <= ahead + 16); /* never more than one round of turns later */
        assert_true(ahead <= n);
        finish(d);
    }
}

static void administrators_have_room_of_their_own(void **state)
{
    (void)state;
    struct desk *d = start(10, 10);
    for (unsigned i = 0; i < 10; i++)
        put(d, 1, DESK_NEW, false);
    assert_true(desk_full(d, 999, 2, DESK_NEW));
    assert_true(desk_full(d, 999, 2, DESK_KNOWN));
    assert_false(desk_full(d, 999, 1, DESK_ADMIN));
    unsigned more = 0;
    while (!desk_full(d, 999, 1, DESK_ADMIN) && more < 1000) {
        put(d, 1, DESK_ADMIN, false);
        more++;
    }
    assert_in_range(more, 1, 100); /* but not without end */
    struct flight *f = desk_next(d, true);
    assert_int_equal(f->class, DESK_ADMIN);
    done(d, f);
    finish(d);
}

/* The lane of one credential: who guesses its secret does not stand in the way of its owner. */
static void the_owner_overtakes_the_guesser(void **state)
{
    (void)state;
    struct desk *d = start(MANY, MANY);
    struct flight *f[3];
    for (unsigned i = 0; i < 3; i++) {
        f[i] = desk_flight_new();
        f[i]->lane_id = 77;
        f[i]->tag[0] = (uint8_t)(i + 1);
        f[i]->started_ns = i;
    }
    assert_true(desk_join(d, f[0], &waits[0], 1, DESK_KNOWN, true, 1));
    assert_true(desk_join(d, f[1], &waits[1], 1, DESK_KNOWN, true, 1));
    assert_true(desk_join(d, f[2], &waits[2], 2, DESK_KNOWN, false, 1));
    struct flight *first = desk_next(d, true);
    assert_ptr_equal(first, f[2]);
    assert_null(desk_next(d, true)); /* one of a lane at a time */
    done(d, first);
    finish(d);
}

static struct flight *put_in_lane(struct desk *d, uint64_t lane, unsigned secret, uint64_t source,
                                  bool suspect)
{
    struct flight *f = desk_flight_new();
    assert_non_null(f);
    f->lane_id = lane;
    f->tag[0] = (uint8_t)secret;
    joined++;
    assert_true(desk_join(d, f, &waits[joined], source, DESK_KNOWN, suspect, joined));
    return f;
}

/* Nor one who had not failed yet when he came: with all that he has waiting he would be slow. */
static void the_owner_overtakes_who_failed_since(void **state)
{
    (void)state;
    for (unsigned owner_is_first = 0; owner_is_first < 2; owner_is_first++) {
        struct desk *d = start(MANY, MANY);
        struct flight *owner = NULL;
        put_in_lane(d, 77, 1, 1, false);
        if (owner_is_first)
            owner = put_in_lane(d, 77, 2, 2, false);
        put_in_lane(d, 78, 1, 1, true); /* he has failed */
        if (!owner_is_first)
            owner = put_in_lane(d, 77, 2, 2, false);
        struct flight *first = desk_next(d, false);
        assert_ptr_equal(first, owner);
        done(d, first);
        finish(d);
    }
}

/* Who has the same secret as he makes it go with his own standing. */
static void one_who_has_not_failed_hurries_a_secret(void **state)
{
    (void)state;
    struct desk *d = start(MANY, MANY);
    struct flight *f = put_in_lane(d, 77, 1, 1, false);
    put_in_lane(d, 78, 1, 1, true);
    assert_int_equal(desk_ready(d, DESK_SUSPECT), 2);
    joined++;
    assert_true(desk_join(d, f, &waits[joined], 2, DESK_KNOWN, false, joined));
    assert_int_equal(desk_ready(d, DESK_SUSPECT), 1);
    struct flight *first = desk_next(d, false);
    assert_ptr_equal(first, f);
    done(d, first);
    finish(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_ones_go_first_and_nobody_starves),
        cmocka_unit_test(who_failed_takes_little_from_others),
        cmocka_unit_test(a_class_alone_has_all_turns),
        cmocka_unit_test(sources_of_a_class_take_turns),
        cmocka_unit_test(a_failure_moves_all_of_a_source),
        cmocka_unit_test(the_wait_is_foreseen),
        cmocka_unit_test(administrators_have_room_of_their_own),
        cmocka_unit_test(the_owner_overtakes_the_guesser),
        cmocka_unit_test(the_owner_overtakes_who_failed_since),
        cmocka_unit_test(one_who_has_not_failed_hurries_a_secret),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
