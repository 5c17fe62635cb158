/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz.h"

#include "base/check.h"
#include "codec/strftime.h"
#include "codec/zone.h"

static void check(struct zone_time t)
{
    CHECK(t.offset_s >= -ZONE_OFFSET_MAX && t.offset_s <= ZONE_OFFSET_MAX);
    CHECK(strlen(t.abbreviation) > 0 && strlen(t.abbreviation) <= ZONE_ABBREVIATION_MAX);
}

static void times(struct slice file)
{
    static const int64_t at[] = {INT64_MIN, -1, 0, 1, 951782400, 1767225600, 4102444800, INT64_MAX};
    struct zone z;
    if (zone_parse(file, &z))
        return;
    for (unsigned i = 0; i < sizeof at / sizeof *at; i++)
        check(zone_at(&z, at[i]));
    for (int64_t t = 0; t < 366 * 86400; t += 43201)
        check(zone_at(&z, 4102444800 + t));
}

static void rules(struct slice text)
{
    struct zone_rule r;
    if (!zone_rule_parse(text, &r))
        for (int64_t t = 0; t < 366 * 86400; t += 43201)
            check(zone_rule_at(&r, 1735689600 + t));
}

static void formats(struct slice text)
{
    struct zone_time utc = zone_utc();
    struct shown_time t;
    struct buf out;
    buf_init(&out, text.len * 32 + 64);
    time_show(1562165236038007, &utc, &t);
    time_format(&out, text, &t);
    CHECK(!out.failed);
    buf_fini(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    struct slice in = slice_of(data + 1, size - 1);
    switch (data[0]) {
    case '0':
        rules(in);
        break;
    case '1':
        formats(in);
        break;
    default:
        times(slice_of(data, size)); /* a file begins with 'T' */
    }
    return 0;
}
