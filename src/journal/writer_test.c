/* SPDX-License-Identifier: Apache-2.0 */
#include <pthread.h>
#include <unistd.h>

#include "journal/fixture.h"

/* ---- stepped ------------------------------------------------------------------------------- */

static void one_commit_takes_all_that_queued(void **state)
{
    struct fixture *f = fixture_new(1 << 20);
    struct journal_append a[50];
    assert_int_equal(fixture_open(f), 0);
    fixture_append(f, 0, 1, 10);
    uint64_t commits = journal_stats(f->j).commits;
    for (unsigned i = 0; i < 50; i++) {
        a[i] = (struct journal_append){.done = fixture_done, .owner = f};
        buf_init(&a[i].body, BATCH_BYTES_MAX);
        fixture_put(&a[i], 1 + i * 2, 100);
        fixture_put(&a[i], 2 + i * 2, 100);
        assert_int_equal(journal_submit(f->j, &a[i]), REASON_ok);
    }
    assert_int_equal(f->answers, 1);
    assert_true(journal_stats(f->j).pending_bytes > 10000);
    assert_true(journal_step(f->j));
    assert_false(journal_step(f->j));
    assert_int_equal(f->answers, 51);
    assert_int_equal(journal_stats(f->j).commits, commits + 1);
    assert_int_equal(journal_stats(f->j).pending_bytes, 0);
    for (unsigned i = 0; i < 50; i++) {
        assert_int_equal(a[i].first_offset, 1 + i * 2);
        buf_fini(&a[i].body);
    }
    assert_int_equal(fixture_read(f, 0, NULL), 101);
    fixture_free(f);
}

/* Appends as large as they may be, larger than a segment, and one that is full. */
static void large_appends(void **state)
{
    struct fixture *f = fixture_new(65536);
    assert_int_equal(fixture_open(f), 0);
    assert_int_equal(fixture_append(f, 0, 3, 1000000), REASON_ok);
    assert_int_equal(fixture_append(f, 3, 1, 10), REASON_ok);
    assert_int_equal(fixture_append(f, 4, 4, 1000000), REASON_ok);
    assert_int_equal(fixture_read(f, 0, NULL), 8);
    struct journal_append a = {.done = fixture_done, .owner = f};
    struct record r = {.kind = RECORD_AUDIT, .payload = SLICE("x")};
    static char large[1 << 20];
    buf_init(&a.body, 2 * BATCH_BYTES_MAX);
    struct record big = {.kind = RECORD_AUDIT, .payload = slice_of(large, sizeof large)};
    while (journal_put(&a, &big))
        continue;
    assert_int_equal(a.count, 3);
    while (journal_put(&a, &r))
        continue;
    assert_int_equal(a.count, BATCH_RECORDS_MAX);
    buf_fini(&a.body);
    fixture_die(f, true);
    assert_int_equal(fixture_open(f), 0);
    assert_int_equal(fixture_read(f, 0, NULL), 8);
    fixture_free(f);
}

static void too_much_pending_is_refused(void **state)
{
    struct fixture *f = fixture_new(1 << 20);
    f->opts.pending_bytes = 1000;
    assert_int_equal(fixture_open(f), 0);
    struct journal_append a[2];
    for (unsigned i = 0; i < 2; i++) {
        a[i] = (struct journal_append){.done = fixture_done, .owner = f};
        buf_init(&a[i].body, BATCH_BYTES_MAX);
        fixture_put(&a[i], i, 600);
    }
    assert_int_equal(journal_submit(f->j, &a[0]), REASON_ok);
    assert_int_equal(journal_submit(f->j, &a[1]), REASON_busy);
    journal_step(f->j);
    assert_int_equal(journal_submit(f->j, &a[1]), REASON_ok);
    journal_step(f->j);
    assert_int_equal(f->answers, 2);
    buf_fini(&a[0].body);
    buf_fini(&a[1].body);
    fixture_free(f);
}

/* The batch goes to a new segment, the answer is "durable", and the old file is never synced again:
 * what it may show after a power cut does not count. */
static void one_failed_sync_is_survived(void **state)
{
    struct fixture *f = fixture_new(65536);
    assert_int_equal(fixture_open(f), 0);
    assert_int_equal(fixture_append(f, 0, 5, 100), REASON_ok);
    struct journal_append a = {.done = fixture_done, .owner = f};
    buf_init(&a.body, BATCH_BYTES_MAX);
    for (int round = 0; round < 3; round++) {
        uint64_t n = journal_durable(f->j);
        keeper_look(f->j); /* the spare is ready, so the next sync is the writer's */
        a.count = 0;
        buf_clear(&a.body);
        fixture_put(&a, n, 100);
        assert_int_equal(journal_submit(f->j, &a), REASON_ok);
        disk_sim_faults(f->sim)->syncs_failing = 1;
        journal_step(f->j);
        assert_int_equal(f->last_reason, REASON_ok);
        assert_int_equal(f->last_offset, n);
        assert_int_equal(fixture_append(f, n + 1, 2, 100), REASON_ok);
    }
    assert_int_equal(journal_stats(f->j).sync_failures, 3);
    assert_int_equal(journal_stats(f->j).segments, 4);
    assert_int_equal(fixture_read(f, 0, NULL), 14);
    fixture_die(f, true);
    assert_int_equal(fixture_open(f), 0);
    uint64_t gaps;
    assert_int_equal(fixture_read(f, 0, &gaps), 14);
    assert_int_equal(gaps, 0);
    buf_fini(&a.body);
    fixture_free(f);
}

static void two_failed_syncs_stop_the_journal(void **state)
{
    struct fixture *f = fixture_new(65536);
    assert_int_equal(fixture_open(f), 0);
    assert_int_equal(fixture_append(f, 0, 5, 100), REASON_ok);
    disk_sim_faults(f->sim)->sync_fails = 65536;
    assert_int_equal(fixture_append(f, 5, 1, 100), REASON_journal_failed);
    disk_sim_faults(f->sim)->sync_fails = 0; /* too late: the disk is not believed any more */
    assert_int_equal(fixture_append(f, 5, 1, 100), REASON_journal_failed);
    assert_int_equal(journal_accepts(f->j), REASON_journal_failed);
    assert_true(journal_stats(f->j).blocked);
    assert_int_equal(fixture_read(f, 0, NULL), 5);
    fixture_die(f, true);
    assert_int_equal(fixture_open(f), 0);
    assert_true(fixture_read(f, 0, NULL) >= 5);
    fixture_free(f);
}

static void full_disk_refuses_and_resumes(void **state)
{
    struct fixture *f = fixture_new(65536);
    f->opts.refuse_percent = 100;
    disk_sim_faults(f->sim)->capacity = 65536 * 3 + 8192;
    assert_int_equal(fixture_open(f), 0);
    uint64_t n = 0;
    enum reason why;
    while ((why = fixture_append(f, n, 1, 1000)) == REASON_ok)
        n++;
    assert_int_equal(why, REASON_disk_full);
    assert_true(n > 150);
    assert_int_equal(journal_accepts(f->j), REASON_disk_full);
    keeper_look(f->j);
    assert_int_equal(journal_accepts(f->j), REASON_disk_full);
    assert_int_equal(fixture_read(f, 0, NULL), n);
    disk_sim_faults(f->sim)->capacity = 0;
    keeper_look(f->j);
    assert_int_equal(journal_accepts(f->j), REASON_ok);
    assert_int_equal(fixture_append(f, n, 1, 1000), REASON_ok);
    assert_int_equal(f->last_offset, n);
    fixture_die(f, true);
    assert_int_equal(fixture_open(f), 0);
    assert_int_equal(fixture_read(f, 0, NULL), n + 1);
    fixture_free(f);
}

/* Only that append is refused: there is a segment for others, and nobody waits for a restart. */
static void no_room_for_a_large_append(void **state)
{
    struct fixture *f = fixture_new(65536);
    f->opts.refuse_percent = 100;
    disk_sim_faults(f->sim)->capacity = 65536 * 4;
    assert_int_equal(fixture_open(f), 0);
    assert_int_equal(fixture_append(f, 0, 1, 1000), REASON_ok);
    keeper_look(f->j);
    assert_int_equal(fixture_append(f, 1, 1, 300000), REASON_disk_full);
    keeper_look(f->j); /* it was woken */
    assert_int_equal(journal_accepts(f->j), REASON_ok);
    for (uint64_t n = 1; n < 100; n++)
        assert_int_equal(fixture_append(f, n, 1, 1000), REASON_ok);
    disk_sim_faults(f->sim)->capacity = 0;
    assert_int_equal(fixture_append(f, 100, 1, 300000), REASON_ok);
    fixture_die(f, true);
    assert_int_equal(fixture_open(f), 0);
    assert_int_equal(fixture_read(f, 0, NULL), 101);
    fixture_free(f);
}

static void percentage_of_the_file_system(void **state)
{
    struct fixture *f = fixture_new(65536);
    f->opts.refuse_percent = 50;
    disk_sim_faults(f->sim)->capacity = 1 << 20;
    assert_int_equal(fixture_open(f), 0);
    uint64_t n = 0;
    while (fixture_append(f, n, 1, 1000) == REASON_ok) {
        n++;
        keeper_look(f->j);
    }
    assert_int_equal(journal_accepts(f->j), REASON_disk_full);
    assert_true(journal_stats(f->j).disk_bytes <= (1 << 19) + 65536);
    disk_sim_faults(f->sim)->capacity = 4 << 20;
    keeper_look(f->j);
    assert_int_equal(fixture_append(f, n, 1, 1000), REASON_ok);
    fixture_free(f);
}

static void clean_close_and_reopen(void **state)
{
    struct fixture *f = fixture_new(65536);
    assert_int_equal(fixture_open(f), 0);
    for (uint64_t n = 0; n < 100; n++)
        fixture_append(f, n, 1, 100);
    struct journal_position before = journal_position(f->j), after;
    journal_close(f->j);
    f->j = NULL;
    disk_sim_cut(f->sim);
    assert_int_equal(fixture_open(f), 0);
    after = journal_position(f->j);
    assert_memory_equal(before.log_id, after.log_id, sizeof before.log_id);
    assert_int_equal(after.durable, 100);
    assert_int_equal(after.appended, 100);
    assert_int_equal(after.oldest, 0);
    assert_int_equal(journal_stats(f->j).recovered_records, 0); /* the checkpoint was right there */
    fixture_free(f);
}

/* Between taking the spare and renaming it the keeper must not mistake its name for the next one.
 */
static void spare_in_hand_is_left_alone(void **state)
{
    struct fixture *f = fixture_new(65536);
    struct disk_file *file;
    const char *from;
    assert_int_equal(fixture_open(f), 0);
    assert_int_equal(keeper_take_spare(f->j, 65536, &file, &from), 0);
    uint64_t calls = disk_sim_calls(f->sim);
    keeper_look(f->j);
    assert_int_equal(disk_sim_calls(f->sim), calls);
    assert_null(f->j->spare.file);
    f->opts.disk->close(f->opts.disk, file);
    keeper_spare_installed(f->j, from, false);
    assert_int_equal(fixture_append(f, 0, 1, 10), REASON_ok);
    fixture_free(f);
}

/* ---- with threads, on real files ------------------------------------------------------------ */

#define SENDERS 3
#define EACH    3000u

struct sender {
    struct journal *j;
    unsigned number;
    struct journal_append appends[16];
    _Atomic unsigned free_bits;
    _Atomic uint64_t answered, in_order;
    uint64_t last_offset;
};

static void on_sent(struct journal_append *a)
{
    struct sender *s = a->owner;
    if (a->reason == REASON_ok) {
        s->in_order += s->answered == 0 || a->first_offset > s->last_offset;
        s->last_offset = a->first_offset;
    }
    buf_clear(&a->body);
    a->count = 0;
    atomic_fetch_or(&s->free_bits, 1u << (a - s->appends));
    s->answered++; /* last: who counts may free it all */
}

static void *send_all(void *arg)
{
    struct sender *s = arg;
    for (uint64_t n = 0; n < EACH;) {
        unsigned bits = atomic_load(&s->free_bits);
        if (!bits) {
            sched_yield();
            continue;
        }
        struct journal_append *a = &s->appends[__builtin_ctz(bits)];
        atomic_fetch_and(&s->free_bits, ~(1u << (a - s->appends)));
        struct record r = {
            .kind = RECORD_DATUM, .account = s->number, .feed = n, .payload = SLICE("21.5")};
        if (!journal_put(a, &r) || journal_submit(s->j, a) != REASON_ok)
            abort();
        n++;
    }
    while (atomic_load(&s->answered) < EACH)
        sched_yield();
    return NULL;
}

struct watcher {
    struct journal *j;
    struct journal_reader *reader;
    uint64_t records, next_of[SENDERS], wrong;
    _Atomic bool stop;
};

static void *watch(void *arg)
{
    struct watcher *w = arg;
    while (w->records < SENDERS * EACH && !atomic_load(&w->stop)) {
        struct journal_batch b;
        int rc = journal_reader_next(w->reader, &b);
        if (rc == JOURNAL_WAIT) {
            journal_reader_wait(w->reader, NS_PER_S);
            continue;
        }
        struct record r;
        size_t at = 0;
        w->wrong += rc != JOURNAL_BATCH || b.first_offset != w->records;
        while (rc == JOURNAL_BATCH && journal_batch_record(&b, &at, &r) == 1) {
            w->wrong += r.feed != w->next_of[r.account]++; /* each sender's in its order */
            w->records++;
        }
    }
    return NULL;
}

static void remove_dir(struct disk *d, const char *dir)
{
    char command[256];
    (void)d;
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    assert_int_equal(system(command), 0);
}

static void threads_on(struct disk *d)
{
    char dir[] = "/tmp/journal-test-XXXXXX";
    assert_non_null(mkdtemp(dir));
    struct journal_opts o = {.disk = d,
                             .dir = dir,
                             .segment_bytes = 1 << 14,
                             .ring_bytes = 1 << 18,
                             .pending_bytes = 1 << 20,
                             .refuse_percent = 100};
    struct sender *s = calloc(SENDERS, sizeof *s);
    struct watcher w[2] = {0};
    struct journal *j;
    struct error err;
    pthread_t senders[SENDERS], watchers[2];
    assert_int_equal(journal_open(&o, &j, &err), 0);
    for (unsigned i = 0; i < 2; i++) {
        struct journal_reader_opts ro = {.name = i ? "second" : NULL};
        w[i].j = j;
        assert_int_equal(journal_reader_open(j, &ro, &w[i].reader, &err), 0);
        pthread_create(&watchers[i], NULL, watch, &w[i]);
    }
    for (unsigned i = 0; i < SENDERS; i++) {
        s[i].j = j;
        s[i].number = i;
        s[i].free_bits = 0xffff;
        for (unsigned k = 0; k < 16; k++) {
            s[i].appends[k] = (struct journal_append){.done = on_sent, .owner = &s[i]};
            buf_init(&s[i].appends[k].body, BATCH_BYTES_MAX);
        }
        pthread_create(&senders[i], NULL, send_all, &s[i]);
    }
    for (unsigned i = 0; i < SENDERS; i++) {
        pthread_join(senders[i], NULL);
        assert_int_equal(s[i].answered, EACH);
        assert_int_equal(s[i].in_order, EACH);
        for (unsigned k = 0; k < 16; k++)
            buf_fini(&s[i].appends[k].body);
    }
    for (unsigned i = 0; i < 2; i++) {
        pthread_join(watchers[i], NULL);
        assert_int_equal(w[i].records, SENDERS * EACH);
        assert_int_equal(w[i].wrong, 0);
        if (i)
            assert_int_equal(journal_reader_commit(w[i].reader, 100), 0);
        journal_reader_close(w[i].reader);
    }
    assert_int_equal(journal_durable(j), SENDERS * EACH);
    assert_true(journal_stats(j).commits > 0);
    journal_close(j);
    struct buf out;
    buf_init(&out, 1 << 16);
    if (journal_verify(d, dir, &out, &err) != 0)
        fail_msg("%s: %.*s", err.text, SLICE_ARG(buf_slice(&out)));
    buf_fini(&out);
    assert_int_equal(journal_open(&o, &j, &err), 0);
    assert_int_equal(journal_durable(j), SENDERS * EACH);
    journal_close(j);
    remove_dir(d, dir);
    free(s);
}

static void threads_on_real_files(void **state)
{
    threads_on(disk_posix());
}

static void threads_on_the_lossy_disk(void **state)
{
    threads_on(disk_lossy(5));
}

/* Close answers everything that was taken; what comes later is refused. */
static void close_answers_everything(void **state)
{
    char dir[] = "/tmp/journal-test-XXXXXX";
    assert_non_null(mkdtemp(dir));
    struct fixture f = {0};
    struct journal_opts o = {.disk = disk_posix(),
                             .dir = dir,
                             .segment_bytes = 1 << 17,
                             .ring_bytes = 1 << 18,
                             .pending_bytes = 1 << 20};
    struct journal_append a[20];
    struct journal *j;
    assert_int_equal(journal_open(&o, &j, &f.err), 0);
    for (unsigned i = 0; i < 20; i++) {
        a[i] = (struct journal_append){.done = fixture_done, .owner = &f};
        buf_init(&a[i].body, 4096);
        fixture_put(&a[i], i, 100);
        assert_int_equal(journal_submit(j, &a[i]), REASON_ok);
    }
    journal_close(j);
    assert_int_equal(f.answers, 20);
    for (unsigned i = 0; i < 20; i++) {
        assert_int_equal(a[i].reason, REASON_ok);
        buf_fini(&a[i].body);
    }
    remove_dir(o.disk, dir);
}

/* The writer's own idle batch. */
static void idle_writer_proves_the_last_batch(void **state)
{
    char dir[] = "/tmp/journal-test-XXXXXX";
    assert_non_null(mkdtemp(dir));
    struct fixture f = {0};
    struct journal_opts o = {.disk = disk_posix(),
                             .dir = dir,
                             .segment_bytes = 1 << 17,
                             .ring_bytes = 1 << 18,
                             .pending_bytes = 1 << 20};
    struct journal_append a = {.done = fixture_done, .owner = &f};
    struct journal *j;
    assert_int_equal(journal_open(&o, &j, &f.err), 0);
    buf_init(&a.body, 4096);
    fixture_put(&a, 0, 100);
    assert_int_equal(journal_submit(j, &a), REASON_ok);
    for (int i = 0; i < 500 && journal_stats(j).commits < 2; i++)
        clock_sleep_ns(10 * NS_PER_MS);
    assert_int_equal(journal_stats(j).commits, 2);
    assert_int_equal(journal_stats(j).records, 1);
    clock_sleep_ns(150 * NS_PER_MS);
    assert_int_equal(journal_stats(j).commits, 2); /* one is enough */
    journal_close(j);
    buf_fini(&a.body);
    remove_dir(o.disk, dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_commit_takes_all_that_queued),
        cmocka_unit_test(large_appends),
        cmocka_unit_test(too_much_pending_is_refused),
        cmocka_unit_test(one_failed_sync_is_survived),
        cmocka_unit_test(two_failed_syncs_stop_the_journal),
        cmocka_unit_test(full_disk_refuses_and_resumes),
        cmocka_unit_test(no_room_for_a_large_append),
        cmocka_unit_test(percentage_of_the_file_system),
        cmocka_unit_test(clean_close_and_reopen),
        cmocka_unit_test(spare_in_hand_is_left_alone),
        cmocka_unit_test(threads_on_real_files),
        cmocka_unit_test(threads_on_the_lossy_disk),
        cmocka_unit_test(close_answers_everything),
        cmocka_unit_test(idle_writer_proves_the_last_batch),
    };
    log_set_level(getenv("JOURNAL_LOG") ? LOG_INFO : LOG_ERROR + 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
