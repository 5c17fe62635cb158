/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow/reason.h - why something was refused, from the one table reasons.def. Constant; any thread.
 */
#pragma once

#include <stdint.h>

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

/* The table's line. */
const struct reason_info *reason_info(enum reason r);
