/* SPDX-License-Identifier: Apache-2.0 */
#include "sink/lease.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "base/rand.h"

#define WINDOW 8

static struct leases make(void)
{
    struct leases l;
    leases_init(&l, WINDOW, 1000, 0, NULL, 0);
    return l;
}

static void add(struct leases *l, uint64_t offset, uint64_t order)
{
    leases_add(l, offset, order, SLICE("message"));
}

/* Grants up to `max` at `now` for ten, and checks which. */
static void granted(struct leases *l, uint64_t lease, uint64_t now, uint32_t max,
                    const uint64_t *offsets, uint32_t count)
{
    struct lease_message *m[WINDOW];
    struct lease_terms t = {lease, now, now + 10, max, 1000};
    assert_int_equal(leases_grant(l, &t, m), count);
    for (uint32_t i = 0; i < count; i++)
        assert_int_equal(m[i]->offset, offsets[i]);
}
#define GRANTED(l, lease, now, max, ...)                                                           \
    granted(l, lease, now, max, (uint64_t[]){__VA_ARGS__},                                         \
            sizeof((uint64_t[]){__VA_ARGS__}) / sizeof(uint64_t))

static void done_are(struct leases *l, uint64_t floor, const uint64_t *offsets, uint32_t count)
{
    uint64_t got[WINDOW];
    assert_int_equal(leases_floor(l), floor);
    assert_int_equal(leases_done(l, got), count);
    for (uint32_t i = 0; i < count; i++)
        assert_int_equal(got[i], offsets[i]);
}

static void one_feed_has_one_holder(void **state)
{
    (void)state;
    struct leases l = make();
    add(&l, 1, 'a'), add(&l, 2, 'b'), add(&l, 4, 'a'), add(&l, 5, 'b'), add(&l, 6, 'c');
    GRANTED(&l, 1, 0, 1, 1);
    GRANTED(&l, 2, 0, 2, 2, 5); /* 4 has to wait for 1 */
    GRANTED(&l, 3, 0, 9, 6);
    granted(&l, 4, 0, 9, NULL, 0);
    assert_int_equal(leases_ack(&l, 1, 1, true), LEASE_OK);
    GRANTED(&l, 4, 0, 9, 4);
    assert_int_equal(leases_ack(&l, 6, 3, true), LEASE_OK);
    assert_int_equal(leases_ack(&l, 2, 2, true), LEASE_OK);
    done_are(&l, 4, (uint64_t[]){6}, 1);
    assert_int_equal(leases_ack(&l, 4, 4, true), LEASE_OK);
    assert_int_equal(leases_ack(&l, 5, 2, true), LEASE_OK);
    done_are(&l, 7, NULL, 0);
    leases_fini(&l);
}

static void what_is_given_back_comes_again_in_order(void **state)
{
    (void)state;
    struct leases l = make();
    add(&l, 1, 'a'), add(&l, 2, 'a'), add(&l, 3, 'b'), add(&l, 4, 'a');
    GRANTED(&l, 1, 0, 3, 1, 2, 3);
    assert_int_equal(leases_nack(&l, 1, 1, 50), LEASE_OK);
    assert_int_equal(leases_nack(&l, 2, 1, 0), LEASE_STALE); /* it went with the one before it */
    assert_int_equal(leases_nack(&l, 1, 1, 0), LEASE_STALE);
    granted(&l, 2, 49, 9, NULL, 0);
    assert_int_equal(l.due_ns, 10);
    assert_int_equal(leases_expire(&l, 11), 1); /* 3 */
    assert_int_equal(l.due_ns, 50);
    struct lease_message *m[WINDOW];
    struct lease_terms t = {2, 50, 60, 9, 1000};
    assert_int_equal(leases_grant(&l, &t, m), 4);
    assert_int_equal(m[0]->deliveries, 2);
    assert_int_equal(m[1]->deliveries, 1); /* nobody had tried it */
    assert_int_equal(m[2]->deliveries, 2);
    leases_return(&l, 2);
    assert_int_equal(m[0]->deliveries, 1);
    GRANTED(&l, 3, 50, 9, 1, 2, 3, 4);
    leases_fini(&l);
}

static void a_late_word_counts_until_somebody_else_has_it(void **state)
{
    (void)state;
    struct leases l = make();
    add(&l, 1, 'a'), add(&l, 2, 'b');
    GRANTED(&l, 1, 0, 9, 1, 2);
    assert_int_equal(leases_extend(&l, 1, 1, 100), LEASE_OK);
    assert_int_equal(leases_expire(&l, 9), 0);
    assert_int_equal(leases_expire(&l, 10), 1);
    assert_int_equal(leases_extend(&l, 2, 1, 100), LEASE_STALE);
    assert_int_equal(leases_ack(&l, 2, 1, true), LEASE_OK);
    assert_int_equal(leases_ack(&l, 2, 1, true), LEASE_OK); /* told twice */
    assert_int_equal(leases_expire(&l, 100), 1);
    GRANTED(&l, 2, 100, 9, 1);
    assert_int_equal(leases_ack(&l, 1, 1, true), LEASE_STALE);
    assert_int_equal(leases_ack(&l, 7, 1, true), LEASE_STALE);
    assert_int_equal(leases_ack(&l, 1, 2, true), LEASE_OK);
    leases_fini(&l);
}

static void of_one_order_later_ones_fall_with_the_first(void **state)
{
    (void)state;
    struct leases l = make();
    add(&l, 1, 'a'), add(&l, 2, 'a');
    GRANTED(&l, 1, 0, 9, 1, 2);
    assert_int_equal(leases_extend(&l, 2, 1, 100), LEASE_OK);
    assert_int_equal(leases_expire(&l, 10), 2);
    GRANTED(&l, 2, 10, 9, 1, 2);
    leases_fini(&l);
}

static void the_window_is_bounded(void **state)
{
    (void)state;
    struct leases l = make();
    for (uint64_t i = 0; i < WINDOW; i++) {
        assert_true(leases_room(&l));
        add(&l, i, i);
    }
    assert_false(leases_room(&l));
    GRANTED(&l, 1, 0, 9, 0, 1, 2, 3, 4, 5, 6, 7);
    assert_int_equal(leases_ack(&l, 3, 1, true), LEASE_OK);
    assert_false(leases_room(&l)); /* 0 holds it up */
    assert_int_equal(leases_ack(&l, 0, 1, true), LEASE_OK);
    assert_true(leases_room(&l));
    leases_fini(&l);
    leases_init(&l, WINDOW, 10, 0, NULL, 0);
    add(&l, 1, 'a'), add(&l, 2, 'a');
    assert_false(leases_room(&l)); /* bytes */
    leases_fini(&l);
}

static void a_restart_forgets_leases_and_keeps_what_is_done(void **state)
{
    (void)state;
    struct leases l;
    leases_init(&l, WINDOW, 1000, 10, (uint64_t[]){12, 14, 15}, 3);
    assert_int_equal(leases_ack(&l, 9, 77, false), LEASE_OK);
    assert_int_equal(leases_ack(&l, 11, 77, false), LEASE_OK); /* the window is not there yet */
    assert_int_equal(leases_ack(&l, 17, 77, false), LEASE_OK);
    assert_int_equal(leases_ack(&l, 12, 77, false), LEASE_OK);
    done_are(&l, 10, (uint64_t[]){11, 12, 14, 15, 17}, 5);
    add(&l, 10, 'a'), add(&l, 11, 'a'), add(&l, 12, 'a'), add(&l, 13, 'a');
    leases_pass(&l, 15); /* 14 is wanted no more */
    done_are(&l, 10, (uint64_t[]){11, 12, 15, 17}, 4);
    GRANTED(&l, 1, 0, 9, 10, 13);
    assert_int_equal(leases_ack(&l, 13, 77, false), LEASE_STALE);
    leases_return(&l, 1);
    assert_int_equal(leases_ack(&l, 13, 1, true), LEASE_OK);
    assert_int_equal(leases_ack(&l, 10, 1, true), LEASE_OK);
    done_are(&l, 15, (uint64_t[]){15, 17}, 2);
    add(&l, 15, 'a'), add(&l, 16, 'a'), add(&l, 17, 'a');
    done_are(&l, 16, (uint64_t[]){17}, 1);
    leases_fini(&l);
    /* Nobody fills it with what is not there. */
    leases_init(&l, WINDOW, 1000, 0, NULL, 0);
    for (uint64_t i = 0; i < WINDOW; i++)
        assert_int_equal(leases_ack(&l, 100 + i, 77, false), LEASE_OK);
    assert_int_equal(leases_ack(&l, 99, 77, false), LEASE_STALE);
    /* Nor does it come to a stop: only who reads gets past it. */
    assert_true(leases_room(&l));
    add(&l, 50, 'a');
    assert_false(leases_room(&l));
    GRANTED(&l, 1, 0, 9, 50);
    assert_int_equal(leases_ack(&l, 50, 1, true), LEASE_OK);
    assert_true(leases_room(&l));
    leases_pass(&l, 200);
    assert_true(leases_room(&l));
    leases_fini(&l);
}

/* All that a whole window was handed out is done, and none of it was read again: what comes behind
 * it is read. */
static void a_window_that_is_done_behind_a_restart_goes_on(void **state)
{
    (void)state;
    struct leases l = make();
    for (uint64_t i = 0; i < WINDOW; i++)
        assert_int_equal(leases_ack(&l, i, 77, false), LEASE_OK);
    uint64_t next = 0;
    for (; leases_room(&l) && next < 2 * WINDOW; next++)
        add(&l, next, 'a');
    assert_int_equal(next, 2 * WINDOW);
    done_are(&l, WINDOW, NULL, 0);
    leases_fini(&l);
}

/* Of a window that was wider once nothing that is done comes again. */
static void a_narrower_window_forgets_nothing(void **state)
{
    (void)state;
    struct leases l;
    uint64_t had[2 * WINDOW], next = 0;
    for (unsigned i = 0; i < 2 * WINDOW; i++)
        had[i] = i + 1;
    leases_init(&l, WINDOW, 1000, 0, had, 2 * WINDOW);
    assert_int_equal(leases_done(&l, NULL), 2 * WINDOW);
    for (; leases_room(&l); next++)
        add(&l, next, 'a');
    assert_int_equal(next, 1);
    GRANTED(&l, 1, 0, 9, 0);
    assert_int_equal(leases_ack(&l, 99, 77, false), LEASE_STALE); /* there is no room for it */
    assert_int_equal(leases_ack(&l, 0, 1, true), LEASE_OK);
    for (; leases_room(&l); next++)
        add(&l, next, next);
    assert_int_equal(next, 2 * WINDOW + 1 + WINDOW);
    assert_int_equal(leases_floor(&l), 2 * WINDOW + 1);
    leases_fini(&l);
}

static void all_that_a_holder_has_is_given_back(void **state)
{
    (void)state;
    struct leases l = make();
    struct lease_holder one = {0}, two = {0};
    struct lease_message *m[WINDOW];
    add(&l, 1, 'a'), add(&l, 2, 'b'), add(&l, 3, 'a'), add(&l, 4, 'c'), add(&l, 5, 'd');
    struct lease_terms t = {
        .lease = 1, .end_ns = 10, .messages_max = 2, .bytes_max = 1000, .holder = &one};
    assert_int_equal(leases_grant(&l, &t, m), 2); /* 1, 2 */
    t = (struct lease_terms){
        .lease = 2, .end_ns = 20, .messages_max = 1, .bytes_max = 1000, .holder = &one};
    assert_int_equal(leases_grant(&l, &t, m), 1); /* 4: its own 1 is before 3 */
    assert_int_equal(m[0]->offset, 4);
    t.lease = 3, t.holder = &two;
    assert_int_equal(leases_grant(&l, &t, m), 1); /* 5 */
    assert_int_equal(one.has, 3);
    assert_int_equal(leases_ack(&l, 2, 1, true), LEASE_OK);
    assert_int_equal(one.has, 2);
    assert_int_equal(leases_expire(&l, 10), 1); /* 1 */
    assert_int_equal(one.has, 1);
    assert_int_equal(leases_nack(&l, 5, 3, 0), LEASE_OK);
    assert_int_equal(two.has, 0);
    leases_leave(&l, &two); /* it has nothing */
    leases_leave(&l, &one);
    assert_int_equal(one.has, 0);
    assert_int_equal(l.out, 0);
    /* It was handed out: that is counted. What was acknowledged stays so; a late word counts. */
    t = (struct lease_terms){
        .lease = 4, .now_ns = 10, .end_ns = 30, .messages_max = 9, .bytes_max = 1000};
    assert_int_equal(leases_ack(&l, 4, 2, true), LEASE_OK);
    assert_int_equal(leases_grant(&l, &t, m), 3);
    assert_int_equal(m[0]->offset, 1);
    assert_int_equal(m[0]->deliveries, 2);
    assert_int_equal(m[1]->offset, 3);
    assert_int_equal(m[1]->deliveries, 1);
    assert_int_equal(m[2]->offset, 5);
    assert_null(m[0]->holder);
    leases_fini(&l);
}

/* ---- whatever happens ------------------------------------------------------------------------ */

#define MESSAGES 400
#define ORDERS   5
#define HOLDERS  3

/* A model of it: consumers that take, finish, give back, forget, and are too late. */
struct world {
    struct leases l;
    struct rand rand;
    uint64_t now, lease;
    uint64_t order[MESSAGES];
    bool done[MESSAGES];
    uint64_t holder[MESSAGES], end[MESSAGES]; /* by the rules, as told */
    uint64_t added;
    struct lease_holder holders[HOLDERS];
    unsigned has[MESSAGES]; /* which of them, and one on top; 0: none */
};

static void take(struct world *w)
{
    struct lease_message *m[WINDOW];
    struct lease_terms t = {++w->lease,
                            w->now,
                            w->now + 1 + rand_below(&w->rand, 20),
                            1 + (uint32_t)rand_below(&w->rand, 4),
                            1000,
                            NULL};
    unsigned who = (unsigned)rand_below(&w->rand, HOLDERS + 1);
    t.holder = who ? &w->holders[who - 1] : NULL;
    uint32_t n = leases_grant(&w->l, &t, m);
    for (uint32_t i = 0; i < n; i++) {
        uint64_t o = m[i]->offset;
        assert_false(w->done[o]);
        /* Nobody has it, and all before it of its order are done, or in this grant. */
        assert_true(!w->holder[o] || w->end[o] <= w->now);
        for (uint64_t before = 0; before < o; before++)
            if (w->order[before] == w->order[o])
                assert_true(w->done[before] || w->holder[before] == t.lease);
        w->holder[o] = t.lease;
        w->end[o] = t.end_ns;
        w->has[o] = who;
    }
}

/* One holder ends. */
static void part(struct world *w)
{
    unsigned who = 1 + (unsigned)rand_below(&w->rand, HOLDERS);
    leases_leave(&w->l, &w->holders[who - 1]);
    for (uint64_t o = 0; o < w->added; o++)
        if (w->has[o] == who)
            w->end[o] = 0;
}

/* Each has what the window says. */
static void check_holders(const struct world *w)
{
    for (unsigned who = 0; who < HOLDERS; who++) {
        uint32_t n = 0;
        for (uint32_t i = w->l.first; i < w->l.end; i++)
            n += w->l.window[i].state == LEASE_OUT && w->l.window[i].holder == &w->holders[who];
        assert_int_equal(w->holders[who].has, n);
    }
}

static void say(struct world *w)
{
    if (!w->added)
        return;
    uint64_t o = rand_below(&w->rand, w->added);
    uint64_t lease =
        rand_below(&w->rand, 4) ? w->holder[o] : 1 + rand_below(&w->rand, w->lease + 1);
    if (rand_below(&w->rand, 3)) {
        bool may = w->done[o] || (lease && lease == w->holder[o]);
        enum lease_outcome got = leases_ack(&w->l, o, lease, true);
        assert_int_equal(got, may ? LEASE_OK : LEASE_STALE);
        w->done[o] = w->done[o] || may;
    } else if (lease &&
               leases_nack(&w->l, o, lease, w->now + rand_below(&w->rand, 5)) == LEASE_OK) {
        assert_int_equal(w->holder[o], lease);
        for (uint64_t k = o; k < w->added; k++)
            if (w->order[k] == w->order[o] && w->holder[k] == lease)
                w->end[k] = 0;
    }
}

static void order_holds_and_nothing_is_lost(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 200; seed++) {
        struct world w = {.rand = {.state = seed}, .l = make()};
        while (leases_floor(&w.l) < MESSAGES) {
            while (w.added < MESSAGES && leases_room(&w.l) && rand_below(&w.rand, 3)) {
                w.order[w.added] = 1 + rand_below(&w.rand, ORDERS);
                add(&w.l, w.added, w.order[w.added]);
                w.added++;
            }
            if (rand_below(&w.rand, 2))
                take(&w);
            say(&w);
            if (rand_below(&w.rand, 10) == 0)
                part(&w);
            w.now += rand_below(&w.rand, 3);
            leases_expire(&w.l, w.now);
            check_holders(&w);
            assert_true(w.l.end - w.l.first <= WINDOW);
        }
        for (uint64_t o = 0; o < MESSAGES; o++)
            assert_true(w.done[o]);
        assert_int_equal(w.l.bytes, 0);
        assert_int_equal(w.l.undone, 0);
        assert_int_equal(w.l.out, 0);
        leases_fini(&w.l);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_feed_has_one_holder),
        cmocka_unit_test(what_is_given_back_comes_again_in_order),
        cmocka_unit_test(a_late_word_counts_until_somebody_else_has_it),
        cmocka_unit_test(of_one_order_later_ones_fall_with_the_first),
        cmocka_unit_test(the_window_is_bounded),
        cmocka_unit_test(a_restart_forgets_leases_and_keeps_what_is_done),
        cmocka_unit_test(a_window_that_is_done_behind_a_restart_goes_on),
        cmocka_unit_test(a_narrower_window_forgets_nothing),
        cmocka_unit_test(all_that_a_holder_has_is_given_back),
        cmocka_unit_test(order_holds_and_nothing_is_lost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
