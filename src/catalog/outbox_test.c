/* SPDX-License-Identifier: Apache-2.0 */
/* The promise of the outbox: nothing is shown before it is durable in the journal, and what was
 * committed reaches the journal whatever happens in between, in order and with its change id. */
#include "catalog/catalog_testing.h"

#include <sys/wait.h>

struct waiting {
    struct catalog_ask ask;
    _Atomic bool done;
};

static void on_done(struct catalog_ask *a)
{
    ((struct waiting *)a->owner)->done = true;
}

static void submit(struct fixture *f, struct waiting *w, struct catalog_ask a)
{
    w->ask = a;
    w->ask.actor = SLICE("cli");
    w->ask.done = on_done;
    w->ask.owner = w;
    w->done = false;
    assert_int_equal(catalog_submit(f->catalog, &w->ask), REASON_ok);
}

static void wait_until_done(struct waiting *w)
{
    for (unsigned i = 0; i < 10000 && !w->done; i++)
        clock_sleep_ns(NS_PER_MS);
    assert_true(w->done);
}

static void wait_for_try(struct fixture *f, unsigned tries)
{
    for (unsigned i = 0; i < 10000 && f->journal.tries < tries; i++)
        clock_sleep_ns(NS_PER_MS);
    assert_true(f->journal.tries >= tries);
}

static void drop(struct waiting *w)
{
    account_unref(w->ask.ret_account);
    feed_unref(w->ask.ret_feed);
}

static void not_shown_before_durable(void **state)
{
    struct fixture *f = *state;
    struct waiting w;
    add_account(f, "demo");
    uint64_t demo = number_of(f, "demo"), generation = catalog_generation(f->catalog);
    unsigned tries = f->journal.tries;
    f->journal.blocked = true;
    submit(f, &w,
           (struct catalog_ask){.op = CATALOG_FEED_ADD, .account_number = demo, .key = SLICE("f")});
    wait_for_try(f, tries + 1);
    clock_sleep_ns(20 * NS_PER_MS);
    assert_false(w.done);
    assert_null(catalog_feed(f->catalog, demo, SLICE("f")));
    assert_int_equal(catalog_stats(f->catalog).outbox, 1);
    f->journal.blocked = false;
    wait_until_done(&w);
    assert_int_equal(w.ask.reason, REASON_ok);
    struct feed *found = catalog_feed(f->catalog, demo, SLICE("f"));
    assert_ptr_equal(found, w.ask.ret_feed);
    feed_unref(found);
    drop(&w);
    assert_int_equal(catalog_stats(f->catalog).outbox, 0);
    assert_int_equal(catalog_generation(f->catalog), generation); /* feeds are not counted in it */
    forget_last();
}

static void journal_fails_for_a_moment(void **state)
{
    struct fixture *f = *state;
    struct waiting w;
    unsigned tries = f->journal.tries;
    f->journal.fail = -EIO;
    submit(f, &w, (struct catalog_ask){.op = CATALOG_ACCOUNT_ADD, .account = SLICE("demo")});
    wait_for_try(f, tries + 3);
    assert_false(w.done);
    assert_null(catalog_account(f->catalog, SLICE("demo")));
    f->journal.fail = 0;
    wait_until_done(&w);
    assert_int_equal(w.ask.reason, REASON_ok);
    assert_non_null(w.ask.ret_account);
    drop(&w);
    assert_int_equal(f->journal.count, 2);
}

static void journal_fails_for_long(void **state)
{
    struct fixture *f = *state;
    f->opts.emit_wait_ms = 60;
    reopen(f);
    f->journal.fail = -ENOSPC;
    assert_int_equal(ASK(f, ACCOUNT_ADD, .account = SLICE("demo")), REASON_journal_failed);
    assert_non_null(strstr(last.text, "is stored"));
    assert_null(last.ret_account);
    assert_null(catalog_account(f->catalog, SLICE("demo")));
    uint64_t begin = clock_mono_ns();
    assert_int_equal(ASK(f, ACCOUNT_ADD, .account = SLICE("next")), REASON_journal_failed);
    assert_non_null(strstr(last.text, "nothing was changed"));
    assert_true(clock_mono_ns() - begin < 500 * NS_PER_MS); /* at once, not after a pause */
    f->journal.fail = 0;
    struct account *shown = NULL;
    for (unsigned i = 0; i < 5000 && !shown; i++) {
        clock_sleep_ns(NS_PER_MS);
        shown = catalog_account(f->catalog, SLICE("demo"));
    }
    assert_non_null(shown); /* by itself, without another ask */
    account_unref(shown);
    assert_null(catalog_account(f->catalog, SLICE("next")));
    assert_int_equal(f->journal.count, 2);
    assert_int_equal(ASK(f, ACCOUNT_ADD, .account = SLICE("next")), REASON_ok);
    forget_last();
}

static void close_while_the_journal_fails(void **state)
{
    struct fixture *f = *state;
    struct waiting w, queued;
    unsigned tries = f->journal.tries;
    f->journal.fail = -EIO;
    submit(f, &w, (struct catalog_ask){.op = CATALOG_ACCOUNT_ADD, .account = SLICE("demo")});
    wait_for_try(f, tries + 1);
    submit(f, &queued, (struct catalog_ask){.op = CATALOG_ACCOUNT_ADD, .account = SLICE("late")});
    catalog_close(f->catalog);
    assert_true(w.done && queued.done);
    assert_int_equal(w.ask.reason, REASON_stopping);
    assert_non_null(strstr(w.ask.text, "is stored"));
    assert_int_equal(queued.ask.reason, REASON_stopping);
    assert_non_null(strstr(queued.ask.text, "nothing was changed"));
    f->journal.fail = 0;
    open_catalog(f);
    assert_int_equal(f->journal.count, 2);
    assert_int_equal(change_id(&f->journal.kept[0]), 1);
    assert_int_equal(number_of(f, "demo"), 1);
    assert_null(catalog_account(f->catalog, SLICE("late")));
}

/* Runs in a child that dies at the given try of emit: between commit and emit. */
static void crash_in_emit(struct fixture *f, unsigned at)
{
    catalog_close(f->catalog);
    f->catalog = NULL;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        open_catalog(f);
        f->journal.die_at = f->journal.tries + at;
        add_account(f, "demo");
        ASK(f, FEED_ADD, .account = SLICE("demo"), .key = SLICE("a"));
        ASK(f, FEED_ADD, .account = SLICE("demo"), .key = SLICE("b"));
        _exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 9);
}

static void crash_between_commit_and_emit(void **state)
{
    struct fixture *f = *state;
    crash_in_emit(f, 1);
    f->journal.fail = -EIO; /* and again without luck: still owed, still the same */
    open_catalog(f);
    assert_int_equal(catalog_stats(f->catalog).outbox, 2);
    catalog_close(f->catalog);
    f->journal.fail = 0;
    open_catalog(f);
    assert_int_equal(f->journal.count, 2);
    assert_int_equal(f->journal.kept[0].kind, RECORD_DICTIONARY);
    assert_int_equal(change_id(&f->journal.kept[0]), 1);
    assert_int_equal(f->journal.kept[1].kind, RECORD_AUDIT);
    assert_int_equal(change_id(&f->journal.kept[1]), 2);
    assert_int_equal(f->journal.kept[1].credential, 77);
    assert_int_equal(catalog_stats(f->catalog).outbox, 0);
    reopen(f); /* emitted once more? no: the rows are gone */
    assert_int_equal(f->journal.count, 2);
    assert_int_equal(ASK(f, FEED_ADD, .account = SLICE("demo"), .key = SLICE("c")), REASON_ok);
    assert_int_equal(change_id(&f->journal.kept[2]), 3);
    forget_last();
}

static void a_feed_that_is_owed_is_held_back(void **state)
{
    struct fixture *f = *state;
    crash_in_emit(f, 3); /* a's dictionary record was emitted, b's was not */
    f->journal.fail = -EIO;
    open_catalog(f);
    uint64_t demo = number_of(f, "demo");
    struct feed *a = catalog_feed(f->catalog, demo, SLICE("a"));
    assert_null(catalog_feed(f->catalog, demo, SLICE("b")));
    f->journal.fail = 0;
    struct feed *b = NULL;
    for (unsigned i = 0; i < 5000 && !b; i++) {
        clock_sleep_ns(NS_PER_MS);
        b = catalog_feed(f->catalog, demo, SLICE("b"));
    }
    assert_non_null(b);
    const struct kept *final = &f->journal.kept[f->journal.count - 1];
    assert_int_equal(final->feed, b->number);
    assert_int_equal(change_id(final), 4);
    feed_unref(a);
    feed_unref(b);
}

static void commands_leave_the_rows_to_a_server(void **state)
{
    struct fixture *f = *state;
    f->opts.emit = NULL;
    reopen(f);
    add_account(f, "demo");
    assert_int_equal(ASK(f, FEED_ADD, .account = SLICE("demo"), .key = SLICE("f")), REASON_ok);
    struct feed *shown = catalog_feed(f->catalog, last.ret_feed->account, SLICE("f"));
    assert_ptr_equal(shown, last.ret_feed);
    feed_unref(shown);
    assert_int_equal(catalog_stats(f->catalog).outbox, 3);
    reopen(f);
    assert_int_equal(catalog_stats(f->catalog).outbox, 3);
    assert_int_equal(f->journal.count, 0);
    forget_last();
    f->opts.emit = on_emit;
    reopen(f);
    assert_int_equal(f->journal.count, 3);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(change_id(&f->journal.kept[i]), i + 1);
    assert_int_equal(catalog_stats(f->catalog).outbox, 0);
    shown = catalog_feed(f->catalog, number_of(f, "demo"), SLICE("f"));
    assert_non_null(shown);
    feed_unref(shown);
}

static void large_outbox_goes_in_pieces(void **state)
{
    struct fixture *f = *state;
    f->opts.emit = NULL;
    reopen(f);
    add_account(f, "demo");
    uint64_t demo = number_of(f, "demo");
    struct waiting *w = calloc(2500, sizeof *w);
    char(*keys)[16] = calloc(2500, sizeof *keys);
    for (unsigned i = 0; i < 2500; i++) {
        snprintf(keys[i], sizeof keys[i], "f%u", i);
        submit(f, &w[i],
               (struct catalog_ask){
                   .op = CATALOG_FEED_ADD, .account_number = demo, .key = slice_str(keys[i])});
    }
    for (unsigned i = 0; i < 2500; i++) {
        wait_until_done(&w[i]);
        drop(&w[i]);
    }
    forget_last();
    f->opts.emit = on_emit;
    reopen(f);
    assert_int_equal(f->journal.count, 2502);
    assert_int_equal(f->journal.calls, 3);
    assert_int_equal(f->journal.biggest, 1000);
    for (unsigned i = 0; i < 2502; i++)
        assert_int_equal(change_id(&f->journal.kept[i]), i + 1);
    free(w);
    free(keys);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(not_shown_before_durable),
        TEST(journal_fails_for_a_moment),
        TEST(journal_fails_for_long),
        TEST(close_while_the_journal_fails),
        TEST(crash_between_commit_and_emit),
        TEST(a_feed_that_is_owed_is_held_back),
        TEST(commands_leave_the_rows_to_a_server),
        TEST(large_outbox_goes_in_pieces),
    };
    return cmocka_run_group_tests_name("outbox", tests, NULL, NULL);
}
