/* SPDX-License-Identifier: Apache-2.0 */
/*
 * base/hash.h - one 64-bit hash of bytes: for tables (with a secret seed, since senders choose the
 * keys) and for fingerprints that are stored (seed 0: the value is part of the journal's format).
 * Not for secrets, and equal hashes never prove equal bytes. Pure, any thread.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

/* Eight bytes at a time, each folded in by a 128-bit product (the multiply-and-fold step of the
 * wyhash family). The same on every machine. */
uint64_t hash_bytes(struct slice s, uint64_t seed);
