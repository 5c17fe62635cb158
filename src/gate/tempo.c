/* SPDX-License-Identifier: Apache-2.0 */
#include "gate/tempo.h"

#define LEAST_SHARE  0.05 /* of a core */
#define KERNEL_SHARE 0.17 /* what the kernel does for the process, on top of its time */
#define PACED_SHARE                                                                                \
    0.4 /* of what it used that it uses while commits wait (decision 0068): of little;             \
           of all there is, all */
#define CACHE_SHARE 0.3 /* what a hash takes longer between others' turns on a full core */

void tempo_full(struct tempo *t, bool full, uint64_t now_ns)
{
    if (!full && t->full_ns)
        t->ended_ns = now_ns;
    if (!full)
        t->full_ns = 0;
    else if (!t->full_ns)
        t->full_ns = now_ns;
}

bool tempo_is_stale(const struct tempo *t, uint64_t now_ns)
{
    return !t->count || (!t->full_ns && now_ns - t->ended_ns >= TEMPO_STALE_NS);
}

void tempo_guess(struct tempo *t, uint64_t each_ns)
{
    each_ns += each_ns == 0;
    t->count = each_ns < TEMPO_NS ? TEMPO_NS / each_ns : 1;
    t->sum_ns = t->count * each_ns;
}

void tempo_done(struct tempo *t, uint64_t now_ns)
{
    if (!t->full_ns)
        return;
    t->sum_ns += now_ns - t->full_ns;
    t->count++;
    t->full_ns = now_ns;
    if (t->sum_ns >= 2 * TEMPO_NS && t->count > 1) {
        t->sum_ns /= 2;
        t->count /= 2;
    }
}

uint64_t tempo_each_ns(const struct tempo *t)
{
    return t->count ? t->sum_ns / t->count : 0;
}

uint64_t tempo_expected_ns(uint64_t cpu_ns, unsigned threads, unsigned cores, uint64_t busy_ns,
                           uint64_t wall_ns)
{
    double busy = wall_ns ? (double)busy_ns / (double)wall_ns : 0;
    if (busy < cores)
        busy *= PACED_SHARE + (1 - PACED_SHARE) * busy / cores;
    double left = cores - busy * (1 + KERNEL_SHARE);
    if (left > threads)
        left = threads;
    if (left < LEAST_SHARE)
        left = LEAST_SHARE;
    double slower = 1 + CACHE_SHARE * (busy < cores ? busy / cores : 1);
    return (uint64_t)((double)cpu_ns * slower / left);
}
