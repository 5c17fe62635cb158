/* SPDX-License-Identifier: Apache-2.0 */
#include "sink/group_file.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "base/rand.h"
#include "journal/disk_sim.h"
#include "journal/format.h"

static const uint8_t log_id[16] = {1, 2, 3};

/* What the file says: entries are {number, value}. */
struct told {
    uint64_t value[16];
    unsigned count;
};

static bool on_entry(void *arg, struct slice entry)
{
    struct told *t = arg;
    if (entry.len < 9)
        return false;
    t->value[(uint8_t)entry.ptr[0] % 16] = le64_get(entry.ptr + 1);
    t->count++;
    return true;
}

static int open_file(struct disk_sim *sim, struct group_file **ret, struct told *told)
{
    *told = (struct told){0};
    return group_file_open(disk_sim_disk(sim), "groups", log_id, on_entry, told, ret, NULL);
}

static void put(struct buf *out, uint8_t number, uint64_t value)
{
    struct buf entry;
    buf_init(&entry, 64);
    buf_put_u8(&entry, number);
    buf_put_u64(&entry, value);
    group_file_put(out, buf_slice(&entry));
    buf_fini(&entry);
}

static int add(struct group_file *f, uint8_t number, uint64_t value)
{
    struct buf out;
    buf_init(&out, 64);
    put(&out, number, value);
    int rc = group_file_append(f, buf_slice(&out));
    buf_fini(&out);
    return rc;
}

static int replace(struct group_file *f, const struct told *all)
{
    struct buf out;
    buf_init(&out, 4096);
    for (uint8_t i = 0; i < 16; i++)
        put(&out, i, all->value[i]);
    int rc = group_file_replace(f, buf_slice(&out));
    buf_fini(&out);
    return rc;
}

static void later_entries_are_told_last(void **state)
{
    (void)state;
    struct disk_sim *sim = disk_sim_new(1);
    struct group_file *f;
    struct told told, none = {0};
    assert_int_equal(open_file(sim, &f, &told), 0);
    assert_int_equal(told.count, 0);
    assert_int_equal(add(f, 1, 7), -EBADF); /* there is no file yet */
    assert_int_equal(replace(f, &none), 0);
    assert_int_equal(add(f, 1, 7), 0);
    assert_int_equal(add(f, 1, 9), 0);
    group_file_close(f);
    disk_sim_cut(sim);
    assert_int_equal(open_file(sim, &f, &told), 0);
    assert_int_equal(told.count, 18);
    assert_int_equal(told.value[1], 9);
    assert_int_equal(add(f, 2, 3), 0);
    group_file_close(f);
    assert_int_equal(open_file(sim, &f, &told), 0);
    assert_int_equal(told.value[2], 3);
    group_file_close(f);
    disk_sim_free(sim);
}

static void damage_is_told_and_a_torn_end_cut(void **state)
{
    (void)state;
    struct disk_sim *sim = disk_sim_new(1);
    struct group_file *f;
    struct told told, none = {0};
    const char *bytes;
    size_t len;
    assert_int_equal(open_file(sim, &f, &told), 0);
    assert_int_equal(replace(f, &none), 0);
    assert_int_equal(add(f, 1, 7), 0);
    assert_int_equal(add(f, 1, 8), 0);
    group_file_close(f);
    assert_int_equal(disk_sim_peek(sim, "groups", &bytes, &len), 0);
    assert_int_equal(disk_sim_resize(sim, "groups", len - 1), 0);
    assert_int_equal(open_file(sim, &f, &told), 0);
    assert_int_equal(told.value[1], 7);
    assert_int_equal(add(f, 1, 9), -EBADF); /* not behind a torn end */
    assert_int_equal(replace(f, &told), 0);
    assert_int_equal(add(f, 1, 9), 0);
    group_file_close(f);
    uint8_t other[16] = {9};
    assert_int_equal(
        group_file_open(disk_sim_disk(sim), "groups", other, on_entry, &told, &f, NULL), -ESTALE);
    assert_int_equal(disk_sim_poke(sim, "groups", 40, "?", 1), 0);
    assert_int_equal(open_file(sim, &f, &told), -EBADMSG);
    disk_sim_free(sim);
}

/* One of many bytes. */
static void put_long(struct buf *out, uint8_t number, uint64_t value, size_t bytes)
{
    struct buf entry;
    buf_init(&entry, 4096);
    buf_put_u8(&entry, number);
    buf_put_u64(&entry, value);
    while (entry.len < bytes)
        buf_put_u8(&entry, 'x');
    group_file_put(out, buf_slice(&entry));
    buf_fini(&entry);
}

/* Many groups that change in one write, and a power cut within it: of its sectors any may be there.
 * What was written before is; all of it counts, or nothing. */
static void a_write_is_torn_anywhere(void **state)
{
    (void)state;
    unsigned whole = 0, none = 0;
    for (uint64_t seed = 1; seed <= 300; seed++) {
        struct disk_sim *sim = disk_sim_new(seed);
        struct group_file *f;
        struct rand r = {seed};
        struct told told, old = {0};
        struct buf out;
        buf_init(&out, 65536);
        for (uint8_t i = 0; i < 16; i++)
            put_long(&out, i, 1, 9 + rand_below(&r, 900));
        assert_int_equal(open_file(sim, &f, &old), 0);
        assert_int_equal(group_file_replace(f, buf_slice(&out)), 0);
        buf_clear(&out);
        for (uint8_t i = 0; i < 16; i++)
            put_long(&out, i, 2, 9 + rand_below(&r, 900));
        disk_sim_die_after(sim, 2); /* in the midst of syncing it */
        assert_true(group_file_append(f, buf_slice(&out)) < 0);
        group_file_close(f);
        buf_fini(&out);
        disk_sim_cut(sim);
        assert_int_equal(open_file(sim, &f, &told), 0);
        for (unsigned i = 1; i < 16; i++)
            assert_int_equal(told.value[i], told.value[0]);
        assert_in_range(told.value[0], 1, 2);
        whole += told.value[0] == 2;
        none += told.value[0] == 1;
        group_file_close(f);
        disk_sim_free(sim);
    }
    assert_int_equal(whole + none, 300);
    assert_true(none > 0);
}

/* A file of the first form is read, and written anew before anything is added. */
static void the_first_form_is_read(void **state)
{
    (void)state;
    struct disk_sim *sim = disk_sim_new(1);
    struct disk *d = disk_sim_disk(sim);
    struct group_file *f;
    struct told told;
    struct buf image;
    buf_init(&image, 4096);
    buf_put(&image, "SLUGROU1", 8);
    buf_put(&image, log_id, sizeof log_id);
    for (uint8_t i = 0; i < 16; i++) {
        size_t at = image.len;
        buf_put_u32(&image, 0);
        buf_put_u32(&image, 9);
        buf_put_u8(&image, i);
        buf_put_u64(&image, i + 100);
        le32_put(image.ptr + at, crc32c(0, image.ptr + at + 4, 13));
    }
    assert_int_equal(disk_replace(d, "groups", image.ptr, image.len), 0);
    buf_fini(&image);
    assert_int_equal(open_file(sim, &f, &told), 0);
    assert_int_equal(told.count, 16);
    assert_int_equal(told.value[15], 115);
    assert_int_equal(add(f, 1, 9), -EBADF);
    assert_int_equal(replace(f, &told), 0);
    assert_int_equal(add(f, 1, 9), 0);
    group_file_close(f);
    assert_int_equal(open_file(sim, &f, &told), 0);
    assert_int_equal(told.value[1], 9);
    assert_int_equal(told.value[15], 115);
    group_file_close(f);
    disk_sim_free(sim);
}

/* Whatever fails: what was said to be written is there after a power cut. Values only grow. */
static void what_is_written_is_durable(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        struct disk_sim *sim = disk_sim_new(seed);
        struct rand r = {seed};
        struct told sure = {0}, now = {0}, told;
        for (unsigned round = 0; round < 4; round++) {
            *disk_sim_faults(sim) =
                (struct disk_sim_faults){.short_io = 8000, .early = 8000, .sync_fails = 12000};
            struct group_file *f = NULL;
            bool open = open_file(sim, &f, &told) == 0;
            for (unsigned i = 0; open && i < 10; i++) {
                uint8_t n = (uint8_t)rand_below(&r, 16);
                now.value[n]++;
                if (add(f, n, now.value[n]) == 0)
                    sure.value[n] = now.value[n];
                else if (replace(f, &now) == 0)
                    sure = now;
            }
            group_file_close(f);
            disk_sim_cut(sim);
            *disk_sim_faults(sim) = (struct disk_sim_faults){0};
            assert_int_equal(open_file(sim, &f, &told), 0);
            for (unsigned n = 0; n < 16; n++)
                assert_in_range(told.value[n], sure.value[n], now.value[n]);
            group_file_close(f);
        }
        disk_sim_free(sim);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(later_entries_are_told_last),
        cmocka_unit_test(damage_is_told_and_a_torn_end_cut),
        cmocka_unit_test(a_write_is_torn_anywhere),
        cmocka_unit_test(the_first_form_is_read),
        cmocka_unit_test(what_is_written_is_durable),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
