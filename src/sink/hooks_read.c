/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "flow/rule.h"
#include "sink/hooks_own.h"

#define BATCH_COUNT 256u
#define BATCH_BYTES (1u << 20)
#define TURNS       4u /* the others wait meanwhile */

#define U(v) (unsigned long long)(v)

/* ---- the courses ----------------------------------------------------------------------------- */

static bool has_webhooks(void *arg, const struct record *r)
{
    const struct hooks *h = arg;
    for (const struct hook *k = h->buckets[r->account % HOOKS_BUCKETS]; k; k = k->neighbour)
        if (k->account == r->account)
            return true;
    return false;
}

static bool is_of_turn(void *arg, const struct record *r)
{
    return r->account == ((const struct hooks *)arg)->lag_account;
}

void hooks_setup_courses(struct hooks *h)
{
    h->head_opts = (struct sink_opts){.name = HOOKS_NAME,
                                      .journal = h->opts.journal,
                                      .names = h->opts.names,
                                      .arg = h->opts.arg,
                                      .accounts = "",
                                      .feeds = "",
                                      .batch_count = BATCH_COUNT,
                                      .batch_bytes = BATCH_BYTES,
                                      .turns = TURNS,
                                      .wants = has_webhooks,
                                      .wants_arg = h};
    h->lag_opts = h->head_opts;
    h->lag_opts.wants = is_of_turn;
    h->head = (struct course){.opts = &h->head_opts, .sealer = h->sealer};
    h->lag = (struct course){.opts = &h->lag_opts, .sealer = h->sealer};
}

int hooks_begin_reading(struct hooks *h, uint64_t at, struct error *err)
{
    int rc = course_begin(&h->head, true, at, UINT64_MAX, err);
    if (rc == 0) {
        h->head_at = at;
        h->reading = true;
    }
    return rc;
}

void hooks_end_reading(struct hooks *h)
{
    course_end(&h->head);
    course_end(&h->lag);
    h->reading = false;
    h->committed = 0;
    hooks_setup_courses(h);
}

/* ---- queues ---------------------------------------------------------------------------------- */

static uint64_t key_of(const struct record *r)
{
    return r->kind == RECORD_PUBLISH ? XXH3_64bits_withSeed(r->topic.ptr, r->topic.len, r->account)
                                     : r->feed;
}

/* No endpoint fills the memory of all, however long its messages are; nor do those that fail,
 * together: half is left to those that do not. */
static bool is_full(const struct hooks *h, const struct hook *k)
{
    bool failing_have_half = k->cautious && h->cautious_bytes >= h->opts.queue_bytes / 2;
    return k->end - k->first == HOOK_QUEUE || failing_have_half ||
           h->queue_bytes >= h->opts.queue_bytes ||
           k->queue_bytes >= h->opts.queue_bytes / HOOKS_SHARES;
}

static unsigned blame_of(const struct hook *k, uint64_t offset)
{
    for (unsigned i = 0; i < k->blamed_count; i++)
        if (k->blamed[i].offset == offset)
            return k->blamed[i].blame;
    return 0;
}

/* Puts the message into the queue. False: it is full. */
static bool offer(struct hooks *h, struct hook *k, const struct sink_message *m, bool again)
{
    struct webhook_source source = {.node = h->opts.node};
    struct buf body;
    if (is_full(h, k))
        return false;
    memcpy(source.log_id, h->opts.log_id, sizeof source.log_id);
    buf_init(&body, 8 * BATCH_BYTES_MAX);
    if (!webhook_event_put(&body, &source, m)) {
        log_line(LOG_ERROR, "hooks.damaged", "webhook=%llu offset=%llu", U(k->id), U(m->offset));
        buf_fini(&body);
        return true;
    }
    struct event *e = &k->queue[k->end++ % HOOK_QUEUE];
    *e = (struct event){.offset = m->offset,
                        .key = key_of(&m->record),
                        .receive_us = m->record.receive_us,
                        .body = malloc(body.len),
                        .len = body.len,
                        .blame = blame_of(k, m->offset),
                        .again = again};
    CHECK(e->body);
    memcpy(e->body, body.ptr, body.len);
    hook_weigh(h, k, e->len);
    buf_fini(&body);
    return true;
}

/* Whether it is the message of a rule that names this webhook. */
static bool is_for(const struct hook *k, const struct record *r)
{
    struct rule_mark mark;
    return r->flags & RECORD_F_RULE && rule_mark_parse(r->producer.key, &mark) &&
           mark.webhook == k->id;
}

static bool selects(const struct hook *k, const struct sink_message *m)
{
    return m->record.account == k->account &&
           (is_for(k, &m->record) || course_selects("", k->feeds, &m->record, &m->names));
}

/* ---- the head -------------------------------------------------------------------------------- */

static void give_to_all(struct hooks *h, const struct sink_message *m)
{
    for (struct hook *k = h->buckets[m->record.account % HOOKS_BUCKETS]; k; k = k->neighbour) {
        if (k->behind || !selects(k, m) || (hook_is_on(k) && offer(h, k, m, false)))
            continue;
        k->behind = true;
        k->read_at = m->offset;
    }
}

static bool read_head(struct hooks *h, uint64_t now_ns)
{
    uint64_t ns;
    if (course_fill(&h->head, now_ns, &ns) != COURSE_READY)
        return false;
    for (unsigned i = 0; i < h->head.count; i++)
        give_to_all(h, &h->head.messages[i]);
    h->head_at = h->head.to;
    course_next(&h->head, h->head.to);
    h->moved = true;
    return true;
}

/* ---- those behind ---------------------------------------------------------------------------- */

static bool is_its_turn(const struct hooks *h, const struct hook *k, uint64_t now_ns)
{
    return k->behind && k->read_at <= h->head_at && hook_is_on(k) && k->next_try_ns <= now_ns &&
           !is_full(h, k) && k->end - k->first <= HOOK_QUEUE / 2;
}

/* The next one behind the last turn's; NULL: there is none. */
static struct hook *whose_turn(struct hooks *h, uint64_t now_ns)
{
    struct hook *first = NULL;
    for (struct hook *k = h->all; k; k = k->next) {
        if (!is_its_turn(h, k, now_ns))
            continue;
        if (k->id > h->turn_id)
            return k;
        first = first ? first : k;
    }
    return first;
}

static enum course_found read_stretch(struct hooks *h, const struct hook *k, uint64_t from,
                                      uint64_t to, uint64_t now_ns)
{
    struct error err = {""};
    uint64_t ns;
    h->lag_account = k->account;
    if (course_begin(&h->lag, false, from, to, &err) < 0) {
        log_line(LOG_ERROR, "hooks.read_failed", "webhook=%llu offset=%llu", U(k->id), U(from));
        return COURSE_FAILED;
    }
    h->lag.gaps = 0;
    return course_fill(&h->lag, now_ns, &ns);
}

static bool read_behind(struct hooks *h, uint64_t now_ns)
{
    struct hook *k = whose_turn(h, now_ns);
    if (!k)
        return false;
    h->turn_id = k->id;
    enum course_found found =
        k->read_at < h->head_at ? read_stretch(h, k, k->read_at, h->head_at, now_ns) : COURSE_OVER;
    if (found != COURSE_READY && found != COURSE_OVER)
        return false;
    uint64_t to = found == COURSE_OVER ? h->head_at : h->lag.to;
    for (unsigned i = 0; found == COURSE_READY && i < h->lag.count; i++) {
        const struct sink_message *m = &h->lag.messages[i];
        if (!selects(k, m) || offer(h, k, m, false))
            continue;
        to = m->offset;
        break;
    }
    k->gaps += h->lag.gaps;
    k->read_at = to;
    k->behind = to < h->head_at;
    h->moved = true;
    return true;
}

/* ---- what is owed ---------------------------------------------------------------------------- */

static void drop_owed(struct hooks *h, struct hook *k, unsigned i)
{
    log_line(LOG_WARN, "hooks.owed_lost", "webhook=%llu offset=%llu", U(k->id),
             U(k->owed[i].offset));
    k->owed[i] = k->owed[--k->owed_count];
    k->gaps++;
    h->moved = true;
}

/* Puts those whose time has come into the queue again. */
static bool read_owed(struct hooks *h, struct hook *k, int64_t now_us, uint64_t now_ns)
{
    for (unsigned i = 0; i < k->owed_count; i++) {
        struct owed *o = &k->owed[i];
        if (o->queued || o->tried == WEBHOOK_PAUSES || o->due_us > now_us || is_full(h, k))
            continue;
        enum course_found found = read_stretch(h, k, o->offset, o->offset + 1, now_ns);
        if (found == COURSE_FAILED)
            return false;
        bool there =
            found == COURSE_READY && h->lag.count == 1 && h->lag.messages[0].offset == o->offset;
        o->queued = there && offer(h, k, &h->lag.messages[0], true);
        if (!there)
            drop_owed(h, k, i);
        return true;
    }
    return false;
}

static bool read_all_owed(struct hooks *h, uint64_t now_ns)
{
    int64_t now_us = clock_wall_us();
    bool any = false;
    for (struct hook *k = h->all; k; k = k->next)
        if (k->owed_count && hook_is_on(k) && k->next_try_ns <= now_ns)
            any |= read_owed(h, k, now_us, now_ns);
    return any;
}

bool hooks_read(struct hooks *h, uint64_t now_ns)
{
    if (!h->reading)
        return false;
    bool any = read_head(h, now_ns);
    any |= read_behind(h, now_ns);
    any |= read_all_owed(h, now_ns);
    return any;
}
