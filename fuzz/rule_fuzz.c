/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz.h"

#include "api/rule_when.h"
#include "base/check.h"
#include "flow/limits.h"
#include "flow/rule.h"

/* What is understood reads back as the same, and keeps the bounds. */
static void when(struct slice text)
{
    struct rule r = {0}, again = {0};
    struct error err;
    struct buf out;
    if (rule_when_parse(text, &r, &err) < 0) {
        CHECK(!r.when && strlen(err.text) > 0);
        return;
    }
    CHECK(r.when >= RULE_ABOVE && r.when <= RULE_SILENCE && r.silence_ms <= RULE_MS_MAX);
    buf_init(&out, 4096);
    rule_when_format(&out, &r);
    CHECK(rule_when_parse(buf_slice(&out), &again, &err) == 0);
    CHECK(again.when == r.when && again.limit == r.limit && again.clear == r.clear &&
          again.silence_ms == r.silence_ms);
    buf_fini(&out);
}

static void record(struct slice payload)
{
    struct rule_record r, again;
    struct buf out;
    if (!rule_record_decode(payload, &r))
        return;
    CHECK(r.rule.id && r.rule.value.len <= RULE_VALUE_MAX && r.value.len <= payload.len);
    buf_init(&out, payload.len + 256);
    rule_record_encode(&out, &r);
    CHECK(!out.failed && rule_record_decode(buf_slice(&out), &again));
    CHECK(again.event == r.event && again.rule.id == r.rule.id &&
          again.rule.limit == r.rule.limit && again.rule.every_ms == r.rule.every_ms &&
          slice_eq(again.rule.value, r.rule.value));
    buf_fini(&out);
}

static void mark(struct slice text)
{
    struct rule_mark m, again;
    char out[RULE_MARK_MAX];
    if (!rule_mark_parse(text, &m))
        return;
    size_t len = rule_mark_format(out, &m);
    CHECK(len < sizeof out && rule_mark_parse(slice_of(out, len), &again));
    CHECK(again.rule == m.rule && again.offset == m.offset && again.depth == m.depth &&
          again.webhook == m.webhook);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    struct slice in = slice_of(data + 1, size - 1);
    switch (data[0]) {
    case 'r':
        record(in);
        break;
    case 'm':
        mark(in);
        break;
    default:
        when(in);
    }
    return 0;
}
