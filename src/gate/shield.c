/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The order of a check, and why:
 *  1. the slot (or, for a fast verifier, the digest): a right secret known to be right is answered
 *     before any window is asked, so nobody's failures lock out a device that works;
 *  2. failure windows, 3. negative cache: both before any hash;
 *  4. a flight on the desk: joined if it is under way, else made.
 *
 * What decides whether a remembered secret is still good is the stored hash, which is in its tag.
 * At the TTL the current record is fetched: the same hash keeps the slot under the new version, so
 * a changed plan or role of ten thousand devices costs no password hash at all; another hash, or no
 * record, empties it.
 */
#include "gate/shield.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/metric.h"
#include "gate/clerk.h"
#include "gate/verified.h"

/* Domains of the tags. */
enum { DOMAIN_CRYPT = 1, DOMAIN_FAST, DOMAIN_UNKNOWN };

/* One check under way in its caller. */
struct question {
    struct credential *credential; /* the current record, or NULL */
    struct credential *held;       /* a reference to give back, when it is not the caller's */
    struct slice unknown, secret;
    uint64_t source, now_ns;
    uint64_t lane; /* who is asked about, in flights and failure windows */
    uint8_t tag[MAC_TAG_BYTES];
};

/* ---- life ------------------------------------------------------------------------------------ */

struct shield *shield_new(const struct shield_opts *opts)
{
    struct shield *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    s->opts = *opts;
    if (!s->opts.hash_threads) {
        long cores = sysconf(_SC_NPROCESSORS_ONLN);
        s->opts.hash_threads = cores > 0 ? (unsigned)cores : 1;
    }
    for (unsigned i = 0; i < opts->fail_address.windows_count; i++) {
        uint64_t ns = opts->fail_address.windows[i].window_ms * NS_PER_MS;
        if (ns > s->fail_window_ns)
            s->fail_window_ns = ns;
    }
    mac_key_new(&s->key);
    rand_secret(&s->seed, sizeof s->seed);
    uint64_t jitter;
    rand_secret(&jitter, sizeof jitter);
    s->jitter = jitter;
    CHECK(pthread_mutex_init(&s->lock, NULL) == 0);
    s->negative = negative_new(opts->negative_max);
    s->desk = desk_new(opts->hash_queue_max, opts->hash_per_source_max);
    s->wake_fd = eventfd(0, EFD_CLOEXEC);
    if (!s->negative || !s->desk || s->wake_fd < 0 || clerk_start(s) != 0) {
        shield_free(s);
        return NULL;
    }
    return s;
}

void shield_free(struct shield *s)
{
    if (!s)
        return;
    clerk_stop(s);
    desk_free(s->desk);
    negative_free(s->negative);
    if (s->wake_fd >= 0)
        close(s->wake_fd);
    pthread_mutex_destroy(&s->lock);
    mac_key_wipe(&s->key);
    free(s);
}

void shield_note_verifier(struct shield *s, struct slice stored)
{
    struct verifier_cost c = verifier_cost(stored);
    if (c.class != VERIFIER_BAD)
        decoy_note(&s->decoy, c);
}

uint64_t shield_verified(const struct shield *s)
{
    return s->verified;
}

bool shield_is_full(const struct shield *s)
{
    return atomic_load_explicit(&s->running_count, memory_order_relaxed) >= s->cores;
}

struct shield_stats shield_stats(struct shield *s)
{
    pthread_mutex_lock(&s->lock);
    unsigned waiting = desk_waiting(s->desk);
    pthread_mutex_unlock(&s->lock);
    return (struct shield_stats){
        .queue_length = waiting,
        .queue_max = s->opts.hash_queue_max,
        .threads = s->opts.hash_threads,
        .running = s->running_count,
        .negative_entries = negative_count(s->negative, clock_mono_ns()),
    };
}

/* ---- shared with the clerk ------------------------------------------------------------------- */

uint64_t shield_random(struct shield *s, uint64_t limit)
{
    struct rand r = {atomic_fetch_add(&s->jitter, 0x9e3779b97f4a7c15ull)};
    return rand_below(&r, limit);
}

uint64_t shield_check_at_ns(struct shield *s, uint64_t now_ns)
{
    uint64_t ttl = s->opts.verified_ttl_ns;
    return now_ns + ttl - ttl / 4 + shield_random(s, ttl / 2 + 1);
}

static struct throttle_ask lane_ask(const struct shield *s, enum throttle_kind kind, uint64_t lane)
{
    return (struct throttle_ask){{kind, lane}, &s->opts.fail_credential};
}

/* One address on one lane. */
static struct throttle_ask pair_ask(const struct shield *s, uint64_t lane, uint64_t source)
{
    const uint64_t both[] = {lane, source};
    return lane_ask(s, THROTTLE_FAILURE_PAIR, XXH3_64bits_withSeed(both, sizeof both, s->seed));
}

static struct throttle_ask source_ask(const struct shield *s, uint64_t source)
{
    return (struct throttle_ask){{THROTTLE_FAILURE_ADDRESS, source}, &s->opts.fail_address};
}

static uint64_t wait_of(struct shield *s, struct throttle_ask ask, uint64_t now_ns)
{
    struct throttle_verdict v;
    throttle_peek(s->opts.throttle, &ask, 1, now_ns, &v);
    return v.allow ? 0 : v.retry_ns;
}

static bool failed_here(struct shield *s, uint64_t lane, uint64_t source, uint64_t now_ns)
{
    struct throttle_ask pair = pair_ask(s, lane, source);
    bool failed = false;
    for (unsigned i = 0; i < s->opts.fail_credential.windows_count && !failed; i++)
        failed = throttle_used(s->opts.throttle, &pair, i, now_ns) > 0;
    return failed;
}

static uint64_t source_wait_ns(struct shield *s, uint64_t source, uint64_t now_ns)
{
    return wait_of(s, source_ask(s, source), now_ns);
}

/* An address that has not failed here is not refused for how often others did, but for how many: so
 * one that goes on failing shuts out itself, and not the owner of the secret. */
uint64_t shield_wait_ns(struct shield *s, uint64_t lane, uint64_t source, uint64_t now_ns)
{
    bool failed = failed_here(s, lane, source, now_ns);
    enum throttle_kind kind = failed ? THROTTLE_FAILURE_CREDENTIAL : THROTTLE_FAILURE_FIRST;
    uint64_t by_lane = wait_of(s, lane_ask(s, kind, lane), now_ns);
    uint64_t by_source = source_wait_ns(s, source, now_ns);
    return by_lane > by_source ? by_lane : by_source;
}

void shield_failed(struct shield *s, uint64_t lane, uint64_t source, uint64_t now_ns)
{
    const struct throttle_ask all[] = {
        source_ask(s, source), lane_ask(s, THROTTLE_FAILURE_CREDENTIAL, lane),
        pair_ask(s, lane, source), lane_ask(s, THROTTLE_FAILURE_FIRST, lane)};
    unsigned n = failed_here(s, lane, source, now_ns) ? 3 : 4;
    for (unsigned i = 0; i < n; i++)
        throttle_charge(s->opts.throttle, &all[i], 1, now_ns);
    s->failed_at_ns = now_ns;
}

/* Clears the address, if any address can have a failure left at all. */
static void succeeded_now(struct shield *s, uint64_t source, uint64_t now_ns)
{
    uint64_t failed_at = s->failed_at_ns;
    if (failed_at && now_ns <= failed_at + s->fail_window_ns)
        shield_succeeded(s, source);
}

void shield_succeeded(struct shield *s, uint64_t source)
{
    throttle_clear(s->opts.throttle, source_ask(s, source).subject);
}

/* ---- one check ------------------------------------------------------------------------------- */

static enum reason wrong_reason(const struct question *q)
{
    return q->credential && q->credential->kind == CREDENTIAL_KEY ? REASON_bad_key
                                                                  : REASON_bad_device;
}

static void make_tag(const struct shield *s, struct question *q)
{
    const struct credential *c = q->credential;
    if (!c) {
        const struct slice fields[] = {q->unknown, q->secret};
        mac_tag(&s->key, DOMAIN_UNKNOWN, fields, 2, q->tag);
        return;
    }
    bool fast = c->verifier_kind == VERIFIER_FAST;
    const struct slice fields[] = {
        slice_of(&c->account->number, sizeof c->account->number),
        slice_of(&c->number, sizeof c->number),
        fast ? slice_of(c->fast, sizeof c->fast) : c->verifier,
        q->secret,
    };
    mac_tag(&s->key, fast ? DOMAIN_FAST : DOMAIN_CRYPT, fields, 4, q->tag);
}

/* Known devices count by number and stored hash, so that the failures of an old secret do not stand
 * in the way of a new one; unknown ones by a keyed hash with the top bit set. */
static uint64_t lane_of(const struct shield *s, const struct question *q)
{
    const struct credential *c = q->credential;
    if (c) {
        struct slice stored =
            c->verifier_kind == VERIFIER_FAST ? slice_of(c->fast, sizeof c->fast) : c->verifier;
        return XXH3_64bits_withSeed(stored.ptr, stored.len, s->seed ^ c->number) >> 1;
    }
    return XXH3_64bits_withSeed(q->unknown.ptr, q->unknown.len, s->seed) | 1ull << 63;
}

static bool fast_is_right(const struct question *q)
{
    uint8_t digest[32];
    shield_fast_digest(q->secret, digest);
    return CRYPTO_memcmp(digest, q->credential->fast, sizeof digest) == 0;
}

/* From here on there is no such device. */
static void forget_device(struct question *q)
{
    q->unknown = q->credential->name;
    q->credential = NULL;
}

/* The TTL has passed: takes the credential's current record for the rest of the check. Returns
 * whether the slot is still good under it. */
static bool revalidate(struct shield *s, struct question *q)
{
    struct credential_live *live = q->credential->live;
    metric_add(METRIC_shield_revalidated, 1);
    if (!s->opts.find)
        return verified_extend(live, q->tag, q->credential->version,
                               shield_check_at_ns(s, q->now_ns));
    struct credential *current = s->opts.find(s->opts.find_arg, q->credential->number);
    if (!current || current->disabled) {
        verified_drop(live, q->tag);
        credential_unref(current);
        forget_device(q);
        make_tag(s, q);
        return false;
    }
    q->credential = q->held = current;
    make_tag(s, q);
    bool crypt = current->verifier_kind == VERIFIER_CRYPT;
    bool kept = verified_extend(live, q->tag, current->version, shield_check_at_ns(s, q->now_ns));
    return crypt ? kept : fast_is_right(q);
}

/* Whether the secret is right without a password hash. Makes the tag where one is needed. */
static bool is_warm(struct shield *s, struct question *q)
{
    if (q->credential && q->credential->verifier_kind == VERIFIER_FAST) {
        if (fast_is_right(q))
            return true;
        make_tag(s, q);
        return false;
    }
    make_tag(s, q);
    if (!q->credential)
        return false;
    /* Should this thread be held up, another one looks at the version in a second. */
    switch (verified_look(q->credential->live, q->tag, q->now_ns, q->now_ns + NS_PER_S)) {
    case VERIFIED_YES:
        return true;
    case VERIFIED_STALE:
        return revalidate(s, q);
    case VERIFIED_NO:
        break;
    }
    return false;
}

static enum shield_answer refuse(struct shield_wait *w, enum reason reason, uint64_t retry_ns)
{
    w->reason = reason;
    w->retry_ns = retry_ns;
    w->hold = reason == REASON_too_many_failures;
    return SHIELD_REFUSED;
}

static enum shield_answer refuse_wrong(struct shield *s, const struct question *q,
                                       struct shield_wait *w)
{
    shield_failed(s, q->lane, q->source, q->now_ns);
    return refuse(w, wrong_reason(q), 0);
}

/* Under the lock. */
static enum shield_answer refuse_busy(struct shield *s, struct shield_wait *w, bool suspect)
{
    metric_add(METRIC_shield_busy, 1);
    enum shield_answer refused = refuse(w, REASON_busy, clerk_retry_ns(s, suspect));
    w->hold = suspect;
    return refused;
}

/* Whether it has a stored hash that can be checked. A damaged one is treated as no device. */
static bool has_crypt(const struct credential *c)
{
    return c && c->verifier_kind == VERIFIER_CRYPT && !shield_verifier_problem(c->verifier);
}

/* The hash to compute. A secret that crypt cannot check takes just as long and is wrong: a stand-in
 * is hashed instead, never a part of it. */
static struct flight *make_flight(const struct shield *s, const struct question *q)
{
    struct flight *f = desk_flight_new();
    if (!f)
        return NULL;
    const struct credential *c = q->credential;
    struct hash_job *job = &f->job;
    job->decoy = &s->decoy;
    /* Its own, so to speak: by a keyed hash of the id, or the stored one, hence always the same. */
    job->cost = decoy_kind(&s->decoy, (unsigned)(q->lane % decoy_kinds(&s->decoy)));
    if (has_crypt(c)) {
        job->cost = verifier_cost(c->verifier);
        job->real = verifier_can_check(job->cost, q->secret);
        CHECK(c->verifier.len < sizeof job->stored);
        memcpy(job->stored, c->verifier.ptr, c->verifier.len);
    } else {
        verifier_setting(job->cost, job->stored);
    }
    if (verifier_can_check(job->cost, q->secret))
        memcpy(job->secret, q->secret.ptr, q->secret.len);
    else
        memcpy(job->secret, "stand-in", 8);
    memcpy(f->tag, q->tag, sizeof f->tag);
    f->lane_id = q->lane;
    f->wrong = wrong_reason(q);
    f->credential = c ? credential_ref(q->credential) : NULL;
    return f;
}

/* Under the lock: the flight of this secret may have landed a moment ago. */
static bool landed(struct shield *s, struct question *q, struct shield_wait *w,
                   enum shield_answer *ret)
{
    const struct credential *c = q->credential;
    if (c && c->verifier_kind == VERIFIER_CRYPT &&
        verified_look(c->live, q->tag, q->now_ns, q->now_ns) == VERIFIED_YES) {
        *ret = SHIELD_RIGHT;
        return true;
    }
    if (negative_has(s->negative, q->tag, q->now_ns)) {
        metric_add(METRIC_shield_negative_hits, 1);
        *ret = refuse_wrong(s, q, w);
        return true;
    }
    return false;
}

static enum desk_class class_of(const struct shield *s, const struct question *q)
{
    const struct credential *c = q->credential;
    return !c                                                   ? DESK_NEW
           : c->permissions & s->opts.admin_permissions         ? DESK_ADMIN
           : __atomic_load_n(&c->live->known, __ATOMIC_RELAXED) ? DESK_KNOWN
                                                                : DESK_NEW;
}

/*
 * Whether the check would wait too long, under the lock. After CoDel (Nichols and Jacobson, 2012)
 * as Facebook uses it for requests ("Fail at Scale", 2015): a queue that empties now and then may
 * be long for a moment; in one that does not, all would wait for ever longer, so only those come in
 * that are served soon. The wait is foreseen, not suffered: who is turned away knows at once.
 */
static bool too_long(struct shield *s, uint64_t source, enum desk_class class, uint64_t now_ns)
{
    if (!desk_flights(s->desk))
        return false;
    bool standing = now_ns > desk_idle_at_ns(s->desk) + s->opts.hash_wait_ns;
    uint64_t limit =
        standing && s->opts.hash_target_ns ? s->opts.hash_target_ns : s->opts.hash_wait_ns;
    return clerk_wait_ns(s, desk_ahead(s->desk, source, class)) > limit;
}

/* Whether the clerk may sleep although it could begin a flight of that class: while others of as
 * much right are ready it was told of those, or all threads compute and will tell it. Under the
 * lock, before the flight is there. */
static bool clerk_sleeps(struct shield *s, enum desk_class class)
{
    unsigned ahead = class == DESK_ADMIN
                         ? desk_ready(s->desk, DESK_ADMIN)
                         : desk_ready(s->desk, DESK_KNOWN) + desk_ready(s->desk, DESK_NEW);
    return class == DESK_SUSPECT ? !desk_flights(s->desk) : !ahead;
}

static enum shield_answer enqueue(struct shield *s, struct question *q, struct shield_wait *w)
{
    struct throttle_ask ask = source_ask(s, q->source);
    bool suspect = throttle_used(s->opts.throttle, &ask, 0, q->now_ns) > 0;
    enum desk_class merit = class_of(s, q), class = suspect ? DESK_SUSPECT : merit;
    enum shield_answer result = SHIELD_PENDING;
    bool wake = false;
    pthread_mutex_lock(&s->lock);
    struct flight *f = desk_find(s->desk, q->lane, q->tag), *made = NULL;
    if (s->stopping) {
        result = refuse(w, REASON_stopping, 0);
    } else if (!f && landed(s, q, w, &result)) {
        /* answered */
    } else if (w->no_hash) {
        metric_add(METRIC_overload_logins_shed, 1);
        result = refuse_busy(s, w, suspect);
    } else if (desk_full(s->desk, q->lane, q->source, class)) {
        result = refuse_busy(s, w, suspect);
    } else if (!f && too_long(s, q->source, class, q->now_ns)) {
        metric_add(METRIC_shield_shed, 1);
        result = refuse_busy(s, w, suspect);
    } else {
        metric_add(f ? METRIC_shield_joined : METRIC_shield_misses, 1);
        if (!f)
            f = made = make_flight(s, q);
        wake = made && clerk_sleeps(s, class);
        if (!f || !desk_join(s->desk, f, w, q->source, merit, suspect, q->now_ns)) {
            desk_flight_free(made);
            wake = false;
            result = refuse_busy(s, w, suspect);
        }
        clerk_show_queue(s);
    }
    pthread_mutex_unlock(&s->lock);
    if (wake)
        clerk_wake(s);
    return result;
}

static enum shield_answer answer_cold(struct shield *s, struct question *q, struct shield_wait *w)
{
    uint64_t wait = shield_wait_ns(s, q->lane, q->source, q->now_ns);
    if (wait) {
        metric_add(METRIC_shield_failure_window, 1);
        return refuse(w, REASON_too_many_failures, wait);
    }
    const struct credential *c = q->credential;
    bool decoy =
        !(c && c->kind == CREDENTIAL_KEY) && decoy_kind(&s->decoy, 0).class != VERIFIER_BAD;
    if (!has_crypt(c) && !decoy)
        return refuse_wrong(s, q, w);
    if (negative_has(s->negative, q->tag, q->now_ns)) {
        metric_add(METRIC_shield_negative_hits, 1);
        return refuse_wrong(s, q, w);
    }
    return enqueue(s, q, w);
}

enum shield_answer shield_check(struct shield *s, struct credential *credential,
                                struct slice unknown, struct slice secret, uint64_t source,
                                uint64_t now_ns, struct shield_wait *w)
{
    /* One byte too many is enough to be too long. */
    struct question q = {
        .credential = credential,
        .unknown = unknown,
        .secret = slice_of(secret.ptr, secret.len <= SECRET_MAX ? secret.len : SECRET_MAX + 1),
        .source = source,
        .now_ns = now_ns,
    };
    if (credential && credential->disabled)
        forget_device(&q);
    enum shield_answer result = SHIELD_RIGHT;
    if (is_warm(s, &q)) {
        metric_add(METRIC_shield_hits, 1);
    } else {
        q.lane = lane_of(s, &q);
        result = answer_cold(s, &q, w);
    }
    if (result == SHIELD_RIGHT)
        succeeded_now(s, source, now_ns);
    credential_unref(q.held);
    return result;
}

void shield_key_refused(struct shield *s, uint64_t source, uint64_t now_ns, struct shield_wait *w)
{
    uint64_t wait = source_wait_ns(s, source, now_ns);
    if (wait) {
        metric_add(METRIC_shield_failure_window, 1);
        refuse(w, REASON_too_many_failures, wait);
        return;
    }
    struct throttle_ask ask = source_ask(s, source);
    throttle_charge(s->opts.throttle, &ask, 1, now_ns);
    s->failed_at_ns = now_ns;
    refuse(w, REASON_bad_key, 0);
}
