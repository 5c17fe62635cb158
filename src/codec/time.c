/* SPDX-License-Identifier: Apache-2.0 */
/* Times as text. */
#include "base/clock.h"
#include "codec/civil.h"
#include "codec/text.h"

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

static char *put_two(char *p, unsigned v, char after)
{
    p[0] = (char)('0' + v / 10 % 10);
    p[1] = (char)('0' + v % 10);
    p[2] = after;
    return p + 3;
}

/* "2020-05-12T20:52:50" and `after`. Years beyond 9999 get their extra digits. */
static void put_seconds(struct buf *out, int64_t us, char after)
{
    int64_t t = civil_floor_div(us, US_PER_S), days = civil_floor_div(t, DAY_S);
    unsigned second = (unsigned)(t - days * DAY_S);
    struct civil c = civil_at(days);
    if (c.year < 0 || c.year > 9999) {
        buf_printf(out, "%05lld", (long long)c.year);
    } else {
        char year[6];
        put_two(put_two(year, (unsigned)c.year / 100, 0) - 1, (unsigned)c.year % 100, 0);
        buf_put(out, year, 4);
    }
    char text[16] = "-", *p = text + 1;
    p = put_two(put_two(p, c.month, '-'), c.day, 'T');
    p = put_two(put_two(p, second / 3600, ':'), second / 60 % 60, ':');
    put_two(p, second % 60, after);
    buf_put(out, text, 16);
}

void time_format_s(struct buf *out, int64_t us)
{
    put_seconds(out, us, 'Z');
}

void time_format_us(struct buf *out, int64_t us)
{
    put_seconds(out, us, '.');
    unsigned rest = (unsigned)(us - civil_floor_div(us, US_PER_S) * US_PER_S);
    char text[] = "000000Z";
    for (unsigned i = 6; i-- > 0; rest /= 10)
        text[i] = (char)('0' + rest % 10);
    buf_put(out, text, 7);
}

void time_format_ms(struct buf *out, int64_t us)
{
    unsigned ms = (unsigned)((us - civil_floor_div(us, US_PER_S) * US_PER_S) / 1000);
    put_seconds(out, us, '.');
    char text[3] = {(char)('0' + ms / 100), (char)('0' + ms / 10 % 10), (char)('0' + ms % 10)};
    buf_put(out, text, sizeof text);
    buf_put_str(out, "+0000");
}
