/* SPDX-License-Identifier: Apache-2.0 */
#include "server_views.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/log.h"
#include "server_emit.h"

#define AUDIT_PATIENCE_NS (2 * NS_PER_S) /* of commands that read the audit log, and of a stop */
#define RULE_PATIENCE_NS  (5 * NS_PER_S) /* of those that make rules */
#define PROGRESS_NS       (5 * NS_PER_S) /* between lines about a start that takes long */

static int path_of(char out[PATH_MAX], const struct config *c, const char *name, struct error *err)
{
    if (snprintf(out, PATH_MAX, "%s/%s", c->server.data, name) < PATH_MAX)
        return 0;
    return error_set(err, -ENAMETOOLONG, "%.100s...: the name is too long", c->server.data);
}

static int open_latest(struct views *v, const struct views_opts *o, const uint64_t log_id[2],
                       uint64_t *ret_cursor, struct error *err)
{
    struct latest_opts opts = {.disk = o->disk,
                               .keyring = o->keyring,
                               .path = v->latest_path,
                               .log_id = {log_id[0], log_id[1]}};
    int rc = path_of(v->latest_path, o->config, "latest.snap", err);
    return rc ? rc : latest_open(&opts, &v->latest, ret_cursor, err);
}

static int open_history(struct views *v, const struct views_opts *o, const uint64_t log_id[2],
                        uint64_t *ret_cursor, struct error *err)
{
    const struct config *c = o->config;
    /* What is not flushed is not forgotten by the journal: that must fit well below its cap. */
    uint64_t flush_most = c->journal.cap_size ? c->journal.cap_size / 4 : UINT64_MAX;
    struct history_opts opts = {
        .keyring = o->keyring,
        .path = v->history_path,
        .open_bytes_max = c->history.open_max,
        .flush_bytes = c->history.flush_size < flush_most ? c->history.flush_size : flush_most,
        .flush_ns = c->history.flush_time * NS_PER_MS,
        .cache_bytes = c->history.cache_size,
        .merge_points = (uint32_t)c->history.merge_points,
        .log_id = {log_id[0], log_id[1]}};
    int rc = path_of(v->history_path, c, "history", err);
    return rc ? rc : history_open(&opts, &v->history, ret_cursor, err);
}

static int open_audit(struct views *v, const struct views_opts *o, const uint64_t log_id[2],
                      uint64_t *ret_cursor, struct error *err)
{
    struct audit_opts opts = {.disk = o->disk,
                              .dir = v->audit_path,
                              .keyring = o->keyring,
                              .keep_ms = o->config->audit.keep,
                              .file_bytes = o->config->audit.file_size,
                              .log_id = {log_id[0], log_id[1]}};
    int rc = path_of(v->audit_path, o->config, "audit", err);
    return rc ? rc : audit_open(&opts, &v->audit, ret_cursor, err);
}

static int open_sessions(struct views *v, const struct views_opts *o, const uint64_t log_id[2],
                         uint64_t *ret_cursor, struct error *err)
{
    const struct config *c = o->config;
    struct sessions_opts opts = {.disk = o->disk,
                                 .path = v->session_path,
                                 .keyring = o->keyring,
                                 .sessions_max = (uint32_t)c->session.sessions_max,
                                 .sessions_per_account_max = (uint32_t)c->session.per_account_max,
                                 .retained_max = (uint32_t)c->session.retained_max,
                                 .retained_per_account_max =
                                     (uint32_t)c->session.retained_per_account_max,
                                 .memory_max = c->session.memory_max,
                                 .memory_per_account_max = c->session.memory_per_account_max,
                                 .log_id = {log_id[0], log_id[1]}};
    int rc = path_of(v->session_path, c, "session.snap", err);
    return rc ? rc : sessions_open(&opts, &v->sessions, ret_cursor, err);
}

static int open_rules(struct views *v, const struct views_opts *o, const uint64_t log_id[2],
                      uint64_t *ret_cursor, struct error *err)
{
    struct rules_opts opts = {.disk = o->disk,
                              .path = v->rules_path,
                              .keyring = o->keyring,
                              .log_id = {log_id[0], log_id[1]},
                              .journal = o->journal,
                              .opened_us = clock_wall_us()};
    int rc = path_of(v->rules_path, o->config, "rules.snap", err);
    v->keyring = o->keyring;
    v->sealer = o->keyring ? sealer_new(o->keyring) : NULL;
    return rc ? rc : rules_open(&opts, &v->rules, ret_cursor, err);
}

/* All that history does in the background is done by these. */
static const char *const history_threads[] = {"history", "rocksdb:", NULL};

int views_open(struct views *v, const struct views_opts *opts, struct error *err)
{
    struct journal_position position = journal_position(opts->journal);
    struct view_opts view = {.journal = opts->journal,
                             .keyring = opts->keyring,
                             .on_applied = opts->on_applied,
                             .arg = opts->arg};
    uint64_t log_id[2], latest, history, audit, sessions, rules;
    memcpy(log_id, position.log_id, sizeof log_id);
    v->journal = opts->journal;
    int rc = open_latest(v, opts, log_id, &latest, err);
    if (!rc)
        rc = open_history(v, opts, log_id, &history, err);
    if (!rc)
        rc = open_audit(v, opts, log_id, &audit, err);
    if (!rc)
        rc = open_sessions(v, opts, log_id, &sessions, err);
    if (!rc)
        rc = open_rules(v, opts, log_id, &rules, err);
    if (rc)
        return rc;
    view.ops = &view_latest_ops;
    view.of = v->latest;
    view.cursor = latest;
    rc = view_start(&view, &v->latest_view, err);
    view.ops = &view_history_ops;
    view.of = v->history;
    view.cursor = history;
    if (!rc)
        rc = view_start(&view, &v->history_view, err);
    if (!rc)
        v->history_yield = yield_start(&(struct yield_opts){
            .journal = v->journal, .view = v->history_view, .threads = history_threads});
    view.ops = &view_session_ops;
    view.of = v->sessions;
    view.cursor = sessions;
    if (!rc)
        rc = view_start(&view, &v->session_view, err);
    view.ops = &view_rules_ops;
    view.of = v->rules;
    view.cursor = rules;
    if (!rc)
        rc = view_start(&view, &v->rules_view, err);
    view.ops = &view_audit_ops;
    view.of = v->audit;
    view.cursor = audit;
    view.on_applied = NULL; /* no request waits for it */
    return rc ? rc : view_start(&view, &v->audit_view, err);
}

static bool told_to_stop(void)
{
    sigset_t pending;
    return sigpending(&pending) == 0 &&
           (sigismember(&pending, SIGTERM) == 1 || sigismember(&pending, SIGINT) == 1);
}

/* Returns when the view has all that the journal has now; `line` is said meanwhile. */
static int catch_up(struct views *v, struct view *view, const char *line, struct error *err)
{
    uint64_t end = journal_durable(v->journal), begun = view_applied(view);
    uint64_t told_ns = clock_mono_ns();
    view_hurry(view, end);
    while (view_applied(view) < end) {
        if (told_to_stop())
            return error_set(err, -EINTR, "stopped while the journal was read (%s)", line);
        if (clock_mono_ns() - told_ns >= PROGRESS_NS) {
            told_ns = clock_mono_ns();
            log_line(LOG_INFO, line, "from=%llu at=%llu to=%llu", (unsigned long long)begun,
                     (unsigned long long)view_applied(view), (unsigned long long)end);
        }
        clock_sleep_ns(NS_PER_MS);
    }
    return 0;
}

int views_rebuild(struct views *v, struct error *err)
{
    int rc = catch_up(v, v->session_view, "sessions.reading", err);
    if (rc == 0)
        rc = catch_up(v, v->audit_view, "audit.reading", err);
    if (rc)
        return rc;
    unsigned count = sessions_cut_off(v->sessions, clock_wall_us());
    if (count)
        log_line(LOG_INFO, "sessions.cut_off", "sessions=%u", count);
    return 0;
}

void views_stop(struct views *v)
{
    yield_stop(v->history_yield);
    v->history_yield = NULL;
    if (v->audit_view) /* else the next start reads it, but commands without a server know less */
        (void)view_flush(v->audit_view, AUDIT_PATIENCE_NS);
    view_stop(v->latest_view);
    view_stop(v->history_view);
    view_stop(v->audit_view);
    view_stop(v->session_view);
    view_stop(v->rules_view);
    v->latest_view = v->history_view = v->audit_view = v->session_view = v->rules_view = NULL;
}

void views_close(struct views *v)
{
    views_stop(v);
    latest_close(v->latest);
    history_close(v->history);
    audit_close(v->audit);
    sessions_close(v->sessions);
    rules_close(v->rules);
    sealer_free(v->sealer);
    v->rules = NULL;
    v->sealer = NULL;
    v->sessions = NULL;
    v->latest = NULL;
    v->history = NULL;
    v->audit = NULL;
}

void views_put_status(const struct views *v, struct buf *out)
{
    const struct {
        const char *name;
        const struct view *view;
    } views[] = {{"latest", v->latest_view},
                 {"history", v->history_view},
                 {"audit", v->audit_view},
                 {"session", v->session_view},
                 {"rules", v->rules_view}};
    uint64_t durable = journal_durable(v->journal);
    struct audit_stats a = audit_stats(v->audit);
    struct sessions_stats s = sessions_stats(v->sessions);
    buf_put_str(out, ",\"views\":{");
    for (unsigned i = 0; i < sizeof views / sizeof *views; i++) {
        uint64_t applied = view_applied(views[i].view);
        buf_printf(out, "%s\"%s\":{\"applied\":%llu,\"lag\":%llu}", i ? "," : "", views[i].name,
                   (unsigned long long)applied,
                   (unsigned long long)(durable > applied ? durable - applied : 0));
    }
    buf_printf(out, "},\"audit\":{\"entries\":%llu,\"files\":%llu,\"disk_bytes\":%llu}",
               (unsigned long long)a.entries, (unsigned long long)a.files,
               (unsigned long long)a.bytes);
    buf_printf(out,
               ",\"sessions\":{\"sessions\":%llu,\"connected\":%llu,\"retained\":%llu,"
               "\"memory_bytes\":%llu,\"dropped\":%llu}",
               (unsigned long long)s.sessions, (unsigned long long)s.connected,
               (unsigned long long)s.retained, (unsigned long long)s.bytes,
               (unsigned long long)s.dropped);
}

void views_put_passed(const struct views *v, uint64_t offset, struct buf *out)
{
    buf_printf(out, ",\"applied\":{\"latest\":%s,\"history\":%s}",
               view_applied(v->latest_view) > offset ? "true" : "false",
               view_applied(v->history_view) > offset ? "true" : "false");
}

int views_flush_audit(void *arg)
{
    struct views *v = arg;
    return view_flush(v->audit_view, AUDIT_PATIENCE_NS);
}

/* Stores the record, and waits for the view. */
static int say_rule(void *arg, const struct rule_record *r, struct error *err)
{
    struct views *v = arg;
    struct buf payload;
    buf_init(&payload, 2 * RULE_VALUE_MAX);
    rule_record_encode(&payload, r);
    int64_t now = clock_wall_us();
    const struct record record = {.kind = RECORD_RULE,
                                  .account = r->rule.account,
                                  .feed = r->rule.feed,
                                  .event_us = now,
                                  .receive_us = now,
                                  .payload = buf_slice(&payload)};
    int rc = emitter_emit(&(struct emitter){v->journal, v->keyring, v->sealer}, &record, 1);
    buf_fini(&payload);
    if (rc)
        return error_set(err, rc, "the journal does not take it: %s", strerror(-rc));
    rc = view_flush(v->rules_view, RULE_PATIENCE_NS);
    return rc == -ETIMEDOUT ? error_set(err, rc,
                                        "it is stored, and in force when the view of rules "
                                        "has read the journal up to there")
           : rc             ? error_set(err, rc, "%s: %s", v->rules_path, strerror(-rc))
                            : 0;
}

struct admin_rules views_rules(struct views *v, const struct config *c)
{
    return (struct admin_rules){.all = v->rules,
                                .say = say_rule,
                                .arg = v,
                                .max = (unsigned)c->rules.max,
                                .account_max = (unsigned)c->rules.account_max};
}
