/* SPDX-License-Identifier: Apache-2.0 */
/* Times as text. */
#include "codec/text.h"

#include <stdio.h>

#include "base/clock.h"
#include "base/digits.h"
#include "codec/civil.h"

/* Exactly `digits` digits at the front of *s. */
static bool take_number(struct slice *s, unsigned digits, unsigned *ret)
{
    unsigned v = 0;
    if (s->len < digits)
        return false;
    for (unsigned i = 0; i < digits; i++) {
        if (s->ptr[i] < '0' || s->ptr[i] > '9')
            return false;
        v = v * 10 + (unsigned)(s->ptr[i] - '0');
    }
    *s = slice_from(*s, digits);
    *ret = v;
    return true;
}

static bool take(struct slice *s, char c)
{
    if (!s->len || s->ptr[0] != c)
        return false;
    *s = slice_from(*s, 1);
    return true;
}

/* ".637" to microseconds; nothing there is 0. */
static bool take_fraction(struct slice *s, unsigned *ret_us)
{
    unsigned us = 0, digits = 0;
    if (take(s, '.')) {
        for (; s->len && s->ptr[0] >= '0' && s->ptr[0] <= '9'; *s = slice_from(*s, 1), digits++)
            if (digits < 6)
                us = us * 10 + (unsigned)(s->ptr[0] - '0');
        if (digits == 0 || digits > 9)
            return false;
        for (; digits < 6; digits++)
            us *= 10;
    }
    *ret_us = us;
    return true;
}

/* "Z", "+01:00", "+0100", " UTC", or nothing; must use up the text. */
static bool take_offset(struct slice s, int *ret_s)
{
    unsigned hour = 0, minute = 0;
    *ret_s = 0;
    if (s.len == 0 || slice_eq_nocase(s, SLICE("Z")) || slice_eq_nocase(s, SLICE(" UTC")))
        return true;
    bool west = s.ptr[0] == '-';
    if (!west && s.ptr[0] != '+')
        return false;
    s = slice_from(s, 1);
    if (!take_number(&s, 2, &hour))
        return false;
    take(&s, ':');
    if (!take_number(&s, 2, &minute) || s.len || hour > 23 || minute > 59)
        return false;
    *ret_s = (int)(hour * 3600 + minute * 60) * (west ? -1 : 1);
    return true;
}

bool time_parse(struct slice s, int64_t *ret_us)
{
    unsigned year, month, day, hour, minute, second, us;
    int offset;
    if (!take_number(&s, 4, &year) || !take(&s, '-') || !take_number(&s, 2, &month) ||
        !take(&s, '-') || !take_number(&s, 2, &day))
        return false;
    if (!take(&s, 'T') && !take(&s, 't') && !take(&s, ' '))
        return false;
    if (!take_number(&s, 2, &hour) || !take(&s, ':') || !take_number(&s, 2, &minute) ||
        !take(&s, ':') || !take_number(&s, 2, &second) || !take_fraction(&s, &us) ||
        !take_offset(s, &offset))
        return false;
    if (month < 1 || month > 12 || day < 1 || day > civil_month_days(year, month) || hour > 23 ||
        minute > 59 || second > 60)
        return false;
    int64_t days = civil_days((struct civil){.year = year, .month = month, .day = day});
    int64_t t = days * DAY_S + hour * 3600 + minute * 60 + second - offset;
    if (second == 60 && t % DAY_S != 0) /* a leap second ends a day of UTC; it counts as the next */
        return false;
    *ret_us = t * US_PER_S + us;
    return true;
}

#define DAY_US (DAY_S * US_PER_S)

/* "2020-05-12T". Years beyond 9999 get their extra digits. */
static void set_day(struct time_day *day, int64_t us)
{
    int64_t number = civil_floor_div(us, DAY_US);
    struct civil c = civil_at(number);
    char *p = day->text;
    if (c.year < 0 || c.year > 9999) {
        p += snprintf(p, sizeof day->text, "%05lld", (long long)c.year);
    } else {
        p = digits_put_two(p, (unsigned)c.year / 100);
        p = digits_put_two(p, (unsigned)c.year % 100);
    }
    *p++ = '-';
    p = digits_put_two(p, c.month);
    *p++ = '-';
    p = digits_put_two(p, c.day);
    *p++ = 'T';
    day->start_us = (int64_t)((uint64_t)number * DAY_US); /* the first day of all wraps around */
    day->len = (unsigned)(p - day->text);
}

/* "2020-05-12T20:52:50" and `after`. */
static char *put_seconds(struct time_day *day, char *to, int64_t us, char after)
{
    if (!day->len || (uint64_t)us - (uint64_t)day->start_us >= DAY_US)
        set_day(day, us);
    unsigned second = (unsigned)(((uint64_t)us - (uint64_t)day->start_us) / US_PER_S);
    memcpy(to, day->text, sizeof day->text);
    to = digits_put_two(to + day->len, second / 3600);
    *to++ = ':';
    to = digits_put_two(to, second / 60 % 60);
    *to++ = ':';
    to = digits_put_two(to, second % 60);
    *to++ = after;
    return to;
}

char *time_put_s(struct time_day *day, char *to, int64_t us)
{
    return put_seconds(day, to, us, 'Z');
}

static void format_seconds(struct buf *out, int64_t us, char after)
{
    struct time_day day = {0};
    char text[TIME_S_MAX];
    buf_put(out, text, (size_t)(put_seconds(&day, text, us, after) - text));
}

void time_format_s(struct buf *out, int64_t us)
{
    format_seconds(out, us, 'Z');
}

void time_format_us(struct buf *out, int64_t us)
{
    format_seconds(out, us, '.');
    unsigned rest = (unsigned)(us - civil_floor_div(us, US_PER_S) * US_PER_S);
    char text[] = "000000Z";
    for (unsigned i = 6; i-- > 0; rest /= 10)
        text[i] = (char)('0' + rest % 10);
    buf_put(out, text, 7);
}

void time_format_ms(struct buf *out, int64_t us)
{
    unsigned ms = (unsigned)((us - civil_floor_div(us, US_PER_S) * US_PER_S) / 1000);
    format_seconds(out, us, '.');
    char text[3] = {(char)('0' + ms / 100), (char)('0' + ms / 10 % 10), (char)('0' + ms % 10)};
    buf_put(out, text, sizeof text);
    buf_put_str(out, "+0000");
}
