/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The commands themselves. Looking asks the catalog's resident records; changing waits for its
 * thread. What takes a right away ends with the barrier, so that "removed" is true when it is said.
 */
#include "api/admin_ops.h"

#include <stdio.h>

#include "base/check.h"

#define LIST_DEFAULT   1000
#define LIST_MAX       100000
#define SNAPSHOT_BYTES ((size_t)1 << 30) /* pointers to 128 million records */

static enum reason no_account(struct admin_call *call, struct slice name)
{
    return admin_refuse(call, REASON_not_found, "there is no account \"%.*s\"", SLICE_ARG(name));
}

static enum reason no_device(struct admin_call *call, struct slice name)
{
    return admin_refuse(call, REASON_not_found, "there is no device \"%.*s\"", SLICE_ARG(name));
}

enum reason admin_change(struct admin *a, struct admin_call *call, struct catalog_ask *ask)
{
    ask->actor = slice_str(call->actor ? call->actor : "admin");
    ask->actor_credential = call->actor_credential;
    ask->from = slice_str(call->from);
    const struct admin_opts *o = admin_opts(a);
    enum reason reason;
    if (o->catalog) {
        reason = catalog_call(o->catalog, ask);
    } else {
        CHECK(ask->op == CATALOG_NOTE); /* nothing else is run there */
        char text[256] = "";
        reason = o->elsewhere->note(o->elsewhere->arg, ask, text);
        snprintf(ask->text, sizeof ask->text, "%.159s", text);
    }
    if (reason != REASON_ok)
        admin_refuse(call, reason, "%s", ask->text[0] ? ask->text : reason_info(reason)->text);
    return reason;
}

json_t *admin_name(struct admin *a, unsigned of, uint64_t number)
{
    const struct admin_opts *o = admin_opts(a);
    struct account *account = NULL;
    struct feed *feed = NULL;
    struct buf told;
    struct slice name = {0};
    buf_init(&told, TOPIC_MAX);
    if (o->catalog && of == ADMIN_NAME_ACCOUNT)
        name = (account = catalog_account_by_number(o->catalog, number)) ? account->name : name;
    else if (o->catalog)
        name = (feed = catalog_feed_by_number(o->catalog, number)) ? feed->key : name;
    else if (o->elsewhere->name(o->elsewhere->arg, of, number, &told))
        name = buf_slice(&told);
    json_t *ret = name.len ? json_stringn(name.ptr, name.len) : NULL;
    account_unref(account);
    feed_unref(feed);
    buf_fini(&told);
    return ret;
}

void admin_ask_fini(struct catalog_ask *ask)
{
    account_unref(ask->ret_account);
    credential_unref(ask->ret_credential);
    feed_unref(ask->ret_feed);
}

void admin_confirm(struct admin *a, json_t *result)
{
    const struct admin_opts *opts = admin_opts(a);
    if (opts->barrier)
        json_object_set_new(result, "workers_confirmed",
                            json_boolean(opts->barrier(opts->barrier_arg) == 0));
}

bool admin_number(struct admin_call *call, const char *name, unsigned fallback, unsigned max,
                  unsigned *ret)
{
    struct slice s = admin_arg(call, name);
    if (!s.len) {
        *ret = fallback;
        return true;
    }
    uint64_t v = 0;
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] < '0' || s.ptr[i] > '9' || (v = v * 10 + (uint64_t)(s.ptr[i] - '0')) > max) {
            admin_refuse(call, REASON_bad_request, "%s must be a number, at most %u", name, max);
            return false;
        }
    }
    *ret = (unsigned)v;
    return true;
}

/* {"total": n, what: [the part that was asked for]} of `count` records; gives the references back.
 */
static enum reason answer_list(struct admin_call *call, const char *what, void **records,
                               unsigned count, json_t *(*json)(const void *), void (*unref)(void *))
{
    unsigned skip = 0, limit = 0;
    bool ok = admin_number(call, "skip", 0, UINT32_MAX, &skip) &&
              admin_number(call, "limit", LIST_DEFAULT, LIST_MAX, &limit);
    json_t *list = json_array();
    for (unsigned i = 0; i < count; i++) {
        if (ok && i >= skip && i - skip < limit)
            json_array_append_new(list, json(records[i]));
        unref(records[i]);
    }
    if (!ok) {
        json_decref(list);
        return REASON_bad_request;
    }
    call->ret_result = json_pack("{s:o, s:i}", what, list, "total", (int)count);
    return REASON_ok;
}

static json_t *json_of_account(const void *record)
{
    return admin_json_account(record);
}

static json_t *json_of_credential(const void *record)
{
    return admin_json_credential(record);
}

static void unref_account(void *record)
{
    account_unref(record);
}

static void unref_credential(void *record)
{
    credential_unref(record);
}

static void unref_feed(void *record)
{
    feed_unref(record);
}

/* ---- accounts ----------------------------------------------------------------------------- */
/* Which topics the arguments want. False: refused. */
static bool fill_topics(struct admin_call *call, struct catalog_ask *ask)
{
    struct slice topics = admin_arg(call, "topics");
    ask->has_topics = topics.ptr != NULL;
    ask->topics = slice_eq(topics, SLICE("any")) ? TOPICS_ANY : TOPICS_ADAFRUIT;
    if (!topics.ptr || ask->topics == TOPICS_ANY || slice_eq(topics, SLICE("adafruit")))
        return true;
    admin_refuse(call, REASON_bad_request, "topics must be adafruit or any");
    return false;
}

bool admin_fill_ack(struct admin *a, struct admin_call *call, struct catalog_ask *ask)
{
    const struct admin_opts *o = admin_opts(a);
    struct ack ack;
    char text[256];
    ask->ack = admin_arg(call, "ack");
    if (!ask->ack.len || !o->history || !ack_parse(ask->ack, &ack) || ack.level != ACK_DELIVERED)
        return true;
    size_t at = 0;
    for (unsigned i = 0; i < o->sinks_count; i++) {
        const char *name = sink_name(o->sinks[i]);
        if (!strcmp(name, ack.sink))
            return true;
        at += (size_t)snprintf(text + at, sizeof text - at, "%s%s", at ? ", " : "", name);
    }
    struct error err;
    error_set(&err, 0, "ack: there is no sink \"%s\"; there %s%s", ack.sink,
              at ? "are: " : "is none", at ? text : "");
    admin_refuse(call, REASON_bad_request, "%s", err.text);
    return false;
}

enum reason account_add(struct admin *a, struct admin_call *call)
{
    struct catalog_ask ask = {.op = CATALOG_ACCOUNT_ADD,
                              .account = admin_arg(call, "account"),
                              .plan = admin_arg(call, "plan"),
                              .limits = admin_arg(call, "limits"),
                              .device_limits = admin_arg(call, "device_limits")};
    if (!fill_topics(call, &ask) || !admin_fill_ack(a, call, &ask))
        return REASON_bad_request;
    enum reason reason = admin_change(a, call, &ask);
    if (reason == REASON_ok)
        call->ret_result = admin_json_account(ask.ret_account);
    admin_ask_fini(&ask);
    return reason;
}

/* Changes an account, a key or a device, waits for the workers and shows it. */
static enum reason answer_changed(struct admin *a, struct admin_call *call, struct catalog_ask *ask)
{
    enum reason reason = admin_change(a, call, ask);
    if (reason == REASON_ok) {
        call->ret_result = ask->ret_credential ? admin_json_credential(ask->ret_credential)
                                               : admin_json_account(ask->ret_account);
        admin_confirm(a, call->ret_result);
    }
    admin_ask_fini(ask);
    return reason;
}

/* Removes what is called that, and waits for the workers. */
static enum reason answer_removed(struct admin *a, struct admin_call *call, struct catalog_ask *ask,
                                  struct slice name)
{
    enum reason reason = admin_change(a, call, ask);
    if (reason == REASON_ok) {
        call->ret_result = json_pack("{s:s%}", "removed", name.ptr, name.len);
        admin_confirm(a, call->ret_result);
    }
    admin_ask_fini(ask);
    return reason;
}

enum reason account_list(struct admin *a, struct admin_call *call)
{
    struct buf records;
    buf_init(&records, SNAPSHOT_BYTES);
    unsigned count = catalog_accounts(admin_opts(a)->catalog, &records);
    enum reason reason = answer_list(call, "accounts", (void **)(void *)records.ptr, count,
                                     json_of_account, unref_account);
    buf_fini(&records);
    return reason;
}

/* Counts the records of a snapshot and gives them back. */
static json_t *count_of(struct buf *records, unsigned count, void (*unref)(void *))
{
    void **at = (void **)(void *)records->ptr;
    for (unsigned i = 0; i < count; i++)
        unref(at[i]);
    buf_clear(records);
    return json_integer(count);
}

enum reason account_show(struct admin *a, struct admin_call *call)
{
    struct catalog *c = admin_opts(a)->catalog;
    struct account *account = catalog_account(c, admin_arg(call, "account"));
    if (!account)
        return no_account(call, admin_arg(call, "account"));
    json_t *result = admin_json_account(account);
    struct buf records;
    buf_init(&records, SNAPSHOT_BYTES);
    unsigned n = catalog_credentials(c, account->number, CREDENTIAL_KEY, &records);
    json_object_set_new(result, "keys", count_of(&records, n, unref_credential));
    n = catalog_credentials(c, account->number, CREDENTIAL_DEVICE, &records);
    json_object_set_new(result, "devices", count_of(&records, n, unref_credential));
    n = catalog_feeds(c, account->number, &records);
    json_object_set_new(result, "feeds", count_of(&records, n, unref_feed));
    buf_fini(&records);
    account_unref(account);
    call->ret_result = result;
    return REASON_ok;
}

/* What is not said stays as it is; empty limits are the plan's. */
enum reason account_change(struct admin *a, struct admin_call *call)
{
    struct catalog_ask ask = {.op = CATALOG_ACCOUNT_LIMITS,
                              .account = admin_arg(call, "account"),
                              .plan = admin_arg(call, "plan"),
                              .limits = admin_arg(call, "limits"),
                              .device_limits = admin_arg(call, "device_limits")};
    ask.keep_limits = !ask.limits.ptr;
    ask.keep_device_limits = !ask.device_limits.ptr;
    bool filled = fill_topics(call, &ask) && admin_fill_ack(a, call, &ask);
    return filled ? answer_changed(a, call, &ask) : REASON_bad_request;
}

enum reason account_disable(struct admin *a, struct admin_call *call)
{
    struct catalog_ask ask = {
        .op = CATALOG_ACCOUNT_DISABLE, .account = admin_arg(call, "account"), .disabled = true};
    return answer_changed(a, call, &ask);
}

enum reason account_enable(struct admin *a, struct admin_call *call)
{
    struct catalog_ask ask = {.op = CATALOG_ACCOUNT_DISABLE, .account = admin_arg(call, "account")};
    return answer_changed(a, call, &ask);
}

enum reason account_remove(struct admin *a, struct admin_call *call)
{
    struct slice name = admin_arg(call, "account");
    struct catalog_ask ask = {.op = CATALOG_ACCOUNT_REMOVE, .account = name};
    return answer_removed(a, call, &ask, name);
}

/* ---- keys --------------------------------------------------------------------------------- */
static enum reason list_credentials(struct admin *a, struct admin_call *call,
                                    enum credential_kind kind, const char *what)
{
    struct catalog *c = admin_opts(a)->catalog;
    struct account *account = catalog_account(c, admin_arg(call, "account"));
    if (!account)
        return no_account(call, admin_arg(call, "account"));
    struct buf records;
    buf_init(&records, SNAPSHOT_BYTES);
    unsigned count = catalog_credentials(c, account->number, kind, &records);
    enum reason reason = answer_list(call, what, (void **)(void *)records.ptr, count,
                                     json_of_credential, unref_credential);
    buf_fini(&records);
    account_unref(account);
    return reason;
}

enum reason key_add(struct admin *a, struct admin_call *call)
{
    struct admin_secret secret;
    enum reason reason = admin_secret_of_key(call, &secret);
    if (reason != REASON_ok)
        return reason;
    struct catalog_ask ask = {.op = CATALOG_KEY_ADD,
                              .account = admin_arg(call, "account"),
                              .name = admin_arg(call, "name"),
                              .role = admin_arg(call, "role"),
                              .patterns = admin_arg(call, "feeds"),
                              .has_digest = true};
    memcpy(ask.digest, secret.digest, sizeof ask.digest);
    reason = admin_change(a, call, &ask);
    if (reason == REASON_ok) {
        call->ret_result = admin_json_credential(ask.ret_credential);
        if (secret.generated)
            json_object_set_new(call->ret_result, "key", json_string(secret.text));
    }
    admin_ask_fini(&ask);
    admin_secret_wipe(&secret);
    return reason;
}

enum reason key_list(struct admin *a, struct admin_call *call)
{
    return list_credentials(a, call, CREDENTIAL_KEY, "keys");
}

enum reason key_show(struct admin *a, struct admin_call *call)
{
    struct catalog *c = admin_opts(a)->catalog;
    struct slice name = admin_arg(call, "name");
    struct account *account = catalog_account(c, admin_arg(call, "account"));
    if (!account)
        return no_account(call, admin_arg(call, "account"));
    struct buf records;
    buf_init(&records, SNAPSHOT_BYTES);
    unsigned count = catalog_credentials(c, account->number, CREDENTIAL_KEY, &records);
    struct credential **keys = (struct credential **)(void *)records.ptr;
    for (unsigned i = 0; i < count; i++) {
        if (!call->ret_result && slice_eq(keys[i]->name, name))
            call->ret_result = admin_json_credential(keys[i]);
        credential_unref(keys[i]);
    }
    buf_fini(&records);
    account_unref(account);
    return call->ret_result
               ? REASON_ok
               : admin_refuse(call, REASON_not_found, "there is no key \"%.*s\"", SLICE_ARG(name));
}

enum reason key_change(struct admin *a, struct admin_call *call)
{
    struct catalog_ask ask = {.op = CATALOG_KEY_CHANGE,
                              .account = admin_arg(call, "account"),
                              .name = admin_arg(call, "name"),
                              .role = admin_arg(call, "role"),
                              .patterns = admin_arg(call, "feeds")};
    ask.keep_patterns = !ask.patterns.ptr;
    return answer_changed(a, call, &ask);
}

enum reason key_regenerate(struct admin *a, struct admin_call *call)
{
    struct catalog_ask ask = {.op = CATALOG_KEY_SECRET,
                              .account = admin_arg(call, "account"),
                              .name = admin_arg(call, "name"),
                              .has_digest = true};
    struct admin_secret secret;
    enum reason reason = admin_secret_of_key(call, &secret);
    if (reason == REASON_ok) {
        memcpy(ask.digest, secret.digest, sizeof ask.digest);
        reason = answer_changed(a, call, &ask);
    }
    if (reason == REASON_ok && secret.generated)
        json_object_set_new(call->ret_result, "key", json_string(secret.text));
    admin_secret_wipe(&secret);
    return reason;
}

enum reason key_remove(struct admin *a, struct admin_call *call)
{
    struct slice name = admin_arg(call, "name");
    struct catalog_ask ask = {
        .op = CATALOG_KEY_REMOVE, .account = admin_arg(call, "account"), .name = name};
    return answer_removed(a, call, &ask, name);
}

/* ---- devices ------------------------------------------------------------------------------ */
/* The change with a new secret in it; the secret is shown if it was made here. */
static enum reason change_secret(struct admin *a, struct admin_call *call, struct catalog_ask *ask)
{
    struct admin_secret secret;
    enum reason reason = admin_secret_of_device(a, call, &secret);
    if (reason == REASON_ok) {
        ask->has_digest = secret.has_digest;
        memcpy(ask->digest, secret.digest, sizeof ask->digest);
        ask->verifier = slice_str(secret.verifier);
        reason = admin_change(a, call, ask);
    }
    if (reason == REASON_ok) {
        call->ret_result = admin_json_credential(ask->ret_credential);
        if (secret.generated)
            json_object_set_new(call->ret_result, "secret", json_string(secret.text));
    }
    admin_secret_wipe(&secret);
    return reason;
}

enum reason device_add(struct admin *a, struct admin_call *call)
{
    struct catalog_ask ask = {.op = CATALOG_DEVICE_ADD,
                              .account = admin_arg(call, "account"),
                              .name = admin_arg(call, "device"),
                              .role = admin_arg(call, "role"),
                              .patterns = admin_arg(call, "feeds")};
    enum reason reason = change_secret(a, call, &ask);
    admin_ask_fini(&ask);
    return reason;
}

enum reason device_list(struct admin *a, struct admin_call *call)
{
    return list_credentials(a, call, CREDENTIAL_DEVICE, "devices");
}

enum reason device_show(struct admin *a, struct admin_call *call)
{
    struct slice name = admin_arg(call, "device");
    struct credential *device = catalog_device(admin_opts(a)->catalog, name);
    if (!device)
        return no_device(call, name);
    call->ret_result = admin_json_credential(device);
    credential_unref(device);
    return REASON_ok;
}

enum reason device_secret(struct admin *a, struct admin_call *call)
{
    struct slice name = admin_arg(call, "device");
    struct credential *device = catalog_device(admin_opts(a)->catalog, name);
    if (!device) /* before a hash is computed for nobody */
        return no_device(call, name);
    credential_unref(device);
    struct catalog_ask ask = {.op = CATALOG_DEVICE_SECRET, .name = name};
    enum reason reason = change_secret(a, call, &ask);
    if (reason == REASON_ok)
        admin_confirm(a, call->ret_result);
    admin_ask_fini(&ask);
    return reason;
}

enum reason device_psk(struct admin *a, struct admin_call *call)
{
    const struct psk_master *master = admin_opts(a)->psk;
    struct slice name = admin_arg(call, "device");
    uint8_t key[PSK_BYTES];
    char text[2 * PSK_BYTES + 1];
    if (!master || !master->given)
        return admin_refuse(call, REASON_bad_request,
                            "tls.psk_key_file is not set: no device has a pre-shared key");
    struct credential *device = catalog_device(admin_opts(a)->catalog, name);
    if (!device)
        return no_device(call, name);
    psk_of_device(master, device, key);
    for (unsigned i = 0; i < PSK_BYTES; i++)
        snprintf(text + 2 * i, 3, "%02x", key[i]);
    call->ret_result = admin_json_credential(device);
    json_object_set_new(call->ret_result, "psk", json_string(text));
    credential_unref(device);
    explicit_bzero(key, sizeof key);
    explicit_bzero(text, sizeof text);
    return REASON_ok;
}

enum reason device_change(struct admin *a, struct admin_call *call)
{
    struct catalog_ask ask = {.op = CATALOG_DEVICE_CHANGE,
                              .name = admin_arg(call, "device"),
                              .role = admin_arg(call, "role"),
                              .patterns = admin_arg(call, "feeds")};
    ask.keep_patterns = !ask.patterns.ptr;
    return answer_changed(a, call, &ask);
}

static enum reason set_disabled(struct admin *a, struct admin_call *call, bool disabled)
{
    struct catalog_ask ask = {
        .op = CATALOG_DEVICE_DISABLE, .name = admin_arg(call, "device"), .disabled = disabled};
    return answer_changed(a, call, &ask);
}

enum reason device_disable(struct admin *a, struct admin_call *call)
{
    return set_disabled(a, call, true);
}

enum reason device_enable(struct admin *a, struct admin_call *call)
{
    return set_disabled(a, call, false);
}

enum reason device_remove(struct admin *a, struct admin_call *call)
{
    struct slice name = admin_arg(call, "device");
    struct catalog_ask ask = {.op = CATALOG_DEVICE_REMOVE, .name = name};
    return answer_removed(a, call, &ask, name);
}
