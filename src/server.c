/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opens down the list of `stages`, closes up it. The order is that of need: a stage may use what is
 * above it. The main thread opens, then sleeps in sigwait until it is told to stop.
 */
#include "server.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <jansson.h>

#include "backup/backup.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/rand.h"
#include "conn/certified.h"
#include "front/http.h"
#include "front/mqtt.h"
#include "journal/disk.h"
#include "pipeline.h"
#include "seal/seal.h"
#include "server_backup.h"
#include "server_erase.h"
#include "server_figures.h"
#include "server_keyring.h"
#include "server_proof.h"
#include "server_sinks.h"
#include "server_emit.h"
#include "server_tls.h"
#include "server_tune.h"
#include "server_verified.h"
#include "server_views.h"

#define LISTENERS_MAX 32
#define PATH_BYTES    4096

/* A listener, and what it leads to. */
struct door {
    struct listener *listener;
    enum surface surface;
    bool tls;
};

/* One worker with what runs on it. */
struct unit {
    struct server *server;
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

struct server {
    struct config *config; /* in force; replaced by reloads, on the admin thread, under its lock */
    struct config *first;  /* what the stages were opened with and may borrow from until closed */
    pthread_mutex_t config_lock; /* for the main thread, once others run */
    const struct server_source *source;
    struct disk *disk;
    struct disk_file *lock;
    struct journal *journal;
    struct keyring *keyring; /* NULL: nothing is sealed */
    struct sealer *sealer;   /* of what the catalog emits; its thread's */
    struct throttle *throttle;
    struct shares *shares;
    struct refusals *refusals;
    struct shield *shield;
    struct zones *zones;
    struct catalog *catalog;
    struct views views;
    struct sinks sinks;
    struct figures figures;
    struct verified_file verified;
    char erased_path[PATH_BYTES];
    struct eraser eraser; /* the admin thread's, once that runs */
    struct stager stager;
    struct admin *admin;
    struct buf openapi;
    struct server_tls tls;             /* the admin thread's, once that runs */
    struct pipeline *_Atomic pipeline; /* the views' threads look at it */
    struct unit units[WORKERS_MAX];
    unsigned units_count;
    struct mqtt_sessions *sessions;
    struct mqtt_shares *groups;
    unsigned connections, mqtt_connections; /* atomic; each shared by its listeners */
    uint64_t caught_up_at; /* what was durable at start: ready when the views have it */
    struct journal_position position;
    pthread_mutex_t barrier_lock;
    pthread_cond_t barrier_done;
    unsigned barrier_left;
};

/* ---- helpers ---- */

static const char *data_path(const struct server *s, const char *name, char *out)
{
    snprintf(out, PATH_BYTES, "%s/%s", s->config->server.data, name);
    return out;
}

/* ---- data directory ---- */

static int open_data(struct server *s, struct error *err)
{
    char path[PATH_BYTES];
    const char *kind = s->config->journal.disk;
    uint64_t seed;
    rand_secret(&seed, sizeof seed);
    s->disk = !strcmp(kind, "lossy")  ? disk_lossy(seed)
              : !strcmp(kind, "slow") ? disk_slow(data_path(s, "journal", path))
                                      : disk_posix();
    int rc = s->disk->mkdir(s->disk, s->config->server.data);
    if (rc < 0)
        return error_set(err, rc, "cannot make the data directory %s: %s", s->config->server.data,
                         strerror(-rc));
    /* The lock is the machine's own even when the journal's disk is a test's. */
    rc = disk_posix()->open(disk_posix(), data_path(s, "LOCK", path), O_RDWR | O_CREAT, &s->lock);
    if (rc == 0)
        rc = disk_posix()->lock(disk_posix(), s->lock);
    if (rc == -EWOULDBLOCK)
        return error_set(err, rc, "%s belongs to a Sluice that is running", s->config->server.data);
    if (rc < 0)
        return error_set(err, rc, "cannot lock %s: %s", path, disk_strerror(rc));
    return backup_check_restored(disk_posix(), s->config->server.data, err);
}

static void close_data(struct server *s)
{
    if (s->lock)
        disk_posix()->close(disk_posix(), s->lock);
}

/* ---- journal ---- */

static int open_journal(struct server *s, struct error *err)
{
    char path[PATH_BYTES];
    struct proof proof;
    struct journal_opts opts = tune_journal(s->config, s->disk, data_path(s, "journal", path));
    int rc = proof_ask(&proof, s->config->server.data, &opts, err);
    rc = rc ? rc : journal_open(&opts, &s->journal, err);
    if (!rc)
        s->position = journal_position(s->journal);
    s->caught_up_at = s->position.durable;
    return rc;
}

static void close_journal(struct server *s)
{
    journal_close(s->journal);
}

/* ---- keyring ---- */

static int open_keyring(struct server *s, struct error *err)
{
    int rc = server_keyring_open(s->config, s->disk, false, &s->keyring, err);
    if (rc == 0 && s->keyring)
        s->sealer = sealer_new(s->keyring);
    return rc;
}

static void close_keyring(struct server *s)
{
    sealer_free(s->sealer);
    keyring_close(s->keyring);
}

/* ---- gate ---- */

static struct credential *find_credential(void *arg, uint64_t number)
{
    struct server *s = arg;
    return s->catalog ? catalog_credential(s->catalog, number) : NULL;
}

static int open_gate(struct server *s, struct error *err)
{
    const struct config *c = s->config;
    s->throttle = throttle_new(&(struct throttle_opts){.subjects_max = c->throttle.subjects_max,
                                                       .memory_max = c->throttle.memory_max});
    s->shield = shield_new(&(struct shield_opts){
        .throttle = s->throttle,
        .hash_threads = (unsigned)c->auth.hash_threads,
        .hash_queue_max = (unsigned)c->auth.hash_queue_max,
        .hash_per_source_max = (unsigned)c->auth.hash_per_source_max,
        .hash_wait_ns = c->auth.hash_wait * NS_PER_MS,
        .hash_target_ns = c->auth.hash_target * NS_PER_MS,
        .admin_permissions = PERM_admin_read | PERM_admin_write,
        .hash_idle_priority = c->auth.hash_idle_priority,
        .verified_ttl_ns = c->auth.verified_ttl * NS_PER_MS,
        .negative_ttl_ns = c->auth.negative_ttl * NS_PER_MS,
        .negative_max = (unsigned)c->auth.negative_max,
        .fail_credential = c->auth.failures_credential,
        .fail_address = c->auth.failures_address,
        .find = find_credential,
        .find_arg = s,
    });
    s->shares = s->throttle ? shares_new(s->throttle) : NULL;
    s->refusals = refusals_new();
    CHECK(s->throttle && s->shield && s->shares && s->refusals);
    return 0;
}

static void close_gate(struct server *s)
{
    if (s->shield)
        shield_free(s->shield);
    refusals_free(s->refusals);
    shares_free(s->shares);
    throttle_free(s->throttle);
}

/* ---- catalog: its outbox goes to the journal ---- */

static int emit(void *arg, const struct record *records, unsigned count)
{
    const struct server *s = arg;
    return emitter_emit(&(struct emitter){s->journal, s->keyring, s->sealer}, records, count);
}

static void on_credential_loaded(void *arg, const struct credential *c)
{
    struct server *s = arg;
    if (c->verifier_kind == VERIFIER_CRYPT)
        shield_note_verifier(s->shield, c->verifier);
}

static int open_catalog(struct server *s, struct error *err)
{
    char path[PATH_BYTES];
    int rc = catalog_open(&(struct catalog_opts){.path = data_path(s, "catalog.db", path),
                                                 .must_exist = s->caught_up_at > 0,
                                                 .told = audit_stats(s->views.audit).told,
                                                 .skip_told = s->config->journal.skip_corrupt,
                                                 .queue_max = 100000,
                                                 .has_ack = true,
                                                 .ack = tune_ack(s->config->ack.level),
                                                 .emit = emit,
                                                 .emit_arg = s,
                                                 .loaded = on_credential_loaded,
                                                 .loaded_arg = s},
                          &s->catalog, err);
    return rc == 0 && s->keyring ? server_keyring_make(s->keyring, s->catalog, err) : rc;
}

static void close_catalog(struct server *s)
{
    catalog_close(s->catalog);
    s->catalog = NULL;
}

static int open_sinks(struct server *s, struct error *err)
{
    const struct sinks_opts opts = {s->config, s->disk, s->journal, s->keyring, s->catalog, NULL};
    return sinks_open(&s->sinks, &opts, err);
}

static void close_sinks(struct server *s)
{
    sinks_close(&s->sinks);
}

/* ---- what was verified, over a restart ---- */

static int open_verified(struct server *s, struct error *err)
{
    struct verified_file *v = &s->verified;
    v->disk = s->disk;
    v->catalog = s->catalog;
    v->shield = s->shield;
    memcpy(v->log_id, s->position.log_id, sizeof v->log_id);
    snprintf(v->path, sizeof v->path, "%s/verified.snap", s->config->server.data);
    return verified_file_open(v, s->config->auth.snapshot_key_file, err);
}

static void close_verified(struct server *s)
{
    verified_file_close(&s->verified);
}

/* ---- views ---- */

static void on_applied(void *arg)
{
    struct server *s = arg;
    struct pipeline *p = s->pipeline;
    if (p)
        pipeline_on_applied(p);
}

static int open_views(struct server *s, struct error *err)
{
    const struct views_opts opts = {.config = s->config,
                                    .disk = s->disk,
                                    .journal = s->journal,
                                    .keyring = s->keyring,
                                    .on_applied = on_applied,
                                    .arg = s};
    int rc = views_open(&s->views, &opts, err);
    return rc ? rc : views_rebuild(&s->views, err);
}

static void close_views(struct server *s)
{
    views_close(&s->views);
}

/* ---- workers, fronts, listeners ---- */

static void post_and_count(struct server *s);

static void on_barrier(struct mail *m)
{
    struct unit *u = (struct unit *)((char *)m - offsetof(struct unit, barrier));
    mqtt_front_check(u->mqtt);
    http_front_check(u->fronts[SURFACE_PUBLIC]);
    post_and_count(u->server);
}

static void post_and_count(struct server *s)
{
    pthread_mutex_lock(&s->barrier_lock);
    if (--s->barrier_left == 0)
        pthread_cond_signal(&s->barrier_done);
    pthread_mutex_unlock(&s->barrier_lock);
}

/* Runs `run` on every worker, which ends with post_and_count; returns when all are through. Admin
 * thread only. */
static void on_all_workers(struct server *s, void (*run)(struct mail *m))
{
    pthread_mutex_lock(&s->barrier_lock);
    s->barrier_left = s->units_count;
    for (unsigned i = 0; i < s->units_count; i++) {
        s->units[i].barrier.run = run;
        worker_post(s->units[i].worker, &s->units[i].barrier);
    }
    while (s->barrier_left)
        pthread_cond_wait(&s->barrier_done, &s->barrier_lock);
    pthread_mutex_unlock(&s->barrier_lock);
}

/* Returns when every worker has run mail that was posted after the change: every request that
 * arrives from now on meets the new record, and connections of credentials that were removed,
 * disabled or given another secret are closed. One that arrived before, and still waits (for the
 * catalog, a view, the disk), may be answered by the old one. Admin thread only. */
static int barrier(void *arg)
{
    on_all_workers(arg, on_barrier);
    return 0;
}

static int reload(void *arg, json_t **ret, struct error *err);

static bool is_ready(void *arg, const char **why)
{
    struct server *s = arg;
    if (view_applied(s->views.latest_view) < s->caught_up_at ||
        view_applied(s->views.history_view) < s->caught_up_at) {
        *why = "the views are still reading the journal";
        return false;
    }
    if (journal_accepts(s->journal) != REASON_ok) {
        *why = reason_info(journal_accepts(s->journal))->text;
        return false;
    }
    return true;
}

static void put_status(void *arg, struct buf *out)
{
    struct server *s = arg;
    views_put_status(&s->views, out);
    sinks_put_status(&s->sinks, out);
    pipeline_put_overload(s->pipeline, out);
}

static void put_metrics(void *arg, struct buf *out)
{
    sinks_put_metrics(&((struct server *)arg)->sinks, out);
}

static void put_watermarks(void *arg, uint64_t offset, struct buf *out)
{
    struct server *s = arg;
    views_put_passed(&s->views, offset, out);
    sinks_put_passed(&s->sinks, offset, out);
}

/* ---- erasure ---- */

static int open_eraser(struct server *s, struct error *err)
{
    struct backup_source source = {s->disk, s->config->server.data, s->journal, s->catalog,
                                   s->views.history};
    int rc = stager_open(&s->stager, &source, err);
    if (rc)
        return rc;
    s->eraser = (struct eraser){.disk = s->disk,
                                .path = data_path(s, "keyring.erased", s->erased_path),
                                .catalog = s->catalog,
                                .keyring = s->keyring,
                                .history = s->views.history,
                                .latest_view = &s->views.latest_view,
                                .history_view = &s->views.history_view,
                                .audit_view = &s->views.audit_view,
                                .session_view = &s->views.session_view,
                                .rules_view = &s->views.rules_view,
                                .emit = emit,
                                .barrier = barrier,
                                .stager = &s->stager,
                                .arg = s};
    return erasures_finish(&s->eraser, err);
}

static void close_eraser(struct server *s)
{
    free(s->eraser.feeds);
    stager_close(&s->stager);
}

static struct admin *make_admin(struct server *s)
{
    const struct config *c = s->config;
    return admin_new(&(struct admin_opts){.catalog = s->catalog,
                                          .history = s->views.history,
                                          .latest = s->views.latest,
                                          .node = (uint16_t)c->server.node,
                                          .shares = s->shares,
                                          .throttle = s->throttle,
                                          .refusals = s->refusals,
                                          .barrier = barrier,
                                          .barrier_arg = s,
                                          .erase_begin = on_erase_begin,
                                          .erase_feeds = on_erase_feeds,
                                          .erase_end = on_erase_end,
                                          .erase_arg = &s->eraser,
                                          .backup_stage = stager_stage,
                                          .backup_release = stager_release,
                                          .backup_arg = &s->stager,
                                          .sealed = s->keyring != NULL,
                                          .sinks = s->sinks.at,
                                          .sinks_count = s->sinks.count,
                                          .sinks_elsewhere = !sinks_run_here(c),
                                          .hooks = s->sinks.hooks,
                                          .journal = s->journal,
                                          .rules = views_rules(&s->views, c),
                                          .psk = &s->tls.psk,
                                          .audit = {s->disk, s->views.audit_path, s->keyring},
                                          .audit_flush = views_flush_audit,
                                          .audit_arg = &s->views,
                                          .reload = reload,
                                          .reload_arg = s,
                                          .bcrypt_cost = (unsigned)c->auth.bcrypt_cost,
                                          .queue_max = 1000});
}

static int open_pipeline(struct server *s, struct error *err)
{
    const struct config *c = s->config;
    buf_init(&s->openapi, 16u << 20);
    api_openapi(&s->openapi);
    s->admin = make_admin(s);
    s->zones = zones_new(s->disk, c->time.zones);
    int rc = figures_open(&s->figures, c, s->catalog, s->journal, &s->sinks, err);
    if (rc)
        return rc;
    struct pipeline_opts opts = {
        .api = {.catalog = s->catalog,
                .journal = s->journal,
                .latest = s->views.latest,
                .history = s->views.history,
                .history_view = s->views.history_view,
                .throttle = s->throttle,
                .shares = s->shares,
                .refusals = s->refusals,
                .shield = s->shield,
                .zones = s->zones,
                .node = (uint16_t)c->server.node,
                .expiration_ms = c->history.expiration,
                .start_ns = clock_mono_ns(),
                .ready = is_ready,
                .status = put_status,
                .metrics = put_metrics,
                .watermarks = put_watermarks,
                .arg = s,
                .openapi = buf_slice(&s->openapi),
                .workers = tune_workers(c)},
        .admin = s->admin,
        .consume = s->sinks.consumers.consume,
        .hooks = s->sinks.hooks,
        .sinks = s->sinks.at,
        .sinks_count = s->sinks.count,
        .keyring = s->keyring,
        .latest_view = s->views.latest_view,
        .history_view = s->views.history_view,
        .session_view = s->views.session_view,
        .sessions = s->views.sessions,
        .rules = s->views.rules,
        .figures = figures_source(&s->figures),
    };
    tune_pipeline_opts(c, &opts);
    for (unsigned i = 0; i < 16; i++)
        snprintf(opts.api.log_id + 2 * i, 3, "%02x", s->position.log_id[i]);
    s->pipeline = pipeline_new(&opts);
    sinks_tell(&s->sinks, pipeline_on_delivered, s->pipeline);
    return s->admin && s->zones ? 0 : error_set(err, -ENOMEM, "no memory for the pipeline");
}

static void close_pipeline(struct server *s)
{
    admin_free(s->admin);
    sinks_tell(&s->sinks, NULL, NULL);
    pipeline_free(s->pipeline);
    s->pipeline = NULL;
    zones_free(s->zones);
    buf_fini(&s->openapi);
}

static void check_quiet(struct unit *u)
{
    unsigned connections = 0;
    for (unsigned i = 0; i < 3; i++)
        connections += u->fronts[i] ? http_front_connections(u->fronts[i]) : 0;
    connections += mqtt_front_connections(u->mqtt);
    u->quiet = !connections && !lane_busy(u->lane) && mqtt_shares_idle(u->server->groups);
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
    const struct config *c = u->server->config;
    struct http_opts opts = {
        .worker = u->worker,
        .surface = surface,
        .limits = tune_http_limits(c),
        .body_max = c->http.body_max,
        .tune = tune_http(c, surface, u->trusted, u->trusted_count),
        .websocket = {surface == SURFACE_PUBLIC ? mqtt_accept : NULL, u->mqtt,
                      &u->server->mqtt_connections},
        .consumers = {surface == SURFACE_PUBLIC ? lane_may_consume : NULL, lane_consumer_left},
        .stage_bytes = lane_stage_bytes(),
        .handle = lane_handle,
        .arg = u->lane,
    };
    u->fronts[surface] = http_front_new(&opts);
}

static void add_mqtt(struct unit *u)
{
    const struct config *c = u->server->config;
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
        .sessions = u->server->sessions,
        .shares = u->server->groups,
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
    const struct server *s = u->server;
    return tune_listener(s->config, surface, u->trusted, u->trusted_count, tls ? s->tls.set : NULL);
}

static int listen_on(struct unit *u, enum surface surface, bool tls, const char *list,
                     const char *setting, struct error *err)
{
    struct server *s = u->server;
    struct slice rest = slice_str(list), item;
    bool mqtt = surface == SURFACE_MQTT, public = surface == SURFACE_PUBLIC;
    u->trusted_count = tune_trusted(u->server->config, u->trusted);
    if (!mqtt && !u->fronts[surface])
        add_front(u, surface);
    while (config_list_next(&rest, &item)) {
        struct door *d = &u->doors[u->doors_count];
        if (u->doors_count == LISTENERS_MAX)
            return error_set(err, -EINVAL, "%s: over %d addresses", setting, LISTENERS_MAX);
        struct listener_opts opts = {.backlog = (int)s->config->listen.backlog,
                                     .open = public ? &s->connections
                                             : mqtt ? &s->mqtt_connections
                                                    : NULL,
                                     .tune = tune_door(u, surface, tls),
                                     .alpn = mqtt ? SLICE("\x04mqtt") : SLICE("\x08http/1.1"),
                                     .accept = mqtt ? mqtt_accept : http_accept,
                                     .arg = mqtt ? (void *)u->mqtt : (void *)u->fronts[surface]};
        int rc = u == s->units ? listener_probe(item) : 0;
        if (!rc)
            rc = listener_open(u->worker, item, &opts, &d->listener);
        if (rc)
            return error_set(err, rc, "%s: cannot listen on %.*s: %s", setting, SLICE_ARG(item),
                             listener_why(rc));
        d->surface = surface;
        d->tls = tls;
        u->doors_count++;
        if (u == s->units)
            log_line(LOG_INFO, "server.listen", "%s=%.*s port=%u", setting, SLICE_ARG(item),
                     listener_port(d->listener));
    }
    return 0;
}

static int open_tls(struct server *s, struct error *err)
{
    s->tls.catalog = &s->catalog;
    int rc = server_tls_open(&s->tls, s->config, err);
    if (!rc)
        server_tls_note(s->tls.set);
    return rc;
}

static void close_tls(struct server *s)
{
    server_tls_close(&s->tls);
}

static bool on_known_group(void *arg, uint64_t account, struct slice filter, uint64_t *ret_floor)
{
    const struct server *s = arg;
    return sessions_group_floor(s->views.sessions, account, filter, ret_floor);
}

static int open_units(struct server *s, struct error *err)
{
    const struct config *c = s->config;
    char path[PATH_BYTES];
    s->units_count = tune_workers(c);
    s->sessions = mqtt_sessions_new();
    s->groups = mqtt_shares_new(&(struct mqtt_shares_opts){
        .born = journal_durable(s->journal), .known = on_known_group, .arg = s});
    int rc = 0;
    for (unsigned i = 0; i < s->units_count; i++) {
        struct unit *u = &s->units[i];
        u->server = s;
        u->worker = worker_new(i);
        u->lane = lane_new(s->pipeline, u->worker);
        add_mqtt(u);
        worker_set_hook(u->worker, (struct worker_hook){on_settle, on_turn_end, on_tick, u});
    }
    for (unsigned i = 0; i < s->units_count && !rc; i++)
        rc = listen_on(&s->units[i], SURFACE_PUBLIC, false, c->listen.http, "listen.http", err);
    for (unsigned i = 0; i < s->units_count && !rc; i++)
        rc = listen_on(&s->units[i], SURFACE_PUBLIC, true, c->listen.https, "listen.https", err);
    for (unsigned i = 0; i < s->units_count && !rc; i++)
        rc = listen_on(&s->units[i], SURFACE_MQTT, false, c->listen.mqtt, "listen.mqtt", err);
    for (unsigned i = 0; i < s->units_count && !rc; i++)
        rc = listen_on(&s->units[i], SURFACE_MQTT, true, c->listen.mqtts, "listen.mqtts", err);
    if (!rc)
        rc = listen_on(&s->units[0], SURFACE_OPERATOR, false, c->listen.operator, "listen.operator",
                       err);
    if (!rc)
        rc = listen_on(&s->units[0], SURFACE_ADMIN, false, data_path(s, "admin.sock", path),
                       "admin.sock", err);
    pipeline_live_start(s->pipeline);
    for (unsigned i = 0; i < s->units_count; i++)
        worker_start(s->units[i].worker);
    return rc;
}

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

/* Posts the stop to every worker and waits until all are quiet or the time is up. */
static bool quiesce(struct server *s, bool abort, uint64_t wait_ns)
{
    for (unsigned i = 0; i < s->units_count; i++) {
        s->units[i].quiet = false;
        s->units[i].abort = abort;
        s->units[i].mail.run = on_stop;
        worker_post(s->units[i].worker, &s->units[i].mail);
    }
    uint64_t until = clock_mono_ns() + wait_ns;
    bool quiet;
    do {
        clock_sleep_ns(2 * NS_PER_MS);
        quiet = true;
        for (unsigned i = 0; i < s->units_count; i++)
            quiet = quiet && s->units[i].quiet;
    } while (!quiet && clock_mono_ns() < until);
    return quiet;
}

static void on_finish(struct mail *m)
{
    struct unit *u = (struct unit *)((char *)m - offsetof(struct unit, mail));
    worker_finish(u->worker);
}

static void close_units(struct server *s)
{
    pthread_mutex_lock(&s->config_lock);
    uint64_t deadline = s->config->server.stop_deadline * NS_PER_MS;
    pthread_mutex_unlock(&s->config_lock);
    if (!s->units_count)
        return;
    pipeline_quit(s->pipeline);
    if (!quiesce(s, false, deadline) && !quiesce(s, true, NS_PER_S)) {
        /* Requests still wait for a hash or the catalog, or the disk hangs. What was accepted is
         * durable but for the level received, which gets a moment more. Nothing is closed: the
         * other threads go on using it up to the end. */
        log_line(LOG_WARN, "server.stop_deadline", "ms=%llu",
                 (unsigned long long)(deadline / NS_PER_MS));
        uint64_t until = clock_mono_ns() + NS_PER_S;
        while (journal_stats(s->journal).pending_bytes && clock_mono_ns() < until)
            clock_sleep_ns(2 * NS_PER_MS);
        _exit(1);
    }
    admin_free(s->admin); /* a reload by SIGHUP waits for workers */
    s->admin = NULL;
    views_stop(&s->views);
    pipeline_live_stop(s->pipeline);
    for (unsigned i = 0; i < s->units_count; i++) {
        s->units[i].mail.run = on_finish;
        worker_post(s->units[i].worker, &s->units[i].mail);
    }
    for (unsigned i = 0; i < s->units_count; i++) /* until all are gone each looks at all lanes */
        worker_join(s->units[i].worker);
    for (unsigned i = 0; i < s->units_count; i++) {
        struct unit *u = &s->units[i];
        lane_free(u->lane);
        for (unsigned k = 0; k < 3; k++)
            http_front_free(u->fronts[k]);
        mqtt_front_free(u->mqtt);
        worker_free(u->worker);
    }
    mqtt_sessions_free(s->sessions);
    mqtt_shares_free(s->groups);
    char path[PATH_BYTES];
    disk_posix()->unlink(disk_posix(), data_path(s, "admin.sock", path));
}

/* ---- the list ---- */

struct stage {
    const char *name;
    int (*open)(struct server *s, struct error *err);
    void (*close)(struct server *s);
};

static const struct stage stages[] = {
    {"tls", open_tls, close_tls},
    {"data", open_data, close_data},
    {"journal", open_journal, close_journal},
    {"keyring", open_keyring, close_keyring},
    {"gate", open_gate, close_gate},
    {"views", open_views, close_views},
    {"catalog", open_catalog, close_catalog},
    {"sinks", open_sinks, close_sinks},
    {"erasure", open_eraser, close_eraser},
    {"verified", open_verified, close_verified},
    {"pipeline", open_pipeline, close_pipeline},
    {"workers", open_units, close_units},
};

#define STAGES (sizeof stages / sizeof *stages)

/* ---- reload: on the admin thread ---- */

static void on_tune(struct mail *m)
{
    struct unit *u = (struct unit *)((char *)m - offsetof(struct unit, barrier));
    const struct config *c = u->server->config;
    struct lane_tune lane = tune_lane(c);
    lane_tune(u->lane, &lane);
    u->trusted_count = tune_trusted(u->server->config, u->trusted);
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
    certified_judge(u->worker, u->server->tls.set);
    post_and_count(u->server);
}

/* What all threads share. */
static void tune_shared(struct server *s)
{
    const struct config *c = s->config;
    char path[PATH_BYTES];
    struct journal_opts journal = tune_journal(c, s->disk, data_path(s, "journal", path));
    struct pipeline_tune tune = tune_pipeline(c);
    log_set_level(tune_log_level(c->server.log_level));
    journal_tune(s->journal, &journal);
    pipeline_tune(s->pipeline, &tune);
    admin_set_bcrypt_cost(s->admin, (unsigned)c->auth.bcrypt_cost);
    audit_set_keep(s->views.audit, c->audit.keep);
}

static int reload(void *arg, json_t **ret, struct error *err)
{
    struct server *s = arg;
    struct config *next = NULL;
    struct tls_set *tls = NULL, *tls_before = s->tls.set;
    json_t *result = NULL;
    int rc = s->source->file ? s->source->read(s->source->arg, &next, err)
                             : error_set(err, -EINVAL,
                                         "the server was started without --config: there is no "
                                         "file to read again");
    if (!rc) {
        result =
            json_pack("{s:s, s:[], s:[]}", "file", s->source->file, "changed", "at_next_start");
        rc = result ? config_succeed(s->config, next, tune_note_change, result) : -ENOMEM;
        if (rc)
            error_set(err, rc, "no memory for the settings");
        else
            rc = server_tls_load(&s->tls, next, tls_before, &tls, err);
    }
    if (rc) {
        log_line(LOG_ERROR, "config.reload_failed", "error=\"%s\"", err->text);
        json_decref(result);
        config_free(next);
        return rc;
    }
    struct config *before = s->config;
    pthread_mutex_lock(&s->config_lock);
    s->config = next;
    pthread_mutex_unlock(&s->config_lock);
    s->tls.set = tls;
    tune_shared(s);
    on_all_workers(s, on_tune);
    if (before != s->first) /* nobody looks at it any more */
        config_free(before);
    tls_set_unref(tls_before);
    server_tls_note(tls);
    log_line(LOG_INFO, "config.reloaded", "file=%s changed=%zu at_next_start=%zu", s->source->file,
             json_array_size(json_object_get(result, "changed")),
             json_array_size(json_object_get(result, "at_next_start")));
    *ret = result;
    return 0;
}

static void on_hangup_done(struct admin_call *call)
{
    if (call->reason == REASON_busy || call->reason == REASON_stopping)
        log_line(LOG_ERROR, "config.reload_failed", "error=\"%s\"", call->text);
    json_decref(call->ret_result);
    free(call);
}

static void on_hangup(struct server *s)
{
    struct admin_call *call = calloc(1, sizeof *call);
    CHECK(call);
    *call = (struct admin_call){
        .noun = "config", .verb = "reload", .actor = "signal", .done = on_hangup_done};
    admin_run(s->admin, call);
}

/* Signals are blocked before any thread starts, so that only this sees them. */
static void wait_for_stop(struct server *s, const sigset_t *set)
{
    int got;
    uint64_t waited_ms = 0;
    do {
        pthread_mutex_lock(&s->config_lock);
        uint64_t save_ms = s->config->auth.snapshot_interval;
        pthread_mutex_unlock(&s->config_lock);
        uint64_t ms = save_ms < STAGER_LOOK_MS ? save_ms : STAGER_LOOK_MS;
        const struct timespec interval = {.tv_sec = (time_t)(ms / 1000),
                                          .tv_nsec = (long)(ms % 1000) * 1000000};
        got = sigtimedwait(set, NULL, &interval);
        if (got == SIGHUP) {
            on_hangup(s);
        } else if (got < 0 && errno == EAGAIN) {
            stager_look(&s->stager);
            if ((waited_ms += ms) >= save_ms) {
                verified_file_save(&s->verified);
                waited_ms = 0;
            }
        }
    } while (got < 0 || got == SIGHUP);
    log_line(LOG_INFO, "server.stop", "signal=%s", strsignal(got));
}

int server_run(struct config *config, const struct server_source *source, struct error *err)
{
    struct server *s = calloc(1, sizeof *s);
    CHECK(s);
    s->config = s->first = config;
    s->source = source;
    pthread_mutex_init(&s->config_lock, NULL);
    pthread_mutex_init(&s->barrier_lock, NULL);
    pthread_cond_init(&s->barrier_done, NULL);
    log_set_level(tune_log_level(config->server.log_level));
    sigset_t set;
    tune_signals(&set);
    tune_descriptors(config);

    unsigned opened = 0;
    int rc = 0;
    while (opened < STAGES && !rc) {
        rc = stages[opened].open(s, err);
        opened++; /* a stage that failed closes what it had opened */
    }
    if (!rc) {
        pthread_mutex_lock(&s->config_lock);
        log_line(LOG_INFO, "server.ready", "version=" SLUICE_VERSION " workers=%u data=%s",
                 s->units_count, s->config->server.data);
        pthread_mutex_unlock(&s->config_lock);
        wait_for_stop(s, &set);
    }
    while (opened)
        stages[--opened].close(s);
    config_free(s->config == s->first ? NULL : s->config);
    config_free(s->first);
    pthread_mutex_destroy(&s->config_lock);
    pthread_mutex_destroy(&s->barrier_lock);
    pthread_cond_destroy(&s->barrier_done);
    free(s);
    if (!rc)
        log_line(LOG_INFO, "server.stopped", "%s", "");
    return rc;
}
