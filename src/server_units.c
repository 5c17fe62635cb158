/* SPDX-License-Identifier: Apache-2.0 */
#include "server_units.h"

#include <stdlib.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "conn/certified.h"
#include "front/http.h"
#include "journal/disk.h"
#include "server_tune.h"

#define LISTENERS_MAX 32

/* A listener, and what it leads to. */
struct door {
    struct listener *listener;
    enum surface surface;
    bool tls;
};

/* One worker with what runs on it. */
struct unit {
    struct units *of;
    struct worker *worker;
    struct lane *lane;
    struct http_front *fronts[3]; /* by surface; operator's and admin's on the first worker only */
    struct door doors[LISTENERS_MAX];
    unsigned doors_count;
    struct mqtt_front *mqtt;
    struct mail mail;                         /* stop */
    struct mail barrier;                      /* revocation, reload */
    struct cidr trusted[CONFIG_NETWORKS_MAX]; /* proxies that the public fronts believe */
    unsigned trusted_count;
    _Atomic bool quiet; /* stopping: no connection and no request left */
    _Atomic bool stop, abort;
    unsigned stop_ticks; /* since the stop */
};

/* ---- all of them ---- */

static void post_and_count(struct units *u)
{
    pthread_mutex_lock(&u->barrier_lock);
    if (--u->barrier_left == 0)
        pthread_cond_signal(&u->barrier_done);
    pthread_mutex_unlock(&u->barrier_lock);
}

/* Runs `run` on every worker, which ends with post_and_count; returns when all are through. */
static void on_all_workers(struct units *u, void (*run)(struct mail *m))
{
    pthread_mutex_lock(&u->barrier_lock);
    u->barrier_left = u->count;
    for (unsigned i = 0; i < u->count; i++) {
        u->at[i].barrier.run = run;
        worker_post(u->at[i].worker, &u->at[i].barrier);
    }
    while (u->barrier_left)
        pthread_cond_wait(&u->barrier_done, &u->barrier_lock);
    pthread_mutex_unlock(&u->barrier_lock);
}

static void on_check(struct mail *m)
{
    struct unit *u = (struct unit *)((char *)m - offsetof(struct unit, barrier));
    mqtt_front_check(u->mqtt);
    http_front_check(u->fronts[SURFACE_PUBLIC]);
    post_and_count(u->of);
}

void units_check(struct units *u)
{
    on_all_workers(u, on_check);
}

/* ---- a worker ---- */

static void check_quiet(struct unit *u)
{
    unsigned connections = 0;
    for (unsigned i = 0; i < 3; i++)
        connections += u->fronts[i] ? http_front_connections(u->fronts[i]) : 0;
    connections += mqtt_front_connections(u->mqtt);
    u->quiet = !connections && !lane_busy(u->lane) && mqtt_shares_idle(u->of->groups);
}

static bool on_turn_end(void *arg)
{
    struct unit *u = arg;
    bool again = mqtt_front_flush(u->mqtt); /* may read on, so before the batch is handed on */
    again = lane_turn_end(u->lane, again) || again;
    if (__builtin_expect(u->stop, 0))
        check_quiet(u);
    return again;
}

static void on_settle(void *arg)
{
    struct unit *u = arg;
    lane_settle(u->lane);
}

static void on_tick(void *arg)
{
    struct unit *u = arg;
    lane_tick(u->lane);
    /* By the second tick every socket was read once more, or waits to be: a request that had
     * arrived before the stop gets its answer. */
    if (u->stop && ++u->stop_ticks >= 2) {
        for (unsigned i = 0; i < 3; i++) {
            if (u->fronts[i])
                http_front_close_idle(u->fronts[i]);
        }
    }
}

static void add_front(struct unit *u, enum surface surface)
{
    const struct config *c = u->of->config;
    struct http_opts opts = {
        .worker = u->worker,
        .surface = surface,
        .limits = tune_http_limits(c),
        .body_max = c->http.body_max,
        .tune = tune_http(c, surface, u->trusted, u->trusted_count),
        .websocket = {surface == SURFACE_PUBLIC ? mqtt_accept : NULL, u->mqtt,
                      &u->of->mqtt_connections},
        .consumers = {surface == SURFACE_PUBLIC ? lane_may_consume : NULL, lane_consumer_left},
        .stage_bytes = lane_stage_bytes(),
        .handle = lane_handle,
        .arg = u->lane,
    };
    u->fronts[surface] = http_front_new(&opts);
}

static void add_mqtt(struct unit *u)
{
    const struct config *c = u->of->config;
    struct mqtt_opts opts = {
        .worker = u->worker,
        .tune = tune_mqtt(c),
        .packet_max = (uint32_t)c->mqtt.packet_max,
        .connect_max = (uint32_t)c->mqtt.connect_max,
        .receive_max = (uint16_t)c->mqtt.receive_max,
        .alias_max = (uint16_t)c->mqtt.topic_alias_max,
        .stage_bytes = lane_stage_bytes(),
        .subscriptions_max = (uint16_t)c->mqtt.subscriptions_max,
        .queue_bytes = c->mqtt.queue_size,
        .may_subscribe = lane_may_subscribe,
        .interest = lane_interest,
        .durable = lane_durable,
        .next_retained = lane_next_retained,
        .tell = lane_tell,
        .flood = lane_flood,
        .sessions = u->of->sessions,
        .shares = u->of->groups,
        .handle = lane_handle,
        .vouches = lane_vouches,
        .glance = lane_glance,
        .glance_again = lane_glance_again,
        .arg = u->lane,
    };
    u->mqtt = mqtt_front_new(&opts);
    lane_set_live(u->lane, mqtt_front_live(u->mqtt));
}

/* What the door of that surface is given anew by a reload. */
static struct listener_tune tune_door(const struct unit *u, enum surface surface, bool tls)
{
    return tune_listener(u->of->config, surface, u->trusted, u->trusted_count,
                         tls ? u->of->tls : NULL);
}

static int listen_on(struct unit *u, enum surface surface, bool tls, const char *list,
                     const char *setting, struct error *err)
{
    struct units *of = u->of;
    struct slice rest = slice_str(list), item;
    bool mqtt = surface == SURFACE_MQTT, public = surface == SURFACE_PUBLIC;
    u->trusted_count = tune_trusted(u->of->config, u->trusted);
    if (!mqtt && !u->fronts[surface])
        add_front(u, surface);
    while (config_list_next(&rest, &item)) {
        struct door *d = &u->doors[u->doors_count];
        if (u->doors_count == LISTENERS_MAX)
            return error_set(err, -EINVAL, "%s: over %d addresses", setting, LISTENERS_MAX);
        struct listener_opts opts = {.backlog = (int)of->config->listen.backlog,
                                     .open = public ? &of->connections
                                             : mqtt ? &of->mqtt_connections
                                                    : NULL,
                                     .tune = tune_door(u, surface, tls),
                                     .alpn = mqtt ? SLICE("\x04mqtt") : SLICE("\x08http/1.1"),
                                     .accept = mqtt ? mqtt_accept : http_accept,
                                     .arg = mqtt ? (void *)u->mqtt : (void *)u->fronts[surface]};
        int rc = u == of->at ? listener_probe(item) : 0;
        if (!rc)
            rc = listener_open(u->worker, item, &opts, &d->listener);
        if (rc)
            return error_set(err, rc, "%s: cannot listen on %.*s: %s", setting, SLICE_ARG(item),
                             listener_why(rc));
        d->surface = surface;
        d->tls = tls;
        u->doors_count++;
        if (u == of->at)
            log_line(LOG_INFO, "server.listen", "%s=%.*s port=%u", setting, SLICE_ARG(item),
                     listener_port(d->listener));
    }
    return 0;
}

/* ---- opening ---- */

static bool on_known_group(void *arg, uint64_t account, struct slice filter, uint64_t *ret_floor)
{
    const struct units *u = arg;
    return sessions_group_floor(u->known, account, filter, ret_floor);
}

int units_open(struct units *u, const struct units_opts *opts, struct error *err)
{
    const struct config *c = opts->config;
    const struct {
        enum surface surface;
        bool tls;
        const char *list, *setting;
    } doors[] = {{SURFACE_PUBLIC, false, c->listen.http, "listen.http"},
                 {SURFACE_PUBLIC, true, c->listen.https, "listen.https"},
                 {SURFACE_MQTT, false, c->listen.mqtt, "listen.mqtt"},
                 {SURFACE_MQTT, true, c->listen.mqtts, "listen.mqtts"},
                 {
                     SURFACE_OPERATOR,
                     false,
                     c->listen.operator,
                     "listen.operator" },
                     {SURFACE_ADMIN, false, u->admin_path, "admin.sock"},
    };
    *u = (struct units){.config = c,
                        .tls = opts->tls,
                        .pipeline = opts->pipeline,
                        .known = opts->sessions,
                        .count = tune_workers(c)};
    snprintf(u->admin_path, sizeof u->admin_path, "%s", opts->admin_path);
    pthread_mutex_init(&u->barrier_lock, NULL);
    pthread_cond_init(&u->barrier_done, NULL);
    u->at = calloc(u->count, sizeof *u->at);
    CHECK(u->at);
    u->sessions = mqtt_sessions_new();
    u->groups = mqtt_shares_new(&(struct mqtt_shares_opts){
        .born = journal_durable(opts->journal), .known = on_known_group, .arg = u});
    int rc = 0;
    for (unsigned i = 0; i < u->count; i++) {
        struct unit *unit = &u->at[i];
        unit->of = u;
        unit->worker = worker_new(i);
        unit->lane = lane_new(u->pipeline, unit->worker);
        add_mqtt(unit);
        worker_set_hook(unit->worker, (struct worker_hook){on_settle, on_turn_end, on_tick, unit});
    }
    for (unsigned k = 0; k < sizeof doors / sizeof *doors; k++) {
        bool first_only = doors[k].surface == SURFACE_OPERATOR || doors[k].surface == SURFACE_ADMIN;
        for (unsigned i = 0; i < (first_only ? 1 : u->count) && !rc; i++)
            rc = listen_on(&u->at[i], doors[k].surface, doors[k].tls, doors[k].list,
                           doors[k].setting, err);
    }
    pipeline_live_start(u->pipeline);
    for (unsigned i = 0; i < u->count; i++)
        worker_start(u->at[i].worker);
    return rc;
}

/* ---- the end ---- */

static void on_stop(struct mail *m)
{
    struct unit *u = (struct unit *)((char *)m - offsetof(struct unit, mail));
    if (!u->stop) {
        for (unsigned i = 0; i < u->doors_count; i++)
            listener_close(u->doors[i].listener);
        u->doors_count = 0;
        lane_stop(u->lane);
    }
    for (unsigned i = 0; i < 3; i++) {
        if (u->fronts[i])
            (u->abort ? http_front_abort : http_front_stop)(u->fronts[i]);
    }
    (u->abort ? mqtt_front_abort : mqtt_front_stop)(u->mqtt);
    u->stop = true; /* on_tick closes what is idle */
    check_quiet(u);
}

bool units_quiesce(struct units *u, bool abort, uint64_t wait_ns)
{
    for (unsigned i = 0; i < u->count; i++) {
        u->at[i].quiet = false;
        u->at[i].abort = abort;
        u->at[i].mail.run = on_stop;
        worker_post(u->at[i].worker, &u->at[i].mail);
    }
    uint64_t until = clock_mono_ns() + wait_ns;
    bool quiet;
    do {
        clock_sleep_ns(2 * NS_PER_MS);
        quiet = true;
        for (unsigned i = 0; i < u->count; i++)
            quiet = quiet && u->at[i].quiet;
    } while (!quiet && clock_mono_ns() < until);
    return quiet;
}

static void on_finish(struct mail *m)
{
    struct unit *u = (struct unit *)((char *)m - offsetof(struct unit, mail));
    worker_finish(u->worker);
}

void units_close(struct units *u)
{
    if (!u->count)
        return;
    for (unsigned i = 0; i < u->count; i++) {
        u->at[i].mail.run = on_finish;
        worker_post(u->at[i].worker, &u->at[i].mail);
    }
    for (unsigned i = 0; i < u->count; i++) /* until all are gone each looks at all lanes */
        worker_join(u->at[i].worker);
    for (unsigned i = 0; i < u->count; i++) {
        struct unit *unit = &u->at[i];
        lane_free(unit->lane);
        for (unsigned k = 0; k < 3; k++)
            http_front_free(unit->fronts[k]);
        mqtt_front_free(unit->mqtt);
        worker_free(unit->worker);
    }
    free(u->at);
    mqtt_sessions_free(u->sessions);
    mqtt_shares_free(u->groups);
    disk_posix()->unlink(disk_posix(), u->admin_path);
    pthread_mutex_destroy(&u->barrier_lock);
    pthread_cond_destroy(&u->barrier_done);
}

/* ---- reload ---- */

static void on_tune(struct mail *m)
{
    struct unit *u = (struct unit *)((char *)m - offsetof(struct unit, barrier));
    const struct config *c = u->of->config;
    struct lane_tune lane = tune_lane(c);
    lane_tune(u->lane, &lane);
    u->trusted_count = tune_trusted(u->of->config, u->trusted);
    for (unsigned i = 0; i < 3; i++) {
        struct http_tune http = u->fronts[i]
                                    ? tune_http(c, (enum surface)i, u->trusted, u->trusted_count)
                                    : (struct http_tune){0};
        if (u->fronts[i])
            http_front_tune(u->fronts[i], &http);
    }
    struct mqtt_tune mqtt = tune_mqtt(c);
    mqtt_front_tune(u->mqtt, &mqtt);
    for (unsigned i = 0; i < u->doors_count; i++) {
        struct listener_tune door = tune_door(u, u->doors[i].surface, u->doors[i].tls);
        listener_tune(u->doors[i].listener, &door);
    }
    certified_judge(u->worker, u->of->tls);
    post_and_count(u->of);
}

void units_tune(struct units *u, const struct config *config, struct tls_set *tls)
{
    u->config = config;
    u->tls = tls;
    on_all_workers(u, on_tune);
}
