/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Filters without wildcards lie in one table. Those with wildcards lie in a tree of levels per
 * account, whose nodes are found in a second table by their parent and their level; so a topic
 * costs as many look-ups as it has levels, times two where '+' branches, however many there are.
 *
 * Invariants: 1. a node is there while a filter ends at it or below it (`uses`). 2. The tree is
 * DEPTH_MAX deep: what is left of a longer filter is tried against the topic, so that a filter
 * costs a bounded number of nodes. 3. Tables double when they are full, and stay so.
 */
#define XXH_INLINE_ALL
#include "front/mqtt_subs.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/check.h"
#include "codec/topic.h"
#include "front/mqtt_share.h"

#define BUCKETS_MIN 64u /* a power of two */
#define DEPTH_MAX   16u

struct table {
    struct mqtt_sub_link **buckets;
    size_t mask, count;
};

/* What filters of an account have said so far, level by level. */
struct node {
    struct mqtt_sub_link link; /* in `nodes`; a '+' is in its parent only */
    struct node *parent;       /* NULL: an account's root */
    struct node *plus;
    struct mqtt_sub_link *ends;   /* filters that end here */
    struct mqtt_sub_link *any;    /* whose '#' comes next */
    struct mqtt_sub_link *longer; /* that are longer than the tree is deep */
    unsigned uses;
    struct slice level; /* behind the struct */
};

/* An account that somebody here has subscribed for. */
struct mqtt_scope {
    struct mqtt_sub_link link;
    uint64_t account;
    unsigned count;
    struct node *root; /* NULL: no filter with a wildcard */
};

struct mqtt_subs {
    struct table exact, nodes, scopes, members;
};

/* ---- lists and tables ---- */

static void push(struct mqtt_sub_link **list, struct mqtt_sub_link *link)
{
    link->next = *list;
    link->place = list;
    if (link->next)
        link->next->place = &link->next;
    *list = link;
}

static void unlink_from(struct mqtt_sub_link *link)
{
    *link->place = link->next;
    if (link->next)
        link->next->place = link->place;
}

static void table_init(struct table *t)
{
    t->buckets = calloc(BUCKETS_MIN, sizeof *t->buckets);
    CHECK(t->buckets);
    t->mask = BUCKETS_MIN - 1;
}

static void table_fini(struct table *t)
{
    CHECK(!t->count);
    free(t->buckets);
}

static void table_grow(struct table *t)
{
    size_t had = t->mask + 1;
    struct mqtt_sub_link **old = t->buckets;
    t->buckets = calloc(had * 2, sizeof *t->buckets);
    CHECK(t->buckets);
    t->mask = had * 2 - 1;
    for (size_t i = 0; i < had; i++) {
        while (old[i]) {
            struct mqtt_sub_link *link = old[i];
            unlink_from(link);
            push(&t->buckets[link->hash & t->mask], link);
        }
    }
    free(old);
}

static void table_put(struct table *t, struct mqtt_sub_link *link)
{
    if (t->count > t->mask)
        table_grow(t);
    t->count++;
    push(&t->buckets[link->hash & t->mask], link);
}

static void table_take(struct table *t, struct mqtt_sub_link *link)
{
    t->count--;
    unlink_from(link);
}

/* `link` is the first member of all three. */
static struct mqtt_sub_link *first_of(const struct table *t, uint64_t hash)
{
    return t->buckets[hash & t->mask];
}

struct mqtt_subs *mqtt_subs_new(void)
{
    struct mqtt_subs *s = calloc(1, sizeof *s);
    CHECK(s);
    table_init(&s->exact);
    table_init(&s->nodes);
    table_init(&s->scopes);
    table_init(&s->members);
    return s;
}

void mqtt_subs_free(struct mqtt_subs *s)
{
    if (!s)
        return;
    table_fini(&s->exact);
    table_fini(&s->nodes);
    table_fini(&s->scopes);
    table_fini(&s->members);
    free(s);
}

static uint64_t hash_of(uint64_t seed, struct slice text)
{
    return XXH3_64bits_withSeed(text.ptr, text.len, seed);
}

/* ---- accounts ---- */

static struct mqtt_scope *find_scope(const struct mqtt_subs *s, uint64_t account)
{
    uint64_t hash = hash_of(account, SLICE(""));
    for (struct mqtt_sub_link *l = first_of(&s->scopes, hash); l; l = l->next) {
        struct mqtt_scope *scope = (struct mqtt_scope *)l;
        if (scope->account == account)
            return scope;
    }
    return NULL;
}

static struct mqtt_scope *take_scope(struct mqtt_subs *s, uint64_t account)
{
    struct mqtt_scope *scope = find_scope(s, account);
    if (!scope) {
        scope = calloc(1, sizeof *scope);
        CHECK(scope);
        scope->account = account;
        scope->link.hash = hash_of(account, SLICE(""));
        table_put(&s->scopes, &scope->link);
    }
    scope->count++;
    return scope;
}

static void drop_scope(struct mqtt_subs *s, struct mqtt_scope *scope)
{
    if (--scope->count)
        return;
    CHECK(!scope->root);
    table_take(&s->scopes, &scope->link);
    free(scope);
}

/* ---- the tree ---- */

static uint64_t node_hash(const struct node *parent, struct slice level)
{
    return hash_of((uint64_t)(uintptr_t)parent, level);
}

static struct node *find_child(const struct mqtt_subs *s, const struct node *parent,
                               struct slice level)
{
    uint64_t hash = node_hash(parent, level);
    for (struct mqtt_sub_link *l = first_of(&s->nodes, hash); l; l = l->next) {
        struct node *n = (struct node *)l;
        if (l->hash == hash && n->parent == parent && slice_eq(n->level, level))
            return n;
    }
    return NULL;
}

static struct node *node_new(struct node *parent, struct slice level)
{
    struct node *n = calloc(1, sizeof *n + level.len);
    CHECK(n);
    if (level.len)
        memcpy(n + 1, level.ptr, level.len);
    n->level = slice_of(n + 1, level.len);
    n->parent = parent;
    return n;
}

static bool is_char(struct slice s, char c)
{
    return s.len == 1 && s.ptr[0] == c;
}

static struct node *take_child(struct mqtt_subs *s, struct node *parent, struct slice level)
{
    bool plus = is_char(level, '+');
    struct node *n = plus ? parent->plus : find_child(s, parent, level);
    if (n)
        return n;
    n = node_new(parent, level);
    if (plus) {
        parent->plus = n;
    } else {
        n->link.hash = node_hash(parent, level);
        table_put(&s->nodes, &n->link);
    }
    return n;
}

/* Hangs the filter into the tree, and counts it in each node on its way. */
static void grow_tree(struct mqtt_subs *s, struct mqtt_sub *sub)
{
    struct slice rest = sub->filter;
    struct mqtt_sub_link **list;
    if (!sub->scope->root)
        sub->scope->root = node_new(NULL, (struct slice){0});
    struct node *n = sub->scope->root;
    for (unsigned depth = 0;; depth++) {
        n->uses++;
        if (!rest.ptr || depth == DEPTH_MAX) {
            list = rest.ptr ? &n->longer : &n->ends;
            break;
        }
        struct slice level = topic_level(&rest);
        if (is_char(level, '#')) {
            list = &n->any;
            break;
        }
        n = take_child(s, n, level);
    }
    sub->node = n;
    push(list, &sub->link);
}

static void shrink_tree(struct mqtt_subs *s, struct mqtt_sub *sub)
{
    struct node *n = sub->node;
    unlink_from(&sub->link);
    while (n) {
        struct node *parent = n->parent;
        if (--n->uses == 0) {
            if (!parent)
                sub->scope->root = NULL;
            else if (parent->plus == n)
                parent->plus = NULL;
            else
                table_take(&s->nodes, &n->link);
            free(n);
        }
        n = parent;
    }
}

/* ---- subscriptions ---- */

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
    sub->link.hash = hash_of(account, filter);
    if (topic_name_valid(filter))
        table_put(&s->exact, &sub->link);
    else
        grow_tree(s, sub);
    sub->of_owner = *list;
    *list = sub;
    return sub;
}

struct mqtt_sub *mqtt_subs_add_member(struct mqtt_subs *s, struct mqtt_sub **list, void *owner,
                                      struct slice filter, struct slice inner, uint32_t number)
{
    struct mqtt_sub *sub = calloc(1, sizeof *sub + filter.len);
    CHECK(sub);
    memcpy(sub + 1, filter.ptr, filter.len);
    sub->filter = slice_of(sub + 1, filter.len);
    sub->inner = slice_from(sub->filter, filter.len - inner.len);
    sub->owner = owner;
    sub->member = number;
    sub->link.hash = number;
    table_put(&s->members, &sub->link);
    sub->of_owner = *list;
    *list = sub;
    return sub;
}

struct mqtt_sub *mqtt_subs_member(const struct mqtt_subs *s, uint32_t number)
{
    struct mqtt_sub_link *l = first_of(&s->members, number);
    while (l && ((struct mqtt_sub *)l)->member != number)
        l = l->next;
    return (struct mqtt_sub *)l;
}

/* The one that *at points to. */
static void drop(struct mqtt_subs *s, struct mqtt_sub **at)
{
    struct mqtt_sub *sub = *at;
    *at = sub->of_owner;
    if (sub->member)
        table_take(&s->members, &sub->link);
    else if (sub->node)
        shrink_tree(s, sub);
    else
        table_take(&s->exact, &sub->link);
    if (sub->scope)
        drop_scope(s, sub->scope);
    if (sub->group)
        mqtt_share_unref(sub->group);
    free(sub);
}

bool mqtt_subs_remove(struct mqtt_subs *s, struct mqtt_sub **list, struct slice filter)
{
    for (struct mqtt_sub **at = list; *at; at = &(*at)->of_owner) {
        if (slice_eq((*at)->filter, filter)) {
            drop(s, at);
            return true;
        }
    }
    return false;
}

void mqtt_subs_remove_all(struct mqtt_subs *s, struct mqtt_sub **list)
{
    while (*list)
        drop(s, list);
}

bool mqtt_subs_any(const struct mqtt_subs *s, uint64_t account)
{
    return find_scope(s, account) != NULL;
}

/* ---- matching ---- */

struct wanted {
    const struct mqtt_subs *subs;
    struct slice topic;
    void (*each)(void *arg, struct mqtt_sub *sub);
    void *arg;
};

static void tell(const struct wanted *w, struct mqtt_sub_link *list)
{
    for (; list; list = list->next)
        w->each(w->arg, (struct mqtt_sub *)list);
}

/* `rest` of the topic is below the node. As deep as the tree, at most. */
static void match_below(const struct wanted *w, const struct node *n, struct slice rest)
{
    /* A wildcard in front does not match what begins with '$' (MQTT-4.7.2-1). */
    bool wild = n->parent || w->topic.ptr[0] != '$';
    if (wild)
        tell(w, n->any); /* also when nothing is left: "a/#" matches "a" */
    for (struct mqtt_sub_link *l = n->longer; l; l = l->next) {
        struct mqtt_sub *sub = (struct mqtt_sub *)l;
        if (topic_matches(sub->filter, w->topic))
            w->each(w->arg, sub);
    }
    if (!rest.ptr) {
        tell(w, n->ends);
        return;
    }
    struct slice level = topic_level(&rest);
    const struct node *child = find_child(w->subs, n, level);
    if (child)
        match_below(w, child, rest);
    if (n->plus && wild)
        match_below(w, n->plus, rest);
}

void mqtt_subs_match(const struct mqtt_subs *s, uint64_t account, struct slice topic,
                     void (*each)(void *arg, struct mqtt_sub *sub), void *arg)
{
    const struct mqtt_scope *scope = find_scope(s, account);
    if (!scope || !topic.len)
        return;
    uint64_t hash = hash_of(account, topic);
    for (struct mqtt_sub_link *l = first_of(&s->exact, hash); l; l = l->next) {
        struct mqtt_sub *e = (struct mqtt_sub *)l;
        if (l->hash == hash && e->scope == scope && slice_eq(e->filter, topic))
            each(arg, e);
    }
    const struct wanted w = {s, topic, each, arg};
    if (scope->root)
        match_below(&w, scope->root, topic);
}
