/* SPDX-License-Identifier: Apache-2.0 */
/* What the audit records of changes say: who, what, before, after, and never a secret. */
#include "catalog/catalog_testing.h"

#include <jansson.h>

#define HASH_1 "$2b$04$abcdefghijklmnopqrstuuZ1zQYW0nqfKWjDLAHWDAdKzjVXQPXaC"
#define HASH_2 "$2b$04$zyxwvutsrqponmlkjihgfuZ1zQYW0nqfKWjDLAHWDAdKzjVXQPXaC"

/* The only audit record since the last look, whose op must be this one. The caller's to free. */
static json_t *told(struct fixture *f, const char *op)
{
    json_t *found = NULL;
    for (unsigned i = 0; i < f->journal.count; i++) {
        const struct kept *k = &f->journal.kept[i];
        if (k->kind != RECORD_AUDIT)
            continue;
        if (found)
            fail_msg("two records: %s", k->payload);
        assert_null(strstr(k->payload, "$2b$"));
        found = json_loads(k->payload, JSON_REJECT_DUPLICATES, NULL);
        assert_non_null(found);
        assert_int_equal(k->account, json_integer_value(json_object_get(found, "account_number")));
    }
    if (!found)
        fail_msg("nothing is said of %s", op);
    assert_string_equal(json_string_value(json_object_get(found, "op")), op);
    journal_forget(&f->journal);
    return found;
}

/* `name` of the record as compact JSON is `wanted`; NULL: it is not there. Gives the record back.
 */
static void says(json_t *record, const char *name, const char *wanted)
{
    json_t *value = json_object_get(record, name);
    char *text = value ? json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
    if (!wanted && text)
        fail_msg("%s is %s", name, text);
    if (wanted && (!text || strcmp(text, wanted) != 0))
        fail_msg("%s is %s, not %s", name, text ? text : "missing", wanted);
    free(text);
}

#define NEW_ACCOUNT                                                                                \
    "{\"name\":\"demo\",\"plan\":\"fleet\",\"limits\":null,\"device_limits\":null,"                \
    "\"disabled\":false,\"topics\":\"adafruit\",\"ack\":null}"

static void accounts_are_told(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(ASK(f, ACCOUNT_ADD, .account = SLICE("demo"), .from = SLICE("192.0.2.7")),
                     REASON_ok);
    json_t *o = told(f, "account_add");
    says(o, "actor", "\"cli\"");
    says(o, "from", "\"192.0.2.7\"");
    says(o, "account", "\"demo\"");
    says(o, "subject", "\"demo\"");
    says(o, "before", NULL);
    says(o, "after", NEW_ACCOUNT);
    json_decref(o);
    ASK(f, ACCOUNT_LIMITS, .account = SLICE("demo"), .plan = SLICE("free"), .limits = SLICE("7/1s"),
        .has_topics = true, .topics = TOPICS_ANY, .ack = SLICE("delivered:kafka"));
    o = told(f, "account_limits");
    says(o, "from", NULL);
    says(o, "before", NEW_ACCOUNT);
    says(o, "after",
         "{\"name\":\"demo\",\"plan\":\"free\",\"limits\":\"7/1s\",\"device_limits\":null,"
         "\"disabled\":false,\"topics\":\"any\",\"ack\":\"delivered:kafka\"}");
    json_decref(o);
    ASK(f, ACCOUNT_DISABLE, .account = SLICE("demo"), .disabled = true);
    o = told(f, "account_disable");
    assert_false(json_is_true(json_object_get(json_object_get(o, "before"), "disabled")));
    assert_true(json_is_true(json_object_get(json_object_get(o, "after"), "disabled")));
    json_decref(o);
    ASK(f, DEVICE_ADD, .account = SLICE("demo"), .name = SLICE("d"), .verifier = SLICE(HASH_1));
    add_key(f, "demo", "k", 1);
    journal_forget(&f->journal);
    ASK(f, ACCOUNT_REMOVE, .account = SLICE("demo"));
    o = told(f, "account_remove");
    says(o, "after", NULL);
    says(o, "with", "{\"key\":1,\"device\":1,\"group\":1}");
    json_decref(o);
    forget_last();
}

static void credentials_are_told(void **state)
{
    struct fixture *f = *state;
    add_account(f, "demo");
    journal_forget(&f->journal);
    add_key(f, "demo", "k", 1);
    json_t *o = told(f, "key_add");
    says(o, "subject", "\"k\"");
    says(o, "after",
         "{\"role\":\"owner\",\"patterns\":\"\",\"verifier\":\"fast\",\"disabled\":false}");
    json_decref(o);
    ASK(f, KEY_REMOVE, .account = SLICE("demo"), .name = SLICE("k"));
    o = told(f, "key_remove");
    says(o, "before",
         "{\"role\":\"owner\",\"patterns\":\"\",\"verifier\":\"fast\",\"disabled\":false}");
    json_decref(o);
    ASK(f, DEVICE_ADD, .account = SLICE("demo"), .name = SLICE("d"), .verifier = SLICE(HASH_1),
        .patterns = SLICE("a*"));
    o = told(f, "device_add");
    says(o, "after",
         "{\"role\":\"device\",\"patterns\":\"a*\",\"verifier\":\"crypt\",\"disabled\":false}");
    json_decref(o);
    ASK(f, DEVICE_SECRET, .name = SLICE("d"), .verifier = SLICE(HASH_2));
    o = told(f, "device_secret");
    assert_non_null(json_object_get(o, "before"));
    json_decref(o);
    ASK(f, DEVICE_DISABLE, .name = SLICE("d"), .disabled = true);
    o = told(f, "device_disable");
    assert_true(json_is_true(json_object_get(json_object_get(o, "after"), "disabled")));
    json_decref(o);
    ASK(f, DEVICE_REMOVE, .name = SLICE("d"));
    o = told(f, "device_remove");
    says(o, "after", NULL);
    json_decref(o);
    forget_last();
}

/* Feeds have no audit call of their own: the triggers alone see to it. */
static void feeds_are_told(void **state)
{
    struct fixture *f = *state;
    add_account(f, "demo");
    uint64_t demo = number_of(f, "demo");
    journal_forget(&f->journal);
    ASK(f, FEED_ADD, .account_number = demo, .key = SLICE("g.a"), .must_create = true);
    json_t *o = told(f, "feed_add");
    says(o, "account", "\"demo\"");
    says(o, "subject", "\"g.a\"");
    says(o, "with", "{\"group\":1}");
    assert_string_equal(json_string_value(json_object_get(json_object_get(o, "after"), "key")),
                        "g.a");
    json_decref(o);
    ASK(f, FEED_REMOVE, .feed_number = last.ret_feed->number);
    o = told(f, "feed_remove");
    says(o, "subject", "\"g.a\"");
    json_decref(o);
    /* One that a message makes is data, and one that is there already is no change. */
    ASK(f, FEED_ADD, .account_number = demo, .key = SLICE("b"));
    ASK(f, FEED_ADD, .account_number = demo, .key = SLICE("b"));
    for (unsigned i = 0; i < f->journal.count; i++)
        assert_int_not_equal(f->journal.kept[i].kind, RECORD_AUDIT);
    forget_last();
}

static void refused_asks_are_not_told(void **state)
{
    struct fixture *f = *state;
    add_account(f, "demo");
    journal_forget(&f->journal);
    assert_int_not_equal(ASK(f, ACCOUNT_ADD, .account = SLICE("demo")), REASON_ok);
    assert_int_not_equal(ASK(f, DEVICE_REMOVE, .name = SLICE("none")), REASON_ok);
    assert_int_equal(f->journal.count, 0);
    /* Nor do their rows show up in the record of the next one. */
    ASK(f, ACCOUNT_ADD, .account = SLICE("next"));
    json_t *o = told(f, "account_add");
    says(o, "with", "{\"group\":1}");
    json_decref(o);
    forget_last();
}

static void notes(void **state)
{
    struct fixture *f = *state;
    add_account(f, "demo");
    journal_forget(&f->journal);
    uint64_t generation = catalog_generation(f->catalog);
    assert_int_equal(ASK(f, NOTE, .name = SLICE("backup"), .feed_name = SLICE("/var/\"b\""),
                         .description = SLICE("{\"bytes\":12}")),
                     REASON_ok);
    json_t *o = told(f, "backup");
    says(o, "subject", "\"/var/\\\"b\\\"\"");
    says(o, "note", "{\"bytes\":12}");
    says(o, "account_number", "0");
    json_decref(o);
    assert_int_equal(ASK(f, NOTE, .name = SLICE("erase"), .account = SLICE("demo")), REASON_ok);
    o = told(f, "erase");
    says(o, "account", "\"demo\"");
    json_decref(o);
    assert_int_equal(ASK(f, NOTE, .name = SLICE("")), REASON_bad_request);
    assert_int_equal(ASK(f, NOTE, .name = SLICE("a"), .description = SLICE("\xff")),
                     REASON_bad_request);
    assert_int_equal(ASK(f, NOTE, .name = SLICE("a"), .account = SLICE("none")), REASON_not_found);
    assert_int_equal(f->journal.count, 0);
    assert_int_equal(catalog_generation(f->catalog), generation);
    assert_int_equal(catalog_stats(f->catalog).outbox, 0);
    forget_last();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(accounts_are_told),
        TEST(credentials_are_told),
        TEST(feeds_are_told),
        TEST(refused_asks_are_not_told),
        TEST(notes),
    };
    return cmocka_run_group_tests_name("audit", tests, NULL, NULL);
}
