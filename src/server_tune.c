/* SPDX-License-Identifier: Apache-2.0 */
#include "server_tune.h"

#include <jansson.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"
#include "conn/descriptors.h"

#define FILES_MAX     4096               /* descriptors that are no connections, about */
#define BUFFERS_LEAST ((size_t)64 << 20) /* of a worker: some of the largest answers */

struct ack tune_ack(const char *text)
{
    struct ack ack;
    CHECK(ack_parse(slice_str(text), &ack)); /* as was checked */
    return ack;
}

unsigned tune_workers(const struct config *c)
{
    long n = c->server.workers ? (long)c->server.workers : sysconf(_SC_NPROCESSORS_ONLN);
    return n < 1 ? 1 : n > WORKERS_MAX ? WORKERS_MAX : (unsigned)n;
}

struct lane_tune tune_lane(const struct config *c)
{
    return (struct lane_tune){
        .address_limits = c->throttle.address,
        .subscribes = {c->mqtt.subscribe_limits, c->mqtt.subscribe_address_limits},
        .refusals = {c->mqtt.refused_limits, c->mqtt.refused_address_limits},
        .ack_timeout_ns = c->ack.timeout * NS_PER_MS,
        .delivered_timeout_ns = c->ack.delivered_timeout * NS_PER_MS,
        .read_deadline_ns = c->reads.deadline * NS_PER_MS,
        .refusal_hold_ns = c->auth.refusal_hold * NS_PER_MS};
}

struct missed_limits tune_missed(const struct config *c)
{
    return (struct missed_limits){.messages_max = (uint32_t)c->session.missed_max,
                                  .bytes_max = c->session.missed_size,
                                  .scan_bytes = c->session.missed_scan};
}

struct pipeline_tune tune_pipeline(const struct config *c)
{
    return (struct pipeline_tune){
        .shed = c->overload.enabled,
        .pprof = !strcmp(c->debug.pprof, "open")  ? PPROF_OPEN
                 : !strcmp(c->debug.pprof, "key") ? PPROF_KEY
                                                  : PPROF_OFF,
        .overload = {.limit_min = (uint32_t)(c->overload.waiting_min < c->overload.waiting_max
                                                 ? c->overload.waiting_min
                                                 : c->overload.waiting_max),
                     .limit_max = (uint32_t)c->overload.waiting_max,
                     .disk_percent = (unsigned)c->overload.disk_percent,
                     .refuse_percent = (unsigned)c->journal.refuse_percent}};
}

void tune_pipeline_opts(const struct config *c, struct pipeline_opts *ret)
{
    ret->missed = tune_missed(c);
    ret->lane = tune_lane(c);
    ret->tune = tune_pipeline(c);
    ret->pending_bytes_max = c->journal.pending_max;
    ret->read_threads = (unsigned)c->reads.threads;
    ret->read_queue_max = (unsigned)c->reads.queue_max;
    ret->read_per_account_max = (unsigned)c->reads.per_account_max;
}

unsigned tune_trusted(const struct config *c, struct cidr *out)
{
    struct slice rest = slice_str(c->listen.trusted_proxies), item;
    unsigned count = 0;
    while (config_list_next(&rest, &item)) {
        CHECK(count < CONFIG_NETWORKS_MAX && cidr_parse(item, &out[count])); /* as was checked */
        count++;
    }
    return count;
}

struct http1_limits tune_http_limits(const struct config *c)
{
    return (struct http1_limits){.head_bytes = c->http.head_max,
                                 .target_bytes = c->http.target_max,
                                 .fields = (unsigned)c->http.fields_max,
                                 .body_bytes = c->http.body_max};
}

struct http_tune tune_http(const struct config *c, enum surface surface, const struct cidr *trusted,
                           unsigned count)
{
    bool public = surface == SURFACE_PUBLIC;
    return (struct http_tune){
        .pipeline_max = (unsigned)c->http.pipeline_max,
        .head_timeout_ns = c->http.head_timeout * NS_PER_MS,
        .idle_timeout_ns = c->http.idle_timeout * NS_PER_MS,
        .write_timeout_ns = c->http.write_timeout * NS_PER_MS,
        .body_rate_min = c->http.body_rate_min,
        .cors_origin = public ? c->http.cors_origin : "",
        .hsts_s = public ? (uint32_t)(c->tls.hsts_max_age / 1000) : 0,
        .use_forwarded = !strcmp(c->listen.forwarded_header, "forwarded"),
        .trusted = trusted,
        .trusted_count = public ? count : 0,
        .websocket_max = c->mqtt.websocket ? (unsigned)c->mqtt.connections_max : 0,
    };
}

struct mqtt_tune tune_mqtt(const struct config *c)
{
    return (struct mqtt_tune){
        .connect_timeout_ns = c->mqtt.connect_timeout * NS_PER_MS,
        .write_timeout_ns = c->mqtt.write_timeout * NS_PER_MS,
        .keep_alive_max_s = (uint16_t)(c->mqtt.keep_alive_max / 1000),
        .session_expiry_max_s = (uint32_t)(c->mqtt.session_expiry_max / 1000),
        .refusal_3_closes = !strcmp(c->mqtt.refusal_3, "close"),
        .missed_max = (uint32_t)c->session.missed_max,
    };
}

static size_t buffers_of_worker(const struct config *c)
{
    size_t each = c->listen.buffers_max / tune_workers(c);
    return each > BUFFERS_LEAST ? each : BUFFERS_LEAST;
}

struct listener_tune tune_listener(const struct config *c, enum surface surface,
                                   const struct cidr *trusted, unsigned count, struct tls_set *tls)
{
    bool mqtt = surface == SURFACE_MQTT;
    bool proxies = (surface == SURFACE_PUBLIC || mqtt) && c->listen.proxy_protocol;
    return (struct listener_tune){
        .open_max = (unsigned)(mqtt ? c->mqtt.connections_max : c->http.connections_max),
        .proxies = trusted,
        .proxies_count = proxies ? count : 0,
        .opening_ns = c->listen.opening_timeout * NS_PER_MS,
        .opening_max = (unsigned)c->listen.opening_max,
        .buffers_max = buffers_of_worker(c),
        .tls = tls,
    };
}

enum log_level tune_log_level(const char *name)
{
    return !strcmp(name, "debug")   ? LOG_DEBUG
           : !strcmp(name, "warn")  ? LOG_WARN
           : !strcmp(name, "error") ? LOG_ERROR
                                    : LOG_INFO;
}

struct journal_opts tune_journal(const struct config *c, struct disk *disk, const char *dir)
{
    return (struct journal_opts){
        .disk = disk,
        .dir = dir,
        .segment_bytes = c->journal.segment_size,
        .retain_bytes = c->journal.retain_size,
        .retain_ms = c->journal.retain_time,
        .cap_bytes = c->journal.cap_size,
        .when_full =
            !strcmp(c->journal.when_full, "drop_oldest") ? JOURNAL_DROP_OLDEST : JOURNAL_BLOCK,
        .refuse_percent = (unsigned)c->journal.refuse_percent,
        .ring_bytes = c->journal.ring_size,
        .pending_bytes = c->journal.pending_max,
        .skip_corrupt = c->journal.skip_corrupt,
        .once_window_ms = c->journal.idempotency_window,
        .once_bytes = c->journal.idempotency_memory,
        .once_devices = (uint32_t)c->journal.sequence_devices,
    };
}

void tune_note_change(void *arg, const struct config_change *change)
{
    json_t *result = arg, *name = json_sprintf("%s.%s", change->section, change->name);
    json_t *list = json_object_get(result, change->live ? "changed" : "at_next_start");
    json_array_append_new(
        list, json_pack("{s:o, s:s%, s:s%}", "setting", name, "before",
                        change->before.len ? change->before.ptr : "", change->before.len, "after",
                        change->after.len ? change->after.ptr : "", change->after.len));
    if (!change->live)
        log_line(LOG_WARN, "config.at_next_start", "setting=%s.%s", change->section, change->name);
}

void tune_descriptors(const struct config *c)
{
    descriptors_reserve((unsigned long)c->http.connections_max +
                        (unsigned long)c->mqtt.connections_max + FILES_MAX);
}

void tune_signals(sigset_t *ret)
{
    sigemptyset(ret);
    sigaddset(ret, SIGTERM);
    sigaddset(ret, SIGINT);
    sigaddset(ret, SIGHUP);
    pthread_sigmask(SIG_BLOCK, ret, NULL);
}
