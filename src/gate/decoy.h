/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gate/decoy.h - what a wrong secret must cost so that its time tells nothing: as much as the
 * dearest stored hash in use, whether the device exists or not. Owned by the shield; any thread.
 *
 * A decoy hashes a secret under a fresh random salt and throws the result away, so no password
 * fits it (CVE-2022-46146 began with a decoy whose password was known). A wrong secret of a cheaper
 * bcrypt verifier is topped up: 2^c + 2^c + 2^(c+1) + ... + 2^(C-1) = 2^C.
 */
#pragma once

#include <stdint.h>

#include "gate/verifier.h"

struct decoy {
    _Atomic uint64_t dearest; /* packed verifier_cost; 0: no password hash is in use */
};

/* Notes a cost in use. bcrypt counts as dearer than yescrypt. */
void decoy_note(struct decoy *d, struct verifier_cost c);
/* The dearest; class VERIFIER_BAD when there is none. */
struct verifier_cost decoy_cost(const struct decoy *d);
