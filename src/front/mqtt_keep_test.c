/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who holds a client id while what is to be said of its session is on its way, refused, or may be
 * durable or not: nobody else is to go on with the session, or have one in its place, before that.
 */
#include "front/mqtt_members_testing.h"

/* `b`, with the same client id on another worker, has CONNACK. */
static void expect_heir(void)
{
    assert_int_equal(expect(&b, MQTT_CONNACK).code, 0);
    assert_int_equal(told[SESSION_OPENED] + told[SESSION_RESUMED], 2);
}

static void expect_waiting(void)
{
    expect_nothing(&b);
    assert_int_equal(told[SESSION_OPENED] + told[SESSION_RESUMED], 1);
}

/* ---- an opening whose outcome is not known --------------------------------------------------- */

/* A record that may still become durable, behind whatever the next one opens. */
static void who_is_refused_for_it_keeps_the_id(void **state)
{
    (void)state;
    holds[SESSION_OPENED] = holds[SESSION_ENDED] = true;
    send_connect(&a, 0, "same", true, 50, 10);
    assert_int_equal(held_count, 1);
    holds[SESSION_OPENED] = false;
    answer_held(REASON_outcome_unknown);
    assert_int_not_equal(expect(&a, MQTT_CONNACK).code, 0);
    send_connect(&b, 1, "same", true, 50, 10);
    expect_waiting();
    answer_held(REASON_outcome_unknown); /* that it ended: once more */
    expect_waiting();
    assert_int_equal(told[SESSION_ENDED], 2);
    assert_int_equal(held[0]->request.session, last_session);
    answer_held(REASON_ok);
    expect_heir();
    end_members();
}

static void so_does_who_has_gone_meanwhile(void **state)
{
    (void)state;
    holds[SESSION_OPENED] = holds[SESSION_ENDED] = true;
    send_connect(&a, 0, "same", true, 50, 10);
    hang_up(&a);
    holds[SESSION_OPENED] = false;
    send_connect(&b, 1, "same", true, 50, 10);
    answer_held(REASON_outcome_unknown);
    expect_waiting();
    assert_int_equal(held[0]->request.session, last_session);
    answer_held(REASON_ok);
    expect_heir();
    end_members();
}

/* The one that it would have gone on with is not ended by that. */
static void what_was_there_before_is_closed(void **state)
{
    (void)state;
    holds[SESSION_RESUMED] = holds[SESSION_CLOSED] = true;
    send_connect(&a, 0, "same", false, 50, 10);
    holds[SESSION_RESUMED] = false;
    answer_held(REASON_outcome_unknown);
    send_connect(&b, 1, "same", false, 50, 10);
    expect_waiting();
    assert_int_equal(told[SESSION_ENDED], 0);
    answer_held(REASON_ok);
    expect_heir();
    end_members();
}

/* Nothing was written: nobody has to wait. */
static void what_is_refused_gives_the_id_back(void **state)
{
    (void)state;
    refusals[SESSION_OPENED] = REASON_disk_full;
    send_connect(&a, 0, "same", true, 50, 10);
    assert_int_not_equal(expect(&a, MQTT_CONNACK).code, 0);
    refusals[SESSION_OPENED] = REASON_ok;
    send_connect(&b, 1, "same", true, 50, 10);
    expect_heir();
    assert_int_equal(told[SESSION_ENDED] + told[SESSION_CLOSED], 0);
    end_members();
}

/* Who comes back would be told that it was there, and not subscribe again. */
static void a_session_that_nobody_was_told_of_ends(void **state)
{
    (void)state;
    holds[SESSION_OPENED] = true;
    send_connect(&a, 0, "same", true, 50, 10);
    holds[SESSION_OPENED] = false;
    send_connect(&b, 1, "same", true, 50, 10);
    expect_waiting();
    answer_held(REASON_ok);
    expect_heir();
    assert_int_equal(told[SESSION_ENDED], 1);
    assert_int_equal(told[SESSION_CLOSED], 0);
    end_members();
}

/* ---- an end that is refused ------------------------------------------------------------------ */

static void pass_a_second(void)
{
    for (unsigned i = 0; i < 7; i++)
        pass_time();
}

/* `a` has a session, and has ended, which is refused. */
static void end_refused(enum reason reason)
{
    connect_to(&a, 0, "same", 50, 10);
    refusals[SESSION_CLOSED] = reason;
    disconnect(&a);
    assert_int_equal(told[SESSION_CLOSED], 1);
}

/* Nobody may go on with it while it is connected as far as the view knows. */
static void who_cannot_be_told_over_keeps_the_id(void **state)
{
    const enum reason passing[] = {REASON_busy, REASON_disk_full};
    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        memset(told, 0, sizeof told);
        end_refused(passing[i]);
        send_connect(&b, 1, "same", false, 50, 10);
        expect_waiting();
        assert_int_equal(told[SESSION_CLOSED], 1); /* not at once */
        pass_a_second();
        expect_waiting();
        assert_int_equal(told[SESSION_CLOSED], 2);
        refusals[SESSION_CLOSED] = REASON_ok;
        pass_a_second();
        expect_heir();
        assert_int_equal(told[SESSION_CLOSED], 3);
        pass_a_second();
        assert_int_equal(told[SESSION_CLOSED], 3);
        end_members();
    }
}

/* It will never be told. */
static void but_not_for_ever(void **state)
{
    (void)state;
    end_refused(REASON_journal_failed);
    send_connect(&b, 1, "same", false, 50, 10);
    expect_heir();
    end_members();
}

static void nor_beyond_a_stop(void **state)
{
    (void)state;
    end_refused(REASON_busy);
    mqtt_front_stop(fronts[0]);
    send_connect(&b, 1, "same", false, 50, 10);
    expect_heir();
    end_members();
    pass_a_second();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(who_is_refused_for_it_keeps_the_id),
        TEST(so_does_who_has_gone_meanwhile),
        TEST(what_was_there_before_is_closed),
        TEST(what_is_refused_gives_the_id_back),
        TEST(a_session_that_nobody_was_told_of_ends),
        TEST(who_cannot_be_told_over_keeps_the_id),
        TEST(but_not_for_ever),
        TEST(nor_beyond_a_stop),
    };
    return cmocka_run_group_tests(tests, make_workers, NULL);
}
