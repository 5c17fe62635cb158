/* SPDX-License-Identifier: Apache-2.0 */
/* Sinks (sink/sink.h) for people: how far each is, pauses, replays, and its dead letters. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "api/admin_ops.h"
#include "base/clock.h"
#include "codec/text.h"
#include "journal/record.h"

#define RETRY_PATIENCE_NS (10 * NS_PER_S) /* of who asks: others wait for this thread */
#define TEST_PATIENCE_NS  (10 * NS_PER_S) /* likewise */
#define LOG_DEFAULT       20u
#define LIST_DEFAULT      100u
#define LIST_MAX          1000u

static enum reason no_server(struct admin_call *call)
{
    return admin_refuse(call, REASON_bad_request,
                        "sinks are run by the server, and none runs here");
}

static enum reason not_here(struct admin_call *call)
{
    return admin_refuse(call, REASON_conflict,
                        "the sinks run in a process of their own: it takes such orders, by the "
                        "sluice command on its machine");
}

/* The sink that is named. */
static enum reason find(struct admin *a, struct admin_call *call, struct sink **ret)
{
    const struct admin_opts *o = admin_opts(a);
    struct slice name = admin_arg(call, "sink");
    if (!o->sinks)
        return no_server(call);
    for (unsigned i = 0; i < o->sinks_count; i++) {
        if (slice_eq(name, slice_str(sink_name(o->sinks[i])))) {
            *ret = o->sinks[i];
            return o->sinks_elsewhere ? not_here(call) : REASON_ok;
        }
    }
    return admin_refuse(call, REASON_not_found, "there is no sink \"%.*s\"", SLICE_ARG(name));
}

static json_t *show(struct sink *s)
{
    struct sink_stats t = sink_stats(s);
#define I(v) (json_int_t)(v)
    json_t *o =
        json_pack("{s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "sink", sink_name(s),
                  "state", sink_state_name(t.state), "breaker", breaker_name(t.breaker), "position",
                  I(t.position), "lag", I(t.lag), "lag_bytes", I(t.lag_bytes), "oldest_ms",
                  I(t.lag_us / 1000), "delivered", I(t.delivered), "dead_letters",
                  I(t.dead_letters), "gaps", I(t.gaps), "given_up", I(t.given_up));
    if (t.replay_to > t.replay_from)
        json_object_update_new(o, json_pack("{s:I, s:I}", "replay_from", I(t.replay_from),
                                            "replay_to", I(t.replay_to)));
#undef I
    if (t.error[0])
        json_object_set_new(o, "error", json_string(t.error));
    return o;
}

/* It changes no row, so nobody else tells the audit log. */
static enum reason note(struct admin *a, struct admin_call *call, struct slice what,
                        const char *more)
{
    struct catalog_ask ask = {.op = CATALOG_NOTE,
                              .name = what,
                              .feed_name = admin_arg(call, "sink"),
                              .description = slice_str(more)};
    enum reason reason = admin_change(a, call, &ask);
    admin_ask_fini(&ask);
    return reason;
}

enum reason sink_list(struct admin *a, struct admin_call *call)
{
    const struct admin_opts *o = admin_opts(a);
    if (!o->sinks)
        return no_server(call);
    json_t *list = json_array();
    for (unsigned i = 0; i < o->sinks_count; i++)
        json_array_append_new(list, show(o->sinks[i]));
    call->ret_result = json_pack("{s:o}", "sinks", list);
    return REASON_ok;
}

static enum reason pause_or_resume(struct admin *a, struct admin_call *call, bool paused)
{
    struct sink *s;
    enum reason reason = find(a, call, &s);
    if (reason != REASON_ok)
        return reason;
    int rc = sink_pause(s, paused);
    if (rc < 0)
        return admin_refuse(call, REASON_internal, "it cannot be made to last: %s", strerror(-rc));
    reason = note(a, call, paused ? SLICE("sink_pause") : SLICE("sink_resume"), "");
    if (reason == REASON_ok)
        call->ret_result = show(s);
    return reason;
}

enum reason sink_pause_it(struct admin *a, struct admin_call *call)
{
    return pause_or_resume(a, call, true);
}

enum reason sink_resume_it(struct admin *a, struct admin_call *call)
{
    return pause_or_resume(a, call, false);
}

/* ---- attempts -------------------------------------------------------------------------------- */

json_t *admin_json_attempt(const struct attempt *a)
{
    struct buf time;
    buf_init(&time, 64);
    time_format_us(&time, a->at_us);
    json_t *o = json_pack("{s:s%, s:b, s:I, s:s}", "time", time.ptr, time.len, "taken", a->taken,
                          "took_ms", (json_int_t)(a->took_ns / NS_PER_MS), "said", a->said);
    buf_fini(&time);
    if (a->status)
        json_object_set_new(o, "status", json_integer(a->status));
    if (a->count)
        json_object_update_new(o, json_pack("{s:I, s:I}", "offset", (json_int_t)a->offset,
                                            "messages", (json_int_t)a->count));
    return o;
}

enum reason sink_test_it(struct admin *a, struct admin_call *call)
{
    struct sink *s;
    struct attempt attempt;
    enum reason reason = find(a, call, &s);
    if (reason != REASON_ok)
        return reason;
    if (!sink_test(s, TEST_PATIENCE_NS, &attempt))
        return admin_refuse(call, REASON_bad_request, "a sink of this kind cannot be tried so");
    reason = note(a, call, SLICE("sink_test"), "");
    if (reason == REASON_ok)
        call->ret_result = admin_json_attempt(&attempt);
    return reason;
}

enum reason sink_log(struct admin *a, struct admin_call *call)
{
    struct sink *s;
    struct attempt attempt;
    unsigned limit;
    enum reason reason = find(a, call, &s);
    if (reason != REASON_ok)
        return reason;
    if (!admin_number(call, "limit", LOG_DEFAULT, ATTEMPTS_MAX, &limit))
        return REASON_bad_request;
    json_t *list = json_array();
    for (unsigned n = 0; n < limit && sink_attempt(s, n, &attempt); n++)
        json_array_append_new(list, admin_json_attempt(&attempt));
    call->ret_result = json_pack("{s:o}", "attempts", list);
    return REASON_ok;
}

/* ---- replays --------------------------------------------------------------------------------- */

bool admin_place(struct admin *a, struct admin_call *call, const char *name, bool behind,
                 uint64_t fallback, uint64_t *ret)
{
    struct slice text = admin_arg(call, name);
    char *end = NULL;
    int64_t us;
    *ret = fallback;
    if (!text.len)
        return true;
    errno = 0;
    uint64_t offset = strtoull(text.ptr, &end, 10);
    if (text.ptr[0] >= '0' && text.ptr[0] <= '9' && *end == 0 && errno == 0) {
        *ret = offset;
        return true;
    }
    if (!admin_moment(text, &us)) {
        admin_refuse(call, REASON_bad_request,
                     "%s must be an offset of the journal, a time such as 2026-11-28T16:00:00Z, a "
                     "day, or a length such as 24h",
                     name);
        return false;
    }
    *ret = journal_offset_at(admin_opts(a)->journal, us, behind);
    return true;
}

enum reason sink_replay_it(struct admin *a, struct admin_call *call)
{
    struct sink *s;
    char more[80];
    uint64_t from, to;
    enum reason reason = find(a, call, &s);
    if (reason != REASON_ok)
        return reason;
    struct journal_position p = journal_position(admin_opts(a)->journal);
    uint64_t end = sink_stats(s).position; /* what lies behind comes anyway */
    if (!admin_place(a, call, "from", false, p.oldest, &from) ||
        !admin_place(a, call, "to", true, end, &to))
        return REASON_bad_request;
    from = from < p.oldest ? p.oldest : from;
    to = to > end ? end : to;
    if (from >= to) {
        call->ret_result = show(s);
        json_object_set_new(call->ret_result, "note",
                            json_string("Nothing was delivered of that stretch, or the journal has "
                                        "it no longer: there is nothing to do."));
        return REASON_ok;
    }
    if (sink_replay(s, from, to) == -EBUSY)
        return admin_refuse(call, REASON_conflict, "a replay of this sink goes on already");
    snprintf(more, sizeof more, "{\"from\":%llu,\"to\":%llu}", (unsigned long long)from,
             (unsigned long long)to);
    reason = note(a, call, SLICE("sink_replay"), more);
    if (reason == REASON_ok)
        call->ret_result = show(s);
    return reason;
}

/* ---- dead letters ---------------------------------------------------------------------------- */

static json_t *show_letter(struct admin *a, const struct dead_letter *l)
{
    struct record r;
    struct buf time;
    buf_init(&time, 64);
    time_format_s(&time, l->at_us);
    json_t *why = json_stringn(l->why.ptr, l->why.len);
    json_t *o = json_pack("{s:I, s:s%, s:o, s:I}", "offset", (json_int_t)l->offset, "time",
                          time.ptr, time.len, "why", why ? why : json_string("?"), "bytes",
                          (json_int_t)l->record.len);
    buf_fini(&time);
    if (record_decode(l->record, &r) != l->record.len)
        return o;
    json_t *account = admin_name(a, ADMIN_NAME_ACCOUNT, r.account);
    json_t *feed = r.feed ? admin_name(a, ADMIN_NAME_FEED, r.feed) : NULL;
    if (account)
        json_object_set_new(o, "account", account);
    if (feed)
        json_object_set_new(o, "feed", feed);
    if (r.topic.len)
        json_object_set_new(o, "topic", json_stringn(r.topic.ptr, r.topic.len));
    return o;
}

enum reason dead_list(struct admin *a, struct admin_call *call)
{
    struct sink *s;
    struct dead_letter l;
    struct buf storage;
    uint64_t from, count, bytes;
    unsigned limit;
    enum reason reason = find(a, call, &s);
    if (reason != REASON_ok)
        return reason;
    if (!admin_place(a, call, "from", false, 0, &from) ||
        !admin_number(call, "limit", LIST_DEFAULT, LIST_MAX, &limit))
        return REASON_bad_request;
    json_t *list = json_array();
    buf_init(&storage, SIZE_MAX / 2);
    bool more = false;
    while ((more = dead_next(sink_dead(s), from, &storage, &l)) && json_array_size(list) < limit) {
        json_array_append_new(list, show_letter(a, &l));
        from = l.offset + 1;
    }
    buf_fini(&storage);
    dead_count(sink_dead(s), &count, &bytes);
    call->ret_result = json_pack("{s:o, s:I}", "letters", list, "total", (json_int_t)count);
    if (more)
        json_object_set_new(call->ret_result, "next", json_integer((json_int_t)l.offset));
    return REASON_ok;
}

enum reason dead_retry(struct admin *a, struct admin_call *call)
{
    struct sink *s;
    unsigned sent = 0, kept = 0;
    uint64_t offset, count, bytes;
    char more[60];
    enum reason reason = find(a, call, &s);
    if (reason != REASON_ok)
        return reason;
    if (!admin_place(a, call, "offset", false, UINT64_MAX, &offset))
        return REASON_bad_request;
    dead_count(sink_dead(s), &count, &bytes);
    int rc = count ? sink_retry_dead(s, offset, RETRY_PATIENCE_NS, &sent, &kept) : 0;
    if (rc == -EAGAIN)
        return admin_refuse(call, REASON_busy,
                            "%u went; the target, or the gateway, is away now, or it is paused",
                            sent);
    if (rc < 0)
        return admin_refuse(call, REASON_busy, "%u went; the sink is still at it", sent);
    snprintf(more, sizeof more, "{\"sent\":%u,\"kept\":%u}", sent, kept);
    reason = note(a, call, SLICE("dlq_retry"), more);
    if (reason == REASON_ok)
        call->ret_result =
            json_pack("{s:I, s:I}", "sent", (json_int_t)sent, "kept", (json_int_t)kept);
    return reason;
}
