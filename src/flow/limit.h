/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow/limit.h - limits as people write them: "60/60s, token_bucket 1MB/10s, distance=200ms". Pure.
 */
#pragma once

#include "base/buf.h"
#include "base/error.h"
#include "flow/principal.h"

#define LIMIT_COUNT_MAX 1000000000u
#define LIMIT_BYTES_MAX 4000000000u

/*
 * Parses a comma-separated list: limits, the words `attempts` (default) or `accepted`, and
 * distance=LENGTH. A limit is [shadow] [rolling|token_bucket|leaky_bucket] AMOUNT/LENGTH: an amount
 * with a unit (B, KB, MB, GB, KiB, MiB, GiB) counts bytes, one without counts messages; the units
 * of lengths are ms, s, m, h, d. Empty text is no limit. 0, or -EINVAL with a sentence that names
 * the item.
 */
int limit_set_parse(struct slice text, struct limit_set *ret, struct error *err);
/* Writes it back in the same form. */
void limit_set_format(struct buf *out, const struct limit_set *l);
/* One of them. */
void limit_format(struct buf *out, struct window w);
/* The first that counts messages and is in force: what old interfaces tell. -1: there is none. */
int limit_set_shown(const struct limit_set *l);
/* "250ms", "30s", "5m", "1h", "365d" to milliseconds. False: not a length, or no end of it. */
bool duration_parse(struct slice text, uint64_t *ret_ms);
