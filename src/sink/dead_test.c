/* SPDX-License-Identifier: Apache-2.0 */
#include "sink/dead.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "base/clock.h"
#include "base/rand.h"
#include "journal/disk_sim.h"
#include "journal/format.h"

static struct dead_letters *open_dead(struct disk_sim *sim, uint64_t bytes_max)
{
    struct dead_letters *d = NULL;
    struct error err = {""};
    int rc = dead_open(disk_sim_disk(sim), "x.dead", bytes_max, &d, &err);
    if (rc)
        print_error("%s\n", err.text);
    assert_int_equal(rc, 0);
    return d;
}

static int put(struct dead_letters *d, uint64_t offset)
{
    char record[64];
    int n = snprintf(record, sizeof record, "bytes of %llu", (unsigned long long)offset);
    struct dead_letter l = {offset, (int64_t)offset * 3, SLICE("it is bad"),
                            slice_of(record, (size_t)n)};
    return dead_put(d, &l);
}

/* Whether the queue holds just the letters of these offsets, whole. */
static void holds(struct dead_letters *d, const uint64_t *offsets, unsigned count)
{
    struct buf storage;
    struct dead_letter l;
    uint64_t from = 0, n, bytes;
    buf_init(&storage, 1 << 20);
    for (unsigned i = 0; i < count; i++) {
        char record[64];
        int len = snprintf(record, sizeof record, "bytes of %llu", (unsigned long long)offsets[i]);
        assert_true(dead_next(d, from, &storage, &l));
        assert_int_equal(l.offset, offsets[i]);
        assert_int_equal(l.at_us, offsets[i] * 3);
        assert_true(slice_eq(l.why, SLICE("it is bad")));
        assert_true(slice_eq(l.record, slice_of(record, (size_t)len)));
        from = l.offset + 1;
    }
    assert_false(dead_next(d, from, &storage, &l));
    dead_count(d, &n, &bytes);
    assert_int_equal(n, count);
    buf_fini(&storage);
}

static void letters_stay_over_a_power_cut(void **state)
{
    struct disk_sim *sim = disk_sim_new(1);
    struct dead_letters *d = open_dead(sim, 1 << 20);
    holds(d, NULL, 0);
    assert_int_equal(put(d, 7), DEAD_STORED);
    assert_int_equal(put(d, 3), DEAD_STORED);
    assert_int_equal(put(d, 7), DEAD_STORED); /* as it was there */
    holds(d, (uint64_t[]){3, 7}, 2);
    dead_close(d);
    disk_sim_cut(sim);
    d = open_dead(sim, 1 << 20);
    holds(d, (uint64_t[]){3, 7}, 2);
    assert_int_equal(put(d, 5), DEAD_STORED);
    assert_int_equal(dead_remove(d, &(uint64_t){3}, 1), 0);
    assert_int_equal(dead_remove(d, &(uint64_t){4}, 1), 0);
    dead_close(d);
    disk_sim_cut(sim);
    d = open_dead(sim, 1 << 20);
    holds(d, (uint64_t[]){5, 7}, 2);
    dead_close(d);
    disk_sim_free(sim);
}

static void a_full_queue_takes_no_more(void **state)
{
    struct disk_sim *sim = disk_sim_new(1);
    struct dead_letters *d = open_dead(sim, 200);
    uint64_t n = 0;
    while (put(d, n) == DEAD_STORED)
        n++;
    assert_in_range(n, 2, 5);
    assert_int_equal(put(d, n), DEAD_FULL);
    assert_int_equal(put(d, 0), DEAD_STORED);
    assert_int_equal(dead_remove(d, &(uint64_t){0}, 1), 0);
    assert_int_equal(put(d, n), DEAD_STORED);
    dead_close(d);
    disk_sim_free(sim);
}

static void damage_is_told_and_a_torn_end_cut(void **state)
{
    struct disk_sim *sim = disk_sim_new(1);
    struct dead_letters *d = open_dead(sim, 1 << 20);
    const char *bytes;
    size_t len;
    for (uint64_t i = 0; i < 3; i++)
        assert_int_equal(put(d, i), DEAD_STORED);
    dead_close(d);
    assert_int_equal(disk_sim_peek(sim, "x.dead", &bytes, &len), 0);
    assert_int_equal(disk_sim_resize(sim, "x.dead", len - 1), 0);
    d = open_dead(sim, 1 << 20);
    holds(d, (uint64_t[]){0, 1}, 2);
    dead_close(d);
    assert_int_equal(disk_sim_poke(sim, "x.dead", 20, "?", 1), 0);
    struct error err = {""};
    assert_int_equal(dead_open(disk_sim_disk(sim), "x.dead", 1 << 20, &d, &err), -EBADMSG);
    disk_sim_free(sim);
}

static void many_are_removed_together(void **state)
{
    struct disk_sim *sim = disk_sim_new(1);
    struct dead_letters *d = open_dead(sim, 1 << 20);
    for (uint64_t i = 0; i < 9; i++)
        assert_int_equal(put(d, 9 - i), DEAD_STORED);
    assert_int_equal(dead_remove(d, NULL, 0), 0);
    assert_int_equal(dead_remove(d, (uint64_t[]){0, 1, 4, 5, 8, 20}, 6), 0);
    holds(d, (uint64_t[]){2, 3, 6, 7, 9}, 5);
    disk_sim_faults(sim)->sync_fails = 65536;
    assert_true(dead_remove(d, (uint64_t[]){2, 9}, 2) < 0);
    *disk_sim_faults(sim) = (struct disk_sim_faults){0};
    holds(d, (uint64_t[]){2, 3, 6, 7, 9}, 5);
    assert_int_equal(put(d, 1), DEAD_STORED);
    dead_close(d);
    disk_sim_cut(sim);
    d = open_dead(sim, 1 << 20);
    holds(d, (uint64_t[]){1, 2, 3, 6, 7, 9}, 6);
    dead_close(d);
    disk_sim_free(sim);
}

/* Each letter comes at each of its times once, whatever the stretches are that are looked at. */
static void letters_become_due(void **state)
{
    static const uint32_t pauses[] = {10, 100, 1000};
    const struct dead_schedule schedule = {pauses, 3};
    struct disk_sim *sim = disk_sim_new(1);
    struct dead_letters *d = open_dead(sim, 1 << 20);
    struct rand r = {5};
    struct buf storage;
    struct dead_letter l;
    unsigned times[20] = {0};
    int64_t first[20] = {0}, last[20] = {0};
    buf_init(&storage, 1 << 20);
    for (uint64_t i = 0; i < 20; i++)
        assert_int_equal(put(d, i), DEAD_STORED);
    for (int64_t at = 0, next; at < 2000 * US_PER_S; at = next) {
        next = at + 1 + (int64_t)rand_below(&r, 4 * US_PER_S);
        for (uint64_t from = 0; dead_due(d, from, &schedule, at, next, &storage, &l);
             from = l.offset + 1) {
            assert_true(l.offset >= from && slice_eq(l.why, SLICE("it is bad")));
            if (times[l.offset]++ == 0)
                first[l.offset] = next;
            last[l.offset] = next;
        }
    }
    bool apart = false;
    for (unsigned i = 0; i < 20; i++) {
        assert_int_equal(times[i], 3);
        assert_in_range(first[i], 10 * US_PER_S, 16 * US_PER_S);
        assert_in_range(last[i], 1110 * US_PER_S, 1336 * US_PER_S);
        apart |= last[i] > last[0] + 20 * US_PER_S || last[i] < last[0] - 20 * US_PER_S;
    }
    assert_true(apart);
    buf_fini(&storage);
    dead_close(d);
    disk_sim_free(sim);
}

/* Whatever fails: a letter that was said to be stored is there after a power cut, one that was not
 * may be. */
static void what_is_stored_is_durable(void **state)
{
    for (uint64_t seed = 1; seed <= 60; seed++) {
        struct disk_sim *sim = disk_sim_new(seed);
        struct rand r = {seed};
        bool stored[40] = {false};
        for (unsigned round = 0; round < 4; round++) {
            *disk_sim_faults(sim) =
                (struct disk_sim_faults){.short_io = 8000, .early = 8000, .sync_fails = 12000};
            struct dead_letters *d = NULL;
            if (dead_open(disk_sim_disk(sim), "x.dead", 1 << 20, &d, NULL) == 0) {
                for (unsigned i = 0; i < 10; i++) {
                    uint64_t n = rand_below(&r, 40);
                    if (put(d, n) == DEAD_STORED)
                        stored[n] = true;
                }
                dead_close(d);
            }
            disk_sim_cut(sim);
            *disk_sim_faults(sim) = (struct disk_sim_faults){0};
            d = open_dead(sim, 1 << 20);
            struct buf storage;
            struct dead_letter l;
            buf_init(&storage, 1 << 20);
            for (uint64_t n = 0; n < 40; n++)
                assert_true(!stored[n] || (dead_next(d, n, &storage, &l) && l.offset == n));
            buf_fini(&storage);
            dead_close(d);
        }
        disk_sim_free(sim);
    }
}

/* As many as 64 MiB hold: each is found without a look at the others. The time limit of tests is
 * what fails else. */
static void very_many_are_found_one_by_one(void **state)
{
    enum { MANY = 400000, STEP = 7919 }; /* coprime: each once, in no order */
    struct disk_sim *sim = disk_sim_new(1);
    struct dead_letters *d = open_dead(sim, 64u << 20);
    struct buf image, storage;
    struct dead_letter l;
    uint64_t n, bytes;
    assert_int_equal(put(d, MANY), DEAD_STORED);
    dead_close(d);
    const char *file;
    size_t len;
    assert_int_equal(disk_sim_peek(sim, "x.dead", &file, &len), 0);
    buf_init(&image, 64u << 20);
    buf_put(&image, file, len);
    for (uint64_t i = 0, offset = 0; i < MANY; i++, offset = (offset + STEP) % MANY) {
        size_t at = image.len;
        buf_put(&image, file + 8, len - 8);
        le64_put(image.ptr + at + 8, offset);
        le32_put(image.ptr + at, crc32c(0, image.ptr + at + 4, len - 12));
    }
    assert_false(image.failed);
    assert_int_equal(disk_replace(disk_sim_disk(sim), "x.dead", image.ptr, image.len), 0);
    d = open_dead(sim, 64u << 20);
    dead_count(d, &n, &bytes);
    assert_int_equal(n, MANY + 1);
    buf_init(&storage, 1 << 20);
    for (uint64_t i = 0; i <= MANY; i++) {
        assert_true(dead_next(d, i, &storage, &l));
        assert_int_equal(l.offset, i);
    }
    for (uint64_t i = 0; i < MANY; i += 2)
        assert_int_equal(put(d, i), DEAD_STORED); /* as it was there */
    dead_count(d, &n, &bytes);
    assert_int_equal(n, MANY + 1);
    assert_int_equal(dead_remove(d, (uint64_t[]){5, 77}, 2), 0);
    assert_true(dead_next(d, 5, &storage, &l));
    assert_int_equal(l.offset, 6);
    buf_fini(&storage);
    buf_fini(&image);
    dead_close(d);
    disk_sim_free(sim);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(letters_stay_over_a_power_cut),
        cmocka_unit_test(a_full_queue_takes_no_more),
        cmocka_unit_test(damage_is_told_and_a_torn_end_cut),
        cmocka_unit_test(many_are_removed_together),
        cmocka_unit_test(letters_become_due),
        cmocka_unit_test(what_is_stored_is_durable),
        cmocka_unit_test(very_many_are_found_one_by_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
