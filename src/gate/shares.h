/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gate/shares.h - fair shares of an account's window among its credentials. A rolling window in
 * which refused tries count has a hole: one runaway device fills it for ever and keeps the whole
 * account out. Here is the cure. Shared by all workers; any thread.
 *
 * While at least half of an account's window is used (`contended`, one flag of the account), each
 * of its credentials is counted on its own as well. The fair share is the window's count divided by
 * the credentials that tried lately. A try
 *   - within its credential's share meets the account's window and nothing else;
 *   - beyond the share may use what is spare: up to seven eighths of the window. Refused, it is not
 *     charged to the account;
 *   - of a credential that tried more than QUARANTINE_SHARES times its share within the window is
 *     refused and not charged: quarantine. It ends by itself within one window of the last such
 * try. So whoever stays within the share is never refused on a runaway's account, as long as the
 * runaway began after the others: what it took before they came leaves the window with time.
 *
 * An operator may also put a credential into quarantine by hand, for a time or until released; that
 * lasts as long as the process.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "flow/principal.h"
#include "gate/throttle.h"

#define QUARANTINE_SHARES 4u
#define QUARANTINED_MAX   1024u /* shown at one time */

struct shares;

/* NULL: no memory. The throttle outlives it. */
struct shares *shares_new(struct throttle *t);
void shares_free(struct shares *s);

enum share { SHARE_WITHIN, SHARE_OVER, SHARE_QUARANTINED };

struct share_verdict {
    enum share share;  /* SHARE_OVER: there was nothing spare */
    bool several;      /* others share the account now: what its window refuses must not count */
    uint64_t retry_ns; /* refused: when the credential is within its share again, if it is silent */
};

/* Whether shares_ask must be called for this request: two loads. */
static inline bool shares_matter(const struct account *a, const _Atomic unsigned *manual,
                                 uint64_t now_ns)
{
    return atomic_load_explicit(&a->live->contended_until_ns, memory_order_relaxed) > now_ns ||
           atomic_load_explicit(manual, memory_order_relaxed) > 0;
}
/* How many are in quarantine by hand; lives as long as `s`. */
const _Atomic unsigned *shares_manual(const struct shares *s);

/*
 * Before throttle_decide, of a request of weight `cost`, or `bytes` in limits that count bytes.
 * True: go on (and call shares_allowed if that allows). False: refused, not charged to the account,
 * *ret says why and until when.
 */
bool shares_ask(struct shares *s, const struct account *a, const struct credential *c,
                uint32_t cost, uint32_t bytes, uint64_t now_ns, struct share_verdict *ret);
/* The account's window let it in. */
void shares_allowed(struct shares *s, const struct account *a, const struct credential *c,
                    uint32_t cost, uint32_t bytes, uint64_t now_ns);
/* After each decision: `v` tells whether the account's window (ask 0) is half used. */
void shares_note(const struct account *a, const struct throttle_verdict *v, uint64_t now_ns);
/* The account's window refused: when to come back. Freed slots are dealt out one after the other, a
 * slot's average distance apart, so that a release is no stampede. At least v->retry_ns, at most
 * the window's length more. */
uint64_t shares_appointment_ns(const struct account *a, const struct throttle_verdict *v,
                               uint64_t now_ns);

/* ---- by hand, and for the eye ---- */
struct quarantined {
    uint64_t account, credential;
    bool manual;
    int64_t since_us;  /* wall clock */
    uint64_t refused;  /* tries since then */
    uint64_t until_ns; /* monotonic: when it ends if nothing else is tried; UINT64_MAX: when it is
                          released */
    uint32_t active, tries; /* of the last try: credentials that share, tries in the window */
};
/* Into quarantine until `until_ns` (monotonic; UINT64_MAX: until released). False: the table is
 * full. */
bool shares_quarantine(struct shares *s, uint64_t account, uint64_t credential, uint64_t until_ns);
/* Out of it, with a clean slate. False: it was in none. */
bool shares_release(struct shares *s, uint64_t credential, uint64_t now_ns);
/* Copies up to `max` of those that are in quarantine now. */
unsigned shares_list(struct shares *s, struct quarantined *ret, unsigned max, uint64_t now_ns);
