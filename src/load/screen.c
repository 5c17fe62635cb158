/* SPDX-License-Identifier: Apache-2.0 */
#include "load/screen.h"

#include <string.h>

#include "base/clock.h"

#define BAR_WIDTH 30

static double ms(uint64_t ns)
{
    return (double)ns / (double)NS_PER_MS;
}

static void put_bar(FILE *out, const struct screen_state *s)
{
    char bar[BAR_WIDTH + 1];
    double share = s->share < 0 ? 0 : s->share > 1 ? 1 : s->share;
    int full = (int)(share * BAR_WIDTH);
    memset(bar, '#', (size_t)full);
    memset(bar + full, '.', (size_t)(BAR_WIDTH - full));
    bar[BAR_WIDTH] = 0;
    fprintf(out, "%s [%s] %3.0f %%, %.0f s", s->phase, bar, 100 * share, s->elapsed_s);
}

static void put_rate(FILE *out, const struct screen_state *s)
{
    fprintf(out, "%lu answers/s", s->second.answers);
    if (s->due > 0)
        fprintf(out, " (at most %.0f due)", s->due);
    fprintf(out, "   p50 %.3f  p99 %.3f  p99.9 %.3f  max %.3f ms", ms(s->second.p50),
            ms(s->second.p99), ms(s->second.p999), ms(s->second.max));
}

static void put_codes(FILE *out, const struct result *r)
{
    fputs("answers", out);
    for (unsigned i = 0; i < 600; i++)
        if (r->by_status[i])
            fprintf(out, "  %u: %lu", i, r->by_status[i]);
    fprintf(out, "   errors: %lu", result_errors(r));
}

/* A second, between two looks. */
static void put_watched(FILE *out, const struct watch_figures *a, const struct watch_figures *b)
{
    double s = (double)(b->at_ns - a->at_ns) / (double)NS_PER_S;
    fprintf(out,
            "the server: throttle %.0f/s allowed, %.0f/s refused; secrets %.0f/s known, %.0f/s "
            "hashed, %.0f waiting",
            (b->allowed - a->allowed) / s, (b->refused - a->refused) / s, (b->known - a->known) / s,
            (b->hashed - a->hashed) / s, b->waiting);
}

static void end_line(struct screen *s)
{
    fputs("\033[K\n", s->out);
    s->lines++;
}

void screen_show(struct screen *s, const struct screen_state *state)
{
    if (!s->out)
        return;
    if (s->lines)
        fprintf(s->out, "\033[%uA", s->lines);
    s->lines = 0;
    fputc('\r', s->out);
    put_bar(s->out, state);
    end_line(s);
    put_rate(s->out, state);
    end_line(s);
    put_codes(s->out, state->result);
    end_line(s);
    if (s->before.at_ns && state->watched.at_ns > s->before.at_ns)
        put_watched(s->out, &s->before, &state->watched);
    end_line(s);
    if (state->watched.at_ns)
        s->before = state->watched;
    fflush(s->out);
}
