/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opens down the list of `steps`, closes up it, as server.c does. It needs the gateway only to have
 * begun a journal once; while the gateway is away, the sinks go on with what is known.
 */
#include "server_alone.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/admin.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/metric.h"
#include "conn/worker.h"
#include "front/http.h"
#include "journal/follow.h"
#include "server_keyring.h"
#include "server_link.h"
#include "server_sinks.h"
#include "server_tune.h"

#define WAIT_MS     500u
#define FIRST_NS    (2 * NS_PER_S) /* for the gateway to say how far its journal is */
#define DOORS_MAX   8
#define ADMIN_CALLS 100u

struct alone {
    struct config *config;
    const struct server_source *source;
    sigset_t signals;
    struct disk *disk;
    struct disk_file *lock;
    struct journal *journal;
    struct keyring *keyring;
    /* Which settings name the master key: those that a reload has left here, taken by the link's
     * thread, which has them from then on; NULL: `config`. */
    struct config *_Atomic keys_next;
    struct config *keys_from;
    pthread_mutex_t why_lock; /* of the next; held for a copy */
    struct error keys_why;    /* why the keys cannot be read; an empty text: they can be */
    struct link_guest *guest;
    struct sinks sinks;
    struct admin_elsewhere elsewhere;
    struct admin *admin;
    struct worker *worker;
    struct http_front *operator, * admin_front;
    struct listener *doors[DOORS_MAX];
    unsigned doors_count;
    struct mail stop_mail, finish_mail;
    _Atomic bool stopping, quiet;
    unsigned stop_ticks; /* the worker's */
    unsigned calls;      /* the worker's: on the admin thread now */
    uint64_t start_ns;
};

static int path_of(const struct alone *a, const char *name, char ret[PATH_MAX], struct error *err)
{
    return snprintf(ret, PATH_MAX, "%s/%s", a->config->server.data, name) < PATH_MAX
               ? 0
               : error_set(err, -ENAMETOOLONG, "%.100s...: the name is too long",
                           a->config->server.data);
}

/* ---- what it opens --------------------------------------------------------------------------- */

/* Of the settings only the level of the log takes effect while it runs, and where the master key
 * is, once the one before does not open the keyring any more. */
static void read_again(struct alone *a)
{
    struct config *next = NULL;
    struct error err = {"there is no file to read again"};
    int rc = a->source->file ? a->source->read(a->source->arg, &next, &err) : -EINVAL;
    if (rc) {
        log_line(LOG_ERROR, "config.reload_failed", "error=\"%s\"", err.text);
        return;
    }
    log_set_level(tune_log_level(next->server.log_level));
    log_line(LOG_INFO, "config.reloaded", "file=%s log_level=%s", a->source->file,
             next->server.log_level);
    config_free(atomic_exchange(&a->keys_next, next));
}

/* The settings that name the master key; before there is the link's thread, and on it. */
static const struct config *key_settings(struct alone *a)
{
    struct config *next = atomic_exchange(&a->keys_next, NULL);
    if (next) {
        config_free(a->keys_from);
        a->keys_from = next;
    }
    return a->keys_from ? a->keys_from : a->config;
}

/* A gateway that starts for the first time may come behind us. 0, or -ECANCELED: told to stop. */
static int wait_for_gateway(struct alone *a, const struct error *why, bool *told)
{
    const struct timespec t = {.tv_nsec = (long)WAIT_MS * 1000000};
    if (!*told)
        log_line(LOG_INFO, "sinks.wait", "why=\"%s\"", why->text);
    *told = true;
    int got = sigtimedwait(&a->signals, NULL, &t);
    if (got == SIGHUP)
        read_again(a);
    return got == SIGTERM || got == SIGINT ? -ECANCELED : 0;
}

/* Before there are threads. Without it the process is as good as its libraries are. */
static void confine(const char *dir)
{
    int rc = disk_confine(dir);
    if (rc)
        log_line(LOG_WARN, "sinks.not_confined", "dir=%s error=\"%s\"", dir, strerror(-rc));
    else
        log_line(LOG_INFO, "sinks.confined", "dir=%s", dir);
}

static int open_data(struct alone *a, struct error *err)
{
    char dir[PATH_MAX];
    bool told = false;
    if (!sinks_are_wanted(a->config))
        return error_set(err, -EINVAL,
                         "server.roles: sink: no sink is configured: there is nothing to run");
    int rc = path_of(a, "sinks", dir, err);
    while (!rc && (rc = sinks_take_lock(dir, &a->lock, err)) == -ENOENT)
        rc = wait_for_gateway(a, err, &told);
    a->disk = disk_within(dir);
    if (!rc)
        confine(dir);
    return rc;
}

static void close_data(struct alone *a)
{
    if (a->lock)
        disk_posix()->close(disk_posix(), a->lock);
}

static int open_journal(struct alone *a, struct error *err)
{
    char dir[PATH_MAX], cursors[PATH_MAX];
    bool told = false;
    int rc = path_of(a, "journal", dir, err);
    if (!rc)
        rc = path_of(a, "sinks/cursors", cursors, err);
    const struct journal_follow_opts opts = {
        .disk = a->disk, .dir = dir, .cursors_path = cursors, .prefix = "sink:"};
    while (!rc && (rc = journal_follow(&opts, &a->journal, err)) == -ENOENT)
        rc = wait_for_gateway(a, err, &told);
    return rc;
}

static void close_journal(struct alone *a)
{
    journal_close(a->journal);
}

static int open_keyring(struct alone *a, struct error *err)
{
    bool told = false;
    for (;;) {
        const struct config *c = key_settings(a);
        bool wanted = c->encryption.master_key_file[0] || c->encryption.master_key_env[0];
        int rc = server_keyring_open(c, a->disk, true, &a->keyring, err);
        if (rc || !wanted || a->keyring)
            return rc;
        error_set(err, 0, "there is no keyring yet");
        rc = wait_for_gateway(a, err, &told);
        if (rc)
            return rc;
    }
}

static void close_keyring(struct alone *a)
{
    keyring_close(a->keyring);
}

/* What is sealed from now on could not be opened: nobody is to pass over it. */
static int find_no_keys(struct alone *a, const struct config *c, struct error *err)
{
    struct keyring *k = NULL;
    int rc = server_keyring_open(c, a->disk, true, &k, err);
    if (rc == 0 && k)
        rc = error_set(err, -EKEYREJECTED,
                       "data are sealed now, which they were not when this process began: start it "
                       "anew");
    keyring_close(k);
    return rc;
}

/* Says so once, and whenever it is something else. */
static void tell_keys(struct alone *a, const struct error *why)
{
    bool news = strcmp(a->keys_why.text, why->text) != 0; /* only this thread writes it */
    if (news && why->text[0])
        log_line(LOG_ERROR, "sinks.keyring_failed", "error=\"%s\"", why->text);
    else if (news)
        log_line(LOG_INFO, "sinks.keyring_read", "keys=%llu",
                 (unsigned long long)(a->keyring ? keyring_stats(a->keyring).keys : 0));
    pthread_mutex_lock(&a->why_lock);
    a->keys_why = *why;
    pthread_mutex_unlock(&a->why_lock);
}

static int on_keys(void *arg)
{
    struct alone *a = arg;
    struct error err = {""};
    const struct config *c = key_settings(a);
    int rc = a->keyring ? server_keyring_refresh(c, a->keyring, &err) : find_no_keys(a, c, &err);
    if (!rc)
        err.text[0] = 0; /* of the first try */
    tell_keys(a, &err);
    return rc;
}

static int open_guest(struct alone *a, struct error *err)
{
    char path[PATH_MAX];
    int rc = path_of(a, "link.sock", path, err);
    const struct link_guest_opts opts = {
        .path = path, .journal = a->journal, .keys = on_keys, .arg = a};
    if (!rc)
        rc = link_guest_open(&opts, &a->guest, err);
    if (!rc && !link_guest_wait(a->guest, FIRST_NS))
        log_line(LOG_WARN, "sinks.no_gateway", "path=%s durable=%llu", path,
                 (unsigned long long)journal_durable(a->journal));
    return rc;
}

static void close_guest(struct alone *a)
{
    link_guest_close(a->guest);
}

static int open_sinks(struct alone *a, struct error *err)
{
    const struct sinks_opts opts = {.config = a->config,
                                    .disk = a->disk,
                                    .journal = a->journal,
                                    .keyring = a->keyring,
                                    .guest = a->guest};
    return sinks_open(&a->sinks, &opts, err);
}

static void close_sinks(struct alone *a)
{
    sinks_close(&a->sinks);
}

/* ---- commands -------------------------------------------------------------------------------- */

static bool name_of(void *arg, unsigned of, uint64_t number, struct buf *out)
{
    struct alone *a = arg;
    char name[LINK_GUEST_NAME_MAX];
    enum link_of what = of == 0 ? LINK_OF_ACCOUNT : LINK_OF_FEED;
    if (!link_guest_name(a->guest, what, number, name))
        return false;
    buf_put_str(out, name);
    return true;
}

static enum reason note(void *arg, const struct catalog_ask *ask, char text[256])
{
    const struct link_note_text n = {.account = ask->account_number,
                                     .credential = ask->actor_credential,
                                     .what = ask->name,
                                     .subject = ask->feed_name,
                                     .more = ask->description,
                                     .actor = ask->actor,
                                     .from = ask->from};
    return link_guest_note(((struct alone *)arg)->guest, &n, text);
}

static int open_admin(struct alone *a, struct error *err)
{
    static const char *const nouns[] = {"sink", "dlq", NULL};
    a->elsewhere =
        (struct admin_elsewhere){.name = name_of,
                                 .note = note,
                                 .arg = a,
                                 .nouns = nouns,
                                 .sentence = "this process only runs the sinks: ask the gateway"};
    a->admin = admin_new(&(struct admin_opts){.elsewhere = &a->elsewhere,
                                              .node = (uint16_t)a->config->server.node,
                                              .sinks = a->sinks.at,
                                              .sinks_count = a->sinks.count,
                                              .journal = a->journal,
                                              .queue_max = ADMIN_CALLS});
    return a->admin ? 0 : error_set(err, -ENOMEM, "no memory for the commands");
}

static void close_admin(struct alone *a)
{
    admin_free(a->admin);
    a->admin = NULL;
}

/* ---- requests: on the worker ----------------------------------------------------------------- */

/* In the stage of an exchange. */
struct request_call {
    struct mail mail;
    struct alone *alone;
    struct exchange *exchange;
    struct admin_call call;
};

static void reply(struct exchange *x, unsigned status)
{
    x->reply.reason = REASON_ok;
    x->reply.status = (uint16_t)status;
    x->reply.no_store = true;
    exchange_send(x);
}

static void put_status(struct alone *a, struct buf *out)
{
    struct journal_position p = journal_position(a->journal);
    char log[33];
    for (unsigned i = 0; i < sizeof p.log_id; i++)
        snprintf(log + 2 * i, 3, "%02x", p.log_id[i]);
    buf_printf(out,
               "{\"version\":\"" SLUICE_VERSION "\",\"roles\":\"sink\",\"uptime_seconds\":%llu,"
               "\"gateway\":\"%s\",\"journal\":{\"log\":\"%s\",\"durable\":%llu,\"oldest\":%llu}",
               (unsigned long long)((clock_mono_ns() - a->start_ns) / NS_PER_S),
               link_guest_is_connected(a->guest) ? "connected" : "away", log,
               (unsigned long long)p.durable, (unsigned long long)p.oldest);
    sinks_put_status(&a->sinks, out);
    buf_put_str(out, "}");
}

static void put_metrics(struct alone *a, struct buf *out)
{
    metric_format(out);
    sinks_put_metrics(&a->sinks, out);
    buf_printf(out,
               "# HELP sluice_link_connected Whether the gateway's process is there\n"
               "# TYPE sluice_link_connected gauge\nsluice_link_connected %d\n",
               link_guest_is_connected(a->guest));
}

/* What keeps the sinks from going on, but for their targets; an empty text: nothing. */
static void find_why_not(struct alone *a, struct error *ret)
{
    pthread_mutex_lock(&a->why_lock);
    *ret = a->keys_why;
    pthread_mutex_unlock(&a->why_lock);
    if (journal_went_back(a->journal))
        error_set(
            ret, 0,
            "the journal went back: what the sinks have read of it is not in it any more; see "
            "docs/sinks.md");
    if (ret->text[0])
        return;
    if (!link_guest_is_connected(a->guest))
        error_set(ret, 0, "the gateway's process is away");
    else if (link_guest_is_behind(a->guest))
        error_set(ret, 0, "the gateway's journal cannot be followed now: see the log");
}

/* True: it was one of these, and is answered. */
static bool tell_of_itself(struct alone *a, struct exchange *x)
{
    struct slice path = x->request.path;
    struct buf *out = &x->reply.body;
    if (x->request.method != METHOD_GET && x->request.method != METHOD_HEAD)
        return false;
    if (slice_eq(path, SLICE("/healthz"))) {
        buf_put_str(out, "{\"status\":\"ok\"}");
    } else if (slice_eq(path, SLICE("/readyz"))) {
        struct error why = {""};
        find_why_not(a, &why);
        if (why.text[0]) {
            exchange_refuse(x, REASON_busy, why.text);
            return true;
        }
        buf_put_str(out, "{\"status\":\"ready\"}");
    } else if (slice_eq(path, SLICE("/v1/status"))) {
        put_status(a, out);
    } else if (slice_eq(path, SLICE("/metrics"))) {
        put_metrics(a, out);
        x->reply.content_type = "text/plain; version=0.0.4; charset=utf-8";
    } else {
        return false;
    }
    reply(x, 200);
    return true;
}

static void on_answer(struct mail *m)
{
    struct request_call *r =
        (struct request_call *)((char *)m - offsetof(struct request_call, mail));
    struct exchange *x = r->exchange;
    r->alone->calls--;
    x->reply.reason = r->call.reason;
    x->reply.status = (uint16_t)admin_answer(&r->call, &x->reply.body);
    x->reply.no_store = true;
    json_decref(r->call.args);
    json_decref(r->call.ret_result);
    exchange_send(x);
}

static void on_call_done(struct admin_call *call)
{
    struct request_call *r = call->owner;
    worker_post(r->alone->worker, &r->mail);
}

static void run_command(struct alone *a, struct exchange *x, struct slice path)
{
    struct error why = {""};
    const struct admin_command *command = admin_find_path(path);
    if (!command) {
        exchange_refuse(x, REASON_not_found, "not found - there is no such command");
        return;
    }
    if (a->stopping) { /* whoever would run it may be gone */
        exchange_refuse(x, REASON_stopping, reason_info(REASON_stopping)->text);
        return;
    }
    json_t *args = x->request.method == METHOD_POST ? admin_args_of_body(x->request.body, &why)
                                                    : admin_args_of_query(x->request.query, &why);
    if (!args) {
        exchange_refuse(x, REASON_bad_request, why.text);
        return;
    }
    struct request_call *r = (void *)x->stage;
    r->alone = a;
    r->exchange = x;
    r->mail.run = on_answer;
    r->call.noun = command->noun;
    r->call.verb = command->verb;
    r->call.args = args;
    r->call.done = on_call_done;
    r->call.owner = r;
    exchange_keep(x);
    a->calls++;
    admin_run(a->admin, &r->call);
}

static void handle(void *arg, struct exchange *x)
{
    struct alone *a = arg;
    struct slice path = x->request.path, prefix = SLICE("/v1/admin/");
    if (tell_of_itself(a, x))
        return;
    if (x->request.surface == SURFACE_ADMIN && slice_starts(path, prefix))
        run_command(a, x, slice_from(path, prefix.len));
    else
        exchange_refuse(x, REASON_not_found, "not found - this process only runs the sinks");
}

/* ---- the worker ------------------------------------------------------------------------------ */

static bool on_turn_end(void *arg)
{
    (void)arg;
    return false;
}

static void on_tick(void *arg)
{
    struct alone *a = arg;
    if (!a->stopping)
        return;
    if (++a->stop_ticks >= 2) {
        http_front_close_idle(a->operator);
        http_front_close_idle(a->admin_front);
    }
    a->quiet = !a->calls && !http_front_connections(a->operator) &&
               !http_front_connections(a->admin_front);
}

static void on_stop(struct mail *m)
{
    struct alone *a = (struct alone *)((char *)m - offsetof(struct alone, stop_mail));
    for (unsigned i = 0; i < a->doors_count; i++)
        listener_close(a->doors[i]);
    a->doors_count = 0;
    http_front_stop(a->operator);
    http_front_stop(a->admin_front);
    a->stopping = true;
}

static void on_finish(struct mail *m)
{
    struct alone *a = (struct alone *)((char *)m - offsetof(struct alone, finish_mail));
    http_front_abort(a->operator);
    http_front_abort(a->admin_front);
    worker_finish(a->worker);
}

static struct http_front *make_front(struct alone *a, enum surface surface)
{
    const struct config *c = a->config;
    return http_front_new(&(struct http_opts){
        .worker = a->worker,
        .surface = surface,
        .limits = tune_http_limits(c),
        .body_max = c->http.body_max,
        .tune = tune_http(c, surface, NULL, 0),
        .stage_bytes = sizeof(struct request_call),
        .handle = handle,
        .arg = a,
    });
}

static int listen_at(struct alone *a, enum surface surface, struct slice where, const char *setting,
                     struct error *err)
{
    struct listener_opts opts = {.backlog = (int)a->config->listen.backlog,
                                 .tune = tune_listener(a->config, surface, NULL, 0, NULL),
                                 .alpn = SLICE("\x08http/1.1"),
                                 .accept = http_accept,
                                 .arg =
                                     surface == SURFACE_OPERATOR ? a->operator: a->admin_front, };
    if (a->doors_count == DOORS_MAX)
        return error_set(err, -EINVAL, "%s: over %d addresses", setting, DOORS_MAX);
    int rc = listener_probe(where);
    if (!rc)
        rc = listener_open(a->worker, where, &opts, &a->doors[a->doors_count]);
    if (rc)
        return error_set(err, rc,
                         "%s: cannot listen on %.*s: %s (a gateway on this machine needs another "
                         "address than the process of its sinks)",
                         setting, SLICE_ARG(where), listener_why(rc));
    log_line(LOG_INFO, "server.listen", "%s=%.*s port=%u", setting, SLICE_ARG(where),
             listener_port(a->doors[a->doors_count]));
    a->doors_count++;
    return 0;
}

static int open_worker(struct alone *a, struct error *err)
{
    char path[PATH_MAX];
    struct slice rest = slice_str(a->config->listen.operator), item;
    int rc = path_of(a, "sinks/admin.sock", path, err);
    a->worker = worker_new(0);
    worker_set_hook(a->worker, (struct worker_hook){NULL, on_turn_end, on_tick, a});
    a->operator= make_front(a, SURFACE_OPERATOR);
    a->admin_front = make_front(a, SURFACE_ADMIN);
    while (!rc && config_list_next(&rest, &item))
        rc = listen_at(a, SURFACE_OPERATOR, item, "listen.operator", err);
    if (!rc)
        rc = listen_at(a, SURFACE_ADMIN, slice_str(path), "sinks/admin.sock", err);
    worker_start(a->worker);
    return rc;
}

static void close_worker(struct alone *a)
{
    char path[PATH_MAX];
    struct error err;
    if (!a->worker)
        return;
    a->stop_mail.run = on_stop;
    worker_post(a->worker, &a->stop_mail);
    uint64_t until = clock_mono_ns() + a->config->server.stop_deadline * NS_PER_MS;
    while (!a->stopping || (!a->quiet && clock_mono_ns() < until))
        clock_sleep_ns(5 * NS_PER_MS);
    admin_free(a->admin); /* who still waits for an answer gets one; no more come */
    a->admin = NULL;
    a->finish_mail.run = on_finish;
    worker_post(a->worker, &a->finish_mail);
    worker_join(a->worker);
    http_front_free(a->operator);
    http_front_free(a->admin_front);
    worker_free(a->worker);
    if (path_of(a, "sinks/admin.sock", path, &err) == 0)
        a->disk->unlink(a->disk, path);
}

/* ---- the list -------------------------------------------------------------------------------- */

static const struct step {
    int (*open)(struct alone *a, struct error *err);
    void (*close)(struct alone *a);
} steps[] = {
    {open_data, close_data},     {open_journal, close_journal}, {open_keyring, close_keyring},
    {open_guest, close_guest},   {open_sinks, close_sinks},     {open_admin, close_admin},
    {open_worker, close_worker},
};

#define STEPS (sizeof steps / sizeof *steps)

static void wait_for_stop(struct alone *a)
{
    int got;
    log_line(LOG_INFO, "server.ready", "version=" SLUICE_VERSION " roles=sink sinks=%u data=%s",
             a->sinks.count, a->config->server.data);
    while ((got = sigwaitinfo(&a->signals, NULL)) < 0 || got == SIGHUP)
        if (got == SIGHUP)
            read_again(a);
    log_line(LOG_INFO, "server.stop", "signal=%s", strsignal(got));
}

bool server_runs_alone(const struct config *c)
{
    return strcmp(c->server.roles, "sink") == 0;
}

int server_run_alone(struct config *config, const struct server_source *source, struct error *err)
{
    struct alone *a = calloc(1, sizeof *a);
    unsigned opened = 0;
    int rc = 0;
    CHECK(a);
    a->config = config;
    a->source = source;
    a->start_ns = clock_mono_ns();
    log_set_level(tune_log_level(config->server.log_level));
    pthread_mutex_init(&a->why_lock, NULL);
    tune_signals(&a->signals);
    tune_descriptors(config);
    while (opened < STEPS && !rc)
        rc = steps[opened++].open(a, err); /* one that failed closes what it had opened */
    if (!rc)
        wait_for_stop(a);
    while (opened)
        steps[--opened].close(a);
    config_free(a->keys_from);
    config_free(a->keys_next);
    config_free(config);
    pthread_mutex_destroy(&a->why_lock);
    free(a);
    if (rc == -ECANCELED) /* told to stop before there was anything to run */
        rc = 0;
    if (!rc)
        log_line(LOG_INFO, "server.stopped", "%s", "");
    return rc;
}
