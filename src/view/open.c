/* SPDX-License-Identifier: Apache-2.0 */
#include "view/open.h"

#include <errno.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/thread.h"
#include "view/arena.h"
#include "view/bits.h"

enum {
    SHARD_FIRST = 16,  /* places */
    BLOCK_FIRST = 128, /* bytes of a chunk's first block, with its head; the next are twice */
    BLOCK_MAX = OPEN_SEAL_BYTES + 1024, /* as large; the last one holds all that is not sealed */
    POINT_HEAD_MAX = 25,                /* two steps and a length */
    OPS_MAX = 64 << 20, /* bytes of one feed's changes; the table's bound is reached before */
};

struct shard {
    struct spin lock;
    uint32_t mask, count;
    struct open_feed *at;
} __attribute__((aligned(64)));

struct open_table {
    struct shard shards[OPEN_SHARDS];
    _Atomic uint64_t bytes, feeds;
    size_t entries;
    struct arena arena;     /* the blocks, until the next flush */
    struct point_list list; /* for sealing */
    struct buf text, row;
};

/* The finalizer of MurmurHash3: feed numbers are dense. */
static uint64_t feed_hash(uint64_t feed)
{
    feed = (feed ^ feed >> 33) * 0xff51afd7ed558ccdull;
    feed = (feed ^ feed >> 33) * 0xc4ceb9fe1a85ec53ull;
    return feed ^ feed >> 33;
}

static struct shard *shard_of(struct open_table *t, uint64_t hash)
{
    return &t->shards[hash >> 56];
}

static void count_bytes(struct open_table *t, int64_t by)
{
    uint64_t now = atomic_load_explicit(&t->bytes, memory_order_relaxed);
    atomic_store_explicit(&t->bytes, now + (uint64_t)by, memory_order_relaxed);
}

/* Of the table; zeroed. */
static struct open_feed *new_places(uint32_t places)
{
    struct open_feed *at = aligned_alloc(64, places * sizeof *at);
    CHECK(at);
    memset(at, 0, places * sizeof *at);
    return at;
}

struct open_table *open_new(void)
{
    struct open_table *t = aligned_alloc(64, sizeof *t);
    CHECK(t);
    memset(t, 0, sizeof *t);
    for (unsigned i = 0; i < OPEN_SHARDS; i++) {
        t->shards[i].at = new_places(SHARD_FIRST);
        t->shards[i].mask = SHARD_FIRST - 1;
    }
    count_bytes(t, (int64_t)(OPEN_SHARDS * SHARD_FIRST * sizeof(struct open_feed)));
    arena_init(&t->arena);
    buf_init(&t->text, 1);
    buf_init(&t->row, SIZE_MAX / 2);
    points_init(&t->list, &t->text);
    return t;
}

static void sealed_unref(struct sealed *s)
{
    if (atomic_fetch_sub(&s->refs, 1) == 1)
        free(s);
}

static void more_free(struct open_table *t, struct open_more *m)
{
    if (!m)
        return;
    count_bytes(t, -(int64_t)(sizeof *m + m->ops.cap));
    for (struct sealed *s = m->sealed, *next; s; s = next) {
        next = s->next;
        count_bytes(t, -(int64_t)(sizeof *s + s->len));
        sealed_unref(s);
    }
    buf_fini(&m->ops);
    free(m);
}

void open_free(struct open_table *t)
{
    if (!t)
        return;
    for (unsigned i = 0; i < OPEN_SHARDS; i++) {
        struct shard *s = &t->shards[i];
        for (uint32_t k = 0; s->at && k <= s->mask; k++)
            more_free(t, s->at[k].more);
        free(s->at);
    }
    arena_fini(&t->arena);
    points_fini(&t->list);
    buf_fini(&t->text);
    buf_fini(&t->row);
    free(t);
}

static struct open_feed *shard_find(const struct shard *s, uint64_t hash, uint64_t feed)
{
    for (uint32_t i = (uint32_t)hash & s->mask;; i = (i + 1) & s->mask) {
        if (s->at[i].feed == feed)
            return &s->at[i];
        if (s->at[i].feed == 0)
            return NULL;
    }
}

void open_prefetch(struct open_table *t, uint64_t feed)
{
    uint64_t hash = feed_hash(feed);
    const struct shard *s = shard_of(t, hash);
    __builtin_prefetch(&s->at[(uint32_t)hash & s->mask], 1);
}

struct open_feed *open_find(struct open_table *t, uint64_t feed)
{
    uint64_t hash = feed_hash(feed);
    return shard_find(shard_of(t, hash), hash, feed);
}

void open_prefetch_end(struct open_table *t, uint64_t feed)
{
    const struct open_feed *f = open_find(t, feed);
    if (!f || !f->last)
        return;
    /* About where the last block is filled to: what it says itself is not here yet. */
    uint32_t at = f->len, cap = BLOCK_FIRST - sizeof *f->last;
    for (; at > cap && cap < BLOCK_MAX; cap = 2 * cap + sizeof *f->last)
        at -= cap;
    __builtin_prefetch(f->last, 1);
    __builtin_prefetch(f->last->bytes + at, 1);
    __builtin_prefetch(f->last->bytes + at + 64, 1);
}

void open_prefetch_chunk(const struct open_feed *f)
{
    const char *at = (const char *)f->first;
    for (unsigned i = 0; at && i < BLOCK_FIRST; i += 64)
        __builtin_prefetch(at + i);
}

static void place_entry(struct open_feed *at, uint32_t mask, const struct open_feed *f)
{
    uint32_t i = (uint32_t)feed_hash(f->feed) & mask;
    while (at[i].feed)
        i = (i + 1) & mask;
    at[i] = *f;
}

/* Moves what is in the shard, but for entries that `drop` names, to a table of `places`. */
static void shard_rebuild(struct open_table *t, struct shard *s, uint32_t places,
                          bool (*drop)(const struct open_feed *f, size_t over), size_t over)
{
    struct open_feed *fresh = new_places(places), *old = s->at;
    uint32_t count = 0;
    for (uint32_t i = 0; i <= s->mask; i++) {
        if (!old[i].feed)
            continue;
        if (drop && drop(&old[i], over))
            continue;
        place_entry(fresh, places - 1, &old[i]);
        count++;
    }
    count_bytes(t, ((int64_t)places - s->mask - 1) * (int64_t)sizeof *fresh);
    t->entries -= s->count - count;
    spin_lock(&s->lock);
    s->at = fresh;
    s->mask = places - 1;
    s->count = count;
    spin_unlock(&s->lock);
    free(old);
}

/* The feed's entry, made if it is missing. Returns with the shard locked. */
static struct open_feed *enter(struct open_table *t, uint64_t feed, struct shard **ret)
{
    uint64_t hash = feed_hash(feed);
    struct shard *s = *ret = shard_of(t, hash);
    struct open_feed *f = shard_find(s, hash, feed);
    if (!f && (s->count + 1) * 4 > (s->mask + 1) * 3)
        shard_rebuild(t, s, (s->mask + 1) * 2, NULL, 0);
    spin_lock(&s->lock);
    if (!f) {
        uint32_t i = (uint32_t)hash & s->mask;
        while (s->at[i].feed)
            i = (i + 1) & s->mask;
        f = &s->at[i];
        f->feed = feed;
        s->count++;
        t->entries++;
    }
    if (!f->active) {
        f->active = true;
        atomic_fetch_add_explicit(&t->feeds, 1, memory_order_relaxed);
    }
    return f;
}

static struct open_more *more_of(struct open_table *t, struct open_feed *f)
{
    if (!f->more) {
        f->more = calloc(1, sizeof *f->more);
        CHECK(f->more);
        buf_init(&f->more->ops, OPS_MAX);
        count_bytes(t, (int64_t)sizeof *f->more);
    }
    return f->more;
}

/* The chunk is empty; its last block, the largest, is filled again. With the lock held. */
static void chunk_clear(struct open_feed *f)
{
    f->first = f->last;
    if (f->last)
        f->last->len = 0;
    f->len = f->count = 0;
    f->last_us = 0;
    f->last_offset = 0;
}

/* The chunk's points as a row of its own. Called without the lock, by the only writer. */
static void seal(struct open_table *t, struct open_feed *f, struct shard *shard)
{
    t->list.count = 0;
    open_points(f, &t->list);
    points_sort(&t->list, false);
    buf_clear(&t->row);
    row_encode(&t->row, t->list.at, t->list.count);
    CHECK(!t->row.failed);
    struct sealed *s = malloc(sizeof *s + t->row.len);
    CHECK(s);
    *s = (struct sealed){.refs = 1, .count = (uint32_t)t->list.count, .len = (uint32_t)t->row.len};
    s->first = row_key_of(&t->list.at[0]);
    memcpy(s->row, t->row.ptr, t->row.len);
    count_bytes(t, (int64_t)(sizeof *s + s->len));

    spin_lock(&shard->lock);
    struct open_more *m = more_of(t, f);
    if (m->sealed_last)
        m->sealed_last->next = s;
    else
        m->sealed = s;
    m->sealed_last = s;
    m->sealed_count++;
    chunk_clear(f);
    spin_unlock(&shard->lock);
}

/* A block at the chunk's end with room for `need` bytes. With the lock held. */
static void chunk_grow(struct open_table *t, struct open_feed *f, size_t need)
{
    size_t size = f->last ? 2 * (sizeof *f->last + f->last->cap) : BLOCK_FIRST;
    if (size > BLOCK_MAX)
        size = BLOCK_MAX;
    if (size < sizeof *f->last + need)
        size = (sizeof *f->last + need + 15) & ~(size_t)15;
    uint64_t before = t->arena.bytes;
    struct open_block *b = arena_take(&t->arena, size);
    count_bytes(t, (int64_t)(t->arena.bytes - before));
    b->next = NULL;
    b->len = 0;
    b->cap = (uint32_t)(size - sizeof *b);
    if (f->last)
        f->last->next = b;
    else
        f->first = b;
    f->last = b;
}

void open_put(struct open_table *t, uint64_t feed, struct row_key key, struct slice payload)
{
    struct shard *shard;
    struct open_feed *f = enter(t, feed, &shard);
    uint8_t head[POINT_HEAD_MAX], *to = head;
    to = varint_put(to, zigzag((uint64_t)key.us - (uint64_t)f->last_us));
    to = varint_put(to, zigzag(key.offset - f->last_offset));
    to = varint_put(to, payload.len);
    size_t head_len = (size_t)(to - head), need = head_len + payload.len;
    if (!f->last || need > f->last->cap - f->last->len)
        chunk_grow(t, f, need);
    uint8_t *at = f->last->bytes + f->last->len;
    memcpy(at, head, head_len);
    memcpy(at + head_len, payload.ptr, payload.len);
    f->last->len += (uint32_t)need;
    f->len += (uint32_t)need;
    f->last_us = key.us;
    f->last_offset = key.offset;
    f->count++;
    bool full = f->len >= OPEN_SEAL_BYTES || f->count >= OPEN_SEAL_POINTS;
    spin_unlock(&shard->lock);
    if (full)
        seal(t, f, shard);
}

void open_op(struct open_table *t, uint64_t feed, struct datum_target id, struct slice payload)
{
    struct shard *shard;
    struct open_feed *f = enter(t, feed, &shard);
    struct open_more *m = more_of(t, f);
    size_t before = m->ops.cap;
    op_put(&m->ops, (struct op){.offset = id.offset,
                                .event_ms = op_event_ms(id.event_ms),
                                .deleted = !payload.ptr,
                                .payload = payload});
    CHECK(!m->ops.failed);
    count_bytes(t, (int64_t)(m->ops.cap - before));
    spin_unlock(&shard->lock);
}

/* Everything but the floor. With the lock held. */
static void entry_clear(struct open_table *t, struct open_feed *f)
{
    more_free(t, f->more);
    f->more = NULL;
    chunk_clear(f);
}

void open_drop(struct open_table *t, uint64_t feed, uint64_t floor)
{
    struct shard *shard;
    struct open_feed *f = enter(t, feed, &shard);
    entry_clear(t, f);
    more_of(t, f)->floor = floor;
    f->fresh_rows = 0;
    spin_unlock(&shard->lock);
}

struct numbered {
    uint64_t feed;
    struct open_feed *entry;
};

static int by_feed(const void *a, const void *b)
{
    uint64_t x = ((const struct numbered *)a)->feed, y = ((const struct numbered *)b)->feed;
    return x < y ? -1 : x > y;
}

size_t open_active(struct open_table *t, struct open_feed ***ret)
{
    size_t n = 0, max = (size_t)open_feeds(t);
    struct numbered *found = malloc((max + 1) * sizeof *found);
    struct open_feed **all = malloc((max + 1) * sizeof *all);
    CHECK(found && all);
    for (unsigned i = 0; i < OPEN_SHARDS; i++)
        for (uint32_t k = 0; k <= t->shards[i].mask; k++)
            if (t->shards[i].at[k].active)
                found[n++] = (struct numbered){t->shards[i].at[k].feed, &t->shards[i].at[k]};
    CHECK(n == max);
    qsort(found, n, sizeof *found, by_feed);
    for (size_t i = 0; i < n; i++)
        all[i] = found[i].entry;
    free(found);
    *ret = all;
    return n;
}

/* Where a walk through a chunk is: the key of the point before. */
struct chunk_walk {
    uint64_t us, offset;
};

/* Walks a chunk that open_put wrote, or a block of it. */
static bool walk_chunk(struct chunk_walk *w, const uint8_t *at, size_t len, struct point_list *ret,
                       bool copy)
{
    const uint8_t *end = at + len;
    uint64_t v;
    while (at < end) {
        struct history_point p = {0};
        CHECK((at = varint_get(at, end, &v)));
        p.event_us = (int64_t)(w->us += unzigzag(v));
        CHECK((at = varint_get(at, end, &v)));
        p.offset = w->offset += unzigzag(v);
        CHECK((at = varint_get(at, end, &v)) && v <= (size_t)(end - at));
        CHECK(datum_decode(slice_of(at, (size_t)v), &p.datum));
        at += v;
        if (copy) {
            if (!points_add(ret, p))
                return false;
        } else {
            if (!points_reserve(ret, 1))
                return false;
            ret->at[ret->count++] = p;
        }
    }
    return true;
}

void open_points(const struct open_feed *f, struct point_list *ret)
{
    struct chunk_walk w = {0};
    for (const struct open_block *b = f->first; b; b = b->next) {
        __builtin_prefetch(b->next);
        CHECK(walk_chunk(&w, b->bytes, b->len, ret, false));
    }
}

static bool is_idle(const struct open_feed *f, size_t over)
{
    return !f->active && !f->queued && (f->fresh_rows == 0 || over);
}

/* Makes the shard smaller when most of it is needed for nothing. */
static void shard_shrink(struct open_table *t, struct shard *s, size_t over)
{
    uint32_t idle = 0;
    for (uint32_t k = 0; k <= s->mask; k++)
        idle += s->at[k].feed && is_idle(&s->at[k], over);
    if (idle * 2 <= s->count)
        return;
    uint32_t places = SHARD_FIRST;
    while ((s->count - idle + 1) * 4 > places * 3)
        places *= 2;
    shard_rebuild(t, s, places, is_idle, over);
}

void open_clear(struct open_table *t, size_t entries_max)
{
    size_t over = t->entries > entries_max;
    for (unsigned i = 0; i < OPEN_SHARDS; i++) {
        struct shard *s = &t->shards[i];
        shard_shrink(t, s, over);
        for (uint32_t k = 0; k <= s->mask; k++) {
            struct open_feed *f = &s->at[k];
            if (!f->active && !f->last)
                continue;
            spin_lock(&s->lock);
            entry_clear(t, f);
            f->first = f->last = NULL;
            f->active = false;
            spin_unlock(&s->lock);
        }
    }
    uint64_t before = t->arena.bytes;
    arena_reset(&t->arena);
    count_bytes(t, (int64_t)(t->arena.bytes - before));
    atomic_store(&t->feeds, 0);
}

uint64_t open_bytes(const struct open_table *t)
{
    return atomic_load_explicit(&t->bytes, memory_order_relaxed);
}

uint64_t open_feeds(const struct open_table *t)
{
    return atomic_load_explicit(&t->feeds, memory_order_relaxed);
}

/* ---- readers --------------------------------------------------------------------------------- */

static bool copy_bytes(struct buf *to, const void *ptr, size_t len)
{
    buf_put(to, ptr, len);
    return !to->failed;
}

int open_copy(struct open_table *t, uint64_t feed, struct open_copy *ret)
{
    *ret = (struct open_copy){0};
    buf_init(&ret->chunk, SIZE_MAX / 2);
    buf_init(&ret->ops, SIZE_MAX / 2);
    uint64_t hash = feed_hash(feed);
    struct shard *s = shard_of(t, hash);
    bool ok = true;
    spin_lock(&s->lock);
    const struct open_feed *f = shard_find(s, hash, feed);
    if (f) {
        ret->count = f->count;
        ok = !f->len || buf_reserve(&ret->chunk, f->len);
        for (const struct open_block *b = f->first; b && ok; b = b->next)
            ok = copy_bytes(&ret->chunk, b->bytes, b->len);
    }
    if (f && f->more && ok) {
        const struct open_more *m = f->more;
        ret->floor = m->floor;
        ok = copy_bytes(&ret->ops, m->ops.ptr, m->ops.len);
        if (ok && m->sealed_count) {
            ret->sealed = malloc(m->sealed_count * sizeof *ret->sealed);
            ok = ret->sealed != NULL;
        }
        for (struct sealed *at = m->sealed; at && ok; at = at->next) {
            atomic_fetch_add_explicit(&at->refs, 1, memory_order_relaxed);
            ret->sealed[ret->sealed_count++] = at;
        }
    }
    spin_unlock(&s->lock);
    return ok ? 0 : -ENOMEM;
}

void open_copy_fini(struct open_copy *c)
{
    for (uint32_t i = 0; i < c->sealed_count; i++)
        sealed_unref(c->sealed[i]);
    free(c->sealed);
    buf_fini(&c->chunk);
    buf_fini(&c->ops);
    *c = (struct open_copy){0};
}

bool open_copy_points(const struct open_copy *c, struct point_list *ret)
{
    struct chunk_walk w = {0};
    return walk_chunk(&w, (const uint8_t *)c->chunk.ptr, c->chunk.len, ret, true);
}

/* ---- changes and deletions ------------------------------------------------------------------- */

#define OP_HEAD 21 /* u64 event ms, u64 offset, u8 deleted, u32 length */

void op_put(struct buf *out, struct op op)
{
    buf_put_u64(out, (uint64_t)op.event_ms);
    buf_put_u64(out, op.offset);
    buf_put_u8(out, op.deleted);
    buf_put_u32(out, (uint32_t)op.payload.len);
    buf_put_slice(out, op.payload);
}

bool op_next(struct slice ops, size_t *at, struct op *ret)
{
    if (ops.len - *at < OP_HEAD)
        return false;
    const char *p = ops.ptr + *at;
    uint32_t len;
    memcpy(&ret->event_ms, p, 8);
    memcpy(&ret->offset, p + 8, 8);
    ret->deleted = p[16] != 0;
    memcpy(&len, p + 17, 4);
    ret->payload = slice_of(p + OP_HEAD, len);
    *at += OP_HEAD + len;
    return true;
}

int64_t op_event_ms(int64_t id_ms)
{
    return (int64_t)((uint64_t)id_ms << 16) >> 16;
}
