/* SPDX-License-Identifier: Apache-2.0 */
#include "catalog/catalog_testing.h"

#include "base/thread.h"
#include "catalog/image.h"

#define FEEDS_BEFORE 3000 /* some hundred pages */

struct run {
    struct fixture *f;
    char path[112];
    uint64_t account;
    _Atomic bool stop;
    _Atomic unsigned made;   /* answered */
    unsigned made_before_at; /* answered when the copy was whole */
    unsigned records_at;     /* in the journal then */
    bool called;
};

static void make_feed(struct fixture *f, uint64_t account, unsigned n)
{
    char key[32];
    snprintf(key, sizeof key, "feed-%u", n);
    struct catalog_ask a = {.op = CATALOG_FEED_ADD,
                            .account_number = account,
                            .actor = SLICE("cli"),
                            .key = slice_str(key),
                            .description = SLICE("some words that make the row longer")};
    assert_int_equal(catalog_call(f->catalog, &a), REASON_ok);
    feed_unref(a.ret_feed);
}

static _Atomic unsigned answered;

static void on_made(struct catalog_ask *a)
{
    assert_int_equal(a->reason, REASON_ok);
    feed_unref(a->ret_feed);
    answered++;
}

/* Many at once: few transactions. */
static void make_many(struct fixture *f, uint64_t account)
{
    struct catalog_ask *all = calloc(FEEDS_BEFORE, sizeof *all);
    char(*keys)[32] = calloc(FEEDS_BEFORE, sizeof *keys);
    answered = 0;
    for (unsigned n = 0; n < FEEDS_BEFORE; n++) {
        snprintf(keys[n], sizeof keys[n], "feed-%u", n);
        all[n] = (struct catalog_ask){.op = CATALOG_FEED_ADD,
                                      .account_number = account,
                                      .actor = SLICE("cli"),
                                      .key = slice_str(keys[n]),
                                      .description = SLICE("some words that make the row longer"),
                                      .done = on_made};
        assert_int_equal(catalog_submit(f->catalog, &all[n]), REASON_ok);
    }
    while (answered < FEEDS_BEFORE)
        clock_sleep_ns(NS_PER_MS);
    free(keys);
    free(all);
}

static unsigned dictionary_records(struct fake_journal *j)
{
    unsigned n = 0;
    pthread_mutex_lock(&j->lock);
    for (unsigned i = 0; i < j->count; i++)
        n += j->kept[i].kind == RECORD_DICTIONARY && j->kept[i].feed;
    pthread_mutex_unlock(&j->lock);
    return n;
}

static void on_whole(void *arg)
{
    struct run *r = arg;
    r->called = true;
    r->made_before_at = r->made;
    r->records_at = dictionary_records(&r->f->journal);
}

static void make_feeds(void *arg)
{
    struct run *r = arg;
    for (unsigned n = FEEDS_BEFORE; !r->stop; n++) {
        make_feed(r->f, r->account, n);
        r->made++;
    }
}

static void begin(struct run *r, struct fixture *f)
{
    *r = (struct run){.f = f};
    snprintf(r->path, sizeof r->path, "%s/copy.db", f->dir);
    add_account(f, "ann");
    r->account = number_of(f, "ann");
}

static unsigned feeds_of(struct catalog *c, uint64_t account)
{
    struct buf list;
    buf_init(&list, SIZE_MAX / 2);
    unsigned n = catalog_feeds(c, account, &list);
    for (unsigned i = 0; i < n; i++)
        feed_unref(((struct feed **)(void *)list.ptr)[i]);
    buf_fini(&list);
    return n;
}

/* The copy holds what the journal was told up to the moment it was whole, and nothing else, and
 * owes nothing. */
static void copies_while_changes_go_on(void **state)
{
    struct fixture *f = *state;
    struct run r;
    struct error err = {""};
    begin(&r, f);
    make_many(f, r.account);
    pthread_t thread = thread_start("feeds", make_feeds, &r);
    while (r.made < 3)
        clock_sleep_ns(NS_PER_MS);
    unsigned before = r.made;
    assert_int_equal(catalog_image(f->catalog, r.path, on_whole, &r, &err), 0);
    r.stop = true;
    pthread_join(thread, NULL);
    assert_true(r.called && r.made_before_at > before + 1); /* it did not stand still meanwhile */
    assert_true(r.records_at >= FEEDS_BEFORE + r.made_before_at);

    struct catalog *copy;
    struct stat st;
    assert_int_equal(stat(r.path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    struct catalog_opts opts = {.path = r.path, .queue_max = 10};
    assert_int_equal(catalog_open(&opts, &copy, &err), 0);
    assert_int_equal(catalog_stats(copy).outbox, 0);
    assert_int_equal(feeds_of(copy, r.account), r.records_at);
    catalog_close(copy);
    unlink(r.path);
    strcat(r.path, "-journal");
    unlink(r.path);
}

static void says_what_is_wrong(void **state)
{
    struct fixture *f = *state;
    struct run r;
    struct error err = {""};
    begin(&r, f);
    assert_int_equal(catalog_image(f->catalog, f->path, on_whole, &r, &err), -EEXIST);
    assert_non_null(strstr(err.text, f->path));
    assert_int_equal(catalog_image(f->catalog, "/nowhere/x", on_whole, &r, &err), -ENOENT);
    assert_false(r.called);
    assert_int_equal(catalog_image(f->catalog, r.path, on_whole, &r, &err), 0);
    unlink(r.path);
}

/* No number of the time after the copy comes again, however often it is restored. */
static void restored_numbers_are_new(void **state)
{
    struct fixture *f = *state;
    struct run r;
    struct error err = {""};
    begin(&r, f);
    assert_int_equal(catalog_image(f->catalog, r.path, on_whole, &r, &err), 0);
    for (uint32_t jump = 1; jump <= 3; jump++) {
        struct catalog *copy;
        struct catalog_opts opts = {.path = r.path, .queue_max = 10};
        assert_int_equal(catalog_restored(r.path, jump == 2 ? 5 : 1, &err), 0);
        uint64_t base = (jump == 1 ? 1 : jump == 2 ? 6 : 7) * CATALOG_JUMP;
        assert_int_equal(catalog_open(&opts, &copy, &err), 0);
        char name[8];
        snprintf(name, sizeof name, "n%u", jump);
        struct catalog_ask a = {.op = CATALOG_ACCOUNT_ADD, .account = slice_str(name)};
        assert_int_equal(catalog_call(copy, &a), REASON_ok);
        assert_int_equal(a.ret_account->number, base);
        account_unref(a.ret_account);
        a = (struct catalog_ask){
            .op = CATALOG_FEED_ADD, .account_number = base, .key = SLICE("door")};
        assert_int_equal(catalog_call(copy, &a), REASON_ok);
        assert_int_equal(a.ret_feed->number, base);
        feed_unref(a.ret_feed);
        catalog_close(copy);
    }
    assert_int_equal(catalog_restored(r.path, UINT32_MAX, &err), -ERANGE);
    unlink(r.path);
    strcat(r.path, "-journal");
    unlink(r.path);
}

struct waiting {
    struct run *run;
    _Atomic int code;
    _Atomic bool begun;
};

static void wait_for_copy(void *arg)
{
    struct waiting *w = arg;
    struct error err = {""};
    w->begun = true;
    w->code = catalog_image(w->run->f->catalog, w->run->path, on_whole, w->run, &err);
}

/* A catalog that closes answers whoever waits for a copy. */
static void closing_ends_a_copy(void **state)
{
    struct fixture *f = *state;
    struct run r;
    begin(&r, f);
    make_many(f, r.account);
    struct waiting w = {.run = &r, .code = 1};
    pthread_t thread = thread_start("copy", wait_for_copy, &w);
    while (!w.begun || access(r.path, F_OK) != 0)
        clock_sleep_ns(NS_PER_MS / 10);
    catalog_close(f->catalog);
    pthread_join(thread, NULL);
    assert_int_equal(w.code, -ESHUTDOWN);
    assert_false(r.called);
    open_catalog(f);
    unlink(r.path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(copies_while_changes_go_on),
        TEST(says_what_is_wrong),
        TEST(restored_numbers_are_new),
        TEST(closing_ends_a_copy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
