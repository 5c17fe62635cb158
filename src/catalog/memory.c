/* SPDX-License-Identifier: Apache-2.0 */
#include "catalog/memory.h"

#include <stdlib.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/check.h"
#include "base/rand.h"

/* The tables see records only as `struct counted`. */
#define SAME_HEAD(type)                                                                            \
    _Static_assert(offsetof(struct type, refs) == offsetof(struct counted, refs) &&                \
                       offsetof(struct type, number) == offsetof(struct counted, number),          \
                   "a " #type " begins as struct counted does")
SAME_HEAD(account);
SAME_HEAD(credential);
SAME_HEAD(feed);
SAME_HEAD(group);

#define TABLES 9

static void *head(void *record)
{
    return record;
}

/* ---- hashes and what they match -------------------------------------------------------------- */

static uint64_t hash_text(const struct memory *m, struct slice s)
{
    return XXH3_64bits_withSeed(s.len ? s.ptr : "", s.len, m->seed);
}

/* A bijection (the finalizer of splitmix64), so that equal hashes mean equal numbers. */
static uint64_t hash_number(uint64_t number)
{
    uint64_t z = number + 0x9e3779b97f4a7c15ull;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

struct feed_name {
    uint64_t account;
    struct slice key;
};

static uint64_t hash_feed(const struct memory *m, const struct feed_name *n)
{
    return XXH3_64bits_withSeed(n->key.len ? n->key.ptr : "", n->key.len,
                                m->seed ^ hash_number(n->account));
}

static bool is_number(const struct counted *r, const void *key)
{
    return r->number == *(const uint64_t *)key;
}

static bool is_account(const struct counted *r, const void *key)
{
    return slice_eq(((const struct account *)(const void *)r)->name, *(const struct slice *)key);
}

static bool is_device(const struct counted *r, const void *key)
{
    return slice_eq(((const struct credential *)(const void *)r)->name, *(const struct slice *)key);
}

static bool is_key(const struct counted *r, const void *key)
{
    return memcmp(((const struct credential *)(const void *)r)->fast, key, 32) == 0;
}

static bool is_group(const struct counted *r, const void *key)
{
    const struct group *g = (const void *)r;
    const struct feed_name *n = key;
    return g->account == n->account && slice_eq(g->key, n->key);
}

static bool is_feed(const struct counted *r, const void *key)
{
    const struct feed *f = (const void *)r;
    const struct feed_name *n = key;
    return f->account == n->account && slice_eq(f->key, n->key);
}

/* ---- rolls ----------------------------------------------------------------------------------- */

/* Where the number is, or where it would be entered. */
static size_t roll_at(const struct roll *r, uint64_t number)
{
    size_t from = 0, to = r->count;
    if (to && r->records[to - 1]->number < number)
        return to;
    while (from < to) {
        size_t mid = from + (to - from) / 2;
        if (r->records[mid]->number < number)
            from = mid + 1;
        else
            to = mid;
    }
    return from;
}

static void roll_put(struct roll *r, struct counted *record)
{
    size_t at = roll_at(r, record->number);
    if (at < r->count && r->records[at]->number == record->number) {
        r->records[at] = record;
        return;
    }
    if (r->count == r->cap) {
        r->cap = r->cap ? r->cap * 2 : 4;
        r->records = realloc(r->records, r->cap * sizeof(struct counted *));
        CHECK(r->records);
    }
    memmove(r->records + at + 1, r->records + at, (r->count - at) * sizeof(struct counted *));
    r->records[at] = record;
    r->count++;
}

static void roll_remove(struct roll *r, const struct counted *record)
{
    size_t at = roll_at(r, record->number);
    CHECK(at < r->count && r->records[at] == record);
    r->count--;
    memmove(r->records + at, r->records + at + 1, (r->count - at) * sizeof(struct counted *));
}

/* Appends references of all to `ret`, or nothing when it has no room. */
static unsigned roll_copy(const struct roll *r, struct buf *ret)
{
    struct counted **to = (void *)buf_reserve(ret, r->count * sizeof(struct counted *));
    if (!to || !r->count)
        return 0;
    for (size_t i = 0; i < r->count; i++)
        atomic_fetch_add_explicit(&r->records[i]->refs, 1, memory_order_relaxed);
    buf_put(ret, r->records, r->count * sizeof(struct counted *));
    return (unsigned)r->count;
}

/* ---- holdings: one per account, sorted by its number ------------------------------------------
 */

static size_t holding_at(const struct memory *m, uint64_t number)
{
    size_t from = 0, to = m->holdings_count;
    while (from < to) {
        size_t mid = from + (to - from) / 2;
        if (m->holdings[mid]->account->number < number)
            from = mid + 1;
        else
            to = mid;
    }
    return from;
}

static struct holding *holding_of(const struct memory *m, uint64_t number)
{
    size_t at = holding_at(m, number);
    if (at == m->holdings_count || m->holdings[at]->account->number != number)
        return NULL;
    return m->holdings[at];
}

static void holding_add(struct memory *m, struct account *a)
{
    struct holding *h = calloc(1, sizeof *h);
    CHECK(h);
    h->account = a;
    if (m->holdings_count == m->holdings_cap) {
        m->holdings_cap = m->holdings_cap ? m->holdings_cap * 2 : 16;
        m->holdings = realloc(m->holdings, m->holdings_cap * sizeof *m->holdings);
        CHECK(m->holdings);
    }
    size_t at = holding_at(m, a->number);
    memmove(m->holdings + at + 1, m->holdings + at, (m->holdings_count - at) * sizeof *m->holdings);
    m->holdings[at] = h;
    m->holdings_count++;
}

static void holding_free(struct holding *h)
{
    for (size_t i = 0; i < h->feeds.count; i++)
        feed_unref((void *)h->feeds.records[i]);
    for (size_t i = 0; i < h->groups.count; i++)
        group_unref((void *)h->groups.records[i]);
    free(h->groups.records);
    for (unsigned kind = 0; kind < 2; kind++) {
        for (size_t i = 0; i < h->credentials[kind].count; i++)
            credential_unref((void *)h->credentials[kind].records[i]);
        free(h->credentials[kind].records);
    }
    free(h->feeds.records);
    account_unref(h->account);
    free(h);
}

/* ---- beginning and end ----------------------------------------------------------------------- */

static void all_tables(struct memory *m, struct table *ret[TABLES])
{
    struct table *all[TABLES] = {
        &m->accounts_by_name, &m->accounts, &m->devices,       &m->keys,  &m->credentials,
        &m->feeds_by_key,     &m->feeds,    &m->groups_by_key, &m->groups};
    memcpy(ret, all, sizeof all);
}

void memory_init(struct memory *m)
{
    struct table *tables[TABLES];
    *m = (struct memory){0};
    rand_secret(&m->seed, sizeof m->seed);
    all_tables(m, tables);
    for (unsigned i = 0; i < TABLES; i++)
        table_init(tables[i]);
    CHECK(pthread_rwlock_init(&m->lists, NULL) == 0);
    /* Workers raise `told` with every message: no two accounts in one cache line. */
    pool_init(&m->account_lives,
              sizeof(struct account_live) < 64 ? 64 : sizeof(struct account_live));
    pool_init(&m->credential_lives, sizeof(struct credential_live));
}

void memory_fini(struct memory *m)
{
    struct table *tables[TABLES];
    all_tables(m, tables);
    for (unsigned i = 0; i < TABLES; i++)
        table_fini(tables[i]);
    for (size_t i = 0; i < m->holdings_count; i++)
        holding_free(m->holdings[i]);
    free(m->holdings);
    pthread_rwlock_destroy(&m->lists);
    pool_fini(&m->account_lives);
    pool_fini(&m->credential_lives);
}

/* ---- look-ups -------------------------------------------------------------------------------- */

uint64_t memory_device_hash(const struct memory *m, struct slice id)
{
    return hash_text(m, id);
}

uint64_t memory_feed_hash(const struct memory *m, uint64_t account, struct slice key)
{
    const struct feed_name name = {account, key};
    return hash_feed(m, &name);
}

struct account *memory_account(struct memory *m, struct slice name)
{
    return (void *)table_take(&m->accounts_by_name, hash_text(m, name), is_account, &name);
}

struct account *memory_account_by_number(struct memory *m, uint64_t number)
{
    return (void *)table_take(&m->accounts, hash_number(number), is_number, &number);
}

struct credential *memory_device(struct memory *m, struct slice id)
{
    return (void *)table_take(&m->devices, hash_text(m, id), is_device, &id);
}

struct credential *memory_key(struct memory *m, const uint8_t digest[32])
{
    return (void *)table_take(&m->keys, hash_text(m, slice_of(digest, 32)), is_key, digest);
}

struct credential *memory_credential(struct memory *m, uint64_t number)
{
    return (void *)table_take(&m->credentials, hash_number(number), is_number, &number);
}

struct feed *memory_feed(struct memory *m, uint64_t account, struct slice key)
{
    struct feed_name name = {account, key};
    return (void *)table_take(&m->feeds_by_key, hash_feed(m, &name), is_feed, &name);
}

struct feed *memory_feed_by_number(struct memory *m, uint64_t number)
{
    return (void *)table_take(&m->feeds, hash_number(number), is_number, &number);
}

unsigned memory_feeds(struct memory *m, uint64_t account, struct buf *ret)
{
    pthread_rwlock_rdlock(&m->lists);
    struct holding *h = holding_of(m, account);
    unsigned n = h ? roll_copy(&h->feeds, ret) : 0;
    pthread_rwlock_unlock(&m->lists);
    return n;
}

struct group *memory_group(struct memory *m, uint64_t account, struct slice key)
{
    struct feed_name name = {account, key};
    return (void *)table_take(&m->groups_by_key, hash_feed(m, &name), is_group, &name);
}

struct group *memory_group_by_number(struct memory *m, uint64_t number)
{
    return (void *)table_take(&m->groups, hash_number(number), is_number, &number);
}

unsigned memory_groups(struct memory *m, uint64_t account, struct buf *ret)
{
    pthread_rwlock_rdlock(&m->lists);
    struct holding *h = holding_of(m, account);
    unsigned n = h ? roll_copy(&h->groups, ret) : 0;
    pthread_rwlock_unlock(&m->lists);
    return n;
}

unsigned memory_credentials(struct memory *m, uint64_t account, enum credential_kind kind,
                            struct buf *ret)
{
    CHECK(kind == CREDENTIAL_KEY || kind == CREDENTIAL_DEVICE);
    pthread_rwlock_rdlock(&m->lists);
    struct holding *h = holding_of(m, account);
    unsigned n = h ? roll_copy(&h->credentials[kind], ret) : 0;
    pthread_rwlock_unlock(&m->lists);
    return n;
}

unsigned memory_accounts(struct memory *m, struct buf *ret)
{
    pthread_rwlock_rdlock(&m->lists);
    unsigned n = 0;
    if (buf_reserve(ret, m->holdings_count * sizeof(struct account *))) {
        for (; n < m->holdings_count; n++) {
            struct account *a = account_ref(m->holdings[n]->account);
            buf_put(ret, &a, sizeof(struct account *));
        }
    }
    pthread_rwlock_unlock(&m->lists);
    return n;
}

/* ---- accounts -------------------------------------------------------------------------------- */

static struct credential *new_version(const struct credential *old, struct account *a,
                                      uint64_t version)
{
    size_t text = old->name.len + old->role.len + old->verifier.len + 3;
    for (unsigned i = 0; i < old->patterns_count; i++)
        text += old->patterns[i].len + 1;
    struct credential *c = credential_new(text + old->patterns_count * sizeof(struct slice));
    CHECK(c);
    char *at = (char *)(c + 1) + old->patterns_count * sizeof(struct slice);
    c->number = old->number;
    c->version = version;
    c->account = account_ref(a);
    c->kind = old->kind;
    c->name = record_text(&at, old->name);
    c->role = record_text(&at, old->role);
    c->permissions = old->permissions;
    c->disabled = old->disabled;
    c->verifier_kind = old->verifier_kind;
    memcpy(c->fast, old->fast, sizeof c->fast);
    c->verifier = record_text(&at, old->verifier);
    c->patterns_count = old->patterns_count;
    c->patterns = old->patterns_count ? (void *)(c + 1) : NULL;
    for (unsigned i = 0; i < old->patterns_count; i++)
        c->patterns[i] = record_text(&at, old->patterns[i]);
    c->live = old->live;
    return c;
}

/* In the place of `old`, or, since what it is found by has changed, in a place of its own first: a
 * reader finds one of them at any time. */
static void enter(struct table *t, uint64_t old_hash, struct counted *old, uint64_t hash,
                  struct counted *record)
{
    bool moved = old && old_hash != hash;
    table_put(t, hash, moved ? NULL : old, record);
    if (moved)
        table_remove(t, old_hash, old);
}

static uint64_t hash_credential(const struct memory *m, const struct credential *c)
{
    return hash_text(m, c->kind == CREDENTIAL_DEVICE ? c->name : slice_of(c->fast, 32));
}

static struct table *table_of(struct memory *m, const struct credential *c)
{
    return c->kind == CREDENTIAL_DEVICE ? &m->devices : &m->keys;
}

/* Enters `c` in the place of `old` (NULL: anew) everywhere. */
static void enter_credential(struct memory *m, struct holding *h, struct credential *old,
                             struct credential *c)
{
    enter(table_of(m, c), old ? hash_credential(m, old) : 0, head(old), hash_credential(m, c),
          head(c));
    table_put(&m->credentials, hash_number(c->number), head(old), head(c));
    pthread_rwlock_wrlock(&m->lists);
    roll_put(&h->credentials[c->kind], head(c));
    pthread_rwlock_unlock(&m->lists);
    if (m->loaded)
        m->loaded(m->loaded_arg, c);
    credential_unref(old);
}

static void replace_account(struct memory *m, struct holding *h, struct account *a,
                            uint64_t version)
{
    struct account *old = h->account;
    a->live = old->live;
    table_put(&m->accounts_by_name, hash_text(m, a->name), head(old), head(a));
    table_put(&m->accounts, hash_number(a->number), head(old), head(a));
    pthread_rwlock_wrlock(&m->lists);
    h->account = a;
    pthread_rwlock_unlock(&m->lists);
    for (unsigned kind = 0; kind < 2; kind++) {
        for (size_t i = 0; i < h->credentials[kind].count; i++) {
            struct credential *was = (void *)h->credentials[kind].records[i];
            enter_credential(m, h, was, new_version(was, a, version));
        }
    }
    account_unref(old);
}

/* Who still holds a removed account may look at it meanwhile. */
static void empty_account_live(struct account_live *l)
{
    atomic_store_explicit(&l->told, 0, memory_order_relaxed);
    atomic_store_explicit(&l->contended_until_ns, 0, memory_order_relaxed);
    spin_lock(&l->lock);
    l->epoch = l->active = l->active_before = 0;
    l->promised_ns = 0;
    spin_unlock(&l->lock);
}

void memory_put_account(struct memory *m, struct account *a, uint64_t version)
{
    struct holding *h = holding_of(m, a->number);
    if (h) {
        CHECK(slice_eq(h->account->name, a->name));
        replace_account(m, h, a, version);
        return;
    }
    a->live = pool_take(&m->account_lives);
    empty_account_live(a->live); /* it may have been another's */
    pthread_rwlock_wrlock(&m->lists);
    holding_add(m, a);
    pthread_rwlock_unlock(&m->lists);
    table_put(&m->accounts_by_name, hash_text(m, a->name), NULL, head(a));
    table_put(&m->accounts, hash_number(a->number), NULL, head(a));
    m->accounts_count++;
}

/* Out of the tables: no look-up finds it from here on. */
static void hide_credential(struct memory *m, struct credential *c)
{
    table_remove(table_of(m, c), hash_credential(m, c), head(c));
    table_remove(&m->credentials, hash_number(c->number), head(c));
    pool_put(&m->credential_lives, c->live);
    m->credentials_count--;
}

static void hide_group(struct memory *m, struct group *g)
{
    struct feed_name name = {g->account, g->key};
    table_remove(&m->groups_by_key, hash_feed(m, &name), head(g));
    table_remove(&m->groups, hash_number(g->number), head(g));
}

static void hide_feed(struct memory *m, struct feed *f)
{
    struct feed_name name = {f->account, f->key};
    table_remove(&m->feeds_by_key, hash_feed(m, &name), head(f));
    table_remove(&m->feeds, hash_number(f->number), head(f));
    m->feeds_count--;
}

void memory_remove_account(struct memory *m, uint64_t number)
{
    struct holding *h = holding_of(m, number);
    if (!h)
        return;
    struct account *a = h->account;
    for (unsigned kind = 0; kind < 2; kind++) {
        for (size_t i = 0; i < h->credentials[kind].count; i++)
            hide_credential(m, (void *)h->credentials[kind].records[i]);
    }
    for (size_t i = 0; i < h->feeds.count; i++)
        hide_feed(m, (void *)h->feeds.records[i]);
    for (size_t i = 0; i < h->groups.count; i++)
        hide_group(m, (void *)h->groups.records[i]);
    table_remove(&m->accounts_by_name, hash_text(m, a->name), head(a));
    table_remove(&m->accounts, hash_number(number), head(a));
    pthread_rwlock_wrlock(&m->lists);
    size_t at = holding_at(m, number);
    m->holdings_count--;
    memmove(m->holdings + at, m->holdings + at + 1, (m->holdings_count - at) * sizeof *m->holdings);
    pthread_rwlock_unlock(&m->lists);
    pool_put(&m->account_lives, a->live);
    m->accounts_count--;
    holding_free(h);
}

/* ---- credentials ----------------------------------------------------------------------------- */

static void empty_live(struct credential_live *l)
{
    spin_lock(&l->lock);
    l->set = 0;
    memset(l->tag, 0, sizeof l->tag);
    l->version = 0;
    l->check_at_ns = 0;
    spin_unlock(&l->lock);
}

static bool same_verifier(const struct credential *a, const struct credential *b)
{
    return a->verifier_kind == b->verifier_kind && slice_eq(a->verifier, b->verifier) &&
           memcmp(a->fast, b->fast, sizeof a->fast) == 0;
}

bool memory_put_credential(struct memory *m, struct credential *c, uint64_t account)
{
    struct holding *h = holding_of(m, account);
    if (!h) {
        credential_unref(c);
        return false;
    }
    c->account = account_ref(h->account);
    struct credential *old =
        (void *)table_find(&m->credentials, hash_number(c->number), is_number, &c->number);
    if (old) {
        /* One slot for life. A check of the old verifier that is still running may write to it
         * afterwards, which harms nothing: the tag covers the stored verifier. */
        CHECK(old->kind == c->kind && slice_eq(old->name, c->name));
        c->live = old->live;
    } else {
        c->live = pool_take(&m->credential_lives);
        c->live->known = 0; /* it may have been another's */
        m->credentials_count++;
    }
    if (!old || !same_verifier(old, c))
        empty_live(c->live);
    enter_credential(m, h, old, c);
    return true;
}

void memory_remove_credential(struct memory *m, uint64_t number)
{
    struct credential *c =
        (void *)table_find(&m->credentials, hash_number(number), is_number, &number);
    if (!c)
        return;
    struct holding *h = holding_of(m, c->account->number);
    CHECK(h);
    hide_credential(m, c);
    pthread_rwlock_wrlock(&m->lists);
    roll_remove(&h->credentials[c->kind], head(c));
    pthread_rwlock_unlock(&m->lists);
    credential_unref(c);
}

/* ---- feeds ----------------------------------------------------------------------------------- */

bool memory_put_feed(struct memory *m, struct feed *f)
{
    struct holding *h = holding_of(m, f->account);
    if (!h) {
        feed_unref(f);
        return false;
    }
    struct feed *old = (void *)table_find(&m->feeds, hash_number(f->number), is_number, &f->number);
    struct feed_name name = {f->account, f->key}, was = {f->account, old ? old->key : f->key};
    enter(&m->feeds_by_key, hash_feed(m, &was), head(old), hash_feed(m, &name), head(f));
    table_put(&m->feeds, hash_number(f->number), head(old), head(f));
    pthread_rwlock_wrlock(&m->lists);
    roll_put(&h->feeds, head(f));
    pthread_rwlock_unlock(&m->lists);
    m->feeds_count += old == NULL;
    feed_unref(old);
    return true;
}

void memory_remove_feed(struct memory *m, uint64_t number)
{
    struct feed *f = (void *)table_find(&m->feeds, hash_number(number), is_number, &number);
    if (!f)
        return;
    struct holding *h = holding_of(m, f->account);
    CHECK(h);
    hide_feed(m, f);
    pthread_rwlock_wrlock(&m->lists);
    roll_remove(&h->feeds, head(f));
    pthread_rwlock_unlock(&m->lists);
    feed_unref(f);
}

/* ---- groups ---------------------------------------------------------------------------------- */

bool memory_put_group(struct memory *m, struct group *g)
{
    struct holding *h = holding_of(m, g->account);
    if (!h) {
        group_unref(g);
        return false;
    }
    struct group *old =
        (void *)table_find(&m->groups, hash_number(g->number), is_number, &g->number);
    struct feed_name name = {g->account, g->key}, was = {g->account, old ? old->key : g->key};
    enter(&m->groups_by_key, hash_feed(m, &was), head(old), hash_feed(m, &name), head(g));
    table_put(&m->groups, hash_number(g->number), head(old), head(g));
    pthread_rwlock_wrlock(&m->lists);
    roll_put(&h->groups, head(g));
    pthread_rwlock_unlock(&m->lists);
    group_unref(old);
    return true;
}

void memory_remove_group(struct memory *m, uint64_t number)
{
    struct group *g = (void *)table_find(&m->groups, hash_number(number), is_number, &number);
    if (!g)
        return;
    struct holding *h = holding_of(m, g->account);
    CHECK(h);
    hide_group(m, g);
    pthread_rwlock_wrlock(&m->lists);
    roll_remove(&h->groups, head(g));
    pthread_rwlock_unlock(&m->lists);
    group_unref(g);
}
