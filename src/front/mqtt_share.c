/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Locks: the table's is taken before a group's. A group is in the table exactly while it has
 * members; who holds a reference may look at one that is over, and finds nobody in it.
 */
#define XXH_INLINE_ALL
#include "front/mqtt_share.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/check.h"
#include "flow/limits.h"

#define BUCKETS 4096u /* a power of two */

/* A group that has no member now. One with the same hash counts as the same. */
struct asleep {
    uint64_t account, hash, from;
};

struct mqtt_shares {
    uint64_t born;
    pthread_mutex_t lock;
    struct asleep *asleep; /* SHARE_ASLEEP_MAX, in a ring; account 0: none */
    unsigned asleep_next;
    bool forgot; /* one of them had to go */
    struct share_group *buckets[BUCKETS];
    _Atomic uint64_t bytes, mails; /* on their way */
};

struct mqtt_shares *mqtt_shares_new(uint64_t born)
{
    struct mqtt_shares *s = calloc(1, sizeof *s);
    CHECK(s);
    s->born = born;
    pthread_mutex_init(&s->lock, NULL);
    return s;
}

void mqtt_shares_free(struct mqtt_shares *s)
{
    if (!s)
        return;
    for (unsigned i = 0; i < BUCKETS; i++)
        CHECK(!s->buckets[i]);
    CHECK(mqtt_shares_idle(s));
    pthread_mutex_destroy(&s->lock);
    free(s->asleep);
    free(s);
}

static uint64_t hash_of(uint64_t account, struct slice name, struct slice filter)
{
    return XXH3_64bits_withSeed(filter.ptr, filter.len,
                                XXH3_64bits_withSeed(name.ptr, name.len, account));
}

static struct share_group *group_new(struct slice name, struct slice filter)
{
    struct share_group *g = calloc(1, sizeof *g + name.len + filter.len);
    CHECK(g);
    char *text = (char *)(g + 1);
    memcpy(text, name.ptr, name.len);
    memcpy(text + name.len, filter.ptr, filter.len);
    g->name = slice_of(text, name.len);
    g->filter = slice_of(text + name.len, filter.len);
    pthread_mutex_init(&g->lock, NULL);
    return g;
}

struct share_group *mqtt_share_ref(struct share_group *g)
{
    atomic_fetch_add(&g->refs, 1);
    return g;
}

void mqtt_share_unref(struct share_group *g)
{
    if (atomic_fetch_sub(&g->refs, 1) != 1)
        return;
    CHECK(!g->count && !g->subs);
    pthread_mutex_destroy(&g->lock);
    free(g->members);
    free(g);
}

static struct share_group **find(struct mqtt_shares *s, uint64_t account, uint64_t hash,
                                 struct slice name, struct slice filter)
{
    struct share_group **at = &s->buckets[hash & (BUCKETS - 1)];
    while (*at && ((*at)->hash != hash || (*at)->account != account ||
                   !slice_eq((*at)->name, name) || !slice_eq((*at)->filter, filter)))
        at = &(*at)->next;
    return at;
}

static bool add(struct share_group *g, struct share_member m)
{
    pthread_mutex_lock(&g->lock);
    bool fits = g->count < SHARE_MEMBERS_MAX;
    if (fits && g->count == g->room) {
        g->room = g->room ? g->room * 2 : 4;
        g->members = realloc(g->members, g->room * sizeof *g->members);
        CHECK(g->members);
    }
    if (fits)
        g->members[g->count++] = m;
    pthread_mutex_unlock(&g->lock);
    return fits;
}

enum share_joined mqtt_share_join(struct mqtt_shares *s, uint64_t account, struct slice name,
                                  struct slice filter, struct share_member m,
                                  struct share_group **ret)
{
    uint64_t hash = hash_of(account, name, filter);
    pthread_mutex_lock(&s->lock);
    struct share_group **at = find(s, account, hash, name, filter), *g = *at;
    bool is_new = !g;
    if (is_new) {
        *at = g = group_new(name, filter);
        g->shares = s;
        g->account = account;
        g->hash = hash;
        g->home = m.front;
    }
    bool added = add(g, m);
    if (added)
        *ret = mqtt_share_ref(g);
    pthread_mutex_unlock(&s->lock);
    return is_new ? SHARE_FOUNDED : added ? SHARE_JOINED : SHARE_FULL;
}

static bool same(struct share_member a, struct share_member b)
{
    return a.front == b.front && a.number == b.number;
}

bool mqtt_share_leave(struct share_group *g, struct share_member m)
{
    struct mqtt_shares *s = g->shares;
    pthread_mutex_lock(&s->lock);
    pthread_mutex_lock(&g->lock);
    unsigned i = 0;
    while (i < g->count && !same(g->members[i], m))
        i++;
    CHECK(i < g->count);
    /* In order, so that who is behind is not passed over or asked twice. */
    memmove(g->members + i, g->members + i + 1, (g->count - i - 1) * sizeof *g->members);
    g->count--;
    if (g->turn > i)
        g->turn--;
    bool over = g->count == 0;
    pthread_mutex_unlock(&g->lock);
    if (over) {
        struct share_group **at = find(s, g->account, g->hash, g->name, g->filter);
        CHECK(*at == g);
        *at = g->next;
    }
    pthread_mutex_unlock(&s->lock);
    return over;
}

/* With the table's lock; NULL: it does not sleep. */
static struct asleep *find_asleep(struct mqtt_shares *s, const struct share_group *g)
{
    for (unsigned i = 0; s->asleep && i < SHARE_ASLEEP_MAX; i++) {
        if (s->asleep[i].hash == g->hash && s->asleep[i].account == g->account)
            return &s->asleep[i];
    }
    return NULL;
}

void mqtt_share_sleep(struct share_group *g, uint64_t from)
{
    struct mqtt_shares *s = g->shares;
    pthread_mutex_lock(&s->lock);
    /* If it was founded anew meanwhile, that one has all from then on. */
    if (!*find(s, g->account, g->hash, g->name, g->filter) && !find_asleep(s, g)) {
        if (!s->asleep)
            s->asleep = calloc(SHARE_ASLEEP_MAX, sizeof *s->asleep);
        CHECK(s->asleep);
        struct asleep *a = &s->asleep[s->asleep_next];
        s->asleep_next = (s->asleep_next + 1) % SHARE_ASLEEP_MAX;
        s->forgot |= a->account != 0;
        *a = (struct asleep){g->account, g->hash, from};
    }
    pthread_mutex_unlock(&s->lock);
}

uint64_t mqtt_share_wake(struct share_group *g)
{
    struct mqtt_shares *s = g->shares;
    pthread_mutex_lock(&s->lock);
    struct asleep *a = find_asleep(s, g);
    uint64_t from = a ? a->from : s->forgot ? UINT64_MAX : s->born;
    if (a)
        *a = (struct asleep){0};
    pthread_mutex_unlock(&s->lock);
    return from;
}

unsigned mqtt_share_pick(struct share_group *g, struct share_member *ret)
{
    pthread_mutex_lock(&g->lock);
    unsigned count = g->count;
    if (count) {
        if (g->turn >= count)
            g->turn = 0;
        *ret = g->members[g->turn++];
    }
    pthread_mutex_unlock(&g->lock);
    return count;
}

bool mqtt_shares_begin(struct mqtt_shares *s, size_t bytes)
{
    uint64_t before = atomic_fetch_add(&s->bytes, bytes);
    if (bytes && before + bytes > SHARE_BYTES_MAX) {
        atomic_fetch_sub(&s->bytes, bytes);
        return false;
    }
    atomic_fetch_add(&s->mails, 1);
    return true;
}

void mqtt_shares_end(struct mqtt_shares *s, size_t bytes)
{
    atomic_fetch_sub(&s->bytes, bytes);
    atomic_fetch_sub(&s->mails, 1);
}

bool mqtt_shares_idle(struct mqtt_shares *s)
{
    return !atomic_load(&s->mails);
}
