/* SPDX-License-Identifier: Apache-2.0 */
#include "flow/reason.h"

#include "base/check.h"

static const struct reason_info table[] = {
#define REASON(name, http, mqtt, text) {#name, http, mqtt, text},
#include "flow/reasons.def"
#undef REASON
};

const struct reason_info *reason_info(enum reason r)
{
    CHECK((unsigned)r < REASON_COUNT);
    return &table[r];
}
