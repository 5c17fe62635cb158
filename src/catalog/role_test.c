/* SPDX-License-Identifier: Apache-2.0 */
/* Roles, plans and changes of who has them: in force for all at once, and after a restart. */
#include "catalog/catalog_testing.h"

static void refused(enum reason got, enum reason reason, const char *why)
{
    assert_int_equal(got, reason);
    if (!strstr(last.text, why))
        fail_msg("\"%s\" does not say \"%s\"", last.text, why);
}

static struct buf list;

/* An ask about a role or a plan; the answer's rows are in `list`. */
static enum reason about(struct fixture *f, struct catalog_ask a)
{
    buf_fini(&list);
    buf_init(&list, 1u << 20);
    a.ret_list = &list;
    return ask(f, a);
}

#define ABOUT(f, what, ...) about((f), (struct catalog_ask){.op = CATALOG_##what, __VA_ARGS__})

static const struct catalog_role *roles(void)
{
    return (const void *)list.ptr;
}

static const struct catalog_plan *plans(void)
{
    return (const void *)list.ptr;
}

static struct credential *device(struct fixture *f, const char *name)
{
    struct credential *c = catalog_device(f->catalog, slice_str(name));
    assert_non_null(c);
    return c;
}

static void add_device(struct fixture *f, const char *name, const char *role)
{
    assert_int_equal(ASK(f, DEVICE_ADD, .account = SLICE("demo"), .name = slice_str(name),
                         .role = slice_str(role), .verifier = SLICE("$2b$04$x")),
                     REASON_ok);
}

/* The newest journal record is an audit one with these words in it. */
static void audited(struct fixture *f, const char *op, const char *more)
{
    const struct kept *k = &f->journal.kept[f->journal.count - 1];
    assert_int_equal(k->kind, RECORD_AUDIT);
    if (!strstr(k->payload, op) || !strstr(k->payload, more))
        fail_msg("%s lacks %s or %s", k->payload, op, more);
}

static void seeds(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(ABOUT(f, ROLE_LIST), REASON_ok);
    assert_int_equal(list.len, 5 * sizeof(struct catalog_role));
    assert_string_equal(roles()[0].name, "admin");
    assert_int_equal(roles()[0].permissions, PERM_ADMIN);
    for (unsigned i = 1; i < 5; i++)
        assert_int_equal(roles()[i].permissions & PERM_ADMIN, 0);
    assert_int_equal(ABOUT(f, PLAN_LIST, .name = SLICE("free")), REASON_ok);
    assert_int_equal(list.len, sizeof(struct catalog_plan));
    assert_string_equal(plans()->limits, "30/60s");
    refused(ABOUT(f, ROLE_LIST, .name = SLICE("king")), REASON_not_found, "no role \"king\"");
    refused(ABOUT(f, PLAN_LIST, .name = SLICE("gold")), REASON_not_found, "no plan \"gold\"");
    buf_fini(&list);
    forget_last();
}

static void a_role_changes_for_all_who_have_it(void **state)
{
    struct fixture *f = *state;
    add_account(f, "demo");
    assert_int_equal(
        ABOUT(f, ROLE_ADD, .name = SLICE("viewer"), .permissions = SLICE("feed_read, data_read")),
        REASON_ok);
    assert_int_equal(roles()->permissions, PERM_data_read | PERM_feed_read);
    audited(f, "\"op\":\"role_add\"", "\"permissions\":\"data_read|feed_read\"");
    refused(ABOUT(f, ROLE_ADD, .name = SLICE("viewer"), .permissions = SLICE("data_read")),
            REASON_conflict, "exists");
    refused(ABOUT(f, ROLE_ADD, .name = SLICE("a b"), .permissions = SLICE("data_read")),
            REASON_bad_request, "letters");
    refused(ABOUT(f, ROLE_ADD, .name = SLICE("x"), .permissions = SLICE("data_read,fly")),
            REASON_bad_request, "no permission \"fly\"");
    refused(ABOUT(f, ROLE_ADD, .name = SLICE("x"), .permissions = SLICE("")), REASON_bad_request,
            "at least one");
    refused(ABOUT(f, ROLE_CHANGE, .name = SLICE("x"), .permissions = SLICE("data_read")),
            REASON_not_found, "no role \"x\"");

    add_device(f, "d1", "viewer");
    add_device(f, "d2", "viewer");
    add_device(f, "other", "writer");
    struct credential *before = device(f, "d2"), *other = device(f, "other");
    uint64_t generation = catalog_generation(f->catalog);
    assert_int_equal(
        ABOUT(f, ROLE_CHANGE, .name = SLICE("viewer"), .permissions = SLICE("data_write")),
        REASON_ok);
    assert_int_equal(roles()->credentials, 2);
    audited(f, "\"op\":\"role_change\"", "\"permissions\":\"data_write\"");
    assert_true(catalog_generation(f->catalog) > generation);
    struct credential *after = device(f, "d2"), *same = device(f, "other");
    assert_int_equal(after->permissions, PERM_data_write);
    assert_true(after->version > before->version);
    assert_ptr_equal(after->live, before->live);
    assert_ptr_equal(same, other);
    uint64_t version = after->version;
    credential_unref(before);
    credential_unref(after);
    credential_unref(same);
    credential_unref(other);
    reopen(f);
    after = device(f, "d2");
    assert_int_equal(after->version, version);
    assert_int_equal(after->permissions, PERM_data_write);
    assert_true(slice_eq(after->role, SLICE("viewer")));
    credential_unref(after);

    refused(ABOUT(f, ROLE_REMOVE, .name = SLICE("viewer")), REASON_conflict, "2 keys and devices");
    assert_int_equal(ASK(f, DEVICE_REMOVE, .name = SLICE("d1")), REASON_ok);
    assert_int_equal(ASK(f, DEVICE_REMOVE, .name = SLICE("d2")), REASON_ok);
    assert_int_equal(ABOUT(f, ROLE_REMOVE, .name = SLICE("viewer")), REASON_ok);
    audited(f, "\"op\":\"role_remove\"", "\"subject\":\"viewer\"");
    refused(ABOUT(f, ROLE_REMOVE, .name = SLICE("viewer")), REASON_not_found, "no role");
    refused(ABOUT(f, ROLE_REMOVE, .name = SLICE("owner")), REASON_bad_request, "cannot be removed");
    refused(ABOUT(f, ROLE_REMOVE, .name = SLICE("device")), REASON_bad_request, "cannot be");
    buf_fini(&list);
    forget_last();
}

static void a_plan_changes_for_all_who_have_it(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(ABOUT(f, PLAN_ADD, .name = SLICE("class"), .limits = SLICE("5/60s"),
                           .has_feeds_max = true, .feeds_max = 7),
                     REASON_ok);
    assert_int_equal(plans()->feeds_max, 7);
    refused(ABOUT(f, PLAN_ADD, .name = SLICE("class")), REASON_conflict, "exists");
    refused(ABOUT(f, PLAN_ADD, .name = SLICE("x"), .limits = SLICE("many")), REASON_bad_request,
            "limits");
    refused(ABOUT(f, PLAN_CHANGE, .name = SLICE("x")), REASON_not_found, "no plan \"x\"");
    assert_int_equal(ASK(f, ACCOUNT_ADD, .account = SLICE("demo"), .plan = SLICE("class")),
                     REASON_ok);
    assert_int_equal(ASK(f, ACCOUNT_ADD, .account = SLICE("own"), .plan = SLICE("class"),
                         .limits = SLICE("99/1s")),
                     REASON_ok);
    add_device(f, "d", "device");
    struct credential *before = device(f, "d");
    assert_int_equal(ABOUT(f, PLAN_CHANGE, .name = SLICE("class"), .limits = SLICE("8/60s"),
                           .keep_device_limits = true),
                     REASON_ok);
    assert_int_equal(plans()->accounts, 2);
    assert_int_equal(plans()->feeds_max, 7);
    audited(f, "\"op\":\"plan_change\"", "\"limits\":\"8/60s\"");
    struct credential *after = device(f, "d");
    assert_int_equal(after->account->limits.windows[0].count, 8);
    assert_true(after->version > before->version);
    uint64_t version = after->version;
    credential_unref(before);
    credential_unref(after);
    struct account *own = catalog_account(f->catalog, SLICE("own"));
    assert_int_equal(own->limits.windows[0].count, 99);
    assert_true(slice_eq(own->plan, SLICE("class")));
    account_unref(own);
    reopen(f);
    after = device(f, "d");
    assert_int_equal(after->version, version);
    assert_int_equal(after->account->limits.windows[0].count, 8);
    credential_unref(after);
    /* No limit at all, which is not the same as leaving it out. */
    assert_int_equal(ABOUT(f, PLAN_CHANGE, .name = SLICE("class"), .keep_device_limits = true),
                     REASON_ok);
    after = device(f, "d");
    assert_int_equal(after->account->limits.windows_count, 0);
    credential_unref(after);
    refused(ABOUT(f, PLAN_REMOVE, .name = SLICE("class")), REASON_conflict, "2 accounts");
    refused(ABOUT(f, PLAN_REMOVE, .name = SLICE("fleet")), REASON_bad_request, "cannot be removed");
    assert_int_equal(ABOUT(f, PLAN_REMOVE, .name = SLICE("free")), REASON_ok);
    refused(ASK(f, ACCOUNT_ADD, .account = SLICE("x"), .plan = SLICE("free")), REASON_bad_request,
            "no plan \"free\"");
    buf_fini(&list);
    forget_last();
}

static void says_ack(struct fixture *f, const char *account, enum ack_level level, const char *sink)
{
    struct account *a = catalog_account(f->catalog, slice_str(account));
    assert_int_equal(a->ack.level, level);
    assert_string_equal(a->ack.sink, sink);
    account_unref(a);
}

/* The account's goes before its plan's, that before the server's; also when they are read again. */
static void ack_levels_are_inherited(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(ABOUT(f, PLAN_ADD, .name = SLICE("p"), .ack = SLICE("applied")), REASON_ok);
    assert_string_equal(plans()->ack, "applied");
    assert_int_equal(ASK(f, ACCOUNT_ADD, .account = SLICE("a"), .plan = SLICE("p")), REASON_ok);
    assert_int_equal(ASK(f, ACCOUNT_ADD, .account = SLICE("b"), .plan = SLICE("p"),
                         .ack = SLICE("delivered:kafka")),
                     REASON_ok);
    assert_int_equal(ASK(f, ACCOUNT_ADD, .account = SLICE("c")), REASON_ok);
    f->opts.has_ack = true;
    f->opts.ack = (struct ack){ACK_DELIVERED, "webhook"};
    says_ack(f, "c", ACK_DURABLE, "");
    for (unsigned i = 0; i < 2; i++) {
        says_ack(f, "a", ACK_APPLIED, "");
        says_ack(f, "b", ACK_DELIVERED, "kafka");
        reopen(f);
        says_ack(f, "c", ACK_DELIVERED, "webhook");
    }
    assert_int_equal(ABOUT(f, PLAN_CHANGE, .name = SLICE("p"), .keep_limits = true), REASON_ok);
    assert_string_equal(plans()->ack, "applied");
    assert_int_equal(ABOUT(f, PLAN_CHANGE, .name = SLICE("p"), .ack = SLICE("")), REASON_ok);
    says_ack(f, "a", ACK_DELIVERED, "webhook");
    says_ack(f, "b", ACK_DELIVERED, "kafka");
    assert_int_equal(ASK(f, ACCOUNT_LIMITS, .account = SLICE("b"), .limits = SLICE("1/1s")),
                     REASON_ok);
    says_ack(f, "b", ACK_DELIVERED, "kafka");
    assert_int_equal(ASK(f, ACCOUNT_LIMITS, .account = SLICE("b"), .ack = SLICE("")), REASON_ok);
    says_ack(f, "b", ACK_DELIVERED, "webhook");
    const char *wrong = "ack must be received, durable, applied or delivered:SINK";
    refused(ASK(f, ACCOUNT_LIMITS, .account = SLICE("b"), .ack = SLICE("soon")), REASON_bad_request,
            wrong);
    refused(ABOUT(f, PLAN_CHANGE, .name = SLICE("p"), .ack = SLICE("delivered:")),
            REASON_bad_request, wrong);
    buf_fini(&list);
    forget_last();
}

static void accounts_keep_what_is_not_changed(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(ASK(f, ACCOUNT_ADD, .account = SLICE("demo"), .limits = SLICE("5/1s"),
                         .device_limits = SLICE("2/1s")),
                     REASON_ok);
    assert_int_equal(ASK(f, ACCOUNT_LIMITS, .account = SLICE("demo"), .keep_limits = true,
                         .device_limits = SLICE("3/1s")),
                     REASON_ok);
    assert_int_equal(last.ret_account->limits.windows[0].count, 5);
    assert_int_equal(last.ret_account->device_limits.windows[0].count, 3);
    assert_int_equal(ASK(f, ACCOUNT_LIMITS, .account = SLICE("demo"), .plan = SLICE("free"),
                         .keep_device_limits = true),
                     REASON_ok);
    assert_int_equal(last.ret_account->limits.windows[0].count, 30); /* the plan's */
    assert_int_equal(last.ret_account->device_limits.windows[0].count, 3);
    assert_true(slice_eq(last.ret_account->plan, SLICE("free")));
    forget_last();
}

static void devices_change(void **state)
{
    struct fixture *f = *state;
    add_account(f, "demo");
    add_device(f, "d", "device");
    assert_int_equal(
        ASK(f, DEVICE_CHANGE, .name = SLICE("d"), .role = SLICE("writer"), .keep_patterns = true),
        REASON_ok);
    assert_int_equal(last.ret_credential->permissions, PERM_data_write);
    assert_int_equal(last.ret_credential->patterns_count, 0);
    assert_int_equal(ASK(f, DEVICE_CHANGE, .name = SLICE("d"), .patterns = SLICE("a, b.*")),
                     REASON_ok);
    assert_int_equal(last.ret_credential->patterns_count, 2);
    assert_int_equal(last.ret_credential->permissions, PERM_data_write);
    audited(f, "\"op\":\"device_change\"", "\"patterns\":\"a,b.*\"");
    assert_int_equal(ASK(f, DEVICE_CHANGE, .name = SLICE("d")), REASON_ok);
    assert_int_equal(last.ret_credential->patterns_count, 0);
    refused(ASK(f, DEVICE_CHANGE, .name = SLICE("d"), .role = SLICE("king")), REASON_bad_request,
            "no role");
    refused(ASK(f, DEVICE_CHANGE, .name = SLICE("d"), .patterns = SLICE("A b")), REASON_bad_request,
            "patterns");
    refused(ASK(f, DEVICE_CHANGE, .name = SLICE("x")), REASON_not_found, "no device \"x\"");
    forget_last();
}

static enum reason new_key(struct fixture *f, const char *name, uint64_t digest)
{
    struct catalog_ask a = {
        .op = CATALOG_KEY_SECRET, .account = SLICE("demo"), .name = slice_str(name)};
    set_digest(&a, digest);
    return ask(f, a);
}

static void keys_get_new_secrets(void **state)
{
    struct fixture *f = *state;
    struct catalog_ask of = {0};
    add_account(f, "demo");
    assert_int_equal(add_key(f, "demo", "k", 1), REASON_ok);
    uint64_t number = last.ret_credential->number, version = last.ret_credential->version;
    assert_int_equal(add_key(f, "demo", "other", 2), REASON_ok);
    for (unsigned round = 0; round < 2; round++) {
        assert_int_equal(new_key(f, "k", 10 + round), REASON_ok);
        assert_int_equal(last.ret_credential->number, number);
        assert_true(last.ret_credential->version > version);
        set_digest(&of, round ? 10 : 1);
        assert_null(catalog_key(f->catalog, of.digest));
        set_digest(&of, 10 + round);
        struct credential *found = catalog_key(f->catalog, of.digest);
        assert_ptr_equal(found, last.ret_credential);
        credential_unref(found);
        reopen(f);
    }
    refused(new_key(f, "k", 2), REASON_conflict, "in use");
    refused(new_key(f, "x", 20), REASON_not_found, "no key \"x\"");
    assert_int_equal(new_key(f, "k", 1), REASON_ok); /* the old one is free again */
    assert_int_equal(ASK(f, KEY_CHANGE, .account = SLICE("demo"), .name = SLICE("k"),
                         .role = SLICE("reader"), .patterns = SLICE("a")),
                     REASON_ok);
    assert_int_equal(last.ret_credential->patterns_count, 1);
    assert_int_equal(last.ret_credential->permissions & PERM_data_write, 0);
    assert_int_equal(ASK(f, KEY_REMOVE, .account = SLICE("demo"), .name = SLICE("k")), REASON_ok);
    set_digest(&of, 1);
    assert_null(catalog_key(f->catalog, of.digest));
    forget_last();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(seeds),
        TEST(a_role_changes_for_all_who_have_it),
        TEST(a_plan_changes_for_all_who_have_it),
        TEST(ack_levels_are_inherited),
        TEST(accounts_keep_what_is_not_changed),
        TEST(devices_change),
        TEST(keys_get_new_secrets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
