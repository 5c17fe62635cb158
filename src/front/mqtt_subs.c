/* SPDX-License-Identifier: Apache-2.0 */
#define XXH_INLINE_ALL
#include "front/mqtt_subs.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/check.h"
#include "codec/topic.h"

#define BUCKETS 4096u /* a power of two */

/* An account that somebody here has subscribed for. */
struct mqtt_scope {
    struct mqtt_scope *next, **place;
    uint64_t account;
    unsigned count;
    struct mqtt_sub *wild;
};

struct mqtt_subs {
    struct mqtt_sub *exact[BUCKETS];
    struct mqtt_scope *scopes[BUCKETS];
};

struct mqtt_subs *mqtt_subs_new(void)
{
    struct mqtt_subs *s = calloc(1, sizeof *s);
    CHECK(s);
    return s;
}

void mqtt_subs_free(struct mqtt_subs *s)
{
    if (!s)
        return;
    for (unsigned i = 0; i < BUCKETS; i++)
        CHECK(!s->exact[i] && !s->scopes[i]);
    free(s);
}

static uint64_t hash_of(uint64_t account, struct slice text)
{
    return XXH3_64bits_withSeed(text.ptr, text.len, account);
}

static struct mqtt_scope *find_scope(const struct mqtt_subs *s, uint64_t account)
{
    struct mqtt_scope *scope = s->scopes[account & (BUCKETS - 1)];
    while (scope && scope->account != account)
        scope = scope->next;
    return scope;
}

static struct mqtt_scope *take_scope(struct mqtt_subs *s, uint64_t account)
{
    struct mqtt_scope *scope = find_scope(s, account);
    if (!scope) {
        struct mqtt_scope **bucket = &s->scopes[account & (BUCKETS - 1)];
        scope = calloc(1, sizeof *scope);
        CHECK(scope);
        scope->account = account;
        scope->next = *bucket;
        scope->place = bucket;
        if (scope->next)
            scope->next->place = &scope->next;
        *bucket = scope;
    }
    scope->count++;
    return scope;
}

static void drop_scope(struct mqtt_scope *scope)
{
    if (--scope->count)
        return;
    *scope->place = scope->next;
    if (scope->next)
        scope->next->place = scope->place;
    free(scope);
}

static bool has_wildcard(struct slice filter)
{
    return !topic_name_valid(filter);
}

struct mqtt_sub *mqtt_subs_add(struct mqtt_subs *s, struct mqtt_sub **list, void *owner,
                               uint64_t account, struct slice filter)
{
    mqtt_subs_remove(s, list, filter);
    struct mqtt_sub *sub = calloc(1, sizeof *sub + filter.len);
    CHECK(sub);
    memcpy(sub + 1, filter.ptr, filter.len);
    sub->filter = slice_of(sub + 1, filter.len);
    sub->owner = owner;
    sub->scope = take_scope(s, account);
    sub->hash = hash_of(account, filter);
    struct mqtt_sub **place =
        has_wildcard(filter) ? &sub->scope->wild : &s->exact[sub->hash & (BUCKETS - 1)];
    sub->next = *place;
    sub->place = place;
    if (sub->next)
        sub->next->place = &sub->next;
    *place = sub;
    sub->of_owner = *list;
    *list = sub;
    return sub;
}

/* The one that *at points to. */
static void drop(struct mqtt_sub **at)
{
    struct mqtt_sub *sub = *at;
    *at = sub->of_owner;
    *sub->place = sub->next;
    if (sub->next)
        sub->next->place = sub->place;
    drop_scope(sub->scope);
    free(sub);
}

bool mqtt_subs_remove(struct mqtt_subs *s, struct mqtt_sub **list, struct slice filter)
{
    (void)s;
    for (struct mqtt_sub **at = list; *at; at = &(*at)->of_owner) {
        if (slice_eq((*at)->filter, filter)) {
            drop(at);
            return true;
        }
    }
    return false;
}

void mqtt_subs_remove_all(struct mqtt_subs *s, struct mqtt_sub **list)
{
    (void)s;
    while (*list)
        drop(list);
}

bool mqtt_subs_any(const struct mqtt_subs *s, uint64_t account)
{
    return find_scope(s, account) != NULL;
}

void mqtt_subs_match(const struct mqtt_subs *s, uint64_t account, struct slice topic,
                     void (*each)(void *arg, const struct mqtt_sub *sub), void *arg)
{
    const struct mqtt_scope *scope = find_scope(s, account);
    if (!scope)
        return;
    uint64_t hash = hash_of(account, topic);
    for (const struct mqtt_sub *e = s->exact[hash & (BUCKETS - 1)]; e; e = e->next) {
        if (e->hash == hash && e->scope == scope && slice_eq(e->filter, topic))
            each(arg, e);
    }
    for (const struct mqtt_sub *w = scope->wild; w; w = w->next) {
        if (topic_matches(w->filter, topic))
            each(arg, w);
    }
}
