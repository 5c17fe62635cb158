/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The order of the stages, and nothing else:
 *
 *   lane_handle       which operation is it?  api/route
 *   turn_put_off      ... all of a turn together (pipeline_turn.c)
 *   job_authenticate  who is it?              catalog look-up, gate/shield (may come back later)
 *   authorize         may they?               permission mask, owner, feed patterns
 *   job_throttle      how much?               gate/throttle (pipeline_throttle.c)
 *   dispatch          write_run  -> journal -> reply    pipeline_write.c
 *                     read_run   -> views   -> reply    pipeline_read.c
 *                     change_run -> catalog -> reply    pipeline_change.c
 *                     consume_run -> consume thread -> reply  pipeline_consume.c
 *                     prof_run   -> profiler -> reply  pipeline_prof.c
 *
 * A step that cannot go on keeps the exchange, hands the job to whoever it waits for, and is called
 * again from job_post's mail on the same lane.
 */
#include "pipeline.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/metric.h"
#include "pipeline_private.h"

/* Where a path, or a method on it, is not served: said only to a valid key under /api/. */
static const struct route no_route = {.path = "", .class = ROUTE_SELF, .permission = 0};
static const struct route no_method = {.path = "", .class = ROUTE_SELF, .permission = 0};

struct exchange *job_exchange(struct job *j)
{
    OBJ_CHECK(j, JOB_MAGIC);
    return (struct exchange *)((char *)j - offsetof(struct exchange, stage));
}

void job_drop_asks(struct job *j)
{
    for (unsigned i = 0; i < j->asks_count; i++) {
        account_unref(j->asks[i].ret_account);
        credential_unref(j->asks[i].ret_credential);
        feed_unref(j->asks[i].ret_feed);
        group_unref(j->asks[i].ret_group);
    }
    if (!j->asks && !j->texts.ptr)
        return;
    free(j->asks);
    j->asks = NULL;
    j->asks_count = 0;
    if (j->texts.ptr)
        explicit_bzero(j->texts.ptr, j->texts.len); /* a key may be among them */
    buf_fini(&j->texts);
}

static void release(struct job *j)
{
    credential_unref(j->credential);
    account_unref(j->account);
    feed_unref(j->feed);
    j->credential = NULL;
    j->account = NULL;
    j->feed = NULL;
    j->group = group_unref(j->group);
    job_drop_asks(j);
    if (j->found) {
        buf_fini(&j->found->change);
        free(j->found);
        j->found = NULL;
    }
    if (j->ids.ptr)
        buf_fini(&j->ids);
    if (__builtin_expect(j->awaits, 0))
        ack_end(j);
    if (j->owned)
        j->lane->busy--;
    j->owned = false;
}

void job_send(struct job *j)
{
    struct exchange *x = job_exchange(j);
    release(j);
    exchange_send(x);
}

void *job_pledge(struct job *j)
{
    struct exchange *x = job_exchange(j);
    release(j);
    return x->ops->pledge(x);
}

void job_refuse(struct job *j, enum reason reason, const char *text)
{
    struct exchange *x = job_exchange(j);
    release(j);
    exchange_refuse(x, reason, text && text[0] ? text : NULL);
}

/* The request's bytes move when they are kept: what the route borrowed from its path is looked up
 * again. */
void job_keep(struct job *j)
{
    struct exchange *x = job_exchange(j);
    exchange_keep(x);
    if (j->match.route == &no_route || j->match.route == &no_method)
        return;
    struct buf none;
    buf_init(&none, 0);
    CHECK(route_find(&x->request, &j->match, &none) == ROUTE_FOUND);
}

static void on_mail(struct mail *m)
{
    struct job *j = (struct job *)((char *)m - offsetof(struct job, mail));
    OBJ_CHECK(j, JOB_MAGIC);
    j->resume(j);
}

void job_post(struct job *j, void (*resume)(struct job *j))
{
    j->resume = resume;
    j->mail.run = on_mail;
    worker_post(j->lane->worker, &j->mail);
}

/* ---- may they ---- */

static void dispatch(struct job *j)
{
    struct exchange *x = job_exchange(j);
    const struct api *a = &j->lane->p->opts.api;
    if (__builtin_expect(j->overload != 0, 0) && !overload_lets(j))
        return;
    switch (j->match.route->class) {
    case ROUTE_WRITE:
        write_run(j);
        return;
    case ROUTE_TOPIC:
        publish_run(j); /* pipeline_publish.c */
        return;
    case ROUTE_RETAINED:
        retained_run(j); /* the same */
        return;
    case ROUTE_READ:
        read_run(j);
        return;
    case ROUTE_CHANGE:
        change_run(j);
        return;
    case ROUTE_COMMAND:
        if (job_throttle(j, 1, 0))
            admin_begin(j); /* pipeline_admin.c */
        return;
    case ROUTE_SELF: {
        throttle_settle(j->lane); /* how much is used may be what is asked */
        struct account *account = account_ref(j->account);
        struct credential *credential = credential_ref(j->credential);
        struct route_match match = j->match;
        uint64_t now = worker_now_ns(j->lane->worker);
        release(j);
        api_self(a, &match, x, account, credential, now);
        credential_unref(credential);
        account_unref(account);
        return;
    }
    case ROUTE_CONSUME:
        consume_run(j); /* pipeline_consume.c */
        return;
    case ROUTE_PROF:
        prof_run(j); /* pipeline_prof.c */
        return;
    case ROUTE_SESSION:
        session_run(j); /* pipeline_session.c */
        return;
    case ROUTE_MISSED:
        missed_run(j); /* pipeline_missed.c */
        return;
    case ROUTE_CONNECT:
        connect_run(j); /* pipeline_connect.c */
        return;
    default:
        CHECK_UNREACHABLE("a route that needs a credential");
    }
}

static bool key_is_plausible(struct slice key)
{
    for (size_t i = 0; i < key.len; i++) {
        char c = key.ptr[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
              c == '-' || c == '.'))
            return false;
    }
    return key.len > 0 && key.len <= FEED_KEY_MAX;
}

static void refuse_target(struct job *j, const char *what, struct slice key)
{
    char text[512];
    snprintf(text, sizeof text,
             "not found - There is no %s with the key '%.*s' that this credential may use.", what,
             SLICE_ARG(key));
    job_refuse(j, REASON_not_found, text);
}

static bool is_of_topic(const struct job *j)
{
    return j->match.route->method == METHOD_PUBLISH;
}

/* What a topic with /get behind it is about. What is not there, or not for this credential, has no
 * newest value, and of that nothing is said. */
static void find_asked(struct job *j)
{
    struct exchange *x = job_exchange(j);
    struct catalog *c = j->lane->p->opts.api.catalog;
    struct slice group = j->match.group, feed = j->match.feed;
    x->reply.answers_on = x->request.path.len - strlen("/get");
    if (group.ptr && key_is_plausible(group))
        j->group = catalog_group(c, j->account->number, group);
    if (feed.ptr && key_is_plausible(feed))
        j->feed = catalog_feed(c, j->account->number, feed);
    if (j->feed && !credential_covers(j->credential, j->feed->key))
        j->feed = feed_unref(j->feed);
}

/* Finds the group and the feed that the path names. False: refused and answered. Those of a topic
 * need not be there yet: write_run makes them. */
static bool find_target(struct job *j)
{
    struct catalog *c = j->lane->p->opts.api.catalog;
    struct slice group = j->match.group, feed = j->match.feed;
    if (is_of_topic(j) && !route_is_publish(j->match.route)) {
        find_asked(j);
        return true;
    }
    if (route_is_publish(j->match.route)) {
        if (group.ptr && key_is_plausible(group))
            j->group = catalog_group(c, j->account->number, group);
        return true;
    }
    if ((group.ptr && !key_is_plausible(group)) || (feed.ptr && !key_is_plausible(feed))) {
        job_refuse(j, REASON_invalid_url, NULL);
        return false;
    }
    if (group.ptr) {
        j->group = catalog_group(c, j->account->number, group);
        if (!j->group) {
            refuse_target(j, "group", group);
            return false;
        }
    }
    if (!feed.ptr)
        return true;
    j->feed = j->group ? catalog_feed_in_group(c, j->group, feed)
                       : catalog_feed(c, j->account->number, feed);
    if (j->feed && credential_covers(j->credential, j->feed->key))
        return true;
    refuse_target(j, "feed", feed);
    return false;
}

/* Whether it would write where only the server does. */
static bool is_of_figures(struct job *j)
{
    const uint64_t writes = PERM_data_write | PERM_data_delete | PERM_feed_write | PERM_feed_delete;
    return j->account->number == j->lane->p->opts.figures.account &&
           j->match.route->permission & writes && !job_exchange(j)->request.own;
}

static void authorize(struct job *j)
{
    metric_add(METRIC_auth_ok, 1);
    const struct credential *c = j->credential;
    j->account = account_ref(c->account);
    if (c->disabled || j->account->disabled) {
        job_refuse(j, REASON_disabled, NULL);
        return;
    }
    job_exchange(j)->request.proven = true;
    if (j->match.route == &no_route) {
        job_refuse(j, REASON_invalid_url, NULL);
        return;
    }
    if (j->match.route == &no_method) {
        job_refuse(j, REASON_method, NULL);
        return;
    }
    if (is_of_topic(j) && !job_exchange(j)->request.rule.ptr) {
        enum reason reason = topic_settle(j->account, job_exchange(j)->request.path, &j->match);
        if (reason != REASON_ok) {
            job_refuse(j, reason, NULL);
            return;
        }
    } else if (j->match.username.ptr && !slice_eq(j->match.username, j->account->name)) {
        job_refuse(j, REASON_no_such_user, NULL);
        return;
    }
    if ((c->permissions & j->match.route->permission) != j->match.route->permission ||
        __builtin_expect(is_of_figures(j), 0)) {
        metric_add(METRIC_permission_refused, 1);
        job_refuse(j, REASON_forbidden, NULL);
        return;
    }
    if (find_target(j))
        dispatch(j);
}

/* ---- who is it ---- */

/* Who goes on trying though told that it is too early gets his answers late, and nothing is read
 * from his connection until then: he costs one request per connection and hold, not as many as fit.
 */
static void hold_refusal(struct job *j, uint64_t hold_ns)
{
    struct lane *l = j->lane;
    struct exchange *x = job_exchange(j);
    metric_add(METRIC_refusals_held, 1);
    x->reply.retry_ns = x->reply.retry_ns > hold_ns ? x->reply.retry_ns - hold_ns : 1;
    exchange_keep_no_body(x);
    j->deadline_ns = worker_now_ns(l->worker) + hold_ns;
    j->next = NULL;
    *l->held_last = j;
    l->held_last = &j->next;
}

static void give_held(struct lane *l, uint64_t now)
{
    struct job *j;
    while ((j = l->held) && j->deadline_ns <= now) {
        l->held = j->next;
        if (!l->held)
            l->held_last = &l->held;
        job_refuse(j, j->wait.reason, NULL);
    }
}

static void refuse_credential(struct job *j)
{
    struct exchange *x = job_exchange(j);
    uint64_t hold_ns = j->lane->tune.refusal_hold_ns;
    metric_add(METRIC_auth_refused, 1);
    x->reply.retry_ns = j->wait.retry_ns;
    if (j->wait.hold && hold_ns && !x->request.shared)
        hold_refusal(j, hold_ns);
    else
        job_refuse(j, j->wait.reason, NULL);
}

/* What of the body counts while its sender waits for a hash: small ones do not, or others' large
 * ones would keep them from their turn. `auth.hash_queue_max` bounds them. */
static size_t unproven_bytes(struct job *j)
{
    size_t bytes = job_exchange(j)->request.body.len;
    return bytes > UNPROVEN_FREE ? bytes : 0;
}

/* On the lane again, after a password hash. What was verified may have changed meanwhile. */
static void on_checked(struct job *j)
{
    j->lane->unproven_bytes -= unproven_bytes(j);
    if (j->wait.reason != REASON_ok) {
        refuse_credential(j);
        return;
    }
    struct credential *now =
        catalog_credential(j->lane->p->opts.api.catalog, j->credential->number);
    bool same = now && now->version == j->credential->version;
    credential_unref(now);
    if (same) {
        overload_note_good(&j->lane->p->overload, job_exchange(j)->request.source,
                           worker_now_ns(j->lane->worker));
        authorize(j);
        return;
    }
    j->credential = credential_unref(j->credential);
    job_authenticate(j);
}

static void on_hash_done(struct shield_wait *w)
{
    job_post(w->owner, on_checked);
}

/* A key is found by its digest: being found is being right. */
static struct credential *find_key(struct job *j, struct slice secret)
{
    uint8_t digest[32];
    shield_fast_digest(secret, digest);
    return catalog_key(j->lane->p->opts.api.catalog, digest);
}

static void check_key(struct job *j, struct slice secret)
{
    const struct api *a = &j->lane->p->opts.api;
    struct exchange *x = job_exchange(j);
    uint64_t now = worker_now_ns(j->lane->worker);
    j->credential = find_key(j, secret);
    if (j->credential) {
        authorize(j);
        return;
    }
    shield_key_refused(a->shield, x->request.source, now, &j->wait);
    refuse_credential(j);
}

/* Whoever he is, his body would be kept until the hash is computed. */
static bool has_room_to_wait(struct job *j)
{
    size_t bytes = unproven_bytes(j);
    return !bytes || j->lane->unproven_bytes + bytes <= UNPROVEN_BYTES_MAX;
}

static void check_device(struct job *j, struct slice id, struct slice secret)
{
    const struct api *a = &j->lane->p->opts.api;
    struct exchange *x = job_exchange(j);
    j->wait.done = on_hash_done;
    j->wait.owner = j;
    j->wait.no_hash =
        (__builtin_expect(j->overload != 0, 0) && !overload_lets_hash(j)) || !has_room_to_wait(j);
    if (!j->credential)
        j->credential = catalog_device(a->catalog, id);
    switch (shield_check(a->shield, j->credential, id, secret, x->request.source,
                         worker_now_ns(j->lane->worker), &j->wait)) {
    case SHIELD_RIGHT:
        authorize(j);
        return;
    case SHIELD_REFUSED:
        refuse_credential(j);
        return;
    case SHIELD_PENDING:
        j->lane->unproven_bytes += unproven_bytes(j);
        job_keep(j);
        return;
    }
}

/* Basic: a device with its secret, or an account with one of its keys. */
static void check_basic(struct job *j, const struct presented *p)
{
    j->credential = catalog_device(j->lane->p->opts.api.catalog, p->id);
    if (!j->credential) {
        struct credential *key = find_key(j, p->secret);
        if (key && slice_eq(key->account->name, p->id)) {
            j->credential = key;
            authorize(j);
            return;
        }
        credential_unref(key);
    }
    check_device(j, p->id, p->secret);
}

/* TLS has seen the proof; that the device is still there and not locked out is asked each time. */
static void check_certificate(struct job *j, struct slice id)
{
    j->credential = catalog_device(j->lane->p->opts.api.catalog, id);
    if (j->credential) {
        authorize(j);
        return;
    }
    j->wait.reason = REASON_bad_device;
    refuse_credential(j);
}

void job_authenticate(struct job *j)
{
    struct exchange *x = job_exchange(j);
    const struct presented *p = &x->request.presented;
    j->overload = overload_now(&j->lane->p->overload);
    if (x->request.method == METHOD_PUBLISH || x->request.consumer) {
        if (connect_identify(j)) /* pipeline_connect.c */
            authorize(j);
        return;
    }
    if (x->request.method == METHOD_SESSION || x->request.method == METHOD_MISSED ||
        x->request.method == METHOD_RETAINED) {
        session_identify(j); /* pipeline_session.c */
        dispatch(j);
        return;
    }
    /* Ids of this length say of themselves that nobody has them. Secrets of a device must not: the
     * shield lets theirs take its time. */
    if (p->id.len > DEVICE_ID_MAX || (p->kind == PRESENTED_KEY && p->secret.len > SECRET_MAX)) {
        j->wait.reason = p->kind == PRESENTED_KEY ? REASON_bad_key : REASON_bad_device;
        refuse_credential(j);
        return;
    }
    switch (p->kind) {
    case PRESENTED_NONE:
        metric_add(METRIC_auth_refused, 1);
        job_refuse(j, REASON_no_credential, NULL);
        return;
    case PRESENTED_KEY:
        check_key(j, p->secret);
        return;
    case PRESENTED_DEVICE:
        check_device(j, p->id, p->secret);
        return;
    case PRESENTED_BASIC:
        check_basic(j, p);
        return;
    case PRESENTED_CERTIFICATE:
        check_certificate(j, p->id);
        return;
    }
}

/* ---- which operation ---- */

static void refuse_path(struct job *j, bool known_path)
{
    struct exchange *x = job_exchange(j);
    if (slice_starts(x->request.path, SLICE("/api/"))) {
        j->match = (struct route_match){.route = known_path ? &no_method : &no_route};
        turn_put_off(j);
    } else if (known_path) {
        job_refuse(j, REASON_method, NULL);
    } else {
        job_refuse(j, REASON_not_found, "not found - there is nothing at this path");
    }
}

void lane_handle(void *lane, struct exchange *x)
{
    struct lane *l = lane;
    OBJ_CHECK(x, EXCHANGE_MAGIC);
    struct job *j = (struct job *)x->stage;
    j->magic = JOB_MAGIC;
    j->lane = l;
    j->owned = true;
    l->busy++;
    if (x->request.method == METHOD_OPTIONS) {
        x->reply.status = 204;
        buf_put_str(&x->reply.fields, "Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n");
        job_send(j);
        return;
    }
    enum route_found found = route_find(&x->request, &j->match, &x->reply.fields);
    if (found != ROUTE_FOUND) {
        refuse_path(j, found == ROUTE_NO_METHOD);
        return;
    }
    switch (j->match.route->class) {
    case ROUTE_PLAIN: {
        struct route_match match = j->match;
        const struct api *a = &l->p->opts.api;
        release(j);
        api_plain(a, &match, x);
        return;
    }
    case ROUTE_ADMIN:
        admin_begin(j); /* pipeline_admin.c */
        return;
    case ROUTE_PROF:
        prof_admit(j); /* pipeline_prof.c */
        return;
    default:
        turn_put_off(j);
    }
}

/* ---- lanes ---- */

size_t lane_stage_bytes(void)
{
    return sizeof(struct job);
}

unsigned lane_busy(const struct lane *l)
{
    return l->busy + batch_unfinished(l);
}

struct lane *lane_new(struct pipeline *p, struct worker *w)
{
    struct lane *l = calloc(1, sizeof *l);
    CHECK(l && p->lanes_count < WORKERS_MAX);
    l->p = p;
    l->worker = w;
    l->tune = p->opts.lane;
    l->flying_last = &l->flying;
    l->put_off_last = &l->put_off;
    l->held_last = &l->held;
    buf_init(&l->points_storage, 16u << 20);
    buf_init(&l->payload, BATCH_BYTES_MAX);
    buf_init(&l->properties, BATCH_BYTES_MAX);
    buf_init(&l->sealed, BATCH_BYTES_MAX);
    buf_init(&l->live_text, VALUE_BIG_MAX * 6 + 4096); /* each byte escaped */
    buf_init(&l->live_opened, BATCH_BYTES_MAX);
    l->sealer = p->opts.keyring ? sealer_new(p->opts.keyring) : NULL;
    l->points.storage = &l->points_storage;
    p->lanes[p->lanes_count] = l;
    p->lanes_count++;
    return l;
}

void lane_tune(struct lane *l, const struct lane_tune *tune)
{
    l->tune = *tune;
}

void lane_free(struct lane *l)
{
    if (!l)
        return;
    CHECK(!l->busy && !l->waiting && !l->held && !l->profiles && !l->awaiting_count);
    batch_lane_free(l);
    late_free(l);
    buf_fini(&l->points_storage);
    buf_fini(&l->payload);
    buf_fini(&l->properties);
    buf_fini(&l->sealed);
    buf_fini(&l->live_text);
    buf_fini(&l->live_opened);
    sealer_free(l->sealer);
    free(l);
}

bool lane_turn_end(void *lane, bool more)
{
    throttle_turn_end(lane);
    return batch_turn_end(lane, more);
}

void lane_tick(void *lane)
{
    struct lane *l = lane;
    uint64_t now = worker_now_ns(l->worker);
    overload_look(l, now);
    give_held(l, now);
    batch_tick(l, now);
    read_tick(l, now);
    prof_tick(l);
    ack_tick(l);
    service_tick(l, now);
    wills_tick(l);
    rules_run(l);
    receipts_run(l);
    figures_tick(l, now);
}

void lane_stop(struct lane *l)
{
    l->stopping = true;
}

struct pipeline *pipeline_new(const struct pipeline_opts *opts)
{
    struct pipeline *p = calloc(1, sizeof *p);
    CHECK(p);
    p->opts = *opts;
    p->told_before = journal_durable(opts->api.journal);
    p->hold_above = opts->pending_bytes_max / 4 * 3;
    overload_init(&p->overload, &opts->tune.overload);
    p->shed = opts->tune.shed;
    p->pprof = opts->tune.pprof;
    pthread_mutex_init(&p->receipts_lock, NULL);
    claims_init(&p->claims);
    p->prof = prof_new();
    p->pool = read_pool_new(p);
    return p;
}

void pipeline_quit(struct pipeline *p)
{
    consume_quit(p->opts.consume);
    prof_quit(p->prof);
    ack_quit(p);
}

void pipeline_free(struct pipeline *p)
{
    if (!p)
        return;
    read_pool_free(p->pool);
    prof_free(p->prof);
    live_free(p->live);
    receipts_free(p);
    claims_fini(&p->claims);
    own_senders_free(p);
    free(p);
}
