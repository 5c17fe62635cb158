/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table: sessions chained by number and by (account, client id), accounts chained by number.
 * The buckets are made once, for the greatest number of sessions there may be, so nothing ever
 * grows under the lock. The view's thread is the only writer but for sessions_cut_off; both take
 * the lock to change something.
 */
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "view/sessions_own.h"

#include <errno.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/metric.h"
#include "base/rand.h"
#include "flow/publish.h"

#define TELL_AGAIN_US (10 * US_PER_S)

static uint64_t number_hash(uint64_t n)
{
    n = (n ^ n >> 33) * 0xff51afd7ed558ccdull;
    n = (n ^ n >> 33) * 0xc4ceb9fe1a85ec53ull;
    return n ^ n >> 33;
}

static uint64_t client_hash(const struct sessions *t, uint64_t account, struct slice client_id)
{
    return XXH3_64bits_withSeed(client_id.len ? client_id.ptr : "", client_id.len,
                                t->seed ^ number_hash(account));
}

static struct session_entry **number_bucket(struct sessions *t, uint64_t number)
{
    return &t->by_number[number_hash(number) & t->mask];
}

static struct session_entry **client_bucket(struct sessions *t, uint64_t account,
                                            struct slice client_id)
{
    return &t->by_client[client_hash(t, account, client_id) & t->mask];
}

static struct session_entry *find_number(struct sessions *t, uint64_t account, uint64_t number)
{
    struct session_entry *e = *number_bucket(t, number);
    while (e && !(e->s.number == number && e->s.account == account))
        e = e->next_by_number;
    return e;
}

static struct session_entry *find_client(struct sessions *t, uint64_t account,
                                         struct slice client_id)
{
    struct session_entry *e = *client_bucket(t, account, client_id);
    while (e && !(e->s.account == account && slice_eq(e->s.client_id, client_id)))
        e = e->next_by_client;
    return e;
}

void sessions_drop(struct sessions *t, uint64_t count)
{
    t->stats.dropped += count;
    metric_add(METRIC_session_dropped, count);
}

/* ---- accounts -------------------------------------------------------------------------------- */

struct session_account *sessions_account(struct sessions *t, uint64_t number, bool make)
{
    struct session_account **bucket = &t->accounts[number_hash(number) & t->mask], *a = *bucket;
    while (a && a->number != number)
        a = a->next;
    if (a || !make)
        return a;
    a = calloc(1, sizeof *a);
    CHECK(a);
    a->number = number;
    a->next = *bucket;
    *bucket = a;
    sessions_count(t, a, sizeof *a);
    return a;
}

void sessions_drop_account(struct sessions *t, struct session_account *a)
{
    if (a->sessions || a->retained_count)
        return;
    struct session_account **at = &t->accounts[number_hash(a->number) & t->mask];
    while (*at != a)
        at = &(*at)->next;
    *at = a->next;
    sessions_count(t, a, -(int64_t)sizeof *a);
    free(a->retained);
    free(a);
}

void sessions_count(struct sessions *t, struct session_account *a, int64_t bytes)
{
    a->bytes += (uint64_t)bytes;
    t->stats.bytes += (uint64_t)bytes;
}

static uint64_t less(uint64_t max, uint64_t taken)
{
    return max > taken ? max - taken : 0;
}

uint64_t sessions_memory_left(const struct sessions *t, const struct session_account *a)
{
    uint64_t all = less(t->opts.memory_max, t->stats.bytes);
    uint64_t own = less(t->opts.memory_per_account_max, a ? a->bytes : 0);
    return all < own ? all : own;
}

/* ---- sessions -------------------------------------------------------------------------------- */

static size_t bytes_of(const struct session *s)
{
    return sizeof(struct session_entry) - sizeof *s + session_bytes(s);
}

/* Counts what the session takes now. */
static void weigh(struct sessions *t, struct session_entry *e)
{
    size_t bytes = bytes_of(&e->s);
    sessions_count(t, e->account, (int64_t)bytes - (int64_t)e->bytes);
    e->bytes = bytes;
}

static void remove_entry(struct sessions *t, struct session_entry *e)
{
    for (uint32_t i = 0; i < e->s.subs_count; i++)
        groups_leave(t, e->account, e->s.subs[i].filter.filter);
    struct session_entry **at = number_bucket(t, e->s.number);
    while (*at != e)
        at = &(*at)->next_by_number;
    *at = e->next_by_number;
    at = client_bucket(t, e->s.account, e->s.client_id);
    while (*at != e)
        at = &(*at)->next_by_client;
    *at = e->next_by_client;
    sessions_count(t, e->account, -(int64_t)e->bytes);
    e->account->sessions--;
    t->stats.sessions--;
    t->stats.connected -= e->s.closed_us == 0;
    sessions_drop_account(t, e->account);
    session_fini(&e->s);
    free(e);
}

/* Whether there is room for one more session of so many bytes. */
static bool room(const struct sessions *t, const struct session_account *a, size_t bytes)
{
    return t->stats.sessions < t->opts.sessions_max &&
           (a ? a->sessions : 0) < t->opts.sessions_per_account_max &&
           sessions_memory_left(t, a) >= bytes;
}

enum sessions_insert sessions_insert(struct sessions *t, struct session *s)
{
    if (find_number(t, s->account, s->number) || find_client(t, s->account, s->client_id))
        return SESSIONS_THERE;
    struct session_account *a = sessions_account(t, s->account, true);
    if (!room(t, a, bytes_of(s))) {
        sessions_drop_account(t, a);
        sessions_drop(t, 1);
        return SESSIONS_FULL;
    }
    struct session_entry *e = calloc(1, sizeof *e);
    CHECK(e);
    e->s = *s;
    e->account = a;
    struct session_entry **bucket = number_bucket(t, s->number);
    e->next_by_number = *bucket;
    *bucket = e;
    bucket = client_bucket(t, s->account, s->client_id);
    e->next_by_client = *bucket;
    *bucket = e;
    a->sessions++;
    t->stats.sessions++;
    t->stats.connected += s->closed_us == 0;
    weigh(t, e);
    for (uint32_t i = 0; i < s->subs_count; i++)
        groups_join(t, a, s->key_id, s->subs[i].filter.filter, 0);
    return SESSIONS_INSERTED;
}

/* ---- applying -------------------------------------------------------------------------------- */

static void note_number(struct sessions *t, uint64_t number)
{
    uint64_t was = atomic_load(&t->last_number);
    while (was < number && !atomic_compare_exchange_weak(&t->last_number, &was, number))
        ;
}

static void apply_opened(struct sessions *t, const struct record *r,
                         const struct session_record *event, uint64_t offset)
{
    struct session s;
    struct session_entry *before;
    note_number(t, r->producer.session);
    if (event->client_id.len > SESSION_NAME_MAX || !r->producer.session ||
        find_number(t, r->account, r->producer.session))
        return;
    before = find_client(t, r->account, event->client_id);
    if (before)
        remove_entry(t, before);
    session_init(&s, r, event, offset);
    if (sessions_insert(t, &s) != SESSIONS_INSERTED)
        session_fini(&s);
}

static void end_account(struct sessions *t, uint64_t number)
{
    struct session_account *a = sessions_account(t, number, false);
    for (uint64_t i = 0; a && i <= t->mask && a->sessions; i++) {
        for (struct session_entry *e = t->by_number[i], *next; e; e = next) {
            next = e->next_by_number;
            if (e->s.account != number)
                continue;
            bool last = a->sessions == 1 && !a->retained_count;
            remove_entry(t, e);
            if (last)
                return;
        }
    }
    if (a)
        retained_clear_account(t, a);
}

/* What names a version of its session is about that alone: somebody may have come back since. */
static bool is_about(const struct record *r, const struct session_entry *e)
{
    return !r->producer.fingerprint || r->producer.fingerprint == e->s.version;
}

static void apply_event(struct sessions *t, const struct record *r, uint64_t offset)
{
    struct session_record event;
    if (!session_record_decode(r->payload, &event))
        return;
    if (event.event == SESSION_OPENED) {
        apply_opened(t, r, &event, offset);
        return;
    }
    if (event.event == SESSION_ENDED && !r->producer.session) {
        end_account(t, r->account);
        return;
    }
    if (event.event == SESSION_GIVEN || event.event == SESSION_RETURNED)
        groups_apply(t, r, &event);
    struct session_entry *e = find_number(t, r->account, r->producer.session);
    if (!e || !is_about(r, e))
        return;
    if (event.event == SESSION_RESUMED)
        e->told_us = 0; /* that was another will */
    e->s.grow_max = sessions_memory_left(t, e->account);
    uint64_t dropped = e->s.dropped;
    uint32_t subs = e->s.subs_count;
    bool connected = e->s.closed_us == 0;
    enum session_then then = session_apply(&e->s, r, &event, offset);
    if (e->s.subs_count > subs)
        groups_join(t, e->account, r->key_id, event.filter.filter, offset + 1);
    else if (e->s.subs_count < subs)
        groups_leave(t, e->account, event.filter.filter);
    sessions_drop(t, e->s.dropped - dropped);
    t->stats.connected += (uint64_t)(e->s.closed_us == 0) - connected;
    if (then == SESSION_IS_OVER)
        remove_entry(t, e);
    else
        weigh(t, e);
}

/* A message that a session's client published: with QoS 2, or its will. */
static void apply_message(struct sessions *t, const struct record *r, uint64_t offset)
{
    struct session_entry *e = find_number(t, r->account, r->producer.session);
    if (!e || !is_about(r, e))
        return;
    e->s.version = offset + 1;
    e->s.grow_max = sessions_memory_left(t, e->account);
    if (r->flags & RECORD_F_WILL)
        session_drop_will(&e->s);
    uint64_t dropped = e->s.dropped;
    if (r->producer.sequence && r->producer.sequence <= UINT16_MAX)
        session_receive(&e->s, (uint16_t)r->producer.sequence);
    sessions_drop(t, e->s.dropped - dropped);
    weigh(t, e);
}

static bool is_retained(const struct record *r)
{
    return r->kind == RECORD_PUBLISH && r->flags & RECORD_F_RETAIN;
}

static bool is_message_of_session(const struct record *r)
{
    return r->producer.session && (r->kind == RECORD_PUBLISH || r->kind == RECORD_DATUM);
}

bool sessions_want(const struct record *r)
{
    return r->kind == RECORD_SESSION || is_message_of_session(r) || is_retained(r);
}

void sessions_apply(struct sessions *t, const struct record *r, uint64_t offset)
{
    if (offset < t->applied || !sessions_want(r))
        return;
    t->applied = offset + 1;
    pthread_mutex_lock(&t->lock);
    if (r->kind == RECORD_SESSION)
        apply_event(t, r, offset);
    if (is_message_of_session(r))
        apply_message(t, r, offset);
    if (is_retained(r))
        retained_apply(t, r, offset);
    pthread_mutex_unlock(&t->lock);
}

/* ---- time ------------------------------------------------------------------------------------ */

/* Whether nothing of it is left to be done. */
static bool is_gone(const struct session *s, int64_t now_us)
{
    return session_ends_us(s) <= now_us &&
           (!s->will.topic.ptr || session_will_due_us(s) <= now_us - SESSION_WILL_KEPT_US);
}

/* Whether its will is to be told now: due, not told a moment ago, and not given up. */
static bool tell_will(struct session_entry *e, int64_t due_us, int64_t now_us)
{
    if (due_us > now_us || due_us <= now_us - SESSION_WILL_KEPT_US ||
        (e->told_us && now_us - e->told_us < TELL_AGAIN_US && now_us >= e->told_us))
        return false;
    e->told_us = now_us;
    return true;
}

void sessions_forget(struct sessions *t, int64_t now_us)
{
    uint64_t buckets = (t->mask + 1) / SESSIONS_SWEEP + 1;
    for (uint64_t i = 0; i < buckets; i++) {
        uint64_t bucket = t->forget++ & t->mask;
        pthread_mutex_lock(&t->lock);
        for (struct session_entry *e = t->by_number[bucket], *next; e; e = next) {
            next = e->next_by_number;
            if (is_gone(&e->s, now_us))
                remove_entry(t, e);
        }
        for (struct session_account *a = t->accounts[bucket], *next; a; a = next) {
            next = a->next;
            retained_forget(t, a, now_us);
        }
        pthread_mutex_unlock(&t->lock);
    }
}

unsigned sessions_cut_off(struct sessions *t, int64_t now_us)
{
    unsigned count = 0;
    pthread_mutex_lock(&t->lock);
    for (uint64_t i = 0; i <= t->mask; i++) {
        for (struct session_entry *e = t->by_number[i]; e; e = e->next_by_number) {
            if (e->s.closed_us)
                continue;
            e->s.closed_us = now_us;
            count++;
        }
    }
    t->stats.connected = 0;
    pthread_mutex_unlock(&t->lock);
    return count;
}

unsigned sessions_wills_due(struct sessions *t, int64_t now_us, struct session_due *ret,
                            unsigned max)
{
    unsigned count = 0;
    uint64_t buckets = (t->mask + 1) / SESSIONS_SWEEP + 1;
    pthread_mutex_lock(&t->lock);
    for (uint64_t i = 0; i < buckets && count < max; i++, t->sweep++) {
        for (struct session_entry *e = t->by_number[t->sweep & t->mask]; e && count < max;
             e = e->next_by_number) {
            if (!tell_will(e, session_will_due_us(&e->s), now_us))
                continue;
            ret[count++] = (struct session_due){
                .account = e->s.account, .number = e->s.number, .credential = e->s.credential};
        }
    }
    pthread_mutex_unlock(&t->lock);
    return count;
}

/* ---- reading --------------------------------------------------------------------------------- */

uint64_t sessions_new_number(struct sessions *t)
{
    return atomic_fetch_add(&t->last_number, 1) + 1;
}

bool sessions_have_room(struct sessions *t, uint64_t account)
{
    pthread_mutex_lock(&t->lock);
    bool found = room(t, sessions_account(t, account, false), sizeof(struct session_entry));
    pthread_mutex_unlock(&t->lock);
    return found;
}

/* Ends the lock. */
static bool copy_out(struct sessions *t, const struct session_entry *e, struct session *ret)
{
    bool found = e != NULL;
    struct buf form;
    struct session names = {0};
    buf_init(&form, SIZE_MAX / 2);
    if (found) {
        names = e->s;
        session_encode(&form, &e->s);
    }
    pthread_mutex_unlock(&t->lock);
    if (found) {
        CHECK(!form.failed && session_decode(buf_slice(&form), ret));
        ret->number = names.number;
        ret->account = names.account;
        ret->key_id = names.key_id;
    }
    buf_fini(&form);
    return found;
}

bool sessions_find(struct sessions *t, uint64_t account, struct slice client_id, int64_t now_us,
                   struct session *ret)
{
    pthread_mutex_lock(&t->lock);
    const struct session_entry *e = find_client(t, account, client_id);
    return copy_out(t, e && session_ends_us(&e->s) > now_us ? e : NULL, ret);
}

bool sessions_get(struct sessions *t, uint64_t account, uint64_t number, struct session *ret)
{
    pthread_mutex_lock(&t->lock);
    return copy_out(t, find_number(t, account, number), ret);
}

bool sessions_take_will(struct sessions *t, uint64_t account, struct slice client_id,
                        int64_t now_us, bool replaced, struct session *ret)
{
    pthread_mutex_lock(&t->lock);
    struct session_entry *e = find_client(t, account, client_id);
    bool found = e && e->s.closed_us && e->s.will.topic.ptr &&
                 tell_will(e, replaced ? now_us : session_will_due_us(&e->s), now_us);
    return copy_out(t, found ? e : NULL, ret);
}

struct sessions_stats sessions_stats(struct sessions *t)
{
    pthread_mutex_lock(&t->lock);
    struct sessions_stats s = t->stats;
    pthread_mutex_unlock(&t->lock);
    return s;
}

/* ---- life ------------------------------------------------------------------------------------ */

struct sessions *sessions_new(const struct sessions_opts *opts)
{
    struct sessions *t = calloc(1, sizeof *t);
    CHECK(t);
    t->opts = *opts;
    t->path = strdup(opts->path);
    t->sealer = opts->keyring ? sealer_new(opts->keyring) : NULL;
    buf_init(&t->plain, SIZE_MAX / 2);
    buf_init(&t->sealed, SIZE_MAX / 2);
    rand_secret(&t->seed, sizeof t->seed);
    pthread_mutex_init(&t->lock, NULL);
    uint64_t buckets = 1024;
    while (buckets < opts->sessions_max)
        buckets *= 2;
    t->mask = buckets - 1;
    t->by_number = calloc(buckets, sizeof *t->by_number);
    t->by_client = calloc(buckets, sizeof *t->by_client);
    t->accounts = calloc(buckets, sizeof *t->accounts);
    t->groups = calloc(SESSION_GROUP_BUCKETS, sizeof *t->groups);
    CHECK(t->path && t->by_number && t->by_client && t->accounts && t->groups);
    t->stats.bytes = buckets * (sizeof *t->by_number + sizeof *t->by_client + sizeof *t->accounts);
    return t;
}

void sessions_close(struct sessions *t)
{
    if (!t)
        return;
    for (uint64_t i = 0; i <= t->mask; i++) {
        while (t->by_number[i])
            remove_entry(t, t->by_number[i]);
    }
    for (uint64_t i = 0; i <= t->mask; i++) {
        while (t->accounts[i])
            retained_clear_account(t, t->accounts[i]);
    }
    free(t->by_number);
    free(t->by_client);
    free(t->accounts);
    free(t->groups);
    pthread_mutex_destroy(&t->lock);
    sealer_free(t->sealer);
    buf_fini(&t->plain);
    buf_fini(&t->sealed);
    free(t->path);
    free(t);
}
