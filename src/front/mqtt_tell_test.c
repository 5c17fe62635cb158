/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whose a message of a group is, when what the journal is told of it is not durable yet, never, or
 * nobody knows: while its members are there, leave, or come back.
 */
#include "front/mqtt_members_testing.h"

/* A message whose packet id waits to be durable at `a`. */
static uint64_t publish_held(void)
{
    holds[SESSION_GIVEN] = true;
    uint64_t position = publish(2);
    expect_nothing(&a);
    assert_int_equal(held_count, 1);
    holds[SESSION_GIVEN] = false;
    return position;
}

/* The same, and `a` is the group's only member. */
static uint64_t publish_held_alone(void)
{
    connect_to(&a, 0, "a", 50, 10);
    subscribe(&a, FILTER, 2);
    return publish_held();
}

/* It has not left, and the session knows nothing of it: somebody else gets it. */
static void what_is_not_made_durable_is_anothers(void **state)
{
    (void)state;
    two_members(50, 2, 10);
    uint64_t position = publish_held();
    answer_held(REASON_journal_failed);
    expect_end(&a);
    acknowledge(&b, expect_message(&b, position, 2));
    expect_nothing(&b);
    end_members();
}

static void nor_is_what_its_connection_did_not_wait_for(void **state)
{
    (void)state;
    two_members(50, 2, 10);
    uint64_t position = publish_held();
    disconnect(&a);
    expect_nothing(&b);
    answer_held(REASON_disk_full);
    acknowledge(&b, expect_message(&b, position, 2));
    end_members();
}

static void what_is_durable_stays_with_its_session(void **state)
{
    (void)state;
    two_members(50, 2, 10);
    publish_held();
    disconnect(&a);
    answer_held(REASON_ok);
    expect_nothing(&b);
    end_members();
}

/* It may be durable: the session has to give it back before anybody else can have it. */
static void what_may_be_durable_is_taken_back_first(void **state)
{
    (void)state;
    two_members(50, 2, 10);
    uint64_t position = publish_held();
    holds[SESSION_RETURNED] = true;
    answer_held(REASON_outcome_unknown);
    expect_end(&a);
    expect_nothing(&b);
    answer_held(REASON_ok);
    acknowledge(&b, expect_message(&b, position, 2));
    end_members();
}

/* Its connection has ended when it may be durable, and what is told behind it is not yet. */
static uint64_t end_before_it_is_known(void)
{
    two_members(50, 2, 10);
    uint64_t position = publish_held();
    disconnect(&a);
    holds[SESSION_GIVEN] = true;
    answer_held(REASON_outcome_unknown);
    expect_nothing(&b);
    assert_int_equal(held_count, 1);
    holds[SESSION_GIVEN] = false;
    return position;
}

static void expect_open(unsigned count)
{
    assert_int_equal(fronts[1]->conns->subs->group->open.count, count);
}

static void what_was_not_durable_then_is_anothers(void **state)
{
    (void)state;
    uint64_t position = end_before_it_is_known();
    answer_held(REASON_ok);
    acknowledge(&b, expect_message(&b, position, 2));
    expect_nothing(&b);
    expect_open(0);
    end_members();
}

static void what_was_stays_with_its_session(void **state)
{
    (void)state;
    uint64_t position = end_before_it_is_known();
    given[given_count++] = session_place(position, 0);
    answer_held(REASON_ok);
    expect_nothing(&b);
    expect_open(0);
    end_members();
}

/* Nor is the outcome of what was told behind it; and the view is busy. */
static void that_may_take_a_while(void **state)
{
    (void)state;
    uint64_t position = end_before_it_is_known();
    holds[SESSION_GIVEN] = holds_reads = true;
    answer_held(REASON_outcome_unknown);
    expect_nothing(&b);
    assert_int_equal(held_count, 1);
    answer_held(REASON_ok);
    expect_nothing(&b);
    assert_int_equal(held_count, 1);
    answer_held(REASON_busy);
    expect_nothing(&b);
    assert_int_equal(held_count, 1);
    holds[SESSION_GIVEN] = holds_reads = false;
    answer_held(REASON_ok);
    acknowledge(&b, expect_message(&b, position, 2));
    expect_open(0);
    end_members();
}

/* The journal takes nothing: it is read when the group has slept. */
static void without_an_answer_it_stays_open(void **state)
{
    (void)state;
    (void)end_before_it_is_known();
    answer_held(REASON_journal_failed);
    expect_nothing(&b);
    expect_open(1);
    assert_int_equal(held_count, 0);
    end_members();
}

/* That it was taken back is not known either. */
static void what_may_be_taken_back_is_asked_for(void **state)
{
    (void)state;
    two_members(50, 2, 10);
    uint64_t position = publish_held();
    holds[SESSION_RETURNED] = true;
    answer_held(REASON_outcome_unknown);
    expect_end(&a);
    answer_held(REASON_outcome_unknown);
    acknowledge(&b, expect_message(&b, position, 2));
    expect_open(0);
    end_members();
}

/* `a` unsubscribes before the record about a message is durable, and acknowledges it or not: it is
 * open until that is known. Else a crash could lose it. */
static void unsubscribe_before_it_is_told(uint8_t qos, bool acknowledged, enum reason outcome)
{
    two_members(50, qos, 10);
    const struct share_group *g = fronts[1]->conns->subs->group;
    holds[SESSION_GIVEN] = true;
    uint64_t position = publish(qos);
    uint16_t id = qos == 1 ? expect_message(&a, position, 1) : 0;
    turns(2);
    assert_int_equal(held_count, 1);
    unsubscribe_now(0, FILTER);
    holds[SESSION_GIVEN] = false;
    if (acknowledged)
        put(&a, &(struct mqtt_packet){.type = MQTT_PUBACK, .id = id});
    assert_int_equal(g->open.count, 1);
    answer_held(outcome);
    if (outcome == REASON_ok)
        expect_nothing(&b);
    else if (!acknowledged)
        (void)expect_message(&b, position, qos);
    assert_int_equal(g->open.count, outcome != REASON_ok);
    end_members();
}

static void who_unsubscribes_has_what_is_told_then(void **state)
{
    (void)state;
    unsubscribe_before_it_is_told(1, false, REASON_ok);
    unsubscribe_before_it_is_told(1, true, REASON_ok);
}

static void and_what_is_sent_then(void **state)
{
    (void)state;
    unsubscribe_before_it_is_told(2, false, REASON_ok);
}

static void what_is_not_told_then_is_anothers(void **state)
{
    (void)state;
    unsubscribe_before_it_is_told(1, false, REASON_journal_failed);
}

/* A DISCONNECT in the turn in which a message of QoS 2 was to be told, with that expiry. */
static void end_in_the_turn(uint32_t expiry_s)
{
    const struct mqtt_packet bye = {
        .type = MQTT_DISCONNECT,
        .properties = {.has = 1ull << MQTT_SESSION_EXPIRY, .session_expiry = expiry_s}};
    uint64_t position = publish(2);
    mqtt_take(fronts[0]->conns, &bye);
    hang_up(&a);
    acknowledge(&b, expect_message(&b, position, 2));
    expect_nothing(&b);
    assert_int_equal(given_count, 1);
    assert_int_equal(fronts[1]->conns->subs->group->open.count, 0);
    end_members();
}

static void what_has_not_left_is_anothers(void **state)
{
    (void)state;
    two_members(50, 2, 10);
    end_in_the_turn(50);
}

static void and_so_it_is_if_its_session_ends(void **state)
{
    (void)state;
    two_members(50, 2, 10);
    end_in_the_turn(0);
}

/* There is nobody else. */
static void else_it_is_read_again(void **state)
{
    (void)state;
    connect_to(&a, 0, "a", 50, 10);
    subscribe(&a, FILTER, 2);
    connect_to(&b, 1, "b", 50, 10);
    subscribe(&b, FILTER, 2);
    hang_up(&b);
    const struct mqtt_packet bye = {.type = MQTT_DISCONNECT,
                                    .properties = {.has = 1ull << MQTT_SESSION_EXPIRY}};
    uint64_t position = publish(2);
    mqtt_take(fronts[0]->conns, &bye);
    hang_up(&a);
    assert_int_equal(given_count, 0);
    restores = true;
    connect_to(&b, 1, "b", 50, 10);
    acknowledge(&b, expect_message(&b, position, 2));
    end_members();
}

/* The group has slept, and is there again before what its last member was sent is durable. */
static void be_back_before_it_is_told(enum reason outcome, bool comes)
{
    uint64_t position = publish_held_alone();
    disconnect(&a);
    restores = true;
    connect_to(&b, 1, "b", 50, 10);
    expect_nothing(&b);
    answer_held(outcome);
    pass_time();
    if (comes)
        acknowledge(&b, expect_message(&b, position, 2));
    expect_nothing(&b);
    acknowledge(&b, expect_message(&b, publish(2), 2));
    end_members();
}

static void what_is_being_told_is_waited_for(void **state)
{
    (void)state;
    be_back_before_it_is_told(REASON_ok, false);
}

static void what_could_not_be_told_was_missed(void **state)
{
    (void)state;
    be_back_before_it_is_told(REASON_journal_failed, true);
}

/* It becomes durable later than anybody waits for it; so does what was told behind it. */
static void what_is_told_late_is_waited_for(void **state)
{
    (void)state;
    uint64_t position = publish_held_alone();
    holds[SESSION_GIVEN] = true;
    disconnect(&a);
    restores = true;
    connect_to(&b, 1, "b", 50, 10);
    for (unsigned i = 0; i < 3; i++) {
        answer_held(REASON_outcome_unknown);
        pass_time();
        expect_nothing(&b);
        assert_int_equal(held_count, 1);
    }
    given[given_count++] = session_place(position, 0);
    holds[SESSION_GIVEN] = false;
    answer_held(REASON_ok);
    pass_time();
    expect_nothing(&b);
    acknowledge(&b, expect_message(&b, publish(2), 2));
    end_members();
}

/* It never became durable. */
static void what_was_not_told_after_all_was_missed(void **state)
{
    (void)state;
    be_back_before_it_is_told(REASON_outcome_unknown, true);
}

/* What it has missed itself does not wait for that. */
static void what_is_its_own_does_not_wait(void **state)
{
    (void)state;
    uint64_t position = publish_held_alone();
    disconnect(&a);
    restores = restores_both = true;
    own = session_place(7, 0);
    connect_to(&b, 1, "b", 50, 10);
    expect_message(&b, 7, 1);
    expect_nothing(&b);
    answer_held(REASON_journal_failed);
    pass_time();
    acknowledge(&b, expect_message(&b, position, 2));
    end_members();
}

static struct share_group *anew;
static const struct share_member other = {NULL, 77};

/* Another worker finds the group to be over, and asks whether all of it is told. */
static void found_anew(void)
{
    const struct share_home home = {durable, &fronts[1]->live_next};
    assert_int_equal(mqtt_share_join(shares, 1, SLICE("g"), SLICE("a/b"), other, &home, &anew),
                     SHARE_FOUNDED);
    assert_false(mqtt_share_is_told(anew));
}

/* That is while the last member leaves, with a record that it has still to write. */
static void so_is_what_is_told_when_it_leaves(void **state)
{
    (void)state;
    connect_to(&a, 0, "a", 50, 10);
    subscribe(&a, FILTER, 2);
    holds[SESSION_GIVEN] = true;
    (void)publish(2);
    on_acked = found_anew;
    mqtt_take(fronts[0]->conns, &(struct mqtt_packet){.type = MQTT_DISCONNECT});
    assert_non_null(anew);
    assert_int_equal(held_count, 1);
    assert_false(mqtt_share_is_told(anew));
    answer_held(REASON_ok);
    assert_true(mqtt_share_is_told(anew));
    assert_true(mqtt_share_leave(anew, other, true));
    mqtt_share_unref(anew);
    anew = NULL;
    end_members();
}

/* The server stops before the message that is to be sent was read: it is not gone. */
static void stop_before_it_is_read(void)
{
    restores = holds_reads = true;
    connect_to(&b, 1, "b", 50, 10);
    holds[SESSION_SUBSCRIBED] = true;
    put(&b, &(struct mqtt_packet){.type = MQTT_PINGREQ});
    expect(&b, MQTT_PINGRESP);
    send_subscribe(&b, "other", 1); /* whose answer is owed */
    turns(2);
    assert_int_equal(held_count, 2);
    mqtt_front_stop(fronts[1]);
    answer_held(REASON_ok);
    answer_held(REASON_ok);
    turns(4);
    assert_int_equal(told[SESSION_CLOSED], 1);
    end_members();
}

static void what_is_to_come_again_outlasts_a_stop(void **state)
{
    (void)state;
    kept = session_place(5, 0);
    stop_before_it_is_read();
    assert_int_equal(told[SESSION_COMPLETED], 0);
}

static void what_was_missed_outlasts_a_stop(void **state)
{
    (void)state;
    own = session_place(7, 0);
    stop_before_it_is_read();
    assert_true(told_floor <= 7);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_is_not_made_durable_is_anothers),
        TEST(nor_is_what_its_connection_did_not_wait_for),
        TEST(what_is_durable_stays_with_its_session),
        TEST(what_may_be_durable_is_taken_back_first),
        TEST(what_was_not_durable_then_is_anothers),
        TEST(what_was_stays_with_its_session),
        TEST(that_may_take_a_while),
        TEST(without_an_answer_it_stays_open),
        TEST(what_may_be_taken_back_is_asked_for),
        TEST(who_unsubscribes_has_what_is_told_then),
        TEST(and_what_is_sent_then),
        TEST(what_is_not_told_then_is_anothers),
        TEST(what_has_not_left_is_anothers),
        TEST(and_so_it_is_if_its_session_ends),
        TEST(else_it_is_read_again),
        TEST(what_is_being_told_is_waited_for),
        TEST(what_could_not_be_told_was_missed),
        TEST(what_is_told_late_is_waited_for),
        TEST(what_was_not_told_after_all_was_missed),
        TEST(what_is_its_own_does_not_wait),
        TEST(so_is_what_is_told_when_it_leaves),
        TEST(what_is_to_come_again_outlasts_a_stop),
        TEST(what_was_missed_outlasts_a_stop),
    };
    return cmocka_run_group_tests(tests, make_workers, NULL);
}
