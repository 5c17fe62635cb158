/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz.h"

#include <stdio.h>

#include "base/check.h"
#include "codec/json.h"
#include "codec/json_differential.h"

static void check_agrees(struct slice text)
{
    const char *why = json_differential(text);
    if (why)
        fprintf(stderr, "%s\n", why);
    CHECK(!why);
}

/* Compact text means the same, is no longer, and compacting it again changes nothing. */
static void check_compact(struct json v)
{
    struct buf once, twice;
    struct json again;
    size_t at;
    const char *why;
    buf_init(&once, v.raw.len + 2);
    buf_init(&twice, v.raw.len + 2);
    json_compact(v, &once);
    CHECK(!once.failed);
    CHECK(json_parse(buf_slice(&once), &again, &at, &why) && again.type == v.type);
    check_agrees(buf_slice(&once));
    json_compact(again, &twice);
    CHECK(slice_eq(buf_slice(&once), buf_slice(&twice)));
    buf_fini(&once);
    buf_fini(&twice);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice text = slice_of(data, size), rest = text;
    struct json v;
    size_t at;
    const char *why;
    check_agrees(text);
    if (json_parse(text, &v, &at, &why))
        check_compact(v);
    while (rest.len && json_take(&rest, &v, &at, &why)) {
        CHECK(v.raw.ptr >= text.ptr && v.raw.ptr + v.raw.len <= rest.ptr);
        CHECK(rest.ptr + rest.len == text.ptr + text.len);
    }
    return 0;
}
