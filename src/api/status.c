/* SPDX-License-Identifier: Apache-2.0 */
/* What tells about the server and about the caller: health, metrics, status, user, throttle. */
#include "api/private.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/metric.h"
#include "flow/limit.h"

static void answer(struct exchange *x, unsigned status)
{
    x->reply.reason = REASON_ok;
    x->reply.status = (uint16_t)status;
    exchange_send(x);
}

static void put_ready(const struct api *a, struct exchange *x)
{
    const char *why = "";
    if (a->ready(a->arg, &why)) {
        buf_put_str(&x->reply.body, "{\"status\":\"ready\"}");
        answer(x, 200);
    } else {
        exchange_refuse(x, REASON_busy, why);
    }
}

static void put_status(const struct api *a, struct buf *out)
{
    struct journal_position p = journal_position(a->journal);
    struct journal_stats j = journal_stats(a->journal);
    struct catalog_stats c = catalog_stats(a->catalog);
    struct throttle_stats t = throttle_stats(a->throttle);
    struct shield_stats s = shield_stats(a->shield);
    struct latest_stats l = latest_stats(a->latest);
    struct history_stats h = history_stats(a->history);
#define U(v) (unsigned long long)(v)
    buf_printf(out,
               "{\"version\":\"" SLUICE_VERSION "\",\"uptime_seconds\":%llu,\"workers\":%u,"
               "\"connections\":%llu,",
               U((clock_mono_ns() - a->start_ns) / NS_PER_S), a->workers,
               U(metric_gauge(METRIC_connections_open)));
    buf_printf(out,
               "\"journal\":{\"log\":\"%s\",\"appended\":%llu,\"durable\":%llu,\"oldest\":%llu,"
               "\"segments\":%llu,\"disk_bytes\":%llu,\"pending_bytes\":%llu,\"commits\":%llu,"
               "\"sync_failures\":%llu,\"blocked\":%s,\"recovered_records\":%llu,"
               "\"recovery_ms\":%llu,\"torn_bytes\":%llu},",
               a->log_id, U(p.appended), U(p.durable), U(p.oldest), U(j.segments), U(j.disk_bytes),
               U(j.pending_bytes), U(j.commits), U(j.sync_failures), j.blocked ? "true" : "false",
               U(j.recovered_records), U(j.recovery_ns / NS_PER_MS), U(j.torn_bytes));
    buf_printf(out,
               "\"catalog\":{\"accounts\":%llu,\"credentials\":%llu,\"feeds\":%llu,\"queue\":%llu,"
               "\"transactions\":%llu,\"outbox\":%llu,\"outbox_ms\":%llu},",
               U(c.accounts), U(c.credentials), U(c.feeds), U(c.queue_length), U(c.transactions),
               U(c.outbox), U(c.outbox_ns / NS_PER_MS));
    buf_printf(out,
               "\"shield\":{\"queue\":%llu,\"queue_max\":%llu,\"threads\":%llu,\"running\":%llu,"
               "\"negative_entries\":%llu,\"hashes\":%llu,\"hits\":%llu,\"misses\":%llu},",
               U(s.queue_length), U(s.queue_max), U(s.threads), U(s.running), U(s.negative_entries),
               U(metric_sum(METRIC_hashes_run)), U(metric_sum(METRIC_shield_hits)),
               U(metric_sum(METRIC_shield_misses)));
    buf_printf(out,
               "\"throttle\":{\"subjects\":%llu,\"bytes\":%llu,\"allowed\":%llu,\"refused\":%llu},",
               U(t.subjects), U(t.bytes), U(metric_sum(METRIC_throttle_allowed)),
               U(metric_sum(METRIC_throttle_refused)));
    buf_printf(out,
               "\"latest\":{\"feeds\":%llu,\"bytes\":%llu},\"history\":{\"durable_cursor\":%llu,"
               "\"open_bytes\":%llu,\"open_feeds\":%llu,\"disk_bytes\":%llu,"
               "\"rollups\":{\"complete\":%s",
               U(l.feeds), U(l.bytes), U(h.durable_cursor), U(h.open_bytes), U(h.open_feeds),
               U(h.disk_bytes), h.rolled == UINT64_MAX ? "true" : "false");
    if (h.rolled != UINT64_MAX)
        buf_printf(out, ",\"complete_below_feed\":%llu", U(h.rolled));
    buf_put_str(out, "}}");
#undef U
    if (a->status)
        a->status(a->arg, out);
    buf_put_str(out, "}");
}

void api_plain(const struct api *a, const struct route_match *m, struct exchange *x)
{
    x->reply.no_store = m->route->op != OP_OPENAPI; /* the others tell of this moment */
    switch (m->route->op) {
    case OP_HEALTHZ:
        buf_put_str(&x->reply.body, "{\"status\":\"ok\"}");
        answer(x, 200);
        return;
    case OP_READYZ:
        put_ready(a, x);
        return;
    case OP_METRICS:
        metric_format(&x->reply.body);
        reason_format(&x->reply.body);
        if (a->metrics)
            a->metrics(a->arg, &x->reply.body);
        x->reply.content_type = "text/plain; version=0.0.4; charset=utf-8";
        answer(x, 200);
        return;
    case OP_STATUS:
        put_status(a, &x->reply.body);
        answer(x, 200);
        return;
    case OP_TIME_SECONDS:
    case OP_TIME_MILLIS:
    case OP_TIME_ISO:
    case OP_TIME_HOURS:
        api_time_of_day(m->route->op, x);
        exchange_send(x);
        return;
    case OP_OPENAPI:
        buf_put_slice(&x->reply.body, a->openapi);
        answer(x, 200);
        return;
    default:
        CHECK_UNREACHABLE("a plain operation");
    }
}

/* The members Adafruit's CircuitPython library reads; rates we do not limit are 0. */
static void put_throttle(const struct api *a, struct buf *out, const struct account *account,
                         uint64_t now_ns)
{
    struct throttle_ask ask = {{THROTTLE_ACCOUNT, account->number}, &account->limits};
    int shown = limit_set_shown(&account->limits);
    bool limited = shown >= 0;
    struct window w = limited ? account->limits.windows[shown] : (struct window){0};
    struct throttle_verdict v = {.allow = true};
    if (limited)
        throttle_peek(a->throttle, &ask, 1, now_ns, &v);
    buf_printf(out,
               "{\"data_rate_limit\":%u,\"active_data_rate\":%u,\"data_rate_window_seconds\":%u,"
               "\"retry_after_seconds\":%llu,\"authentication_rate\":0,"
               "\"subscribe_authorization_rate\":0,\"publish_authorization_rate\":0,"
               "\"hourly_ban_rate\":0,\"mqtt_ban_error_message\":null,\"active_sms_rate\":0}",
               w.count, limited ? throttle_used(a->throttle, &ask, (unsigned)shown, now_ns) : 0,
               w.window_ms / 1000,
               (unsigned long long)(v.allow ? 0 : (v.retry_ns + NS_PER_S - 1) / NS_PER_S));
}

void api_self(const struct api *a, const struct route_match *m, struct exchange *x,
              const struct account *account, const struct credential *credential, uint64_t now_ns)
{
    (void)credential;
    x->reply.no_store = m->route->op != OP_USER;
    if (m->route->op == OP_USER)
        api_format_user(&x->reply.body, a, account);
    else
        put_throttle(a, &x->reply.body, account, now_ns);
    answer(x, 200);
}

static const char *policy_name(const struct throttle_ask *ask)
{
    switch (ask->subject.kind) {
    case THROTTLE_ACCOUNT:
        return "account";
    case THROTTLE_CREDENTIAL:
        return "device";
    default:
        return "address";
    }
}

static unsigned seconds_up(uint64_t ms)
{
    return (unsigned)((ms + 999) / 1000);
}

/* The shape its clients parse: the first comma is followed by the seconds. */
static void refuse_throttled(struct exchange *x, const struct account *account, uint64_t retry_ns)
{
    uint64_t wait_s = (retry_ns + NS_PER_S - 1) / NS_PER_S;
    x->reply.reason = REASON_throttled;
    x->reply.retry_ns = retry_ns ? retry_ns : 1;
    buf_clear(&x->reply.body);
    buf_printf(&x->reply.body,
               "{\"error\":\"request failed - %.*s data rate limit reached, %llu seconds until "
               "throttle released\"}",
               SLICE_ARG(account->name), (unsigned long long)(wait_s ? wait_s : 1));
}

void api_share_fields(struct exchange *x, const struct account *account,
                      const struct share_verdict *v)
{
    uint64_t wait_s = (v->retry_ns + NS_PER_S - 1) / NS_PER_S;
    buf_printf(&x->reply.fields, "RateLimit: \"share\";r=0;t=%llu\r\n", (unsigned long long)wait_s);
    refuse_throttled(x, account, v->retry_ns);
}

static void put_rate_limit(struct buf *out, const struct throttle_ask *asks, unsigned count,
                           const struct throttle_verdict *v, uint64_t wait_s)
{
    bool first = true;
    for (unsigned i = 0; i < count; i++) {
        for (unsigned k = 0; k < asks[i].limits->windows_count; k++) {
            const struct window *w = &asks[i].limits->windows[k];
            if (w->kind & LIMIT_SHADOW)
                continue;
            buf_printf(out, "%s\"%s\";q=%u%s;w=%u", first ? "RateLimit-Policy: " : ", ",
                       policy_name(&asks[i]), w->count,
                       w->kind & LIMIT_BYTES ? ";qu=\"content-bytes\"" : "",
                       seconds_up(w->window_ms));
            first = false;
        }
    }
    if (!first)
        buf_printf(out, "\r\nRateLimit: \"%s\";r=%u;t=%llu\r\n", policy_name(&asks[v->ask]),
                   v->remaining, (unsigned long long)wait_s);
}

void api_throttle_fields(struct exchange *x, const struct account *account,
                         const struct throttle_ask *asks, unsigned count,
                         const struct throttle_verdict *v, bool brief)
{
    uint64_t wait_s = (v->retry_ns + NS_PER_S - 1) / NS_PER_S;
    if (!brief)
        put_rate_limit(&x->reply.fields, asks, count, v, wait_s);
    if (v->allow)
        return;
    struct buf *body = &x->reply.body;
    buf_clear(body);
    if (v->never) {
        x->reply.reason = REASON_too_large;
        buf_printf(body,
                   "{\"error\":\"request failed - one request holds more than a whole window "
                   "of the rate limit allows: the %s's limit is ",
                   policy_name(&asks[v->ask]));
        limit_format(body, asks[v->ask].limits->windows[v->window]);
        buf_put_str(body, "\"}");
        return;
    }
    refuse_throttled(x, account, v->retry_ns);
}
