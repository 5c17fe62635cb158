/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gate/refusals.h - who was refused by which limit, how often and when last: what explains a
 * refusal afterwards. A fixed table, written only when something was refused (or would have been,
 * by a limit in shadow), where the one that was longest not refused makes room. Shared by all
 * workers; any thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "flow/principal.h"

#define REFUSALS_MAX 4096u /* kept at one time, of all accounts */

struct refusals;

/* NULL: no memory. */
struct refusals *refusals_new(void);
void refusals_free(struct refusals *r);

enum refused_by {
    REFUSED_BY_ACCOUNT, /* a limit of it */
    REFUSED_BY_DEVICE,  /* the credential's own */
    REFUSED_BY_ADDRESS,
    REFUSED_BY_SHARE, /* beyond its fair share, and nothing was spare */
    REFUSED_BY_QUARANTINE,
};

/* What was refused: equal ones are counted together. */
struct refused_try {
    uint64_t account, credential;
    enum refused_by by;
    struct window limit; /* as it was; count 0 and the distance in window_ms: the minimum distance;
                            all 0 where no limit refused */
};

struct refused_tries {
    struct refused_try what;
    uint64_t count;
    int64_t first_us, last_us; /* wall clock */
};

void refusals_note(struct refusals *r, const struct refused_try *what);
/* Copies up to `max` of an account's (credential 0: all of them). Returns how many. */
unsigned refusals_list(struct refusals *r, uint64_t account, uint64_t credential,
                       struct refused_tries *ret, unsigned max);
