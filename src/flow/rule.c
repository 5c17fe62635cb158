/* SPDX-License-Identifier: Apache-2.0 */
#include "flow/rule.h"

#include <math.h>
#include <stdio.h>

#include "base/varint.h"
#include "flow/limits.h"

const char *rule_when_name(enum rule_when when)
{
    static const char *const names[] = {"", "above", "below", "change", "silence"};
    return names[when];
}

static void put_double(struct buf *out, double v)
{
    uint64_t bits;
    memcpy(&bits, &v, sizeof bits);
    buf_put_u64(out, bits);
}

void rule_record_encode(struct buf *out, const struct rule_record *e)
{
    const struct rule *r = &e->rule;
    buf_put_u8(out, (uint8_t)e->event);
    buf_put_varint(out, r->id);
    if (e->event == RULE_TRIED)
        buf_put_slice(out, e->value);
    if (e->event != RULE_ADDED)
        return;
    buf_put_varint(out, r->account);
    buf_put_varint(out, r->feed);
    buf_put_u8(out, (uint8_t)r->when);
    put_double(out, r->limit);
    put_double(out, r->clear);
    buf_put_varint(out, r->silence_ms);
    buf_put_varint(out, r->every_ms);
    buf_put_varint(out, r->to_feed);
    buf_put_varint(out, r->webhook);
    buf_put_varint(out, zigzag((uint64_t)r->created_us));
    buf_put_u8(out, r->value.ptr != NULL);
    buf_put_slice(out, r->value);
}

/* ---- reading --------------------------------------------------------------------------------- */

static bool get_u8(struct slice *in, uint8_t *ret)
{
    if (!in->len)
        return false;
    *ret = (uint8_t)in->ptr[0];
    *in = slice_from(*in, 1);
    return true;
}

static bool get_double(struct slice *in, double *ret)
{
    uint64_t bits;
    if (in->len < sizeof bits)
        return false;
    memcpy(&bits, in->ptr, sizeof bits);
    bits = le64toh(bits);
    memcpy(ret, &bits, sizeof *ret);
    *in = slice_from(*in, sizeof bits);
    return isfinite(*ret);
}

static bool get_rule(struct slice in, struct rule *r)
{
    uint8_t when, has_value;
    uint64_t created;
    if (!varint_take(&in, UINT64_MAX, &r->account) || !varint_take(&in, UINT64_MAX, &r->feed) ||
        !get_u8(&in, &when) || !get_double(&in, &r->limit) || !get_double(&in, &r->clear) ||
        !varint_take(&in, UINT64_MAX, &r->silence_ms) ||
        !varint_take(&in, UINT64_MAX, &r->every_ms) || !varint_take(&in, UINT64_MAX, &r->to_feed) ||
        !varint_take(&in, UINT64_MAX, &r->webhook) || !varint_take(&in, UINT64_MAX, &created) ||
        !get_u8(&in, &has_value))
        return false;
    r->when = (enum rule_when)when;
    r->created_us = (int64_t)unzigzag(created);
    r->value = has_value ? in : (struct slice){0};
    return r->account && r->feed && when >= RULE_ABOVE && when <= RULE_SILENCE && has_value <= 1 &&
           (has_value || !in.len) && in.len <= RULE_VALUE_MAX && r->silence_ms <= RULE_MS_MAX &&
           r->every_ms <= RULE_MS_MAX && (when == RULE_SILENCE) == (r->silence_ms > 0);
}

bool rule_record_decode(struct slice payload, struct rule_record *ret)
{
    uint8_t event;
    *ret = (struct rule_record){0};
    if (!get_u8(&payload, &event) || !varint_take(&payload, UINT64_MAX, &ret->rule.id) ||
        !ret->rule.id)
        return false;
    ret->event = (enum rule_event)event;
    ret->value = payload;
    return event == RULE_ADDED     ? get_rule(payload, &ret->rule)
           : event == RULE_REMOVED ? !payload.len
                                   : event == RULE_TRIED && payload.len <= RULE_VALUE_MAX;
}

/* ---- marks ----------------------------------------------------------------------------------- */

size_t rule_mark_format(char out[RULE_MARK_MAX], const struct rule_mark *m)
{
    return (size_t)snprintf(out, RULE_MARK_MAX, "rule:%llu:%llu:%u:%llu",
                            (unsigned long long)m->rule, (unsigned long long)m->offset, m->depth,
                            (unsigned long long)m->webhook);
}

static bool get_number(struct slice *in, uint64_t max, uint64_t *ret)
{
    uint64_t n = 0;
    size_t i = 1;
    if (in->len < 2 || in->ptr[0] != ':')
        return false;
    for (; i < in->len && in->ptr[i] >= '0' && in->ptr[i] <= '9'; i++) {
        uint64_t digit = (uint64_t)(in->ptr[i] - '0');
        if (n > (max - digit) / 10)
            return false;
        n = n * 10 + digit;
    }
    *in = slice_from(*in, i);
    *ret = n;
    return i > 1;
}

bool rule_mark_parse(struct slice text, struct rule_mark *ret)
{
    uint64_t depth;
    if (!slice_starts(text, SLICE("rule:")))
        return false;
    text = slice_from(text, 4);
    if (!get_number(&text, UINT64_MAX, &ret->rule) ||
        !get_number(&text, UINT64_MAX, &ret->offset) || !get_number(&text, UINT32_MAX, &depth) ||
        !get_number(&text, UINT64_MAX, &ret->webhook))
        return false;
    ret->depth = (unsigned)depth;
    return !text.len;
}
