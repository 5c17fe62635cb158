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
#include "server_units.h"
#include "server_verified.h"
#include "server_views.h"

#define PATH_BYTES 4096

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
    struct units units;
    uint64_t caught_up_at; /* what was durable at start: ready when the views have it */
    struct journal_position position;
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

/* ---- TLS ---- */

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

/* ---- what the admin API and the status ask of it ---- */

/* Returns when every worker has run mail that was posted after the change: every request that
 * arrives from now on meets the new record, and connections of credentials that were removed,
 * disabled or given another secret are closed. One that arrived before, and still waits (for the
 * catalog, a view, the disk), may be answered by the old one. Admin thread only. */
static int barrier(void *arg)
{
    units_check(&((struct server *)arg)->units);
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

/* ---- admin and pipeline ---- */

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

/* ---- workers ---- */

static int open_units(struct server *s, struct error *err)
{
    char path[PATH_BYTES];
    return units_open(&s->units,
                      &(struct units_opts){.config = s->config,
                                           .tls = s->tls.set,
                                           .pipeline = s->pipeline,
                                           .journal = s->journal,
                                           .sessions = s->views.sessions,
                                           .admin_path = data_path(s, "admin.sock", path)},
                      err);
}

static void close_units(struct server *s)
{
    pthread_mutex_lock(&s->config_lock);
    uint64_t deadline = s->config->server.stop_deadline * NS_PER_MS;
    pthread_mutex_unlock(&s->config_lock);
    pipeline_quit(s->pipeline);
    if (!units_quiesce(&s->units, false, deadline) && !units_quiesce(&s->units, true, NS_PER_S)) {
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
    units_close(&s->units);
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
    units_tune(&s->units, next, tls);
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
                 s->units.count, s->config->server.data);
        pthread_mutex_unlock(&s->config_lock);
        wait_for_stop(s, &set);
    }
    while (opened)
        stages[--opened].close(s);
    config_free(s->config == s->first ? NULL : s->config);
    config_free(s->first);
    pthread_mutex_destroy(&s->config_lock);
    free(s);
    if (!rc)
        log_line(LOG_INFO, "server.stopped", "%s", "");
    return rc;
}
