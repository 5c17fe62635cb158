/* SPDX-License-Identifier: Apache-2.0 */
#include "codec/strftime.h"

#include <stdio.h>

#include "base/clock.h"
#include "codec/civil.h"

#define WIDTH_MAX 64

void time_show(int64_t us, const struct zone_time *zone, struct shown_time *ret)
{
    int64_t s = civil_floor_div(us, US_PER_S), local = s + zone->offset_s;
    int64_t days = civil_floor_div(local, DAY_S);
    unsigned of_day = (unsigned)(local - days * DAY_S);
    struct civil c = civil_at(days);
    *ret = (struct shown_time){.us = us,
                               .zone = *zone,
                               .year = c.year,
                               .month = c.month,
                               .day = c.day,
                               .hour = of_day / 3600,
                               .minute = of_day / 60 % 60,
                               .second = of_day % 60,
                               .micro = (unsigned)(us - s * US_PER_S),
                               .weekday = civil_weekday(days)};
    ret->year_day =
        (unsigned)(days - civil_days((struct civil){.year = c.year, .month = 1, .day = 1})) + 1;
}

/* What stands between '%' and the letter. */
struct conversion {
    char pad; /* '0', ' ', '-' for none; 0: as the letter wants it */
    bool upper, swap;
    unsigned colons, width;
    char letter;
};

static const char *const weekdays[] = {"Sunday",   "Monday", "Tuesday", "Wednesday",
                                       "Thursday", "Friday", "Saturday"};
static const char *const months[] = {"January",   "February", "March",    "April",
                                     "May",       "June",     "July",     "August",
                                     "September", "October",  "November", "December"};

/* ---- pieces -----------------------------------------------------------------------------------
 */

static void put_padding(struct buf *out, char pad, size_t has, size_t want)
{
    for (; has < want; has++)
        buf_put_u8(out, (uint8_t)pad);
}

static void put_text(struct buf *out, const struct conversion *c, struct slice s, bool upper)
{
    put_padding(out, c->pad == '0' ? '0' : ' ', s.len, c->pad == '-' ? 0 : c->width);
    bool lower = c->swap && upper; /* %p and %Z are upper case as they are */
    for (size_t i = 0; i < s.len; i++) {
        char x = s.ptr[i];
        if ((c->upper || (c->swap && !upper)) && x >= 'a' && x <= 'z')
            x = (char)(x - 'a' + 'A');
        else if (lower && x >= 'A' && x <= 'Z')
            x = (char)(x - 'A' + 'a');
        buf_put_u8(out, (uint8_t)x);
    }
}

static void put_number(struct buf *out, const struct conversion *c, int64_t v, char pad,
                       unsigned digits)
{
    char text[24];
    size_t at = sizeof text;
    uint64_t n = v < 0 ? 0 - (uint64_t)v : (uint64_t)v;
    do
        text[--at] = (char)('0' + n % 10);
    while (n /= 10);
    pad = c->pad ? c->pad : pad;
    size_t len = sizeof text - at + (v < 0), want = c->width ? c->width : digits;
    if (v < 0 && pad == '0')
        buf_put_u8(out, '-');
    if (pad != '-')
        put_padding(out, pad, len, want);
    if (v < 0 && pad != '0')
        buf_put_u8(out, '-');
    buf_put(out, text + at, sizeof text - at);
}

/* Digits behind the point: as many as the width says. */
static void put_fraction(struct buf *out, const struct conversion *c, const struct shown_time *t,
                         unsigned digits)
{
    unsigned rest = t->micro, unit = 100000;
    for (unsigned i = 0; i < (c->width ? c->width : digits); i++) {
        buf_put_u8(out, (uint8_t)('0' + (unit ? rest / unit : 0)));
        rest = unit ? rest % unit : 0;
        unit /= 10;
    }
}

/* +hhmm, +hh:mm, +hh:mm:ss */
static void put_offset(struct buf *out, const struct conversion *c, const struct shown_time *t)
{
    unsigned s = (unsigned)(t->zone.offset_s < 0 ? -t->zone.offset_s : t->zone.offset_s);
    const char *colon = c->colons ? ":" : "";
    char text[32];
    size_t len = (size_t)snprintf(text, sizeof text, "%02u%s%02u", s / 3600, colon, s / 60 % 60);
    if (c->colons > 1)
        len += (size_t)snprintf(text + len, sizeof text - len, ":%02u", s % 60);
    buf_put_u8(out, t->zone.offset_s < 0 ? '-' : '+');
    put_padding(out, '0', len + 1, c->width);
    buf_put(out, text, len);
}

/* ISO 8601: the week of the year's first Thursday is the first; it may be a year's that this day is
 * not in. */
static unsigned iso_week(const struct shown_time *t, int64_t *ret_year)
{
    unsigned weekday = t->weekday ? t->weekday : 7;
    int thursday = (int)t->year_day + 4 - (int)weekday;
    int64_t year = t->year;
    if (thursday < 1) {
        year--;
        thursday += civil_is_leap(year) ? 366 : 365;
    } else if (thursday > (civil_is_leap(year) ? 366 : 365)) {
        thursday -= civil_is_leap(year) ? 366 : 365;
        year++;
    }
    *ret_year = year;
    return (unsigned)(thursday - 1) / 7 + 1;
}

/* ---- letters ----------------------------------------------------------------------------------
 */

static bool put_date(struct buf *out, const struct conversion *c, const struct shown_time *t)
{
    int64_t iso_year;
    unsigned week = iso_week(t, &iso_year);
    switch (c->letter) {
    case 'Y':
        put_number(out, c, t->year, '0', t->year < 0 ? 5 : 4);
        return true;
    case 'C':
        put_number(out, c, civil_floor_div(t->year, 100), '0', 2);
        return true;
    case 'y':
        put_number(out, c, t->year - civil_floor_div(t->year, 100) * 100, '0', 2);
        return true;
    case 'm':
        put_number(out, c, t->month, '0', 2);
        return true;
    case 'd':
        put_number(out, c, t->day, '0', 2);
        return true;
    case 'e':
        put_number(out, c, t->day, ' ', 2);
        return true;
    case 'j':
        put_number(out, c, t->year_day, '0', 3);
        return true;
    case 'u':
        put_number(out, c, t->weekday ? t->weekday : 7, '0', 1);
        return true;
    case 'w':
        put_number(out, c, t->weekday, '0', 1);
        return true;
    case 'G':
        put_number(out, c, iso_year, '0', iso_year < 0 ? 5 : 4);
        return true;
    case 'g':
        put_number(out, c, iso_year - civil_floor_div(iso_year, 100) * 100, '0', 2);
        return true;
    case 'V':
        put_number(out, c, week, '0', 2);
        return true;
    case 'U':
        put_number(out, c, (t->year_day + 6 - t->weekday) / 7, '0', 2);
        return true;
    case 'W':
        put_number(out, c, (t->year_day + 6 - (t->weekday + 6) % 7) / 7, '0', 2);
        return true;
    default:
        return false;
    }
}

static bool put_clock(struct buf *out, const struct conversion *c, const struct shown_time *t)
{
    unsigned twelve = t->hour % 12 ? t->hour % 12 : 12;
    switch (c->letter) {
    case 'H':
        put_number(out, c, t->hour, '0', 2);
        return true;
    case 'k':
        put_number(out, c, t->hour, ' ', 2);
        return true;
    case 'I':
        put_number(out, c, twelve, '0', 2);
        return true;
    case 'l':
        put_number(out, c, twelve, ' ', 2);
        return true;
    case 'M':
        put_number(out, c, t->minute, '0', 2);
        return true;
    case 'S':
        put_number(out, c, t->second, '0', 2);
        return true;
    case 'L':
        put_fraction(out, c, t, 3);
        return true;
    case 'N':
        put_fraction(out, c, t, 9);
        return true;
    case 's':
        put_number(out, c, civil_floor_div(t->us, US_PER_S), '0', 1);
        return true;
    case 'z':
        put_offset(out, c, t);
        return true;
    default:
        return false;
    }
}

static bool put_word(struct buf *out, const struct conversion *c, const struct shown_time *t)
{
    switch (c->letter) {
    case 'A':
        put_text(out, c, slice_str(weekdays[t->weekday]), false);
        return true;
    case 'a':
        put_text(out, c, slice_of(weekdays[t->weekday], 3), false);
        return true;
    case 'B':
        put_text(out, c, slice_str(months[t->month - 1]), false);
        return true;
    case 'b':
    case 'h':
        put_text(out, c, slice_of(months[t->month - 1], 3), false);
        return true;
    case 'p':
        put_text(out, c, slice_str(t->hour < 12 ? "AM" : "PM"), true);
        return true;
    case 'P':
        put_text(out, c, slice_str(t->hour < 12 ? "am" : "pm"), false);
        return true;
    case 'Z':
        put_text(out, c, slice_str(t->zone.abbreviation), true);
        return true;
    case 'n':
        put_text(out, c, SLICE("\n"), false);
        return true;
    case 't':
        put_text(out, c, SLICE("\t"), false);
        return true;
    case '%':
        put_text(out, c, SLICE("%"), false);
        return true;
    default:
        return false;
    }
}

/* What a letter stands for that is made of others; NULL: it is none of them. */
static const char *whole(char letter)
{
    switch (letter) {
    case 'c':
        return "%a %b %e %H:%M:%S %Y";
    case 'D':
    case 'x':
        return "%m/%d/%y";
    case 'F':
        return "%Y-%m-%d";
    case 'R':
        return "%H:%M";
    case 'r':
        return "%I:%M:%S %p";
    case 'T':
    case 'X':
        return "%H:%M:%S";
    case 'v':
        return "%e-%^b-%Y";
    case '+':
        return "%a %b %e %H:%M:%S %Z %Y";
    default:
        return NULL;
    }
}

/* ---- the format -------------------------------------------------------------------------------
 */

/* Behind a '%'. False: it is none. */
static bool take_conversion(struct slice *s, struct conversion *c)
{
    *c = (struct conversion){0};
    for (; s->len; *s = slice_from(*s, 1)) {
        char x = s->ptr[0];
        if (x == '-' || x == '0' || x == '_')
            c->pad = x == '_' ? ' ' : x;
        else if (x == '^')
            c->upper = true;
        else if (x == '#')
            c->swap = true;
        else
            break;
    }
    for (; s->len && s->ptr[0] >= '0' && s->ptr[0] <= '9'; *s = slice_from(*s, 1)) {
        c->width = c->width * 10 + (unsigned)(s->ptr[0] - '0');
        if (c->width > WIDTH_MAX)
            return false;
    }
    for (; s->len && s->ptr[0] == ':' && c->colons < 2; *s = slice_from(*s, 1))
        c->colons++;
    if (!s->len || (c->colons && s->ptr[0] != 'z'))
        return false;
    c->letter = s->ptr[0];
    *s = slice_from(*s, 1);
    return true;
}

static void format(struct buf *out, struct slice rest, const struct shown_time *t, bool inner);

static bool put_conversion(struct buf *out, const struct conversion *c, const struct shown_time *t,
                           bool inner)
{
    const char *parts = inner ? NULL : whole(c->letter); /* none of them holds another */
    if (!parts)
        return put_date(out, c, t) || put_clock(out, c, t) || put_word(out, c, t);
    struct buf text;
    buf_init(&text, 256);
    format(&text, slice_str(parts), t, true);
    put_text(out, c, buf_slice(&text), false);
    buf_fini(&text);
    return true;
}

static void format(struct buf *out, struct slice rest, const struct shown_time *t, bool inner)
{
    while (rest.len) {
        const char *percent = memchr(rest.ptr, '%', rest.len);
        size_t plain = percent ? (size_t)(percent - rest.ptr) : rest.len;
        buf_put_slice(out, slice_of(rest.ptr, plain));
        rest = slice_from(rest, plain);
        struct slice after = slice_from(rest, 1);
        struct conversion c;
        if (!rest.len)
            return;
        if (take_conversion(&after, &c) && put_conversion(out, &c, t, inner)) {
            rest = after;
        } else {
            buf_put_u8(out, '%');
            rest = slice_from(rest, 1);
        }
    }
}

void time_format(struct buf *out, struct slice text, const struct shown_time *t)
{
    format(out, text, t, false);
}
