/* SPDX-License-Identifier: Apache-2.0 */
/* Webhooks of accounts (sink/hooks.h) for people. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "api/admin_ops.h"
#include "base/clock.h"
#include "codec/text.h"
#include "sink/hooks.h"

#define TEST_PATIENCE_NS (10 * NS_PER_S) /* of who asks: others wait for this thread */
#define OWN_PATIENCE_NS  (3 * NS_PER_S)  /* the same of an account's own key */

#define I(v) (json_int_t)(v)

static json_t *text_of_time(int64_t us)
{
    struct buf text;
    buf_init(&text, 100);
    time_format_s(&text, us);
    json_t *ret = json_stringn(text.ptr, text.len);
    buf_fini(&text);
    return ret;
}

static json_t *show(struct admin *a, const struct hook_info *k)
{
    struct account *account = catalog_account_by_number(admin_opts(a)->catalog, k->account);
    json_t *o = json_pack(
        "{s:I, s:o, s:s, s:s, s:s, s:i, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:i, s:o}",
        "webhook", I(k->id), "account",
        account ? json_stringn(account->name.ptr, account->name.len) : json_string(""), "url",
        k->url, "feeds", k->feeds, "order", k->by_feed ? "feed" : "none", "events_max",
        (int)k->events_max, "state", hook_state_name(k->state), "position", I(k->position), "lag",
        I(k->lag), "delivered", I(k->delivered), "failures", I(k->failures), "gaps", I(k->gaps),
        "owed", I(k->owed), "dead", I(k->dead), "secrets", (int)k->secrets, "created",
        text_of_time(k->created_us));
    account_unref(account);
    if (k->failing_since_us)
        json_object_set_new(o, "failing_since", text_of_time(k->failing_since_us));
    if (k->error[0])
        json_object_set_new(o, "error", json_string(k->error));
    return o;
}

/* ---- what is asked --------------------------------------------------------------------------- */

static enum reason refuse(struct admin_call *call, int rc, const struct error *err)
{
    enum reason reason = rc == -ENOENT   ? REASON_not_found
                         : rc == -EINVAL ? REASON_bad_request
                         : rc == -ENOSPC ? REASON_conflict
                                         : REASON_internal;
    return admin_refuse(call, reason, "%s", err->text);
}

static enum reason ready(struct admin *a, struct admin_call *call)
{
    return admin_opts(a)->hooks
               ? REASON_ok
               : admin_refuse(call, REASON_bad_request,
                              "webhooks are run by the server, and none runs here, or "
                              "webhooks.enabled is false");
}

/* The webhook that is named, as it is. */
static enum reason find(struct admin *a, struct admin_call *call, struct hook_info *ret)
{
    unsigned id;
    enum reason reason = ready(a, call);
    if (reason != REASON_ok)
        return reason;
    if (!admin_number(call, "webhook", 0, INT_MAX, &id))
        return REASON_bad_request;
    if (!hooks_next(admin_opts(a)->hooks, id, call->own_account, ret) || ret->id != id)
        return admin_refuse(call, REASON_not_found, "there is no webhook %u", id);
    return REASON_ok;
}

/* The answer of a change: the webhook as it is now, and a line in the audit log. */
static enum reason answer(struct admin *a, struct admin_call *call, uint64_t id, const char *what)
{
    struct hook_info *k = calloc(1, sizeof *k);
    char name[24];
    enum reason reason = REASON_internal;
    snprintf(name, sizeof name, "%llu", (unsigned long long)id);
    if (k && hooks_next(admin_opts(a)->hooks, id, 0, k) && k->id == id) {
        call->ret_result = show(a, k);
        json_t *more = json_pack("{s:s, s:s}", "url", k->url, "feeds", k->feeds);
        char *text = json_dumps(more, JSON_COMPACT);
        struct catalog_ask ask = {.op = CATALOG_NOTE,
                                  .name = slice_str(what),
                                  .account_number = k->account,
                                  .feed_name = slice_str(name),
                                  .description = slice_str(text)};
        reason = admin_change(a, call, &ask);
        admin_ask_fini(&ask);
        free(text);
        json_decref(more);
        if (reason != REASON_ok) {
            json_decref(call->ret_result);
            call->ret_result = NULL;
        }
    }
    free(k);
    return reason;
}

/* The arguments that say what it is to be. False: refused. */
static bool read_settings(struct admin_call *call, struct hook_settings *ret)
{
    struct slice order = admin_arg(call, "order");
    *ret = (struct hook_settings){
        .url = admin_arg(call, "url"), .feeds = admin_arg(call, "feeds"), .by_feed = -1};
    if (order.ptr && !slice_eq(order, SLICE("feed")) && !slice_eq(order, SLICE("none"))) {
        admin_refuse(call, REASON_bad_request, "order must be none or feed");
        return false;
    }
    if (order.ptr)
        ret->by_feed = slice_eq(order, SLICE("feed"));
    return admin_number(call, "events_max", 0, HOOK_EVENTS_MAX, &ret->events_max);
}

/* ---- commands -------------------------------------------------------------------------------- */

enum reason webhook_add(struct admin *a, struct admin_call *call)
{
    struct hook_settings set;
    struct error err = {""};
    uint64_t id = 0;
    char secret[HOOK_SECRET_MAX];
    enum reason reason = ready(a, call);
    if (reason != REASON_ok)
        return reason;
    if (!read_settings(call, &set))
        return REASON_bad_request;
    struct slice name = admin_arg(call, "account");
    struct account *account = catalog_account(admin_opts(a)->catalog, name);
    if (!account)
        return admin_refuse(call, REASON_not_found, "there is no account \"%.*s\"",
                            SLICE_ARG(name));
    int rc = hooks_add(admin_opts(a)->hooks, account->number, &set, &id, secret, &err);
    account_unref(account);
    if (rc)
        return refuse(call, rc, &err);
    reason = answer(a, call, id, "webhook_add");
    if (reason == REASON_ok)
        json_object_set_new(call->ret_result, "signing_secret", json_string(secret));
    explicit_bzero(secret, sizeof secret);
    return reason;
}

enum reason webhook_list(struct admin *a, struct admin_call *call)
{
    uint64_t number = 0;
    enum reason reason = ready(a, call);
    if (reason != REASON_ok)
        return reason;
    struct slice name = admin_arg(call, "account");
    if (name.ptr) {
        struct account *account = catalog_account(admin_opts(a)->catalog, name);
        if (!account)
            return admin_refuse(call, REASON_not_found, "there is no account \"%.*s\"",
                                SLICE_ARG(name));
        number = account->number;
        account_unref(account);
    }
    struct hook_info k;
    json_t *list = json_array();
    for (uint64_t id = 0; hooks_next(admin_opts(a)->hooks, id, number, &k); id = k.id + 1)
        json_array_append_new(list, show(a, &k));
    call->ret_result = json_pack("{s:o}", "webhooks", list);
    return REASON_ok;
}

enum reason webhook_show(struct admin *a, struct admin_call *call)
{
    struct hook_info k;
    enum reason reason = find(a, call, &k);
    if (reason == REASON_ok)
        call->ret_result = show(a, &k);
    return reason;
}

enum reason webhook_change(struct admin *a, struct admin_call *call)
{
    struct hook_info k;
    struct hook_settings set;
    struct error err = {""};
    enum reason reason = find(a, call, &k);
    if (reason != REASON_ok)
        return reason;
    if (!read_settings(call, &set))
        return REASON_bad_request;
    int rc = hooks_change(admin_opts(a)->hooks, k.id, &set, &err);
    return rc ? refuse(call, rc, &err) : answer(a, call, k.id, "webhook_change");
}

enum reason webhook_remove(struct admin *a, struct admin_call *call)
{
    struct hook_info k;
    struct error err = {""};
    enum reason reason = find(a, call, &k);
    if (reason == REASON_ok)
        reason = answer(a, call, k.id, "webhook_remove");
    if (reason != REASON_ok)
        return reason;
    int rc = hooks_remove(admin_opts(a)->hooks, k.id, &err);
    if (rc == 0)
        return REASON_ok;
    json_decref(call->ret_result);
    call->ret_result = NULL;
    return refuse(call, rc, &err);
}

static enum reason pause_or_resume(struct admin *a, struct admin_call *call, bool paused)
{
    struct hook_info k;
    struct error err = {""};
    enum reason reason = find(a, call, &k);
    if (reason != REASON_ok)
        return reason;
    int rc = hooks_pause(admin_opts(a)->hooks, k.id, paused, &err);
    return rc ? refuse(call, rc, &err)
              : answer(a, call, k.id, paused ? "webhook_pause" : "webhook_resume");
}

enum reason webhook_pause(struct admin *a, struct admin_call *call)
{
    return pause_or_resume(a, call, true);
}

enum reason webhook_resume(struct admin *a, struct admin_call *call)
{
    return pause_or_resume(a, call, false);
}

enum reason webhook_rotate(struct admin *a, struct admin_call *call)
{
    struct hook_info k;
    struct error err = {""};
    char secret[HOOK_SECRET_MAX];
    enum reason reason = find(a, call, &k);
    if (reason != REASON_ok)
        return reason;
    int rc = hooks_rotate(admin_opts(a)->hooks, k.id, secret, &err);
    if (rc)
        return refuse(call, rc, &err);
    reason = answer(a, call, k.id, "webhook_rotate");
    if (reason == REASON_ok)
        json_object_set_new(call->ret_result, "signing_secret", json_string(secret));
    explicit_bzero(secret, sizeof secret);
    return reason;
}

enum reason webhook_replay(struct admin *a, struct admin_call *call)
{
    struct hook_info k;
    struct error err = {""};
    uint64_t from;
    enum reason reason = find(a, call, &k);
    if (reason != REASON_ok)
        return reason;
    struct journal_position p = journal_position(admin_opts(a)->journal);
    if (!admin_place(a, call, "from", false, p.oldest, &from))
        return REASON_bad_request;
    int rc = hooks_replay(admin_opts(a)->hooks, k.id, from < p.oldest ? p.oldest : from, &err);
    return rc ? refuse(call, rc, &err) : answer(a, call, k.id, "webhook_replay");
}

enum reason webhook_retry(struct admin *a, struct admin_call *call)
{
    struct hook_info k;
    struct error err = {""};
    unsigned count;
    enum reason reason = find(a, call, &k);
    if (reason != REASON_ok)
        return reason;
    int rc = hooks_retry(admin_opts(a)->hooks, k.id, &count, &err);
    return rc ? refuse(call, rc, &err) : answer(a, call, k.id, "webhook_retry");
}

enum reason webhook_try(struct admin *a, struct admin_call *call)
{
    struct hook_info k;
    struct attempt attempt;
    struct error err = {""};
    enum reason reason = find(a, call, &k);
    if (reason != REASON_ok)
        return reason;
    int rc = hooks_test(admin_opts(a)->hooks, k.id,
                        call->own_account ? OWN_PATIENCE_NS : TEST_PATIENCE_NS, &attempt, &err);
    if (rc)
        return refuse(call, rc, &err);
    reason = answer(a, call, k.id, "webhook_test");
    if (reason == REASON_ok) {
        json_decref(call->ret_result);
        call->ret_result = admin_json_attempt(&attempt);
    }
    return reason;
}

enum reason webhook_log(struct admin *a, struct admin_call *call)
{
    struct hook_info k;
    struct attempt attempt;
    enum reason reason = find(a, call, &k);
    if (reason != REASON_ok)
        return reason;
    json_t *list = json_array();
    for (unsigned n = 0; hooks_attempt(admin_opts(a)->hooks, k.id, n, &attempt); n++)
        json_array_append_new(list, admin_json_attempt(&attempt));
    call->ret_result = json_pack("{s:o}", "attempts", list);
    return REASON_ok;
}
