/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a rule makes of what it sees. All of it follows from the journal alone, in the order of
 * offsets, so that a replay comes to the same; but for silence, which is what the journal does not
 * say. That is identified by the last record before it: told once of each.
 */
#define XXH_INLINE_ALL
#include <xxhash.h>

#include <math.h>

#include "base/metric.h"
#include "codec/number.h"
#include "flow/record.h"
#include "view/rules_own.h"

static void drop(struct rule_entry *e, int64_t now_us, const char *why)
{
    e->dropped++;
    metric_add(METRIC_rules_dropped, 1);
    rules_note_error(e, now_us, why);
}

/* The rule publishes, unless that is too early or too deep. */
static void cause(struct rules *t, struct rule_entry *e, struct owed *o)
{
    const int64_t every_us = (int64_t)e->rule.every_ms * 1000;
    if (o->came.len > RULE_VALUE_MAX && e->rule.value.ptr)
        o->came = SLICE(""); /* nobody asks for it */
    if (every_us && e->has_caused && o->caused_us - e->caused_us < every_us) {
        e->suppressed++;
        metric_add(METRIC_rules_suppressed, 1);
    } else if (o->depth > RULE_DEPTH_MAX) {
        drop(e, o->caused_us, "too many rules have set off one another: this is where they end");
    } else if (o->came.len > RULE_VALUE_MAX) {
        drop(e, o->caused_us, "the value is too long to be passed on");
    } else if (!rules_owe_one(t, e, o)) {
        drop(e, o->caused_us, "too many of its messages could not be published yet");
    } else {
        e->has_caused = true;
        e->caused_us = o->caused_us;
    }
}

/* Whether the number is one that the rule waits for. */
static bool crosses(struct rule_entry *e, double v)
{
    bool above = e->rule.when == RULE_ABOVE;
    if (above ? v > e->rule.limit : v < e->rule.limit) {
        bool was = e->tripped;
        e->tripped = true;
        return !was;
    }
    if (above ? v <= e->rule.clear : v >= e->rule.clear)
        e->tripped = false;
    return false;
}

/* Whether the value is another one. */
static bool changes(struct rule_entry *e, struct slice value)
{
    uint64_t hash = XXH3_64bits(value.ptr, value.len);
    bool other = e->has_last && hash != e->last_hash;
    e->has_last = true;
    e->last_hash = hash;
    return other;
}

/* Whether the number is far enough from the one that was told. */
static bool moves(struct rule_entry *e, double v)
{
    if (e->has_told && !(fabs(v - e->told) > e->rule.limit))
        return false;
    bool other = e->has_told;
    e->has_told = true;
    e->told = v;
    return other;
}

static bool finds(struct rule_entry *e, struct slice value)
{
    if (e->rule.when == RULE_CHANGE && e->rule.limit <= 0)
        return changes(e, value);
    if (!number_form(value) || !number_finite(value))
        return false; /* no number crosses nothing */
    double v = number_value(value);
    return e->rule.when == RULE_CHANGE ? moves(e, v) : crosses(e, v);
}

void rules_judge(struct rules *t, struct rule_entry *e, const struct record *r, uint64_t offset,
                 unsigned depth)
{
    struct datum d;
    if (e->rule.when == RULE_SILENCE) {
        e->tripped = false;
        return;
    }
    if (!datum_decode(r->payload, &d) || !finds(e, d.value))
        return;
    struct slice came = d.value.ptr ? d.value : SLICE("");
    cause(t, e,
          &(struct owed){
              .offset = offset, .depth = depth + 1, .caused_us = r->receive_us, .came = came});
}

void rules_try(struct rules *t, struct rule_entry *e, struct slice came, int64_t now_us,
               uint64_t offset)
{
    const struct owed o = {.offset = offset,
                           .depth = 1,
                           .caused_us = now_us,
                           .tried = true,
                           .came = came.ptr ? came : SLICE("")};
    if (!rules_owe_one(t, e, &o))
        drop(e, now_us, "too many of its messages could not be published yet");
}

void rules_look(struct rules *t, int64_t now_us)
{
    pthread_mutex_lock(&t->lock);
    for (struct rule_entry *e = t->all; e; e = e->next) {
        if (e->rule.when != RULE_SILENCE || e->tripped)
            continue;
        uint64_t ms = e->rule.silence_ms;
        int64_t due_us = e->last_us + (int64_t)ms * 1000;
        int64_t back_us =
            t->opts.opened_us + (int64_t)(ms < RULES_GRACE_MS ? ms : RULES_GRACE_MS) * 1000;
        if (now_us < due_us || now_us < back_us)
            continue;
        e->tripped = true;
        cause(t, e,
              &(struct owed){.offset = e->last_offset,
                             .depth = e->last_depth + 1,
                             .caused_us = now_us,
                             .silence = true});
    }
    pthread_mutex_unlock(&t->lock);
}
