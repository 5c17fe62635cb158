/* SPDX-License-Identifier: Apache-2.0 */
#include "gate/shield.c"

#include "gate/shield_testing.h"

/* ---- one hash per pair ----------------------------------------------------------------------- */

static void a_secret_is_hashed_once(void **state)
{
    struct world *w = world_new();
    struct credential *c = add_device(w, 1, SLICE("s3cret"));
    uint64_t before = all_hashes();
    assert_int_equal(ask(w, c, SLICE("s3cret")), REASON_ok);
    for (unsigned i = 0; i < 1000; i++)
        assert_int_equal(ask(w, c, SLICE("s3cret")), REASON_ok);
    assert_int_equal(all_hashes() - before, 1);
    world_free(w);
}

struct crowd {
    struct world *world;
    struct credential *credential;
    struct slice secrets[2]; /* the second one is for one asker only */
    struct asker askers[1000];
    _Atomic unsigned next, go, right_at_once, refused_at_once;
};

static void run_crowd(void *arg)
{
    struct crowd *c = arg;
    c->go--;
    while (c->go)
        ;
    for (unsigned i; (i = c->next++) < 1000;) {
        enum shield_answer answer = ask_at(c->world, &c->askers[i], c->credential,
                                           c->secrets[i == 500], i, clock_mono_ns());
        if (answer == SHIELD_PENDING)
            continue;
        c->askers[i].wait.reason = answer == SHIELD_RIGHT ? REASON_ok : c->askers[i].wait.reason;
        c->askers[i].answers++;
    }
}

static unsigned run_thousand(struct crowd *crowd)
{
    pthread_t threads[4];
    unsigned refused = 0;
    crowd->go = 4;
    for (unsigned i = 0; i < 4; i++)
        threads[i] = thread_start("asker", run_crowd, crowd);
    for (unsigned i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    for (unsigned i = 0; i < 1000; i++) {
        await(&crowd->askers[i]);
        if (crowd->askers[i].wait.reason != REASON_ok) {
            assert_int_equal(crowd->askers[i].wait.reason, REASON_bad_device);
            refused++;
        }
    }
    return refused;
}

static void a_thousand_at_once_cost_one_hash(void **state)
{
    for (unsigned round = 0; round < 5; round++) {
        struct world *w = world_new();
        struct crowd crowd = {.world = w,
                              .credential = add_device(w, 1, SLICE("right")),
                              .secrets = {SLICE("right"), SLICE("right")}};
        uint64_t before = all_hashes();
        assert_int_equal(run_thousand(&crowd), 0);
        assert_int_equal(all_hashes() - before, 1);
        world_free(w);
    }
}

static void one_wrong_among_them_is_refused_alone(void **state)
{
    struct world *w = world_new();
    struct crowd crowd = {.world = w,
                          .credential = add_device(w, 1, SLICE("right")),
                          .secrets = {SLICE("right"), SLICE("wrong")}};
    uint64_t before = all_hashes();
    assert_int_equal(run_thousand(&crowd), 1);
    assert_true(crowd.askers[500].wait.reason == REASON_bad_device && all_hashes() - before == 2);
    world_free(w);
}

static void wrong_secrets_never_evict_a_good_one(void **state)
{
    struct world *w = world_with(no_windows);
    struct credential *c = add_device(w, 1, SLICE("right"));
    assert_int_equal(ask(w, c, SLICE("right")), REASON_ok);
    struct asker *askers = calloc(2000, sizeof *askers);
    for (unsigned i = 0; i < 2000; i++) {
        char wrong[16];
        snprintf(wrong, sizeof wrong, "wrong-%u", i);
        if (ask_at(w, &askers[i], c, slice_str(wrong), i, clock_mono_ns()) != SHIELD_PENDING)
            askers[i].answers++; /* this credential's lane is full */
    }
    uint64_t before = hashes();
    assert_int_equal(ask(w, c, SLICE("right")), REASON_ok);
    for (unsigned i = 0; i < 2000; i++) {
        await(&askers[i]);
        assert_true(askers[i].wait.reason == REASON_bad_device ||
                    askers[i].wait.reason == REASON_busy);
    }
    struct asker a;
    assert_true(hashes() > before);
    assert_int_equal(ask_at(w, &a, c, SLICE("right"), 1, clock_mono_ns()), SHIELD_RIGHT);
    free(askers);
    world_free(w);
}

/* ---- what must not be mixed up --------------------------------------------------------------- */

/* CVE-2022-46146: a decoy's success for a made-up password poisoned the cache of a real one. */
static void decoys_and_joins_are_no_way_in(void **state)
{
    struct world *w = world_with(no_windows);
    char verifier[VERIFIER_MAX], text[VERIFIER_MAX + 32];
    assert_int_equal(shield_crypt_new(SLICE("fakepassword"), "$2b$", COST, verifier), 0);
    struct credential *c = publish(w, 1, "admin", verifier, 1);
    snprintf(text, sizeof text, "%sfakepassword", verifier);
    assert_int_equal(ask(w, NULL, SLICE("fakepassword")), REASON_bad_device);
    assert_int_equal(ask(w, NULL, slice_str(text)), REASON_bad_device);
    assert_int_equal(ask(w, c, slice_str(text)), REASON_bad_device);
    assert_int_equal(ask(w, c, slice_str(verifier)), REASON_bad_device);
    assert_int_equal(ask(w, NULL, SLICE("fakepassword")), REASON_bad_device);
    assert_int_equal(ask(w, c, SLICE("fakepassword")), REASON_ok);
    world_free(w);
}

/* (device "a-b", secret "c") is not (device "a", secret "b-c"), for unknown ids as well. */
static void names_and_secrets_do_not_run_together(void **state)
{
    struct world *w = world_with(no_windows);
    add_device(w, 1, SLICE("c"));
    struct asker a;
    struct shield_wait *wait = &a.wait;
    static const char *const pairs[][2] = {
        {"a-b", "c"}, {"a", "b-c"}, {"a-b-", "c"}, {"a-b", "-c"}};
    for (unsigned i = 0; i < 4; i++) {
        uint64_t before = metric_sum(METRIC_shield_negative_hits);
        a = (struct asker){.wait = {.done = on_done, .owner = &a}};
        assert_int_equal(shield_check(w->shield, NULL, slice_str(pairs[i][0]),
                                      slice_str(pairs[i][1]), 1, clock_mono_ns(), wait),
                         SHIELD_PENDING);
        await(&a);
        assert_int_equal(metric_sum(METRIC_shield_negative_hits), before);
    }
    /* Two credentials with the same stored hash do not share a slot. */
    struct credential *c = w->devices[1];
    struct credential *twin = publish(w, 2, "twin", c->verifier.ptr, 1);
    uint64_t before = hashes();
    assert_int_equal(ask(w, c, SLICE("c")), REASON_ok);
    w->lives[2] = w->lives[1];
    w->lives[2].lock = (struct spin){0};
    assert_int_equal(ask(w, twin, SLICE("c")), REASON_ok);
    assert_int_equal(hashes() - before, 2);
    world_free(w);
}

static void odd_secrets(void **state)
{
    struct world *w = world_with(no_windows);
    char text[SECRET_MAX + 45];
    memset(text, 'a', sizeof text);
    struct credential *c = add_device(w, 1, slice_of(text, 72));
    struct credential *colon = add_device(w, 2, SLICE("a:b"));
    struct credential *utf8 = add_device(w, 3, SLICE("p\xc3\xa4ssw\xc3\xb6rd"));
    struct credential *abc = add_device(w, 4, SLICE("abc"));
    uint64_t before = all_hashes();
    assert_int_equal(ask(w, c, slice_of(text, 73)), REASON_bad_device);
    assert_int_equal(ask(w, c, slice_of(text, 71)), REASON_bad_device);
    assert_int_equal(ask(w, c, slice_of(text, sizeof text)), REASON_bad_device);
    assert_int_equal(ask(w, c, SLICE("")), REASON_bad_device);
    assert_int_equal(all_hashes() - before, 4); /* each took a hash's time */
    assert_int_equal(ask(w, c, slice_of(text, 72)), REASON_ok);
    assert_int_equal(ask(w, colon, SLICE("a")), REASON_bad_device);
    assert_int_equal(ask(w, colon, SLICE("a:b")), REASON_ok);
    assert_int_equal(ask(w, utf8, SLICE("p\xe4ssw\xf6rd")), REASON_bad_device);
    assert_int_equal(ask(w, utf8, SLICE("p\xc3\xa4ssw\xc3\xb6rd")), REASON_ok);
    assert_int_equal(ask(w, abc, SLICE("abc\0def")), REASON_bad_device);
    assert_int_equal(ask(w, abc, SLICE("abc\0")), REASON_bad_device);
    assert_int_equal(ask(w, abc, SLICE("abc")), REASON_ok);
    assert_int_equal(ask(w, NULL, SLICE("")), REASON_bad_device);
    world_free(w);
}

static void yescrypt_works_too(void **state)
{
    struct world *w = world_new();
    char verifier[VERIFIER_MAX];
    assert_int_equal(shield_crypt_new(SLICE("right"), "$y$", 1, verifier), 0);
    struct credential *c = publish(w, 1, "y", verifier, 1);
    uint64_t before = metric_sum(METRIC_hashes_decoy);
    assert_int_equal(ask(w, NULL, SLICE("right")), REASON_bad_device);
    assert_int_equal(metric_sum(METRIC_hashes_decoy) - before, 1);
    assert_int_equal(ask(w, c, SLICE("wrong")), REASON_bad_device);
    assert_int_equal(ask(w, c, SLICE("right")), REASON_ok);
    world_free(w);
}

/* ---- changes --------------------------------------------------------------------------------- */

static void changes_take_effect_at_once(void **state)
{
    struct world *w = world_new();
    struct credential *c = add_device(w, 1, SLICE("old"));
    assert_int_equal(ask(w, c, SLICE("old")), REASON_ok);
    /* The same hash in a new version: good without another hash. */
    char same[VERIFIER_MAX];
    snprintf(same, sizeof same, "%s", c->verifier.ptr);
    uint64_t before = all_hashes();
    c = publish(w, 1, "device-1", same, 2);
    assert_int_equal(ask(w, c, SLICE("old")), REASON_ok);
    assert_int_equal(all_hashes() - before, 0);
    /* Another hash: the old secret is wrong on the very next check. */
    c = add_device(w, 1, SLICE("new"));
    assert_int_equal(ask(w, c, SLICE("old")), REASON_bad_device);
    assert_int_equal(ask(w, c, SLICE("new")), REASON_ok);
    assert_int_equal(ask(w, c, SLICE("old")), REASON_bad_device);
    world_free(w);
}

static void after_the_ttl_only_the_record_is_looked_at(void **state)
{
    struct world *w = world_new();
    struct credential *c = credential_ref(add_device(w, 1, SLICE("old")));
    struct asker a;
    assert_int_equal(ask(w, c, SLICE("old")), REASON_ok);
    uint64_t before = all_hashes(), later = clock_mono_ns();
    for (unsigned i = 0; i < 10; i++) {
        unsigned finds = w->finds;
        later += 40 * NS_PER_S;
        assert_int_equal(ask_at(w, &a, c, SLICE("old"), 1, later), SHIELD_RIGHT);
        assert_int_equal(w->finds, finds + 1);
        assert_int_equal(ask_at(w, &a, c, SLICE("old"), 1, later + 20 * NS_PER_S), SHIELD_RIGHT);
        assert_int_equal(w->finds, finds + 1);
    }
    assert_int_equal(all_hashes() - before, 0);
    /* A plan or role changed: still no hash. */
    char same[VERIFIER_MAX];
    snprintf(same, sizeof same, "%s", c->verifier.ptr);
    publish(w, 1, "device-1", same, 7);
    later += 40 * NS_PER_S;
    assert_int_equal(ask_at(w, &a, c, SLICE("old"), 1, later), SHIELD_RIGHT);
    assert_int_equal(w->lives[1].version, 7);
    assert_int_equal(all_hashes() - before, 0);
    /* Holding the old record does not help when the secret changed. */
    add_device(w, 1, SLICE("new"));
    later += 40 * NS_PER_S;
    assert_int_equal(ask_at(w, &a, c, SLICE("old"), 1, later), SHIELD_PENDING);
    await(&a);
    assert_int_equal(a.wait.reason, REASON_bad_device);
    assert_int_equal(ask(w, w->devices[1], SLICE("new")), REASON_ok);
    /* Gone and disabled. */
    credential_unref(c);
    c = credential_ref(w->devices[1]);
    snprintf(same, sizeof same, "%s", c->verifier.ptr);
    publish(w, 1, "device-1", same, 8)->disabled = true;
    later += 40 * NS_PER_S;
    assert_int_equal(ask_at(w, &a, c, SLICE("new"), 1, later), SHIELD_PENDING);
    await(&a);
    assert_int_equal(a.wait.reason, REASON_bad_device);
    assert_int_equal(w->lives[1].set, 0);
    credential_unref(c);
    world_free(w);
}

static void a_change_while_it_waits_counts(void **state)
{
    struct world *w = world_new();
    struct credential *c = credential_ref(add_device(w, 1, SLICE("old")));
    struct asker a;
    add_device(w, 1, SLICE("new")); /* between the caller's look-up and the hash's end */
    assert_int_equal(ask_at(w, &a, c, SLICE("old"), 1, clock_mono_ns()), SHIELD_PENDING);
    await(&a);
    assert_int_equal(a.wait.reason, REASON_bad_device);
    assert_int_equal(w->lives[1].set, 0);
    credential_unref(c);
    world_free(w);
}

static void a_remembered_failure_does_not_outlive_a_change(void **state)
{
    struct world *w = world_new();
    struct credential *c = add_device(w, 1, SLICE("old"));
    assert_int_equal(ask(w, c, SLICE("new")), REASON_bad_device);
    uint64_t before = all_hashes();
    assert_int_equal(ask(w, c, SLICE("new")), REASON_bad_device);
    assert_int_equal(all_hashes() - before, 0); /* remembered, but counted: */
    assert_true(shield_stats(w->shield).negative_entries == 1);
    enum reason last = REASON_bad_device;
    for (unsigned i = 0; i < 30 && last == REASON_bad_device; i++)
        last = ask(w, c, SLICE("new"));
    assert_int_equal(last, REASON_too_many_failures);
    c = add_device(w, 1, SLICE("new")); /* the old secret's failures do not lock out the new one */
    assert_int_equal(ask(w, c, SLICE("new")), REASON_ok);
    world_free(w);
}

/* ---- failure windows ------------------------------------------------------------------------- */

static void failures_are_bounded_and_hurt_no_warm_device(void **state)
{
    struct world *w = world_new();
    struct credential *c = add_device(w, 1, SLICE("right"));
    assert_int_equal(ask_from(w, c, SLICE("right"), 77), REASON_ok);
    uint64_t before = all_hashes();
    unsigned refused = 0;
    struct asker a;
    for (unsigned i = 0; i < 50; i++) {
        char wrong[16];
        snprintf(wrong, sizeof wrong, "wrong-%u", i);
        enum reason r = ask_from(w, c, slice_str(wrong), 5);
        assert_true(r == REASON_bad_device || r == REASON_too_many_failures);
        refused += r == REASON_too_many_failures;
    }
    assert_int_equal(refused, 40);
    assert_int_equal(all_hashes() - before, 10);
    assert_int_equal(ask_at(w, &a, c, SLICE("more"), 5, clock_mono_ns()), SHIELD_REFUSED);
    assert_int_equal(a.wait.reason, REASON_too_many_failures);
    assert_true(a.wait.retry_ns > 50 * NS_PER_S && a.wait.retry_ns <= 60 * NS_PER_S);
    /* The warm device, even from the attacker's address. */
    assert_int_equal(ask_at(w, &a, c, SLICE("right"), 5, clock_mono_ns()), SHIELD_RIGHT);
    /* The wait is true. */
    uint64_t now = clock_mono_ns();
    assert_int_equal(ask_at(w, &a, c, SLICE("more"), 5, now), SHIELD_REFUSED);
    assert_int_equal(ask_at(w, &a, c, SLICE("more"), 5, now + a.wait.retry_ns), SHIELD_PENDING);
    await(&a);
    world_free(w);
}

static void an_address_is_held_and_restored(void **state)
{
    struct world *w = world_new();
    struct credential *c = add_device(w, 1, SLICE("right"));
    uint64_t before = all_hashes();
    unsigned refused = 0;
    for (unsigned i = 0; i < 150; i++) {
        char id[16];
        struct asker a = {.wait = {.done = on_done, .owner = &a}};
        snprintf(id, sizeof id, "id-%u", i);
        enum shield_answer answer =
            shield_check(w->shield, NULL, slice_str(id), SLICE("x"), 9, clock_mono_ns(), &a.wait);
        if (answer == SHIELD_PENDING)
            await(&a);
        refused += a.wait.reason == REASON_too_many_failures;
    }
    assert_int_equal(refused, 50);
    assert_int_equal(all_hashes() - before, 100);
    assert_int_equal(ask_from(w, c, SLICE("right"), 9), REASON_too_many_failures);
    assert_int_equal(ask_from(w, c, SLICE("right"), 10), REASON_ok);
    assert_int_equal(ask_from(w, c, SLICE("right"), 9), REASON_ok); /* warm: restores the address */
    assert_int_equal(ask_from(w, c, SLICE("wrong"), 9), REASON_bad_device);
    world_free(w);
}

/* Many at once are not hashed because they came before the first failure was counted. */
static void a_burst_of_guesses_is_cut_off(void **state)
{
    struct world *w = world_new();
    struct credential *c = add_device(w, 1, SLICE("right"));
    struct asker askers[200];
    uint64_t before = all_hashes();
    for (unsigned i = 0; i < 200; i++) {
        char wrong[16];
        snprintf(wrong, sizeof wrong, "wrong-%u", i);
        if (ask_at(w, &askers[i], c, slice_str(wrong), 1000 + i, clock_mono_ns()) != SHIELD_PENDING)
            askers[i].answers = 1;
    }
    for (unsigned i = 0; i < 200; i++)
        await(&askers[i]);
    assert_int_equal(all_hashes() - before, 10);
    world_free(w);
}

/* ---- fast verifiers and decoys --------------------------------------------------------------- */

static void fast_verifiers(void **state)
{
    struct world *w = world_new();
    struct credential *c = publish(w, 1, "fast", "", 1);
    struct slice secret = SLICE("slu_0123456789abcdefghijABCDEFGHIJxy");
    struct asker a;
    c->verifier_kind = VERIFIER_FAST;
    shield_fast_digest(secret, c->fast);
    uint64_t before = all_hashes();
    assert_int_equal(ask_at(w, &a, c, secret, 1, clock_mono_ns()), SHIELD_RIGHT);
    /* No password hash in use: nobody needs a decoy. */
    assert_int_equal(ask_at(w, &a, c, SLICE("no"), 1, clock_mono_ns()), SHIELD_REFUSED);
    assert_int_equal(a.wait.reason, REASON_bad_device);
    assert_int_equal(ask_at(w, &a, NULL, SLICE("no"), 1, clock_mono_ns()), SHIELD_REFUSED);
    assert_int_equal(all_hashes() - before, 0);
    add_device(w, 2, SLICE("right"));
    assert_int_equal(ask_at(w, &a, c, SLICE("nope"), 1, clock_mono_ns()), SHIELD_PENDING);
    await(&a);
    assert_int_equal(all_hashes() - before, 1);
    assert_int_equal(metric_sum(METRIC_hashes_run), hashes());
    /* A wrong account key is refused without one. */
    c->kind = CREDENTIAL_KEY;
    assert_int_equal(ask_at(w, &a, c, SLICE("nix"), 1, clock_mono_ns()), SHIELD_REFUSED);
    assert_int_equal(a.wait.reason, REASON_bad_key);
    for (unsigned i = 0; i < 30; i++)
        ask_at(w, &a, c, SLICE("nix"), 1, clock_mono_ns());
    assert_int_equal(a.wait.reason, REASON_too_many_failures);
    assert_int_equal(ask_at(w, &a, c, secret, 1, clock_mono_ns()), SHIELD_RIGHT);
    assert_int_equal(all_hashes() - before, 1);
    world_free(w);
}

/* One refused check is one hash of each kind in use, for everyone. */
static void wrong_answers_cost_the_same(void **state)
{
    struct world *w = world_with(no_windows);
    char verifier[VERIFIER_MAX];
    struct credential *cheap = add_device(w, 1, SLICE("right"));
    assert_int_equal(shield_crypt_new(SLICE("right"), "$2b$", 7, verifier), 0);
    struct credential *dear = publish(w, 2, "dear", verifier, 1);
    assert_int_equal(shield_crypt_new(SLICE("right"), "$y$", 1, verifier), 0);
    struct credential *other = publish(w, 3, "other", verifier, 1);
    struct credential *disabled = publish(w, 4, "disabled", cheap->verifier.ptr, 1);
    disabled->disabled = true;
    struct credential *fast = publish(w, 5, "fast", "", 1);
    fast->verifier_kind = VERIFIER_FAST;
    struct credential *of[] = {cheap, dear, other, disabled, fast, NULL};
    const unsigned all = sizeof of / sizeof *of;
    uint64_t best[6] = {0}, least = UINT64_MAX, most = 0;
    memset(best, 0xff, sizeof best);
    for (unsigned i = 0; i < 10 * all; i++) {
        char wrong[SECRET_MAX + 40];
        memset(wrong, 'x', sizeof wrong);
        int n = snprintf(wrong, sizeof wrong, "wrong-%u", i);
        wrong[n] = 'x';
        size_t len = i / all % 2 ? sizeof wrong : (size_t)n; /* too long for anybody */
        uint64_t before = clock_mono_ns(), hashed = all_hashes(), real = hashes();
        assert_int_equal(ask(w, of[i % all], slice_of(wrong, len)), REASON_bad_device);
        uint64_t took = clock_mono_ns() - before;
        best[i % all] = took < best[i % all] ? took : best[i % all];
        assert_int_equal(all_hashes() - hashed, 3); /* one of each kind */
        assert_int_equal(hashes() - real, len == (size_t)n && i % all < 3);
    }
    for (unsigned i = 0; i < all; i++) {
        least = best[i] < least ? best[i] : least;
        most = best[i] > most ? best[i] : most;
    }
    assert_true(most < least * 2);
    world_free(w);
}

/* Which kind is computed first depends on the id alone, and they come all. */
static void an_unknown_id_has_a_kind_of_its_own(void **state)
{
    struct world *w = world_with(no_windows);
    char verifier[VERIFIER_MAX];
    for (unsigned cost = 4; cost < 7; cost++) {
        assert_int_equal(shield_crypt_new(SLICE("right"), "$2b$", cost, verifier), 0);
        publish(w, cost, "d", verifier, 1);
    }
    unsigned of_cost[8] = {0};
    for (unsigned i = 0; i < 300; i++) {
        char id[16];
        struct question q = {.unknown = slice_of(id, (size_t)snprintf(id, sizeof id, "id-%u", i)),
                             .secret = SLICE("guess")};
        q.lane = lane_of(w->shield, &q);
        struct flight *one = make_flight(w->shield, &q), *again = make_flight(w->shield, &q);
        assert_false(one->job.real);
        assert_int_equal(one->job.cost.cost, again->job.cost.cost);
        of_cost[one->job.cost.cost]++;
        desk_flight_free(one);
        desk_flight_free(again);
    }
    for (unsigned cost = 4; cost < 7; cost++)
        assert_in_range(of_cost[cost], 60, 140);
    world_free(w);
}

/* Nor does the right one, of a device that was disabled: it is no device until it is enabled. */
static void a_disabled_device_is_no_device(void **state)
{
    struct world *w = world_with(no_windows);
    struct credential *c = add_device(w, 1, SLICE("right"));
    assert_int_equal(ask(w, c, SLICE("right")), REASON_ok);
    c->disabled = true;
    uint64_t hashed = hashes(), decoys = metric_sum(METRIC_hashes_decoy);
    assert_int_equal(ask(w, c, SLICE("right")), REASON_bad_device);
    assert_int_equal(hashes() - hashed, 0);
    assert_int_equal(metric_sum(METRIC_hashes_decoy) - decoys, 1);
    c->disabled = false;
    assert_int_equal(ask(w, c, SLICE("right")), REASON_ok); /* nor is it forgotten */
    assert_int_equal(hashes() - hashed, 0);
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_secret_is_hashed_once),
        cmocka_unit_test(a_thousand_at_once_cost_one_hash),
        cmocka_unit_test(one_wrong_among_them_is_refused_alone),
        cmocka_unit_test(wrong_secrets_never_evict_a_good_one),
        cmocka_unit_test(decoys_and_joins_are_no_way_in),
        cmocka_unit_test(names_and_secrets_do_not_run_together),
        cmocka_unit_test(odd_secrets),
        cmocka_unit_test(yescrypt_works_too),
        cmocka_unit_test(changes_take_effect_at_once),
        cmocka_unit_test(after_the_ttl_only_the_record_is_looked_at),
        cmocka_unit_test(a_change_while_it_waits_counts),
        cmocka_unit_test(a_remembered_failure_does_not_outlive_a_change),
        cmocka_unit_test(failures_are_bounded_and_hurt_no_warm_device),
        cmocka_unit_test(an_address_is_held_and_restored),
        cmocka_unit_test(a_burst_of_guesses_is_cut_off),
        cmocka_unit_test(fast_verifiers),
        cmocka_unit_test(wrong_answers_cost_the_same),
        cmocka_unit_test(an_unknown_id_has_a_kind_of_its_own),
        cmocka_unit_test(a_disabled_device_is_no_device),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
