/* SPDX-License-Identifier: Apache-2.0 */
#include "journal/fixture.h"

static struct journal_reader *open_reader(struct fixture *f, const char *name)
{
    struct journal_reader *r;
    struct journal_reader_opts o = {.name = name};
    assert_int_equal(journal_reader_open(f->j, &o, &r, &f->err), 0);
    return r;
}

static void only_what_is_durable(void **state)
{
    struct fixture *f = fixture_new(65536);
    struct journal_append a = {.done = fixture_done, .owner = f};
    struct journal_batch b;
    assert_int_equal(fixture_open(f), 0);
    struct journal_reader *r = open_reader(f, NULL);
    assert_int_equal(journal_reader_next(r, &b), JOURNAL_WAIT);
    buf_init(&a.body, BATCH_BYTES_MAX);
    fixture_put(&a, 0, 10);
    assert_int_equal(journal_submit(f->j, &a), REASON_ok);
    assert_int_equal(journal_reader_next(r, &b), JOURNAL_WAIT);
    journal_step(f->j);
    assert_int_equal(journal_reader_next(r, &b), JOURNAL_BATCH);
    assert_int_equal(b.first_offset, 0);
    assert_int_equal(b.count, 1);
    journal_idle(f->j); /* an empty batch is nothing to read */
    assert_int_equal(journal_reader_next(r, &b), JOURNAL_WAIT);
    journal_reader_close(r);
    buf_fini(&a.body);
    fixture_free(f);
}

/* From the ring and from the files, each start offset, also inside a batch: the same records. */
static void any_start_from_ring_and_files(void **state)
{
    struct fixture *f = fixture_new(32768);
    assert_int_equal(fixture_open(f), 0);
    for (uint64_t n = 0; n < 900; n += 9)
        assert_int_equal(fixture_append(f, n, 9, 120), REASON_ok);
    assert_true(journal_stats(f->j).disk_bytes > 2 * f->opts.ring_bytes);
    for (uint64_t from = 0; from <= 900; from++)
        assert_int_equal(fixture_read(f, from, NULL), 900 - from);
    assert_int_equal(fixture_read(f, 5000, NULL), 0);
    fixture_die(f, false);
    assert_int_equal(fixture_open(f), 0); /* now nothing is in the ring */
    for (uint64_t from = 0; from <= 900; from += 7)
        assert_int_equal(fixture_read(f, from, NULL), 900 - from);
    fixture_free(f);
}

/* A reader that is lapped by the ring goes over to the files and comes back; its slab stays whole.
 */
static void lapped_and_back(void **state)
{
    struct fixture *f = fixture_new(32768);
    struct journal_batch b;
    assert_int_equal(fixture_open(f), 0);
    struct journal_reader *r = open_reader(f, NULL);
    uint64_t n = 0;
    for (int round = 0; round < 5; round++) {
        uint64_t target = n + 1000;
        fixture_append(f, n, 1, 100);
        assert_int_equal(journal_reader_next(r, &b), JOURNAL_BATCH); /* holds a slab now */
        struct journal_batch held = b;
        for (n++; n < target; n++)
            fixture_append(f, n, 1, 300);
        struct record rec;
        size_t at = 0;
        assert_int_equal(journal_batch_record(&held, &at, &rec), 1); /* still what it was */
        assert_int_equal(rec.account, held.first_offset + 1);
        uint64_t next = held.first_offset + 1;
        while (journal_reader_next(r, &b) == JOURNAL_BATCH) {
            assert_int_equal(b.first_offset, next);
            next += b.count;
        }
        assert_int_equal(next, n);
    }
    journal_reader_close(r);
    fixture_free(f);
}

static void cursors_survive(void **state)
{
    struct fixture *f = fixture_new(32768);
    struct journal_batch b;
    assert_int_equal(fixture_open(f), 0);
    for (uint64_t n = 0; n < 50; n++)
        fixture_append(f, n, 1, 100);
    struct journal_reader *r = open_reader(f, "history"), *s = open_reader(f, "latest");
    for (int i = 0; i < 20; i++)
        assert_int_equal(journal_reader_next(r, &b), JOURNAL_BATCH);
    assert_int_equal(journal_reader_commit(r, 15), 0);
    assert_int_equal(journal_reader_commit(r, 12), 0); /* never back */
    disk_sim_faults(f->sim)->syncs_failing = 1;
    assert_true(journal_reader_commit(r, 17) < 0);
    assert_int_equal(journal_reader_commit(r, 18), 0);
    journal_reader_close(r);
    journal_reader_close(s);
    fixture_die(f, true);
    assert_int_equal(fixture_open(f), 0);
    r = open_reader(f, "history");
    s = open_reader(f, "latest");
    assert_int_equal(journal_reader_offset(r), 18);
    assert_int_equal(journal_reader_offset(s), 0);
    journal_reader_close(r);
    journal_reader_close(s);
    fixture_free(f);
}

/* A torn sector leaves the cursor that was there before. A cursor beyond the log is refused. */
static void torn_and_foreign_cursors(void **state)
{
    struct fixture *f = fixture_new(32768);
    struct journal_batch b;
    assert_int_equal(fixture_open(f), 0);
    for (uint64_t n = 0; n < 50; n++)
        fixture_append(f, n, 1, 100);
    struct journal_reader *r = open_reader(f, "history");
    while (journal_reader_next(r, &b) == JOURNAL_BATCH)
        assert_int_equal(journal_reader_commit(r, journal_reader_offset(r)), 0);
    journal_reader_close(r);
    fixture_die(f, false);
    char junk = 0x33;
    uint64_t newest = CURSOR_HEAD_BYTES; /* 2 was the first number, 52 is the last: even */
    disk_sim_poke(f->sim, "log/cursors", newest + 100, &junk, 1);
    assert_int_equal(fixture_open(f), 0);
    r = open_reader(f, "history");
    assert_int_equal(journal_reader_offset(r), 49);
    journal_reader_close(r);
    struct cursors c;
    bool damaged = false;
    uint64_t offset;
    assert_int_equal(cursors_open(&c, f->opts.disk, "log/cursors", f->j->log_id, &damaged, &f->err),
                     0);
    assert_int_equal(cursors_slot(&c, "future", 99, &offset), 1);
    assert_int_equal(cursors_slot(&c, "", 99, &offset), -EINVAL);
    cursors_close(&c);
    uint8_t other[16] = {1};
    assert_int_equal(cursors_open(&c, f->opts.disk, "log/cursors", other, &damaged, &f->err),
                     -EINVAL);
    fixture_die(f, true);
    assert_int_equal(fixture_open(f), -EBADMSG);
    assert_non_null(strstr(f->err.text, "record 50 was expected"));
    fixture_free(f);
}

static void retention_waits_for_named_readers(void **state)
{
    struct fixture *f = fixture_new(16384);
    struct journal_batch b;
    f->opts.retain_bytes = 16384 * 3;
    assert_int_equal(fixture_open(f), 0);
    struct journal_reader *r = open_reader(f, "slow"), *nameless = open_reader(f, NULL);
    uint64_t n = 0;
    for (; n < 300; n++)
        fixture_append(f, n, 1, 300);
    keeper_look(f->j);
    assert_int_equal(journal_position(f->j).oldest, 0);
    while (journal_reader_next(r, &b) == JOURNAL_BATCH)
        continue;
    assert_int_equal(journal_reader_commit(r, 200), 0);
    keeper_look(f->j);
    uint64_t oldest = journal_position(f->j).oldest;
    assert_true(oldest > 0 && oldest <= 200);
    assert_int_equal(journal_reader_commit(r, 300), 0);
    keeper_look(f->j);
    assert_true(journal_stats(f->j).disk_bytes <= f->opts.retain_bytes);
    oldest = journal_position(f->j).oldest;
    assert_int_equal(journal_reader_next(nameless, &b), JOURNAL_GAP);
    assert_int_equal(b.first_offset, 0);
    assert_int_equal(b.count, oldest);
    assert_int_equal(journal_reader_next(nameless, &b), JOURNAL_BATCH);
    assert_int_equal(b.first_offset, oldest);
    journal_reader_close(r);
    journal_reader_close(nameless);
    fixture_die(f, true);
    assert_int_equal(fixture_open(f), 0);
    assert_int_equal(journal_position(f->j).oldest, oldest);
    assert_int_equal(fixture_read(f, oldest, NULL), 300 - oldest);
    fixture_free(f);
}

static void retention_by_age(void **state)
{
    struct clock_fake clock = {.mono_ns = 1, .wall_us = 1700000000000000};
    struct fixture *f = fixture_new(16384);
    clock_set_fake(&clock);
    f->opts.retain_ms = 60000;
    assert_int_equal(fixture_open(f), 0);
    for (uint64_t n = 0; n < 300; n++) {
        fixture_append(f, n, 1, 300);
        clock_sleep_ns(NS_PER_S);
    }
    keeper_look(f->j);
    uint64_t oldest = journal_position(f->j).oldest;
    assert_true(oldest > 150 && oldest <= 240); /* nothing younger than 60 s went */
    fixture_free(f);
    clock_set_fake(NULL);
}

static void cap_blocks_or_drops(void **state)
{
    for (int drop = 0; drop < 2; drop++) {
        struct fixture *f = fixture_new(16384);
        struct journal_batch b;
        f->opts.retain_bytes = 16384 * 2;
        f->opts.cap_bytes = 16384 * 4;
        f->opts.when_full = drop ? JOURNAL_DROP_OLDEST : JOURNAL_BLOCK;
        assert_int_equal(fixture_open(f), 0);
        struct journal_reader *r = open_reader(f, "stuck");
        uint64_t n = 0;
        enum reason why = REASON_ok;
        while (n < 500 && (why = fixture_append(f, n, 1, 300)) == REASON_ok)
            n++;
        assert_true(journal_stats(f->j).disk_bytes <= f->opts.cap_bytes);
        if (drop) {
            assert_int_equal(n, 500);
            assert_int_equal(journal_reader_next(r, &b), JOURNAL_GAP);
        } else {
            assert_int_equal(why, REASON_disk_full);
            assert_int_equal(fixture_read(f, 0, NULL), n);
            keeper_look(f->j);
            assert_int_equal(journal_accepts(f->j), REASON_disk_full);
            while (journal_reader_next(r, &b) == JOURNAL_BATCH)
                continue;
            assert_int_equal(journal_reader_commit(r, n), 0);
            keeper_look(f->j);
            assert_int_equal(journal_accepts(f->j), REASON_ok);
            assert_int_equal(fixture_append(f, n, 1, 300), REASON_ok);
        }
        journal_reader_close(r);
        fixture_free(f);
    }
}

static int count_record(void *arg, uint64_t offset, const struct record *r)
{
    uint64_t *count = arg;
    assert_int_equal(r->account, offset + 1);
    ++*count;
    return *count == 1000;
}

static void tools_see_the_log(void **state)
{
    struct fixture *f = fixture_new(16384);
    struct disk *d = disk_sim_disk(f->sim);
    struct buf out;
    buf_init(&out, 1 << 20);
    assert_int_equal(fixture_open(f), 0);
    for (uint64_t n = 0; n < 200; n++)
        fixture_append(f, n, 1, 300);
    uint64_t count = 0; /* running: all but the last commit is proven */
    assert_int_equal(journal_scan(d, "log", 0, count_record, &count, &f->err), 0);
    assert_int_equal(count, 199);
    count = 0;
    assert_int_equal(journal_scan(d, "log", 150, count_record, &count, &f->err), 0);
    assert_int_equal(count, 49);
    assert_int_equal(journal_verify(d, "log", &out, &f->err), 0);
    assert_int_equal(journal_inspect(d, "log", &out, &f->err), 0);
    buf_put_u8(&out, 0);
    assert_non_null(strstr(out.ptr, "records=0..32 "));
    journal_close(f->j);
    f->j = NULL;
    count = 0; /* closed: the checkpoint proves all */
    assert_int_equal(journal_scan(d, "log", 0, count_record, &count, &f->err), 0);
    assert_int_equal(count, 200);

    char junk = 0x11;
    disk_sim_poke(f->sim, "log/00000000000000000000.slg", 4096 + 1000, &junk, 1);
    disk_sim_poke(f->sim, "log/00000000000000000032.slg", 4096 + 2000, &junk, 1);
    buf_clear(&out);
    assert_int_equal(journal_verify(d, "log", &out, &f->err), -EBADMSG);
    buf_put_u8(&out, 0);
    assert_non_null(strstr(out.ptr, "log/00000000000000000000.slg: corrupt at 4"));
    assert_non_null(strstr(out.ptr, "log/00000000000000000032.slg: corrupt at 5"));
    count = 0;
    assert_int_equal(journal_scan(d, "log", 0, count_record, &count, &f->err), -EBADMSG);
    buf_fini(&out);
    fixture_free(f);
}

/* No file of it can be read behind its head. */
static ssize_t worn_pread(struct disk *d, struct disk_file *f, void *to, size_t len, uint64_t at)
{
    return at + len > SEGMENT_HEADER_BYTES ? -EIO
                                           : disk_posix()->pread(disk_posix(), f, to, len, at);
}

static void tools_say_what_a_worn_disk_says(void **state)
{
    char dir[] = "/tmp/sluice-worn-XXXXXX";
    struct fixture *f = fixture_new(16384);
    struct disk worn = *disk_posix();
    struct buf out;
    uint64_t count = 0;
    buf_init(&out, 1 << 20);
    assert_non_null(mkdtemp(dir));
    worn.pread = worn_pread;
    f->opts.disk = disk_posix();
    f->opts.dir = dir;
    assert_int_equal(fixture_open(f), 0);
    assert_int_equal(fixture_append(f, 0, 5, 300), REASON_ok);
    journal_close(f->j);
    f->j = NULL;
    f->err.text[0] = 0;
    assert_int_equal(journal_inspect(&worn, dir, &out, &f->err), -EIO);
    assert_non_null(strstr(f->err.text, strerror(EIO)));
    f->err.text[0] = 0;
    assert_int_equal(journal_scan(&worn, dir, 0, count_record, &count, &f->err), -EIO);
    assert_non_null(strstr(f->err.text, strerror(EIO)));
    f->err.text[0] = 0;
    assert_int_equal(journal_verify(&worn, dir, &out, &f->err), -EIO);
    assert_non_null(strstr(f->err.text, strerror(EIO)));
    assert_int_equal(disk_remove_tree(disk_posix(), dir), 0);
    buf_fini(&out);
    fixture_free(f);
}

static int count_any(void *arg, uint64_t offset, const struct record *r)
{
    ++*(uint64_t *)arg;
    return 0;
}

static void readers_and_tools_pass_a_jump(void **state)
{
    struct fixture *f = fixture_new(16384);
    struct disk *d = disk_sim_disk(f->sim);
    struct journal_batch b = {0};
    struct buf out;
    buf_init(&out, 1 << 20);
    assert_int_equal(fixture_open(f), 0);
    for (uint64_t n = 0; n < 70; n++)
        fixture_append(f, n, 1, 300);
    journal_close(f->j);
    f->opts.jump = 1;
    assert_int_equal(fixture_open(f), 0);
    struct journal_reader *r = open_reader(f, "view");
    while (journal_reader_offset(r) < 70)
        assert_int_equal(journal_reader_next(r, &b), JOURNAL_BATCH);
    assert_int_equal(journal_reader_next(r, &b), JOURNAL_GAP);
    assert_true(b.first_offset == 70 && b.count == JOURNAL_JUMP - 70);
    assert_int_equal(journal_reader_commit(r, journal_reader_offset(r)), 0);
    assert_int_equal(journal_reader_next(r, &b), JOURNAL_BATCH);
    assert_true(b.first_offset == JOURNAL_JUMP && b.count == 1);
    assert_int_equal(journal_reader_next(r, &b), JOURNAL_WAIT);
    journal_reader_close(r);
    journal_close(f->j);
    f->j = NULL;

    uint64_t count = 0;
    assert_int_equal(journal_scan(d, "log", 0, count_any, &count, &f->err), 0);
    assert_int_equal(count, 71);
    count = 0;
    assert_int_equal(journal_scan(d, "log", 71, count_any, &count, &f->err), 0);
    assert_int_equal(count, 1);
    assert_int_equal(journal_verify(d, "log", &out, &f->err), 0);
    assert_int_equal(journal_inspect(d, "log", &out, &f->err), 0);
    buf_put_u8(&out, 0);
    assert_non_null(strstr(out.ptr, "records=64..70 "));
    assert_non_null(strstr(out.ptr, "records=1099511627776..1099511627777 "));
    assert_non_null(strstr(out.ptr, " gap_from=70\n"));
    buf_fini(&out);
    fixture_free(f);
}

/* What the next batch says of itself, and what its records say of it. */
static void expect_data(struct journal_reader *r, bool data)
{
    struct journal_batch b;
    size_t at = 0;
    assert_int_equal(journal_reader_next(r, &b), JOURNAL_BATCH);
    assert_int_equal(b.data, data);
    assert_in_range(b.commit_us, 1, clock_wall_us());
    while (journal_batch_skip_datum(&b, &at))
        ;
    assert_int_equal(at == b.body.len, data);
}

/* A batch says that it holds nothing but data; one that tells of more beside it, in whatever place,
 * does not; in memory and in the file. */
static void batches_of_data_are_known(void **state)
{
    struct fixture *f = fixture_new(65536);
    struct journal_append a = {.done = fixture_done, .owner = f}, other = a;
    struct record r = {.kind = RECORD_AUDIT, .account = 2, .payload = SLICE("x")};
    assert_int_equal(fixture_open(f), 0);
    buf_init(&a.body, BATCH_BYTES_MAX);
    buf_init(&other.body, BATCH_BYTES_MAX);
    /* data; more, then data; the same append again, with data; data of a session; two appends */
    fixture_put(&a, 0, 10);
    fixture_put(&a, 1, 10);
    assert_int_equal(journal_submit(f->j, &a), REASON_ok);
    journal_step(f->j);
    a.count = 0;
    buf_clear(&a.body);
    assert_true(journal_put(&a, &r));
    fixture_put(&a, 3, 10);
    assert_int_equal(journal_submit(f->j, &a), REASON_ok);
    journal_step(f->j);
    a.count = 0;
    buf_clear(&a.body);
    fixture_put(&a, 4, 10);
    assert_int_equal(journal_submit(f->j, &a), REASON_ok);
    journal_step(f->j);
    a.count = 0;
    buf_clear(&a.body);
    r = (struct record){.kind = RECORD_DATUM, .account = 2, .producer.session = 7};
    assert_true(journal_put(&a, &r));
    assert_int_equal(journal_submit(f->j, &a), REASON_ok);
    journal_step(f->j);
    a.count = 0;
    buf_clear(&a.body);
    fixture_put(&a, 6, 10);
    r.kind = RECORD_PUBLISH;
    assert_true(journal_put(&other, &r));
    assert_int_equal(journal_submit(f->j, &a), REASON_ok);
    assert_int_equal(journal_submit(f->j, &other), REASON_ok);
    journal_step(f->j);
    for (unsigned i = 0; i < 2; i++) {
        struct journal_reader *reader = open_reader(f, NULL);
        static const bool data[] = {true, false, true, false, false};
        for (unsigned k = 0; k < sizeof data; k++)
            expect_data(reader, data[k]);
        journal_reader_close(reader);
        fixture_die(f, false);
        assert_int_equal(fixture_open(f), 0); /* now nothing is in the ring */
    }
    buf_fini(&a.body);
    buf_fini(&other.body);
    fixture_free(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_what_is_durable),
        cmocka_unit_test(any_start_from_ring_and_files),
        cmocka_unit_test(lapped_and_back),
        cmocka_unit_test(cursors_survive),
        cmocka_unit_test(torn_and_foreign_cursors),
        cmocka_unit_test(retention_waits_for_named_readers),
        cmocka_unit_test(retention_by_age),
        cmocka_unit_test(cap_blocks_or_drops),
        cmocka_unit_test(tools_see_the_log),
        cmocka_unit_test(tools_say_what_a_worn_disk_says),
        cmocka_unit_test(readers_and_tools_pass_a_jump),
        cmocka_unit_test(batches_of_data_are_known),
    };
    log_set_level(getenv("JOURNAL_LOG") ? LOG_INFO : LOG_ERROR + 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
