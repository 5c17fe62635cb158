/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gate/shield_testing.h - what the shield's tests share: a small catalog with a shield over it, and
 * who asks. Included behind gate/shield.c. Tests only.
 */
#pragma once

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

static inline struct credential *find(void *arg, uint64_t number)
{
    struct world *w = arg;
    w->finds++;
    spin_lock(&w->lock);
    struct credential *c = w->devices[number] ? credential_ref(w->devices[number]) : NULL;
    spin_unlock(&w->lock);
    return c;
}

static inline struct shield_opts opts_of(struct world *w)
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

static inline struct shield_opts no_windows(struct world *w)
{
    struct shield_opts o = opts_of(w);
    o.fail_credential = o.fail_address = (struct limit_set){0};
    return o;
}

static inline struct world *world_raw(void)
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

static inline struct world *world_with(struct shield_opts (*opts)(struct world *))
{
    struct world *w = world_raw();
    struct shield_opts o = opts(w);
    w->shield = shield_new(&o);
    assert_non_null(w->shield);
    return w;
}

static inline struct world *world_new(void)
{
    return world_with(opts_of);
}

static inline void world_free(struct world *w)
{
    shield_free(w->shield);
    for (unsigned i = 0; i < DEVICES; i++)
        credential_unref(w->devices[i]);
    account_unref(w->account);
    throttle_free(w->throttle);
    free(w);
}

/* Puts a new record of device `number`; the one before is given back. */
static inline struct credential *publish(struct world *w, unsigned number, const char *name,
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
static inline void add_fleet(struct world *w, unsigned count, unsigned cost)
{
    char verifier[VERIFIER_MAX];
    assert_int_equal(shield_crypt_new(SLICE("right"), "$2b$", cost, verifier), 0);
    for (unsigned i = 0; i < count; i++)
        publish(w, i, "d", verifier, 1);
}

static inline struct credential *add_device(struct world *w, unsigned number, struct slice secret)
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

static inline void on_done(struct shield_wait *w)
{
    ((struct asker *)w->owner)->answers++;
}

static inline enum shield_answer ask_at(struct world *w, struct asker *a, struct credential *c,
                                        struct slice secret, uint64_t source, uint64_t now)
{
    *a = (struct asker){.wait = {.done = on_done, .owner = a}};
    return shield_check(w->shield, c, SLICE("stranger"), secret, source, now, &a->wait);
}

static inline void await(struct asker *a)
{
    for (unsigned i = 0; i < 60000 && !a->answers; i++) {
        struct timespec ms = {.tv_nsec = 1000000};
        nanosleep(&ms, NULL);
    }
    assert_int_equal(a->answers, 1);
}

/* Asks and waits for the answer. */
static inline enum reason ask_from(struct world *w, struct credential *c, struct slice secret,
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

static inline enum reason ask(struct world *w, struct credential *c, struct slice secret)
{
    return ask_from(w, c, secret, 1);
}

static inline uint64_t hashes(void)
{
    return metric_sum(METRIC_hashes_run);
}

static inline uint64_t all_hashes(void)
{
    return metric_sum(METRIC_hashes_run) + metric_sum(METRIC_hashes_decoy);
}
