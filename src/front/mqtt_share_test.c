/* SPDX-License-Identifier: Apache-2.0 */
#include "front/mqtt_share.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

/* Places that are read, to be moved or compared, are counted. */
static uint64_t reads;
#define ascending_at(a, i) (reads++, ascending_at(a, i))
#include "base/ascending.c"
#include "base/check.h"
#include "base/rand.h"
#include "base/thread.h"
#include "flow/limits.h"
#include "flow/session_record.h"

#define THREADS 4u
#define ROUNDS  3000u

/* Fronts are only compared here. */
static char fronts[THREADS];

/* Whether the view knows the group, and from where on. */
static struct {
    bool known;
    uint64_t floor;
} view;

static bool on_known(void *arg, uint64_t account, struct slice filter, uint64_t *ret_floor)
{
    CHECK(slice_starts(filter, SLICE("$share/")));
    *ret_floor = view.floor;
    return view.known;
}

static struct mqtt_shares *shares_new(bool known, uint64_t floor)
{
    view.known = known;
    view.floor = floor;
    return mqtt_shares_new(&(struct mqtt_shares_opts){.born = 100, .known = on_known});
}

/* How far each home has matched. */
static _Atomic uint64_t reached;
#define SINCE 200u
static const struct share_home home = {SINCE, &reached};

static struct share_member member(unsigned front, uint32_t number)
{
    return (struct share_member){(struct mqtt_front *)&fronts[front], number};
}

static struct share_group *join(struct mqtt_shares *s, uint64_t account, const char *name,
                                const char *filter, struct share_member m, enum share_joined want)
{
    struct share_group *g = NULL;
    assert_int_equal(mqtt_share_join(s, account, slice_str(name), slice_str(filter), m, &home, &g),
                     want);
    return g;
}

/* Whom a message asks next; 0: nobody. */
static uint32_t ask(struct share_group *g, struct share_round *r)
{
    struct share_member m = {0};
    return mqtt_share_pick(g, r, &m) ? m.number : 0;
}

/* Whom a new one asks first. */
static uint32_t pick(struct share_group *g)
{
    struct share_round r = {0};
    return ask(g, &r);
}

static void leave(struct share_group *g, struct share_member m, bool last)
{
    assert_int_equal(mqtt_share_leave(g, m, false), last);
    mqtt_share_unref(g);
}

static void members_take_turns(void **state)
{
    struct mqtt_shares *s = shares_new(false, 0);
    struct share_group *g = join(s, 1, "g", "a/#", member(0, 1), SHARE_FOUNDED);
    assert_ptr_equal(g->home, &fronts[0]);
    assert_int_equal(pick(g), 1);
    assert_ptr_equal(join(s, 1, "g", "a/#", member(1, 1), SHARE_JOINED), g);
    assert_ptr_equal(join(s, 1, "g", "a/#", member(1, 2), SHARE_JOINED), g);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(pick(g), 1);
        assert_int_equal(pick(g), 2);
        assert_int_equal(pick(g), 1);
    }
    assert_int_equal(pick(g), 1);
    leave(g, member(0, 1), false); /* it had its turn: the next one is still the next one */
    assert_int_equal(pick(g), 2);
    assert_int_equal(pick(g), 1);
    leave(g, member(1, 2), false);
    struct share_group *kept = mqtt_share_ref(g);
    leave(g, member(1, 1), true);
    assert_int_equal(pick(kept), 0);
    g = join(s, 1, "g", "a/#", member(2, 9), SHARE_FOUNDED); /* another group, another home */
    assert_ptr_not_equal(g, kept);
    assert_ptr_equal(g->home, &fronts[2]);
    mqtt_share_unref(kept);
    leave(g, member(2, 9), true);
    mqtt_shares_free(s);
}

/* Nobody takes the message at once: each is asked, and asked once more. */
static void all_are_asked_twice(void **state)
{
    struct mqtt_shares *s = shares_new(false, 0);
    struct share_group *g = join(s, 1, "g", "a", member(0, 1), SHARE_FOUNDED);
    for (uint32_t i = 2; i <= 3; i++)
        join(s, 1, "g", "a", member(0, i), SHARE_JOINED);
    assert_int_equal(pick(g), 1);
    struct share_round r = {0};
    for (uint32_t i = 0; i < 3; i++)
        assert_true(ask(g, &r) == (i + 1) % 3 + 1 && !r.force);
    for (uint32_t i = 0; i < 3; i++)
        assert_true(ask(g, &r) == (i + 1) % 3 + 1 && r.force);
    assert_int_equal(ask(g, &r), 0);
    assert_int_equal(pick(g), 2); /* it is the turn of who comes behind the last one */
    for (uint32_t i = 1; i <= 3; i++)
        leave(g, member(0, i), i == 3);
    mqtt_shares_free(s);
}

/* It is on its way to a member that leaves meanwhile: those behind are still to be asked. */
static void who_leaves_takes_nobodys_turn(void **state)
{
    struct mqtt_shares *s = shares_new(false, 0);
    struct share_group *g = join(s, 1, "g", "a", member(0, 1), SHARE_FOUNDED);
    for (uint32_t i = 2; i <= 5; i++)
        join(s, 1, "g", "a", member(0, i), SHARE_JOINED);
    struct share_round r = {0};
    for (uint32_t i = 1; i <= 5; i++)
        assert_int_equal(ask(g, &r), i);
    for (uint32_t i = 1; i <= 2; i++)
        assert_true(ask(g, &r) == i && r.force);
    for (uint32_t i = 1; i <= 3; i++)
        leave(g, member(0, i), false);
    assert_int_equal(ask(g, &r), 4);
    assert_int_equal(ask(g, &r), 5);
    assert_int_equal(ask(g, &r), 0);
    leave(g, member(0, 4), false);
    leave(g, member(0, 5), true);
    mqtt_shares_free(s);
}

/* Others are asked at the same time, and somebody joins. */
static void other_messages_take_nobodys_turn(void **state)
{
    struct mqtt_shares *s = shares_new(false, 0);
    struct share_group *g = join(s, 1, "g", "a", member(0, 1), SHARE_FOUNDED);
    join(s, 1, "g", "a", member(0, 2), SHARE_JOINED);
    struct share_round r = {0};
    assert_int_equal(ask(g, &r), 1);
    assert_int_equal(pick(g), 2);
    assert_int_equal(ask(g, &r), 2);
    join(s, 1, "g", "a", member(0, 3), SHARE_JOINED);
    assert_int_equal(ask(g, &r), 3);
    assert_false(r.force);
    uint32_t first = ask(g, &r), asked = 1u << first;
    for (unsigned i = 0; i < 2; i++) {
        pick(g);
        asked |= 1u << ask(g, &r);
    }
    assert_true(r.force && asked == 0xe);
    assert_int_equal(ask(g, &r), 0);
    for (uint32_t i = 1; i <= 3; i++)
        leave(g, member(0, i), i == 3);
    mqtt_shares_free(s);
}

static void groups_are_their_own(void **state)
{
    struct mqtt_shares *s = shares_new(false, 0);
    struct share_group *g[4] = {join(s, 1, "g", "a", member(0, 1), SHARE_FOUNDED),
                                join(s, 2, "g", "a", member(0, 2), SHARE_FOUNDED),
                                join(s, 1, "h", "a", member(0, 3), SHARE_FOUNDED),
                                join(s, 1, "g", "b", member(0, 4), SHARE_FOUNDED)};
    for (uint32_t i = 0; i < 4; i++)
        assert_int_equal(pick(g[i]), i + 1);
    for (uint32_t i = 0; i < 4; i++)
        leave(g[i], member(0, i + 1), true);
    mqtt_shares_free(s);
}

static void there_are_maxima(void **state)
{
    struct mqtt_shares *s = shares_new(false, 0);
    struct share_group *g = join(s, 1, "g", "a", member(0, 0), SHARE_FOUNDED), *none = NULL;
    for (uint32_t i = 1; i < SHARE_MEMBERS_MAX; i++)
        join(s, 1, "g", "a", member(0, i), SHARE_JOINED);
    assert_int_equal(mqtt_share_join(s, 1, SLICE("g"), SLICE("a"), member(1, 0), &home, &none),
                     SHARE_FULL);
    for (uint32_t i = 0; i < SHARE_MEMBERS_MAX; i++)
        leave(g, member(0, i), i == SHARE_MEMBERS_MAX - 1);
    assert_true(mqtt_shares_begin(s, SHARE_BYTES_MAX - 10) && mqtt_shares_begin(s, 10));
    assert_false(mqtt_shares_begin(s, 1));
    assert_true(mqtt_shares_begin(s, 0)); /* what has to be told is */
    mqtt_shares_end(s, 0);
    mqtt_shares_end(s, 10);
    assert_false(mqtt_shares_idle(s));
    assert_true(mqtt_shares_begin(s, 1));
    mqtt_shares_end(s, 1);
    mqtt_shares_end(s, SHARE_BYTES_MAX - 10);
    assert_true(mqtt_shares_idle(s));
    mqtt_shares_free(s);
}

static void expect_missed(struct share_group *g, uint64_t from)
{
    uint64_t got_from, got_to;
    assert_true(mqtt_share_take_missed(g, &got_from, &got_to));
    assert_true(got_from == from && got_to == SINCE);
    assert_false(mqtt_share_take_missed(g, &got_from, &got_to)); /* somebody has taken it */
    mqtt_share_put_missed_back(g);
    assert_true(mqtt_share_take_missed(g, &got_from, &got_to));
}

static void groups_sleep(void **state)
{
    struct mqtt_shares *s = shares_new(true, 0);
    struct share_group *g = join(s, 1, "g", "a", member(0, 1), SHARE_FOUNDED);
    expect_missed(g, 100); /* nobody has been there since the server began */
    mqtt_share_ref(g);
    leave(g, member(0, 1), true);
    mqtt_share_sleep(g, 120);
    mqtt_share_sleep(g, 130); /* it does already */
    struct share_group *again = join(s, 1, "g", "a", member(1, 1), SHARE_FOUNDED);
    expect_missed(again, 120);
    mqtt_share_sleep(g, 140); /* told late: it is awake */
    mqtt_share_unref(g);
    mqtt_share_ref(again);
    leave(again, member(1, 1), true);
    mqtt_share_sleep(again, 150);
    mqtt_share_unref(again);
    for (uint32_t i = 0; i < SHARE_ASLEEP_MAX; i++) {
        g = join(s, 2 + i, "g", "a", member(0, 1), SHARE_FOUNDED);
        expect_missed(g, 100);
        mqtt_share_ref(g);
        leave(g, member(0, 1), true);
        mqtt_share_sleep(g, 160);
        mqtt_share_unref(g);
    }
    uint64_t from, to;
    g = join(s, 1, "g", "a", member(0, 1), SHARE_FOUNDED);
    assert_false(mqtt_share_take_missed(g, &from, &to)); /* it was forgotten: nothing is known */
    leave(g, member(0, 1), true);
    view.floor = 70;
    g = join(s, 1, "h", "a", member(0, 1), SHARE_FOUNDED);
    expect_missed(g, 70); /* but by the view */
    leave(g, member(0, 1), true);
    mqtt_shares_free(s);
}

static void what_the_view_and_the_home_say_late(void **state)
{
    uint64_t from, to;
    struct mqtt_shares *s = shares_new(false, 0);
    struct share_group *g = join(s, 1, "g", "a", member(0, 1), SHARE_FOUNDED);
    mqtt_share_keep(g);
    mqtt_share_open(g, session_place(120, 0));
    mqtt_share_ref(g);
    assert_true(mqtt_share_leave(g, member(0, 1), true)); /* its session goes on */
    mqtt_share_unref(g);
    struct share_group *again = join(s, 1, "g", "a", member(1, 1), SHARE_FOUNDED);
    assert_true(again->kept);
    expect_missed(again, 120); /* no more than the home of the one before would say */
    leave(again, member(1, 1), true);
    mqtt_share_sleep(g, 130);
    mqtt_share_unref(g);
    g = join(s, 1, "g", "a", member(0, 1), SHARE_FOUNDED);
    assert_false(g->kept || mqtt_share_take_missed(g, &from, &to)); /* it did not go on */
    leave(g, member(0, 1), true);
    mqtt_shares_free(s);
}

/* It was in the mail to the last member when that left: whoever is next is to get it. */
static void what_is_open_sleeps_with_the_group(void **state)
{
    struct mqtt_shares *s = shares_new(true, SINCE);
    struct share_group *g = join(s, 1, "g", "a", member(0, 1), SHARE_FOUNDED);
    mqtt_share_open(g, session_place(120, 3));
    mqtt_share_open(g, session_place(125, 0));
    mqtt_share_ref(g);
    leave(g, member(0, 1), true);
    mqtt_share_sleep(g, 130);
    mqtt_share_unref(g);
    g = join(s, 1, "g", "a", member(0, 1), SHARE_FOUNDED);
    expect_missed(g, 120);
    leave(g, member(0, 1), true);
    mqtt_shares_free(s);
}

static void the_view_knows_where_a_group_is(void **state)
{
    uint64_t from, to;
    struct mqtt_shares *s = shares_new(true, 42);
    struct share_group *g = join(s, 1, "g", "a/#", member(0, 1), SHARE_FOUNDED);
    assert_true(slice_eq(g->whole, SLICE("$share/g/a/#")));
    assert_true(slice_eq(g->name, SLICE("g")) && slice_eq(g->filter, SLICE("a/#")));
    assert_true(g->kept && mqtt_share_floor(g) == 42); /* until what was missed was read */
    expect_missed(g, 42);
    mqtt_share_open(g, session_place(50, 3));
    mqtt_share_end_missed(g);
    assert_int_equal(mqtt_share_floor(g), 50);
    leave(g, member(0, 1), true);
    view.known = false; /* no session has the subscription */
    g = join(s, 1, "g", "a/#", member(0, 1), SHARE_FOUNDED);
    assert_false(g->kept || mqtt_share_take_missed(g, &from, &to));
    leave(g, member(0, 1), true);
    view.known = true;
    view.floor = SINCE; /* nothing came meanwhile */
    g = join(s, 1, "g", "a/#", member(0, 1), SHARE_FOUNDED);
    assert_true(g->kept && !mqtt_share_take_missed(g, &from, &to));
    leave(g, member(0, 1), true);
    mqtt_shares_free(s);
}

static void the_floor_is_below_all_that_is_open(void **state)
{
    struct mqtt_shares *s = shares_new(false, 0);
    struct share_group *g = join(s, 1, "g", "a", member(0, 1), SHARE_FOUNDED);
    mqtt_share_open(g, session_place(300, 0)); /* no session has it: nobody would ask */
    assert_int_equal(g->open.count, 0);
    mqtt_share_keep(g);
    reached = 150;
    assert_int_equal(mqtt_share_floor(g), SINCE);
    reached = 400;
    assert_int_equal(mqtt_share_floor(g), 400);
    for (unsigned i = 20; i > 0; i--)
        mqtt_share_open(g, session_place(400 + i, i % 3));
    mqtt_share_open(g, session_place(401, 1)); /* given to another one */
    assert_int_equal(g->open.count, 20);
    reached = 500;
    assert_int_equal(mqtt_share_floor(g), 401);
    assert_false(mqtt_share_floor_due(g, 1));
    mqtt_share_settle(g, session_place(402, 2));
    mqtt_share_settle(g, session_place(402, 2));
    assert_int_equal(mqtt_share_floor(g), 401);
    mqtt_share_settle(g, session_place(401, 1));
    assert_true(mqtt_share_floor_due(g, 2) && !mqtt_share_floor_due(g, 3));
    assert_int_equal(mqtt_share_floor(g), 403);
    for (unsigned i = 1; i <= 20; i++)
        mqtt_share_settle(g, session_place(400 + i, i % 3));
    assert_int_equal(mqtt_share_floor(g), 500);
    mqtt_share_ref(g);
    leave(g, member(0, 1), true);
    reached = 600;
    assert_int_equal(mqtt_share_floor(g), 0); /* what it does not get now it does not know */
    mqtt_share_unref(g);
    reached = 0;
    mqtt_shares_free(s);
}

/* As many members as there may be have each a window of messages, and the oldest is settled first:
 * what each costs does not depend on how many there are. */
static void many_are_open(void **state)
{
    const uint64_t under_way = SHARE_MEMBERS_MAX * 100ull, all = 3 * under_way;
    struct mqtt_shares *s = shares_new(true, SINCE);
    struct share_group *g = join(s, 1, "g", "a", member(0, 1), SHARE_FOUNDED);
    for (uint64_t i = 0; i < all + under_way; i++) {
        reached = SINCE + i + 1;
        if (i < all)
            mqtt_share_open(g, session_place(SINCE + i, 0));
        if (i < under_way)
            continue;
        assert_int_equal(mqtt_share_floor(g), SINCE + i - under_way);
        mqtt_share_settle(g, session_place(SINCE + i - under_way, 0));
    }
    assert_int_equal(g->open.count, 0);
    for (uint64_t i = 0; i < SHARE_OPEN_MAX + 10ull; i++)
        assert_int_equal(mqtt_share_open(g, session_place(reached + i, 1)), i < SHARE_OPEN_MAX);
    assert_int_equal(g->open.count, SHARE_OPEN_MAX);
    assert_int_equal(ascending_at(&g->open, 0), session_place(reached, 1)); /* undelivered, maybe */
    assert_true(mqtt_share_open(g, session_place(reached, 1)));
    mqtt_share_settle(g, session_place(reached + 1, 1));
    assert_true(mqtt_share_open(g, session_place(reached + SHARE_OPEN_MAX, 1)));
    leave(g, member(0, 1), true);
    reached = 0;
    mqtt_shares_free(s);
}

/* As many as may be open, half of them live already and half missed: in one pass. */
static void what_was_missed_is_opened_at_once(void **state)
{
    const uint32_t half = SHARE_OPEN_MAX / 2;
    uint64_t *missed = calloc(half + 10, sizeof *missed);
    struct mqtt_shares *s = shares_new(true, SINCE);
    struct share_group *g = join(s, 1, "g", "a", member(0, 1), SHARE_FOUNDED);
    (void)state;
    assert_non_null(missed);
    for (uint64_t i = 0; i < half + 10; i++) {
        missed[i] = session_place(SINCE + i, 0);
        if (i < half)
            assert_true(mqtt_share_open(g, session_place(SINCE + SHARE_OPEN_MAX + i, 0)));
    }
    reads = 0;
    assert_int_equal(mqtt_share_open_all(g, missed, half + 10), half);
    assert_true(reads <= SHARE_OPEN_MAX);
    assert_int_equal(g->open.count, SHARE_OPEN_MAX);
    assert_int_equal(ascending_at(&g->open, 0), missed[0]);
    assert_int_equal(mqtt_share_open_all(g, missed + half, 10), 0);
    leave(g, member(0, 1), true);
    mqtt_shares_free(s);
    free(missed);
}

/* Whoever founds a group waits for what is being told of the one before, and for nothing that
 * begins then. */
static void what_is_told_has_an_end(void **state)
{
    struct mqtt_shares *s = shares_new(true, 0);
    struct share_group *old = join(s, 1, "g", "a", member(0, 1), SHARE_FOUNDED);
    assert_true(mqtt_share_is_told(old));
    unsigned first = mqtt_share_tell(old);
    mqtt_share_ref(old);
    leave(old, member(0, 1), true);
    struct share_group *g = join(s, 1, "g", "a", member(1, 1), SHARE_FOUNDED);
    assert_false(mqtt_share_is_told(g));
    unsigned own = mqtt_share_tell(g);
    mqtt_share_told(old, first);
    assert_true(mqtt_share_is_told(g)); /* though its own has not ended */
    mqtt_share_ref(g);
    leave(g, member(1, 1), true);
    struct share_group *next = join(s, 1, "g", "a", member(2, 1), SHARE_FOUNDED);
    assert_false(mqtt_share_is_told(next));
    unsigned later = mqtt_share_tell(next);
    mqtt_share_ref(next);
    leave(next, member(2, 1), true); /* before that has ended */
    struct share_group *last = join(s, 1, "g", "a", member(3, 1), SHARE_FOUNDED);
    mqtt_share_told(g, own);
    assert_true(mqtt_share_is_told(next));
    assert_false(mqtt_share_is_told(last));
    mqtt_share_told(next, later);
    assert_true(mqtt_share_is_told(last) && mqtt_share_is_told(next));
    leave(last, member(3, 1), true);
    mqtt_share_unref(next);
    mqtt_share_unref(g);
    mqtt_share_unref(old);
    mqtt_shares_free(s);
}

/* A record of who leaves counts as from the moment in which that begins, though the other's member
 * has looked meanwhile. */
static void so_has_what_is_told_as_part_of_it(void **state)
{
    (void)state;
    struct mqtt_shares *s = shares_new(true, 0);
    struct share_group *old = mqtt_share_ref(join(s, 1, "g", "a", member(0, 1), SHARE_FOUNDED));
    unsigned leaves = mqtt_share_tell(old);
    leave(old, member(0, 1), true);
    struct share_group *g = join(s, 1, "g", "a", member(1, 1), SHARE_FOUNDED);
    assert_false(mqtt_share_is_told(g));
    unsigned record = mqtt_share_tell_in(old, leaves);
    mqtt_share_told(old, leaves);
    assert_false(mqtt_share_is_told(g));
    mqtt_share_told(old, record);
    assert_true(mqtt_share_is_told(g));
    leave(g, member(1, 1), true);
    mqtt_share_unref(old);
    mqtt_shares_free(s);
}

/* ---- all at once ----------------------------------------------------------------------------- */

struct worker_of {
    struct mqtt_shares *shares;
    unsigned index;
    unsigned founded, ended;
};

/* A message asks all members: this one, which stays, in each round once. */
static void ask_all(struct share_group *g, struct share_member self)
{
    struct share_round r = {0};
    struct share_member m;
    unsigned asked[2] = {0};
    while (mqtt_share_pick(g, &r, &m))
        asked[r.force] += m.front == self.front && m.number == self.number;
    CHECK(asked[0] == 1 && asked[1] == 1);
}

/* Joins and leaves two groups at random, and asks all while it is in one. */
static void run(void *arg)
{
    struct worker_of *w = arg;
    struct rand r = {.state = w->index + 1};
    static const char *const filters[] = {"a", "b/#"};
    struct share_group *in[2] = {0};
    for (unsigned i = 0; i < ROUNDS; i++) {
        unsigned k = (unsigned)rand_below(&r, 2);
        struct share_member m = member(w->index, k + 1);
        if (!in[k]) {
            enum share_joined how =
                mqtt_share_join(w->shares, 7, SLICE("g"), slice_str(filters[k]), m, &home, &in[k]);
            CHECK(how != SHARE_FULL);
            w->founded += how == SHARE_FOUNDED;
        } else if (rand_below(&r, 3)) {
            ask_all(in[k], m);
        } else {
            w->ended += mqtt_share_leave(in[k], m, false);
            mqtt_share_unref(in[k]);
            in[k] = NULL;
        }
    }
    for (unsigned k = 0; k < 2; k++) {
        if (!in[k])
            continue;
        w->ended += mqtt_share_leave(in[k], member(w->index, k + 1), false);
        mqtt_share_unref(in[k]);
    }
}

static void threads_come_and_go(void **state)
{
    struct worker_of w[THREADS];
    pthread_t threads[THREADS];
    unsigned founded = 0, ended = 0;
    struct mqtt_shares *s = shares_new(false, 0);
    for (unsigned i = 0; i < THREADS; i++) {
        w[i] = (struct worker_of){.shares = s, .index = i};
        threads[i] = thread_start("share", run, &w[i]);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        founded += w[i].founded;
        ended += w[i].ended;
    }
    assert_true(founded >= 2 && founded == ended);
    mqtt_shares_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(members_take_turns),
        cmocka_unit_test(all_are_asked_twice),
        cmocka_unit_test(who_leaves_takes_nobodys_turn),
        cmocka_unit_test(other_messages_take_nobodys_turn),
        cmocka_unit_test(groups_are_their_own),
        cmocka_unit_test(there_are_maxima),
        cmocka_unit_test(groups_sleep),
        cmocka_unit_test(what_is_open_sleeps_with_the_group),
        cmocka_unit_test(threads_come_and_go),
        cmocka_unit_test(the_view_knows_where_a_group_is),
        cmocka_unit_test(the_floor_is_below_all_that_is_open),
        cmocka_unit_test(many_are_open),
        cmocka_unit_test(what_was_missed_is_opened_at_once),
        cmocka_unit_test(what_is_told_has_an_end),
        cmocka_unit_test(so_has_what_is_told_as_part_of_it),
        cmocka_unit_test(what_the_view_and_the_home_say_late),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
