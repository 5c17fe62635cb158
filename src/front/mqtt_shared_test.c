/* SPDX-License-Identifier: Apache-2.0 */
/* Which member of a group gets a message, and who gets it when that one leaves. */
#include <stdlib.h>
/* What is sorted is counted. */
static size_t sorted;
#define qsort(list, count, size, by) (sorted += (count), qsort(list, count, size, by))
#include "front/mqtt_missed.c"

#include "flow/limits.h"
#include "front/mqtt_members_testing.h"

/* On its way to a member that leaves meanwhile: the other one, which was full, has still a queue.
 */
static void who_leaves_takes_nobodys_turn(void **state)
{
    (void)state;
    two_members(0, 2, 1);
    expect_message(&a, publish(2), 2);
    uint16_t id = expect_message(&b, publish(2), 2);
    uint64_t third = publish(2);
    turns(1); /* both have been asked, and it is in the mail to `a` */
    unsubscribe_now(0, FILTER);
    expect(&a, MQTT_UNSUBACK);
    expect_nothing(&b);
    acknowledge(&b, id);
    acknowledge(&b, expect_message(&b, third, 2));
    end_members();
}

/* Else the record of who gets it could come first, and would be undone. */
static void give_back(enum reason outcome)
{
    two_members(50, 1, 10);
    uint64_t position = publish(1);
    expect_message(&a, position, 1);
    holds[SESSION_RETURNED] = true;
    hang_up(&a);
    expect_nothing(&b);
    answer_held(outcome);
    expect_message(&b, position, 1);
    end_members();
}

static void what_is_given_back_goes_on_behind_that(void **state)
{
    (void)state;
    give_back(REASON_ok);
}

/* The session has it, too: it comes once more than it must. */
static void what_cannot_be_given_back_goes_on_as_well(void **state)
{
    (void)state;
    give_back(REASON_journal_failed);
}

/* What a member with QoS 1 has not acknowledged goes to one with QoS 0. */
static void what_is_given_back_goes_on_with_qos_0(void **state)
{
    (void)state;
    connect_to(&a, 0, "a", 50, 10);
    subscribe(&a, FILTER, 1);
    connect_to(&b, 1, "b", 50, 10);
    subscribe(&b, FILTER, 0);
    uint64_t position = publish(1);
    expect_message(&a, position, 1);
    struct share_group *g = mqtt_share_ref(fronts[0]->conns->subs->group);
    hang_up(&a);
    expect_message(&b, position, 0);
    expect_nothing(&b);
    assert_int_equal(g->open.count, 0);
    mqtt_share_unref(g);
    end_members();
}

/* `a` has it and hangs up, and `b` may not see it. */
static uint64_t give_back_to_who_may_not_see(void)
{
    two_members(50, 1, 10);
    barred[0] = fronts[1]->conns->number;
    uint64_t position = publish(1);
    expect_message(&a, position, 1);
    return position;
}

static void what_one_may_not_see_goes_on(void **state)
{
    (void)state;
    struct client third;
    uint64_t position = give_back_to_who_may_not_see();
    connect_to(&third, 0, "third", 50, 10);
    subscribe(&third, FILTER, 1);
    hang_up(&a);
    expect_message(&third, position, 1);
    expect_nothing(&b);
    hang_up(&third);
    end_members();
}

/* Not for ever. */
static void what_nobody_may_see_is_dropped(void **state)
{
    (void)state;
    struct client third;
    give_back_to_who_may_not_see();
    connect_to(&third, 0, "third", 50, 10);
    subscribe(&third, FILTER, 1);
    barred[1] = fronts[0]->conns->number;
    uint64_t before = metric_sum(METRIC_mqtt_drops_shared);
    hang_up(&a);
    expect_nothing(&b);
    expect_nothing(&third);
    turns(40);
    assert_int_equal(metric_sum(METRIC_mqtt_drops_shared), before + 1);
    assert_int_equal(fronts[1]->conns->subs->group->open.count, 0);
    hang_up(&third);
    end_members();
}

/* As much as may be is on its way between workers. */
static void what_no_mail_takes_stays_on_its_worker(void **state)
{
    (void)state;
    two_members(0, 1, 10);
    expect_message(&a, publish(1), 1);
    uint64_t before = metric_sum(METRIC_mqtt_drops_shared);
    assert_true(mqtt_shares_begin(shares, SHARE_BYTES_MAX));
    expect_message(&a, publish(1), 1);
    mqtt_shares_end(shares, SHARE_BYTES_MAX);
    assert_int_equal(metric_sum(METRIC_mqtt_drops_shared), before);
    end_members();
}

static void and_so_does_what_is_given_back(void **state)
{
    (void)state;
    struct client third;
    two_members(0, 1, 10);
    connect_to(&third, 0, "third", 0, 10);
    subscribe(&third, FILTER, 1);
    uint64_t position = publish(1);
    expect_message(&a, position, 1);
    assert_true(mqtt_shares_begin(shares, SHARE_BYTES_MAX));
    hang_up(&a);
    expect_message(&third, position, 1);
    mqtt_shares_end(shares, SHARE_BYTES_MAX);
    expect_nothing(&b);
    hang_up(&third);
    end_members();
}

/* However often some of it is asked for. */
static void what_is_to_be_read_is_sorted_once(void **state)
{
    enum { COUNT = 90 };
    const struct share_round round = {0};
    (void)state;
    connect_to(&a, 0, "a", 0, 10);
    subscribe(&a, FILTER, 1);
    struct mqtt_conn *c = fronts[0]->conns;
    for (uint64_t i = COUNT; i-- > 0;)
        assert_true(mqtt_deliver_place(c, c->subs->member, session_place(20 + i, 0), &round));
    sorted = 0;
    for (uint64_t i = 0; i < COUNT; i++) {
        uint16_t id = expect_message(&a, 20 + i, 1);
        put(&a, &(struct mqtt_packet){.type = MQTT_PUBACK, .id = id});
    }
    expect_nothing(&a);
    assert_int_equal(sorted, COUNT);
    end_members();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_no_mail_takes_stays_on_its_worker),
        TEST(and_so_does_what_is_given_back),
        TEST(what_is_to_be_read_is_sorted_once),
        TEST(who_leaves_takes_nobodys_turn),
        TEST(what_is_given_back_goes_on_behind_that),
        TEST(what_cannot_be_given_back_goes_on_as_well),
        TEST(what_is_given_back_goes_on_with_qos_0),
        TEST(what_one_may_not_see_goes_on),
        TEST(what_nobody_may_see_is_dropped),
    };
    return cmocka_run_group_tests(tests, make_workers, NULL);
}
