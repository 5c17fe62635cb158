/* SPDX-License-Identifier: Apache-2.0 */
/* Dead letters that are tried again: by themselves, and when somebody asks for it. */
#include "sink/sink_testing.h"

/* Letters are tried again at 5 s and 60 s behind that, both up to a fifth later, and then no more.
 */
static void letters_are_tried_by_a_schedule(void **state)
{
    static const uint32_t pauses[] = {5, 60};
    struct bench *b = bench_new(false, 7);
    b->s->opts.again = (struct dead_schedule){pauses, 2};
    b->target.poison[3] = b->target.poison[7] = true;
    append(b, 10);
    arrive(b);
    uint64_t begun = clock_mono_ns();
    unsigned sends = b->target.sends;
    while (b->target.sends < sends + 2)
        turn(b);
    assert_in_range(clock_mono_ns() - begun, 5 * NS_PER_S, 8 * NS_PER_S);
    b->target.poison[3] = false;
    while (b->target.sends < sends + 4)
        turn(b);
    assert_in_range(clock_mono_ns() - begun, 65 * NS_PER_S, 80 * NS_PER_S);
    for (unsigned i = 0; i < 10; i++)
        turn(b);
    assert_int_equal(b->target.seen[3], 1);
    assert_false(is_dead(b, 3));
    assert_true(is_dead(b, 7));
    pass_time(100000 * NS_PER_S);
    for (unsigned i = 0; i < 100; i++)
        turn(b);
    assert_int_equal(b->target.sends, sends + 4);
    bench_free(b);
}

/* A letter whose time came while nobody was there is tried at the next start. */
static void a_letter_outlives_a_restart(void **state)
{
    static const uint32_t pauses[] = {5, 60};
    struct bench *b = bench_new(false, 7);
    b->opts.again = (struct dead_schedule){pauses, 2};
    b->target.poison[3] = true;
    append(b, 10);
    while (b->s->committed < 10)
        turn(b);
    assert_true(is_dead(b, 3));
    b->target.poison[3] = false;
    sink_destroy(b->s);
    fixture_die(b->f, true);
    pass_time(30 * NS_PER_S);
    bench_open(b);
    for (uint64_t begun = clock_mono_ns(); clock_mono_ns() - begun < 20 * NS_PER_S;)
        turn(b);
    assert_int_equal(b->target.seen[3], 1);
    assert_false(is_dead(b, 3));
    bench_free(b);
}

/* A target that is away when a letter is due gets it when it is back; what is live goes first. */
static void a_letter_waits_for_its_target(void **state)
{
    static const uint32_t pauses[] = {5};
    struct bench *b = bench_new(false, 7);
    b->s->opts.again = (struct dead_schedule){pauses, 1};
    b->target.poison[3] = true;
    append(b, 10);
    arrive(b);
    b->target.poison[3] = false;
    b->target.away = true;
    for (unsigned i = 0; i < 100; i++)
        turn(b);
    assert_true(is_dead(b, 3));
    append(b, 10);
    b->target.away = false;
    while (b->target.seen[19] == 0)
        turn(b);
    assert_int_equal(b->target.seen[3], 0);
    for (unsigned i = 0; i < 10; i++)
        turn(b);
    assert_int_equal(b->target.seen[3], 1);
    assert_false(is_dead(b, 3));
    bench_free(b);
}

/* Whom one would ask for its names is away: its attempt is not lost, and what comes live goes on.
 */
static void a_letter_waits_for_its_names(void **state)
{
    static const uint32_t pauses[] = {5};
    struct bench *b = bench_new(false, 5);
    b->s->opts.again = (struct dead_schedule){pauses, 1};
    b->target.poison[3] = true; /* that of account 4 */
    append(b, 10);
    arrive(b);
    b->target.poison[3] = false;
    names_unknown = true;
    unsigned sends = b->target.sends;
    uint64_t begun = clock_mono_ns();
    for (unsigned i = 0; clock_mono_ns() - begun < 100 * NS_PER_S; i++) {
        assert_true(i < 5000); /* it rests in between */
        turn(b);
    }
    assert_true(is_dead(b, 3));
    assert_int_equal(b->target.sends, sends);
    assert_int_equal(sink_stats(b->s).failures, 0);
    append(b, 1); /* that of account 11 */
    arrive(b);
    /* Who asks for it is told that it cannot be now. */
    b->s->retry_asked = true;
    b->s->retry_at = 0;
    b->s->retry_last = UINT64_MAX;
    retry_dead(b->s);
    assert_int_equal(b->s->retry_code, -EAGAIN);
    assert_int_equal(b->s->retry_kept, 0);
    names_unknown = false;
    for (unsigned i = 0; i < 50; i++)
        turn(b);
    assert_false(is_dead(b, 3));
    assert_int_equal(b->target.seen[3], 1);
    bench_free(b);
}

static void dead_letters_are_tried_again(void **state)
{
    struct bench *b = bench_new(true, 12);
    struct error err = {""};
    unsigned sent = 0, kept = 0;
    clock_set_fake(NULL);
    for (unsigned i = 0; i < 5; i++)
        b->target.poison[i] = true;
    append(b, 20);
    sink_destroy(b->s);
    assert_int_equal(sink_start(&b->opts, &b->s, &err), 0);
    for (unsigned i = 0; i < 30000 && sink_stats(b->s).position < 20; i++)
        clock_sleep_ns(NS_PER_MS);
    assert_int_equal(sink_stats(b->s).dead_letters, 5);
    assert_int_equal(sink_retry_dead(b->s, UINT64_MAX, 30 * NS_PER_S, &sent, &kept), 0);
    assert_int_equal(sent, 0);
    assert_int_equal(kept, 5);
    assert_int_equal(sink_pause(b->s, true), 0);
    assert_int_equal(sink_retry_dead(b->s, UINT64_MAX, 30 * NS_PER_S, &sent, &kept), -EAGAIN);
    for (unsigned i = 1; i < 5; i++)
        b->target.poison[i] = false;
    assert_int_equal(sink_pause(b->s, false), 0);
    assert_int_equal(sink_retry_dead(b->s, 2, 30 * NS_PER_S, &sent, &kept), 0);
    assert_int_equal(sent, 1);
    assert_int_equal(kept, 0);
    assert_int_equal(sink_retry_dead(b->s, UINT64_MAX, 30 * NS_PER_S, &sent, &kept), 0);
    assert_int_equal(sent, 3);
    assert_int_equal(kept, 1);
    assert_int_equal(sink_stats(b->s).dead_letters, 1);
    sink_stop(b->s);
    sink_stop(NULL);
    b->s = NULL;
    for (unsigned i = 1; i < 20; i++)
        assert_int_equal(b->target.seen[i], 1);
    assert_int_equal(b->target.seen[0], 0);
    bench_free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(letters_are_tried_by_a_schedule),
        cmocka_unit_test(a_letter_outlives_a_restart),
        cmocka_unit_test(a_letter_waits_for_its_target),
        cmocka_unit_test(a_letter_waits_for_its_names),
        cmocka_unit_test(dead_letters_are_tried_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
