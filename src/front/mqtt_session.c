/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table's nodes are the claims that hold an id; at most one more waits for each. Who comes
 * while another waits takes that one's place, so that a storm of connections with one client id
 * leaves the last of them.
 *
 * Invariants, under the bucket's lock: 1. a claim in a bucket is HELD, and the only one there with
 * its id. 2. holder->waiter == c exactly while c->state is WAITING and c->holder == holder. 3. mail
 * is on its way exactly while `posted`; what it will tell is in `events`.
 */
#define XXH_INLINE_ALL
#include "front/mqtt_session.h"

#include <pthread.h>
#include <stdlib.h>
#include <xxhash.h>

#include "base/check.h"

#define LOCKS   64u
#define BUCKETS 16384u /* a power of two, and a multiple of LOCKS */

enum { FREE, WAITING, HELD, REPLACED /* as the one who waits */, DROPPED };

struct mqtt_sessions {
    pthread_mutex_t locks[LOCKS];
    struct mqtt_claim *buckets[BUCKETS];
};

struct mqtt_sessions *mqtt_sessions_new(void)
{
    struct mqtt_sessions *s = calloc(1, sizeof *s);
    CHECK(s);
    for (unsigned i = 0; i < LOCKS; i++)
        pthread_mutex_init(&s->locks[i], NULL);
    return s;
}

void mqtt_sessions_free(struct mqtt_sessions *s)
{
    if (!s)
        return;
    for (unsigned i = 0; i < BUCKETS; i++)
        CHECK(!s->buckets[i]);
    for (unsigned i = 0; i < LOCKS; i++)
        pthread_mutex_destroy(&s->locks[i]);
    free(s);
}

static struct mqtt_claim **bucket_of(struct mqtt_sessions *s, uint64_t hash)
{
    return &s->buckets[hash & (BUCKETS - 1)];
}

static void lock(const struct mqtt_claim *c)
{
    pthread_mutex_lock(&c->sessions->locks[c->hash & (LOCKS - 1)]);
}

static void unlock(struct mqtt_sessions *s, uint64_t hash)
{
    pthread_mutex_unlock(&s->locks[hash & (LOCKS - 1)]);
}

static void on_mail(struct mail *m)
{
    struct mqtt_claim *c = (struct mqtt_claim *)((char *)m - offsetof(struct mqtt_claim, mail));
    lock(c);
    uint8_t events = c->events;
    bool dropped = c->state == DROPPED;
    c->events = 0;
    c->posted = false;
    if (dropped)
        c->state = FREE;
    unlock(c->sessions, c->hash);
    if (dropped) {
        c->told(c, CLAIM_GONE);
        return;
    }
    if (events & 1 << CLAIM_GRANTED)
        c->told(c, CLAIM_GRANTED);
    /* It may have been dropped by what it was just told; not freed, which happens in a later turn.
     */
    if (events & 1 << CLAIM_LOST && c->mine)
        c->told(c, CLAIM_LOST);
}

static void tell(struct mqtt_claim *c, enum claim_event event)
{
    c->events |= (uint8_t)(1u << event);
    if (c->posted)
        return;
    c->posted = true;
    c->mail.run = on_mail;
    worker_post(c->worker, &c->mail);
}

static void hold(struct mqtt_claim *c)
{
    struct mqtt_claim **bucket = bucket_of(c->sessions, c->hash);
    c->state = HELD;
    c->holder = NULL;
    c->next = *bucket;
    *bucket = c;
}

static struct mqtt_claim *find(const struct mqtt_claim *wanted)
{
    struct mqtt_claim *c = *bucket_of(wanted->sessions, wanted->hash);
    while (c && (c->account != wanted->account || !slice_eq(c->id, wanted->id)))
        c = c->next;
    return c;
}

bool mqtt_claim_take(struct mqtt_sessions *s, struct mqtt_claim *c, uint64_t account,
                     struct slice id)
{
    CHECK(c->state == FREE && !c->posted);
    c->mine = true;
    c->sessions = s;
    c->account = account;
    c->id = id;
    c->hash = XXH3_64bits_withSeed(id.ptr, id.len, account);
    lock(c);
    struct mqtt_claim *holder = find(c);
    if (!holder) {
        hold(c);
    } else {
        if (holder->waiter) {
            holder->waiter->state = REPLACED;
            holder->waiter->holder = NULL;
            tell(holder->waiter, CLAIM_LOST);
        }
        holder->waiter = c;
        c->holder = holder;
        c->state = WAITING;
        tell(holder, CLAIM_LOST);
    }
    unlock(s, c->hash);
    return !holder;
}

static void let_go(struct mqtt_claim *c)
{
    struct mqtt_claim **at = bucket_of(c->sessions, c->hash);
    while (*at != c)
        at = &(*at)->next;
    *at = c->next;
    struct mqtt_claim *waiter = c->waiter;
    c->waiter = NULL;
    if (!waiter)
        return;
    hold(waiter);
    tell(waiter, CLAIM_GRANTED);
}

bool mqtt_claim_drop(struct mqtt_claim *c)
{
    if (!c->sessions)
        return true;
    struct mqtt_sessions *s = c->sessions;
    c->mine = false;
    lock(c);
    if (c->state == HELD)
        let_go(c);
    else if (c->state == WAITING)
        c->holder->waiter = NULL;
    c->holder = NULL;
    c->state = c->posted ? DROPPED : FREE;
    bool free = !c->posted;
    unlock(s, c->hash);
    return free;
}
