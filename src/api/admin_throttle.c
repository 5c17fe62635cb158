/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the limits of an account and of its credentials do now, and whom they refused. What a worker
 * has on a tab (pipeline_throttle.c: 64 messages at most, of the turn that it is in) is not seen
 * yet: it is counted before that turn's messages go to the disk.
 */
#include <stdlib.h>
#include <string.h>

#include "api/admin_ops.h"
#include "base/clock.h"
#include "flow/limit.h"
#include "gate/refusals.h"
#include "gate/throttle.h"

#define TOP       20u
#define SNAPSHOT  ((size_t)1 << 30) /* pointers to 128 million records */
#define TEXT_MAX  512
#define MS_OF(ns) ((json_int_t)(((ns) + NS_PER_MS - 1) / NS_PER_MS))

static json_t *text_of(struct window w)
{
    char storage[TEXT_MAX];
    struct buf text;
    buf_init(&text, TEXT_MAX);
    if (w.count)
        limit_format(&text, w);
    else
        buf_printf(&text, "distance=%ums", (unsigned)w.window_ms);
    size_t n = text.len < sizeof storage ? text.len : sizeof storage;
    memcpy(storage, text.ptr, n);
    buf_fini(&text);
    return json_stringn(storage, n);
}

/* Each limit of a subject: how much is used, and when one more message (or byte) fits. */
static void put_limits(json_t *list, struct throttle *t, struct throttle_subject subject,
                       const struct limit_set *l, const char *of, uint64_t now_ns)
{
    struct throttle_ask ask = {subject, l, 1};
    for (unsigned i = 0; i < l->windows_count; i++) {
        struct window w = l->windows[i];
        json_t *one =
            json_pack("{s:s, s:o, s:b, s:I, s:I}", "of", of, "limit", text_of(w), "shadow",
                      (w.kind & LIMIT_SHADOW) != 0, "used",
                      (json_int_t)throttle_used(t, &ask, i, now_ns), "amount", (json_int_t)w.count);
        json_object_set_new(one, "frees_in_ms",
                            json_integer(MS_OF(throttle_wait_ns(t, &ask, i, now_ns))));
        json_array_append_new(list, one);
    }
}

static const char *name_of(const struct refused_try *what)
{
    static const char *const names[] = {"account", "device", "address", "share", "quarantine"};
    return names[what->by];
}

static int by_count(const void *a, const void *b)
{
    const struct refused_tries *x = a, *y = b;
    return x->count < y->count ? 1 : x->count > y->count ? -1 : 0;
}

static json_t *refusals(struct admin *a, uint64_t account, uint64_t credential)
{
    struct refused_tries *all = calloc(REFUSALS_MAX, sizeof *all);
    json_t *list = json_array();
    unsigned n =
        all ? refusals_list(admin_opts(a)->refusals, account, credential, all, REFUSALS_MAX) : 0;
    if (n)
        qsort(all, n, sizeof *all, by_count);
    for (unsigned i = 0; i < n && i < 1000; i++) {
        const struct refused_tries *r = &all[i];
        struct credential *c = catalog_credential(admin_opts(a)->catalog, r->what.credential);
        if (!c)
            continue; /* removed meanwhile */
        json_t *limit = r->what.limit.window_ms ? text_of(r->what.limit) : json_string("");
        json_t *one = json_pack("{s:s%, s:s, s:o, s:b, s:I, s:I, s:I}", "credential", c->name.ptr,
                                c->name.len, "by", name_of(&r->what), "limit", limit, "shadow",
                                (r->what.limit.kind & LIMIT_SHADOW) != 0, "count",
                                (json_int_t)r->count, "first_ms", (json_int_t)(r->first_us / 1000),
                                "last_ms", (json_int_t)(r->last_us / 1000));
        json_array_append_new(list, one);
        credential_unref(c);
    }
    free(all);
    return list;
}

/* ---- who uses it ---------------------------------------------------------------------------- */

struct user {
    struct credential *credential;
    uint32_t used, tries;
};

static int by_tries(const void *a, const void *b)
{
    const struct user *x = a, *y = b;
    if (x->tries != y->tries)
        return x->tries < y->tries ? 1 : -1;
    return x->used < y->used ? 1 : x->used > y->used ? -1 : 0;
}

/* Keeps `u` if it belongs to the first of the list; takes its reference. */
static unsigned keep(struct user *top, unsigned n, struct user u)
{
    if (n == TOP) {
        if (by_tries(&u, &top[n - 1]) >= 0) {
            credential_unref(u.credential);
            return n;
        }
        credential_unref(top[--n].credential);
    }
    top[n++] = u;
    qsort(top, n, sizeof *top, by_tries);
    return n;
}

static unsigned add_users(struct admin *a, const struct account *account, enum credential_kind kind,
                          struct user *top, unsigned n, uint64_t now_ns)
{
    struct throttle *t = admin_opts(a)->throttle;
    struct buf records;
    int shown = limit_set_shown(&account->limits);
    unsigned window = shown < 0 ? 0 : (unsigned)shown;
    buf_init(&records, SNAPSHOT);
    unsigned count = catalog_credentials(admin_opts(a)->catalog, account->number, kind, &records);
    for (unsigned i = 0; i < count; i++) {
        struct user u = {((struct credential **)(void *)records.ptr)[i], 0, 0};
        struct throttle_ask used = {{THROTTLE_SHARE, u.credential->number}, &account->limits, 0};
        struct throttle_ask tries = {{THROTTLE_TRIES, u.credential->number}, &account->limits, 0};
        u.used = throttle_used(t, &used, window, now_ns);
        u.tries = throttle_used(t, &tries, window, now_ns);
        if (u.used || u.tries)
            n = keep(top, n, u);
        else
            credential_unref(u.credential);
    }
    buf_fini(&records);
    return n;
}

static json_t *users(struct admin *a, const struct account *account, uint64_t now_ns)
{
    struct user top[TOP];
    json_t *list = json_array();
    if (!account->limits.windows_count)
        return list;
    unsigned n = add_users(a, account, CREDENTIAL_KEY, top, 0, now_ns);
    n = add_users(a, account, CREDENTIAL_DEVICE, top, n, now_ns);
    for (unsigned i = 0; i < n; i++) {
        const struct credential *c = top[i].credential;
        json_array_append_new(list, json_pack("{s:s%, s:I, s:I}", "credential", c->name.ptr,
                                              c->name.len, "used", (json_int_t)top[i].used, "tries",
                                              (json_int_t)top[i].tries));
        credential_unref(top[i].credential);
    }
    return list;
}

enum reason throttle_explain(struct admin *a, struct admin_call *call)
{
    const struct admin_opts *o = admin_opts(a);
    struct slice who = admin_arg(call, "who");
    if (!o->throttle)
        return admin_refuse(call, REASON_bad_request,
                            "limits are counted by the running server, and none runs here");
    struct account *account = catalog_account(o->catalog, who);
    struct credential *c = account ? NULL : catalog_device(o->catalog, who);
    if (!account && !c)
        return admin_refuse(call, REASON_not_found, "there is no account and no device \"%.*s\"",
                            SLICE_ARG(who));
    if (c)
        account = account_ref(c->account);
    uint64_t now = clock_mono_ns();
    json_t *limits = json_array();
    put_limits(limits, o->throttle, (struct throttle_subject){THROTTLE_ACCOUNT, account->number},
               &account->limits, "account", now);
    if (c)
        put_limits(limits, o->throttle, (struct throttle_subject){THROTTLE_CREDENTIAL, c->number},
                   &account->device_limits, "device", now);
    call->ret_result =
        json_pack("{s:s%, s:o, s:o, s:o}", "account", account->name.ptr, account->name.len,
                  "limits", limits, "refused", refusals(a, account->number, c ? c->number : 0),
                  "users", users(a, account, now));
    if (c)
        json_object_set_new(call->ret_result, "device", json_stringn(c->name.ptr, c->name.len));
    credential_unref(c);
    account_unref(account);
    return REASON_ok;
}
