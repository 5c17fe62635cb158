/* SPDX-License-Identifier: Apache-2.0 */
#include "load/ledger.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/check.h"
#include "base/rand.h"

#define FOUND_MAX 3u /* "more than once" is all that is asked */

static uint64_t at_of(const struct ledger *l, uint64_t sequence)
{
    return (sequence % LEDGER_SEQUENCES + LEDGER_SEQUENCES - l->first) % LEDGER_SEQUENCES;
}

static unsigned cell(const struct ledger *l, uint64_t at)
{
    return l->cells[at / 2] >> at % 2 * 4 & 15u;
}

static void set_cell(struct ledger *l, uint64_t at, unsigned outcome, unsigned found)
{
    unsigned shift = at % 2 * 4;
    l->cells[at / 2] =
        (uint8_t)((l->cells[at / 2] & ~(15u << shift)) | (outcome | found << 2) << shift);
}

static uint64_t mixed(uint64_t sequence)
{
    return rand_next(&(struct rand){.state = sequence});
}

int ledger_init(struct ledger *l, uint64_t first, uint32_t feeds, struct error *err)
{
    *l = (struct ledger){.first = first % LEDGER_SEQUENCES, .feeds = feeds};
    void *cells = mmap(NULL, LEDGER_MESSAGES_MAX / 2, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (cells == MAP_FAILED)
        return error_set(err, -errno, "no memory to keep account of the messages: %s",
                         strerror(errno));
    l->cells = cells;
    l->sums = calloc(feeds, sizeof *l->sums);
    return l->sums ? 0 : error_set(err, -ENOMEM, "no memory for %u feeds", feeds);
}

void ledger_fini(struct ledger *l)
{
    if (l->cells)
        munmap(l->cells, LEDGER_MESSAGES_MAX / 2);
    free(l->sums);
    *l = (struct ledger){0};
}

void ledger_sent(struct ledger *l, uint64_t sequence)
{
    uint64_t at = at_of(l, sequence);
    CHECK(at < LEDGER_MESSAGES_MAX);
    if (at >= l->count)
        l->count = at + 1;
    set_cell(l, at, LEDGER_UNKNOWN, 0);
}

void ledger_settle(struct ledger *l, uint64_t sequence, uint32_t feed, enum ledger_outcome outcome)
{
    uint64_t at = at_of(l, sequence);
    CHECK(at < l->count && feed < l->feeds);
    set_cell(l, at, outcome, 0);
    if (outcome == LEDGER_ACKED)
        l->sums[feed] += mixed(l->first + at);
}

void ledger_found(struct ledger *l, uint64_t sequence, uint32_t feed)
{
    uint64_t at = at_of(l, sequence);
    CHECK(feed < l->feeds);
    if (at >= l->count)
        return;
    unsigned c = cell(l, at), outcome = c & 3, found = c >> 2;
    if (outcome == LEDGER_UNSENT)
        l->strangers++;
    if (outcome == LEDGER_ACKED && found == 0)
        l->sums[feed] -= mixed(l->first + at);
    set_cell(l, at, outcome, found < FOUND_MAX ? found + 1 : found);
}

static bool judge_one(unsigned outcome, unsigned found, struct ledger_verdict *v)
{
    v->acked += outcome == LEDGER_ACKED;
    v->refused += outcome == LEDGER_REFUSED;
    v->unknown += outcome == LEDGER_UNKNOWN;
    v->unknown_stored += outcome == LEDGER_UNKNOWN && found > 0;
    v->stored += outcome == LEDGER_ACKED && found == 1;
    v->lost += outcome == LEDGER_ACKED && found == 0;
    v->doubled += found > 1;
    v->refused_stored += outcome == LEDGER_REFUSED && found > 0;
    return found <= 1 && (outcome == LEDGER_UNKNOWN || found == (outcome == LEDGER_ACKED));
}

void ledger_judge(const struct ledger *l, struct ledger_verdict *ret)
{
    *ret = (struct ledger_verdict){.strangers = l->strangers};
    for (uint64_t at = 0; at < l->count; at++) {
        unsigned c = cell(l, at);
        if (!judge_one(c & 3, c >> 2, ret) && ret->named_count < LEDGER_NAMED_MAX)
            ret->named[ret->named_count++] = (l->first + at) % LEDGER_SEQUENCES;
    }
    for (uint32_t i = 0; i < l->feeds; i++)
        ret->feeds_wrong += l->sums[i] != 0;
}

bool ledger_sound(const struct ledger_verdict *v)
{
    return !v->lost && !v->doubled && !v->refused_stored && !v->strangers && !v->feeds_wrong;
}
