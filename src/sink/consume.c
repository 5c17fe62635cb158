/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The thread goes round: asks that came; what changed is written, with one fdatasync for all; those
 * asks are answered; each group gives what it has to those who wait. Then it rests until an ask
 * comes, a lease or a wait is over, or, while somebody waits for the journal, that has more.
 *
 * 1. A group is in the file before anybody is answered from it: what came since is not missed.
 * 2. An acknowledgement is answered when the file has it. Others may be given the next message of
 * the feed before: a crash then brings the acknowledged one again, as its sender was told nothing.
 * 3. Retention waits for the smallest floor in the file, but holds no more than hold_bytes. What is
 * gone a group meets as a gap of the journal, and tells with its next answer.
 */
#include "sink/consume.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/metric.h"
#include "base/rand.h"
#include "sink/consume_private.h"

#define CURSOR       "consume"
#define LOOK_NS      NS_PER_S          /* retention, groups that are no more */
#define PUBLISH_NS   (100 * NS_PER_MS) /* stats, while there is no rest */
#define RETRY_NS     (500 * NS_PER_MS) /* of writing the file */
#define READ_IDLE_NS (2 * NS_PER_S)    /* a group that nobody fetches from reads no more then */
#define USED_PART    8ull /* of idle_ns: how exactly the file knows when a group was used */
#define LEASE_BITS   40

#define U(v) (unsigned long long)(v)

/* ---- the file -------------------------------------------------------------------------------- */

static void put_entry(const struct consume_group *g, struct buf *out)
{
    struct buf entry;
    buf_init(&entry, SIZE_MAX / 2);
    consume_group_encode(g, &entry);
    CHECK(!entry.failed);
    group_file_put(out, buf_slice(&entry));
    buf_fini(&entry);
}

static int write_all(struct consume *c)
{
    struct buf all;
    buf_init(&all, SIZE_MAX / 2);
    for (const struct consume_group *g = c->groups; g; g = g->next)
        put_entry(g, &all);
    int rc = all.failed ? -ENOMEM : group_file_replace(c->file, buf_slice(&all));
    c->file_bytes = all.len;
    buf_fini(&all);
    return rc;
}

static int write_changed(struct consume *c)
{
    struct buf changed;
    buf_init(&changed, SIZE_MAX / 2);
    for (const struct consume_group *g = c->groups; g; g = g->next)
        if (g->dirty)
            put_entry(g, &changed);
    int rc = -ENOSPC;
    if (!changed.failed &&
        group_file_bytes(c->file) + changed.len < 2 * c->file_bytes + CONSUME_FILE_BYTES)
        rc = group_file_append(c->file, buf_slice(&changed));
    buf_fini(&changed);
    return rc ? write_all(c) : 0;
}

/* What changed is durable afterwards. False: it is not. */
static bool store(struct consume *c)
{
    bool any = c->anew;
    for (const struct consume_group *g = c->groups; g; g = g->next)
        any = any || g->dirty;
    if (!any)
        return true;
    int rc = c->anew ? write_all(c) : write_changed(c);
    if (rc) {
        log_line(LOG_ERROR, "consume.write_failed", "path=%s error=%s", c->opts.path,
                 strerror(-rc));
        c->retry_ns = clock_mono_ns() + RETRY_NS;
        return false;
    }
    c->anew = false;
    for (struct consume_group *g = c->groups; g; g = g->next) {
        if (!g->dirty)
            continue;
        g->dirty = false;
        g->written = leases_floor(&g->leases);
        g->written_us = g->used_us;
    }
    return true;
}

/* ---- asks ------------------------------------------------------------------------------------ */

static void refuse(struct consume_ask *ask, enum reason reason, const char *text)
{
    ask->reason = reason;
    snprintf(ask->text, sizeof ask->text, "%s", text);
}

/* Answered once the file has it. */
static void answer_later(struct consume *c, struct consume_ask *ask)
{
    ask->next = NULL;
    *c->answered_last = ask;
    c->answered_last = &ask->next;
}

static unsigned groups_of(const struct consume *c, uint64_t account)
{
    unsigned n = 0;
    for (const struct consume_group *g = c->groups; g; g = g->next)
        n += g->account == account;
    return n;
}

/* A credential that is bound to feeds makes a group of them, if it does not say of which. */
static struct consume_group *make_group(struct consume *c, struct consume_ask *ask)
{
    struct journal_position at = journal_position(c->opts.journal);
    struct buf feeds;
    buf_init(&feeds, CONSUME_FEEDS_MAX);
    if (ask->feeds.ptr)
        buf_put_slice(&feeds, ask->feeds);
    else
        for (uint16_t i = 0; i < ask->credential->patterns_count; i++) {
            buf_put_str(&feeds, i ? "," : "");
            buf_put_slice(&feeds, ask->credential->patterns[i]);
        }
    if (feeds.failed) {
        refuse(ask, REASON_bad_request, "the patterns of this credential's feeds are too long");
        buf_fini(&feeds);
        return NULL;
    }
    struct consume_group *g = consume_group_new(c, ask->account, ask->group, buf_slice(&feeds),
                                                ask->oldest ? at.oldest : at.durable, NULL, 0);
    buf_fini(&feeds);
    if (!consume_group_is_for(g, ask->credential)) {
        consume_group_free(g);
        refuse(ask, REASON_forbidden,
               "this credential may not read all that such a group hands out: name its feeds "
               "(?feeds=)");
        return NULL;
    }
    g->dirty = true;
    c->changed = true;
    if (!store(c)) { /* see 1 */
        consume_group_free(g);
        refuse(ask, REASON_busy, "the group cannot be written now");
        return NULL;
    }
    log_line(LOG_INFO, "consume.group", "account=%llu group=%s from=%llu", U(g->account), g->name,
             U(g->written));
    return g;
}

/* The group, made if there is none. NULL: refused. */
static struct consume_group *group_of_fetch(struct consume *c, struct consume_ask *ask)
{
    struct consume_group *g = consume_group_find(c, ask->account, ask->group);
    if (g)
        return g;
    if (c->groups_count >= c->opts.groups_max ||
        groups_of(c, ask->account) >= c->opts.account_groups_max) {
        refuse(ask, REASON_groups_full, "");
        return NULL;
    }
    return make_group(c, ask);
}

/* A consumer that fetches is in the group, unless that was removed. */
static struct consume_group *group_of_consumer(struct consume *c, struct consume_ask *ask)
{
    struct consume_group *g = consume_group_find(c, ask->account, ask->group);
    ask->who = g ? consume_group_consumer(g, ask->consumer) : NULL;
    if (ask->who)
        return g;
    refuse(ask, REASON_not_found, "not found - the group was removed");
    return NULL;
}

/* The group, if the ask may have messages of it. NULL: refused. */
static struct consume_group *admit(struct consume *c, struct consume_ask *ask)
{
    struct consume_group *g = NULL;
    if (c->quitting)
        refuse(ask, REASON_stopping, "");
    else if (ask->op == CONSUME_FETCH && ask->consumer)
        g = group_of_consumer(c, ask);
    else
        g = group_of_fetch(c, ask);
    if (g && !consume_group_is_for(g, ask->credential))
        refuse(ask, REASON_forbidden, "this credential may not read all that the group hands out");
    else if (g && ask->feeds.ptr && !slice_eq(ask->feeds, slice_str(g->feeds)))
        refuse(ask, REASON_conflict, "the group is there already, with other feeds");
    else if (g && ask->op == CONSUME_FETCH && g->waiting_count >= CONSUME_WAITING_MAX)
        refuse(ask, REASON_busy, "too many fetches wait in this group");
    else if (g && ask->op == CONSUME_OPEN && g->consumers_count >= CONSUME_WAITING_MAX)
        refuse(ask, REASON_busy, "too many consumers are connected to this group");
    return ask->reason == REASON_ok ? g : NULL;
}

static void fetch(struct consume *c, struct consume_ask *ask, uint64_t now_ns)
{
    struct consume_group *g = admit(c, ask);
    if (!g) {
        ask->done(ask);
        return;
    }
    metric_add(METRIC_consume_fetches, 1);
    g->used_us = clock_wall_us();
    g->waiting_count++;
    c->changed = true;
    ask->end_ns = now_ns + ask->wait_ns;
    consume_group_wait(g, ask);
}

static void join(struct consume *c, struct consume_ask *ask)
{
    struct consume_group *g = admit(c, ask);
    if (!g)
        return;
    consume_group_join(g, ask->consumer, ask->credit);
    g->used_us = clock_wall_us();
    c->changed = true;
}

/* It may be in no group any more. */
static void leave(struct consume *c, const struct consume_ask *ask)
{
    for (struct consume_group *g = c->groups; g; g = g->next) {
        struct consumer *who = consume_group_consumer(g, ask->consumer);
        if (!who)
            continue;
        consume_group_leave(g, who);
        c->changed = true;
        return;
    }
}

static void set_credit(struct consume_group *g, struct consume_ask *ask)
{
    struct consumer *who = consume_group_consumer(g, ask->consumer);
    if (who)
        who->credit = ask->credit;
    buf_printf(ask->out, "%u", ask->credit);
}

static enum lease_outcome tell(struct consume_group *g, const struct consume_ask *ask,
                               const struct consume_token *t, uint64_t now_ns)
{
    struct consume *c = g->c;
    bool known = t->lease >> LEASE_BITS == c->leases >> LEASE_BITS;
    switch (ask->op) {
    case CONSUME_ACK:
        if (t->offset >= journal_durable(c->opts.journal))
            return LEASE_STALE;
        return leases_ack(&g->leases, t->offset, t->lease, known);
    case CONSUME_NACK:
        return leases_nack(&g->leases, t->offset, t->lease, ask->ns ? now_ns + ask->ns : 0);
    default:
        return leases_extend(&g->leases, t->offset, t->lease, now_ns + ask->ns);
    }
}

static void tell_all(struct consume_group *g, struct consume_ask *ask, uint64_t now_ns)
{
    unsigned good = 0, stale = 0;
    struct buf *out = ask->out;
    buf_put_str(out, "{\"stale\":[");
    for (unsigned i = 0; i < ask->tokens_count; i++) {
        const struct consume_token *t = &ask->tokens[i];
        if (tell(g, ask, t, now_ns) == LEASE_OK)
            good++;
        else
            buf_printf(out, "%s\"%llu-%llx\"", stale++ ? "," : "", U(t->offset), U(t->lease));
    }
    buf_printf(out, "],\"count\":%u}", good);
    metric_add(METRIC_consume_stale, stale);
    if (ask->op == CONSUME_ACK) {
        g->dirty = g->dirty || good;
        g->stats.acked += good;
        metric_add(METRIC_consume_acknowledged, good);
    } else if (ask->op == CONSUME_NACK) {
        g->stats.nacked += good;
        metric_add(METRIC_consume_returned, good);
    }
}

static void put_list(struct consume *c, const struct consume_ask *ask)
{
    bool first = true;
    buf_put_str(ask->out, "[");
    for (const struct consume_group *g = c->groups; g; g = g->next) {
        if (g->account != ask->account || !consume_group_is_for(g, ask->credential))
            continue;
        struct consume_stats s = consume_group_stats(g);
        buf_put_str(ask->out, first ? "" : ",");
        consume_group_put(&s, g->feeds, ask->out);
        first = false;
    }
    buf_put_str(ask->out, "]");
}

/* About a group that must be there. */
static void about_group(struct consume *c, struct consume_ask *ask, uint64_t now_ns)
{
    struct consume_group *g = consume_group_find(c, ask->account, ask->group);
    if (!g || !consume_group_is_for(g, ask->credential)) {
        refuse(ask, REASON_not_found, "not found - there is no such group of this account");
        return;
    }
    c->changed = true;
    if (ask->op == CONSUME_RETURN) {
        leases_return(&g->leases, ask->lease);
    } else if (ask->op == CONSUME_CREDIT) {
        set_credit(g, ask);
    } else if (ask->op == CONSUME_REMOVE) {
        log_line(LOG_INFO, "consume.removed", "account=%llu group=%s", U(g->account), g->name);
        consume_group_send_away(g, REASON_not_found, "not found - the group was removed");
        consume_group_free(g);
        c->anew = true;
    } else {
        tell_all(g, ask, now_ns);
    }
}

static void run_asks(struct consume *c, struct consume_ask *asks, uint64_t now_ns)
{
    while (asks) {
        struct consume_ask *ask = asks;
        asks = ask->next;
        ask->next = NULL;
        if (ask->op == CONSUME_FETCH) {
            fetch(c, ask, now_ns);
            continue;
        }
        if (ask->op == CONSUME_LIST)
            put_list(c, ask);
        else if (ask->op == CONSUME_OPEN)
            join(c, ask);
        else if (ask->op == CONSUME_LEAVE)
            leave(c, ask);
        else
            about_group(c, ask, now_ns);
        answer_later(c, ask);
    }
}

/* See 2. */
static void answer_all(struct consume *c)
{
    if (!c->answered)
        return;
    bool written = store(c);
    struct consume_ask *ask = c->answered;
    c->answered = NULL;
    c->answered_last = &c->answered;
    while (ask) {
        struct consume_ask *next = ask->next;
        bool wrote = ask->op == CONSUME_ACK || ask->op == CONSUME_REMOVE;
        if (!written && wrote && ask->reason == REASON_ok) {
            buf_clear(ask->out);
            refuse(ask, REASON_outcome_unknown,
                   "outcome unknown - it could not be written; say it again");
        }
        ask->done(ask);
        ask = next;
    }
}

/* ---- now and then ---------------------------------------------------------------------------- */

/* See 3. */
static void commit(struct consume *c)
{
    struct journal_reader *reader = NULL;
    struct error err = {""};
    uint64_t durable = journal_durable(c->opts.journal), floor = UINT64_MAX;
    for (const struct consume_group *g = c->groups; g; g = g->next)
        floor = g->written < floor ? g->written : floor;
    uint64_t from = c->groups ? journal_hold_from(c->opts.journal, c->opts.hold_bytes) : 0;
    if (floor < from && from <= durable)
        floor = from;
    if (c->committed && floor == c->cursor)
        return;
    int rc = 0;
    bool back = c->committed && floor < c->cursor; /* which a cursor does not move */
    if (floor == UINT64_MAX || back)
        rc = journal_forget_reader(c->opts.journal, CURSOR);
    if (!rc && floor != UINT64_MAX) {
        const struct journal_reader_opts opts = {.name = CURSOR, .has_start = true, .start = floor};
        rc = journal_reader_open(c->opts.journal, &opts, &reader, &err);
        if (!rc)
            rc = journal_reader_commit(reader, floor);
        journal_reader_close(reader);
    }
    if (rc)
        log_line(LOG_ERROR, "consume.commit_failed", "offset=%llu error=%s", U(floor),
                 err.text[0] ? err.text : strerror(-rc));
    c->committed = rc == 0;
    c->cursor = floor;
}

static bool account_is_gone(struct consume *c, uint64_t account)
{
    struct sink_names names = {{0}, {0}, {0}};
    c->opts.names(c->opts.arg, &(struct record){.account = account}, &names);
    return !names.account.len;
}

/* While the server was down nobody could fetch: after a start groups have some time. */
static void remove_those_that_are_no_more(struct consume *c, uint64_t now_ns)
{
    bool long_up = now_ns - c->began_ns > c->opts.idle_ns / USED_PART;
    int64_t now_us = clock_wall_us(), idle_us = (int64_t)(c->opts.idle_ns / NS_PER_US);
    for (struct consume_group *g = c->groups, *next; g; g = next) {
        next = g->next;
        bool gone = account_is_gone(c, g->account);
        bool used = g->waiting || g->consumers || now_us - g->used_us <= idle_us;
        bool idle = idle_us && long_up && !used;
        if (!gone && !idle)
            continue;
        log_line(LOG_WARN, "consume.removed", "account=%llu group=%s why=\"%s\"", U(g->account),
                 g->name, gone ? "the account is no more" : "nobody fetched from it");
        consume_group_send_away(g, REASON_not_found, "not found - the group was removed");
        consume_group_free(g);
        c->anew = c->changed = true;
    }
}

static void look(struct consume *c, uint64_t now_ns)
{
    if (now_ns - c->looked_ns < LOOK_NS)
        return;
    c->looked_ns = now_ns;
    remove_those_that_are_no_more(c, now_ns);
    for (struct consume_group *g = c->groups; g; g = g->next) {
        if (!g->waiting && g->reader && now_ns - g->read_ns > READ_IDLE_NS)
            consume_group_rest(g);
        uint64_t used_ns = (uint64_t)(g->used_us - g->written_us) * NS_PER_US;
        if (leases_floor(&g->leases) != g->written ||
            (c->opts.idle_ns && used_ns > c->opts.idle_ns / USED_PART))
            g->dirty = true;
    }
    if (now_ns >= c->retry_ns)
        store(c);
    commit(c);
}

struct consume_stats consume_group_stats(const struct consume_group *g)
{
    struct consume_stats s = g->stats;
    struct sink_names names = {{0}, {0}, {0}};
    uint64_t durable = journal_durable(g->c->opts.journal);
    g->c->opts.names(g->c->opts.arg, &(struct record){.account = g->account}, &names);
    s.account = g->account;
    snprintf(s.account_name, sizeof s.account_name, "%.*s", SLICE_ARG(names.account));
    snprintf(s.name, sizeof s.name, "%s", g->name);
    s.position = leases_floor(&g->leases);
    s.lag = durable > s.position ? durable - s.position : 0;
    s.leased = g->leases.out;
    s.waiting = g->waiting_count;
    s.connected = g->consumers_count;
    return s;
}

static void publish(struct consume *c, uint64_t now_ns)
{
    unsigned n = 0;
    struct consume_stats *fresh = c->fresh;
    c->changed = false;
    c->published_ns = now_ns;
    for (const struct consume_group *g = c->groups; g && n < c->opts.groups_max; g = g->next)
        fresh[n++] = consume_group_stats(g);
    pthread_mutex_lock(&c->lock);
    c->fresh = c->stats;
    c->stats = fresh;
    c->stats_count = n;
    pthread_mutex_unlock(&c->lock);
}

unsigned consume_stats(struct consume *c, struct consume_stats *ret, unsigned max)
{
    pthread_mutex_lock(&c->lock);
    unsigned n = c->stats_count < max ? c->stats_count : max;
    for (unsigned i = 0; i < n; i++)
        ret[i] = c->stats[i];
    pthread_mutex_unlock(&c->lock);
    uint64_t durable = journal_durable(c->opts.journal);
    for (unsigned i = 0; i < n; i++)
        ret[i].lag = durable > ret[i].position ? durable - ret[i].position : 0;
    return n;
}

/* ---- the thread ------------------------------------------------------------------------------ */

/* *ret_listens: somebody waits for what the journal does not have yet. Until when there is nothing
 * else to do; 0: there is. */
static uint64_t serve_all(struct consume *c, uint64_t now_ns, bool *ret_listens)
{
    uint64_t until = now_ns + LOOK_NS;
    bool again = false;
    *ret_listens = false;
    for (struct consume_group *g = c->groups; g; g = g->next) {
        if (c->quitting)
            consume_group_send_away(g, REASON_ok, "");
        again = consume_group_serve(g, now_ns) || again;
        *ret_listens = *ret_listens || g->waiting;
        until = g->end_ns < until ? g->end_ns : until;
        until = g->leases.due_ns < until ? g->leases.due_ns : until;
    }
    return again ? 0 : until;
}

static struct consume_ask *take_asks(struct consume *c)
{
    pthread_mutex_lock(&c->lock);
    struct consume_ask *asks = c->asks;
    c->asks = NULL;
    c->asks_last = &c->asks;
    c->quitting = c->quit;
    pthread_mutex_unlock(&c->lock);
    return asks;
}

/* Waits for news of the journal behind `seen`, for an ask, or until then. */
static void listen_to_journal(struct consume *c, uint64_t seen, uint64_t ns)
{
    struct journal_reader *ear = NULL;
    struct error err = {""};
    const struct journal_reader_opts opts = {.has_start = true, .start = seen};
    int rc = journal_reader_open(c->opts.journal, &opts, &ear, &err);
    CHECK(rc == 0); /* a nameless one fails for memory only */
    pthread_mutex_lock(&c->lock);
    bool called = c->asks || c->stop || c->quit != c->quitting;
    c->ear = called ? NULL : ear;
    pthread_mutex_unlock(&c->lock);
    if (!called)
        journal_reader_wait(ear, ns);
    pthread_mutex_lock(&c->lock);
    c->ear = NULL;
    pthread_mutex_unlock(&c->lock);
    journal_reader_close(ear);
}

static void sleep_until(struct consume *c, uint64_t until_ns)
{
    pthread_mutex_lock(&c->lock);
    while (!c->asks && !c->stop && c->quit == c->quitting &&
           cond_wait_until(&c->woken, &c->lock, until_ns))
        ;
    pthread_mutex_unlock(&c->lock);
}

static bool told_to_stop(struct consume *c)
{
    pthread_mutex_lock(&c->lock);
    bool stop = c->stop;
    pthread_mutex_unlock(&c->lock);
    return stop;
}

static void run(void *arg)
{
    struct consume *c = arg;
    while (!told_to_stop(c)) {
        bool listens;
        uint64_t seen = journal_durable(c->opts.journal);
        uint64_t now_ns = clock_mono_ns();
        run_asks(c, take_asks(c), now_ns);
        answer_all(c);
        look(c, now_ns);
        uint64_t until_ns = serve_all(c, now_ns, &listens);
        now_ns = clock_mono_ns();
        if (c->changed && (until_ns > now_ns || now_ns - c->published_ns > PUBLISH_NS))
            publish(c, now_ns);
        if (until_ns <= now_ns)
            continue;
        if (listens)
            listen_to_journal(c, seen, until_ns - now_ns);
        else
            sleep_until(c, until_ns);
    }
    run_asks(c, take_asks(c), clock_mono_ns()); /* consumers that have left */
    answer_all(c);
    c->looked_ns = 0;
    look(c, clock_mono_ns());
}

static void call(struct consume *c)
{
    pthread_cond_signal(&c->woken);
    if (c->ear)
        journal_reader_wake(c->ear);
}

void consume_submit(struct consume *c, struct consume_ask *ask)
{
    ask->next = NULL;
    ask->who = NULL;
    ask->reason = REASON_ok;
    pthread_mutex_lock(&c->lock);
    *c->asks_last = ask;
    c->asks_last = &ask->next;
    call(c);
    pthread_mutex_unlock(&c->lock);
}

void consume_quit(struct consume *c)
{
    pthread_mutex_lock(&c->lock);
    c->quit = true;
    call(c);
    pthread_mutex_unlock(&c->lock);
}

/* ---- life ------------------------------------------------------------------------------------ */

static bool on_entry(void *arg, struct slice entry)
{
    return consume_group_decode(arg, entry);
}

static void destroy(struct consume *c)
{
    while (c->groups)
        consume_group_free(c->groups);
    group_file_close(c->file);
    sealer_free(c->sealer);
    free(c->granted);
    free(c->stats);
    free(c->fresh);
    buf_fini(&c->opened);
    pthread_cond_destroy(&c->woken);
    pthread_mutex_destroy(&c->lock);
    free(c);
}

static struct consume *make(const struct consume_opts *opts)
{
    uint64_t epoch;
    struct consume *c = calloc(1, sizeof *c);
    CHECK(c);
    c->opts = *opts;
    snprintf(c->path, sizeof c->path, "%s", opts->path);
    c->opts.path = c->path;
    c->sealer = opts->keyring ? sealer_new(opts->keyring) : NULL;
    rand_secret(&epoch, sizeof epoch);
    c->leases = ((epoch >> LEASE_BITS) | 1) << LEASE_BITS;
    c->began_ns = clock_mono_ns();
    c->asks_last = &c->asks;
    c->answered_last = &c->answered;
    c->granted = calloc(CONSUME_MESSAGES_MAX, sizeof(struct lease_message *));
    c->stats = calloc(opts->groups_max, sizeof *c->stats);
    c->fresh = calloc(opts->groups_max, sizeof *c->fresh);
    CHECK(c->granted && c->stats && c->fresh);
    buf_init(&c->opened, BATCH_BYTES_MAX);
    cond_init(&c->woken);
    pthread_mutex_init(&c->lock, NULL);
    return c;
}

int consume_start(const struct consume_opts *opts, struct consume **ret, struct error *err)
{
    struct consume *c = make(opts);
    struct journal_position at = journal_position(opts->journal);
    int rc = group_file_open(opts->disk, opts->path, at.log_id, on_entry, c, &c->file, err);
    for (const struct consume_group *g = c->groups; !rc && g; g = g->next)
        if (g->leases.next > at.durable)
            rc = error_set(err, -EINVAL,
                           "%s: group %s is at record %llu, but the log ends before: it is not the "
                           "log the group has read; move the file away to go on",
                           opts->path, g->name, U(g->leases.next));
    if (rc) {
        destroy(c);
        return rc;
    }
    publish(c, 0);
    c->thread = thread_start("consume", run, c);
    *ret = c;
    return 0;
}

void consume_stop(struct consume *c)
{
    if (!c)
        return;
    pthread_mutex_lock(&c->lock);
    c->stop = true;
    call(c);
    pthread_mutex_unlock(&c->lock);
    pthread_join(c->thread, NULL);
    destroy(c);
}
