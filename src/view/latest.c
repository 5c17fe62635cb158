/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table: LATEST_SHARDS shards, each an array with linear probing and a spinlock. The projector
 * thread is the only writer; it takes the lock to change something and reads without. Readers hold
 * it for one probe and one copy.
 *
 * An entry is one cache line and holds a payload of up to INLINE_BYTES itself. Arrays grow by a
 * quarter, not by doubling, so a million feeds take 73 to 92 MB; places are found by multiplying
 * the hash, which needs no power of two.
 *
 * States of an entry. VALUE: the newest datum. GONE: the newest was deleted; its place in the order
 * is kept, since only a datum above it is known to be the newest again. Absent: no data.
 */
#include "view/latest_own.h"

#include <errno.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/metric.h"

#define SHARD_FIRST 16u
#define IN_PLACE_MAX                                                                               \
    512u /* bytes of a payload that takes the place of one as long: under the lock */

static uint64_t feed_hash(uint64_t feed)
{
    feed = (feed ^ feed >> 33) * 0xff51afd7ed558ccdull;
    feed = (feed ^ feed >> 33) * 0xc4ceb9fe1a85ec53ull;
    return feed ^ feed >> 33;
}

static struct latest_shard *shard_of(struct latest *l, uint64_t hash)
{
    return &l->shards[hash >> 56];
}

static uint32_t place_of(const struct latest_shard *s, uint64_t hash)
{
    return (uint32_t)((hash & UINT32_MAX) * s->places >> 32);
}

static uint32_t place_next(const struct latest_shard *s, uint32_t i)
{
    return i + 1 < s->places ? i + 1 : 0;
}

static struct latest_entry *find(const struct latest_shard *s, uint64_t hash, uint64_t feed)
{
    for (uint32_t i = place_of(s, hash);; i = place_next(s, i)) {
        if (s->at[i].feed == feed)
            return &s->at[i];
        if (s->at[i].feed == 0)
            return NULL;
    }
}

const char *latest_payload(const struct latest_entry *e)
{
    const char *big;
    if (e->len <= INLINE_BYTES)
        return e->bytes;
    memcpy(&big, e->bytes, sizeof big);
    return big;
}

static void count(_Atomic uint64_t *sum, int64_t by)
{
    atomic_store_explicit(sum, atomic_load_explicit(sum, memory_order_relaxed) + (uint64_t)by,
                          memory_order_relaxed);
}

/* What is allocated for a payload that is not in the entry: those of about one length take each
 * other's place. */
static size_t room_of(size_t len)
{
    return (len + 15) & ~(size_t)15;
}

static bool fits_in_place(const struct latest_entry *e, struct slice payload)
{
    return e && payload.len > INLINE_BYTES && payload.len <= IN_PLACE_MAX &&
           e->len > INLINE_BYTES && room_of(e->len) == room_of(payload.len);
}

/* Gives the entry a copy of the payload; `old` is freed by the caller without the lock. */
static void set_payload(struct latest *l, struct latest_entry *e, struct slice payload, char *copy,
                        char **ret_old)
{
    *ret_old = NULL;
    if (e->len > INLINE_BYTES) {
        memcpy(ret_old, e->bytes, sizeof *ret_old);
        count(&l->bytes, -(int64_t)e->len);
    }
    e->len = (uint32_t)payload.len & INT32_MAX;
    if (copy) {
        memcpy(e->bytes, &copy, sizeof copy);
        count(&l->bytes, (int64_t)payload.len);
    } else if (payload.len) {
        memcpy(e->bytes, payload.ptr, payload.len);
    }
}

/* A heap copy for what does not fit into an entry. */
static char *copy_big(struct slice payload)
{
    if (payload.len <= INLINE_BYTES)
        return NULL;
    char *copy = malloc(room_of(payload.len));
    CHECK(copy);
    memcpy(copy, payload.ptr, payload.len);
    return copy;
}

static void shard_grow(struct latest *l, struct latest_shard *s)
{
    struct latest_shard old = *s, grown = old;
    grown.places = old.places + old.places / 4;
    grown.at = aligned_alloc(64, grown.places * sizeof *grown.at);
    CHECK(grown.at);
    memset(grown.at, 0, grown.places * sizeof *grown.at);
    for (uint32_t i = 0; i < old.places; i++) {
        if (!old.at[i].feed)
            continue;
        uint32_t k = place_of(&grown, feed_hash(old.at[i].feed));
        while (grown.at[k].feed)
            k = place_next(&grown, k);
        grown.at[k] = old.at[i];
    }
    count(&l->bytes, (int64_t)(grown.places - old.places) * (int64_t)sizeof *grown.at);
    spin_lock(&s->lock);
    s->at = grown.at;
    s->places = grown.places;
    spin_unlock(&s->lock);
    free(old.at);
}

/* A new entry, at most 7/8 of the places being taken. Returns with the shard locked. */
static struct latest_entry *insert(struct latest *l, struct latest_shard *s, uint64_t hash,
                                   uint64_t feed)
{
    if ((s->count + 1) * 8ull > s->places * 7ull)
        shard_grow(l, s);
    spin_lock(&s->lock);
    uint32_t i = place_of(s, hash);
    while (s->at[i].feed)
        i = place_next(s, i);
    s->at[i] = (struct latest_entry){.feed = feed};
    s->count++;
    count(&l->feeds, 1);
    return &s->at[i];
}

void latest_put(struct latest *l, const struct latest_entry *e, struct slice payload)
{
    uint64_t hash = feed_hash(e->feed);
    struct latest_shard *s = shard_of(l, hash);
    struct latest_entry *to = find(s, hash, e->feed);
    bool in_place = fits_in_place(to, payload);
    char *copy = in_place ? NULL : copy_big(payload), *old = NULL;
    if (to)
        spin_lock(&s->lock);
    else
        to = insert(l, s, hash, e->feed);
    to->event_us = e->event_us;
    to->offset = e->offset;
    to->version = e->version;
    to->gone = e->gone;
    to->key_id = e->key_id;
    if (in_place) {
        memcpy((char *)(uintptr_t)latest_payload(to), payload.ptr, payload.len);
        count(&l->bytes, (int64_t)payload.len - (int64_t)to->len);
        to->len = (uint32_t)payload.len & INT32_MAX;
    } else {
        set_payload(l, to, payload, copy, &old);
    }
    spin_unlock(&s->lock);
    free(old);
}

/* Takes the entry out and moves those behind it up, so that no probe ends too early. */
static void erase(struct latest *l, struct latest_shard *s, struct latest_entry *e)
{
    char *old;
    spin_lock(&s->lock);
    set_payload(l, e, (struct slice){0}, NULL, &old);
    uint32_t hole = (uint32_t)(e - s->at);
    for (uint32_t i = place_next(s, hole); s->at[i].feed; i = place_next(s, i)) {
        uint32_t home = place_of(s, feed_hash(s->at[i].feed));
        /* It may move if its home does not lie behind the hole, seen around the end. */
        bool stays = hole <= i ? home > hole && home <= i : home > hole || home <= i;
        if (stays)
            continue;
        s->at[hole] = s->at[i];
        hole = i;
    }
    s->at[hole] = (struct latest_entry){0};
    s->count--;
    count(&l->feeds, -1);
    spin_unlock(&s->lock);
    free(old);
}

/* ---- applying -------------------------------------------------------------------------------- */

/* Something about the feed's data that does not show here. */
static void touch(struct latest_shard *s, struct latest_entry *e, uint64_t offset)
{
    spin_lock(&s->lock);
    e->version = offset + 1;
    spin_unlock(&s->lock);
}

static void touch_feed(struct latest *l, uint64_t feed, uint64_t offset)
{
    uint64_t hash = feed_hash(feed);
    struct latest_entry *e = find(shard_of(l, hash), hash, feed);
    if (e)
        touch(shard_of(l, hash), e, offset);
}

static void apply_datum(struct latest *l, const struct record *r, uint64_t offset)
{
    struct datum unused;
    if (!datum_decode(r->payload, &unused) || r->payload.len > LATEST_PAYLOAD_MAX)
        return;
    uint64_t hash = feed_hash(r->feed);
    struct latest_entry *e = find(shard_of(l, hash), hash, r->feed);
    if (e && (r->event_us < e->event_us || (r->event_us == e->event_us && offset <= e->offset))) {
        touch(shard_of(l, hash), e, offset);
        return;
    }
    latest_put(l,
               &(struct latest_entry){.feed = r->feed,
                                      .event_us = r->event_us,
                                      .offset = offset,
                                      .version = offset + 1,
                                      .key_id = r->key_id},
               r->payload);
}

/* The entry whose datum the record is about, if that is the newest of its feed. */
static const struct latest_entry *find_target(struct latest *l, const struct record *r)
{
    struct datum_target id;
    if (!datum_target_decode(r->payload, &id))
        return NULL;
    uint64_t hash = feed_hash(r->feed);
    const struct latest_entry *e = find(shard_of(l, hash), hash, r->feed);
    if (!e || e->gone || e->offset != id.offset)
        return NULL;
    /* The time of an id has 48 bits. */
    uint64_t differ = (uint64_t)(e->event_us / 1000) ^ (uint64_t)id.event_ms;
    return differ << 16 ? NULL : e;
}

static void apply_changed(struct latest *l, const struct record *r, uint64_t offset)
{
    struct datum unused;
    const struct latest_entry *e = find_target(l, r);
    struct slice payload = slice_from(r->payload, DATUM_TARGET_BYTES);
    if (!e || !datum_decode(payload, &unused) || payload.len > LATEST_PAYLOAD_MAX) {
        touch_feed(l, r->feed, offset);
        return;
    }
    struct latest_entry changed = *e;
    changed.version = offset + 1;
    changed.key_id = r->key_id;
    latest_put(l, &changed, payload);
}

static void apply_deleted(struct latest *l, const struct record *r, uint64_t offset)
{
    const struct latest_entry *e;
    if (r->payload.len == 0) { /* the whole feed */
        uint64_t hash = feed_hash(r->feed);
        struct latest_shard *s = shard_of(l, hash);
        struct latest_entry *all = find(s, hash, r->feed);
        if (all)
            erase(l, s, all);
    } else if ((e = find_target(l, r))) {
        struct latest_entry gone = *e;
        gone.gone = true;
        gone.version = offset + 1;
        latest_put(l, &gone, (struct slice){0});
    } else {
        touch_feed(l, r->feed, offset);
    }
}

void latest_prefetch(struct latest *l, uint64_t feed)
{
    uint64_t hash = feed_hash(feed);
    const struct latest_shard *s = shard_of(l, hash);
    __builtin_prefetch(&s->at[place_of(s, hash)], 1);
}

void latest_prefetch_end(struct latest *l, uint64_t feed)
{
    uint64_t hash = feed_hash(feed);
    const struct latest_entry *e = find(shard_of(l, hash), hash, feed);
    if (!e || e->len <= INLINE_BYTES)
        return;
    const char *payload = latest_payload(e);
    __builtin_prefetch(payload, 1);
    __builtin_prefetch(payload + 64, 1);
}

void latest_apply(struct latest *l, const struct record *r, uint64_t offset)
{
    if (offset < l->applied)
        return;
    l->applied = offset + 1;
    if (r->feed == 0)
        return;
    if (r->kind == RECORD_DATUM)
        apply_datum(l, r, offset);
    else if (r->kind == RECORD_CHANGED)
        apply_changed(l, r, offset);
    else if (r->kind == RECORD_DELETED)
        apply_deleted(l, r, offset);
}

/* ---- reading --------------------------------------------------------------------------------- */

enum latest_found latest_get(struct latest *l, uint64_t feed, struct buf *storage,
                             struct latest_value *ret)
{
    buf_clear(storage);
    if (feed == 0)
        return LATEST_NONE;
    uint64_t hash = feed_hash(feed);
    struct latest_shard *s = shard_of(l, hash);
    struct latest_entry e = {0};
    spin_lock(&s->lock);
    const struct latest_entry *at = find(s, hash, feed);
    if (at) {
        e = *at;
        buf_put(storage, latest_payload(at), at->len);
    }
    spin_unlock(&s->lock);
    if (!at)
        return LATEST_NONE;
    /* A storage that is too small is the caller's mistake; an answer from history is the right one.
     */
    if (e.gone || storage->failed)
        return LATEST_ASK_HISTORY;
    CHECK(datum_decode(buf_slice(storage), &ret->datum));
    ret->event_us = e.event_us;
    ret->offset = e.offset;
    return LATEST_VALUE;
}

uint64_t latest_version(struct latest *l, uint64_t feed)
{
    uint64_t hash = feed_hash(feed), version = 0;
    struct latest_shard *s = shard_of(l, hash);
    spin_lock(&s->lock);
    const struct latest_entry *e = feed ? find(s, hash, feed) : NULL;
    if (e)
        version = e->version;
    spin_unlock(&s->lock);
    return version;
}

struct latest_stats latest_stats(struct latest *l)
{
    return (struct latest_stats){.feeds = l->feeds, .bytes = l->bytes};
}

/* ---- life ------------------------------------------------------------------------------------ */

struct latest *latest_new(const struct latest_opts *opts)
{
    struct latest *l = aligned_alloc(64, sizeof *l);
    CHECK(l);
    memset(l, 0, sizeof *l);
    l->opts = *opts;
    l->path = strdup(opts->path);
    CHECK(l->path);
    l->sealer = opts->keyring ? sealer_new(opts->keyring) : NULL;
    buf_init(&l->opened, LATEST_PAYLOAD_MAX + SEAL_BYTES);
    for (unsigned i = 0; i < LATEST_SHARDS; i++) {
        struct latest_shard *s = &l->shards[i];
        s->places = SHARD_FIRST;
        s->at = aligned_alloc(64, SHARD_FIRST * sizeof *s->at);
        CHECK(s->at);
        memset(s->at, 0, SHARD_FIRST * sizeof *s->at);
    }
    count(&l->bytes, (int64_t)(LATEST_SHARDS * SHARD_FIRST * sizeof(struct latest_entry)));
    return l;
}

void latest_close(struct latest *l)
{
    if (!l)
        return;
    for (unsigned i = 0; i < LATEST_SHARDS; i++) {
        struct latest_shard *s = &l->shards[i];
        for (uint32_t k = 0; k < s->places; k++)
            if (s->at[k].len > INLINE_BYTES)
                free((char *)(uintptr_t)latest_payload(&s->at[k]));
        free(s->at);
    }
    sealer_free(l->sealer);
    buf_fini(&l->opened);
    free(l->path);
    free(l);
}
