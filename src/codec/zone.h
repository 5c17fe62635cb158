/* SPDX-License-Identifier: Apache-2.0 */
/*
 * codec/zone.h - time zones: a TZif file (RFC 9636, which replaced RFC 8536), and what clocks show
 * at a moment. A `struct zone` borrows the file's bytes and owns nothing. Pure; any thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"

enum {
    ZONE_NAME_MAX = 64,          /* bytes of "America/Argentina/ComodRivadavia" and the like */
    ZONE_ABBREVIATION_MAX = 15,  /* of "CEST", "+0530" */
    ZONE_FILE_MAX = 65536,       /* bytes; real ones have up to 4,000 */
    ZONE_OFFSET_MAX = 26 * 3600, /* seconds from UTC (RFC 9636 section 3.2) */
};

/* What clocks of a zone show, from UTC. */
struct zone_time {
    int32_t offset_s; /* east of Greenwich */
    bool is_dst;
    char abbreviation[ZONE_ABBREVIATION_MAX + 1];
};

/* When, in each year, the clocks are changed: seconds since the year began, by the clock before. */
struct zone_change {
    enum { ZONE_JULIAN, ZONE_DAY, ZONE_WEEKDAY } kind; /* Jn, n, Mm.w.d */
    unsigned day;                                      /* 1-365 without 29 February; 0-365; 0-6 */
    unsigned month, week;                              /* 1-12; 1-5, 5 is the last */
    int32_t time_s;                                    /* of that day; may lead out of it */
};

/* A POSIX TZ string: "CET-1CEST,M3.5.0,M10.5.0/3". */
struct zone_rule {
    struct zone_time standard, summer;
    bool has_summer;
    struct zone_change begin, end;
};

/* NULL, or what is wrong with it. POSIX.1-2017 section 8.3 with the extension of RFC 9636 section
 * 3.3.1: hours of a change from -167 to 167. Daylight saving without its rule is refused. */
const char *zone_rule_parse(struct slice text, struct zone_rule *ret);
/* At `time_s`, seconds since 1970. */
struct zone_time zone_rule_at(const struct zone_rule *r, int64_t time_s);

struct zone {
    unsigned times_count, types_count, chars_count, wide; /* wide: bytes of a time, 4 or 8 */
    const uint8_t *times, *kinds, *types, *chars;
    bool has_rule;
    struct zone_rule rule; /* behind the last of the times */
};

/* NULL, or what is wrong with the file. One that counts leap seconds is refused: our clock does
 * not. */
const char *zone_parse(struct slice file, struct zone *ret);
struct zone_time zone_at(const struct zone *z, int64_t time_s);
/* A clock of UTC. */
struct zone_time zone_utc(void);

/* Whether it may be the name of a zone: parts of A-Z a-z 0-9 + - _, '/' between them, none of which
 * begins with '-' or '.'; so it cannot lead out of a directory. */
bool zone_name_is_valid(struct slice name);
