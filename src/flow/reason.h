/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow/reason.h - why something was refused, from the one table reasons.def. Constant; any thread.
 */
#pragma once

#include <stdint.h>

#include "base/buf.h"

enum reason {
#define REASON(name, http, mqtt, text) REASON_##name,
#include "flow/reasons.def"
#undef REASON
    REASON_COUNT
};

struct reason_info {
    const char *name; /* stable, for metrics and logs */
    uint16_t http;
    uint8_t mqtt;
    const char *text; /* what the sender reads */
};

/* Counts one refusal (REASON_ok counts nothing). Any thread. */
void reason_count(enum reason r);
/* What was counted so far, of all reasons. Any thread. */
uint64_t reason_sum(void);
/* sluice_refusals_total{reason="..."} of all reasons, in the Prometheus text format. */
void reason_format(struct buf *out);
/* The table's line. */
const struct reason_info *reason_info(enum reason r);
