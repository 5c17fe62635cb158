/* SPDX-License-Identifier: Apache-2.0 */
/* Every change, its refusals, what is looked up afterwards and what the journal is told. */
#include "catalog/catalog_testing.h"

#include <jansson.h>

#include "flow/limit.h"

#define HASH_1 "$2b$04$abcdefghijklmnopqrstuuXOMr3o9B8bqC7XJm2d0t1v2w3x4y5z6"
#define HASH_2 "$2b$04$ABCDEFGHIJKLMNOPQRSTUUXOMr3o9B8bqC7XJm2d0t1v2w3x4y5z6"

static void refused(struct fixture *f, enum reason r, enum reason want, const char *text)
{
    assert_int_equal(r, want);
    if (!strstr(last.text, text))
        fail_msg("\"%s\" is not in \"%s\"", text, last.text);
    assert_null(last.ret_account);
    assert_null(last.ret_credential);
    assert_null(last.ret_feed);
}

static void accounts(void **state)
{
    struct fixture *f = *state;
    uint64_t before = catalog_generation(f->catalog);
    assert_int_equal(ASK(f, ACCOUNT_ADD, .account = SLICE("demo")), REASON_ok);
    struct account *a = last.ret_account;
    assert_non_null(a);
    assert_true(slice_eq(a->name, SLICE("demo")));
    assert_int_equal(a->number, 1);
    assert_int_equal(a->feeds_max, 1000000);
    assert_int_equal(a->limits.windows[0].count, 600000);
    assert_int_equal(a->device_limits.windows[0].count, 600);
    assert_int_equal(a->ack.level, ACK_DURABLE);
    assert_false(a->disabled);
    assert_non_null(a->live);
    assert_true(a->created_us > 0);
    assert_true(catalog_generation(f->catalog) > before);

    assert_int_equal(ASK(f, ACCOUNT_ADD, .account = SLICE("Demo"), .plan = SLICE("free"),
                         .device_limits = SLICE("5/1s, accepted")),
                     REASON_ok);
    assert_int_equal(last.ret_account->limits.windows[0].count, 30);
    assert_int_equal(last.ret_account->feeds_max, 10);
    assert_true(last.ret_account->device_limits.count_accepted);

    refused(f, ASK(f, ACCOUNT_ADD, .account = SLICE("demo")), REASON_conflict, "\"demo\" exists");
    refused(f, ASK(f, ACCOUNT_ADD, .account = SLICE("a b")), REASON_bad_request, "a username has");
    refused(f, ASK(f, ACCOUNT_ADD, .account = SLICE("")), REASON_bad_request, "a username has");
    refused(f, ASK(f, ACCOUNT_ADD, .account = SLICE("time")), REASON_bad_request, "is reserved");
    struct stat file;
    assert_int_equal(stat(f->path, &file), 0);
    assert_int_equal(file.st_mode & 0777, 0600);
    refused(f, ASK(f, ACCOUNT_ADD, .account = SLICE("x"), .plan = SLICE("gold")),
            REASON_bad_request, "no plan \"gold\"");
    refused(f, ASK(f, ACCOUNT_ADD, .account = SLICE("x"), .limits = SLICE("60")),
            REASON_bad_request, "limits: \"60\" is no limit");
    refused(f, ASK(f, ACCOUNT_REMOVE, .account = SLICE("nobody")), REASON_not_found,
            "no account \"nobody\"");
    assert_null(catalog_account(f->catalog, SLICE("x")));
    assert_null(catalog_account(f->catalog, SLICE("DEMO")));

    struct buf all;
    buf_init(&all, 1 << 20);
    assert_int_equal(catalog_accounts(f->catalog, &all), 2);
    struct account **list = (void *)all.ptr;
    assert_true(slice_eq(list[0]->name, SLICE("demo")) && slice_eq(list[1]->name, SLICE("Demo")));
    account_unref(list[0]);
    account_unref(list[1]);
    buf_fini(&all);
    forget_last();
}

static void account_changes_reach_its_credentials(void **state)
{
    struct fixture *f = *state;
    add_account(f, "demo");
    assert_int_equal(add_key(f, "demo", "k", 1), REASON_ok);
    struct credential *key = credential_ref(last.ret_credential);
    assert_int_equal(ASK(f, DEVICE_ADD, .account = SLICE("demo"), .name = SLICE("dev"),
                         .verifier = SLICE(HASH_1), .patterns = SLICE("a, b.*")),
                     REASON_ok);
    struct credential *device = credential_ref(last.ret_credential);
    struct account *old = catalog_account(f->catalog, SLICE("demo"));
    atomic_store(&old->live->told, 42);

    assert_int_equal(ASK(f, ACCOUNT_LIMITS, .account = SLICE("demo"), .limits = SLICE("7/1s")),
                     REASON_ok);
    assert_ptr_not_equal(last.ret_account, old);
    assert_ptr_equal(last.ret_account->live, old->live);
    assert_int_equal(last.ret_account->limits.windows[0].count, 7);
    assert_int_equal(old->limits.windows[0].count, 600000);
    struct credential *now = catalog_device(f->catalog, SLICE("dev"));
    assert_ptr_not_equal(now, device);
    assert_true(now->version > device->version);
    assert_ptr_equal(now->live, device->live);
    assert_ptr_equal(now->account, last.ret_account);
    assert_true(slice_eq(now->verifier, SLICE(HASH_1)));
    assert_int_equal(now->patterns_count, 2);
    assert_true(slice_eq(now->patterns[1], SLICE("b.*")));
    uint64_t version = now->version;
    credential_unref(now);
    now = catalog_credential(f->catalog, key->number);
    assert_true(now->version > key->version);
    assert_ptr_equal(now->account, last.ret_account);
    credential_unref(now);

    assert_int_equal(ASK(f, ACCOUNT_DISABLE, .account = SLICE("demo"), .disabled = true),
                     REASON_ok);
    assert_true(last.ret_account->disabled);
    assert_int_equal(last.ret_account->limits.windows[0].count, 7);
    assert_int_equal(last.ret_account->live->told, 42);
    reopen(f);
    now = catalog_device(f->catalog, SLICE("dev"));
    assert_true(now->account->disabled);
    assert_true(now->version > version);
    credential_unref(now);
    assert_int_equal(ASK(f, ACCOUNT_LIMITS, .account = SLICE("demo"), .plan = SLICE("free")),
                     REASON_ok);
    assert_int_equal(last.ret_account->limits.windows[0].count, 30);
    refused(f, ASK(f, ACCOUNT_LIMITS, .account = SLICE("demo"), .plan = SLICE("x")),
            REASON_bad_request, "no plan");
    refused(f, ASK(f, ACCOUNT_DISABLE, .account = SLICE("x")), REASON_not_found, "no account");
    account_unref(old);
    credential_unref(key);
    credential_unref(device);
    forget_last();
}

static void keys(void **state)
{
    struct fixture *f = *state;
    struct catalog_ask a = {0};
    add_account(f, "demo");
    add_account(f, "other");
    assert_int_equal(add_key(f, "demo", "main", 1), REASON_ok);
    struct credential *made = last.ret_credential;
    assert_int_equal(made->kind, CREDENTIAL_KEY);
    assert_int_equal(made->verifier_kind, VERIFIER_FAST);
    assert_true(made->permissions & PERM_data_delete); /* the owner's role */
    assert_true(slice_eq(made->account->name, SLICE("demo")));
    set_digest(&a, 1);
    struct credential *found = catalog_key(f->catalog, a.digest);
    assert_ptr_equal(found, made);
    credential_unref(found);

    refused(f, add_key(f, "demo", "main", 2), REASON_conflict, "key of that name");
    refused(f, add_key(f, "other", "main", 1), REASON_conflict, "in use");
    assert_int_equal(add_key(f, "other", "main", 3), REASON_ok);
    refused(f, add_key(f, "demo", "", 4), REASON_bad_request, "key's name");
    refused(f, add_key(f, "demo", "a\nb", 4), REASON_bad_request, "key's name");
    refused(f, add_key(f, "demo", "\xff", 4), REASON_bad_request, "key's name");
    refused(f, add_key(f, "nobody", "k", 4), REASON_not_found, "no account");
    refused(f, ASK(f, KEY_ADD, .account = SLICE("demo"), .name = SLICE("k")), REASON_bad_request,
            "digest");
    a = (struct catalog_ask){
        .op = CATALOG_KEY_ADD, .account = SLICE("demo"), .name = SLICE("k"), .role = SLICE("king")};
    set_digest(&a, 4);
    refused(f, ask(f, a), REASON_bad_request, "no role \"king\"");
    a.role = SLICE("reader");
    assert_int_equal(ask(f, a), REASON_ok);
    assert_int_equal(last.ret_credential->permissions,
                     PERM_data_read | PERM_feed_read | PERM_account_read);

    uint64_t generation = catalog_generation(f->catalog);
    assert_int_equal(ASK(f, KEY_REMOVE, .account = SLICE("demo"), .name = SLICE("main")),
                     REASON_ok);
    assert_true(slice_eq(last.ret_credential->name, SLICE("main")));
    assert_true(catalog_generation(f->catalog) > generation);
    set_digest(&a, 1);
    assert_null(catalog_key(f->catalog, a.digest));
    assert_null(catalog_credential(f->catalog, last.ret_credential->number));
    refused(f, ASK(f, KEY_REMOVE, .account = SLICE("demo"), .name = SLICE("main")),
            REASON_not_found, "no key \"main\"");
    struct buf all;
    buf_init(&all, 1 << 20);
    uint64_t demo = number_of(f, "demo");
    assert_int_equal(catalog_credentials(f->catalog, demo, CREDENTIAL_DEVICE, &all), 0);
    assert_int_equal(catalog_credentials(f->catalog, demo, CREDENTIAL_KEY, &all), 1);
    credential_unref(*(struct credential **)(void *)all.ptr);
    buf_fini(&all);
    forget_last();
}

static void devices(void **state)
{
    struct fixture *f = *state;
    add_account(f, "demo");
    assert_int_equal(ASK(f, DEVICE_ADD, .account = SLICE("demo"), .name = SLICE("car-1"),
                         .verifier = SLICE(HASH_1), .patterns = SLICE(" car.*,speed ")),
                     REASON_ok);
    struct credential *c = credential_ref(last.ret_credential);
    assert_int_equal(c->kind, CREDENTIAL_DEVICE);
    assert_int_equal(c->verifier_kind, VERIFIER_CRYPT);
    assert_string_equal(c->verifier.ptr, HASH_1);
    assert_int_equal(c->permissions, PERM_data_write | PERM_data_read | PERM_feed_read |
                                         PERM_feed_write | PERM_account_read);
    assert_true(credential_covers(c, SLICE("car.x")) && credential_covers(c, SLICE("speed")));
    assert_false(credential_covers(c, SLICE("other")));

#define DEVICE(...) ASK(f, DEVICE_ADD, .account = SLICE("demo"), __VA_ARGS__)
    refused(f, DEVICE(.name = SLICE("car-1"), .verifier = SLICE("$x")), REASON_conflict, "that id");
    refused(f, DEVICE(.name = SLICE("car:2"), .verifier = SLICE("$x")), REASON_bad_request, "':'");
    refused(f, DEVICE(.name = SLICE("car 2"), .verifier = SLICE("$x")), REASON_bad_request,
            "blank");
    refused(f, DEVICE(.name = SLICE("c"), .verifier = SLICE("a b")), REASON_bad_request, "crypt");
    refused(f, DEVICE(.name = SLICE("c")), REASON_bad_request, "one verifier");
    refused(f, DEVICE(.name = SLICE("c"), .verifier = SLICE("$x"), .patterns = SLICE("A")),
            REASON_bad_request, "patterns");
    refused(f,
            DEVICE(.name = SLICE("c"), .verifier = SLICE("$x"),
                   .patterns = SLICE("1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17")),
            REASON_bad_request, "at most 16");
    refused(f, DEVICE(.name = SLICE("c"), .verifier = SLICE("$x"), .role = SLICE("x")),
            REASON_bad_request, "no role");
    assert_null(catalog_device(f->catalog, SLICE("c")));

    /* The slot is shared while the verifier stays, and empty after it changed. */
    spin_lock(&c->live->lock);
    c->live->set = 1;
    c->live->tag[3] = 9;
    c->live->version = c->version;
    spin_unlock(&c->live->lock);
    assert_int_equal(ASK(f, DEVICE_DISABLE, .name = SLICE("car-1"), .disabled = true), REASON_ok);
    assert_ptr_equal(last.ret_credential->live, c->live);
    assert_true(last.ret_credential->disabled && last.ret_credential->version > c->version);
    assert_int_equal(c->live->set, 1);
    assert_int_equal(ASK(f, DEVICE_SECRET, .name = SLICE("car-1"), .verifier = SLICE(HASH_2)),
                     REASON_ok);
    assert_string_equal(last.ret_credential->verifier.ptr, HASH_2);
    assert_true(last.ret_credential->disabled);
    assert_int_equal(last.ret_credential->live->set, 0);
    assert_int_equal(last.ret_credential->live->tag[3], 0);
    assert_string_equal(c->verifier.ptr, HASH_1); /* who holds the old record still sees it whole */
    struct catalog_ask fast = {.op = CATALOG_DEVICE_SECRET, .name = SLICE("car-1")};
    set_digest(&fast, 5);
    assert_int_equal(ask(f, fast), REASON_ok);
    assert_int_equal(last.ret_credential->verifier_kind, VERIFIER_FAST);
    assert_memory_equal(last.ret_credential->fast, fast.digest, 32);
    assert_null(catalog_key(f->catalog, fast.digest)); /* a device's digest is no key */

    refused(f, ASK(f, DEVICE_SECRET, .name = SLICE("x"), .verifier = SLICE("$x")), REASON_not_found,
            "no device \"x\"");
    refused(f, ASK(f, DEVICE_SECRET, .name = SLICE("car-1")), REASON_bad_request, "one verifier");
    refused(f, ASK(f, DEVICE_DISABLE, .name = SLICE("x")), REASON_not_found, "no device");
    assert_int_equal(ASK(f, DEVICE_REMOVE, .name = SLICE("car-1")), REASON_ok);
    assert_null(catalog_device(f->catalog, SLICE("car-1")));
    refused(f, ASK(f, DEVICE_REMOVE, .name = SLICE("car-1")), REASON_not_found, "no device");
    credential_unref(c);
    forget_last();
}

#define FEED(...) ASK(f, FEED_ADD, .account_number = demo, __VA_ARGS__)

static void feeds(void **state)
{
    struct fixture *f = *state;
    add_account(f, "demo");
    uint64_t demo = number_of(f, "demo");
    assert_int_equal(ASK(f, FEED_ADD, .account_number = demo, .key = SLICE("temp"),
                         .feed_name = SLICE("Temp 1"), .description = SLICE("warm \"er\""),
                         .unit_symbol = SLICE("\xc2\xb0"
                                              "C"),
                         .feed_flags = FEED_NO_HISTORY),
                     REASON_ok);
    struct feed *made = feed_ref(last.ret_feed);
    assert_true(slice_eq(made->key, SLICE("temp")) && slice_eq(made->name, SLICE("Temp 1")));
    assert_true(slice_eq(made->group_key, SLICE("default")));
    assert_true(slice_eq(made->group_name, SLICE("Default")));
    assert_true(slice_eq(made->description, SLICE("warm \"er\"")));
    assert_int_equal(made->flags, FEED_NO_HISTORY);
    assert_int_equal(made->account, demo);
    assert_int_equal(made->status_timeout, 4320);
    struct feed *found = catalog_feed(f->catalog, demo, SLICE("temp"));
    assert_ptr_equal(found, made);
    feed_unref(found);
    assert_null(catalog_feed(f->catalog, demo + 1, SLICE("temp")));

    assert_int_equal(FEED(.key = SLICE("temp"), .feed_name = SLICE("Other")), REASON_ok);
    assert_ptr_equal(last.ret_feed, made);
    assert_int_equal(FEED(.key = SLICE("default.temp")), REASON_ok);
    assert_ptr_equal(last.ret_feed, made);
    refused(f, FEED(.key = SLICE("temp"), .must_create = true), REASON_conflict, "\"temp\" exists");
    assert_int_equal(FEED(.feed_name = SLICE("In Door_1.x")), REASON_ok);
    assert_true(slice_eq(last.ret_feed->key, SLICE("in-door-1-dot-x")));
    assert_int_equal(FEED(.key = SLICE("house.door")), REASON_ok);
    assert_true(slice_eq(last.ret_feed->name, SLICE("door")));
    assert_true(slice_eq(last.ret_feed->group_key, SLICE("house")));
    uint64_t house = last.ret_feed->group, door = last.ret_feed->number;
    assert_int_equal(FEED(.key = SLICE("house.roof")), REASON_ok);
    assert_int_equal(last.ret_feed->group, house);
    uint64_t roof = last.ret_feed->number;

    struct buf all;
    buf_init(&all, 1 << 20);
    assert_int_equal(catalog_feeds(f->catalog, demo, &all), 4);
    struct feed **list = (void *)all.ptr;
    for (unsigned i = 0; i < 4; i++) {
        assert_true(i == 0 || list[i]->number > list[i - 1]->number);
        feed_unref(list[i]);
    }
    buf_fini(&all);

    assert_int_equal(ASK(f, FEED_REMOVE, .feed_number = roof), REASON_ok);
    assert_true(slice_eq(last.ret_feed->key, SLICE("house.roof")));
    assert_null(catalog_feed(f->catalog, demo, SLICE("house.roof")));
    assert_null(catalog_feed_by_number(f->catalog, roof));
    assert_int_equal(FEED(.key = SLICE("house.attic")), REASON_ok); /* the group is still there */
    assert_int_equal(last.ret_feed->group, house);
    assert_int_equal(ASK(f, FEED_REMOVE, .feed_number = last.ret_feed->number), REASON_ok);
    assert_int_equal(ASK(f, FEED_REMOVE, .feed_number = door), REASON_ok);
    assert_int_equal(FEED(.key = SLICE("house.door")), REASON_ok); /* went with its last feed */
    assert_true(last.ret_feed->group > house);
    assert_true(last.ret_feed->number > roof);
    feed_unref(made);
    forget_last();
}

static void feeds_refused(void **state)
{
    struct fixture *f = *state;
    add_account(f, "demo");
    uint64_t demo = number_of(f, "demo");
    refused(f, FEED(.key = SLICE("a.b.c")), REASON_bad_request, "\"a.b.c\" is no feed key");
    refused(f, FEED(.key = SLICE("Upper")), REASON_bad_request, "is no feed key");
    refused(f, FEED(.key = SLICE("a."), ), REASON_bad_request, "is no feed key");
    refused(f, FEED(.feed_name = SLICE("")), REASON_bad_request, "Validation failed: Name may");
    refused(f, FEED(.feed_name = SLICE("a/b")), REASON_bad_request, "Validation failed: Name may");
    refused(f, FEED(.key = SLICE("k"), .feed_name = SLICE("--")), REASON_bad_request, "Validation");
    refused(f, FEED(.key = SLICE("k"), .description = SLICE("\xff")), REASON_bad_request, "UTF-8");
    refused(f, FEED(.key = SLICE("k"), .license = SLICE("a\0b")), REASON_bad_request, "UTF-8");
    refused(f, FEED(.key = SLICE("k"), .feed_flags = 64), REASON_bad_request, "flags");
    refused(f, ASK(f, FEED_ADD, .account_number = 99, .key = SLICE("k")), REASON_not_found,
            "no account 99");
    refused(f, ASK(f, FEED_REMOVE, .feed_number = 99), REASON_not_found, "no feed 99");
    assert_int_equal(catalog_stats(f->catalog).feeds, 0);
    forget_last();
}

static void feed_limit(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(ASK(f, ACCOUNT_ADD, .account = SLICE("small"), .plan = SLICE("free")),
                     REASON_ok);
    uint64_t number = last.ret_account->number;
    for (unsigned i = 0; i < 10; i++) {
        char key[16];
        snprintf(key, sizeof key, "f%u", i);
        assert_int_equal(ASK(f, FEED_ADD, .account_number = number, .key = slice_str(key)),
                         REASON_ok);
    }
    uint64_t one = last.ret_feed->number;
    refused(f, ASK(f, FEED_ADD, .account_number = number, .key = SLICE("more")), REASON_feed_limit,
            "\"small\" has 10 feeds, its plan allows 10");
    assert_int_equal(ASK(f, FEED_ADD, .account_number = number, .key = SLICE("f3")), REASON_ok);
    assert_int_equal(ASK(f, FEED_REMOVE, .feed_number = one), REASON_ok);
    assert_int_equal(ASK(f, FEED_ADD, .account_number = number, .key = SLICE("more")), REASON_ok);
    forget_last();
}

static void account_goes_with_all_it_has(void **state)
{
    struct fixture *f = *state;
    struct catalog_ask a = {0};
    add_account(f, "keep");
    add_account(f, "gone");
    uint64_t gone = number_of(f, "gone"), keep = number_of(f, "keep");
    assert_int_equal(add_key(f, "gone", "k", 1), REASON_ok);
    assert_int_equal(add_key(f, "keep", "k", 2), REASON_ok);
    assert_int_equal(
        ASK(f, DEVICE_ADD, .account = SLICE("gone"), .name = SLICE("dev"), .verifier = SLICE("$x")),
        REASON_ok);
    struct credential *held = credential_ref(last.ret_credential);
    uint64_t feed[3];
    for (unsigned i = 0; i < 3; i++) {
        char key[16];
        snprintf(key, sizeof key, "g.f%u", i);
        assert_int_equal(ASK(f, FEED_ADD, .account_number = gone, .key = slice_str(key)),
                         REASON_ok);
        feed[i] = last.ret_feed->number;
    }
    assert_int_equal(ASK(f, FEED_ADD, .account_number = keep, .key = SLICE("f")), REASON_ok);
    journal_forget(&f->journal);
    assert_int_equal(ASK(f, ACCOUNT_REMOVE, .account = SLICE("gone")), REASON_ok);
    assert_true(slice_eq(last.ret_account->name, SLICE("gone")));
    assert_null(catalog_account(f->catalog, SLICE("gone")));
    assert_null(catalog_account_by_number(f->catalog, gone));
    assert_null(catalog_device(f->catalog, SLICE("dev")));
    assert_null(catalog_feed(f->catalog, gone, SLICE("g.f1")));
    assert_null(catalog_feed_by_number(f->catalog, feed[2]));
    set_digest(&a, 1);
    assert_null(catalog_key(f->catalog, a.digest));
    struct buf none;
    buf_init(&none, 1 << 20);
    assert_int_equal(catalog_feeds(f->catalog, gone, &none), 0);
    buf_fini(&none);
    struct catalog_stats stats = catalog_stats(f->catalog);
    assert_int_equal(stats.accounts, 1);
    assert_int_equal(stats.credentials, 1);
    assert_int_equal(stats.feeds, 1);
    assert_int_equal(f->journal.count, 4);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(f->journal.kept[i].kind, RECORD_DELETED);
        assert_int_equal(f->journal.kept[i].account, gone);
        assert_int_equal(f->journal.kept[i].feed, feed[i]);
        assert_int_equal(f->journal.kept[i].credential, 77);
        assert_string_equal(f->journal.kept[i].payload, "");
    }
    assert_int_equal(f->journal.kept[3].kind, RECORD_AUDIT);
    assert_non_null(strstr(f->journal.kept[3].payload, "\"op\":\"account_remove\""));
    assert_non_null(strstr(f->journal.kept[3].payload,
                           "\"with\":{\"key\":1,\"device\":1,\"feed\":3,\"group\":2}"));
    assert_true(slice_eq(held->account->name, SLICE("gone"))); /* holders keep what they hold */
    credential_unref(held);
    reopen(f);
    assert_null(catalog_account(f->catalog, SLICE("gone")));
    assert_int_equal(catalog_stats(f->catalog).feeds, 1);
    add_account(f, "gone");
    assert_true(number_of(f, "gone") > gone);
    forget_last();
}

static const char *text_member(json_t *o, const char *name)
{
    return json_string_value(json_object_get(o, name));
}

static void journal_is_told(void **state)
{
    struct fixture *f = *state;
    add_account(f, "demo");
    uint64_t demo = number_of(f, "demo");
    assert_int_equal(add_key(f, "demo", "it's \"mine\"", 1), REASON_ok);
    assert_int_equal(ASK(f, DEVICE_ADD, .account = SLICE("demo"), .name = SLICE("dev"),
                         .verifier = SLICE(HASH_1), .patterns = SLICE("a*")),
                     REASON_ok);
    assert_int_equal(ASK(f, DEVICE_SECRET, .name = SLICE("dev"), .verifier = SLICE(HASH_2)),
                     REASON_ok);
    assert_int_equal(ASK(f, FEED_ADD, .account_number = demo, .key = SLICE("g.f"),
                         .description = SLICE("\xc3\xa9")),
                     REASON_ok);
    uint64_t feed = last.ret_feed->number;
    assert_int_equal(ASK(f, FEED_REMOVE, .feed_number = feed), REASON_ok);
    static const enum record_kind kinds[] = {RECORD_DICTIONARY, RECORD_AUDIT, RECORD_AUDIT,
                                             RECORD_AUDIT,      RECORD_AUDIT, RECORD_DICTIONARY,
                                             RECORD_DELETED,    RECORD_AUDIT};
    json_t *o[8] = {0};
    assert_int_equal(f->journal.count, 8);
    for (unsigned i = 0; i < 8; i++) {
        const struct kept *k = &f->journal.kept[i];
        assert_int_equal(k->kind, kinds[i]);
        assert_int_equal(k->account, demo);
        assert_null(strstr(k->payload, "$2b$"));
        assert_null(strstr(k->payload, "d1d1"));
        if (k->kind == RECORD_DELETED)
            continue;
        o[i] = json_loads(k->payload, JSON_REJECT_DUPLICATES, NULL);
        assert_non_null(o[i]);
        assert_int_equal(json_integer_value(json_object_get(o[i], "change_id")), i + 1);
    }
    assert_string_equal(text_member(o[0], "type"), "account");
    assert_string_equal(text_member(o[0], "name"), "demo");
    assert_string_equal(text_member(o[1], "op"), "account_add");
    assert_string_equal(text_member(o[2], "op"), "key_add");
    assert_string_equal(text_member(o[2], "actor"), "cli");
    assert_string_equal(text_member(o[2], "account"), "demo");
    assert_string_equal(text_member(o[2], "subject"), "it's \"mine\"");
    assert_int_equal(strlen(text_member(o[2], "when")), 20);
    assert_string_equal(text_member(o[4], "op"), "device_secret");
    assert_string_equal(text_member(o[5], "type"), "feed");
    assert_string_equal(text_member(o[5], "account_name"), "demo");
    assert_string_equal(text_member(o[5], "key"), "g.f");
    assert_string_equal(text_member(o[5], "group_key"), "g");
    assert_string_equal(text_member(o[5], "description"), "\xc3\xa9");
    assert_true(json_is_true(json_object_get(o[5], "history")));
    assert_int_equal(f->journal.kept[5].feed, feed);
    assert_int_equal(f->journal.kept[6].feed, feed);
    assert_string_equal(text_member(o[7], "op"), "feed_remove");
    assert_string_equal(text_member(o[7], "account"), "demo");
    for (unsigned i = 0; i < 8; i++)
        json_decref(o[i]);
    forget_last();
}

/* What others have kept of names is known to be wrong, and only then. */
static void renamings_are_counted(void **state)
{
    struct fixture *f = *state;
    add_account(f, "demo");
    uint64_t demo = number_of(f, "demo");
    assert_int_equal(
        ASK(f, FEED_ADD, .account_number = demo, .key = SLICE("a"), .feed_name = SLICE("A")),
        REASON_ok);
    uint64_t feed = last.ret_feed->number;
    assert_int_equal(add_key(f, "demo", "main", 1), REASON_ok);
    assert_int_equal(catalog_renamings(f->catalog), 0);
    assert_int_equal(ASK(f, FEED_CHANGE, .account_number = demo, .feed_number = feed,
                         .description = SLICE("what it is")),
                     REASON_ok);
    assert_int_equal(catalog_renamings(f->catalog), 0);
    assert_int_equal(
        ASK(f, FEED_CHANGE, .account_number = demo, .feed_number = feed, .key = SLICE("b")),
        REASON_ok);
    assert_int_equal(catalog_renamings(f->catalog), 1);
    assert_int_equal(ASK(f, FEED_REMOVE, .account_number = demo, .feed_number = feed), REASON_ok);
    assert_int_equal(catalog_renamings(f->catalog), 2);
    forget_last();
}

static void odd_asks(void **state)
{
    struct fixture *f = *state;
    struct catalog_ask a = {.op = (enum catalog_op)99};
    refused(f, ask(f, a), REASON_bad_request, "no such change");
    last = (struct catalog_ask){
        .op = CATALOG_ACCOUNT_ADD, .account = SLICE("a"), .actor = SLICE("\xff\xfe")};
    assert_int_equal(catalog_call(f->catalog, &last), REASON_bad_request);
    struct catalog_ask bad = {.op = CATALOG_ACCOUNT_REMOVE, .account = SLICE("a\n\"b'")};
    refused(f, ask(f, bad), REASON_not_found, "there is no account \"a??b");
    f->opts.ack = (struct ack){.level = ACK_APPLIED};
    f->opts.has_ack = true;
    reopen(f);
    add_account(f, "demo");
    assert_int_equal(last.ret_account->ack.level, ACK_APPLIED);
    forget_last();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(accounts),
        TEST(account_changes_reach_its_credentials),
        TEST(keys),
        TEST(devices),
        TEST(feeds),
        TEST(feeds_refused),
        TEST(feed_limit),
        TEST(odd_asks),
        TEST(renamings_are_counted),
        TEST(account_goes_with_all_it_has),
        TEST(journal_is_told),
    };
    return cmocka_run_group_tests_name("catalog", tests, NULL, NULL);
}
