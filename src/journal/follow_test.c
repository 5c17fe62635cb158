/* SPDX-License-Identifier: Apache-2.0 */
/* A log that is read while somebody else writes it: a writer and a follower on one simulated disk.
 */
#include "journal/fixture.h"

#include <fcntl.h>

#include "journal/follow.h"

#define CURSORS "own/cursors"

static struct journal *follow(struct fixture *f)
{
    struct journal *j = NULL;
    struct disk *d = disk_sim_disk(f->sim);
    assert_int_equal(d->mkdir(d, "own"), 0);
    struct journal_follow_opts o = {
        .disk = d, .dir = "log", .cursors_path = CURSORS, .prefix = "sink:"};
    assert_int_equal(journal_follow(&o, &j, &f->err), 0);
    return j;
}

static void tell(struct fixture *f, struct journal *j)
{
    struct journal_mark m = journal_mark(f->j);
    assert_int_equal(journal_follow_to(j, &m), 0);
}

/* Reads on; checks that record n is at offset n; how many. *ret_gaps: records that are missing. */
static uint64_t read_on(struct journal_reader *r, uint64_t *ret_gaps)
{
    struct journal_batch b;
    uint64_t count = 0;
    int rc;
    while ((rc = journal_reader_next(r, &b)) != JOURNAL_WAIT) {
        struct record rec;
        size_t at = 0;
        assert_true(rc == JOURNAL_BATCH || rc == JOURNAL_GAP);
        if (rc == JOURNAL_GAP)
            *ret_gaps += b.count;
        for (uint64_t i = 0; rc == JOURNAL_BATCH && i < b.count; i++, count++) {
            assert_int_equal(journal_batch_record(&b, &at, &rec), 1);
            assert_int_equal(rec.account, b.first_offset + i + 1);
        }
    }
    return count;
}

static struct journal_reader *reader(struct journal *j, const char *name)
{
    struct journal_reader *r = NULL;
    struct error err = {""};
    assert_int_equal(journal_reader_open(j, &(struct journal_reader_opts){.name = name}, &r, &err),
                     0);
    return r;
}

static void only_up_to_the_mark(void **state)
{
    struct fixture *f = fixture_new(32768);
    uint64_t gaps = 0;
    assert_int_equal(fixture_open(f), 0);
    for (uint64_t n = 0; n < 90; n += 9)
        fixture_append(f, n, 9, 120);
    struct journal *j = follow(f);
    assert_memory_equal(journal_position(j).log_id, journal_position(f->j).log_id, 16);
    struct journal_reader *r = reader(j, NULL);
    tell(f, j);
    assert_int_equal(read_on(r, &gaps), 90);
    fixture_append(f, 90, 9, 120);
    assert_int_equal(read_on(r, &gaps), 0); /* it is not told yet */
    tell(f, j);
    assert_int_equal(read_on(r, &gaps), 9);
    /* Over many segments, a batch at a time and many at once. */
    for (uint64_t n = 99; n < 1899; n += 9) {
        fixture_append(f, n, 9, 120);
        if (n % 2 == 0 || n > 1000)
            tell(f, j);
        if (n % 3 == 0)
            read_on(r, &gaps);
    }
    assert_true(journal_stats(f->j).segments > 5);
    read_on(r, &gaps);
    assert_int_equal(journal_reader_offset(r), 1899);
    assert_int_equal(gaps, 0);
    assert_int_equal(journal_stats(j).segments, journal_stats(f->j).segments);
    assert_int_equal(journal_hold_from(j, 70000), journal_hold_from(f->j, 70000));
    journal_reader_close(r);
    journal_close(j);
    fixture_free(f);
}

/* Without any word of the writer: what a clean stop left is proven, and all of it is read. */
static void what_the_files_prove(void **state)
{
    struct fixture *f = fixture_new(32768);
    uint64_t gaps = 0;
    assert_int_equal(fixture_open(f), 0);
    for (uint64_t n = 0; n < 500; n += 5)
        fixture_append(f, n, 5, 120);
    journal_close(f->j);
    f->j = NULL;
    struct journal *j = follow(f);
    struct journal_reader *r = reader(j, NULL);
    assert_int_equal(read_on(r, &gaps), 500);
    assert_int_equal(gaps, 0);
    journal_reader_close(r);
    journal_close(j);
    fixture_free(f);
}

static void no_log_yet(void **state)
{
    struct fixture *f = fixture_new(32768);
    struct journal *j = NULL;
    struct disk *d = disk_sim_disk(f->sim);
    assert_int_equal(d->mkdir(d, "log"), 0);
    struct journal_follow_opts o = {
        .disk = d, .dir = "log", .cursors_path = CURSORS, .prefix = "sink:"};
    assert_int_equal(journal_follow(&o, &j, &f->err), -ENOENT);
    assert_null(j);
    fixture_free(f);
}

/* Retention takes away what the follower has not read, and what it is just reading. */
static void removed_by_retention(void **state)
{
    struct fixture *f = fixture_new(32768);
    uint64_t gaps = 0, n = 0;
    assert_int_equal(fixture_open(f), 0);
    for (; n < 900; n += 9)
        fixture_append(f, n, 9, 120);
    struct journal *j = follow(f);
    tell(f, j);
    struct journal_reader *r = reader(j, NULL), *late = reader(j, NULL);
    struct journal_batch b;
    assert_int_equal(journal_reader_next(r, &b), JOURNAL_BATCH); /* stands in the first segment */
    struct journal_opts opts = f->opts;
    opts.retain_bytes = 2 * 32768;
    journal_tune(f->j, &opts);
    for (; n < 1800; n += 9)
        fixture_append(f, n, 9, 120);
    keeper_look(f->j);
    uint64_t oldest = journal_position(f->j).oldest;
    assert_true(oldest > 900);
    /* The follower's list is stale, and it finds out by itself. */
    read_on(late, &gaps);
    assert_true(gaps > 0);
    assert_int_equal(journal_reader_offset(late), 900);
    tell(f, j);
    assert_int_equal(journal_position(j).oldest, oldest);
    uint64_t lost = 0, got = read_on(r, &lost);
    assert_int_equal(journal_reader_offset(r), 1800);
    assert_int_equal(got + lost + 9, 1800);
    assert_true(got >= 1800 - oldest);
    journal_reader_close(r);
    journal_reader_close(late);
    journal_close(j);
    fixture_free(f);
}

/* The writer is killed and comes back, in the same segment: the follower goes on with it. */
static void the_writer_comes_back(void **state)
{
    struct fixture *f = fixture_new(65536);
    uint64_t gaps = 0, n = 0;
    assert_int_equal(fixture_open(f), 0);
    for (; n < 60; n += 5)
        fixture_append(f, n, 5, 120);
    struct journal *j = follow(f);
    tell(f, j);
    struct journal_reader *r = reader(j, NULL);
    assert_int_equal(read_on(r, &gaps), 60);
    for (int round = 0; round < 4; round++) {
        uint64_t durable = journal_durable(f->j);
        journal_abandon(f->j);
        f->j = NULL;
        assert_int_equal(fixture_open(f), 0);
        assert_true(journal_durable(f->j) >= durable);
        for (n = journal_durable(f->j); n < durable + 50; n += 5)
            fixture_append(f, n, 5, 120);
        tell(f, j);
        read_on(r, &gaps);
        assert_int_equal(journal_reader_offset(r), journal_durable(f->j));
    }
    assert_int_equal(gaps, 0);
    journal_reader_close(r);
    journal_close(j);
    fixture_free(f);
}

/* A failed sync: what was written is superseded by another segment. */
static void superseded(void **state)
{
    struct fixture *f = fixture_new(65536);
    uint64_t gaps = 0, n = 0;
    assert_int_equal(fixture_open(f), 0);
    struct journal *j = follow(f);
    struct journal_reader *r = reader(j, NULL);
    for (; n < 300; n += 5) {
        if (n % 50 == 20)
            disk_sim_faults(f->sim)->syncs_failing = 1;
        assert_int_equal(fixture_append(f, n, 5, 120), REASON_ok);
        tell(f, j);
        read_on(r, &gaps);
        assert_int_equal(journal_reader_offset(r), n + 5);
    }
    assert_true(journal_stats(f->j).sync_failures > 3);
    assert_int_equal(gaps, 0);
    journal_reader_close(r);
    struct journal_reader *again = reader(j, NULL);
    assert_int_equal(read_on(again, &gaps), 300);
    journal_reader_close(again);
    journal_close(j);
    fixture_free(f);
}

/* ---- cursors --------------------------------------------------------------------------------- */

struct seen {
    uint64_t kafka, consume;
};

static void see(void *arg, const char *name, uint64_t offset)
{
    struct seen *s = arg;
    if (strcmp(name, "sink:kafka") == 0)
        s->kafka = offset;
    else
        s->consume = offset + 1;
}

static struct seen look(struct journal *j)
{
    struct seen s = {0};
    journal_cursors(j, see, &s);
    return s;
}

/* A writer that finds less than there was: it is noticed whatever was written since, and for good.
 */
static void the_log_went_back(void **state)
{
    const struct {
        uint64_t began, durable;
        bool back;
    } all[] = {{60, 60, true}, {60, 500, true}, {90, 90, false}, {90, 500, false}, {95, 95, false}};
    for (unsigned i = 0; i < sizeof all / sizeof *all; i++) {
        struct fixture *f = fixture_new(32768);
        assert_int_equal(fixture_open(f), 0);
        for (uint64_t n = 0; n < 90; n += 9)
            fixture_append(f, n, 9, 120);
        struct journal *j = follow(f);
        tell(f, j);
        struct journal_mark m = journal_mark(f->j);
        m.epoch++;
        m.began = all[i].began;
        m.durable = all[i].durable;
        assert_int_equal(journal_follow_to(j, &m), all[i].back ? -ESTALE : 0);
        assert_int_equal(journal_went_back(j), all[i].back);
        assert_int_equal(journal_durable(j), all[i].back ? 90 : all[i].durable);
        m.epoch++;
        m.began = m.durable = 1000;
        assert_int_equal(journal_follow_to(j, &m), all[i].back ? -ESTALE : 0);
        journal_close(j);
        fixture_free(f);
    }
}

/* So it is where only its own cursor says how far the log was. */
static void the_log_went_back_before(void **state)
{
    struct fixture *f = fixture_new(32768);
    uint64_t gaps = 0;
    assert_int_equal(fixture_open(f), 0);
    for (uint64_t n = 0; n < 90; n += 9)
        fixture_append(f, n, 9, 120);
    struct journal *j = follow(f);
    tell(f, j);
    struct journal_reader *r = reader(j, "sink:kafka");
    assert_int_equal(read_on(r, &gaps), 90);
    assert_int_equal(journal_reader_commit(r, 90), 0);
    journal_reader_close(r);
    journal_close(j);
    j = follow(f);
    struct journal_mark m = journal_mark(f->j);
    m.durable = 81;
    m.began = 60;
    assert_int_equal(journal_follow_to(j, &m), -ESTALE);
    assert_true(journal_went_back(j));
    /* The next one reads what is there now. */
    assert_int_equal(look(j).kafka, 60);
    assert_int_equal(journal_set_cursor(j, "sink:kafka", 70), -ESTALE);
    journal_close(j);
    j = follow(f);
    assert_false(journal_went_back(j));
    assert_int_equal(look(j).kafka, 60);
    assert_int_equal(journal_set_cursor(j, "sink:kafka", 70), 0);
    journal_close(j);
    fixture_free(f);
}

/* Its cursors cannot be put back at first: that is tried again, or the next one would pass over
 * what is there. */
static void put_back_at_last(void **state)
{
    struct fixture *f = fixture_new(32768);
    struct disk_sim_faults *faults = disk_sim_faults(f->sim);
    assert_int_equal(fixture_open(f), 0);
    for (uint64_t n = 0; n < 90; n += 9)
        fixture_append(f, n, 9, 120);
    struct journal *j = follow(f);
    tell(f, j);
    assert_int_equal(journal_set_cursor(j, "sink:kafka", 90), 0);
    assert_int_equal(journal_set_cursor(j, "sink:webhook", 50), 0);
    struct journal_mark m = journal_mark(f->j);
    m.epoch++;
    m.began = m.durable = 60;
    struct disk_sim_faults before = *faults;
    faults->syncs_failing = 100;
    assert_int_equal(journal_follow_to(j, &m), -ESTALE);
    assert_true(journal_back_due(j));
    assert_int_not_equal(journal_put_back(j), 0);
    *faults = before;
    assert_true(journal_back_due(j));
    assert_int_equal(journal_put_back(j), 0);
    assert_false(journal_back_due(j));
    journal_close(j);
    uint8_t log_id[16];
    memcpy(log_id, f->j->log_id, sizeof log_id);
    fixture_die(f, true);
    struct cursor list[CURSORS_MAX];
    assert_int_equal(cursors_read(disk_sim_disk(f->sim), CURSORS, log_id, list, NULL), 0);
    unsigned seen = 0;
    for (unsigned i = 0; i < CURSORS_MAX; i++) {
        if (!list[i].used)
            continue;
        seen++;
        assert_int_equal(list[i].offset, strcmp(list[i].name, "sink:kafka") ? 50 : 60);
    }
    assert_int_equal(seen, 2);
    fixture_free(f);
}

/* They begin where the log's own are, go on in their own file, and go back from there. */
static void cursors_there_and_back(void **state)
{
    struct fixture *f = fixture_new(65536);
    struct disk *d = disk_sim_disk(f->sim);
    struct disk_file *file;
    uint64_t gaps = 0;
    assert_int_equal(fixture_open(f), 0);
    for (uint64_t n = 0; n < 100; n += 5)
        fixture_append(f, n, 5, 120);
    assert_int_equal(journal_set_cursor(f->j, "sink:kafka", 20), 0);
    assert_int_equal(journal_set_cursor(f->j, "consume", 10), 0);
    assert_int_equal(journal_set_cursor(f->j, "sink:kafka", 101), -EINVAL);
    struct journal *j = follow(f);
    tell(f, j);
    assert_int_equal(look(j).kafka, 20);
    assert_int_equal(look(j).consume, 0); /* none of its business */
    struct journal_reader *r = reader(j, "sink:kafka");
    assert_int_equal(read_on(r, &gaps), 80);
    assert_int_equal(journal_reader_commit(r, 60), 0);
    journal_reader_close(r);
    journal_close(j);
    assert_int_equal(look(f->j).kafka, 20); /* the log's own cursors are its writer's */

    assert_int_equal(journal_set_cursor(f->j, "sink:kafka", 70), 0); /* given up there */
    j = follow(f);
    assert_int_equal(look(j).kafka, 60);
    journal_close(j);

    assert_int_equal(journal_set_cursor(f->j, "sink:webhooks", 5), 0);
    j = follow(f);
    r = reader(j, "sink:kafka");
    tell(f, j);
    read_on(r, &gaps);
    assert_int_equal(journal_reader_commit(r, 90), 0);
    journal_reader_close(r);
    journal_close(j);
    assert_int_equal(journal_adopt_cursors(f->j, CURSORS, &f->err), 0);
    assert_int_equal(look(f->j).kafka, 90);
    assert_int_equal(d->open(d, CURSORS, O_RDONLY, &file), -ENOENT);
    assert_int_equal(journal_adopt_cursors(f->j, CURSORS, &f->err), 0);
    /* One that is ahead is not left out in silence. */
    struct cursors c;
    bool damaged = false;
    uint64_t at;
    assert_int_equal(cursors_open(&c, d, CURSORS, f->j->log_id, &damaged, &f->err), 0);
    assert_int_equal(cursors_slot(&c, "sink:kafka", 101, &at), 0);
    cursors_close(&c);
    assert_int_equal(journal_adopt_cursors(f->j, CURSORS, &f->err), -EINVAL);
    assert_non_null(strstr(f->err.text, "the log ends at 100"));
    assert_int_equal(look(f->j).kafka, 90);
    assert_int_equal(d->open(d, CURSORS, O_RDONLY, &file), 0);
    d->close(d, file);
    fixture_free(f);
}

/* Once adopted, the file with what were its places then does not come back with a power cut. */
static void adopted_once(void **state)
{
    for (unsigned round = 1; round <= 20; round++) {
        struct fixture *f = fixture_new(65536);
        struct disk *d = disk_sim_disk(f->sim);
        struct disk_file *file;
        uint64_t gaps = 0;
        disk_sim_faults(f->sim)->early = 1; /* so each round has another chance */
        assert_int_equal(fixture_open(f), 0);
        for (uint64_t n = 0; n < round * 5; n += 5)
            fixture_append(f, n, 5, 120);
        struct journal *j = follow(f);
        tell(f, j);
        struct journal_reader *r = reader(j, "sink:kafka");
        assert_int_equal(read_on(r, &gaps), round * 5);
        assert_int_equal(journal_reader_commit(r, 5), 0);
        journal_reader_close(r);
        journal_close(j);
        assert_int_equal(journal_adopt_cursors(f->j, CURSORS, &f->err), 0);
        assert_int_equal(journal_cursor(f->j, "sink:kafka", 99), 5);
        assert_int_equal(journal_cursor(f->j, "sink:other", 99), 99);
        fixture_die(f, true);
        assert_int_equal(d->open(d, CURSORS, O_RDONLY, &file), -ENOENT);
        fixture_free(f);
    }
}

int main(void)
{
    log_set_level(LOG_ERROR + 1);
    const struct CMUnitTest tests[] = {cmocka_unit_test(only_up_to_the_mark),
                                       cmocka_unit_test(what_the_files_prove),
                                       cmocka_unit_test(no_log_yet),
                                       cmocka_unit_test(removed_by_retention),
                                       cmocka_unit_test(the_writer_comes_back),
                                       cmocka_unit_test(superseded),
                                       cmocka_unit_test(the_log_went_back),
                                       cmocka_unit_test(the_log_went_back_before),
                                       cmocka_unit_test(put_back_at_last),
                                       cmocka_unit_test(cursors_there_and_back),
                                       cmocka_unit_test(adopted_once)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
