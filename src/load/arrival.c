/* SPDX-License-Identifier: Apache-2.0 */
#include "load/arrival.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

#define SPIKE_TIMES 20
#define SPIKE_S     1.0

void arrival_steady(struct arrival *a, double rate)
{
    *a = (struct arrival){.points = {{0, rate}}, .count = 1};
}

static bool parse_double(const char **text, double max, double *ret)
{
    char *end;
    *ret = strtod(*text, &end);
    bool good = end != *text && isfinite(*ret) && *ret >= 0 && *ret <= max;
    *text = end;
    return good;
}

static bool parse_points(const char *text, struct arrival *ret)
{
    double last = 0;
    for (;;) {
        struct arrival_point p;
        if (ret->count == ARRIVAL_POINTS_MAX || !parse_double(&text, 864000, &p.at_s) ||
            *text++ != ':' || !parse_double(&text, ARRIVAL_RATE_MAX, &p.rate) || p.at_s < last ||
            (ret->count == 0 && p.at_s > 0))
            return false;
        ret->points[ret->count++] = p;
        last = p.at_s;
        if (*text == 0)
            return arrival_highest(ret) > 0;
        if (*text++ != ',')
            return false;
    }
}

bool arrival_parse(const char *text, double rate, double run_s, struct arrival *ret)
{
    struct arrival a = {0};
    double times = SPIKE_TIMES;
    if (strcmp(text, "steady") == 0) {
        arrival_steady(&a, rate);
    } else if (strcmp(text, "ramp") == 0) {
        a = (struct arrival){.points = {{0, 0}, {run_s, rate}}, .count = 2};
    } else if (strncmp(text, "spike", 5) == 0) {
        text += 5;
        if (*text && (*text++ != ':' || !parse_double(&text, 1e6, &times) || *text || times < 1))
            return false;
        double from = run_s / 2, to = from + SPIKE_S;
        a = (struct arrival){.points = {{0, rate},
                                        {from, rate},
                                        {from, rate * times},
                                        {to, rate * times},
                                        {to, rate}},
                             .count = 5};
    } else if (!parse_points(text, &a)) {
        return false;
    }
    *ret = a;
    return true;
}

double arrival_highest(const struct arrival *a)
{
    double highest = 0;
    for (unsigned i = 0; i < a->count; i++)
        highest = fmax(highest, a->points[i].rate);
    return highest;
}

/* Seconds that a segment lasts, and how fast its rate grows. */
static double segment_s(const struct arrival *a, unsigned i)
{
    return i + 1 < a->count ? a->points[i + 1].at_s - a->points[i].at_s : INFINITY;
}

static double segment_slope(const struct arrival *a, unsigned i)
{
    double s = segment_s(a, i);
    return isfinite(s) && s > 0 ? (a->points[i + 1].rate - a->points[i].rate) / s : 0;
}

/* Messages in the first `s` seconds of a segment. */
static double segment_area(const struct arrival *a, unsigned i, double s)
{
    return s <= 0 ? 0 : a->points[i].rate * s + segment_slope(a, i) * s * s / 2;
}

uint64_t arrival_due_ns(struct arrival *a, uint64_t k)
{
    double wanted = (double)k;
    while (a->segment + 1 < a->count) {
        double area = segment_area(a, a->segment, segment_s(a, a->segment));
        if (wanted < a->before + area)
            break;
        a->before += area;
        a->segment++;
    }
    const struct arrival_point *p = &a->points[a->segment];
    double slope = segment_slope(a, a->segment), n = wanted - a->before, into;
    if (slope == 0) {
        if (p->rate <= 0)
            return UINT64_MAX;
        into = n / p->rate;
    } else { /* slope t^2 / 2 + rate t = n, solved in the form that does not cancel out */
        double root = sqrt(fmax(0, p->rate * p->rate + 2 * slope * n));
        into = n > 0 ? 2 * n / (p->rate + root) : 0;
    }
    return (uint64_t)((p->at_s + into) * (double)NS_PER_S + 0.5);
}

uint64_t arrival_due_before(const struct arrival *a, uint64_t ns)
{
    double s = (double)ns / (double)NS_PER_S, sum = 0;
    for (unsigned i = 0; i < a->count && a->points[i].at_s < s; i++)
        sum += segment_area(a, i, fmin(segment_s(a, i), s - a->points[i].at_s));
    return (uint64_t)ceil(sum - 1e-6);
}
