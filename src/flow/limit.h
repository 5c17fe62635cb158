/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow/limit.h - limits as people write them: "60/60s, 10/1s, accepted, distance=200ms". Pure.
 */
#pragma once

#include "base/buf.h"
#include "base/error.h"
#include "flow/principal.h"

/*
 * Parses a comma-separated list: COUNT/LENGTH windows (units ms, s, m, h), the words `attempts`
 * (default) or `accepted`, and distance=LENGTH. Empty text is no limit. 0, or -EINVAL with a
 * sentence that names the item.
 */
int limit_set_parse(struct slice text, struct limit_set *ret, struct error *err);
/* Writes it back in the same form. */
void limit_set_format(struct buf *out, const struct limit_set *l);
/* "250ms", "30s", "5m", "1h" to milliseconds. False: not a length, or over 49 days. */
bool duration_parse(struct slice text, uint32_t *ret_ms);
