/* SPDX-License-Identifier: Apache-2.0 */
#include "view/backlog.h"

#include "journal/fixture.h"

/* Every record of account 1 with an even number is wanted; a payload is the number, and padding. */
enum { WANTED = 1, OTHER = 2 };

static uint64_t looked_at;

static uint16_t on_match(void *arg, struct record *r, uint64_t offset)
{
    assert_int_equal(r->account, WANTED);
    assert_ptr_equal(arg, &looked_at);
    looked_at++;
    return offset % 2 == 0; /* part 0 */
}

/* Appends `records` records, one batch; those whose number leaves a rest of 3 are the other
 * account's. */
static void append(struct fixture *f, unsigned records, size_t len)
{
    struct journal_append a = {.done = fixture_done, .owner = f};
    uint64_t first = journal_position(f->j).appended;
    char payload[4096];
    buf_init(&a.body, BATCH_BYTES_MAX);
    for (unsigned i = 0; i < records; i++) {
        uint64_t n = first + i;
        memset(payload, 'x', sizeof payload);
        memcpy(payload, &n, sizeof n);
        struct record r = {.kind = n % 5 ? RECORD_PUBLISH : RECORD_DATUM,
                           .account = n % 4 == 3 ? OTHER : WANTED,
                           .feed = 7,
                           .receive_us = (int64_t)n,
                           .event_us = (int64_t)n,
                           .topic = SLICE("a/b"),
                           .payload = slice_of(payload, len)};
        assert_true(journal_put(&a, &r));
    }
    assert_int_equal(journal_submit(f->j, &a), REASON_ok);
    assert_true(journal_step(f->j));
    assert_int_equal(f->last_reason, REASON_ok);
    buf_fini(&a.body);
}

static struct backlog_opts opts_of(struct fixture *f, uint64_t from, uint64_t to)
{
    return (struct backlog_opts){.journal = f->j,
                                 .account = WANTED,
                                 .from = from,
                                 .to = to,
                                 .messages_max = 100000,
                                 .bytes_max = 1 << 30,
                                 .scan_bytes = 1ull << 40,
                                 .match = on_match,
                                 .arg = &looked_at};
}

static struct backlog *collect(const struct backlog_opts *opts, uint64_t bytes)
{
    struct backlog *b;
    struct error err;
    int rc;
    assert_int_equal(backlog_open(opts, &b, &err), 0);
    while ((rc = backlog_collect(b, bytes)) == BACKLOG_MORE)
        ;
    assert_int_equal(rc, BACKLOG_DONE);
    return b;
}

/* Takes all; they have to be the even numbers from `first` on, below `end`. */
static void expect(struct backlog *b, uint64_t first, uint64_t end, size_t len, uint64_t bytes)
{
    struct record r;
    uint64_t offset, want = first + first % 2;
    int rc;
    while ((rc = backlog_next(b, bytes, &r, &offset)) != BACKLOG_DONE) {
        if (rc == BACKLOG_MORE)
            continue;
        assert_int_equal(rc, BACKLOG_MESSAGE);
        assert_int_equal(offset, want);
        assert_int_equal(r.payload.len, len);
        assert_memory_equal(r.payload.ptr, &offset, sizeof offset);
        assert_true(slice_eq(r.topic, SLICE("a/b")));
        want += 2;
    }
    assert_true(want >= end);
    assert_int_equal(backlog_left(b), 0);
}

static void what_was_missed_comes_in_order(void **state)
{
    struct fixture *f = fixture_new(1 << 20);
    assert_int_equal(fixture_open(f), 0);
    for (unsigned i = 0; i < 600; i++)
        append(f, 1 + i * 7 % 50, 100);
    uint64_t end = journal_durable(f->j);
    /* Whole, from a file and from memory, in steps of any size. */
    for (unsigned i = 0; i < 6; i++) {
        uint64_t from = i < 3 ? 10 + i : end - 9 - i, bytes = i % 2 ? 1 : 20000;
        struct backlog_opts o = opts_of(f, from, end - i);
        struct backlog *b = collect(&o, bytes);
        expect(b, from, end - i, 100, bytes);
        struct backlog_dropped d = backlog_dropped(b);
        assert_true(!d.too_many && !d.too_large && !d.too_old && !d.unread && !d.erased);
        backlog_close(b);
    }
    struct backlog_opts none = opts_of(f, end, end);
    struct backlog *b = collect(&none, 1);
    expect(b, end, end, 0, 1);
    backlog_close(b);
    fixture_free(f);
}

static void limits_keep_the_newest(void **state)
{
    struct fixture *f = fixture_new(1 << 20);
    assert_int_equal(fixture_open(f), 0);
    for (unsigned i = 0; i < 500; i++)
        append(f, 20, 100);
    uint64_t end = journal_durable(f->j);
    assert_int_equal(end, 10000);
    struct backlog_opts o = opts_of(f, 0, end);
    o.messages_max = 300;
    struct backlog *b = collect(&o, 5000);
    assert_int_equal(backlog_left(b), 300);
    assert_int_equal(backlog_dropped(b).too_many, 5000 - 300);
    expect(b, end - 600, end, 100, 5000);
    backlog_close(b);

    o = opts_of(f, 0, end);
    o.bytes_max = 100 * 50 + 99;
    b = collect(&o, 5000);
    assert_int_equal(backlog_left(b), 50);
    assert_int_equal(backlog_dropped(b).too_large, 5000 - 50);
    expect(b, end - 100, end, 100, 1);
    backlog_close(b);
    o.bytes_max = 99;
    b = collect(&o, 5000);
    assert_int_equal(backlog_left(b), 0);
    assert_int_equal(backlog_dropped(b).too_large, 5000);
    backlog_close(b);

    o = opts_of(f, 0, end);
    o.oldest_us = 9000;
    b = collect(&o, 5000);
    assert_int_equal(backlog_dropped(b).too_old, 4500);
    expect(b, 9000, end, 100, 100000);
    backlog_close(b);

    /* About a fifth of the log: not all of it is looked at. */
    o = opts_of(f, 0, end);
    o.scan_bytes = journal_stats(f->j).disk_bytes / 5;
    looked_at = 0;
    b = collect(&o, 5000);
    uint64_t unread = backlog_dropped(b).unread;
    assert_in_range(unread, 7000, 8200);
    assert_in_range(looked_at, (10000 - unread) / 2, 10000 - unread);
    expect(b, unread, end, 100, 100000);
    backlog_close(b);
    fixture_free(f);
}

static void retention_may_be_faster(void **state)
{
    struct fixture *f = fixture_new(65536);
    f->opts.retain_bytes = 4 * 65536;
    assert_int_equal(fixture_open(f), 0);
    for (unsigned i = 0; i < 100; i++)
        append(f, 20, 100);
    struct backlog_opts o = opts_of(f, journal_position(f->j).oldest, journal_durable(f->j));
    struct backlog *b = collect(&o, 5000);
    uint32_t before = backlog_left(b);
    for (unsigned i = 0; i < 200; i++) {
        append(f, 20, 100);
        keeper_look(f->j);
    }
    uint64_t oldest = journal_position(f->j).oldest;
    assert_true(oldest > o.from);
    struct record r;
    uint64_t offset, count = 0;
    int rc;
    while ((rc = backlog_next(b, 5000, &r, &offset)) != BACKLOG_DONE) {
        assert_true(rc == BACKLOG_MORE || offset >= oldest);
        count += rc == BACKLOG_MESSAGE;
    }
    assert_int_equal(count + backlog_dropped(b).unread, before);
    assert_true(backlog_dropped(b).unread > 0);
    backlog_close(b);

    o = opts_of(f, 0, journal_durable(f->j)); /* what is gone before it begins is told, too */
    b = collect(&o, 5000);
    assert_int_equal(backlog_dropped(b).unread, oldest);
    expect(b, oldest, o.to, 100, 5000);
    backlog_close(b);
    fixture_free(f);
}

int main(void)
{
    log_set_level(LOG_ERROR + 1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_missed_comes_in_order),
        cmocka_unit_test(limits_keep_the_newest),
        cmocka_unit_test(retention_may_be_faster),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
