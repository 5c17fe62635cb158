/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the server itself tells subscribers, of no account: time/seconds, time/millis, time/ISO-8601
 * with each second and time/hours with each hour, as Adafruit IO does, and figures about itself
 * below $SYS/broker, named as Mosquitto's where they mean the same. Nothing of it is stored; each
 * lane makes it for its own subscribers, and only while it has some.
 */
#include "base/clock.h"
#include "base/metric.h"
#include "codec/topic.h"
#include "pipeline_private.h"

#define SYS_EVERY_NS (10 * NS_PER_S)
#define S_PER_HOUR   3600

struct told {
    struct lane *lane;
    enum route_op op;
    int64_t us;
    uint64_t number;
    const char *text;
};

static void publish(struct told *t, const char *topic, uint64_t permission,
                    struct slice (*payload)(void *arg))
{
    const struct live_ops *to = &t->lane->live;
    const struct live_message m = {
        .topic = slice_str(topic), .permission = permission, .payload = payload, .arg = t};
    to->publish(to->arg, &m);
}

/* ---- time ---- */

static const struct {
    const char *topic;
    enum route_op op;
} times[] = {
    {"time/seconds", OP_TIME_SECONDS},
    {"time/millis", OP_TIME_MILLIS},
    {"time/ISO-8601", OP_TIME_ISO},
    {"time/hours", OP_TIME_HOURS},
};
#define TIMES (sizeof times / sizeof times[0])

static struct slice on_time(void *arg)
{
    struct told *t = arg;
    struct buf *out = &t->lane->live_text;
    buf_clear(out);
    api_put_time(out, t->op, t->us);
    return buf_slice(out);
}

static void tell_time(struct lane *l)
{
    int64_t us = clock_wall_us(), s = us / US_PER_S, before = l->told_s;
    l->told_s = s;
    if (!before || s == before)
        return;
    for (unsigned i = 0; i < TIMES; i++) {
        struct told t = {.lane = l, .op = times[i].op, .us = us};
        if (t.op != OP_TIME_HOURS || s / S_PER_HOUR != before / S_PER_HOUR)
            publish(&t, times[i].topic, 0, on_time);
    }
}

/* ---- figures ---- */

static const struct {
    const char *topic;
    enum metric_counter counter;
} counts[] = {
    {"$SYS/broker/bytes/received", METRIC_bytes_received},
    {"$SYS/broker/bytes/sent", METRIC_bytes_sent},
    {"$SYS/broker/publish/messages/received", METRIC_mqtt_publishes},
    {"$SYS/broker/publish/messages/sent", METRIC_mqtt_sent},
};
#define COUNTS (sizeof counts / sizeof counts[0])

static const enum metric_counter drops[] = {METRIC_mqtt_drops_slow, METRIC_mqtt_drops_queue_full,
                                            METRIC_mqtt_drops_too_large};
#define DROPS (sizeof drops / sizeof drops[0])

static struct slice on_number(void *arg)
{
    struct told *t = arg;
    struct buf *out = &t->lane->live_text;
    buf_clear(out);
    buf_printf(out, "%llu%s", (unsigned long long)t->number, t->text ? t->text : "");
    return buf_slice(out);
}

static struct slice on_text(void *arg)
{
    return slice_str(((struct told *)arg)->text);
}

static void tell_number(struct lane *l, const char *topic, uint64_t number, const char *unit)
{
    struct told t = {.lane = l, .number = number, .text = unit};
    publish(&t, topic, PERM_admin_read, on_number);
}

static void tell_figures(struct lane *l, uint64_t now_ns)
{
    struct told version = {.lane = l, .text = "sluice version " SLUICE_VERSION};
    uint64_t dropped = 0;
    for (unsigned i = 0; i < DROPS; i++)
        dropped += metric_sum(drops[i]);
    publish(&version, "$SYS/broker/version", PERM_admin_read, on_text);
    tell_number(l, "$SYS/broker/uptime", (now_ns - l->p->opts.api.start_ns) / NS_PER_S, " seconds");
    tell_number(l, "$SYS/broker/clients/connected", metric_gauge(METRIC_mqtt_connections), NULL);
    tell_number(l, "$SYS/broker/subscriptions/count", metric_gauge(METRIC_mqtt_subscriptions),
                NULL);
    tell_number(l, "$SYS/broker/publish/messages/dropped", dropped, NULL);
    for (unsigned i = 0; i < COUNTS; i++)
        tell_number(l, counts[i].topic, metric_sum(counts[i].counter), NULL);
}

void service_tick(struct lane *l, uint64_t now_ns)
{
    if (!l->live.wants || !l->live.wants(l->live.arg, LIVE_OF_NOBODY)) {
        l->told_s = 0; /* whoever comes first hears of the next second */
        return;
    }
    tell_time(l);
    if (now_ns >= l->figures_ns) {
        l->figures_ns = now_ns + SYS_EVERY_NS;
        tell_figures(l, now_ns);
    }
}

/* ---- who may ---- */

/* Whether a filter asks for anything of it, by its first level. */
enum reason service_may_subscribe(struct lane *l, const struct principal *p, struct slice filter)
{
    if (slice_starts(filter, SLICE("$SYS/"))) {
        if (!(p->credential->permissions & PERM_admin_read))
            return REASON_not_available;
        l->figures_ns = 0; /* told at once, as Mosquitto does, which retains them */
        return REASON_ok;
    }
    for (unsigned i = 0; i < TIMES; i++) {
        if (topic_matches(filter, slice_str(times[i].topic)))
            return REASON_ok;
    }
    return filter.ptr[0] == '$' ? REASON_not_available : REASON_bad_topic;
}
