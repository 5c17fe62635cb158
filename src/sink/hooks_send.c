/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whose fault a failure is: see webhook.c; here a message's is one that is owed, and an endpoint's
 * makes it wait longer and longer. Who is failing gets one request at a time, and only while the
 * others leave a quarter of all requests free, so that many that hang hold up none that do not.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "sink/breaker.h"
#include "sink/hooks_own.h"

#define RETRY_NS NS_PER_S

#define U(v) (unsigned long long)(v)

static struct event *event_at(struct hook *k, uint64_t sequence)
{
    return &k->queue[sequence % HOOK_QUEUE];
}

/* ---- what is sent next ----------------------------------------------------------------------- */

/* In a request that begins with `first`. */
static bool has_its_turn(struct hook *k, uint64_t sequence, uint64_t first)
{
    const struct event *e = event_at(k, sequence);
    for (uint64_t i = sequence; k->by_feed && i-- > k->first;)
        if (event_at(k, i)->key == e->key && event_at(k, i)->state != EVENT_SETTLED)
            return i >= first;
    return true;
}

static bool choose(struct hook *k, uint64_t *ret)
{
    bool found = false;
    for (uint64_t i = k->first; i < k->end; i++) {
        const struct event *e = event_at(k, i);
        if (e->state != EVENT_WAITING || (found && e->blame >= event_at(k, *ret)->blame) ||
            !has_its_turn(k, i, i))
            continue;
        *ret = i;
        found = true;
    }
    return found;
}

static bool may_send(const struct hooks *h, const struct hook *k, uint64_t now_ns)
{
    unsigned most = k->cautious || k->events_max > 1 ? 1 : HOOK_AT_ONCE;
    unsigned room = posts_room(h->posts), spared = k->cautious ? h->opts.at_once / 4 : 0;
    return hook_is_on(k) && k->next_try_ns <= now_ns && k->under_way < most && room > spared;
}

/* ---- requests -------------------------------------------------------------------------------- */

static void put_body(struct hooks *h, struct hook *k, struct flight *f)
{
    const struct event *e = event_at(k, f->first);
    struct webhook_source source = {.node = h->opts.node};
    unsigned most = webhook_width(k->events_max, e->blame);
    struct buf *body = &f->it.body;
    char id[WEBHOOK_ID_BYTES];
    memcpy(source.log_id, h->opts.log_id, sizeof source.log_id);
    buf_reuse(body, WEBHOOK_BODY_BYTES);
    f->count = 1;
    if (k->events_max == 1) {
        buf_put_u8(body, '{');
        buf_put(body, e->body, e->len);
        buf_put_u8(body, '}');
    } else {
        webhook_batch_begin(body, e->receive_us);
        for (f->count = 0; f->first + f->count < k->end && f->count < most; f->count++) {
            e = event_at(k, f->first + f->count);
            if (f->count && (e->state != EVENT_WAITING || body->len >= WEBHOOK_BODY_BYTES ||
                             !has_its_turn(k, f->first + f->count, f->first)))
                break;
            webhook_event_id(id, &source, e->offset);
            buf_put_str(body, f->count ? ",{\"id\":\"" : "{\"id\":\"");
            buf_put_str(body, id);
            buf_put_str(body, "\",");
            buf_put(body, e->body, e->len);
            buf_put_u8(body, '}');
        }
        webhook_batch_end(body);
    }
    CHECK(!body->failed);
    webhook_event_id(id, &source, event_at(k, f->first)->offset);
    webhook_batch_id(id, f->count);
    webhook_post_sign(&f->it, &k->keys, id);
}

static void start(struct hooks *h, struct hook *k, uint64_t first)
{
    struct flight *f = h->flights;
    while (f->hook)
        f++;
    f->hook = k;
    f->first = first;
    f->taken = k->taken;
    put_body(h, k, f);
    for (unsigned i = 0; i < f->count; i++)
        event_at(k, first + i)->state = EVENT_UNDER_WAY;
    k->under_way++;
    f->it.post.url = k->url;
    f->it.post.owner = f;
    posts_start(h->posts, &f->it.post);
}

/* ---- what is owed ---------------------------------------------------------------------------- */

static int64_t due_us(struct hooks *h, uint32_t tried)
{
    uint64_t us = webhook_pauses_s[tried] * (uint64_t)US_PER_S;
    return clock_wall_us() + (int64_t)(us + rand_below(&h->rand, us / 5));
}

static unsigned find_owed(const struct hook *k, uint64_t offset)
{
    unsigned i = 0;
    while (i < k->owed_count && k->owed[i].offset != offset)
        i++;
    return i;
}

/* Makes room by forgetting the dead one that is oldest. False: none is dead. */
static bool forget_dead(struct hook *k)
{
    unsigned oldest = k->owed_count;
    for (unsigned i = 0; i < k->owed_count; i++)
        if (k->owed[i].tried == WEBHOOK_PAUSES && !k->owed[i].queued &&
            (oldest == k->owed_count || k->owed[i].offset < k->owed[oldest].offset))
            oldest = i;
    if (oldest == k->owed_count)
        return false;
    k->owed[oldest] = k->owed[--k->owed_count];
    return true;
}

/* The message is to be tried again some day. False: there are too many of them. */
static bool owe(struct hooks *h, struct hook *k, const struct event *e, const char *why)
{
    char text[128];
    unsigned i = find_owed(k, e->offset);
    if (i == k->owed_count) {
        if (k->owed_count == HOOK_OWED_MAX && !forget_dead(k))
            return false;
        i = k->owed_count++;
        /* Ordered, it would come behind later ones: that is for people to decide. */
        k->owed[i] = (struct owed){.offset = e->offset, .tried = k->by_feed ? WEBHOOK_PAUSES : 0};
    } else if (k->owed[i].tried < WEBHOOK_PAUSES) {
        k->owed[i].tried++;
    }
    struct owed *o = &k->owed[i];
    bool dead = o->tried == WEBHOOK_PAUSES;
    o->queued = false;
    o->due_us = dead ? 0 : due_us(h, o->tried);
    h->dead += dead;
    log_line(dead ? LOG_WARN : LOG_INFO, dead ? "hooks.dead" : "hooks.owed",
             "webhook=%llu offset=%llu tried=%u why=\"%s\"", U(k->id), U(e->offset), o->tried,
             log_text(text, slice_str(why)));
    return true;
}

/* ---- ends ------------------------------------------------------------------------------------ */

static void settle(struct hooks *h, struct hook *k, struct event *e)
{
    hook_weigh(h, k, 0 - (uint64_t)e->len);
    free(e->body);
    e->body = NULL;
    e->len = 0;
    e->state = EVENT_SETTLED;
    for (; k->first < k->end && event_at(k, k->first)->state == EVENT_SETTLED; k->first++)
        ;
    h->moved = true;
}

static void disable(struct hooks *h, struct hook *k, const char *why)
{
    char text[128];
    snprintf(k->disabled, sizeof k->disabled, "%.*s", (int)sizeof k->disabled - 1, why);
    log_line(LOG_ERROR, "hooks.disabled", "webhook=%llu why=\"%s\"", U(k->id),
             log_text(text, slice_str(why)));
    hook_put_back(h, k);
    int rc = hooks_save(h);
    if (rc)
        log_line(LOG_ERROR, "hooks.not_written", "error=%s", strerror(-rc));
}

static void be_cautious(struct hooks *h, struct hook *k, bool cautious)
{
    if (k->cautious != cautious)
        h->cautious_bytes += cautious ? k->queue_bytes : 0 - k->queue_bytes;
    k->cautious = cautious;
}

static void fail(struct hooks *h, struct hook *k, const struct post *post, const char *why,
                 uint64_t now_ns)
{
    char text[256];
    int64_t now_us = clock_wall_us();
    k->failures++;
    k->failed++;
    h->failures++;
    uint64_t pause_ns = breaker_pause_ns(k->failures, RETRY_NS, h->opts.retry_max_ns, &h->rand);
    if (pause_ns < post->retry_after_ns)
        pause_ns = post->retry_after_ns;
    k->next_try_ns = now_ns + pause_ns;
    be_cautious(h, k, true);
    snprintf(k->error, sizeof k->error, "%.*s", (int)sizeof k->error - 1, why);
    if (!k->failing_since_us || k->failing_since_us > now_us) {
        k->failing_since_us = now_us;
        k->failing_since_ns = now_ns;
    }
    h->moved = true;
    uint64_t for_ns = (uint64_t)(now_us - k->failing_since_us) * NS_PER_US;
    if (k->failing_since_ns && now_ns - k->failing_since_ns < for_ns) /* the clock was set */
        for_ns = now_ns - k->failing_since_ns;
    if (for_ns < h->opts.give_up_ns)
        return;
    snprintf(text, sizeof text, "it failed for %llu h: %.150s", U(for_ns / NS_PER_S / 3600), why);
    disable(h, k, text);
}

static void worked(struct hooks *h, struct hook *k)
{
    k->failures = 0;
    k->next_try_ns = 0;
    be_cautious(h, k, false);
    k->failing_since_us = 0;
    k->error[0] = 0;
}

static void take(struct hooks *h, struct hook *k, const struct flight *f)
{
    worked(h, k);
    k->taken += f->count;
    k->delivered += f->count;
    h->delivered += f->count;
    for (unsigned i = 0; i < f->count; i++) {
        struct event *e = event_at(k, f->first + i);
        unsigned o = find_owed(k, e->offset);
        if (e->again && o < k->owed_count)
            k->owed[o] = k->owed[--k->owed_count];
        settle(h, k, e);
    }
}

/* Whether the one message of the request is the one to blame, by now. */
static bool is_to_blame(struct hook *k, const struct flight *f)
{
    for (unsigned i = 0; i < f->count; i++) {
        struct event *e = event_at(k, f->first + i);
        if (e->blame < WEBHOOK_BLAME_MAX)
            e->blame += k->taken != f->taken ? WEBHOOK_BLAME_OTHERS : WEBHOOK_BLAME_ALONE;
    }
    return f->count == 1 && !k->by_feed && event_at(k, f->first)->blame >= WEBHOOK_BLAME_MAX;
}

static void conclude(struct hooks *h, struct flight *f, uint64_t now_ns)
{
    struct hook *k = f->hook;
    const struct post *post = &f->it.post;
    enum webhook_fault fault = webhook_fault(post);
    struct attempt a = webhook_attempt(post);
    struct event *e = event_at(k, f->first);
    a.offset = e->offset;
    a.count = f->count;
    attempts_put(k->attempts, &a);
    f->hook = NULL;
    k->under_way--;
    for (unsigned i = 0; i < f->count; i++)
        event_at(k, f->first + i)->state = EVENT_WAITING;
    if (fault == WEBHOOK_DOUBTFUL && is_to_blame(k, f))
        fault = WEBHOOK_REFUSED;
    switch (fault) {
    case WEBHOOK_TAKEN:
        take(h, k, f);
        break;
    case WEBHOOK_REFUSED:
        if (f->count == 1 && !owe(h, k, e, post->why)) {
            fail(h, k, post, "too many of its messages wait to be tried again", now_ns);
            break;
        }
        worked(h, k); /* it is there, and says what it does not like */
        if (f->count > 1)
            is_to_blame(k, f); /* the next request is smaller */
        else
            settle(h, k, e);
        break;
    case WEBHOOK_GONE:
        disable(h, k, post->why);
        break;
    default:
        fail(h, k, post, post->why, now_ns);
    }
}

void hooks_abandon(struct hooks *h, struct hook *k)
{
    for (unsigned i = 0; i < h->opts.at_once; i++) {
        struct flight *f = &h->flights[i];
        if (!f->hook || (k && f->hook != k))
            continue;
        posts_abandon(h->posts, &f->it.post);
        for (unsigned n = 0; n < f->count; n++)
            event_at(f->hook, f->first + n)->state = EVENT_WAITING;
        f->hook->under_way--;
        f->hook = NULL;
    }
}

/* One request of each that may, beginning behind whoever had the last one. */
static bool start_some(struct hooks *h, uint64_t now_ns)
{
    bool any = false;
    uint64_t next = 0, from = h->served_id;
    for (unsigned round = 0; round < 2; round++)
        for (struct hook *k = h->all; k; k = k->next) {
            if ((k->id > from) != (round == 0) || k->first == k->end || !may_send(h, k, now_ns) ||
                !choose(k, &next))
                continue;
            start(h, k, next);
            h->served_id = k->id;
            any = true;
        }
    return any;
}

bool hooks_send(struct hooks *h, uint64_t now_ns)
{
    bool any = false;
    while (start_some(h, now_ns))
        any = true;
    for (struct post *post; (post = posts_next(h->posts)) != NULL; any = true)
        conclude(h, post->owner, clock_mono_ns());
    return any;
}
