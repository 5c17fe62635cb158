/* SPDX-License-Identifier: Apache-2.0 */
/* Sets of eight places, each set under a spinlock of its own; a place without a count is free. */
#include "gate/refusals.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/thread.h"

#define WAYS 8u
#define SETS (REFUSALS_MAX / WAYS)

struct set {
    _Alignas(64) struct spin lock;
    struct refused_tries places[WAYS];
};

struct refusals {
    struct set sets[SETS];
};

struct refusals *refusals_new(void)
{
    struct refusals *r = aligned_alloc(64, sizeof *r);
    if (r)
        *r = (struct refusals){0};
    return r;
}

void refusals_free(struct refusals *r)
{
    free(r);
}

static struct set *set_of(struct refusals *r, const struct refused_try *what)
{
    uint64_t h = (what->credential * 0x9e3779b97f4a7c15ull) ^
                 ((what->limit.window_ms + (uint64_t)what->by) * 0xc2b2ae3d27d4eb4full);
    return &r->sets[(h >> 32) % SETS];
}

static bool same(const struct refused_try *a, const struct refused_try *b)
{
    return a->credential == b->credential && a->account == b->account && a->by == b->by &&
           a->limit.count == b->limit.count && a->limit.window_ms == b->limit.window_ms &&
           a->limit.kind == b->limit.kind;
}

void refusals_note(struct refusals *r, const struct refused_try *what)
{
    struct set *set = set_of(r, what);
    int64_t now_us = clock_wall_us();
    spin_lock(&set->lock);
    struct refused_tries *at = &set->places[0];
    for (unsigned i = 0; i < WAYS; i++) {
        struct refused_tries *p = &set->places[i];
        if (p->count && same(&p->what, what)) {
            at = p;
            break;
        }
        if (p->last_us < at->last_us)
            at = p;
    }
    if (!at->count || !same(&at->what, what))
        *at = (struct refused_tries){.what = *what, .first_us = now_us};
    at->count++;
    at->last_us = now_us;
    spin_unlock(&set->lock);
}

unsigned refusals_list(struct refusals *r, uint64_t account, uint64_t credential,
                       struct refused_tries *ret, unsigned max)
{
    unsigned n = 0;
    for (unsigned k = 0; k < SETS; k++) {
        struct set *set = &r->sets[k];
        spin_lock(&set->lock);
        for (unsigned i = 0; i < WAYS && n < max; i++) {
            const struct refused_tries *p = &set->places[i];
            if (p->count && p->what.account == account &&
                (!credential || p->what.credential == credential))
                ret[n++] = *p;
        }
        spin_unlock(&set->lock);
    }
    return n;
}
