/* SPDX-License-Identifier: Apache-2.0 */
/* What the runner calls of each view. */
#include "base/clock.h"
#include "view/audit.h"
#include "view/history.h"
#include "view/latest.h"
#include "view/rules.h"
#include "view/sessions.h"
#include "view/view.h"

static void on_latest_apply(void *of, const struct record *r, uint64_t offset)
{
    latest_apply(of, r, offset);
}

static void on_latest_prefetch(void *of, uint64_t feed)
{
    latest_prefetch(of, feed);
}

static void on_latest_prefetch_end(void *of, uint64_t feed)
{
    latest_prefetch_end(of, feed);
}

static uint64_t on_latest_tick(void *of, uint64_t next_offset, uint64_t bytes, uint64_t now_ns)
{
    return latest_tick(of, next_offset, bytes, now_ns);
}

static int on_latest_flush(void *of, uint64_t next_offset)
{
    return latest_snapshot(of, next_offset);
}

const struct view_ops view_latest_ops = {
    .name = "latest",
    .apply = on_latest_apply,
    .prefetch = on_latest_prefetch,
    .prefetch_end = on_latest_prefetch_end,
    .tick = on_latest_tick,
    .flush = on_latest_flush,
};

static void on_history_apply(void *of, const struct record *r, uint64_t offset)
{
    history_apply(of, r, offset);
}

static void on_history_prefetch(void *of, uint64_t feed)
{
    history_prefetch(of, feed);
}

static void on_history_prefetch_end(void *of, uint64_t feed)
{
    history_prefetch_end(of, feed);
}

static uint64_t on_history_tick(void *of, uint64_t next_offset, uint64_t bytes, uint64_t now_ns)
{
    return history_tick(of, next_offset, bytes, now_ns);
}

static bool on_history_stuck(void *of)
{
    return history_stuck(of);
}

static bool on_history_restless(void *of)
{
    return history_restless(of);
}

static int on_history_flush(void *of, uint64_t next_offset)
{
    return history_flush(of); /* the last tick has told it the offset */
}

const struct view_ops view_history_ops = {
    .name = "history",
    .apply = on_history_apply,
    .prefetch = on_history_prefetch,
    .prefetch_end = on_history_prefetch_end,
    .tick = on_history_tick,
    .stuck = on_history_stuck,
    .restless = on_history_restless,
    .flush = on_history_flush,
};

static bool always(const void *of)
{
    (void)of;
    return true;
}

static bool on_audit_wants(const void *of, const struct record *r)
{
    (void)of;
    return r->kind == RECORD_AUDIT || r->kind == RECORD_DICTIONARY;
}

static void on_audit_apply(void *of, const struct record *r, uint64_t offset)
{
    audit_apply(of, r, offset);
}

static void on_audit_apply_shut(void *of, const struct record *r, uint64_t offset)
{
    audit_apply_shut(of, r, offset);
}

static uint64_t on_audit_tick(void *of, uint64_t next_offset, uint64_t bytes, uint64_t now_ns)
{
    return audit_tick(of, next_offset, now_ns);
}

static bool on_audit_stuck(void *of)
{
    return audit_stuck(of);
}

static int on_audit_flush(void *of, uint64_t next_offset)
{
    return audit_flush(of, next_offset);
}

const struct view_ops view_audit_ops = {
    .name = "audit",
    .skips_data = always,
    .wants = on_audit_wants,
    .nap_ns = 100 * NS_PER_MS, /* nobody waits for it but commands, and they flush */
    .apply = on_audit_apply,
    .apply_shut = on_audit_apply_shut,
    .tick = on_audit_tick,
    .stuck = on_audit_stuck,
    .flush = on_audit_flush,
};

static bool on_sessions_wants(const void *of, const struct record *r)
{
    (void)of;
    return sessions_want(r);
}

static void on_sessions_apply(void *of, const struct record *r, uint64_t offset)
{
    sessions_apply(of, r, offset);
}

static uint64_t on_sessions_tick(void *of, uint64_t next_offset, uint64_t bytes, uint64_t now_ns)
{
    return sessions_tick(of, next_offset, bytes, now_ns);
}

static int on_sessions_flush(void *of, uint64_t next_offset)
{
    return sessions_snapshot(of, next_offset);
}

const struct view_ops view_session_ops = {
    .name = "session",
    .skips_data = always,
    .wants = on_sessions_wants,
    .apply = on_sessions_apply,
    .tick = on_sessions_tick,
    .flush = on_sessions_flush,
};

static bool on_rules_skip(const void *of)
{
    return rules_none(of);
}

static bool on_rules_wants(const void *of, const struct record *r)
{
    return rules_want(of, r);
}

static void on_rules_apply(void *of, const struct record *r, uint64_t offset)
{
    rules_apply(of, r, offset);
}

static uint64_t on_rules_tick(void *of, uint64_t next_offset, uint64_t bytes, uint64_t now_ns)
{
    return rules_tick(of, next_offset, bytes, now_ns);
}

static int on_rules_flush(void *of, uint64_t next_offset)
{
    return rules_snapshot(of, next_offset);
}

const struct view_ops view_rules_ops = {
    .name = "rules",
    .skips_data = on_rules_skip,
    .nap_ns = 10 * NS_PER_MS, /* under load; else a message is looked at as it comes */
    .wants = on_rules_wants,
    .apply = on_rules_apply,
    .tick = on_rules_tick,
    .flush = on_rules_flush,
};
