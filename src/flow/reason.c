/* SPDX-License-Identifier: Apache-2.0 */
#include "flow/reason.h"

#include <stdatomic.h>

#include "base/check.h"

static const struct reason_info table[] = {
#define REASON(name, http, mqtt, text) {#name, http, mqtt, text},
#include "flow/reasons.def"
#undef REASON
};

/* Refusals are rare enough for one shared counter each. */
static _Atomic uint64_t counts[REASON_COUNT];

void reason_count(enum reason r)
{
    CHECK((unsigned)r < REASON_COUNT);
    if (r != REASON_ok)
        atomic_fetch_add_explicit(&counts[r], 1, memory_order_relaxed);
}

uint64_t reason_sum(void)
{
    uint64_t sum = 0;
    for (unsigned r = REASON_ok + 1; r < REASON_COUNT; r++)
        sum += atomic_load_explicit(&counts[r], memory_order_relaxed);
    return sum;
}

void reason_format(struct buf *out)
{
    buf_put_str(out, "# HELP sluice_refusals_total Requests refused, by reason\n"
                     "# TYPE sluice_refusals_total counter\n");
    for (unsigned r = REASON_ok + 1; r < REASON_COUNT; r++)
        buf_printf(out, "sluice_refusals_total{reason=\"%s\"} %llu\n", table[r].name,
                   (unsigned long long)atomic_load_explicit(&counts[r], memory_order_relaxed));
}

const struct reason_info *reason_info(enum reason r)
{
    CHECK((unsigned)r < REASON_COUNT);
    return &table[r];
}
