/* SPDX-License-Identifier: Apache-2.0 */
/* The audit log (view/audit.h) for people: who changed what, and whether it is all still there. */
#include <errno.h>
#include <stdio.h>

#include "api/admin_ops.h"
#include "base/clock.h"
#include "codec/text.h"
#include "flow/limit.h"

#define LIST_DEFAULT 100u
#define LIST_MAX     1000u
#define LOOKED_MAX   200000u /* entries of one call, about a second: others wait for this thread */
#define ERRORS_MAX   100u    /* listed; all are counted */

/* Everything up to now is in the files afterwards, unless the view is *ret_behind: others wait for
 * this thread, so it does not. */
static enum reason flush(const struct admin_opts *opts, struct admin_call *call, bool *ret_behind)
{
    int rc = opts->audit_flush ? opts->audit_flush(opts->audit_arg) : 0;
    *ret_behind = rc == -ETIMEDOUT;
    return rc == 0 || *ret_behind
               ? REASON_ok
               : admin_refuse(call, REASON_internal, "the audit log cannot be written: %s",
                              strerror(-rc));
}

static enum reason refuse_read(struct admin_call *call, int code, const struct error *err)
{
    return code == -ENOENT
               ? admin_refuse(call, REASON_not_found,
                              "there is no audit log here yet: a server makes it when it starts")
               : admin_refuse(call, REASON_internal, "%s", err->text);
}

/* ---- which ----------------------------------------------------------------------------------- */

struct wanted {
    struct slice account, actor;
    int64_t since_us, until_us;
    unsigned limit, looked_at;
    json_t *entries;
    json_t *next; /* number of the first one left out */
};

bool admin_moment(struct slice text, int64_t *ret_us)
{
    char day[32];
    uint64_t ms;
    if (time_parse(text, ret_us))
        return true;
    snprintf(day, sizeof day, "%.*sT00:00:00Z", text.len == 10 ? 10 : 0, text.ptr);
    if (text.len == 10 && time_parse(slice_str(day), ret_us))
        return true;
    if (!duration_parse(text, &ms) || ms > INT64_MAX / 2000)
        return false;
    *ret_us = clock_wall_us() - (int64_t)ms * 1000;
    return true;
}

static enum reason take_wanted(struct admin_call *call, struct wanted *ret, uint64_t *ret_before)
{
    struct slice since = admin_arg(call, "since"), until = admin_arg(call, "until");
    struct slice before = admin_arg(call, "before");
    char *end = NULL;
    *ret = (struct wanted){.account = admin_arg(call, "account"),
                           .actor = admin_arg(call, "actor"),
                           .since_us = INT64_MIN,
                           .until_us = INT64_MAX};
    errno = 0;
    *ret_before = before.len ? strtoull(before.ptr, &end, 10) : 0;
    if (before.len && (*end || errno || before.ptr[0] < '0' || before.ptr[0] > '9'))
        return admin_refuse(call, REASON_bad_request, "before must be a number of an entry");
    if ((since.len && !admin_moment(since, &ret->since_us)) ||
        (until.len && !admin_moment(until, &ret->until_us)))
        return admin_refuse(call, REASON_bad_request,
                            "since and until must be times such as 2026-11-28T16:00:00Z, days such "
                            "as 2026-11-28, or lengths such as 24h");
    if (!admin_number(call, "limit", LIST_DEFAULT, LIST_MAX, &ret->limit))
        return REASON_bad_request;
    return REASON_ok;
}

static bool is_text(json_t *value, struct slice text)
{
    return slice_eq(slice_of(json_string_value(value), json_string_length(value)), text);
}

static bool is_by(json_t *value, struct slice actor)
{
    struct slice is = slice_of(json_string_value(value), json_string_length(value));
    if (actor.ptr[actor.len - 1] == '*')
        return slice_starts(is, slice_of(actor.ptr, actor.len - 1));
    return slice_eq(is, actor);
}

/* ---- entries --------------------------------------------------------------------------------- */

static const char *state_of(const struct audit_entry *e)
{
    return e->damaged                 ? "damaged"
           : e->sealed == SEAL_ERASED ? "erased"
           : e->sealed == SEAL_PLAIN  ? "plain"
           : e->sealed == SEAL_DONE   ? "sealed"
                                      : "unreadable";
}

/* Members of the record as they are; null for those it has not. */
static void put_members(json_t *to, json_t *record, const char *const *names)
{
    for (; *names; names++) {
        json_t *value = json_object_get(record, *names);
        if (value)
            json_object_set(to, *names, value);
        else
            json_object_set_new(to, *names, json_null());
    }
}

static json_t *json_of(const struct audit_entry *e, json_t *record)
{
    static const char *const who[] = {"actor", "from", "op", "account", "subject", NULL};
    static const char *const what[] = {"before", "after", "with", "note", NULL};
    struct buf time;
    buf_init(&time, 64);
    time_format_s(&time, e->at_us);
    json_t *o =
        json_pack("{s:I, s:s%}", "number", (json_int_t)e->number, "time", time.ptr, time.len);
    buf_fini(&time);
    put_members(o, record, who);
    json_object_update_new(o, json_pack("{s:I, s:I, s:I, s:s}", "account_number",
                                        (json_int_t)e->account, "change_id", (json_int_t)e->change,
                                        "offset", (json_int_t)e->offset, "state", state_of(e)));
    put_members(o, record, what);
    return o;
}

/* The list goes on at this entry with the next call. False, unless nobody knows its number. */
static bool leave(struct wanted *w, const struct audit_entry *e)
{
    if (e->number)
        w->next = json_integer((json_int_t)e->number + 1);
    return !e->number;
}

static bool on_entry(void *arg, const struct audit_entry *e)
{
    struct wanted *w = arg;
    if (w->looked_at++ >= LOOKED_MAX)
        return leave(w, e);
    if (e->at_us < w->since_us || e->at_us >= w->until_us)
        return true;
    json_t *record = e->text.len ? json_loadb(e->text.ptr, e->text.len, 0, NULL) : NULL;
    bool matches = (!w->account.len || is_text(json_object_get(record, "account"), w->account)) &&
                   (!w->actor.len || is_by(json_object_get(record, "actor"), w->actor));
    bool room = json_array_size(w->entries) < w->limit;
    if (matches && room)
        json_array_append_new(w->entries, json_of(e, record));
    json_decref(record);
    return !matches || room || leave(w, e);
}

/* What is not in the log yet: changes made without a server, which no journal has, and what a view
 * that is behind has not taken from it. */
static void put_waiting(const struct admin_opts *opts, bool behind, json_t *result)
{
    uint64_t waiting = opts->audit_flush ? 0 : catalog_stats(opts->catalog).outbox;
    if (behind)
        json_object_set_new(result, "note",
                            json_string("the newest changes are not in it yet: the audit log is "
                                        "still taking in what the journal holds"));
    if (waiting)
        json_object_set_new(result, "note",
                            json_sprintf("changes made without a server are not in it yet (%llu "
                                         "records): the next server takes them in",
                                         (unsigned long long)waiting));
}

enum reason audit_list(struct admin *a, struct admin_call *call)
{
    const struct admin_opts *opts = admin_opts(a);
    struct error err = {""};
    struct wanted w;
    uint64_t before;
    bool behind;
    enum reason reason = take_wanted(call, &w, &before);
    if (reason == REASON_ok)
        reason = flush(opts, call, &behind);
    if (reason != REASON_ok)
        return reason;
    w.entries = json_array();
    int rc = audit_read(&opts->audit, before, w.since_us, on_entry, &w, &err);
    if (rc < 0) {
        json_decref(w.entries);
        json_decref(w.next);
        return refuse_read(call, rc, &err);
    }
    call->ret_result = json_pack("{s:o}", "entries", w.entries);
    if (w.next)
        json_object_set_new(call->ret_result, "next", w.next);
    put_waiting(opts, behind, call->ret_result);
    return REASON_ok;
}

/* ---- verifying ------------------------------------------------------------------------------- */

static void on_damage(void *arg, const char *file, uint64_t line, const char *what)
{
    json_t *errors = arg;
    if (json_array_size(errors) < ERRORS_MAX)
        json_array_append_new(errors, json_pack("{s:s, s:I, s:s}", "file", file, "line",
                                                (json_int_t)line, "error", what));
}

enum reason audit_check(struct admin *a, struct admin_call *call)
{
    const struct admin_opts *opts = admin_opts(a);
    struct audit_verified v;
    struct error err = {""};
    bool behind;
    enum reason reason = flush(opts, call, &behind);
    if (reason != REASON_ok)
        return reason;
    json_t *errors = json_array();
    int rc = audit_verify(&opts->audit, on_damage, errors, &v, &err);
    if (rc < 0) {
        json_decref(errors);
        return refuse_read(call, rc, &err);
    }
    call->ret_result = json_pack(
        "{s:b, s:I, s:I, s:I, s:I, s:s, s:I, s:o}", "whole", v.damaged == 0, "entries",
        (json_int_t)v.entries, "files", (json_int_t)v.files, "first", (json_int_t)v.first, "last",
        (json_int_t)v.last, "hash", v.hash, "damaged", (json_int_t)v.damaged, "errors", errors);
    put_waiting(opts, behind, call->ret_result);
    return REASON_ok;
}
