/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gate/shield.h - answers "is this secret right?" cheaply and safely (design section 6). Shared by
 * all workers. Any thread; never blocks: what needs a password hash goes to the hash pool and comes
 * back through a callback.
 *
 * A secret once verified against a stored hash is remembered as an HMAC-SHA-256 tag under a random
 * per-process key over the length-prefixed (account, credential, stored hash, secret), in the
 * credential's one slot. bcrypt therefore runs once per pair of stored hash and presented secret,
 * never because time passed: after the TTL only the credential's record is looked at again. The
 * same stored hash keeps the slot; another one, a disabled or a missing record empties it.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"
#include "flow/principal.h"
#include "flow/reason.h"
#include "gate/throttle.h"

struct shield;

struct shield_opts {
    struct throttle *throttle;    /* holds the failure windows */
    unsigned hash_threads;        /* 0: one per core */
    unsigned hash_queue_max;      /* checks waiting, all sources */
    unsigned hash_per_source_max; /* checks waiting from one source address */
    uint64_t hash_wait_ns;        /* longest wait before a check is turned away */
    uint64_t hash_target_ns;      /* longest wait foreseen that is let in, once the queue has not
                                     been empty for hash_wait_ns; 0: as hash_wait_ns */
    uint64_t admin_permissions;   /* who has one of these goes first */
    bool hash_idle_priority;      /* run under SCHED_IDLE */
    uint64_t verified_ttl_ns;     /* when the version is looked at again (30 s) */
    uint64_t negative_ttl_ns;     /* how long a wrong secret is remembered (5 s) */
    unsigned negative_max;        /* wrong secrets remembered */
    struct limit_set fail_credential; /* failures one credential may have */
    struct limit_set fail_address;    /* failures one address may have */
    /* The credential's current record by number, a new reference, or NULL when it is gone. Called
     * when a verified secret's TTL has passed. Any thread; must not block. */
    struct credential *(*find)(void *arg, uint64_t number);
    void *find_arg;
};

struct shield *shield_new(const struct shield_opts *opts);
/* Answers every waiting check with REASON_stopping, stops the pool, frees. */
void shield_free(struct shield *s);

/* Which kinds of stored hashes are in use, and whether any: sets what a wrong secret computes.
 * Called by the catalog's owner whenever a credential is loaded. Example setting: "$2b$10$". */
void shield_note_verifier(struct shield *s, struct slice stored);

/* One check that could not be answered at once. The caller owns the struct and keeps it alive until
 * `done`, which is called exactly once, on the shield's clerk thread (or in shield_free), and must
 * only pass it on. `credential` and `secret` are copied by the shield. */
struct shield_wait {
    void (*done)(struct shield_wait *w);
    void *owner;
    bool no_hash;       /* the caller's: what would need a password hash is told to come back */
    bool hold;          /* refused again after failing too often: the answer may take its time */
    enum reason reason; /* ok, bad_key/bad_device (wrong), busy, too_many_failures, stopping */
    uint64_t retry_ns;  /* for busy and too_many_failures: an honest wait */
    struct shield_wait *next; /* the shield's */
};

enum shield_answer { SHIELD_RIGHT, SHIELD_REFUSED, SHIELD_PENDING };

/*
 * Checks `secret`, of any length, for `credential`. NULL stands for "no such device" and takes the
 * same path, with decoy hashes, whenever any credential in the catalog uses a password hash; a
 * disabled one is no device either. `unknown` is what was presented as the device id then (it keys
 * the failure windows and the negative cache).
 * `source` is the client's address as the throttle counts it.
 *
 * SHIELD_RIGHT: known good. SHIELD_REFUSED: w->reason and w->retry_ns say why. SHIELD_PENDING: the
 * answer comes by w->done. A failure counts against credential and address; a success clears the
 * address.
 */
enum shield_answer shield_check(struct shield *s, struct credential *credential,
                                struct slice unknown, struct slice secret, uint64_t source,
                                uint64_t now_ns, struct shield_wait *w);

/* An account key that nobody has was presented: counts against the address. Sets w->reason
 * (bad_key, or too_many_failures) and w->retry_ns. */
void shield_key_refused(struct shield *s, uint64_t source, uint64_t now_ns, struct shield_wait *w);

/* ---- making verifiers (command line, catalog) ---- */
/* fast verifier: SHA-256("sluice-fast-v1" || 0 || secret). Only for secrets with 128 random bits.
 */
void shield_fast_digest(struct slice secret, uint8_t ret[32]);
/* crypt(3) verifier of `secret`: setting prefix "$2b$" (bcrypt) or "$y$" (yescrypt) with `cost`.
 * Takes as long as the cost says. 0 or -EINVAL (secret with NUL, or over 72 bytes for bcrypt). */
int shield_crypt_new(struct slice secret, const char *prefix, unsigned cost,
                     char ret[VERIFIER_MAX]);
/* Whether a stored hash is one we can check at a sane cost: NULL, or what is wrong with it. */
const char *shield_verifier_problem(struct slice stored);
/* Whether the text looks like a secret with at least 128 random bits that may have a fast verifier:
 * one generated by Sluice ("slu_" + 32 base62) or a key in Adafruit's forms (aio_ + 28, 32 hex). */
bool shield_secret_is_strong(struct slice secret);

/* Grows with every secret that is verified anew: whether a snapshot (gate/snapshot.h) is due. */
uint64_t shield_verified(const struct shield *s);

/* Whether as many hashes are being computed as there are cores, so that nobody has one to himself.
 * Any thread, one atomic load. */
bool shield_is_full(const struct shield *s);

struct shield_stats {
    uint64_t queue_length, queue_max, threads, running;
    uint64_t negative_entries;
};
struct shield_stats shield_stats(struct shield *s);
