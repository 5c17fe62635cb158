/* SPDX-License-Identifier: Apache-2.0 */
#include "journal/once.h"

#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/check.h"
#include "base/log.h"
#include "base/metric.h"

#define ENTRY_BYTES 128u /* of a key, about: sizes the buckets */

/* A remembered key; in the chain of its bucket, and in the order of offsets. */
struct key {
    struct key *chain, *newer, *older;
    uint64_t hash, credential, offset, fingerprint;
    int64_t receive_us, at_ns;
    uint32_t len;
    char bytes[];
};

struct slot {
    uint64_t sequence; /* 0: empty */
    uint64_t offset, fingerprint;
    int64_t receive_us;
};

/* The numbers of one credential; in the chain of its bucket, and in the order of last offsets. */
struct device {
    struct device *chain, *newer, *older;
    uint64_t credential, floor, last_offset;
    int64_t at_ns;
    struct slot slots[SEQUENCE_SLOTS];
};

struct once {
    struct once_opts opts;
    struct key **keys, *oldest, *newest;
    uint64_t keys_mask, keys_count, bytes;
    struct device **devices, *device_oldest, *device_newest;
    uint64_t devices_mask;
    uint32_t devices_count;
    bool told; /* that something was forgotten early; once is enough */
};

static uint64_t power_of_two(uint64_t at_least)
{
    uint64_t n = 64;
    while (n < at_least)
        n *= 2;
    return n;
}

struct once *once_new(const struct once_opts *opts)
{
    struct once *o = calloc(1, sizeof *o);
    CHECK(o);
    o->opts = *opts;
    uint64_t keys = power_of_two(opts->memory_max / ENTRY_BYTES);
    uint64_t devices = power_of_two(opts->devices_max);
    o->keys_mask = keys - 1;
    o->devices_mask = devices - 1;
    o->keys = calloc(keys, sizeof *o->keys); /* pages that are never looked at cost nothing */
    o->devices = calloc(devices, sizeof *o->devices);
    CHECK(o->keys && o->devices);
    return o;
}

/* Something went before its time: exactness ends there, and that must be seen. */
static void forgot_early(struct once *o, const char *what)
{
    metric_add(METRIC_idempotency_forgotten_early, 1);
    if (!o->told)
        log_line(LOG_WARN, "idempotency.full", "what=%s keys=%llu bytes=%llu devices=%u", what,
                 (unsigned long long)o->keys_count, (unsigned long long)o->bytes, o->devices_count);
    o->told = true;
}

/* ---- keys ---- */

static uint64_t key_bytes(const struct key *k)
{
    return sizeof *k + k->len + 16; /* and what malloc adds */
}

static void key_drop(struct once *o, struct key *k)
{
    struct key **at = &o->keys[k->hash & o->keys_mask];
    while (*at != k)
        at = &(*at)->chain;
    *at = k->chain;
    *(k->older ? &k->older->newer : &o->oldest) = k->newer;
    *(k->newer ? &k->newer->older : &o->newest) = k->older;
    o->bytes -= key_bytes(k);
    o->keys_count--;
    free(k);
}

static void keys_expire(struct once *o, int64_t now_ns)
{
    int64_t window = (int64_t)o->opts.window_ns;
    while (o->oldest && (now_ns - o->oldest->at_ns >= window || o->bytes > o->opts.memory_max)) {
        if (now_ns - o->oldest->at_ns < window)
            forgot_early(o, "key");
        key_drop(o, o->oldest);
    }
}

static struct key *key_find(const struct once *o, const struct record *r, uint64_t hash)
{
    for (struct key *k = o->keys[hash & o->keys_mask]; k; k = k->chain) {
        if (k->hash == hash && k->credential == r->credential &&
            slice_eq(slice_of(k->bytes, k->len), r->producer.key))
            return k;
    }
    return NULL;
}

static void key_add(struct once *o, const struct record *r, uint64_t hash, uint64_t offset,
                    int64_t now_ns)
{
    struct slice name = r->producer.key;
    struct key *k = malloc(sizeof *k + name.len);
    if (!k) { /* stored, but a retry would not be recognised */
        forgot_early(o, "memory");
        return;
    }
    struct key **bucket = &o->keys[hash & o->keys_mask];
    *k = (struct key){.chain = *bucket,
                      .older = o->newest,
                      .hash = hash,
                      .credential = r->credential,
                      .offset = offset,
                      .fingerprint = r->producer.fingerprint,
                      .receive_us = r->receive_us,
                      .at_ns = now_ns,
                      .len = (uint32_t)name.len};
    memcpy(k->bytes, name.ptr, name.len);
    *bucket = k;
    *(o->newest ? &o->newest->newer : &o->oldest) = k;
    o->newest = k;
    o->bytes += key_bytes(k);
    o->keys_count++;
}

static enum once_verdict judge(uint64_t offset, uint64_t fingerprint, int64_t receive_us,
                               const struct record *r, struct once_found *ret)
{
    if (fingerprint != r->producer.fingerprint)
        return ONCE_CONFLICT;
    *ret = (struct once_found){.offset = offset, .receive_us = receive_us};
    return ONCE_DUPLICATE;
}

static enum once_verdict key_decide(struct once *o, const struct record *r, uint64_t offset,
                                    int64_t now_ns, struct once_found *ret)
{
    uint64_t hash = XXH3_64bits_withSeed(r->producer.key.ptr, r->producer.key.len,
                                         o->opts.seed ^ r->credential);
    keys_expire(o, now_ns);
    const struct key *k = key_find(o, r, hash);
    if (k)
        return judge(k->offset, k->fingerprint, k->receive_us, r, ret);
    key_add(o, r, hash, offset, now_ns);
    return ONCE_NEW;
}

/* ---- sequences ---- */

static struct device **device_bucket(struct once *o, uint64_t credential)
{
    /* Numbers that we gave out: nobody can choose them. */
    return &o->devices[credential * 0x9e3779b97f4a7c15u >> 20 & o->devices_mask];
}

static void device_unlink(struct once *o, struct device *d)
{
    *(d->older ? &d->older->newer : &o->device_oldest) = d->newer;
    *(d->newer ? &d->newer->older : &o->device_newest) = d->older;
}

static void device_link(struct once *o, struct device *d)
{
    d->newer = NULL;
    d->older = o->device_newest;
    *(d->older ? &d->older->newer : &o->device_oldest) = d;
    o->device_newest = d;
}

static void device_drop(struct once *o, struct device *d)
{
    struct device **at = device_bucket(o, d->credential);
    while (*at != d)
        at = &(*at)->chain;
    *at = d->chain;
    device_unlink(o, d);
    o->devices_count--;
    free(d);
}

/* NULL: no memory. */
static struct device *device_get(struct once *o, uint64_t credential, int64_t now_ns)
{
    struct device **bucket = device_bucket(o, credential), *d = *bucket;
    while (d && d->credential != credential)
        d = d->chain;
    if (d)
        return d;
    if (o->devices_count >= o->opts.devices_max && o->device_oldest) {
        if (now_ns - o->device_oldest->at_ns < (int64_t)o->opts.window_ns)
            forgot_early(o, "device");
        device_drop(o, o->device_oldest);
    }
    d = calloc(1, sizeof *d);
    if (!d)
        return NULL;
    d->credential = credential;
    d->chain = *bucket;
    *bucket = d;
    device_link(o, d);
    o->devices_count++;
    return d;
}

static enum once_verdict sequence_decide(struct once *o, const struct record *r, uint64_t offset,
                                         int64_t now_ns, struct once_found *ret)
{
    uint64_t n = r->producer.sequence;
    struct device *d = device_get(o, r->credential, now_ns);
    if (!d) {
        forgot_early(o, "memory");
        return ONCE_NEW;
    }
    struct slot *s = &d->slots[n % SEQUENCE_SLOTS];
    if (s->sequence == n)
        return judge(s->offset, s->fingerprint, s->receive_us, r, ret);
    if (n <= d->floor || s->sequence > n)
        return ONCE_TOO_OLD;
    if (s->sequence > d->floor)
        d->floor = s->sequence;
    *s = (struct slot){.sequence = n,
                       .offset = offset,
                       .fingerprint = r->producer.fingerprint,
                       .receive_us = r->receive_us};
    d->last_offset = offset;
    d->at_ns = now_ns;
    device_unlink(o, d);
    device_link(o, d);
    return ONCE_NEW;
}

/* ---- both ---- */

void once_free(struct once *o)
{
    if (!o)
        return;
    while (o->oldest)
        key_drop(o, o->oldest);
    while (o->device_oldest)
        device_drop(o, o->device_oldest);
    free(o->keys);
    free(o->devices);
    free(o);
}

enum once_verdict once_decide(struct once *o, const struct record *r, uint64_t offset,
                              int64_t now_ns, struct once_found *ret_found)
{
    enum once_verdict v = r->producer.key.len ? key_decide(o, r, offset, now_ns, ret_found)
                                              : sequence_decide(o, r, offset, now_ns, ret_found);
    metric_set(METRIC_idempotency_keys, o->keys_count);
    metric_set(METRIC_idempotency_devices, o->devices_count);
    return v;
}

void once_rollback(struct once *o, uint64_t offset)
{
    while (o->newest && o->newest->offset >= offset)
        key_drop(o, o->newest);
    /* What their slots held before is gone, but the floor keeps it from being stored again. */
    for (struct device *d = o->device_newest; d && d->last_offset >= offset; d = d->older) {
        for (unsigned i = 0; i < SEQUENCE_SLOTS; i++) {
            if (d->slots[i].sequence && d->slots[i].offset >= offset)
                d->slots[i] = (struct slot){0};
        }
    }
}
