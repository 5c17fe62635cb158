/* SPDX-License-Identifier: Apache-2.0 */
/*
 * codec/strftime.h - a moment in words, as strftime of Ruby and C write it: Adafruit's service is
 * written in Ruby, whose %L and flags its clients use
 * (docs.ruby-lang.org/en/3.3/strftime_formatting _rdoc.html). Always in English. Pure; any thread.
 */
#pragma once

#include "base/buf.h"
#include "codec/zone.h"

/* A moment as a calendar and a clock show it. */
struct shown_time {
    int64_t us; /* since 1970, UTC */
    struct zone_time zone;
    int64_t year;
    unsigned month, day, hour, minute, second, micro; /* month and day from 1 */
    unsigned weekday;                                 /* 0 = Sunday */
    unsigned year_day;                                /* from 1 */
};

void time_show(int64_t us, const struct zone_time *zone, struct shown_time *ret);

/* Appends it. A conversion that is not known stays as it is; a width is at most 64 columns, so a
 * format of n bytes makes at most 32 * n. */
void time_format(struct buf *out, struct slice format, const struct shown_time *t);
