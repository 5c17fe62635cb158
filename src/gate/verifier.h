/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gate/verifier.h - stored hashes as crypt(3) writes them: which we accept, what they cost, and how
 * one is computed. The exported makers are in gate/shield.h. Any thread.
 */
#pragma once

#include <crypt.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"
#include "flow/limits.h"

#define BCRYPT_COST_MIN 4u
#define BCRYPT_COST_MAX 16u /* 3 s; a cost of 31 would be days of CPU */

enum verifier_class { VERIFIER_BAD, VERIFIER_BCRYPT, VERIFIER_YESCRYPT };

struct verifier_cost {
    enum verifier_class class;
    unsigned cost;  /* bcrypt: its exponent. yescrypt: log2 of N * r */
    char params[4]; /* yescrypt: as they stand in the setting */
};

/* What checking `stored` costs; VERIFIER_BAD when it is none of ours. */
struct verifier_cost verifier_cost(struct slice stored);

/* Whether both take the same work. */
bool verifier_cost_eq(struct verifier_cost a, struct verifier_cost b);

/* About how long a check takes: within a factor of two or so on today's machines, for use before
 * anything was measured. 0 for VERIFIER_BAD. */
uint64_t verifier_estimate_ns(struct verifier_cost c);

/* A setting for crypt of this cost with a random salt: hashing under it takes as long as checking a
 * real one. c.class must not be VERIFIER_BAD. */
void verifier_setting(struct verifier_cost c, char ret[VERIFIER_MAX]);

/* Whether crypt can check this secret at all: not empty, no NUL inside, at most SECRET_MAX bytes,
 * 72 for bcrypt (which would silently ignore the rest). */
bool verifier_can_check(struct verifier_cost c, struct slice secret);

/* One hash: whether `secret` under `stored` gives `stored`. Constant time in what is compared.
 * Allocates nothing itself; wipes `scratch`. */
bool verifier_check(const char *secret, const char *stored, struct crypt_data *scratch);
