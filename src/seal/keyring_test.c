/* SPDX-License-Identifier: Apache-2.0 */
#include "seal/keyring.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "journal/disk_sim.h"

#define PATH "/data/keyring"

static struct master_key key_of(const char *text)
{
    struct master_key k;
    assert_true(master_key_make(slice_str(text), &k));
    return k;
}

static const char right_text[] = "0123456789abcdef0123456789abcdef\n";

static struct keyring *open_it(struct disk_sim *sim)
{
    struct master_key key = key_of(right_text);
    struct keyring *k = NULL;
    struct error err = {""};
    int rc = keyring_open(disk_sim_disk(sim), PATH, &key, &k, &err);
    if (rc)
        fail_msg("%s", err.text);
    return k;
}

static struct disk_sim *new_sim(void)
{
    struct disk_sim *sim = disk_sim_new(7);
    struct disk *d = disk_sim_disk(sim);
    assert_int_equal(d->mkdir(d, "/data"), 0);
    assert_int_equal(d->sync_dir(d, "/"), 0);
    return sim;
}

static void test_master_key(void **state)
{
    struct master_key a = key_of(right_text), b = key_of("0123456789abcdef0123456789abcdef"), c;
    assert_memory_equal(&a, &b, sizeof a); /* an editor's line end is no part of it */
    c = key_of("0123456789abcdef0123456789abcdeg");
    assert_memory_not_equal(&a, &c, sizeof a);
    assert_false(master_key_make(SLICE("0123456789abcdef0123456789abcde\n"), &c));
}

static void test_keys_come_back(void **state)
{
    struct disk_sim *sim = new_sim();
    struct keyring *k = open_it(sim);
    uint8_t first[AEAD_KEY_BYTES], again[AEAD_KEY_BYTES], other[AEAD_KEY_BYTES];
    assert_int_equal(keyring_key_of(k, 5), 0);
    for (uint64_t account = 5; account < 205; account++)
        assert_int_equal(keyring_make(k, account), 0);
    assert_int_equal(keyring_make(k, 5), 0); /* has one */
    assert_int_equal(keyring_key_of(k, 5), 1);
    assert_int_equal(keyring_get(k, 1, first), KEY_HERE);
    assert_int_equal(keyring_get(k, 2, other), KEY_HERE);
    assert_memory_not_equal(first, other, sizeof first);
    assert_int_equal(keyring_get(k, 0, other), KEY_UNKNOWN);
    assert_int_equal(keyring_get(k, 201, other), KEY_UNKNOWN);
    uint64_t epoch = keyring_epoch(k);
    keyring_close(k);
    disk_sim_cut(sim); /* what was made is durable */
    k = open_it(sim);
    assert_true(keyring_epoch(k) > epoch);
    assert_int_equal(keyring_stats(k).keys, 200);
    assert_int_equal(keyring_key_of(k, 204), 200);
    assert_int_equal(keyring_get(k, 1, again), KEY_HERE);
    assert_memory_equal(first, again, sizeof first);
    keyring_close(k);
    disk_sim_free(sim);
}

static bool holds(struct disk_sim *sim, const void *needle, size_t len)
{
    const char *ptr;
    size_t bytes;
    assert_int_equal(disk_sim_peek(sim, PATH, &ptr, &bytes), 0);
    return memmem(ptr, bytes, needle, len) != NULL;
}

static void test_destroyed_is_gone(void **state)
{
    struct disk_sim *sim = new_sim();
    struct keyring *k = open_it(sim);
    const char *ptr;
    size_t len;
    uint8_t bytes[AEAD_KEY_BYTES];
    char wrapped[48];
    assert_int_equal(keyring_make(k, 5), 0);
    assert_int_equal(keyring_make(k, 6), 0);
    assert_int_equal(disk_sim_peek(sim, PATH, &ptr, &len), 0);
    memcpy(wrapped, ptr + 128 + 36, sizeof wrapped);
    assert_true(holds(sim, wrapped, sizeof wrapped));
    uint32_t generation = keyring_generation(k);
    assert_int_equal(keyring_destroy(k, 5), 0);
    assert_int_not_equal(keyring_generation(k), generation);
    assert_false(holds(sim, wrapped, sizeof wrapped));
    assert_int_equal(keyring_get(k, 1, bytes), KEY_DESTROYED);
    assert_int_equal(keyring_key_of(k, 5), 0);
    assert_int_equal(keyring_make(k, 5), -EKEYREVOKED);
    assert_int_equal(keyring_get(k, 2, bytes), KEY_HERE);
    keyring_close(k);
    disk_sim_cut(sim);
    k = open_it(sim);
    assert_int_equal(keyring_get(k, 1, bytes), KEY_DESTROYED);
    assert_int_equal(keyring_get(k, 2, bytes), KEY_HERE);
    assert_int_equal(keyring_make(k, 7), 0);
    assert_int_equal(keyring_key_of(k, 7), 3); /* numbers are not used again */
    keyring_close(k);
    disk_sim_free(sim);
}

static int try_open(struct disk_sim *sim, const char *master, struct error *err)
{
    struct master_key key = key_of(master);
    struct keyring *k = NULL;
    int rc = keyring_open(disk_sim_disk(sim), PATH, &key, &k, err);
    keyring_close(k);
    return rc;
}

static void test_refuses(void **state)
{
    struct disk_sim *sim = new_sim();
    struct keyring *k = open_it(sim);
    struct error err = {""};
    assert_int_equal(keyring_make(k, 5), 0);
    assert_int_equal(keyring_make(k, 6), 0);
    keyring_close(k);
    assert_int_equal(try_open(sim, "another master key of 32 bytes...", &err), -EKEYREJECTED);
    assert_non_null(strstr(err.text, "another master key"));
    assert_non_null(strstr(err.text, PATH));
    for (uint64_t at = 0; at < 256; at += 25) { /* head and first entry; the last may be torn */
        const char *ptr;
        size_t len;
        assert_int_equal(disk_sim_peek(sim, PATH, &ptr, &len), 0);
        char was = ptr[at], is = (char)(was ^ 4);
        assert_int_equal(disk_sim_poke(sim, PATH, at, &is, 1), 0);
        int rc = try_open(sim, right_text, &err);
        if (rc != -EBADMSG && rc != -ENOTSUP)
            fail_msg("a wrong byte at %llu was answered %d", (unsigned long long)at, rc);
        assert_int_equal(disk_sim_poke(sim, PATH, at, &was, 1), 0);
    }
    assert_int_equal(try_open(sim, right_text, &err), 0);
    disk_sim_free(sim);
}

static void test_rotate(void **state)
{
    struct disk_sim *sim = new_sim();
    struct keyring *k = open_it(sim);
    struct master_key next = key_of("the next master key, 32 bytes or more");
    struct error err = {""};
    uint8_t before[AEAD_KEY_BYTES], after[AEAD_KEY_BYTES];
    assert_int_equal(keyring_make(k, 5), 0);
    assert_int_equal(keyring_get(k, 1, before), KEY_HERE);
    assert_int_equal(keyring_rotate(k, &next), 0);
    assert_int_equal(keyring_make(k, 6), 0); /* wrapped by the new one */
    keyring_close(k);
    assert_int_equal(try_open(sim, right_text, &err), -EKEYREJECTED);
    k = NULL;
    assert_int_equal(keyring_open(disk_sim_disk(sim), PATH, &next, &k, &err), 0);
    assert_int_equal(keyring_get(k, 1, after), KEY_HERE);
    assert_memory_equal(before, after, sizeof before);
    assert_int_equal(keyring_get(k, 2, after), KEY_HERE);
    keyring_close(k);
    disk_sim_free(sim);
}

/* Power fails in each call that making and destroying makes: after a restart what was said to be
 * done is done, and a call that failed may be repeated. */
/* Another process has it too, only to read: it sees what came and what went when it looks again. */
static void test_refresh(void **state)
{
    struct disk_sim *sim = new_sim();
    struct keyring *k = open_it(sim), *reader;
    struct master_key key = key_of(right_text);
    struct error err = {""};
    uint8_t here[AEAD_KEY_BYTES], there[AEAD_KEY_BYTES];
    assert_int_equal(keyring_make(k, 5), 0);
    assert_int_equal(keyring_read(disk_sim_disk(sim), PATH, &key, &reader, &err), 0);
    uint64_t changes = keyring_changes(k);
    for (uint64_t account = 6; account < 106; account++)
        assert_int_equal(keyring_make(k, account), 0);
    assert_int_equal(keyring_changes(k), changes + 100);
    assert_int_equal(keyring_get(reader, 2, there), KEY_UNKNOWN);
    uint32_t generation = keyring_generation(reader);
    assert_int_equal(keyring_refresh(reader, NULL, &err), 0);
    assert_int_equal(keyring_get(reader, 2, there), KEY_HERE);
    assert_int_equal(keyring_get(k, 2, here), KEY_HERE);
    assert_memory_equal(here, there, sizeof here);
    assert_int_equal(keyring_key_of(reader, 105), 101);
    assert_true(keyring_generation(reader) != generation);
    assert_int_equal(keyring_destroy(k, 6), 0);
    assert_int_equal(keyring_changes(k), changes + 101);
    assert_int_equal(keyring_refresh(reader, NULL, &err), 0);
    assert_int_equal(keyring_get(reader, 2, there), KEY_DESTROYED);
    assert_int_equal(keyring_get(reader, 1, there), KEY_HERE);
    /* The master key is another one: it goes on once it is given that, and not before. */
    struct master_key next = key_of("the next master key, 32 bytes or more");
    struct master_key wrong = key_of("a wrong master key, of 32 bytes or more");
    assert_int_equal(keyring_rotate(k, &next), 0);
    assert_int_equal(keyring_make(k, 200), 0);
    assert_int_equal(keyring_refresh(reader, NULL, &err), -EKEYREJECTED);
    assert_int_equal(keyring_refresh(reader, &wrong, &err), -EKEYREJECTED);
    assert_int_equal(keyring_key_of(reader, 200), 0);
    assert_int_equal(keyring_refresh(reader, &next, &err), 0);
    assert_int_equal(keyring_key_of(reader, 200), 102);
    assert_int_equal(keyring_make(k, 201), 0);
    assert_int_equal(keyring_refresh(reader, NULL, &err), 0);
    assert_int_equal(keyring_key_of(reader, 201), 103);
    /* What it cannot read changes nothing. */
    const char junk[] = "junk";
    assert_int_equal(disk_sim_poke(sim, PATH, 0, junk, sizeof junk), 0);
    assert_true(keyring_refresh(reader, NULL, &err) < 0);
    assert_non_null(strstr(err.text, PATH));
    assert_int_equal(keyring_get(reader, 1, there), KEY_HERE);
    keyring_close(reader);
    keyring_close(k);
    disk_sim_free(sim);
}

static void test_power_cuts(void **state)
{
    for (uint64_t calls = 1; calls < 60; calls++) {
        struct disk_sim *sim = disk_sim_new(calls);
        struct disk *d = disk_sim_disk(sim);
        assert_int_equal(d->mkdir(d, "/data"), 0);
        assert_int_equal(d->sync_dir(d, "/"), 0);
        struct keyring *k = open_it(sim);
        disk_sim_die_after(sim, calls);
        int made = keyring_make(k, 5), other = keyring_make(k, 6);
        int gone = keyring_destroy(k, 5), rest = keyring_make(k, 7);
        bool died = disk_sim_dead(sim);
        keyring_close(k);
        disk_sim_cut(sim);
        k = open_it(sim);
        uint8_t bytes[AEAD_KEY_BYTES];
        if (made == 0)
            assert_int_not_equal(keyring_get(k, 1, bytes), KEY_UNKNOWN);
        if (other == 0)
            assert_int_equal(keyring_get(k, keyring_key_of(k, 6), bytes), KEY_HERE);
        if (gone == 0 && made == 0)
            assert_int_equal(keyring_get(k, 1, bytes), KEY_DESTROYED);
        if (rest == 0)
            assert_int_equal(keyring_get(k, keyring_key_of(k, 7), bytes), KEY_HERE);
        assert_int_equal(keyring_destroy(k, 5), 0);
        assert_int_equal(keyring_key_of(k, 5), 0);
        keyring_close(k);
        disk_sim_free(sim);
        if (!died)
            return;
    }
    fail_msg("more calls than this test looks at");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_master_key),
        cmocka_unit_test(test_keys_come_back),
        cmocka_unit_test(test_destroyed_is_gone),
        cmocka_unit_test(test_refuses),
        cmocka_unit_test(test_rotate),
        cmocka_unit_test(test_refresh),
        cmocka_unit_test(test_power_cuts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
