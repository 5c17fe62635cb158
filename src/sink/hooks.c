/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who asks changes the tables and the file under the mutex. What touches requests or readers is the
 * thread's alone: for that, wishes are left (removed, rewind), and it is woken.
 */
#include "sink/hooks.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/search.h"
#include "sink/hooks_own.h"

#define LOOK_NS   (1000 * NS_PER_MS)
#define SLEEP_NS  (200 * NS_PER_MS)
#define POLL_NS   (10 * NS_PER_MS) /* while requests are under way */
#define WAYS      10u              /* that are given behind one turn */
#define WAY_NS    (50 * NS_PER_US)
#define KEY_BYTES 32

#define U(v) (unsigned long long)(v)

/* ---- one webhook ----------------------------------------------------------------------------- */

struct hook *hooks_find(struct hooks *h, uint64_t id)
{
    struct hook *k = h->all;
    while (k && k->id != id)
        k = k->next;
    return k;
}

uint64_t hook_position(const struct hooks *h, const struct hook *k)
{
    if (k->rewind)
        return k->rewind_to;
    for (uint64_t i = k->first; i < k->end; i++) {
        const struct event *e = &k->queue[i % HOOK_QUEUE];
        if (e->state != EVENT_SETTLED && !e->again)
            return e->offset;
    }
    return hook_read_at(h, k);
}

void hook_clear_queue(struct hooks *h, struct hook *k)
{
    CHECK(k->under_way == 0);
    for (; k->first < k->end; k->first++) {
        struct event *e = &k->queue[k->first % HOOK_QUEUE];
        hook_weigh(h, k, 0 - (uint64_t)e->len);
        free(e->body);
        *e = (struct event){0};
    }
    for (unsigned i = 0; i < k->owed_count; i++)
        k->owed[i].queued = false;
}

void hook_put_back(struct hooks *h, struct hook *k)
{
    uint64_t at = hook_position(h, k);
    hooks_abandon(h, k);
    k->blamed_count = 0;
    for (uint64_t i = k->first; i < k->end; i++) {
        const struct event *e = &k->queue[i % HOOK_QUEUE];
        k->blamed[k->blamed_count].offset = e->offset;
        k->blamed[k->blamed_count].blame = e->blame;
        k->blamed_count += e->state != EVENT_SETTLED && e->blame;
    }
    hook_clear_queue(h, k);
    k->read_at = at;
    k->behind = true;
}

void hook_free(struct hook *k)
{
    CHECK(k->first == k->end);
    webhook_secrets_wipe(&k->keys);
    explicit_bzero(k->secrets, sizeof k->secrets);
    attempts_free(k->attempts);
    free(k->url);
    free(k->feeds);
    free(k);
}

static void take_out(struct hooks *h, struct hook *k)
{
    struct hook **at = &h->all;
    while (*at != k)
        at = &(*at)->next;
    *at = k->next;
    at = &h->buckets[k->account % HOOKS_BUCKETS];
    while (*at != k)
        at = &(*at)->neighbour;
    *at = k->neighbour;
    h->count--;
    k->next = h->removed;
    h->removed = k;
    hooks_list_owners(h);
}

static void put_in(struct hooks *h, struct hook *k)
{
    struct hook **at = &h->all;
    while (*at && (*at)->id < k->id)
        at = &(*at)->next;
    k->next = *at;
    *at = k;
    k->neighbour = h->buckets[k->account % HOOKS_BUCKETS];
    h->buckets[k->account % HOOKS_BUCKETS] = k;
    h->count++;
    hooks_list_owners(h);
}

static enum hook_state state_of(const struct hook *k)
{
    return k->disabled[0] ? HOOK_DISABLED
           : k->paused    ? HOOK_PAUSED
           : k->failures  ? HOOK_FAILING
                          : HOOK_RUNNING;
}

void hooks_list_owners(struct hooks *h)
{
    struct hook_owner *list = calloc(h->count + 1, sizeof *list);
    size_t n = 0;
    CHECK(list);
    for (const struct hook *k = h->all; k; k = k->next)
        list[n++] = (struct hook_owner){k->id, k->account};
    pthread_mutex_lock(&h->told_lock);
    struct hook_owner *before = h->owners;
    h->owners = list;
    h->owners_count = n;
    pthread_mutex_unlock(&h->told_lock);
    free(before);
}

bool hooks_has(struct hooks *h, uint64_t id, uint64_t account)
{
    pthread_mutex_lock(&h->told_lock);
    size_t i = SEARCH_FROM(h->owners, h->owners_count, id, id);
    bool has = i < h->owners_count && h->owners[i].id == id && h->owners[i].account == account;
    pthread_mutex_unlock(&h->told_lock);
    return has;
}

/* ---- the mutex ------------------------------------------------------------------------------- */

/* Takes it for somebody else than the thread. Mutexes are not fair: a thread that has something to
 * do for long would give this one away and have it back before anybody else wakes up. */
static void ask(struct hooks *h)
{
    atomic_fetch_add(&h->asking, 1);
    pthread_mutex_lock(&h->lock);
    atomic_fetch_sub(&h->asking, 1);
}

static void give_way(struct hooks *h)
{
    for (unsigned i = 0; i < WAYS && atomic_load(&h->asking); i++) {
        pthread_mutex_unlock(&h->lock);
        clock_sleep_ns(WAY_NS);
        pthread_mutex_lock(&h->lock);
    }
}

/* ---- the thread ------------------------------------------------------------------------------ */

static void publish(struct hooks *h)
{
    struct hooks_stats s = {.count = h->count,
                            .delivered = h->delivered,
                            .failures = h->failures,
                            .dead = h->dead,
                            .under_way = h->opts.at_once - posts_room(h->posts)};
    for (const struct hook *k = h->all; k; k = k->next) {
        s.failing += state_of(k) == HOOK_FAILING;
        s.disabled += state_of(k) == HOOK_DISABLED;
        s.behind += k->behind;
    }
    pthread_mutex_lock(&h->told_lock);
    h->told = s;
    pthread_mutex_unlock(&h->told_lock);
}

static void wake(struct hooks *h)
{
    pthread_cond_signal(&h->woken);
    posts_wake(h->posts);
    if (h->reading)
        journal_reader_wake(h->head.reader);
}

static void bury_removed(struct hooks *h)
{
    struct hook *k;
    while ((k = h->removed) != NULL) {
        h->removed = k->next;
        hooks_abandon(h, k);
        hook_clear_queue(h, k);
        hook_free(k);
    }
}

static void do_wishes(struct hooks *h)
{
    struct error err = {""};
    bury_removed(h);
    for (struct hook *k = h->all; k; k = k->next) {
        if (!k->rewind)
            continue;
        hooks_abandon(h, k);
        hook_clear_queue(h, k);
        k->rewind = false;
        k->read_at = k->rewind_to;
        k->behind = true;
        h->moved = true;
    }
    if (h->count && !h->reading) {
        uint64_t at = 0, end = journal_durable(h->opts.journal);
        for (struct hook *k = h->all; k; k = k->next)
            at = k->read_at > at ? k->read_at : at;
        if (hooks_begin_reading(h, at < end ? at : end, &err) < 0)
            log_line(LOG_ERROR, "hooks.read_failed", "error=\"%.100s\"", err.text);
    } else if (!h->count && h->reading) {
        hooks_end_reading(h);
        sink_forget(h->opts.journal, HOOKS_NAME);
    }
}

/* Where memory is short, who only waits has none: it reads its messages again when it may go on. */
static void make_room(struct hooks *h, uint64_t now_ns)
{
    if (h->queue_bytes < h->opts.queue_bytes / 2)
        return;
    for (struct hook *k = h->all; k; k = k->next)
        if (k->first < k->end && !k->under_way && (!hook_is_on(k) || k->next_try_ns > now_ns))
            hook_put_back(h, k);
}

/* Those whose account is gone go with it. */
static void look_for_accounts(struct hooks *h)
{
    bool any = false;
    for (struct hook *k = h->all, *next; k; k = next) {
        next = k->next;
        if (h->opts.has_account(h->opts.arg, k->account))
            continue;
        log_line(LOG_INFO, "hooks.removed", "webhook=%llu why=\"its account is gone\"", U(k->id));
        take_out(h, k);
        any = true;
    }
    int rc = any ? hooks_save(h) : 0;
    if (rc == 0 && any)
        rc = hooks_save_positions(h);
    if (rc)
        log_line(LOG_ERROR, "hooks.not_written", "error=%s", strerror(-rc));
}

/* The journal keeps what is owed to the last of them, but no more than hold_bytes. */
static void hold(struct hooks *h)
{
    uint64_t least = UINT64_MAX, from = journal_hold_from(h->opts.journal, h->opts.hold_bytes);
    for (struct hook *k = h->all; k; k = k->next) {
        if (k->behind && k->read_at < from && from <= h->head_at) {
            log_line(LOG_ERROR, "hooks.gave_up", "webhook=%llu from=%llu to=%llu", U(k->id),
                     U(k->read_at), U(from));
            k->read_at = from;
            k->gaps++;
            h->moved = true;
        }
        uint64_t at = hook_position(h, k);
        least = at < least ? at : least;
    }
    least = least > from || from > h->head_at ? least : from;
    if (!h->reading || least == UINT64_MAX || least <= h->committed)
        return;
    int rc = journal_reader_commit(h->head.reader, least);
    if (rc == 0)
        h->committed = least;
    else
        log_line(LOG_ERROR, "hooks.commit_failed", "error=%s", strerror(-rc));
}

static void look(struct hooks *h, uint64_t now_ns)
{
    if (h->looked_ns && now_ns - h->looked_ns < LOOK_NS)
        return;
    h->looked_ns = now_ns;
    look_for_accounts(h);
    int rc = h->moved ? hooks_save_positions(h) : 0;
    if (rc) {
        log_line(LOG_ERROR, "hooks.not_written", "error=%s", strerror(-rc));
        return; /* what the journal is told it may forget must be written down before */
    }
    h->moved = false;
    hold(h);
}

static void rest(struct hooks *h)
{
    bool under_way = posts_room(h->posts) < h->opts.at_once;
    if (!h->reading && !under_way) {
        (void)cond_wait_until(&h->woken, &h->lock, clock_mono_ns() + SLEEP_NS);
        return;
    }
    pthread_mutex_unlock(&h->lock);
    if (under_way)
        posts_wait(h->posts, POLL_NS);
    else
        journal_reader_wait(h->head.reader, SLEEP_NS);
    pthread_mutex_lock(&h->lock);
}

static void run(void *arg)
{
    struct hooks *h = arg;
    pthread_mutex_lock(&h->lock);
    while (!h->stop) {
        uint64_t now_ns = clock_mono_ns();
        do_wishes(h);
        make_room(h, now_ns);
        look(h, now_ns);
        bool any = hooks_read(h, now_ns);
        any |= hooks_send(h, now_ns);
        publish(h);
        if (!any && !h->stop)
            rest(h);
        give_way(h);
    }
    hooks_abandon(h, NULL);
    hooks_save_positions(h);
    pthread_mutex_unlock(&h->lock);
}

/* ---- life ------------------------------------------------------------------------------------ */

static void destroy(struct hooks *h)
{
    bury_removed(h);
    for (struct hook *k; (k = h->all) != NULL;) {
        h->all = k->next;
        hook_clear_queue(h, k);
        hook_free(k);
    }
    course_end(&h->head);
    course_end(&h->lag);
    for (unsigned i = 0; i < h->opts.at_once; i++)
        webhook_post_fini(&h->flights[i].it);
    posts_free(h->posts);
    sealer_free(h->sealer);
    pthread_cond_destroy(&h->woken);
    pthread_mutex_destroy(&h->lock);
    pthread_mutex_destroy(&h->told_lock);
    free(h->flights);
    free(h->owners);
    free(h);
}

/* All but the thread. */
static int make(const struct hooks_opts *opts, struct hooks **ret, struct error *err)
{
    struct hooks *h = calloc(1, sizeof *h);
    CHECK(h);
    h->opts = *opts;
    if (!h->opts.queue_bytes)
        h->opts.queue_bytes = HOOKS_QUEUE_MAX;
    h->rand.state = opts->seed;
    h->sealer = opts->keyring ? sealer_new(opts->keyring) : NULL;
    h->flights = calloc(opts->at_once, sizeof *h->flights);
    CHECK(h->flights);
    for (unsigned i = 0; i < opts->at_once; i++)
        webhook_post_init(&h->flights[i].it);
    h->posts = posts_new(&(struct posts_opts){.at_once = opts->at_once,
                                              .timeout_ns = opts->timeout_ns,
                                              .allowed = opts->allowed,
                                              .allowed_count = opts->allowed_count,
                                              .ca_file = opts->ca_file});
    cond_init(&h->woken);
    pthread_mutex_init(&h->lock, NULL);
    pthread_mutex_init(&h->told_lock, NULL);
    hooks_setup_courses(h);
    int rc = 0;
    if (snprintf(h->path, sizeof h->path, "%s/webhooks.json", opts->dir) >= (int)sizeof h->path ||
        snprintf(h->at_path, sizeof h->at_path, "%s/webhooks.at", opts->dir) >=
            (int)sizeof h->at_path ||
        snprintf(h->copy_path, sizeof h->copy_path, "%s", opts->copy) >= (int)sizeof h->copy_path)
        rc = error_set(err, -ENAMETOOLONG, "%.100s...: the name is too long", opts->dir);
    if (rc == 0)
        rc = hooks_load(h, err);
    if (rc == 0 && !h->count)
        rc = sink_forget(opts->journal, HOOKS_NAME);
    if (rc) {
        destroy(h);
        return rc;
    }
    *ret = h;
    return 0;
}

int hooks_open(const struct hooks_opts *opts, struct hooks **ret, struct error *err)
{
    struct hooks *h;
    int rc = make(opts, &h, err);
    if (rc)
        return rc;
    log_line(LOG_INFO, "hooks.start", "count=%u", h->count);
    h->thread = thread_start("webhooks", run, h);
    *ret = h;
    return 0;
}

void hooks_close(struct hooks *h)
{
    if (!h)
        return;
    ask(h);
    h->stop = true;
    wake(h);
    pthread_mutex_unlock(&h->lock);
    pthread_join(h->thread, NULL);
    destroy(h);
}

/* ---- orders ---------------------------------------------------------------------------------- */

static int not_found(struct error *err, uint64_t id)
{
    return error_set(err, -ENOENT, "there is no webhook %llu", U(id));
}

static int not_written(struct error *err, int rc)
{
    return error_set(err, rc, "it cannot be written down: %s", strerror(-rc));
}

static int check(const struct hook_settings *set, struct error *err)
{
    char url[HOOK_URL_MAX + 1];
    struct error why = {""};
    if (set->url.len > HOOK_URL_MAX || (set->url.len && memchr(set->url.ptr, 0, set->url.len)))
        return error_set(err, -EINVAL, "url: it can have %d bytes at most", HOOK_URL_MAX);
    if (set->feeds.len > HOOK_FEEDS_MAX ||
        (set->feeds.len && memchr(set->feeds.ptr, 0, set->feeds.len)))
        return error_set(err, -EINVAL, "feeds: they can have %d bytes at most", HOOK_FEEDS_MAX);
    if (set->events_max > HOOK_EVENTS_MAX)
        return error_set(err, -EINVAL, "events_max: it can be %u at most", HOOK_EVENTS_MAX);
    if (!set->url.ptr)
        return 0;
    snprintf(url, sizeof url, "%.*s", SLICE_ARG(set->url));
    return post_check_url(url, &why) < 0 ? error_set(err, -EINVAL, "url: %s", why.text) : 0;
}

static void replace(char **text, struct slice by)
{
    if (!by.ptr)
        return;
    free(*text);
    *text = strndup(by.ptr, by.len);
    CHECK(*text);
}

static void apply(struct hook *k, const struct hook_settings *set)
{
    replace(&k->url, set->url);
    replace(&k->feeds, set->feeds);
    if (set->by_feed >= 0)
        k->by_feed = set->by_feed;
    if (set->events_max)
        k->events_max = set->events_max;
}

void hook_make_secret(char out[HOOK_SECRET_MAX])
{
    uint8_t key[KEY_BYTES];
    rand_secret(key, sizeof key);
    memcpy(out, "whsec_", 6);
    EVP_EncodeBlock((unsigned char *)out + 6, key, sizeof key);
    explicit_bzero(key, sizeof key);
}

static void use_secrets(struct hook *k)
{
    struct buf lines;
    buf_init(&lines, 4 * HOOK_SECRET_MAX);
    buf_printf(&lines, "%s\n%s\n", k->secrets[0], k->secrets[1]);
    CHECK(webhook_secrets_parse(buf_slice(&lines), &k->keys, NULL) == 0);
    explicit_bzero(lines.ptr, lines.len);
    buf_fini(&lines);
}

static unsigned count_of(const struct hooks *h, uint64_t account)
{
    unsigned n = 0;
    for (const struct hook *k = h->buckets[account % HOOKS_BUCKETS]; k; k = k->neighbour)
        n += k->account == account;
    return n;
}

static int add(struct hooks *h, uint64_t account, const struct hook_settings *set,
               struct hook **ret, struct error *err)
{
    if (h->count >= h->opts.max || count_of(h, account) >= h->opts.account_max)
        return error_set(err, -ENOSPC,
                         "there are %u webhooks, of %u, and %u of this account, of %u", h->count,
                         h->opts.max, count_of(h, account), h->opts.account_max);
    struct hook *k = calloc(1, sizeof *k);
    CHECK(k);
    k->id = ++h->next_id;
    k->account = account;
    k->events_max = 1;
    k->created_us = clock_wall_us();
    k->behind = true; /* until the thread has looked, a moment later */
    k->read_at = journal_durable(h->opts.journal);
    k->attempts = attempts_new(HOOK_ATTEMPTS);
    replace(&k->feeds, SLICE(""));
    apply(k, set);
    hook_make_secret(k->secrets[0]);
    use_secrets(k);
    put_in(h, k);
    int rc = hooks_save_positions(h);
    if (rc == 0)
        rc = hooks_save(h);
    if (rc) {
        take_out(h, k);
        return not_written(err, rc);
    }
    *ret = k;
    return 0;
}

int hooks_add(struct hooks *h, uint64_t account, const struct hook_settings *set, uint64_t *ret_id,
              char secret[HOOK_SECRET_MAX], struct error *err)
{
    struct hook *k = NULL;
    int rc = set->url.ptr ? check(set, err) : error_set(err, -EINVAL, "url: it is missing");
    if (rc)
        return rc;
    ask(h);
    rc = add(h, account, set, &k, err);
    if (rc == 0) {
        *ret_id = k->id;
        memcpy(secret, k->secrets[0], HOOK_SECRET_MAX);
    }
    wake(h);
    pthread_mutex_unlock(&h->lock);
    return rc;
}

/* Writes what was changed; if that fails, it is as it was after a restart only. */
static int changed(struct hooks *h, struct error *err)
{
    int rc = hooks_save(h);
    wake(h);
    return rc ? not_written(err, rc) : 0;
}

int hooks_change(struct hooks *h, uint64_t id, const struct hook_settings *set, struct error *err)
{
    int rc = check(set, err);
    if (rc)
        return rc;
    ask(h);
    struct hook *k = hooks_find(h, id);
    if (k) {
        apply(k, set);
        k->next_try_ns = 0; /* perhaps that was what was wrong */
        rc = changed(h, err);
    } else {
        rc = not_found(err, id);
    }
    pthread_mutex_unlock(&h->lock);
    return rc;
}

int hooks_remove(struct hooks *h, uint64_t id, struct error *err)
{
    ask(h);
    struct hook *k = hooks_find(h, id);
    int rc = k ? 0 : not_found(err, id);
    if (k) {
        take_out(h, k);
        rc = changed(h, err);
        h->moved = true;
    }
    pthread_mutex_unlock(&h->lock);
    return rc;
}

int hooks_pause(struct hooks *h, uint64_t id, bool paused, struct error *err)
{
    ask(h);
    struct hook *k = hooks_find(h, id);
    int rc = k ? 0 : not_found(err, id);
    if (k) {
        k->paused = paused;
        if (!paused) {
            k->disabled[0] = 0;
            k->failures = 0;
            k->next_try_ns = 0;
            k->failing_since_us = 0;
        }
        rc = changed(h, err);
    }
    pthread_mutex_unlock(&h->lock);
    return rc;
}

int hooks_rotate(struct hooks *h, uint64_t id, char secret[HOOK_SECRET_MAX], struct error *err)
{
    ask(h);
    struct hook *k = hooks_find(h, id);
    int rc = k ? 0 : not_found(err, id);
    if (k) {
        memcpy(k->secrets[1], k->secrets[0], HOOK_SECRET_MAX);
        hook_make_secret(k->secrets[0]);
        use_secrets(k);
        memcpy(secret, k->secrets[0], HOOK_SECRET_MAX);
        rc = changed(h, err);
    }
    pthread_mutex_unlock(&h->lock);
    return rc;
}

int hooks_replay(struct hooks *h, uint64_t id, uint64_t from, struct error *err)
{
    ask(h);
    struct hook *k = hooks_find(h, id);
    int rc = k ? 0 : not_found(err, id);
    if (k && from < hook_position(h, k)) {
        k->rewind = true;
        k->rewind_to = from;
        rc = hooks_save_positions(h);
        if (rc)
            not_written(err, rc);
        wake(h);
    }
    pthread_mutex_unlock(&h->lock);
    return rc;
}

int hooks_retry(struct hooks *h, uint64_t id, unsigned *ret_count, struct error *err)
{
    ask(h);
    struct hook *k = hooks_find(h, id);
    int rc = k ? 0 : not_found(err, id);
    *ret_count = k ? k->owed_count : 0;
    for (unsigned i = 0; k && i < k->owed_count; i++) {
        struct owed *o = &k->owed[i];
        o->due_us = 0;
        if (o->tried == WEBHOOK_PAUSES)
            o->tried = WEBHOOK_PAUSES - 1; /* refused again, it is dead again */
    }
    if (k)
        wake(h);
    pthread_mutex_unlock(&h->lock);
    return rc;
}

int hooks_test(struct hooks *h, uint64_t id, uint64_t patience_ns, struct attempt *ret,
               struct error *err)
{
    char url[HOOK_URL_MAX + 1];
    struct webhook_secrets keys;
    struct posts_opts posts = {.at_once = 1,
                               .timeout_ns = patience_ns < h->opts.timeout_ns ? patience_ns
                                                                              : h->opts.timeout_ns,
                               .allowed = h->opts.allowed,
                               .allowed_count = h->opts.allowed_count,
                               .ca_file = h->opts.ca_file};
    ask(h);
    struct hook *k = hooks_find(h, id);
    if (k) {
        snprintf(url, sizeof url, "%s", k->url);
        keys = k->keys;
    }
    pthread_mutex_unlock(&h->lock);
    if (!k)
        return not_found(err, id);
    webhook_test(&posts, url, &keys, ret);
    webhook_secrets_wipe(&keys);
    ask(h);
    k = hooks_find(h, id);
    if (k)
        attempts_put(k->attempts, ret);
    pthread_mutex_unlock(&h->lock);
    return 0;
}

/* ---- what others see ------------------------------------------------------------------------- */

const char *hook_state_name(enum hook_state state)
{
    static const char *const names[] = {"running", "failing", "paused", "disabled"};
    return names[state];
}

static void tell(const struct hooks *h, const struct hook *k, struct hook_info *ret)
{
    uint64_t end = journal_durable(h->opts.journal);
    *ret = (struct hook_info){.id = k->id,
                              .account = k->account,
                              .by_feed = k->by_feed,
                              .events_max = k->events_max,
                              .secrets = 1 + (k->secrets[1][0] != 0),
                              .created_us = k->created_us,
                              .state = state_of(k),
                              .position = hook_position(h, k),
                              .delivered = k->delivered,
                              .failures = k->failed,
                              .gaps = k->gaps,
                              .failing_since_us = k->failing_since_us};
    snprintf(ret->url, sizeof ret->url, "%s", k->url);
    snprintf(ret->feeds, sizeof ret->feeds, "%s", k->feeds);
    snprintf(ret->error, sizeof ret->error, "%s", k->disabled[0] ? k->disabled : k->error);
    ret->lag = end > ret->position ? end - ret->position : 0;
    for (unsigned i = 0; i < k->owed_count; i++) {
        ret->dead += k->owed[i].tried == WEBHOOK_PAUSES;
        ret->owed += k->owed[i].tried < WEBHOOK_PAUSES;
    }
}

bool hooks_next(struct hooks *h, uint64_t id, uint64_t account, struct hook_info *ret)
{
    ask(h);
    const struct hook *k = h->all;
    while (k && (k->id < id || (account && k->account != account)))
        k = k->next;
    if (k)
        tell(h, k, ret);
    pthread_mutex_unlock(&h->lock);
    return k != NULL;
}

bool hooks_attempt(struct hooks *h, uint64_t id, unsigned n, struct attempt *ret)
{
    ask(h);
    const struct hook *k = hooks_find(h, id);
    bool found = k && attempts_get(k->attempts, n, ret);
    pthread_mutex_unlock(&h->lock);
    return found;
}

struct hooks_stats hooks_stats(struct hooks *h)
{
    pthread_mutex_lock(&h->told_lock);
    struct hooks_stats s = h->told;
    pthread_mutex_unlock(&h->told_lock);
    return s;
}
