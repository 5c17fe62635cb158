/* SPDX-License-Identifier: Apache-2.0 */
/*
 * codec/civil.h - the calendar: days and seconds to dates and back. It is the proleptic Gregorian
 * one, years counted from March so that the leap day is the last (Hinnant, chrono-compatible
 * low-level date algorithms, 2013). Pure; any thread. Any 64-bit number of seconds, as days, is in
 * range.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define DAY_S 86400

struct civil {
    int64_t year;
    unsigned month, day; /* from 1 */
};

/* Towards minus infinity; b > 0. Here, for a `b` that is known is no division. */
static inline int64_t civil_floor_div(int64_t a, int64_t b)
{
    return a / b - (a % b < 0);
}

/* Days since 1970-01-01, and back. */
int64_t civil_days(struct civil c);
struct civil civil_at(int64_t days);
bool civil_is_leap(int64_t year);
unsigned civil_month_days(int64_t year, unsigned month);
/* 0 = Sunday. */
unsigned civil_weekday(int64_t days);
