/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The commands over a catalog and a shield of this file: what is asked of them, and what is made of
 * their answers. The thread and the queue are the real ones.
 */
#include "api/admin.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "base/clock.h"
#include "base/thread.h"
#include "codec/text.h"
#include "gate/shield.h"

/* ---- the catalog of this test ------------------------------------------------------------- */
#define RECORDS_MAX 100

struct catalog {
    struct account *accounts[RECORDS_MAX];
    struct credential *credentials[RECORDS_MAX];
    unsigned accounts_count, credentials_count;
    struct catalog_ask last; /* only its values; its texts as copies below */
    char last_verifier[VERIFIER_MAX], last_actor[100], last_patterns[100];
    unsigned asks;
    _Atomic int gate; /* 1: catalog_call waits until it is 0 */
};

static struct account *add_account(struct catalog *c, struct slice name)
{
    struct account *a = account_new(name.len + 1);
    char *at = (char *)(a + 1);
    a->name = record_text(&at, name);
    a->number = ++c->accounts_count;
    a->limits = (struct limit_set){.windows = {{60, 60000}}, .windows_count = 1};
    a->ack = (struct ack){.level = ACK_DURABLE};
    a->feeds_max = 10;
    return c->accounts[c->accounts_count - 1] = a;
}

static struct credential *add_credential(struct catalog *c, const struct catalog_ask *ask,
                                         enum credential_kind kind)
{
    struct credential *r = credential_new(ask->name.len + 1 + ask->verifier.len + 1);
    char *at = (char *)(r + 1);
    r->name = record_text(&at, ask->name);
    r->kind = kind;
    r->number = ++c->credentials_count;
    r->permissions = PERM_data_write | PERM_feed_read;
    r->verifier_kind = ask->has_digest ? VERIFIER_FAST : VERIFIER_CRYPT;
    r->verifier = record_text(&at, ask->verifier);
    r->account = account_ref(c->accounts[0]);
    return c->credentials[c->credentials_count - 1] = r;
}

struct account *catalog_account(struct catalog *c, struct slice name)
{
    for (unsigned i = 0; i < c->accounts_count; i++)
        if (slice_eq(c->accounts[i]->name, name))
            return account_ref(c->accounts[i]);
    return NULL;
}

static struct credential *find(struct catalog *c, struct slice name)
{
    for (unsigned i = 0; i < c->credentials_count; i++)
        if (slice_eq(c->credentials[i]->name, name))
            return c->credentials[i];
    return NULL;
}

struct credential *catalog_device(struct catalog *c, struct slice id)
{
    struct credential *r = find(c, id);
    return r && r->kind == CREDENTIAL_DEVICE ? credential_ref(r) : NULL;
}

unsigned catalog_accounts(struct catalog *c, struct buf *ret)
{
    for (unsigned i = 0; i < c->accounts_count; i++) {
        struct account *r = account_ref(c->accounts[i]);
        buf_put(ret, &r, sizeof r);
    }
    return c->accounts_count;
}

unsigned catalog_credentials(struct catalog *c, uint64_t account, enum credential_kind kind,
                             struct buf *ret)
{
    unsigned n = 0;
    for (unsigned i = 0; i < c->credentials_count; i++)
        if (c->credentials[i]->kind == kind) {
            struct credential *r = credential_ref(c->credentials[i]);
            buf_put(ret, &r, sizeof r);
            n++;
        }
    return n;
}

struct credential *catalog_credential(struct catalog *c, uint64_t number)
{
    return NULL;
}

struct account *catalog_account_by_number(struct catalog *c, uint64_t number)
{
    return NULL;
}

struct feed *catalog_feed_by_number(struct catalog *c, uint64_t number)
{
    return NULL;
}

unsigned catalog_feeds(struct catalog *c, uint64_t account, struct buf *ret)
{
    struct feed *f = feed_new(0);
    buf_put(ret, &f, sizeof f);
    return 1;
}

enum reason catalog_call(struct catalog *c, struct catalog_ask *ask)
{
    while (c->gate)
        clock_sleep_ns(NS_PER_MS);
    c->asks++;
    c->last = *ask;
    snprintf(c->last_verifier, sizeof c->last_verifier, "%.*s", SLICE_ARG(ask->verifier));
    snprintf(c->last_actor, sizeof c->last_actor, "%.*s", SLICE_ARG(ask->actor));
    snprintf(c->last_patterns, sizeof c->last_patterns, "%.*s", SLICE_ARG(ask->patterns));
    struct credential *known = find(c, ask->name);
    switch (ask->op) {
    case CATALOG_ACCOUNT_ADD:
        if (slice_eq(ask->account, SLICE("taken"))) {
            snprintf(ask->text, sizeof ask->text, "account \"taken\" is there already");
            return REASON_conflict;
        }
        ask->ret_account = account_ref(add_account(c, ask->account));
        return REASON_ok;
    case CATALOG_KEY_ADD:
    case CATALOG_DEVICE_ADD:
        known =
            add_credential(c, ask, ask->op == CATALOG_KEY_ADD ? CREDENTIAL_KEY : CREDENTIAL_DEVICE);
        break;
    case CATALOG_DEVICE_DISABLE:
        if (known)
            known->disabled = ask->disabled;
        break;
    case CATALOG_ROLE_LIST: {
        struct catalog_role role = {.name = "writer", .permissions = PERM_data_write};
        buf_put(ask->ret_list, &role, sizeof role);
        return REASON_ok;
    }
    case CATALOG_ACCOUNT_REMOVE:
        return REASON_ok;
    default:
        break;
    }
    ask->ret_credential = known ? credential_ref(known) : NULL;
    return known ? REASON_ok : REASON_not_found;
}

struct feed *catalog_feed(struct catalog *c, uint64_t account, struct slice key)
{
    return NULL;
}

unsigned catalog_groups(struct catalog *c, uint64_t account, struct buf *ret)
{
    return 0;
}

/* A device called "busy" finds the queue full, one called "raced" is there meanwhile. */
enum reason catalog_submit(struct catalog *c, struct catalog_ask *ask)
{
    if (slice_eq(ask->name, SLICE("busy")))
        return REASON_busy;
    ask->reason = REASON_conflict;
    if (slice_eq(ask->name, SLICE("raced")))
        snprintf(ask->text, sizeof ask->text, "there is a device with that id already");
    else
        ask->reason = catalog_call(c, ask);
    ask->done(ask);
    return REASON_ok;
}

/* ---- the shield of this test -------------------------------------------------------------- */
void shield_fast_digest(struct slice secret, uint8_t ret[32])
{
    memset(ret, 0, 32);
    memcpy(ret, secret.ptr, secret.len > 32 ? 32 : secret.len);
}

int shield_crypt_new(struct slice secret, const char *prefix, unsigned cost, char ret[VERIFIER_MAX])
{
    if (secret.len > 72)
        return -22;
    snprintf(ret, VERIFIER_MAX, "%s%u$%.*s", prefix, cost, SLICE_ARG(secret));
    return 0;
}

const char *shield_verifier_problem(struct slice stored)
{
    return slice_starts(stored, SLICE("$2b$")) ? NULL : "unknown kind";
}

bool shield_secret_is_strong(struct slice secret)
{
    return (slice_starts(secret, SLICE("slu_")) && secret.len == 36) ||
           (slice_starts(secret, SLICE("aio_")) && secret.len == 32);
}

struct catalog_stats catalog_stats(struct catalog *c)
{
    return (struct catalog_stats){0};
}

/* ---- helpers ------------------------------------------------------------------------------ */
struct bench {
    struct catalog catalog;
    struct admin *admin;
    int barriers;
    int barrier_rc;
};

static int on_barrier(void *arg)
{
    struct bench *b = arg;
    b->barriers++;
    return b->barrier_rc;
}

static int setup(void **state)
{
    struct bench *b = calloc(1, sizeof *b);
    add_account(&b->catalog, SLICE("acme"));
    b->admin = admin_new(&(struct admin_opts){.catalog = &b->catalog,
                                              .barrier = on_barrier,
                                              .barrier_arg = b,
                                              .bcrypt_cost = 7,
                                              .queue_max = 3});
    *state = b;
    return 0;
}

static int teardown(void **state)
{
    struct bench *b = *state;
    admin_free(b->admin);
    for (unsigned i = 0; i < b->catalog.credentials_count; i++)
        credential_unref(b->catalog.credentials[i]);
    for (unsigned i = 0; i < b->catalog.accounts_count; i++)
        account_unref(b->catalog.accounts[i]);
    free(b);
    return 0;
}

/* Runs a command with JSON arguments; the result, or what was said, is the last call's. */
static enum reason ask(struct bench *b, const char *noun, const char *verb, const char *args,
                       struct admin_call *call)
{
    json_t *object = args ? json_loads(args, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL) : NULL;
    assert_true(!args || object);
    *call = (struct admin_call){.noun = noun, .verb = verb, .args = object, .actor = "cli"};
    enum reason reason = admin_run_wait(b->admin, call);
    json_decref(object);
    return reason;
}

static void refused(struct bench *b, const char *noun, const char *verb, const char *args,
                    enum reason reason, const char *why)
{
    struct admin_call call;
    unsigned asks = b->catalog.asks;
    assert_int_equal(ask(b, noun, verb, args, &call), reason);
    assert_null(call.ret_result);
    if (!strstr(call.text, why))
        fail_msg("\"%s\" does not say \"%s\"", call.text, why);
    assert_int_equal(b->catalog.asks, asks + (reason == REASON_conflict ? 1 : 0));
}

static const char *text(const struct admin_call *call, const char *name)
{
    return json_string_value(json_object_get(call->ret_result, name));
}

/* ---- tests -------------------------------------------------------------------------------- */
static void the_table_is_whole(void **state)
{
    unsigned n = 0;
    for (const struct admin_command *c = admin_commands; c->noun; c++, n++) {
        assert_ptr_equal(admin_find(slice_str(c->noun), slice_str(c->verb)), c);
        assert_non_null(c->run);
        char begin[100];
        snprintf(begin, sizeof begin, "sluice %s %s", c->noun, c->verb);
        assert_true(strncmp(c->example, begin, strlen(begin)) == 0);
        bool optional = false;
        for (unsigned i = 0; i < ADMIN_ARGS_MAX && c->args[i].name; i++) {
            assert_non_null(c->args[i].text);
            assert_true((c->args[i].kind == ADMIN_SWITCH) == !c->args[i].placeholder);
            bool needed = c->args[i].kind == ADMIN_NEEDED || c->args[i].kind == ADMIN_FILE;
            assert_false(optional && needed);
            optional = !needed;
        }
    }
    assert_true(n >= 15);
    assert_null(admin_find(SLICE("device"), SLICE("explode")));
}

static void checks_arguments(void **state)
{
    struct bench *b = *state;
    refused(b, "device", "explode", NULL, REASON_not_found, "no command \"device explode\"");
    refused(b, "account", "add", NULL, REASON_bad_request, "account is missing");
    refused(b, "account", "add", "{\"account\":\"\"}", REASON_bad_request, "account is missing");
    refused(b, "account", "add", "[]", REASON_bad_request, "must be an object");
    refused(b, "account", "add", "{\"account\":5}", REASON_bad_request, "account must be a text");
    refused(b, "account", "add", "{\"account\":\"x\",\"role\":\"y\"}", REASON_bad_request,
            "no argument \"role\"");
    refused(b, "account", "add", "{\"account\":\"x\\u0000y\"}", REASON_bad_request, "no NUL");
    refused(b, "device", "add", "{\"account\":\"acme\",\"device\":\"d\",\"bcrypt\":1}",
            REASON_bad_request, "bcrypt must be");
    refused(b, "account", "list", "{\"limit\":\"100001\"}", REASON_bad_request, "at most 100000");
    refused(b, "account", "list", "{\"skip\":\"-1\"}", REASON_bad_request, "must be a number");
    refused(b, "account", "list", "{\"skip\":-1}", REASON_bad_request, "skip must be a number");
    refused(b, "account", "list", "{\"skip\":1.5}", REASON_bad_request, "skip must be a number");
    refused(b, "account", "list", "{\"skip\":[1]}", REASON_bad_request, "skip must be a number");
    static const char *const lists[] = {"[1]",   "[\"a\",[\"b\"]]",      "[\"a,b\"]", "[\"\"]",
                                        "{}",    "[\"a\",\"b\\u0000\"]", "7",         "null",
                                        "[null]"};
    for (unsigned i = 0; i < sizeof lists / sizeof *lists; i++) {
        char args[200];
        snprintf(args, sizeof args, "{\"account\":\"acme\",\"device\":\"d\",\"feeds\":%s}",
                 lists[i]);
        refused(b, "device", "add", args, REASON_bad_request, "feeds must be a list of names");
    }
}

/* Numbers and arrays reach the commands as the texts that the command line gives. */
static void values_become_texts(void **state)
{
    struct bench *b = *state;
    struct admin_call call;
    assert_int_equal(ask(b, "account", "list", "{\"skip\":1,\"limit\":2}", &call), REASON_ok);
    assert_int_equal(json_array_size(json_object_get(call.ret_result, "accounts")), 0);
    json_decref(call.ret_result);
    assert_int_equal(ask(b, "device", "add",
                         "{\"account\":\"acme\",\"device\":\"d\",\"feeds\":[\"a\",\"b.*\"]}",
                         &call),
                     REASON_ok);
    json_decref(call.ret_result);
    assert_string_equal(b->catalog.last_patterns, "a,b.*");
    assert_int_equal(
        ask(b, "device", "add", "{\"account\":\"acme\",\"device\":\"e\",\"feeds\":[]}", &call),
        REASON_ok);
    json_decref(call.ret_result);
    assert_string_equal(b->catalog.last_patterns, "");
}

static void accounts(void **state)
{
    struct bench *b = *state;
    struct admin_call call;
    assert_int_equal(ask(b, "account", "add",
                         "{\"account\":\"b\",\"plan\":\"free\",\"device_limits\":\"1/1s\"}", &call),
                     REASON_ok);
    assert_string_equal(text(&call, "name"), "b");
    assert_string_equal(text(&call, "limits"), "60/1m");
    assert_string_equal(b->catalog.last_actor, "cli");
    json_decref(call.ret_result);
    refused(b, "account", "add", "{\"account\":\"taken\"}", REASON_conflict, "there already");

    assert_int_equal(ask(b, "account", "list", "{\"skip\":\"1\"}", &call), REASON_ok);
    json_t *list = json_object_get(call.ret_result, "accounts");
    assert_int_equal(json_array_size(list), 1);
    assert_string_equal(json_string_value(json_object_get(json_array_get(list, 0), "name")), "b");
    assert_int_equal(json_integer_value(json_object_get(call.ret_result, "total")), 2);
    json_decref(call.ret_result);
    assert_int_equal(ask(b, "account", "list", "{\"limit\":\"0\"}", &call), REASON_ok);
    assert_int_equal(json_array_size(json_object_get(call.ret_result, "accounts")), 0);
    json_decref(call.ret_result);

    assert_int_equal(ask(b, "account", "show", "{\"account\":\"acme\"}", &call), REASON_ok);
    assert_int_equal(json_integer_value(json_object_get(call.ret_result, "feeds")), 1);
    json_decref(call.ret_result);
    refused(b, "account", "show", "{\"account\":\"who\"}", REASON_not_found, "no account \"who\"");

    assert_int_equal(b->barriers, 0);
    assert_int_equal(ask(b, "account", "remove", "{\"account\":\"acme\"}", &call), REASON_ok);
    assert_string_equal(text(&call, "removed"), "acme");
    assert_int_equal(b->barriers, 1);
    json_decref(call.ret_result);
}

static void generated_secrets_are_fast_and_shown(void **state)
{
    struct bench *b = *state;
    struct admin_call call;
    char first[100];
    assert_int_equal(ask(b, "device", "add",
                         "{\"account\":\"acme\",\"device\":\"d1\",\"feeds\":\"a,b*\"}", &call),
                     REASON_ok);
    const char *secret = text(&call, "secret");
    assert_int_equal(strlen(secret), 36);
    assert_true(strncmp(secret, "slu_", 4) == 0);
    assert_int_equal(
        strspn(secret + 4, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"), 32);
    assert_true(b->catalog.last.has_digest);
    assert_memory_equal(b->catalog.last.digest, secret, 32);
    assert_string_equal(b->catalog.last_verifier, "");
    assert_string_equal(b->catalog.last_patterns, "a,b*");
    assert_string_equal(text(&call, "verifier"), "fast");
    snprintf(first, sizeof first, "%s", secret);
    json_decref(call.ret_result);

    assert_int_equal(ask(b, "device", "secret", "{\"device\":\"d1\"}", &call), REASON_ok);
    assert_string_not_equal(text(&call, "secret"), first);
    assert_true(json_is_true(json_object_get(call.ret_result, "workers_confirmed")));
    assert_int_equal(b->barriers, 1);
    json_decref(call.ret_result);

    assert_int_equal(ask(b, "key", "add", "{\"account\":\"acme\",\"name\":\"k\"}", &call),
                     REASON_ok);
    assert_int_equal(strlen(text(&call, "key")), 32);
    assert_true(strncmp(text(&call, "key"), "aio_", 4) == 0);
    assert_memory_equal(b->catalog.last.digest, text(&call, "key"), 32);
    json_decref(call.ret_result);

    assert_int_equal(ask(b, "device", "show", "{\"device\":\"d1\"}", &call), REASON_ok);
    assert_null(text(&call, "secret"));
    char *dump = json_dumps(call.ret_result, 0);
    assert_null(strstr(dump, "slu_"));
    free(dump);
    json_decref(call.ret_result);
}

/* Every character must come up about as often: 62 classes, 60,000 draws, far tails only. */
static void generated_secrets_are_even(void **state)
{
    struct bench *b = *state;
    unsigned seen[256] = {0}, draws = 0;
    add_credential(&b->catalog, &(struct catalog_ask){.name = SLICE("d"), .has_digest = true},
                   CREDENTIAL_DEVICE);
    for (unsigned i = 0; i < 2000; i++) {
        struct admin_call call;
        assert_int_equal(ask(b, "device", "secret", "{\"device\":\"d\"}", &call), REASON_ok);
        for (const char *at = text(&call, "secret") + 4; *at; at++, draws++)
            seen[(unsigned char)*at]++;
        json_decref(call.ret_result);
    }
    double mean = draws / 62.0;
    unsigned kinds = 0;
    for (unsigned c = 0; c < 256; c++)
        kinds += seen[c] > 0;
    assert_int_equal(kinds, 62);
    for (unsigned c = 0; c < 256; c++)
        if (seen[c] && (seen[c] < mean * 0.8 || seen[c] > mean * 1.2))
            fail_msg("'%c' came up %u times, %f were expected", c, seen[c], mean);
}

static void imported_secrets(void **state)
{
    struct bench *b = *state;
    struct admin_call call;
    static const struct {
        const char *args, *verifier;
        bool digest, shown;
    } good[] = {
        {"\"secret\":\"sesame\"", "$2b$7$sesame", false, false},
        {"\"secret\":\"slu_0123456789abcdefghijklmnopqrstuv\"", "", true, false},
        {"\"secret\":\"slu_0123456789abcdefghijklmnopqrstuv\",\"bcrypt\":true",
         "$2b$7$slu_0123456789abcdefghijklmnopqrstuv", false, false},
        {"\"hash\":\"$2b$10$abc\"", "$2b$10$abc", false, false},
        {"\"bcrypt\":\"true\"", NULL, false, true},
    };
    for (unsigned i = 0; i < sizeof good / sizeof *good; i++) {
        char args[300];
        snprintf(args, sizeof args, "{\"account\":\"acme\",\"device\":\"d%u\",%s}", i,
                 good[i].args);
        assert_int_equal(ask(b, "device", "add", args, &call), REASON_ok);
        assert_int_equal(b->catalog.last.has_digest, good[i].digest);
        if (good[i].verifier)
            assert_string_equal(b->catalog.last_verifier, good[i].verifier);
        else /* the generated secret is what was hashed */
            assert_string_equal(b->catalog.last_verifier + 6, text(&call, "secret"));
        assert_int_equal(text(&call, "secret") != NULL, good[i].shown);
        json_decref(call.ret_result);
    }
    refused(b, "device", "add", "{\"account\":\"acme\",\"device\":\"x\",\"hash\":\"md5\"}",
            REASON_bad_request, "unknown kind");
    refused(b, "device", "add",
            "{\"account\":\"acme\",\"device\":\"x\",\"hash\":\"$2b$1\",\"secret\":\"s\"}",
            REASON_bad_request, "either a hash or a secret");
    char args[1000];
    snprintf(args, sizeof args, "{\"account\":\"acme\",\"device\":\"x\",\"secret\":\"%073d\"}", 1);
    refused(b, "device", "add", args, REASON_bad_request, "at most 72 bytes");
    snprintf(args, sizeof args, "{\"account\":\"acme\",\"device\":\"x\",\"secret\":\"%0257d\"}", 1);
    refused(b, "device", "add", args, REASON_bad_request, "at most 256 bytes");
    snprintf(args, sizeof args, "{\"account\":\"acme\",\"device\":\"x\",\"hash\":\"$2b$%0200d\"}",
             1);
    refused(b, "device", "add", args, REASON_bad_request, "too long");
    refused(b, "device", "secret", "{\"device\":\"nobody\"}", REASON_not_found,
            "no device \"nobody\"");
    refused(b, "key", "add", "{\"account\":\"acme\",\"name\":\"k\",\"key\":\"weak\"}",
            REASON_bad_request, "that is no key");
    assert_int_equal(
        ask(b, "key", "add",
            "{\"account\":\"acme\",\"name\":\"k\",\"key\":\"aio_0123456789abcdefghijklmnopqr\"}",
            &call),
        REASON_ok);
    assert_null(text(&call, "key"));
    json_decref(call.ret_result);
}

/* Imports the text; the result. */
static json_t *imported(struct bench *b, const char *text, const char *args)
{
    struct admin_call call = {.noun = "device",
                              .verb = "import",
                              .args = json_loads(args, 0, NULL),
                              .actor = "key:acme/ops",
                              .file = slice_str(text)};
    assert_non_null(call.args);
    if (admin_run_wait(b->admin, &call) != REASON_ok)
        fail_msg("%s", call.text);
    json_decref(call.args);
    return call.ret_result;
}

static void counts(json_t *result, int added, int unchanged, int refused)
{
    assert_int_equal(json_integer_value(json_object_get(result, "added")), added);
    assert_int_equal(json_integer_value(json_object_get(result, "unchanged")), unchanged);
    assert_int_equal(json_integer_value(json_object_get(result, "refused")), refused);
}

/* The error number `i` is about this line and column. */
static void error_at(json_t *result, size_t i, int line, int column, const char *name,
                     const char *why)
{
    json_t *e = json_array_get(json_object_get(result, "errors"), i);
    assert_int_equal(json_integer_value(json_object_get(e, "line")), line);
    assert_int_equal(json_integer_value(json_object_get(e, "column")), column);
    assert_string_equal(json_string_value(json_object_get(e, "name")), name);
    if (!strstr(json_string_value(json_object_get(e, "error")), why))
        fail_msg("\"%s\" does not say %s", json_string_value(json_object_get(e, "error")), why);
}

static void imports_line_by_line(void **state)
{
    struct bench *b = *state;
    json_t *r = imported(b,
                         "\xef\xbb\xbfHash, device,feeds,role\r\n"
                         "$2b$one,d1,,\r\n"
                         "\r\n"
                         "plain,d2,,\r\n"
                         "$2b$three,d 3,,\r\n"
                         "$2b$four,\"d4\",\"a, b.*\",writer\r\n"
                         "$2b$five,d5,A b,\r\n"
                         "$2b$six,d6,,king\r\n"
                         "$2b$seven\r\n"
                         ",d8\r\n"
                         "$2b$nine,d\"9\r\n"
                         "$2b$ten,raced\r\n"
                         "$2b$eleven,busy\r\n"
                         "$2b$twelve,d12",
                         "{\"account\":\"acme\"}");
    counts(r, 3, 0, 9);
    error_at(r, 0, 4, 1, "hash", "cannot be used: unknown kind");
    error_at(r, 1, 5, 2, "device", "no blank");
    error_at(r, 2, 7, 3, "feeds", "feed keys");
    error_at(r, 3, 8, 4, "role", "no such role");
    error_at(r, 4, 9, 2, "device", "a device id has");
    error_at(r, 5, 10, 1, "hash", "missing");
    error_at(r, 6, 11, 2, "device", "quote inside");
    error_at(r, 7, 12, 2, "device", "already");
    error_at(r, 8, 13, 2, "device", "busy");
    json_decref(r);
    assert_string_equal(b->catalog.last_verifier, "$2b$twelve");
    assert_string_equal(b->catalog.last_actor, "key:acme/ops");
    assert_int_equal(b->catalog.last.account_number, 1);

    /* Once more: what is there with that hash stays, with another one it is told. */
    r = imported(b, "device,hash\nd1,$2b$one\nd12,$2b$other\nd20,$2b$x",
                 "{\"account\":\"acme\",\"feeds\":[\"x\",\"y*\"],\"first_line\":1001}");
    counts(r, 1, 1, 1);
    error_at(r, 0, 1002, 1, "device", "another secret");
    json_decref(r);
    assert_string_equal(b->catalog.last_patterns, "x,y*");
}

static void import_refuses_what_is_no_such_file(void **state)
{
    struct bench *b = *state;
    static const struct {
        const char *text, *args, *why;
        enum reason reason;
    } all[] = {
        {"", "{\"account\":\"acme\"}", "must name the columns", REASON_bad_request},
        {"d1,$2b$x\n", "{\"account\":\"acme\"}", "line 1, column 1: \"d1\" is no column",
         REASON_bad_request},
        {"device,hash,colour\n", "{\"account\":\"acme\"}", "column 3: \"colour\"",
         REASON_bad_request},
        {"device,hash,device\n", "{\"account\":\"acme\"}", "twice", REASON_bad_request},
        {"device\n", "{\"account\":\"acme\"}", "must name", REASON_bad_request},
        {"device,\"hash\n", "{\"account\":\"acme\"}", "line 1, column 2", REASON_bad_request},
        {"device,hash\n", "{\"account\":\"nobody\"}", "no account", REASON_not_found},
        {"device,hash\n", "{\"account\":\"acme\",\"role\":\"king\"}", "no role \"king\"",
         REASON_bad_request},
        {"device,hash\n", "{\"account\":\"acme\",\"feeds\":\"A b\"}", "no feeds",
         REASON_bad_request},
        {"device,hash\n", "{\"account\":\"acme\",\"first_line\":0}", "", REASON_ok},
        {NULL, "{\"account\":\"acme\"}", "takes a file", REASON_bad_request},
        {"device,hash\n", "{\"account\":\"acme\",\"file\":\"x\"}", "no argument \"file\"",
         REASON_bad_request},
    };
    for (unsigned i = 0; i < sizeof all / sizeof *all; i++) {
        struct admin_call call = {
            .noun = "device", .verb = "import", .args = json_loads(all[i].args, 0, NULL)};
        if (all[i].text)
            call.file = slice_str(all[i].text);
        assert_int_equal(admin_run_wait(b->admin, &call), all[i].reason);
        if (!strstr(call.text, all[i].why))
            fail_msg("\"%s\" does not say \"%s\"", call.text, all[i].why);
        json_decref(call.ret_result);
        json_decref(call.args);
    }
    struct admin_call call = {.noun = "account", .verb = "list", .file = SLICE("x")};
    assert_int_equal(admin_run_wait(b->admin, &call), REASON_bad_request);
    assert_non_null(strstr(call.text, "takes no file"));
}

static void changes_wait_for_the_workers(void **state)
{
    struct bench *b = *state;
    struct admin_call call;
    add_credential(&b->catalog, &(struct catalog_ask){.name = SLICE("d"), .has_digest = true},
                   CREDENTIAL_DEVICE);
    add_credential(&b->catalog, &(struct catalog_ask){.name = SLICE("k"), .has_digest = true},
                   CREDENTIAL_KEY);
    assert_int_equal(ask(b, "device", "enable", "{\"device\":\"d\"}", &call), REASON_ok);
    json_decref(call.ret_result);
    assert_int_equal(b->barriers, 1);
    assert_int_equal(ask(b, "device", "disable", "{\"device\":\"d\"}", &call), REASON_ok);
    assert_true(json_is_true(json_object_get(call.ret_result, "disabled")));
    json_decref(call.ret_result);
    assert_int_equal(b->barriers, 2);
    assert_int_equal(ask(b, "key", "remove", "{\"account\":\"acme\",\"name\":\"k\"}", &call),
                     REASON_ok);
    json_decref(call.ret_result);
    assert_int_equal(b->barriers, 3);
    b->barrier_rc = -110;
    assert_int_equal(ask(b, "device", "remove", "{\"device\":\"d\"}", &call), REASON_ok);
    assert_true(json_is_false(json_object_get(call.ret_result, "workers_confirmed")));
    json_decref(call.ret_result);
    assert_int_equal(b->barriers, 4);
    /* Refused: nothing changed, nobody is waited for. */
    assert_int_equal(ask(b, "device", "remove", "{\"device\":\"gone\"}", &call), REASON_not_found);
    assert_true(call.text[0] != 0);
    assert_int_equal(b->barriers, 4);
}

static void keys_are_listed_and_shown(void **state)
{
    struct bench *b = *state;
    struct admin_call call;
    add_credential(&b->catalog, &(struct catalog_ask){.name = SLICE("k1"), .has_digest = true},
                   CREDENTIAL_KEY);
    add_credential(&b->catalog,
                   &(struct catalog_ask){.name = SLICE("d1"), .verifier = SLICE("$2a$")},
                   CREDENTIAL_DEVICE);
    assert_int_equal(ask(b, "key", "list", "{\"account\":\"acme\"}", &call), REASON_ok);
    assert_int_equal(json_array_size(json_object_get(call.ret_result, "keys")), 1);
    json_decref(call.ret_result);
    assert_int_equal(ask(b, "device", "list", "{\"account\":\"acme\"}", &call), REASON_ok);
    json_t *device = json_array_get(json_object_get(call.ret_result, "devices"), 0);
    assert_string_equal(json_string_value(json_object_get(device, "verifier")), "bcrypt");
    assert_string_equal(
        json_string_value(json_array_get(json_object_get(device, "permissions"), 1)), "feed_read");
    json_decref(call.ret_result);
    assert_int_equal(ask(b, "key", "show", "{\"account\":\"acme\",\"name\":\"k1\"}", &call),
                     REASON_ok);
    assert_string_equal(text(&call, "account"), "acme");
    json_decref(call.ret_result);
    refused(b, "key", "show", "{\"account\":\"acme\",\"name\":\"d1\"}", REASON_not_found, "no key");
    refused(b, "key", "list", "{\"account\":\"x\"}", REASON_not_found, "no account");
    refused(b, "device", "show", "{\"device\":\"k1\"}", REASON_not_found, "no device");
}

static void answers_over_http(void **state)
{
    struct bench *b = *state;
    struct admin_call call;
    struct buf out;
    buf_init(&out, 10000);
    assert_int_equal(ask(b, "device", "show", "{\"device\":\"\\\"x\"}", &call), REASON_not_found);
    assert_int_equal(admin_answer(&call, &out), 404);
    assert_true(slice_eq(
        buf_slice(&out),
        SLICE("{\"error\":\"there is no device \\\"\\\"x\\\"\",\"reason\":\"not_found\"}")));
    buf_clear(&out);
    assert_int_equal(ask(b, "account", "remove", "{\"account\":\"acme\"}", &call), REASON_ok);
    assert_int_equal(admin_answer(&call, &out), 200);
    assert_true(
        slice_eq(buf_slice(&out), SLICE("{\"removed\":\"acme\",\"workers_confirmed\":true}")));
    json_decref(call.ret_result);

    /* A message cut in the middle of a character is still a JSON string. */
    char args[1000] = "{\"device\":\"";
    size_t at = strlen(args);
    for (unsigned i = 0; i < 200; i++, at += 2)
        memcpy(args + at, "\xc3\xbc", 2);
    memcpy(args + at, "\"}", 3);
    buf_clear(&out);
    assert_int_equal(ask(b, "device", "show", args, &call), REASON_not_found);
    admin_answer(&call, &out);
    json_t *parsed = json_loadb(out.ptr, out.len, 0, NULL);
    assert_non_null(parsed);
    json_decref(parsed);
    buf_fini(&out);
}

static _Atomic unsigned answered[REASON_COUNT];

static void on_done(struct admin_call *call)
{
    json_decref(call->ret_result);
    answered[call->reason]++;
}

static void open_gate(void *arg)
{
    struct catalog *c = arg;
    clock_sleep_ns(100 * NS_PER_MS);
    c->gate = 0;
}

/* One runs and is held up, three wait, the fifth is turned away at once; at the end the waiting
 * ones are told so. */
static void the_queue_is_bounded(void **state)
{
    struct bench *b = *state;
    struct admin_call calls[5];
    json_t *args = json_pack("{s:s}", "account", "x");
    b->catalog.gate = 1;
    for (unsigned i = 0; i < 5; i++)
        calls[i] =
            (struct admin_call){.noun = "account", .verb = "remove", .args = args, .done = on_done};
    memset((void *)answered, 0, sizeof answered);
    admin_run(b->admin, &calls[0]);
    for (unsigned i = 1; i < 4; i++) {
        admin_run(b->admin, &calls[i]);
        clock_sleep_ns(50 * NS_PER_MS); /* the first is taken out before the queue fills */
    }
    assert_int_equal(answered[REASON_busy], 0);
    admin_run(b->admin, &calls[4]);
    assert_int_equal(answered[REASON_busy], 1);
    assert_string_equal(calls[4].text, reason_info(REASON_busy)->text);
    pthread_t opener = thread_start("opener", open_gate, &b->catalog);
    admin_free(b->admin); /* while the first is still held up */
    pthread_join(opener, NULL);
    b->admin = NULL;
    assert_int_equal(answered[REASON_ok], 1);
    assert_int_equal(answered[REASON_stopping], 3);
    json_decref(args);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_table_is_whole),
        TEST(checks_arguments),
        TEST(values_become_texts),
        TEST(accounts),
        TEST(generated_secrets_are_fast_and_shown),
        TEST(generated_secrets_are_even),
        TEST(imported_secrets),
        TEST(imports_line_by_line),
        TEST(import_refuses_what_is_no_such_file),
        TEST(changes_wait_for_the_workers),
        TEST(keys_are_listed_and_shown),
        TEST(answers_over_http),
        TEST(the_queue_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
