/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Units of an append: what the table of journal/once.h says is new is copied into the batch, what
 * is in the log already is left out. The entries it makes count at once, so that two copies of a
 * message in one commit are one; a commit that fails takes them back (once_rollback).
 */
#include "base/check.h"
#include "base/clock.h"
#include "base/metric.h"
#include "journal/internal.h"
#include "journal/record.h"

bool journal_put_unit(struct journal_append *a, uint32_t index, size_t at)
{
    struct journal_unit u = {.index = index,
                             .count = a->count - index,
                             .at = (uint32_t)at,
                             .bytes = (uint32_t)(a->body.len - at)};
    if (!a->units.max)
        buf_init(&a->units, BATCH_RECORDS_MAX * sizeof u);
    buf_put(&a->units, &u, sizeof u);
    bool put = !a->units.failed;
    a->units.failed = false;
    return put;
}

static void decide(struct journal *j, struct journal_unit *u, struct slice body, uint64_t offset,
                   int64_t now_ns)
{
    struct record r;
    CHECK(record_decode(slice_from(body, u->at), &r) > 0); /* journal_put wrote it */
    u->verdict = ONCE_NEW;
    if (j->once && once_named(&r))
        u->verdict = once_decide(j->once, &r, offset, now_ns, &u->found);
    if (u->verdict == ONCE_DUPLICATE)
        metric_add(METRIC_journal_duplicates, u->count);
    else if (u->verdict != ONCE_NEW)
        metric_add(METRIC_idempotency_conflicts, 1);
}

size_t units_copy(struct journal *j, struct journal_append *a, uint64_t first_offset, char *to,
                  uint32_t *ret_count)
{
    struct slice body = buf_slice(&a->body);
    struct journal_unit *u = (void *)a->units.ptr;
    size_t n = a->units.len / sizeof *u, from = 0, len = 0;
    uint32_t dropped = 0;
    int64_t now_ns = (int64_t)clock_mono_ns();
    for (size_t i = 0; i < n; i++, u++) {
        decide(j, u, body, first_offset + u->index - dropped, now_ns);
        if (u->verdict == ONCE_NEW)
            continue;
        memcpy(to + len, body.ptr + from, u->at - from);
        len += u->at - from;
        from = u->at + u->bytes;
        dropped += u->count;
    }
    memcpy(to + len, body.ptr + from, body.len - from);
    *ret_count = a->count - dropped;
    return len + body.len - from;
}
