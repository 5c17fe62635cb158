/* SPDX-License-Identifier: Apache-2.0 */
#include "view/rules.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/metric.h"
#include "view/rules_own.h"

#define BUCKETS_MIN 64u

/* ---- the table ------------------------------------------------------------------------------- */

static uint64_t hash(uint64_t number)
{
    return number * 0x9e3779b97f4a7c15ull >> 32;
}

struct rule_entry *rules_find(const struct rules *t, uint64_t id)
{
    struct rule_entry *e = t->by_id[hash(id) & t->mask];
    while (e && e->rule.id != id)
        e = e->next_id;
    return e;
}

static struct rule_entry *first_of_feed(struct rule_entry *e, uint64_t feed)
{
    while (e && e->rule.feed != feed)
        e = e->next_feed;
    return e;
}

struct rule_entry *rules_of_feed(const struct rules *t, uint64_t feed)
{
    return first_of_feed(t->by_feed[hash(feed) & t->mask], feed);
}

static void link_in(struct rules *t, struct rule_entry *e)
{
    struct rule_entry **id = &t->by_id[hash(e->rule.id) & t->mask];
    struct rule_entry **feed = &t->by_feed[hash(e->rule.feed) & t->mask];
    struct rule_entry **to = &t->by_to[hash(e->rule.to_feed) & t->mask];
    e->next_id = *id;
    *id = e;
    while (*feed) /* those of one feed in the order of their ids */
        feed = &(*feed)->next_feed;
    e->next_feed = NULL;
    *feed = e;
    e->next_to = *to;
    *to = e;
}

static void make_tables(struct rules *t, uint64_t buckets)
{
    free(t->by_id);
    free(t->by_feed);
    free(t->by_to);
    t->by_id = calloc(buckets, sizeof(struct rule_entry *));
    t->by_feed = calloc(buckets, sizeof(struct rule_entry *));
    t->by_to = calloc(buckets, sizeof(struct rule_entry *));
    CHECK(t->by_id && t->by_feed && t->by_to);
    t->mask = buckets - 1;
    for (struct rule_entry *e = t->all; e; e = e->next)
        link_in(t, e);
}

struct rule_entry *rules_put(struct rules *t, const struct rule *from)
{
    struct rule_entry *e = calloc(1, sizeof *e + from->value.len);
    CHECK(e && !rules_find(t, from->id));
    e->rule = *from;
    if (from->value.ptr) {
        char *value = (char *)(e + 1);
        if (from->value.len)
            memcpy(value, from->value.ptr, from->value.len);
        e->rule.value = slice_of(value, from->value.len);
    }
    struct rule_entry **at = t->all && from->id < t->last_id ? &t->all : t->all_end;
    while (*at && (*at)->rule.id < from->id)
        at = &(*at)->next;
    e->next = *at;
    *at = e;
    if (!e->next)
        t->all_end = &e->next;
    t->count++;
    t->last_id = from->id > t->last_id ? from->id : t->last_id;
    if (t->count > t->mask)
        make_tables(t, (t->mask + 1) * 2);
    else
        link_in(t, e);
    metric_set(METRIC_rules, t->count);
    return e;
}

#define UNLINK(head, link, e)                                                                      \
    do {                                                                                           \
        struct rule_entry **unlink_at = (head);                                                    \
        while (*unlink_at != (e))                                                                  \
            unlink_at = &(*unlink_at)->link;                                                       \
        *unlink_at = (e)->link;                                                                    \
    } while (0)

static void free_owed(struct rules *t, struct rule_entry *e, unsigned i)
{
    if (!e->owed[i].out)
        atomic_fetch_sub(&t->owed, 1);
    free((char *)(uintptr_t)e->owed[i].came.ptr);
    memmove(&e->owed[i], &e->owed[i + 1], (--e->owed_count - i) * sizeof e->owed[0]);
}

static void leave_owing(struct rules *t, struct rule_entry *e)
{
    struct rule_entry **at = &t->owing;
    while (*at != e)
        at = &(*at)->next_owing;
    *at = e->next_owing;
    if (!*at)
        t->owing_end = at;
    e->owing = false;
}

static void free_entry(struct rules *t, struct rule_entry *e)
{
    while (e->owed_count)
        free_owed(t, e, e->owed_count - 1);
    free(e->owed);
    free(e);
}

void rules_take_out(struct rules *t, struct rule_entry *e)
{
    UNLINK(&t->by_id[hash(e->rule.id) & t->mask], next_id, e);
    UNLINK(&t->by_feed[hash(e->rule.feed) & t->mask], next_feed, e);
    UNLINK(&t->by_to[hash(e->rule.to_feed) & t->mask], next_to, e);
    struct rule_entry **at = &t->all;
    while (*at != e)
        at = &(*at)->next;
    *at = e->next;
    if (!*at)
        t->all_end = at;
    if (e->owing)
        leave_owing(t, e);
    t->count--;
    metric_set(METRIC_rules, t->count);
    free_entry(t, e);
}

struct rules *rules_new(const struct rules_opts *opts)
{
    struct rules *t = calloc(1, sizeof *t);
    CHECK(t);
    t->opts = *opts;
    t->path = strdup(opts->path);
    CHECK(t->path);
    t->opts.path = t->path;
    t->sealer = opts->keyring ? sealer_new(opts->keyring) : NULL;
    buf_init(&t->plain, SIZE_MAX / 2);
    buf_init(&t->sealed, SIZE_MAX / 2);
    pthread_mutex_init(&t->lock, NULL);
    t->all_end = &t->all;
    t->owing_end = &t->owing;
    make_tables(t, BUCKETS_MIN);
    return t;
}

void rules_close(struct rules *t)
{
    if (!t)
        return;
    for (struct rule_entry *e = t->all, *next; e; e = next) {
        next = e->next;
        free_entry(t, e);
    }
    free(t->by_id);
    free(t->by_feed);
    free(t->by_to);
    buf_fini(&t->plain);
    buf_fini(&t->sealed);
    sealer_free(t->sealer);
    pthread_mutex_destroy(&t->lock);
    free(t->path);
    free(t);
}

/* ---- what is owed ---------------------------------------------------------------------------- */

void rules_note_error(struct rule_entry *e, int64_t now_us, const char *why)
{
    snprintf(e->error, sizeof e->error, "%s", why);
    e->error_us = now_us;
}

bool rules_owe_one(struct rules *t, struct rule_entry *e, const struct owed *o)
{
    if (e->owed_count == RULE_PENDING_MAX)
        return false;
    e->owed = realloc(e->owed, (e->owed_count + 1) * sizeof *e->owed);
    CHECK(e->owed);
    struct owed *to = &e->owed[e->owed_count++];
    *to = *o;
    if (o->came.ptr) {
        char *came = malloc(o->came.len + 1);
        CHECK(came);
        memcpy(came, o->came.ptr, o->came.len);
        to->came = slice_of(came, o->came.len);
    }
    atomic_fetch_add(&t->owed, 1);
    if (!e->owing) {
        e->owing = true;
        e->next_owing = NULL;
        *t->owing_end = e;
        t->owing_end = &e->next_owing;
    }
    return true;
}

void rules_forget_owed(struct rules *t, struct rule_entry *e, uint64_t offset)
{
    for (unsigned i = 0; i < e->owed_count; i++) {
        if (e->owed[i].offset != offset)
            continue;
        free_owed(t, e, i);
        break;
    }
    if (!e->owed_count && e->owing)
        leave_owing(t, e);
}

bool rules_owe(const struct rules *t)
{
    return atomic_load_explicit(&t->owed, memory_order_relaxed) > 0 && atomic_load(&t->ready);
}

static struct slice put_bytes(struct rules_owed *to, size_t *at, struct slice from)
{
    if (!from.ptr)
        return from;
    CHECK(from.len <= sizeof to->bytes - *at);
    memcpy(to->bytes + *at, from.ptr, from.len);
    *at += from.len;
    return slice_of(to->bytes + *at - from.len, from.len);
}

static void tell_owed(const struct rule_entry *e, const struct owed *o, struct rules_owed *ret)
{
    size_t at = 0;
    ret->rule = e->rule;
    ret->mark = (struct rule_mark){e->rule.id, o->offset, o->depth, e->rule.webhook};
    ret->tried = o->tried;
    ret->caused_us = o->caused_us;
    ret->came = put_bytes(ret, &at, o->came);
    ret->value = ret->rule.value = put_bytes(ret, &at, e->rule.value);
}

bool rules_next_owed(struct rules *t, uint64_t now_ns, struct rules_owed *ret)
{
    bool found = false;
    if (!rules_owe(t))
        return false;
    pthread_mutex_lock(&t->lock);
    for (struct rule_entry *e = t->owing; e && !found; e = e->next_owing) {
        struct owed *o = &e->owed[0];
        if (o->out || o->again_ns > now_ns)
            continue;
        o->out = found = true;
        atomic_fetch_sub(&t->owed, 1);
        tell_owed(e, o, ret);
    }
    pthread_mutex_unlock(&t->lock);
    return found;
}

void rules_settle(struct rules *t, const struct rule_mark *mark, enum rules_settled how,
                  uint64_t again_ns, const char *why)
{
    int64_t now_us = clock_wall_us();
    pthread_mutex_lock(&t->lock);
    struct rule_entry *e = rules_find(t, mark->rule);
    struct owed *o = e && e->owed_count ? &e->owed[0] : NULL;
    if (e && how != RULES_STORED)
        rules_note_error(e, now_us, why);
    if (o && o->offset == mark->offset && o->out) {
        bool later = how == RULES_LATER && now_us - o->caused_us < RULES_OWED_US;
        if (how != RULES_STORED && !later) {
            e->dropped++;
            metric_add(METRIC_rules_dropped, 1);
        }
        o->out = false;
        o->again_ns = again_ns;
        atomic_fetch_add(&t->owed, 1);
        if (!later)
            rules_forget_owed(t, e, mark->offset);
    }
    pthread_mutex_unlock(&t->lock);
}

/* ---- records --------------------------------------------------------------------------------- */

bool rules_none(const struct rules *t)
{
    return t->count == 0;
}

bool rules_want(const struct rules *t, const struct record *r)
{
    return r->kind == RECORD_RULE || (r->kind == RECORD_DELETED && !r->payload.len) ||
           (t->count &&
            (r->flags & RECORD_F_RULE || (r->kind == RECORD_DATUM && rules_of_feed(t, r->feed))));
}

/* A rule's message is stored: that one is owed no more. */
static void note_fired(struct rules *t, const struct record *r, const struct rule_mark *m)
{
    struct rule_entry *e = rules_find(t, m->rule);
    if (!e)
        return;
    e->fired++;
    e->fired_us = r->receive_us;
    if (e->rule.when == RULE_SILENCE && m->offset == e->last_offset) {
        e->tripped = e->has_caused = true; /* a replay knows of it by this alone */
        if (e->caused_us < r->receive_us)
            e->caused_us = r->receive_us;
    }
    rules_forget_owed(t, e, m->offset);
}

static void apply_rule(struct rules *t, const struct record *r, uint64_t offset)
{
    struct rule_record what;
    if (!rule_record_decode(r->payload, &what))
        return; /* it was sealed by a key that is gone: so is the account */
    struct rule_entry *e = rules_find(t, what.rule.id);
    if (what.event == RULE_ADDED && !e) {
        e = rules_put(t, &what.rule);
        e->last_offset = offset;
        e->last_us = r->receive_us;
        e->key_id = r->key_id;
    } else if (what.event == RULE_REMOVED && e) {
        rules_take_out(t, e);
    } else if (what.event == RULE_TRIED && e) {
        rules_try(t, e, what.value, r->receive_us, offset);
    }
}

static void forget_feed(struct rules *t, uint64_t feed)
{
    struct rule_entry *e, *next;
    while ((e = rules_of_feed(t, feed)) != NULL)
        rules_take_out(t, e);
    for (e = t->by_to[hash(feed) & t->mask]; e; e = next) {
        next = e->next_to;
        if (e->rule.to_feed == feed)
            rules_take_out(t, e);
    }
}

static void apply_datum(struct rules *t, const struct record *r, uint64_t offset, unsigned depth)
{
    for (struct rule_entry *e = rules_of_feed(t, r->feed); e;
         e = first_of_feed(e->next_feed, r->feed)) {
        rules_judge(t, e, r, offset, depth);
        e->last_offset = offset;
        e->last_depth = depth;
        e->last_us = r->receive_us;
        e->key_id = r->key_id ? r->key_id : e->key_id;
    }
}

void rules_apply(struct rules *t, const struct record *r, uint64_t offset)
{
    struct rule_mark mark = {0};
    pthread_mutex_lock(&t->lock);
    bool marked = r->flags & RECORD_F_RULE && rule_mark_parse(r->producer.key, &mark);
    if (marked)
        note_fired(t, r, &mark);
    if (r->kind == RECORD_RULE)
        apply_rule(t, r, offset);
    else if (r->kind == RECORD_DELETED && !r->payload.len)
        forget_feed(t, r->feed);
    else if (r->kind == RECORD_DATUM)
        apply_datum(t, r, offset, marked ? mark.depth : 0);
    pthread_mutex_unlock(&t->lock);
}

/* ---- what is told ---------------------------------------------------------------------------- */

static void tell(const struct rule_entry *e, struct rule_info *ret)
{
    *ret = (struct rule_info){.rule = e->rule,
                              .tripped = e->tripped,
                              .fired = e->fired,
                              .suppressed = e->suppressed,
                              .dropped = e->dropped,
                              .fired_us = e->fired_us,
                              .owed = e->owed_count,
                              .error_us = e->error_us};
    memcpy(ret->error, e->error, sizeof ret->error);
    if (!e->rule.value.ptr)
        return;
    memcpy(ret->value, e->rule.value.ptr, e->rule.value.len);
    ret->rule.value = slice_of(ret->value, e->rule.value.len);
}

unsigned rules_list(struct rules *t, uint64_t account, uint64_t id, struct rule_info *ret,
                    unsigned max)
{
    unsigned count = 0;
    pthread_mutex_lock(&t->lock);
    for (const struct rule_entry *e = t->all; e && count < max; e = e->next)
        if (e->rule.id >= id && (!account || e->rule.account == account))
            tell(e, &ret[count++]);
    pthread_mutex_unlock(&t->lock);
    return count;
}

void rules_count(struct rules *t, uint64_t account, unsigned *ret_all, unsigned *ret_own)
{
    pthread_mutex_lock(&t->lock);
    *ret_all = t->count;
    *ret_own = 0;
    for (const struct rule_entry *e = t->all; e; e = e->next)
        *ret_own += e->rule.account == account;
    pthread_mutex_unlock(&t->lock);
}

uint64_t rules_new_id(struct rules *t)
{
    pthread_mutex_lock(&t->lock);
    uint64_t id = t->given_id = (t->last_id > t->given_id ? t->last_id : t->given_id) + 1;
    pthread_mutex_unlock(&t->lock);
    return id;
}
