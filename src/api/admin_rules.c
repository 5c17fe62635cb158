/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rules (view/rules.h) for people. What is asked becomes a record in the journal, which the view
 * applies before the answer is made of it; all commands are run by one thread, so the number that
 * the view says is free is free.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "api/admin_ops.h"
#include "api/rule_when.h"
#include "base/check.h"
#include "base/clock.h"
#include "codec/text.h"
#include "codec/utf8.h"
#include "flow/limit.h"
#include "view/rules.h"

#define PAGE             64u
#define TEST_PATIENCE_NS (5 * NS_PER_S) /* of who asks: others wait for this thread */
#define TEST_LOOK_NS     (10 * NS_PER_MS)

#define I(v) (json_int_t)(v)

/* ---- how they look --------------------------------------------------------------------------- */

static json_t *text_of_when(const struct rule *r)
{
    struct buf text;
    buf_init(&text, 200);
    rule_when_format(&text, r);
    json_t *ret = admin_json_text(buf_slice(&text));
    buf_fini(&text);
    return ret;
}

static json_t *key_of(struct admin *a, uint64_t number)
{
    struct feed *feed = number ? catalog_feed_by_number(admin_opts(a)->catalog, number) : NULL;
    json_t *ret = admin_json_text(feed ? feed->key : SLICE(""));
    feed_unref(feed);
    return ret;
}

static json_t *show(struct admin *a, const struct rule_info *k)
{
    const struct rule *r = &k->rule;
    struct account *account = catalog_account_by_number(admin_opts(a)->catalog, r->account);
    json_t *o = json_pack(
        "{s:I, s:o, s:o, s:o, s:o, s:I, s:I, s:s, s:I, s:I, s:I, s:I, s:o}", "rule", I(r->id),
        "account", admin_json_text(account ? account->name : SLICE("")), "feed", key_of(a, r->feed),
        "when", text_of_when(r), "to", key_of(a, r->to_feed), "webhook", I(r->webhook), "every_ms",
        I(r->every_ms), "state", k->tripped ? "tripped" : "waiting", "fired", I(k->fired),
        "suppressed", I(k->suppressed), "dropped", I(k->dropped), "owed", I(k->owed), "created",
        admin_json_time(r->created_us));
    account_unref(account);
    if (r->value.ptr)
        json_object_set_new(o, "value", admin_json_text(r->value));
    if (k->fired_us)
        json_object_set_new(o, "last_fired", admin_json_time(k->fired_us));
    if (k->error_us) {
        json_object_set_new(o, "error", json_string(k->error));
        json_object_set_new(o, "error_at", admin_json_time(k->error_us));
    }
    return o;
}

/* ---- what is asked --------------------------------------------------------------------------- */

static enum reason ready(struct admin *a, struct admin_call *call)
{
    return admin_opts(a)->rules.all
               ? REASON_ok
               : admin_refuse(call, REASON_bad_request,
                              "rules are run by the server, and none runs here");
}

static bool look_up(struct admin *a, uint64_t id, struct rule_info *ret)
{
    return rules_list(admin_opts(a)->rules.all, 0, id, ret, 1) == 1 && ret->rule.id == id;
}

/* The rule that is named, as it is. */
static enum reason find(struct admin *a, struct admin_call *call, struct rule_info *ret)
{
    unsigned id;
    enum reason reason = ready(a, call);
    if (reason != REASON_ok)
        return reason;
    if (!admin_number(call, "rule", 0, INT_MAX, &id))
        return REASON_bad_request;
    return id && look_up(a, id, ret) &&
                   (!call->own_account || ret->rule.account == call->own_account)
               ? REASON_ok
               : admin_refuse(call, REASON_not_found, "there is no rule %u", id);
}

static struct account *find_account(struct admin *a, struct admin_call *call)
{
    struct slice name = admin_arg(call, "account");
    struct account *account = catalog_account(admin_opts(a)->catalog, name);
    if (!account)
        admin_refuse(call, REASON_not_found, "there is no account \"%.*s\"", SLICE_ARG(name));
    return account;
}

/* The number of the account's feed in that argument; of none, if it is not there, 0. */
static enum reason find_feed(struct admin *a, struct admin_call *call,
                             const struct account *account, const char *name, uint64_t *ret)
{
    struct slice key = admin_arg(call, name);
    if (!key.ptr)
        return REASON_ok;
    struct feed *feed = catalog_feed(admin_opts(a)->catalog, account->number, key);
    if (!feed)
        return admin_refuse(call, REASON_not_found, "the account has no feed \"%.*s\"",
                            SLICE_ARG(key));
    *ret = feed->number;
    feed_unref(feed);
    return REASON_ok;
}

/* The number of the account's webhook; likewise. */
static enum reason find_webhook(struct admin *a, struct admin_call *call,
                                const struct account *account, uint64_t *ret)
{
    struct hooks *hooks = admin_opts(a)->hooks;
    unsigned id;
    if (!admin_number(call, "webhook", 0, INT_MAX, &id))
        return REASON_bad_request;
    *ret = id;
    if (!id)
        return REASON_ok;
    struct hook_info *k = calloc(1, sizeof *k);
    CHECK(k);
    bool there = hooks && hooks_next(hooks, id, account->number, k) && k->id == id;
    free(k);
    return there ? REASON_ok
                 : admin_refuse(call, REASON_not_found, "the account has no webhook %u", id);
}

static enum reason check_value(struct admin_call *call, struct slice value)
{
    return value.len <= RULE_VALUE_MAX && utf8_text(value)
               ? REASON_ok
               : admin_refuse(call, REASON_bad_request, "value must be text of at most %u bytes",
                              RULE_VALUE_MAX);
}

/* What the arguments say of the rule, but for what they name. */
static enum reason read_arguments(struct admin_call *call, struct rule *r)
{
    struct error err = {""};
    struct slice every = admin_arg(call, "every");
    r->value = admin_arg(call, "value");
    if (rule_when_parse(admin_arg(call, "when"), r, &err) < 0)
        return admin_refuse(call, REASON_bad_request, "%s", err.text);
    if (every.ptr && (!duration_parse(every, &r->every_ms) || r->every_ms > RULE_MS_MAX))
        return admin_refuse(call, REASON_bad_request, "every must be a length such as 30s or 10m");
    if (admin_arg(call, "to").ptr && admin_arg(call, "webhook").ptr)
        return admin_refuse(call, REASON_bad_request,
                            "a message goes to a feed or to a webhook: make two rules for both");
    return check_value(call, r->value);
}

static enum reason check_room(struct admin *a, struct admin_call *call,
                              const struct account *account)
{
    const struct admin_rules *o = &admin_opts(a)->rules;
    unsigned all, own;
    rules_count(o->all, account->number, &all, &own);
    if (own >= o->account_max)
        return admin_refuse(call, REASON_conflict, "the account has %u rules, as many as may be",
                            own);
    if (all >= o->max)
        return admin_refuse(call, REASON_conflict, "there are %u rules, as many as may be", all);
    return REASON_ok;
}

/* ---- changes --------------------------------------------------------------------------------- */

/* A line in the audit log. */
static enum reason note(struct admin *a, struct admin_call *call, const char *what,
                        const struct rule *r)
{
    char name[24];
    snprintf(name, sizeof name, "%llu", (unsigned long long)r->id);
    json_t *more =
        json_pack("{s:o, s:o, s:o, s:I}", "feed", key_of(a, r->feed), "when", text_of_when(r), "to",
                  key_of(a, r->to_feed), "webhook", I(r->webhook));
    char *text = json_dumps(more, JSON_COMPACT);
    struct catalog_ask ask = {.op = CATALOG_NOTE,
                              .name = slice_str(what),
                              .account_number = r->account,
                              .feed_name = slice_str(name),
                              .description = slice_str(text)};
    enum reason reason = admin_change(a, call, &ask);
    admin_ask_fini(&ask);
    free(text);
    json_decref(more);
    return reason;
}

/* Into the audit log, then into the journal, and on to the view. */
static enum reason change(struct admin *a, struct admin_call *call, const char *what,
                          const struct rule_record *r)
{
    struct error err = {""};
    enum reason reason = note(a, call, what, &r->rule);
    if (reason != REASON_ok)
        return reason;
    int rc = admin_opts(a)->rules.say(admin_opts(a)->rules.arg, r, &err);
    return rc == -ETIMEDOUT ? admin_refuse(call, REASON_busy, "%s", err.text)
           : rc             ? admin_refuse(call, REASON_internal, "%s", err.text)
                            : REASON_ok;
}

static enum reason answer(struct admin *a, struct admin_call *call, uint64_t id)
{
    struct rule_info *k = calloc(1, sizeof *k);
    CHECK(k);
    if (look_up(a, id, k))
        call->ret_result = show(a, k);
    free(k);
    return call->ret_result
               ? REASON_ok
               : admin_refuse(call, REASON_not_found, "one of its feeds went just now");
}

static enum reason add(struct admin *a, struct admin_call *call, const struct account *account)
{
    struct rule_record r = {.event = RULE_ADDED,
                            .rule = {.account = account->number, .created_us = clock_wall_us()}};
    enum reason reason = read_arguments(call, &r.rule);
    if (reason == REASON_ok)
        reason = find_feed(a, call, account, "feed", &r.rule.feed);
    if (reason == REASON_ok)
        reason = find_feed(a, call, account, "to", &r.rule.to_feed);
    if (reason == REASON_ok)
        reason = find_webhook(a, call, account, &r.rule.webhook);
    if (reason == REASON_ok)
        reason = check_room(a, call, account);
    if (reason != REASON_ok)
        return reason;
    r.rule.id = rules_new_id(admin_opts(a)->rules.all);
    reason = change(a, call, "rule_add", &r);
    return reason == REASON_ok ? answer(a, call, r.rule.id) : reason;
}

enum reason rule_add(struct admin *a, struct admin_call *call)
{
    enum reason reason = ready(a, call);
    struct account *account = reason == REASON_ok ? find_account(a, call) : NULL;
    if (account)
        reason = add(a, call, account);
    else if (reason == REASON_ok)
        reason = REASON_not_found;
    account_unref(account);
    return reason;
}

enum reason rule_list(struct admin *a, struct admin_call *call)
{
    uint64_t number = 0, id = 0;
    unsigned count;
    enum reason reason = ready(a, call);
    if (reason != REASON_ok)
        return reason;
    if (admin_arg(call, "account").ptr) {
        struct account *account = find_account(a, call);
        if (!account)
            return REASON_not_found;
        number = account->number;
        account_unref(account);
    }
    struct rule_info *page = calloc(PAGE, sizeof *page);
    json_t *list = json_array();
    CHECK(page);
    while ((count = rules_list(admin_opts(a)->rules.all, number, id, page, PAGE)) > 0) {
        for (unsigned i = 0; i < count; i++)
            json_array_append_new(list, show(a, &page[i]));
        id = page[count - 1].rule.id + 1;
    }
    free(page);
    call->ret_result = json_pack("{s:o}", "rules", list);
    return REASON_ok;
}

enum reason rule_remove(struct admin *a, struct admin_call *call)
{
    struct rule_info *k = calloc(1, sizeof *k);
    CHECK(k);
    enum reason reason = find(a, call, k);
    const struct rule_record r = {.event = RULE_REMOVED, .rule = k->rule};
    json_t *was = reason == REASON_ok ? show(a, k) : NULL;
    if (reason == REASON_ok)
        reason = change(a, call, "rule_remove", &r);
    if (reason == REASON_ok)
        call->ret_result = was;
    else
        json_decref(was);
    free(k);
    return reason;
}

/* Until its message is stored, or cannot be. */
static enum reason await(struct admin *a, struct admin_call *call, struct rule_info *k)
{
    uint64_t end_ns = clock_mono_ns() + TEST_PATIENCE_NS, id = k->rule.id;
    uint64_t fired = k->fired, dropped = k->dropped;
    do {
        clock_sleep_ns(TEST_LOOK_NS);
        if (!look_up(a, id, k))
            return admin_refuse(call, REASON_not_found, "one of its feeds went just now");
    } while (k->fired == fired && k->dropped == dropped && clock_mono_ns() < end_ns);
    return k->fired == fired && k->error_us
               ? admin_refuse(call, REASON_conflict, "its message was not stored: %s", k->error)
               : REASON_ok;
}

enum reason rule_test(struct admin *a, struct admin_call *call)
{
    struct rule_info *k = calloc(1, sizeof *k);
    CHECK(k);
    enum reason reason = find(a, call, k);
    struct rule_record r = {
        .event = RULE_TRIED, .rule = k->rule, .value = admin_arg(call, "value")};
    if (!r.value.ptr)
        r.value = SLICE("1");
    if (reason == REASON_ok)
        reason = check_value(call, r.value);
    if (reason == REASON_ok)
        reason = change(a, call, "rule_test", &r);
    if (reason == REASON_ok)
        reason = await(a, call, k);
    if (reason == REASON_ok)
        call->ret_result = show(a, k);
    free(k);
    return reason;
}
