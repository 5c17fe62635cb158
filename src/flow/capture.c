/* SPDX-License-Identifier: Apache-2.0 */
#include "flow/capture.h"

#include <stdatomic.h>

#include "base/clock.h"
#include "base/thread.h"
#include "flow/limits.h"

static _Atomic uint32_t sampled_every; /* 0: off */
static _Atomic uint64_t until_ns;
static _Atomic uint64_t dropped;
static atomic_flag busy = ATOMIC_FLAG_INIT; /* guards what follows */
static uint64_t kept;
static struct buf lines = {.max = CAPTURE_BYTES_MAX};

bool capture_wants(uint32_t *count)
{
    uint32_t every = atomic_load_explicit(&sampled_every, memory_order_relaxed);
    return every && ++*count % every == 0;
}

void capture_put(struct slice line)
{
    if (clock_mono_ns() > atomic_load(&until_ns)) {
        atomic_store(&sampled_every, 0);
        return;
    }
    if (atomic_flag_test_and_set_explicit(&busy, memory_order_acquire)) {
        atomic_fetch_add(&dropped, 1);
        return;
    }
    bool fits = lines.len + line.len < CAPTURE_BYTES_MAX;
    if (fits) {
        buf_put_slice(&lines, line);
        buf_put_u8(&lines, '\n');
        kept++;
    }
    atomic_flag_clear_explicit(&busy, memory_order_release);
    if (!fits)
        atomic_fetch_add(&dropped, 1);
}

void capture_take(uint32_t every, struct buf *out, struct capture_counts *ret)
{
    struct buf empty;
    buf_init(&empty, CAPTURE_BYTES_MAX);
    while (atomic_flag_test_and_set_explicit(&busy, memory_order_acquire))
        sched_yield();
    struct buf taken = lines;
    lines = empty;
    ret->kept = kept;
    kept = 0;
    atomic_flag_clear_explicit(&busy, memory_order_release);
    ret->dropped = atomic_exchange(&dropped, 0);
    buf_put_slice(out, buf_slice(&taken));
    buf_fini(&taken);
    atomic_store(&until_ns, clock_mono_ns() + CAPTURE_LEASE_NS);
    atomic_store(&sampled_every, every);
}
