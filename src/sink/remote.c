/* SPDX-License-Identifier: Apache-2.0 */
#include "sink/remote.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/clock.h"
#include "sink/sink_own.h"

struct sink *sink_remote_new(const char *name, struct journal *journal, uint64_t position)
{
    struct sink *s = calloc(1, sizeof *s);
    struct fates *fates = fates_new(position);
    if (!s || !fates) {
        free(s);
        fates_free(fates);
        return NULL;
    }
    sink_init(s);
    s->remote = true;
    s->opts.name = name;
    s->opts.journal = journal;
    s->fates = fates;
    s->stats.state = SINK_ABSENT;
    s->stats.position = position;
    s->told_ns = clock_mono_ns();
    atomic_store(&s->passed, position);
    return s;
}

void sink_remote_free(struct sink *s)
{
    if (s)
        sink_destroy(s);
}

bool sink_is_remote(const struct sink *s)
{
    return s->remote;
}

/* ---- of one that runs here ------------------------------------------------------------------- */

void sink_report(struct sink *s, struct sink_report *ret)
{
    memset(ret, 0, sizeof *ret); /* it crosses a process: no byte of ours is to go with it */
    ret->position = sink_position(s);
    ret->disabled = sink_is_disabled(s);
    ret->stats = sink_stats(s);
}

void sink_fates(const struct sink *s, uint64_t offset, uint8_t *ret, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        ret[i] = (uint8_t)fates_of(s->fates, offset + i);
}

unsigned sink_waiting(const struct sink *s)
{
    return atomic_load(&s->waiters);
}

/* ---- of one that runs elsewhere -------------------------------------------------------------- */

bool sink_remote_put(struct sink *s, const struct sink_report *r)
{
    CHECK(s->remote);
    uint64_t before = atomic_load(&s->passed), end = journal_durable(s->opts.journal);
    uint64_t position = r->position < end ? r->position : end;
    pthread_mutex_lock(&s->lock);
    s->stats = r->stats;
    s->stats.position = position;
    s->stats.error[sizeof s->stats.error - 1] = 0;
    if (s->stats.state > SINK_DISABLED)
        s->stats.state = SINK_FAILING;
    if (s->stats.breaker > BREAKER_HALF_OPEN)
        s->stats.breaker = BREAKER_OPEN;
    s->told_ns = clock_mono_ns();
    pthread_mutex_unlock(&s->lock);
    atomic_store(&s->is_disabled, r->disabled != 0);
    if (position <= before)
        return false;
    atomic_store(&s->passed, position);
    return atomic_load(&s->waiters) != 0;
}

void sink_remote_fates(struct sink *s, uint64_t offset, const uint8_t *fates, unsigned count)
{
    for (unsigned i = 0, n; i < count; i += n) {
        for (n = 1; i + n < count && fates[i + n] == fates[i]; n++)
            ;
        enum fate fate = fates[i] <= FATE_FAILED ? (enum fate)fates[i] : FATE_UNKNOWN;
        uint64_t from = offset + i, to = from + n, end = atomic_load(&s->fates->end);
        if (fate == FATE_UNKNOWN && from < end) /* a process that began anew; here it is known */
            from = end < to ? end : to;
        if (from < to)
            fates_note(s->fates, from, to, fate);
    }
}

void sink_remote_absent(struct sink *s)
{
    pthread_mutex_lock(&s->lock);
    s->stats.state = SINK_ABSENT;
    pthread_mutex_unlock(&s->lock);
}

struct sink_stats sink_remote_stats(struct sink *s)
{
    pthread_mutex_lock(&s->lock);
    struct sink_stats t = s->stats;
    uint64_t since_us = (clock_mono_ns() - s->told_ns) / NS_PER_US;
    pthread_mutex_unlock(&s->lock);
    uint64_t end = journal_durable(s->opts.journal), lag = t.lag;
    t.position = atomic_load(&s->passed);
    t.lag = end > t.position ? end - t.position : 0;
    t.lag_bytes = lag ? (uint64_t)((double)t.lag_bytes / (double)lag * (double)t.lag) : 0;
    t.lag_us = t.lag ? t.lag_us + since_us : 0; /* as old as it was, or what came since */
    return t;
}
