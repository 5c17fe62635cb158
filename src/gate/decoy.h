/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gate/decoy.h - what a wrong secret must cost so that its time tells nothing: one hash of each
 * kind of stored hash in use, its own device's among them, whether the device exists or not.
 * Everybody computes the same list so, and what a hash takes on this machine need not be known
 * (decision 0006). Owned by the shield; any thread, no lock.
 *
 * A decoy hashes a secret under a fresh random salt and throws the result away, so no password
 * fits it (CVE-2022-46146 began with a decoy whose password was known).
 */
#pragma once

#include <stdint.h>

#include "gate/verifier.h"

/* bcrypt has 13 costs we check; who mixes more parameters of yescrypt than the rest of these may
 * see a wrong secret of one of them take a little longer. */
#define DECOY_KINDS_MAX 32u

struct decoy {
    _Atomic uint64_t kinds[DECOY_KINDS_MAX]; /* packed verifier_cost; 0: none from here on */
};

/* Notes a kind in use. */
void decoy_note(struct decoy *d, struct verifier_cost c);
/* The kind at `at`, in the order they were noted; class VERIFIER_BAD when there are no more. */
struct verifier_cost decoy_kind(const struct decoy *d, unsigned at);
/* How many kinds there are; at least 1, also when there is none. */
unsigned decoy_kinds(const struct decoy *d);
/* The one that takes longest; class VERIFIER_BAD when there is none. */
struct verifier_cost decoy_dearest(const struct decoy *d);
