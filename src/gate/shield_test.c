/* SPDX-License-Identifier: Apache-2.0 */
#include "gate/shield.c"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "base/clock.h"
#include "base/metric.h"
#include "base/thread.h"

#define COST 4 /* a millisecond a hash */

/* ---- a small catalog ------------------------------------------------------------------------- */

#define DEVICES 64

struct world {
    struct shield *shield;
    struct throttle *throttle;
    struct account *account;
    struct spin lock;
    struct credential *devices[DEVICES]; /* by number; the current records */
    struct credential_live lives[DEVICES];
    _Atomic unsigned finds;
};

static struct credential *find(void *arg, uint64_t number)
{
    struct world *w = arg;
    w->finds++;
    spin_lock(&w->lock);
    struct credential *c = w->devices[number] ? credential_ref(w->devices[number]) : NULL;
    spin_unlock(&w->lock);
    return c;
}

static struct shield_opts opts_of(struct world *w)
{
    return (struct shield_opts){
        .throttle = w->throttle,
        .hash_threads = 2,
        .hash_queue_max = 10000,
        .hash_per_source_max = 5000,
        .hash_wait_ns = 60 * NS_PER_S,
        .verified_ttl_ns = 30 * NS_PER_S,
        .negative_ttl_ns = 5 * NS_PER_S,
        .negative_max = 1024,
        .fail_credential = {.windows = {{10, 60000}}, .windows_count = 1},
        .fail_address = {.windows = {{100, 60000}}, .windows_count = 1},
        .find = find,
        .find_arg = w,
    };
}

static struct world *world_raw(void)
{
    struct world *w = calloc(1, sizeof *w);
    assert_non_null(w);
    w->throttle =
        throttle_new(&(struct throttle_opts){.subjects_max = 100000, .memory_max = 16 << 20});
    w->account = account_new(0);
    assert_true(w->throttle && w->account);
    w->account->number = 1;
    return w;
}

static struct world *world_with(struct shield_opts (*opts)(struct world *))
{
    struct world *w = world_raw();
    struct shield_opts o = opts(w);
    w->shield = shield_new(&o);
    assert_non_null(w->shield);
    return w;
}

static struct world *world_new(void)
{
    return world_with(opts_of);
}

static void world_free(struct world *w)
{
    shield_free(w->shield);
    for (unsigned i = 0; i < DEVICES; i++)
        credential_unref(w->devices[i]);
    account_unref(w->account);
    throttle_free(w->throttle);
    free(w);
}

/* Puts a new record of device `number`; the one before is given back. */
static struct credential *publish(struct world *w, unsigned number, const char *name,
                                  const char *verifier, uint64_t version)
{
    struct credential *c = credential_new(strlen(name) + strlen(verifier) + 2);
    assert_non_null(c);
    char *at = (char *)(c + 1);
    c->number = number;
    c->version = version;
    c->account = account_ref(w->account);
    c->kind = CREDENTIAL_DEVICE;
    c->verifier_kind = VERIFIER_CRYPT;
    c->name = record_text(&at, slice_str(name));
    c->verifier = record_text(&at, slice_str(verifier));
    c->live = &w->lives[number];
    spin_lock(&w->lock);
    struct credential *was = w->devices[number];
    w->devices[number] = c;
    spin_unlock(&w->lock);
    credential_unref(was);
    if (w->shield)
        shield_note_verifier(w->shield, c->verifier);
    return c;
}

/* Devices 0 to count - 1, whose secret is "right", with one hash of that cost. */
static void add_fleet(struct world *w, unsigned count, unsigned cost)
{
    char verifier[VERIFIER_MAX];
    assert_int_equal(shield_crypt_new(SLICE("right"), "$2b$", cost, verifier), 0);
    for (unsigned i = 0; i < count; i++)
        publish(w, i, "d", verifier, 1);
}

static struct credential *add_device(struct world *w, unsigned number, struct slice secret)
{
    char verifier[VERIFIER_MAX], name[16];
    assert_int_equal(shield_crypt_new(secret, "$2b$", COST, verifier), 0);
    snprintf(name, sizeof name, "device-%u", number);
    return publish(w, number, name, verifier, 1);
}

/* ---- asking ---------------------------------------------------------------------------------- */

struct asker {
    struct shield_wait wait;
    _Atomic unsigned answers;
};

static void on_done(struct shield_wait *w)
{
    ((struct asker *)w->owner)->answers++;
}

static enum shield_answer ask_at(struct world *w, struct asker *a, struct credential *c,
                                 struct slice secret, uint64_t source, uint64_t now)
{
    *a = (struct asker){.wait = {.done = on_done, .owner = a}};
    return shield_check(w->shield, c, SLICE("stranger"), secret, source, now, &a->wait);
}

static void await(struct asker *a)
{
    for (unsigned i = 0; i < 60000 && !a->answers; i++) {
        struct timespec ms = {.tv_nsec = 1000000};
        nanosleep(&ms, NULL);
    }
    assert_int_equal(a->answers, 1);
}

/* Asks and waits for the answer. */
static enum reason ask_from(struct world *w, struct credential *c, struct slice secret,
                            uint64_t source)
{
    struct asker a;
    switch (ask_at(w, &a, c, secret, source, clock_mono_ns())) {
    case SHIELD_RIGHT:
        return REASON_ok;
    case SHIELD_REFUSED:
        return a.wait.reason;
    case SHIELD_PENDING:
        break;
    }
    await(&a);
    return a.wait.reason;
}

static enum reason ask(struct world *w, struct credential *c, struct slice secret)
{
    return ask_from(w, c, secret, 1);
}

static uint64_t hashes(void)
{
    return metric_sum(METRIC_hashes_run);
}

static uint64_t all_hashes(void)
{
    return metric_sum(METRIC_hashes_run) + metric_sum(METRIC_hashes_decoy);
}

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

static struct shield_opts no_windows(struct world *w)
{
    struct shield_opts o = opts_of(w);
    o.fail_credential = o.fail_address = (struct limit_set){0};
    return o;
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
        cmocka_unit_test(a_full_queue_says_busy),
        cmocka_unit_test(appointments_are_dealt_out),
        cmocka_unit_test(who_waits_too_long_is_told_when_to_come_back),
        cmocka_unit_test(who_is_put_off_together_comes_back_one_by_one),
        cmocka_unit_test(sources_take_turns),
        cmocka_unit_test(stopping_answers_all),
        cmocka_unit_test(logins_progress_on_a_busy_machine),
        cmocka_unit_test(a_storm_with_changes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
