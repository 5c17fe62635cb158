/* SPDX-License-Identifier: Apache-2.0 */
/* More checks than the hash threads can do at once, and more threads than the machine has cores. */
#include "gate/shield.c"

#include "gate/shield_testing.h"

/* ---- the pool -------------------------------------------------------------------------------- */

static struct shield_opts tight_queue(struct world *w)
{
    struct shield_opts o = opts_of(w);
    o.hash_threads = 1;
    o.hash_queue_max = 20;
    o.hash_per_source_max = 10;
    return o;
}

static void a_full_queue_says_busy(void **state)
{
    struct world *w = world_with(tight_queue);
    struct asker askers[60];
    unsigned busy[3] = {0};
    add_device(w, 0, SLICE("x"));
    add_fleet(w, 60, 8);
    for (unsigned i = 0; i < 60; i++) {
        enum shield_answer answer =
            ask_at(w, &askers[i], w->devices[i], SLICE("right"), i / 20, clock_mono_ns());
        if (answer == SHIELD_PENDING)
            continue;
        askers[i].answers = 1;
        assert_int_equal(askers[i].wait.reason, REASON_busy);
        assert_true(askers[i].wait.retry_ns > 10 * NS_PER_MS);
        assert_true(askers[i].wait.retry_ns < 60 * NS_PER_S);
        busy[i / 20]++;
    }
    assert_true(busy[0] >= 8 && busy[0] <= 10);
    assert_true(busy[1] >= 8 && busy[1] <= 10);
    assert_true(busy[2] >= 15);
    struct shield_stats st = shield_stats(w->shield);
    assert_true(st.queue_length <= 20 && st.queue_length > 10 && st.queue_max == 20);
    for (unsigned i = 0; i < 60; i++)
        await(&askers[i]);
    assert_int_equal(shield_stats(w->shield).queue_length, 0);
    world_free(w);
}

static struct shield_opts tiny_queue(struct world *w)
{
    struct shield_opts o = no_windows(w);
    o.hash_threads = 1;
    o.hash_queue_max = 2;
    return o;
}

/* Those turned away get one time each, a hash apart: they do not come back together. */
static void appointments_are_dealt_out(void **state)
{
    struct world *w = world_with(tiny_queue);
    struct asker askers[50];
    add_fleet(w, 50, 10);
    uint64_t each = (50 * NS_PER_US) << 10, refused = 0;
    for (unsigned i = 0; i < 50; i++) {
        if (ask_at(w, &askers[i], w->devices[i], SLICE("right"), 1, clock_mono_ns()) !=
            SHIELD_REFUSED)
            continue;
        refused++;
        askers[i].answers = 1;
        assert_int_equal(askers[i].wait.reason, REASON_busy);
        assert_true(askers[i].wait.retry_ns + 2 * NS_PER_S > refused * each);
        assert_true(askers[i].wait.retry_ns < (refused + 5) * each);
    }
    assert_true(refused >= 40);
    for (unsigned i = 0; i < 50; i++)
        await(&askers[i]);
    world_free(w);
}

/* Somebody asks again and again for more than he may, and never when he is told to: who comes
 * later is not sent away for as long as all of these would take. */
static void who_does_not_come_makes_way(void **state)
{
    struct world *w = world_with(tiny_queue);
    struct asker first[2], more, later[40];
    add_fleet(w, 44, 10);
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(ask_at(w, &first[i], w->devices[i], SLICE("right"), 1, clock_mono_ns()),
                         SHIELD_PENDING);
    uint64_t told = 0;
    for (unsigned i = 0; i < 10000 && told < 100 * NS_PER_S; i++) {
        if (ask_at(w, &more, w->devices[2], SLICE("right"), 1, clock_mono_ns()) != SHIELD_REFUSED)
            break;
        told = more.wait.retry_ns;
    }
    assert_true(told >= 100 * NS_PER_S);
    for (unsigned i = 0; i < 2; i++)
        await(&first[i]);
    clock_sleep_ns(3600 * NS_PER_MS);
    unsigned n = 0;
    bool refused = false;
    for (; n < 40 && !refused; n++) {
        refused = ask_at(w, &later[n], w->devices[3 + n], SLICE("right"), 2, clock_mono_ns()) ==
                  SHIELD_REFUSED;
        if (n == 0) /* the clerk sees that the pool is not idle any more */
            clock_sleep_ns(10 * NS_PER_MS);
    }
    assert_true(refused);
    assert_true(later[n - 1].wait.retry_ns < told / 3);
    for (unsigned i = 0; i + 1 < n; i++)
        await(&later[i]);
    world_free(w);
}

static struct shield_opts impatient(struct world *w)
{
    struct shield_opts o = opts_of(w);
    o.hash_threads = 1;
    o.hash_wait_ns = 30 * NS_PER_MS;
    return o;
}

static void who_waits_too_long_is_told_when_to_come_back(void **state)
{
    struct world *w = world_with(impatient);
    struct asker askers[60];
    unsigned late = 0, right = 0, at_once = 0;
    add_fleet(w, 60, 8);
    for (unsigned i = 0; i < 60; i++) {
        enum shield_answer a =
            ask_at(w, &askers[i], w->devices[i], SLICE("right"), i, clock_mono_ns());
        assert_int_not_equal(a, SHIELD_RIGHT);
        at_once += a == SHIELD_REFUSED;
        if (a == SHIELD_REFUSED) /* no callback comes */
            askers[i].answers = 1;
    }
    assert_true(at_once > 20); /* told when it can be foreseen, not when the time is over */
    for (unsigned i = 0; i < 60; i++) {
        await(&askers[i]);
        late += askers[i].wait.reason == REASON_busy && askers[i].wait.retry_ns > 0;
        right += askers[i].wait.reason == REASON_ok;
    }
    assert_true(late + right == 60 && late > 20);
    world_free(w);
}

/* Hashes are slower than was thought when they were let in: the pool is free for the first. */
static void who_is_put_off_together_comes_back_one_by_one(void **state)
{
    struct world *w = world_with(opts_of);
    struct asker askers[60];
    uint64_t least = UINT64_MAX, most = 0;
    add_fleet(w, 60, 8);
    for (unsigned i = 0; i < 60; i++)
        assert_int_equal(ask_at(w, &askers[i], w->devices[i], SLICE("right"), i, clock_mono_ns()),
                         SHIELD_PENDING);
    pthread_mutex_lock(&w->shield->lock); /* the clerk looks at it */
    w->shield->opts.hash_wait_ns = 30 * NS_PER_MS;
    pthread_mutex_unlock(&w->shield->lock);
    for (unsigned i = 0; i < 60; i++) {
        await(&askers[i]);
        uint64_t retry = askers[i].wait.retry_ns; /* 0: it was not put off */
        least = retry && retry < least ? retry : least;
        most = retry > most ? retry : most;
    }
    assert_true(most > 0 && least < most / 4);
    world_free(w);
}

static struct shield_opts one_thread(struct world *w)
{
    struct shield_opts o = no_windows(w);
    o.hash_threads = 1;
    return o;
}

/* A source with one check is served in its turn, whatever another one has queued; one that failed
 * lately comes after those that did not. */
static void sources_take_turns(void **state)
{
    struct world *w = world_with(one_thread);
    struct asker crowd[40], one;
    add_fleet(w, 50, 6);
    for (unsigned i = 0; i < 40; i++)
        assert_int_equal(ask_at(w, &crowd[i], w->devices[i], SLICE("right"), 1, clock_mono_ns()),
                         SHIELD_PENDING);
    assert_int_equal(ask_at(w, &one, w->devices[45], SLICE("right"), 2, clock_mono_ns()),
                     SHIELD_PENDING);
    await(&one);
    unsigned before = 0;
    for (unsigned i = 0; i < 40; i++)
        before += crowd[i].answers;
    assert_true(before < 20);
    for (unsigned i = 0; i < 40; i++)
        await(&crowd[i]);
    world_free(w);
}

static void stopping_answers_all(void **state)
{
    struct world *w = world_new();
    struct asker askers[60];
    add_fleet(w, 60, 8);
    for (unsigned i = 0; i < 60; i++)
        assert_int_equal(ask_at(w, &askers[i], w->devices[i], SLICE("right"), i, clock_mono_ns()),
                         SHIELD_PENDING);
    world_free(w);
    unsigned stopped = 0;
    for (unsigned i = 0; i < 60; i++) {
        assert_int_equal(askers[i].answers, 1);
        stopped += askers[i].wait.reason == REASON_stopping;
    }
    assert_true(stopped > 30);
    shield_free(NULL);
}

/* ---- idle priority --------------------------------------------------------------------------- */

static struct shield_opts idle(struct world *w)
{
    struct shield_opts o = opts_of(w);
    o.hash_idle_priority = true;
    o.hash_threads = 0;
    return o;
}

struct burner {
    _Atomic bool stop;
};

static void run_burner(void *arg)
{
    struct burner *b = arg;
    while (!b->stop)
        ;
}

/* With every core taken by others logins go on, and a check on a starved thread is answered. */
static void logins_progress_on_a_busy_machine(void **state)
{
    struct world *w = world_with(idle);
    struct burner burner = {0};
    pthread_t threads[8];
    struct asker askers[6];
    /* 6 hashes of 50 ms: six seconds by the trickle, minutes with what the burners leave. (Short
     * ones would be done in the slice that a thread gets for waking up.) */
    add_fleet(w, 6, 10);
    for (unsigned i = 0; i < 8; i++)
        threads[i] = thread_start("burner", run_burner, &burner);
    uint64_t began = clock_mono_ns();
    for (unsigned i = 0; i < 6; i++)
        assert_int_equal(ask_at(w, &askers[i], w->devices[i], SLICE("right"), i, clock_mono_ns()),
                         SHIELD_PENDING);
    for (unsigned i = 0; i < 6; i++) {
        await(&askers[i]);
        assert_int_equal(askers[i].wait.reason, REASON_ok);
    }
    uint64_t took = clock_mono_ns() - began;
    burner.stop = true;
    for (unsigned i = 0; i < 8; i++)
        pthread_join(threads[i], NULL);
    assert_true(took < 30 * NS_PER_S);
    world_free(w);
}

/* ---- threads --------------------------------------------------------------------------------- */

struct storm {
    struct world *world;
    _Atomic unsigned next, wrong_let_in;
    _Atomic bool stop;
};

static void run_storm(void *arg)
{
    struct storm *s = arg;
    unsigned me = s->next++;
    for (unsigned k = 0; k < 300; k++) {
        unsigned number = (me * 7 + k) % 16;
        struct credential *c = find(s->world, number);
        char secret[24];
        bool wrong = k % 3 == 0;
        snprintf(secret, sizeof secret, wrong ? "wrong-%u-%u" : "right", me, k % 7);
        enum reason r = ask_from(s->world, c, slice_str(secret), me * 1000 + k % 5);
        s->wrong_let_in += wrong && r == REASON_ok;
        credential_unref(c);
    }
}

static void run_changer(void *arg)
{
    struct storm *s = arg;
    for (unsigned k = 2; !s->stop; k++)
        add_device(s->world, k % 16, SLICE("right"));
}

static void a_storm_with_changes(void **state)
{
    struct world *w = world_with(no_windows);
    struct storm storm = {.world = w};
    pthread_t threads[4], changer;
    for (unsigned i = 0; i < 16; i++)
        add_device(w, i, SLICE("right"));
    changer = thread_start("changer", run_changer, &storm);
    for (unsigned i = 0; i < 4; i++)
        threads[i] = thread_start("asker", run_storm, &storm);
    for (unsigned i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    storm.stop = true;
    pthread_join(changer, NULL);
    assert_int_equal(storm.wrong_let_in, 0);
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_full_queue_says_busy),
        cmocka_unit_test(appointments_are_dealt_out),
        cmocka_unit_test(who_does_not_come_makes_way),
        cmocka_unit_test(who_waits_too_long_is_told_when_to_come_back),
        cmocka_unit_test(who_is_put_off_together_comes_back_one_by_one),
        cmocka_unit_test(sources_take_turns),
        cmocka_unit_test(stopping_answers_all),
        cmocka_unit_test(logins_progress_on_a_busy_machine),
        cmocka_unit_test(a_storm_with_changes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
