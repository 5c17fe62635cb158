/* SPDX-License-Identifier: Apache-2.0 */
/* The table of names by itself against a plain model, and in the writer on a simulated disk. */
#include "journal/once.h"

#include "journal/fixture.h"

static struct once *table(uint64_t window_ns, uint64_t memory, uint32_t devices)
{
    struct once_opts o = {window_ns, memory, devices, 7};
    return once_new(&o);
}

static struct record keyed(uint64_t credential, const char *key, uint64_t fingerprint)
{
    return (struct record){.kind = RECORD_DATUM,
                           .credential = credential,
                           .receive_us = 1000,
                           .producer = {.key = slice_str(key), .fingerprint = fingerprint}};
}

static struct record counted(uint64_t credential, uint64_t n)
{
    return (struct record){.kind = RECORD_DATUM,
                           .credential = credential,
                           .producer = {.sequence = n, .fingerprint = n * 3}};
}

static void a_key_is_known_for_its_window_and_its_credential(void **state)
{
    struct once *o = table(100, 1 << 20, 16);
    struct record a = keyed(1, "a", 5), other = keyed(1, "a", 6), b = keyed(1, "b", 5),
                  stranger = keyed(2, "a", 9);
    struct once_found f;
    assert_int_equal(once_decide(o, &a, 10, 0, &f), ONCE_NEW);
    assert_int_equal(once_decide(o, &b, 11, 0, &f), ONCE_NEW);
    assert_int_equal(once_decide(o, &stranger, 12, 0, &f), ONCE_NEW);
    assert_int_equal(once_decide(o, &a, 13, 99, &f), ONCE_DUPLICATE);
    assert_true(f.offset == 10 && f.receive_us == 1000);
    assert_int_equal(once_decide(o, &other, 13, 99, &f), ONCE_CONFLICT);
    assert_int_equal(once_decide(o, &a, 13, 100, &f), ONCE_NEW);
    assert_int_equal(once_decide(o, &a, 14, 101, &f), ONCE_DUPLICATE);
    assert_int_equal(f.offset, 13);
    once_free(o);
}

static void memory_stays_within_its_maximum(void **state)
{
    struct once *o = table(1000000, 64 << 10, 16);
    struct once_found f;
    uint64_t early = metric_sum(METRIC_idempotency_forgotten_early);
    char name[32];
    for (unsigned i = 0; i < 5000; i++) {
        snprintf(name, sizeof name, "key-%u", i);
        struct record r = keyed(1, name, i);
        assert_int_equal(once_decide(o, &r, i, i, &f), ONCE_NEW);
        assert_true(metric_gauge(METRIC_idempotency_keys) < 1000);
    }
    assert_true(metric_sum(METRIC_idempotency_forgotten_early) - early > 4000);
    struct record newest = keyed(1, name, 4999); /* the oldest go first */
    assert_int_equal(once_decide(o, &newest, 5000, 5000, &f), ONCE_DUPLICATE);
    once_free(o);
}

/* No number is taken twice, whatever the order; what is near the newest and new is taken. */
static void sequences_are_taken_once(void **state)
{
    struct rand rand = {.state = 11};
    for (unsigned round = 0; round < 200; round++) {
        struct once *o = table(1, 1 << 20, 16);
        bool seen[400] = {false};
        uint64_t newest = 0, offset = 0;
        for (unsigned i = 0; i < 600; i++) {
            struct once_found f = {0};
            uint64_t low = newest > 60 ? newest - 60 : 0, n = 1 + low + rand_below(&rand, 64);
            if (n >= 400)
                break;
            struct record r = counted(4, n);
            switch (once_decide(o, &r, offset, 0, &f)) {
            case ONCE_NEW:
                assert_false(seen[n]);
                seen[n] = true;
                newest = n > newest ? n : newest;
                offset++;
                break;
            case ONCE_DUPLICATE:
                assert_true(seen[n] && f.offset < offset);
                break;
            case ONCE_TOO_OLD: /* only what is far behind, or might have been seen */
                assert_true(n + SEQUENCE_SLOTS <= newest);
                break;
            default:
                fail();
            }
        }
        once_free(o);
    }
}

static void a_restarted_counter_is_no_duplicate(void **state)
{
    struct once *o = table(1, 1 << 20, 16);
    struct once_found f;
    struct record first = counted(4, 1), again = counted(4, 1);
    again.producer.fingerprint = 77; /* another message under a number that was used */
    assert_int_equal(once_decide(o, &first, 0, 0, &f), ONCE_NEW);
    assert_int_equal(once_decide(o, &again, 1, 0, &f), ONCE_CONFLICT);
    once_free(o);
}

static void the_stalest_device_is_forgotten(void **state)
{
    struct once *o = table(10, 1 << 20, 16);
    struct once_found f;
    uint64_t early = metric_sum(METRIC_idempotency_forgotten_early);
    for (uint64_t i = 1; i <= 17; i++) {
        struct record r = counted(i, 5);
        assert_int_equal(once_decide(o, &r, i, 20 * (int64_t)i, &f), ONCE_NEW);
    }
    struct record kept = counted(2, 5), gone = counted(1, 5);
    assert_int_equal(once_decide(o, &kept, 20, 400, &f), ONCE_DUPLICATE);
    assert_int_equal(once_decide(o, &gone, 20, 400, &f), ONCE_NEW);
    assert_int_equal(metric_sum(METRIC_idempotency_forgotten_early), early);
    once_free(o);
}

static void a_rollback_forgets_what_was_not_stored(void **state)
{
    struct once *o = table(1000, 1 << 20, 16);
    struct once_found f;
    struct record a = keyed(1, "a", 1), b = keyed(1, "b", 1);
    assert_int_equal(once_decide(o, &a, 0, 0, &f), ONCE_NEW);
    for (uint64_t n = 1; n <= 40; n++) {
        struct record r = counted(3, n);
        assert_int_equal(once_decide(o, &r, n, 0, &f), ONCE_NEW);
    }
    assert_int_equal(once_decide(o, &b, 41, 0, &f), ONCE_NEW);
    once_rollback(o, 36);
    assert_int_equal(once_decide(o, &a, 36, 0, &f), ONCE_DUPLICATE);
    assert_int_equal(once_decide(o, &b, 36, 0, &f), ONCE_NEW);
    struct record kept = counted(3, 35), lost = counted(3, 36), before = counted(3, 4);
    assert_int_equal(once_decide(o, &kept, 37, 0, &f), ONCE_DUPLICATE);
    assert_int_equal(once_decide(o, &lost, 37, 0, &f), ONCE_NEW);
    /* Its slot was given to 36, which was not stored: it must not be taken again for that. */
    assert_int_equal(once_decide(o, &before, 38, 0, &f), ONCE_TOO_OLD);
    once_free(o);
}

/* ---- in the writer ---- */

/* One append of several requests: each `count` records, named if `name` is not NULL. */
struct part {
    const char *name;
    unsigned count;
};

static void append_init(struct fixture *f, struct journal_append *a)
{
    *a = (struct journal_append){.done = fixture_done, .owner = f};
    buf_init(&a->body, BATCH_BYTES_MAX);
}

static void append_fini(struct journal_append *a)
{
    buf_fini(&a->body);
    buf_fini(&a->units);
}

static void put_part(struct journal_append *a, struct part p, uint64_t tag)
{
    uint32_t index = a->count;
    size_t at = a->body.len;
    for (unsigned i = 0; i < p.count; i++) {
        struct record r = keyed(1, i ? NULL : p.name, 1);
        r.account = tag;
        r.event_us = r.receive_us;
        assert_true(journal_put(a, &r));
    }
    if (p.name)
        assert_true(journal_put_unit(a, index, at));
}

static void put_parts(struct journal_append *a, const struct part *parts, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        put_part(a, parts[i], i);
}

static void commit(struct fixture *f, struct journal_append *a, enum reason expected)
{
    assert_int_equal(journal_submit(f->j, a), REASON_ok);
    f->last_reason = REASON_COUNT;
    assert_true(journal_step(f->j));
    assert_int_equal(f->last_reason, expected);
}

static struct fixture *with_names(void)
{
    struct fixture *f = fixture_new(65536);
    f->opts.once_window_ms = 60000;
    f->opts.once_bytes = 1 << 20;
    f->opts.once_devices = 64;
    assert_int_equal(fixture_open(f), 0);
    return f;
}

static const struct journal_unit *unit_at(const struct journal_append *a, unsigned n)
{
    const struct journal_unit *u = NULL;
    for (unsigned i = 0; i <= n; i++)
        u = journal_next_unit(a, u);
    return u;
}

static void a_duplicate_is_left_out_and_offsets_stay_right(void **state)
{
    struct fixture *f = with_names();
    struct journal_append a;
    append_init(f, &a);
    put_parts(&a, (struct part[]){{"x", 3}}, 1);
    commit(f, &a, REASON_ok);
    assert_int_equal(unit_at(&a, 0)->verdict, ONCE_NEW);
    append_fini(&a);
    append_init(f, &a); /* plain, old, plain, twice the same new one, plain */
    put_parts(&a, (struct part[]){{NULL, 2}, {"x", 3}, {NULL, 1}, {"y", 2}, {"y", 2}, {NULL, 1}},
              6);
    commit(f, &a, REASON_ok);
    assert_int_equal(a.first_offset, 3);
    assert_int_equal(journal_durable(f->j), 3 + 2 + 1 + 2 + 1);
    assert_int_equal(unit_at(&a, 0)->verdict, ONCE_DUPLICATE);
    assert_int_equal(unit_at(&a, 0)->found.offset, 0);
    assert_int_equal(unit_at(&a, 1)->verdict, ONCE_NEW);
    assert_int_equal(unit_at(&a, 2)->verdict, ONCE_DUPLICATE);
    assert_int_equal(unit_at(&a, 2)->found.offset, 6);
    assert_null(journal_next_unit(&a, unit_at(&a, 2)));
    append_fini(&a);

    static const uint64_t tags[] = {0, 0, 0, 0, 0, 2, 3, 3, 5};
    struct journal_reader *r;
    struct journal_reader_opts o = {0};
    struct journal_batch b;
    uint64_t n = 0;
    assert_int_equal(journal_reader_open(f->j, &o, &r, &f->err), 0);
    while (journal_reader_next(r, &b) == JOURNAL_BATCH) {
        struct record rec;
        for (size_t at = 0; journal_batch_record(&b, &at, &rec) == 1; n++)
            assert_int_equal(rec.account, tags[n]);
    }
    assert_int_equal(n, 9);
    journal_reader_close(r);
    fixture_free(f);
}

static void only_duplicates_need_no_commit(void **state)
{
    struct fixture *f = with_names();
    struct journal_append a;
    for (unsigned i = 0; i < 3; i++) {
        append_init(f, &a);
        put_parts(&a, (struct part[]){{"x", 2}}, 1);
        commit(f, &a, REASON_ok);
        assert_int_equal(unit_at(&a, 0)->verdict, i ? ONCE_DUPLICATE : ONCE_NEW);
        append_fini(&a);
    }
    assert_int_equal(journal_durable(f->j), 2);
    assert_int_equal(journal_stats(f->j).commits, 1);
    assert_int_equal(journal_stats(f->j).pending_bytes, 0);
    fixture_free(f);
}

/* kill -9 between the commit and the answer: the retry is answered with the original. */
static void names_survive_the_process(void **state)
{
    struct fixture *f = with_names();
    struct journal_append a;
    append_init(f, &a);
    put_parts(&a, (struct part[]){{NULL, 1}, {"x", 2}, {NULL, 1}}, 3);
    commit(f, &a, REASON_ok);
    for (unsigned boot = 0; boot < 4; boot++) {
        fixture_die(f, boot % 2);
        assert_int_equal(fixture_open(f), 0);
        append_fini(&a);
        append_init(f, &a);
        put_parts(&a, (struct part[]){{"x", 2}, {NULL, 1}}, 2);
        commit(f, &a, REASON_ok);
        assert_int_equal(unit_at(&a, 0)->verdict, ONCE_DUPLICATE);
        assert_int_equal(unit_at(&a, 0)->found.offset, 1);
        assert_int_equal(journal_durable(f->j), 5 + boot);
    }
    append_fini(&a);
    fixture_free(f);
}

static void a_failed_commit_remembers_nothing(void **state)
{
    struct fixture *f = with_names();
    struct journal_append a;
    append_init(f, &a);
    put_parts(&a, (struct part[]){{"warm", 1}}, 1);
    commit(f, &a, REASON_ok);
    append_fini(&a);
    disk_sim_faults(f->sim)->capacity = 1; /* no room for another segment */
    append_init(f, &a);
    static char big[70000];
    struct record r = keyed(1, "x", 1);
    r.payload = slice_of(big, sizeof big);
    assert_true(journal_put(&a, &r) && journal_put_unit(&a, 0, 0));
    commit(f, &a, REASON_disk_full);
    disk_sim_faults(f->sim)->capacity = 0;
    for (unsigned i = 0; i < 3; i++)
        keeper_look(f->j);
    refuse_set(f->j, REFUSE_SEGMENT, false);
    commit(f, &a, REASON_ok);
    assert_int_equal(unit_at(&a, 0)->verdict, ONCE_NEW);
    commit(f, &a, REASON_ok);
    assert_int_equal(unit_at(&a, 0)->verdict, ONCE_DUPLICATE);
    assert_int_equal(unit_at(&a, 0)->found.offset, 1);
    append_fini(&a);
    fixture_free(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_key_is_known_for_its_window_and_its_credential),
        cmocka_unit_test(memory_stays_within_its_maximum),
        cmocka_unit_test(sequences_are_taken_once),
        cmocka_unit_test(a_restarted_counter_is_no_duplicate),
        cmocka_unit_test(the_stalest_device_is_forgotten),
        cmocka_unit_test(a_rollback_forgets_what_was_not_stored),
        cmocka_unit_test(a_duplicate_is_left_out_and_offsets_stay_right),
        cmocka_unit_test(only_duplicates_need_no_commit),
        cmocka_unit_test(names_survive_the_process),
        cmocka_unit_test(a_failed_commit_remembers_nothing),
    };
    log_set_level(LOG_ERROR + 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
