/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The clerk settles a flight in this order: remember the result (slot or negative cache), then take
 * the flight off the desk. A worker that finds no flight under the lock looks at slot and negative
 * cache again before it makes one, so no secret is ever hashed twice for want of a moment.
 *
 * Only the clerk runs, finishes and frees flights, so it may look at one that runs without the
 * lock; its tickets, which workers add to, only with it.
 *
 * Those who failed lately get one part in SUSPECTS_SHARE of the pool's time while there may be
 * somebody else: one who waits, or who was told when to come back. Turns alone (desk.h) would not
 * do: a wrong secret computes more hashes than a right one, and who was turned away has no turn.
 *
 * A hash thread of idle priority may get no CPU for long while it has a job. When all of them have
 * starved so, the trickle computes such a job again, or the next; the first result counts, and the
 * flight is freed when the last seat is done. While they get on, it stays away: it is the only one
 * that could hold a worker up.
 */
#include "gate/clerk.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/metric.h"
#include "base/thread.h"
#include "gate/verified.h"

#define APPOINTMENT_MAX_NS (600 * NS_PER_S)
#define TICK_MS            10 /* while something waits: expiry, the trickle's rest */
#define SUSPECTS_SHARE     16u
#define QUIET_LEAST_NS     NS_PER_S         /* shorter times tell nothing of the process */
#define QUIET_TICK_MS      5000             /* how long such a time is at the most, about */
#define STARVED_FACTOR     8u               /* a job this many times its CPU time old, ... */
#define STARVED_LEAST_NS   (50 * NS_PER_MS) /* ... and at least this old, has starved */

void clerk_wake(struct shield *s)
{
    uint64_t one = 1;
    ssize_t n = write(s->wake_fd, &one, sizeof one);
    CHECK(n == sizeof one);
}

/* ---- estimates ------------------------------------------------------------------------------ */

static void average(_Atomic uint64_t *at, uint64_t value)
{
    uint64_t was = *at;
    *at = was ? (was * 7 + value) / 8 : value;
}

/* Wall time of one check: as measured, else what the dearest one should take. */
static uint64_t check_ns(struct shield *s)
{
    if (s->wall_ns)
        return s->wall_ns;
    return verifier_estimate_ns(decoy_dearest(&s->decoy));
}

uint64_t clerk_wait_ns(struct shield *s, unsigned ahead)
{
    uint64_t each = s->each_ns;
    return each ? ahead * each : ahead * check_ns(s) / s->opts.hash_threads;
}

/* CPU time of the process. */
static uint64_t process_cpu_ns(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (uint64_t)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * NS_PER_S +
           (uint64_t)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) * NS_PER_US;
}

/*
 * No hash was computed for that long, although appointments were given: who was to come then did
 * not, and others who were told of later ones may not either. So for each second of it half of
 * the time that is given away is given anew. Where all come there is no such second: who is told
 * whole ones comes at most one late, and `each` on top of that.
 */
static void take_back_appointments(struct shield *s, uint64_t idle_ns, uint64_t now)
{
    pthread_mutex_lock(&s->lock);
    for (unsigned suspect = 0; suspect < 2; suspect++) {
        uint64_t *at = &s->appointment_ns[suspect];
        uint64_t each = clerk_wait_ns(s, suspect ? SUSPECTS_SHARE : 1);
        uint64_t halvings = idle_ns / (NS_PER_S + 2 * each);
        if (*at > now)
            *at = now + ((*at - now) >> (halvings < 63 ? halvings : 63));
    }
    pthread_mutex_unlock(&s->lock);
}

/* Ends a time in which no hash was computed, and begins another if none is now. */
static void note_quiet(struct shield *s, uint64_t now)
{
    bool quiet = s->running_count == 0;
    uint64_t took = s->quiet_from_ns ? now - s->quiet_from_ns : 0;
    if (quiet == (s->quiet_from_ns != 0) && took < QUIET_TICK_MS * NS_PER_MS)
        return;
    uint64_t cpu = process_cpu_ns();
    if (took >= QUIET_LEAST_NS) {
        s->busy_ns = cpu - s->quiet_cpu_ns;
        s->busy_wall_ns = took;
        take_back_appointments(s, took, now);
    }
    s->quiet_from_ns = quiet ? now : 0;
    s->quiet_cpu_ns = cpu;
}

static void guess_tempo(struct shield *s)
{
    uint64_t cpu = s->cpu_ns ? s->cpu_ns : check_ns(s);
    tempo_guess(&s->tempo, tempo_expected_ns(cpu, s->opts.hash_threads, s->cores, s->busy_ns,
                                             s->busy_wall_ns));
    s->each_ns = tempo_each_ns(&s->tempo);
}

/* When the pool has done what waits for it now, from now on: nobody waits for longer than the
 * longest time, whatever the pace was thought to be when he came. */
static uint64_t pool_free_ns(struct shield *s, uint64_t now)
{
    uint64_t wait = clerk_wait_ns(s, desk_flights(s->desk) + s->running_count);
    uint64_t last = desk_newest_ns(s->desk) + s->opts.hash_wait_ns;
    uint64_t most = last > now ? last - now : 0;
    return wait < most ? wait : most;
}

uint64_t clerk_retry_ns(struct shield *s, bool suspect)
{
    uint64_t *at = &s->appointment_ns[suspect];
    uint64_t now = clock_mono_ns(), each = clerk_wait_ns(s, suspect ? SUSPECTS_SHARE : 1);
    /* Somewhat before the pool is free, so that it is not idle until they are here. They are told
     * whole seconds, so those of a second may come together; the queue lets them in still. */
    uint64_t target = s->opts.hash_target_ns ? s->opts.hash_target_ns : s->opts.hash_wait_ns;
    uint64_t wait = pool_free_ns(s, now);
    uint64_t spare = target > NS_PER_S ? target - NS_PER_S : 0;
    uint64_t early = wait / 2 < spare / 2 ? wait / 2 : spare / 2;
    if (*at < now + wait - early)
        *at = now + wait - early;
    if (*at < now + APPOINTMENT_MAX_NS)
        *at += each;
    return *at - now + shield_random(s, each + 1);
}

void clerk_show_queue(struct shield *s)
{
    metric_set(METRIC_hash_queue_length, desk_waiting(s->desk));
    metric_set(METRIC_hash_queue_admin, desk_ready(s->desk, DESK_ADMIN));
    metric_set(METRIC_hash_queue_known, desk_ready(s->desk, DESK_KNOWN));
    metric_set(METRIC_hash_queue_new, desk_ready(s->desk, DESK_NEW));
    metric_set(METRIC_hash_queue_suspect, desk_ready(s->desk, DESK_SUSPECT));
}

/* ---- answering ------------------------------------------------------------------------------ */

/* Returns whether its source failed lately. */
static bool free_ticket(struct shield *s, struct ticket *t)
{
    pthread_mutex_lock(&s->lock);
    bool suspect = desk_ticket_suspect(t);
    metric_observe(METRIC_hash_wait, clock_mono_ns() - t->at_ns);
    desk_ticket_free(s->desk, t);
    clerk_show_queue(s);
    pthread_mutex_unlock(&s->lock);
    return suspect;
}

static void answer(struct shield *s, struct ticket *t, enum reason reason, uint64_t retry_ns)
{
    struct shield_wait *w = t->wait;
    bool suspect = free_ticket(s, t);
    w->hold = reason == REASON_too_many_failures || (reason == REASON_busy && suspect);
    w->reason = reason;
    w->retry_ns = retry_ns;
    w->done(w); /* may free it */
}

static void settle(struct shield *s, struct flight *f, enum reason reason, uint64_t retry_ns)
{
    struct ticket_list tickets = TAILQ_HEAD_INITIALIZER(tickets);
    uint64_t now = clock_mono_ns();
    pthread_mutex_lock(&s->lock);
    desk_finish(s->desk, f, &tickets);
    pthread_mutex_unlock(&s->lock);
    struct ticket *t;
    while ((t = TAILQ_FIRST(&tickets))) {
        TAILQ_REMOVE(&tickets, t, by_flight);
        if (reason == f->wrong)
            shield_failed(s, f->lane_id, desk_ticket_source(t), now);
        else if (reason == REASON_ok)
            shield_succeeded(s, desk_ticket_source(t));
        answer(s, t, reason, retry_ns);
    }
}

/* ---- results -------------------------------------------------------------------------------- */

/* Whether the credential still is what was checked: it may have changed while the check waited. */
static bool still_current(struct shield *s, const struct credential *c, uint64_t *ret_version)
{
    *ret_version = c->version;
    if (!s->opts.find)
        return true;
    struct credential *current = s->opts.find(s->opts.find_arg, c->number);
    if (!current)
        return false;
    bool same = current->verifier_kind == c->verifier_kind && !current->disabled &&
                slice_eq(current->verifier, c->verifier);
    *ret_version = current->version;
    credential_unref(current);
    return same;
}

static void conclude(struct shield *s, struct flight *f, bool right)
{
    uint64_t now = clock_mono_ns(), version;
    if (!right) {
        negative_put(s->negative, f->tag, now + s->opts.negative_ttl_ns, now);
    } else if (still_current(s, f->credential, &version)) {
        verified_put(f->credential->live, f->tag, version, shield_check_at_ns(s, now));
        s->verified++;
    } else {
        right = false;
    }
    settle(s, f, right ? REASON_ok : f->wrong, 0);
}

/* A hash of one who failed lately began at `began_ns` and takes `took_ns`. */
static void rest_suspects(struct shield *s, uint64_t began_ns, uint64_t took_ns)
{
    uint64_t until = began_ns + SUSPECTS_SHARE * took_ns / s->opts.hash_threads;
    if (s->suspects_rest_ns < until)
        s->suspects_rest_ns = until;
}

static void collect(struct shield *s)
{
    for (unsigned i = 0; i < hashpool_seats(s->pool); i++) {
        struct hash_result r;
        if (!hashpool_collect(s->pool, i, clock_mono_ns(), &r))
            continue;
        struct flight *f = s->running[i];
        if (f->suspect)
            rest_suspects(s, f->started_ns, r.wall_ns);
        s->running[i] = NULL;
        s->running_count--;
        f->seats--;
        metric_add(METRIC_hashes_run, r.hashes);
        metric_add(METRIC_hashes_decoy, r.decoys);
        metric_observe(METRIC_hash_latency, r.wall_ns);
        average(&s->wall_ns, r.wall_ns);
        bool first = s->cpu_ns == 0;
        average(&s->cpu_ns, r.cpu_ns);
        if (first) /* now it is more than a guess */
            guess_tempo(s);
        if (!f->over) {
            f->over = true;
            tempo_done(&s->tempo, clock_mono_ns());
            s->each_ns = tempo_each_ns(&s->tempo);
            conclude(s, f, r.right);
        }
        if (f->seats == 0)
            desk_flight_free(f);
    }
}

/* ---- turning away ---------------------------------------------------------------------------- */

static void expire(struct shield *s)
{
    uint64_t now = clock_mono_ns();
    for (;;) {
        pthread_mutex_lock(&s->lock);
        struct ticket *t =
            now >= s->opts.hash_wait_ns ? desk_expire(s->desk, now - s->opts.hash_wait_ns) : NULL;
        uint64_t retry = t ? clerk_retry_ns(s, desk_ticket_suspect(t)) : 0;
        pthread_mutex_unlock(&s->lock);
        if (!t)
            return;
        metric_add(METRIC_shield_busy, 1);
        answer(s, t, REASON_busy, retry);
    }
}

/* Takes the tickets off whose address, or all for this credential, failed too often meanwhile.
 * Returns whether any is left. */
static bool turn_away_failing(struct shield *s, struct flight *f, uint64_t now)
{
    struct ticket_list away = TAILQ_HEAD_INITIALIZER(away);
    struct ticket *t, *next;
    uint64_t last = 0, wait = 0;
    bool asked = false;
    pthread_mutex_lock(&s->lock);
    for (t = TAILQ_FIRST(&f->tickets); t; t = next) {
        next = TAILQ_NEXT(t, by_flight);
        if (!asked || desk_ticket_source(t) != last)
            wait = shield_wait_ns(s, f->lane_id, desk_ticket_source(t), now);
        last = desk_ticket_source(t);
        asked = true;
        if (wait) {
            desk_take(s->desk, t);
            t->wait->retry_ns = wait; /* a success meanwhile would make it none */
            TAILQ_INSERT_TAIL(&away, t, by_flight);
        }
    }
    bool left = !TAILQ_EMPTY(&f->tickets);
    pthread_mutex_unlock(&s->lock);
    while ((t = TAILQ_FIRST(&away))) {
        TAILQ_REMOVE(&away, t, by_flight);
        metric_add(METRIC_shield_failure_window, 1);
        answer(s, t, REASON_too_many_failures, t->wait->retry_ns);
    }
    return left;
}

/* Answers the flight without a hash, if what happened while it waited allows that. */
static bool settle_unhashed(struct shield *s, struct flight *f)
{
    uint64_t now = clock_mono_ns();
    if (f->job.real && verified_look(f->credential->live, f->tag, now, now) == VERIFIED_YES) {
        settle(s, f, REASON_ok, 0);
    } else if (negative_has(s->negative, f->tag, now)) {
        metric_add(METRIC_shield_negative_hits, 1);
        settle(s, f, f->wrong, 0);
    } else if (!turn_away_failing(s, f, now)) {
        settle(s, f, REASON_busy, check_ns(s)); /* who joined in this moment; mostly nobody */
    } else {
        return false;
    }
    desk_flight_free(f);
    return true;
}

/* ---- handing out ----------------------------------------------------------------------------- */

/* Whether all idle threads have a job and get no CPU for it. *ret_oldest: the one that waits
 * longest for its result, for the trickle to compute too; NULL: none. */
static bool all_starve(struct shield *s, uint64_t now, struct flight **ret_oldest)
{
    uint64_t age = STARVED_FACTOR * s->cpu_ns;
    if (age < STARVED_LEAST_NS)
        age = STARVED_LEAST_NS;
    struct flight *oldest = NULL;
    for (unsigned i = 0; i < s->opts.hash_threads; i++) {
        struct flight *f = s->running[i];
        if (!f || f->started_ns + age > now)
            return false;
        if (!f->over && f->seats == 1 && (!oldest || f->started_ns < oldest->started_ns))
            oldest = f;
    }
    *ret_oldest = oldest;
    return true;
}

static struct flight *next_flight(struct shield *s, uint64_t now)
{
    for (;;) {
        pthread_mutex_lock(&s->lock);
        bool others = now < s->appointment_ns[0] || desk_ready(s->desk, DESK_KNOWN) ||
                      desk_ready(s->desk, DESK_NEW);
        struct flight *f = desk_next(s->desk, !others || now >= s->suspects_rest_ns);
        pthread_mutex_unlock(&s->lock);
        if (f && settle_unhashed(s, f))
            continue;
        if (f && f->suspect)
            rest_suspects(s, now, check_ns(s));
        return f;
    }
}

static void note_full(struct shield *s, uint64_t now)
{
    bool full = true;
    for (unsigned i = 0; i < s->opts.hash_threads; i++)
        full &= s->running[i] != NULL;
    if (full && tempo_is_stale(&s->tempo, now))
        guess_tempo(s);
    tempo_full(&s->tempo, full, now);
}

static void hand_out(struct shield *s)
{
    for (unsigned i = 0; i < hashpool_seats(s->pool); i++) {
        uint64_t now = clock_mono_ns();
        if (!hashpool_ready(s->pool, i, now))
            continue;
        struct flight *f = NULL;
        if (hashpool_is_trickle(s->pool, i) && !all_starve(s, now, &f))
            continue;
        if (!f) {
            f = next_flight(s, now);
            if (!f)
                continue; /* the trickle may still have a starved one */
            f->started_ns = now;
        }
        f->seats++;
        s->running[i] = f;
        s->running_count++;
        hashpool_give(s->pool, i, &f->job);
    }
    uint64_t now = clock_mono_ns();
    note_quiet(s, now);
    note_full(s, now);
}

/* ---- the thread ------------------------------------------------------------------------------ */

static bool wait_for_work(struct shield *s)
{
    pthread_mutex_lock(&s->lock);
    bool stopping = s->stopping;
    bool pending = desk_waiting(s->desk) > 0;
    pthread_mutex_unlock(&s->lock);
    if (stopping)
        return false;
    struct pollfd p = {.fd = s->wake_fd, .events = POLLIN};
    if (poll(&p, 1, pending || s->running_count ? TICK_MS : QUIET_TICK_MS) > 0) {
        uint64_t count;
        ssize_t n = read(s->wake_fd, &count, sizeof count);
        CHECK(n == sizeof count);
    }
    return true;
}

static void run_clerk(void *arg)
{
    struct shield *s = arg;
    while (wait_for_work(s)) {
        collect(s);
        expire(s);
        hand_out(s);
    }
}

int clerk_start(struct shield *s)
{
    s->pool = hashpool_new(s->opts.hash_threads, s->opts.hash_idle_priority, s->wake_fd);
    if (!s->pool)
        return -ENOMEM;
    s->running = calloc(hashpool_seats(s->pool), sizeof(struct flight *));
    if (!s->running)
        return -ENOMEM;
    s->cores = thread_cores();
    s->clerk = thread_start("hash-clerk", run_clerk, s);
    s->clerk_runs = true;
    return 0;
}

void clerk_stop(struct shield *s)
{
    if (s->clerk_runs) {
        pthread_mutex_lock(&s->lock);
        s->stopping = true;
        pthread_mutex_unlock(&s->lock);
        clerk_wake(s);
        pthread_join(s->clerk, NULL);
        for (;;) {
            pthread_mutex_lock(&s->lock);
            struct ticket *t = desk_expire(s->desk, UINT64_MAX);
            pthread_mutex_unlock(&s->lock);
            if (!t)
                break;
            answer(s, t, REASON_stopping, 0);
        }
    }
    hashpool_free(s->pool); /* waits for what is being computed */
    for (unsigned i = 0; s->running && s->pool && i < s->opts.hash_threads + 1; i++) {
        if (i >= s->opts.hash_threads && !s->opts.hash_idle_priority)
            break;
        struct flight *f = s->running[i];
        if (!f || --f->seats > 0)
            continue;
        struct ticket_list none = TAILQ_HEAD_INITIALIZER(none);
        if (!f->over)
            desk_finish(s->desk, f, &none);
        desk_flight_free(f);
    }
    free(s->running);
}
