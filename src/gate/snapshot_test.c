/* SPDX-License-Identifier: Apache-2.0 */
#include "gate/snapshot.h"

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
#include "gate/shield.h"

#define DEVICES 40u

static const uint8_t log_id[16] = {1, 2, 3}, other_log[16] = {1, 2, 4};

/* A catalog of bcrypt devices that outlives shields. */
struct world {
    struct account *account;
    struct credential *devices[DEVICES];
    struct credential_live lives[DEVICES];
    struct throttle *throttle;
};

static struct credential *find(void *arg, uint64_t number)
{
    struct world *w = arg;
    return number < DEVICES && w->devices[number] ? credential_ref(w->devices[number]) : NULL;
}

static struct slice secret_of(unsigned i, char text[32])
{
    return slice_of(text, (size_t)snprintf(text, 32, "secret-%u", i));
}

static void put_device(struct world *w, unsigned i, struct slice secret)
{
    char stored[VERIFIER_MAX];
    assert_int_equal(shield_crypt_new(secret, "$2b$", 4, stored), 0);
    struct credential *c = credential_new(VERIFIER_MAX + 1), *old = w->devices[i];
    char *at = (char *)(c + 1);
    c->number = i;
    c->version = old ? old->version + 1 : 1;
    c->account = account_ref(w->account);
    c->kind = CREDENTIAL_DEVICE;
    c->verifier_kind = VERIFIER_CRYPT;
    c->verifier = record_text(&at, slice_str(stored));
    c->live = &w->lives[i];
    w->devices[i] = c;
    credential_unref(old);
}

static struct world *world_new(void)
{
    struct world *w = calloc(1, sizeof *w);
    w->account = account_new(0);
    w->account->number = 7;
    w->throttle =
        throttle_new(&(struct throttle_opts){.subjects_max = 1000, .memory_max = 1 << 20});
    char text[32];
    for (unsigned i = 0; i < DEVICES; i++)
        put_device(w, i, secret_of(i, text));
    return w;
}

static void world_free(struct world *w)
{
    for (unsigned i = 0; i < DEVICES; i++)
        credential_unref(w->devices[i]);
    account_unref(w->account);
    throttle_free(w->throttle);
    free(w);
}

/* A process: empty slots and a new key. */
static struct shield *start(struct world *w)
{
    memset(w->lives, 0, sizeof w->lives);
    struct shield *s = shield_new(&(struct shield_opts){
        .throttle = w->throttle,
        .hash_threads = 1,
        .hash_queue_max = 1000,
        .hash_per_source_max = 1000,
        .hash_wait_ns = 60 * NS_PER_S,
        .verified_ttl_ns = 30 * NS_PER_S,
        .negative_ttl_ns = 0,
        .negative_max = 16,
        .find = find,
        .find_arg = w,
    });
    assert_non_null(s);
    for (unsigned i = 0; i < DEVICES; i++)
        if (w->devices[i])
            shield_note_verifier(s, w->devices[i]->verifier);
    return s;
}

struct asked {
    struct shield_wait wait;
    _Atomic bool done;
};

static void on_done(struct shield_wait *w)
{
    ((struct asked *)w->owner)->done = true;
}

/* Whether the secret is right, waiting for the hash if there must be one. */
static bool ask(struct shield *s, struct world *w, unsigned i, struct slice secret)
{
    struct asked a = {.wait = {.done = on_done, .owner = &a}};
    switch (shield_check(s, w->devices[i], SLICE("?"), secret, 1, clock_mono_ns(), &a.wait)) {
    case SHIELD_RIGHT:
        return true;
    case SHIELD_REFUSED:
        return false;
    case SHIELD_PENDING:
        break;
    }
    while (!a.done)
        clock_sleep_ns(NS_PER_MS / 10);
    return a.wait.reason == REASON_ok;
}

static void make_key(struct snapshot_key *key, char fill)
{
    char content[SNAPSHOT_KEY_LEAST];
    memset(content, fill, sizeof content);
    assert_true(snapshot_key_make(slice_of(content, sizeof content), key));
}

/* Logs all devices in and returns what the process leaves behind. */
static void leave(struct world *w, struct buf *ret)
{
    struct shield *s = start(w);
    char text[32];
    for (unsigned i = 0; i < DEVICES; i++)
        assert_true(ask(s, w, i, secret_of(i, text)));
    struct snapshot n;
    struct snapshot_key key;
    make_key(&key, 'k');
    snapshot_begin(&n, s, 1 << 20);
    for (unsigned i = 0; i < DEVICES; i++)
        snapshot_add(&n, w->devices[i]);
    buf_init(ret, 1 << 20);
    assert_true(snapshot_end(&n, &key, log_id, ret));
    shield_free(s);
}

static uint64_t hashes(void)
{
    return metric_sum(METRIC_hashes_run);
}

static void a_fleet_that_comes_back_costs_no_hash(void **state)
{
    (void)state;
    struct world *w = world_new();
    struct buf sealed;
    leave(w, &sealed);
    struct shield *s = start(w);
    struct snapshot_key key;
    struct error err = {""};
    uint64_t entries = 0, before = hashes();
    make_key(&key, 'k');
    assert_int_equal(snapshot_restore(s, &key, log_id, buf_slice(&sealed), &entries, &err), 0);
    assert_int_equal(entries, DEVICES);
    char text[32];
    for (unsigned turn = 0; turn < 2; turn++)
        for (unsigned i = 0; i < DEVICES; i++)
            assert_true(ask(s, w, i, secret_of(i, text)));
    assert_int_equal(hashes(), before);
    assert_false(ask(s, w, 0, secret_of(1, text))); /* another's secret is none */
    assert_true(hashes() > before);
    shield_free(s);
    buf_fini(&sealed);
    world_free(w);
}

static void what_changed_meanwhile_is_not_revived(void **state)
{
    (void)state;
    struct world *w = world_new();
    struct buf sealed;
    char text[32];
    leave(w, &sealed);
    put_device(w, 1, SLICE("new secret"));
    put_device(w, 2, secret_of(2, text)); /* another salt: as good as another secret */
    w->devices[3] = credential_unref(w->devices[3]);
    w->devices[4]->disabled = true;
    struct shield *s = start(w);
    struct snapshot_key key;
    struct error err = {""};
    uint64_t entries = 0, before = hashes();
    make_key(&key, 'k');
    assert_int_equal(snapshot_restore(s, &key, log_id, buf_slice(&sealed), &entries, &err), 0);
    assert_false(ask(s, w, 1, secret_of(1, text)));
    assert_true(hashes() > before);
    assert_true(ask(s, w, 1, SLICE("new secret")));
    before = hashes();
    assert_true(ask(s, w, 2, secret_of(2, text)));
    assert_int_equal(hashes(), before + 1);
    assert_false(ask(s, w, 4, secret_of(4, text)));
    before = hashes();
    assert_true(ask(s, w, 5, secret_of(5, text)));
    assert_int_equal(hashes(), before);
    shield_free(s);
    buf_fini(&sealed);
    world_free(w);
}

/* A restore that is refused must leave the shield as it was. */
static void refused(struct world *w, struct slice sealed, char fill, const uint8_t id[16])
{
    struct shield *s = start(w);
    struct snapshot_key key;
    struct error err = {""};
    uint64_t entries = 99, before = hashes();
    char text[32];
    make_key(&key, fill);
    assert_int_equal(snapshot_restore(s, &key, id, sealed, &entries, &err), -EBADMSG);
    assert_true(err.text[0]);
    assert_int_equal(entries, 99);
    assert_true(ask(s, w, 0, secret_of(0, text)));
    assert_int_equal(hashes(), before + 1);
    shield_free(s);
}

static void foreign_and_damaged_ones_are_refused(void **state)
{
    (void)state;
    struct world *w = world_new();
    struct buf sealed;
    leave(w, &sealed);
    refused(w, buf_slice(&sealed), 'x', log_id);
    refused(w, buf_slice(&sealed), 'k', other_log);
    refused(w, (struct slice){0}, 'k', log_id);
    for (size_t len = 1; len < sealed.len; len += 97)
        refused(w, slice_of(sealed.ptr, len), 'k', log_id);
    for (size_t at = 0; at < sealed.len; at += at < 110 ? 1 : 61) {
        sealed.ptr[at] ^= 4;
        refused(w, buf_slice(&sealed), 'k', log_id);
        sealed.ptr[at] ^= 4;
    }
    buf_fini(&sealed);
    world_free(w);
}

static void keys_and_tags_are_not_readable(void **state)
{
    (void)state;
    struct world *w = world_new();
    struct buf a, b;
    leave(w, &a);
    for (unsigned i = 0; i < DEVICES; i++)
        assert_null(memmem(a.ptr, a.len, w->lives[i].tag, sizeof w->lives[i].tag));
    leave(w, &b);
    assert_int_equal(a.len, b.len);
    assert_memory_not_equal(a.ptr + 32, b.ptr + 32, 12); /* never one nonce twice */
    struct snapshot_key key;
    assert_false(snapshot_key_make(SLICE("thirty-one bytes are not enough"), &key));
    buf_fini(&a);
    buf_fini(&b);
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_fleet_that_comes_back_costs_no_hash),
        cmocka_unit_test(what_changed_meanwhile_is_not_revived),
        cmocka_unit_test(foreign_and_damaged_ones_are_refused),
        cmocka_unit_test(keys_and_tags_are_not_readable),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
