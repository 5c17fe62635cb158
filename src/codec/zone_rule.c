/* SPDX-License-Identifier: Apache-2.0 */
/* The rule of a zone as POSIX writes it. Its offsets count west of Greenwich, ours east. */
#include "codec/zone.h"

#include <string.h>

#include "codec/civil.h"

#define CHANGE_HOURS_MAX 167                       /* a week, all but an hour */
#define CYCLE_S          (INT64_C(146097) * DAY_S) /* 400 years, after which dates and weekdays repeat */

static bool take(struct slice *s, char c)
{
    if (!s->len || s->ptr[0] != c)
        return false;
    *s = slice_from(*s, 1);
    return true;
}

/* A number up to `most`. */
static bool take_number(struct slice *s, unsigned most, unsigned *ret)
{
    unsigned n = 0;
    size_t digits = 0;
    while (s->len && s->ptr[0] >= '0' && s->ptr[0] <= '9' && n <= most) {
        n = n * 10 + (unsigned)(s->ptr[0] - '0');
        *s = slice_from(*s, 1);
        digits++;
    }
    *ret = n;
    return digits && n <= most;
}

/* [+|-]hh[:mm[:ss]] */
static bool take_time(struct slice *s, unsigned hours_max, int32_t *ret)
{
    unsigned hours, minutes = 0, seconds = 0;
    bool minus = take(s, '-');
    if (!minus)
        take(s, '+');
    if (!take_number(s, hours_max, &hours))
        return false;
    if (take(s, ':') &&
        (!take_number(s, 59, &minutes) || (take(s, ':') && !take_number(s, 59, &seconds))))
        return false;
    *ret = (int32_t)(hours * 3600 + minutes * 60 + seconds) * (minus ? -1 : 1);
    return true;
}

static bool is_letter(char c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

/* Three letters or more, or <letters, digits, + and ->. */
static bool take_name(struct slice *s, struct zone_time *ret)
{
    bool quoted = take(s, '<');
    size_t n = 0;
    while (n < s->len &&
           (is_letter(s->ptr[n]) || (quoted && ((s->ptr[n] >= '0' && s->ptr[n] <= '9') ||
                                                s->ptr[n] == '+' || s->ptr[n] == '-'))))
        n++;
    if (n < 3 || n > ZONE_ABBREVIATION_MAX)
        return false;
    memcpy(ret->abbreviation, s->ptr, n);
    ret->abbreviation[n] = 0;
    *s = slice_from(*s, n);
    return !quoted || take(s, '>');
}

static bool take_change(struct slice *s, struct zone_change *ret)
{
    *ret = (struct zone_change){.time_s = 2 * 3600};
    bool good;
    if (take(s, 'M')) {
        ret->kind = ZONE_WEEKDAY;
        good = take_number(s, 12, &ret->month) && ret->month && take(s, '.') &&
               take_number(s, 5, &ret->week) && ret->week && take(s, '.') &&
               take_number(s, 6, &ret->day);
    } else if (take(s, 'J')) {
        ret->kind = ZONE_JULIAN;
        good = take_number(s, 365, &ret->day) && ret->day;
    } else {
        ret->kind = ZONE_DAY;
        good = take_number(s, 365, &ret->day);
    }
    return good && (!take(s, '/') || take_time(s, CHANGE_HOURS_MAX, &ret->time_s));
}

const char *zone_rule_parse(struct slice s, struct zone_rule *ret)
{
    static const char bad[] = "its rule is none as POSIX writes it";
    struct zone_rule r = {.has_summer = false};
    int32_t west;
    if (!take_name(&s, &r.standard) || !take_time(&s, 24, &west))
        return bad;
    r.standard.offset_s = -west;
    if (s.len) {
        r.has_summer = true;
        if (!take_name(&s, &r.summer))
            return bad;
        r.summer.is_dst = true;
        r.summer.offset_s = r.standard.offset_s + 3600;
        if (s.len && s.ptr[0] != ',') {
            if (!take_time(&s, 24, &west))
                return bad;
            r.summer.offset_s = -west;
        }
        if (!take(&s, ',') || !take_change(&s, &r.begin) || !take(&s, ',') ||
            !take_change(&s, &r.end))
            return bad;
    }
    if (s.len)
        return bad;
    *ret = r;
    return NULL;
}

/* The moment of the change in that year, by a clock that is `offset_s` from UTC. */
static int64_t moment(const struct zone_change *c, int64_t year, int32_t offset_s)
{
    int64_t days = civil_days((struct civil){.year = year, .month = 1, .day = 1});
    if (c->kind == ZONE_DAY) {
        days += c->day;
    } else if (c->kind == ZONE_JULIAN) {
        days += c->day - 1 + (c->day > 59 && civil_is_leap(year)); /* 60 is always 1 March */
    } else {
        days = civil_days((struct civil){.year = year, .month = c->month, .day = 1});
        unsigned day = (c->day + 7 - civil_weekday(days)) % 7 + 7 * (c->week - 1);
        while (day >= civil_month_days(year, c->month))
            day -= 7;
        days += day;
    }
    return days * DAY_S + c->time_s - offset_s;
}

/* The newest change decides. One may lie some days outside its year; of two at the same moment, the
 * later year's counts: so the year's end does not interrupt what holds all year round. */
struct zone_time zone_rule_at(const struct zone_rule *r, int64_t time_s)
{
    if (!r->has_summer)
        return r->standard;
    time_s %= CYCLE_S;
    if (time_s < 0)
        time_s += CYCLE_S;
    int64_t now = civil_at(time_s / DAY_S).year, newest = 0;
    bool found = false, summer = false;
    for (int64_t year = now - 2; year <= now + 1; year++) {
        const int64_t at[2] = {moment(&r->begin, year, r->standard.offset_s),
                               moment(&r->end, year, r->summer.offset_s)};
        for (unsigned i = 0; i < 2; i++) {
            if (at[i] > time_s || (found && at[i] < newest))
                continue;
            found = true;
            newest = at[i];
            summer = i == 0;
        }
    }
    return summer ? r->summer : r->standard;
}
