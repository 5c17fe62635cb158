/* SPDX-License-Identifier: Apache-2.0 */
/* What is in the file: read back, refused, damaged, full; and many at a time. */
#include "catalog/catalog.c"
#include "catalog/catalog_testing.h"

#define MANY 120000u

struct crowd {
    struct catalog_ask *asks;
    char (*keys)[24];
    _Atomic unsigned answered, refused;
};

static void on_one_done(struct catalog_ask *a)
{
    struct crowd *crowd = a->owner;
    crowd->refused += a->reason != REASON_ok;
    feed_unref(a->ret_feed);
    crowd->answered++;
}

/* Submits `n` new feeds; waits for the answers. */
static void add_feeds(struct fixture *f, uint64_t account, unsigned from, unsigned n)
{
    struct crowd crowd = {.asks = calloc(n, sizeof *crowd.asks),
                          .keys = calloc(n, sizeof *crowd.keys)};
    for (unsigned i = 0; i < n; i++) {
        snprintf(crowd.keys[i], sizeof crowd.keys[i], "g%u.feed-%u", (from + i) % 10, from + i);
        crowd.asks[i] = (struct catalog_ask){.op = CATALOG_FEED_ADD,
                                             .account_number = account,
                                             .key = slice_str(crowd.keys[i]),
                                             .done = on_one_done,
                                             .owner = &crowd};
        assert_int_equal(catalog_submit(f->catalog, &crowd.asks[i]), REASON_ok);
    }
    while (crowd.answered < n)
        clock_sleep_ns(NS_PER_MS);
    assert_int_equal(crowd.refused, 0);
    free(crowd.asks);
    free(crowd.keys);
}

static void reopening_keeps_everything(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(ASK(f, ACCOUNT_ADD, .account = SLICE("demo"), .plan = SLICE("plus"),
                         .limits = SLICE("9/1m"), .device_limits = SLICE("distance=5ms"),
                         .topics = TOPICS_ANY),
                     REASON_ok);
    struct account *a = account_ref(last.ret_account);
    assert_int_equal(add_key(f, "demo", "k", 1), REASON_ok);
    struct credential *key = credential_ref(last.ret_credential);
    assert_int_equal(ASK(f, DEVICE_ADD, .account = SLICE("demo"), .name = SLICE("dev"),
                         .role = SLICE("writer"), .verifier = SLICE("$y$j9T$x"),
                         .patterns = SLICE("a,b*"), .disabled = true),
                     REASON_ok);
    struct credential *device = credential_ref(last.ret_credential);
    assert_int_equal(ASK(f, FEED_ADD, .account_number = a->number, .key = SLICE("g.f"),
                         .feed_name = SLICE("F"), .description = SLICE("d"), .license = SLICE("l"),
                         .unit_type = SLICE("t"), .unit_symbol = SLICE("u"),
                         .feed_flags = FEED_PUBLIC | FEED_DISABLED),
                     REASON_ok);
    struct feed *feed = feed_ref(last.ret_feed);
    forget_last();
    reopen(f);

    struct account *a2 = catalog_account(f->catalog, SLICE("demo"));
    assert_int_equal(a2->number, a->number);
    assert_int_equal(a2->created_us, a->created_us);
    assert_memory_equal(&a2->limits.windows, &a->limits.windows, sizeof a->limits.windows);
    assert_int_equal(a2->device_limits.min_distance_ms, 5);
    assert_int_equal(a2->topics, TOPICS_ANY);
    struct credential *key2 = catalog_key(f->catalog, key->fast);
    assert_int_equal(key2->number, key->number);
    assert_int_equal(key2->version, key->version);
    assert_int_equal(key2->permissions, key->permissions);
    assert_ptr_equal(key2->account, a2);
    struct credential *device2 = catalog_device(f->catalog, SLICE("dev"));
    assert_int_equal(device2->number, device->number);
    assert_int_equal(device2->permissions, PERM_data_write);
    assert_string_equal(device2->verifier.ptr, "$y$j9T$x");
    assert_int_equal(device2->verifier_kind, VERIFIER_CRYPT);
    assert_true(device2->disabled);
    assert_int_equal(device2->patterns_count, 2);
    assert_true(slice_eq(device2->patterns[1], SLICE("b*")));
    struct feed *feed2 = catalog_feed(f->catalog, a->number, SLICE("g.f"));
    assert_int_equal(feed2->number, feed->number);
    assert_int_equal(feed2->group, feed->group);
    assert_true(slice_eq(feed2->name, SLICE("F")) && slice_eq(feed2->description, SLICE("d")));
    assert_true(slice_eq(feed2->license, SLICE("l")) && slice_eq(feed2->unit_type, SLICE("t")));
    assert_true(slice_eq(feed2->unit_symbol, SLICE("u")) && slice_eq(feed2->group_key, SLICE("g")));
    assert_int_equal(feed2->flags, FEED_PUBLIC | FEED_DISABLED);
    assert_int_equal(feed2->created_us, feed->created_us);
    account_unref(a);
    account_unref(a2);
    credential_unref(key);
    credential_unref(key2);
    credential_unref(device);
    credential_unref(device2);
    feed_unref(feed);
    feed_unref(feed2);
}

static void numbers_are_never_used_again(void **state)
{
    struct fixture *f = *state;
    uint64_t account = 0, credential = 0, feed = 0, version = 0;
    for (unsigned i = 0; i < 4; i++) {
        add_account(f, "demo");
        assert_true(last.ret_account->number > account);
        account = last.ret_account->number;
        assert_int_equal(add_key(f, "demo", "k", 1), REASON_ok);
        assert_true(last.ret_credential->number > credential);
        assert_true(last.ret_credential->version > version);
        credential = last.ret_credential->number;
        version = last.ret_credential->version;
        assert_int_equal(ASK(f, FEED_ADD, .account = SLICE("demo"), .key = SLICE("f")), REASON_ok);
        assert_true(last.ret_feed->number > feed);
        feed = last.ret_feed->number;
        assert_int_equal(ASK(f, FEED_REMOVE, .feed_number = feed), REASON_ok);
        assert_int_equal(ASK(f, KEY_REMOVE, .account = SLICE("demo"), .name = SLICE("k")),
                         REASON_ok);
        assert_int_equal(ASK(f, ACCOUNT_REMOVE, .account = SLICE("demo")), REASON_ok);
        forget_last();
        if (i % 2)
            reopen(f);
    }
}

/* Opens and expects a refusal with this text, which begins with the path. */
static void not_opened(struct fixture *f, int code, const char *text)
{
    struct catalog *c = NULL;
    struct error err = {""};
    assert_int_equal(catalog_open(&f->opts, &c, &err), code);
    assert_null(c);
    assert_memory_equal(err.text, f->path, strlen(f->path));
    if (!strstr(err.text, text))
        fail_msg("\"%s\" is not in \"%s\"", text, err.text);
}

static void run_sql(struct fixture *f, const char *sql)
{
    sqlite3 *db;
    assert_int_equal(sqlite3_open(f->path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
}

/* The format of the file, which grows with each migration. */
static int format_of(struct fixture *f)
{
    sqlite3 *db;
    sqlite3_stmt *s;
    assert_int_equal(sqlite3_open(f->path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(db, "PRAGMA user_version", -1, &s, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(s), SQLITE_ROW);
    int format = sqlite3_column_int(s, 0);
    sqlite3_finalize(s);
    sqlite3_close(db);
    return format;
}

static void other_formats_are_refused(void **state)
{
    struct fixture *f = *state;
    add_account(f, "demo");
    assert_int_equal(add_key(f, "demo", "k", 1), REASON_ok);
    forget_last();
    not_opened(f, -EBUSY, "another process has the catalog open");
    catalog_close(f->catalog);
    f->catalog = NULL;

    char sql[100];
    snprintf(sql, sizeof sql, "PRAGMA user_version = %d", format_of(f));
    run_sql(f, "PRAGMA user_version = 1000");
    not_opened(f, -EPROTONOSUPPORT, "its format is 1000, newer than the ");
    run_sql(f, sql);
    run_sql(f, "UPDATE role SET permissions = 'fly'");
    not_opened(f, -EBADMSG, "credential 1: its role has a permission that does not exist");
    run_sql(f, "UPDATE role SET permissions = '*'; UPDATE account SET limits = 'x'");
    not_opened(f, -EBADMSG, "account 1: \"x\" is no limit");
    run_sql(f, "UPDATE account SET limits = NULL; UPDATE credential SET account = 9");
    not_opened(f, -EBADMSG, "credential 1: its account is not there");
    run_sql(f, "UPDATE credential SET account = 1;"
               "UPDATE meta SET value = 1 WHERE name = 'next_account'");
    not_opened(f, -EBADMSG, "account 1: the number was never given out");
    run_sql(f, "UPDATE meta SET value = 2 WHERE name = 'next_account';"
               "DELETE FROM meta WHERE name = 'next_feed'");
    not_opened(f, -EBADMSG, "the counter next_feed is gone");
    run_sql(f, "INSERT INTO meta VALUES ('next_feed', 1)");
    open_catalog(f);
    assert_int_equal(catalog_stats(f->catalog).credentials, 1);
    catalog_close(f->catalog);
    f->catalog = NULL;

    unlink(f->path);
    run_sql(f, "CREATE TABLE mine (a)");
    not_opened(f, -EINVAL, "not a catalog of Sluice");
    f->opts.path = "/proc/nowhere/catalog.db";
    struct catalog *c = NULL;
    struct error err;
    assert_int_equal(catalog_open(&f->opts, &c, &err), -EACCES);
    assert_non_null(strstr(err.text, "/proc/nowhere/catalog.db: "));
    f->opts.path = f->path;
}

static void overwrite(struct fixture *f, long at, size_t n)
{
    char junk[4096];
    memset(junk, 0x5a, sizeof junk);
    FILE *file = fopen(f->path, "r+");
    assert_non_null(file);
    assert_int_equal(fseek(file, at, at < 0 ? SEEK_END : SEEK_SET), 0);
    assert_int_equal(fwrite(junk, 1, n, file), n);
    fclose(file);
}

static size_t copy_file(struct fixture *f, char **ret)
{
    FILE *file = fopen(f->path, "r");
    assert_non_null(file);
    assert_int_equal(fseek(file, 0, SEEK_END), 0);
    size_t n = (size_t)ftell(file);
    rewind(file);
    *ret = malloc(n);
    assert_int_equal(fread(*ret, 1, n, file), n);
    fclose(file);
    return n;
}

static void restore_file(struct fixture *f, const char *image, size_t n)
{
    FILE *file = fopen(f->path, "r+");
    assert_non_null(file);
    assert_int_equal(fwrite(image, 1, n, file), n);
    fclose(file);
}

static void damaged_files_are_reported(void **state)
{
    struct fixture *f = *state;
    add_account(f, "demo");
    add_feeds(f, number_of(f, "demo"), 0, 3000);
    forget_last();
    catalog_close(f->catalog);
    f->catalog = NULL;
    char *image = NULL;
    run_sql(f, "VACUUM"); /* no page is free, so none may be damaged */
    size_t bytes = copy_file(f, &image);
    for (size_t page = 2; page < bytes / 4096; page += 7) { /* of tables and of indexes alike */
        overwrite(f, (long)page * 4096, 4096);
        not_opened(f, -EBADMSG, "damaged: ");
        restore_file(f, image, bytes);
    }
    open_catalog(f);
    assert_int_equal(catalog_stats(f->catalog).feeds, 3000);
    catalog_close(f->catalog);
    f->catalog = NULL;
    free(image);
    overwrite(f, 0, 100);
    not_opened(f, -EBADMSG, "not a database");
}

static void full_disk(void **state)
{
    struct fixture *f = *state;
    f->opts.emit = NULL; /* the thread is idle between the calls: the test may touch its database */
    reopen(f);
    add_account(f, "demo");
    uint64_t demo = number_of(f, "demo");
    sqlite3_exec(f->catalog->db.handle, "PRAGMA max_page_count = 1", NULL, NULL, NULL);
    enum reason r = REASON_ok;
    unsigned made = 0;
    for (; made < 2000 && r == REASON_ok; made += r == REASON_ok) {
        char key[24];
        snprintf(key, sizeof key, "f%u", made);
        r = ASK(f, FEED_ADD, .account_number = demo, .key = slice_str(key));
    }
    assert_int_equal(r, REASON_disk_full);
    assert_non_null(strstr(last.text, "full"));
    assert_null(last.ret_feed);
    assert_int_equal(catalog_stats(f->catalog).feeds, made);
    assert_int_equal(catalog_stats(f->catalog).outbox, made + 2);
    sqlite3_exec(f->catalog->db.handle, "PRAGMA max_page_count = 100000", NULL, NULL, NULL);
    assert_int_equal(ASK(f, FEED_ADD, .account_number = demo, .key = SLICE("again")), REASON_ok);
    forget_last();
    reopen(f);
    assert_int_equal(catalog_stats(f->catalog).feeds, made + 1);
}

static void queue_is_bounded(void **state)
{
    struct fixture *f = *state;
    struct crowd crowd = {0};
    struct catalog_ask asks[6] = {0};
    f->opts.queue_max = 4;
    reopen(f);
    f->journal.blocked = true;
    unsigned tries = f->journal.tries;
    char names[6][8];
    for (unsigned i = 0; i < 6; i++) {
        snprintf(names[i], sizeof names[i], "a%u", i);
        asks[i] = (struct catalog_ask){.op = CATALOG_ACCOUNT_ADD,
                                       .account = slice_str(names[i]),
                                       .done = on_one_done,
                                       .owner = &crowd};
        assert_int_equal(catalog_submit(f->catalog, &asks[i]), i < 5 ? REASON_ok : REASON_busy);
        while (i == 0 && f->journal.tries == tries) /* the first is in work, four may wait */
            clock_sleep_ns(NS_PER_MS);
    }
    assert_int_equal(ASK(f, ACCOUNT_ADD, .account = SLICE("x")), REASON_busy);
    assert_non_null(strstr(last.text, "busy"));
    uint64_t transactions = catalog_stats(f->catalog).transactions;
    f->journal.blocked = false;
    while (crowd.answered < 5)
        clock_sleep_ns(NS_PER_MS);
    assert_int_equal(crowd.refused, 0);
    assert_int_equal(catalog_stats(f->catalog).transactions, transactions + 1);
    for (unsigned i = 0; i < 5; i++)
        account_unref(asks[i].ret_account);
}

static void hundreds_share_a_transaction(void **state)
{
    struct fixture *f = *state;
    add_account(f, "demo");
    uint64_t demo = number_of(f, "demo");
    uint64_t before = catalog_stats(f->catalog).transactions;
    uint64_t counted = metric_sum(METRIC_catalog_transactions);
    add_feeds(f, demo, 0, 800);
    uint64_t used = catalog_stats(f->catalog).transactions - before;
    assert_in_range(used, 1, 200);
    assert_int_equal(metric_sum(METRIC_catalog_transactions) - counted, used);
    assert_int_equal(catalog_stats(f->catalog).feeds, 800);
    assert_int_equal(f->journal.count, 802);
    for (unsigned i = 0; i < 802; i++)
        assert_int_equal(change_id(&f->journal.kept[i]), i + 1);
    forget_last();
}

/* One refusal in the middle of a transaction undoes only itself. */
static void refusals_stand_alone(void **state)
{
    struct fixture *f = *state;
    struct crowd crowd = {0};
    struct catalog_ask a[7] = {
        {.op = CATALOG_ACCOUNT_ADD, .account = SLICE("first")},
        {.op = CATALOG_ACCOUNT_ADD, .account = SLICE("demo")},
        {.op = CATALOG_ACCOUNT_ADD, .account = SLICE("demo")},
        {.op = CATALOG_FEED_ADD, .account = SLICE("demo"), .key = SLICE("new.f")},
        {.op = CATALOG_FEED_ADD, .account = SLICE("demo"), .key = SLICE("new.g"), .feed_flags = 99},
        {.op = CATALOG_FEED_ADD, .account = SLICE("demo"), .key = SLICE("new.f")},
        {.op = CATALOG_ACCOUNT_REMOVE, .account = SLICE("demo")},
    };
    static const enum reason want[7] = {REASON_ok,          REASON_ok, REASON_conflict, REASON_ok,
                                        REASON_bad_request, REASON_ok, REASON_ok};
    unsigned tries = f->journal.tries;
    uint64_t before = catalog_stats(f->catalog).transactions;
    f->journal.blocked = true;
    for (unsigned i = 0; i < 7; i++) {
        a[i].done = on_one_done;
        a[i].owner = &crowd;
        assert_int_equal(catalog_submit(f->catalog, &a[i]), REASON_ok);
        while (i == 0 && f->journal.tries == tries)
            clock_sleep_ns(NS_PER_MS);
    }
    f->journal.blocked = false;
    while (crowd.answered < 7)
        clock_sleep_ns(NS_PER_MS);
    for (unsigned i = 0; i < 7; i++)
        assert_int_equal(a[i].reason, want[i]);
    assert_int_equal(catalog_stats(f->catalog).transactions, before + 2);
    assert_ptr_equal(a[3].ret_feed, a[5].ret_feed); /* given back by on_one_done already */
    assert_non_null(a[3].ret_feed);
    assert_ptr_equal(a[1].ret_account, a[6].ret_account);
    assert_null(catalog_account(f->catalog, SLICE("demo")));
    for (unsigned i = 0; i < 7; i++)
        account_unref(a[i].ret_account);
}

struct looker {
    struct fixture *f;
    uint64_t account;
    _Atomic bool stop;
    _Atomic uint64_t found;
};

static void look(void *arg)
{
    struct looker *l = arg;
    uint64_t generation = 0;
    for (unsigned i = 0; !l->stop; i++) {
        struct catalog *c = l->f->catalog;
        struct credential *device = catalog_device(c, SLICE("dev"));
        if (device) {
            if (!slice_eq(device->account->name, SLICE("demo")))
                abort();
            spin_lock(&device->live->lock);
            device->live->set ^= 1;
            spin_unlock(&device->live->lock);
            credential_unref(device);
            l->found++;
        }
        struct feed *feed = catalog_feed(c, l->account, SLICE("moving"));
        if (feed && !slice_eq(feed->key, SLICE("moving")))
            abort();
        feed_unref(feed);
        uint64_t now = catalog_generation(c);
        if (now < generation)
            abort();
        generation = now;
        if (i % 64 == 0) {
            struct buf all;
            buf_init(&all, 1 << 20);
            unsigned n = catalog_feeds(c, l->account, &all);
            for (unsigned k = 0; k < n; k++)
                feed_unref(((struct feed **)(void *)all.ptr)[k]);
            buf_fini(&all);
        }
    }
}

static void looking_while_changing(void **state)
{
    struct fixture *f = *state;
    add_account(f, "demo");
    struct looker l = {.f = f, .account = number_of(f, "demo")};
    pthread_t a = thread_start("look", look, &l), b = thread_start("look", look, &l);
    for (unsigned i = 0; i < 60; i++) {
        assert_int_equal(ASK(f, DEVICE_ADD, .account = SLICE("demo"), .name = SLICE("dev"),
                             .verifier = SLICE("$1")),
                         REASON_ok);
        assert_int_equal(ASK(f, FEED_ADD, .account = SLICE("demo"), .key = SLICE("moving")),
                         REASON_ok);
        uint64_t feed = last.ret_feed->number;
        assert_int_equal(ASK(f, ACCOUNT_DISABLE, .account = SLICE("demo"), .disabled = i % 2),
                         REASON_ok);
        assert_int_equal(ASK(f, DEVICE_SECRET, .name = SLICE("dev"), .verifier = SLICE("$2")),
                         REASON_ok);
        assert_int_equal(ASK(f, FEED_REMOVE, .feed_number = feed), REASON_ok);
        assert_int_equal(ASK(f, DEVICE_REMOVE, .name = SLICE("dev")), REASON_ok);
    }
    l.stop = true;
    pthread_join(a, NULL);
    pthread_join(b, NULL);
    assert_true(l.found > 0);
    forget_last();
}

static unsigned loaded_crypt;

static void on_loaded(void *arg, const struct credential *c)
{
    assert_ptr_equal(arg, &loaded_crypt);
    loaded_crypt += c->verifier_kind == VERIFIER_CRYPT;
}

static void owner_is_told_of_credentials(void **state)
{
    struct fixture *f = *state;
    f->opts.loaded = on_loaded;
    f->opts.loaded_arg = &loaded_crypt;
    reopen(f);
    loaded_crypt = 0;
    add_account(f, "demo");
    assert_int_equal(add_key(f, "demo", "k", 1), REASON_ok);
    assert_int_equal(loaded_crypt, 0);
    assert_int_equal(
        ASK(f, DEVICE_ADD, .account = SLICE("demo"), .name = SLICE("dev"), .verifier = SLICE("$1")),
        REASON_ok);
    assert_int_equal(loaded_crypt, 1);
    assert_int_equal(ASK(f, DEVICE_SECRET, .name = SLICE("dev"), .verifier = SLICE("$2")),
                     REASON_ok);
    assert_int_equal(loaded_crypt, 2);
    forget_last();
    reopen(f);
    assert_int_equal(loaded_crypt, 3);
}

static void very_many_feeds(void **state)
{
    struct fixture *f = *state;
    add_account(f, "demo");
    uint64_t demo = number_of(f, "demo");
    add_feeds(f, demo, 0, MANY);
    forget_last();
    reopen(f);
    assert_int_equal(catalog_stats(f->catalog).feeds, MANY);
    for (unsigned i = 0; i < MANY; i += 997) {
        char key[24];
        snprintf(key, sizeof key, "g%u.feed-%u", i % 10, i);
        struct feed *feed = catalog_feed(f->catalog, demo, slice_str(key));
        assert_non_null(feed);
        struct feed *same = catalog_feed_by_number(f->catalog, feed->number);
        assert_ptr_equal(feed, same);
        feed_unref(feed);
        feed_unref(same);
    }
    assert_int_equal(ASK(f, ACCOUNT_REMOVE, .account = SLICE("demo")), REASON_ok);
    forget_last();
    assert_int_equal(catalog_stats(f->catalog).feeds, 0);
    assert_int_equal(f->journal.count, 2 + MANY + MANY + 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(reopening_keeps_everything),
        TEST(numbers_are_never_used_again),
        TEST(other_formats_are_refused),
        TEST(damaged_files_are_reported),
        TEST(full_disk),
        TEST(queue_is_bounded),
        TEST(hundreds_share_a_transaction),
        TEST(refusals_stand_alone),
        TEST(looking_while_changing),
        TEST(owner_is_told_of_credentials),
        TEST(very_many_feeds),
    };
    return cmocka_run_group_tests_name("load", tests, NULL, NULL);
}
