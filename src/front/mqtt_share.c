/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Locks: the table's is taken before a group's, or before that of `tellings`. A group is in the
 * table exactly while it has members; who holds a reference may look at one that is over, and finds
 * nobody in it.
 */
#define XXH_INLINE_ALL
#include "front/mqtt_share.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/check.h"
#include "base/search.h"
#include "flow/limits.h"
#include "flow/session_record.h"

#define BUCKETS  4096u /* a power of two */
#define TELLINGS 64u

/* A group that has no member now. One with the same hash counts as the same. */
struct asleep {
    uint64_t account, hash, from;
    const struct share_group *of; /* whose home has not said yet; `from` is at most what it will */
    bool kept;
};

/* What is being told of some groups, those of one hash: in this epoch, and in the one before. The
 * next one begins when somebody waits for the end of this one and nothing is left of that before,
 * so that what comes meanwhile holds nobody up. */
struct tellings {
    pthread_mutex_t lock;
    uint64_t epoch;
    uint32_t under_way[2]; /* of an even epoch, of an odd one */
};

struct mqtt_shares {
    struct mqtt_shares_opts opts;
    struct tellings tellings[TELLINGS];
    pthread_mutex_t lock;
    struct asleep *asleep; /* SHARE_ASLEEP_MAX, in a ring; account 0: none */
    unsigned asleep_next;
    bool forgot; /* one of them had to go */
    struct share_group *buckets[BUCKETS];
    _Atomic uint64_t bytes, mails; /* on their way */
    _Atomic bool stopping;
};

struct mqtt_shares *mqtt_shares_new(const struct mqtt_shares_opts *opts)
{
    struct mqtt_shares *s = calloc(1, sizeof *s);
    CHECK(s);
    s->opts = *opts;
    pthread_mutex_init(&s->lock, NULL);
    for (unsigned i = 0; i < TELLINGS; i++)
        pthread_mutex_init(&s->tellings[i].lock, NULL);
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
    for (unsigned i = 0; i < TELLINGS; i++)
        pthread_mutex_destroy(&s->tellings[i].lock);
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
    struct slice mark = SLICE("$share/");
    size_t len = mark.len + name.len + 1 + filter.len;
    struct share_group *g = calloc(1, sizeof *g + len);
    CHECK(g);
    char *text = (char *)(g + 1);
    memcpy(text, mark.ptr, mark.len);
    memcpy(text + mark.len, name.ptr, name.len);
    text[mark.len + name.len] = '/';
    memcpy(text + len - filter.len, filter.ptr, filter.len);
    g->whole = slice_of(text, len);
    g->name = slice_of(text + mark.len, name.len);
    g->filter = slice_of(text + len - filter.len, filter.len);
    g->unread = UINT64_MAX;
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
    free(g->seats);
    ascending_fini(&g->open);
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
        g->seats = realloc(g->seats, g->room * sizeof *g->seats);
        CHECK(g->seats);
    }
    if (fits)
        g->seats[g->count++] = (struct share_seat){m, ++g->last_joined};
    pthread_mutex_unlock(&g->lock);
    return fits;
}

/* With the table's lock; NULL: it does not sleep. Looks at all: 3 us, when a group is founded and
 * when its home says how far it was, which is little beside the records of who joins and leaves. */
static struct asleep *find_asleep(struct mqtt_shares *s, const struct share_group *g)
{
    for (unsigned i = 0; s->asleep && i < SHARE_ASLEEP_MAX; i++) {
        if (s->asleep[i].hash == g->hash && s->asleep[i].account == g->account)
            return &s->asleep[i];
    }
    return NULL;
}

/* A group that is founded, with the table's lock: where it goes on. What a session of it has missed
 * is kept for the first that is back. */
static void wake(struct mqtt_shares *s, struct share_group *g)
{
    uint64_t floor = 0;
    struct asleep *a = find_asleep(s, g);
    bool known = s->opts.known(s->opts.arg, g->account, g->whole, &floor);
    known |= a && a->kept; /* the view may not have got there */
    uint64_t from = a ? a->from : floor ? floor : !s->forgot ? s->opts.born : UINT64_MAX;
    if (a)
        *a = (struct asleep){0};
    g->kept = known;
    if (!known || from >= g->since)
        return;
    g->missed_from = from;
    g->missed_to = g->since;
    g->missing = true;
}

static struct tellings *tellings_of(struct share_group *g)
{
    return &g->shares->tellings[g->hash / BUCKETS % TELLINGS];
}

static uint64_t epoch_of(struct share_group *g)
{
    struct tellings *t = tellings_of(g);
    pthread_mutex_lock(&t->lock);
    uint64_t epoch = t->epoch;
    pthread_mutex_unlock(&t->lock);
    return epoch;
}

enum share_joined mqtt_share_join(struct mqtt_shares *s, uint64_t account, struct slice name,
                                  struct slice filter, struct share_member m,
                                  const struct share_home *home, struct share_group **ret)
{
    uint64_t hash = hash_of(account, name, filter);
    pthread_mutex_lock(&s->lock);
    struct share_group **at = find(s, account, hash, name, filter), *g = *at;
    bool is_new = !g;
    if (is_new) {
        g = group_new(name, filter);
        g->shares = s;
        g->account = account;
        g->hash = hash;
        g->home = m.front;
        g->since = home->since;
        g->reached = home->reached;
        g->founded = epoch_of(g);
        wake(s, g);
        *at = g;
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

static uint64_t lower(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* What the home has matched by now is among `open`, or settled. */
static uint64_t floor_of(const struct share_group *g, uint64_t reached)
{
    uint64_t floor = reached > g->since ? reached : g->since;
    if (!g->count)
        return 0;
    if (g->open.count)
        floor = lower(floor, ascending_at(&g->open, 0) / SESSION_PARTS);
    return g->missed_to ? lower(floor, g->missed_from) : floor;
}

/* With the table's lock. */
static void fall_asleep(struct mqtt_shares *s, const struct share_group *g, uint64_t from)
{
    if (!s->asleep)
        s->asleep = calloc(SHARE_ASLEEP_MAX, sizeof *s->asleep);
    CHECK(s->asleep);
    struct asleep *a = &s->asleep[s->asleep_next];
    s->asleep_next = (s->asleep_next + 1) % SHARE_ASLEEP_MAX;
    s->forgot |= a->account != 0;
    *a = (struct asleep){g->account, g->hash, from, g, g->remains};
}

bool mqtt_share_leave(struct share_group *g, struct share_member m, bool remains)
{
    struct mqtt_shares *s = g->shares;
    uint64_t reached = atomic_load(g->reached);
    pthread_mutex_lock(&s->lock);
    pthread_mutex_lock(&g->lock);
    unsigned i = 0;
    uint64_t floor = floor_of(g, reached);
    g->remains |= remains;
    while (i < g->count && !same(g->seats[i].member, m))
        i++;
    CHECK(i < g->count);
    /* In order, so that who is behind is not passed over or asked twice. */
    memmove(g->seats + i, g->seats + i + 1, (g->count - i - 1) * sizeof *g->seats);
    g->count--;
    if (g->turn > i)
        g->turn--;
    bool over = g->count == 0;
    pthread_mutex_unlock(&g->lock);
    if (over) {
        struct share_group **at = find(s, g->account, g->hash, g->name, g->filter);
        CHECK(*at == g);
        *at = g->next;
        fall_asleep(s, g, floor);
    }
    pthread_mutex_unlock(&s->lock);
    return over;
}

bool mqtt_share_over(struct share_group *g)
{
    pthread_mutex_lock(&g->lock);
    bool over = g->count == 0;
    pthread_mutex_unlock(&g->lock);
    return over;
}

void mqtt_share_sleep(struct share_group *g, uint64_t from)
{
    struct mqtt_shares *s = g->shares;
    pthread_mutex_lock(&s->lock);
    pthread_mutex_lock(&g->lock);
    if (g->open.count) /* what of that a session has is known to the view */
        from = lower(from, ascending_at(&g->open, 0) / SESSION_PARTS);
    pthread_mutex_unlock(&g->lock);
    struct asleep *a = find_asleep(s, g);
    if (a && a->of == g) { /* else it was founded anew meanwhile, or forgotten */
        a->from = from;
        a->of = NULL;
    }
    pthread_mutex_unlock(&s->lock);
}

/* The first that was taken then or later; with the group's lock. */
static unsigned seat_at(const struct share_group *g, uint64_t joined)
{
    return (unsigned)SEARCH_FROM(g->seats, g->count, joined, joined);
}

/* The seat that follows in the round; g->count: it is over. With the group's lock. */
static unsigned next_seat(const struct share_group *g, struct share_round *r)
{
    if (!r->last && g->count) {
        r->first = g->seats[g->turn].joined;
        return g->turn;
    }
    unsigned at = seat_at(g, r->last + 1);
    if (at == g->count && !r->around) {
        r->around = true;
        at = 0;
    }
    return r->around && at < g->count && g->seats[at].joined >= r->first ? g->count : at;
}

bool mqtt_share_pick(struct share_group *g, struct share_round *r, struct share_member *ret)
{
    pthread_mutex_lock(&g->lock);
    if (g->turn >= g->count)
        g->turn = 0;
    unsigned at = next_seat(g, r);
    if (at == g->count && !r->force) {
        *r = (struct share_round){.force = true, .barred = r->barred};
        at = next_seat(g, r);
    }
    bool found = at < g->count;
    if (found) {
        *ret = g->seats[at].member;
        r->last = g->seats[at].joined;
        g->turn += at == g->turn;
    }
    pthread_mutex_unlock(&g->lock);
    return found;
}

/* ---- what is settled ------------------------------------------------------------------------- */

void mqtt_share_keep(struct share_group *g)
{
    atomic_store(&g->kept, true);
}

bool mqtt_share_open(struct share_group *g, uint64_t place)
{
    if (!atomic_load(&g->kept))
        return true;
    pthread_mutex_lock(&g->lock);
    bool over = ascending_put(&g->open, place) && g->open.count > SHARE_OPEN_MAX;
    if (over)
        (void)ascending_take(&g->open, place);
    pthread_mutex_unlock(&g->lock);
    return !over;
}

uint32_t mqtt_share_open_all(struct share_group *g, const uint64_t *places, uint32_t count)
{
    if (!atomic_load(&g->kept))
        return count;
    pthread_mutex_lock(&g->lock);
    uint32_t room = SHARE_OPEN_MAX - g->open.count, opened = count < room ? count : room;
    ascending_put_all(&g->open, places, opened);
    pthread_mutex_unlock(&g->lock);
    return opened;
}

void mqtt_share_settle(struct share_group *g, uint64_t place)
{
    if (!atomic_load(&g->kept))
        return;
    pthread_mutex_lock(&g->lock);
    (void)ascending_take(&g->open, place);
    pthread_mutex_unlock(&g->lock);
}

uint64_t mqtt_share_floor(struct share_group *g)
{
    uint64_t reached = atomic_load(g->reached); /* before the lock is taken */
    pthread_mutex_lock(&g->lock);
    uint64_t floor = floor_of(g, reached);
    g->told = floor > g->told ? floor : g->told;
    pthread_mutex_unlock(&g->lock);
    return floor;
}

bool mqtt_share_floor_due(struct share_group *g, uint64_t step)
{
    uint64_t reached = atomic_load(g->reached);
    if (!atomic_load(&g->kept))
        return false;
    pthread_mutex_lock(&g->lock);
    bool due = floor_of(g, reached) >= g->told + step;
    pthread_mutex_unlock(&g->lock);
    return due;
}

unsigned mqtt_share_tell(struct share_group *g)
{
    struct tellings *t = tellings_of(g);
    pthread_mutex_lock(&t->lock);
    unsigned telling = t->epoch & 1;
    t->under_way[telling]++;
    pthread_mutex_unlock(&t->lock);
    return telling;
}

/* That epoch's number is not given to another one while something is left of it. */
unsigned mqtt_share_tell_in(struct share_group *g, unsigned telling)
{
    struct tellings *t = tellings_of(g);
    pthread_mutex_lock(&t->lock);
    CHECK(t->under_way[telling]);
    t->under_way[telling]++;
    pthread_mutex_unlock(&t->lock);
    return telling;
}

void mqtt_share_told(struct share_group *g, unsigned telling)
{
    struct tellings *t = tellings_of(g);
    pthread_mutex_lock(&t->lock);
    CHECK(t->under_way[telling]);
    t->under_way[telling]--;
    pthread_mutex_unlock(&t->lock);
}

bool mqtt_share_is_told(struct share_group *g)
{
    struct tellings *t = tellings_of(g);
    unsigned own = g->founded & 1;
    pthread_mutex_lock(&t->lock);
    if (t->epoch == g->founded && !t->under_way[!own])
        t->epoch++;
    bool told = t->epoch > g->founded + 1 || (t->epoch > g->founded && !t->under_way[own]);
    pthread_mutex_unlock(&t->lock);
    return told;
}

bool mqtt_share_take_missed(struct share_group *g, uint64_t *ret_from, uint64_t *ret_to)
{
    if (!atomic_load(&g->missing) || !atomic_exchange(&g->missing, false))
        return false;
    pthread_mutex_lock(&g->lock);
    *ret_from = g->missed_from;
    *ret_to = g->missed_to;
    pthread_mutex_unlock(&g->lock);
    return true;
}

void mqtt_share_put_missed_back(struct share_group *g)
{
    atomic_store(&g->missing, true);
}

void mqtt_share_end_missed(struct share_group *g)
{
    pthread_mutex_lock(&g->lock);
    g->missed_from = g->missed_to = 0;
    pthread_mutex_unlock(&g->lock);
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

void mqtt_shares_stop(struct mqtt_shares *s)
{
    atomic_store(&s->stopping, true);
}

bool mqtt_shares_stopping(const struct mqtt_shares *s)
{
    return atomic_load(&s->stopping);
}
