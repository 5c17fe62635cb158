/* SPDX-License-Identifier: Apache-2.0 */
#include "sink/breaker.h"

#include "base/check.h"

void breaker_init(struct breaker *b, const struct breaker_opts *opts)
{
    CHECK(opts->volume_min >= 1 && opts->volume_min <= BREAKER_ATTEMPTS);
    *b = (struct breaker){.opts = *opts, .pause_ns = opts->open_ns};
}

uint64_t breaker_wait_ns(struct breaker *b, uint64_t now_ns)
{
    if (b->state != BREAKER_OPEN)
        return 0;
    if (now_ns < b->until_ns)
        return b->until_ns - now_ns;
    b->state = BREAKER_HALF_OPEN;
    return 0;
}

static void open_up(struct breaker *b, uint64_t now_ns)
{
    b->state = BREAKER_OPEN;
    b->opened++;
    b->until_ns = now_ns + b->pause_ns;
    b->pause_ns = b->pause_ns * 2 < b->opts.open_max_ns ? b->pause_ns * 2 : b->opts.open_max_ns;
    b->count = 0;
}

static bool fails_too_often(const struct breaker *b, uint64_t now_ns)
{
    unsigned known = 0, failed = 0;
    for (unsigned i = 0; i < b->count; i++) {
        if (now_ns - b->attempts[i].at_ns > b->opts.window_ns)
            continue;
        known++;
        failed += b->attempts[i].failed;
    }
    return known >= b->opts.volume_min && failed * 100 >= known * b->opts.fail_percent;
}

void breaker_note(struct breaker *b, bool failed, uint64_t now_ns)
{
    if (b->state == BREAKER_HALF_OPEN) {
        if (failed) {
            open_up(b, now_ns);
            return;
        }
        b->state = BREAKER_CLOSED;
        b->pause_ns = b->opts.open_ns;
        b->count = 0;
    }
    if (b->count == 0)
        b->next = 0;
    b->attempts[b->next].at_ns = now_ns;
    b->attempts[b->next].failed = failed;
    b->next = (b->next + 1) % BREAKER_ATTEMPTS;
    if (b->count < BREAKER_ATTEMPTS)
        b->count++;
    if (failed && b->state == BREAKER_CLOSED && fails_too_often(b, now_ns))
        open_up(b, now_ns);
}

const char *breaker_name(enum breaker_state state)
{
    return state == BREAKER_CLOSED ? "closed" : state == BREAKER_OPEN ? "open" : "half_open";
}

uint64_t breaker_pause_ns(unsigned failures, uint64_t base_ns, uint64_t max_ns, struct rand *r)
{
    uint64_t most = base_ns;
    for (unsigned i = 1; i < failures && most < max_ns; i++)
        most *= 2;
    if (most > max_ns)
        most = max_ns;
    return rand_below(r, most + 1);
}
