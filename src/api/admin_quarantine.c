/* SPDX-License-Identifier: Apache-2.0 */
/* Who is in quarantine on an account that several share (gate/shares.h), and putting devices there.
 */
#include <stdio.h>

#include "api/admin_ops.h"
#include "base/clock.h"
#include "flow/limit.h"
#include "gate/shares.h"

static enum reason no_server(struct admin_call *call)
{
    return admin_refuse(call, REASON_bad_request,
                        "quarantine is kept by the running server, and none runs here");
}

/* The device that the call names, a new reference. */
static enum reason find_device(struct admin *a, struct admin_call *call, struct credential **ret)
{
    struct slice name = admin_arg(call, "device");
    *ret = catalog_device(admin_opts(a)->catalog, name);
    if (*ret)
        return REASON_ok;
    return admin_refuse(call, REASON_not_found, "there is no device \"%.*s\"", SLICE_ARG(name));
}

static json_t *show(struct admin *a, const struct quarantined *q, uint64_t now_ns)
{
    struct credential *c = catalog_credential(admin_opts(a)->catalog, q->credential);
    if (!c)
        return NULL; /* removed meanwhile */
    json_t *ret =
        json_pack("{s:s%, s:s%, s:b, s:I, s:I}", "account", c->account->name.ptr,
                  c->account->name.len, "credential", c->name.ptr, c->name.len, "manual", q->manual,
                  "since_ms", (json_int_t)(q->since_us / 1000), "refused", (json_int_t)q->refused);
    if (q->until_ns != UINT64_MAX)
        json_object_set_new(ret, "ends_in_ms",
                            json_integer((json_int_t)((q->until_ns - now_ns) / NS_PER_MS)));
    if (!q->manual) {
        json_object_set_new(ret, "tries", json_integer(q->tries));
        json_object_set_new(ret, "share_of", json_integer(q->active));
    }
    credential_unref(c);
    return ret;
}

enum reason quarantine_list(struct admin *a, struct admin_call *call)
{
    if (!admin_opts(a)->shares)
        return no_server(call);
    struct quarantined *all = calloc(QUARANTINED_MAX, sizeof *all);
    if (!all)
        return admin_refuse(call, REASON_internal, "no memory");
    uint64_t now = clock_mono_ns();
    unsigned n = shares_list(admin_opts(a)->shares, all, QUARANTINED_MAX, now);
    json_t *list = json_array();
    for (unsigned i = 0; i < n; i++) {
        json_t *one = show(a, &all[i], now);
        if (one)
            json_array_append_new(list, one);
    }
    free(all);
    call->ret_result = json_pack("{s:o}", "quarantined", list);
    return REASON_ok;
}

/* It changes no row, so nobody else tells the audit log. */
static enum reason note(struct admin *a, struct admin_call *call, struct slice what,
                        const struct credential *c, const char *more)
{
    struct catalog_ask ask = {.op = CATALOG_NOTE,
                              .name = what,
                              .account_number = c->account->number,
                              .feed_name = c->name,
                              .description = slice_str(more)};
    enum reason reason = admin_change(a, call, &ask);
    admin_ask_fini(&ask);
    return reason;
}

enum reason quarantine_add(struct admin *a, struct admin_call *call)
{
    struct slice length = admin_arg(call, "for");
    uint64_t ms = 0;
    if (!admin_opts(a)->shares)
        return no_server(call);
    if (length.len && (!duration_parse(length, &ms) || !ms || ms > UINT32_MAX))
        return admin_refuse(call, REASON_bad_request,
                            "\"%.*s\" is no length of time such as 30m or 2h", SLICE_ARG(length));
    struct credential *c;
    enum reason reason = find_device(a, call, &c);
    if (reason != REASON_ok)
        return reason;
    uint64_t now = clock_mono_ns();
    struct quarantined q = {.account = c->account->number,
                            .credential = c->number,
                            .manual = true,
                            .since_us = clock_wall_us(),
                            .until_ns = ms ? now + ms * NS_PER_MS : UINT64_MAX};
    if (shares_quarantine(admin_opts(a)->shares, q.account, q.credential, q.until_ns)) {
        char more[60] = "";
        if (ms)
            snprintf(more, sizeof more, "{\"for_ms\":%u}", (unsigned)ms);
        reason = note(a, call, SLICE("quarantine_add"), c, more);
        if (reason == REASON_ok)
            call->ret_result = show(a, &q, now);
        else
            shares_release(admin_opts(a)->shares, q.credential, now);
    } else {
        reason = admin_refuse(call, REASON_busy, "%u are in quarantine already", QUARANTINED_MAX);
    }
    credential_unref(c);
    return reason;
}

enum reason quarantine_remove(struct admin *a, struct admin_call *call)
{
    if (!admin_opts(a)->shares)
        return no_server(call);
    struct credential *c;
    enum reason reason = find_device(a, call, &c);
    if (reason != REASON_ok)
        return reason;
    bool was = shares_release(admin_opts(a)->shares, c->number, clock_mono_ns());
    if (was && (reason = note(a, call, SLICE("quarantine_remove"), c, "")) == REASON_ok) {
        call->ret_result = json_pack("{s:s%}", "removed", c->name.ptr, c->name.len);
    } else if (!was) {
        reason = admin_refuse(call, REASON_not_found, "device \"%.*s\" is in no quarantine",
                              SLICE_ARG(c->name));
    }
    credential_unref(c);
    return reason;
}
