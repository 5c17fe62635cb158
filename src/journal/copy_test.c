/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>

#include "journal/fixture.h"

static void copy_file(struct disk *d, const char *from, const char *to, uint64_t bytes)
{
    struct disk_file *in, *out;
    char *piece = malloc(bytes + 1);
    assert_int_equal(d->open(d, from, O_RDONLY, &in), 0);
    assert_int_equal(disk_read_full(d, in, piece, bytes, 0), 0);
    assert_int_equal(d->open(d, to, O_RDWR | O_CREAT, &out), 0);
    struct iovec v = {.iov_base = piece, .iov_len = bytes};
    assert_int_equal(disk_write_full(d, out, &v, 1, 0), 0);
    d->close(d, in);
    d->close(d, out);
    free(piece);
}

struct copying {
    struct disk *disk;
    const struct journal_cut *cut;
    const char *to;
    unsigned files;
};

static int on_linked(void *arg, const char *name)
{
    struct copying *c = arg;
    uint64_t base, size;
    struct disk_file *f;
    char from[64], to[64];
    assert_true(journal_segment_name(name, &base));
    if (!c->cut->any || base > c->cut->segment)
        return 0;
    snprintf(from, sizeof from, "linked/%s", name);
    snprintf(to, sizeof to, "%s/%s", c->to, name);
    assert_int_equal(c->disk->open(c->disk, from, O_RDONLY, &f), 0);
    assert_int_equal(c->disk->size(c->disk, f, &size), 0);
    c->disk->close(c->disk, f);
    copy_file(c->disk, from, to, base == c->cut->segment ? c->cut->position : size);
    c->files++;
    return 0;
}

/* Makes the copy that ends at `end`. Returns how many segments it has. */
static unsigned make_copy(struct fixture *f, uint64_t end, const char *to, struct journal_cut *cut)
{
    struct disk *d = disk_sim_disk(f->sim);
    struct copying c = {.disk = d, .cut = cut, .to = to};
    struct disk_file *file;
    char path[64];
    const uint8_t *id = journal_position(f->j).log_id;
    assert_int_equal(journal_find_cut(d, "linked", id, end, cut, &f->err), 0);
    assert_int_equal(d->list(d, "linked", on_linked, &c), 0);
    snprintf(path, sizeof path, "%s/%s", to, JOURNAL_CHECKPOINT);
    assert_int_equal(d->open(d, path, O_RDWR | O_CREAT, &file), 0);
    struct iovec v = {.iov_base = cut->checkpoint, .iov_len = sizeof cut->checkpoint};
    assert_int_equal(disk_write_full(d, file, &v, 1, 0), 0);
    d->close(d, file);
    return c.files;
}

/* Opens the copy and reads all of it; jumps, as a restore does. */
static void check_copy(struct fixture *f, const char *dir, uint64_t oldest, uint64_t end)
{
    uint64_t gaps = 0;
    struct fixture copy = {.sim = f->sim, .rand.state = 7, .opts = f->opts};
    copy.opts.dir = dir;
    copy.opts.retain_bytes = 0;
    copy.opts.jump = 1;
    assert_int_equal(fixture_open(&copy), 0);
    assert_int_equal(journal_position(copy.j).oldest, oldest);
    assert_int_equal(journal_durable(copy.j), JOURNAL_JUMP + 1);
    assert_int_equal(fixture_read(&copy, oldest, &gaps), end - oldest);
    assert_memory_equal(journal_position(copy.j).log_id, journal_position(f->j).log_id, 16);
    assert_int_equal(fixture_append(&copy, JOURNAL_JUMP + 1, 1, 30), REASON_ok);
    journal_close(copy.j);
    assert_int_equal(
        journal_verify(disk_sim_disk(f->sim), dir, &(struct buf){.max = 4096}, &f->err), 0);
}

/* A copy that ends anywhere holds what was durable then, whatever was appended since. */
static void ends_at_every_batch(void **state)
{
    struct fixture *f = fixture_new(16384);
    struct journal_cut cut;
    assert_int_equal(fixture_open(f), 0);
    for (uint64_t n = 0; n <= 90; n += 5) {
        char dir[32];
        snprintf(dir, sizeof dir, "copy%llu", (unsigned long long)n);
        assert_int_equal(journal_link(f->j, "linked", n, &f->err), 0);
        fixture_append(f, n, 5, 300);
        unsigned files = make_copy(f, n, dir, &cut);
        assert_int_equal(cut.any, n > 0);
        assert_int_equal(cut.oldest, 0);
        assert_true(n ? files > 0 : files == 0);
        if (n)
            check_copy(f, dir, 0, n);
    }
    fixture_free(f);
}

/* What is linked stays when retention removes it from the log. */
static void retention_takes_nothing_away(void **state)
{
    struct fixture *f = fixture_new(16384);
    struct journal_cut cut;
    f->opts.retain_bytes = 40000;
    assert_int_equal(fixture_open(f), 0);
    uint64_t n = 0;
    for (; n < 120; n += 5)
        fixture_append(f, n, 5, 300);
    uint64_t oldest = journal_position(f->j).oldest;
    assert_int_equal(journal_link(f->j, "linked", n, &f->err), 0);
    for (; n < 360; n += 5) {
        fixture_append(f, n, 5, 300);
        keeper_look(f->j);
    }
    assert_true(journal_position(f->j).oldest > 120);
    assert_true(make_copy(f, 120, "copy", &cut) >= 2);
    assert_int_equal(cut.oldest, oldest);
    check_copy(f, "copy", oldest, 120);
    fixture_free(f);
}

static void a_jump_is_copied(void **state)
{
    struct fixture *f = fixture_new(16384);
    struct journal_cut cut;
    uint64_t gaps;
    assert_int_equal(fixture_open(f), 0);
    fixture_append(f, 0, 5, 300);
    journal_close(f->j);
    f->opts.jump = 2;
    assert_int_equal(fixture_open(f), 0);
    uint64_t end = journal_durable(f->j);
    assert_int_equal(end, 2 * JOURNAL_JUMP + 1);
    assert_int_equal(journal_link(f->j, "linked", end, &f->err), 0);
    assert_int_equal(make_copy(f, end, "copy", &cut), 2);
    struct fixture copy = {.sim = f->sim, .rand.state = 7, .opts = f->opts};
    copy.opts.dir = "copy";
    copy.opts.jump = 1;
    assert_int_equal(fixture_open(&copy), 0);
    assert_int_equal(journal_durable(copy.j), 3 * JOURNAL_JUMP + 1);
    assert_int_equal(fixture_read(&copy, 0, &gaps), 5);
    journal_close(copy.j);
    fixture_free(f);
}

/* Less than there should be is said, by the search and by the open. */
static void a_short_copy_is_refused(void **state)
{
    struct fixture *f = fixture_new(16384);
    struct disk *d = disk_sim_disk(f->sim);
    struct journal_cut cut;
    assert_int_equal(fixture_open(f), 0);
    for (uint64_t n = 0; n < 20; n += 5)
        fixture_append(f, n, 5, 300);
    assert_int_equal(journal_link(f->j, "linked", 20, &f->err), 0);
    const uint8_t *id = journal_position(f->j).log_id;
    assert_int_equal(journal_find_cut(d, "linked", id, 18, &cut, &f->err), -EBADMSG);
    assert_non_null(strstr(f->err.text, "record 15 should be there"));
    assert_int_equal(journal_find_cut(d, "linked", id, 21, &cut, &f->err), -EBADMSG);
    assert_int_equal(journal_find_cut(d, "none", id, 5, &cut, &f->err), -EBADMSG);

    assert_int_equal(journal_find_cut(d, "linked", id, 20, &cut, &f->err), 0);
    cut.position -= 8;
    struct copying c = {.disk = d, .cut = &cut, .to = "copy"};
    assert_int_equal(d->list(d, "linked", on_linked, &c), 0);
    struct disk_file *file;
    assert_int_equal(d->open(d, "copy/" JOURNAL_CHECKPOINT, O_RDWR | O_CREAT, &file), 0);
    struct iovec v = {.iov_base = cut.checkpoint, .iov_len = sizeof cut.checkpoint};
    assert_int_equal(disk_write_full(d, file, &v, 1, 0), 0);
    d->close(d, file);
    struct fixture copy = {.sim = f->sim, .rand.state = 7, .opts = f->opts};
    copy.opts.dir = "copy";
    assert_int_equal(fixture_open(&copy), -EBADMSG);
    fixture_free(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ends_at_every_batch),
        cmocka_unit_test(retention_takes_nothing_away),
        cmocka_unit_test(a_jump_is_copied),
        cmocka_unit_test(a_short_copy_is_refused),
    };
    log_set_level(getenv("JOURNAL_LOG") ? LOG_INFO : LOG_ERROR + 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
